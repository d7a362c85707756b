# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: is a result good enough? From data/gates, for accuracy by a floor, for speed by a part of the site's own baseline.

A gate is ``{outcome, name, value, floor, baseline, source, reason}``. Outcomes: ``pass``, ``below``, ``invalid`` (the numbers mean nothing) and ``none``
(no gate is for such a run, or a first result has nothing to be compared with; ``reason`` says which). Bounds are lower ones only, and a value that equals
its floor passes. Pure. Units: percent for scores, tokens per second for speeds.
"""

from __future__ import annotations

import re

OUTCOMES = ("invalid", "below", "none", "pass")
#: Outcomes with which a verb fails.
FAILING = ("invalid", "below")
#: Baseline and result of one number of digits more than anyone prints.
DIGITS = 6
#: How ``added`` says that the site's own sampling took the place of the tool's.
SAMPLING = "stated in evaluate_generation"
#: How ``added`` says that the site stated something itself.
STATED = "stated in evaluate_"
#: Of what a site may state, by its bare name: how many requests are sent at once and how long one may take make no other question or answer of it.
HARMLESS = ("num_concurrent", "batch_size", "timeout")

WRONG_ANSWERS = ("look at the wrong answers in the client's results on the head; compare flags and release with the recipe's, and prove the weights "
                 "(fetch.yml, weights_sync_verify=full); another run tells chance from fault")
NO_GATE = "add a gate in a folder of vllm_data_dirs (data/gates of the collection shows how), or name another gate"
ALONE = "run it again while nobody else uses the service"
SLOWER = (f"{ALONE}; status.yml shows what has changed on the nodes. If it is meant to be slower now: "
          "-e benchmark_new_baseline=true")


def find(gates: dict, record: dict, planned: bool = False) -> tuple[str | None, dict | None, str]:
    """Return ``(name, gate, "")`` of what a record is judged by, or ``(None, None, why there is none)``.

    ``planned``: the record is of a run that is to come: what the site states is known, command line and files are not yet.
    """
    tool, accuracy = record["tool"], record["kind"] == "accuracy"
    mine = {name: gate for name, gate in gates.items() if gate["kind"] == record["kind"]}
    if not accuracy:
        name = next((name for name, gate in mine.items() if tool in gate["metrics"]), None)
        return (name, mine[name], "") if name else (None, None, f"no gate is for the speed that {tool} measures")
    recipe, count = record["deployment"].get("recipe"), record["samples"]["wanted"]
    steps = (
        ("of the set {set}", lambda gate: gate["set"] == record["set"]),
        ("for what {tool} measures", lambda gate: tool in gate["tools"]),
        ("for the model {recipe}", lambda gate: recipe in gate["recipes"]),
        ("of {count} samples", lambda gate: gate["samples"] == count),
        ("for this configuration of {tool}", lambda gate: not (stated if planned else differs)(gate["tools"][tool], record)),
    )
    words, so_far = {"set": record["set"], "tool": tool, "recipe": recipe, "count": count}, ""
    for text, fits in steps:
        left = {name: gate for name, gate in mine.items() if fits(gate)}
        if not left:
            others = ", ".join(_told(name, gate, tool, record) for name, gate in mine.items())
            return None, None, f"no gate {text.format(**words)}" + (f"; there is one {so_far}: {others}" if so_far else "")
        mine, so_far = left, text.format(**words)
    name = max(mine, key=lambda entry: mine[entry]["floor"])
    return name, mine[name], ""


def _told(name: str, gate: dict, tool: str, record: dict) -> str:
    """Return a gate that does not fit, with what it is for."""
    what = differs(gate["tools"].get(tool, []), record) if gate["samples"] == record["samples"]["wanted"] and tool in gate["tools"] else ""
    return f"{name} ({', '.join(gate['tools'])}; {', '.join(gate['recipes'])}; {gate['samples']} samples{'; ' + what if what else ''})"


def differs(words: list, record: dict) -> str:
    """Return in what a run is of another configuration than a gate's, or an empty text."""
    other = stated(words, record)
    if other:
        return other
    configuration = record.get("configuration") or {}
    text = "\n".join([" ".join(str(word) for word in configuration.get("argv") or []), *map(str, (configuration.get("files") or {}).values())])
    missing = [word for word in words if str(word) not in text]
    return f"with {', '.join(missing)}" if missing else ""


def stated(words: list, record: dict) -> str:
    """Return what the site states for a run that a gate is not for, or an empty text. What the gate's own words name belongs to it."""
    named, found = set(re.findall(r"\w[\w-]*", " ".join(map(str, words)).replace("-", "_"))), []
    for entry in record.get("added") or []:
        reason, name = str(entry.get("reason")), str(entry.get("name"))
        if SAMPLING in reason:
            return "with its own sampling, none stated"
        bare = name.rsplit(" ", maxsplit=1)[-1].replace("-", "_")
        if reason.startswith(STATED) and bare not in HARMLESS and bare not in {word.lstrip("_") for word in named}:
            found.append(name)
    return f"with no {', '.join(found)} stated" if found else ""


def judge(record: dict, gates: dict, baseline: dict | None = None) -> dict:
    """Return the gate of a record whose numbers are right. ``baseline``: ``{value, record, ..}`` of its load, or None."""
    name, gate, why = find(gates, record)
    if gate is None:
        return told("none", reason=f"{why}. Not judged")
    if record["kind"] == "accuracy":
        return _score(record, name, gate)
    metric = gate["metrics"][record["tool"]]
    return _speed(record, name, gate, metric, baseline)


def told(outcome: str, **values) -> dict:
    """Return a gate in its full shape."""
    return {"outcome": outcome, "name": None, "value": None, "floor": None, "baseline": None, "source": None, "reason": "", **values}


def _score(record: dict, name: str, gate: dict) -> dict:
    """Return the gate of a score."""
    value, floor = record["score"]["percent"], float(gate["floor"])
    found = told("pass" if value >= floor else "below", name=name, value=value, floor=floor, baseline=gate.get("published"), source=gate["source"])
    if found["outcome"] == "below":
        error = record["score"].get("std_error")
        found["reason"] = (f"{value:.2f} %{f' (standard error {error:.1f})' if error is not None else ''} of {record['samples']['done']} samples, "
                           f"wanted at least {floor:g} %. Remedy: {WRONG_ANSWERS}.")
    return found


def _speed(record: dict, name: str, gate: dict, metric: str, baseline: dict | None) -> dict:
    """Return the gate of a speed; the first one has none."""
    value = record["performance"].get(metric)
    if value is None:
        return told("none", name=name, source=gate["source"], reason=f"{record['tool']} did not say its {metric}. Not judged")
    value, others = round(float(value), DIGITS), record.get("others")
    if baseline is None and others:
        # Later runs would be judged by what is too slow.
        return told("none", name=name, source=gate["source"], reason=f"{others} requests of others on the service beside it, wanted none: the first result of "
                    f"this load does not become the baseline. Remedy: {ALONE}.")
    if baseline is None:
        return told("none", name=name, value=value, source=gate["source"], reason="the first result of this load: it becomes the baseline of this site")
    base = round(float(baseline["value"]), DIGITS)
    floor = round(gate["ratio"] * base, DIGITS)
    source = f"baseline of this site: {baseline['record']}"
    found = told("pass" if value >= floor else "below", name=name, value=value, floor=floor, baseline=base, source=source)
    if found["outcome"] == "below":
        found["reason"] = (f"{metric} {value:.2f}, wanted at least {floor:.2f}: {gate['ratio']:g} of the baseline {base:.2f} ({baseline['record']})"
                           f"{f', beside {others} requests of others' if others else ''}. Remedy: {SLOWER}.")
    return found
