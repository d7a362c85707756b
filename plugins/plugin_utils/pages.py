# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as its page shows it: pure functions from the report's dict to what the template lays out, and to the page.

Everything is text here that a person reads, in the language of the report. ``html_safe`` escapes the whole of it, once: a forgotten ``| e``
in the template would let a tool's garbled output into the page.
A *kind* is a status as it is shown: ``fail``, ``unknown``, ``warn``, ``accepted``, ``pass``; in the mesh ``fail``, ``unknown``,
``loss`` (some packets lost), ``pass`` and ``none`` (no ping was sent). Any value of a report may be ``None`` or missing.
"""

from __future__ import annotations

import html
import re
import statistics
from datetime import datetime
from functools import lru_cache

import jinja2

from .data import BUNDLED, read_yaml

#: Kinds of checks, the one that needs the reader first.
KINDS = ("fail", "unknown", "warn", "accepted", "pass")
#: Kinds of pings, the worst first.
PING_KINDS = ("fail", "unknown", "loss", "pass", "none")
LANGUAGES = ("en", "zh")

#: Shades of a round trip, by how many times the median of the run it took (a link that is slow among its peers is what matters;
#: what is normal depends on the switch).
SHADES = (1.25, 1.5, 2.0, 4.0)
#: A node's card starts open when it has something to say, or when there are few nodes.
OPEN_NODES = 4
#: So many places of one problem, or failed pings, are listed at once; the rest can be opened.
PLACES_AT_ONCE = 12
HOSTS_AT_ONCE = 4
#: Where the pages of reports and their parts are.
TEMPLATES = BUNDLED.parent / "roles" / "report" / "templates"


def render(template: str, report: dict, view=None) -> str:
    """Return the page of a report: ``template`` is laid out with ``view``, every text of it escaped.

    ``view``: the function that makes it of the report, ``report_view`` without one. What pages share is included from ``TEMPLATES``.
    """
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
                                     loader=jinja2.FileSystemLoader(TEMPLATES))
    return environment.from_string(template).render(view=html_safe((view or report_view)(report)))


@lru_cache
def load_words(language: str = "en", name: str = "report") -> dict:
    """Return the fixed words of ``data/words/NAME.yml``, key to text; English for a language that is not known."""
    words = read_yaml(BUNDLED / "words" / f"{name}.yml")[name]["words"]
    return {key: texts[language if language in LANGUAGES else "en"] for key, texts in words.items()}


def kind(check: dict) -> str:
    """Return how a check is shown; a status that is not known stops a run, so it is shown as ``unknown``."""
    status = check.get("status")
    if status == "pass":
        return "pass"
    if check.get("accepted"):
        return "accepted"
    return status if status in KINDS else "unknown"


def count_kinds(checks: list) -> dict:
    """Return kind -> number of checks, every kind in the order of ``KINDS``."""
    counts = dict.fromkeys(KINDS, 0)
    for check in checks:
        counts[kind(check)] += 1
    return counts


def counts_text(counts: dict, words: dict, order=KINDS) -> str:
    """Return ``1 fail, 58 pass``, without the zeros."""
    shown = [words[f"count_{name}"].format(count=counts[name]) for name in order if counts.get(name)]
    return ", ".join(shown) or words["no_checks"]


def status_text(check: dict, words: dict) -> str:
    """Return the status a person reads; an accepted one says what it would have been."""
    shown = kind(check)
    if shown != "accepted":
        return words[f"status_{shown}"]
    return words["accepted_status"].format(status=words[f"status_{kind(dict(check, accepted=False))}"])


def printable(value: object, keep: str = "") -> str:
    """Return a value as text in which nothing steers a terminal or a page: control characters as ``\\x1b``, ``None`` as nothing."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return " " if char.isspace() else char.encode("unicode_escape", "backslashreplace").decode("ascii")


def one_line(value: object) -> str:
    """Return a value as one printable line."""
    return " ".join(printable(value).split())


def html_safe(value):
    """Return a view with every text in it escaped for HTML, in elements and in quoted attributes."""
    if isinstance(value, dict):
        return {key: html_safe(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [html_safe(entry) for entry in value]
    return html.escape(value) if isinstance(value, str) else value


def report_view(report: dict) -> dict:
    """Return what the page shows of a report (its shape is in the template, which is its only reader)."""
    words = load_words(report.get("language") or "en")
    checks = report.get("checks") or []
    nodes = report.get("nodes") or {}
    counts = {**count_kinds(checks), **{key: value for key, value in (report.get("summary") or {}).items() if key in KINDS and value is not None}}
    verb = str(report.get("verb") or "")
    title = words["title_preflight"] if verb == "preflight" else words["title_other"].format(verb=verb)
    return {
        "words": words,
        "title": title,
        "result": "pass" if report.get("result") == "pass" else "fail",
        "headline": _headline(report, counts, words),
        "when": _when(report, words),
        "version": words["version"].format(version=report["version"]) if report.get("version") else "",
        "counts": [{"kind": name, "count": counts[name], "text": words[f"count_{name}"].format(count=counts[name])} for name in KINDS],
        "groups": [_group(name, group, words) for name, group in (report.get("groups") or {}).items()],
        "problems": problems(checks, words),
        "nodes": [_node(number, host, node or {}, checks, len(nodes), words) for number, (host, node) in enumerate(nodes.items())],
        "mesh": mesh_view(report.get("mesh") or {}, nodes, words),
        "all_checks": words["all_checks"].format(count=len(checks)),
        "checks": [_shown_check(check, words) for check in _ordered(checks)],
    }


def _headline(report, counts, words):
    """Return the one sentence below the result."""
    stopping = counts["fail"] + counts["unknown"]
    if report.get("result") != "pass":
        return words["result_fail_text"].format(count=stopping) if stopping else words["result_fail_none"]
    noted = counts["warn"] + counts["accepted"]
    return words["result_pass_noted"].format(count=noted) if noted else words["result_pass_text"]


def _when(report, words):
    """Return when the run started and how long it took, or what is known of it."""
    started, ended = report.get("started_at"), report.get("ended_at")
    try:
        begin, end = (datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ") for text in (started, ended))
    except ValueError:
        return words["started_only"].format(started=printable(started)) if started else ""
    return words["started"].format(started=begin.strftime("%Y-%m-%d %H:%M:%S"), seconds=round((end - begin).total_seconds()))


def _group(name, group, words):
    """Return one group's facts as label and text."""
    hosts = [str(host) for host in group.get("hosts") or []]
    listed = ", ".join(hosts[:HOSTS_AT_ONCE])
    if len(hosts) > HOSTS_AT_ONCE:
        listed = words["more_hosts"].format(hosts=listed, count=len(hosts) - HOSTS_AT_ONCE)
    sizes = [group.get(f"{way}_parallel_size") for way in ("data", "tensor")]
    facts = [
        ("model", group.get("model")), ("release", group.get("release")), ("hardware", str(group.get("hardware") or "").upper()),
        ("parallel", words["parallel_sizes"].format(data=sizes[0], tensor=sizes[1]) if None not in sizes else None),
        ("nodes", listed), ("head", group.get("head")),
    ]
    return {"title": words["group"].format(name=name), "facts": _facts(facts, words)}


def _facts(facts, words):
    return [{"label": words[key], "text": one_line(value) or words["absent"]} for key, value in facts]


def _ordered(checks):
    """Return the checks with those first that need the reader, otherwise as they were."""
    return sorted(checks, key=lambda check: KINDS.index(kind(check)))


def _shown_check(check, words):
    """Return one check in words."""
    return {
        "kind": kind(check), "status": one_line(check.get("status")), "status_text": status_text(check, words),
        "check": one_line(check.get("check")), "title": one_line(check.get("title")),
        "host": one_line(check.get("host")), "device": one_line(check.get("device")),
        "observed": one_line(check.get("observed")) or words["absent"], "expected": one_line(check.get("expected")) or words["absent"],
        "remedy": one_line(check.get("remedy")),
    }


def problems(checks: list, words: dict) -> list:
    """Return what did not pass, one entry a check and kind with all of its places, failures first.

    ``[{kind, status_text, check, title, meaning, note, remedy, places: [{host, device, observed, expected, remedy, ..}], more: [..]}]``;
    ``remedy`` of the entry is set when it is that of every place, which then have none of their own.
    """
    found: dict = {}
    for check in _ordered(checks):
        shown = _shown_check(check, words)
        if shown["kind"] == "pass":
            continue
        entry = found.setdefault((shown["kind"], shown["status"], shown["check"]), {
            **{key: shown[key] for key in ("kind", "status", "status_text", "check", "title")},
            "meaning": one_line(check.get("meaning")), "note": words.get(f"{shown['kind']}_note", ""), "places": []})
        entry["places"].append(shown)
    for entry in found.values():
        remedies = {place["remedy"] for place in entry["places"]}
        entry["remedy"] = remedies.pop() if len(remedies) == 1 else ""
        if entry["remedy"]:
            entry["places"] = [dict(place, remedy="") for place in entry["places"]]
        # Two more are not worth a click.
        cut = PLACES_AT_ONCE if len(entry["places"]) > PLACES_AT_ONCE + 2 else None
        entry["places"], entry["more"] = entry["places"][:cut], entry["places"][cut:] if cut else []
        entry["more_text"] = words["more_places"].format(count=len(entry["more"]))
    return list(found.values())


def _worst(kinds, order=KINDS):
    """Return the worst of some kinds, or the last of the order if there is none."""
    return min(kinds, key=order.index, default=order[-1])


def _node(number, host, node, checks, nodes, words):
    """Return one node's card."""
    mine = [check for check in checks if check.get("host") == host]
    counts = count_kinds(mine)
    answers = node.get("answers") is not False
    worst = _worst([kind(check) for check in mine] + ([] if answers else ["fail"]))
    address, nic, offset = node.get("local_ip"), node.get("nic_name"), node.get("clock_offset_s")
    facts = [
        ("address", words["address_on"].format(address=address, nic=nic) if address and nic else address or nic),
        ("hardware", str(node.get("hardware") or "").upper()), ("driver", node.get("driver")), ("firmware", node.get("firmware")),
        ("docker", node.get("docker")), ("kernel", node.get("kernel")), ("arch", node.get("arch")), ("python", node.get("python")),
        ("free_space", bytes_text(node.get("free_bytes"))), ("clock_offset", None if offset is None else words["seconds"].format(seconds=f"{offset:+.3f}")),
    ]
    return {
        "id": f"node-{number}", "host": printable(host), "kind": worst, "status_text": words[f"status_{worst}"], "answers": answers,
        "counts": counts_text(counts, words), "open": nodes <= OPEN_NODES or worst in ("fail", "unknown", "warn"),
        "facts": _facts(facts, words) if answers else [], "npus": [_npu(entry, mine, words) for entry in node.get("npus") or []],
    }


def _npu(entry, checks, words):
    """Return one NPU's row. Its mark is the judgement of the checks about it: a port that is DOWN is not a fault on every hardware."""
    number = entry.get("npu")
    about = re.compile(rf"npu{number}(?!\d)")
    worst = _worst([kind(check) for check in checks if about.match(str(check.get("device") or ""))])
    used, total = entry.get("hbm_used_mb"), entry.get("hbm_total_mb")
    known = used is not None and bool(total)
    return {
        "npu": printable(number), "label": words["npu_number"].format(npu=printable(number)), "kind": worst, "status_text": words[f"status_{worst}"],
        "health": one_line(entry.get("health")) or words["absent"], "link": one_line(entry.get("link")) or words["absent"],
        "net_health": one_line(entry.get("net_health")) or words["absent"], "address": one_line(entry.get("address")) or words["absent"],
        "hbm_percent": max(0, min(100, round(100 * used / total))) if known else None,
        "hbm_text": words["hbm_used"].format(used=_gigabytes(used), total=_gigabytes(total)) if known else words["absent"],
        "temperature": _measured(entry.get("temperature_c"), "°C", words), "power": _measured(entry.get("power_w"), "W", words),
        "processes": [_process(process, words) for process in entry.get("processes") or []],
    }


def _process(process, words):
    """Return one process that holds an NPU."""
    name, pid, memory = one_line(process.get("name")) or "?", printable(process.get("pid")) or "?", process.get("memory_mb")
    if memory is None:
        return words["process"].format(name=name, pid=pid)
    return words["process_memory"].format(name=name, pid=pid, memory=_gigabytes(memory))


def _measured(value, unit, words):
    return words["absent"] if value is None else f"{value:.0f} {unit}"


def _gigabytes(megabytes):
    """Return MB as npu-smi counts them (1024 to a GB) with one digit, or none when it is whole."""
    return f"{megabytes / 1024:.1f}".removesuffix(".0")


def bytes_text(count: int | None) -> str | None:
    """Return bytes in the largest binary unit that leaves at least 1."""
    if count is None:
        return None
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size >= 100 or units[0] == "B" else f"{size:.1f} {units[0]}"


def ping_kind(ping: dict) -> str:
    """Return how a ping is shown: packets that came back beside lost ones are a loss, whatever its status."""
    status, loss, received = ping.get("status"), ping.get("loss_percent"), ping.get("received")
    if status not in ("pass", "fail"):
        return "unknown"
    if loss and loss < 100 and received != 0:
        return "loss"
    return status


def _number(value):
    """Return a measured number with about three digits."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def _percent(value):
    return f"{value:.0f}" if value >= 1 else f"{value:.1f}"


def mesh_view(mesh: dict, nodes: dict, words: dict) -> dict:
    """Return the heat map: one matrix a direction of every pair of nodes that pinged, an overview where there are more than two nodes.

    ``{state: shown|note, note, summary: [line], legend_shades, bad: [..], more: [..], overview: {columns, rows}|None,
    pairs: [{id, title, kind, kind_text, text, open, matrices: [{title, kind, text, columns, rows: [{npu, cells}]}]}]}``
    """
    pings = [ping for ping in mesh.get("pings") or [] if ping]
    if not pings:
        note = "mesh_off" if mesh.get("mode") == "off" and len(nodes) > 1 else "mesh_single" if len(nodes) == 1 else "mesh_nothing"
        return {"state": "note", "note": words[note], "pairs": [], "bad": [], "more": [], "overview": None}
    placed: dict = {}
    unplaced = []
    for ping in pings:
        if ping.get("peer") is None or ping.get("peer_npu") is None or ping.get("npu") is None:
            unplaced.append(ping)
        else:
            placed.setdefault((ping["host"], ping["peer"]), {})[(ping["npu"], ping["peer_npu"])] = ping
    times = [ping["rtt_ms"] for ping in pings if ping_kind(ping) == "pass" and ping.get("rtt_ms")]
    median = statistics.median(times) if times else None
    hosts = _mesh_hosts(pings, nodes)
    bad = [_bad_ping(ping, words) for ping in sorted(pings, key=lambda ping: PING_KINDS.index(ping_kind(ping))) if ping_kind(ping) != "pass"]
    cut = PLACES_AT_ONCE if len(bad) > PLACES_AT_ONCE + 2 else len(bad)
    pairs = _pairs(placed, hosts, nodes, median, words)
    return {
        "state": "shown", "note": "", "summary": _mesh_summary(mesh, len(pings), len(unplaced), words),
        "legend_shades": words["legend_shades"].format(median=_number(median)) if median else "",
        "bad": bad[:cut], "more": bad[cut:], "more_text": words["more_places"].format(count=len(bad) - cut),
        "overview": _overview(placed, hosts, pairs, words) if len(hosts) > 2 else None, "pairs": pairs,
    }


def _mesh_hosts(pings, nodes):
    """Return the hosts of the mesh in the order of the nodes, with those at the end that only pings name."""
    named = dict.fromkeys(str(ping[key]) for ping in pings for key in ("host", "peer") if ping.get(key) is not None)
    return [host for host in nodes if host in named] + [host for host in named if host not in nodes]


def _mesh_summary(mesh, sent, unplaced, words):
    """Return the lines about what was sent and what was left out."""
    sent = mesh["sent"] if mesh.get("sent") is not None else sent
    planned = mesh["planned"] if mesh.get("planned") is not None else sent
    possible = mesh["possible"] if mesh.get("possible") is not None else planned
    first = words["mesh_sent"].format(sent=sent, possible=possible, mode=printable(mesh.get("mode")) or "?")
    if mesh.get("seconds") is not None:
        first = words["mesh_took"].format(text=first, seconds=_number(mesh["seconds"]))
    lines = [first]
    if possible > planned:
        lines.append(words["mesh_rails" if mesh.get("mode") == "rails" else "mesh_left_out"].format(count=possible - planned))
    if planned > sent:
        lines.append(words["mesh_unsent"].format(count=planned - sent))
    if unplaced:
        lines.append(words["mesh_unplaced"].format(count=unplaced))
    return lines


def _ends(ping, words):
    """Return both ends of a ping in words; a peer that is not known is named by its address."""
    known = ping.get("peer") is not None and ping.get("peer_npu") is not None
    if known:
        return words["mesh_ends"].format(sender=ping["host"], npu=ping["npu"], receiver=ping["peer"], peer_npu=ping["peer_npu"])
    return words["mesh_direction"].format(sender=f"{ping['host']} {words['npu_number'].format(npu=ping.get('npu'))}", receiver=ping.get("address") or "?")


def _outcome(ping, words):
    """Return what became of a ping, in words."""
    shown = ping_kind(ping)
    text = words[f"mesh_cell_{shown}"]
    if shown == "loss":
        text = text.format(loss=_percent(ping["loss_percent"]))
    parts = [text]
    if ping.get("sent") is not None and ping.get("received") is not None:
        parts.append(words["packets"].format(sent=ping["sent"], received=ping["received"]))
    if ping.get("rtt_ms") is not None:
        parts.append(words["mesh_rtt"].format(rtt=_number(ping["rtt_ms"])))
    return parts


def _bad_ping(ping, words):
    """Return a ping that did not get through whole, with both of its ends."""
    outcome = _outcome(ping, words)
    return {
        "kind": ping_kind(ping), "ends": printable(_ends(ping, words)), "address": one_line(ping.get("address")), "way": one_line(ping.get("kind")),
        "outcome": outcome[0], "detail": ", ".join(outcome[1:]), "text": printable(ping.get("text"), keep="\n").strip(),
    }


def _cell(ping, median, words):
    """Return one cell: its kind, a shade 0 to 4, the few characters in it and its whole sentence."""
    shown, shade = ping_kind(ping), 0
    rtt = ping.get("rtt_ms")
    text = {"fail": "✕", "unknown": "?"}.get(shown, "✓")
    if shown == "loss":
        text = f"{_percent(ping['loss_percent'])}%"
    elif shown == "pass" and rtt is not None:
        text = _number(rtt)
        shade = sum(rtt > limit * median for limit in SHADES) if median else 0
    label = words["mesh_label"].format(ends=_ends(ping, words), outcome=", ".join(_outcome(ping, words)))
    return {"span": 1, "kind": shown, "shade": shade, "text": text, "label": printable(label)}


def _row(sent, npu, columns, median, words):
    """Return the cells of one sending NPU. Neighbours that were not sent are one wide cell: a page of rails stays small."""
    cells: list = []
    for column in columns:
        ping = sent.get((npu, column))
        if ping is not None:
            cells.append(_cell(ping, median, words))
        elif cells and cells[-1]["kind"] == "none":
            cells[-1]["span"] += 1
        else:
            cells.append({"span": 1, "kind": "none", "shade": 0, "text": "", "label": words["mesh_cell_none"]})
    return cells


def _matrix(sender, receiver, placed, numbers, median, words):
    """Return the matrix of one direction, or ``None`` if nothing was sent that way."""
    sent = placed.get((sender, receiver))
    if not sent:
        return None
    columns = numbers[receiver]
    kinds = [ping_kind(ping) for ping in sent.values()]
    return {
        "title": printable(words["mesh_direction"].format(sender=sender, receiver=receiver)), "kind": _worst(kinds, PING_KINDS),
        "text": words["mesh_answered"].format(good=kinds.count("pass"), sent=len(kinds)), "columns": columns,
        "rows": [{"npu": npu, "cells": _row(sent, npu, columns, median, words)} for npu in numbers[sender]],
    }


def _numbers(placed, hosts, nodes):
    """Return host -> its NPUs: those it has, and those that a ping names."""
    numbers = {host: {entry["npu"] for entry in (nodes.get(host) or {}).get("npus") or [] if entry.get("npu") is not None} for host in hosts}
    for (sender, receiver), sent in placed.items():
        for npu, peer_npu in sent:
            numbers[sender].add(npu)
            numbers[receiver].add(peer_npu)
    return {host: sorted(known, key=lambda npu: (0, npu, "") if isinstance(npu, int) else (1, 0, str(npu))) for host, known in numbers.items()}


def _pairs(placed, hosts, nodes, median, words):
    """Return the pairs of nodes that pinged, those with a fault first; with few nodes all are open."""
    numbers = _numbers(placed, hosts, nodes)
    pairs = []
    for first, left in enumerate(hosts):
        for second, right in enumerate(hosts[first + 1:], first + 1):
            matrices = [_matrix(*ends, placed, numbers, median, words) for ends in ((left, right), (right, left))]
            matrices = [matrix for matrix in matrices if matrix]
            if matrices:
                worst = _worst([matrix["kind"] for matrix in matrices], PING_KINDS)
                pairs.append({
                    "id": f"pair-{first}-{second}", "title": printable(words["mesh_pair"].format(sender=left, receiver=right)), "kind": worst,
                    "kind_text": words[f"mesh_cell_{worst}"] if worst != "loss" else words["legend_loss"], "open": len(hosts) <= 2, "matrices": matrices})
    return sorted(pairs, key=lambda pair: PING_KINDS.index(pair["kind"]))


def _overview(placed, hosts, pairs, words):
    """Return the matrix of nodes: the worst kind of every direction, answered and sent, and where its matrix is."""
    known = {pair["id"] for pair in pairs}

    def cell(row, column):
        sender, receiver = hosts[row], hosts[column]
        kinds = [ping_kind(ping) for ping in (placed.get((sender, receiver)) or {}).values()]
        worst = _worst(kinds, PING_KINDS)
        target = f"pair-{min(row, column)}-{max(row, column)}"
        ends = words["mesh_direction"].format(sender=sender, receiver=receiver)
        outcome = words["mesh_answered"].format(good=kinds.count("pass"), sent=len(kinds)) if kinds else words["mesh_cell_none"]
        return {
            "kind": worst if row != column else "self", "text": f"{kinds.count('pass')}/{len(kinds)}" if kinds else "",
            "mark": {"fail": "✕ ", "unknown": "? ", "loss": "! "}.get(worst, ""),
            "label": printable(words["mesh_label"].format(ends=ends, outcome=outcome)), "target": target if target in known else ""}

    return {"columns": [printable(host) for host in hosts],
            "rows": [{"host": printable(host), "cells": [cell(row, column) for column in range(len(hosts))]} for row, host in enumerate(hosts)]}
