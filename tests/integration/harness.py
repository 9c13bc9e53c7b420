"""What the integration tests share: the real binary as processes on free ports, a small HTTP client, waiting.

Standard library only. The binary is WARMPATH_BINARY, the model folder WARMPATH_MODEL; sanitizer builds set
WARMPATH_DEADLINE_FACTOR to wait longer. Nothing here sleeps for a fixed time: tests wait for a line, an answer or a state,
and fail with what was seen instead when it does not come.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BINARY = os.environ["WARMPATH_BINARY"]
MODEL_FOLDER = os.environ["WARMPATH_MODEL"]
FACTOR = float(os.environ.get("WARMPATH_DEADLINE_FACTOR", "1"))
MODEL = "demo"
BLOCK = 16
SANITIZER_WORDS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:", "warmpath: bug:")


def seconds(base):
    """A deadline's length on this build."""
    return base * FACTOR


def poll(what, call, deadline=20):
    """Calls until it gives something true, and gives that; fails naming `what` and the last value."""
    end = time.monotonic() + seconds(deadline)
    pause = threading.Event()
    last = None
    while True:
        try:
            last = call()
            if last:
                return last
        except (OSError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds(deadline):.0f} s; last seen: {last!r}")
        pause.wait(0.02)


class Process:
    """One `warmpath …`; its output is kept line by line. Ends with the test that made it."""

    def __init__(self, *args):
        self.args = args
        self.out, self.err = [], []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [BINARY, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self._process.stdout, self.out), (self._process.stderr, self.err))]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe, lines):
        with pipe:
            for line in pipe:
                with self._news:
                    lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self):
        return self._process.pid

    def said(self):
        return "\n".join(["$ warmpath " + " ".join(self.args), *self.out, *self.err])

    def wait_line(self, lines, wanted, deadline=30):
        """The first value that `wanted(line)` gives."""
        end = time.monotonic() + seconds(deadline)
        at = 0
        with self._news:
            while True:
                while at < len(lines):
                    found = wanted(lines[at])
                    if found is not None:
                        return found
                    at += 1
                left = end - time.monotonic()
                if left <= 0 or (self._process.poll() is not None and not any(r.is_alive() for r in self._readers)):
                    raise AssertionError("the awaited line did not come from\n" + self.said())
                self._news.wait(min(left, 0.2))

    def signal(self, number):
        self._process.send_signal(number)

    def running(self):
        return self._process.poll() is None

    def wait(self, deadline=40):
        """Exit code once it has ended and all its output is read."""
        try:
            code = self._process.wait(seconds(deadline))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds(deadline):.0f} s:\n" + self.said()) from None
        for reader in self._readers:
            reader.join(seconds(deadline))
        return code

    def kill(self):
        """SIGKILL, and waits until it is gone."""
        if self.running():
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(seconds(10))

    def end(self):
        """SIGTERM; gives the exit code, 0 when all is well."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.wait()

    def complaints(self):
        return [line for line in self.err if any(word in line for word in SANITIZER_WORDS)]


class Engine(Process):
    """A simulated engine. `port` of an earlier one: at the same address."""

    def __init__(self, *more, port=0, speed=50, blocks=2000, model=MODEL):
        super().__init__("engine", "--listen", f"127.0.0.1:{port}", "--model", model, "--tokenizer", MODEL_FOLDER,
                         "--speed", str(speed), "--blocks", str(blocks), "--block-size", str(BLOCK), "--format", "json",
                         *more)
        self.ready = json.loads(self.wait_line(self.out, lambda line: line or None))
        self.address = self.ready["listening"]
        self.port = int(self.address.rsplit(":", 1)[1])
        self.url = "http://" + self.address

    def metric(self, name):
        """Sum of one family over its label sets."""
        return metric_sum(request(self.address, "GET", "/metrics").text, name)


class Gateway(Process):
    """`warmpath serve`; `address` is where clients go, `admin` where operators do."""

    def __init__(self, engines, *more, policy="precise", tokenizer=MODEL_FOLDER, ready=True,
                 health="50ms", listen="127.0.0.1:0"):
        args = ["serve", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--log-format", "json",
                "--scrape-interval", "50ms", "--health-interval", health, "--io-threads", "2", "--policy", policy]
        for engine in engines:
            args += ["--engine", engine if isinstance(engine, str) else engine.url]
        if tokenizer:
            args += ["--tokenizer", tokenizer]
        super().__init__(*args, *more)
        line = self.wait_event("serving")
        self.address = line["listen"].removeprefix("http://")
        self.admin = line["admin"].removeprefix("http://")
        if ready:
            self.wait_ready(len(engines))

    def wait_event(self, name, deadline=30, **members):
        def wanted(line):
            try:
                event = json.loads(line)
            except ValueError:
                return None
            if event.get("event") == name and all(event.get(k) == v for k, v in members.items()):
                return event
            return None
        return self.wait_line(self.err, wanted, deadline)

    def engines(self):
        pools = request(self.admin, "GET", "/engines").json()["pools"]
        return [engine for pool in pools for engine in pool["engines"]]

    def wait_ready(self, engines_up=1):
        """Ready, so many engines up, and in a precise pool the KV events of all of them followed."""
        def state():
            if request(self.admin, "GET", "/ready").status != 200:
                return None
            up = behind = 0
            for pool in request(self.admin, "GET", "/engines").json()["pools"]:
                for engine in pool["engines"]:
                    if engine["liveness"] != "up":
                        continue
                    up += 1
                    if pool["mode"] == "precise" and not (engine["has_events"] and engine["publisher"] == "exact"):
                        behind += 1
            return up >= engines_up and behind == 0
        try:
            poll("the gateway is ready", state, 30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{request(self.admin, 'GET', '/engines').text}\n{self.said()}") from None

    def wait_blocks(self, blocks):
        """Until the map holds at least so many blocks: the events of what was answered have arrived."""
        poll(f"{blocks} blocks in the map", lambda: sum(e["blocks_held"] for e in self.engines()) >= blocks)

    def decisions(self, limit=20):
        return request(self.admin, "GET", f"/decisions?limit={limit}").json()["decisions"]

    def finished(self, limit=20):
        """Decisions once all have their answers' usage: the client has it a moment before the brain."""
        def all_reported():
            decisions = self.decisions(limit)
            return decisions if all(d["reported_cached_tokens"] is not None for d in decisions) else None
        return poll("all decisions have their usage", all_reported)

    def metrics(self):
        return request(self.admin, "GET", "/metrics").text


def metric_sum(page, name):
    values = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
              if line.startswith(name) and line[len(name):len(name) + 1] in ("{", " ")]
    if not values:
        raise AssertionError(f"there is no metric {name}")
    return sum(values)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.text[:2000]}"


def connect(address):
    host, port = address.rsplit(":", 1)
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=seconds(60))


def request(address, method, path, body=None, headers=None):
    connection = connect(address)
    try:
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def chat_body(messages, **more):
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return {"model": MODEL, "messages": messages, "max_tokens": 8, "ignore_eos": True, **more}


def chat(address, messages, headers=None, **more):
    return request(address, "POST", "/v1/chat/completions", chat_body(messages, **more), headers)


class Stream:
    """A streamed chat: events one by one. hang_up() at any time."""

    def __init__(self, address, messages, **more):
        self._connection = connect(address)
        self._connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(messages, stream=True, **more)),
                                 {"Content-Type": "application/json"})
        self._socket = self._connection.sock  # the connection forgets it where the answer ends with it
        self.answer = self._connection.getresponse()
        self.status = self.answer.status

    def events(self):
        """Data of each event until the end; raises IncompleteRead where the connection broke."""
        while True:
            line = self.answer.readline()
            if not line:
                return
            if line.startswith(b"data: "):
                yield line[6:].strip().decode()

    def wait_chunks(self, count):
        """Reads so many events that carry text."""
        seen = 0
        for event in self.events():
            if event != "[DONE]" and text_of([event]):
                seen += 1
                if seen == count:
                    return
        raise AssertionError(f"the stream ended after {seen} chunks, not {count}")

    def hang_up(self):
        if self._socket.fileno() >= 0:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the gateway ended first
        self.answer.close()
        self._connection.close()
        self._socket.close()

    close = hang_up


def text_of(events):
    out = ""
    for event in events:
        if event != "[DONE]":
            for choice in json.loads(event).get("choices", []):
                out += choice["delta"].get("content") or ""
    return out


def words(seed, count):
    """Deterministic English of about `count` tokens that begins with its own words."""
    some = ("time year people way day man thing woman life child world school state family student group country problem "
            "hand part place case week company system program question work government number night point home water "
            "room mother area money story fact month lot right study book eye job word business issue side kind head "
            "house service friend father power hour game line end member law car city community name").split()
    at, out = seed * 7919 + 1, []
    for _ in range(count):
        at = (at * 1103515245 + 12345) % (1 << 31)
        out.append(some[(at >> 8) % len(some)])
    return " ".join(out)


class Case(unittest.TestCase):
    """Ends every process of a test; a sanitizer's complaint in any of them fails it."""

    def setUp(self):
        self._processes = []
        self._told = False

    def engine(self, *args, **more):
        return self._keep(lambda: Engine(*args, **more))

    def gateway(self, *args, **more):
        return self._keep(lambda: Gateway(*args, **more))

    def process(self, *args):
        return self._keep(lambda: Process(*args))

    def _keep(self, make):
        process = make()
        self._processes.append(process)
        return process

    def tearDown(self):
        # The gateway first: it would report engines that leave.
        for process in reversed(self._processes):
            if process.running():
                code = process.end()
                self.assertEqual(code, 0, f"it should end with 0:\n{process.said()[-6000:]}")
        for process in self._processes:
            self.assertEqual(process.complaints(), [], process.said()[-6000:])

    def folder(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return made.name

    def assert_error(self, answer, status, *inside):
        self.assertEqual(answer.status, status, repr(answer))
        error = answer.json()["error"]
        self.assertIsInstance(error["message"], str)
        self.assertEqual(error["code"] if isinstance(error["code"], int) else status, status)
        for text in inside:
            self.assertIn(text, error["message"])

