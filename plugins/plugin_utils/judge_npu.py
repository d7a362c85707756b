# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the NPUs of one node: driver and tools, health, and whether anybody else is on them."""

from __future__ import annotations

from . import versions
from .answers import LABEL, is_ours, said

#: Health words of npu-smi that are not well, and what they are.
HEALTH = {"OK": None, "Warning": "warning", "Alarm": "bad", "Critical": "bad"}
#: Codes of npu-smi that have a remedy of their own (facts of its source: driver not loaded; device in use).
CODES = {-8005: "not_loaded", -8020: "held"}


def judge_npus(judge, host_plan: dict, answers, floors: dict) -> list:
    """Return the check results about driver and NPUs of one node. ``floors``: {group name: entry of data/floors with its cann}."""
    npu = answers.npu
    if not answers.tool_works:
        return [_tool(judge, npu), *_install_info(judge, npu), *_holders(judge, host_plan, answers)]
    found = [judge.found("npu_smi", "warned", text, "no warning of the tool") for text in (npu.get("tool_warnings") or [])[:1]]
    found = found or [judge.passed("npu_smi", f"lists {len(npu['npus'])} NPUs")]
    return [
        *found,
        *_install_info(judge, npu),
        *_inventory(judge, host_plan, answers),
        *_health(judge, npu),
        *_occupancy(judge, host_plan, answers),
        *_versions(judge, npu, floors),
    ]


def number_of(entry: dict) -> int:
    """Return the number that a person knows an NPU by: its physical id, else its id in npu-smi."""
    return entry["phy_id"] if entry["phy_id"] is not None else entry["npu_id"]


def _tool(judge, npu: dict) -> dict:
    wanted = "npu-smi info lists the NPUs"
    if npu.get("error_code") in CODES:
        return judge.found("npu_smi", CODES[npu["error_code"]], said(npu), wanted)
    if npu.get("timed_out"):
        return judge.found("npu_smi", "hung", said(npu), wanted)
    if npu.get("searched"):
        return judge.found("npu_smi", "not_found", said(npu), wanted)
    if npu.get("rc") == 0:
        return judge.found("npu_smi", "not_understood", said(npu), wanted)
    return judge.found("npu_smi", "failed", said(npu), wanted)


def _install_info(judge, npu: dict) -> list:
    info = npu.get("install_info") or {}
    # Whether the file is there at all is the mounts' check.
    if info.get("type") != "file":
        return []
    path = "/etc/ascend_install.info"
    if info.get("errors"):
        return [judge.found("install_info", "wrong", "; ".join(info["errors"]), f"{path} with Driver_Install_Path_Param", device=path)]
    status = (info.get("values") or {}).get("Driver_Install_Status")
    if status not in (None, "complete"):
        return [judge.found("install_info", "incomplete", f"Driver_Install_Status={status}", "Driver_Install_Status=complete", device=path)]
    return [judge.passed("install_info", "whole", device=path)]


def _inventory(judge, host_plan: dict, answers) -> list:
    npu, wanted = answers.npu, host_plan["hardware"]
    kind = None if npu.get("hardware") == wanted else "not_understood" if npu.get("hardware") in (None, "unknown") else "other"
    have, expected = len(npu["npus"]), host_plan["npus_expected"]
    used = host_plan["npus"]
    missing = [number for number in used if number not in (answers.node.get("npus") or [])]
    names = ", ".join(f"/dev/davinci{number}" for number in missing)
    lost = sorted(set(used) - {number_of(entry) for entry in npu["npus"]})
    lacks = f", without {', '.join(f'npu{number}' for number in lost)}" if lost else ""
    return [
        judge.judged("npu_hardware", kind, npu.get("hardware"), wanted),
        judge.judged("npu_count", None if have >= expected and not lost else "too_few", f"{have} in npu-smi info{lacks}", f"{expected} NPUs",
                     device=", ".join(f"npu{number}" for number in lost)),
        judge.judged("npu_device_nodes", "missing" if missing else None, f"no {names}" if missing else f"{len(used)} device nodes",
                     f"/dev/davinci{used[0]} to /dev/davinci{used[-1]}" if used else "none", device=", ".join(f"npu{number}" for number in missing)),
    ]


def _health(judge, npu: dict) -> list:
    codes = {(entry["npu_id"], entry["chip_id"]): entry for entry in npu.get("health_details") or []}
    found = []
    for entry in npu["npus"]:
        outcome = HEALTH.get(entry["health"], "not_understood")
        detail = codes.get((entry["npu_id"], entry.get("chip_id"))) or {}
        more = " ".join(str(part) for part in (detail.get("error_code"), detail.get("error_information")) if part)
        observed = f"{entry['health']} ({more})" if more and outcome else entry["health"]
        found.append(judge.judged("npu_health", outcome, observed, "OK", f"npu{number_of(entry)}", npu_id=entry["npu_id"]))
    return found


def _strangers(answers, number: int, listed: list) -> dict:
    """Return ``{pid: text}`` of the processes on an NPU that are nobody of ours: what npu-smi lists and what holds its device node."""
    ours = answers.own_pids()
    found = {
        process["pid"]: f"{process.get('name') or 'a process'} (pid {process['pid']}, {process.get('memory_mb')} MB)"
        for process in listed
        if process["pid"] not in ours
    }
    for holder in answers.node.get("device_holders") or []:
        if holder["path"] == f"/dev/davinci{number}" and holder["pid"] not in ours:
            found.setdefault(holder["pid"], f"{holder.get('process') or 'a process'} (pid {holder['pid']}) holds {holder['path']}")
    return found


def _occupancy(judge, host_plan: dict, answers) -> list:
    npu, ours = answers.npu, answers.own_pids()
    limit = judge.limits("npu_hbm_idle").get(host_plan["hardware"])
    found = []
    for entry in npu["npus"]:
        number = number_of(entry)
        if number not in host_plan["npus"]:
            continue
        device, listed = f"npu{number}", [process for process in entry["processes"] or [] if process.get("pid") is not None]
        stray = [process for process in npu.get("stray_processes") or [] if process.get("npu_id") == entry["npu_id"]]
        strangers = _strangers(answers, number, [*listed, *stray])
        for pid, text in strangers.items():
            found.append(judge.found("npu_processes", "stranger", text, "no process of anybody else", device, pid=pid))
        silent = entry["processes"] is None or entry["npu_id"] in (npu.get("silent_npus") or [])
        if not strangers and silent:
            found.append(judge.found("npu_processes", "not_understood", "nothing said about processes", "a list of processes, or that there are none", device))
        elif not strangers and "device_holders" in answers.node:
            own = len([process for process in listed if process["pid"] in ours])
            found.append(judge.passed("npu_processes", f"{own} of this deployment" if own else "none", "no process of anybody else", device))
        found += _memory(judge, entry, limit, device, listed, strangers)
    return [*found, *_containers(judge, host_plan, answers)]


def _memory(judge, entry: dict, limit, device: str, listed: list, strangers: dict) -> list:
    """Judge the HBM that no process accounts for; what a stranger has is the stranger's finding."""
    used, total = entry.get("hbm_used_mb"), entry.get("hbm_total_mb")
    words = {"npu_id": entry["npu_id"], "chip_id": entry.get("chip_id") or 0}
    if used is None or limit is None:
        return [judge.found("npu_hbm_idle", "not_understood", "no number for HBM", f"at most {limit} MB in use", device, **words)]
    taken = sum(process.get("memory_mb") or 0 for process in listed)
    left = used - taken
    if left <= limit or strangers:
        return [judge.passed("npu_hbm_idle", f"{left} of {total} MB besides processes", f"at most {limit} MB besides processes", device)]
    return [judge.found("npu_hbm_idle", "in_use", f"{left} of {total} MB in use without a process", f"at most {limit} MB", device, **words)]


def _holders(judge, host_plan: dict, answers) -> list:
    """Name who holds the devices when npu-smi itself cannot say it."""
    return [entry for entry in _containers(judge, host_plan, answers) if entry["status"] != "pass"]


def _containers(judge, host_plan: dict, answers) -> list:
    """Judge running containers of others that have an NPU of the plan; one that has all of /dev is named when it runs beside it.

    A container of this collection whose group the plan does not have is not replaced by a launch: it would go on, and answer for the new one.
    ``host_plan["groups"]``: names of the plan's groups; without it every group is one of them.
    """
    mine = {f"/dev/davinci{number}" for number in host_plan["npus"]}
    left = answers.left_containers(host_plan["groups"]) if "groups" in host_plan else []
    found = []
    for entry in answers.artefacts.get("device_containers") or []:
        shared = sorted(mine & set(entry.get("devices") or []), key=lambda path: (len(path), path))
        if not shared or (is_ours(entry) and entry not in left):
            continue
        where = ", ".join(f"npu{path[len('/dev/davinci'):]}" for path in shared)
        what = f"container {entry['name']} ({str(entry['id'])[:12]})"
        if entry in left:
            group = entry["labels"][LABEL]
            found.append(judge.found("npu_containers", "left", f"{what} of group {group}, which the inventory does not have, has {', '.join(shared)}",
                                     f"no container but those of {', '.join(host_plan['groups'])}", where, name=entry["name"], group=group))
        else:
            found.append(judge.found("npu_containers", "other", f"{what} has {', '.join(shared)}", "no container of anybody else", where, name=entry["name"]))
    if found or "device_containers" not in answers.artefacts or answers.artefacts.get("docker_error"):
        # An engine that could not be asked is named for that, and its silence is no pass.
        return found
    return [judge.passed("npu_containers", "none", "no container of anybody else")]


def _versions(judge, npu: dict, floors: dict) -> list:
    version = npu.get("driver_version") or npu.get("driver_package_version")
    found = []
    for floor in floors.values():
        minimum, recommended = floor["minimum"], floor["recommended"]
        too_old, not_new = versions.older(version, minimum), versions.older(version, recommended) if recommended else False
        outcome = "not_understood" if too_old is None else "below_minimum" if too_old else "below_recommended" if not_new else None
        wanted = minimum if too_old or too_old is None else recommended or minimum
        why = f"{wanted} or newer ({floor['release']} with CANN {floor['cann']})"
        found.append(judge.judged("driver_floor", outcome, version, why, "driver", wanted=wanted))
    if not npu.get("firmware_version"):
        why = "; ".join(str(error) for error in npu.get("file_errors") or [] if "firmware" in str(error)) or "no version"
        return [*found, judge.found("firmware_fits", "not_read", why, "the version of the installed firmware", "firmware")]
    fits = versions.within(npu.get("firmware_version"), npu.get("compatible_firmware"))
    if fits is not None:
        found.append(judge.judged("firmware_fits", None if fits else "outside", npu["firmware_version"], f"one of {npu['compatible_firmware']}", "firmware"))
    return found
