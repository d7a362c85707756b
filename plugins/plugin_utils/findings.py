# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check results of the steps after preflight: the same image and the same weights on every node.

A check result is ``{host, check, device, status: pass|warn|fail|unknown, observed, expected, remedy}``.
"""

from __future__ import annotations


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


def shared_findings(hosts, hostvars, directory) -> list:
    """Return failed checks for nodes that do not see the token the head wrote."""
    return [finding(host, "weights_shared", "fail", "the head's token is not there", f"{directory} is one directory on {', '.join(hosts)}",
                    "mount the shared file system on this node", device=directory)
            for host in hosts if not hostvars[host]["weights_sync_seen"]["stat"]["exists"]]


def weights_findings(hosts, hostvars, group, fact="weights_sync_found") -> list:
    """Return failed checks for nodes that see other files than the head, or a directory that was not proved; ``fact`` has what weights_dir says."""
    directory, found = group["weights"]["dir"], []
    wanted = hostvars[group["head"]][fact]
    for host in hosts:
        here = hostvars[host][fact]
        if not here["verified"]:
            found.append(finding(host, "weights_complete", "fail", "; ".join(here["differences"][:5]) or "never verified", "the whole model, every file proved",
                                 "run site.yml, which fetches only what is missing", device=directory))
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
