# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""npu_info against fake tools: real processes with the answers, errors and misbehaviour of the real one."""

from __future__ import annotations

import sys
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_npu
from ansible_collections.ascend.vllm.plugins.modules import npu_info
from ansible_collections.ascend.vllm.tests.unit.plugins import limits

HEADER = """\
| npu-smi 25.2.0                   Version: 25.2.1                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip%s              | Bus-Id        | AICore(%%)   Memory-Usage(MB)  HBM-Usage(MB)        |
"""
A2 = HEADER % "        " + """\
| 0     910B2               | OK            | 91.5        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3011 / 65536         |
| 1     910B2               | Alarm         | 212.0       78                0    / 0             |
| 0                         | 0000:01:00.0  | 97          0    / 0          61234/ 65536         |
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
| No running processes found in NPU 0                                                            |
| 1       0                 | 40017         | python3                  | 57001                   |
"""
A3 = HEADER % "  Phy-ID" + """\
| 6     Ascend910           | OK            | 170.3       33                0    / 0             |
| 0     12                  | 0000:85:00.0  | 0           0    / 0          3333 / 65536         |
| 6     Ascend910           | OK            | -           34                0    / 0             |
| 1     13                  | 0000:87:00.0  | 3           0    / 0          3334 / 65536         |
"""
MAP = "\tNPU ID    Chip ID    Chip Logic ID    Chip Name\n\t0    0    0    Ascend 910B2\n\t0    1    -    Mcu\n\t1    0    1    Ascend 910B2\n"
HEALTH = "\tHealth Status : Alarm\n\tError Code : 80E01801\n\tError Information : node type=SOC\n"
SPOD = "\tSDID : 169148427\n\tSuper Pod Size : 384\n\tSuper Pod ID : 2\n\tServer Index : 40\n"
E8005 = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005\n"
E8020 = "dcmi model initialized failed, because the device is used. ret is -8020\n"


@pytest.fixture
def files(tmp_path):
    """The driver's files under a home of their own, as options."""
    for part, text in (("driver", "Version=25.3.rc1\n"), ("firmware", "Version=7.8.0.6.201\n")):
        (tmp_path / "Ascend" / part).mkdir(parents=True)
        (tmp_path / "Ascend" / part / "version.info").write_text(text)
    info = tmp_path / "ascend_install.info"
    info.write_text("Driver_Install_Path_Param=%s\n" % (tmp_path / "Ascend"))
    return {"install_info_file": str(info)}


@pytest.fixture
def run(run_module, files):
    def go(tool, **parameters):
        return run_module(npu_info, npu_smi_path=str(tool), **dict(files, **parameters))

    return go


def test_npu_smi_info_alone_is_enough(run, fake_tool, calls):
    tool = fake_tool({"info": (A2, 0)})
    result = run(tool)
    assert not result["failed"] and result["changed"] is False
    assert result["npus"] == [
        {
            "npu_id": 0, "chip_id": 0, "phy_id": None, "name": "910B2", "health": "OK", "bus_id": "0000:C1:00.0", "power_w": 91.5,
            "temperature_c": 41, "hbm_used_mb": 3011, "hbm_total_mb": 65536, "processes": [],
        },
        {
            "npu_id": 1, "chip_id": 0, "phy_id": None, "name": "910B2", "health": "Alarm", "bus_id": "0000:01:00.0", "power_w": 212.0,
            "temperature_c": 78, "hbm_used_mb": 61234, "hbm_total_mb": 65536,
            "processes": [{"pid": 40017, "name": "python3", "memory_mb": 57001}],
        },
    ]
    assert (result["hardware"], result["driver_version"], result["tool_version"]) == ("a2", "25.2.1", "25.2.0")
    assert (result["driver_package_version"], result["firmware_version"]) == ("25.3.rc1", "7.8.0.6.201")
    assert result["file_errors"] == [] and result["install_info"]["type"] == "file"
    assert result["health_details"] == [{"npu_id": 1, "chip_id": 0, "error_code": None, "error_information": None}]
    assert result["superpod"] is None and result["npu_smi"] == str(tool)
    assert calls(tool)[0] == "info"


def test_what_the_table_leaves_open_is_asked(run, fake_tool, calls):
    tool = fake_tool({"info": (A2, 0), "info -m": (MAP, 0), "info -t health -i 1 -c 0": (HEALTH, 0)})
    result = run(tool)
    assert [npu["phy_id"] for npu in result["npus"]] == [0, 1]
    assert result["health_details"] == [{"npu_id": 1, "chip_id": 0, "error_code": "80E01801", "error_information": "node type=SOC"}]
    assert calls(tool) == ["info", "info -m", "info -t health -i 1 -c 0"]


def test_details_can_be_left_out(run, fake_tool, calls):
    tool = fake_tool({"info": (A2, 0)})
    assert run(tool, details=False)["health_details"] == []
    assert calls(tool) == ["info"]


def test_a3_needs_no_mapping_and_tells_its_super_pod(run, fake_tool, calls):
    tool = fake_tool({"info": (A3, 0), "info -t spod-info -i 6 -c 0": (SPOD, 0)})
    result = run(tool)
    assert [(npu["npu_id"], npu["chip_id"], npu["phy_id"], npu["power_w"]) for npu in result["npus"]] == [(6, 0, 12, 170.3), (6, 1, 13, None)]
    assert result["hardware"] == "a3"
    assert result["superpod"] == {"sdid": 169148427, "size": 384, "id": 2, "server_index": 40}
    assert calls(tool) == ["info", "info -t spod-info -i 6 -c 0"]
    assert run(fake_tool({"info": (A3, 0)}))["superpod"] is None


@pytest.mark.parametrize(
    "text, rc, code, advice",
    [
        (E8005, 187, -8005, "driver"),
        (E8005, 0, -8005, "driver"),
        (E8020, 172, -8020, "docker ps"),
        ("npu get board type failed. ret is -9005\n", 211, -9005, "dmesg"),
        ("Unheard of\n", 3, 3, "Unheard of"),
        ("", 187, -8005, "driver"),
    ],
)
def test_an_error_of_the_tool_fails_with_its_code_and_text(run, fake_tool, text, rc, code, advice):
    result = run(fake_tool({"info": (text, rc)}))
    assert result["failed"] and result["error_code"] == code and result["rc"] == rc
    assert advice in result["msg"] and result["stdout"] == text and result["timed_out"] is False
    for line in text.splitlines():
        assert line in result["msg"]
    assert result["driver_package_version"] == "25.3.rc1", "what the files say is known all the same"


def test_an_error_behind_a_table_fails_too_and_gives_no_half_table(run, fake_tool):
    """A play may go on in spite of a failed task: what it finds then must not look like an answer."""
    result = run(fake_tool({"info": (A2 + "Failed to execute npu-smi info. ret is -9005.\n", 211)}))
    assert result["failed"] and result["error_code"] == -9005 and "npus" not in result and "hardware" not in result


@pytest.mark.parametrize("text", ["", "There is no NPU card on this server.\n", "hello\n", "[WARNING]The driver package may not be complete\n"])
def test_output_without_a_table_is_a_failure_with_the_text(run, fake_tool, text):
    result = run(fake_tool({"info": (text, 0)}))
    assert result["failed"] and result["error_code"] is None and "no table" in result["msg"]
    assert (text.strip() or "nothing") in result["msg"]


def test_an_empty_table_is_an_answer(run, fake_tool):
    result = run(fake_tool({"info": (HEADER % "        ", 0)}))
    assert not result["failed"] and result["npus"] == [] and result["hardware"] == "unknown"


def test_the_warning_after_the_table_is_passed_on(run, fake_tool, monkeypatch):
    line = "[WARNING]The driver package may not be completely installed, which may cause function abnormal."
    said = []
    monkeypatch.setattr(npu_info.AnsibleModule, "warn", lambda self, warning, *more: said.append(warning))
    result = run(fake_tool({"info": (A2 + line + "\n", 0)}))
    assert not result["failed"] and result["tool_warnings"] == [line]
    assert said == ["npu-smi: " + line]


def test_a_hanging_tool_is_reported_as_such(run, fake_tool):
    started = time.monotonic()
    result = run(fake_tool({}, before="sleep 30"), timeout=0.5)
    assert time.monotonic() - started < 10
    assert result["failed"] and result["timed_out"] is True and "timed out after 0.5 s" in result["msg"]
    assert result["error_code"] is None


def test_details_that_hang_cost_one_timeout_and_fail_nothing(run, fake_tool, calls, monkeypatch):
    limits.of_tools(monkeypatch, lambda arguments: arguments != ["info"])
    started = time.monotonic()
    tool = fake_tool({"info": (A2, 0)}, before='[ "$*" = info ] || sleep 30')
    result = run(tool, timeout=20)
    assert time.monotonic() - started < 5 and calls(tool) == ["info", "info -m"]
    assert not result["failed"] and [npu["phy_id"] for npu in result["npus"]] == [None, None]


def test_megabytes_and_bytes_that_are_no_text(run, fake_tool):
    flood = "%s -c 'import sys; sys.stdout.buffer.write(b\"\\xff\\xfe\\x00\" * 3000000)'" % sys.executable
    result = run(fake_tool({"info": (A2, 0)}, before=flood))
    assert result["failed"] and result["timed_out"] is False and len(result["stdout"]) <= 20000
    result = run(fake_tool({"info": (A2.encode("utf-8") + b"\xff\xfe" * 2000000, 0)}))
    assert not result["failed"] and len(result["npus"]) == 2
    assert any("cut at" in warning for warning in result["tool_warnings"])


def test_bytes_that_are_no_text_inside_the_table(run, fake_tool):
    result = run(fake_tool({"info": (A2.encode("utf-8").replace(b"python3", b"pyt\xffn3\xfe"), 0)}))
    assert result["npus"][1]["processes"] == [{"pid": 40017, "name": "pyt\ufffdn3\ufffd", "memory_mb": 57001}]


def test_a_missing_tool_names_the_places(run_module, files, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ask_npu.tools, "SEARCH_DIRS", (str(tmp_path / "nowhere"),))
    result = run_module(npu_info, **files)
    assert result["failed"] and result["searched"] == [
        str(tmp_path / "npu-smi"),
        str(tmp_path / "nowhere" / "npu-smi"),
        str(tmp_path / "Ascend" / "driver" / "tools" / "npu-smi"),
    ]
    for place in result["searched"]:
        assert place in result["msg"]
    assert "npu_smi_path" in result["msg"] and result["error_code"] is None


def test_a_tool_in_the_folder_the_install_info_names_is_found(run_module, files, fake_tool, tmp_path, monkeypatch):
    tool = fake_tool({"info": (A2, 0)}, name="npu-smi")
    (tmp_path / "Ascend" / "driver" / "tools").mkdir()
    (tmp_path / "Ascend" / "driver" / "tools" / "npu-smi").symlink_to(tool)
    monkeypatch.setattr(ask_npu.tools, "SEARCH_DIRS", ())
    result = run_module(npu_info, **files)
    assert not result["failed"] and result["npu_smi"] == str(tmp_path / "Ascend" / "driver" / "tools" / "npu-smi")


@pytest.mark.parametrize(
    "kind, words",
    [("missing", "was not found"), ("directory", "is a directory"), ("mode", "is not executable"), ("rubbish", "could not be run")],
)
def test_a_stated_tool_that_cannot_be_run(run, tmp_path, kind, words):
    place = tmp_path / "npu-smi"
    if kind == "directory":
        place.mkdir()
    elif kind == "mode":
        place.write_text("#!/bin/sh\n")
        place.chmod(0o644)
    elif kind == "rubbish":
        place.write_bytes(b"\x7fELF\x01\x02")
        place.chmod(0o755)
    result = run(place)
    assert result["failed"] and words in result["msg"] and str(place) in result["msg"]


def test_a_missing_library_is_explained(run, fake_tool):
    text = "npu-smi: error while loading shared libraries: libdcmi.so: cannot open shared object file: No such file or directory\n"
    result = run(fake_tool({"info": ("", 127, text)}))
    assert result["failed"] and "lib64" in result["msg"] and "libdcmi.so" in result["msg"]


def test_the_tool_sees_the_driver_libraries(run, fake_tool, tmp_path):
    tool = fake_tool({"info": (A2, 0)}, before='echo "$LD_LIBRARY_PATH" > "%s/seen"' % tmp_path)
    run(tool)
    lib64 = str(tmp_path / "Ascend" / "driver" / "lib64")
    assert (tmp_path / "seen").read_text().strip().startswith("%s:%s/common:%s/driver" % (lib64, lib64, lib64))


def test_stated_version_files_and_files_that_are_none(run, fake_tool, tmp_path):
    (tmp_path / "own.info").write_text("Version=1.2.3\n")
    (tmp_path / "folder.info").mkdir()
    result = run(fake_tool({"info": (A2, 0)}), driver_version_file=str(tmp_path / "own.info"), firmware_version_file=str(tmp_path / "folder.info"))
    assert result["driver_package_version"] == "1.2.3" and result["firmware_version"] is None
    assert len(result["file_errors"]) == 1 and "not a file but a directory" in result["file_errors"][0]
    folder = run(fake_tool({"info": (A2, 0)}), install_info_file=str(tmp_path / "folder.info"))
    assert not folder["failed"] and folder["install_info"]["type"] == "directory"
    assert folder["install_info"]["errors"] == ["not a file but a directory"]


def test_check_mode_reads_all_the_same(run, fake_tool):
    tool = fake_tool({"info": (A2, 0), "info -m": (MAP, 0)})
    assert run(tool, check=True) == run(tool)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_is_none(run, fake_tool, timeout):
    result = run(fake_tool({"info": (A2, 0)}), timeout=timeout)
    assert result["failed"] and "timeout" in result["msg"]
