# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One decision over all nodes of a group that starts, and the board where the nodes' watchers post what they see.

Ansible gives every node of a task a worker process of its own. Each worker watches its node in short slices and posts
the result on a board (a private directory on the controller); the first worker that can decide writes the decision, and
all follow it. So the wait ends on every node within one slice of an exit on any node, or two where its log says only that
something else broke first.

Times (``at``, ``since``, ``missed``, ``progressed``) are those of the controller's monotonic clock, in seconds, which its processes share.
"""

from __future__ import annotations

import json
import os
import re
import tempfile

from ..module_utils import serve_log
from .causes import HOW_IT_ENDED, explain
from .pages import load_words

#: Slices in a row without an answer after which a node counts as lost (one may be a hiccup of the connection), and the seconds that have to
#: be between the first and the last of them: one that refuses connections, as while its SSH server restarts, is asked again at once. A choice:
#: longer than the restart of an SSH server or of an interface takes.
LOST_AFTER, LOST_S = 3, 60.0
#: Lines of an exited container's log that the error shows where nothing in it is known.
SHOWN_LINES = 25
#: Seconds that an exit without a reason of its own waits for what the other nodes say: a slice of theirs, and its way.
HOLD_S = 6.0
#: A cause of this rank or more is often only what this node saw of another one.
SECOND_HAND = 60
#: Bytes of telling lines that are kept of one node.
KEPT_BYTES = 98304
#: How much a node's log tells, the most first; see ``Finding``.
ROOT, UNKNOWN, SEEN_OF_OTHERS, HOW, CONSEQUENCE, NOTHING = range(6)


class Watch:
    """What the watcher of one node remembers from slice to slice."""

    def __init__(self):
        self.misses, self.missed = 0, None
        self.startup = None
        self.steps: dict = {}
        self.progressed = None
        self.since = None
        self.telling: list = []

    def state(self, found: dict, now: float) -> dict:
        """Return what is posted of a slice: what ``serve_probe`` said, and ``{misses, missed, at, since, progressed, startup, telling}``.

        missed: when the first of the misses in a row was seen. since: when the container was first seen exited.
        progressed: when the start last came to another phase or another step of it.
        """
        if found["phase"] != "unreachable":
            self.misses, self.missed = 0, None
        else:
            self.misses, self.missed = self.misses + 1, now if self.missed is None else self.missed
        if self.progressed is None:
            self.progressed = now
        if found["phase"] == "exited" and self.since is None:
            self.since = now
        startup = found.get("startup")
        if startup:
            # By phase: at some log levels lines of two phases take turns.
            if self.steps.get(startup["phase"]) != startup["step"]:
                self.progressed = now
            self.steps[startup["phase"]] = startup["step"]
            self.startup = startup
        self.telling = serve_log.within(list(dict.fromkeys(self.telling + (found.get("telling") or []))), KEPT_BYTES)
        return {**found, "misses": self.misses, "missed": self.missed, "at": now, "since": self.since, "progressed": self.progressed,
                "startup": self.startup, "telling": self.telling}


class Finding:
    """What is known of one node: its state, the causes in its log, and how much they tell.

    ROOT: a cause of its own. UNKNOWN: a traceback that nothing explains. SEEN_OF_OTHERS: what it saw of another node. HOW: how its
    container ended. CONSEQUENCE: something broke first. NOTHING.
    """

    def __init__(self, host: str, state: dict, causes: dict, language: str):
        self.host, self.state, self.exited = host, state, state["phase"] == "exited"
        self.log = list(state.get("log") or [])
        self.own = [f"exited with status {state.get('exit_code')}"] if self.exited else []
        if self.exited and state.get("error"):
            self.own.insert(0, str(state["error"]))
        said = list(state.get("telling") or [])
        told = explain([*said, *(line for line in self.log if line not in set(said)), *self.own], causes, language)
        self.causes, self.traceback, self.unexplained = told["causes"], told["traceback"], told["unexplained"]
        self.value = min([self._value(cause) for cause in self.causes] + [UNKNOWN if self.unexplained else NOTHING])
        self.rank = self.causes[0]["rank"] if self.causes else HOW_IT_ENDED

    @staticmethod
    def _value(cause: dict) -> int:
        if cause["consequence"]:
            return CONSEQUENCE
        return ROOT if cause["rank"] < SECOND_HAND else SEEN_OF_OTHERS if cause["rank"] < HOW_IT_ENDED else HOW

    def key(self):
        """Return what findings are sorted by, the one to be told first of all."""
        return self.value, not self.exited, self.rank, self.state.get("since") or 0.0


def places(units: list) -> dict:
    """Return name of a unit -> where it is, as a person is told: its host, and its name where that host has several units of the group.

    ``units``: those of a group of the plan, ``[{name, host, ..}]``.
    """
    here = [unit["host"] for unit in units]
    return {unit["name"]: unit["host"] if here.count(unit["host"]) == 1 else f"{unit['host']} ({unit['name']})" for unit in units}


def decide(states: dict, hosts: list, asked: list, elapsed_s: float, limit_s: float, causes=None, language: str = "en", phase_limits=None):
    """Return None (go on waiting) or ``{outcome: ready|failed|timeout, host, message}``.

    ``states`` is host -> the newest state that its watcher posted: ``{phase: running|ready|exited|absent|unreachable, exit_code, error,
    last_line, log, health}`` and what ``Watch.state`` adds. Where a host has several units of the group, "host" is one of them (see ``places``).
    ``asked``: those with an API, the head first; a group is ready when each of them gave a completion and all others run.
    When a container has exited, the node is named whose log has the cause, be it another one; an exit without a cause of its own waits
    up to ``HOLD_S`` for the others' logs. ``phase_limits``: phase -> seconds that a node may be in it without progress.
    """
    words = load_words(language, "wait")
    found = {host: states[host] for host in hosts if states.get(host)}
    if any(state["phase"] == "exited" for state in found.values()):
        return _ended(found, hosts, causes or {}, language, words)
    for host, state in found.items():
        if state["phase"] == "absent":
            return _outcome("failed", host, words["removed"].format(host=host))
        if state["phase"] == "unreachable" and state.get("misses", 0) >= LOST_AFTER and state["at"] - state["missed"] >= LOST_S:
            return _outcome("failed", host, words["lost"].format(host=host, count=state["misses"], error=state.get("error")))
    running = all(states.get(host, {}).get("phase") in ("running", "ready") for host in hosts)
    head = asked[0]
    if running and all(states[host]["phase"] == "ready" for host in asked):
        return _outcome("ready", head, words["completed"].format(host=", ".join(asked), seconds=f"{elapsed_s:.0f}"))
    so_far = "; ".join(f"{host}: {summary(states.get(host), language)}" for host in hosts)
    stuck = _stuck(found, phase_limits or {})
    if elapsed_s >= limit_s:
        return _outcome("timeout", head, "\n".join([words["time_up"].format(seconds=f"{limit_s:.0f}", found=so_far), *_known(found, causes, language, words)]))
    if stuck:
        host, phase, idle = stuck
        said = {"host": host, "seconds": f"{idle:.0f}", "limit": f"{phase_limits[phase]:g}", "phase": words[phase], "name": phase, "found": so_far}
        return _outcome("timeout", host, "\n".join([
            words["stuck"].format(**said), words["stuck_remedy"].format(**said), *_known(found, causes, language, words)]))
    return None


def _outcome(outcome: str, host: str, message: str) -> dict:
    return {"outcome": outcome, "host": host, "message": message}


def _ended(found: dict, hosts: list, causes: dict, language: str, words: dict):
    """Return the decision of a group in which a container has exited, or None while the others' logs may still tell why."""
    findings = [Finding(host, state, causes, language) for host, state in found.items()]
    exits = sorted((finding for finding in findings if finding.exited), key=Finding.key)
    # A node that still runs is named only for what tells more than anything that the exited ones say: see the key.
    named = min([*exits, *(finding for finding in findings if not finding.exited and finding.value < HOW)], key=Finding.key)
    if named.value > ROOT and _may_hear(found, hosts):
        return None
    text = [_how_it_ended(named if named.exited else exits[0], words)]
    if not named.exited:
        text.append(words["elsewhere"].format(host=named.host))
    if named.causes:
        text.append(words["cause"].format(**named.causes[0]))
    lines = _evidence(named, words)
    also = [finding for finding in exits if finding is not named and (named.exited or finding is not exits[0])]
    if also:
        lines.append(words["others"].format(hosts="; ".join(_other(finding, words) for finding in also)))
    if lines and lines[0] in (words["last_lines"], words["no_log"]):
        text.append(lines.pop(0))
    return _outcome("failed", named.host, "\n".join([words["between"].join(text), *lines]))


def _may_hear(found: dict, hosts: list) -> bool:
    """Return whether a node has posted nothing since the first exit was seen, and it is not too late for it."""
    seen = [state["since"] for state in found.values() if state.get("since") is not None]
    if not seen:
        return False
    silent = [host for host in hosts if found.get(host, {}).get("at", float("-inf")) < min(seen)]
    return bool(silent) and max(state.get("at", min(seen)) for state in found.values()) - min(seen) < HOLD_S


def _how_it_ended(finding: Finding, words: dict) -> str:
    state = finding.state
    word = words["ended_why" if state.get("error") else "ended"]
    return word.format(host=finding.host, code=state.get("exit_code"), error=state.get("error"))


def _other(finding: Finding, words: dict) -> str:
    cause = finding.causes[0]["cause"] if finding.causes else None
    return words["other_why" if cause else "other"].format(host=finding.host, code=finding.state.get("exit_code"), cause=cause)


def _evidence(finding: Finding, words: dict) -> list:
    """Return the lines behind a finding: those of the known cause, the first traceback of an unknown one, else the end of the log."""
    shown = [line for line in (finding.causes[0]["lines"] if finding.causes else []) if line not in finding.own]
    lines = [words["evidence"], *shown] if shown else []
    if finding.unexplained and finding.value >= UNKNOWN:
        lines += [words["first_error"], *finding.traceback]
    elif finding.value >= HOW or not finding.causes:
        last = finding.log[-SHOWN_LINES:]
        lines += [words["last_lines"], *last] if "".join(last).strip() else [words["no_log"]] if not shown else []
    further = [cause for cause in finding.causes[1:3] if not cause["consequence"] and cause["rank"] < HOW_IT_ENDED]
    return lines + [words["further"].format(cause=cause["cause"]) for cause in further]


def _known(found: dict, causes, language: str, words: dict) -> list:
    """Return what the logs of the nodes that run tell of a start that took too long, if anything."""
    findings = [Finding(host, state, causes or {}, language) for host, state in found.items()]
    telling = [finding for finding in findings if finding.value < HOW]
    if not telling:
        return []
    finding = min(telling, key=Finding.key)
    cause = [words["cause"].format(**finding.causes[0])] if finding.causes else []
    return [words["between"].join([words["in_log"].format(host=finding.host), *cause]), *_evidence(finding, words)]


def _stuck(found: dict, limits: dict):
    """Return ``(host, phase, seconds without progress)`` of a node that is over its phase's limit, or None.

    A node that starts or loads shards is measured by its own progress. One that has loaded all, compiles or waits may have to wait for
    the slowest node at any moment (collective operations), so it is measured by the newest progress of the whole group. Of several the
    one that is least far is named.
    """
    newest = max((state["progressed"] for state in found.values() if state.get("progressed") is not None), default=None)
    over = []
    for host, state in found.items():
        if state["phase"] != "running" or state.get("progressed") is None:
            continue
        startup = state.get("startup") or {"phase": "starting", "step": ""}
        phase = startup["phase"]
        done, dummy, total = startup["step"].partition("/")
        alone = phase in ("starting", "ready") or phase == "loading" and done != total and bool(total)
        idle = state["at"] - (state["progressed"] if alone else newest)
        if phase in limits and idle > limits[phase]:
            over.append((serve_log.PHASES.index(phase), -idle, host, phase))
    if not over:
        return None
    dummy, idle, host, phase = min(over)
    return host, phase, -idle


def limits_problem(limits: dict):
    """Return what is wrong with the limits of the phases, for the person who set them, or None."""
    for phase, seconds in limits.items():
        if phase not in serve_log.PHASES:
            return f"phase_limits has the phase {phase!r}. Remedy: name phases of {', '.join(serve_log.PHASES)} only"
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            return f"phase_limits gives the phase {phase} the limit {seconds!r}. Remedy: write a number of seconds above 0, or leave the phase out for no limit"
    return None


def summary(state, language: str = "en") -> str:
    """Return one node's newest state in a few words, for the progress line."""
    words = load_words(language, "wait")
    if not state:
        return words["not_asked"]
    if state["phase"] == "ready":
        return words["answers"]
    # An error may be a page of HTML or of ssh; this is a part of one line.
    error = " ".join(str(state.get("error") or "").split())[:160]
    if state["phase"] != "running":
        return words["with_error"].format(state=words[state["phase"]], error=error) if error else words[state["phase"]]
    if error:
        return error
    return phase_words(state["startup"], words) if state.get("startup") else phrase(state.get("last_line") or "", words)


def phase_words(startup: dict, words: dict) -> str:
    """Return a phase and its step as a person reads them."""
    phase, step = startup["phase"], startup["step"]
    done, dummy, total = step.partition("/")
    return words[f"{phase}_step"].format(done=done, total=total) if step else words[phase]


def phrase(line: str, words: dict) -> str:
    """Return what a log line says of the phase; of one that says nothing of it, that the node starts, and the line itself, shortened."""
    startup = serve_log.stage([line])
    if startup:
        return phase_words(startup, words)
    said = serve_log.split(serve_log.clean(line))[2].strip()[:100]
    return words["with_error"].format(state=words["starting"], error=said) if said else words["starting"]


class Board:
    """The directory where the watchers of one wait post their states and find the decision."""

    def __init__(self, path: str):
        self.path = path

    def _write(self, name: str, content: dict) -> str:
        handle, partial = tempfile.mkstemp(dir=self.path, prefix=".partial-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        target = os.path.join(self.path, name)
        os.replace(partial, target)
        return target

    def _read(self, name: str):
        try:
            with open(os.path.join(self.path, name), encoding="utf-8") as stream:
                return json.load(stream)
        except FileNotFoundError:
            return None

    @staticmethod
    def _name(host: str) -> str:
        return "state-" + re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):x}_", host)

    def post(self, host: str, state: dict) -> None:
        """Post a node's newest state."""
        self._write(self._name(host), state)

    def states(self, hosts: list) -> dict:
        """Return host -> newest state, for the hosts that have posted one."""
        found = {host: self._read(self._name(host)) for host in hosts}
        return {host: state for host, state in found.items() if state}

    def decision(self):
        """Return the decision, or None."""
        return self._read("decision")

    def settle(self, decision: dict) -> dict:
        """Write a decision unless there is one; return the one that counts."""
        partial = self._write(f"decision-{os.getpid()}", decision)
        try:
            # A link fails when the name exists: the first decision stands, whole.
            os.link(partial, os.path.join(self.path, "decision"))
        except FileExistsError:
            pass
        return self.decision()
