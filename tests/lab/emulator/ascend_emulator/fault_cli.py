# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ascend-lab-fault: set NAME [key=value ...], clear NAME|all, list [--json].

Exit status: 0 done (clearing what is not active is done), 1 the fault cannot be set, 2 wrong usage.
"""
from __future__ import annotations

import json
import os
import sys

from ascend_emulator import fabric, faults, state as states

USAGE = "usage: ascend-lab-fault set NAME [key=value ...] | clear NAME|all | list [--json]"


def catalogue(stored):
    """Everything that can be injected on this node, and what is active."""
    generation = stored["generation"]
    return {
        "available": [{"name": entry.name, "help": entry.help, "parameters": {
            name: {"default": default, "help": text} for name, (default, text) in entry.parameters.items()}}
            for entry in faults.FAULTS.values() if generation in entry.generations],
        "active": {name: active["values"] for name, active in stored["faults"].items()},
    }


def render(listing):
    lines = []
    for entry in listing["available"]:
        parameters = " ".join("%s=%s" % (name, value["default"]) for name, value in entry["parameters"].items())
        lines.append("%s %-22s %s%s" % ("*" if entry["name"] in listing["active"] else " ", entry["name"],
                                        entry["help"], "  [%s]" % parameters if parameters else ""))
    lines.append("active: " + (", ".join("%s %s" % (name, json.dumps(values, sort_keys=True)) for name, values in
                                         sorted(listing["active"].items())) or "none"))
    return "\n".join(lines)


def parse_pairs(words):
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise faults.FaultError("%r is not key=value" % word)
        given[name] = value
    return given


def run(paths, argv):
    if argv[:1] == ["list"] and argv[1:] in ([], ["--json"]):
        stored = states.load_stored(paths)
        if stored is None:
            raise faults.FaultError("no %s: run ascend-lab-node first" % paths.state)
        listing = catalogue(stored)
        return json.dumps(listing, sort_keys=True) if argv[1:] else render(listing)
    if argv[:1] == ["set"] and len(argv) >= 2:
        given = parse_pairs(argv[2:])
        with states.changing(paths) as stored:
            values = faults.set_fault(paths, stored, argv[1], given)
        return "set %s %s" % (argv[1], json.dumps(values, sort_keys=True))
    if argv[:1] == ["clear"] and len(argv) == 2:
        with states.changing(paths) as stored:
            names = list(stored["faults"]) if argv[1] == "all" else [argv[1]]
            cleared = [name for name in reversed(names) if faults.clear_fault(paths, stored, name)]
        return "cleared " + (", ".join(sorted(cleared)) or "nothing: not active")
    raise SystemExit(USAGE if argv[:1] in (["-h"], ["--help"]) else _usage_error())


def _usage_error():
    print(USAGE, file=sys.stderr)
    return 2


def main():
    if os.geteuid() != 0 and not os.environ.get("ASCEND_LAB_ROOT"):
        raise SystemExit("ascend-lab-fault has to be root")
    try:
        print(run(states.Paths(), sys.argv[1:]))
    except (faults.FaultError, fabric.FabricError, OSError) as error:
        print("ascend-lab-fault: %s" % error, file=sys.stderr)
        sys.exit(1)
