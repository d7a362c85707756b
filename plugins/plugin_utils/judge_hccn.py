# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the network ports of the NPUs: each by itself, against /etc/hccn.conf, against each other, and by pings."""

from __future__ import annotations

import ipaddress
import re

from ..module_utils.hccn import NPU_MARK
from . import mesh
from .answers import is_mute, said
from .judge_group import common

#: Words of -net_health (mind-cluster counts Init as healthy: no detection address is set).
NET_HEALTH = {"Success": None, "Init": "init"}
#: What a question of hccn_info is called by the tool.
QUESTIONS = {"net_health": "-net_health", "ip": "-ip", "link": "-link", "tls": "-tls", "gateway": "-gateway", "lldp": "-lldp", "vnic": "-vnic",
             "netdetect": "-netdetect"}  # fmt: skip
#: How another NPU shows in LLDP: by the name of its own port, where a switch has one such as 400GE1/1/5:1, Ethernet12 or swp3.
NPU_PORT = re.compile(r"^(Ifname:\s*)?(eth|npu|davinci)\d+$")
#: Or by its MAC address alone; a switch that names its ports by MAC addresses still says its own name.
MAC_PORT = re.compile(r"^MAC:\s*[0-9A-Fa-f:.-]+$")


def hccs_good(device: dict, hardware: str) -> bool:
    """Return whether a die of an A3 has a virtual NIC that is up with an address: then HCCS joins it to its super pod."""
    vnic = device.get("vnic") or {}
    return hardware == "a3" and vnic.get("link") == "UP" and bool(vnic.get("ip"))


def judge_ports(judge, host_plan: dict, answers) -> list:
    """Return the check results about the network ports of one node's NPUs. A node whose driver does not work is named for that already."""
    info = answers.hccn
    if not answers.tool_works:
        return []
    if "devices" not in info:
        return [judge.found("hccn_tool", "failed", said(info), "hccn_tool answers")]
    devices = answers.devices()
    mute = [entry for entry in devices if is_mute(entry)]
    found = []
    if devices and len(mute) == len(devices):
        # One fault of the tool, not one of each NPU.
        text = next(iter(mute[0]["errors"].values()))
        found.append(judge.found("hccn_tool", "no_answer", f"no answer about any of {len(mute)} NPUs: {text}", "answers about the NPUs", npu=0,
                                 question="-link"))
        devices = []
    asked = {entry["phy_id"] for entry in answers.devices()}
    for number in [number for number in host_plan["npus"] if number not in asked]:
        found.append(judge.found("hccn_tool", "no_answer", "no answer about this NPU", "an answer about it", f"npu{number}", npu=number, question="-link"))
    for entry in devices:
        found += _port(judge, entry, hccs_good(entry, host_plan["hardware"]))
    return found + _conf(judge, host_plan, answers)


def _port(judge, entry: dict, hccs: bool) -> list:
    number, errors = entry["phy_id"], entry.get("errors") or {}
    device, words = f"npu{number}", {"npu": number}
    if is_mute(entry):
        text = next(iter(errors.values()))
        return [judge.found("hccn_tool", "no_answer", text, "an answer about this NPU", device, npu=number, question="-link")]
    found = [
        judge.found("hccn_tool", "no_answer", text, f"an answer to {QUESTIONS.get(question, question)}", device, npu=number,
                    question=QUESTIONS.get(question, question))
        for question, text in errors.items()
        # A port without link has no neighbour to tell of, and the tool calls that an error.
        if not (question == "lldp" and entry["link"] == "DOWN")
    ]
    if "link" not in errors:
        up = entry["link"] == "UP"
        found.append(judge.judged("hccn_link", None if up else "down", entry["link"], "UP", device, hccs, **words))
    if "net_health" not in errors:
        outcome = NET_HEALTH.get(entry["net_health"], "bad")
        observed = entry["net_health"]
        if outcome and observed and "netdetect" not in errors:
            # What does not answer is what the port was told to detect.
            observed = f"{observed}, detecting {entry.get('netdetect') or 'no address'}"
        found.append(judge.judged("hccn_net_health", outcome, observed, "Success", device, hccs, **words))
    if "ip" not in errors:
        observed = entry["ip"] or (f"{entry['vnic']['ip']} (HCCS)" if hccs else None)
        found.append(judge.judged("hccn_address", None if observed else "none", observed, "an address", device, hccs, **words))
    if "gateway" not in errors and entry["ip"]:
        found.append(judge.judged("hccn_gateway", None if entry["gateway"] else "none", entry["gateway"], "a default gateway", device, hccs, **words))
    if "lldp" not in errors and entry["link"] == "UP":
        found.append(_lldp(judge, entry.get("lldp"), device, hccs))
    return found


def _lldp(judge, lldp, device: str, hccs: bool) -> dict:
    lldp = lldp or {}
    neighbour = str(lldp.get("ifname") or lldp.get("port_id") or "").strip()
    if not neighbour:
        return judge.found("hccn_lldp", "silent", "no neighbour", "the port of a switch", device, hccs)
    if NPU_MARK in str(lldp.get("system") or "") or NPU_PORT.match(neighbour) or (MAC_PORT.match(neighbour) and not lldp.get("system")):
        return judge.found("hccn_lldp", "back_to_back", f"port {neighbour} of another NPU: wired back to back", "the port of a switch", device, hccs)
    return judge.passed("hccn_lldp", neighbour, "the port of a switch", device)


def _conf(judge, host_plan: dict, answers) -> list:
    """Judge /etc/hccn.conf against the live values; that it is there at all is the mounts' check where it has to be."""
    conf = answers.hccn.get("hccn_conf") or {}
    path = "/etc/hccn.conf"
    if conf.get("type") != "file":
        needed = any(entry["required"] and path in entry["sources"] for unit in host_plan["units"] for entry in unit["mount_candidates"].values())
        if needed or judge.facts["nodes"] == 1:
            return []
        return [judge.found("hccn_conf", "absent", f"{path} is {'a ' + str(conf['type']) if conf.get('type') else 'absent'}", "a file", path)]
    found, stated = [], conf.get("devices") or {}
    if conf.get("errors"):
        found.append(judge.found("hccn_conf", "wrong", "; ".join(conf["errors"][:5]), f"{path} that can be read", path, npu="N"))
    for entry in answers.devices():
        number, errors = entry["phy_id"], entry.get("errors") or {}
        values = stated.get(str(number)) or {}
        if "ip" in errors or (not entry["ip"] and not values):
            continue
        missing = [f"{key}_{number}" for key in ("address", "netmask") if key not in values]
        differs = [
            f"{key}_{number}={values[key]}, live {entry[live]}"
            for key, live in (("address", "ip"), ("netmask", "netmask"), ("tls_enable", "tls"))
            if key in values and entry.get(live) is not None and str(values[key]) != str(entry[live])
        ]
        if missing and entry["ip"]:
            found.append(judge.found("hccn_conf", "wrong", f"no {', '.join(missing)}", f"address_{number} and netmask_{number} in {path}",
                                     f"npu{number}", npu=number))
        elif differs:
            found.append(judge.found("hccn_conf", "stale", "; ".join(differs), "the live values", f"npu{number}", npu=number))
    return found or [judge.passed("hccn_conf", f"{len(stated)} NPUs, as live", device=path)]


def judge_networks(group: dict, judges: dict, answers: dict, plan_hosts: dict) -> list:
    """Judge the network ports of all NPUs of a group against each other."""
    hosts = [host for host in group["hosts"] if answers[host].tool_works]
    ports = [(host, entry) for host in hosts for entry in answers[host].devices()]
    found = _tls(ports, judges) + _unique(ports, judges) + _subnets(ports, judges)
    if group["hardware"] == "a3" and len(group["hosts"]) > 1:
        found += _superpods(hosts, judges, answers)
    return found


def _tls(ports: list, judges: dict) -> list:
    values = {(host, entry["phy_id"]): entry["tls"] for host, entry in ports if entry.get("tls") is not None}
    wanted = common(values)
    if not values:
        return []
    if set(values.values()) == {1}:
        return [judges[host].found("hccn_tls", "all_on", "switch 1 on all NPUs", "switch 0") for host in dict.fromkeys(host for host, dummy in values)]
    found = []
    for (host, number), value in values.items():
        # As many on as off: off is what the documentation runs with.
        usual = 0 if list(values.values()).count(0) * 2 == len(values) else wanted
        outcome = None if value == usual else "differs"
        found.append(judges[host].judged("hccn_tls", outcome, f"switch {value}", f"switch {usual}, as on the other NPUs", f"npu{number}", npu=number,
                                         wanted=usual))
    return found


def _unique(ports: list, judges: dict) -> list:
    owners: dict = {}
    for host, entry in ports:
        if entry.get("ip"):
            owners.setdefault(entry["ip"], []).append((host, entry["phy_id"]))
    found = []
    for address, names in owners.items():
        for host, number in names if len(names) > 1 else []:
            others = ", ".join(f"npu{other} of {name}" for name, other in names if (name, other) != (host, number))
            found.append(judges[host].found("hccn_unique", "twice", f"{address}, which {others} has too", "an address of its own", f"npu{number}", npu=number))
    if found or not owners:
        return found
    return [judges[host].passed("hccn_unique", "each address once") for host in dict.fromkeys(host for host, dummy in ports)]


def network_of(entry: dict):
    """Return the subnet of a port as text, or None."""
    try:
        return str(ipaddress.IPv4Interface(f"{entry['ip']}/{entry['netmask']}").network) if entry.get("ip") and entry.get("netmask") else None
    except ValueError:
        return None


def _subnets(ports: list, judges: dict) -> list:
    """A subnet that only one NPU of the group is in is a mistake; one for each rail, or one for each node, is a site's design."""
    networks = {(host, entry["phy_id"]): network_of(entry) for host, entry in ports}
    counted = [network for network in networks.values() if network]
    usual = common(networks)
    found = []
    if len({host for host, dummy in networks}) == 1 and len(set(counted)) == len(counted):
        # A subnet for each NPU: on a node alone there is nobody to share one with.
        return []
    for (host, number), network in networks.items():
        if network and len(counted) > 1:
            outcome = "alone" if counted.count(network) == 1 else None
            found.append(judges[host].judged("hccn_subnet", outcome, network, f"{usual if outcome else network}, as other NPUs", f"npu{number}", npu=number))
    return found


def _superpods(hosts: list, judges: dict, answers: dict) -> list:
    ids = {host: (answers[host].npu.get("superpod") or {}).get("id") for host in hosts}
    wanted, found = common(ids), []
    for host, value in ids.items():
        if answers[host].outside_superpods:
            alone = all(answers[other].outside_superpods for other in hosts)
            found.append(judges[host].found("hccn_superpod", "none" if alone else "differs", "in no super pod", "the super pod of the group"))
        elif value is None:
            found.append(judges[host].found("hccn_superpod", "not_told", "no super pod id", "the super pod of the group"))
        else:
            like = next(name for name, other in ids.items() if other == wanted)
            found.append(judges[host].judged("hccn_superpod", None if value == wanted else "differs", f"super pod {value}", f"super pod {wanted}, as {like}"))
    return found


def judge_mesh(group: dict, judges: dict, answers: dict, plan_hosts: dict, mode: str) -> list:
    """Judge the pings of a mesh (questions.meshes). An NPU that nobody reaches and that reaches nobody is named once, not once a ping."""
    if mode == "off":
        return []
    npus = {host: plan_hosts[host]["npus"] for host in group["hosts"]}
    devices = {host: answers[host].devices() for host in group["hosts"]}
    # A node without a working driver, or without any answer, is named for that already.
    sound = {host for host in group["hosts"] if answers[host].tool_works and not all(is_mute(entry) for entry in answers[host].devices())}
    # So is an NPU that said nothing.
    telling = {(host, entry["phy_id"]) for host in sound for entry in devices[host] if not is_mute(entry)}
    found, rows = [], []
    for host in group["hosts"]:
        if host not in sound:
            continue
        wanted = [ping for ping in mesh.pairs(host, group, devices, npus, mode) if {(host, ping["phy_id"]), (ping["peer"], ping["peer_npu"])} <= telling]
        answered = {(entry["phy_id"], entry["address"]): entry for entry in answers[host].mesh.get("results") or []}
        for ping in wanted:
            rows.append({**ping, "host": host, "answer": answered.get((ping["phy_id"], ping["address"]))})
    lone = _lone(rows)
    for (host, number), count in lone.items():
        why = "no address" if all(not row["address"] for row in rows if (row["peer"], row["peer_npu"]) == (host, number)) else "no packet came back"
        found.append(judges[host].found("hccn_ping", "one_npu", f"{count} of {count} pings from and to it failed: {why}", "every ping answered", f"npu{number}",
                                        npu=number))
    rows = [row for row in rows if not {(row["host"], row["phy_id"]), (row["peer"], row["peer_npu"])} & set(lone)]
    cut = _cut(rows)
    for (host, peer), count in cut.items():
        found.append(judges[host].found("hccn_ping", "no_path", f"none of {count} pings came back", f"the NPUs of {host} reach those of {peer}",
                                        f"all NPUs -> {peer}", peer=peer))
    left, dark = {}, {}
    for row in rows:
        if (row["host"], row["peer"]) in cut:
            continue
        if row["answer"] is None and row["address"]:
            left.setdefault(row["host"], []).append(row)
        elif row["answer"] is not None and row["answer"]["status"] == "unknown":
            dark.setdefault(row["host"], []).append(row)
        else:
            found.append(_ping(judges[row["host"]], row))
    for host, unclear in dark.items():
        found.append(_ping(judges[host], unclear[0], len(unclear)))
    for host, missing in left.items():
        why = said(answers[host].mesh) if "results" not in answers[host].mesh else "the tool did not get to them"
        found.append(judges[host].found("hccn_ping", "not_sent", f"{len(missing)} pings were not sent: {why}", "every ping answered"))
    return found


def _cut(rows: list) -> dict:
    """Return ``{(host, peer): pings}`` of the node pairs of which no ping came back, and several were sent: one fault, not one a ping."""
    pairs: dict = {}
    for row in rows:
        pairs.setdefault((row["host"], row["peer"]), []).append(row)
    return {
        ends: len(own)
        for ends, own in pairs.items()
        if len(own) > 3 and all(_failed(row) and row["answer"] and row["answer"]["status"] == "fail" for row in own)
    }


def _failed(row: dict) -> bool:
    """Return whether a ping brought nothing back, be it lost or refused by the tool; one that was not sent says nothing."""
    answer = row["answer"]
    if not row["address"]:
        return True
    return answer is not None and answer["status"] != "pass" and not answer.get("received")


def _lone(rows: list) -> dict:
    """Return ``{(host, npu): pings}`` of the NPUs all of whose pings failed, both ways, while their peers answer others."""
    per_npu: dict = {}
    for row in rows:
        for end in ((row["host"], row["phy_id"]), (row["peer"], row["peer_npu"])):
            per_npu.setdefault(end, []).append(row)
    # Where no ping is understood at all the tool is at fault, and no NPU.
    understood = {row["host"] for row in rows if row["answer"] is not None and row["answer"]["status"] in ("pass", "fail")}
    dead = {end for end, own in per_npu.items() if all(_failed(row) for row in own) and understood >= {row["host"] for row in own}}
    # Of two ends that only know each other neither is known to be the one at fault: both stay, named as a pair.
    return {
        end: len(own)
        for end, own in per_npu.items()
        if end in dead and not all({(row["host"], row["phy_id"]), (row["peer"], row["peer_npu"])} <= dead for row in own)
    }


def _ping(judge, row: dict, count: int = 1) -> dict:
    number, peer, other, answer = row["phy_id"], row["peer"], row["peer_npu"], row["answer"]
    device = f"npu{number} -> {peer} npu{other}"
    verb = "-ping" if row["kind"] == "roce" else "-hccs_ping"
    words = {"npu": number, "peer": peer, "peer_npu": other, "address": row["address"], "verb": verb}
    if not row["address"]:
        return judge.found("hccn_ping", "no_address", f"npu{other} of {peer} has no address", "an address to ping", device, **words)
    wanted = f"npu{number} reaches npu{other} of {peer} ({row['address']})"
    counted = answer.get("sent") is not None and answer["status"] != "unknown"
    observed = f"{answer.get('received')} of {answer.get('sent')} packets came back" if counted else answer.get("text") or "no answer"
    if answer["status"] == "pass":
        return judge.passed("hccn_ping", observed, wanted, device)
    if answer["status"] == "unknown":
        observed = observed if count == 1 else f"{observed} (and {count - 1} more such answers)"
        return judge.found("hccn_ping", "not_understood", observed, wanted, device, **words)
    return judge.found("hccn_ping", "some_lost" if answer.get("received") else "lost", observed, wanted, device, **words)


def judge_rootinfo(judge, answers) -> list:
    """Judge /etc/hccl_rootinfo.json, which an earlier job may have left: stale if it names none of the NPUs' addresses."""
    info = answers.node.get("rootinfo") or {}
    if not info.get("exists"):
        return []
    live = {entry.get("ip") for entry in answers.devices()} | {(entry.get("vnic") or {}).get("ip") for entry in answers.devices()}
    strange = [address for address in info.get("addresses") or [] if address not in live]
    if not live - {None}:
        # Without one live address nothing can be said; the ports' own checks say why there is none.
        return []
    if strange and len(strange) == len(info["addresses"]):
        return [judge.found("hccl_rootinfo", "stale", f"names {', '.join(strange[:4])}", "no file, or the live addresses", "/etc/hccl_rootinfo.json")]
    return [judge.passed("hccl_rootinfo", "agrees with the NPUs" if info.get("addresses") else "names no address", device="/etc/hccl_rootinfo.json")]
