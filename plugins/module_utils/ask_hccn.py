# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to hccn_tool about the network port of every NPU, one call at a time."""

from __future__ import annotations

import os

from . import driver_files, hccn, tools


def ask_device(runner, tool, phy_id, questions):
    """Return the entry of one device: the answers to all questions, and why one has none."""
    device = dict.fromkeys(("ip", "netmask", "gateway", "netdetect", "link", "net_health", "tls", "lldp", "vnic"))
    device.update(phy_id=phy_id, errors={})
    for question in questions:
        run = runner([tool, "-i", str(phy_id)] + list(hccn.QUESTIONS[question]))
        failure = run.failure()
        if failure:
            device["errors"][question] = failure
            continue
        answer = hccn.parse_answer(question, run.out, run.err, run.rc, phy_id)
        if answer["state"] == "busy":
            device["errors"][question] = "hccn_tool was still busy after %g s: %s" % (runner.busy_retry_s, answer["text"])
        elif answer["state"] == "error":
            device["errors"][question] = ("%s %s" % (answer["text"], tools.hint(answer["text"]))).strip()
        elif question == "ip":
            device.update(answer["value"] or {})
        else:
            device[question] = answer["value"]
    return device


def answer(devices=None, questions=None, hccn_tool_path=None, hccn_conf_path="/etc/hccn.conf", timeout=30.0, busy_retry_s=30.0):
    """Return what hccn_info returns; raise C(tools.NoAnswer) where the tool is not found.

    C(devices): physical ids, all of this node without them. C(questions): names of C(hccn.QUESTIONS), all without them.
    """
    conf = driver_files.read_hccn_conf(hccn_conf_path)
    home = driver_files.install_home(driver_files.read_install_info())
    driver_home = os.path.join(home, "driver")
    found = tools.find_tool("hccn_tool", hccn_tool_path, driver_home)
    if not found["path"]:
        message = tools.not_found_message("hccn_tool", found, "hccn_tool_path")
        raise tools.NoAnswer(message, {"searched": found["searched"], "hccn_conf": conf})
    runner = tools.PatientRunner(
        timeout,
        busy_retry_s,
        tools.tool_environment(driver_home),
        is_busy=lambda run: hccn.is_busy(run.text, run.rc),
        # hccn_tool -i N -question -g
        kind=lambda argv: argv[3],
    )
    asked = [name for name in hccn.QUESTIONS if questions is None or name in questions]
    wanted = driver_files.device_ids() if devices is None else devices
    return {
        "devices": [ask_device(runner, found["path"], phy_id, asked) for phy_id in sorted(set(wanted))],
        "hccn_conf": conf,
        "hccn_tool": found["path"],
        "calls": runner.calls,
        "busy_retries": runner.retries,
    }
