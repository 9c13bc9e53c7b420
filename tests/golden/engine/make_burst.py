#!/usr/bin/env python3
"""Makes burst.json from a recording of vLLM's KV events: make_burst.py RECORDING/events.jsonl > burst.json

The recording drove one engine (block 32, 256 blocks, PYTHONHASHSEED=0, sha256_cbor, 2,048 tokens a step) with 14 prompts
of 1,000 ids one after the other, then 10 prompts of 1,500 ids at once, 200 tokens each. Prompts follow a formula:
  evict i: (i * 99709 + j * 104729) % 150000      burst i: (i * 52843 + j * 35863) % 150000
The generated ids are read back from the events; those in a request's last, partial block never show and are written 0.
"""
import json
import sys

BLOCK, PROMPT, OUTPUT = 32, 1500, 200
first_of = {(i * 52843) % 150000: i for i in range(10)}
where, ids, order, batches = {}, {}, [], []
for line in open(sys.argv[1]):
    row = json.loads(line)
    phase = row["phase"]
    if not (phase.startswith("evict") or phase.startswith("burst")):
        continue
    events = []
    for event in row["decoded"][1]:
        if event["type"] == "BlockRemoved":
            events.append("r %x" % event["block_hashes"][0])
            continue
        hashes, tokens = event["block_hashes"], event["token_ids"]
        events.append("s %d %x" % (len(hashes), hashes[-1]))
        if not phase.startswith("burst"):
            continue
        parent = event["parent_block_hash"]
        if parent is None:
            request, index = first_of[tokens[0]], 0
            order.append(request)
        else:
            request, index = where[parent]
            index += 1
        for i, value in enumerate(hashes):
            where[value] = (request, index + i)
            for j in range(BLOCK):
                ids[request, (index + i) * BLOCK + j] = tokens[i * BLOCK + j]
    batches.append({"burst": phase.startswith("burst"), "events": events})

outputs = []
for request in range(10):
    for j in range(PROMPT):
        known = ids.get((request, j))
        assert known is None or known == (request * 52843 + j * 35863) % 150000
    outputs.append([ids.get((request, PROMPT + j), 0) for j in range(OUTPUT)])
json.dump({"order": order, "outputs": outputs, "batches": batches}, sys.stdout, separators=(",", ":"))
print()
