# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads on the terminal: check results and plans as lists of lines."""

from __future__ import annotations

import unicodedata

from .pages import KINDS, count_kinds, counts_text, kind, load_words, one_line, status_text

#: Failures first: the reader was paged for them. A status that is not known stops a run like ``unknown``.
ORDER = {name: place for place, name in enumerate(KINDS)}
#: Columns of the terminal that FOUND and WANTED may have each; a longer value gets a line of its own, because it is never cut.
VALUE_WIDTH = 36
#: What starts the lines below a row.
INDENT = "    "


def check_line(check: dict) -> str:
    """Return one check as ``[status] host device check: found X, wanted Y. Remedy: Z``, an accepted one as ``[accepted (fail)] ..``."""
    shown = f"accepted ({check['status']})" if kind(check) == "accepted" else check["status"]
    where = " ".join(one_line(part) for part in (check["host"], check.get("device")) if part)
    line = f"[{shown}] {where}: {check['check']}: found {one_line(check['observed'])}, wanted {one_line(check['expected'])}."
    remedy = one_line(check.get("remedy"))
    return f"{line} Remedy: {remedy}" if remedy else line


def check_lines(checks: list) -> list:
    """Return one line a check, failures first, otherwise in the order given."""
    return [check_line(check) for check in in_order(checks)]


def in_order(checks: list) -> list:
    """Return the checks with those first that need the reader (see ``pages.KINDS``), otherwise in the order given."""
    return sorted(checks, key=lambda check: ORDER[kind(check)])


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: a Chinese character takes two, a combining one none."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def check_table(checks: list, language: str = "en") -> list:
    """Return the terminal's table of what did not pass, and a line with the counts of every host.

    Columns STATUS HOST DEVICE CHECK FOUND WANTED, failures first; below each row its title and its remedy. A FOUND or WANTED that is too
    long for a column stands on a line of its own below the row. No line ends in a space and the first starts with none, so that the lines
    joined by newlines are shown as they are by Ansible's YAML output.
    """
    words = load_words(language)
    rows = [_row(check, words) for check in in_order(checks) if kind(check) != "pass"]
    lines: list = []
    if rows:
        header = [words[key].upper() for key in ("status", "host", "device", "check", "found", "wanted")]
        widths = [max(width(cells[column]) for cells in [header, *(cells for cells, dummy in rows)]) for column in range(len(header))]
        lines.append(_padded(header, widths))
        for cells, below in rows:
            lines += [_padded(cells, widths), *(INDENT + text for text in below)]
    return lines + host_lines(checks, words)


def _row(check, words):
    """Return the cells of one check, and the lines below them."""
    found, wanted = one_line(check.get("observed")) or words["absent"], one_line(check.get("expected")) or words["absent"]
    title, remedy = one_line(check.get("title")), one_line(check.get("remedy"))
    cells = [status_text(check, words), one_line(check.get("host")), one_line(check.get("device")), one_line(check.get("check"))]
    below = [title] if title else []
    if max(width(found), width(wanted)) > VALUE_WIDTH:
        cells += ["", ""]
        below += [words["labelled"].format(label=words[key], text=text) for key, text in (("found", found), ("wanted", wanted))]
    else:
        cells += [found, wanted]
    return cells, below + ([words["labelled"].format(label=words["remedy"], text=remedy)] if remedy else [])


def _padded(cells, widths):
    """Return the cells in columns two spaces apart."""
    return "  ".join(cell + " " * (columns - width(cell)) for cell, columns in zip(cells, widths)).rstrip()


def host_lines(checks: list, words: dict) -> list:
    """Return ``HOST: 58 pass, 1 fail`` for every host, in the order in which they first appear."""
    by_host: dict = {}
    for check in checks:
        by_host.setdefault(one_line(check.get("host")), []).append(check)
    order = ("pass", *(name for name in KINDS if name != "pass"))
    return [f"{host}: {counts_text(count_kinds(mine), words, order)}" for host, mine in by_host.items()]


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
        lines.append(f"  answers at {group['api']['url']} as {group['served_model_name']}")
    for host, entry in plan["hosts"].items():
        for unit in entry["units"]:
            role = f"port {unit['port']}" if "kv_ports" in unit else "headless" if unit["headless"] else "head"
            npus = f"NPUs {_ranges(unit['npus'])}" if unit["npus"] else "no NPUs"
            lines.append(f"{host}: {unit['name']} ({role}), {entry['local_ip']} on {entry['nic_name']}, {npus}")
            added.update(unit.get("env_added", {}))
    for proxy in plan.get("proxies", {}).values():
        counted = {role: sum(backend["role"] == role for backend in proxy["backends"]) for role in ("prefill", "decode", "serve")}
        behind = ", ".join(f"{number} {role}" for role, number in counted.items() if number)
        lines.append(f"{proxy['name']}: {proxy['kind']} on {proxy['host']}, answers at {proxy['url']} as {proxy['served_model_name']}, in front of {behind}")
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
