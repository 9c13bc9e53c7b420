"""The result as one JSON value, and as text."""

import dataclasses

import verdict


def proof_section(summary, precise_ratio, random_ratio, bound, blocks, kv_blocks, block_tokens):
    return {
        "requests": summary.requests, "answered": summary.answered, "proofs": summary.proofs, "equal": summary.equal,
        "equal_share": summary.equal_share, "predicted_cached_tokens": summary.predicted,
        "reported_cached_tokens": summary.reported, "prompts_counted_differently": summary.tokens_differ,
        "working_set_blocks": blocks, "kv_blocks_an_engine": kv_blocks, "block_tokens": block_tokens,
        "prefix_hit_ratio": {"precise": precise_ratio, "random": random_ratio, "one_endless_engine": bound},
        "exceptions": [dataclasses.asdict(proof) | {"cause": why} for proof, why in summary.exceptions]}


def comparison_section(runs, bounds, kv_blocks):
    table = verdict.medians(runs)
    best, lead = verdict.comparison(table)
    return {"kv_blocks_an_engine": kv_blocks, "bounds": bounds, "medians": table,
            "best_of_ours": best, "lead": lead if best else None, "runs": [dataclasses.asdict(run) for run in runs]}


def table(result):
    lines = [result["engine"]]
    if "proof" in result:
        lines += ["", *proof_lines(result["proof"])]
    if "comparison" in result:
        lines += ["", *comparison_lines(result["comparison"])]
    return "\n".join(lines)


def proof_lines(proof):
    ratio = proof["prefix_hit_ratio"]
    lines = [
        f"Proof, two engines of {proof['kv_blocks_an_engine']} KV blocks of {proof['block_tokens']} tokens: "
        f"{proof['answered']} of {proof['requests']} sequential requests answered; predicted cached tokens = reported in "
        f"{proof['equal']} of {proof['proofs']} ({100 * proof['equal_share']:.2f} %); "
        f"{proof['predicted_cached_tokens']} predicted, {proof['reported_cached_tokens']} reported",
        f"working set {proof['working_set_blocks']} blocks; prefix hit ratio as the engines count it: precise "
        f"{ratio['precise']:.3f} (with a cache reset and an engine killed), random {ratio['random']:.3f} (without), "
        f"one engine with endless KV {ratio['one_endless_engine']:.3f}"]
    for one in proof["exceptions"]:
        lines.append(f"  exception: request {one['number']} at {one['engine']}: predicted {one['predicted']}, reported "
                     f"{one['reported']}: {one['cause']}")
    return lines


def comparison_lines(part):
    seeds = sorted({run["seed"] for run in part["runs"]})
    requests = part["runs"][0]["requests"] if part["runs"] else 0
    lines = [f"Comparison, two engines of {part['kv_blocks_an_engine']} KV blocks: {requests} requests a seed; prefix hit "
             "ratio as the engines count it; "
             "latency of whole answers, not judged",
             f"{'arm':<22}{'median':>8}  " + "".join(f"{'seed ' + str(seed):>8}" for seed in seeds)
             + f"{'p50 ms':>9}{'p90 ms':>8}{'failed':>8}"]
    for arm, row in part["medians"].items():
        by_seed = {run["seed"]: run["hit_ratio"] for run in part["runs"] if run["arm"] == arm}
        lines.append(f"{arm:<22}{row['hit_ratio']:>8.3f}  "
                     + "".join(f"{by_seed[seed]:>8.3f}" if seed in by_seed else f"{'-':>8}" for seed in seeds)
                     + f"{row['latency_ms_p50']:>9.0f}{row['latency_ms_p90']:>8.0f}{row['failed']:>8}")
    lines.append(f"{'one endless engine':<30}  "
                 + "".join(f"{part['bounds'][seed]['hit_ratio']:>8.3f}" for seed in seeds))
    if part["best_of_ours"]:
        lines.append(f"{part['best_of_ours']} is ahead of the best peer by {part['lead']:+.3f}")
    return lines
