# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of an NPU that a kernel can be: its network port, in a network namespace of its own.

On the node                             in namespace npuN
    br-roce (bridge) -- npuN  ==veth==  ethN      RoCE address, default route; hccn_tool's Iface:ethN
                     -- vnicN ==veth==  endNv0    vNIC address (names as in a captured routing table)
                     -- gw    ==veth==  eth0      in namespace gw: the gateway 10.20.0.1
                     -- <roce_interface>          joins the nodes

* A2: the vNICs hang on br-vnic, which stays inside the node (they only serve the NPUs of one host).
* A3: the vNICs hang on br-roce, because the dies of a super pod reach each other over nodes. All vNIC addresses
  are on-link (192.0.0.0/8): the real thing is routed by SDID, not by netmask.
* Every node answers for the same gateway address with the same MAC (an anycast gateway). The gateway's port and
  the port to the other nodes are "isolated" bridge ports: frames never pass between those two, so the copies
  never meet, while every NPU reaches the gateway of its own node.
* `ip link set npuN down` on the node takes NPU N's link down for real.
"""
from __future__ import annotations

import ipaddress
import json
import os
import subprocess

from ascend_emulator import state as states

BRIDGE = "br-roce"
VNIC_BRIDGE = "br-vnic"
GATEWAY_NAMESPACE = "gw"
GATEWAY_MAC = "02:1e:85:00:00:fe"
VNIC_SPACE = "192.0.0.0/8"


class FabricError(Exception):
    """A kernel call of the emulator failed; the text names the command."""


def run(argv, check=True, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise FabricError("%s: exit %d: %s" % (" ".join(argv), done.returncode, done.stderr.strip()))
    return done


def namespace(phy_id):
    return "npu%d" % phy_id


def within(name, *argv):
    # Not `ip -n`: that makes a mount namespace too, each time, under a lock that all nodes of the machine wait for.
    return ["nsenter", "--net=/run/netns/" + name] + list(argv)


def inside(phy_id, argv, check=True):
    return run(within(namespace(phy_id), *argv), check=check)


def ip_in(phy_id, *arguments, check=True):
    return inside(phy_id, ["ip"] + list(arguments), check=check)


def exists(phy_id):
    return os.path.exists("/run/netns/" + namespace(phy_id))


def read_json(argv):
    done = run(argv, check=False)
    if done.returncode or not done.stdout.strip():
        return []
    return json.loads(done.stdout)


# --- reading -----------------------------------------------------------------------------------------------

def port(phy_id, kind="roce"):
    """{"up", "address", "prefix", "netmask", "mac", "mtu", "name"} of one port; None when there is no such port.

    address, prefix and netmask are None when none is set. kind: "roce" or "vnic".
    """
    name = "eth%d" % phy_id if kind == "roce" else "end%dv0" % phy_id
    links = read_json(within(namespace(phy_id), "ip", "-j", "addr", "show", "dev", name))
    if not links:
        return None
    link = links[0]
    found = {"name": name, "mac": link["address"], "mtu": link["mtu"], "address": None, "prefix": None,
             "netmask": None, "up": "UP" in link["flags"] and "LOWER_UP" in link["flags"]}
    for entry in link.get("addr_info", []):
        if entry["family"] == "inet":
            found.update(address=entry["local"], prefix=entry["prefixlen"], netmask=netmask(entry["prefixlen"]))
            break
    return found


def netmask(prefix):
    return str(ipaddress.ip_network("0.0.0.0/%d" % prefix).netmask)


def routes(phy_id):
    """[(destination, gateway, genmask, flags, interface)] as the old `route` command shows them."""
    rows = []
    for entry in read_json(within(namespace(phy_id), "ip", "-j", "-4", "route", "show")):
        device = entry.get("dev", "*")
        if entry["dst"] == "default":
            rows.append(("default", entry.get("gateway", "*"), "0.0.0.0", "UG" if "gateway" in entry else "U", device))
            continue
        network = ipaddress.ip_network(entry["dst"])
        flags = "!H" if entry.get("type") == "unreachable" else "U"
        if network.prefixlen == 32:
            flags += "H"
        rows.append((str(network.network_address), entry.get("gateway", "*"), str(network.netmask), flags, device))
    return rows


def default_gateway(phy_id):
    for row in routes(phy_id):
        if row[0] == "default" and row[1] != "*":
            return row[1]
    return None


def counters(phy_id):
    """{"tx_packets", "tx_bytes", "rx_packets", "rx_bytes"} of the RoCE port."""
    links = read_json(within(namespace(phy_id), "ip", "-j", "-s", "link", "show", "dev", "eth%d" % phy_id))
    stats = links[0].get("stats64", {}) if links else {}
    return {"%s_%s" % (way, what): stats.get(way, {}).get(what, 0) for way in ("tx", "rx") for what in ("packets", "bytes")}


def ping(phy_id, address, count, interval_s, wait_s=1.0, size=None):
    """Real echo requests from inside the NPU's namespace.

    Returns per packet a time in ms, "timeout" or "unreachable"; None when nothing could be sent at all (no
    address, no route).
    """
    argv = ["ping", "-n", "-c", str(count), "-i", "%g" % max(interval_s, 0.002), "-W", "%g" % wait_s]
    if size:
        argv += ["-s", str(size)]
    done = inside(phy_id, argv + [address], check=False)
    if done.returncode not in (0, 1):
        return None
    return parse_ping(done.stdout, count)


def parse_ping(text, count):
    """iputils' own lines, by sequence number (from 1)."""
    replies = ["timeout"] * count
    for line in text.splitlines():
        if "icmp_seq=" not in line:
            continue
        sequence = int(line.split("icmp_seq=")[1].split()[0]) - 1
        if not 0 <= sequence < count:
            continue
        if " time=" in line:
            replies[sequence] = float(line.split(" time=")[1].split()[0])
        elif "Unreachable" in line:
            replies[sequence] = "unreachable"
    return replies


# --- building ----------------------------------------------------------------------------------------------

def build(stored, conf, roce_interface):
    """Make or repair everything; safe to call again. conf: addresses per NPU, {phy: {address, netmask, gateway}}.

    Returns a list of remarks (an absent roce_interface is one: the NPUs then stay inside the node).
    """
    remarks = []
    a3 = stored["generation"] == "a3"
    _bridge(BRIDGE)
    if not a3:
        _bridge(VNIC_BRIDGE)
    _gateway()
    links = {link["ifname"] for link in read_json(["ip", "-j", "link", "show"])}
    if roce_interface in links:
        run(["ip", "addr", "flush", "dev", roce_interface])
        run(["ip", "link", "set", roce_interface, "master", BRIDGE, "up"])
        run(["ip", "link", "set", "dev", roce_interface, "type", "bridge_slave", "isolated", "on"])
    else:
        remarks.append("no interface %s: NPU links stay within this node" % roce_interface)
    for npu in stored["npus"]:
        phy_id = npu["phy_id"]
        own = conf.get(phy_id, {})
        address, mask = own.get("address"), own.get("netmask", states.ROCE_NETMASK)
        _port(phy_id, "npu%d" % phy_id, "eth%d" % phy_id, BRIDGE, states.roce_mac(stored["node_index"], phy_id),
              [_cidr(address, mask)] if address else [])
        vnic = states.vnic_address(stored["generation"], stored["superpod"]["server_index"], phy_id)
        _port(phy_id, "vnic%d" % phy_id, "end%dv0" % phy_id, BRIDGE if a3 else VNIC_BRIDGE,
              states.roce_mac(stored["node_index"], phy_id, 1), [vnic + "/24"])
        if a3:
            ip_in(phy_id, "route", "replace", VNIC_SPACE, "dev", "end%dv0" % phy_id)
        if own.get("gateway"):
            # A gateway outside the subnet is refused by the kernel, as it is by the real tool.
            ip_in(phy_id, "route", "replace", "default", "via", own["gateway"], "dev", "eth%d" % phy_id, check=False)
    _let_bridge_through()
    return remarks


def _cidr(address, mask):
    return "%s/%d" % (address, ipaddress.ip_network("0.0.0.0/" + mask).prefixlen)


def _bridge(name):
    if not read_json(["ip", "-j", "link", "show", "dev", name]):  # /sys may belong to another namespace
        run(["ip", "link", "add", name, "type", "bridge"])
    run(["ip", "link", "set", name, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"], check=False)
    run(["ip", "link", "set", name, "up"])


def _gateway():
    if not os.path.exists("/run/netns/" + GATEWAY_NAMESPACE):
        run(["ip", "netns", "add", GATEWAY_NAMESPACE])
    if not read_json(within(GATEWAY_NAMESPACE, "ip", "-j", "link", "show", "dev", "eth0")):
        run(["ip", "link", "add", "gw", "type", "veth", "peer", "name", "eth0", "netns", GATEWAY_NAMESPACE])
    run(["ip", "link", "set", "gw", "master", BRIDGE, "up"])
    run(["ip", "link", "set", "dev", "gw", "type", "bridge_slave", "isolated", "on"])
    batch = ["link set eth0 address %s" % GATEWAY_MAC, "link set eth0 up", "link set lo up",
             "addr replace %s/%d dev eth0" % (states.GATEWAY, states.ROCE_PREFIX)]
    run(within(GATEWAY_NAMESPACE, "ip", "-batch", "-"), stdin="\n".join(batch) + "\n")


def _port(phy_id, outer, inner, bridge, mac_address, cidrs):
    if not exists(phy_id):
        run(["ip", "netns", "add", namespace(phy_id)])
    if not read_json(within(namespace(phy_id), "ip", "-j", "link", "show", "dev", inner)):
        run(["ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace(phy_id)])
    run(["ip", "link", "set", outer, "master", bridge, "up"])
    run(within(namespace(phy_id), "ip", "-batch", "-"), stdin="\n".join(
        ["link set lo up", "link set %s address %s" % (inner, mac_address), "link set %s up" % inner]) + "\n")
    set_addresses(phy_id, inner, cidrs)


def set_addresses(phy_id, inner, cidrs):
    """Exactly these IPv4 addresses on one port; an address that stays is not touched (its routes stay too)."""
    present = []
    for link in read_json(within(namespace(phy_id), "ip", "-j", "addr", "show", "dev", inner)):
        present = ["%s/%d" % (entry["local"], entry["prefixlen"]) for entry in link.get("addr_info", [])
                   if entry["family"] == "inet"]
    batch = ["addr del %s dev %s" % (cidr, inner) for cidr in present if cidr not in cidrs]
    batch += ["addr add %s dev %s" % (cidr, inner) for cidr in cidrs if cidr not in present]
    if batch:
        run(within(namespace(phy_id), "ip", "-batch", "-"), stdin="\n".join(batch) + "\n")


def _let_bridge_through():
    """A Docker engine on the node sets FORWARD to DROP, which also drops bridged frames where br_netfilter is."""
    rule = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"]
    try:
        if run(["iptables", "-C"] + rule, check=False).returncode:
            run(["iptables", "-I"] + rule, check=False)
    except FileNotFoundError:
        pass  # no iptables on the node: then nothing filters there either
