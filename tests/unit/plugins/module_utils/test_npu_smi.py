# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parsers of npu-smi, on one hand-written table per layout."""

from __future__ import annotations

import random
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import npu_smi

# 98 columns, one chip a card: the A2 up to 25.5. One used value has five digits, one card serves, one is gone (2).
A2 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                   Version: 25.2.1                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B2               | OK            | 91.5        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3011 / 65536         |
+===========================+===============+====================================================+
| 1     910B2               | Alarm         | 212.0       78                0    / 0             |
| 0                         | 0000:01:00.0  | 97          0    / 0          61234/ 65536         |
+===========================+===============+====================================================+
| 3     910B2               | Critical      | NA          NA                0    / 0             |
| 0                         | NA            | 0           0    / 0          NA   / NA            |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
| 1       0                 | 40017         | VLLM::Worker_TP0         | 57001                   |
| 1       0                 | 40018         |                          | 210                     |
+===========================+===============+====================================================+
[WARNING]The driver package may not be completely installed, which may cause function abnormal. Please reinstall it.
"""

# Sixteen cards, one chip each: an A2 box that could be taken for an A3 by its count.
A2_SIXTEEN = "".join(
    [
        "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|\n"
        "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |\n"
    ]
    + [
        "| %-5d 910B2C              | OK            | 90.0        40                0    / 0             |\n"
        "| 0                         | 0000:%02X:00.0  | 0           0    / 0          2900 / 65536         |\n" % (n, n + 1)
        for n in range(16)
    ]
)

# 98 columns, two dies a card with Phy-ID: the A3. The second die prints no power.
A3 = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.0.rc1                 Version: 25.0.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 6     Ascend910           | OK            | 170.3       33                0    / 0             |
| 0     12                  | 0000:85:00.0  | 0           0    / 0          3333 / 65536         |
+------------------------------------------------------------------------------------------------+
| 6     Ascend910           | Warning       | -           34                0    / 0             |
| 1     13                  | 0000:87:00.0  | 3           0    / 0          50001/ 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 6       1                 | 8123          | python3                  | 47100                   |
+===========================+===============+====================================================+
"""

# 116 columns and a fifth process column: 26.0.
A3_WIDE = """\
+------------------------------------------------------------------------------------------------------------------+
| npu-smi 26.0.0                              Version: 26.0.1                                                      |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 0     Ascend910           | OK            | 150.1                31                      0    / 0                |
| 0     0                   | 0000:9D:00.0  | 1                    0    / 0                3400 / 65536            |
+------------------------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -                    30                      0    / 0                |
| 1     1                   | 0000:9F:00.0  | 2                    0    / 0                12345/ 65536            |
+===========================+===============+======================================================================+
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 0       1                 | 9901          |                    | 9000                  | NA                      |
| 0       1                 | 9902          | python             | 150                   | 77                      |
+===========================+===============+======================================================================+
"""

# 93 columns, DDR beside HBM, the process title in bytes: the 910A with 23.0.rc1.
OLD_910A = """\
+-------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc1                 Version: 23.0.rc1                                        |
+----------------------+---------------+----------------------------------------------------+
| NPU   Name           | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                 | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+======================+===============+====================================================+
| 4     910A           | Warning       | 71.4        38                0    / 0             |
| 0                    | 0000:3D:00.0  | 0           1711 / 15137      7    / 32768         |
+======================+===============+====================================================+
+----------------------+---------------+----------------------------------------------------+
| NPU     Chip         | Process id    | Process name             | Process memory(B)       |
+======================+===============+====================================================+
| 4       0            | 321           | python3                  | 104857600               |
| 4       0            | 322           | python3                  | 104                     |
+======================+===============+====================================================+
"""

# 106 columns, no HBM, logic ids in a column "Device", NPU ids that start nowhere: PCIe cards (300I Duo).
PCIE_310P = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 25.5.0                                   Version: 25.5.0                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 2944    310P3                 | OK              | NA           44                0     / 970           |
| 0       4                     | 0000:0C:00.0    | 0            1701 / 44278                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 2944    310P3                 | OK              | NA           45                0     / 970           |
| 1       5                     | 0000:0C:00.0    | 0            12345/ 43693                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| 2944    1                     | 555             | mindie                   | 11111                     |
+===============================+=================+======================================================+
"""

# The NPU id in a cell of its own, no chip row, a process table by NPU ID: the 950. The second card has no PCI address.
A5_950 = """\
+-------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc1                                 Version: 26.0.rc1                              |
+--------+------------------+---------------+-----------------------------------------------------+
| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |
|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |
+========+==================+===============+=====================================================+
| 0      | Ascend950PR      | OK            | 201.5       51                0     / 0             |
|        |                  | 0000:61:00.0  | 12          0    / 0          5000  / 131072        |
+========+==================+===============+=====================================================+
| 3      | Ascend950PR      | Alarm         | 188.0       57                0     / 0             |
|        |                  | NA            | 0           0    / 0          100001/ 131072        |
+========+==================+===============+=====================================================+
+---------------------------+---------------+-----------------------------------------------------+
| NPU ID                    | Process id    | Process name             | Process memory(MB)       |
+===========================+===============+=====================================================+
| 0                         | 1001          | python                   | 256                      |
+===========================+===============+=====================================================+
| No running processes found in NPU 3                                                             |
+===========================+===============+=====================================================+
"""

# A container with slices of one die: both rows have the same Phy-ID and the same address.
SLICED = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     Ascend910           | OK            | 157.3       32                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3130 / 65536         |
| 0     Ascend910           | OK            | -           32                0    / 0             |
| 1     0                   | 0000:9D:00.0  | 0           0    / 0          3130 / 65536         |
"""

LAYOUTS = {
    "a2": A2,
    "a2 of sixteen cards": A2_SIXTEEN,
    "a3": A3,
    "a3 wide": A3_WIDE,
    "910a": OLD_910A,
    "310p": PCIE_310P,
    "950": A5_950,
    "sliced a3": SLICED,
}


def rows(text, *keys):
    return [tuple(npu[key] for key in keys) for npu in npu_smi.parse_info(text)["npus"]]


@pytest.mark.parametrize(
    "layout, hardware",
    [
        ("a2", "a2"),
        ("a2 of sixteen cards", "a2"),
        ("a3", "a3"),
        ("a3 wide", "a3"),
        ("910a", "910a"),
        ("310p", "310p"),
        ("950", "950"),
        ("sliced a3", "a3"),
    ],
)
def test_hardware(layout, hardware):
    assert npu_smi.parse_info(LAYOUTS[layout])["hardware"] == hardware


@pytest.mark.parametrize(
    "layout, tool, driver",
    [
        ("a2", "25.2.0", "25.2.1"),
        ("a3", "25.0.rc1", "25.0.rc1"),
        ("a3 wide", "26.0.0", "26.0.1"),
        ("910a", "23.0.rc1", "23.0.rc1"),
        ("310p", "25.5.0", "25.5.0"),
        ("950", "26.0.rc1", "26.0.rc1"),
        ("sliced a3", None, None),
    ],
)
def test_banner(layout, tool, driver):
    info = npu_smi.parse_info(LAYOUTS[layout])
    assert (info["tool_version"], info["driver_version"]) == (tool, driver)


@pytest.mark.parametrize(
    "layout, ids",
    [
        ("a2", [(0, 0, None, "0000:C1:00.0"), (1, 0, None, "0000:01:00.0"), (3, 0, None, None)]),
        ("a3", [(6, 0, 12, "0000:85:00.0"), (6, 1, 13, "0000:87:00.0")]),
        ("a3 wide", [(0, 0, 0, "0000:9D:00.0"), (0, 1, 1, "0000:9F:00.0")]),
        ("910a", [(4, 0, None, "0000:3D:00.0")]),
        # The column Device is the logic id and must not be taken for the physical one.
        ("310p", [(2944, 0, None, "0000:0C:00.0"), (2944, 1, None, "0000:0C:00.0")]),
        ("950", [(0, None, None, "0000:61:00.0"), (3, None, None, None)]),
        ("sliced a3", [(0, 0, 0, "0000:9D:00.0"), (0, 1, 0, "0000:9D:00.0")]),
    ],
)
def test_ids(layout, ids):
    assert rows(LAYOUTS[layout], "npu_id", "chip_id", "phy_id", "bus_id") == ids


@pytest.mark.parametrize(
    "layout, values",
    [
        ("a2", [("OK", 91.5, 41, 3011, 65536), ("Alarm", 212.0, 78, 61234, 65536), ("Critical", None, None, None, None)]),
        ("a3", [("OK", 170.3, 33, 3333, 65536), ("Warning", None, 34, 50001, 65536)]),
        ("a3 wide", [("OK", 150.1, 31, 3400, 65536), ("OK", None, 30, 12345, 65536)]),
        # DDR (1711 of 15137) stands before HBM and must not be read as it.
        ("910a", [("Warning", 71.4, 38, 7, 32768)]),
        # The one memory of a 310P is no HBM.
        ("310p", [("OK", None, 44, None, None), ("OK", None, 45, None, None)]),
        ("950", [("OK", 201.5, 51, 5000, 131072), ("Alarm", 188.0, 57, 100001, 131072)]),
    ],
)
def test_values(layout, values):
    assert rows(LAYOUTS[layout], "health", "power_w", "temperature_c", "hbm_used_mb", "hbm_total_mb") == values


def process(pid, name, memory_mb):
    return {"pid": pid, "name": name, "memory_mb": memory_mb}


@pytest.mark.parametrize(
    "layout, processes",
    [
        ("a2", [[], [process(40017, "VLLM::Worker_TP0", 57001), process(40018, "", 210)], []]),
        ("a3", [[], [process(8123, "python3", 47100)]]),
        ("a3 wide", [[], [process(9901, "", 9000), process(9902, "python", 150)]]),
        # 104857600 bytes are 100 MB; 104 "bytes" are no believable memory of a process.
        ("910a", [[process(321, "python3", 100), process(322, "python3", None)]]),
        ("310p", [[], [process(555, "mindie", 11111)]]),
        ("950", [[process(1001, "python", 256)], []]),
    ],
)
def test_processes(layout, processes):
    assert [npu["processes"] for npu in npu_smi.parse_info(LAYOUTS[layout])["npus"]] == processes


def test_npus_about_whose_processes_nothing_is_said_are_named():
    assert npu_smi.parse_info(A2)["silent_npus"] == [3]
    assert npu_smi.parse_info(A5_950)["silent_npus"] == []
    assert npu_smi.parse_info(SLICED)["silent_npus"] == [0]


def test_a_process_of_an_npu_without_a_row_is_not_lost():
    text = A3.replace("| 6       1 ", "| 7       0 ")
    info = npu_smi.parse_info(text)
    assert [npu["processes"] for npu in info["npus"]] == [[], []]
    assert info["stray_processes"] == [{"npu_id": 7, "chip_id": 0, "pid": 8123, "name": "python3", "memory_mb": 47100}]


def test_exactly_the_keys_promised():
    keys = "npu_id chip_id phy_id name health bus_id power_w temperature_c hbm_used_mb hbm_total_mb processes"
    for text in LAYOUTS.values():
        for npu in npu_smi.parse_info(text)["npus"]:
            assert sorted(npu) == sorted(keys.split())


def test_warning_line_after_the_table():
    info = npu_smi.parse_info(A2)
    assert len(info["warnings"]) == 1 and "may not be completely installed" in info["warnings"][0]
    assert info["unparsed"] == []


def test_noise_before_the_table_is_kept_as_unparsed():
    info = npu_smi.parse_info("DrvMngGetConsoleLogLevel failed. (ret=4)\n" + A3)
    assert len(info["npus"]) == 2
    assert info["unparsed"] == ["DrvMngGetConsoleLogLevel failed. (ret=4)"]


def test_windows_line_ends_and_lost_indentation_do_not_matter():
    plain = npu_smi.parse_info(A3)
    assert npu_smi.parse_info(A3.replace("\n", "\r\n")) == plain
    assert npu_smi.parse_info("\n".join("    " + line for line in A3.splitlines())) == plain


def test_a_table_without_cards_is_understood():
    info = npu_smi.parse_info("\n".join(A2.splitlines()[:6]))
    assert info["understood"] and info["npus"] == [] and info["hardware"] == "unknown"


@pytest.mark.parametrize("text", ["", "\n", "garbage", "[WARNING]The driver package", "|", "||||", "| | | |", "\x00\ufffd|\ufffd"])
def test_no_table_is_not_understood(text):
    info = npu_smi.parse_info(text)
    assert not info["understood"] and info["npus"] == [] and info["hardware"] == "unknown"


def test_rows_without_a_header():
    """What a pasted excerpt looks like: two usages are DDR and HBM, one usage may be either and is nothing."""
    with_hbm = "\n".join(line for line in A3.splitlines() if "Ascend910" in line or ":00.0" in line)
    assert rows(with_hbm, "phy_id", "power_w", "hbm_used_mb") == [(12, 170.3, 3333), (13, None, 50001)]
    without = "\n".join(line for line in PCIE_310P.splitlines() if "310P3" in line or ":00.0" in line)
    assert rows(without, "chip_id", "phy_id", "hbm_used_mb") == [(0, None, None), (1, None, None)]


def test_a_second_line_without_its_first_is_nobodys():
    """The tool leaves the first line out when a chip's health cannot be read."""
    lines = A3.splitlines()
    del lines[9]
    info = npu_smi.parse_info("\n".join(lines))
    assert [npu["phy_id"] for npu in info["npus"]] == [12]
    assert len(info["unparsed"]) == 1 and "0000:87:00.0" in info["unparsed"][0]
    assert info["stray_processes"] != [], "the process of the chip that lost its row"


def test_a_first_line_without_its_second_is_kept_with_nulls():
    lines = A3.splitlines()
    del lines[7]
    npus = npu_smi.parse_info("\n".join(lines))["npus"]
    assert [(npu["npu_id"], npu["chip_id"], npu["hbm_total_mb"], npu["health"]) for npu in npus] == [
        (6, None, None, "OK"),
        (6, 1, 65536, "Warning"),
    ]


def test_a_missing_value_never_shifts_its_neighbours():
    text = A2.replace("91.5        41   ", "            41   ")
    npu = npu_smi.parse_info(text)["npus"][0]
    assert (npu["power_w"], npu["temperature_c"]) == (None, None)
    assert (npu["hbm_used_mb"], npu["hbm_total_mb"]) == (3011, 65536)


@pytest.mark.parametrize(
    "name, chips, phy_column, ddr, hardware",
    [
        ("910B1", 1, False, 0, "a2"),
        ("910B2C", 1, False, 0, "a2"),
        ("910B4-1", 1, False, 0, "a2"),
        ("Ascend910B3", 1, False, 0, "a2"),
        ("910B", 1, False, 0, "a2"),
        ("910B", 1, False, 15137, "910a"),
        ("Ascend910", 2, True, 0, "a3"),
        ("Ascend910", 1, True, 0, "a3"),
        ("Ascend910", 2, False, 0, "a3"),
        ("Ascend910", 1, False, 0, "unknown"),
        ("Ascend910_9392", 2, True, 0, "a3"),
        ("910A", 1, False, 15137, "910a"),
        ("910ProA", 1, False, 15137, "910a"),
        ("310P3", 2, False, None, "310p"),
        ("310", 4, False, None, "unknown"),
        ("310B4", 1, False, None, "unknown"),
        ("Ascend950DT", 1, False, 0, "950"),
        ("xxx", 2, True, 0, "unknown"),
        (None, 1, False, None, "unknown"),
    ],
)
def test_classify(name, chips, phy_column, ddr, hardware):
    table = [
        {"npu_id": 0, "chip_id": chip, "name": name, "phy_column": phy_column, "ddr_total_mb": ddr} for chip in range(chips)
    ]
    assert npu_smi.classify(table) == hardware


def test_mixed_generations_are_unknown():
    text = A2 + A3
    assert npu_smi.parse_info(text.replace("910B2 ", "310P3 ", 1))["hardware"] == "unknown"


MAP_A2 = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t0                              0                              0                              Ascend 910B2
\t0                              1                              -                              Mcu
\t1                              0                              1                              Ascend 910B2
\t-1                             0                              2                              Ascend 910B2
"""
MAP_A3 = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Phy-ID                    Chip Name
\t6                              0                              0                              12                             Ascend910
\t6                              1                              1                              13                             Ascend910
\t6                              2                              -                              -                              Mcu
"""
MAP_950 = """\
\tNPU ID                         Slot ID                        Chip ID                        Chip Phy-ID                    Chip Name
\t0                              5                              0                              0                              Ascend950PR
\t3                              8                              0                              3                              Ascend950PR
"""


@pytest.mark.parametrize(
    "text, mapped",
    [
        (MAP_A2, [(0, 0, 0, None, "Ascend 910B2"), (1, 0, 1, None, "Ascend 910B2")]),
        (MAP_A3, [(6, 0, 0, 12, "Ascend910"), (6, 1, 1, 13, "Ascend910")]),
        (MAP_950, [(0, 0, None, 0, "Ascend950PR"), (3, 0, None, 3, "Ascend950PR")]),
        ("There is no NPU card on this server.\n", []),
        ("", []),
    ],
)
def test_mapping(text, mapped):
    keys = ("npu_id", "chip_id", "logic_id", "phy_id", "name")
    assert [tuple(row[key] for key in keys) for row in npu_smi.parse_mapping(text)] == mapped


def phy_ids(table, mapping, hardware):
    npus = npu_smi.parse_info(table)["npus"]
    npu_smi.apply_mapping(npus, npu_smi.parse_mapping(mapping), hardware)
    return [(npu["chip_id"], npu["phy_id"]) for npu in npus]


def test_mapping_fills_what_the_table_left_open():
    assert phy_ids(A2, MAP_A2, "a2") == [(0, 0), (0, 1), (0, None)]
    assert phy_ids(A5_950, MAP_950, "950") == [(0, 0), (0, 3)]
    assert phy_ids(A3, "", "a3") == [(0, 12), (1, 13)]


def test_a_logic_id_that_disagrees_with_the_npu_id_of_an_a2_is_not_its_physical_id():
    """Cards 4 and 5 in a container: logic ids start at 0 there, /dev/davinci4 keeps its number."""
    table = A2_SIXTEEN.replace("| 0     910B2C ", "| 4     910B2C ", 1).splitlines()[:4]
    mapping = MAP_A2.splitlines()[0] + "\n\t4      0      0      Ascend 910B2C\n"
    assert phy_ids("\n".join(table), mapping, "a2") == [(0, None)]


@pytest.mark.parametrize(
    "text, rc, code",
    [
        ("DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005\n", 187, -8005),
        ("DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005\n", 187, -8005),
        ("dcmi module initialize failed. ret is -8005\n", 0, -8005),
        ("dcmi model initialized failed, because the device is used. ret is -8020\n", 172, -8020),
        ("npu get board type failed. ret is -9005\n", 211, -9005),
        ("Failed to execute npu-smi info. ret is -9001.\n", 215, -9001),
        ("Error parameter of -t\n", 215, -9001),
        ("This device does not support querying topo.\n", 217, -9255),
        ("", 187, -8005),
        ("something new\n", 5, 5),
    ],
)
def test_error(text, rc, code):
    error = npu_smi.parse_error(text, rc)
    assert error["error_code"] == code
    assert (error["remedy"] != "") == (code < 0)


@pytest.mark.parametrize("text", [A2, A3_WIDE, "", "DrvMngGetConsoleLogLevel failed. (ret=4)\n" + A2])
def test_no_error(text):
    assert npu_smi.parse_error(text, 0) is None


def test_blocks():
    usages = "\tNPU ID   : 0\n\tChip Count : 2\n\n\tHBM Capacity(MB) : 65536\n\tChip ID : 0\n\n\tHBM Capacity(MB) : 65000\n\tChip ID : 1\n\n"
    assert npu_smi.parse_blocks(usages) == [
        {"NPU ID": "0", "Chip Count": "2"},
        {"HBM Capacity(MB)": "65536", "Chip ID": "0"},
        {"HBM Capacity(MB)": "65000", "Chip ID": "1"},
    ]


@pytest.mark.parametrize(
    "text, code, information",
    [
        ("\tHealth Status : OK\n\tError Code : NA\n\tError Information : NA\n", None, None),
        ("\tHealth Status : Alarm\n\tError Code : 80E01801 80CB8009\n\tError Information : node: x\n", "80E01801 80CB8009", "node: x"),
        ("This device is busy", None, None),
    ],
)
def test_health(text, code, information):
    assert npu_smi.parse_health(text) == {"error_code": code, "error_information": information}


def test_spod_info():
    text = "\tSDID                           : 169148427\n\tSuper Pod Size : 384\n\tSuper Pod ID : 2\n\tServer Index : 40\n"
    assert npu_smi.parse_spod_info(text) == {"sdid": 169148427, "size": 384, "id": 2, "server_index": 40}
    assert npu_smi.parse_spod_info("This device does not support querying spod-info.\n") is None
    outside = "\tSDID : 4290773003\n\tSuper Pod Size : 4294967295\n\tSuper Pod ID : 4294967295\n\tServer Index : 1023\n"
    assert npu_smi.parse_spod_info(outside) == {"sdid": 4290773003, "size": None, "id": None, "server_index": 1023}


@pytest.mark.parametrize("text", [A2_SIXTEEN, A3], ids=["A2", "A3"])
def test_a_row_that_is_cut_off_says_nothing(text):
    """Whatever the last number is cut to, it is another one."""
    whole = npu_smi.parse_info(text)["npus"]
    totals, pids = {npu["hbm_total_mb"] for npu in whole}, {process["pid"] for npu in whole for process in npu["processes"]}
    assert totals == {65536}
    for end in range(len(text)):
        npus = npu_smi.parse_info(text[:end])["npus"]
        assert {npu["hbm_total_mb"] for npu in npus} <= totals | {None}, text[:end]
        assert {process["pid"] for npu in npus for process in npu["processes"]} <= pids, text[:end]


CARD_310 = """\
+------------------------------------------------------------------------------+
| npu-smi 21.0.3.1                     Version: 21.0.3.1                       |
+-------------------+-----------------+----------------------------------------+
| NPU     Name      | Health          | Power(W)          Temp(C)              |
| Chip    Device    | Bus-Id          | AICore(%)         Memory-Usage(MB)     |
+===================+=================+========================================+
| 0       310       | OK              | 12.8              58                   |
| 0       0         | NA              | 0                 5324 / 8192          |
+===================+=================+========================================+
"""


def test_a_name_of_digits_alone():
    """MindX SDK's documents: an Ascend 310."""
    info = npu_smi.parse_info(CARD_310)
    assert [(npu["npu_id"], npu["chip_id"], npu["name"], npu["health"]) for npu in info["npus"]] == [(0, 0, "310", "OK")]
    assert (info["hardware"], info["unparsed"]) == ("unknown", [])


def test_a_header_with_rows_that_are_not_understood_is_not_understood():
    info = npu_smi.parse_info(CARD_310.replace("| 0       310 ", "| zero    310 "))
    assert info["npus"] == [] and not info["understood"] and len(info["unparsed"]) == 2


@pytest.mark.parametrize("text, value", [("12", 12), ("-5", -5), ("12.5", 12.5), ("NA", None), ("-", None), ("", None), ("1e5", None), ("0x10", None)])
def test_number(text, value):
    assert npu_smi.number(text) == value


def check_shape(info):
    """What must hold for any text at all."""
    for npu in info["npus"]:
        assert isinstance(npu["npu_id"], int)
        for key in ("chip_id", "phy_id", "temperature_c", "hbm_used_mb", "hbm_total_mb"):
            assert npu[key] is None or isinstance(npu[key], (int, float))
        assert all(isinstance(entry["pid"], int) for entry in npu["processes"])
    assert info["hardware"] in ("a2", "a3", "310p", "910a", "950", "unknown")
    assert len(info["unparsed"]) <= 20


def test_damaged_tables_never_raise():
    """Every table cut at every line, and with bytes changed, dropped and doubled at random places (fixed seed)."""
    chance = random.Random(20)
    for text in list(LAYOUTS.values()) + [MAP_A2, MAP_A3]:
        lines = text.splitlines(True)
        damaged = ["".join(lines[:count]) for count in range(len(lines))]
        for dummy in range(150):
            characters = list(text)
            for dummy2 in range(chance.randint(1, 12)):
                at = chance.randrange(len(characters))
                characters[at:at + 1] = chance.choice(["", "|", " ", "-", "9" * 30, "\n", "/", "\ufffd", "NA"])
            damaged.append("".join(characters))
        for piece in damaged:
            check_shape(npu_smi.parse_info(piece))
            npu_smi.parse_mapping(piece)
            npu_smi.parse_blocks(piece)
            npu_smi.parse_health(piece)
            npu_smi.parse_spod_info(piece)
            npu_smi.parse_error(piece, 1)


def test_megabytes_of_rubbish_are_read_in_linear_time():
    # Processor time: others may have the processors.
    started = time.process_time()
    for piece in ("x" * 1000000, "9" * 1000000, "| " * 400000, ("|" + " 9 /" * 200 + "\n") * 1200, "\n" * 1000000, " " * 1000000):
        check_shape(npu_smi.parse_info(piece))
        npu_smi.parse_mapping(piece)
        npu_smi.parse_blocks(piece)
        npu_smi.parse_error(piece, 0)
    assert time.process_time() - started < 30
