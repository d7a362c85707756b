# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One decision over all nodes of a group that starts, and the board where the nodes' watchers post what they see.

Ansible gives every node of a task a worker process of its own. Each worker watches its node in short slices and posts
the result on a board (a private directory on the controller); the first worker that can decide writes the decision, and
all follow it. So the wait ends on every node within one slice of an exit on any node.
"""

from __future__ import annotations

import json
import os
import re
import tempfile

#: Slices in a row without an answer after which a node counts as lost (one may be a hiccup of the connection).
LOST_AFTER = 3
#: Lines of an exited container's log that the error shows.
SHOWN_LINES = 25


def decide(states: dict, hosts: list, head: str, elapsed_s: float, limit_s: float):
    """Return None (go on waiting) or ``{outcome: ready|failed|timeout, host, message}``.

    ``states`` is host -> the newest slice of its watcher: ``{phase: running|ready|exited|absent|unreachable, misses,
    exit_code, error, last_line, log, health}``. A group is ready when its head got a completion and every other node runs.
    Of several failed nodes the one whose container exited is named: only its log says why.
    """
    found = [(host, states[host]) for host in hosts if states.get(host)]
    for host, state in found:
        if state["phase"] == "exited":
            why = f" ({state['error']})" if state.get("error") else ""
            last = (state.get("log") or [])[-SHOWN_LINES:]
            said = "Its last lines:\n" + "\n".join(last) if "".join(last).strip() else "It wrote no log."
            return _outcome("failed", host, f"the container on {host} exited with status {state.get('exit_code')}{why}. {said}")
    for host, state in found:
        if state["phase"] == "absent":
            return _outcome("failed", host, f"the container on {host} is gone: it was removed while the group started")
        if state["phase"] == "unreachable" and state.get("misses", 0) >= LOST_AFTER:
            return _outcome("failed", host, f"{host} has not answered {state['misses']} times in a row: {state.get('error')}")
    running = all(states.get(host, {}).get("phase") in ("running", "ready") for host in hosts)
    if running and states.get(head, {}).get("phase") == "ready":
        return _outcome("ready", head, f"a completion came back from {head} after {elapsed_s:.0f} s")
    if elapsed_s >= limit_s:
        found = "; ".join(f"{host}: {summary(states.get(host))}" for host in hosts)
        return _outcome("timeout", head, f"no completion within {limit_s:.0f} s. {found}")
    return None


def _outcome(outcome: str, host: str, message: str) -> dict:
    return {"outcome": outcome, "host": host, "message": message}


def summary(state) -> str:
    """Return one node's newest state in a few words, for the progress line."""
    if not state:
        return "not asked yet"
    if state["phase"] == "ready":
        return "answers"
    # An error may be a page of HTML or of ssh; this is a part of one line.
    error = " ".join(str(state.get("error") or "").split())[:160]
    if state["phase"] != "running":
        return f"{state['phase']} ({error})" if error else state["phase"]
    return error or phrase(state.get("last_line") or "") or "running"


#: What a line of vLLM's log says of the phase, most telling first. Shards as its progress bar prints them.
PHRASES = (
    (re.compile(r"Loading safetensors checkpoint shards:\s+(\d+)% Completed \| (\d+)/(\d+)"), "loading weights, shard {1} of {2}"),
    (re.compile(r"Application startup complete"), "API up"),
    (re.compile(r"Waiting for (\d+) local, (\d+) remote core engine proc"), "waiting for engines ({0} local, {1} remote)"),
    (re.compile(r"[Gg]raph captur|Capturing"), "capturing graphs"),
    # Not any "compil": the line that prints the whole configuration holds compilation_config.
    (re.compile(r"Compiling|torch\.compile takes|Dynamo bytecode"), "compiling"),
    (re.compile(r"Loading weights took|Starting to load model"), "loading weights"),
)

#: What vLLM puts before a line: the processes it comes from, then level, date and time.
PREFIX = re.compile(r"^\s*(\([^()]*\)\s*)*((DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\S+\s+\S+\s*)?")


def phrase(line: str) -> str:
    """Return what a log line says of the phase, or the line itself, shortened."""
    for pattern, text in PHRASES:
        found = pattern.search(line)
        if found:
            return text.format(*found.groups())
    return PREFIX.sub("", line).strip()[:100]


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
