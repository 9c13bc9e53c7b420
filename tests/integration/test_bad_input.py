"""Whatever a client or an operator gets wrong is answered with what is wrong where."""

import json
import os
import socket
import unittest

from harness import MODEL, MODEL_FOLDER, Case, chat, chat_body, connect, poll, request, seconds, words

CHAT = "/v1/chat/completions"


class BadRequests(Case):
    def post(self, body, path=CHAT):
        return request(self.gateway_.address, "POST", path, body)

    def setUp(self):
        super().setUp()
        self.gateway_ = self.gateway([self.engine()], "--body-bytes-max", "100KiB")

    def tearDown(self):
        # Whatever was sent, it still serves.
        self.assertEqual(chat(self.gateway_.address, "hello").status, 200)
        super().tearDown()

    def test_malformed_bodies_are_refused_with_a_place(self):
        whole = json.dumps(chat_body("hello"))
        for body, said in ((b"", ""), (b"{", ""), (whole[:-1].encode(), ""), (b"[]", "object"), (b"null", "object"),
                           (whole.encode() + b"x", ""), (b'{"model": "demo", "messages": [{]}', "byte 32"),
                           (b'{"model": 5, "messages": []}', "model"),
                           (b'{"model": "demo"}', "messages"),
                           (b'{"model": "demo", "messages": "hello"}', "messages"),
                           (b'{"model": "demo", "messages": [{"content": "hello"}]}', "role"),
                           (b'{"model": "demo", "messages": [{"role": "user", "content": 7}]}', "content"),
                           (b"[" * 5000 + b"]" * 5000, "")):
            with self.subTest(body=body[:60]):
                self.assert_error(self.post(body), 400, said)

    def test_duplicate_keys_are_refused(self):
        for key in ("model", "stream", "messages", "cache_salt"):
            with self.subTest(key=key):
                fields = {"model": '"demo"', "stream": "false", "messages": '[{"role":"user","content":"hi"}]',
                          "cache_salt": '"s"'}
                body = "{" + ",".join(f'"{k}":{v}' for k, v in fields.items()) + f',"{key}":{fields[key]}' + "}"
                self.assert_error(self.post(body.encode()), 400, key)

    def test_invalid_unicode_is_refused(self):
        good = json.dumps(chat_body("@@"), ensure_ascii=False).encode()
        for bad in (b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xc0\xaf", b"\\ud800", b"\\udc00 \\ud800", b"a\x00b"):
            with self.subTest(bad=bad):
                self.assert_error(self.post(good.replace(b"@@", bad)), 400)
        answer = self.post(good.replace(b"@@", "\\ud83d\\ude00 \u00e9 \U0001F600".encode()))
        self.assertEqual(answer.status, 200, repr(answer))

    def test_unknown_models_paths_and_methods(self):
        self.assert_error(chat(self.gateway_.address, "hello", model="nope"), 404, "nope", MODEL)
        self.assert_error(request(self.gateway_.address, "GET", "/v2/anything"), 404, CHAT)
        self.assert_error(request(self.gateway_.address, "POST", "/v1/chat/completions/../models", {}), 404)
        for method, path in (("GET", CHAT), ("DELETE", "/v1/models"), ("PUT", "/health")):
            with self.subTest(method=method):
                answer = request(self.gateway_.address, method, path)
                self.assert_error(answer, 405)
                self.assertTrue(answer.headers["allow"])
        for path in ("/metrics", "/engines", "/decisions", "/reset_prefix_cache", "/v1/load_lora_adapter"):
            self.assertEqual(request(self.gateway_.address, "GET", path).status, 404, path)

    def test_what_is_too_large(self):
        self.assert_error(chat(self.gateway_.address, "x" * 120_000), 413)
        # Declared too large: answered before the body is sent. Chunked: as soon as it is too much.
        connection = connect(self.gateway_.address)
        connection.putrequest("POST", CHAT)
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        self.assertEqual(connection.getresponse().status, 413)
        connection.close()
        host, port = self.gateway_.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=seconds(30)) as sock:
            sock.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                         + (b"8000\r\n" + b"y" * 0x8000 + b"\r\n") * 4)
            self.assertTrue(sock.recv(65536).startswith(b"HTTP/1.1 413"))
        head = connect(self.gateway_.address)
        head.request("GET", "/health", headers={"X-Large": "z" * 40_000})
        self.assertEqual(head.getresponse().status, 431)
        head.close()

    def test_what_is_no_http(self):
        for raw in (b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                    b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n"):
            with self.subTest(raw=raw[:40]):
                host, port = self.gateway_.address.rsplit(":", 1)
                with socket.create_connection((host, int(port)), timeout=seconds(30)) as sock:
                    sock.sendall(raw)
                    answer = b""
                    while part := sock.recv(65536):  # and the connection is closed
                        answer += part
                self.assertTrue(answer.startswith(b"HTTP/1.1 400"), answer[:200])
                self.assertIn("error", json.loads(answer.split(b"\r\n\r\n", 1)[1]))

    def test_what_the_engine_refuses_reaches_the_client_as_it_is(self):
        for more in ({"max_tokens": -1}, {"cache_salt": ""}, {"max_tokens": 1 << 40}):
            with self.subTest(more=more):
                self.assert_error(chat(self.gateway_.address, "hello", **more), 400)
        self.assertEqual(self.gateway_.running(), True)


class NoEngine(Case):
    def test_503_with_retry_after_while_no_engine_is_there(self):
        engine = self.engine()
        engine.kill()
        gateway = self.gateway([engine], ready=False)
        answer = chat(gateway.address, "hello")
        self.assert_error(answer, 503)
        self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
        ready = request(gateway.admin, "GET", "/ready")
        self.assertEqual(ready.status, 503)
        self.assertIn(engine.address, ready.text)
        self.assertEqual(request(gateway.address, "GET", "/health").status, 200)


class BadStarts(Case):
    def start(self, *args):
        process = self.process(*args)
        return process.wait(), "\n".join(process.err)

    def test_a_taken_port_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            engine = ("--engine", "http://127.0.0.1:1", "--policy", "load")
            code, said = self.start("serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", "127.0.0.1:0", *engine)
            self.assertEqual(code, 1, said)
            self.assertIn("--listen", said)
            self.assertIn(f"127.0.0.1:{port}", said)
            code, said = self.start("serve", "--listen", "127.0.0.1:0", "--admin-listen", f"127.0.0.1:{port}", *engine)
            self.assertEqual(code, 1, said)
            self.assertIn("--admin-listen", said)
            code, said = self.start("engine", "--listen", f"127.0.0.1:{port}", "--model", MODEL, "--tokenizer",
                                    MODEL_FOLDER)
            self.assertEqual(code, 1, said)
            self.assertIn(f"127.0.0.1:{port}", said)

    def test_a_bad_config_tells_every_fault_at_once(self):
        path = os.path.join(self.folder(), "gateway.yaml")
        with open(path, "w", encoding="utf-8") as out:
            out.write("listne: 127.0.0.1:0\ndrain: soon\npools:\n  - policy: precice\n    engines:\n      - ftp://x\n")
        for args in (("serve", "--config", path), ("config", "check", path)):
            process = self.process(*args)
            code = process.wait()
            said = "\n".join(process.err + process.out)
            self.assertEqual(code, 2, said)
            for inside in (f"{path}:1", "listen", f"{path}:2", "drain", f"{path}:4", "precise", f"{path}:6"):
                self.assertIn(inside, said)
            self.assertNotIn("AddressSanitizer", said)

    def test_files_that_a_config_names_are_among_its_faults(self):
        folder = self.folder()
        path, short, text = (os.path.join(folder, name) for name in ("gateway.yaml", "short", "text.pem"))
        for name, content in ((short, "too short\n"), (text, "no certificate\n"), (path, f"""pools:
  - model: a
    tokenizer: /no/such/folder
    secret_file: {short}
    engines: ["http://127.0.0.1:0"]
  - model: b
    tokenizer: {folder}
    secret_file: /no/such/secret
    engines: ["https://localhost:1,ca={text}"]
""")):
            with open(name, "w", encoding="utf-8") as out:
                out.write(content)
        for args in (("serve", "--config", path), ("config", "check", path)):
            process = self.process(*args)
            code = process.wait()
            said = "\n".join(process.err + process.out)
            self.assertEqual(code, 2, said)
            for inside in (f"{path}:3: pools[0].tokenizer: /no/such/folder: no such folder",
                           f"{path}:4: pools[0].secret_file: {short}: at least 16 characters", f"{path}:5: pools[0].engines",
                           f"{path}:7: pools[1].tokenizer: {folder}/tokenizer.json: no such file",
                           f"{path}:8: pools[1].secret_file: /no/such/secret: no such file",
                           f"{path}:9: pools[1].engines[0].ca: {text}: no PEM certificate"):
                self.assertIn(inside, said)
            self.assertNotIn("too short", said)

    def test_bad_flags(self):
        for args, inside in ((("serve",), "engine"), (("serve", "--engine", "nonsense"), "nonsense"),
                             (("serve", "--engine", "http://a:1", "--polcy", "load"), "--policy"),
                             (("serve", "--config", "/no/such/file.yaml"), "/no/such/file.yaml"),
                             (("serv",), "serve"), (("engine", "--model", "m"), "--tokenizer")):
            with self.subTest(args=args):
                code, said = self.start(*args)
                self.assertEqual(code, 2, said)
                self.assertIn(inside, said)

    def test_a_folder_that_is_no_tokenizer(self):
        empty = self.folder()
        broken = self.folder()
        with open(os.path.join(broken, "tokenizer.json"), "w", encoding="utf-8") as out:
            out.write('{"version": "1.0"')
        for folder in (empty, broken, "/no/such/folder"):
            for command in (("serve", "--engine", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin-listen",
                             "127.0.0.1:0"), ("engine", "--listen", "127.0.0.1:0", "--model", MODEL)):
                with self.subTest(folder=folder, command=command[0]):
                    code, said = self.start(*command, "--tokenizer", folder)
                    self.assertNotIn(code, (0, -6, -11), said)
                    self.assertIn(folder, said)


class LateEngine(Case):
    def test_engines_that_are_down_at_the_start_are_waited_for(self):
        first, second = self.engine(), self.engine()
        first.kill()
        second.kill()
        gateway = self.gateway([first, second], ready=False)
        self.assertEqual(chat(gateway.address, "hello").status, 503)
        self.engine(port=first.port)
        gateway.wait_ready(1)
        self.assertEqual(chat(gateway.address, words(1, 50)).status, 200)
        self.engine(port=second.port)
        gateway.wait_ready(2)
        poll("both serve", lambda: chat(gateway.address, words(2, 50)).status == 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
