"""What an engine has announced of its cache: a plain mirror of its KV events, kept apart from the gateway's index so that
it can bear witness against it."""

import json


class Mirror:
    """Blocks by (parent hash, tokens, extra keys); the same hash may stand in several physical blocks."""

    def __init__(self):
        self.hash_of = {}
        self.copies = {}

    def apply(self, event):
        if "stored" in event:
            size = len(event["tokens"]) // len(event["stored"])
            parent = event["parent"]
            for i, block in enumerate(event["stored"]):
                key = (parent, tuple(event["tokens"][i * size:(i + 1) * size]), event["extras"][i])
                self.hash_of[key] = block
                self.copies[block] = self.copies.get(block, 0) + 1
                parent = block
        elif "removed" in event:
            for block in event["removed"]:
                left = self.copies.get(block, 0) - 1
                if left > 0:
                    self.copies[block] = left
                else:
                    self.copies.pop(block, None)
        elif "cleared" in event:
            self.copies.clear()

    def cached_tokens(self, salt, ids, block_tokens):
        """Of a prompt: leading whole blocks held, never all of it."""
        parent, depth = None, 0
        for at in range(0, (len(ids) - 1) // block_tokens * block_tokens, block_tokens):
            extras = json.dumps([salt] if salt and at == 0 else None)
            block = self.hash_of.get((parent, tuple(ids[at:at + block_tokens]), extras))
            if block is None or block not in self.copies:
                break
            parent, depth = block, at + block_tokens
        return depth


class Record:
    """The batches that a tap wrote, by engine, in order."""

    def __init__(self, lines):
        self.batches = {}
        for line in lines:
            batch = json.loads(line)
            if "seq" in batch:
                self.batches.setdefault(batch["engine"], []).append(batch)

    def mirror(self, engine, until):
        """The cache as announced until then (CLOCK_MONOTONIC). A process that starts over counts from 0 again."""
        mirror, last = Mirror(), -1
        for batch in self.batches.get(engine, []):
            if batch["at"] > until:
                break
            if batch["seq"] <= last:
                mirror = Mirror()
            last = batch["seq"]
            for event in batch["events"]:
                mirror.apply(event)
        return mirror
