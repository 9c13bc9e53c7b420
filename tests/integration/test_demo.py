"""`warmpath demo`: the contract of its JSON, and that its figures are the engines' and not its own words."""

import json
import unittest

from harness import Case


class Demo(Case):
    def demo(self, *args, code=0):
        process = self.process("demo", "--format", "json", *args)
        self.assertEqual(process.wait(300), code, process.said())
        return json.loads("\n".join(process.out))

    def test_arms_and_their_members(self):
        report = self.demo("--quick", "--policy", "random", "--policy", "precise")
        self.assertEqual([arm["policy"] for arm in report["arms"]], ["random", "precise"])
        for arm in report["arms"]:
            self.assertEqual(
                list(arm),
                ["policy", "requests", "failed", "prefix_hit_ratio", "prefill_tokens", "ttft_ms",
                 "output_tokens_per_s", "cost_per_million_tokens"])
            self.assertEqual(list(arm["ttft_ms"]), ["p50", "p90", "p99"])
            self.assertEqual((arm["requests"], arm["failed"]), (120, 0))
            self.assertLessEqual(arm["ttft_ms"]["p50"], arm["ttft_ms"]["p90"])
            self.assertLessEqual(arm["ttft_ms"]["p90"], arm["ttft_ms"]["p99"])
            tokens = arm["prefill_tokens"]
            share = tokens["saved"] / (tokens["saved"] + tokens["computed"])
            self.assertAlmostEqual(share, arm["prefix_hit_ratio"], delta=0.05)
            cost = share * 1 + (1 - share) * 10
            self.assertAlmostEqual(cost, arm["cost_per_million_tokens"], delta=0.5)
        random, precise = report["arms"]
        self.assertGreater(precise["prefix_hit_ratio"], 1.3 * random["prefix_hit_ratio"])
        # The same workload in every arm.
        total = [sum(arm["prefill_tokens"].values()) for arm in report["arms"]]
        self.assertAlmostEqual(total[0], total[1], delta=0.02 * total[0])

    def test_where_nothing_can_be_reused_nothing_is_claimed(self):
        # One turn of one conversation of each tenant: every prompt is new but for the template's few tokens.
        report = self.demo("--quick", "--policy", "precise", "--conversations", "1", "--turns", "1")
        self.assertEqual(report["arms"][0]["failed"], 0)
        self.assertLess(report["arms"][0]["prefix_hit_ratio"], 0.02)

    def test_a_wrong_policy_is_named(self):
        process = self.process("demo", "--policy", "precisely")
        self.assertEqual(process.wait(30), 2, process.said())
        self.assertIn("precise", process.said())


if __name__ == "__main__":
    unittest.main()
