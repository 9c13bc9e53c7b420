"""Engines behind https: the authority that is named is trusted, others are not, and what is wrong is said."""

import os
import select
import socket
import ssl
import subprocess
import threading
import unittest

from harness import Case, chat, words


class TlsFront:
    """Ends TLS in front of an engine, byte for byte."""

    def __init__(self, folder, engine_address):
        self.certificate, key = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", self.certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        host, port = engine_address.rsplit(":", 1)
        self.engine = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(plain,), daemon=True).start()

    def _relay(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as client, \
                    socket.create_connection(self.engine) as engine:
                # One thread: a TLS connection is not read and written at once by two.
                while True:
                    ready = [client] if client.pending() else select.select([client, engine], [], [])[0]
                    for source in ready:
                        data = source.recv(65536)
                        if not data:
                            return
                        (engine if source is client else client).sendall(data)
        except (OSError, ssl.SSLError):
            plain.close()

    def close(self):
        self.listener.close()


class HttpsEngines(Case):
    def front(self):
        front = TlsFront(self.folder(), self.engine().address)
        self.addCleanup(front.close)
        return front

    def test_an_engine_with_a_named_authority_serves_and_is_followed(self):
        front = self.front()
        for host in ("localhost", "127.0.0.1"):
            with self.subTest(host=host):
                gateway = self.gateway([], "--engine", f"https://{host}:{front.port},ca={front.certificate}", ready=False)
                gateway.wait_ready(1)
                self.assertEqual(chat(gateway.address, words(1, 100)).status, 200)
                gateway.wait_blocks(6)
                answer = chat(gateway.address, words(1, 100))
                self.assertGreater(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 80)
                gateway.end()

    def test_an_unknown_authority_is_refused_with_the_remedy(self):
        front = self.front()
        gateway = self.gateway([], "--engine", f"https://localhost:{front.port}", ready=False)
        event = gateway.wait_event("engine", liveness="down")
        self.assertIn("certificate", event["why"])
        self.assertIn("ca=", event["why"])
        self.assertEqual(chat(gateway.address, "hello").status, 503)

    def test_plain_http_at_a_tls_port_is_an_engine_that_is_down(self):
        front = self.front()
        gateway = self.gateway([], "--engine", f"http://localhost:{front.port}", ready=False)
        gateway.wait_event("engine", liveness="down")
        self.assertEqual(chat(gateway.address, "hello").status, 503)


if __name__ == "__main__":
    unittest.main()
