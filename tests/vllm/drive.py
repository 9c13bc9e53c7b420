"""Sends the plans: the proof one request after the other, an arm a few at a time."""

import contextlib
import http.client
import json
import os
import threading
import time

import plan
import verdict
from processes import BLOCK_TOKENS, REQUEST_SECONDS, Failed, call, cached_tokens, say

import harness  # tests/integration; prove.py sets the path and what it reads from the environment

CONCURRENT = 3


class Gateway(harness.Gateway):
    """`warmpath serve` as a user starts it: the defaults, two engines, a policy."""

    def __init__(self, policy, engines, model_folder, log_folder):
        args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json",
                "--tokenizer", model_folder, "--policy", policy, "--model", plan.MODEL]
        for engine in engines:
            args += ["--engine", engine.url]
        harness.Process.__init__(self, *args)
        self.log = os.path.join(log_folder, f"vllm-gateway-{policy}.log")
        line = self.wait_event("serving")
        self.address = line["listen"].removeprefix("http://")
        self.admin = line["admin"].removeprefix("http://")

    def end(self):
        try:
            return super().end()
        except AssertionError:
            self.kill()
            raise
        finally:
            with open(self.log, "w", encoding="utf-8") as log:
                log.write(self.said() + "\n")

    def requests_logged(self):
        """{x-request-id: access log line}; all of them once the process has ended."""
        found = {}
        for line in self.err:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "request":
                    found[event["id"]] = event
        return found


def answer_of(address, body, request_id):
    """(text, usage) of one chat, streamed or not. Raises Failed with what came instead."""
    if not body.get("stream"):
        status, raw = call(address, "POST", "/v1/chat/completions", body, {"x-request-id": request_id})
        if status != 200:
            raise Failed(f"status {status}: {raw[:300]!r}")
        answer = json.loads(raw)
        return answer["choices"][0]["message"].get("content") or "", answer["usage"]
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=REQUEST_SECONDS)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(),
                           {"Content-Type": "application/json", "x-request-id": request_id})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failed(f"status {answer.status}: {answer.read()[:300]!r}")
        text, usage, done = "", None, False
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            if line[6:].strip() == b"[DONE]":
                done = True
                continue
            chunk = json.loads(line[6:])
            text += "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", []))
            usage = chunk.get("usage") or usage
        if not done or usage is None:
            raise Failed("a stream ended without " + ("usage" if done else "[DONE]"))
        return text, usage
    finally:
        connection.close()


class ProofRun:
    """Requests one by one; what happened to the engines meanwhile; afterwards the proofs."""

    def __init__(self, gateway, name):
        self.gateway, self.name = gateway, name
        self.sent = []  # (number, request id, body, began, usage)
        self.incidents = []  # (number of the next request, "reset" | "restart", engine url)
        self.unanswered = []

    def send(self, number, turn, answers):
        request_id = f"{self.name}-{number}"
        body = plan.body(turn, answers)
        began = time.monotonic()
        try:
            text, usage = answer_of(self.gateway.address, body, request_id)
        except (Failed, OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.unanswered.append(f"request {number}: {type(error).__name__}: {error}")
            answers.append(turn.conversation.answers[turn.turn])  # the conversation goes on
            return
        answers.append(text)
        self.sent.append((number, request_id, body, began, usage))

    def run(self, turns, incidents):
        """`incidents`: {number of the request before which: callable giving (kind, engine url) or None}."""
        answers = {}
        for number, turn in enumerate(turns):
            if number in incidents:
                happened = incidents[number]()
                if happened:
                    self.incidents.append((number, *happened))
            self.send(number, turn, answers.setdefault(turn.conversation.number, []))
            if (number + 1) % 50 == 0:
                say(f"{self.name}: {number + 1} of {len(turns)} requests")

    def proofs(self, record, engines):
        """After the gateway has ended: its log is whole then. `record`: what the engines announced, a mirror.Record."""
        logged = self.gateway.requests_logged()
        numbers = {engine.url: number for number, engine in enumerate(engines)}
        proofs, served = [], {}
        for number, request_id, body, began, usage in self.sent:
            line = logged.get(request_id)
            if line is None:
                continue  # counted by the verdict as an answer without a proof
            engine = line["engine"].split("#")[0]
            for at, kind, where in list(self.incidents):
                if at <= number:
                    self.incidents.remove((at, kind, where))
                    served[kind, where] = 0
            proof = verdict.Proof(
                number=number, engine=engine, exact=line["exact"], attempts=line["attempts"],
                prompt_tokens=line["prompt_tokens"], engine_prompt_tokens=usage["prompt_tokens"],
                predicted=line["matched_tokens"], reported=cached_tokens(usage) or 0,
                served_since_reset=served.get(("reset", engine)), served_since_restart=served.get(("restart", engine)))
            if not proof.equal:
                ids = engines[0].token_ids(body)
                proof.announced, proof.announced_before = (
                    record.mirror(numbers[engine], until).cached_tokens(body.get("cache_salt", ""), ids, BLOCK_TOKENS)
                    for until in (began, began - verdict.EVENT_DELAY_S))
            proofs.append(proof)
            for key in served:
                if key[1] == engine:
                    served[key] += 1
        return proofs


def run_arm(name, seed, address, turns, engines):
    """The turns in order, CONCURRENT at a time; a conversation's next turn waits for its last."""
    before = [engine.counters() for engine in engines]
    done = {(turn.conversation.number, turn.turn): threading.Event() for turn in turns}
    order, taking = iter(enumerate(turns)), threading.Lock()
    latencies, faults = [], []

    def work():
        while True:
            with taking:
                number, turn = next(order, (None, None))
            if turn is None:
                return
            if turn.turn > 0 and not done[turn.conversation.number, turn.turn - 1].wait(REQUEST_SECONDS):
                faults.append(f"request {number}: the turn before it did not end")
                continue
            began = time.monotonic()
            try:
                answer_of(address, plan.body(turn), f"{name}-{seed}-{number}".replace(" ", "-"))
                latencies.append(1000 * (time.monotonic() - began))
            except (Failed, OSError, http.client.HTTPException, ValueError, KeyError) as error:
                faults.append(f"request {number}: {type(error).__name__}: {error}")
            finally:
                done[turn.conversation.number, turn.turn].set()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(CONCURRENT)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for fault in faults[:3]:
        say(f"{name}, seed {seed}: {fault}")
    after = [engine.counters() for engine in engines]
    queries = sum(now[0] - then[0] for now, then in zip(after, before))
    hits = sum(now[1] - then[1] for now, then in zip(after, before))
    return verdict.ArmRun(arm=name, seed=seed, requests=len(turns), failed=len(faults),
                          hit_ratio=hits / queries if queries else 0.0,
                          latency_ms_p50=verdict.percentile(latencies, 0.5),
                          latency_ms_p90=verdict.percentile(latencies, 0.9), queries=queries)
