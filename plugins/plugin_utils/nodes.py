# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is: its hardware, NPUs, address and interface, from what the inventory states and what the node answered."""

from __future__ import annotations

from dataclasses import dataclass

from . import addresses
from .messages import check, is_list, is_mapping, known_names

#: What has to be known of a host, and the variable that states it.
NEEDED = ("vllm_hardware", "vllm_npus", "vllm_local_ip", "vllm_nic_name")


@dataclass(frozen=True)
class Node:
    """One host as far as the plan needs it. ``npus``: sorted physical ids; ``network``: the CIDR that was stated, or None."""

    host: str
    hardware: str
    npus: tuple
    local_ip: str
    nic_name: str
    network: str | None = None


def unstated(values: dict) -> list:
    """Return the variables of NEEDED that a host's inventory leaves to the node."""
    return [name for name in NEEDED if name not in values]


def settle(host: str, values: dict, answer: object, known_hardware: dict, invalid=()) -> tuple[Node | None, list]:
    """Return ``(node, checks)`` of one host; there is no node if any check failed.

    ``values``: its converted public variables. ``answer``: what the node said (``interfaces``, ``hardware``, ``npus``), a mapping
    with ``error`` if it could not be asked, None if it was not asked. ``invalid``: variables already refused, not to be asked for again.
    """
    checks: list = []
    if answer is None and unstated(values):
        missing = [name for name in unstated(values) if name not in invalid]
        if missing:
            remedy = "state them, or let the plan ask the node for them."
            checks.append(
                check(
                    host,
                    "host_stated",
                    missing[0],
                    f"nothing stated for {', '.join(missing)}",
                    "a value, or an answer of the node",
                    remedy,
                )
            )
        return None, checks
    if is_mapping(answer) and answer.get("error"):
        text = " ".join(str(answer["error"]).split())
        return None, [
            check(
                host,
                "reachable",
                "ssh",
                text,
                "an answer of the node, which was asked for " + ", ".join(unstated(values)),
                f"try 'ansible -m ping {host}' and correct address, user, key or known_hosts; or state these variables in the inventory.",
            )
        ]
    if answer is not None and not (
        is_mapping(answer) and is_list(answer.get("interfaces")) and is_list(answer.get("npus"))
    ):
        return None, [
            check(
                host,
                "reachable",
                "",
                "an answer without interfaces or NPUs",
                "the answer of ascend.vllm.node_info",
                "report this as a fault of the collection.",
                "unknown",
            )
        ]
    hardware, found = _hardware(host, values, answer, known_hardware)
    checks += found
    npus, found = _npus(host, values, answer, known_hardware.get(hardware))
    checks += found
    (local_ip, nic_name), found = _address(host, values, answer)
    checks += found
    if checks or set(invalid) & {*NEEDED, "vllm_network"}:
        return None, checks
    return Node(host, hardware, npus, local_ip, nic_name, values.get("vllm_network")), []


def _hardware(host: str, values: dict, answer, known: dict) -> tuple[str | None, list]:
    """Return the generation, stated or found; both if they agree."""
    stated = values.get("vllm_hardware")
    found = answer.get("hardware") if answer else None
    if stated and found and found not in (stated, "unknown"):
        return None, [
            check(
                host,
                "hardware_found",
                "vllm_hardware",
                f"{found} on the node",
                f"{stated}, as the inventory states",
                f"set vllm_hardware: {found}, or correct the host's address.",
            ),
        ]
    hardware = stated or found
    if hardware not in known:
        return None, [
            check(
                host,
                "hardware_found",
                "vllm_hardware",
                f"{hardware or 'nothing'} on the node",
                known_names(known),
                "set vllm_hardware if you know better, or take the host out of the group.",
            ),
        ]
    return hardware, []


def _npus(host: str, values: dict, answer, entry: dict | None) -> tuple[tuple, list]:
    """Return the physical ids of the host's NPUs, stated or found; a stated number takes the first ones."""
    stated = values.get("vllm_npus")
    found = sorted(int(number) for number in answer["npus"]) if answer else None
    problem = None
    if stated is None:
        ids = found or []
        if not ids:
            problem = (
                "no NPU on the node",
                "NPUs: device nodes /dev/davinci0 and following",
                "install the driver, or take the host out of the group.",
            )
    elif is_list(stated):
        ids = list(stated)
        absent = sorted(set(ids) - set(found)) if found is not None else []
        if absent:
            problem = (
                f"NPU ids {_numbers(found)} on the node",
                f"the stated ids, of which {_numbers(absent)} are not there",
                "correct vllm_npus.",
            )
    else:
        ids = list(range(stated)) if found is None else found[:stated]
        if len(ids) < stated:
            problem = (
                f"{len(ids)} NPU(s) on the node",
                f"{stated}, as the inventory states",
                "correct vllm_npus, or look on the node why NPUs are missing (npu-smi info).",
            )
    if problem is None and entry is not None and ids and max(ids) >= entry["npus_max"]:
        problem = (
            f"NPU id {max(ids)}",
            f"ids below {entry['npus_max']} on {entry['title']}",
            "correct vllm_npus or vllm_hardware.",
        )
    return ((), [check(host, "npus_found", "vllm_npus", *problem)]) if problem else (tuple(ids), [])


def _numbers(ids: list) -> str:
    """Return ids as ``0, 1, 2``, or ``none``."""
    return ", ".join(str(number) for number in ids) or "none"


def _address(host: str, values: dict, answer) -> tuple[tuple, list]:
    """Return ``((local_ip, nic_name), checks)``, stated or found; what the node answered has to agree with what is stated."""
    stated_ip, stated_nic, network = (values.get(name) for name in ("vllm_local_ip", "vllm_nic_name", "vllm_network"))
    if stated_ip and network and not addresses.inside([stated_ip], network):
        return (None, None), [
            check(
                host,
                "network_address",
                "vllm_local_ip",
                stated_ip,
                f"an address inside vllm_network {network}",
                "correct one of the two.",
            ),
        ]
    if answer is None:
        return (stated_ip, stated_nic), []
    owned = [
        (cidr.partition("/")[0], port["name"], bool(port.get("up")))
        for port in answer["interfaces"]
        for cidr in port.get("addresses", [])
    ]
    chosen, problem = _choose(owned, stated_ip, stated_nic, network, [port["name"] for port in answer["interfaces"]])
    if problem:
        return (None, None), [check(host, *problem)]
    address, nic, is_up = chosen
    if not is_up:
        remedy = f"ip link set {nic} up on the host, or state another network."
        return (None, None), [
            check(
                host,
                "nic_up",
                "vllm_nic_name" if stated_nic else nic,
                f"{nic} is down",
                f"the interface of {address} up",
                remedy,
            )
        ]
    return (address, nic), []


def _choose(owned: list, stated_ip, stated_nic, network, names: list) -> tuple:
    """Return ``((address, nic, is_up), None)``, or ``(None, (check, device, observed, expected, remedy))``.

    ``owned``: (address, nic, is_up) of the host, secondary addresses included; ``names``: all of its interfaces.
    """
    has = "; ".join(f"{nic} {address}" for address, nic, _up in owned) or "no address"
    if stated_nic and stated_nic not in names:
        return None, (
            "nic_owns_address",
            "vllm_nic_name",
            f"the interfaces {', '.join(names) or 'none'}",
            f"an interface {stated_nic}",
            "correct vllm_nic_name.",
        )
    if stated_ip:
        fitting, device = [entry for entry in owned if entry[0] == stated_ip], "vllm_local_ip"
        wanted, remedy = (
            f"the host to own {stated_ip}",
            "correct vllm_local_ip, or leave it out and state vllm_network.",
        )
    elif network:
        inside = set(addresses.inside([address for address, _nic, _up in owned], network))
        fitting, device = [entry for entry in owned if entry[0] in inside], "vllm_network"
        wanted, remedy = f"one address inside {network}", "correct vllm_network, or give the host an address in it."
    elif stated_nic:
        fitting, device = [entry for entry in owned if entry[1] == stated_nic], "vllm_nic_name"
        wanted, remedy = f"one IPv4 address on {stated_nic}", "correct vllm_nic_name, or state vllm_local_ip."
    else:
        remedy = "set vllm_network to the CIDR of the network between the nodes, for the whole group."
        return None, (
            "network_address",
            "vllm_network",
            f"nothing stated; the host has {has}",
            "the network between the nodes",
            remedy,
        )
    if not fitting:
        return None, ("nic_owns_address" if stated_ip else "network_address", device, has, wanted, remedy)
    on_nic = [entry for entry in fitting if stated_nic in (None, entry[1])]
    if not on_nic:
        found = ", ".join(f"{address} on {nic}" for address, nic, _up in fitting)
        return None, (
            "nic_owns_address",
            "vllm_nic_name",
            found,
            f"{fitting[0][0]} on {stated_nic}",
            f"set vllm_nic_name: {fitting[0][1]}, or correct the address.",
        )
    if len(on_nic) > 1:
        found = " and ".join(f"{address} on {nic}" for address, nic, _up in on_nic)
        return None, (
            "network_address",
            device,
            found,
            wanted,
            "state vllm_local_ip for this host, or a narrower vllm_network.",
        )
    return on_nic[0], None


def duplicates(nodes: list) -> list:
    """Refuse two hosts with one address; each later one is named with the first."""
    owner: dict = {}
    checks = []
    for node in nodes:
        first = owner.setdefault(node.local_ip, node.host)
        if first != node.host:
            checks.append(
                check(
                    node.host,
                    "address_unique",
                    "vllm_local_ip",
                    f"{node.local_ip}, which {first} has too",
                    "an address of its own for every host",
                    f"correct vllm_local_ip of {node.host} or {first}.",
                ),
            )
    return checks


def unreachable(nodes: list) -> list:
    """Refuse a loopback address where other hosts have to reach it."""
    if len(nodes) < 2:
        return []
    return [
        check(
            node.host,
            "network_address",
            "vllm_local_ip",
            f"{node.local_ip}, which no other host reaches",
            "an address in the network between the nodes",
            "correct vllm_local_ip, or leave it out and state vllm_network.",
        )
        for node in nodes
        if addresses.is_loopback(node.local_ip)
    ]


def network_env(node: Node) -> dict:
    """Return what the tutorial exports of a host's address and interface."""
    return {
        "HCCL_IF_IP": node.local_ip,
        "GLOO_SOCKET_IFNAME": node.nic_name,
        "TP_SOCKET_IFNAME": node.nic_name,
        "HCCL_SOCKET_IFNAME": node.nic_name,
    }
