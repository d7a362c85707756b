# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check results of the steps after preflight: the same image and the same weights on every node.

A check result is ``{host, check, device, status: pass|warn|fail|unknown, observed, expected, remedy}``.
"""

from __future__ import annotations


#: What to do where root may not write or read: NFS servers take root's rights away unless they are told not to.
ROOT_MAY = "let root write and read there from this node; on NFS: no_root_squash, or a directory that the anonymous user owns"


def finding(host, check, status, observed, expected, remedy="", device="") -> dict:
    """Return one check result."""
    return {
        "host": host, "check": check, "device": device, "status": status,
        "observed": "nothing" if observed is None else str(observed), "expected": str(expected), "remedy": remedy if status != "pass" else "",
    }


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


def shared_findings(hosts, hostvars, group) -> list:
    """Return failed checks for nodes whose container did not read the token, or for the head if its container could not write it.

    ``weights_sync_seen`` of each host is the result of docker_container: the token is in ``container.Output``, or ``msg`` says why not.
    """
    directory, head, found = group["weights"]["dir"], group["head"], []
    token = hostvars[head]["weights_sync_random"]
    for host in [head] + [host for host in hosts if host != head]:
        seen = hostvars[host]["weights_sync_seen"]
        if token in str((seen.get("container") or {}).get("Output") or "").split():
            continue
        said = " ".join(str(seen.get("msg") or "it read nothing").split())[:300]
        may = "Permission denied" in said or "Read-only" in said
        remedy = ROOT_MAY if may else "look at the Docker engine of this node" if host == head else "mount the shared file system on this node"
        if host == head:
            # Without a token nothing can be said of the others.
            return [finding(host, "weights_shared", "fail", f"a container could not write the head's token: {said}",
                            f"root of a container of {group['image']} can write to {directory}", remedy, device=directory)]
        found.append(finding(host, "weights_shared", "fail", f"a container did not see the head's token: {said}",
                             f"{directory} is one directory on {', '.join(hosts)}", remedy, device=directory))
    return found


def weights_findings(hosts, hostvars, group, fact="weights_sync_found") -> list:
    """Return failed checks for nodes that see other files than the head, or a directory that was not proved; ``fact`` has what weights_dir says."""
    directory, found = group["weights"]["dir"], []
    wanted = hostvars[group["head"]][fact]
    for host in hosts:
        here = hostvars[host][fact]
        if not here["verified"]:
            # A directory that the head has proved is proved on every node that sees it.
            other = wanted["verified"] and group["weights"].get("target", "shared") != "local"
            remedy = "mount the shared file system on this node" if other else "run site.yml, which fetches only what is missing"
            found.append(finding(host, "weights_complete", "fail", "; ".join(here["differences"][:5]) or "never verified", "the whole model, every file proved",
                                 remedy, device=directory))
        elif here["fingerprint"] != wanted["fingerprint"]:
            found.append(finding(host, "weights_equal", "fail", f"{here['files']} files, {here['bytes']} bytes",
                                 f"{wanted['files']} files, {wanted['bytes']} bytes with the same content, as on {group['head']}",
                                 "mount the same directory on every node", device=directory))
    return found


def copy_nodes(hosts, hostvars, addresses, form="nodes"):
    """Return how the nodes that give their weights away are reached, by what each said in the fact ``weights_sync_asked``.

    As ``nodes``: {host: {name, address, port, user, until, rrsync}}, ``until`` being the end of the key by the node's own clock. As
    ``known_hosts``: the text of an OpenSSH known_hosts file, with every host key of every node.
    """
    nodes, lines = {}, []
    for host in hosts:
        said = [line.partition("=")[::2] for line in hostvars[host]["weights_sync_asked"]["stdout_lines"]]
        address, port = addresses[host], int(hostvars[host].get("ansible_port") or 22)
        words = {key: value for key, value in said if key in ("user", "until", "rrsync")}
        nodes[host] = {"name": host, "address": address, "port": port, **words}
        name = address if port == 22 else f"[{address}]:{port}"
        lines += [f"{name} {value}" for key, value in said if key == "key"]
    return "".join(f"{line}\n" for line in lines) if form == "known_hosts" else nodes


def unit_env(unit: dict) -> dict:
    """Return a unit's whole container environment: the plan's, and the group's addresses kept from any proxy beside those the site keeps."""
    stated = [part.strip() for key in ("no_proxy", "NO_PROXY") for part in str(unit["env"].get(key) or "").split(",") if part.strip()]
    addresses = ",".join(dict.fromkeys([*unit["no_proxy"], *stated]))
    return dict(unit["env"], no_proxy=addresses, NO_PROXY=addresses)


#: What has to be free after a stop, and what to do where it is not.
RELEASED = {
    "container_stopped": ("a stopped container", "docker logs and docker stop of it on this node; systemctl status docker"),
    "process_gone": ("no process of a container that was stopped", "look at it with ps -o pid,stat,wchan,args: one in state D waits for the driver (dmesg)"),
    "port_released": ("nobody of the group on the port", "end the process that listens on it (ss -ltnp)"),
    "npu_released": ("an idle NPU", "npu-smi info on this node; if no process has it, the driver keeps it: npu-smi set -t reset, when nothing runs there"),
}


def released_findings(hosts, hostvars) -> list:
    """Return a failed check for everything that is left on a node of a group that was stopped; ``serve_stop_left`` is what serve_released says."""
    found = []
    for host in hosts:
        for entry in hostvars[host]["serve_stop_left"].get("left") or []:
            expected, remedy = RELEASED[entry["check"]]
            found.append(finding(host, entry["check"], "fail", entry["observed"], expected, remedy, device=entry["device"]))
    return found
