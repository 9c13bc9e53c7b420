#!/usr/bin/env python3
"""The proof against a real vLLM: `./run test vllm`. See docs/benchmarks.md for what it measures and how.

Two real engines (vLLM's CPU build, a tiny model with dummy weights and a real tokenizer) behind `warmpath serve`: 300
sequential requests whose predicted cached tokens must be what the engines report; then the same engines behind each of
our policies and two peer routers. Standard library only. Exit status: 0 all bars met, 1 a bar was missed or something
broke, 2 usage, 130 Ctrl-C.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "integration")]

import install
import mirror
import plan
import report
import verdict
from processes import (BLOCK_TOKENS, MODEL_TOKENS_MAX, Child, Children, Failed, PeerRouter, VllmEngine, call, say,
                       wait_until)

RESET_AT, CRASH_AT, BACK_AT = 100, 180, 200  # requests of the proof before which something happens
OUR_ARMS = ("random", "load", "approximate", "precise", "least-work")
RUN_MINUTES_MAX = 90
FIRST_SEED = 101  # the policies were looked at with 1 to 4: those are for development


def options():
    parser = argparse.ArgumentParser(prog="./run test vllm", description="The proof against a real vLLM.")
    parser.add_argument("--quick", action="store_true", help="the sequential proof alone, without policies and peers")
    parser.add_argument("--compare", action="store_true", help="the comparison alone, without the proof")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="seeds of the comparison (default 4)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, metavar="N",
                        help=f"the first of them (default {FIRST_SEED}: no policy was chosen or tuned while looking at these)")
    parser.add_argument("--kv-blocks", type=int, default=224, metavar="N",
                        help=f"KV blocks of {BLOCK_TOKENS} tokens of each engine (default 224)")
    parser.add_argument("--arms", metavar="A,B", help="only these arms of the comparison")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    wanted = parser.parse_args()
    if wanted.quick and wanted.compare:
        parser.error("--quick leaves the comparison out, --compare the proof: both leave nothing")
    every = (*OUR_ARMS, *verdict.PEERS)
    wanted.arms = every if wanted.arms is None else tuple(wanted.arms.split(","))
    for arm in wanted.arms:
        if arm not in every:
            parser.error(f"there is no arm '{arm}'; there are: {', '.join(every)}")
    if not 1 <= wanted.seeds <= 100:
        parser.error("--seeds takes 1 to 100")
    if not 1 <= wanted.first_seed <= 1_000_000:
        parser.error("--first-seed takes 1 to 1000000")
    least = -(-MODEL_TOKENS_MAX // BLOCK_TOKENS) + 2
    if not least <= wanted.kv_blocks <= 20_000:
        parser.error(f"--kv-blocks takes {least} to 20000")
    return wanted


def model_folder(at):
    """A folder that vLLM and the gateway both take: the real tokenizer of Qwen3 beside the configuration of a tiny model."""
    fetched = subprocess.run([str(ROOT / "tools" / "fetch_tokenizers.sh"), "qwen3"], stdout=subprocess.PIPE, text=True,
                             check=False)
    if fetched.returncode != 0:
        raise Failed("the tokenizer of Qwen3 could not be fetched")
    source = os.path.join(fetched.stdout.strip().splitlines()[-1], "qwen3")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(source, name), os.path.join(at, name))
    with open(os.path.join(at, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936,
                   "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
                   "num_key_value_heads": 1, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-6,
                   "rope_theta": 1000000, "max_position_embeddings": 32768, "tie_word_embeddings": True,
                   "attention_bias": False, "bos_token_id": 151643, "eos_token_id": 151645, "torch_dtype": "bfloat16"},
                  file)
    return at


class Bench:
    """The engines and everything that runs on them; ended as a whole."""

    def __init__(self, wanted, cache, folder, log_folder):
        self.wanted, self.cache, self.folder, self.log_folder = wanted, cache, folder, log_folder
        self.children = Children()
        self.engines = []

    def python(self, part):
        return os.path.join(self.cache, part, "bin", "python")

    def start_engines(self):
        for number in range(2):
            engine = VllmEngine(number, self.python("engine"), self.folder, self.wanted.kv_blocks, self.log_folder)
            open(engine.log, "wb").close()  # a log of this run
            self.children.keep(engine)
            self.engines.append(engine)
            say(f"starting {engine.name}: {self.wanted.kv_blocks} blocks of {BLOCK_TOKENS} tokens, {engine.url}")
            engine.start()
            say(f"{engine.name}: ready after {engine.wait_ready():.0f} s")

    @contextlib.contextmanager
    def gateway(self, policy):
        import drive
        gateway = drive.Gateway(policy, self.engines, self.folder, self.log_folder)
        self.children.keep(gateway)
        try:
            gateway.wait_ready(len(self.engines))
            yield gateway
        finally:
            self.children.end(gateway)

    @contextlib.contextmanager
    def peer(self, name):
        router = PeerRouter(name, self.python("peers"), self.engines, self.log_folder)
        open(router.log, "wb").close()
        self.children.keep(router)
        router.start()
        try:
            router.wait_ready(self.engines)
            yield router
        finally:
            self.children.end(router)

    @contextlib.contextmanager
    def tap(self):
        """Listens to the engines' events meanwhile; gives a callable that reads what was heard."""
        heard = os.path.join(self.log_folder, "vllm-events.jsonl")
        open(heard, "wb").close()
        listener = Child("tap", [self.python("engine"), str(HERE / "tap.py"), heard,
                                 *(f"tcp://127.0.0.1:{engine.kv_port}" for engine in self.engines)],
                         os.path.join(self.log_folder, "vllm-tap.log"))
        self.children.keep(listener)
        listener.start()

        def read():
            with open(heard, encoding="utf-8") as lines:
                return mirror.Record(line for line in lines if line.endswith("\n"))
        try:
            wait_until("the tap listens", lambda: os.path.getsize(heard) > 0, 60, listener.check_alive)
            yield read
        finally:
            self.children.end(listener)

    def make_cold(self):
        for engine in self.engines:
            engine.make_cold()

    def counters(self):
        return [sum(column) for column in zip(*(engine.counters() for engine in self.engines))]

    # --- the proof

    def reset(self, engine):
        say(f"resetting the prefix cache of {engine.name}")
        engine.reset_cache()
        return "reset", engine.url

    def crash(self, engine):
        say(f"killing {engine.name} and starting it again at the same ports")
        engine.crash()
        engine.start()

    def come_back(self, engine, gateway):
        say(f"{engine.name}: ready again after {engine.wait_ready():.0f} s more")
        gateway.wait_ready(len(self.engines))
        return "restart", engine.url

    def sequential(self, policy, turns, with_incidents):
        """(ProofRun, hit ratio) of all turns, one by one, on cold engines."""
        import drive
        before = self.counters()
        with self.gateway(policy) as gateway:
            run = drive.ProofRun(gateway, f"proof-{policy}")
            first, second = self.engines
            run.run(turns, {RESET_AT: lambda: self.reset(first), CRASH_AT: lambda: self.crash(second),
                            BACK_AT: lambda: self.come_back(second, gateway)} if with_incidents else {})
        queries, hits = (now - then for now, then in zip(self.counters(), before))
        return run, hits / queries

    def prove(self):
        turns = plan.proof_plan(seed=1, requests=300)
        with self.tap() as record:
            self.make_cold()
            run, precise_ratio = self.sequential("precise", turns, with_incidents=True)
        proofs = run.proofs(record(), self.engines)
        for fault in run.unanswered[:5]:
            say(fault)
        summary = verdict.summarize(len(turns), len(run.sent), proofs)
        self.make_cold()
        _, random_ratio = self.sequential("random", turns, with_incidents=False)
        bodies = [plan.body(turn) for turn in turns]
        hits, queries, blocks = self.endless(bodies)
        return report.proof_section(summary, precise_ratio, random_ratio, hits / queries, blocks, self.wanted.kv_blocks,
                                    BLOCK_TOKENS), verdict.proof_faults(summary) + (
                                        [] if blocks > self.wanted.kv_blocks else
                                        [f"the prompts fill {blocks} blocks, no more than one engine's KV"])

    def endless(self, bodies):
        prompts = [(body.get("cache_salt", ""), self.engines[0].token_ids(body)) for body in bodies]
        return verdict.endless_hits(prompts, BLOCK_TOKENS)

    # --- the comparison

    def compare(self):
        import drive
        runs, bounds = [], {}
        for seed in range(self.wanted.first_seed, self.wanted.first_seed + self.wanted.seeds):
            turns = plan.arm_plan(seed)
            hits, queries, blocks = self.endless([plan.body(turn) for turn in turns])
            bounds[seed] = {"hit_ratio": hits / queries, "blocks": blocks}
            shift = seed % len(self.wanted.arms)  # no arm is always the first
            for arm in self.wanted.arms[shift:] + self.wanted.arms[:shift]:
                self.make_cold()
                with self.peer(arm) if arm in verdict.PEERS else self.gateway(arm) as router:
                    runs.append(drive.run_arm(arm, seed, router.address, turns, self.engines))
                say(f"seed {seed}, {arm}: hit ratio {runs[-1].hit_ratio:.3f} (bound {hits / queries:.3f}), "
                    f"p50 {runs[-1].latency_ms_p50:.0f} ms")
        order = [run for arm in self.wanted.arms for run in runs if run.arm == arm]
        return report.comparison_section(order, bounds, self.wanted.kv_blocks), verdict.comparison_faults(
            order, self.wanted.arms, self.wanted.seeds)


def run(wanted, log_folder):
    """The whole result: sections and faults."""
    began = time.monotonic()
    parts = ("engine",) if wanted.quick or not set(wanted.arms) & set(verdict.PEERS) else ("engine", "peers")
    cache = install.install(parts)
    installed = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="warmpath-vllm-") as folder:
        bench = Bench(wanted, cache, model_folder(folder), log_folder)
        try:
            bench.start_engines()
            status, answer = call(bench.engines[0].address, "GET", "/version")
            result = {"engine": f"vLLM {json.loads(answer)['version'] if status == 200 else install.VERSION}",
                      "binary": os.environ["WARMPATH_BINARY"], "faults": []}
            if not wanted.compare:
                result["proof"], faults = bench.prove()
                result["faults"] += faults
                for line in report.proof_lines(result["proof"]):  # the rest takes a while
                    say(line)
            if not wanted.quick:
                result["comparison"], faults = bench.compare()
                result["faults"] += faults
        finally:
            bench.children.end_all()
    result["seconds"] = {"install": round(installed - began), "all": round(time.monotonic() - began)}
    return result


def stop(number, _frame):
    raise SystemExit(128 + number)


def out_of_time(_number, _frame):
    raise Failed(f"not done within {RUN_MINUTES_MAX} minutes")


def main():
    wanted = options()
    if not os.access(os.environ.get("WARMPATH_BINARY", ""), os.X_OK):
        say("WARMPATH_BINARY names no binary; `./run test vllm` builds and names one")
        return 2
    os.environ.setdefault("WARMPATH_MODEL", str(ROOT / "data" / "demo_model"))  # read by the harness, not used here
    log_folder = str(ROOT / "build" / "log")
    os.makedirs(log_folder, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script puts into the background
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(60 * RUN_MINUTES_MAX)
    try:
        result = run(wanted, log_folder)
    except (Failed, install.Failed, AssertionError, OSError, http.client.HTTPException) as failure:
        say(f"{type(failure).__name__}: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    with open(os.path.join(log_folder, "vllm-result.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    print(json.dumps(result) if wanted.format == "json" else report.table(result))
    for fault in result["faults"]:
        say(f"FAILED: {fault}")
    say(f"{'failed' if result['faults'] else 'passed'} after {result['seconds']['all']} s "
        f"(install {result['seconds']['install']} s); logs: build/log/vllm-*.log, figures: build/log/vllm-result.json")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
