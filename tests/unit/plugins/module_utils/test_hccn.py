# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parsers of hccn_tool, on hand-written answers: each by its text and its exit status."""

from __future__ import annotations

import random

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import hccn

TLS_NEW = "dev_id:%d, tls switch[%d](0:disable, 1:enable), tls preconfigured[1](0:non-preset, 1:preset), tls alarm time threshold[60]days\n"
TLS_OLD = "dev_id:%d, tls switch[%d](0:disable, 1:enable), tls alarm time threshold[60]days\n"
LLDP_SWITCH = """\
Chassis ID TLV
\tMAC: 00:11:22:33:44:55
Port ID TLV
\tIfname: 400GE2/0/7:1
Time to Live TLV
\t120
System Name TLV
\tleaf-07
System Description TLV
\tVersatile Routing Platform Software
VRP (R) software, Version 8.211

End of LLDPDU TLV
"""
LLDP_BACK_TO_BACK = """\
Chassis ID TLV
\tMAC: aa:bb:cc:00:00:01
Port ID TLV
\tMAC: aa:bb:cc:00:00:01
End of LLDPDU TLV
"""
LLDP_NPU = """\
Chassis ID TLV
\tMAC: fc:18:03:57:0b:30
Port ID TLV
\tMAC: fc:18:03:57:0b:30
Time to Live TLV
\t120
System Name TLV
\tsealos.hub
System Description TLV
\tAscendNPU Linux 4.19.90
Management Address TLV
\tIPv4: 172.16.36.101
End of LLDPDU TLV
"""
VNIC = "vnic link status: UP\nvnic ipaddr: 192.168.7.190\nvnic netmask: 255.255.0.0\n"

NOT_PRESET_IP = "Get ipconf failed, because no ip was preset there!\n"
NOT_PRESET_GATEWAY = "Get gateway failed, because no gateway was preset there!\n"
UNSUPPORTED = "The command is not supported on this product.\n"
BUSY = "hccn_tool is busy, please try again.\n"


def answer(question, out, err="", rc=0, phy_id=0):
    return hccn.parse_answer(question, out, err, rc, phy_id)


@pytest.mark.parametrize(
    "question, out, value",
    [
        ("ip", "ipaddr:198.51.100.80\nnetmask:255.255.255.0\n", {"ip": "198.51.100.80", "netmask": "255.255.255.0"}),
        ("ip", "ipaddr: 198.51.100.80\nnetmask: 255.255.255.0\n", {"ip": "198.51.100.80", "netmask": "255.255.255.0"}),
        ("link", "link status: UP\n", "UP"),
        ("link", "link status: DOWN\n", "DOWN"),
        ("net_health", "net health status: Success\n", "Success"),
        ("net_health", "net health status: Init\n", "Init"),
        ("net_health", "net health status: Socket fail\n", "Socket fail"),
        ("net_health", "net health status: Receive timeout \r\n", "Receive timeout"),
        ("netdetect", "netdetect address: 198.51.100.1\n", "198.51.100.1"),
        ("netdetect", "netdetect addr: 198.51.100.1\n", "198.51.100.1"),
        ("gateway", "default gateway:198.51.100.1, Iface:eth0\n", "198.51.100.1"),
        ("tls", TLS_NEW % (0, 0), 0),
        ("tls", TLS_NEW % (0, 1), 1),
        ("tls", TLS_OLD % (0, 1), 1),
        ("vnic", VNIC, {"link": "UP", "ip": "192.168.7.190", "netmask": "255.255.0.0"}),
        ("vnic", VNIC.replace("UP", "DOWN"), {"link": "DOWN", "ip": "192.168.7.190", "netmask": "255.255.0.0"}),
    ],
)
def test_understood(question, out, value):
    assert answer(question, out) == {"value": value, "state": "ok", "text": ""}


def test_lldp_of_a_switch():
    lldp = answer("lldp", LLDP_SWITCH)["value"]
    assert lldp == {
        "ifname": "400GE2/0/7:1",
        "port_id": "Ifname: 400GE2/0/7:1",
        "chassis_id": "MAC: 00:11:22:33:44:55",
        "system": "leaf-07",
    }


def test_lldp_of_another_npu_has_no_switch_port():
    lldp = answer("lldp", LLDP_BACK_TO_BACK)["value"]
    assert lldp["ifname"] is None and lldp["port_id"] == "MAC: aa:bb:cc:00:00:01" == lldp["chassis_id"]


def test_lldp_of_another_npu_that_tells_its_name_says_what_it_is():
    lldp = answer("lldp", LLDP_NPU)["value"]
    assert (lldp["ifname"], lldp["system"]) == (None, "AscendNPU Linux 4.19.90")


def test_several_devices_in_one_text_are_told_apart_by_their_own_number():
    assert answer("tls", TLS_NEW % (0, 0) + TLS_NEW % (1, 1), phy_id=1)["value"] == 1
    gateways = "default gateway:198.51.100.1, Iface:eth0\ndefault gateway:198.51.100.2, Iface:eth1\n"
    assert answer("gateway", gateways, phy_id=1)["value"] == "198.51.100.2"


@pytest.mark.parametrize(
    "question, out, err, rc",
    [
        ("ip", "", NOT_PRESET_IP, 13),
        ("gateway", "", NOT_PRESET_GATEWAY, 2),
        # Exit 13 is the status of "no ip" as well as of "not supported": the text decides.
        ("vnic", UNSUPPORTED, "", 13),
        ("ip", UNSUPPORTED, "", 13),
        ("netdetect", "netdetect addr: 0.0.0.0\n", "", 0),
        ("ip", "ipaddr:0.0.0.0\nnetmask:0.0.0.0\n", "", 0),
        ("lldp", "", "", 0),
    ],
)
def test_absent_is_null_and_no_error(question, out, err, rc):
    got = answer(question, out, err, rc)
    assert (got["value"], got["state"]) == (None, "absent")


@pytest.mark.parametrize(
    "out, err, rc, busy",
    [
        (BUSY, "", 11, True),
        (BUSY, "", 0, True),
        ("", BUSY, 11, True),
        ("", "", 11, True),
        ("The device is occupied. Please try again later.\n", "", 31, True),
        ("link status: UP\n", "", 0, False),
        ("", "Some other error whose code ends in 11\n", 11, False),
    ],
)
def test_busy(out, err, rc, busy):
    assert (answer("link", out, err, rc)["state"] == "busy") == busy


@pytest.mark.parametrize(
    "question, out, err, rc, words",
    [
        # Exit 13 without any text is not understood: neither "no ip" nor "not supported" is said.
        ("ip", "", "", 13, "exit 13"),
        ("ip", "ipaddr:198.51.100\nnetmask:255.255.255.0\n", "", 0, "not understood"),
        ("ip", "ipaddr:198.51.100.80\n", "", 0, "not understood"),
        ("ip", "ipaddr:xx.xx.xx.xx\nnetmask:255.255.255.0\n", "", 0, "not understood"),
        ("link", "link status: SIDEWAYS\n", "", 0, "SIDEWAYS"),
        ("link", "", "", 0, "nothing"),
        # Exit status and text contradict each other.
        ("link", "link status: UP\n", "Command execute failed!\n", 1, "exit 1"),
        ("link", "", "The device is not exist!\n", 4, "not exist"),
        ("tls", "dev_id:0, tls switch[7](0:disable, 1:enable)\n", "", 0, "not understood"),
        ("gateway", "default gateway:nowhere, Iface:eth0\n", "", 0, "not understood"),
        ("vnic", "vnic link status: \n", "", 0, "not understood"),
        ("lldp", "Aggregation\n", "", 0, "not understood"),
        ("net_health", "net health status:\n", "", 0, "not understood"),
        ("net_health", "", "Get device health status failed!\n", 3, "exit 3"),
        ("ip", "", "permission denied: pls check this cmd run permission.\n", 12, "permission denied"),
    ],
)
def test_not_understood_is_an_error_with_the_text(question, out, err, rc, words):
    got = answer(question, out, err, rc)
    assert (got["value"], got["state"]) == (None, "error")
    assert words in got["text"]


def test_the_words_of_a_link_must_not_come_from_a_vnic():
    assert hccn.parse_link("vnic link status: UP\n") is None


ROCE_OK = """\
device 2 PING 198.51.100.90
recv seq=0,time=0.120000ms
recv seq=1,time=0.060000ms
recv seq=2,time=0.060000ms
3 packets transmitted, 3 received, 0.00% packet loss
"""
ROCE_PARTIAL = """\
device 2 PING 198.51.100.90
recv seq=0,time=0.120000ms
recv time out seq=1
recv seq=2,time=0.060000ms
3 packets transmitted, 2 received, 33.33% packet loss
"""
ROCE_NONE = """\
device 2 PING 198.51.100.90
recv time out seq=0
recv time out seq=1
recv time out seq=2
3 packets transmitted, 0 received, 100.00% packet loss
"""
HCCS_OK = """\
device 2 PING 198.51.100.90

This pkt ping success!
recv seq 0, time = 20.500us, L1 plane check result = 0x0

This pkt ping success!
recv seq 1, time = 10.500us, L1 plane check result = 0x0

2 packets transmitted, 2 received, 0.00% packets loss
max time 20.500us
min time 10.500us
average time 15.500us
TP95 time 20.500us
"""
HCCS_PARTIAL = """\
device 2 PING 198.51.100.90

This pkt ping success!
recv seq 0, time = 20.500us, L1 plane check result = 0x0

This pkt check recv msg fail!
recv seq 1, time = 0.000us, L1 plane check result = 0x0

2 packets transmitted, 1 received, 50.00% packets loss
max time 20.500us
min time 20.500us
average time 20.500us
TP95 time 20.500us
"""
HCCS_NONE = """\
This pkt send fail!
This pkt ping not start to send!
1 packets transmitted, 0 received, 100.00% packets loss
Cmd executed successfully!
"""


@pytest.mark.parametrize(
    "text, rc, expected",
    [
        (ROCE_OK, 0, (3, 3, 0.0, 0.08, "pass")),
        (ROCE_OK + "Cmd executed successfully!\n", 0, (3, 3, 0.0, 0.08, "pass")),
        (ROCE_PARTIAL, 1, (3, 2, 33.33, 0.09, "fail")),
        # The status says nothing: these two ended with 0 and lost packets all the same.
        (ROCE_PARTIAL, 0, (3, 2, 33.33, 0.09, "fail")),
        (ROCE_NONE, 1, (3, 0, 100.0, None, "fail")),
        (HCCS_OK, 0, (2, 2, 0.0, 0.0155, "pass")),
        (HCCS_PARTIAL, 0, (2, 1, 50.0, 0.0205, "fail")),
        (HCCS_NONE, 0, (1, 0, 100.0, None, "fail")),
        # A good summary under a bad status is a contradiction, no pass.
        (ROCE_OK, 1, (3, 3, 0.0, 0.08, "unknown")),
        (ROCE_OK, None, (3, 3, 0.0, 0.08, "unknown")),
        # So are figures that do not add up.
        (ROCE_OK.replace("0.00%", "33.33%"), 0, (3, 3, 33.33, 0.08, "unknown")),
        (ROCE_OK.replace("3 received", "4 received"), 0, (3, 4, 0.0, None, "unknown")),
        (ROCE_OK.replace("3 packets transmitted, 3 received", "0 packets transmitted, 0 received"), 0, (0, 0, 0.0, None, "unknown")),
        (ROCE_OK.replace("recv seq=1,", "recv time out seq=1,"), 0, (3, 3, 0.0, 0.08, "unknown")),
    ],
)
def test_ping(text, rc, expected):
    result = hccn.parse_ping(text, rc, 2, "198.51.100.90")
    assert tuple(result[key] for key in ("sent", "received", "loss_percent", "rtt_ms", "status")) == expected


@pytest.mark.parametrize(
    "text, rc, status",
    [
        ("device 2 PING 198.51.100.90\nDestination Host Unreachable\n", 1, "fail"),
        ("Execute failed: Link status is down.\n", 22, "fail"),
        ("Get ipconf failed, because no ip was preset there!\n", 13, "fail"),
        (UNSUPPORTED, 13, "unknown"),
        ("The device is not exist!\n", 4, "unknown"),
        ("permission denied: pls check this cmd run permission.\n", 12, "unknown"),
        ("Command execute failed!\n", 1, "unknown"),
        ("Cmd executed successfully!\n", 0, "unknown"),
        ("", 0, "unknown"),
        ("\ufffd\ufffd 3 packets\n", 0, "unknown"),
        # The answer to another question than the one that was asked.
        (ROCE_OK.replace("198.51.100.90", "198.51.100.91"), 0, "unknown"),
        (ROCE_OK.replace("device 2", "device 3"), 0, "unknown"),
        (ROCE_OK + ROCE_OK, 0, "unknown"),
        (ROCE_OK + ROCE_NONE, 0, "unknown"),
        ("3 packets transmitted, 3 received, 0.00% packet loss\n" * 2, 0, "unknown"),
    ],
)
def test_ping_without_a_summary_of_its_own(text, rc, status):
    assert hccn.parse_ping(text, rc, 2, "198.51.100.90")["status"] == status


def test_ping_reads_its_own_part_of_a_text_about_several_devices():
    text = ROCE_NONE.replace("device 2", "device 1") + ROCE_OK
    assert hccn.parse_ping(text, 0, 2, "198.51.100.90")["status"] == "pass"
    assert hccn.parse_ping(text, 0, 1, "198.51.100.90")["status"] == "fail"


def test_damaged_answers_never_raise_and_never_turn_into_a_pass():
    chance = random.Random(21)
    texts = [LLDP_SWITCH, VNIC, TLS_NEW % (0, 0), ROCE_NONE, ROCE_PARTIAL, HCCS_PARTIAL, HCCS_NONE]
    for text in texts:
        for dummy in range(300):
            characters = list(text)
            for dummy2 in range(chance.randint(1, 8)):
                at = chance.randrange(len(characters))
                characters[at:at + 1] = chance.choice(["", " ", "\n", ":", "=", "\ufffd", "x" * 40])
            damaged = "".join(characters)
            for question in hccn.QUESTIONS:
                assert answer(question, damaged)["state"] in ("ok", "absent", "busy", "error")
            assert hccn.parse_ping(damaged, 0, 2, "198.51.100.90")["status"] != "pass"


def test_every_question_has_a_parser():
    assert set(hccn.QUESTIONS) == set(hccn._PARSERS)
