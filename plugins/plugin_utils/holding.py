# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock of a group: a process of a controller, told apart from a later one with the same number by when it began."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import datetime, timezone
from pathlib import Path

#: Made once for each installation of a system.
MACHINE = Path("/etc/machine-id")


def controller(machine: Path = MACHINE, proc: Path = Path("/proc")) -> str:
    """Return a name of this controller that no other one has, and within which the number of a process means one process.

    Containers of one image may share the machine's id, and with the host's network also its name; their processes are numbered apart.
    """
    try:
        number = machine.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        number = ""
    try:
        space = os.readlink(proc / "self" / "ns" / "pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()}/{number}/{space}"


def began(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return when a process began, in words of the system that are the same each time; None if there is no such process to be seen."""
    if proc.is_dir():
        try:
            # The name in parentheses may hold anything; the state is the first word after it, clock ticks since the start of the machine the 20th.
            words_after = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            # One that has ended and that nobody has waited for, as in a container without an init, does nothing any more.
            return None if words_after[0] in ("Z", "X") else words_after[19]
        except (OSError, IndexError):
            return None
    same = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env=same).stdout.strip()
    except OSError:
        return None
    return said or None


def ended(pid: int, start: str | None, proc: Path = Path("/proc")) -> bool:
    """Return whether the process that began at ``start`` is there no more; False where that cannot be known."""
    now = began(pid, proc)
    if now is not None:
        return start is not None and now != start
    try:
        # The system may hide the processes of other users (hidepid), but it does not say of those that there are none.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


def describe(pid: int, verb: str, user: str, now: float, lease_s: int) -> dict:
    """Return the holder ``{id, controller, pid, began, who, verb, since, until}`` for a run; times are seconds since 1970-01-01 UTC."""
    here, start = controller(), began(pid)
    return {
        "id": f"{here}/{pid}/{start}", "controller": here, "pid": pid, "began": start, "who": f"{user} on {socket.gethostname()}",
        "verb": verb, "since": int(now), "until": int(now) + lease_s,
    }


def gone(other: dict, mine: dict, now: float) -> str | None:
    """Return why another holder need not be waited for, or None when it may still act.

    A process of this controller is looked at, however long it takes; of one elsewhere the time is known that it asked for.
    """
    pid, until = other.get("pid"), other.get("until")
    if other.get("controller") == mine["controller"] and isinstance(pid, int) and pid > 0:
        return f"its process {pid} on this controller has ended" if ended(pid, other.get("began")) else None
    if isinstance(until, (int, float)) and now > until:
        return f"its time was over at {_time(until)}"
    return None


def words(other: dict) -> str:
    """Return a holder as a person reads it."""
    since = other.get("since")
    when = f" since {_time(since)}" if isinstance(since, (int, float)) else ""
    process = f" (process {other['pid']})" if other.get("pid") else ""
    verb = f", verb {other['verb']}" if other.get("verb") else ""
    return f"{other.get('who') or 'somebody'}{process}{verb}{when}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
