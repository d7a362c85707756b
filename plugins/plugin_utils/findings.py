# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that judges: what the nodes answered, turned into check results.

A check result is ``{host, check, device, status: pass|warn|fail|unknown, observed, expected, remedy}``. What was not
understood is ``unknown`` and stops a run like a failure.
"""

from __future__ import annotations

#: Host ports HCCL listens on while a job runs: the default of HCCL_IF_BASE_PORT, and how many from there
#: (CANN environment variable reference, HCCL_IF_BASE_PORT).
HCCL_BASE_PORT, HCCL_PORTS = 60000, 32

#: Health words of npu-smi and what they mean for serving. Warning does not mean unusable.
HEALTH = {"OK": "pass", "Warning": "warn", "Alarm": "fail", "Critical": "fail"}

#: net_health words. Init means that no detection address is set; mind-cluster counts it as healthy.
NET_HEALTH = {"Success": "pass", "Init": "warn"}

#: Oldest Docker API that community.docker speaks.
DOCKER_API = (1, 25)


def finding(host, check, status, observed, expected, remedy="", device="") -> dict:
    """Return one check result."""
    return {
        "host": host, "check": check, "device": device, "status": status,
        "observed": "nothing" if observed is None else str(observed), "expected": str(expected), "remedy": remedy if status != "pass" else "",
    }


def ports_of(unit: dict, groups: dict) -> dict:
    """Return port -> the variable or service it belongs to, for the ports a unit listens on at its host."""
    base = int(unit["env"].get("HCCL_IF_BASE_PORT") or HCCL_BASE_PORT)
    ports = {port: "HCCL_IF_BASE_PORT" for port in range(base, base + HCCL_PORTS)}
    if unit["head"]:
        group = groups[unit["group"]]
        ports[group["api"]["port"]] = "vllm_port"
        if len(group["hosts"]) > 1:
            ports[group["rpc_port"]] = "vllm_data_parallel_rpc_port"
    return ports


def driver_questions(host_plan: dict, groups: dict) -> dict:
    """Return what a node has to be asked before serving: ``{paths, ports, images, weights, containers}``."""
    units = host_plan["units"]
    paths = {source for unit in units for entry in unit["mount_candidates"].values() for source in entry["sources"]}
    paths |= {device for unit in units for device in unit["devices"]}
    return {
        "paths": sorted(paths),
        "ports": sorted({port for unit in units for port in ports_of(unit, groups)}),
        "images": sorted({unit["image"] for unit in units}),
        "weights": [groups[unit["group"]]["weights"] for unit in units if unit["head"]],
        "containers": [unit["name"] for unit in units],
    }


def driver_findings(host, host_plan, groups, node, npu, artefacts, mounts) -> list:
    """Judge what one node answered.

    ``node``, ``npu`` and ``artefacts`` are the results of the modules node_info, npu_info and artefact_info; ``mounts`` holds
    the check results of the mount sources. A node that did not answer gives one failed check.
    """
    if "interfaces" not in (node or {}):
        return [_unreachable(host, node or {})]
    found = [dict(check, host=host) for check in mounts]
    found += _engine(host, node, artefacts)
    found += _npus(host, host_plan, node, npu)
    found += _network(host, host_plan, node)
    found += _ports(host, host_plan, groups, node, artefacts)
    found += _artefacts(host, node, artefacts)
    return found


def _said(result):
    """Return the message of a module that did not do its work, as a part of one line."""
    return " ".join(str((result or {}).get("msg") or "no answer").split())[:300]


def _unreachable(host, node):
    return finding(
        host, "node_answers", "fail", _said(node), "an answer over SSH as a user that may become root",
        "try: ansible HOST -i INVENTORY -m ansible.builtin.ping; check address, user, key, host key and sudo of this host".replace("HOST", host))


def _engine(host, node, artefacts):
    python, docker = node.get("python") or {}, node.get("docker") or {}
    remedy = "install Docker and start it: systemctl enable --now docker"
    found = [finding(
        host, "python_requests", "pass" if python.get("requests") else "fail",
        "present" if python.get("requests") else f"absent for {python.get('executable')}", "the Python module requests (community.docker needs it)",
        "apt-get install python3-requests, or dnf install python3-requests")]
    if not docker.get("reachable"):
        return found + [finding(host, "docker_engine", "fail", docker.get("error") or "no answer", "a Docker engine that answers", remedy)]
    version = tuple(int(part) for part in str(docker.get("api_version") or "0").split(".") if part.isdigit())
    return found + [finding(
        host, "docker_engine", "pass" if version >= DOCKER_API else "fail", f"API {docker.get('api_version')}", "API 1.25 or newer", remedy)]


def _npus(host, host_plan, node, npu):
    wanted = host_plan["hardware"]
    if not npu or npu.get("failed") or "npus" not in npu:
        return [finding(host, "npu_smi", "fail", _said(npu), "npu-smi info lists the NPUs",
                        "check the driver: npu-smi info as root on this node; reinstall or reload the driver if it fails there too")]
    found = [finding(host, "npu_hardware", "pass" if npu["hardware"] == wanted else ("unknown" if npu["hardware"] == "unknown" else "fail"),
                     npu["hardware"], wanted, "set vllm_hardware of this host to what it is, or take the host out of the group")]
    used = sorted({number for unit in host_plan["units"] for number in unit["npus"]})
    have = len(npu["npus"])
    found.append(finding(host, "npu_count", "pass" if have >= host_plan["npus_expected"] else "fail", f"{have} in npu-smi info",
                         host_plan["npus_expected"], "look for a dropped card: lspci -d 19e5: and dmesg; or correct vllm_npus of this host"))
    missing = [number for number in used if number not in node.get("npus", [])]
    found.append(finding(host, "npu_device_nodes", "fail" if missing else "pass",
                         "missing: " + ", ".join(f"/dev/davinci{number}" for number in missing) if missing else f"{len(used)} device nodes",
                         f"/dev/davinci{used[0]} to /dev/davinci{used[-1]}" if used else "none", "reload the driver; a device node is missing"))
    for entry in npu["npus"]:
        number = entry["phy_id"] if entry["phy_id"] is not None else entry["npu_id"]
        status = HEALTH.get(entry["health"], "unknown")
        if status != "pass":
            found.append(finding(host, "npu_health", status, entry["health"], "OK",
                                 f"npu-smi info -t health -i {entry['npu_id']} on this node names the error codes", device=f"npu{number}"))
    return found


def _network(host, host_plan, node):
    address, nic = host_plan["local_ip"], host_plan["nic_name"]
    owners = [entry for entry in node["interfaces"] if any(cidr.split("/")[0] == address for cidr in entry["addresses"])]
    names = [entry["name"] for entry in owners]
    remedy = f"set vllm_nic_name of {host} to the interface that has {address}, or vllm_local_ip to an address of {nic}"
    if nic not in names:
        has = ", ".join(names) if names else "no interface"
        return [finding(host, "nic_owns_address", "fail", f"{address} is on {has}", f"{address} on {nic}", remedy, device="vllm_nic_name")]
    up = next(entry["up"] for entry in owners if entry["name"] == nic)
    return [
        finding(host, "nic_owns_address", "pass", f"{address} on {nic}", f"{address} on {nic}"),
        finding(host, "nic_up", "pass" if up else "fail", "up" if up else "down", "up", f"ip link set {nic} up", device=nic),
    ]


def _ports(host, host_plan, groups, node, artefacts):
    containers = (artefacts or {}).get("containers") or {}
    ours = {pid for entry in containers.values() for pid in entry.get("pids") or []}
    found = {}
    for unit in host_plan["units"]:
        running, owners = (containers.get(unit["name"]) or {}).get("running"), ports_of(unit, groups)
        for taken in node.get("listening") or []:
            port, pid = taken["port"], taken.get("pid")
            # A listener whose process cannot be seen is taken for ours while our server runs.
            if port not in owners or pid in ours or (running and pid is None):
                continue
            where = " of vllm_extra_env" if owners[port] == "HCCL_IF_BASE_PORT" else ""
            who = f"{taken.get('process') or 'a process'} (pid {pid or '?'}) listens on it"
            # Once a process, not once an address that it listens on.
            found[(port, pid)] = finding(host, "port_free", "fail", who, f"port {port} free",
                                         f"stop that process, or set {owners[port]}{where} to another port", device=owners[port])
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or 0))]


def _artefacts(host, node, artefacts):
    if "images" not in (artefacts or {}):
        return [finding(host, "artefacts", "unknown", _said(artefacts), "whether image and model are here or at their source",
                        "run again with -vvv; the module artefact_info failed on this node")]
    found = []
    if artefacts.get("docker_error") and (node.get("docker") or {}).get("reachable"):
        found.append(finding(host, "docker_engine", "fail", artefacts["docker_error"], "answers on its socket", "systemctl status docker"))
    for reference, image in (artefacts.get("images") or {}).items():
        registry = image.get("registry") or {}
        if image["present"] or registry.get("exists"):
            found.append(finding(host, "image_exists", "pass", "present" if image["present"] else "in the registry", reference, device=reference))
        elif registry.get("exists") is False:
            found.append(finding(host, "image_exists", "fail", f"not in the registry ({registry.get('url')})", reference,
                                 "check vllm_ascend_version, vllm_image_registries and vllm_image", device=reference))
        else:
            found.append(finding(host, "image_exists", "fail", registry.get("error") or "no usable answer", f"a registry that has {reference}",
                                 "check vllm_image_registries, the proxy and the insecure registries of this node's Docker engine", device=reference))
    for entry in artefacts.get("weights") or []:
        hub = entry.get("hub") or {}
        if entry["complete"] or hub.get("exists"):
            found.append(finding(host, "model_exists", "pass", "complete" if entry["complete"] else "on the hub", "weights", device=entry["dir"]))
        elif not hub:
            found.append(finding(host, "model_exists", "fail", "; ".join(entry["differences"][:3]), "the whole model in its directory",
                                 "put the missing files there, or let vllm_weights_source name a hub that has the model", device=entry["dir"]))
        else:
            found.append(finding(host, "model_exists", "fail", hub.get("error") or "no usable answer", "the model on the hub",
                                 "check id, revision and endpoint in vllm_weights_source, and that this node reaches the hub", device=entry["dir"]))
    return found


def _group_of(host, groups):
    """Return the largest group a host is in (its other groups ask for no more)."""
    mine = [group for group in groups.values() if host in group["hosts"]]
    return max(mine, key=lambda group: len(group["hosts"]), default=None)


def mesh_pings(host, host_plan, groups, answers) -> list:
    """Return the pings a node has to send: each of its NPUs to the NPU of the same place on every peer of its group.

    ``answers`` is host -> result of hccn_info. A2 nodes talk over RoCE, A3 nodes of one super pod over HCCS (virtual NIC) where it
    has an address.
    Result: ``[{phy_id, address, kind: roce|hccs}]``; peers whose addresses are not known are left to the address check.
    """
    group = _group_of(host, groups)
    if group is None:
        return []
    pings = []
    mine = sorted((answers.get(host) or {}).get("devices") or [], key=lambda entry: entry["phy_id"])
    for peer in group["hosts"]:
        theirs = sorted((answers.get(peer) or {}).get("devices") or [], key=lambda entry: entry["phy_id"])
        if peer == host:
            continue
        for own, other in zip(mine, theirs):
            virtual = (other.get("vnic") or {}).get("ip") if host_plan["hardware"] == "a3" else None
            kind, address = ("hccs", virtual) if virtual else ("roce", other.get("ip"))
            if address:
                pings.append({"phy_id": own["phy_id"], "address": address, "kind": kind})
    return pings


def hccn_findings(host, host_plan, groups, info, mesh) -> list:
    """Judge the network ports of one node's NPUs. In a group of one node nothing leaves the node: findings warn only."""
    group = _group_of(host, groups)
    alone = group is None or len(group["hosts"]) == 1
    if not info or "devices" not in info:
        return [finding(host, "hccn_tool", "warn" if alone else "fail", _said(info), "hccn_tool answers", "hccn_tool -i 0 -link -g as root on this node")]
    found = []
    asked = {entry["phy_id"] for entry in info["devices"]}
    for number in sorted({npu for unit in host_plan["units"] for npu in unit["npus"]} - asked):
        found.append(finding(host, "hccn_link", "warn" if alone else "unknown", "no answer about this NPU", "UP", f"hccn_tool -i {number} -link -g",
                             f"npu{number}"))
    for entry in info["devices"]:
        number, vnic, errors = entry["phy_id"], entry.get("vnic") or {}, entry.get("errors") or {}
        hccs = host_plan["hardware"] == "a3" and vnic.get("link") == "UP" and bool(vnic.get("ip"))
        tool = f"hccn_tool -i {number}"
        link = "pass" if entry["link"] == "UP" else ("warn" if hccs else "fail" if entry["link"] else "unknown")
        health = NET_HEALTH.get(entry["net_health"], "warn" if hccs else "unknown" if entry["net_health"] is None else "fail")
        address = "pass" if entry["ip"] or hccs else "unknown" if "ip" in errors else "fail"
        results = [
            finding(host, "hccn_link", link, entry["link"] or errors.get("link"), "UP", f"{tool} -optical -g; check the cable, module and switch port",
                    f"npu{number}"),
            finding(host, "hccn_net_health", health, entry["net_health"] or errors.get("net_health"), "Success",
                    f"{tool} -netdetect -g; {tool} -gateway -g", f"npu{number}"),
            finding(host, "hccn_address", address, entry["ip"] or errors.get("ip") or (f"{vnic['ip']} (HCCS)" if hccs else None), "an address",
                    f"set address_{number} in /etc/hccn.conf", f"npu{number}"),
        ]
        if "tls" in errors:
            results.append(finding(host, "hccn_tls", "unknown", errors["tls"], "switch 0 or 1", f"{tool} -tls -g", f"npu{number}"))
        found += [dict(result, status="warn") if alone and result["status"] in ("fail", "unknown") else result for result in results]
    for result in (mesh or {}).get("results") or []:
        counted = result.get("sent") is not None and result["status"] != "unknown"
        found.append(finding(
            host, "npu_mesh", result["status"],
            f"{result.get('received')} of {result.get('sent')} packets came back" if counted else result.get("text") or "no answer",
            f"npu{result['phy_id']} reaches {result['address']}", "check link and switch of both ends; the peer is named by its address",
            f"npu{result['phy_id']}->{result['address']}"))
    # Not "failed": a task with failed_when false never is.
    if mesh and not mesh.get("skipped") and "results" not in mesh:
        found.append(finding(host, "npu_mesh", "unknown", _said(mesh), "every ping answered",
                             "hccn_tool -i 0 -ping -g address PEER by hand, as root on this node"))
    return found


def all_findings(hosts, hostvars) -> list:
    """Collect the check results of all nodes, and add those that need all nodes: what must be equal everywhere."""
    found = []
    for host in hosts:
        values = hostvars[host]
        if "driver_check_results" not in values:
            found.append(_unreachable(host, {}))
            continue
        found += list(values["driver_check_results"])
        if "hccn_verify_results" in values:
            found += list(values["hccn_verify_results"])
        elif not any(check["check"] == "node_answers" and check["status"] == "fail" for check in values["driver_check_results"]):
            found.append(finding(host, "hccn_verify", "unknown", "the NPUs' network was not looked at", "its check results", "see this host's error above"))
    return found + _equal_tls(hosts, hostvars) + _equal_versions(hosts, hostvars)


def _equal_tls(hosts, hostvars):
    """Return failed checks for NPUs whose TLS switch differs from the majority (HCCL needs it equal on all nodes), warnings where it is on everywhere.

    With one node no connection leaves it, so that a difference only warns.
    """
    seen = {}
    for host in hosts:
        for entry in (hostvars[host].get("hccn_verify_info") or {}).get("devices") or []:
            if entry["tls"] is not None:
                seen[(host, entry["phy_id"])] = entry["tls"]
    if set(seen.values()) == {1}:
        return [finding(host, "hccn_tls", "warn", "switch 1 on all NPUs", "switch 0", "hccn_tool -i N -tls -s enable 0 for every NPU N of every node")
                for host in dict.fromkeys(host for host, dummy in seen)]
    if len(set(seen.values())) < 2:
        return []
    common = max(sorted(set(seen.values())), key=list(seen.values()).count)
    return [finding(host, "hccn_tls", "fail" if len(hosts) > 1 else "warn", f"switch {value}", f"switch {common}, as on the other NPUs",
                    f"hccn_tool -i {number} -tls -s enable {common}", f"npu{number}")
            for (host, number), value in sorted(seen.items()) if value != common]


def _equal_versions(hosts, hostvars):
    """Return failed checks for nodes whose driver differs from that of the first node that answered."""
    versions = {host: hostvars[host]["driver_check_npu"]["driver_version"] for host in hosts
                if (hostvars[host].get("driver_check_npu") or {}).get("driver_version")}
    if len(set(versions.values())) < 2:
        return []
    first = next(iter(versions))
    return [finding(host, "driver_equal", "fail", version, f"{versions[first]}, as on {first}", "install the same driver on all nodes", "driver")
            for host, version in versions.items() if version != versions[first]]


def image_findings(hosts, hostvars, image) -> list:
    """Return failed checks for nodes whose image differs from the first node's (architecture and layers; ids differ between storage engines)."""
    wanted = hostvars[hosts[0]]["image_pull_found"]
    found = []
    for host in hosts:
        here = hostvars[host]["image_pull_found"]
        for key in ("architecture", "layers"):
            if here[key] != wanted[key]:
                found.append(finding(host, "image_equal", "fail", _short(here[key]), f"{_short(wanted[key])}, as on {hosts[0]}",
                                     f"docker image rm {image} on this node and run again, or pin a digest with vllm_image", device=image))
    return found


def _short(value):
    """Return an architecture, or the end of a list of layers, in a few characters."""
    return f"{len(value)} layers, last {str(value[-1])[7:19] if value else 'none'}" if isinstance(value, list) else str(value)


def shared_findings(hosts, hostvars, directory) -> list:
    """Return failed checks for nodes that do not see the token the head wrote."""
    return [finding(host, "weights_shared", "fail", "the head's token is not there", f"{directory} is one directory on {', '.join(hosts)}",
                    "mount the shared file system on this node", device=directory)
            for host in hosts if not hostvars[host]["weights_sync_seen"]["stat"]["exists"]]


def weights_findings(hosts, hostvars, group) -> list:
    """Return failed checks for nodes that see other files than the head, or a directory that is not complete."""
    directory, found = group["weights"]["dir"], []
    wanted = hostvars[group["head"]]["weights_sync_found"]
    for host in hosts:
        here = hostvars[host]["weights_sync_found"]
        if not here["complete"]:
            found.append(finding(host, "weights_complete", "fail", "; ".join(here["differences"][:5]), "the whole model",
                                 "run site.yml again; the client fetches only what is missing", device=directory))
        elif here["fingerprint"] != wanted["fingerprint"]:
            found.append(finding(host, "weights_equal", "fail", f"{here['files']} files, {here['bytes']} bytes",
                                 f"{wanted['files']} files, {wanted['bytes']} bytes with the same content, as on {group['head']}",
                                 "mount the same directory on every node", device=directory))
    return found


def unit_env(unit: dict) -> dict:
    """Return a unit's whole container environment: the plan's, and the group's addresses kept from any proxy beside those the site keeps."""
    stated = [part.strip() for key in ("no_proxy", "NO_PROXY") for part in str(unit["env"].get(key) or "").split(",") if part.strip()]
    addresses = ",".join(dict.fromkeys([*unit["no_proxy"], *stated]))
    return dict(unit["env"], no_proxy=addresses, NO_PROXY=addresses)
