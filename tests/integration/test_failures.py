"""Clients that leave, engines that die, come back or drain: nobody else notices."""

import concurrent.futures
import json
import signal
import socket
import time
import unittest

from harness import Case, Stream, chat, chat_body, connect, metric_sum, poll, request, seconds, text_of, words

SLOW = 2  # speed at which a stream of 2,000 tokens lasts long enough to break it


class HangUps(Case):
    def test_a_client_that_leaves_ends_its_request_at_the_engine(self):
        engine = self.engine(speed=SLOW)
        gateway = self.gateway([engine])
        stream = Stream(gateway.address, words(1, 30), max_tokens=2000)
        stream.wait_chunks(2)
        self.assertEqual(engine.metric("vllm:num_requests_running"), 1)
        left = time.monotonic()
        stream.hang_up()
        poll("the engine runs nothing", lambda: engine.metric("vllm:num_requests_running") == 0)
        self.assertLess(time.monotonic() - left, seconds(1))
        event = gateway.wait_event("request", outcome="client_gone")
        self.assertTrue(event["stream"])
        poll("the gateway runs nothing", lambda: gateway.engines()[0]["inflight_requests"] == 0)

    def test_a_client_that_leaves_before_the_answer_too(self):
        engine = self.engine(speed=SLOW)
        gateway = self.gateway([engine])
        connection = connect(gateway.address)
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(words(2, 30), max_tokens=2000)))
        poll("the engine runs it", lambda: engine.metric("vllm:num_requests_running") == 1)
        connection.close()
        poll("the engine runs nothing", lambda: engine.metric("vllm:num_requests_running") == 0)


class Deaths(Case):
    def test_an_engine_that_dies_is_left_out_and_no_request_fails(self):
        engines = [self.engine(), self.engine()]
        gateway = self.gateway(engines, health="30s", policy="round-robin")
        for i in range(4):
            self.assertEqual(chat(gateway.address, words(i, 20)).status, 200)
        engines[0].kill()
        for i in range(10):
            answer = chat(gateway.address, words(10 + i, 20))
            self.assertEqual(answer.status, 200, repr(answer))
        self.assertNotIn(engines[0].url, {d["engine"] for d in gateway.decisions(2)})

    def test_a_stream_that_loses_its_engine_ends_in_an_error_event(self):
        engines = [self.engine(speed=SLOW), self.engine(speed=SLOW)]
        gateway = self.gateway(engines)
        stream = Stream(gateway.address, words(3, 30), max_tokens=2000)
        stream.wait_chunks(2)
        busy = next(e for e in engines if e.metric("vllm:num_requests_running") == 1)
        busy.kill()
        events = list(stream.events())  # ends well: the chunked body is whole
        stream.close()
        self.assertNotIn("[DONE]", events)
        error = json.loads(events[-1])["error"]
        self.assertIn("engine", error["message"])
        self.assertTrue(all("error" not in json.loads(e) for e in events[:-1]))
        gateway.wait_event("request", outcome="broken")
        # The other one takes over.
        poll("one engine is up", lambda: sum(e["liveness"] == "up" for e in gateway.engines()) == 1)
        self.assertEqual(chat(gateway.address, words(4, 30)).status, 200)

    def test_a_whole_answer_in_the_making_is_made_by_another_engine(self):
        engines = [self.engine(speed=SLOW), self.engine(speed=SLOW)]
        gateway = self.gateway(engines)
        connection = connect(gateway.address)
        connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(words(5, 30), max_tokens=60)))
        busy = poll("an engine runs it",
                    lambda: next((e for e in engines if e.metric("vllm:num_requests_running") == 1), None))
        busy.kill()
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(answer.read())["usage"]["completion_tokens"], 60)
        connection.close()
        event = gateway.wait_event("request", status=200)
        self.assertEqual(event["attempts"], 2)
        self.assertNotEqual(event["why"], "")

    def test_no_engine_left_is_502_or_503(self):
        engine = self.engine()
        gateway = self.gateway([engine], health="30s")
        engine.kill()
        answer = chat(gateway.address, "hello")
        self.assertIn(answer.status, (502, 503), repr(answer))
        self.assertIn("error", answer.json())

    def test_an_engine_that_restarts_is_found_again_with_its_events(self):
        engines = [self.engine(), self.engine()]
        gateway = self.gateway(engines)
        self.assertEqual(chat(gateway.address, words(6, 100)).status, 200)
        gateway.wait_blocks(6)
        holder = max(gateway.engines(), key=lambda e: e["blocks_held"])
        dead = next(e for e in engines if e.url == holder["url"])
        dead.kill()
        def state_of(name):
            return next(e for e in gateway.engines() if e["name"] == name)
        poll("it is seen to be down", lambda: state_of(holder["name"])["liveness"] != "up")
        self.assertEqual(chat(gateway.address, words(6, 100)).status, 200)
        fresh = self.engine(port=dead.port)
        gateway.wait_ready(2)
        # What it held went with it: the same prompt is predicted where it is, and nowhere else.
        answer = chat(gateway.address, words(6, 100))
        self.assertGreater(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 80)
        decision = gateway.finished(1)[0]
        self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"], decision)
        matched = {c["engine"]: c["matched_tokens"] for c in decision["receipt"]["candidates"]}
        self.assertEqual(matched[holder["name"]], 0, decision)
        # Its new events are followed: it is made to serve, and its blocks appear.
        other = next(e for e in engines if e is not dead)
        other.kill()
        poll("the other is down", lambda: sum(e["liveness"] == "up" for e in gateway.engines()) == 1)
        self.assertEqual(chat(gateway.address, words(7, 100)).status, 200)
        self.assertEqual(fresh.metric("vllm:request_success_total"), 1)
        poll("its blocks are in the map", lambda: state_of(holder["name"])["blocks_held"] >= 6)
        poll("its events are exact", lambda: state_of(holder["name"])["publisher"] == "exact")

    def test_an_engine_that_was_cleared_is_predicted_so(self):
        engine = self.engine()
        gateway = self.gateway([engine])
        self.assertEqual(chat(gateway.address, words(8, 100)).status, 200)
        gateway.wait_blocks(6)
        self.assertEqual(request(engine.address, "POST", "/reset_prefix_cache").status, 200)
        # As vLLM: the clearing is published with the next step, whatever it is for.
        self.assertEqual(chat(gateway.address, words(9, 20)).status, 200)
        poll("the map forgot", lambda: gateway.engines()[0]["blocks_held"] < 6)
        # What was routed a moment ago counts as cached, whatever the events say.
        poll("the guess is over", lambda: gateway.decisions()[-1]["age_ms"] > 2000)
        answer = chat(gateway.address, words(8, 100))
        self.assertEqual(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        decision = gateway.finished(1)[0]
        self.assertEqual(decision["predicted_cached_tokens"], 0, decision)


class Drains(Case):
    def test_sigterm_lets_running_streams_end(self):
        engine = self.engine(speed=10)
        gateway = self.gateway([engine])
        stream = Stream(gateway.address, words(10, 30), max_tokens=400)
        stream.wait_chunks(2)
        gateway.signal(signal.SIGTERM)
        gateway.wait_event("draining")
        def refused():
            try:
                socket.create_connection(gateway.address.split(":"), timeout=seconds(5)).close()
            except ConnectionRefusedError:
                return True
            return False
        poll("new connections are refused", refused)
        self.assertEqual(request(gateway.admin, "GET", "/ready").status, 503)
        events = list(stream.events())
        stream.close()
        self.assertEqual(events[-1], "[DONE]")
        self.assertTrue(text_of(events))
        self.assertEqual(gateway.wait(), 0, gateway.said())
        gateway.wait_event("drained")

    def test_a_second_signal_ends_at_once(self):
        engine = self.engine(speed=SLOW)
        gateway = self.gateway([engine])
        stream = Stream(gateway.address, words(11, 30), max_tokens=4000)
        stream.wait_chunks(2)
        gateway.signal(signal.SIGINT)
        gateway.wait_event("draining")
        gateway.signal(signal.SIGINT)
        self.cut_off_by_the_gateway(stream)
        self.assertEqual(gateway.wait(10), 1, gateway.said())
        self.assertEqual(gateway.wait_event("request", outcome="broken")["status"], 200)
        poll("the engine runs nothing", lambda: engine.metric("vllm:num_requests_running") == 0)

    def test_a_drain_has_an_end(self):
        engine = self.engine(speed=SLOW)
        gateway = self.gateway([engine], "--drain", "200ms")
        stream = Stream(gateway.address, words(12, 30), max_tokens=4000)
        stream.wait_chunks(2)
        waiting = connect(gateway.address)
        waiting.request("POST", "/v1/chat/completions", json.dumps(chat_body(words(13, 30), max_tokens=4000)))
        poll("the engine runs both", lambda: engine.metric("vllm:num_requests_running") == 2)
        gateway.signal(signal.SIGTERM)
        self.cut_off_by_the_gateway(stream)
        answer = waiting.getresponse()
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.getheader("retry-after"), "1")
        self.assertIn("shutting down", json.loads(answer.read())["error"]["message"])
        waiting.close()
        gateway.wait(10)
        gateway.wait_event("drain_ended")
        gateway.wait_event("request", outcome="broken")
        self.assertIn("shutting down", gateway.wait_event("request", status=503)["why"])

    def cut_off_by_the_gateway(self, stream):
        events = list(stream.events())  # ends well: the chunked body is whole
        stream.close()
        self.assertNotIn("[DONE]", events)
        self.assertIn("shutting down", json.loads(events[-1])["error"]["message"])

    def test_an_idle_gateway_and_engine_end_at_once(self):
        engine = self.engine()
        gateway = self.gateway([engine])
        self.assertEqual(chat(gateway.address, "hello").status, 200)
        self.assertEqual(gateway.end(), 0)
        self.assertEqual(engine.end(), 0)


class Storm(Case):
    def test_hang_ups_kills_and_restarts_under_load(self):
        """Many clients while an engine dies and comes back: whole answers all arrive, nothing is left running."""
        engines = [self.engine(), self.engine(), self.engine()]
        gateway = self.gateway(engines)

        def one(i):
            if i % 5 == 4:
                stream = Stream(gateway.address, words(i % 7, 80), max_tokens=200)
                stream.wait_chunks(1)
                stream.hang_up()
                return 200
            return chat(gateway.address, words(i % 7, 80), max_tokens=20).status

        with concurrent.futures.ThreadPoolExecutor(8) as crew:
            tasks = [crew.submit(one, i) for i in range(60)]
            tasks[10].result()
            engines[2].kill()
            tasks[30].result()
            engines[2] = self.engine(port=engines[2].port)
            results = [task.result() if i % 5 != 4 else task.exception() for i, task in enumerate(tasks)]
        self.assertEqual([r for i, r in enumerate(results) if i % 5 != 4], [200] * 48)
        gateway.wait_ready(3)
        for engine in engines:
            poll("nothing runs", lambda: engine.metric("vllm:num_requests_running") == 0)  # noqa: B023
        poll("nothing is in flight", lambda: sum(e["inflight_requests"] for e in gateway.engines()) == 0)
        self.assertGreaterEqual(metric_sum(gateway.metrics(), "warmpath_requests_total"), 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
