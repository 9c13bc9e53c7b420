#!/usr/bin/env python3
"""`warmpath index stat|dump|who` against a running gateway."""

import json
import subprocess
import unittest

from harness import BINARY, BLOCK, Case, chat, request, seconds, words


class Index(Case):
    def ask(self, gateway, *args, text=None, code=0):
        done = subprocess.run([BINARY, "index", *args, "--admin", "http://" + gateway.admin], input=text or "",
                              capture_output=True, text=True, timeout=seconds(60))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout if code == 0 else done.stderr

    def test_what_is_held_and_by_whom(self):
        engine, other = self.engine(), self.engine()
        gateway = self.gateway([engine, other])
        messages = [{"role": "user", "content": words(5, 200)}]
        answer = chat(gateway.address, messages, max_tokens=20)
        used = answer.json()["usage"]
        held = (used["prompt_tokens"] + used["completion_tokens"] - 1) // BLOCK
        gateway.wait_blocks(held)

        pool = json.loads(self.ask(gateway, "stat", "--format", "json"))["pools"][0]
        self.assertEqual(pool["keys"], held)
        by_name = {one["engine"]: one for one in pool["engines"]}
        self.assertEqual(set(by_name), {engine.url, other.url})
        self.assertEqual(sorted(one["blocks_held"] for one in by_name.values()), [0, held])
        for one in by_name.values():
            self.assertEqual((one["publisher"], one["lag_batches"], one["gaps"]), ("exact", 0, 0))
        holder = next(name for name, one in by_name.items() if one["blocks_held"])
        table = self.ask(gateway, "stat")
        self.assertIn(holder, table)
        self.assertIn("exact", table)

        body = json.dumps({"messages": messages})
        who = json.loads(self.ask(gateway, "who", "--chat", "--format", "json", text=body))
        whole = used["prompt_tokens"] // BLOCK
        self.assertEqual((who["prompt_tokens"], who["chain_blocks"], who["chain"]), (used["prompt_tokens"], whole, "exact"))
        self.assertEqual(who["engines"], [{"engine": holder, "publisher": "exact",
                                           "tokens": {tier: whole * BLOCK for tier in ("gpu", "cpu", "storage")}}])
        self.assertIn(str(whole * BLOCK), self.ask(gateway, "who", "--chat", text=body))
        self.assertIn("no engine holds", self.ask(gateway, "who", text=words(77, 100)))

        dump = json.loads(self.ask(gateway, "dump", "--engine", holder, "--format", "json"))
        self.assertEqual((dump["engine"], dump["publisher"], dump["blocks_held"]), (holder, "exact", held))
        self.assertEqual(len({block["hash"] for block in dump["blocks"]}), held)
        self.assertEqual({tuple(block["tiers"]) for block in dump["blocks"]}, {("gpu",)})
        self.assertEqual(len(self.ask(gateway, "dump", "--engine", holder).splitlines()), held + 1)
        # The same in pages.
        hashes, after = [], ""
        for _ in range(held):
            page = request(gateway.admin, "GET", f"/index/dump?engine={holder}&limit=7&after={after}").json()
            hashes += [block["hash"] for block in page["blocks"]]
            after = page["next"]
            if after is None:
                break
        self.assertEqual(hashes, [block["hash"] for block in dump["blocks"]])
        self.assertIn('warmpath_kv_blocks_held{engine="%s",pool="default"} %d' % (holder, held), gateway.metrics())

    def test_what_cannot_be_answered_says_why(self):
        gateway = self.gateway([self.engine()], policy="load")
        self.assertIn("looks at no index", self.ask(gateway, "stat"))
        self.assertIn("keeps no index", self.ask(gateway, "who", text="x", code=1))
        self.assertIn("--engine", self.ask(gateway, "dump", code=2))
        gateway.end()
        self.assertIn("is a gateway running there", self.ask(gateway, "stat", code=1))


if __name__ == "__main__":
    unittest.main()
