# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads on the terminal: check results and plans as lists of lines."""

from __future__ import annotations

#: Failures first: the reader was paged for them.
ORDER = {"fail": 0, "unknown": 1, "warn": 2, "pass": 3}


def check_line(check: dict) -> str:
    """Return one check as ``[status] host device check: found X, wanted Y. Remedy: Z``."""
    where = " ".join(str(part) for part in (check["host"], check.get("device")) if part)
    line = f"[{check['status']}] {where}: {check['check']}: found {check['observed']}, wanted {check['expected']}."
    remedy = check.get("remedy")
    return f"{line} Remedy: {remedy}" if remedy else line


def check_lines(checks: list) -> list:
    """Return one line a check, failures first, otherwise in the order given."""
    return [check_line(check) for check in sorted(checks, key=lambda c: ORDER.get(c["status"], 1))]


def plan_lines(result: dict) -> list:
    """Return the plan and its notices as lines: the group, then each host's ranks and NPUs, then what was added."""
    plan, lines, added = result["plan"], [], {}
    for name, group in plan["groups"].items():
        lines.append(
            f"{name}: {group['model']} on {group['hardware']}, release {group['release']}, "
            f"DP {group['data_parallel_size']} x TP {group['tensor_parallel_size']} on {len(group['hosts'])} node(s), head {group['head']}"
        )
        lines.append(f"  image {group['image']}")
        lines.append(f"  weights {group['weights']['kind']}:{group['weights']['id']} in {group['weights']['dir']}")
        lines.append(f"  answers at http://{group['api']['address']}:{group['api']['port']} as {group['served_model_name']}")
    for host, entry in plan["hosts"].items():
        for unit in entry["units"]:
            role = "headless" if unit["headless"] else "head"
            npus = f"NPUs {_ranges(unit['npus'])}" if unit["npus"] else "no NPUs"
            lines.append(f"{host}: {unit['name']} ({role}), {entry['local_ip']} on {entry['nic_name']}, {npus}")
            added.update(unit.get("env_added", {}))
    lines += [f"added to the recipe's environment: {key} ({reason})" for key, reason in added.items()]
    lines += [f"{notice['level']}: {notice['text']}" for notice in result.get("notices", [])]
    lines += check_lines([check for check in result.get("checks", []) if check["status"] == "warn"])
    return lines


def _ranges(numbers: list) -> str:
    """Return sorted integers as ``0-3,7``."""
    parts: list = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
