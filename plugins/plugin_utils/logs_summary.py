# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' archives of logs say: per node the errors with cause and remedy, what was cut, and which node gave nothing.

A summary is ``{name, made_at, complete, nodes}``; a node is ``{host, head, given, why, bytes, files, units, cut, missing, notes}`` with ``why``
the reason why it gave nothing, ``cut`` and ``missing`` lines of its manifest. A unit is ``{name, state, now, before}``, where ``now`` and
``before`` (its last start) are what ``causes.explain`` makes of the lines that may tell of an error: ``{causes, traceback, last}``.
"""

from __future__ import annotations

import collections
import json
import re
import tarfile
import zlib
from datetime import datetime, timezone

from .causes import explain

#: Words of which an error has one, in lower case. Lines without any, and not soon after such a one, are not explained.
HINTS = (
    "error", "exception", "traceback", "fail", "fatal", "critical", "killed", "out of memory", "oom", "timed out", "timeout", "time out", "mismatch",
    "not supported", "unable", "cannot", "can't", "no such", "not found", "refused", "reset by", "already in use", "busy", "invalid", "expected",
    "must be", "ei0", "ej0", "abort", "assert",
)
#: Lines after such a one that belong to it, as a traceback does.
AFTER = 40
#: Lines of one unit that are explained: the first, which tell the cause, and the last, which tell how it ended.
FIRST, LAST = 800, 1600
#: Lines of a cause, of a traceback and of one node's list that SUMMARY.txt shows.
SHOWN_LINES, SHOWN_TRACEBACK, SHOWN_ENTRIES = 5, 40, 30
#: What the terminal shows of a node.
TERMINAL_CAUSES = 4

#: What docker_engine.stream_logs puts before a line.
_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\S* ")
_LEVEL = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b|^\w*(Error|Exception)\b|\bE[IJ]\d{4}\b")

#: What reading an archive that is no whole archive raises.
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)


class Picked:
    """The lines of one unit, of one time, that may tell of an error."""

    def __init__(self):
        self._first: list = []
        self._last: collections.deque = collections.deque(maxlen=LAST)
        self._after = 0

    def take(self, line: str) -> None:
        """Look at one line."""
        lowered = line.lower()
        if any(hint in lowered for hint in HINTS):
            self._after = AFTER
        elif not self._after:
            return
        else:
            self._after -= 1
        (self._first if len(self._first) < FIRST else self._last).append(line)

    def lines(self) -> list:
        """Return them, oldest first."""
        return [*self._first, *self._last]


def scan(archive: str) -> dict:
    """Return ``{manifest, units: {name: {state, started, now: Picked, before: Picked}}}`` of one node's archive. Raises one of ``BROKEN``."""
    manifest: dict = {}
    units: dict = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                continue
            kind, dummy, rest = member.name.partition("/")
            if member.name == "MANIFEST.json":
                manifest = json.load(stream)
                for name in manifest.get("units") or []:
                    units.setdefault(name, _unit())
            elif kind == "containers" and rest.endswith(".inspect.json"):
                _read_state(units.setdefault(rest[: -len(".inspect.json")], _unit()), stream)
            elif kind == "containers" and rest.endswith(".log"):
                unit = units.setdefault(rest[: -len(".log")], _unit())
                for line in _lines(stream):
                    time = _TIME.match(line)
                    _take(unit, line[time.end():] if time else line, not time or time.group(1) >= unit["started"])
            elif kind == "plog" and "/" in rest:
                unit = units.setdefault(rest.partition("/")[0], _unit())
                for line in _lines(stream):
                    _take(unit, line, member.mtime >= unit["started_s"])
            # To its end, so that an archive that is cut off is known for one.
            while stream.read(1 << 20):
                pass
    if not manifest:
        raise ValueError("there is no MANIFEST.json in it")
    return {"manifest": manifest, "units": units}


def _unit() -> dict:
    return {"state": None, "started": "", "started_s": 0.0, "ended": [], "now": Picked(), "before": Picked()}


def _take(unit: dict, line: str, now: bool) -> None:
    unit["now" if now else "before"].take(line)


def _lines(stream):
    for line in stream:
        yield line.decode("utf-8", "replace").rstrip("\n")


def _read_state(unit: dict, stream) -> None:
    """Keep how a container is and when it was started last."""
    try:
        state = json.load(stream).get("State") or {}
    except (ValueError, AttributeError):
        return
    started = str(state.get("StartedAt") or "")[:19]
    if re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$", started) and not started.startswith("0001"):
        unit["started"] = started
        unit["started_s"] = _seconds(started)
    if state.get("Running"):
        unit["state"] = f"running since {started}Z"
    else:
        killed = ", out of memory" if state.get("OOMKilled") else ""
        why = f": {state['Error']}" if state.get("Error") else ""
        unit["state"] = f"exited with status {state.get('ExitCode')}{killed}{why}"
        # Lines of their own, as causes knows them.
        unit["ended"] = [f"exited with status {state.get('ExitCode')}"]
        unit["ended"] += ["killed by the kernel: out of memory"] if state.get("OOMKilled") else []
        unit["ended"] += [str(state["Error"])] if state.get("Error") else []


def _seconds(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def _explained(lines: list, known, language: str) -> dict:
    """Return what is known of the lines, the traceback that nobody knows, and the last that say themselves that they are errors."""
    said = explain(lines, known, language)
    return {
        # What something else has brought about tells nothing beside its cause.
        "causes": [cause for cause in said["causes"] if not cause["consequence"]] or said["causes"],
        "traceback": said["traceback"][:SHOWN_TRACEBACK] if said["unexplained"] else [],
        "last": [line for line in lines if _LEVEL.search(line)][-SHOWN_LINES:],
    }


def node(host: str, head: bool, part: dict, known, language: str = "en") -> dict:
    """Return the summary of one node. ``part``: ``{archive: path or None, error, bytes, note}``; ``known``: what ``causes.load`` gave."""
    found: dict = {"host": host, "head": head, "given": False, "why": "", "bytes": 0, "files": 0, "units": [], "cut": [], "missing": [],
                   "notes": [part["note"]] if part.get("note") else []}
    if not part.get("archive"):
        return {**found, "why": part.get("error") or "no answer"}
    try:
        seen = scan(part["archive"])
    except BROKEN as error:
        return {**found, "why": f"its archive cannot be read: {error}"}
    entries = seen["manifest"].get("entries") or []
    lost = {entry["file"]: entry["error"] for entry in entries if entry.get("error")}
    short = seen["manifest"].get("secrets_too_short")
    if short:
        found["notes"].append(f"{short} secret(s) of fewer than 4 characters could not be looked for")
    return {
        **found,
        "given": True,
        "bytes": part.get("bytes") or 0,
        "files": sum(1 for entry in entries if entry.get("bytes")),
        "units": [_summary_of(name, unit, lost, known, language) for name, unit in sorted(seen["units"].items())],
        "cut": [f"{entry['file']}: {entry['cut']}" for entry in entries if entry.get("cut")],
        "missing": [f"{entry['file']}: {entry['error']}" for entry in entries if entry.get("error")],
    }


def _summary_of(name: str, unit: dict, lost: dict, known, language: str) -> dict:
    state = unit["state"] or lost.get(f"containers/{name}.inspect.json") or "nothing is known of its container"
    return {"name": name, "state": state, "now": _explained([*unit["now"].lines(), *unit["ended"]], known, language),
            "before": _explained(unit["before"].lines(), known, language)}


def build(name: str, made_at: str, plan: dict, parts: dict, known, language: str = "en") -> dict:
    """Return the summary of all nodes of the plan, in its order; ``parts``: host -> what ``node`` takes."""
    heads = {group["head"] for group in plan["groups"].values()}
    nodes = [node(host, host in heads, parts.get(host) or {}, known, language) for host in plan["hosts"]]
    return {"name": name, "made_at": made_at, "complete": all(entry["given"] for entry in nodes), "nodes": nodes}


def size(number: int) -> str:
    """Return a size for a person."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} bytes"


def _title(entry: dict) -> str:
    role = " (head)" if entry["head"] else ""
    if not entry["given"]:
        return f"{entry['host']}{role}: NOT IN THE BUNDLE: {entry['why']}"
    cut = f", {len(entry['cut'])} cut" if entry["cut"] else ""
    missing = f", {len(entry['missing'])} not to be had" if entry["missing"] else ""
    return f"{entry['host']}{role}: {entry['files']} files, {size(entry['bytes'])}{cut}{missing}"


def lines(summary: dict) -> list:
    """Return a few lines a node for the terminal: its causes with remedies, or the error that nobody knows."""
    found = []
    for entry in summary["nodes"]:
        found.append(_title(entry))
        for unit in entry["units"]:
            found.append(f"  {unit['name']}: {unit['state']}")
            for when, said in (("", unit["now"]), ("before its last start: ", unit["before"])):
                for cause in said["causes"][:TERMINAL_CAUSES]:
                    found += [f"    {when}{cause['cause']}", f"      Remedy: {cause['remedy']}"]
                if len(said["causes"]) > TERMINAL_CAUSES:
                    found.append(f"    {when}{len(said['causes']) - TERMINAL_CAUSES} more, see SUMMARY.txt")
                # How a service that runs now once failed in an unknown way is for SUMMARY.txt.
                unknown = (said["traceback"] or ([] if said["causes"] else said["last"]))[-1:] if not when else []
                found += [f"    unknown error, see SUMMARY.txt: {line.strip()[:160]}" for line in unknown]
        found += [f"  {note}" for note in entry["notes"]]
    return found


def text(summary: dict) -> str:
    """Return SUMMARY.txt: what was found first, then what the bundle lacks."""
    given = sum(1 for entry in summary["nodes"] if entry["given"])
    out = [f"Logs of {summary['name']}, {summary['made_at']}: {given} of {len(summary['nodes'])} node(s) gave their part.", ""]
    out += [f"NOT IN THE BUNDLE: {entry['host']}: {entry['why']}" for entry in summary["nodes"] if not entry["given"]]
    out += ["", "ERRORS, with what is known of them", ""]
    for entry in summary["nodes"]:
        if not entry["given"]:
            continue
        out.append(f"{entry['host']}{' (head)' if entry['head'] else ''}")
        for unit in entry["units"]:
            out.append(f"  {unit['name']}: {unit['state']}")
            out += _said(unit["now"], "")
            out += _said(unit["before"], "before its last start: ")
            if not (_said(unit["now"], "") or _said(unit["before"], "")):
                out.append("    no error found")
        out.append("")
    out += ["WHAT IS LACKING", ""]
    for entry in summary["nodes"]:
        if not entry["given"]:
            continue
        out.append(_title(entry))
        out += [f"  {note}" for note in entry["notes"]]
        for word, found in (("cut", entry["cut"]), ("not to be had", entry["missing"])):
            out += [f"  {word}: {line}" for line in found[:SHOWN_ENTRIES]]
            if len(found) > SHOWN_ENTRIES:
                out.append(f"  {word}: {len(found) - SHOWN_ENTRIES} more, see MANIFEST.json of the node")
    return "\n".join(line.rstrip() for line in out) + "\n"


def _said(said: dict, when: str) -> list:
    found = []
    for cause in said["causes"]:
        found += [f"    {when}{cause['cause']}", f"      Remedy: {cause['remedy']}"]
        found += [f"      > {line.strip()[:400]}" for line in cause["lines"][:SHOWN_LINES]]
    if said["traceback"]:
        found += [f"    {when}an error that is not known; its first traceback:", *(f"      > {line[:400]}" for line in said["traceback"])]
    elif not said["causes"] and said["last"]:
        found += [f"    {when}errors that are not known; the last:", *(f"      > {line.strip()[:400]}" for line in said["last"])]
    return found
