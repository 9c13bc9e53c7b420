"""`warmpath demo`, small: its JSON, no failed request, and knowing beats guessing blindly."""

import json
import unittest

from harness import Case

# The two arms that differ most, on a fleet that one engine alone could not serve from cache.
SMALL = ("--engines", "3", "--blocks", "2000", "--tenants", "3", "--conversations", "4", "--turns", "3", "--rate", "4",
         "--speed", "20")


class Demo(Case):
    def run_demo(self, *args):
        process = self.process("demo", *SMALL, *args)
        self.assertEqual(process.wait(240), 0, process.said())
        return process

    def test_two_arms_as_json(self):
        process = self.run_demo("--policy", "random", "--policy", "precise", "--format", "json")
        self.assertEqual(len(process.out), 1, process.said())  # JSON alone; progress is on stderr
        arms = json.loads(process.out[0])["arms"]
        self.assertEqual([arm["policy"] for arm in arms], ["random", "precise"])
        for arm in arms:
            self.assertEqual((arm["requests"], arm["failed"]), (36, 0))
            self.assertLessEqual(arm["ttft_ms"]["p50"], arm["ttft_ms"]["p90"])
            self.assertLessEqual(arm["ttft_ms"]["p90"], arm["ttft_ms"]["p99"])
            self.assertGreater(arm["output_tokens_per_s"], 0)
            self.assertGreater(arm["cost_per_million_tokens"], 0)
        random, precise = arms
        self.assertGreater(precise["prefix_hit_ratio"], random["prefix_hit_ratio"] + 0.05)
        self.assertLess(precise["prefill_tokens"]["computed"], random["prefill_tokens"]["computed"])
        self.assertTrue(any("of 36 requests" in line for line in process.err))

    def test_one_arm_as_a_table(self):
        said = "\n".join(self.run_demo("--policy", "load").out)
        self.assertIn("load", said)
        self.assertIn("3 engines", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
