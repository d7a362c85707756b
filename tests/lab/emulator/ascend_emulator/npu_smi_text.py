# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu-smi prints, as pure functions: values in, text out. No state, no kernel, no arguments.

Agrees with captures of real tools, byte for byte:
    info (layouts a2, a3, 910a, 310p, 950, 26.0), -l, -m, -t board/usages/common/memory/temp/power/health/ecc/
    topo/spod-info/phyid-remap, watch, -h, -v, unsupported types, -8005 and -8020.
    Real tools start "key : value" lines with a TAB; many published copies show it as eight blanks or not at all.
Source-derived (from the open source of the driver package, no capture seen): exit statuses, "Invalid card id.",
    the blank line that ends every block of -l and -t, the padded last column of -m.
The process table of the 26.0 layout has five columns whose widths no capture shows: it is not printed here.
"""
from __future__ import annotations

# Column widths between the bars, the pad of the tool version, and the formats of the third cell's two lines.
LAYOUTS = {
    "a2": {"columns": (27, 15, 52), "tool": 24, "first": " %-11s %-17s %-5s/ %s",
           "second": " %-11s %-5s/ %-10s %-5s/ %s",
           "head": ((" NPU   Name", " Health", " Power(W)    Temp(C)           Hugepages-Usage(page)"),
                    (" Chip", " Bus-Id", " AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)"))},
    "26.0": {"columns": (27, 15, 70), "tool": 35, "first": " %-20s %-23s %-5s/ %s",
             "second": " %-20s %-5s/ %-16s %-5s/ %s",
             "head": ((" NPU   Name", " Health", " Power(W)             Temp(C)                 Hugepages-Usage(page)"),
                      (" Chip  Phy-ID", " Bus-Id", " AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)"))},
    "310p": {"columns": (31, 17, 54), "tool": 40, "first": " %-12s %-17s %-6s/ %s", "second": " %-12s %-5s/ %s",
             "head": ((" NPU     Name", " Health", " Power(W)     Temp(C)           Hugepages-Usage(page)"),
                      (" Chip    Device", " Bus-Id", " AICore(%)    Memory-Usage(MB)"))},
    "950": {"columns": (8, 18, 15, 53), "tool": 40, "first": " %-11s %-17s %-6s/ %s",
            "second": " %-11s %-5s/ %-10s %-6s/ %s",
            "head": ((" NPU ID", " Name", " Health", " Power(W)    Temp(C)           Hugepages-Usage(page)"),
                     ("", "", " Bus-Id", " NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)"))},
}
LAYOUTS["a3"] = dict(LAYOUTS["a2"], head=(
    LAYOUTS["a2"]["head"][0], (" Chip  Phy-ID", " Bus-Id", " AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)")))
LAYOUTS["910a"] = dict(LAYOUTS["a2"], columns=(22, 15, 52))

INSTALL_WARNING = ("[WARNING]The driver package may not be completely installed, which may cause function abnormal. "
                   "Please reinstall it.\n")
NO_CARD = "There is no NPU card on this server.\n"

ERROR_8005 = ("DrvMngGetConsoleLogLevel failed. (%s)\n"
              "dcmi module initialize failed. ret is -8005\n")
ERROR_8020 = ("DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
              "dcmi model initialized failed, because the device is used. ret is -8020\n")

INFO_TYPES = (
    "board, flash, memory, usages, sensors, temp, power, volt, mac-addr,",
    "common, health, product, ecc, ip, sys-time, i2c_check, work-mode,",
    "ecc-enable, p2p-enable, ssh-enable, license, customized-info,",
    "device-share, nve-level, aicpu-config, pcie-err, mcu-monitor,",
    "err-count, boot-area, vnpu-mode, info-vnpu, vnpu-svm, cpu-num-cfg,",
    "first-power-on-date, proc-mem, phyid-remap, vnpu-cfg-recover, key-manage,",
    "template-info, pkcs-enable, p2p-mem-cfg, pwm-mode, pwm-duty-ratio,",
)
INFO_TYPES_OLD_END = ("boot-select, topo.",)
INFO_TYPES_END = ("boot-select, topo, hccs, sio-info, spod-info, tls-csr-get, tls-cert,",
                  "tls-cert-period, rootkey, hccs-bw.")

TOPO_LEGEND = """
Legend:
%s  X    = Self
  SYS  = Path traversing PCIe and NUMA nodes. Nodes are connected through SMP, such as QPI, UPI.
  PHB  = Path traversing PCIe and the PCIe host bridge of a CPU.
  PIX  = Path traversing a single PCIe switch
  PXB  = Path traversing multipul PCIe switches
  HCCS = Connection traversing HCCS.
%s"""


def error_8005(detail="ret=4"):
    """detail: "g_conLogLevel=3" from older drivers, "ret=4" from newer ones."""
    return ERROR_8005 % detail


def unsupported(type_name):
    return "This device does not support querying %s.\n" % type_name


# --- npu-smi info: the table -------------------------------------------------------------------------------

def _rule(widths, fill):
    return "+" + "+".join(fill * width for width in widths) + "+\n"


def _cells(widths, cells):
    return "|" + "|".join(cell.ljust(width) for width, cell in zip(widths, cells)) + "|\n"


def chip_rows(layout, npu):
    """The two lines of one chip. npu: the keys of state.default_npu; hbm_used_mb None leaves HBM out."""
    form = LAYOUTS[layout]
    first = form["first"] % (npu["power_w"], npu["temperature_c"], npu["hugepages_used"], npu["hugepages_total"])
    memory = (npu["aicore"], npu["memory_used_mb"], npu["memory_total_mb"])
    if layout != "310p":
        memory += (npu["hbm_used_mb"], npu["hbm_total_mb"])
    second = form["second"] % memory
    health, bus = " " + npu["health"], " " + npu["bus_id"]
    if layout == "950":
        return (_cells(form["columns"], (" %s" % npu["npu_id"], " " + npu["name"], health, first))
                + _cells(form["columns"], ("", "", bus, second)))
    lead = " %-7s %s" if layout == "310p" else " %-5s %s"
    chip = " %s" % npu["chip_id"]
    if layout in ("a3", "26.0", "310p"):
        chip = lead % (npu["chip_id"], npu["phy_id"])
    return (_cells(form["columns"], (lead % (npu["npu_id"], npu["name"]), health, first))
            + _cells(form["columns"], (chip, bus, second)))


def info(values):
    """The whole of `npu-smi info`.

    values: layout, tool_version, driver_version, npus (in order; chips of one NPU side by side), processes
    [{npu_id, chip_id, pid, name, memory_mb}], memory_unit ("MB" or, in 23.0.rc1, "B"), warning (bool).
    """
    if not values["npus"]:
        return NO_CARD
    form = LAYOUTS[values["layout"]]
    widths = form["columns"]
    total = sum(widths) + len(widths) - 1
    full = "+" + "-" * total + "+\n"
    banner = " npu-smi %-*s Version: %s" % (form["tool"], values["tool_version"], values["driver_version"])
    text = full + "|" + banner.ljust(total) + "|\n" + _rule(widths, "-")
    text += "".join(_cells(widths, line) for line in form["head"]) + _rule(widths, "=")
    npus = values["npus"]
    for position, npu in enumerate(npus):
        text += chip_rows(values["layout"], npu)
        last_chip = position + 1 == len(npus) or npus[position + 1]["npu_id"] != npu["npu_id"]
        if last_chip:
            text += _rule(widths, "=")
        else:
            text += _rule(widths, "-") if values["layout"] == "310p" else full
    if values["layout"] != "26.0":
        text += _process_table(values, widths, total)
    return text + (INSTALL_WARNING if values.get("warning") else "")


def _process_table(values, widths, total):
    layout = values["layout"]
    outer = widths[-1] - 27
    text = ""
    first, lead = " NPU     Chip", "%(npu_id)-7s %(chip_id)s"
    if layout == "950":  # this header is source-derived: the one capture leaves it out
        widths = (widths[0] + widths[1] + 1,) + widths[2:]
        first, lead = " NPU ID", "%(npu_id)s"
    text += _rule(widths, "-")
    text += _cells(widths[:2] + (26, outer), (first, " Process id", " Process name",
                                              " Process memory(%s)" % values.get("memory_unit", "MB")))
    text += _rule(widths, "=")
    seen = []
    for npu in values["npus"]:
        if npu["npu_id"] in seen:
            continue
        seen.append(npu["npu_id"])
        mine = [process for process in values["processes"] if process["npu_id"] == npu["npu_id"]]
        for process in mine:
            text += _cells(widths[:2] + (26, outer), (
                " " + lead % process, " %s" % process["pid"],
                " %s" % process["name"], " %s" % process["memory_mb"]))
        if not mine:
            text += "|" + (" No running processes found in NPU %s" % npu["npu_id"]).ljust(total) + "|\n"
        text += _rule(widths, "=")
    return text


# --- the "key : value" types -------------------------------------------------------------------------------

def pairs(items, width=30, lead="\t", colon=" : "):
    """items: [(key, value)], one line each."""
    return "".join("%s%-*s%s%s\n" % (lead, width, key, colon, value) for key, value in items)


def blocks(header, parts, width=30):
    """header and each part are [(key, value)]; a blank line ends the header and each part."""
    return "".join(pairs(part, width) + "\n" for part in [header] + list(parts))


def stacked(parts):
    """`-t common`: parts apart by a blank line, none at the end."""
    return "\n".join(pairs(part) for part in parts)


def listing(cards):
    """`npu-smi info -l`. cards: [(npu id, chip count)]."""
    if not cards:
        return NO_CARD
    return blocks([("Total Count", len(cards))],
                  [[("NPU ID", npu_id), ("Chip Count", count)] for npu_id, count in cards])


def mapping(rows, with_phy_id, pad_head=True):
    """`npu-smi info -m`. rows: tuples of cells, the last one the chip name.

    Chip names are not padded, the name "Mcu" and the header's last cell are (23.0 and older: header not padded).
    """
    if not rows:
        return NO_CARD
    heads = ("NPU ID", "Chip ID", "Chip Logic ID") + (("Chip Phy-ID",) if with_phy_id else ()) + ("Chip Name",)
    text = "\t" + " ".join("%-30s" % head for head in heads[:-1]) + " "
    text += ("%-30s" % heads[-1] if pad_head else heads[-1]) + "\n"
    for row in rows:
        name = "%-30s" % row[-1] if row[-1] == "Mcu" else row[-1]
        text += "\t" + " ".join("%-30s" % cell for cell in row[:-1]) + " %s\n" % name
    return text


def health(values):
    """`-t health -c N`. values: health, error_codes [hex strings], error_information."""
    codes = " ".join(values["error_codes"]) or "NA"
    return pairs([("Health Status", values["health"]), ("Error Code", codes),
                  ("Error Information", values["error_information"] if values["error_codes"] else "NA")])


def spod_info(values):
    return pairs([("SDID", values["sdid"]), ("Super Pod Size", values["size"]), ("Super Pod ID", values["id"]),
                  ("Server Index", values["server_index"])])


def hccs(values):
    """`-t hccs`, the lines a capture shows. values: health, and lists of equal length for each counter."""
    items = [("hccs health status", values["health"])]
    items += [("hccs " + name, values[name]) for name in
              ("tx packets", "tx bytes", "rx packets", "rx bytes", "retry count", "error count")]
    return pairs(items)


def topo(labels, links, affinity, long_legend=True, lead="\t   "):
    """`-t topo`. links: rows of words; affinity: CPU ranges or None (no such column).

    long_legend: with a blank line and NA, as 24.1 and later have it; 23.0 does without both.
    """
    text = lead + "".join("%-11s" % label for label in labels)
    text = text + "CPU Affinity" if affinity else text.rstrip()
    text += "\n"
    for position, (label, row) in enumerate(zip(labels, links)):
        line = "%-11s" % label + "".join("%-11s" % word for word in row)
        text += (line + affinity[position] if affinity else line.rstrip()) + "\n"
    return text + TOPO_LEGEND % (("\n", "  NA   = Unknown relationship.\n") if long_legend else ("", ""))


def watch_head(columns=("ChipId(Idx)", "Pwr(W)", "Temp(C)", "AI Core(%)", "AI Cpu(%)", "Ctrl Cpu(%)", "Memory(%)",
                        "Memory BW(%)")):
    """The last column of a capture's header is not padded; rows are."""
    return "%-12s" % "NpuID(Idx)" + "".join("%-12s" % name for name in columns[:-1]) + columns[-1] + "\n"


def watch_row(cells):
    return "".join("%-12s" % cell for cell in cells) + "\n"


# --- help and versions -------------------------------------------------------------------------------------

def version(tool_version):
    return "npu-smi version: %s\n" % tool_version


def info_help(types=INFO_TYPES + INFO_TYPES_END, options=True):
    text = """Usage: npu-smi info <watch|proc|-h|-m|-l|-t type> [Options...]

Commands:
       watch          Show all device's status in scrolling format
       proc           Show device's matrix process status in scrolling format
       -h, --help     Show this help text and exit
       -m             Show all device's mapping information
       -l             Show all device's topology information
       -t type        Show information for type
                      type: %s
""" % ("\n" + " " * 28).join(types)
    if options:
        text += """
Options:
       -i %d          Card ID
       -c %d          Chip ID
       -p %d          Chip Physical ID
"""
    return text


def main_help():
    return """Usage: npu-smi <Command|-h|-v> [Options...]

npu-smi Command:
\t-h            This command's help information
\t--help        This command's help information
\t-v            Show npu-smi version information
\tinfo          Show hardware details
\tset           Modify device configuration properties
\tclear         Clear device information
\tupgrade       Upgrade MCU firmware
"""


def error_parameter(option):
    return "Error parameter of %s\n" % option
