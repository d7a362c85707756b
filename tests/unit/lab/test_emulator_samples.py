# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Given the values of a captured output, the emulator prints that capture, byte for byte.

The values are written down here by hand; only the tables of `npu-smi info`, hccn.conf and -optical, which are
long, are read from the capture by an inverse of this file's own, which splits at bars, blanks and "=" and so
knows nothing of widths. The collection's parsers take no part: emulator and parsers cannot merely agree with
each other.

Published captures are not always what the tool wrote: tabs became blanks, ends were cut, rows left out. What was
done to a capture is named beside it (QUOTING); the same is done to the emulator's output before the comparison.
Captures the emulator does not print are in NOT_PRINTED, each with the reason.
"""
from __future__ import annotations

import json
import os
import pathlib
import re
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(CHECKOUT / "tests" / "lab" / "emulator"))

from ascend_emulator import hccn, hccn_text as ht, node, npu_smi, npu_smi_text as nt, state as states  # noqa: E402

SAMPLES = pathlib.Path(os.environ.get("ASCEND_VLLM_SAMPLES") or CHECKOUT.parent / "shared" / "samples")
TOOLS = re.compile(r"^(npu-smi-|hccn_tool-|hccn\.conf-|etc-ascend_install|driver-version|firmware-version)")


# --- what was done to captures -----------------------------------------------------------------------------

QUOTING = {
    "tab8": lambda text: text.replace("\t", " " * 8),                                   # tabs expanded
    "dedent": lambda text: re.sub(r"(?m)^\t", "", text),                                # the lead tab lost
    "end": lambda text: text.rstrip("\n") + "\n",                                       # the last blank line lost
    "rstrip": lambda text: re.sub(r"(?m)[ \t]+$", "", text),                            # blanks at line ends lost
    "masked": lambda text: text.replace("xxx                 |", "xxx                |"),   # name masked, one blank short
}


def whole(made, sample):
    assert made == sample


def cut(made, sample):
    """The capture stops early: it is the beginning of the output."""
    assert made[:len(sample)] == sample


def elided(made, sample):
    """Rows were left out, shown as "...": every stretch between stands in the output, in order.

    Two stretches may share one line: the rule above and below the rows that were left out.
    """
    at = 0
    for stretch in re.split(r"(?m)^[ \t]*\.\.\.[ \t]*\n", sample):
        found = made.find(stretch, at)
        assert found >= 0, "not in the output: %r" % stretch
        at = found + stretch.rstrip("\n").rfind("\n") + 1


def excerpt(made, sample):
    """Single lines were taken out: every line of the capture stands in the output, in order."""
    lines = iter(made.splitlines())
    for wanted in sample.splitlines():
        assert wanted in lines, "not in the output (or not in this place): %r" % wanted


def nested(made, sample):
    """The usage text was indented by eight blanks where it is not empty, and ends in eight blanks."""
    first, dummy, usage = made.partition("\n")
    shifted = "".join(" " * 8 + line if line.strip() else line for line in usage.splitlines(True))
    assert first + "\n" + shifted + " " * 8 + "\n" == sample


def commented(made, sample):
    """The author's comment at a line's end is taken off, then as elided."""
    elided(made, re.sub(r"(?m) +# <--.*$", "", sample))


# --- inverses ----------------------------------------------------------------------------------------------

def table_values(sample, layout):
    """The values of an `npu-smi info` capture, by bars and blanks."""
    values = {"layout": layout, "npus": [], "processes": [], "warning": False}
    banner = re.search(r"npu-smi (\S+) +Version: (\S+)", sample)
    if banner:
        values["tool_version"], values["driver_version"] = banner.groups()
    head, dummy, tail = sample.partition("Process id")
    values["memory_unit"] = "B" if "memory(B)" in tail else "MB"
    rows = [[cell.split() for cell in line.strip("|\n").split("|")] for line in head.splitlines()
            if line.startswith("|") and "/" in line and "Hugepages" not in line and "Usage" not in line]
    for first, second in zip(rows[::2], rows[1::2]):
        numbers = [cell.replace("/", " ").split() for cell in (" ".join(first[-1]), " ".join(second[-1]))]
        names = [word for cell in first[:-2] for word in cell]
        ids = [word for cell in second[:-2] for word in cell] or ["0"]
        npu = {"npu_id": names[0], "name": names[1], "health": first[-2][0], "bus_id": second[-2][0],
               "chip_id": ids[0], "phy_id": ids[1] if len(ids) > 1 else None, "power_w": numbers[0][0],
               "temperature_c": numbers[0][1], "hugepages_used": numbers[0][2], "hugepages_total": numbers[0][3],
               "aicore": numbers[1][0], "memory_used_mb": numbers[1][1], "memory_total_mb": numbers[1][2]}
        if len(numbers[1]) > 3:
            npu.update(hbm_used_mb=numbers[1][3], hbm_total_mb=numbers[1][4])
        values["npus"].append(npu)
    shown = [npu["npu_id"] for npu in values["npus"]]
    for absent in re.findall(r"found in NPU (\d+)", tail):
        if absent not in shown:  # its row was left out of the capture, its line below was not
            values["npus"].insert(0, dict(values["npus"][0], npu_id=absent))
    for line in tail.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[1].isdigit():
            npu_id, chip_id = cells[0].split()
            values["processes"].append({"npu_id": npu_id, "chip_id": chip_id, "pid": cells[1], "name": cells[2],
                                        "memory_mb": cells[3]})
    return values


def table(layout):
    return lambda sample: nt.info(table_values(sample, layout))


def rows_only(layout):
    return lambda sample: "".join(nt.chip_rows(layout, npu) for npu in table_values(sample, layout)["npus"])


def conf(generation):
    def made(sample):
        entries = {}
        for line in sample.splitlines():
            key, dummy, value = line.partition("=")
            name, dummy, number = key.rpartition("_")
            entries.setdefault(int(number), {})[name] = value
        return ht.conf(generation, sorted(entries.items()))
    return made


def optical(sample):
    return ht.optical([tuple(part.strip() for part in line.split(":", 1)) for line in sample.splitlines()[1:]
                       if ":" in line])


# --- values by hand ----------------------------------------------------------------------------------------

def stored(generation="a2", **values):
    made = states.default_state({"hostname": "host", "generation": generation, "node_index": 0, "nodes": 2,
                                 "npus": 16 if generation == "a3" else 8})
    made.update(values)
    return made


def words(text):
    """"key=value; key=value" -> pairs."""
    return [tuple(part.strip() for part in item.split("=", 1)) for item in text.split(";")]


BOARD_TAIL = "PCB ID=A; BOM ID=1; PCIe Bus Info=0000:61:00.0; Slot ID=0; Class ID=NA; PCI Vendor ID=%s; " \
             "PCI Device ID=0xD801; Subsystem Vendor ID=0x0200; Subsystem Device ID=0x0100; Chip Count=1"
BOARD_910A = "NPU ID=0; Software Version=23.0.5; Firmware Version=7.1.0.7.220; Compatibility=OK; Board ID=0x02; "
CARD = [("NPU ID", 0), ("Chip Count", 1)]
USAGES = "DDR Capacity(MB)=0; DDR Usage Rate(%)=0; DDR Hugepages Total(page)=0; DDR Hugepages Usage Rate(%)=0; " \
         "HBM Capacity(MB)=65536; HBM Usage Rate(%)={}; Aicore Usage Rate(%)=0; Aivector Usage Rate(%)=0; " \
         "Aicpu Usage Rate(%)=0; Ctrlcpu Usage Rate(%)={}; DDR Bandwidth Usage Rate(%)=0; HBM Bandwidth Usage Rate(%)=0"
AFFINITY = ["144-167", "0-23", "144-167", "0-23", "96-119", "48-71", "96-119", "48-71"]
HCCS = [["X" if one == other else "HCCS" for other in range(8)] for one in range(8)]
NPUS = ["NPU%d" % number for number in range(8)]


def watch_a2():
    rows = [("90.1", 2), ("90.2", 0), ("90.3", 0), ("90.2", 1), ("90.2", 2), ("90.2", 1), ("90.2", 1), ("90.2", 0),
            ("90.2", 1), ("90.2", 3), ("97.6", 16)]
    return nt.watch_head() + "".join(nt.watch_row((2, 0, power, 34, 0, 0, control, 5, 0)) for power, control in rows)


def watch_200i():
    rows = [("8.7", 55, 0, 2, 64, 71, 7), ("8.7", 56, 25, 2, 67, 71, 7), ("8.8", 56, 0, 2, 64, 73, 13),
            ("8.7", 55, 0, 1, 66, 71, 7), ("8.7", 55, 0, 1, 63, 73, 12)]
    return nt.watch_head() + "".join(nt.watch_row((0, 0) + row) for row in rows)


def usages_a3():
    head = words("HBM Capacity(MB)=65536; HBM Usage Rate(%)=16")
    return nt.blocks([("NPU ID", 0), ("Chip Count", 2)], [
        [("DDR Capacity(MB)", 0)] + head + words("Aicore Usage Rate(%)=2; NPU Utilization(%)=65; Chip ID=0"),
        head + words("Aicore Usage Rate(%)=12; NPU Utilization(%)=58; Chip ID=1")])


def lldp():
    return ht.lldp([
        ("Chassis ID", ["MAC: ..."]), ("Port ID", ["Ifname: 400GE1/1/20:2"]),
        ("System Description", ["Versatile Routing Platform Software",
                                "+VRP (R) software, Version 8.211 (DX511 V200R021C10SPC600)", "+", "+Huarong DX511", "+"]),
        ("System Capabilities", ["Enabled capabilities: Bridge, Router"]),
        ("Management Address", ["IPv4: 26.xx.xx.xx"]), ("Maximum Frame Size", ["9216"])])


def a2_tool(type_name, **npu):
    """What npu-smi itself makes of a node's state for `-t TYPE -i 0`: not only the layout, also the choice of keys."""
    state = stored()
    state["npus"][0].update(npu)
    chips = [state["npus"][0]]
    paths = states.Paths("/nonexistent")
    if type_name == "board":
        return npu_smi.board(paths, state, chips)
    return npu_smi.card_type(paths, state, chips, type_name)


def error(name):
    out = hccn.refusal_out(hccn.Refusal(name))
    return out.stdout or out.stderr


HW_STATS = "pd_alloc=1; pd_dealloc=0; mr_alloc=0; mr_dealloc=0; cq_alloc=1; cq_dealloc=0; qp_alloc=1; qp_dealloc=0; " \
           "pd_active=1; mr_active=0; cq_active=1; qp_active=1; aeqe=0; ceqe=0"
STAT = "mac_tx_mac_pause_num=0; mac_rx_mac_pause_num=0; mac_tx_pfc_pkt_num=0; mac_rx_pfc_pkt_num=0; " \
       "roce_qp_status_err_num=0; nic_tx_all_pkg_num=122404; nic_tx_all_oct_num=16921741; " \
       "nic_rx_all_pkg_num=6414803; nic_rx_all_oct_num=482237805"
ROUTES = [("default", "29.1.0.1", "0.0.0.0", "UG", "eth3"), ("29.1.0.0", "*", "255.255.0.0", "U", "eth3"),
          ("127.0.0.1", "*", "255.255.255.255", "UH", "lo"), ("192.168.1.0", "*", "255.255.255.0", "U", "end3v0"),
          ("192.168.2.0", "*", "255.255.255.0", "U", "end3v0")]
STATUS = ["Supported ports: [ Backplane ]", "Supported link modes:   1000baseKX/Full", " " * 24 + "10000baseKR/Full",
          " " * 24 + "100000baseKR4/Full", "Supported pause frame use: Symmetric", "Supports auto-negotiation: No",
          "Supported FEC modes: None        RS", "Advertised link modes:  Not reported", "Speed: 200000Mb/s", "Duplex: Full"]
LINKS_2022 = [("Tue Aug  1 14:44:40 2022", "LINK DOWN"), ("Tue Aug  1 14:43:40 2022", "LINK UP"),
              ("Tue Aug  1 14:43:40 2022", "LINK DOWN"), ("Tue Aug  1 14:43:26 2022", "LINK UP")]
LINKS_2023 = [("Tue Jun  6 16:32:12 2023", "LINK UP"), ("Tue Jun  6 16:32:10 2023", "LINK DOWN"),
              ("Tue Jun  6 16:31:55 2023", "LINK UP")]
TLS = [(number, 0) for number in range(8)]

# sample: (sample text -> emulator's text, how to compare, what was done to the capture)
CASES = {
    "npu-smi-info-A2-910B4-8card-24.1.rc3-busy": (table("a2"), whole, ()),
    "npu-smi-info-A3-16die-busy": (table("a3"), whole, ()),
    "npu-smi-info-300IDuo-310P3": (table("310p"), whole, ()),
    "npu-smi-info-910A-23.0.rc1-all-Warning": (table("910a"), cut, ()),
    "npu-smi-info-950PR-25.7.rc1-EXCERPT": (table("950"), excerpt, ()),
    "npu-smi-info-A2-910B1-23.0.rc2-elided": (table("a2"), elided, ()),
    "npu-smi-info-A2-910B3-25.5.1-two-rows": (table("a2"), excerpt, ()),
    "npu-smi-info-A3-26.0.rc2-wide-head": (table("26.0"), cut, ()),
    "npu-smi-info-A3-die-Warning-rows": (rows_only("26.0"), whole, ()),
    "npu-smi-info-doc-24.1.rc1": (table("a2"), elided, ("masked",)),
    "npu-smi-err-8005-a": (lambda s: nt.error_8005("g_conLogLevel=3"), whole, ()),
    "npu-smi-err-8005-b": (lambda s: nt.error_8005("ret=4"), whole, ()),
    "npu-smi-err-8020": (lambda s: nt.ERROR_8020, whole, ()),
    "npu-smi-info-h-23.0.rc2": (lambda s: nt.info_help(nt.INFO_TYPES + nt.INFO_TYPES_OLD_END), whole, ()),
    "npu-smi-info-t-badtype-error": (lambda s: nt.error_parameter("-t") + nt.info_help(options=False), nested, ()),
    "npu-smi-info-l-A2-25.5.1": (lambda s: nt.listing([(n, 1) for n in range(8)]), whole, ("tab8", "end")),
    "npu-smi-info-l-A2-8card": (lambda s: nt.listing([(n, 1) for n in range(8)]), whole, ("tab8", "end")),
    "npu-smi-info-m-910A-8card": (
        lambda s: nt.mapping([(n, 0, n, "Ascend 910A") for n in range(8)], False, pad_head=False), whole, ()),
    "npu-smi-info-m-A2-910B3-tabs": (lambda s: nt.mapping(
        [(0, 0, 0, "Ascend 910B3"), (0, 1, "-", "Mcu"), (1, 0, 1, "Ascend 910B3"), (1, 1, "-", "Mcu")], False), whole, ()),
    "npu-smi-info-m-A3": (lambda s: nt.mapping(
        [(0, 0, 0, 0, "Ascend910"), (0, 1, 1, 1, "Ascend910"), (0, 2, "-", "-", "Mcu"), (1, 0, 2, 2, "Ascend910")], True),
        whole, ("dedent", "rstrip")),
    "npu-smi-info-t-board-A2-25.5.1": (lambda s: a2_tool("board"), whole, ("tab8",)),
    "npu-smi-info-t-board-A3-0xD803-EXCERPT": (
        lambda s: npu_smi.board(None, stored("a3"), stored("a3")["npus"][:2]), excerpt, ("dedent",)),
    "npu-smi-info-t-board-910A-tabs": (lambda s: nt.pairs(words(BOARD_910A + BOARD_TAIL % "0x19E5")), whole, ()),
    "npu-smi-info-t-board": (lambda s: nt.pairs(words(BOARD_910A + BOARD_TAIL % "0x19e5")), whole, ("dedent",)),
    "npu-smi-info-t-board-310P-300I-Duo-25.5.1": (lambda s: nt.pairs(words(
        "NPU ID=2944; Product Name=IT21PD2G10; Model=NA; Manufacturer=Huawei; Serial Number=2106030737ZERC003572; "
        "Software Version=25.5.1; Firmware Version=7.8.0.6.201; Compatibility=OK; Board ID=0xb1; PCB ID=E; BOM ID=3; "
        "PCIe Bus Info=0000:0C:00.0; Slot ID=NA; Class ID=NA; PCI Vendor ID=0x19E5; PCI Device ID=0xD500; "
        "Subsystem Vendor ID=0x0200; Subsystem Device ID=0x0110; Chip Count=2; Chip Fault=0")), whole, ("dedent",)),
    "npu-smi-info-t-board-950PR-25.7.rc1-EXCERPT": (lambda s: nt.pairs(words(
        "NPU ID=0; Product Name=A310-50-C00MM304A1; NPU Name=9579; Chip Name=Ascend950PR; Chip Version=V100; "
        "Model=A310-50-C00MM304A1; Serial Number=10264L540872; Software Version=25.7.rc1.6; "
        "Firmware Version=9.0.0.105.229; Compatibility=OK; Board ID=0x1a")), whole, ("dedent",)),
    "npu-smi-info-t-board-c0": (lambda s: nt.pairs(words(
        "NPU ID=0; Chip ID=0; Chip Type=Ascend; Chip Name=xxx; Chip Version=V1; Board ID=0x02; PCB ID=NA; BOM ID=1; "
        "VDie ID=42C711D4 20B03704 4A10C8D4 14CC040A D2102003; NDie ID=27216594 20401010 4E10C8D4 14CC040A A4102003; "
        "Chip Position ID=0; PCIe Bus Info=0000:61:00.0; Firmware Version=7.1.0.7.220")), whole, ("dedent",)),
    "npu-smi-info-t-common-A2-910B1": (lambda s: nt.stacked([
        words("NPU ID=1; Chip Count=1"),
        words("Chip ID=0; Memory Usage Rate(%)=0; HBM Usage Rate(%)=4; Aicore Usage Rate(%)=0; Aicore Freq(MHZ)=1800; "
              "Aicore curFreq(MHZ)=800; Aicore Count=24; Temperature(C)=46; NPU Real-time Power(W)=93.4"),
        words("Chip Name=mcu; Temperature(C)=38")]), whole, ("tab8",)),
    "npu-smi-info-t-ecc": (lambda s: npu_smi.card_type(states.Paths("/nonexistent"), stored(), [stored()["npus"][1]], "ecc"),
                           whole, ("dedent", "end")),
    "npu-smi-info-t-hccs-A3-EXCERPT": (lambda s: nt.hccs({
        "health": "OK", "tx packets": "[1993002168   1434439505   1588783520]",
        "tx bytes": "[39860043360  28688790100  31775670400]", "rx packets": "[2091328898   760745014    4126456722]",
        "rx bytes": "[41826577960  15214900280  82529134440]", "retry count": "[0            0            0]",
        "error count": "[0            0            0]"}), whole, ()),
    "npu-smi-info-t-health-310P-300I-Duo": (lambda s: nt.blocks(words("NPU ID=2944; Chip Count=2"), [
        words("Health=OK; Chip ID=0"), words("Health=OK; Chip ID=1"), words("Health=OK; Chip Name=MCU")]),
        whole, ("dedent", "end")),
    "npu-smi-info-t-health-910A-tabs": (lambda s: nt.health(stored()["npus"][0]), whole, ()),
    "npu-smi-info-t-health-c0-OK": (lambda s: nt.health(stored()["npus"][0]), whole, ("dedent",)),
    "npu-smi-info-t-health-Warning-FIXTURE": (lambda s: nt.health({
        "health": "Warning", "error_codes": ["80E01801"],
        "error_information": "node type=SOC, sensor type=Temperature"}), whole, ("tab8",)),
    "npu-smi-info-t-memory-310P-300I-Duo": (lambda s: nt.blocks(words("NPU ID=2944; Chip Count=2"), [
        words("Total DDR Capacity(MB)=49152; DDR Capacity(MB)=44278; DDR Clock Speed(MHz)=451; Chip ID=0"),
        words("Total DDR Capacity(MB)=49152; DDR Capacity(MB)=43693; DDR Clock Speed(MHz)=451; Chip ID=1")]),
        whole, ("dedent", "end")),
    # This document has one blank and 28 columns where the source of the tool has a TAB and 30.
    "npu-smi-info-t-phyid-remap": (lambda s: nt.pairs(
        words("Chip Physical ID=0; Chip Logic ID=0; NPU ID=0; Chip ID=0"), width=28, lead=" ", colon=":"), whole, ()),
    "npu-smi-info-t-power-A2-25.5.1": (lambda s: a2_tool("power", power_w="103.5"), whole, ("tab8", "end")),
    "npu-smi-info-t-temp-A2-25.5.1": (lambda s: a2_tool("temp", temperature_c=39), whole, ("tab8", "end")),
    "npu-smi-info-t-usages-A2-25.5.1": (lambda s: a2_tool("usages", hbm_used_mb=3445), whole, ("tab8", "end")),
    "npu-smi-info-t-usages-A2-910B1": (
        lambda s: nt.blocks(CARD, [words(USAGES.format(4, 0)) + [("Chip ID", 0)]]), whole, ("tab8", "end")),
    "npu-smi-info-t-usages-910A": (lambda s: nt.blocks(CARD, [words(
        "DDR Capacity(MB)=13553; DDR Usage Rate(%)=6; DDR Hugepages Total(page)=0; DDR Hugepages Usage Rate(%)=0; "
        "HBM Capacity(MB)=31129; HBM Usage Rate(%)=0; Aicore Usage Rate(%)=0; Aicpu Usage Rate(%)=0; "
        "Ctrlcpu Usage Rate(%)=0; DDR Bandwidth Usage Rate(%)=0; HBM Bandwidth Usage Rate(%)=0; Chip ID=0")]),
        whole, ("end",)),
    "npu-smi-info-t-usages-A3-EXCERPT": (lambda s: usages_a3(), whole, ("end",)),
    "npu-smi-info-t-spod-info-A3-die0": (lambda s: nt.spod_info(
        {"sdid": states.sdid(40, 0), "size": 384, "id": 0, "server_index": 40}), whole, ()),
    "npu-smi-info-t-spod-info-unsupported": (lambda s: nt.unsupported("spod-info"), whole, ()),
    "npu-smi-info-t-topo-unsupported": (lambda s: nt.unsupported("topo"), whole, ()),
    "npu-smi-info-t-topo-A2-8card": (lambda s: nt.topo(NPUS, HCCS, AFFINITY), whole, ()),
    "npu-smi-info-t-topo-A2-910B1": (lambda s: nt.topo(NPUS, HCCS, AFFINITY, long_legend=False, lead=""), whole, ()),
    "npu-smi-info-t-topo-A3-EXCERPT": (lambda s: nt.topo(
        ["Phy-ID2", "Phy-ID3", "Phy-ID12", "Phy-ID13"],
        [["X", "SIO", "HCCS_SW", "HCCS_SW"], ["SIO", "X", "HCCS_SW", "HCCS_SW"]], None, lead=" " * 10), cut, ()),
    "npu-smi-info-watch-A2": (lambda s: watch_a2(), whole, ()),
    "npu-smi-info-watch-200I-DK": (lambda s: watch_200i(), whole, ()),
    "npu-smi-info-watch-2col-FIXTURE": (
        lambda s: nt.watch_head(("AI Core(%)",)) + nt.watch_row((0, 0)), whole, ("rstrip",)),
    "npu-smi-info-warning-driver-incomplete": (lambda s: nt.INSTALL_WARNING, whole, ()),
    "npu-smi-v-950-doc": (lambda s: nt.version("x.x.x"), whole, ()),
    "npu-smi-upgrade-b-mcu": (lambda s: nt.pairs([("Version", "23.3.13")]), whole, ("tab8",)),
    "hccn.conf-A2-8npu-with-tls_enable": (conf("a2"), whole, ()),
    "hccn.conf-A3-16npu": (conf("a3"), whole, ()),
    "etc-ascend_install.info": (lambda s: node.install_info("yes", ()), whole, ()),
    "driver-version.info-24.1.rc3": (lambda s: node.driver_version_info(
        "24.1.rc3", "V100R001C19SPC001B124", ("C13", "C15", "C17", "C18", "C19"), "7.0.0,7.5.99"), whole, ()),
    "driver-version.info-25.3.rc1": (lambda s: node.driver_version_info(
        "25.3.rc1", "V100R001C23SPC002B212", ("C19", "C20", "C21", "C22", "C23")), whole, ()),
    "firmware-version.info-7.1.0.11.220": (lambda s: node.firmware_version_info(
        "7.1.0.11.220", "23.0.7", ("23.0.rc3", "23.0.0")), whole, ()),
    "hccn_tool-busy": (lambda s: error("busy"), whole, ()),
    "hccn_tool-fec-g": (lambda s: ht.fec("rs FEC mode"), whole, ()),
    "hccn_tool-gateway-g": (lambda s: "".join(ht.gateway("11.12.165.1", n) for n in range(8)), whole, ()),
    "hccn_tool-hccs_ping-FAIL-FIXTURE": (lambda s: ht.hccs_ping(
        3, "192.0.2.20", [("send_failed", 0), ("not_started", 0)], sent=1), excerpt, ()),
    "hccn_tool-hccs_ping-help-FIXTURE": (lambda s: ht.help_of("-hccs_ping"), whole, ()),
    "hccn_tool-hw_stats-g": (lambda s: ht.hw_stats(3, [(k, int(v)) for k, v in words(HW_STATS)]), whole, ()),
    "hccn_tool-ip-g-8cards": (
        lambda s: "".join(ht.ip("11.12.165.%d" % (80 + n), "255.255.255.0") for n in range(8)), whole, ()),
    "hccn_tool-ip-g-not-configured": (lambda s: error("no_ip"), whole, ()),
    "hccn_tool-ip-g-ok": (lambda s: ht.ip("29.1.112.213", "255.255.0.0"), whole, ()),
    "hccn_tool-link-UP": (lambda s: ht.link(True), whole, ()),
    "hccn_tool-link_stat-doc-old": (
        lambda s: ht.link_stat(0, "Wed Jun  7 10:08:28 2023", 2, LINKS_2023, word="device"), whole, ()),
    "hccn_tool-link_stat-g": (lambda s: ht.link_stat(0, "Wed Aug  2 03:36:43 2022", 2, LINKS_2022), whole, ()),
    "hccn_tool-lldp-g": (lambda s: lldp(), elided, ("tab8",)),
    "hccn_tool-lldp-g-grep-ifname": (lambda s: "".join(
        ht.lldp([("Port ID", ["Ifname: 400GE1/%d/5:%d" % (n // 2 + 1, n % 2 + 1)])]) for n in range(8)), excerpt, ()),
    "hccn_tool-net_health-Init": (lambda s: ht.net_health("Init"), whole, ()),
    "hccn_tool-net_health-Socket-failed-FIXTURE": (lambda s: ht.net_health("Socket failed"), whole, ()),
    "hccn_tool-net_health-Success": (lambda s: ht.net_health("Success"), whole, ()),
    "hccn_tool-netdetect-g": (lambda s: ht.netdetect("11.12.165.1"), whole, ()),
    "hccn_tool-optical-elided": (optical, elided, ()),
    "hccn_tool-optical-g-full": (optical, whole, ()),
    "hccn_tool-ping-ok": (lambda s: ht.ping(3, "29.1.137.205", [1.418, 0.034, 0.040]), whole, ()),
    "hccn_tool-ping-ok-8cards": (lambda s: ht.ping(0, "11.12.165.80", [0.114, 0.067, 0.063])
                                 + ht.ping(1, "11.12.165.80", [0.149, 0.066, 0.064]), whole, ()),
    "hccn_tool-route-g": (lambda s: ht.route(ROUTES), whole, ()),
    "hccn_tool-stat-elided": (lambda s: ht.stat(words(STAT)), elided, ()),
    "hccn_tool-status-g": (lambda s: ht.status(3, STATUS), commented, ("tab8",)),
    "hccn_tool-tls-g-grep-switch-8cards": (lambda s: "".join(ht.tls(n, on) for n, on in TLS), whole, ()),
    "hccn_tool-tls-s-enable0": (lambda s: ht.DONE, whole, ()),
    "hccn_tool-vnic-g-A3": (lambda s: ht.vnic(True, "192.168.2.199", "255.255.255.0")
                            + ht.vnic(True, "192.168.2.198", "255.255.255.0"), whole, ()),
}

NOT_PRINTED = {
    "hccn_tool-link_stat-FIXTURE": "made up by a test's author: no prefix on its first lines, dates name the year twice",
    "hccn_tool-roce_test-send-bw-client": "a bandwidth test between RDMA ports: the lab has none",
}

# Compared whole, nothing done to either side: the count that may be called "byte for byte".
EXACT = sorted(name for name, (dummy, compare, quoting) in CASES.items() if compare is whole and not quoting)


def load(name):
    return (SAMPLES / (name + ".txt")).read_text(encoding="utf-8")


if SAMPLES.is_dir():
    @pytest.mark.parametrize("name", sorted(CASES))
    def test_capture_is_printed(name):
        make, compare, quoting = CASES[name]
        sample = load(name)
        made = make(sample)
        for way in quoting:
            made = QUOTING[way](made)
        compare(made, sample)

    def test_every_capture_of_the_tools_has_a_case_or_a_reason():
        with open(SAMPLES / "index.json", encoding="utf-8") as handle:
            names = {name for name in json.load(handle) if TOOLS.match(name)}
        assert names == set(CASES) | set(NOT_PRINTED)
        assert not set(CASES) & set(NOT_PRINTED)
        assert len(EXACT) >= 51
else:
    def test_samples_folder():
        print("NOT RUN: samples folder absent")
