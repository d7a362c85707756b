# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hccn_tool: arguments, order of checks and exit statuses. The text is in hccn_text.

-i takes the physical id, the N of /dev/davinciN. One call at a time on a node: a call that finds another one
running says so on stdout and exits 11. Link, address, gateway, routes, MAC, MTU and both pings are the kernel's,
read from the NPU's network namespace; TLS, LLDP, optics and the like are the state's.

In a serving container the namespaces are out of reach: addresses then come from /etc/hccn.conf (which is
mounted), the link is taken to be up, and a ping cannot be made.
"""
from __future__ import annotations

import fcntl
import os
import sys
import time

from ascend_emulator import common, fabric, hccn_text as text, state as states
from ascend_emulator.common import Out

HCCS_POLL_S = 1.0   # the real -hccs_ping asks for its result once a second


class Refusal(Exception):
    """An error of hccn_text.ERRORS; verb: print that verb's parameter list as well."""

    def __init__(self, name, verb=None):
        super().__init__(name)
        self.name, self.verb = name, verb


def refusal_out(refusal):
    code, to_stdout, words = text.ERRORS[refusal.name]
    stdout, stderr = (words + "\n", "") if to_stdout else ("", words + "\n")
    if refusal.verb:
        stdout += "[ hccn_tool -i devid %s ] needs the following parameters:\n%s\n" % (
            refusal.verb, text.HELP.get(refusal.verb, "   [-g]        : get\n"))
    return Out(stdout, stderr, code)


# --- /etc/hccn.conf ----------------------------------------------------------------------------------------

def read_conf(path):
    """{phy id: {key: value}} of key_<phy id>=value lines; anything else is left out. Unreadable: {}."""
    found = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            lines = handle.read().splitlines()
    except OSError:
        return found
    for line in lines:
        key, equals, value = line.partition("=")
        name, underscore, number = key.rpartition("_")
        if equals and underscore and number.isdigit():
            found.setdefault(int(number), {})[name] = value
    return found


def conf_text(stored):
    """/etc/hccn.conf of a node that was just configured."""
    entries = []
    for npu in stored["npus"]:
        phy_id, sibling = npu["phy_id"], npu["phy_id"] ^ 1
        entries.append((phy_id, {
            "address": states.roce_address(stored["node_index"], phy_id), "netmask": states.ROCE_NETMASK,
            "gateway": states.GATEWAY, "netdetect": states.GATEWAY, "send_arp_status": 1, "tls_enable": 0,
            "arp": "-i eth%d -s %s %s" % (phy_id, states.roce_address(stored["node_index"], sibling),
                                          states.roce_mac(stored["node_index"], sibling))}))
    return text.conf(stored["generation"], entries)


def set_conf(path, phy_id, key, value):
    """Replace or append one line, as hccn_tool -s does. The file must be one."""
    name = "%s_%d=" % (key, phy_id)
    try:
        with open(path, encoding="utf-8") as handle:
            lines = handle.read().splitlines()
    except FileNotFoundError:
        lines = []
    except OSError:
        raise Refusal("no_conf") from None
    if any(line.startswith(name) for line in lines):
        lines = [name + str(value) if line.startswith(name) else line for line in lines]
    else:
        lines.append(name + str(value))
    states.write_atomically(path, "\n".join(lines) + "\n")


# --- one call ----------------------------------------------------------------------------------------------

class Call:
    """One device of one node: where a verb finds its values."""

    def __init__(self, paths, state, phy_id):
        self.paths, self.state, self.phy_id = paths, state, phy_id
        self.device = state["hccn"]["devices"][str(phy_id)]
        self.reachable = fabric.exists(phy_id)

    def port(self, kind="roce"):
        if self.reachable:
            return fabric.port(self.phy_id, kind)
        own = read_conf(self.paths.hccn_conf).get(self.phy_id, {})
        if kind == "vnic":
            own = {"netmask": "255.255.255.0", "address": states.vnic_address(
                self.state["generation"], self.state["superpod"]["server_index"], self.phy_id)}
        return {"up": True, "address": own.get("address"), "netmask": own.get("netmask"), "mtu": 1500,
                "mac": states.roce_mac(self.state["node_index"], self.phy_id), "name": "eth%d" % self.phy_id}

    def gateway(self):
        if self.reachable:
            return fabric.default_gateway(self.phy_id)
        return read_conf(self.paths.hccn_conf).get(self.phy_id, {}).get("gateway")

    def netdetect(self):
        return self.device["netdetect"]


def get_ip(call):
    port = call.port()
    if not port or not port["address"]:
        raise Refusal("no_ip")
    return text.ip(port["address"], port["netmask"])


def get_link(call):
    port = call.port()
    return text.link(bool(port and port["up"]))


def get_net_health(call):
    """What the device's own detection would say: one quick echo to the netdetect address, now.

    A fault may fix the word. Without a netdetect address: Init. On A3 a RoCE port that is down is Init too
    (super pods work without RoCE); on A2 it is Fault.
    """
    if call.device["net_health"]:
        return text.net_health(call.device["net_health"])
    port, target = call.port(), call.netdetect()
    if not target:
        return text.net_health("Init")
    if not port or not port["up"]:
        return text.net_health("Init" if call.state["generation"] == "a3" else "Fault")
    if not call.reachable:
        return text.net_health("Success")
    # The device asks again and again; here one echo has the time that a few of its tries take.
    replies = fabric.ping(call.phy_id, target, 1, 1, wait_s=2.0)
    if replies is None or replies[0] == "unreachable":
        return text.net_health("Unreachable")
    return text.net_health("Receive timeout" if replies[0] == "timeout" else "Success")


def get_netdetect(call):
    if not call.netdetect():
        raise Refusal("execute")
    return text.netdetect(call.netdetect())


def get_gateway(call):
    address = call.gateway()
    if not address:
        raise Refusal("no_gateway")
    return text.gateway(address, call.phy_id)


def get_vnic(call):
    port = call.port("vnic")
    if not port or not port["address"]:
        raise Refusal("execute")
    return text.vnic(port["up"], port["address"], port["netmask"])


def get_lldp(call):
    """Neighbour of the port. device["lldp"]: {"ifname"} a switch's port, {"npu": name} another NPU, None nothing."""
    neighbour = call.device["lldp"]
    port = call.port()
    if not neighbour or not port or not port["up"]:
        raise Refusal("execute")
    if "npu" in neighbour:  # source-derived guess: the far end is an NPU port, not a switch
        return text.lldp([("Chassis ID", ["MAC: " + neighbour["mac"]]), ("Port ID", ["Ifname: " + neighbour["npu"]]),
                          ("Maximum Frame Size", ["9702"])])
    return text.lldp([
        ("Chassis ID", ["MAC: 02:1e:85:ff:00:01"]), ("Port ID", ["Ifname: " + neighbour["ifname"]]),
        ("System Description", ["Versatile Routing Platform Software",
                                "+VRP (R) software, Version 8.211 (DX511 V200R021C10SPC600)", "+", "+Huarong DX511", "+"]),
        ("System Capabilities", ["Enabled capabilities: Bridge, Router"]),
        ("Management Address", ["IPv4: " + states.GATEWAY]), ("Maximum Frame Size", ["9216"])])


def get_optical(call):
    values = [("present", "present"), ("temperature", "47 C"), ("high power enable reg", "enabled"),
              ("vendor name", "Hisense"), ("vendor part number", "LMQ8611-PC+"), ("vendor serial number", "V8BD6H250%02d" % call.phy_id),
              ("vendor org unique id", "0xac 0x4a 0x0"), ("xsfp identifier", "QSFP+ or later"),
              ("xsfp wave length", "850 nm"), ("manufact date code", "2023.6.18"), ("Vcc", "3262.90 mV")]
    dark = not get_link(call).endswith("UP\n")
    for lane in range(4):
        values += [("Tx Power%d" % lane, "1.4140 mW"), ("Rx Power%d" % lane, "0.0054 mW" if dark else "0.9907 mW")]
    values += [("Vcc High Thres", "3465.00 mV"), ("Vcc Low Thres", "3135.00 mV"), ("Temp High Thres", "70 C"),
               ("Temp Low Thres", "0 C"), ("TxPower High Thres", "3.5481 mW"), ("TxPower Low Thres", "0.2818 mW"),
               ("RxPower High Thres", "3.5481 mW"), ("RxPower Low Thres", "0.1445 mW")]
    values += [("Tx Bias%d" % lane, "7.9360 mA") for lane in range(4)]
    flag = "0xff" if dark else "0x0"
    values += [("Tx Los Flag", "0x0"), ("Rx Los Flag", flag), ("Tx LoL Flag", "0x0"), ("Rx LoL Flag", flag)]
    values += [("Host SNR Lane%d" % lane, "not supported") for lane in range(4)]
    values += [("Media SNR Lane%d" % lane, "22.6289 dB") for lane in range(4)]
    return text.optical(values)


def get_link_stat(call):
    now = time.strftime("%a %b %e %H:%M:%S %Y")
    changes = [tuple(change) for change in call.device["link_changes"]]
    return text.link_stat(call.phy_id, now, call.device["link_up_count"], changes,
                          down_count=sum(1 for change in changes if change[1] == "LINK DOWN"))


def get_stat(call):
    numbers = fabric.counters(call.phy_id) if call.reachable else dict.fromkeys(
        ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes"), 0)
    quiet = ("mac_tx_mac_pause_num", "mac_rx_mac_pause_num", "mac_tx_pfc_pkt_num", "mac_rx_pfc_pkt_num",
             "mac_tx_bad_pkt_num", "mac_rx_bad_pkt_num", "roce_rx_err_pkt_num", "roce_qp_status_err_num")
    return text.stat([(name, 0) for name in quiet] + [
        ("nic_tx_all_pkg_num", numbers["tx_packets"]), ("nic_tx_all_oct_num", numbers["tx_bytes"]),
        ("nic_rx_all_pkg_num", numbers["rx_packets"]), ("nic_rx_all_oct_num", numbers["rx_bytes"])])


def get_hw_stats(call):
    names = ("pd_alloc", "pd_dealloc", "mr_alloc", "mr_dealloc", "cq_alloc", "cq_dealloc", "qp_alloc", "qp_dealloc",
             "pd_active", "mr_active", "cq_active", "qp_active", "aeqe", "ceqe")
    ones = ("pd_alloc", "cq_alloc", "qp_alloc", "pd_active", "cq_active", "qp_active")
    return text.hw_stats(call.phy_id, [(name, int(name in ones)) for name in names])


def get_status(call):
    return text.status(call.phy_id, [
        "Supported ports: [ Backplane ]", "Supported link modes:   1000baseKX/Full",
        "                        100000baseKR4/Full", "Supported pause frame use: Symmetric",
        "Supports auto-negotiation: No", "Supported FEC modes: None        RS", "Advertised link modes:  Not reported",
        "Speed: %dMb/s" % call.device["speed_mbps"], "Duplex: Full",
        "Link detected: %s" % ("yes" if get_link(call).endswith("UP\n") else "no")])


def get_mtu(call):
    return text.mtu(call.port()["mtu"])


def get_process(call):
    """hccp is the driver's own process on the device; it is taken to run for as long as a process of the host uses the NPU."""
    used = any(process["phy_id"] == call.phy_id for process in states.processes(call.paths, call.state))
    return text.process("exist" if used else "not exist")


GETTERS = {
    "-ip": get_ip, "-link": get_link, "-net_health": get_net_health, "-netdetect": get_netdetect,
    "-gateway": get_gateway, "-vnic": get_vnic, "-lldp": get_lldp, "-optical": get_optical,
    "-link_stat": get_link_stat, "-stat": get_stat, "-hw_stats": get_hw_stats, "-status": get_status, "-mtu": get_mtu,
    "-mac": lambda call: text.mac(call.port()["mac"]),
    "-speed": lambda call: text.speed(call.device["speed_mbps"] if call.port()["up"] else 0),
    "-fec": lambda call: text.fec(call.device["fec"]),
    "-process": get_process,
    "-tls": lambda call: text.tls(call.phy_id, call.device["tls"]),
    "-route": lambda call: text.route(fabric.routes(call.phy_id)),
    "-version": lambda call: text.versions(call.state["driver_version"], call.state["firmware_version"]),
}
VERBS = tuple(GETTERS) + ("-ping", "-hccs_ping", "-cfg")


def ping_options(arguments, names, verb):
    """[name, value, name, value ...] -> {name: value}; unknown names and missing values are refused."""
    found = {}
    for at in range(0, len(arguments), 2):
        if arguments[at] not in names:
            raise Refusal("option", verb)
        if at + 1 >= len(arguments):
            raise Refusal("count", verb)
        found[arguments[at]] = arguments[at + 1]
    return found


def number(options, name, default, low, high):
    value = options.get(name, str(default))
    if not value.isdigit() or not low <= int(value) <= high:
        raise Refusal("parameters", "-hccs_ping")
    return int(value)


def ipv4(value):
    parts = value.split(".")
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        raise Refusal("ip_invalid")
    return [int(part) for part in parts]


def ping(call, arguments):
    """-ping -g address X [pkt N] -> (stdout, failed). Three packets, one each packet_interval_s."""
    if len(arguments) < 2:
        raise Refusal("count", "-ping")
    options = ping_options(arguments, ("address", "pkt"), "-ping")
    if "address" not in options:
        raise Refusal("parameters", "-ping")
    ipv4(options["address"])
    if not call.reachable:
        raise Refusal("execute")
    interval = call.state["hccn"]["packet_interval_s"]
    replies = fabric.ping(call.phy_id, options["address"], 3, interval, wait_s=max(interval, 0.2))
    if replies is None:
        raise Refusal("execute")
    return text.ping(call.phy_id, options["address"], replies), any(isinstance(reply, str) for reply in replies)


def hccs_ping(call, arguments):
    """-hccs_ping -g address X [cnt N] [timeout T] [pkt N] [interval N]: exit 0 with any loss."""
    if call.state["generation"] != "a3":
        raise Refusal("unsupported")
    options = ping_options(arguments, ("address", "sdid", "pkt", "cnt", "interval", "timeout"), "-hccs_ping")
    if "address" not in options:
        raise Refusal("parameters", "-hccs_ping")
    header, server, die, device = ipv4(options["address"])
    device, die = 199 - device, die - 2
    # The tool turns the address into an SDID and refuses one that no super pod can have.
    if header != 192 or server >= states.SUPERPOD_SERVERS or die not in (0, 1) or device < 0 or device % 2 != die:
        raise Refusal("ip_invalid")
    count = number(options, "cnt", 3, 1, 1000)
    timeout = number(options, "timeout", 10, 1, 20000)
    if not call.reachable:
        raise Refusal("execute")
    started = time.monotonic()
    replies = fabric.ping(call.phy_id, options["address"], count, 0.01, wait_s=max(timeout / 1000.0, 0.2))
    poll = HCCS_POLL_S * call.state["hccn"]["packet_interval_s"] / states.PACKET_INTERVAL_S
    time.sleep(max(0.0, poll - (time.monotonic() - started)))
    results = []
    for reply in replies or ["unreachable"] * count:
        failed = isinstance(reply, str)
        results.append(("send_failed" if failed else "ok", 0 if failed else int(reply * 1e6)))
    return text.hccs_ping(call.phy_id, options["address"], results)


def set_tls(call, arguments):
    if len(arguments) != 2 or arguments[0] != "enable":
        raise Refusal("parameters", "-tls")
    if arguments[1] not in ("0", "1"):
        raise Refusal("tls_value", "-tls")
    if states.in_container(call.paths):
        raise Refusal("permission")
    set_conf(call.paths.hccn_conf, call.phy_id, "tls_enable", arguments[1])
    with states.changing(call.paths) as stored:
        stored["hccn"]["devices"][str(call.phy_id)]["tls"] = int(arguments[1])
    return text.DONE


def device_id(paths, state, word):
    """-i: one or two digits of an NPU that answers."""
    if not word.isdigit() or len(word) > 2:
        raise Refusal("device_id")
    phy_id = int(word)
    known = {npu["phy_id"] for npu in state["npus"]} if state and not state["driver_error"] else set()
    if phy_id not in known or phy_id in state["device_gone"] or not os.path.exists(paths.davinci(phy_id)):
        raise Refusal("device_id")
    return phy_id


def run(paths, state, argv):
    """argv without the program's name -> Out."""
    if not argv:
        raise Refusal("major_number")
    if argv in (["-h"], ["--help"]):
        return Out("\n".join(text.help_of(verb) for verb in VERBS), "", 0)
    if argv[0] == "-a":
        if argv[1:2] != ["-cfg"]:
            raise Refusal("major_unknown")
        return Out(text.DONE, "", 0)
    if argv[0] != "-i":
        raise Refusal("major_type")
    if len(argv) < 3 or argv[2] not in VERBS:
        raise Refusal("major_unknown")
    verb, rest = argv[2], argv[3:]
    call = Call(paths, state, device_id(paths, state, argv[1]))
    if verb == "-cfg" and rest == ["status"]:
        return Out(text.config_status("SUCCESS"), "", 0)
    if not rest:
        raise Refusal("count", verb)
    if rest[0] == "-s" and verb == "-tls":
        return Out(set_tls(call, rest[1:]), "", 0)
    if rest[0] != "-g":
        raise Refusal("option", verb)
    if verb == "-ping":
        stdout, failed = ping(call, rest[1:])
        code, dummy, words = text.ERRORS["execute"]
        return Out(stdout, words + "\n" if failed else "", code if failed else 0)
    if verb == "-hccs_ping":
        return Out(hccs_ping(call, rest[1:]), "", 0)
    if len(rest) != 1:
        raise Refusal("count", verb)
    return Out(GETTERS[verb](call), "", 0)


def is_busy(state, now=None):
    """A fault keeps the tool busy: until a time (seconds since 1970) or "forever"."""
    until = ((state or {}).get("hccn") or {}).get("busy_until")
    return until == "forever" or (until is not None and (time.time() if now is None else now) < until)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    paths = states.Paths()
    refusal = common.loader_refusal("hccn_tool", os.environ.get("LD_LIBRARY_PATH"))
    if refusal:
        common.finish(refusal)
    if not common.is_root():
        common.finish(refusal_out(Refusal("permission")))
    state = states.load(paths)
    try:
        with open(paths.lock, "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refusal("busy") from None
            if is_busy(state):
                raise Refusal("busy")
            out = common.spoil(state, "hccn_tool", argv, lambda: run(paths, state, argv))
    except Refusal as refused:
        out = refusal_out(refused)
    except fabric.FabricError as error:
        out = Out("", "Cmd execute failed! (lab: %s)\n" % error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    common.finish(out)
