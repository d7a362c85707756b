# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of evaluate and benchmark as the filter `evaluate_page` makes them, for the tests of their pages: good and bad, small and large.

`python sample_results.py DIR` writes each as DIR/NAME.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

#: What a model's answer or a client may print: markup, a template, a quote, an escape sequence.
HOSTILE = "<script>document.title='owned'</script></svg><img src=x onerror=\"document.title='owned'\"> {{ 7 * 7 }} \"'&amp; \x1b[31mred"
FIRST = {"id": "20260301T080000Z-1a2b3c", "release": "v0.13.0", "image": "quay.io/ascend/vllm-ascend:v0.13.0", "image_id": "sha256:0123456789abcdef0123",
         "recipe": "deepseek_r1_w8a8", "plan_hash": "6f1c0a8e2b7d"}
SECOND = {"id": "20260420T101500Z-9f8e7d", "release": "v0.14.0rc1", "image": "quay.io/ascend/vllm-ascend:v0.14.0rc1",
          "image_id": "sha256:fedcba9876543210fedc", "recipe": "deepseek_r1_w8a8", "plan_hash": "b09c11d4e57a"}
SOURCE = "vllm-ascend v0.13.0, docs/source/tutorials/DeepSeek-R1.md, section Accuracy Evaluation"


def accuracy(name, percent, error, floor, baseline=None, started="2026-05-02T09:00:00Z", outcome=None, limit=None, count=200, **change):
    """Return the record of one set."""
    outcome = outcome or ("none" if floor is None else "pass" if percent >= floor else "below")
    return {
        "schema": 1, "kind": "accuracy", "id": f"{started.replace('-', '').replace(':', '')}-aisbench-{name}", "group": "vllm", "tool": "aisbench",
        "tool_version": "3.1.20260630", "set": name, "limit": limit, "model": "deepseek_r1", "started": started, "seconds": 1834.2,
        "samples": {"wanted": count, "done": count, "failed": 0, "empty": 0},
        "score": {"metric": "accuracy", "percent": percent, "std_error": error}, "load": None, "performance": None,
        "gate": {"outcome": outcome, "value": percent, "floor": floor, "baseline": baseline, "source": SOURCE,
                 "reason": "" if outcome != "below" else f"{percent} is below the floor of {floor}: serve with the recipe's own sampling, compare the answers"},
        "configuration": {"model": "deepseek_r1", "batch_size": 16, "max_out_len": 32768, "temperature": 0.6, "top_p": 0.95, "dataset": name},
        "added": [{"name": "max_out_len", "value": 32768, "reason": "a reasoning model's answers are cut off at the client's own 512"}],
        "deployment": FIRST, **change,
    }


def latency(mean, spread=1.0):
    """Return mean and percentiles of a latency in milliseconds."""
    return {"mean": round(mean, 2), "p50": round(mean * 0.96, 2), "p90": round(mean * (1 + 0.4 * spread), 2), "p99": round(mean * (1 + 1.9 * spread), 2)}


def speed(rate=None, concurrency=None, started="2026-05-02T09:00:00Z", tool="vllm_serve", better=1.0, lengths=(200, 128), baseline=None, **change):
    """Return the record of one load; the service is full at about 9.5 requests a second."""
    offered = rate if rate is not None else (concurrency or 200) / 4
    done = min(offered, 9.5 * offered / (offered + 0.6)) * better
    crowded = max(offered / 9.5, 0.05)
    output, ratio = round(done * lengths[1], 2), None if baseline is None else round(done * lengths[1] / baseline, 3)
    outcome = "none" if baseline is None else "pass" if ratio >= 0.97 else "below"
    load = "all" if rate is None and concurrency is None else f"{rate or 'c'}{concurrency or ''}"
    return {
        "schema": 1, "kind": "performance", "id": f"{started.replace('-', '').replace(':', '')}-{tool}-{load}", "group": "vllm", "tool": tool,
        "tool_version": "0.13.0", "set": None, "limit": None, "model": "deepseek_r1", "started": started, "seconds": 200 / done,
        "samples": {"wanted": 200, "done": 200, "failed": 0, "empty": 0}, "score": None,
        "load": {"request_rate": rate, "max_concurrency": concurrency, "input_len": lengths[0], "output_len": lengths[1], "num_prompts": 200},
        "performance": {
            "output_throughput": output, "total_token_throughput": round(done * sum(lengths), 2), "request_throughput": round(done, 3),
            "duration_s": round(200 / done, 2), "ttft_ms": latency(180 * (1 + 4 * crowded**3), min(crowded, 2)),
            "tpot_ms": latency(38 + 22 * min(crowded, 1.5), 0.3), "itl_ms": latency(37 + 22 * min(crowded, 1.5), 0.6),
            "e2el_ms": latency(180 * (1 + 4 * crowded**3) + 127 * (38 + 22 * min(crowded, 1.5)), 0.5)},
        "gate": {"outcome": outcome, "value": output, "floor": None if baseline is None else round(0.97 * baseline, 2), "baseline": baseline,
                 "source": "this site's first run", "reason": "" if outcome != "below" else
                 f"{output} token/s is {100 * ratio:.0f} % of this site's {baseline}, wanted 97 %: look at benchmark.html for what changed"},
        "configuration": {"backend": "vllm", "dataset_name": "random", "random_input_len": lengths[0], "random_output_len": lengths[1], "num_prompts": 200,
                          "request_rate": "inf" if rate is None else rate, "max_concurrency": concurrency, "seed": 1024},
        "added": [{"name": "ready-check-timeout-sec", "value": 30, "reason": "without it a run against a server that is down ends with status 0"},
                  {"name": "ignore-eos", "value": True, "reason": "every answer has the same length, so that runs can be compared"}],
        "deployment": FIRST, **change,
    }


def invalid(record, reason, done, failed):
    """Return a record as an invalid one: its numbers may be there, and are not to be trusted."""
    record["samples"].update(done=done, failed=failed)
    record["gate"].update(outcome="invalid", value=None, reason=reason)
    return record


def report(verb, records, history=(), language="en"):
    """Return the report of a run."""
    found = [record["gate"]["outcome"] for record in records]
    outcome = next((name for name in ("invalid", "below", "pass", "none") if name in found), "empty")
    return {"schema": 1, "verb": verb, "result": "pass" if outcome in ("pass", "none") else "fail", "outcome": outcome, "language": language,
            "started_at": records[0]["started"] if records else None, "version": "0.1.0", "records": records, "history": list(history)}


def scores_over_time():
    """Return older records of the three sets, of two deployments, one of them invalid."""
    found = []
    for month, day, shift in ((1, 12, 0.0), (2, 3, 0.6), (2, 20, -0.4), (3, 15, 0.3), (4, 20, -0.9), (4, 28, 0.2)):
        deployment = SECOND if month == 4 else FIRST
        started = f"2026-{month:02}-{day:02}T08:30:00Z"
        found += [accuracy("gsm8k", 94.5 + shift, 1.61, 90.0, None, started, limit=200, deployment=deployment),
                  accuracy("gpqa", 71.21 + 2 * shift, 3.22, 64.2, 72.22, started, count=198, deployment=deployment),
                  accuracy("aime2024", 80.0 + 6.67 * round(shift), 7.3, 70.0, 80.0, started, count=30, deployment=deployment)]
    invalid(found[4], "3 of 198 requests failed", 198, 3)
    found.append(accuracy("ceval", 88.1, 0.9, None, None, "2026-02-01T08:00:00Z"))
    return found


def evaluated(language="en"):
    """Return an evaluation of three sets that passes."""
    now = {"deployment": SECOND}
    return report("evaluate", [accuracy("gsm8k", 95.0, 1.54, 90.0, limit=200, **now), accuracy("gpqa", 72.73, 3.17, 64.2, 72.22, count=198, **now),
                               accuracy("aime2024", 83.33, 6.92, 70.0, 80.0, count=30, **now)], scores_over_time(), language)


def evaluated_badly(language="en"):
    """Return an evaluation with one set below its floor and an invalid one, of which a client printed something hostile."""
    now = {"deployment": SECOND}
    reason = "3 of 198 requests failed, wanted 0. First error: " + HOSTILE
    bad = invalid(accuracy("gpqa", 41.2, 3.5, 64.2, 72.22, count=198, **now), reason, 195, 3)
    return report("evaluate", [accuracy("gsm8k", 86.5, 2.42, 90.0, limit=200, **now), bad, accuracy("aime2024", 83.33, 6.92, 70.0, 80.0, count=30, **now)],
                  scores_over_time(), language)


RATES = (0.5, 1, 2, 4, 8, 16, 32, None)


def older_sweeps(rates):
    """Return sweeps of older runs; the first one is the site's baseline."""
    found = []
    for month, day, better in ((2, 3, 1.0), (2, 20, 1.012), (3, 15, 0.995), (4, 20, 1.03), (4, 28, 1.024)):
        for rate in rates:
            found.append(speed(rate, started=f"2026-{month:02}-{day:02}T11:00:00Z", better=better, baseline=None if month == 2 and day == 3 else base(rate),
                               deployment=SECOND if month == 4 else FIRST))
    return found


def base(rate):
    """Return the site's output throughput at a rate."""
    return speed(rate)["performance"]["output_throughput"]


def swept(language="en", better=1.02):
    """Return a sweep over request rates."""
    return report("benchmark", [speed(rate, better=better, baseline=base(rate), deployment=SECOND) for rate in RATES], older_sweeps(RATES), language)


def swept_badly(language="en"):
    """Return a sweep that is too slow under load, of which one load is invalid."""
    built = swept(language, 0.98)
    records = [speed(rate, better=0.98 if not rate or rate < 8 else 0.9, baseline=base(rate), deployment=SECOND) for rate in RATES]
    invalid(records[2], "17 of 200 requests failed, wanted 0", 183, 17)
    return report("benchmark", records, built["history"], language)


def concurrent():
    """Return two sweeps over concurrencies: one a shape of requests, with a wide range and without older runs."""
    return report("benchmark", [speed(None, count, lengths=lengths) for lengths in ((200, 128), (3500, 1500)) for count in (1, 4, 16, 64, 256)])


def lone():
    """Return the tutorial's own benchmark, the first run of a site: one load, nothing to compare with."""
    return report("benchmark", [speed(1)])


def mixed():
    """Return the results of two tools and two groups in one run."""
    slow = {"output_throughput": None, "total_token_throughput": None, "request_throughput": None, "duration_s": None, "ttft_ms": None, "tpot_ms": None,
            "itl_ms": None, "e2el_ms": {"mean": 41200.5, "p50": 41180.0, "p90": 42000.0, "p99": float("nan")}}
    other = speed(None, tool="vllm_throughput", group="prefill-and-decode-group-with-a-long-name")
    return report("benchmark", [speed(None, tool="vllm_latency", performance=slow), other, speed(4, 16, tool="aisbench")])


def unread():
    """Return a report in which everything that may be missing is missing."""
    names = list(accuracy("x", 1, 1, 1))
    blank = {**dict.fromkeys(names), "kind": "accuracy", "gate": {"outcome": "invalid"}}
    return {"schema": 1, "verb": "evaluate", "result": "fail", "outcome": "invalid", "language": "en", "started_at": None, "version": None,
            "records": [blank, {}, {"kind": "performance", "load": {}, "performance": {"output_throughput": "-"}, "gate": {"outcome": "odd"}}], "history": [{}]}


SAMPLES = {
    "evaluated": evaluated,
    "evaluated_badly": evaluated_badly,
    "evaluated_badly_zh": lambda: evaluated_badly("zh"),
    "swept": swept,
    "swept_badly": swept_badly,
    "swept_zh": lambda: swept("zh"),
    "concurrent": concurrent,
    "lone": lone,
    "lone_score": lambda: report("evaluate", [accuracy("gsm8k", 95.0, None, None)]),
    "mixed": mixed,
    "without_results": lambda: report("evaluate", []),
    "unread": unread,
}


def write(folder):
    """Write every sample into a folder."""
    for name, build in SAMPLES.items():
        (Path(folder) / f"{name}.json").write_text(json.dumps(build()), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
