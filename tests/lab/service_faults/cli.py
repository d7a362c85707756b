# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""set NAME [key=value ...], clear NAME|all, list [--json]: the same words and answers as the emulator's own faults.

Exit status: 0 done (clearing what is not active is done), 1 the fault cannot be set or cleared, 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys

from service_faults import store
from service_faults.base import FaultError
from service_faults.table import FAULTS


def catalogue(active: dict) -> dict:
    """Everything that can be injected, and what is active."""
    available = [
        {"name": fault.name, "help": fault.help, "parameters": {
            name: {"default": default, "help": text} for name, (default, text) in fault.parameters.items()}}
        for fault in FAULTS.values()
    ]  # fmt: skip
    return {"available": available, "active": {name: entry["values"] for name, entry in active.items()}}


def render(listing: dict) -> str:
    lines = []
    for entry in listing["available"]:
        parameters = " ".join(f"{name}={value['default']}" for name, value in entry["parameters"].items())
        star = "*" if entry["name"] in listing["active"] else " "
        lines.append(f"{star} {entry['name']:<22} {entry['help']}" + (f"  [{parameters}]" if parameters else ""))
    active = ", ".join(f"{name} {json.dumps(values, sort_keys=True)}" for name, values in sorted(listing["active"].items()))
    return "\n".join([*lines, f"active: {active or 'none'}"])


def parse_pairs(words: list[str]) -> dict[str, str]:
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise FaultError(f"{word!r} is not key=value")
        given[name] = value
    return given


def run(words: list[str], path: str = store.FILE) -> str:
    """One command; returns what to print. Raises FaultError, ValueError for a wrong usage."""
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "list" and rest in ([], ["--json"]):
        listing = catalogue(store.load(path))
        return json.dumps(listing) if rest else render(listing)
    if verb == "set" and rest:
        given = parse_pairs(rest[1:])
        with store.changing(path) as active:
            values = store.set_fault(FAULTS, active, rest[0], given)
        return f"set {rest[0]} {json.dumps(values, sort_keys=True)}"
    if verb == "clear" and len(rest) == 1:
        with store.changing(path) as active:
            names = list(reversed(active)) if rest == ["all"] else rest
            cleared = [name for name in names if store.clear_fault(FAULTS, active, name)]
        return f"cleared {', '.join(sorted(cleared)) or 'nothing: not active'}"
    raise ValueError("usage: set NAME [key=value ...] | clear NAME|all | list [--json]")


def main(words: list[str]) -> int:
    os.umask(0o022)
    try:
        print(run(words))
    except (FaultError, OSError) as error:
        print(f"lab fault: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
