# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hccn_tool prints, as pure functions: values in, text out. No state, no kernel, no arguments.

Agrees with captures of real tools, byte for byte: -ip, -link, -net_health, -netdetect, -gateway, -vnic, -tls,
    -fec, -lldp (TLVs seen in captures), -optical, -link_stat, -stat, -hw_stats, -route, -ping, -tls -s, busy,
    "no ip was preset".
Source-derived (open source of the driver package, no capture seen): -hccs_ping, -mac, -mtu, -speed, -process,
    -cfg status, -version, the texts and statuses in ERRORS, "Destination Host Unreachable" (the words are in the
    source, the form of the line is not), and that -hccs_ping ends in "Cmd executed successfully!" with exit 0
    even when every packet is lost.
"""
from __future__ import annotations

DONE = "Cmd executed successfully!\n"

# name: (exit status, True when the text goes to stdout, text). The status is the low byte of an internal code.
ERRORS = {
    "major_type": (1, False, "Get invalid major cmd type. The valid major cmd type should be \"-a\" or \"-i\".\n"
                             "Enter [ hccn_tool -h ] for more details."),
    "major_number": (2, False, "Get invalid major cmd number. Please check your input.\n"
                               "Enter [ hccn_tool -h ] for more details."),
    "major_unknown": (3, False, "Get invalid major cmd.\nEnter [ hccn_tool -h ] for more details."),
    "device_id": (4, False, "Get invalid device id."),
    "parameters": (1, False, "Get invalid parameters!"),
    "option": (3, False, "Get unknown option!"),
    "count": (4, False, "The total count of input parameters is wrong!"),
    "ip_invalid": (6, False, "The ip address you configured is invalid!"),
    "tls_value": (16, False, "Get invalid enable value!"),
    "busy": (11, True, "hccn_tool is busy, please try again."),
    "permission": (12, False, "permission denied: pls check this cmd run permission."),
    "unsupported": (13, True, "The command is not supported on this product."),
    "execute": (1, False, "Command execute failed!"),
    "no_gateway": (2, False, "Get gateway failed, because no gateway was preset there!"),
    "no_ip": (13, False, "Get ipconf failed, because no ip was preset there!"),
    "no_optical": (20, True, "Optical module is not present."),
    "link_down": (22, False, "Execute failed: Link status is down."),
    "no_conf": (29, False, "The hccn.conf can't access, cmd execute failed! pls check the conf file or cmd run permission."),
}

# Parameter lists that the tool appends to a usage error, on stdout.
HELP = {
    "-ip": "   [-s]                 : set ip cfg \n       address %s       : set IPv4 ip address, such as x.x.x.x\n"
           "       netmask %s       : set IPv4 ip netmask, such as x.x.x.x\n"
           "   [-g]                 : get ip address and netmask/prefix_length \n",
    "-link": "   [-g]                   : get the eth ports link status, UP or DOWN \n",
    "-net_health": "   [-g]        : get net health status\n",
    "-netdetect": "   [-g]                : get net detect cfg \n",
    "-gateway": "   [-g]                : get gateway address \n",
    "-tls": "   [-s]        : set tls cfg\n       enable %d : set tls enable, 0: disable, 1: enable\n"
            "   [-g]        : get tls cfg\n",
    "-hccs_ping": "  [-g] : get result\n  address %s : IPv4\n  cnt %d : packet count\n  timeout %d : wait time\n",
}
NET_HEALTH = ("Success", "Socket fail", "Receive timeout", "Unreachable", "Time exceeded", "Fault", "Init",
              "Thread error", "Detect ip set", "Unknown")


def ip(address, netmask):
    return "ipaddr:%s\nnetmask:%s\n" % (address, netmask)


def link(up):
    return "link status: %s\n" % ("UP" if up else "DOWN")


def net_health(status):
    return "net health status: %s\n" % status


def netdetect(address, word="address"):
    """word: "address" in captures, "addr" in the source of later tools."""
    return "netdetect %s: %s\n" % (word, address)


def gateway(address, phy_id):
    return "default gateway:%s, Iface:eth%d\n" % (address, phy_id)


def vnic(up, address, netmask):
    return "vnic link status: %s\nvnic ipaddr: %s\nvnic netmask: %s\n" % ("UP" if up else "DOWN", address, netmask)


def mac(address):
    return "mac addr: %s\n" % address


def mtu(size):
    return "mtu:%d\n" % size


def speed(mbps):
    return "Speed: %d Mb/s\n" % mbps if mbps else "Speed: Unknown!\n"


def process(state):
    return "device hccp process: %s\n" % state


def fec(mode):
    return "fec mode: %s\n" % mode


def config_status(word):
    return "config status:%s\n" % word


def versions(driver, firmware):
    return "Network Driver Version:    %s\nNetwork Firmware Version:  %s\n" % (driver, firmware)


def tls(phy_id, switch, preconfigured=1, alarm_days=60):
    """preconfigured None: the older form without that field."""
    middle = "" if preconfigured is None else " tls preconfigured[%d](0:non-preset, 1:preset)," % preconfigured
    return "dev_id:%d, tls switch[%d](0:disable, 1:enable),%s tls alarm time threshold[%d]days\n" % (
        phy_id, switch, middle, alarm_days)


def lldp(tlvs):
    """tlvs: [(TLV name, [lines])]. A line starts with a TAB unless it continues the one before ("+" in front)."""
    text = ""
    for name, lines in tlvs:
        text += "%s TLV\n" % name
        for line in lines:
            text += (line[1:] if line.startswith("+") else "\t" + line) + "\n"
    return text + "End of LLDPDU TLV\n"


def optical(values):
    """values: [(key, value)] in the order of the tool; keys are padded to 21."""
    return "optical info:\n" + "".join("%-21s: %s\n" % pair for pair in values)


def link_stat(phy_id, now, up_count, changes, word="devid", down_count=None):
    """now and times: "Wed Aug  2 03:36:43 2022". changes: [(time, "LINK UP"|"LINK DOWN")], newest first.

    word: "device" in old documents. down_count None: the older form without that line.
    """
    lead = "[%s %d]" % (word, phy_id)
    text = "%scurrent time        : %s\n%slink up count       : %d\n" % (lead, now, lead, up_count)
    if down_count is not None:
        text += "%slink down count     : %d\n" % (lead, down_count)
    text += "%slink change records :%s\n" % (lead, "" if changes else " NA")
    return text + "".join("%s    %s    %s\n" % (lead, time, what) for time, what in changes)


def stat(counters):
    """counters: [(name, number)]."""
    return "packet statistics:\n" + "".join("%s:%s\n" % pair for pair in counters)


def hw_stats(phy_id, counters):
    return "".join("[devid %d] %s: %d\n" % (phy_id, name, number) for name, number in counters)


def route(rows):
    """rows: [(destination, gateway, genmask, flags, interface)]."""
    text = "Routing table:\nDestination     Gateway         Genmask         Flags Metric Ref    Use Iface\n"
    for destination, via, genmask, flags, interface in rows:
        text += "%-15s %-15s %-15s %-5s 0      0        0 %s\n" % (destination, via, genmask, flags, interface)
    return text


def status(phy_id, lines):
    """`-status -g`: the device side's ethtool, after a title of the tool's own."""
    return "Netdev status:Settings for eth%d:\n" % phy_id + "".join("\t%s\n" % line for line in lines)


def ping(phy_id, address, replies):
    """replies: per packet a time in ms, "timeout" or "unreachable"."""
    text = "device %d PING %s\n" % (phy_id, address)
    received = 0
    for sequence, reply in enumerate(replies):
        if reply == "timeout":
            text += "recv time out seq=%d\n" % sequence
        elif reply == "unreachable":
            text += "Destination Host Unreachable\n"
        else:
            received += 1
            text += "recv seq=%d,time=%.6fms\n" % (sequence, reply)
    loss = 100.0 * (len(replies) - received) / len(replies)
    return text + "%d packets transmitted, %d received, %.2f%% packet loss\n" % (len(replies), received, loss)


HCCS_WORDS = {"ok": "This pkt ping success!", "not_started": "This pkt ping not start to send!",
              "send_failed": "This pkt send fail!", "check_failed": "This pkt check recv msg fail!"}


def hccs_ping(phy_id, address, replies, sent=None):
    """replies: [("ok", nanoseconds) | (other word of HCCS_WORDS, 0)]. sent: packets counted as sent."""
    sent = len(replies) if sent is None else sent
    text = "device %d PING %s\n\n" % (phy_id, address)
    for sequence, (word, nanoseconds) in enumerate(replies):
        text += "%s\nrecv seq %d, time = %sus, L1 plane check result = 0x0\n\n" % (
            HCCS_WORDS[word], sequence, _us(nanoseconds))
    times = sorted(nanoseconds for word, nanoseconds in replies if word == "ok")
    loss = 100.0 * (sent - len(times)) / sent
    text += "%d packets transmitted, %d received, %.2f%% packets loss\n" % (sent, len(times), loss)
    average = sum(times) // len(times) if times else 0
    tp95 = times[int(0.95 * len(times))] if times else 0
    return text + "max time %sus\nmin time %sus\naverage time %sus\nTP95 time %sus\n%s" % (
        _us(times[-1] if times else 0), _us(times[0] if times else 0), _us(average), _us(tp95), DONE)


def _us(nanoseconds):
    return "%d.%03d" % (nanoseconds // 1000, nanoseconds % 1000)


CONF_KEYS = {"a2": ("address", "netmask", "netdetect", "gateway", "send_arp_status", "tls_enable"),
             "a3": ("address", "netmask", "gateway", "arp", "netdetect", "send_arp_status", "tls_enable")}


def conf(generation, entries):
    """/etc/hccn.conf in the order of captured files. entries: [(phy id, {key: value})]; only A3 has arp."""
    return "".join("%s_%d=%s\n" % (key, phy_id, values[key]) for phy_id, values in entries
                   for key in CONF_KEYS[generation])


def help_of(verb, word="devid"):
    """A section of -h: how one verb is called."""
    return "hccn_tool -i %s %s\n%s" % (word, verb, HELP.get(verb, "   [-g]        : get\n"))
