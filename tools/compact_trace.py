#!/usr/bin/env python3
"""Packs a Mooncake-form trace (JSON lines) into the compact form that `workload` reads.

  tools/compact_trace.py conversation_trace.jsonl > data/mooncake/conversation.trace

A row keeps four numbers: milliseconds since the row before, input and output tokens, and the last block it shares with
an earlier row ("-" for none). That is all there is, because ids are hashes of prefixes: an id has one predecessor, so
the last shared one names those before it, and the ones after it are new. New ids are numbered in order of first use.
Fails when the trace is not such a tree, or when a row has not one id for each block.
"""
import json
import sys

BLOCK_TOKENS = 512


def compact(lines):
    yield f"warmpath-trace 1 block_tokens={BLOCK_TOKENS}"
    numbers = {}
    parents = []
    before = 0
    for at, line in enumerate(lines, 1):
        row = json.loads(line)
        ids = row["hash_ids"]
        if len(ids) != -(-row["input_length"] // BLOCK_TOKENS):
            sys.exit(f"line {at}: {len(ids)} ids for {row['input_length']} tokens")
        shared = last = None
        fresh = False
        for name in ids:
            if name not in numbers:
                fresh = True
                numbers[name] = len(parents)
                parents.append(last)
            elif fresh or parents[numbers[name]] != last:
                sys.exit(f"line {at}: id {name} has two predecessors")
            else:
                shared = numbers[name]
            last = numbers[name]
        delta = row["timestamp"] - before
        if delta < 0:
            sys.exit(f"line {at}: goes back in time")
        before = row["timestamp"]
        yield f"{delta} {row['input_length']} {row['output_length']} {'-' if shared is None else shared}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as source:
        for out in compact(source):
            print(out)
