#!/usr/bin/env python3
"""The map survives a restart: from its file after SIGKILL and SIGTERM, torn, and copied from a live peer."""

import os
import signal
import stat
import unittest

from harness import BLOCK, Case, chat, poll, metric_sum, request, words

# So few batches are kept for replay that what was long ago can only come out of a snapshot.
BUFFER = "3"


class Snapshot(Case):
    def warm(self, every="100ms", *more):
        """Two engines and a gateway that knows what they hold; the prompts that made it so."""
        self.path = os.path.join(self.folder(), "index.snapshot")
        self.engines = [self.engine("--kv-buffer-steps", BUFFER), self.engine("--kv-buffer-steps", BUFFER)]
        gateway = self.again(every, *more)
        prompts = [words(seed, 300) for seed in range(6)]
        # Straight to the engines, so that each has more to tell than its buffer keeps.
        used = [chat(self.engines[i % 2].address, prompt).json()["usage"]["prompt_tokens"]
                for i, prompt in enumerate(prompts)]
        gateway.wait_blocks(sum(tokens // BLOCK for tokens in used))
        return gateway, prompts, used

    def again(self, every="100ms", *more, **rest):
        return self.gateway(self.engines, "--index-snapshot", self.path, "--index-snapshot-every", every, *more, **rest)

    def wait_written(self, times=2):
        """Until a snapshot was begun and written after now: the second one from now on."""
        for _ in range(times):
            before = os.stat(self.path).st_mtime_ns if os.path.exists(self.path) else None
            poll("a snapshot", lambda: os.path.exists(self.path) and os.stat(self.path).st_mtime_ns != before)

    def assert_warm(self, gateway, prompts, used):
        """The first request of each prompt goes where its blocks are, and the engine finds them."""
        for prompt, tokens in zip(prompts, used):
            answer = chat(gateway.address, prompt)
            self.assertEqual(answer.status, 200, answer)
            decision = gateway.finished(1)[0]
            whole = tokens // BLOCK * BLOCK
            self.assertGreaterEqual(decision["predicted_cached_tokens"], whole - BLOCK, decision)
            self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"], decision)

    def restored(self, gateway):
        return metric_sum(gateway.metrics(), "warmpath_index_restored_blocks_total")

    def test_after_a_kill_the_first_request_is_predicted(self):
        gateway, prompts, used = self.warm()
        self.wait_written()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertGreater(metric_sum(gateway.metrics(), "warmpath_index_snapshot_bytes"), 1000)
        self.assertGreaterEqual(metric_sum(gateway.metrics(), "warmpath_index_snapshot_age_seconds"), 0)
        held = sum(engine["blocks_held"] for engine in gateway.engines())
        gateway.kill()
        second = self.again()
        for engine in self.engines:
            second.wait_event("engine_restored", engine=engine.url)
        self.assertGreaterEqual(self.restored(second), held)
        self.assertEqual({engine["publisher"] for engine in second.engines()}, {"exact"})
        self.assert_warm(second, prompts, used)

    def test_without_the_file_it_would_not_know(self):
        """That the engines' replay alone does not do it: else the test above would show nothing."""
        gateway, prompts, _ = self.warm()
        self.wait_written()
        gateway.kill()
        os.remove(self.path)
        second = self.gateway(self.engines, ready=False)
        poll("partial", lambda: [e["publisher"] for e in second.engines()] == ["partial", "partial"])
        chat(second.address, prompts[0])
        self.assertEqual(second.finished(1)[0]["predicted_cached_tokens"], 0)

    def test_a_graceful_end_writes_it_down(self):
        gateway, prompts, used = self.warm("1h")
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(gateway.end(), 0, gateway.said())
        self.assertTrue(os.path.exists(self.path))
        self.assert_warm(self.again(), prompts, used)

    def test_an_engine_that_was_restarted_meanwhile_is_forgotten(self):
        gateway, prompts, used = self.warm()
        self.wait_written()
        gateway.kill()
        port = self.engines[0].port
        self.engines[0].kill()
        self.engines[0] = self.engine("--kv-buffer-steps", BUFFER, port=port)
        second = self.again()
        second.wait_event("engine_restored", engine=self.engines[1].url)
        by_name = {engine["name"]: engine for engine in second.engines()}
        self.assertEqual(by_name[self.engines[0].url]["blocks_held"], 0)
        self.assertGreater(by_name[self.engines[1].url]["blocks_held"], 0)
        for prompt in prompts:
            chat(second.address, prompt)
            decision = second.finished(1)[0]
            self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"], decision)

    def test_a_torn_file_is_said_and_costs_no_start(self):
        gateway, prompts, used = self.warm()
        self.wait_written()
        gateway.kill()
        with open(self.path, "rb") as file:
            whole = file.read()
        for torn in (whole[:len(whole) // 2], b""):
            with open(self.path, "wb") as file:
                file.write(torn)
            second = self.again("1h", ready=False)
            line = second.wait_event("snapshot_read")
            self.assertTrue(line["not_whole_as"], line)
            self.assertEqual(metric_sum(second.metrics(), "warmpath_index_snapshot_torn_total"), 1)
            poll("followed", lambda: [e["publisher"] in ("exact", "partial") for e in second.engines()] == [True, True])
            self.assertEqual(chat(second.address, "hello").status, 200)
            second.kill()
        # Another model, another router block: nothing in it is of use.
        with open(self.path, "wb") as file:
            file.write(whole)
        other = self.again("1h", "--block-tokens", "32", ready=False)
        self.assertIn("blocks of 16 tokens", other.wait_event("snapshot_refused")["why"])

    def test_what_is_not_known_yet_stays_in_the_file(self):
        gateway, prompts, used = self.warm()
        self.wait_written()
        gateway.kill()
        # One engine cannot be reached when the gateway begins and ends: it hangs, and so nobody tells its block size.
        with open(self.path, "rb") as file:
            whole = file.read()
        self.engines[0].signal(signal.SIGSTOP)
        try:
            second = self.again("100ms", ready=False)
            self.assertEqual(second.end(), 0, second.said())
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), whole, "nothing was known: it is as it was")
            # The other one alone is found: what was read of the first is written again.
            third = self.again("100ms", "--block-tokens", str(BLOCK), ready=False)
            third.wait_event("engine_restored", engine=self.engines[1].url)
            self.wait_written()
            self.assertEqual(third.end(), 0, third.said())
        finally:
            self.engines[0].signal(signal.SIGCONT)
        last = self.again("1h")
        for engine in self.engines:
            last.wait_event("engine_restored", engine=engine.url)
        self.assert_warm(last, prompts, used)

    def test_the_file_of_another_program_is_not_overwritten(self):
        path = os.path.join(self.folder(), "notes")
        for content in (b"not a snapshot at all, but long enough for a head", b"short"):
            with open(path, "wb") as file:
                file.write(content)
            process = self.process("serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
                                   "--engine", "http://127.0.0.1:9", "--index-snapshot", path)
            self.assertEqual(process.wait(), 2, process.said())
            self.assertIn("move that file away", process.said())
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content)

    def test_where_it_cannot_be_written_serving_goes_on(self):
        engine = self.engine()
        gateway = self.gateway([engine], "--index-snapshot", "/proc/no/such/folder/index", "--index-snapshot-every", "100ms")
        self.assertIn("/proc/no/such/folder/index", gateway.wait_event("snapshot_failed")["why"])
        poll("counted again", lambda: metric_sum(gateway.metrics(), "warmpath_index_snapshot_failures_total") >= 3)
        self.assertEqual(chat(gateway.address, "hello").status, 200)
        self.assertEqual(sum("snapshot_failed" in line for line in gateway.err), 1)

    def test_a_second_gateway_copies_from_the_first(self):
        gateway, prompts, used = self.warm("100ms", "--share-index", "true")
        second = self.gateway(self.engines, "--copy-index-from", "http://" + gateway.admin)
        self.assertEqual(second.wait_event("snapshot_read")["engines"], 2)
        self.assertGreater(self.restored(second), 0)
        self.assert_warm(second, prompts, used)
        # It follows the engines itself.
        gateway.end()
        more = words(99, 300)
        tokens = chat(second.address, more).json()["usage"]["prompt_tokens"]
        poll("its own news", lambda: request(second.admin, "GET", "/ready").status == 200 and
             sum(e["blocks_held"] for e in second.engines()) >= sum(t // BLOCK for t in used) + tokens // BLOCK)

    def test_where_the_peers_pool_is_of_no_use_the_file_is_taken(self):
        gateway, prompts, used = self.warm()
        self.wait_written()
        gateway.kill()
        peer = self.gateway(self.engines, "--block-tokens", "32", "--share-index", "true", ready=False)
        poll("followed", lambda: [e["publisher"] for e in peer.engines()] == ["partial", "partial"])
        second = self.again("1h", "--copy-index-from", "http://" + peer.admin)
        self.assertIn("blocks of 32 tokens", second.wait_event("snapshot_refused")["why"])
        self.assertGreater(self.restored(second), 0)
        self.assert_warm(second, prompts, used)

    def test_a_peer_that_is_not_there_costs_no_start(self):
        engine = self.engine()
        gone = self.gateway([engine])
        admin = gone.admin
        gone.end()
        gateway = self.gateway([engine], "--copy-index-from", "http://" + admin, "--copy-index-timeout", "5s")
        line = gateway.wait_event("snapshot_read")
        self.assertEqual((line["level"], line["engines"]), ("warning", 0), line)
        self.assertNotIn("warmpath_index_snapshot_torn_total", gateway.metrics())
        self.assert_error(request(gateway.admin, "GET", "/index/snapshot"), 403, "--share-index")
        self.assertEqual(chat(gateway.address, "hello").status, 200)


if __name__ == "__main__":
    unittest.main()
