# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsers of what C(hccn_tool) prints: text and exit status in, dicts out, no exception for any text.

The exit status alone tells little: it is the low byte of a longer code (13 is both "no ip was preset" and "not
supported on this product"), it is 0 for every net_health word and for an hccs_ping that lost all its packets. So the
text decides, and a status that contradicts the text makes the answer unknown.
"""

from __future__ import annotations

import re

from ansible_collections.ascend.vllm.plugins.module_utils.driver_files import ipv4
from ansible_collections.ascend.vllm.plugins.module_utils.tools import clip

# Question -> arguments after C(-i <phy id>), in the order they are asked.
QUESTIONS = {
    "ip": ("-ip", "-g"),
    "link": ("-link", "-g"),
    "net_health": ("-net_health", "-g"),
    "netdetect": ("-netdetect", "-g"),
    "gateway": ("-gateway", "-g"),
    "tls": ("-tls", "-g"),
    "lldp": ("-lldp", "-g"),
    "vnic": ("-vnic", "-g"),
}

EXIT_BUSY = 11

_BUSY = ("hccn_tool is busy", "The device is occupied", "I2c is busy", "Get lock failed")
_ABSENT = (
    "was preset there",
    "is not supported on this product",
    "is not supported on this device",
    "does not support this",
    "not supported on this optical",
)
_UNREACHABLE = (
    "Destination Host Unreachable",
    "Network is unreachable",
    "Network unreachable",
    "recv time out",
    "Message too long",
    "Link status is down",
    "no ip was preset",
    "This pkt send fail",
    "This pkt check recv msg fail",
)

_IP = re.compile(r"^\s*ipaddr:\s*(\S+)", re.M)
_NETMASK = re.compile(r"^\s*netmask:\s*(\S+)", re.M)
_LINK = re.compile(r"^\s*link status:\s*(UP|DOWN)\s*$", re.M)
_NET_HEALTH = re.compile(r"^\s*net health status:[ \t]*(\S[^\r\n]*?)\s*$", re.M)
_NETDETECT = re.compile(r"^\s*netdetect addr(?:ess)?:\s*(\S+)", re.M)
_GATEWAY = re.compile(r"^\s*default gateway:\s*([^\s,]+)(?:,\s*Iface:\s*eth(\d+))?", re.M)
_TLS = re.compile(r"(?:dev_id:\s*(\d+),\s*)?tls switch\s*\[(\d+)\]")
_IFNAME = re.compile(r"^\s*Ifname:\s*(\S+)\s*$", re.M)
_VNIC_LINK = re.compile(r"^\s*vnic link status:\s*(UP|DOWN)\s*$", re.M)
_VNIC_IP = re.compile(r"^\s*vnic ipaddr:\s*(\S+)", re.M)
_VNIC_NETMASK = re.compile(r"^\s*vnic netmask:\s*(\S+)", re.M)

_PING_SECTION = re.compile(r"^\s*device (\d+) PING6? (\S+)", re.M)
_SUMMARY = re.compile(r"(\d{1,9}) packets transmitted, (\d{1,9}) received, (\d{1,9}(?:\.\d{1,6})?)% packets? loss")
_TIME = re.compile(r"\btime\s*=\s*(\d{1,12}(?:\.\d{1,9})?)\s*(ms|us)")
_AVERAGE = re.compile(r"^\s*average time\s+(\d{1,12}(?:\.\d{1,9})?)us", re.M)


def _first(pattern, text):
    match = pattern.search(text)
    return match.group(1) if match else None


def _address(text):
    """A real address: 0.0.0.0 is how the tool prints one that was never set."""
    return text if text and ipv4(text) and text != "0.0.0.0" else None


def _own(matches, phy_id):
    """The match that names this device, when the text holds the answers of several; else the first."""
    for device, value in matches:
        if device is not None and phy_id is not None and int(device) == phy_id:
            return value
    return matches[0][1] if matches else None


def parse_ip(text, phy_id=None):
    """C(-ip -g): {ip, netmask}, or None."""
    address, netmask = _address(_first(_IP, text)), _first(_NETMASK, text)
    if address is None or netmask is None or not ipv4(netmask):
        return None
    return {"ip": address, "netmask": netmask}


def parse_link(text, phy_id=None):
    """C(-link -g): UP, DOWN, or None."""
    return _first(_LINK, text)


def parse_net_health(text, phy_id=None):
    """C(-net_health -g): the words after the colon as printed (Success, Init, Socket fail, Socket failed ...), or None."""
    return _first(_NET_HEALTH, text)


def parse_netdetect(text, phy_id=None):
    """C(-netdetect -g): the address (the tool writes both C(addr:) and C(address:)), or None."""
    return _address(_first(_NETDETECT, text))


def parse_gateway(text, phy_id=None):
    """C(-gateway -g): the address, or None."""
    return _address(_own([(m.group(2), m.group(1)) for m in _GATEWAY.finditer(text)], phy_id))


def parse_tls(text, phy_id=None):
    """C(-tls -g): 0, 1, or None. Older tools lack the part C(tls preconfigured)."""
    switch = _own([(m.group(1), m.group(2)) for m in _TLS.finditer(text)], phy_id)
    return int(switch) if switch in ("0", "1") else None


#: In the description of an NPU that is wired to another one (msprechecker of Ascend's msit, get_conn_mode).
NPU_MARK = "AscendNPU"


def parse_lldp(text, phy_id=None):
    """C(-lldp -g): {ifname, port_id, chassis_id, system}, each a str or None; None when there is no neighbour.

    ifname is the switch port as Huawei switches name it. A neighbour without one (another vendor, or another NPU
    wired back to back, whose port id is a MAC address) still tells itself by port_id and chassis_id, as printed.
    system is its name; its description if it has no name, or if that tells an NPU.
    """
    titles = ("Port ID TLV", "Chassis ID TLV", "System Name TLV", "System Description TLV")
    found = {}
    title = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.endswith(" TLV"):
            title = stripped
        elif stripped and title in titles:
            found.setdefault(title, stripped)
    ifname = _first(_IFNAME, text)
    if ifname is None and not found:
        return None
    name, description = found.get("System Name TLV"), found.get("System Description TLV")
    return {
        "ifname": ifname,
        "port_id": found.get("Port ID TLV"),
        "chassis_id": found.get("Chassis ID TLV"),
        "system": description if NPU_MARK in (description or "") else name or description,
    }


def parse_vnic(text, phy_id=None):
    """C(-vnic -g): {link, ip, netmask}, or None; a part that is not understood or not set is None."""
    vnic = {
        "link": _first(_VNIC_LINK, text),
        "ip": _address(_first(_VNIC_IP, text)),
        "netmask": _address(_first(_VNIC_NETMASK, text)),
    }
    return vnic if vnic["link"] or vnic["ip"] else None


_PARSERS = {
    "ip": parse_ip,
    "link": parse_link,
    "net_health": parse_net_health,
    "netdetect": parse_netdetect,
    "gateway": parse_gateway,
    "tls": parse_tls,
    "lldp": parse_lldp,
    "vnic": parse_vnic,
}


def is_busy(text, rc):
    """True when somebody else is using the tool. Exit 11 without any text counts, exit 11 with another text does not."""
    return any(mark in text for mark in _BUSY) or (rc == EXIT_BUSY and not text.strip())


def is_absent(text):
    """True when the tool says that the thing asked for is not configured or does not exist on this product."""
    return any(mark in text for mark in _ABSENT)


def parse_answer(question, out, err, rc, phy_id=None):
    """One answer, judged by text and exit status.

    Returns {value, state, text}: state is 'ok' (value is set), 'absent' (not configured or not supported: value None,
    no error), 'busy' or 'error' (text says what was printed).
    """
    both = out + "\n" + err
    if is_busy(both, rc):
        return {"value": None, "state": "busy", "text": clip(both) or "exit %s" % rc}
    if is_absent(both):
        return {"value": None, "state": "absent", "text": clip(both)}
    value = _PARSERS[question](out, phy_id)
    if rc == 0 and value is not None:
        return {"value": value, "state": "ok", "text": ""}
    if rc == 0 and _says_nothing(question, out, err):
        return {"value": None, "state": "absent", "text": ""}
    printed = clip(both) or "nothing"
    if rc == 0:
        return {"value": None, "state": "error", "text": "not understood (exit 0): %s" % printed}
    return {"value": None, "state": "error", "text": "exit %s: %s" % (rc, printed)}


def _says_nothing(question, out, err):
    """An answer that means "none" by what it leaves out: no LLDP neighbour, an address of 0.0.0.0."""
    if question == "lldp":
        return not out.strip() and not err.strip()
    patterns = {"ip": _IP, "netdetect": _NETDETECT, "gateway": _GATEWAY}
    return question in patterns and _first(patterns[question], out) == "0.0.0.0"


def _section(text, phy_id):
    """The part of the text about this device: (part, address printed or None), or (None, None) if there is no one such part."""
    heads = list(_PING_SECTION.finditer(text))
    if not heads:
        return text, None
    ends = [head.start() for head in heads[1:]] + [len(text)]
    own = [(text[head.start():end], head.group(2)) for head, end in zip(heads, ends) if int(head.group(1)) == phy_id]
    # Two answers where one was asked for cannot be told apart.
    return own[0] if len(own) == 1 else (None, None)


def _rtt_ms(text, received):
    """Average round trip in ms, or None: the line the tool averages in, else the mean of its packets."""
    if not received:
        return None
    average = _first(_AVERAGE, text)
    if average is not None:
        return round(float(average) / 1000.0, 6)
    scale = {"ms": 1.0, "us": 0.001}
    times = [float(value) * scale[unit] for value, unit in _TIME.findall(text)]
    # hccs_ping prints a time of 0 for a packet that was lost, so the mean holds only when none was.
    return round(sum(times) / len(times), 6) if len(times) == received else None


def parse_ping(text, rc, phy_id, address):
    """C(-ping -g address X) and C(-hccs_ping -g address X), told apart by nothing but their spelling.

    Returns {sent, received, loss_percent, rtt_ms, status}: status is 'pass' only when the tool ended with 0 and a
    summary about this device and this address says that every packet came back; 'fail' when packets were lost or the
    address could not be reached; 'unknown' for all else, figures that contradict each other included.
    """
    result = {"sent": None, "received": None, "loss_percent": None, "rtt_ms": None, "status": "unknown"}
    part, printed_address = _section(text, phy_id)
    if part is None or (printed_address is not None and printed_address != address):
        return result
    summaries = _SUMMARY.findall(part)
    if len(summaries) != 1:
        if not summaries and any(mark in part for mark in _UNREACHABLE):
            result["status"] = "fail"
        return result
    sent, received, loss = int(summaries[0][0]), int(summaries[0][1]), float(summaries[0][2])
    result.update(sent=sent, received=received, loss_percent=loss, rtt_ms=_rtt_ms(part, received))
    if sent < 1 or received > sent or abs(loss - 100.0 * (sent - received) / sent) > 0.5:
        return result
    if received < sent:
        result["status"] = "fail"
    elif any(mark in part for mark in _UNREACHABLE):
        # Every packet is said to have come back and to have failed: one of the two is wrong.
        result["status"] = "unknown"
    elif rc == 0:
        result["status"] = "pass"
    return result
