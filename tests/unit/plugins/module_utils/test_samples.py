# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parsers on outputs of real tools, where a folder of them is at hand (ASCEND_VLLM_SAMPLES names it).

What each file must give was read off the file by a person. A file without an entry here is still given to every parser:
none may raise, and none may find in it what is not there.
"""

from __future__ import annotations

import os
import sys

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import driver_files, hccn, host, npu_smi, tools


def samples_folder():
    stated = os.environ.get("ASCEND_VLLM_SAMPLES")
    if stated:
        return stated
    here = os.path.dirname(os.path.realpath(__file__))
    return os.path.normpath(os.path.join(here, "..", "..", "..", "..", "..", "shared", "samples"))


FOLDER = samples_folder()
FILES = sorted(name for name in os.listdir(FOLDER) if name.endswith(".txt")) if os.path.isdir(FOLDER) else []


def npu(npu_id, chip_id, phy_id, name, health, bus_id, power, temperature, used, total, *processes):
    return {
        "npu_id": npu_id,
        "chip_id": chip_id,
        "phy_id": phy_id,
        "name": name,
        "health": health,
        "bus_id": bus_id,
        "power_w": power,
        "temperature_c": temperature,
        "hbm_used_mb": used,
        "hbm_total_mb": total,
        "processes": [dict(zip(("pid", "name", "memory_mb"), process)) for process in processes],
    }


def table(text, hardware, version, npus, silent=()):
    """A table of npu-smi info gives exactly these rows."""
    info = npu_smi.parse_info(text)
    assert info["understood"] and info["hardware"] == hardware
    assert (info["tool_version"], info["driver_version"]) == (version, version)
    assert info["npus"] == npus
    assert info["silent_npus"] == list(silent)
    assert (info["stray_processes"], info["warnings"], info["unparsed"]) == ([], [], [])
    assert npu_smi.parse_error(text, 0) is None


def a3_busy(text):
    power = [182.0, 181.0, 176.9, 181.2, 179.8, 183.8, 185.9, 182.1]
    bus = ["9D", "9F", "99", "9B", "95", "97", "91", "93", "8D", "8F", "89", "8B", "85", "87", "81", "83"]
    temperature = [36, 35, 35, 36, 34, 34, 36, 35, 36, 37, 37, 36, 37, 36, 34, 36]
    used = [3402, 3200, 3396, 3205, 3395, 3203, 3395, 3203, 52553, 52358, 52567, 52345, 52552, 52358, 52554, 52358]
    pids = [957687, 957770, 957790, 957852, 957876, 957912, 957957, 958011]
    table(
        text,
        "a3",
        "24.1.rc3.3",
        [
            npu(
                die // 2, die % 2, die, "Ascend910", "OK", "0000:%s:00.0" % bus[die],
                power[die // 2] if die % 2 == 0 else None, temperature[die], used[die], 65536,
                *([(pids[die - 8], "pt_main_thread", 49207)] if die >= 8 else [])
            )
            for die in range(16)
        ],
    )


def duo(text):
    ids = [1536, 1536, 1792, 1792, 2048, 2048, 2304, 2304]
    temperature = [51, 50, 51, 51, 50, 49, 52, 50]
    table(
        text,
        "310p",
        "24.1.0.1",
        [
            npu(ids[n], n % 2, None, "310P3", "OK", "0000:%02d:00.0" % (6 + n // 2), None, temperature[n], None, None)
            for n in range(8)
        ],
    )


def a2_busy(text):
    bus = ["C1", "01", "C2", "02", "81", "41", "82", "42"]
    power = [85.0, 84.2, 81.8, 83.9, 81.4, 81.5, 263.2, 250.5]
    temperature = [36, 36, 35, 36, 35, 37, 46, 47]
    used = [22283, 22267, 2818, 2819, 2829, 2829, 30759, 30760]
    processes = {0: (582939, "", 19502), 1: (695171, "", 19498), 6: (99910, "", 27977), 7: (99976, "", 27977)}
    table(
        text,
        "a2",
        "24.1.rc3",
        [
            npu(
                n, 0, None, "910B4", "OK", "0000:%s:00.0" % bus[n], power[n], temperature[n], used[n], 32768,
                *([processes[n]] if n in processes else [])
            )
            for n in range(8)
        ],
    )


def rows_only(text):
    """An excerpt without banner and header: all values are still in their places, the versions are not known."""
    info = npu_smi.parse_info(text)
    assert info["hardware"] == "a3" and info["driver_version"] is None
    assert info["npus"] == [
        npu(0, 0, 0, "Ascend910", "OK", "0000:9D:00.0", 161.9, 32, 3101, 65536),
        npu(0, 1, 1, "Ascend910", "Warning", "0000:9F:00.0", None, 32, 2887, 65536),
        npu(1, 0, 2, "Ascend910", "OK", "0000:99:00.0", 164.2, 32, 3101, 65536),
        npu(1, 1, 3, "Ascend910", "OK", "0000:9B:00.0", None, 32, 2887, 65536),
    ]


def tool_error(code, rc):
    def check(text):
        info = npu_smi.parse_info(text)
        assert not info["understood"] and info["npus"] == []
        for status in (rc, 0):
            error = npu_smi.parse_error(text, status)
            assert error["error_code"] == code and error["remedy"]

    return check


def refusal(rc, code):
    """An error whose text names no code: the exit status tells it."""

    def check(text):
        assert not npu_smi.parse_info(text)["understood"]
        assert npu_smi.parse_error(text, rc)["error_code"] == code
        assert npu_smi.parse_error(text, 0) is None

    return check


def only_warning(text):
    info = npu_smi.parse_info(text)
    assert not info["understood"] and len(info["warnings"]) == 1 and info["unparsed"] == []


def mapping(*expected):
    def check(text):
        keys = ("npu_id", "chip_id", "logic_id", "phy_id", "name")
        assert [tuple(row[key] for key in keys) for row in npu_smi.parse_mapping(text)] == list(expected)

    return check


def blocks(count, **values):
    """The key/value output has this many blocks and, in one of them, each of these values (blanks written as _)."""

    def check(text):
        found = npu_smi.parse_blocks(text)
        assert len(found) == count
        for key, value in values.items():
            assert value in [block.get(key.replace("_", " ")) for block in found], key

    return check


def health(code, information):
    def check(text):
        assert npu_smi.parse_health(text) == {"error_code": code, "error_information": information}

    return check


def spod(expected):
    def check(text):
        assert npu_smi.parse_spod_info(text) == expected

    return check


def answers(question, *expected):
    """The text holds the answers of devices 0, 1, ...: each line group alone gives its value."""

    def check(text):
        lines = text.splitlines(True)
        assert len(lines) % len(expected) == 0
        size = len(lines) // len(expected)
        for phy_id, value in enumerate(expected):
            part = "".join(lines[phy_id * size:(phy_id + 1) * size])
            assert hccn.parse_answer(question, part, "", 0, phy_id) == {"value": value, "state": "ok", "text": ""}

    return check


def lldp(*ports):
    def check(text):
        parts = text.splitlines(True) if len(ports) > 1 else [text]
        found = [hccn.parse_answer("lldp", part, "", 0)["value"] for part in parts]
        assert [neighbour["ifname"] for neighbour in found] == list(ports)

    return check


def full_lldp(text):
    assert hccn.parse_lldp(text) == {
        "ifname": "400GE1/1/20:2",
        "port_id": "Ifname: 400GE1/1/20:2",
        "chassis_id": "MAC: ...",
        "system": "Versatile Routing Platform Software",
    }


def ping(phy_id, address, sent, received, loss, rtt, status, rc=0):
    def check(text):
        result = hccn.parse_ping(text, rc, phy_id, address)
        assert result == {"sent": sent, "received": received, "loss_percent": loss, "rtt_ms": rtt, "status": status}
        # Nothing that passed may pass under another status, for another address or another device.
        assert hccn.parse_ping(text, 1, phy_id, address)["status"] != "pass"
        if status == "pass":
            assert hccn.parse_ping(text, rc, phy_id, "203.0.113.77")["status"] == "unknown"
            assert hccn.parse_ping(text, rc, 63, address)["status"] == "unknown"

    return check


def two_pings(text):
    ping(0, "11.12.165.80", 3, 3, 0.0, 0.081333, "pass")(text)
    ping(1, "11.12.165.80", 3, 3, 0.0, 0.093, "pass")(text)


def state(question, out, rc, expected):
    def check(text):
        answer = hccn.parse_answer(question, text if out else "", "" if out else text, rc)
        assert (answer["state"], answer["value"]) == (expected, None)

    return check


def busy(text):
    for question in hccn.QUESTIONS:
        assert hccn.parse_answer(question, text, "", 11)["state"] == "busy"
    assert hccn.is_busy(text, 11) and hccn.is_busy(text, 0)


def conf(count, first, last, **keys):
    def check(text):
        parsed = driver_files.parse_hccn_conf(text)
        assert parsed["errors"] == []
        assert sorted(parsed["devices"], key=int) == [str(n) for n in range(count)]
        assert parsed["devices"]["0"]["address"] == first
        assert parsed["devices"][str(count - 1)]["address"] == last
        for device in parsed["devices"].values():
            assert device["tls_enable"] == 0 and device["netdetect"] == device["gateway"] == "127.0.0.1"
            for key, value in keys.items():
                assert device[key] == value

    return check


def version(expected):
    def check(text):
        assert driver_files.package_version(text) == expected

    return check


def install_info(text):
    pairs = driver_files.parse_pairs(text)
    assert pairs["Driver_Install_Path_Param"] == "/usr/local/Ascend" and pairs["UserName"] == "HwHiAiUser"
    assert len(pairs) == 7 and "Driver_Install_Status" not in pairs


TLS_OFF = [0] * 8

EXPECTED = {
    "npu-smi-info-300IDuo-310P3": duo,
    "npu-smi-info-910A-23.0.rc1-all-Warning": lambda text: table(
        text,
        "910a",
        "23.0.rc1.b070",
        [
            npu(0, 0, None, "910A", "Warning", "0000:C1:00.0", 72.0, 39, 3, 32768),
            npu(1, 0, None, "910A", "Warning", "0000:81:00.0", 70.2, 37, 3, 32768),
            npu(2, 0, None, "910A", "Warning", "0000:41:00.0", 70.8, 37, 30750, 32768),
            npu(3, 0, None, "910A", "Warning", "0000:01:00.0", 68.8, 39, 0, 32768),
        ],
        silent=[1, 2, 3],
    ),
    "npu-smi-info-950PR-25.7.rc1-EXCERPT": lambda text: table(
        text, "950", "25.7.rc1.6", [npu(0, None, None, "Ascend950PR", "OK", "0000:61:00.0", 195.6, 56, 5239, 131072)]
    ),
    "npu-smi-info-A2-910B1-23.0.rc2-elided": lambda text: table(
        text,
        "a2",
        "23.0.rc2",
        [
            npu(0, 0, None, "910B1", "OK", "0000:C1:00.0", 88.4, 46, 4175, 65536),
            npu(1, 0, None, "910B1", "OK", "0000:01:00.0", 92.1, 47, 4175, 65536),
            npu(7, 0, None, "910B1", "OK", "0000:42:00.0", 92.7, 48, 4174, 65536),
        ],
        silent=[0, 1, 7],
    ),
    "npu-smi-info-A2-910B3-25.5.1-two-rows": lambda text: table(
        text,
        "a2",
        "25.5.1",
        [
            npu(0, 0, None, "910B3", "OK", "0000:C1:00.0", 102.8, 45, 3445, 65536),
            npu(5, 0, None, "910B3", "OK", "0000:02:00.0", 100.8, 44, 60156, 65536, (2290156, "VLLMEngineCore", 56630)),
        ],
        silent=[0],
    ),
    "npu-smi-info-A2-910B4-8card-24.1.rc3-busy": a2_busy,
    "npu-smi-info-A3-16die-busy": a3_busy,
    "npu-smi-info-A3-26.0.rc2-wide-head": lambda text: table(
        text,
        "a3",
        "26.0.rc2",
        [
            npu(0, 0, 0, "Ascend910", "OK", "0000:9D:00.0", 162.6, 34, 3419, 65536),
            npu(0, 1, 1, "Ascend910", "OK", "0000:9F:00.0", None, 34, 2874, 65536),
        ],
        silent=[0],
    ),
    "npu-smi-info-A3-die-Warning-rows": rows_only,
    "npu-smi-info-doc-24.1.rc1": lambda text: table(
        text, "unknown", "24.1.rc1", [npu(7, 0, None, "xxx", "OK", "0000:3D:00.0", 67.0, 44, 0, 32768)]
    ),
    "npu-smi-err-8005-a": tool_error(-8005, 187),
    "npu-smi-err-8005-b": tool_error(-8005, 187),
    "npu-smi-err-8020": tool_error(-8020, 172),
    "npu-smi-info-t-badtype-error": refusal(215, -9001),
    "npu-smi-info-warning-driver-incomplete": only_warning,
    "npu-smi-info-m-910A-8card": mapping(*[(n, 0, n, None, "Ascend 910A") for n in range(8)]),
    "npu-smi-info-m-A2-910B3-tabs": mapping((0, 0, 0, None, "Ascend 910B3"), (1, 0, 1, None, "Ascend 910B3")),
    "npu-smi-info-m-A3": mapping((0, 0, 0, 0, "Ascend910"), (0, 1, 1, 1, "Ascend910"), (1, 0, 2, 2, "Ascend910")),
    "npu-smi-info-l-A2-25.5.1": blocks(9, Total_Count="8", NPU_ID="7", Chip_Count="1"),
    "npu-smi-info-l-A2-8card": blocks(9, Total_Count="8", NPU_ID="7", Chip_Count="1"),
    "npu-smi-info-t-board-310P-300I-Duo-25.5.1": blocks(1, NPU_ID="2944", PCI_Device_ID="0xD500", Chip_Count="2"),
    "npu-smi-info-t-board-910A-tabs": blocks(1, NPU_ID="0", PCI_Device_ID="0xD801", Firmware_Version="7.1.0.7.220"),
    "npu-smi-info-t-board-950PR-25.7.rc1-EXCERPT": blocks(1, Chip_Name="Ascend950PR", Software_Version="25.7.rc1.6"),
    "npu-smi-info-t-board-A2-25.5.1": blocks(1, PCI_Device_ID="0xD802", Firmware_Version="7.8.0.6.201"),
    "npu-smi-info-t-board-A3-0xD803-EXCERPT": blocks(1, PCI_Device_ID="0xD803", Chip_Count="2"),
    "npu-smi-info-t-board-c0": blocks(1, Chip_ID="0", PCIe_Bus_Info="0000:61:00.0"),
    "npu-smi-info-t-board": blocks(1, PCI_Device_ID="0xD801"),
    "npu-smi-info-t-common-A2-910B1": blocks(3, Chip_ID="0", Aicore_Count="24", Chip_Name="mcu"),
    "npu-smi-info-t-ecc": blocks(2, NPU_ID="1", HBM_Double_Bit_Error_Count="0"),
    "npu-smi-info-t-hccs-A3-EXCERPT": blocks(1, hccs_health_status="OK"),
    "npu-smi-info-t-health-310P-300I-Duo": blocks(4, NPU_ID="2944", Health="OK", Chip_ID="1", Chip_Name="MCU"),
    "npu-smi-info-t-health-910A-tabs": health(None, None),
    "npu-smi-info-t-health-c0-OK": health(None, None),
    "npu-smi-info-t-health-Warning-FIXTURE": health("80E01801", "node type=SOC, sensor type=Temperature"),
    "npu-smi-info-t-memory-310P-300I-Duo": blocks(3, NPU_ID="2944", Chip_ID="1"),
    "npu-smi-info-t-phyid-remap": blocks(1, Chip_Physical_ID="0", Chip_Logic_ID="0"),
    "npu-smi-info-t-power-A2-25.5.1": blocks(2, NPU_ID="0", Chip_ID="0"),
    "npu-smi-info-t-spod-info-A3-die0": spod({"sdid": 167772160, "size": 384, "id": 0, "server_index": 40}),
    "npu-smi-info-t-spod-info-unsupported": spod(None),
    "npu-smi-info-t-temp-A2-25.5.1": blocks(3, Chip_ID="0", Chip_Name="MCU"),
    "npu-smi-info-t-topo-unsupported": refusal(217, -9255),
    "npu-smi-info-t-usages-910A": blocks(2, Chip_ID="0"),
    "npu-smi-info-t-usages-A2-25.5.1": blocks(2, Chip_ID="0"),
    "npu-smi-info-t-usages-A2-910B1": blocks(2, Chip_ID="0"),
    "npu-smi-info-t-usages-A3-EXCERPT": blocks(3, Chip_ID="1"),
    "hccn_tool-busy": busy,
    "hccn_tool-ip-g-not-configured": state("ip", False, 13, "absent"),
    "hccn_tool-ip-g-ok": answers("ip", {"ip": "29.1.112.213", "netmask": "255.255.0.0"}),
    "hccn_tool-ip-g-8cards": answers("ip", *[{"ip": "11.12.165.%d" % (80 + n), "netmask": "255.255.255.0"} for n in range(8)]),
    "hccn_tool-link-UP": answers("link", "UP"),
    "hccn_tool-net_health-Init": answers("net_health", "Init"),
    "hccn_tool-net_health-Socket-failed-FIXTURE": answers("net_health", "Socket failed"),
    "hccn_tool-net_health-Success": answers("net_health", "Success"),
    "hccn_tool-netdetect-g": answers("netdetect", "11.12.165.1"),
    "hccn_tool-gateway-g": answers("gateway", *["11.12.165.1"] * 8),
    "hccn_tool-tls-g-grep-switch-8cards": answers("tls", *TLS_OFF),
    "hccn_tool-lldp-g": full_lldp,
    "hccn_tool-lldp-g-grep-ifname": lldp(*["400GE1/%d/5:%d" % (n // 2 + 1, n % 2 + 1) for n in range(8)]),
    "hccn_tool-vnic-g-A3": answers(
        "vnic",
        {"link": "UP", "ip": "192.168.2.199", "netmask": "255.255.255.0"},
        {"link": "UP", "ip": "192.168.2.198", "netmask": "255.255.255.0"},
    ),
    "hccn_tool-ping-ok": ping(3, "29.1.137.205", 3, 3, 0.0, 0.497333, "pass"),
    "hccn_tool-ping-ok-8cards": two_pings,
    "hccn_tool-hccs_ping-FAIL-FIXTURE": ping(3, "192.0.2.20", 1, 0, 100.0, None, "fail"),
    "hccn_tool-hccs_ping-help-FIXTURE": ping(3, "192.0.2.20", None, None, None, None, "unknown"),
    "hccn_tool-tls-s-enable0": state("tls", True, 0, "error"),
    "hccn.conf-A2-8npu-with-tls_enable": conf(8, "127.0.0.45", "127.0.0.223", netmask="255.255.0.0", send_arp_status="1"),
    "hccn.conf-A3-16npu": conf(16, "127.0.0.24", "127.0.0.94", netmask="255.255.128.0", send_arp_status="1"),
    "driver-version.info-24.1.rc3": version("24.1.rc3"),
    "driver-version.info-25.3.rc1": version("25.3.rc1"),
    "firmware-version.info-7.1.0.11.220": version("7.1.0.11.220"),
    "opp-version.info-8.5.0": version("8.5.0.2.220"),
    "nnal-atb-version.info-9.1.0": version("9.1.0.B150"),
    "ascend_toolkit_install.info-7.0.T10": version("7.0.T10"),
    "ascend_toolkit_install.info-CANN-9.1.0-x86_64": version("9.1.0"),
    "ascend_nnae_install.info-8.0.RC3": version("8.0.RC3"),
    "etc-ascend_install.info": install_info,
}


def give_to_every_parser(text):
    """None may raise, and none may find in a text what it does not hold."""
    npu_smi.parse_mapping(text)
    npu_smi.parse_health(text)
    npu_smi.parse_spod_info(text)
    npu_smi.parse_blocks(text)
    npu_smi.parse_error(text, 1)
    for question in hccn.QUESTIONS:
        hccn.parse_answer(question, text, "", 0)
        assert hccn.parse_answer(question, text, "", 1)["state"] != "ok"
    hccn.is_busy(text, 0)
    driver_files.parse_pairs(text)
    driver_files.package_version(text)
    driver_files.parse_hccn_conf(text)
    host.parse_ip_json(text)
    host.parse_ip_oneline(text)
    host.parse_proc_tcp(text)
    tools.clip(text)
    tools.hint(text)


@pytest.mark.parametrize("name", FILES or [None])
def test_every_sample(name, capsys):
    if name is None:
        with capsys.disabled():
            # To stderr, which reaches the terminal from a pytest-xdist worker too, and on a line of its own.
            sys.stderr.write("\nNOT RUN: parsers on real outputs (samples folder absent: %s)\n" % FOLDER)
        return
    with open(os.path.join(FOLDER, name), encoding="utf-8", errors="replace") as handle:
        text = handle.read()
    give_to_every_parser(text)
    check = EXPECTED.get(name[:-4])
    if check:
        check(text)
    if not name.startswith("npu-smi-info-"):
        assert not npu_smi.parse_info(text)["understood"], "this is no table of npu-smi info"
    if "ping-ok" not in name:
        assert hccn.parse_ping(text, 0, 0, "11.12.165.80")["status"] != "pass", "this is no ping that passed"


def test_the_files_that_matter_have_an_expectation():
    """A new output of a family these parsers are for gets an entry; the others are read by nobody here."""
    read_by_nobody = (
        "hccn_tool-fec", "hccn_tool-hw_stats", "hccn_tool-link_stat", "hccn_tool-optical", "hccn_tool-roce_test",
        "hccn_tool-route", "hccn_tool-stat", "hccn_tool-status", "npu-smi-info-h-", "npu-smi-info-t-topo-A",
        "npu-smi-info-watch", "npu-smi-upgrade", "npu-smi-v-",
    )
    families = ("npu-smi-", "hccn_tool-", "hccn.conf-", "driver-version", "firmware-version", "etc-ascend")
    open_ones = [
        name for name in FILES
        if name.startswith(families) and not name.startswith(read_by_nobody) and name[:-4] not in EXPECTED
    ]
    assert open_ones == []
    assert not FILES or sorted(set(EXPECTED) - set(name[:-4] for name in FILES)) == []
