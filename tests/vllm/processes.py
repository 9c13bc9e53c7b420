"""Real engines, gateways and peer routers as processes on free ports of loopback, each with a log; all end with the driver.

Every child leads a process group of its own (vLLM has children too), ended with it in `Children.end_all`, and is told by
the kernel when the driver dies without having done so.
"""

import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import plan

BLOCK_TOKENS = 32  # the CPU build wants multiples of 32
MODEL_TOKENS_MAX = 4096
READY_SECONDS = 600
REQUEST_SECONDS = 180
EVENT_BUFFER_STEPS = 20_000
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """What went wrong outside of this driver; told to the user as it is."""


def say(text):
    print(f"vllm: {text}", file=sys.stderr, flush=True)


def free_ports(count):
    """Ports that were free a moment ago: all held together until the last is known, so they differ."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def call(address, method, path, payload=None, headers=None, timeout=REQUEST_SECONDS):
    """(status, body bytes)."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        encoded = None if payload is None else json.dumps(payload).encode()
        connection.request(method, path, encoded, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until(what, asked, deadline, alive=None, every=0.25, progress=15):
    """Asks until it gives something true. Fails when `alive` says that waiting is vain, or at the deadline."""
    began = told = time.monotonic()
    pause = threading.Event()
    while True:
        try:
            found = asked()
        except (OSError, http.client.HTTPException):
            found = None
        if found:
            return found
        now = time.monotonic()
        if alive is not None:
            alive()
        if now - began > deadline:
            raise Failed(f"{what}: not within {deadline:.0f} s")
        if now - told >= progress:
            told = now
            say(f"{what}: {now - began:.0f} s so far")
        pause.wait(every)


class Child:
    def __init__(self, name, command, log, environment=None):
        self.name, self.command, self.log = name, command, log
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def start(self):
        libc = ctypes.CDLL(None)
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                start_new_session=True, preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM))

    def check_alive(self):
        if self.process.poll() is None:
            return
        with open(self.log, encoding="utf-8", errors="replace") as log:
            print("".join(log.readlines()[-20:]), file=sys.stderr)
        raise Failed(f"{self.name} ended with {self.process.returncode}; all of it: {self.log}")

    def signal_group(self, number):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self):
        """SIGKILL to the whole group; waits for the leader."""
        if self.process is not None:
            self.signal_group(signal.SIGKILL)
            self.process.wait()

    def end(self, patience=15):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.kill()


class Children:
    """What has to be ended, newest first; also without Child: anything with end()."""

    def __init__(self):
        self.kept = []

    def keep(self, child):
        self.kept.append(child)
        return child

    def end(self, child):
        if child in self.kept:
            self.kept.remove(child)
        child.end()

    def end_all(self):
        while self.kept:
            with contextlib.suppress(Exception):  # the others still have to end
                self.kept.pop().end()


def prefix_counters(page):
    """(queries, hits) in tokens, from an engine's metrics page."""
    totals = {"vllm:prefix_cache_queries_total": 0.0, "vllm:prefix_cache_hits_total": 0.0}
    seen = set()
    for line in page.splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in totals:
            totals[name] += float(line.rsplit(" ", 1)[1])
            seen.add(name)
    if len(seen) != len(totals):
        raise Failed(f"an engine's metrics lack {', '.join(sorted(set(totals) - seen))}")
    return tuple(totals.values())


class VllmEngine(Child):
    """A real vLLM on a tiny model with dummy weights."""

    def __init__(self, number, python, model_folder, kv_blocks, log_folder):
        self.port, self.kv_port, self.replay_port = free_ports(3)
        self.address = f"127.0.0.1:{self.port}"
        self.url = "http://" + self.address
        self.kv_blocks = kv_blocks
        self.gone = (0.0, 0.0)  # counters of processes that were killed
        # vLLM's own default topic, the empty one: vllm-router 0.1.17 drops the batches of any other without a word.
        events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://*:{self.kv_port}",
                  "replay_endpoint": f"tcp://*:{self.replay_port}", "topic": "",
                  "buffer_steps": EVENT_BUFFER_STEPS}
        command = [
            python, "-m", "vllm.entrypoints.cli.main", "serve", model_folder, "--host", "127.0.0.1", "--port",
            str(self.port), "--served-model-name", plan.MODEL, "--load-format", "dummy", "--dtype", "bfloat16",
            "--enforce-eager", "--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(kv_blocks),
            "--max-model-len", str(MODEL_TOKENS_MAX), "--max-num-seqs", "16", "--enable-prefix-caching",
            "--prefix-caching-hash-algo", "sha256_cbor", "--enable-prompt-tokens-details", "--enable-scale-out",
            "--kv-events-config", json.dumps(events)]
        environment = {
            "PYTHONHASHSEED": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
            "VLLM_SERVER_DEV_MODE": "1", "TOKENIZERS_PARALLELISM": "false"}
        super().__init__(f"engine {number}", command, os.path.join(log_folder, f"vllm-engine-{number}.log"), environment)

    def wait_ready(self):
        began = time.monotonic()
        wait_until(f"{self.name} is getting ready", lambda: call(self.address, "GET", "/health", timeout=5)[0] == 200,
                   READY_SECONDS, self.check_alive)
        return time.monotonic() - began

    def counters(self):
        status, page = call(self.address, "GET", "/metrics")
        if status != 200:
            raise Failed(f"{self.name}: /metrics answered {status}")
        queries, hits = prefix_counters(page.decode())
        return queries + self.gone[0], hits + self.gone[1]

    def crash(self):
        """SIGKILL; what it had counted stays counted."""
        self.gone = self.counters()
        self.kill()

    def reset_cache(self):
        status, answer = call(self.address, "POST", "/reset_prefix_cache")
        if status != 200:
            raise Failed(f"{self.name}: /reset_prefix_cache answered {status}: {answer[:200]!r}")

    def chat(self, payload):
        status, answer = call(self.address, "POST", "/v1/chat/completions", payload)
        if status != 200:
            raise Failed(f"{self.name} answered {status}: {answer[:300]!r}")
        return json.loads(answer)

    def make_cold(self):
        """Empties the cache and proves it: a prompt that was cached a moment ago finds nothing. Its two blocks are all
        that is held then, and the engine has announced the clear (it does so with its next step only)."""
        probe = {"model": plan.MODEL, "max_tokens": 1, "temperature": 0,
                 "messages": [{"role": "user", "content": "cold or warm? " * 20}]}
        self.chat(probe)
        if cached_tokens(self.chat(probe)["usage"]) == 0:
            raise Failed(f"{self.name}: a prompt asked twice was not cached; is prefix caching on?")
        self.reset_cache()
        if cached_tokens(self.chat(probe)["usage"]) != 0:
            raise Failed(f"{self.name}: still warm after /reset_prefix_cache")

    def token_ids(self, payload):
        """Of a chat, as the engine itself renders and encodes it."""
        asked = {"model": plan.MODEL, "messages": payload["messages"], "add_generation_prompt": True}
        if "chat_template_kwargs" in payload:
            asked["chat_template_kwargs"] = payload["chat_template_kwargs"]
        status, answer = call(self.address, "POST", "/tokenize", asked)
        if status != 200:
            raise Failed(f"{self.name}: /tokenize answered {status}: {answer[:300]!r}")
        return json.loads(answer)["tokens"]


def cached_tokens(usage):
    """None where the engine did not tell. vLLM leaves the details out of nothing but says 0."""
    return (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def kv_aware_options(engines):
    """vllm-router 0.1.17 does not find the events of engines behind plain HTTP by itself ("cannot index", and then it
    balances blindly): it is told. Without a replay: nothing that was said before an arm is of use, caches are cold."""
    options = ["--policy", "kv_aware", "--kv-event-block-size", str(BLOCK_TOKENS), "--kv-event-model", plan.MODEL]
    for engine in engines:
        options += ["--kv-event-source", f"{engine.url}=tcp://127.0.0.1:{engine.kv_port}"]
    return options


class PeerRouter(Child):
    """Another router in front of the same engines."""

    MODULES = {"vllm-router kv_aware": ("vllm_router.launch_router", kv_aware_options),
               "smg cache_aware": ("smg.launch_router", lambda engines: ["--policy", "cache_aware"])}
    BLIND = "cannot index"  # in the log of one that runs without its map: that would be no comparison

    def __init__(self, name, python, engines, log_folder):
        port, metrics_port = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        module, options = self.MODULES[name]
        command = [python, "-m", module, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port",
                   str(metrics_port), "--worker-urls", *(engine.url for engine in engines), *options(engines)]
        environment = {"PYTHONHASHSEED": "0"}
        super().__init__(name, command, os.path.join(log_folder, f"vllm-peer-{name.replace(' ', '-')}.log"), environment)

    def ready(self, engines):
        """All engines known, where it lists them; and it answers."""
        status, answer = call(self.address, "GET", "/workers", timeout=5)
        if status == 200:
            with contextlib.suppress(ValueError, AttributeError):
                listed = json.loads(answer).get("workers", [])
                if sum(bool(one.get("is_healthy", True)) for one in listed) < len(engines):
                    return False
        return call(self.address, "GET", "/v1/models", timeout=5)[0] == 200

    def wait_ready(self, engines):
        wait_until(f"{self.name} is getting ready", lambda: self.ready(engines), 120, self.check_alive)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            if self.BLIND in log.read():
                raise Failed(f"{self.name} does not follow the engines' KV events: {self.log}")
