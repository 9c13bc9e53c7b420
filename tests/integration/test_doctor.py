"""`warmpath doctor` against engines with planted faults: it names the right cause of each, and of nothing else."""

import json
import os
import subprocess
import threading
import unittest

from harness import BINARY, MODEL_FOLDER, Case, chat, seconds, words


def examine(url, *more, tokenizer=MODEL_FOLDER):
    run = subprocess.run([BINARY, "doctor", "--engine", url, "--tokenizer", tokenizer, "--format", "json", *more],
                         stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds(120), check=False)
    return run


class Doctor(Case):
    def report(self, url, code, *more, **options):
        run = examine(url, *more, **options)
        self.assertEqual(run.returncode, code, run.stdout.decode() + run.stderr.decode())
        return json.loads(run.stdout)

    @staticmethod
    def causes(report, outcome):
        return [check["cause"] for check in report["checks"] if check["outcome"] == outcome]

    def planted(self, fault, cause, outcome="fault", engine=()):
        found = self.engine("--fault", fault, "--lora", "adapter-x", *engine)
        report = self.report(found.url, 1 if outcome == "fault" else 0)
        self.assertEqual(self.causes(report, outcome), [cause], json.dumps(report, indent=1))
        other = "warning" if outcome == "fault" else "fault"
        self.assertEqual(self.causes(report, other), [], json.dumps(report, indent=1))
        told = [check for check in report["checks"] if check["cause"] == cause]
        self.assertTrue(told[0]["detail"] and told[0]["remedy"])
        return told[0]

    def assert_clean(self, report):
        self.assertTrue(report["clean"])
        self.assertEqual([c for c in report["checks"] if c["outcome"] != "ok"], [])

    # ---- healthy ones ----

    def test_a_healthy_engine_is_clean(self):
        self.assert_clean(self.report(self.engine("--lora", "adapter-x").url, 0))

    def test_so_is_one_that_renders(self):
        report = self.report(self.engine("--lora", "adapter-x", "--enable-scale-out").url, 0)
        self.assert_clean(report)
        self.assertIn("by /render", [c for c in report["checks"] if c["check"] == "chat template"][0]["detail"])

    def test_one_with_large_blocks_and_two_ranks(self):
        engine = self.process("engine", "--listen", "127.0.0.1:0", "--model", "demo", "--tokenizer", MODEL_FOLDER,
                              "--speed", "50", "--blocks", "500", "--block-size", "128", "--dp", "2",
                              "--lora", "adapter-x", "--topic", "kv@x", "--hash-bytes", "--format", "json")
        ready = json.loads(engine.wait_line(engine.out, lambda line: line or None))
        self.assert_clean(self.report("http://" + ready["listening"], 0))

    def test_and_one_that_others_use_meanwhile(self):
        engine = self.engine("--lora", "adapter-x")
        stop = threading.Event()

        def traffic(number):
            turn = 0
            while not stop.is_set():
                turn += 1
                chat(engine.address, words(number * 1000 + turn, 200), max_tokens=20)

        others = [threading.Thread(target=traffic, args=(number,)) for number in range(3)]
        for one in others:
            one.start()
        try:
            report = self.report(engine.url, 0)
        finally:
            stop.set()
            for one in others:
                one.join()
        self.assertEqual(self.causes(report, "fault"), [], json.dumps(report, indent=1))

    # ---- planted faults ----

    def test_another_chat_template(self):
        self.planted("chat-template", "chat_template")

    def test_another_chat_template_by_render(self):
        self.planted("chat-template", "chat_template", engine=("--enable-scale-out",))

    def test_double_bos(self):
        told = self.planted("double-bos", "special_tokens")
        self.assertIn("1 more in front", told["detail"])

    def test_a_rebuilt_tokenizer(self):
        self.planted("rebuilt-tokenizer", "tokenizer")

    def test_another_block_size(self):
        self.planted("block-size", "block_size")

    def test_salts_ignored(self):
        self.planted("salt-ignored", "salt")

    def test_adapters_ignored(self):
        told = self.planted("lora-ignored", "lora")
        self.assertIn("of the base model", told["detail"])

    def test_adapters_renamed(self):
        told = self.planted("lora-renamed", "lora")
        self.assertIn("'adapter-x-v0'", told["detail"])

    def test_no_prefix_caching(self):
        self.planted("no-prefix-caching", "prefix_caching")

    def test_no_events(self):
        self.planted("no-events", "events_disabled")

    def test_events_at_another_port(self):
        told = self.planted("events-port", "events_address")
        self.assertIn("nothing answers", told["detail"])

    def test_events_under_another_topic(self):
        self.planted("events-topic", "events_topic", outcome="warning")

    def test_a_draft_model(self):
        self.planted("draft-model", "draft_model", outcome="warning")

    def test_no_cached_tokens(self):
        self.planted("no-cached-tokens", "usage_details", outcome="warning")

    def test_several_at_once(self):
        engine = self.engine("--fault", "chat-template", "--fault", "salt-ignored", "--fault", "block-size")
        report = self.report(engine.url, 1)
        self.assertEqual(sorted(self.causes(report, "fault")), ["block_size", "chat_template", "salt"])

    # ---- mistakes of the operator ----

    def test_events_of_another_engine(self):
        engine, other = self.engine(), self.engine()
        told = other.ready["kv_event_sources"][0]
        stop = threading.Event()

        def traffic():
            turn = 0
            while not stop.is_set():
                turn += 1
                chat(other.address, words(turn, 100))

        busy = threading.Thread(target=traffic)
        busy.start()
        try:
            report = self.report(f"{engine.url},kv={told['endpoint']},replay={told['replay_endpoint']}", 1)
        finally:
            stop.set()
            busy.join()
        self.assertEqual(self.causes(report, "fault"), ["events_address"])
        stream = [check for check in report["checks"] if check["check"] == "event stream"][0]
        self.assertIn("another engine's publisher", stream["detail"])
        self.assertIn(engine.ready["kv_event_sources"][0]["endpoint"], stream["detail"])

    def test_another_models_template_folder(self):
        folder = self.folder()
        for name in os.listdir(MODEL_FOLDER):
            with open(os.path.join(MODEL_FOLDER, name), "rb") as file:
                content = file.read()
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as file:
            file.write("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
        report = self.report(self.engine().url, 1, tokenizer=folder)
        self.assertEqual(self.causes(report, "fault"), ["chat_template"])

    def test_nobody_there_and_wrong_usage_are_2(self):
        for args, said in ((("http://127.0.0.1:1",), b"127.0.0.1:1"), (("no-url",), b"--engine"),
                           ((self.engine().url, "--model", "nobody"), b"it serves demo")):
            run = examine(*args)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertEqual(run.stdout, b"")
            self.assertIn(said, run.stderr)


if __name__ == "__main__":
    unittest.main()
