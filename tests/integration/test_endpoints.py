"""Every endpoint beside chat, through the gateway to simulated engines: what is routed exactly, and that each answers in
its own form."""

import json
import unittest

from harness import BLOCK, MODEL, Case, connect, request, words


def post(address, path, body, headers=None):
    return request(address, "POST", path, {"model": MODEL, **body}, headers)


def ids_of(engine, text):
    return request(engine.address, "POST", "/tokenize", {"model": MODEL, "prompt": text}).json()["tokens"]


def inexact(gateway, why):
    """Prompts that were matched approximately for this reason."""
    lines = [line for line in gateway.metrics().splitlines()
             if line.startswith("warmpath_prompts_total{") and f'chain="{why}"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Endpoints(Case):
    def test_token_ids_in_are_exact_and_stream(self):
        engines = [self.engine("--enable-scale-out"), self.engine("--enable-scale-out")]
        gateway = self.gateway(engines)
        ids = ids_of(engines[0], words(1, 200))
        body = {"token_ids": ids, "sampling_params": {"max_tokens": 6, "ignore_eos": True}}
        first = post(gateway.address, "/inference/v1/generate", body)
        self.assertEqual(first.status, 200, repr(first))
        told = first.json()["choices"][0]["token_ids"]
        self.assertEqual(len(told), 6)
        gateway.wait_blocks((len(ids) + 5) // BLOCK)
        connection = connect(gateway.address)
        connection.request("POST", "/inference/v1/generate", json.dumps(
            {"model": MODEL, **body, "stream": True, "stream_options": {"include_usage": True}}))
        lines = connection.getresponse().read().decode().split("\n")
        events = [line[6:] for line in lines if line.startswith("data: ")]
        connection.close()
        self.assertEqual(events[-1], "[DONE]")
        self.assertEqual([json.loads(e)["choices"][0]["token_ids"][0] for e in events[:-2]], told)
        usage = json.loads(events[-2])["usage"]
        held = (len(ids) - 1) // BLOCK * BLOCK
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], held)
        decision = gateway.finished(1)[0]
        self.assertTrue(decision["receipt"]["exact"])
        self.assertEqual(decision["predicted_cached_tokens"], held)
        self.assertEqual(decision["reported_cached_tokens"], held)

    def test_an_engine_without_the_endpoint_says_so_itself(self):
        gateway = self.gateway([self.engine()])
        answer = post(gateway.address, "/inference/v1/generate", {"token_ids": [1, 2], "sampling_params": {}})
        self.assertEqual(answer.status, 403, repr(answer))
        self.assertIn("--enable-scale-out", answer.json()["error"]["message"])

    def test_several_prompts_go_where_most_of_all_is_held(self):
        engines = [self.engine(), self.engine()]
        gateway = self.gateway(engines)
        long, others = words(1, 120), [words(s, 70) for s in (2, 3, 4)]
        one = {"max_tokens": 1, "ignore_eos": True}
        # Given to the engines themselves: the map learns of it by events alone.
        self.assertEqual(post(engines[0].address, "/v1/completions", {"prompt": long, **one}).status, 200)
        for text in others:
            self.assertEqual(post(engines[1].address, "/v1/completions", {"prompt": text, **one}).status, 200)
        blocks = sum(len(ids_of(engines[0], text)) // BLOCK for text in (long, *others))
        gateway.wait_blocks(blocks)
        who = request(gateway.admin, "POST", "/index/who", {"model": MODEL, "prompt": [long, *others]}).json()
        held = {engine["engine"]: engine["tokens"]["gpu"] for engine in who["engines"]}
        self.assertEqual(sum(held.values()), blocks * BLOCK)
        self.assertGreater(held[engines[1].url], held[engines[0].url])
        for prompts in ([long, *others], [ids_of(engines[0], text) for text in (*others, long)]):
            answer = post(gateway.address, "/v1/completions", {"prompt": prompts, **one})
            self.assertEqual(answer.status, 200, repr(answer))
            self.assertEqual(len(answer.json()["choices"]), 4)
            decision = gateway.finished(1)[0]
            self.assertEqual(decision["engine"], engines[1].url)
            # Engines report what was cached of the last one alone.
            self.assertGreater(decision["predicted_cached_tokens"], 3 * 48)
            self.assertLess(decision["reported_cached_tokens"], decision["predicted_cached_tokens"])

    def test_embeddings_follow_their_prompts(self):
        engines = [self.engine(), self.engine()]
        gateway = self.gateway(engines)
        text = words(1, 120)
        self.assertEqual(post(engines[1].address, "/v1/embeddings", {"input": text}).status, 200)
        gateway.wait_blocks(len(ids_of(engines[1], text)) // BLOCK)
        for given in (text, [text, "more"], ids_of(engines[0], text), [ids_of(engines[0], text)]):
            answer = post(gateway.address, "/v1/embeddings", {"input": given})
            self.assertEqual(answer.status, 200, repr(answer))
            decision = gateway.decisions(1)[0]
            self.assertEqual(decision["engine"], engines[1].url)
            self.assertGreater(decision["predicted_cached_tokens"], 100)
        chat = {"messages": [{"role": "user", "content": "x"}]}
        self.assertEqual(post(gateway.address, "/v1/embeddings", chat).status, 400)
        self.assertEqual(inexact(gateway, "embedded_chat"), 1)

    def turn_of(self, gateway, path, body):
        """A request twice, the second time streamed: what was predicted and reported for the second, and its events."""
        self.assertEqual(post(gateway.address, path, body).status, 200)
        first = gateway.finished(1)[0]
        gateway.wait_blocks((first["receipt"]["prompt_tokens"] - 1) // BLOCK)
        connection = connect(gateway.address)
        connection.request("POST", path, json.dumps({"model": MODEL, **body, "stream": True}))
        answer = connection.getresponse()
        self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"))
        lines = answer.read().decode().split("\n")
        connection.close()
        return gateway.finished(1)[0], [line[7:] for line in lines if line.startswith("event: ")]

    def test_responses_and_messages_are_routed_exactly(self):
        engines = [self.engine("--enable-scale-out"), self.engine("--enable-scale-out")]
        tool = {"name": "look", "description": "looks", "strict": True}
        schema = {"type": "object", "properties": {"at": {"type": "string"}, "far": {"type": "integer"}}}
        cases = {
            "/v1/responses": {
                "instructions": words(1, 150), "max_output_tokens": 9,
                "tools": [{"type": "function", **tool, "parameters": schema}],
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "a \"b\"\n"}]},
                          {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                          {"role": "assistant", "content": "let me see"},
                          {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"at\": \"é\"}"},
                          {"type": "function_call_output", "call_id": "c1", "output": "blue"},
                          {"role": "user", "content": "so?"}]},
            "/v1/messages": {
                "system": [{"type": "text", "text": words(2, 150)}, {"type": "text", "text": "x-anthropic-billing-header: 1"}],
                "max_tokens": 9, "tools": [{**tool, "input_schema": schema}],
                "messages": [{"role": "user", "content": "a \"b\"\n"},
                             {"role": "assistant", "content": [
                                 {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "see"},
                                 {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "é", "far": 2}}]},
                             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "blue"},
                                                          {"type": "text", "text": "so?"}]}]},
        }
        for path, body in cases.items():
            with self.subTest(path=path):
                gateway = self.gateway(engines)
                decision, events = self.turn_of(gateway, path, body)
                rendered = post(engines[0].address, path + "/render", body).json()
                self.assertEqual(decision["receipt"]["prompt_tokens"], len(rendered["token_ids"]))
                self.assertTrue(decision["receipt"]["exact"])
                self.assertGreater(decision["predicted_cached_tokens"], 100)
                self.assertEqual(decision["predicted_cached_tokens"], decision["reported_cached_tokens"])
                self.assertIn(events[-1], ("response.completed", "response.incomplete", "message_stop"))
                self.assertEqual(gateway.end(), 0, gateway.said())

    def test_counting_tokens_fills_no_books(self):
        gateway = self.gateway([self.engine()])
        body = {"messages": [{"role": "user", "content": words(1, 100)}]}
        answer = post(gateway.address, "/v1/messages/count_tokens", body)
        self.assertEqual(answer.status, 200, repr(answer))
        self.assertGreater(answer.json()["input_tokens"], 100)
        self.assertEqual(inexact(gateway, "counted_only"), 1)
        decision = gateway.decisions(1)[0]
        self.assertEqual(decision["receipt"]["chain_blocks"], 0)
        answer = post(gateway.address, "/v1/messages", {**body, "max_tokens": 2})
        self.assertEqual(answer.json()["usage"]["cache_read_input_tokens"], 0)
        self.assertEqual(gateway.finished(1)[0]["predicted_cached_tokens"], 0)

    def test_what_is_not_certain_is_matched_approximately_and_counted(self):
        gateway = self.gateway([self.engine(), self.engine()])
        user = {"role": "user", "content": words(1, 300)}
        seen = set()
        for _ in range(3):
            answer = post(gateway.address, "/v1/messages",
                          {"messages": [user, {"role": "system", "content": "now"}, {"role": "user", "content": "go"}],
                           "max_tokens": 2})
            self.assertEqual(answer.status, 200, repr(answer))
            decision = gateway.decisions(1)[0]
            self.assertEqual(decision["receipt"]["chain_blocks"], 0)
            seen.add(decision["engine"])
        self.assertEqual(len(seen), 1)
        self.assertEqual(inexact(gateway, "inline_system"), 3)

    def test_errors_have_each_apis_form(self):
        gateway = self.gateway([self.engine()])
        message = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        answer = request(gateway.address, "POST", "/v1/messages", {**message, "model": "nope"})
        self.assertEqual(answer.status, 404, repr(answer))
        self.assertEqual(answer.json()["type"], "error")
        self.assertEqual(answer.json()["error"]["type"], "not_found_error")
        answer = request(gateway.address, "GET", "/v1/messages")
        self.assertEqual((answer.status, answer.json()["error"]["type"]), (405, "invalid_request_error"))
        answer = post(gateway.address, "/v1/responses", {"input": "x", "background": True})
        self.assert_error(answer, 400, "background")
        self.assertEqual(answer.json()["error"]["param"], "background")
        answer = request(gateway.address, "POST", "/v1/messages", b'{"messages":[],"messages":[]}')
        self.assertEqual(answer.status, 400, repr(answer))
        self.assertIn("given twice", answer.json()["error"]["message"])
        answer = request(gateway.address, "POST", "/v2/messages", message)
        self.assert_error(answer, 404, "/v1/messages/count_tokens")

    def test_names_are_rewritten_in_every_body(self):
        gateway = self.gateway([self.engine("--enable-scale-out")], "--model", MODEL, "--alias", "nick")
        bodies = {"/v1/responses": {"input": "x", "max_output_tokens": 2},
                  "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2},
                  "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "x"}]},
                  "/v1/embeddings": {"input": "x"},
                  "/inference/v1/generate": {"token_ids": [5, 6], "sampling_params": {"max_tokens": 2}}}
        for path, body in bodies.items():
            answer = request(gateway.address, "POST", path, {**body, "model": "nick"})
            self.assertEqual(answer.status, 200, repr(answer))


if __name__ == "__main__":
    unittest.main(verbosity=2)
