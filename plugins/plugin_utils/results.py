# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of a client say: how many samples were asked and answered, the score or the speed. Or why they say nothing.

Exit codes are no help: AISBench and ``vllm bench serve`` end with 0 when every request has failed. So everything is looked up in the files, and whatever
is missing, failed, counted differently or no number makes the run invalid.

Pure. Input: ``{relative path: text}``. Units: scores in percent, throughput in tokens or requests per second, latencies in milliseconds, times in seconds.
The formats are those of AISBench 3.1.20260630, lm_eval 0.4.13 and vllm bench of vLLM 0.13.0 to 0.32.0.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import math
import re

from .messages import is_mapping, shown

#: Characters of a client's or a server's own words that are repeated.
WIDTH = 200
#: By which part the tokens of a run may be others than was asked for: prompts are made of random tokens, which vllm bench turns into text and counts
#: again, so that a few more or fewer come out. A tenth is a choice: far above that, far below a load of another length (twice, half).
OTHER_TOKENS = 0.1
#: How far two statements of one score may be apart: one of them is rounded to hundredths.
ROUNDING = 0.006
LATENCIES = ("ttft", "tpot", "itl", "e2el")
#: What lm_eval and AISBench have in place of an answer in which their pattern finds nothing.
NOTHING_FOUND = ("[invalid]", "NULL", None)
RERUN = "look into the client's log on the head, mend what it says, and run again"
SERVICE = "see with status.yml whether every rank answers and with logs.yml why a request failed, then run again"


class Invalid(Exception):
    """A run whose numbers mean nothing. ``reason``: what was found and wanted, ``remedy``: what to do, ``samples``: what is known of them."""

    def __init__(self, reason: str, remedy: str = RERUN, **samples):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.samples = samples


def parse(tool: str, files: dict, wanted: dict) -> dict:
    """Return ``{samples: {wanted, done, failed, empty}, score|performance, tool_version}`` of a run. Raises Invalid.

    ``wanted``: ``n`` (samples, requests or repetitions), ``model``, ``set`` and ``load`` (of the record), ``task`` (lm_eval's), ``abbr`` (of AISBench's
    model), ``name`` (of the set in AISBench), ``metric``, ``answered``, ``unanswered_max_percent`` (of the set), ``batch_size``, ``ignore_eos`` (asked of
    vllm bench). What a tool does not need may be missing.
    """
    readers = {"lm_eval": _lm_eval, "vllm_serve": _vllm_serve, "vllm_latency": _vllm_latency, "vllm_throughput": _vllm_throughput,
               "aisbench": _aisbench_speed if wanted.get("load") else _aisbench}
    if tool not in readers:
        raise Invalid(f"the tool {tool!r}, wanted one of {', '.join(readers)}", "use a tool of data/clients.")
    found = readers[tool](files, wanted)
    return {"tool_version": None, "score": None, "performance": None, **found}


# ---- Files


def find(files: dict, *patterns: str) -> list:
    """Return the paths that match one of the patterns, in order; a pattern may begin below any folder."""
    return sorted(path for path in files if any(fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}") for pattern in patterns))


def only(files: dict, pattern: str, noun: str) -> tuple[str, str]:
    """Return ``(path, text)`` of the one file of this pattern. Raises Invalid where there is none, or one of another run beside it."""
    paths = find(files, pattern)
    if not paths:
        raise Invalid(f"no {noun} ({pattern}), wanted one: the client ended before it had a result")
    if len(paths) > 1:
        raise Invalid(f"{len(paths)} files {pattern} ({', '.join(paths)}), wanted one: they are of more than one run",
                      "remove the folder of the results on the head, and run again")
    return paths[0], files[paths[0]]


def read_json(path: str, text: str) -> dict:
    """Return the object in a JSON text. Raises Invalid."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Invalid(f"{path} is no JSON ({error}), wanted a whole file: the client was ended while it wrote") from error
    if not is_mapping(found):
        raise Invalid(f"{path} has {shown(found)}, wanted an object")
    return found


def read_lines(path: str, text: str) -> list:
    """Return the objects of a file with one JSON object a line. Raises Invalid."""
    return [read_json(f"{path} line {number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def number(value: object, what: str, least: float | None = None, most: float | None = None) -> float:
    """Return a finite number, also one with a unit behind it (``1230.4 token/s``). Raises Invalid."""
    text = value.split()[0] if isinstance(value, str) and value.split() else value
    try:
        found = float("nan") if isinstance(text, bool) else float(text)
    except (TypeError, ValueError):
        found = float("nan")
    if not math.isfinite(found):
        raise Invalid(f"{what} is {shown(value)}, wanted a number")
    if (least is not None and found < least) or (most is not None and found > most):
        raise Invalid(f"{what} is {found:g}, wanted " + (f"{least:g} to {most:g}" if most is not None else f"{least:g} or more"))
    return found


def count(value: object, what: str) -> int:
    """Return a number of things. Raises Invalid."""
    found = number(value, what, 0)
    if found != int(found):
        raise Invalid(f"{what} is {found:g}, wanted a whole number")
    return int(found)


def above_zero(value: object, what: str) -> float:
    """Return a number above 0. Raises Invalid."""
    found = number(value, what, 0)
    if found == 0:
        raise Invalid(f"{what} is 0, wanted more: nothing was computed", SERVICE)
    return found


def get(found: dict, *keys: str):
    """Return what is at the end of the keys. Raises Invalid where one of them is missing."""
    for key in keys:
        if not is_mapping(found) or key not in found:
            raise Invalid(f"no {' / '.join(keys)} in the result, wanted it: the client ended early, or writes another format than its pinned version")
        found = found[key]
    return found


def said(text: object) -> str:
    """Return what a server or a client said, on one printable line and not too long."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", str(text))
    line = " ".join("".join(char if char.isprintable() else " " for char in plain).split())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def last_words(log: str) -> str:
    """Return the line of a log that tells most of its end: the last with an error in it, else the last; empty for an empty log."""
    lines = [said(line) for line in str(log or "").splitlines()]
    lines = [line for line in lines if line and not line.startswith("rc ")]
    telling = [line for line in lines if re.search(r"error|exception|refused|killed|no space", line, re.IGNORECASE)]
    return (telling or lines or [""])[-1]


# ---- Samples


def samples(wanted: dict, done: int, failed: int = 0, empty: int = 0) -> dict:
    """Return the samples of a record; raises Invalid where a request failed or their number is another one."""
    asked = wanted.get("n")
    known = {"wanted": asked, "done": done, "failed": failed, "empty": empty}
    if failed:
        raise Invalid(f"{failed} of {asked if asked is not None else done + failed} requests failed, wanted 0", SERVICE, **known)
    if not done or (asked is not None and done != asked):
        raise Invalid(f"{done} samples, wanted {asked if asked is not None else 'one or more'}",
                      "look whether the data set is whole and the limit the one that was asked for, then run again", **known)
    return known


def final(answer: object) -> str:
    """Return an answer without what a reasoning model thinks; one that ends while it thinks is empty."""
    text = answer if isinstance(answer, str) else ""
    if "</think>" in text:
        return text.rpartition("</think>")[2].strip()
    return "" if "<think>" in text else text.strip()


def whole(answers: list, found: list, wanted: dict) -> dict:
    """Return the samples of a run with these answers. Raises Invalid where so many are cut off or empty that the score is of that.

    ``answers``: texts; ``found``: for each, what the tool took out of it.
    """
    known = samples(wanted, len(answers), 0, sum(not final(answer) for answer in answers))
    pattern = re.compile(wanted.get("answered") or "")
    bad = sum(not final(answer) or not pattern.search(final(answer)) or any(taken is nothing or taken == nothing for nothing in NOTHING_FOUND)
              for answer, taken in zip(answers, found))
    most = wanted.get("unanswered_max_percent", 0)
    if 100 * bad > most * len(answers):
        raise Invalid(f"{bad} of {len(answers)} answers are empty, cut off or without a result ({known['empty']} of them empty), wanted at most {most:g} %: "
                      "the score is of the cut, not of the model",
                      "let an answer have more tokens (evaluate_max_tokens; max-model-len of the service), and look whether they are sense at all", **known)
    return known


# ---- AISBench


def _aisbench(files: dict, wanted: dict) -> dict:
    """Return a score of AISBench: summary, predictions and, where it is there, the file of the details."""
    name, model = wanted["name"], wanted["abbr"]
    failures = [line for path in find(files, f"predictions/{model}/*_failed.jsonl") for line in read_lines(path, files[path])]
    if failures:
        asked = wanted.get("n")
        raise Invalid(f"{len(failures)} of {asked if asked is not None else '?'} requests failed, wanted 0; the first: {said(failures[0].get('error_info'))}",
                      SERVICE, wanted=asked, failed=len(failures))
    path, text = only(files, "summary/summary_*.csv", "summary")
    row = next((row for row in csv.DictReader(io.StringIO(text)) if row.get("dataset") == name), None)
    if row is None or model not in row:
        raise Invalid(f"{path} has no score of {name} by {model}, wanted one")
    if str(row[model]).strip() in ("-", ""):
        raise Invalid(f"no score of {name}: {row[model]!r} in {path}, wanted a number: the data set was not found, or nothing was answered")
    percent = number(row[model], f"the score of {name}", 0, 100)
    if wanted.get("metric") and row.get("metric") != wanted["metric"]:
        raise Invalid(f"the metric {row.get('metric')!r} of {name}, wanted {wanted['metric']!r}",
                      "use the data set's configuration of data/clients")
    path, text = only(files, f"predictions/{model}/{name}.jsonl", "predictions")
    lines = read_lines(path, text)
    failed = sum(not line.get("success", True) for line in lines)
    known = samples(wanted, len({json.dumps(line.get("id")) for line in lines}), failed)
    if len(lines) != known["done"]:
        raise Invalid(f"{len(lines)} predictions of {known['done']} questions in {path}, wanted one each")
    answers = {str(line.get("id")): line.get("prediction") for line in lines}
    taken, percent = _details(files, model, name, answers, percent)
    known = whole(list(answers.values()), [taken.get(key, "") for key in answers], wanted)
    error = 100 * math.sqrt(percent / 100 * (1 - percent / 100) / known["done"])
    return {"samples": known, "score": {"metric": row["metric"], "percent": round(percent, 4), "std_error": round(error, 2), "version": row.get("version")}}


def _details(files: dict, model: str, name: str, answers: dict, percent: float) -> tuple[dict, float]:
    """Return ``({id: what was taken out of the answer}, percent with all its digits)`` of the details, where they were kept."""
    if not find(files, f"results/{model}/{name}.json"):
        return {}, percent
    path, text = only(files, f"results/{model}/{name}.json", "details")
    found = read_json(path, text)
    exact = number(get(found, "accuracy"), f"the accuracy in {path}", 0, 100)
    if abs(exact - percent) > ROUNDING:
        raise Invalid(f"{percent:g} % in the summary, {exact:g} % in {path}, wanted the same: they are of two runs")
    details, taken = found.get("details"), {}
    if is_mapping(details):
        for key in details:
            values = details[key].get("predictions") if is_mapping(details[key]) else None
            # As many as the question was asked; with one of them nothing is missing.
            if isinstance(values, list) and values and key in answers:
                taken[key] = next((value for value in values if value not in NOTHING_FOUND), None)
    return taken, exact


def _aisbench_speed(files: dict, wanted: dict) -> dict:
    """Return what AISBench measured: ``performances/<model>/<set>.json`` and the ``.csv`` beside it."""
    name, model = wanted["name"], wanted["abbr"]
    path, text = only(files, f"performances/{model}/{name}.json", "result")
    found = read_json(path, text)

    def total(key):
        return get(found, key, "total")

    known = samples(wanted, count(total("Success Requests"), "Success Requests"), count(total("Failed Requests"), "Failed Requests"))
    performance = {
        "output_throughput": above_zero(total("Output Token Throughput"), "Output Token Throughput"),
        "total_token_throughput": above_zero(total("Total Token Throughput"), "Total Token Throughput"),
        "request_throughput": above_zero(total("Request Throughput"), "Request Throughput"),
        "duration_s": above_zero(total("Benchmark Duration"), "Benchmark Duration") / 1000,
    }
    path, text = only(files, f"performances/{model}/{name}.csv", "table of latencies")
    rows = {row.get("Performance Parameters"): row for row in csv.DictReader(io.StringIO(text))}
    for latency in LATENCIES:
        row = rows.get(latency.upper())
        if row is None:
            raise Invalid(f"{path} has no {latency.upper()}, wanted it: the answers were not streamed", "let stream be true, as in data/clients")
        performance[f"{latency}_ms"] = {name: number(row.get(column), f"{latency.upper()} {column}", 0)
                                        for name, column in (("mean", "Average"), ("p50", "Median"), ("p90", "P90"), ("p99", "P99"))}
    if number((rows.get("OutputTokens") or {}).get("Min"), "OutputTokens Min", 0) == 0:
        raise Invalid("an answer without a token, wanted tokens in each", SERVICE, **known)
    return {"samples": known, "performance": performance}


# ---- lm_eval


def _lm_eval(files: dict, wanted: dict) -> dict:
    """Return a score of lm_eval: ``results_*.json`` and the samples of the task beside it."""
    task, metric = wanted["task"], wanted["metric"]
    path, text = only(files, "results_*.json", "result")
    found = read_json(path, text)
    served = found.get("model_name")
    if wanted.get("model") and served is not None and served != wanted["model"]:
        raise Invalid(f"a result of the model {said(served)}, wanted {wanted['model']}", "remove the folder of the results on the head, and run again")
    percent = 100 * number(get(found, "results", task, metric), f"{metric} of {task}", 0, 1)
    samples(wanted, count(get(found, "n-samples", task, "effective"), f"n-samples of {task}"))
    name, _comma, kept = metric.partition(",")
    error = found["results"][task].get(f"{name}_stderr,{kept}")
    path, text = only(files, f"samples_{task}_*.jsonl", "samples")
    lines = [line for line in read_lines(path, text) if line.get("filter", kept) == kept]
    # One line a sample and filter; the answer is the first of its repetitions.
    answers = [_first(line.get("resps")) for line in lines]
    known = whole(answers, [_first(line.get("filtered_resps")) for line in lines], wanted)
    std_error = None if isinstance(error, bool) or not isinstance(error, (int, float)) else 100 * number(error, f"the standard error of {task}", 0)
    versions = found.get("versions")
    version = versions.get(task) if is_mapping(versions) else None
    return {"samples": known, "tool_version": found.get("lm_eval_version"),
            "score": {"metric": metric, "percent": round(percent, 4), "std_error": None if std_error is None else round(std_error, 2),
                      "version": None if version is None else str(version)}}


def _first(value: object):
    """Return the first text of lists in lists, None for an empty one."""
    while isinstance(value, list):
        if not value:
            return None
        value = value[0]
    return value


# ---- vllm bench


def _vllm_serve(files: dict, wanted: dict) -> dict:
    """Return what ``vllm bench serve`` measured."""
    path, text = only(files, "*.json", "result")
    found, load = read_json(path, text), wanted.get("load") or {}
    known = samples(wanted, count(get(found, "completed"), "completed"), count(get(found, "failed"), "failed"))
    for key, least in (("request_rate", load.get("request_rate", "")), ("max_concurrency", load.get("max_concurrency", ""))):
        told = None if found.get(key) == "inf" else found.get(key)
        if least != "" and told != least:
            raise Invalid(f"{key} {shown(told)} in the result, wanted {shown(least)}", "remove the folder of the results on the head, and run again", **known)
    _lengths(count(get(found, "total_input_tokens"), "total_input_tokens"), load.get("input_len"), known, "prompts")
    made = count(get(found, "total_output_tokens"), "total_output_tokens")
    if wanted.get("ignore_eos"):
        _lengths(made, load.get("output_len"), known, "answers")
    performance = {key: above_zero(get(found, key), key) for key in ("output_throughput", "total_token_throughput", "request_throughput")}
    performance["duration_s"] = above_zero(get(found, "duration"), "duration")
    for latency in LATENCIES:
        keys = {"mean": f"mean_{latency}_ms", "p50": f"p50_{latency}_ms" if f"p50_{latency}_ms" in found else f"median_{latency}_ms",
                "p90": f"p90_{latency}_ms", "p99": f"p99_{latency}_ms"}
        performance[f"{latency}_ms"] = {name: number(get(found, key), key, 0) for name, key in keys.items()}
    return {"samples": known, "performance": performance}


def _lengths(found: int, length: int | None, known: dict, noun: str) -> None:
    """Raise Invalid where prompts or answers have other lengths than was asked for: the result is of another load."""
    asked = (length or 0) * known["done"]
    if asked and abs(found - asked) > OTHER_TOKENS * asked:
        raise Invalid(f"{found} tokens in {known['done']} {noun}, wanted {asked}: the load was another one",
                      "look whether this release of vllm bench takes the lengths by other options (benchmark_extra_flags), and whether answers end early",
                      **known)


def _vllm_latency(files: dict, wanted: dict) -> dict:
    """Return what ``vllm bench latency`` measured: the time of a batch. Its throughput is known where the size of the batch is."""
    path, text = only(files, "*.json", "result")
    found, load = read_json(path, text), wanted.get("load") or {}
    times = get(found, "latencies")
    if not isinstance(times, list):
        raise Invalid(f"latencies are {shown(times)}, wanted a list")
    times = [above_zero(value, "a latency") for value in times]
    known = samples(wanted, len(times))
    mean = above_zero(get(found, "avg_latency"), "avg_latency")
    percentiles = get(found, "percentiles")
    tokens = (wanted.get("batch_size") or 0) * (load.get("output_len") or 0)
    both = (wanted.get("batch_size") or 0) * ((load.get("output_len") or 0) + (load.get("input_len") or 0))
    latency = {"mean": 1000 * mean, **{f"p{part}": 1000 * number(get(percentiles, part), f"percentile {part}", 0) for part in ("50", "90", "99")}}
    return {"samples": known, "performance": {
        "output_throughput": tokens / mean or None, "total_token_throughput": both / mean if load.get("input_len") and tokens else None,
        "request_throughput": (wanted.get("batch_size") or 0) / mean or None, "duration_s": sum(times),
        "ttft_ms": None, "tpot_ms": None, "itl_ms": None, "e2el_ms": latency}}


def _vllm_throughput(files: dict, wanted: dict) -> dict:
    """Return what ``vllm bench throughput`` measured."""
    path, text = only(files, "*.json", "result")
    found, load = read_json(path, text), wanted.get("load") or {}
    known = samples(wanted, count(get(found, "num_requests"), "num_requests"))
    elapsed = above_zero(get(found, "elapsed_time"), "elapsed_time")
    both = load["input_len"] + load["output_len"] if load.get("input_len") and load.get("output_len") else None
    # vLLM 0.32 has options of its own for random prompts, whose defaults silently win over input-len and output-len; 0.13.0 has not.
    _lengths(count(get(found, "total_num_tokens"), "total_num_tokens"), both, known, "prompts and answers")
    return {"samples": known, "performance": {
        "output_throughput": known["done"] * load["output_len"] / elapsed if load.get("output_len") else None,
        "total_token_throughput": above_zero(get(found, "tokens_per_second"), "tokens_per_second"),
        "request_throughput": above_zero(get(found, "requests_per_second"), "requests_per_second"),
        "duration_s": elapsed, "ttft_ms": None, "tpot_ms": None, "itl_ms": None, "e2el_ms": None}}
