# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records: what is kept of each run of a client, where, and the site's baselines among them.

A record has always the same keys, those of ``blank``; what is not known is null. One run of one set or of one load point is one record. They are kept on the
controller, below the folder of the reports: ``results/<group>/<id>.json``, and the baselines of a group in ``results/<group>/baselines.json`` as
``{key: {value, metric, record, started}}``. Pure; roles read and write the files. Times are UTC, in ISO 8601.
"""

from __future__ import annotations

import json
import re

from . import gates as gates_of
from . import results
from .messages import did_you_mean, is_mapping, known_names, shown

SCHEMA = 1
#: The file of a group's baselines, beside its records.
BASELINES = "baselines.json"
#: Load of a record, in the order of a baseline's key.
LOAD = ("request_rate", "max_concurrency", "input_len", "output_len", "num_prompts")


class RecordError(Exception):
    """What was handed over is no run, no set or no file of baselines; the text says what was found, what is wanted and what to do."""


def make(run: dict, job: dict, deployment: dict, data: dict, kept: dict | None = None, group: str | None = None) -> dict:
    """Return the judged record of a run. Raises RecordError for a set that is not known and for baselines that are none.

    ``run``: what client_run returned. ``job``: what was run (see ``clients``). ``data``: ``{clients, sets, gates}``. ``kept``: the group's baselines.
    """
    record = blank(run, job, deployment, data, group)
    known = baselines(kept)
    try:
        found = results.parse(job["tool"], run.get("files") or {}, wanted(job, data))
        _ended_well(run, found["samples"])
    except results.Invalid as error:
        return {**record, "samples": {**record["samples"], **error.samples}, "gate": gates_of.told("invalid", reason=_reason(run, error))}
    version = found["tool_version"] or record["tool_version"]
    record = {**record, "samples": found["samples"], "score": found["score"], "performance": found["performance"], "tool_version": version}
    record["gate"] = gates_of.judge(record, data["gates"], known.get(key(record)) if record["kind"] == "performance" else None)
    return record


def blank(run: dict, job: dict, deployment: dict, data: dict, group: str | None = None) -> dict:
    """Return the record of a run of which nothing is known yet but what was asked for."""
    asked = job.get("wanted") or {}
    version = (data.get("clients", {}).get(job["tool"]) or {}).get("version")
    speed = job.get("load") is not None
    return {
        "schema": SCHEMA,
        "kind": "performance" if speed else "accuracy",
        "id": job["id"],
        "group": group,
        "tool": job["tool"],
        "tool_version": None if version is None else str(version),
        "set": job.get("set") or (asked.get("set") if speed else None),
        "limit": asked.get("limit"),
        "model": asked.get("model"),
        "started": run.get("started") or started(job["id"]),
        "seconds": run.get("seconds"),
        "samples": {"wanted": _count(job, asked), "done": None, "failed": None, "empty": None},
        "others": others(run),
        "score": None,
        "load": job.get("load"),
        "performance": None,
        "gate": gates_of.told("none"),
        "configuration": job.get("configuration") or {},
        "added": job.get("added") or [],
        "deployment": deployment,
    }


def others(run: dict):
    """Return how many requests of others the service had right before or right after a client, the larger number, or None where nobody could tell.

    ``run``: may have ``before`` and ``after``, each ``{running, waiting}`` or None. Before a client that was joined there are its own.
    """
    looks = [run.get("after"), None if run.get("joined") else run.get("before")]
    return max((look["running"] + look["waiting"] for look in looks if is_mapping(look)), default=None)


def wanted(job: dict, data: dict) -> dict:
    """Return what a parser looks for: what the job wants, with what the data say of its set. Raises RecordError for a set that is not known."""
    asked = {**(job.get("wanted") or {}), "load": job.get("load")}
    asked["n"] = _count(job, asked)
    argv = job.get("argv") or (job.get("configuration") or {}).get("argv") or []
    asked["ignore_eos"] = "--ignore-eos" in argv
    size = _option(argv, "--batch-size")
    asked["batch_size"] = int(size) if size is not None and re.fullmatch(r"\d+", str(size)) else None
    name = asked.get("set")
    if name is None:
        return asked
    known = data.get("sets") or {}
    if name not in known:
        raise RecordError(f"found the set {name!r}, wanted {known_names(sorted(known))}. Remedy: {did_you_mean(name, known)}correct evaluate_sets, "
                          "or add the set in a folder of vllm_data_dirs.")
    entry = known[name]
    tool = entry["tools"].get(job["tool"])
    if tool is None:
        raise RecordError(f"found the set {name!r} with {job['tool']}, wanted it with {known_names(sorted(entry['tools']))}. "
                          "Remedy: use one of these tools, or complete the set's tools in a folder of vllm_data_dirs.")
    return {"task": name, **asked, "name": tool.get("name", name), "metric": tool["metric"], "answered": entry.get("answered"),
            "unanswered_max_percent": entry.get("unanswered_max_percent", 0)}


def _count(job: dict, asked: dict):
    """Return how many samples a run has to have: requests or questions, and of latency its repetitions."""
    if job["tool"] != "vllm_latency":
        return asked.get("n")
    argv = job.get("argv") or (job.get("configuration") or {}).get("argv") or []
    count = _option(argv, "--num-iters")
    return int(count) if count is not None and re.fullmatch(r"\d+", str(count)) else None


def _option(argv: list, name: str):
    """Return the value of an option of a command line, or None."""
    for place, word in enumerate(argv):
        if str(word) == name:
            return argv[place + 1] if place + 1 < len(argv) else None
        if str(word).startswith(f"{name}="):
            return str(word).partition("=")[2]
    return None


def _ended_well(run: dict, known: dict) -> None:
    """Raise Invalid for a client that did not come to its own end, whatever its files say."""
    if run.get("timed_out"):
        raise results.Invalid("the client was ended at its time limit", **known)
    if run.get("error"):
        raise results.Invalid(f"the client did not come to its end: {results.said(run['error'])}", **known)
    if run.get("rc") != 0:
        raise results.Invalid(f"the client ended with {'an exit status that nobody knows' if run.get('rc') is None else run['rc']}, wanted 0", **known)


def _reason(run: dict, error: results.Invalid) -> str:
    """Return why a run is invalid: its end first where that explains the rest, and what the client's log says."""
    limit, reason = "the client was ended at its time limit", error.reason
    remedy, seconds = error.remedy, run.get("seconds")
    if run.get("timed_out"):
        after = f" after {seconds:.0f} s" if isinstance(seconds, (int, float)) else ""
        reason = f"{limit}{after}" + ("" if reason == limit else f"; {reason}")
        remedy = "see with status.yml whether the service hangs; else give more time (evaluate_timeout_s, benchmark_timeout_s)"
    elif run.get("left_out"):
        reason += f"; not read because they are too large: {', '.join(map(str, run['left_out']))}"
    elif run.get("rc") not in (0, None) and "ended with" not in reason:
        reason += f"; exit status {run['rc']}"
    words = results.last_words(run.get("log") or "")
    return f"{reason}." + (f" Its log: {words}" + ("" if words.endswith(".") else ".") if words else "") + f" Remedy: {remedy}."


def started(identifier: str) -> str | None:
    """Return the time that a record's id begins with, in ISO 8601, or None."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", identifier)
    return "{}-{}-{}T{}:{}:{}Z".format(*found.groups()) if found else None


# ---- Baselines


def key(record: dict) -> str:
    """Return what has to be the same for two speeds to be compared: tool, set, load, model, hardware, how many NPUs compute, and what the site stated.

    Of a service these are DP and TP of its group, of an engine of its own the TP in its load. Where prefill and decode are separated, the sizes of all
    groups and their options are a part, too.
    """
    load, deployment = record.get("load") or {}, record.get("deployment") or {}
    parts = [record["tool"], *([record["set"]] if record.get("set") else [])]
    parts += [f"{name}={'none' if load.get(name) is None else format(load[name], 'g')}" for name in LOAD]
    own = load.get("tensor_parallel_size")
    size = f"tp={own}" if own is not None else f"dp={deployment.get('data_parallel_size')} tp={deployment.get('tensor_parallel_size')}"
    parts += [str(deployment.get("recipe")), str(deployment.get("hardware")), size]
    parts += [deployment["together"]] if deployment.get("together") and own is None else []
    stated = sorted(f"{entry['name']}={json.dumps(entry['value'], sort_keys=True)}" for entry in record.get("added") or []
                    if str(entry.get("reason", "")).startswith("stated in benchmark_"))
    return " ".join(parts + stated)


def baselines(kept: dict | None) -> dict:
    """Return a group's baselines; an empty file has none. Raises RecordError for what is none, so that no run passes by a broken file."""
    if kept in (None, ""):
        return {}
    if not is_mapping(kept):
        raise RecordError(f"{BASELINES} is {shown(kept)}, wanted a mapping of loads to baselines. Remedy: restore the file, or remove it: the next run "
                          "makes new baselines.")
    for name in kept.keys():
        value = kept[name].get("value") if is_mapping(kept[name]) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise RecordError(f"{BASELINES}: {name!r} is {shown(kept[name])}, wanted a value above 0. Remedy: restore the file, or remove this entry: the "
                              "next run makes a new baseline.")
    return {str(name): {"record": None, **{part: kept[name][part] for part in kept[name].keys()}} for name in kept.keys()}


def with_baselines(kept: dict | None, records: list, replace: bool = False) -> dict:
    """Return a group's baselines after a run: each first valid result of a load is one. ``replace``: and each new one takes the place of the old.

    A result that is invalid or below never becomes one by itself; a slow one does with ``replace``. One without a value in its gate never does: that is
    how a speed beside the requests of others is told.
    """
    found = dict(baselines(kept))
    new: set = set()
    for record in records:
        gate = record["gate"]
        if record["kind"] != "performance" or gate["outcome"] == "invalid" or gate["value"] is None:
            continue
        name = key(record)
        if name not in found or (replace and name not in new):
            numbers = {part: number for part, number in record["performance"].items() if isinstance(number, (int, float))}
            metric = next((part for part, number in numbers.items() if round(number, gates_of.DIGITS) == gate["value"]), None)
            found[name] = {"value": gate["value"], "metric": metric, "record": record["id"], "started": record["started"]}
            new.add(name)
    return dict(sorted(found.items()))


def files(records: list, kept: dict | None = None, replace: bool = False) -> list:
    """Return what is kept of a run as ``[{path, text}]``, paths below the folder of the reports. ``kept``: group -> its baselines.

    The baselines of a group are among them where they have changed.
    """
    found = []
    for record in records:
        found.append({"path": f"results/{_name(record['group'])}/{_name(record['id'])}.json", "text": text(record)})
    for group in sorted({str(record["group"]) for record in records}):
        before = (kept or {}).get(group)
        after = with_baselines(before, [record for record in records if str(record["group"]) == group], replace)
        if after != baselines(before):
            found.append({"path": f"results/{_name(group)}/{BASELINES}", "text": text(after)})
    return found


def _name(value: object) -> str:
    """Return a text as the name of a file."""
    return re.sub(r"[^A-Za-z0-9_.=-]", "-", str(value)).lstrip(".") or "none"


def text(value: object) -> str:
    """Return a value as JSON, as it is kept."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


# ---- For the person at the terminal


def what(record: dict) -> str:
    """Return what a record is of: ``vllm: gsm8k (first 32) with lm_eval``, ``vllm: vllm_serve at 4 requests/s``."""
    if record["kind"] == "accuracy":
        first = f" (first {record['limit']})" if record.get("limit") else ""
        return f"{record['group']}: {record['set']}{first} with {record['tool']}"
    load = record.get("load") or {}
    parts = [f"{load['request_rate']:g} requests/s"] if load.get("request_rate") is not None else []
    parts += [f"{load['max_concurrency']} at once"] if load.get("max_concurrency") is not None else []
    alone = record["tool"] in ("vllm_latency", "vllm_throughput")
    return f"{record['group']}: {record['tool']}" + ("" if alone else f" at {', '.join(parts)}" if parts else ", all at once")


def value(record: dict) -> str:
    """Return the number of a record, as a person reads it."""
    score, speed = record.get("score"), record.get("performance")
    if score:
        error = score.get("std_error")
        return f"{score['percent']:.2f} %" + (f" +- {error:.2f}" if error is not None else "")
    if not speed:
        return "no result"
    parts = [f"{speed['output_throughput']:.1f} output tokens/s"] if speed.get("output_throughput") else []
    parts = parts or ([f"{speed['total_token_throughput']:.1f} tokens/s"] if speed.get("total_token_throughput") else [])
    parts += [f"{name.upper()} {speed[f'{name}_ms']['mean']:.1f} ms" for name in results.LATENCIES if speed.get(f"{name}_ms")]
    return ", ".join(parts) or "no result"


def lines(records: list) -> list:
    """Return a line a record, those first that need the reader, and what follows from it."""
    found = []
    for record in sorted(records, key=lambda entry: gates_of.OUTCOMES.index(entry["gate"]["outcome"])):
        gate = record["gate"]
        floor = f", floor {gate['floor']:.{2 if record['kind'] == 'performance' else 1}f}" if gate["floor"] is not None else ""
        why = f": {gate['reason']}" if gate["reason"] else ""
        found.append(f"[{gate['outcome']}] {what(record)}: {value(record)}{floor}{why}")
    return found


def failed(records: list, gate: bool = False) -> list:
    """Return why a verb fails, a line a record, each with what was found, what was wanted and what to do; empty if it does not.

    ``gate``: somebody asked for a gate, or for a new baseline, so that a result without one fails, too. The first speed of a load does not: it becomes
    the baseline.
    """
    if not records:
        return ["[invalid] no result: found 0 runs, wanted one or more. Remedy: look further up why no client was run."]
    found = []
    for record in records:
        outcome, reason = record["gate"]["outcome"], record["gate"]["reason"]
        if outcome not in ("pass", "none"):
            found.append(f"[{outcome}] {what(record)}: found {reason}")
        elif outcome == "none" and gate and (record["kind"] == "accuracy" or record["gate"]["value"] is None):
            missing = f"{str(reason).removesuffix('. Not judged')}, wanted a gate that judges it. Remedy: {gates_of.NO_GATE}."
            found.append(f"[none] {what(record)}: found {reason if 'Remedy: ' in str(reason) else missing}")
    return found
