# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NPU pings which: the mesh between the nodes of a group, and between the nodes of prefill and those of decode.

A ``group`` is one of questions.meshes().

``full`` is every NPU of a node to every NPU of every other node. ``rails`` is every NPU to the one of its own place and to one other,
by an offset that rotates over the node pairs: so every NPU's link and every node pair is used, with 2 pings an NPU and peer instead
of as many as a node has NPUs.
"""

from __future__ import annotations

import itertools

from .answers import is_mute, joined
from .questions import meshes

#: Seconds of one ping of hccn_tool: 3 packets, one a second (measured by users of real nodes; facts of the tool's source).
PING_SECONDS = 2.1
MODES = ("full", "rails", "off")


def mode_of(stated, nodes: int) -> str:
    """Return the mode for a group of so many nodes: the stated one, else full for two nodes and rails for more."""
    if nodes < 2:
        return "off"
    return stated or ("full" if nodes == 2 else "rails")


def partners(mode: str, place: int, own: int, peer: int, count: int) -> list:
    """Return the places of the NPUs that the NPU at ``place`` of node number ``own`` pings on node number ``peer``, which has ``count`` NPUs."""
    if mode == "off" or not count:
        return []
    if mode == "full":
        return list(range(count))
    rail = place % count
    if count == 1:
        return [rail]
    # Node pairs at different distances get different offsets, and neighbours' NPUs never meet on one.
    offset = 1 + (abs(peer - own) - 1) % (count - 1)
    return [rail, (rail + offset) % count]


def address_of(device: dict, hardware: str):
    """Return ``(kind, address)`` to ping a device at: HCCS on A3 where it has an address there, else RoCE; address may be None."""
    virtual = (device.get("vnic") or {}).get("ip") if hardware == "a3" else None
    return ("hccs", virtual) if virtual else ("roce", device.get("ip"))


def ways(group: dict, npus: dict) -> dict:
    """Return ``{(host, peer): [(mine, theirs)]}``: physical ids of the NPUs of ``host`` that ping, and of those of ``peer`` that are pinged.

    As the group states them, else every node every other one, with all NPUs of both.
    """
    return group.get("ways") or {way: [(npus[way[0]], npus[way[1]])] for way in itertools.permutations(group["hosts"], 2)}


def pairs(host: str, group: dict, devices: dict, npus: dict, mode: str) -> list:
    """Return the pings of one host: ``[{phy_id, peer, peer_npu, address, kind}]``, rails first.

    ``devices``: host -> devices of hccn_info; ``npus``: host -> planned physical ids. A peer NPU without a known address has address None.
    """
    found = []
    order = {name: index for index, name in enumerate(group["hosts"])}
    for peer, mine, theirs in [(other, *ends) for (one, other), sides in ways(group, npus).items() if one == host for ends in sides]:
        known = {entry["phy_id"]: entry for entry in devices.get(peer) or []}
        for place, number in enumerate(mine):
            for target in partners(mode, place, order[host], order[peer], len(theirs)):
                other = theirs[target]
                kind, address = address_of(known.get(other) or {}, group["hardware"])
                found.append({"phy_id": number, "peer": peer, "peer_npu": other, "address": address, "kind": kind, "rail": target == place})
    return sorted(found, key=lambda entry: not entry["rail"])


def possible(group: dict, npus: dict) -> int:
    """Return how many pings a full mesh of the group has."""
    return sum(len(mine) * len(theirs) for sides in ways(group, npus).values() for mine, theirs in sides)


def planned(group: dict, npus: dict, mode: str) -> int:
    """Return how many pings a mode has in the group."""
    return sum(len(pairs(host, group, {}, npus, mode)) for host in group["hosts"])


def announce(groups: dict, hosts: dict, stated, packet_seconds: float = PING_SECONDS) -> list:
    """Return what is about to happen, a line a mesh: how many pings, about how long, and what is skipped.

    The tool takes one call at a time, and the nodes ping side by side: so the busiest node counts.
    """
    npus = {host: entry["npus"] for host, entry in hosts.items()}
    lines = []
    for name, group in groups.items():
        mode = mode_of(stated, len(group["hosts"]))
        if len(group["hosts"]) < 2:
            continue
        if mode == "off":
            lines.append(f"{name}: no NPU pings another one (preflight_mesh is off)")
            continue
        most = max(len(pairs(host, group, {}, npus, mode)) for host in group["hosts"])
        total, whole = planned(group, npus, mode), possible(group, npus)
        skipped = "" if mode == "full" else f"; {whole - total} of {whole} pairs are skipped (preflight_mesh=full pings them all)"
        lines.append(f"{name}: {total} pings from NPU to NPU, {most} a node one after the other, about {duration(most * packet_seconds)}{skipped}")
    return lines


def duration(seconds: float) -> str:
    """Return seconds as a person reads them."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def mesh_pings(plan: dict, answers: dict, npu_answers: dict | None = None) -> dict:
    """Return host -> what hccn_ping is to send from it: ``[{phy_id, address, kind}]`` over all of its groups, each once.

    ``answers`` is host -> result of hccn_info, ``npu_answers`` host -> result of npu_info. A peer NPU whose address is not known is left to the judge.
    """
    hosts = plan["hosts"]
    npus = {name: entry["npus"] for name, entry in hosts.items()}
    devices = {name: joined(answers.get(name) or {}, (npu_answers or {}).get(name) or {}) for name in hosts}
    return {host: _host_pings(host, plan, npus, devices) for host in hosts}


def _host_pings(host: str, plan: dict, npus: dict, devices: dict) -> list:
    # A device that answers nothing would not answer here either, and cost the tool's patience again.
    own = {entry["phy_id"] for entry in devices.get(host) or [] if not is_mute(entry)}
    found = {}
    for group in meshes(plan).values():
        if host not in group["hosts"]:
            continue
        for ping in pairs(host, group, devices, npus, mode_of(plan["run"].get("preflight_mesh"), len(group["hosts"]))):
            if ping["address"] and ping["phy_id"] in own:
                found[(ping["phy_id"], ping["address"])] = {key: ping[key] for key in ("phy_id", "address", "kind")}
    return list(found.values())


def lines(plan: dict) -> list:
    """Return what the mesh of a plan is about to do, as lines for a person."""
    return announce(meshes(plan), plan["hosts"], plan["run"].get("preflight_mesh"))
