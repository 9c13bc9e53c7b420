"""Chats through the gateway: whole and streamed, conversations that hit what earlier turns left, every policy."""

import json
import os
import socket
import subprocess
import unittest

from harness import (BINARY, BLOCK, MODEL, MODEL_FOLDER, Case, Stream, chat, metric_sum, poll, request, text_of, words)


def usage_of(answer):
    usage = answer.json()["usage"]
    return usage, usage["prompt_tokens_details"]["cached_tokens"]


class Chat(Case):
    def test_a_second_turn_hits_what_the_first_turn_answered(self):
        gateway = self.gateway([self.engine(), self.engine()])
        messages = [{"role": "system", "content": words(1, 200)}, {"role": "user", "content": "tell a story"}]
        first = chat(gateway.address, messages, max_tokens=64)
        self.assertEqual(first.status, 200, repr(first))
        usage, cached = usage_of(first)
        self.assertEqual(cached, 0)
        held = (usage["prompt_tokens"] + usage["completion_tokens"] - 1) // BLOCK
        gateway.wait_blocks(held)
        messages += [{"role": "assistant", "content": first.json()["choices"][0]["message"]["content"]},
                     {"role": "user", "content": "and then"}]
        second = chat(gateway.address, messages, max_tokens=8)
        _, cached = usage_of(second)
        self.assertGreater(cached, usage["prompt_tokens"])
        self.assertEqual(cached, held * BLOCK)

    def test_a_stream_says_what_the_whole_answer_says(self):
        gateway = self.gateway([self.engine(), self.engine()])
        whole = chat(gateway.address, words(2, 60), max_tokens=40)
        stream = Stream(gateway.address, words(2, 60), max_tokens=40, stream_options={"include_usage": True})
        self.assertEqual(stream.status, 200)
        self.assertTrue(stream.answer.headers["content-type"].startswith("text/event-stream"))
        self.assertTrue(stream.answer.headers["x-request-id"])
        events = list(stream.events())
        stream.close()
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual(text_of(events), whole.json()["choices"][0]["message"]["content"])
        usage = json.loads(events[-2])
        self.assertEqual(usage["choices"], [])
        self.assertEqual(usage["usage"]["completion_tokens"], 40)

    def test_a_lasting_difference_warns_until_it_is_over(self):
        """An engine whose template is another one holds what was asked, under other tokens than ours: no match, ever."""
        engine = self.engine("--fault", "chat-template")
        gateway = self.gateway([engine])
        def differs():
            page = request(gateway.admin, "GET", "/metrics").text
            return metric_sum(page, "warmpath_proof_differs") if "warmpath_proof_differs" in page else None
        for _ in range(2):
            for i in range(40):
                self.assertEqual(chat(gateway.address, words(i, 200), max_tokens=1).status, 200)
            # What was routed a moment ago is taken as held, and proves nothing.
            poll("the guesses are over", lambda: gateway.decisions(1)[0]["age_ms"] > 1000)
        poll("it is seen", lambda: differs() == 1)
        gateway.wait_event("cached_tokens_differ", engine=engine.url)
        for i in range(150):  # nothing cached, nothing predicted: equal
            self.assertEqual(chat(gateway.address, words(1000 + i, 200), max_tokens=1).status, 200)
        poll("it is over", lambda: differs() == 0)

    def test_sequential_predictions_are_what_engines_report(self):
        gateway = self.gateway([self.engine(), self.engine()])
        held, asked = 0, 0
        for talk in range(4):
            messages = [{"role": "system", "content": words(10 + talk, 80)}]
            before = 0
            for turn in range(3):
                messages.append({"role": "user", "content": words(100 + 10 * talk + turn, 20)})
                answer = chat(gateway.address, messages, max_tokens=30)
                asked += 1
                usage, _ = usage_of(answer)
                now = (usage["prompt_tokens"] + usage["completion_tokens"] - 1) // BLOCK
                held += now - before
                before = now
                gateway.wait_blocks(held)
                messages.append({"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]})
        decisions = gateway.finished(100)
        self.assertEqual(len(decisions), asked)
        for decision in decisions:
            self.assertTrue(decision["receipt"]["exact"], decision)
            self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"], decision)
        self.assertGreater(sum(d["reported_cached_tokens"] for d in decisions), 1000)
        proofs = [e["proof"] for e in gateway.engines()]
        self.assertEqual(sum(p["requests_equal"] for p in proofs), asked)

    def test_every_policy_serves(self):
        listed = subprocess.run([BINARY, "policies", "--format", "json"], capture_output=True, text=True, check=True)
        names = [policy["name"] for policy in json.loads(listed.stdout)["policies"]]
        for name in ("random", "round-robin", "load", "approximate", "approximate-2025", "precise", "least-work"):
            self.assertIn(name, names)
        engines = [self.engine(), self.engine()]
        for name in names:
            with self.subTest(policy=name):
                gateway = self.gateway(engines, policy=name)
                for i in range(4):
                    self.assertEqual(chat(gateway.address, words(20 + i, 30)).status, 200)
                for decision in gateway.decisions():
                    self.assertEqual(decision["receipt"]["policy"], name)
                self.assertEqual(gateway.end(), 0, gateway.said())

    def test_without_a_tokenizer_it_runs_on_guesses_and_says_so(self):
        gateway = self.gateway([self.engine(), self.engine()], tokenizer=None)
        self.assertIn("tokenizer", request(gateway.admin, "GET", "/engines").json()["pools"][0]["mode"])
        engines = set()
        for _ in range(4):
            self.assertEqual(chat(gateway.address, words(3, 300)).status, 200)
            engines.add(gateway.decisions(1)[0]["engine"])
        self.assertEqual(len(engines), 1)  # the guess holds the prompt where it went first

    def test_completions_and_models(self):
        gateway = self.gateway([self.engine("--lora", "tuned"), self.engine("--lora", "tuned")], "--model", MODEL,
                               "--alias", "nick")
        answer = request(gateway.address, "POST", "/v1/completions",
                         {"model": MODEL, "prompt": words(4, 20), "max_tokens": 5, "ignore_eos": True})
        self.assertEqual(answer.status, 200, repr(answer))
        self.assertEqual(answer.json()["usage"]["completion_tokens"], 5)
        ids = [model["id"] for model in request(gateway.address, "GET", "/v1/models").json()["data"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertLessEqual({MODEL, "nick", "tuned"}, set(ids))
        for name in ("nick", "tuned"):
            answer = chat(gateway.address, "hello", model=name)
            self.assertEqual(answer.status, 200, repr(answer))

    def test_adapters_and_salts_share_nothing(self):
        gateway = self.gateway([self.engine("--lora", "tuned")])
        text = words(5, 100)
        plain = usage_of(chat(gateway.address, text))
        self.assertEqual(plain[1], 0)
        held = (plain[0]["prompt_tokens"] + 7) // BLOCK
        gateway.wait_blocks(held)
        self.assertEqual(usage_of(chat(gateway.address, text, model="tuned"))[1], 0)
        gateway.wait_blocks(2 * held)
        self.assertEqual(usage_of(chat(gateway.address, text, cache_salt="tenant"))[1], 0)
        gateway.wait_blocks(3 * held)
        for more in ({}, {"model": "tuned"}, {"cache_salt": "tenant"}):
            self.assertGreater(usage_of(chat(gateway.address, text, **more))[1], 80)
        for decision in gateway.finished():
            self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"], decision)

    def test_two_pools_in_one_config(self):
        one, two = self.engine(model="one"), self.engine(model="two")
        folder = self.folder()
        with open(folder + "/gateway.yaml", "w", encoding="utf-8") as out:
            for line in ("pools:",
                         "  - model: one", f"    tokenizer: {MODEL_FOLDER}", "    engines:", f"      - {one.url}",
                         "  - model: two", "    policy: load", "    engines:", f"      - {two.url}"):
                print(line, file=out)
        gateway = self._keep(lambda: _from_config(folder + "/gateway.yaml"))
        gateway.wait_ready(2)
        for model, engine in (("one", one), ("two", two)):
            self.assertEqual(chat(gateway.address, "hello", model=model).json()["model"], model)
            self.assertEqual(engine.metric("vllm:request_success_total"), 1)
        self.assert_error(chat(gateway.address, "hello", model="three"), 404, "one", "two")

    def test_request_ids_and_authorization(self):
        gateway = self.gateway([self.engine()])
        answer = chat(gateway.address, "hello", headers={"x-request-id": "abc-1", "Authorization": "Bearer secret-key"})
        self.assertEqual(answer.headers["x-request-id"], "abc-1")
        gateway.wait_event("request", id="abc-1", status=200)
        self.assertNotIn("secret-key", gateway.said())

    def test_a_gateway_that_comes_later_learns_what_engines_hold(self):
        engines = [self.engine(), self.engine()]
        self.assertEqual(chat(engines[1].address, words(50, 200)).status, 200)
        gateway = self.gateway(engines)  # its events are replayed
        gateway.wait_blocks(12)
        usage, cached = usage_of(chat(gateway.address, words(50, 200)))
        self.assertGreater(cached, 180)
        decision = gateway.finished()[0]
        self.assertEqual((decision["engine"], decision["predicted_cached_tokens"]), (engines[1].url, cached))

    def test_older_engines_are_told_by_hand(self):
        base = _free_ports()  # those of its ranks are in a row
        engine = self.engine("--dp", "2", "--kv-events-port", str(base), "--kv-replay-port", str(base + 2))
        first = engine.ready["kv_event_sources"][0]
        gateway = self.gateway([f"{engine.url},kv={first['endpoint']},replay={first['replay_endpoint']},dp=2"],
                               ready=False)
        gateway.wait_ready(2)
        for _ in range(2):
            answer = chat(gateway.address, words(51, 200))
            gateway.wait_blocks(12)
        self.assertGreater(usage_of(answer)[1], 180)
        decision = gateway.finished()[0]
        self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"])

    def test_usage_is_asked_for_and_stripped_where_wanted(self):
        gateway = self.gateway([self.engine()], "--include-usage", "true")
        stream = Stream(gateway.address, words(52, 60), max_tokens=20)
        events = list(stream.events())
        stream.close()
        self.assertEqual(events[-1], "[DONE]")
        for event in events[:-1]:
            self.assertFalse(json.loads(event).get("usage"), event)
            self.assertTrue(json.loads(event)["choices"], event)
        gateway.finished()
        self.assertEqual(gateway.engines()[0]["proof"]["requests"], 1)
        self.assertEqual(gateway.wait_event("request")["output_tokens"], 20)

    def test_ipv6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this machine has no IPv6 loopback")
        gateway = self.gateway([self.engine()], listen="[::1]:0")
        self.assertTrue(gateway.address.startswith("[::1]:"))
        self.assertEqual(chat(gateway.address, "hello").status, 200)


class DataParallel(Case):
    def test_ranks_are_candidates_and_clients_cannot_pin_one(self):
        engine = self.engine("--dp", "2")
        gateway = self.gateway([engine], ready=False)
        gateway.wait_ready(2)
        for i in range(12):
            answer = chat(gateway.address, words(40 + i, 100), headers={"X-data-parallel-rank": "0"})
            self.assertEqual(answer.status, 200, repr(answer))
        # Out of range: the engine would answer 400 if it saw it.
        self.assertEqual(chat(gateway.address, "hello", headers={"X-Data-Parallel-Rank": "7"}).status, 200)
        decisions = gateway.decisions()
        self.assertTrue(all(d["receipt"]["candidates_total"] == 2 for d in decisions))
        chosen = {d["engine"] for d in decisions}
        self.assertEqual(len(chosen), 2, decisions)
        # Each rank got what was decided: the engine's own count by rank.
        page = request(engine.address, "GET", "/metrics").text
        names = sorted(e["name"] for e in gateway.engines())
        for rank, name in enumerate(names):
            label = f'engine="{rank}"'
            served = sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                         if line.startswith("vllm:request_success_total{") and label in line)
            self.assertEqual(served, sum(d["engine"] == name for d in decisions), name)


class Privacy(Case):
    def test_prompts_salts_and_keys_are_in_no_log_and_no_report(self):
        canary, salt, key = "zebra-canary-prompt", "zebra-canary-salt", "zebra-canary-key"
        engine = self.engine()
        gateway = self.gateway([engine], "--log-level", "debug")
        headers = {"Authorization": "Bearer " + key}
        self.assertEqual(chat(gateway.address, canary + words(6, 40), cache_salt=salt, headers=headers).status, 200)
        Stream(gateway.address, canary, cache_salt=salt).close()
        self.assertEqual(chat(gateway.address, canary, max_tokens=-1, headers=headers).status // 100, 4)
        chat(gateway.address, canary, model=canary, headers=headers)
        request(gateway.address, "POST", "/v1/chat/completions", b'{"messages": "' + canary.encode())
        request(gateway.address, "GET", "/nowhere/" + canary)
        gateway.wait_event("request", status=404)
        reports = gateway.metrics() + "".join(request(gateway.admin, "GET", path).text
                                              for path in ("/decisions?limit=100", "/engines", "/ready"))
        self.assertEqual(gateway.end(), 0)
        for word in ("zebra", salt, key):
            self.assertNotIn(word, reports)
            self.assertNotIn(word, gateway.said())
        self.assertGreaterEqual(metric_sum(reports, "warmpath_requests_total"), 3)


def _free_ports():
    """The first of four free ports in a row."""
    first = 20_000 + os.getpid() * 4 % 10_000  # below those that the system gives out; apart from other runs
    for base in range(first, first + 2_000, 4):
        try:
            held = [socket.create_server(("127.0.0.1", base + i)) for i in range(4)]
        except OSError:
            continue
        for one in held:
            one.close()
        return base
    raise AssertionError("no four free ports in a row")


def _from_config(path):
    from harness import Gateway, Process

    class FromConfig(Gateway):
        def __init__(self):
            Process.__init__(self, "serve", "--config", path, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
                             "--log-format", "json")
            line = self.wait_event("serving")
            self.address = line["listen"].removeprefix("http://")
            self.admin = line["admin"].removeprefix("http://")

    return FromConfig()


if __name__ == "__main__":
    unittest.main(verbosity=2)
