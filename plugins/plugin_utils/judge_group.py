# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the nodes of a group against each other: what has to be equal, and whether they reach each other over TCP.

``judges`` and ``answers`` are mappings of the group's hosts; hosts that did not answer have no say.
"""

from __future__ import annotations

from collections import Counter
from statistics import median

from . import questions
from .judge_node import room


def judge_group(group: dict, judges: dict, answers: dict, plan_hosts: dict) -> list:
    """Return the check results that need more than one node of a group."""
    hosts = [host for host in group["hosts"] if answers[host].alive]
    if not hosts:
        return []
    mtus = {host: _mtu(answers[host].node, plan_hosts[host]["nic_name"]) for host in hosts}
    found = _equal("driver_equal", "driver", {host: answers[host].npu.get("driver_version") for host in hosts}, judges)
    found += _equal("firmware_equal", "firmware", {host: answers[host].npu.get("firmware_version") for host in hosts}, judges)
    found += _equal("mtu_equal", None, mtus, judges, lambda host, wanted: {"nic": plan_hosts[host]["nic_name"], "wanted": wanted})
    found += _copies(group, hosts, judges, answers)
    return found + _clocks(hosts, judges, answers) + _reach(group, hosts, judges, answers, plan_hosts)


def _copies(group: dict, hosts: list, judges: dict, answers: dict) -> list:
    """Judge the room for the copies of the weights: how large they are is known of the head, which has them or asked the hub."""
    place, found = group["weights"]["dir"], []
    entries = {host: next((entry for entry in answers[host].artefacts.get("weights") or [] if entry["dir"] == place), None) for host in hosts}
    head = entries.get(group["head"])
    if group["weights"]["target"] != "local" or not head:
        return []
    total = (head["bytes"] if head["complete"] else (head["hub"] or {}).get("bytes")) or 0
    for host, entry in entries.items():
        need = total - ((entry or {}).get("bytes") or 0)
        if host != group["head"] and entry and not entry["complete"] and need > 0:
            disk = (answers[host].node.get("disk") or {}).get(place) or {}
            found.append(room(judges[host], "disk_weights", disk, need * judges[host].limits("disk_weights")["margin"], place))
    return found


def common(values: dict):
    """Return the value that most hosts have, the first host's if several are as frequent; None if there is none."""
    counted = Counter(value for value in values.values() if value is not None)
    return max(counted, key=lambda value: counted[value], default=None)


def _equal(check: str, device, values: dict, judges: dict, words=lambda host, wanted: {}) -> list:
    """Judge one value that has to be equal on all hosts; a host that does not know its value is left to other checks."""
    wanted, found = common(values), []
    if wanted is None or len(values) < 2:
        return []
    like = next(host for host, value in values.items() if value == wanted)
    for host, value in values.items():
        if value is None:
            continue
        more = words(host, wanted)
        name = device or more.get("nic", "")
        if value == wanted:
            found.append(judges[host].passed(check, value, f"{wanted} on all nodes", name))
        else:
            found.append(judges[host].found(check, "differs", value, f"{wanted}, as on {like}", name, **more))
    return found


def _mtu(node: dict, nic: str):
    return next((entry.get("mtu") for entry in node.get("interfaces") or [] if entry["name"] == nic), None)


def clock_offsets(hosts: list, answers: dict) -> dict:
    """Return ``{host: seconds}`` that each clock is ahead of the others' middle.

    Measured against the controller, whose clock is one of those the middle is taken of: so the odd one of two nodes is known.
    """
    ahead = {host: answers[host].prerequisites.get("clock_ahead_s") for host in hosts}
    known = {host: value for host, value in ahead.items() if value is not None}
    # Of a node alone and the controller there is no middle: half of the difference would be said to be the node's.
    middle = median([0.0, *known.values()]) if len(known) > 1 else 0.0
    return {host: value - middle for host, value in known.items()}


def _clocks(hosts: list, judges: dict, answers: dict) -> list:
    found = []
    for host, seconds in clock_offsets(hosts, answers).items():
        limits = judges[host].limits("clock")
        outcome = "far_off" if abs(seconds) >= limits["fail_s"] else "off" if abs(seconds) >= limits["warn_s"] else None
        way = "ahead of" if seconds > 0 else "behind"
        observed = f"{abs(seconds):.0f} s {way} the other clocks" if outcome else "agrees"
        found.append(judges[host].judged("clock", outcome, observed, f"within {limits['warn_s']} s of the other clocks"))
    return found


def _reach(group: dict, hosts: list, judges: dict, answers: dict, plan_hosts: dict) -> list:
    """Judge the connections from every host to every other one. A host whose interface is at fault is named for that already."""
    if len(group["hosts"]) < 2:
        return []
    sound = {host for host in hosts if _interface_sound(answers[host].node, plan_hosts[host])}
    # Only the proxy has to reach these (judge_between); whether the group's hosts do among each other is nobody's business.
    apis = {(unit["host"], int(unit["url"].rpartition(":")[2])) for unit in group["units"] if unit["url"]}
    found = []
    for host in sorted(sound, key=hosts.index):
        reach = answers[host].reach
        if sound == {host}:
            # Whoever could be reached is named already.
            continue
        if "reached" not in reach:
            found.append(judges[host].found("tcp_reach", "not_asked", " ".join(str(reach.get("msg") or "not tried").split())[:300], "connections to the peers"))
            continue
        for entry in reach["reached"]:
            if entry["host"] in sound and entry["port"] is not None and (entry["host"], entry["port"]) not in apis:
                found.append(_connection(judges[host], entry, plan_hosts[host]["local_ip"]))
        found += _untested(group, host, judges[host], answers, reach, sound)
    return found


def judge_between(plan: dict, judges: dict, answers: dict) -> list:
    """Judge the connections from one group to another, and from a proxy to what is behind it."""
    hosts, found, handed_over = plan["hosts"], [], questions.handed_over(plan)
    sound = {host for host in hosts if answers[host].alive and _interface_sound(answers[host].node, hosts[host])}
    for (host, peer), ports in questions.between(plan).items():
        # What the hosts of one group need of each other is judged there.
        together = any({host, peer} <= set(group["hosts"]) for group in plan["groups"].values())
        every = not together and bool({(host, peer), (peer, host)} & set(handed_over))
        if not {host, peer} <= sound:
            continue
        reach = answers[host].reach
        if "reached" not in reach and together:
            continue
        if "reached" not in reach:
            found.append(judges[host].found("tcp_reach", "not_asked", " ".join(str(reach.get("msg") or "not tried").split())[:300],
                                            f"connections to {peer}", peer))
            continue
        entries = [entry for entry in reach["reached"] if entry["host"] == peer and entry["port"] is not None]
        found += [_connection(judges[host], entry, hosts[host]["local_ip"]) for entry in entries if every or entry["port"] in ports]
        found += [judges[host].passed("tcp_reach", f"port {port} of {peer} is in use and was not tried; a random high port was", device=f"{peer}:{port}")
                  for port in ports if port not in {entry["port"] for entry in entries}]
    return found


def _interface_sound(node: dict, host_plan: dict) -> bool:
    """Return whether the planned interface is up and has the planned address."""
    for entry in node.get("interfaces") or []:
        if entry["name"] == host_plan["nic_name"]:
            return bool(entry["up"]) and any(cidr.split("/")[0] == host_plan["local_ip"] for cidr in entry["addresses"] or [])
    return False


def _connection(judge, entry: dict, source: str) -> dict:
    peer, port = entry["host"], entry["port"]
    device = f"{peer}:{port}"
    words = {"peer": peer, "address": entry["address"], "port": port, "source_address": source}
    if entry.get("connected"):
        return judge.passed("tcp_reach", f"connected to {entry['address']} port {port}", device=device)
    if entry["status"] == "in_use":
        # Another preflight's listener, most likely: it was free a moment ago, and nobody filters it by being there.
        return judge.passed("tcp_reach", f"port {port} of {peer} was in use by then and was not tried; a random high port was", device=device)
    outcome = {"refused": "refused", "not_opened": "refused", "unreachable": "unreachable"}.get(entry["status"], "dropped")
    says = {"refused": "connection refused", "not_opened": "it did not listen", "unreachable": "no way to it"}.get(entry["status"], "no answer")
    return judge.found("tcp_reach", outcome, f"{says} from {entry['address']} port {port}", f"a TCP connection from {source} to {peer}", device, **words)


def _untested(group: dict, host: str, judge, answers: dict, reach: dict, sound: set) -> list:
    """Say which peers' rpc port was not tried because something listens there already, which is this group's own service when it runs.

    A peer that was not tried at all, or whose rpc port was left out for no reason, is unknown.
    """
    tried = {(entry["host"], entry["port"]) for entry in reach["reached"]}
    found = []
    for peer in [name for name in group["hosts"] if name != host and name in sound]:
        node, rpc = answers[peer].node, group["rpc_port"]
        high = node.get("free_port")
        if (peer, high) not in tried:
            seen = f"no connection to {'a random high port' if high is None else f'port {high}'} of {peer} was tried"
            found.append(judge.found("tcp_reach", "not_asked", seen, f"a TCP connection to {peer}", peer))
        elif (peer, rpc) not in tried and any(entry["port"] == rpc for entry in node.get("listening") or []):
            text = f"port {rpc} of {peer} is in use and was not tried; a random high port was"
            found.append(judge.passed("tcp_reach", text, device=f"{peer}:{rpc}"))
        elif (peer, rpc) not in tried:
            found.append(judge.found("tcp_reach", "not_asked", f"no connection to port {rpc} of {peer} was tried", f"a TCP connection to {peer}",
                                     f"{peer}:{rpc}"))
    return found
