# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that a plan file is whole: every host has a unit, ranks cover the group, and there is one head. Usage: check_plan.py FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def faults(plan):
    """Return what is wrong with a plan, as a list of sentences (empty: nothing)."""
    if plan.get("schema") != 1 or not plan.get("groups"):
        return ["no plan of schema 1 with a group in it: %s" % sorted(plan)]
    found = []
    for name, group in sorted(plan["groups"].items()):
        units = [unit for host in group["hosts"] for unit in plan["hosts"].get(host, {}).get("units", []) if unit["group"] == name]
        heads = [unit["name"] for unit in units if unit["head"]]
        if len(heads) != 1:
            found.append("group %s has heads %s, wanted one" % (name, heads))
        for host in group["hosts"]:
            if not any(unit["group"] == name for unit in plan["hosts"].get(host, {}).get("units", [])):
                found.append("host %s of group %s has no unit" % (host, name))
        if sorted(unit["rank"] for unit in units)[:1] != [0]:
            found.append("group %s does not start at rank 0" % name)
        found += ["%s does not run `vllm serve`: %s" % (unit["name"], unit["argv"][:2]) for unit in units if unit["argv"][:2] != ["vllm", "serve"]]
    return found


def main():
    """Print the faults, or one line saying what was planned."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    found = faults(plan)
    for text in found:
        print("plan: %s" % text, file=sys.stderr)
    if found:
        return 1
    print("plan: %d host(s), group(s) %s" % (len(plan["hosts"]), ", ".join(sorted(plan["groups"]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
