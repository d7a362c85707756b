# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of status as its page and its table on the terminal show it: what every report shows, and each group and container of it."""

from __future__ import annotations

from .checks import stops
from .lines import check_lines, check_table, width
from .pages import load_words, one_line, report_view
from .status import STATES, duration, short_id

#: State of a group -> the kind of a badge.
KINDS = {"serving": "pass", "degraded": "warn", "down": "fail"}
#: State of a container -> the kind of its row; another one is a failure.
CONTAINER_KINDS = {"running": "pass", "unknown": "unknown"}
GROUP_COLUMNS = ("group", "state", "health", "models", "completion", "requests", "ranks")
PROXY_COLUMNS = ("proxy", "host", "state", "container", "uptime", "restarts", "address", "completion", "backends")
BACKEND_COLUMNS = ("proxy", "backend", "group", "state")
#: State of a backend -> the kind of its row.
BACKEND_KINDS = {"up": "pass", "unknown": "unknown"}
TRANSFER_COLUMNS = ("group", "rank", "kv_tokens", "kv_asked", "kv_transfers")
UNIT_COLUMNS = ("host", "container", "state", "image", "uptime", "restarts", "hbm", "links")


def status_view(report: dict) -> dict:
    """Return what the page shows of a report of status."""
    texts, view = _texts(report), report_view(report)
    state = report.get("state") if report.get("state") in STATES else STATES[-1]
    stopping = sum(stops(check) for check in report.get("checks") or [])
    for node in view["nodes"]:
        # Status does not ask what stays as it is.
        node["facts"] = [fact for fact in node["facts"] if fact["text"] != view["words"]["absent"]]
    return {
        **view,
        "texts": texts,
        "title": texts["title"],
        "verdict": texts[f"state_{state}"],
        "state": state,
        "banner": {"serving": "pass"}.get(state, "fail"),
        "headline": texts[f"text_{state}"].format(count=stopping),
        "group_columns": [texts[name] for name in GROUP_COLUMNS],
        "unit_columns": [texts[name] for name in UNIT_COLUMNS],
        "services": [
            {"kind": KINDS.get(group.get("state"), "fail"), "state": one_line(group.get("state")), "cells": _group_cells(name, group, texts)}
            for name, group in (report.get("groups") or {}).items()
        ],
        "proxy_columns": [texts[name] for name in PROXY_COLUMNS],
        "backend_columns": [texts[name] for name in BACKEND_COLUMNS],
        "proxies": [
            {"kind": KINDS.get(proxy.get("state"), "fail"), "state": one_line(proxy.get("state")), "cells": _proxy_cells(name, proxy, texts)}
            for name, proxy in (report.get("proxies") or {}).items()
        ],
        "backends": [
            {"kind": BACKEND_KINDS.get(cells[-1], "fail"), "state": cells[-1], "cells": cells} for cells in _backends(report)
        ],
        "transfer_columns": [texts[name] for name in TRANSFER_COLUMNS],
        "transfers": [{"kind": "none", "state": "", "cells": cells} for cells in _transfers(report, texts)],
        "units": [
            {"kind": CONTAINER_KINDS.get(unit["state"], "fail"), "state": one_line(unit["state"]), "cells": _unit_cells(host, unit, texts)}
            for host, unit in _units(report)
        ],
    }


def status_table(report: dict) -> list:
    """Return the terminal's tables: a line a container, a line a group, those of KV transfer, proxies and backends, then what did not pass."""
    texts = _texts(report)
    units = [_unit_cells(host, unit, texts) for host, unit in _units(report)]
    groups = [_group_cells(name, group, texts) for name, group in (report.get("groups") or {}).items()]
    lines = _table([texts[name].upper() for name in UNIT_COLUMNS], units) if units else [texts["no_containers"]]
    lines += ["", *_table([texts[name].upper() for name in GROUP_COLUMNS], groups), ""]
    proxies = [_proxy_cells(name, proxy, texts) for name, proxy in (report.get("proxies") or {}).items()]
    for columns, rows in ((TRANSFER_COLUMNS, _transfers(report, texts)), (PROXY_COLUMNS, proxies), (BACKEND_COLUMNS, _backends(report))):
        lines += [*_table([texts[name].upper() for name in columns], rows), ""] if rows else []
    return lines + check_table(report.get("checks") or [], report.get("language") or "en")


def status_lines(report: dict) -> list:
    """Return why a run fails: ``NAME: STATE: ..`` of every group and proxy that is not serving, then the findings that stop the run."""
    texts = _texts(report)
    parts = [*report["groups"].items(), *(report.get("proxies") or {}).items()]
    lines = [f"{name}: {part['state']}: {texts['text_' + part['state']].format(count=len(part['reasons']))}"
             for name, part in parts if part["state"] != STATES[0]]
    return lines + check_lines([check for check in report["checks"] if stops(check)])


def _texts(report: dict) -> dict:
    return load_words(report.get("language") or "en", "status")


def _units(report: dict) -> list:
    return [(host, unit) for host, node in (report.get("nodes") or {}).items() for unit in (node or {}).get("units") or []]


def _table(header: list, rows: list) -> list:
    """Return rows in columns two spaces apart."""
    widths = [max(width(cells[column]) for cells in [header, *rows]) for column in range(len(header))]
    return ["  ".join(cell + " " * (columns - width(cell)) for cell, columns in zip(cells, widths)).rstrip() for cells in [header, *rows]]


def _group_cells(name: str, group: dict, texts: dict) -> list:
    requests, ranks = group.get("requests"), group.get("ranks")
    return [
        one_line(name), one_line(group.get("state")), str(group.get("health") or texts["none"]),
        one_line(", ".join(group.get("models") or [])) or texts["none"], _completion(group, texts),
        f"{requests['running']}/{requests['waiting']}" if requests else texts["none"],
        _share(group.get("ranks_answered"), len(ranks), texts) if ranks else texts["none"],
    ]


def _transfers(report: dict, texts: dict) -> list:
    """Return the cells of what each rank of prefill and decode says of KV transfer since it started. What a server does not tell is no fault."""
    found = []
    for name, group in (report.get("groups") or {}).items():
        for rank, said in enumerate(group.get("transfers") or []):
            told = {key: value for key, value in (said or {}).items() if value is not None}
            absent = texts["not_told"] if said else texts["none"]
            numbers = [str(told["transfers"])] if "transfers" in told else []
            numbers += [f"{told['bytes'] / 1e6:.1f} MB"] if "bytes" in told else []
            numbers += [texts[key].format(count=told[key]) for key in ("failed", "expired") if key in told]
            found.append([one_line(name), str(rank), *(str(told.get(key, absent)) for key in ("tokens", "asked")), ", ".join(numbers) or absent])
    return found


def _completion(part: dict, texts: dict) -> str:
    """Return how long a completion of a group or proxy took, or what came instead."""
    said = part.get("completion") or {}
    seconds = said.get("seconds") or 0
    if said.get("answered"):
        return texts["seconds"].format(seconds=f"{seconds:.1f}")
    if said.get("timed_out"):
        return texts["timed_out"].format(seconds=f"{seconds:.0f}")
    return f"HTTP {said['status']}" if said.get("status") else texts["none"]


def _proxy_cells(name: str, proxy: dict, texts: dict) -> list:
    return [
        one_line(name), one_line(proxy.get("host")), one_line(proxy.get("state")), one_line(proxy.get("container")),
        texts["none"] if proxy.get("uptime_s") is None else duration(proxy["uptime_s"]),
        texts["none"] if proxy.get("restarts") is None else str(proxy["restarts"]),
        one_line(proxy.get("url")), _completion(proxy, texts), _share(proxy.get("backends_up"), len(proxy.get("backends") or []), texts),
    ]


def _backends(report: dict) -> list:
    """Return the cells of every backend of every proxy."""
    return [
        [one_line(name), one_line(backend["url"]), one_line(backend["group"]), one_line(backend["state"])]
        for name, proxy in (report.get("proxies") or {}).items()
        for backend in proxy.get("backends") or []
    ]


def _unit_cells(host: str, unit: dict, texts: dict) -> list:
    used, total, code = unit.get("hbm_used_mb"), unit.get("hbm_total_mb"), unit.get("exit_code")
    state = one_line(unit.get("state"))
    return [
        one_line(host), one_line(unit.get("name")), state if code is None else texts["ends_with"].format(state=state, code=code),
        short_id(unit["image_id"]) if unit.get("image_id") else texts["none"],
        texts["none"] if unit.get("uptime_s") is None else duration(unit["uptime_s"]),
        texts["none"] if unit.get("restarts") is None else str(unit["restarts"]),
        f"{used / 1024:.0f}/{total / 1024:.0f} GB" if used is not None and total else texts["none"],
        _share(unit.get("links_up"), unit["links_asked"], texts) if unit.get("links_asked") else texts["none"],
    ]


def _share(part, whole, texts: dict) -> str:
    return texts["of"].format(part=part, whole=whole)
