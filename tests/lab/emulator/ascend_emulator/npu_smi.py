# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""npu-smi: arguments, order of checks and exit statuses. The text is in npu_smi_text.

Everything goes to stdout, errors too. The exit status is the low byte of a negative code: -8005 -> 187,
-8020 -> 172, -9001 (parameters) -> 215, -9005 -> 211. A type that the hardware does not support says so and
exits 0 (source-derived). The driver is asked before anything is done, so -v and -h fail with -8005 as well.

Only NPUs whose /dev/davinciN exists here are shown: in a container, those that it was given.
"""
from __future__ import annotations

import os
import sys
import time

from ascend_emulator import common, npu_smi_text as text, state as states
from ascend_emulator.common import Out

PARAMETER, INNER = 215, 211
COMMANDS = ("-h", "--help", "-v", "info", "set", "clear", "upgrade")
MODEL = {"a2": {"pci": "0xD802", "subsystem": "0x3003", "product": "IT21HMDC_Bin5", "board": "0x60", "chip": "Ascend 910B3"},
         "a3": {"pci": "0xD803", "subsystem": "0x3001", "product": "IT22HMDA_2_S", "board": "0x71", "chip": "Ascend910"}}
AFFINITY = ("144-167", "0-23", "144-167", "0-23", "96-119", "48-71", "96-119", "48-71")
TYPES = ("board", "common", "usages", "memory", "temp", "power", "health", "ecc", "topo", "spod-info", "hccs",
         "phyid-remap", "proc-mem")
ECC = ["%s %s" % (memory, what) for memory in ("DDR", "HBM") for what in (
    "Single Bit Error Count", "Double Bit Error Count", "Single Bit Aggregate Total Err Cnt",
    "Double Bit Aggregate Total Err Cnt", "Single Bit Isolated Pages Count", "Double Bit Isolated Pages Count")]


def driver_trouble(paths, state):
    """The Out of a driver that cannot be used, else None."""
    if state is None or state["driver_error"] == -8005:
        style = (state or {}).get("driver_error_style") or "ret=4"
        return Out(text.error_8005(style), "", 187)
    if state["driver_error"] == -8020:
        return Out(text.ERROR_8020, "", 172)
    usable = os.path.exists(paths.manager) and os.access(paths.manager, os.R_OK | os.W_OK)
    if not usable or not visible(paths, state):
        return Out(text.error_8005("ret=4"), "", 187)
    return None


def visible(paths, state):
    return [npu for npu in state["npus"]
            if npu["phy_id"] not in state["device_gone"] and os.path.exists(paths.davinci(npu["phy_id"]))]


def layout(state):
    return "a3" if state["generation"] == "a3" else "a2"


def install_incomplete(paths):
    """True where the real tool warns: no line Driver_Install_Status=complete; never inside a container."""
    if states.in_container(paths):
        return False
    try:
        with open(paths.install_info, encoding="utf-8") as handle:
            return "Driver_Install_Status=complete" not in handle.read()
    except OSError:
        return True


def table(paths, state):
    npus = [dict(npu) for npu in visible(paths, state)]
    by_phy_id = {npu["phy_id"]: npu for npu in npus}
    processes = []
    for process in states.processes(paths, state):
        npu = by_phy_id.get(process["phy_id"])
        if npu:
            npu["hbm_used_mb"] = min(npu["hbm_total_mb"], npu["hbm_used_mb"] + process["memory_mb"])
            processes.append(dict(process, npu_id=npu["npu_id"], chip_id=npu["chip_id"]))
    processes.sort(key=lambda process: (process["npu_id"], process["chip_id"]))
    return text.info({"layout": layout(state), "tool_version": state["tool_version"], "npus": npus,
                      "driver_version": state["driver_version"], "processes": processes,
                      "warning": install_incomplete(paths)})


def used_mb(paths, state, npu):
    extra = sum(process["memory_mb"] for process in states.processes(paths, state)
                if process["phy_id"] == npu["phy_id"])
    return min(npu["hbm_total_mb"], npu["hbm_used_mb"] + extra)


def mapping(paths, state):
    a3 = state["generation"] == "a3"
    rows = []
    for npu in visible(paths, state):
        row = (npu["npu_id"], npu["chip_id"], npu["logic_id"]) + ((npu["phy_id"],) if a3 else ())
        rows.append(row + ("Ascend910" if a3 else "Ascend " + npu["name"],))
        last_chip = 1 if a3 else 0
        if npu["chip_id"] == last_chip:
            rows.append((npu["npu_id"], last_chip + 1, "-") + (("-",) if a3 else ()) + ("Mcu",))
    return text.mapping(rows, a3)


def cards(paths, state):
    counts = {}
    for npu in visible(paths, state):
        counts[npu["npu_id"]] = counts.get(npu["npu_id"], 0) + 1
    return sorted(counts.items())


# --- one type of -t: (values of one chip, values of the MCU or None) ---------------------------------------

def chip_items(paths, state, npu, type_name):
    hbm = used_mb(paths, state, npu)
    percent = 100 * hbm // npu["hbm_total_mb"]
    if type_name == "usages":
        return [("DDR Capacity(MB)", 0), ("DDR Usage Rate(%)", 0), ("DDR Hugepages Total(page)", 0),
                ("DDR Hugepages Usage Rate(%)", 0), ("HBM Capacity(MB)", npu["hbm_total_mb"]),
                ("HBM Usage Rate(%)", percent), ("Aicore Usage Rate(%)", npu["aicore"]),
                ("Aivector Usage Rate(%)", 0), ("Aicpu Usage Rate(%)", 0), ("Ctrlcpu Usage Rate(%)", 6),
                ("DDR Bandwidth Usage Rate(%)", 0), ("HBM Bandwidth Usage Rate(%)", 0),
                ("NPU Utilization(%)", npu["aicore"]), ("Aicube Usage Rate(%)", npu["aicore"])]
    if type_name == "memory":
        return [("DDR Capacity(MB)", 0), ("DDR Clock Speed(MHz)", 0), ("HBM Capacity(MB)", npu["hbm_total_mb"]),
                ("HBM Clock Speed(MHz)", 1600), ("HBM Temperature(C)", npu["temperature_c"]),
                ("HBM Manufacturer ID", "0x56")]
    if type_name == "temp":
        return [("NPU Temperature (C)", npu["temperature_c"])]
    if type_name == "power":
        return [("NPU Real-time Power(W)", "NA" if npu["power_w"] == "-" else npu["power_w"])]
    if type_name == "health":
        return [("Health", npu["health"])]
    if type_name == "ecc":
        return [(name, 0) for name in ECC]
    raise KeyError(type_name)


MCU_ITEMS = {"temp": [("LM75A_TE (C)", 36), ("LM75B_TE (C)", 36)], "health": [("Health", "OK")]}


def card_type(paths, state, chips, type_name):
    """-t TYPE -i N without -c: a header, a block per chip (Chip ID last), a block of the MCU where it has one."""
    width = 40 if type_name == "ecc" else 30
    header = [("NPU ID", chips[0]["npu_id"]), ("Chip Count", len(chips))]
    parts = [chip_items(paths, state, npu, type_name) + [("Chip ID", npu["chip_id"])] for npu in chips]
    if type_name in MCU_ITEMS:
        parts.append(MCU_ITEMS[type_name] + [("Chip Name", "MCU")])
    return text.blocks(header, parts, width)


def board(paths, state, chips):
    model, npu = MODEL[layout(state)], chips[0]
    return text.pairs([
        ("NPU ID", npu["npu_id"]), ("Product Name", model["product"]), ("Model", "NA"), ("Manufacturer", "Huawei"),
        ("Serial Number", "1025C%07d" % (9048791 + npu["npu_id"] + 100 * state["node_index"])),
        ("Software Version", state["driver_version"]), ("Firmware Version", state["firmware_version"]),
        ("Compatibility", "OK"), ("Board ID", model["board"]), ("PCB ID", "A"), ("BOM ID", 1),
        ("PCIe Bus Info", npu["bus_id"]), ("Slot ID", 0), ("Class ID", "NA"), ("PCI Vendor ID", "0x19E5"),
        ("PCI Device ID", model["pci"]), ("Subsystem Vendor ID", "0x19E5"),
        ("Subsystem Device ID", model["subsystem"]), ("Chip Count", len(chips))])


def chip_board(state, npu):
    model = MODEL[layout(state)]
    return text.pairs([
        ("NPU ID", npu["npu_id"]), ("Chip ID", npu["chip_id"]), ("Chip Type", "Ascend"), ("Chip Name", npu["name"]),
        ("Chip Version", "V1"), ("Board ID", model["board"]), ("PCB ID", "NA"), ("BOM ID", 1),
        ("VDie ID", "42C711D4 20B03704 4A10C8D4 14CC040A D21020%02X" % npu["phy_id"]),
        ("NDie ID", "27216594 20401010 4E10C8D4 14CC040A A41020%02X" % npu["phy_id"]),
        ("Chip Position ID", npu["chip_id"]), ("PCIe Bus Info", npu["bus_id"]),
        ("Firmware Version", state["firmware_version"])])


def common_type(paths, state, chips):
    """-t common: Chip ID first in its block, the MCU's name in lower case."""
    parts = [[("NPU ID", chips[0]["npu_id"]), ("Chip Count", len(chips))]]
    for npu in chips:
        parts.append([
            ("Chip ID", npu["chip_id"]), ("Memory Usage Rate(%)", 0),
            ("HBM Usage Rate(%)", 100 * used_mb(paths, state, npu) // npu["hbm_total_mb"]),
            ("Aicore Usage Rate(%)", npu["aicore"]), ("Aicore Freq(MHZ)", 1800), ("Aicore curFreq(MHZ)", 800),
            ("Aicore Count", 24), ("Temperature(C)", npu["temperature_c"]),
            ("NPU Real-time Power(W)", "NA" if npu["power_w"] == "-" else npu["power_w"])])
    return text.stacked(parts + [[("Chip Name", "mcu"), ("Temperature(C)", 38)]])


def topo(paths, state):
    npus = visible(paths, state)
    a3 = state["generation"] == "a3"
    rows = []
    for one in npus:
        row = []
        for other in npus:
            if one is other:
                row.append("X")
            elif a3:
                row.append("SIO" if one["npu_id"] == other["npu_id"] else "HCCS_SW")
            else:
                row.append("HCCS")
        rows.append(row)
    labels = [("Phy-ID%d" if a3 else "NPU%d") % npu["phy_id"] for npu in npus]
    affinity = None if a3 else [AFFINITY[npu["phy_id"] % 8] for npu in npus]
    return text.topo(labels, rows, affinity, lead=" " * 10 if a3 else "\t   ")


def remap(state, npu):
    return text.pairs([("Chip Physical ID", npu["phy_id"]), ("Chip Logic ID", npu["logic_id"]),
                       ("NPU ID", npu["npu_id"]), ("Chip ID", npu["chip_id"])], colon=":")


def query(paths, state, options):
    """options: {"type", "card", "chip", "phy"} as strings or None."""
    type_name, npus = options["type"], visible(paths, state)
    if type_name == "topo":
        return Out(topo(paths, state), "", 0)
    if type_name in ("spod-info", "hccs") and state["generation"] != "a3":
        return Out(text.unsupported(type_name), "", 0)
    if type_name == "phyid-remap":
        found = [npu for npu in npus if str(npu["phy_id"]) == options["phy"]]
        if not found:
            return Out("This command must input phy id. Input parameter of -p\n", "", PARAMETER)
        return Out(remap(state, found[0]), "", 0)
    if options["card"] is None:
        return Out("\nThis command must input card id.\n\n", "", PARAMETER)
    chips = [npu for npu in npus if str(npu["npu_id"]) == options["card"]]
    if options["chip"] is None:
        if type_name in ("spod-info", "hccs"):
            return Out("Must input parameter of chip id.\n", "", PARAMETER)
        if type_name == "board":
            return Out(board(paths, state, chips), "", 0)
        if type_name == "common":
            return Out(common_type(paths, state, chips), "", 0)
        if type_name == "proc-mem":
            return Out("".join(proc_mem(paths, state, npu) for npu in chips), "", 0)
        return Out(card_type(paths, state, chips, type_name), "", 0)
    npu = [npu for npu in chips if str(npu["chip_id"]) == options["chip"]][0]
    if type_name == "spod-info":
        pod = state["superpod"]
        return Out(text.spod_info(dict(pod, sdid=states.sdid(pod["server_index"], npu["phy_id"]))), "", 0)
    if type_name == "hccs":
        zeros = "[%s]" % " ".join(["%-12d" % 0] * 6 + ["0"])
        values = {name: zeros for name in ("tx packets", "tx bytes", "rx packets", "rx bytes", "retry count",
                                           "error count")}
        return Out(text.hccs(dict(values, health="OK")), "", 0)
    if type_name == "health":
        return Out(text.health(npu), "", 0)
    if type_name == "board":
        return Out(chip_board(state, npu), "", 0)
    if type_name == "common":
        return Out(common_type(paths, state, [npu]), "", 0)
    if type_name == "proc-mem":
        return Out(proc_mem(paths, state, npu), "", 0)
    return Out(text.pairs(chip_items(paths, state, npu, type_name), 40 if type_name == "ecc" else 30), "", 0)


def proc_mem(paths, state, npu):
    """Source-derived form of -t proc-mem."""
    lines = ["\tProcess id:%-7d Process name:%-17s Process memory(MB):%d\n" % (
        process["pid"], process["name"], process["memory_mb"])
        for process in states.processes(paths, state) if process["phy_id"] == npu["phy_id"]]
    return "".join(lines) or "\tNo process in device.\n"


def parse_info(paths, state, argv):
    """(options, None) or (None, Out of the error). argv: what follows `info`."""
    options = {"type": None, "card": None, "chip": None, "phy": None, "list": False, "map": False}
    usage = text.info_help()
    keys = {"-t": "type", "-i": "card", "-c": "chip", "-p": "phy"}
    at = 0
    while at < len(argv):
        word = argv[at]
        value = argv[at + 1] if at + 1 < len(argv) else None
        if word in ("-h", "--help"):
            return None, Out(usage, "", 0)
        if word in ("-l", "-m"):
            options["list" if word == "-l" else "map"] = True
            at += 1
            continue
        if word not in keys or (word == "-t" and value not in TYPES) or options[keys[word]] is not None:
            return None, Out(text.error_parameter(word) + usage, "", PARAMETER)
        problem = ""
        npus = visible(paths, state)
        if word == "-i" and value not in {str(npu["npu_id"]) for npu in npus}:
            problem = "Invalid card id.\n"
        if word == "-c" and value not in {str(npu["chip_id"]) for npu in npus if str(npu["npu_id"]) == options["card"]}:
            problem = "Invalid chip id.\n"
        if word == "-p" and value is None:
            problem = "Invalid phy id.\n"
        if problem:
            return None, Out(problem + text.error_parameter(word) + usage, "", PARAMETER)
        options[keys[word]] = value
        at += 2
    return options, None


def watch(paths, state, argv, rounds=None, pause=time.sleep, write=sys.stdout.write):
    """`info watch [-i N]`: one line per chip and second, for ever (rounds: for tests)."""
    wanted = argv[argv.index("-i") + 1] if "-i" in argv[:-1] else None
    write(text.watch_head())
    done = 0
    while rounds is None or done < rounds:
        for npu in visible(paths, state):
            if wanted in (None, str(npu["npu_id"])):
                write(text.watch_row((npu["npu_id"], npu["chip_id"], npu["power_w"], npu["temperature_c"],
                                      npu["aicore"], 0, 1, 5, 0)))
        sys.stdout.flush()
        done += 1
        if rounds is None or done < rounds:
            pause(1)
    return Out("", "", 0)


def run(paths, state, argv):
    """argv without the program's name -> Out."""
    if not argv:
        return Out(text.main_help(), "", PARAMETER)
    if argv[0] not in COMMANDS:
        return Out("Command or option is not found.\n" + text.main_help(), "", INNER)
    trouble = driver_trouble(paths, state)
    if trouble:
        return trouble
    if argv[0] in ("-h", "--help"):
        return Out(text.main_help(), "", 0)
    if argv[0] == "-v":
        return Out(text.version(state["tool_version"]), "", 0)
    if argv[0] == "upgrade" and argv[1:3] == ["-b", "mcu"]:
        return Out(text.pairs([("Version", "23.3.13")]), "", 0)
    if argv[0] != "info":
        return Out(text.error_parameter(argv[1] if len(argv) > 1 else argv[0]), "", PARAMETER)
    if len(argv) == 1:
        return Out(table(paths, state), "", 0)
    if argv[1] == "watch":
        return watch(paths, state, argv)
    options, error = parse_info(paths, state, argv[1:])
    if error:
        return error
    if options["list"]:
        return Out(text.listing(cards(paths, state)), "", 0)
    if options["map"]:
        return Out(mapping(paths, state), "", 0)
    if options["type"] is None:
        return Out("\nInput parameter format error.\n" + text.info_help(), "", PARAMETER)
    return query(paths, state, options)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    paths = states.Paths()
    refusal = common.loader_refusal("npu-smi", os.environ.get("LD_LIBRARY_PATH"))
    if refusal:
        common.finish(refusal)
    try:
        state = states.load(paths)
        common.finish(common.spoil(state, "npu-smi", argv, lambda: run(paths, state, argv)))
    except KeyboardInterrupt:
        sys.exit(130)
