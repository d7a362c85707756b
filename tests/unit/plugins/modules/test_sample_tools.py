# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""npu_info with a tool that prints a real output, where a folder of them is at hand (ASCEND_VLLM_SAMPLES names it).

The tool answers C(npu-smi info) alone and fails for everything else: that must be enough.
"""

from __future__ import annotations

import os
import sys

import pytest

from ansible_collections.ascend.vllm.plugins.modules import npu_info

FOLDER = os.environ.get("ASCEND_VLLM_SAMPLES") or os.path.normpath(
    os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "..", "..", "shared", "samples")
)

# Output -> (number of chips, hardware, driver, sum of HBM in use, processes).
TABLES = {
    "npu-smi-info-300IDuo-310P3": (8, "310p", "24.1.0.1", None, 0),
    "npu-smi-info-910A-23.0.rc1-all-Warning": (4, "910a", "23.0.rc1.b070", 3 + 3 + 30750, 0),
    "npu-smi-info-950PR-25.7.rc1-EXCERPT": (1, "950", "25.7.rc1.6", 5239, 0),
    "npu-smi-info-A2-910B1-23.0.rc2-elided": (3, "a2", "23.0.rc2", 4175 + 4175 + 4174, 0),
    "npu-smi-info-A2-910B3-25.5.1-two-rows": (2, "a2", "25.5.1", 3445 + 60156, 1),
    "npu-smi-info-A2-910B4-8card-24.1.rc3-busy": (8, "a2", "24.1.rc3", 117364, 4),
    "npu-smi-info-A3-16die-busy": (16, "a3", "24.1.rc3.3", 446044, 8),
    "npu-smi-info-A3-26.0.rc2-wide-head": (2, "a3", "26.0.rc2", 3419 + 2874, 0),
    "npu-smi-info-A3-die-Warning-rows": (4, "a3", None, 3101 + 2887 + 3101 + 2887, 0),
    "npu-smi-info-doc-24.1.rc1": (1, "unknown", "24.1.rc1", 0, 0),
}
ERRORS = {"npu-smi-err-8005-a": (187, -8005), "npu-smi-err-8005-b": (187, -8005), "npu-smi-err-8020": (172, -8020)}


def text_of(name):
    with open(os.path.join(FOLDER, name + ".txt"), "rb") as handle:
        return handle.read()


@pytest.mark.parametrize("name", sorted(TABLES) + sorted(ERRORS) if os.path.isdir(FOLDER) else [None])
def test_a_tool_that_prints_a_sample(name, run_module, fake_tool, capsys):
    if name is None:
        with capsys.disabled():
            # To stderr, which reaches the terminal from a pytest-xdist worker too, and on a line of its own.
            sys.stderr.write("\nNOT RUN: modules on real outputs (samples folder absent: %s)\n" % FOLDER)
        return
    if name in ERRORS:
        rc, code = ERRORS[name]
        for status in (rc, 0):
            result = run_module(npu_info, npu_smi_path=str(fake_tool({"info": (text_of(name), status)})))
            assert result["failed"] and result["error_code"] == code and "ret is %d" % code in result["msg"]
        return
    chips, hardware, driver, used, processes = TABLES[name]
    result = run_module(npu_info, npu_smi_path=str(fake_tool({"info": (text_of(name), 0)})))
    assert not result["failed"]
    assert (len(result["npus"]), result["hardware"], result["driver_version"]) == (chips, hardware, driver)
    known = [npu["hbm_used_mb"] for npu in result["npus"] if npu["hbm_used_mb"] is not None]
    assert (sum(known) if known else None) == used
    assert sum(len(npu["processes"]) for npu in result["npus"]) == processes
