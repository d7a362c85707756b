# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NPUs of a node: driver and tools, health, and who is on them."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import judge_npu
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import LABEL, PURPOSE
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster
from ansible_collections.ascend.vllm.tests.unit.plugins.faults import npu_smi

H, P = "a2-node0", "a2-node1"


def seen(cluster):
    """Return (check, device, status, observed) of what did not pass."""
    return [(entry["check"], entry["device"], entry["status"], entry["observed"]) for entry in cluster.bad()]


@pytest.mark.parametrize(("answer", "begin"), [
    ({"error_code": -8005}, "the driver is not loaded"), ({"error_code": -8020}, "another container"), ({"error_code": 7}, "as root on this node"),
    ({"timed_out": True, "rc": None}, "npu-smi hangs"), ({"searched": ["/usr/bin"], "rc": None}, "install the Ascend driver"), ({"rc": 0}, "run npu-smi info"),
    ({"rc": None}, "as root on this node"), ({"error_code": -8005, "timed_out": True}, "the driver is not loaded"),
])
def test_a_tool_that_fails_is_one_finding_with_its_own_remedy(answer, begin):
    cluster = Cluster(1)
    npu_smi(cluster, **answer)
    assert [entry[0] for entry in seen(cluster)] == ["npu_smi"] and seen(cluster)[0][3] == "it did not work"
    assert cluster.bad()[0]["remedy"].startswith(begin)


def test_a_container_that_holds_the_devices_is_named_when_the_tool_cannot():
    cluster = Cluster(1)
    npu_smi(cluster, error_code=-8020)
    cluster.artefacts()["device_containers"] = [
        {"name": "other", "id": "f" * 64, "devices": ["/dev/davinci10", "/dev/davinci2", "/dev/davinci1"], "privileged": False, "labels": {}, "pids": []}]
    assert [entry[:2] for entry in seen(cluster)] == [("npu_smi", ""), ("npu_containers", "npu1, npu2")]


@pytest.mark.parametrize(("container", "found"), [
    ({}, True), ({"labels": {LABEL: "vllm"}}, False), ({"devices": []}, False), ({"devices": [], "privileged": True}, False),
    ({"devices": ["/dev/davinci9"]}, False),
    ({"labels": None}, True),
    # The engine of a benchmark serves nobody.
    ({"labels": {LABEL: "vllm", PURPOSE: "client"}}, True), ({"labels": {LABEL: "vllm", PURPOSE: "weights"}}, False),
])
def test_containers(container, found):
    cluster = Cluster(1)
    cluster.artefacts()["device_containers"] = [
        {"name": "other", "id": "f" * 64, "devices": ["/dev/davinci3"], "privileged": False, "labels": {}, "pids": [9], **container}]
    assert seen(cluster) == ([("npu_containers", "npu3", "fail", "container other (ffffffffffff) has /dev/davinci3")] if found else [])


def test_a_container_of_a_group_that_was_renamed_is_named_by_its_group():
    """A launch stops containers by their names: this one would go on, and its API answer for the new group."""
    cluster = Cluster(1)
    cluster.serve(H, pid=100)
    for entry in cluster.artefacts(H)["device_containers"]:
        entry.update(name="old-rank0", labels={LABEL: "old"})
    cluster.node(H)["listening"].append({"port": 8000, "address": "0.0.0.0", "pid": 100, "process": "python3"})
    cluster.artefacts(H)["containers"]["vllm-rank0"].update(exists=False, running=False, pid=None, pids=[])
    found = {entry["check"]: entry for entry in cluster.bad()}
    assert set(found) == {"npu_containers", "port_free"}
    assert found["npu_containers"]["observed"].startswith(
        "container old-rank0 (cccccccccccc) of group old, which the inventory does not have, has /dev/davinci0, ")
    assert found["npu_containers"]["remedy"].startswith("give the group its name old again")
    assert found["port_free"]["observed"] == "python3 (pid 100) listens on 8000"


@pytest.mark.parametrize(("health", "status"), [
    ("OK", None), ("Warning", "warn"), ("Alarm", "fail"), ("Critical", "fail"), ("UNKNOWN", "unknown"), (None, "unknown"), ("ok", "unknown"),
    ("Fine", "unknown"),
])
def test_health(health, status):
    cluster = Cluster(1)
    cluster.npu()["npus"][2]["health"] = health
    assert seen(cluster) == ([("npu_health", "npu2", status, health or "nothing")] if status else [])


def test_health_says_the_error_codes():
    cluster = Cluster(1, "a3")
    cluster.npu()["npus"][3]["health"] = "Alarm"
    cluster.npu()["health_details"] = [{"npu_id": 1, "chip_id": 0, "error_code": "0x1", "error_information": "x"},
                                       {"npu_id": 1, "chip_id": 1, "error_code": "0x80E18400", "error_information": "HBM ECC"}]
    assert seen(cluster) == [("npu_health", "npu3", "fail", "Alarm (0x80E18400 HBM ECC)")] and "-i 1 " in cluster.bad()[0]["remedy"]


def test_the_device_of_an_npu_is_its_physical_id_where_that_is_known():
    assert judge_npu.number_of({"phy_id": 5, "npu_id": 2}) == 5 and judge_npu.number_of({"phy_id": 0, "npu_id": 2}) == 0
    assert judge_npu.number_of({"phy_id": None, "npu_id": 3}) == 3


@pytest.mark.parametrize(("lost", "wanted"), [
    ([], []), ([7], [("npu_count", "npu7", "fail", "7 in npu-smi info, without npu7")]),
    (list(range(8)), [("npu_count", ", ".join(f"npu{n}" for n in range(8)), "fail", f"0 in npu-smi info, without {', '.join(f'npu{n}' for n in range(8))}")]),
])
def test_count(lost, wanted):
    cluster = Cluster(1)
    cluster.npu()["npus"] = [entry for entry in cluster.npu()["npus"] if entry["phy_id"] not in lost]
    assert seen(cluster) == wanted


def test_more_npus_than_the_plan_uses_are_nobodys_business():
    cluster = Cluster(1)
    spare = dict(cluster.npu()["npus"][0], npu_id=8, phy_id=8, hbm_used_mb=60000, processes=[{"pid": 9, "name": "x", "memory_mb": 56000}])
    cluster.npu()["npus"].append(spare)
    cluster.node()["npus"].append(8)
    cluster.artefacts()["device_containers"] = [{"name": "o", "id": "f", "devices": ["/dev/davinci8"], "privileged": False, "labels": {}, "pids": [9]}]
    assert seen(cluster) == []


# who is on them


@pytest.mark.parametrize(("used", "processes", "wanted"), [
    (4096, [], []), (4097, [], ["npu_hbm_idle"]), (None, [], ["npu_hbm_idle"]), (60000, [(9, 56000)], ["npu_processes"]),
    (60000, [(9, None)], ["npu_processes"]),
])
def test_memory_that_nobody_accounts_for(used, processes, wanted):
    cluster = Cluster(1)
    cluster.npu()["npus"][1].update(hbm_used_mb=used, processes=[{"pid": pid, "name": "x", "memory_mb": memory} for pid, memory in processes])
    assert [entry[0] for entry in seen(cluster)] == wanted and all(entry[1] == "npu1" for entry in seen(cluster))


def test_left_over_memory_beside_our_own_server_is_seen():
    cluster = Cluster(1)
    cluster.serve()
    cluster.npu()["npus"][1]["hbm_used_mb"] += 9000
    assert seen(cluster) == [("npu_hbm_idle", "npu1", "fail", "12445 of 65536 MB in use without a process")]


def test_a_process_that_npu_smi_does_not_list_but_that_holds_the_device():
    cluster = Cluster(1)
    cluster.node()["device_holders"] = [{"path": "/dev/davinci3", "pid": 9, "process": "python3", "container": None},
                                        {"path": "/dev/davinci33", "pid": 9, "process": "python3", "container": None}]
    assert seen(cluster) == [("npu_processes", "npu3", "fail", "python3 (pid 9) holds /dev/davinci3")]


def test_one_process_on_an_npu_is_said_once():
    cluster = Cluster(1)
    cluster.node()["device_holders"] = [{"path": "/dev/davinci3", "pid": 9, "process": "python3", "container": None}]
    cluster.npu()["npus"][3]["processes"] = [{"pid": 9, "name": "python3", "memory_mb": 10}]
    cluster.npu()["stray_processes"] = [{"pid": 9, "npu_id": 3, "chip_id": 0, "name": "python3", "memory_mb": 10}]
    assert len(seen(cluster)) == 1


def test_a_process_of_no_listed_chip_is_a_stranger():
    cluster = Cluster(1)
    cluster.npu()["stray_processes"] = [{"pid": 9, "npu_id": 3, "chip_id": 5, "name": "x", "memory_mb": 10}]
    assert seen(cluster) == [("npu_processes", "npu3", "fail", "x (pid 9, 10 MB)")]


# versions


@pytest.mark.parametrize(("version", "package", "alone", "pair"), [
    ("25.5.1", None, None, None), ("25.5.0", None, None, None), ("25.3.rc1", None, None, "warn"), ("25.0.rc1", None, None, "warn"),
    ("24.1.rc3", None, "fail", "fail"),
    (None, "25.5.1", None, None), (None, None, "unknown", "unknown"), ("NA", "25.5.1", "unknown", "unknown"),
])
def test_driver_floor(version, package, alone, pair):
    for nodes, status in ((1, alone), (2, pair)):
        cluster = Cluster(nodes)
        for host in cluster.hosts:
            cluster.npu(host).update(driver_version=version, driver_package_version=package)
        assert [entry[1:] for entry in cluster.brief()] == ([("driver_floor", "driver", status)] * nodes if status else [])


def test_a_cann_that_no_floor_is_about_is_not_judged():
    cluster = Cluster(1)
    cluster.plan["groups"]["vllm"]["software"]["cann"] = "7.0.0"
    cluster.npu()["driver_version"] = "23.0.7"
    assert seen(cluster) == []


@pytest.mark.parametrize(("version", "ranges", "status"), [
    ("7.1.0.11.220", "[7.0.0,8.9.9]", None), ("6.9", "[7.0.0,8.9.9]", "fail"), (None, "[7.0.0,8.9.9]", "warn"), ("7.1.0", None, None), ("7.1.0", "any", None),
])
def test_firmware(version, ranges, status):
    cluster = Cluster(1)
    cluster.npu().update(firmware_version=version, compatible_firmware=ranges)
    assert [entry[:3] for entry in seen(cluster)] == ([("firmware_fits", "firmware", status)] if status else [])
    passed = [entry for entry in cluster.report()["checks"] if entry["check"] == "firmware_fits"]
    assert len(passed) == (1 if ranges and ranges != "any" else 0)


@pytest.mark.parametrize(("info", "wanted"), [
    ({"errors": ["no line Driver_Install_Path_Param="]}, [("install_info", "fail")]), ({"values": {"Driver_Install_Status": "complete"}}, []),
    ({"values": {}}, []),
    ({"values": {"Driver_Install_Status": "interrupted"}}, [("install_info", "warn")]),
    # That it is not there is the mounts' check.
    ({"exists": False, "type": None, "errors": ["missing"]}, []), ({"type": "directory", "errors": ["not a file but a directory"]}, []),
])
def test_install_info(info, wanted):
    cluster = Cluster(1)
    cluster.npu()["install_info"].update(info)
    assert [(entry[0], entry[2]) for entry in seen(cluster)] == wanted
