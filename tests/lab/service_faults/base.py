# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every fault is made of: its description, its error, and a command that must succeed."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable


class FaultError(Exception):
    """A fault that cannot be set or cleared; the text says why."""


@dataclass(frozen=True)
class Fault:
    """One thing that can be broken.

    apply(values, saved) breaks it and puts into ``saved`` (a dict that is JSON) all that undo(values, saved) needs; it fills ``saved``
    as it goes, so that what failed half-way can be undone too. undo succeeds where there is nothing to undo.
    ``parameters``: {name: (default, help)}; a default of None means it must be given.
    """

    name: str
    help: str
    apply: Callable[[dict, dict], None]
    undo: Callable[[dict, dict], None]
    parameters: dict[str, tuple[str | None, str]] = field(default_factory=dict)

    def checked(self, given: dict[str, str]) -> dict[str, str]:
        """The given values with the defaults filled in; unknown and missing ones are refused."""
        unknown = sorted(set(given) - set(self.parameters))
        if unknown:
            raise FaultError(f"{self.name} takes {', '.join(self.parameters) or 'no parameters'}, not {', '.join(unknown)}")
        values = {name: given.get(name, default) for name, (default, dummy) in self.parameters.items()}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise FaultError(f"{self.name} needs {', '.join(name + '=...' for name in missing)}")
        return values


def whole(values: dict, name: str, low: int, high: int) -> int:
    try:
        number = int(values[name])
    except ValueError:
        raise FaultError(f"{name}={values[name]}: a whole number is needed") from None
    if not low <= number <= high:
        raise FaultError(f"{name}={number}: from {low} to {high}")
    return number


def run(*argv: str, stdin: str | None = None, check: bool = True) -> str:
    """The stdout of a command; a failure names it."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FaultError(f"this node has no {argv[0]}") from None
    if check and done.returncode:
        raise FaultError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise FaultError(f"{what}: not so after {timeout_s:.0f} s")
        time.sleep(0.05)
