# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight report: what all nodes answered, judged in one place.

Shape: ``{schema, verb, result: pass|fail, language, started_at, ended_at, version, groups, summary, checks, nodes, mesh}``; a check is
what ``checks`` describes, and nothing that a node answered is left out of ``nodes`` and ``mesh`` that a person may want to see.
"""

from __future__ import annotations

from datetime import datetime, timezone

from . import answers as read_answers
from . import data as data_folders
from . import judge_group, judge_hccn, judge_node, judge_npu, mesh, proxies, questions
from .checks import Judge, accept, stops
from .messages import CONTROLLER, plain

SCHEMA = 1


def build(plan: dict, hostvars, controller: dict) -> dict:
    """Return the report. ``controller``: ``{core, forks, version}``, the versions of ansible-core and of the collection."""
    plan = plain(plan)
    run, groups, hosts = plan["run"], plan["groups"], plan["hosts"]
    data, _problems = data_folders.load_all(run.get("data_dirs") or [])
    answers = {host: read_answers.read(hostvars, host) for host in hosts}
    meshes = questions.meshes(plan)
    judges = {host: Judge(host, data["checks"], _facts(host, hosts[host], groups, meshes), run["language"]) for host in hosts}
    found = _workers(Judge(CONTROLLER, data["checks"], {}, run["language"]), hosts, controller)
    for host in hosts:
        mine = {**hosts[host], "proxies": proxies.on_host(plan, host), "groups": list(groups)}
        found += _one(judges[host], host, mine, groups, answers[host], floors(data, groups, host), controller["core"])
    for group in groups.values():
        found += judge_group.judge_group(group, judges, answers, hosts)
        found += judge_hccn.judge_networks(group, judges, answers, hosts)
    for group in meshes.values():
        found += judge_hccn.judge_mesh(group, judges, answers, hosts, mesh.mode_of(run.get("preflight_mesh"), len(group["hosts"])))
    found += judge_group.judge_between(plan, judges, answers)
    found = accept(_distinct(found), run.get("preflight_accept") or [])
    return {
        "schema": SCHEMA,
        "verb": "preflight",
        "result": "fail" if any(stops(entry) for entry in found) else "pass",
        "language": run["language"],
        "started_at": _time(min((a.prerequisites.get("asked") or now() for a in answers.values()), default=now())),
        "ended_at": _time(now()),
        "version": controller["version"],
        "groups": {name: _group(group) for name, group in groups.items()},
        "summary": summary(found),
        "checks": found,
        "nodes": {host: _node(hosts[host], answers[host]) for host in hosts},
        "mesh": _mesh(meshes, hosts, answers, run.get("preflight_mesh")),
    }


def summary(found: list) -> dict:
    """Return how many check results of each status there are; an accepted one counts as accepted only."""
    counted = dict.fromkeys(("pass", "warn", "fail", "unknown", "accepted"), 0)
    for entry in found:
        counted["accepted" if entry["accepted"] else entry["status"]] += 1
    return counted


def now() -> float:
    """Return the controller's time, seconds since 1970-01-01 UTC."""
    return datetime.now(timezone.utc).timestamp()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _distinct(found: list) -> list:
    """Return the results in their order without exact repetitions: a host in two groups is judged by both."""
    return list({tuple(entry.values()): entry for entry in found}.values())


def _facts(host: str, host_plan: dict, groups: dict, meshes: dict) -> dict:
    """Return what the conditions of the checks' data may ask for about a host."""
    mine = [group for group in groups.values() if host in group["hosts"]]
    return {
        "hardware": host_plan["hardware"],
        "nodes": questions.nodes_together([host], meshes),
        "role": mine[0]["role"] if mine else "serve",
        "release": mine[0]["release"] if mine else "",
    }


def floors(data: dict, groups: dict, host: str) -> dict:
    """Return ``{group name: {minimum, recommended, cann, release}}`` of the groups of a host; a CANN that no entry is about has none."""
    found = {}
    for name, group in groups.items():
        cann, kind = str(group["software"].get("cann") or ""), group["hardware"]
        names = [entry for entry in data["floors"] if cann == entry or cann.startswith(entry + ".")]
        if host not in group["hosts"] or not names:
            continue
        entry = data["floors"][max(names, key=len)]
        if kind in entry["minimum"]:
            found[name] = {"minimum": entry["minimum"][kind], "recommended": (entry["recommended"] or {}).get(kind), "cann": cann, "release": group["release"]}
    return found


def _workers(judge: Judge, hosts: dict, controller: dict) -> list:
    enough = int(controller["forks"]) >= len(hosts)
    return [judge.judged("workers", None if enough else "too_few", f"forks is {controller['forks']}", f"{len(hosts)} or more", "forks", nodes=len(hosts))]


def _one(judge: Judge, host: str, host_plan: dict, groups: dict, answers, limits: dict, core: str) -> list:
    """Judge what one node answered. ``host_plan`` has the host's ``proxies`` and the names of all ``groups``, too."""
    prerequisites = judge_node.judge_prerequisites(judge, answers, core)
    if any(entry["check"] == "python_version" and entry["status"] != "pass" for entry in prerequisites):
        return prerequisites
    if not answers.alive:
        wanted = "an answer over SSH as a user that may become root"
        why = answers.node or answers.prerequisites
        return [*prerequisites, judge.found("node_answers", "silent", read_answers.said(why) if why else "no answer", wanted)]
    found = [*prerequisites, *judge_node.judge_node(judge, host, host_plan, groups, answers)]
    if not host_plan["units"]:
        # It only runs the proxy, which has no use for NPUs.
        return found
    found += judge_npu.judge_npus(judge, host_plan, answers, limits)
    if not answers.hccn:
        return [*found, judge.found("hccn_tool", "not_asked", "the NPUs' network was not looked at", "its check results")]
    return found + judge_hccn.judge_ports(judge, host_plan, answers) + judge_hccn.judge_rootinfo(judge, answers)


def _group(group: dict) -> dict:
    keys = ("model", "release", "hardware", "role", "hosts", "head", "data_parallel_size", "tensor_parallel_size", "image")
    return {key: group[key] for key in keys}


def _node(host_plan: dict, answers) -> dict:
    """Return what a card of the page shows of a node."""
    node, docker = answers.node, answers.node.get("docker") or {}
    ports = {entry["phy_id"]: entry for entry in answers.devices()}
    return {
        "answers": answers.alive,
        "local_ip": host_plan["local_ip"],
        "nic_name": host_plan["nic_name"],
        "hardware": answers.npu.get("hardware") or host_plan["hardware"],
        "driver": answers.npu.get("driver_version"),
        "firmware": answers.npu.get("firmware_version"),
        "docker": docker.get("version"),
        "kernel": node.get("kernel"),
        "arch": node.get("arch"),
        "python": (node.get("python") or {}).get("version"),
        "free_bytes": (docker.get("disk") or {}).get("free_bytes"),
        "clock_offset_s": answers.prerequisites.get("clock_ahead_s"),
        "npus": [_npu(entry, ports.get(judge_npu.number_of(entry)) or {}) for entry in answers.npu.get("npus") or []],
    }


def _npu(entry: dict, port: dict) -> dict:
    return {
        "npu": judge_npu.number_of(entry),
        **{key: entry.get(key) for key in ("health", "hbm_used_mb", "hbm_total_mb", "temperature_c", "power_w")},
        "processes": entry.get("processes") or [],
        "link": port.get("link"),
        "net_health": port.get("net_health"),
        "address": port.get("ip") or (port.get("vnic") or {}).get("ip"),
    }


def _mesh(meshes: dict, hosts: dict, answers: dict, stated) -> dict:
    """Return all pings of all meshes with the names of both ends."""
    npus = {host: entry["npus"] for host, entry in hosts.items()}
    devices = {host: answers[host].devices() for host in hosts}
    pings, total, whole, modes = [], 0, 0, []
    for group in meshes.values():
        mode = mesh.mode_of(stated, len(group["hosts"]))
        modes.append(mode)
        total, whole = total + mesh.planned(group, npus, mode), whole + mesh.possible(group, npus)
        for host in group["hosts"]:
            answered = {(entry["phy_id"], entry["address"]): entry for entry in answers[host].mesh.get("results") or []}
            for ping in mesh.pairs(host, group, devices, npus, mode):
                answer = answered.get((ping["phy_id"], ping["address"]))
                if answer:
                    pings.append(_ping(host, ping, answer))
    mode = next((name for name in ("full", "rails") if name in modes), "off")
    seconds = max((answers[host].mesh.get("seconds") or 0 for host in hosts), default=0)
    return {"mode": mode, "planned": total, "sent": len(pings), "possible": whole, "seconds": round(seconds, 1), "pings": pings}


def _ping(host: str, ping: dict, answer: dict) -> dict:
    keys = ("status", "sent", "received", "loss_percent", "rtt_ms", "text")
    ends = {"host": host, "npu": ping["phy_id"], "peer": ping["peer"], "peer_npu": ping["peer_npu"], "address": ping["address"], "kind": ping["kind"]}
    return {**ends, **{key: answer.get(key) for key in keys}}
