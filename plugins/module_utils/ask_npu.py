# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to npu-smi and the files of driver and firmware."""

from __future__ import annotations

import os

from . import driver_files, npu_smi, tools


def read_files(install_info_file, driver_version_file, firmware_version_file):
    """Return (what the files of driver and firmware say, the part of the answer that needs no tool; the folder of the driver)."""
    install_info = driver_files.read_install_info(install_info_file)
    home = driver_files.install_home(install_info)
    driver_file = driver_version_file or os.path.join(home, "driver", "version.info")
    firmware_file = firmware_version_file or os.path.join(home, "firmware", "version.info")
    driver, driver_error = driver_files.read_version(driver_file)
    firmware, firmware_error = driver_files.read_version(firmware_file)
    result = {
        "driver_package_version": driver,
        "firmware_version": firmware,
        "compatible_firmware": driver_files.compatible_firmware(driver_file),
        "install_info": install_info,
        "file_errors": [error for error in (driver_error, firmware_error) if error],
    }
    return result, os.path.join(home, "driver")


def tool_failure(run, info):
    """Return why this run of C(npu-smi info) is a failure, as words of the answer, or None when it is none."""
    answer = run.failure()
    if answer:
        remedy = "A hanging tool is a hanging driver: look at dmesg." if run.timed_out else tools.hint(answer)
        return {"msg": ("%s. %s" % (answer, remedy)).strip(), "error_code": None}
    error = npu_smi.parse_error(run.text, run.rc)
    if error:
        remedy = error["remedy"] or tools.hint(run.text)
        message = "%s reported an error (exit %s): %s. %s" % (run.command, run.rc, tools.clip(run.text) or "no text", remedy)
        return {"msg": message.strip(), "error_code": error["error_code"]}
    if not info["understood"]:
        printed = tools.clip(run.text) or "nothing"
        message = "%s printed no table that is understood, but: %s. Run it by hand on this node." % (run.command, printed)
        return {"msg": message, "error_code": None}
    return None


def ask_details(ask, info):
    """Return the answers to what the table leaves open; every one of them may go unanswered."""
    health_details, superpod = [], None
    if any(npu["phy_id"] is None for npu in info["npus"]):
        npu_smi.apply_mapping(info["npus"], npu_smi.parse_mapping(ask("-m")), info["hardware"])
    for npu in info["npus"]:
        if npu["health"] != "OK" and npu["chip_id"] is not None:
            text = ask("-t", "health", "-i", str(npu["npu_id"]), "-c", str(npu["chip_id"]))
            detail = npu_smi.parse_health(text)
            detail.update(npu_id=npu["npu_id"], chip_id=npu["chip_id"])
            health_details.append(detail)
    if info["hardware"] == "a3":
        first = info["npus"][0]
        superpod = npu_smi.parse_spod_info(ask("-t", "spod-info", "-i", str(first["npu_id"]), "-c", str(first["chip_id"] or 0)))
    return {"health_details": health_details, "superpod": superpod}


def make_asker(tool, timeout, environment):
    """Return a function that gives the text of one C(npu-smi info ...) or ''; after a timeout it asks no more."""
    state = {"hung": False}

    def ask(*arguments):
        if state["hung"]:
            return ""
        run = tools.run_tool([tool, "info"] + list(arguments), timeout, environment)
        state["hung"] = run.timed_out
        return run.out if run.rc == 0 else ""

    return ask


def answer(npu_smi_path=None, timeout=30.0, details=True, install_info_file="/etc/ascend_install.info", driver_version_file=None,
           firmware_version_file=None):
    """Return what npu_info returns; raise C(tools.NoAnswer) with what is known all the same where the tool gives no table."""
    result, driver_home = read_files(install_info_file, driver_version_file, firmware_version_file)
    found = tools.find_tool("npu-smi", npu_smi_path, driver_home)
    if not found["path"]:
        message = tools.not_found_message("npu-smi", found, "npu_smi_path")
        raise tools.NoAnswer(message, dict(result, searched=found["searched"], error_code=None, timed_out=False))
    environment = tools.tool_environment(driver_home)
    run = tools.run_tool([found["path"], "info"], timeout, environment)
    info = npu_smi.parse_info(run.out)
    if run.truncated:
        info["warnings"].append("the output was cut at %d bytes" % tools.MAX_OUTPUT_BYTES)
    failure = tool_failure(run, info)
    result["npu_smi"] = found["path"]
    if failure:
        # No npus beside an error: a play that goes on in spite of it must not take half a table for the whole.
        result.update(error_code=failure["error_code"], stdout=run.out[:20000], stderr=run.err[:20000], rc=run.rc, timed_out=run.timed_out)
        raise tools.NoAnswer(failure["msg"], result)
    result.update(info)
    # The key "warnings" belongs to Ansible, which shows it and takes it out of the result.
    result["tool_warnings"] = result.pop("warnings")
    result.pop("understood")
    extra = {"health_details": [], "superpod": None}
    if details and info["npus"]:
        extra = ask_details(make_asker(found["path"], timeout, environment), info)
    return dict(result, **extra)
