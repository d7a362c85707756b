# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node has to be asked before it serves, as it follows from the plan."""

from __future__ import annotations

import itertools

from . import data as data_folders
from . import proxies

#: Host ports HCCL listens on while a job runs: the default of HCCL_IF_BASE_PORT, and how many from there
#: (CANN environment variable reference, HCCL_IF_BASE_PORT).
HCCL_BASE_PORT, HCCL_PORTS = 60000, 32


def ports_of(unit: dict, groups: dict) -> dict:
    """Return port -> the variable or service it belongs to, for the ports a unit listens on at its host."""
    base = int(unit["env"].get("HCCL_IF_BASE_PORT") or HCCL_BASE_PORT)
    ports = {port: "HCCL_IF_BASE_PORT" for port in range(base, base + HCCL_PORTS)}
    group, kv_ports = groups[unit["group"]], unit.get("kv_ports")
    if unit["api"]:
        ports[unit["api"]["port"]] = "vllm_rank_port" if kv_ports else "vllm_port"
    if kv_ports:
        ports.update(dict.fromkeys(range(kv_ports[0], kv_ports[1] + 1), "vllm_kv_port"))
    if unit["head"]:
        if len(group["hosts"]) > 1 or kv_ports and group["data_parallel_size"] > 1:
            ports[group["rpc_port"]] = "vllm_data_parallel_rpc_port"
        if group["supervise"]["port"]:
            ports[group["supervise"]["port"]] = "vllm_watch_port"
    return ports


def unit_ports(units: list, groups: dict) -> list:
    """Return the sorted ports on which the units of a host listen: APIs, rpc, HCCL, the watch, and those for handing over the KV cache."""
    return sorted({port for unit in units for port in ports_of(unit, groups)} | set(rpc_ports(units, groups)))


def driver_questions(plan: dict) -> dict:
    """Return host -> what it has to be asked.

    ``{paths, ports, images, image_sources, registry_auth_file, weights, containers, sysctls, disk_paths, local_ip, devices}``.
    """
    settings = data_folders.load_all(plan["run"].get("data_dirs") or [])[0]["checks"]["kernel_settings"]["limits"]
    return {host: _questions(host_plan, plan["groups"], proxies.on_host(plan, host), sorted(settings)) for host, host_plan in plan["hosts"].items()}


def _questions(host_plan: dict, groups: dict, in_front: list, sysctls: list) -> dict:
    units = host_plan["units"]
    paths = {source for unit in units for entry in unit["mount_candidates"].values() for source in entry["sources"]}
    paths |= {device for unit in units for device in unit["devices"]}
    weights = [groups[unit["group"]]["weights"] for unit in units if unit["head"]]
    # A copy comes from the other nodes: the hub need not be reached from here.
    copies = {unit["group"]: groups[unit["group"]]["weights"] for unit in units if not on_head(unit, groups)}
    weights += [dict(entry, ask_hub=False) for entry in copies.values() if entry["target"] == "local"]
    return {
        "paths": sorted(paths),
        "ports": sorted({*unit_ports(units, groups), *(port for proxy in in_front for port in proxies.listening(proxy))}),
        "images": sorted({unit["image"] for unit in units}),
        # What comes from the head is looked for there.
        "image_sources": {unit["image"]: [] if copied_image(unit, groups) else groups[unit["group"]]["image_sources"] for unit in units},
        "registry_auth_file": next((groups[unit["group"]]["registry_auth_file"] for unit in units if groups[unit["group"]]["registry_auth_file"]), None),
        "weights": weights,
        # A hand-over that was left by a run that was killed is ours, too; and a proxy may be where it was before.
        "containers": [entry["name"] for entry in [*units, *in_front, *(proxy["next"] for proxy in in_front if proxy.get("next"))]]
        + [proxies.NAME] * (not in_front),
        "sysctls": sysctls,
        "disk_paths": sorted({entry["dir"] for entry in weights}),
        "local_ip": host_plan["local_ip"],
        "devices": list(host_plan["npus"]),
    }


def on_head(unit: dict, groups: dict) -> bool:
    """Return whether a unit is on the head of its group, where a prefill or decode group may have several."""
    group = groups[unit["group"]]
    return unit["head"] or any(entry["name"] == unit["name"] and entry["host"] == group["head"] for entry in group["units"])


def copied_image(unit: dict, groups: dict) -> bool:
    """Return whether a unit's host gets its image from the head of the group."""
    return not on_head(unit, groups) and groups[unit["group"]]["image_fanout"] == "head"


def rpc_ports(units: list, groups: dict) -> list:
    """Return the rpc ports of the groups of several nodes that the units of a host belong to."""
    return sorted({groups[unit["group"]]["rpc_port"] for unit in units if len(groups[unit["group"]]["hosts"]) > 1})


def watch_ports(units: list, groups: dict) -> list:
    """Return the ports on which the watches of this host's head units answer those of the other nodes."""
    heads = [groups[unit["group"]] for unit in units if unit["head"]]
    return sorted({group["supervise"]["port"] for group in heads if group["supervise"]["port"]})


def largest_group(host: str, groups: dict):
    """Return the largest group a host is in (its other groups ask for no more), or None."""
    mine = [group for group in groups.values() if host in group["hosts"]]
    return max(mine, key=lambda group: len(group["hosts"]), default=None)


def handed_over(plan: dict) -> list:
    """Return ``[(prefill host, decode host)]`` between which KV caches are handed over; on one host that needs no network."""
    sides = [[host for group in plan["groups"].values() if group["role"] == side for host in group["hosts"]] for side in ("prefill", "decode")]
    return list(dict.fromkeys(way for way in itertools.product(*sides) if way[0] != way[1]))


def between(plan: dict) -> dict:
    """Return ``{(from, to): [port]}`` of the connections that groups make to each other, and a proxy to the APIs behind it.

    Prefill and decode ranks connect both ways on ports of their own, too (handed_over), for which a random one stands: those ways are always there.
    """
    found: dict = {}
    for way in handed_over(plan):
        found.update({way: [], way[::-1]: []})
    for proxy in (plan.get("proxies") or {}).values():
        for backend in proxy["backends"]:
            way = (proxy["host"], backend["host"])
            if way[0] != way[1]:
                found.setdefault(way, []).append(backend["port"])
    return found


def meshes(plan: dict) -> dict:
    """Return name -> what of the plan ping each other by their NPUs (``mesh.pairs``): each group, and prefill and decode, between which the KV cache goes.

    The latter has ``ways``, ``{(host, peer): [(mine, theirs)]}`` with the physical ids of the NPUs at both ends. Both ways are there: a decode rank reads
    from the memory of a prefill rank, and begins that itself (batch_transfer_sync_read in vllm_ascend's kv_transfer/kv_p2p/mooncake_connector.py).
    """
    groups, handed = plan["groups"], handed_over(plan)
    if not handed:
        return dict(groups)
    names = {side: [name for name, group in groups.items() if group["role"] == side] for side in ("prefill", "decode")}
    hosts = list(dict.fromkeys(host for side in names.values() for name in side for host in groups[name]["hosts"]))
    npus = {side: {host: sorted({npu for unit in plan["hosts"][host]["units"] if unit["group"] in mine for npu in unit["npus"]}) for host in hosts}
            for side, mine in names.items()}
    ways: dict = {}
    for prefill, decode in handed:
        ends = (npus["prefill"][prefill], npus["decode"][decode])
        ways.setdefault((prefill, decode), []).append(ends)
        ways.setdefault((decode, prefill), []).append(ends[::-1])
    kinds = {groups[name]["hardware"] for side in names.values() for name in side}
    across = {"hosts": hosts, "hardware": kinds.pop() if len(kinds) == 1 else None, "ways": ways}
    return {**groups, " and ".join(", ".join(side) for side in names.values()): across}


def nodes_together(hosts, meshes: dict) -> int:
    """Return of how many nodes the largest mesh (``meshes``) with one of the hosts is: a node that is a prefill group alone is not one alone."""
    return max((len(group["hosts"]) for group in meshes.values() if set(hosts) & set(group["hosts"])), default=1)


def listens(host: str, plan: dict, answer: dict) -> list:
    """Return what a node listens on for others: ``[{port, name}]``, the rpc and watch ports and what a proxy elsewhere connects to, unless somebody has
    them by now, and the free one it named itself."""
    taken = {entry["port"] for entry in answer.get("listening") or []}
    units, groups = plan["hosts"][host]["units"], plan["groups"]
    named = [(port, "rpc") for port in rpc_ports(units, groups)] + [(port, "watch") for port in watch_ports(units, groups)]
    named += [(port, "api") for port in sorted({port for (_from, to), ports in between(plan).items() if to == host for port in ports})]
    found = [{"port": port, "name": name} for port, name in named if port not in taken]
    return found + [{"port": answer["free_port"], "name": "random"}]


def reach_questions(plan: dict, answers: dict) -> dict:
    """Return host -> ``{local_ip, listen, peers}`` of tcp_reach: what it listens on, and which ports of which peers it connects to.

    ``answers`` is host -> result of node_info. A peer that did not answer is left out: every node waits for the peers that it names.
    """
    return {host: _reach(host, plan, answers) for host in plan["hosts"]}


def _reach(host: str, plan: dict, answers: dict) -> dict:
    hosts = plan["hosts"]
    together = [name for group in plan["groups"].values() if host in group["hosts"] for name in group["hosts"] if name != host]
    # Both ends of a connection name each other, or one would wait for the other in vain.
    together += [other for way in between(plan) if host in way for other in way if other != host]
    able = [name for name in [host, *dict.fromkeys(together)] if (answers.get(name) or {}).get("free_port")]
    ports = {name: listens(name, plan, answers[name]) for name in able}
    peers = [
        {"host": name, "address": hosts[name]["local_ip"], "ports": [entry["port"] for entry in ports[name]]}
        for name in able
        if name != host and host in able
    ]
    return {"local_ip": hosts[host]["local_ip"], "listen": ports.get(host, []), "peers": peers}
