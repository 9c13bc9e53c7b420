"""Pools whose prompts cannot be computed here: said at start, asked of the engines, counted where they do not tell."""

import http.server
import json
import os
import threading
import unittest

from harness import MODEL_FOLDER, Case, chat, metric_sum, poll, request, words


class Teller(http.server.BaseHTTPRequestHandler):
    """An engine that chats and tells no ids."""

    def do_GET(self):
        if self.path == "/v1/models":
            return self.answer(200, {"object": "list", "data": [{"id": "demo", "object": "model", "max_model_len": 4096}]})
        return self.answer(200 if self.path == "/health" else 404, {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            return self.answer(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
                                     "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
        return self.answer(500, {"error": {"message": "no"}})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Ask(Case):
    def two_turns(self, gateway, engine):
        """Of the second: predicted and reported cached tokens."""
        messages = [{"role": "system", "content": words(1, 200)}, {"role": "user", "content": "tell a story"}]
        for _ in range(2):
            self.assertEqual(chat(gateway.address, messages).status, 200)
            poll("the blocks are in the map", lambda: sum(e["blocks_held"] for e in gateway.engines()) > 5)
        decision = gateway.finished()[0]
        return decision["predicted_cached_tokens"], decision["reported_cached_tokens"]

    def test_where_the_tokenizer_was_rebuilt_asking_makes_hits_exact(self):
        for more, path in ((("--enable-scale-out",), "/render"), ((), "/tokenize")):
            engine = self.engine("--fault", "rebuilt-tokenizer", *more)
            blind = self.gateway([engine])
            predicted, reported = self.two_turns(blind, engine)
            self.assertNotEqual(predicted, reported, f"{path}: our ids are not the engine's")
            asking = self.gateway([engine], "--ask-engine", "always")
            predicted, reported = self.two_turns(asking, engine)
            self.assertEqual(predicted, reported, path)
            self.assertGreater(reported, 100)
            page = asking.metrics()
            self.assertIn('warmpath_ids_asked_total{outcome="told",pool="', page)
            self.assertEqual(metric_sum(page, "warmpath_ids_asked_total"), 2)
            self.assertIn("engines are asked for ids", request(asking.admin, "GET", "/engines").text)

    def test_a_pool_without_a_tokenizer_is_exact_by_its_engines(self):
        engine = self.engine()
        gateway = self.gateway([engine], "--ask-engine", "when-inexact", tokenizer=None)
        predicted, reported = self.two_turns(gateway, engine)
        self.assertEqual(predicted, reported)
        self.assertGreater(reported, 100)

    def test_what_is_not_told_is_counted_and_said(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Teller)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            gateway = self.gateway([f"http://127.0.0.1:{server.server_address[1]}"], "--ask-engine", "always",
                                   ready=False)
            poll("the gateway is ready", lambda: request(gateway.admin, "GET", "/ready").status == 200)
            self.assertEqual(chat(gateway.address, "hello").status, 200)
            warned = gateway.wait_event("ids_not_told")
            self.assertEqual(warned["prompts"], 1)
            self.assertIn("error 1", warned["why"])
            self.assertIn("approximate for 1 prompts (error 1)", request(gateway.admin, "GET", "/engines").text)
            self.assertIn('chain="ask_error"', gateway.metrics())
            self.assertEqual(gateway.end(), 0)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def test_models_rendered_in_code_are_said_at_start(self):
        folder = self.folder()
        for name in os.listdir(MODEL_FOLDER):
            with open(os.path.join(MODEL_FOLDER, name), "rb") as file, open(os.path.join(folder, name), "wb") as copy:
                copy.write(file.read())
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"model_type": "gpt_oss", "vision_config": {"hidden_size": 1}}, file)
        gateway = self.gateway([self.engine()], tokenizer=folder)
        for said in ("gpt_oss", "images"):
            gateway.wait_line(gateway.err, lambda line: True if "prompts_inexact" in line and said in line else None)


if __name__ == "__main__":
    unittest.main()
