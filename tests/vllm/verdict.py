"""What the figures mean: pure functions, tested without an engine (test_verdict.py)."""

import dataclasses
import math
import statistics

EQUAL_SHARE_MIN = 0.99
HIT_RATIO_SLACK = 0.01
# Policies that the claim against the peers may rest on: those that use what engines cache.
OUR_CACHE_POLICIES = ("precise", "least-work", "approximate")
PEERS = ("vllm-router kv_aware", "smg cache_aware")
# So late may the gateway's map be behind what the engine has announced.
EVENT_DELAY_S = 0.25


@dataclasses.dataclass
class Proof:
    """One sequential request: what the gateway predicted, what the engine reported, what had happened before."""
    number: int
    engine: str
    exact: bool  # the prediction rests on the engine's KV events
    attempts: int
    prompt_tokens: int  # by the gateway's tokenizer
    engine_prompt_tokens: int
    predicted: int  # cached tokens
    reported: int
    served_since_reset: int | None = None  # requests that the engine served since its cache was reset; None: never was
    served_since_restart: int | None = None  # the same for a restart of the process
    # By a mirror of the engine's KV events, kept apart from the gateway: cached tokens of this prompt as announced when
    # the request was sent, and EVENT_DELAY_S before. None: nobody listened.
    announced: int | None = None
    announced_before: int | None = None

    @property
    def equal(self):
        return self.predicted == self.reported


UNEXPLAINED = "unexplained"


def cause(proof):
    """Why a prediction was wrong, or UNEXPLAINED. Each cause rests on evidence beside the two numbers: what had happened to
    the engine, or what it had announced."""
    if proof.equal:
        return None
    if proof.prompt_tokens != proof.engine_prompt_tokens:
        return UNEXPLAINED  # the gateway's tokens are not the engine's: never excused
    if proof.served_since_reset == 0 and proof.reported == 0 and proof.announced in (None, proof.predicted):
        return "first request after a cache reset: the engine announces the clear with its next step only"
    if not proof.exact:
        return "predicted by guess: the engine's KV events were not followed at that moment"
    if proof.announced is None:
        return UNEXPLAINED
    if proof.announced == proof.predicted:
        return "predicted what the engine had announced; it announced the difference only later"
    if proof.announced == proof.reported and proof.announced_before == proof.predicted:
        return f"the gateway had not applied the events of the last {1000 * EVENT_DELAY_S:.0f} ms"
    return UNEXPLAINED


@dataclasses.dataclass
class ProofSummary:
    requests: int
    answered: int
    proofs: int
    equal: int
    predicted: int
    reported: int
    tokens_differ: int  # requests whose prompt the gateway and the engine counted differently
    exceptions: list  # (Proof, cause)

    @property
    def equal_share(self):
        return self.equal / self.proofs if self.proofs else 0.0


def summarize(requests, answered, proofs):
    return ProofSummary(
        requests=requests, answered=answered, proofs=len(proofs), equal=sum(p.equal for p in proofs),
        predicted=sum(p.predicted for p in proofs), reported=sum(p.reported for p in proofs),
        tokens_differ=sum(p.prompt_tokens != p.engine_prompt_tokens for p in proofs),
        exceptions=[(p, cause(p)) for p in proofs if not p.equal])


def proof_faults(summary):
    """The bars that the proof run missed, as sentences; none: it passed."""
    faults = []
    if summary.answered != summary.requests:
        faults.append(f"{summary.requests - summary.answered} of {summary.requests} requests were not answered")
    if summary.proofs != summary.answered:
        faults.append(f"{summary.answered - summary.proofs} answers have no prediction beside a report")
    if summary.equal_share < EQUAL_SHARE_MIN:
        faults.append(f"predicted = reported in {100 * summary.equal_share:.2f} % of the requests; the bar is "
                      f"{100 * EQUAL_SHARE_MIN:.0f} %")
    if summary.tokens_differ:
        faults.append(f"{summary.tokens_differ} prompts had other token counts at the engine")
    if summary.reported == 0:
        faults.append("no request found anything cached: that proves nothing")
    unexplained = sum(why == UNEXPLAINED for _, why in summary.exceptions)
    if unexplained:
        faults.append(f"{unexplained} exceptions are unexplained")
    return faults


def endless_hits(prompts, block_tokens):
    """(hits, queries, distinct blocks) of one engine that never evicts and serves these prompts one by one: the bound.
    `prompts`: (salt, token ids); at most n-1 tokens of a prompt are reused, in whole blocks."""
    held, hits, queries = set(), 0, 0
    for salt, ids in prompts:
        chain, keys = (salt,), []
        for at in range(0, len(ids) - len(ids) % block_tokens, block_tokens):
            chain = hash((chain, tuple(ids[at:at + block_tokens])))
            keys.append(chain)
        usable = (len(ids) - 1) // block_tokens
        depth = 0
        while depth < usable and keys[depth] in held:
            depth += 1
        hits += depth * block_tokens
        queries += len(ids)
        held.update(keys)
    return hits, queries, len(held)


def percentile(values, share):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclasses.dataclass
class ArmRun:
    """One arm on one seed."""
    arm: str
    seed: int
    requests: int
    failed: int
    hit_ratio: float  # as the engines counted it
    latency_ms_p50: float
    latency_ms_p90: float
    queries: float  # prompt tokens as the engines counted them


def medians(runs):
    """{arm: {hit_ratio, latency_ms_p50, latency_ms_p90, failed, seeds}} in order of appearance."""
    out = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        mine = [run for run in runs if run.arm == arm]
        out[arm] = {"seeds": len(mine), "failed": sum(run.failed for run in mine)} | {
            name: statistics.median(getattr(run, name) for run in mine)
            for name in ("hit_ratio", "latency_ms_p50", "latency_ms_p90")}
    return out


def comparison(table):
    """(our best policy, its lead over the best peer) by median hit ratio."""
    ours = [arm for arm in OUR_CACHE_POLICIES if arm in table]
    peers = [arm for arm in PEERS if arm in table]
    if not ours or not peers:
        return None, float("-inf")
    best = max(ours, key=lambda arm: table[arm]["hit_ratio"])
    return best, table[best]["hit_ratio"] - max(table[arm]["hit_ratio"] for arm in peers)


def comparison_faults(runs, arms, seeds):
    """The bars that the comparison missed."""
    table = medians(runs)
    faults = [f"arm {arm}: {table[arm]['seeds'] if arm in table else 0} of {seeds} seeds were run"
              for arm in arms if arm not in table or table[arm]["seeds"] != seeds]
    faults += [f"arm {arm}: {row['failed']} requests failed" for arm, row in table.items() if row["failed"]]
    for seed in sorted({run.seed for run in runs}):
        asked = {run.arm: run.queries for run in runs if run.seed == seed}
        if len(set(asked.values())) > 1:
            faults.append(f"seed {seed}: the engines were not asked the same in every arm: {asked}")
    if any(arm in arms for arm in PEERS):
        faults += [f"the peer {arm} was not compared with" for arm in PEERS if arm not in table]
        best, lead = comparison(table)
        # Figures are rounded to a millionth first: 0.80 - 0.81 is below -0.01 in binary.
        if round(lead, 6) < -HIT_RATIO_SLACK:
            faults.append(f"our best policy ({best or 'none'}) is {-lead:.3f} behind the best peer; "
                          f"{HIT_RATIO_SLACK} is allowed")
    return faults
