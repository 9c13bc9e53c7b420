"""`warmpath load`: its JSON, its workloads, against an engine and through a gateway."""

import json
import os
import unittest

from harness import MODEL_FOLDER, Case


class Load(Case):
    def load(self, url, *args, code=0):
        process = self.process("load", "--url", url, "--tokenizer", MODEL_FOLDER, "--format", "json", *args)
        self.assertEqual(process.wait(120), code, process.said())
        return json.loads("\n".join(process.out))

    def assert_report(self, report, requests):
        self.assertEqual(report["load_summary"]["count"], requests)
        good, bad = report["successes"], report["failures"]
        self.assertEqual((good["count"], bad["count"]), (requests, 0))
        latency = good["latency"]
        for name in ("request_latency", "time_to_first_token", "time_per_output_token", "inter_token_latency"):
            self.assertIn(name, latency)
            one = latency[name]
            self.assertLessEqual(one["min"], one["median"])
            self.assertLessEqual(one["median"], one["p90"])
            self.assertLessEqual(one["p90"], one["p99"])
            self.assertLessEqual(one["p99"], one["max"])
        self.assertGreater(latency["time_to_first_token"]["mean"], 0)
        self.assertGreater(good["throughput"]["output_tokens_per_sec"], 0)

    def test_shared_prefixes_in_a_closed_loop_on_one_engine(self):
        engine = self.engine()
        report = self.load(engine.url, "--workload", "shared-prefix", "--groups", "3", "--prompts", "4", "--system-tokens",
                           "200", "--question-tokens", "20", "--output-tokens", "10", "--users", "3")
        self.assert_report(report, 12)
        # Three users at once may each be the first of a group; later ones hit.
        self.assertGreater(report["successes"]["prefix_hit_ratio"], 0.3)
        self.assertEqual(engine.metric("vllm:request_success_total"), 12)

    def test_conversations_through_the_gateway(self):
        gateway = self.gateway([self.engine(), self.engine()])
        report = self.load("http://" + gateway.address, "--tenants", "2", "--conversations", "3", "--turns", "3",
                           "--system-tokens", "150", "--user-tokens", "20", "--output-tokens", "20", "--think", "0.05",
                           "--rate", "20")
        self.assert_report(report, 18)
        self.assertGreater(report["successes"]["prefix_hit_ratio"], 0.5)

    def test_a_trace_as_completions(self):
        path = os.path.join(self.folder(), "trace.jsonl")
        with open(path, "w", encoding="utf-8") as out:
            for i in range(10):
                print(json.dumps({"timestamp": 20 * i, "input_length": 1200, "output_length": 8,
                                  "hash_ids": [1, 2, 100 + i]}), file=out)
        engine = self.engine()
        report = self.load(engine.url, "--workload", "trace", "--trace", path, "--api", "completions", "--no-stream")
        self.assertEqual(report["successes"]["count"], 10)
        self.assertGreater(report["successes"]["prefix_hit_ratio"], 0.5)
        tokens = engine.metric("vllm:prompt_tokens_total")
        self.assertEqual(tokens, 12_000)

    def test_failed_requests_are_counted_and_end_it_with_1(self):
        engine = self.engine()
        report = self.load(engine.url, "--model", "nope", "--requests", "4", "--workload", "shared-prefix", "--users", "2",
                           code=1)
        self.assertEqual((report["successes"]["count"], report["failures"]["count"]), (0, 4))

    def test_what_cannot_be_reached_is_an_error(self):
        engine = self.engine()
        engine.kill()
        process = self.process("load", "--url", engine.url, "--tokenizer", MODEL_FOLDER)
        self.assertNotIn(process.wait(), (0, -6, -11))
        self.assertIn(engine.address, process.said().split("\n", 1)[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
