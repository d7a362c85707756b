# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsers of what C(npu-smi) prints: text in, dicts out, no exception for any text.

The table of C(npu-smi info) has been seen 93, 98, 99, 106 and 116 characters wide, with and without Phy-ID, with
and without HBM, with four or five process columns, and with the NPU id in a cell of its own (950). So rows are split
on C(|), columns are taken by the titles in the header, and inside a cell a value is either one word or a
C(used / total) pair. What cannot be placed with certainty is None; a row that is not understood is reported, never
guessed at.
"""

from __future__ import annotations

import re

# The tool ends with its negative code modulo 256, so an exit status can be turned back for the codes that are known.
CODE_OF_EXIT = {187: -8005, 172: -8020, 215: -9001, 211: -9005, 217: -9255}

REMEDY = {
    -8005: (
        "The NPU driver does not answer. Check that it is loaded (lsmod | grep drv_), that /dev/davinci_manager, "
        "/dev/devmm_svm and /dev/hisi_hdc exist and that the task runs as root; reboot or reinstall the driver if so."
    ),
    -8020: (
        "The devices are held by somebody else, usually a container that was given them. "
        "Find it (docker ps) and stop it, then try again."
    ),
    -9001: "A parameter was refused: the installed driver may be older than the tool expects.",
    -9005: "The driver answered with an internal error: look at dmesg and at the NPU logs, then reset or reboot.",
    -9255: "The installed driver does not support this question.",
}

_PAIR = r"(?P<used>\d+|NA|-)\s*/\s*(?P<total>\d+|NA|-)"
_VALUE = re.compile(_PAIR + r"|(?P<single>\S+)")
_TITLE = re.compile(r"NPU ID|NPU Util\(%\)|\S+")
_NUMBER = re.compile(r"^-?\d{1,18}(\.\d{1,6})?$")
_BUS_ID = re.compile(r"^[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]{1,2}$")
_IDLE = re.compile(r"No running process\w* found in NPU\s+(\d+)")
_TOOL = re.compile(r"\bnpu-smi\s+(?!Version:)(\S+)")
_DRIVER = re.compile(r"\bVersion:\s*([^\s|]+)")
_ERROR = re.compile(r"\bret(?:\s+is|:)\s*\(?(-\d{1,9})")
_LONGEST_LINE = 1024
# The words of the column Health (npu-smi reference, npu-smi info).
_HEALTHS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")
# InvalidSuperPodID of Ascend's mind-cluster.
_NO_SUPERPOD = 0xFFFFFFFF
_MOST_NOTES = 20
_MIB = 1024 * 1024


def number(text):
    """An int or a float as printed; None for NA, - and everything else."""
    text = text.strip()
    if not _NUMBER.match(text):
        return None
    return float(text) if "." in text else int(text)


def _whole(text):
    value = number(text)
    return value if isinstance(value, int) else None


def _word(text):
    """A word as printed; None for the marks that stand for nothing."""
    text = text.strip()
    return None if text in ("", "-", "NA", "N/A") else text


def _cells(line):
    body = line.strip()[1:]
    if body.endswith("|"):
        body = body[:-1]
    return [cell.strip() for cell in body.split("|")]


def _values(cell):
    """The values of one cell: ([single words], [(used, total)])."""
    singles, pairs = [], []
    for match in _VALUE.finditer(cell):
        if match.group("single") is not None:
            singles.append(match.group("single"))
        else:
            pairs.append((_whole(match.group("used")), _whole(match.group("total"))))
    return singles, pairs


def _titles(cell):
    """Column titles of a header cell: ([single-valued], [usage])."""
    titles = _TITLE.findall(cell)
    return [t for t in titles if "-Usage" not in t], [t for t in titles if "-Usage" in t]


def _place(titles, values):
    """Titles to values when there are as many of both, else nothing: a shifted column must not be read as its neighbour."""
    return dict(zip(titles, values)) if len(titles) == len(values) else {}


class _Table:
    """Reads the table line by line; see parse_info."""

    def __init__(self):
        self.tool_version = None
        self.driver_version = None
        self.header_seen = False
        self.own_id_cell = False
        self.first_titles = None
        self.second_titles = None
        self.id_titles = None
        self.process_titles = None
        self.rows = []
        self.pending = None
        self.processes = []
        self.idle = []
        self.warnings = []
        self.unparsed = []
        #: Whether a row of a device was not understood.
        self.lost = False

    def read(self, text):
        for line in text.splitlines():
            if len(line) > _LONGEST_LINE:
                self.note(line)
                continue
            line = line.strip()
            if line.startswith("|"):
                self.table_line(line)
            elif line.startswith("[WARNING]"):
                self.warnings.append(line)
            elif line and not line.startswith("+") and line != "...":
                self.note(line)
        self.flush()

    def note(self, line):
        if len(self.unparsed) < _MOST_NOTES:
            self.unparsed.append(line.strip()[:200])

    def lose(self, line):
        """A row of a device that is not understood."""
        self.lost = True
        self.note(line)

    def flush(self):
        """A device whose second line never came is kept with what is known of it."""
        if self.pending is not None:
            self.rows.append(self.pending)
            self.pending = None

    def table_line(self, line):
        if not line.endswith("|"):
            # Cut off: what is left of its last number would be another one.
            (self.note if self.process_titles else self.lose)(line)
            return
        cells = _cells(line)
        idle = _IDLE.search(line)
        if idle:
            self.flush()
            self.idle.append(int(idle.group(1)))
        elif "Version:" in line and _DRIVER.search(line):
            tool = _TOOL.search(line)
            self.tool_version = _word(tool.group(1)) if tool else None
            self.driver_version = _word(_DRIVER.search(line).group(1))
        elif "Process id" in cells:
            self.flush()
            self.process_titles = cells
        elif "Health" in cells:
            self.header_seen = True
            self.own_id_cell = cells[0] == "NPU ID"
            self.first_titles = _titles(cells[-1])
        elif "Bus-Id" in cells:
            self.id_titles = _TITLE.findall(cells[0])
            self.second_titles = _titles(cells[-1])
        elif self.process_titles is not None:
            self.process_row(cells, line)
        else:
            self.device_row(cells, line)

    def device_row(self, cells, line):
        if len(cells) == 4 and (self.own_id_cell or not self.header_seen):
            ids, name, middle, values = cells
        elif len(cells) == 3:
            ids, middle, values = cells
            ids, name = self.split_first(ids)
        else:
            self.lose(line)
            return
        is_second = bool(_BUS_ID.match(middle)) or (
            self.pending is not None and _word(middle) is None and all(word.isdigit() for word in cells[0].split())
        )
        if is_second:
            if self.pending is None:
                # The tool leaves the first line out when a chip's health cannot be read: whose row it is, is not known.
                self.lose(line)
                return
            self.second_row(cells[0], middle, values)
        elif _whole(ids) is not None and name and (not name.isdigit() or middle in _HEALTHS):
            self.flush()
            self.first_row(int(ids), name, middle, values)
        else:
            self.lose(line)

    @staticmethod
    def split_first(cell):
        parts = cell.split(None, 1)
        return (parts + ["", ""])[0], (parts + ["", ""])[1]

    def first_row(self, npu_id, name, health, values):
        singles, dummy = _values(values)
        titles = self.first_titles[0] if self.first_titles else ["Power(W)", "Temp(C)"]
        placed = _place(titles, singles)
        self.pending = {
            "npu_id": npu_id,
            "chip_id": None,
            "phy_id": None,
            "name": _word(name),
            "health": health or None,
            "bus_id": None,
            "power_w": number(placed.get("Power(W)", "")),
            "temperature_c": number(placed.get("Temp(C)", "")),
            "hbm": (None, None),
            "ddr_total_mb": None,
            "phy_column": False,
        }

    def second_row(self, ids, bus_id, values):
        row, self.pending = self.pending, None
        dummy, pairs = _values(values)
        if self.second_titles:
            usages = self.second_titles[1]
        elif len(pairs) == 2:
            usages = ["Memory-Usage(MB)", "HBM-Usage(MB)"]
        else:
            # One pair and no header: it may be either memory, so it is neither.
            usages = []
        placed = _place(usages, pairs)
        numbers = [_whole(word) for word in ids.split()]
        if self.id_titles is not None:
            id_titles = self.id_titles
        else:
            id_titles = ["Chip", "Phy-ID"][:len(numbers)] if usages else ["Chip"][:len(numbers)]
        named = _place(id_titles, numbers) or _place(["Chip"], numbers[:1])
        row["chip_id"] = named.get("Chip")
        # The column "Device" of PCIe cards is the logic id, which is another number than the physical id.
        row["phy_id"] = named.get("Phy-ID")
        row["phy_column"] = "Phy-ID" in named
        row["bus_id"] = _word(bus_id)
        row["hbm"] = placed.get("HBM-Usage(MB)", (None, None))
        row["ddr_total_mb"] = placed.get("Memory-Usage(MB)", (None, None))[1]
        self.rows.append(row)

    def process_row(self, cells, line):
        ids = [_whole(word) for word in cells[0].split()]
        placed = _place(self.process_titles, cells)
        pid = _whole(placed.get("Process id", ""))
        if pid is None or not ids or None in ids:
            self.note(line)
            return
        memory = None
        for title, value in placed.items():
            if title.startswith("Process memory"):
                memory = _process_memory(title, _whole(value))
        self.processes.append(
            {
                "npu_id": ids[0],
                "chip_id": ids[1] if len(ids) > 1 else None,
                "pid": pid,
                "name": placed.get("Process name", ""),
                "memory_mb": memory,
            }
        )


def _process_memory(title, value):
    """MB of a process. 23.0.rc1 titles the column (B): a count below one MiB is then no believable number of bytes."""
    if value is None or title.endswith("(MB)"):
        return value
    if title.endswith("(B)") and (value == 0 or value >= _MIB):
        return value // _MIB
    return None


def classify(rows):
    """The generation that all rows agree on: a2, a3, 310p, 910a, 950, else unknown.

    Sixteen devices are no proof of an A3 (16-card A2 boxes exist), so the name decides: 910B1 to 910B4-1 and 910B2C
    are A2; an A3 die is called Ascend910 and is known by its two chips per NPU id or its Phy-ID column.
    """
    chips = {}
    for row in rows:
        chips.setdefault(row["npu_id"], set()).add(row["chip_id"])
    kinds = set()
    for row in rows:
        name = re.sub(r"^ASCEND\s*", "", (row["name"] or "").upper())
        pair = len(chips[row["npu_id"]]) == 2
        if name.startswith("310P"):
            kinds.add("310p")
        elif name.startswith("950"):
            kinds.add("950")
        elif name.startswith("910B"):
            # A bare 910B with DDR of its own is an old 910 (Pro B): no A2 has any.
            kinds.add("910a" if name == "910B" and row["ddr_total_mb"] else "a2")
        elif name.startswith("910_93") or name.startswith("910C"):
            kinds.add("a3")
        elif name == "910" and (pair or row["phy_column"]):
            kinds.add("a3")
        elif re.match(r"^910(A|PRO|PREMIUM)", name):
            kinds.add("910a")
        else:
            kinds.add("unknown")
    return kinds.pop() if len(kinds) == 1 else "unknown"


def parse_info(text):
    """The table of C(npu-smi info).

    Returns a dict:
    understood: bool, a device row was found, or a header and no row that is not understood (an empty table is understood: no card is left).
    tool_version, driver_version: str or None, from the banner; they can differ.
    hardware: see classify.
    npus: list of {npu_id, chip_id, phy_id, name, health, bus_id, power_w (W), temperature_c, hbm_used_mb, hbm_total_mb,
    processes: [{pid, name, memory_mb}]} in the order printed, one per chip or die.
    stray_processes: processes of a chip that has no row: [{npu_id, chip_id, pid, name, memory_mb}].
    silent_npus: NPU ids about whose processes the output says nothing (neither rows nor "No running processes").
    warnings: C([WARNING]) lines.  unparsed: up to 20 lines that were not understood.
    """
    table = _Table()
    table.read(text)
    npus = [_npu(row) for row in table.rows]
    stray = _assign(npus, table.processes)
    spoken = set(table.idle) | set(process["npu_id"] for process in table.processes)
    silent = []
    for npu in npus:
        if npu["npu_id"] not in spoken and npu["npu_id"] not in silent:
            silent.append(npu["npu_id"])
    return {
        "understood": bool(npus) or (table.header_seen and not table.lost),
        "tool_version": table.tool_version,
        "driver_version": table.driver_version,
        "hardware": classify(table.rows),
        "npus": npus,
        "stray_processes": stray,
        "silent_npus": silent,
        "warnings": table.warnings,
        "unparsed": table.unparsed,
    }


def _npu(row):
    used, total = row["hbm"]
    npu = dict((key, row[key]) for key in ("npu_id", "chip_id", "phy_id", "name", "health", "bus_id", "power_w"))
    npu.update(temperature_c=row["temperature_c"], hbm_used_mb=used, hbm_total_mb=total, processes=[])
    return npu


def _assign(npus, processes):
    """Hang each process on its chip; return those that belong to none (or to one of several, it is not said which)."""
    stray = []
    for process in processes:
        owners = [
            npu for npu in npus
            if npu["npu_id"] == process["npu_id"]
            and (process["chip_id"] == npu["chip_id"] or process["chip_id"] is None or npu["chip_id"] is None)
        ]
        if len(owners) == 1:
            owners[0]["processes"].append(dict((key, process[key]) for key in ("pid", "name", "memory_mb")))
        else:
            stray.append(process)
    return stray


def parse_mapping(text):
    """The rows of C(npu-smi info -m): [{npu_id, chip_id, logic_id, phy_id, name}], phy_id None without such a column.

    Rows of the MCU (Logic ID C(-)) and of an NPU that is not available (NPU ID -1) are left out.
    """
    titles = None
    rows = []
    for line in text.splitlines():
        words = re.split(r"\t+|\s{2,}", line[:_LONGEST_LINE].strip())
        if "NPU ID" in words and "Chip ID" in words:
            titles = words
            continue
        placed = _place(titles or [], words)
        npu_id = _whole(placed.get("NPU ID", ""))
        chip_id = _whole(placed.get("Chip ID", ""))
        logic_id = _whole(placed.get("Chip Logic ID", ""))
        phy_id = _whole(placed.get("Chip Phy-ID", ""))
        if npu_id is None or npu_id < 0 or chip_id is None or (logic_id is None and phy_id is None):
            continue
        rows.append(
            {"npu_id": npu_id, "chip_id": chip_id, "logic_id": logic_id, "phy_id": phy_id, "name": placed.get("Chip Name")}
        )
    return rows


def apply_mapping(npus, mapping, hardware):
    """Fill chip_id and phy_id of npus (changed in place) from parse_mapping's rows where the table had none.

    Tools without a Chip Phy-ID column give a logic id only. On a host the two are the same number; inside a container
    that was given some of the cards of an A2 they are not, and there the NPU id tells it: then nothing is filled in.
    """
    for npu in npus:
        rows = [
            row for row in mapping
            if row["npu_id"] == npu["npu_id"] and (npu["chip_id"] is None or row["chip_id"] == npu["chip_id"])
        ]
        if len(rows) != 1:
            continue
        row = rows[0]
        if npu["chip_id"] is None:
            npu["chip_id"] = row["chip_id"]
        if npu["phy_id"] is not None:
            continue
        if row["phy_id"] is not None:
            npu["phy_id"] = row["phy_id"]
        elif hardware != "a2" or row["logic_id"] == npu["npu_id"]:
            npu["phy_id"] = row["logic_id"]


def parse_error(text, rc):
    """The error the tool reports, as {error_code: int or None, remedy: str}, or None when it reports none.

    The text decides before the exit status, for a wrapper can lose the latter. The DrvMng line with C(ret=4) that may
    come first is noise. An exit status without a known code is given as it is.
    """
    match = _ERROR.search(text)
    if match:
        code = int(match.group(1))
    elif rc:
        code = CODE_OF_EXIT.get(rc, rc)
    else:
        return None
    return {"error_code": code, "remedy": REMEDY.get(code, "")}


def parse_blocks(text):
    """The C(key : value) output of C(-t), C(-l): one dict of str per block, blocks being divided by blank lines.

    Which chip a block is about stands in its last line (C(-t usages), memory, temp, power, health), in its first
    (C(-t common)) or nowhere (C(-c 0)); a block of the MCU has C(Chip Name : MCU) in place of a Chip ID.
    """
    blocks = [{}]
    for line in text.splitlines():
        line = line[:_LONGEST_LINE].strip()
        if not line:
            if blocks[-1]:
                blocks.append({})
            continue
        key, colon, value = line.partition(":")
        if colon and key.strip():
            blocks[-1].setdefault(key.strip(), value.strip())
    return [block for block in blocks if block]


def parse_health(text):
    """C(-t health -i N -c C): {error_code: str or None, error_information: str or None}.

    error_code is a list of hexadecimal codes divided by blanks, as printed; None stands for C(NA).
    """
    found = {"error_code": None, "error_information": None}
    for block in parse_blocks(text):
        if "Error Code" in block:
            found["error_code"] = _word(block["Error Code"])
            found["error_information"] = _word(block.get("Error Information", ""))
            break
    return found


def parse_spod_info(text):
    """C(-t spod-info -i N -c C): {sdid, size, id, server_index}, each an int or None; None when the device knows no super pods.

    The id of a node that is in no super pod is 0xFFFFFFFF: it is None here, as is such a size.
    """
    merged = {}
    for block in parse_blocks(text):
        merged.update(block)
    spod = {
        "sdid": _whole(merged.get("SDID", "")),
        "size": _whole(merged.get("Super Pod Size", "")),
        "id": _whole(merged.get("Super Pod ID", "")),
        "server_index": _whole(merged.get("Server Index", "")),
    }
    if spod["id"] is None:
        return None
    return dict((key, None if value == _NO_SUPERPOD and key in ("id", "size") else value) for key, value in spod.items())
