# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault for each outcome of each check of data/checks: how it is made in a sound cluster, and on which device it is found."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import mesh
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import LABEL
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import DIR, GIB, IMAGE

MISSING_HERE = {"present": False, "id": None, "registry": None}
HOLDER = {"name": "other", "id": "f" * 64, "devices": ["/dev/davinci3"], "privileged": False, "labels": {}, "pids": [9]}
BUSY = "hccn_tool was still busy after 30 s: hccn_tool is busy"


def image(c, **registry):
    """Let the last host have no image, and its registry say this."""
    c.artefacts()["images"][IMAGE] = dict(MISSING_HERE, registry={"exists": None, "url": "https://quay.io/v2/x", "error": None, "bytes": 8 * GIB, **registry})


def weights(c, **entry):
    """Let the first host, which is the one that is asked, have no complete weights."""
    c.artefacts(c.name(0))["weights"][0].update({"complete": False, "differences": ["config.json is missing"], **entry})


def rename(c, image_name):
    """Let the last host run another image, which it has."""
    c.host_plan()["units"][0]["image"] = image_name
    c.artefacts()["images"] = {image_name: {"present": True, "id": "sha256:1", "registry": None}}


def cut(c, number, host=None, status="fail", **answer):
    """Let every ping from and to one NPU fail."""
    for other in c.hosts:
        for mine in (c.pings(host or c.name(), number, other, None) if other != (host or c.name()) else []):
            mine.update({"status": status, "received": 0, "loss_percent": 100.0, **answer})
        for theirs in (c.pings(other, None, host or c.name(), number) if other != (host or c.name()) else []):
            theirs.update({"status": status, "received": 0, "loss_percent": 100.0, **answer})


def ping(c, **answer):
    """Let one ping of the last host to the first one end in this."""
    c.pings(c.name(), 3, c.name(0), 5)[0].update(answer)


def failed(c, fact, **more):
    """Let a module of the last host fail."""
    c.facts[c.name()][fact] = {"failed": False, "failed_when_result": False, "msg": "it did\nnot work", **more}


def npu_smi(c, **more):
    """Let npu-smi fail."""
    failed(c, "npu", **{"error_code": None, "timed_out": False, "rc": 1, **more})


def all_ports(c, **answer):
    """Let all ports of all hosts answer this."""
    for host in c.hosts:
        for entry in c.hccn(host)["devices"]:
            entry.update(answer)


def outside_superpods(c):
    """No node is in a super pod, and the pings go the way that is left."""
    for host in c.hosts:
        c.npu(host)["superpod"].update(id=None, size=None)
    pings = mesh.mesh_pings(c.plan, {host: c.hccn(host) for host in c.hosts}, {host: c.npu(host) for host in c.hosts})
    for host in c.hosts:
        answered = {"sent": 3, "received": 3, "loss_percent": 0.0, "rtt_ms": 0.08, "status": "pass", "text": ""}
        c.mesh(host)["results"] = [{**ping, **answered} for ping in pings[host]]


def without_address(c):
    """Let one NPU have lost its address, while its pings still came back."""
    c.port(2).update(ip=None, netmask=None, gateway=None)
    del c.hccn()["hccn_conf"]["devices"]["2"]


#: (check, outcome) -> (device, function that breaks a cluster[, number of the host on which it is found, the last one if left out]).
FAULTS = {
    ("node_answers", "silent"): ("", lambda c: c.facts.update({c.name(): {"node": {"unreachable": True, "msg": "no route"}}})),
    ("node_answers", "not_asked"): ("", lambda c: c.node().pop("listening")),
    ("python_version", "absent"): ("", lambda c: c.prerequisites().update(python=None, python_version=None)),
    ("python_version", "too_old"): ("", lambda c: c.prerequisites().update(python_version="3.7.9")),
    ("python_version", "not_understood"): ("", lambda c: c.facts[c.name()].update(prerequisites={"error": "Welcome!"})),
    ("python_requests", "absent"): ("", lambda c: c.prerequisites().update(requests=False)),
    ("rsync", "absent"): ("", lambda c: c.prerequisites().update(rsync=None)),
    ("docker_engine", "silent"): ("", lambda c: c.node()["docker"].update(reachable=False, error="no such socket")),
    ("docker_engine", "api_old"): ("", lambda c: c.node()["docker"].update(api_version="1.24")),
    ("npu_smi", "failed"): ("", lambda c: npu_smi(c, error_code=-9005)),
    ("npu_smi", "not_loaded"): ("", lambda c: npu_smi(c, error_code=-8005)),
    ("npu_smi", "held"): ("", lambda c: npu_smi(c, error_code=-8020)),
    ("npu_smi", "not_found"): ("", lambda c: npu_smi(c, searched=["/usr/bin"])),
    ("npu_smi", "hung"): ("", lambda c: npu_smi(c, timed_out=True, rc=None)),
    ("npu_smi", "not_understood"): ("", lambda c: npu_smi(c, rc=0)),
    ("npu_smi", "warned"): ("", lambda c: c.npu().update(tool_warnings=["[WARNING] the driver is not completely installed"])),
    ("install_info", "wrong"): ("/etc/ascend_install.info", lambda c: c.npu()["install_info"].update(errors=["no line Driver_Install_Path_Param="])),
    ("install_info", "incomplete"): ("/etc/ascend_install.info", lambda c: c.npu()["install_info"]["values"].update(Driver_Install_Status="partial")),
    ("npu_hardware", "other"): ("", lambda c: c.npu().update(hardware="310p")),
    ("npu_hardware", "not_understood"): ("", lambda c: c.npu().update(hardware="unknown")),
    ("npu_count", "too_few"): ("npu5", lambda c: c.npu()["npus"].pop(5)),
    ("npu_device_nodes", "missing"): ("npu5", lambda c: c.node()["npus"].remove(5)),
    ("npu_health", "warning"): ("npu2", lambda c: c.npu()["npus"][2].update(health="Warning")),
    ("npu_health", "bad"): ("npu2", lambda c: c.npu()["npus"][2].update(health="Alarm")),
    ("npu_health", "not_understood"): ("npu2", lambda c: c.npu()["npus"][2].update(health="UNKNOWN")),
    ("npu_hbm_idle", "in_use"): ("npu1", lambda c: c.npu()["npus"][1].update(hbm_used_mb=30000)),
    ("npu_hbm_idle", "not_understood"): ("npu1", lambda c: c.npu()["npus"][1].update(hbm_used_mb=None)),
    ("npu_processes", "stranger"): ("npu1", lambda c: c.npu()["npus"][1]["processes"].append({"pid": 4711, "name": "python3", "memory_mb": 500})),
    ("npu_processes", "not_understood"): ("npu1", lambda c: c.npu()["silent_npus"].append(1)),
    ("npu_containers", "other"): ("npu3", lambda c: c.artefacts()["device_containers"].append(HOLDER)),
    ("npu_containers", "left"): ("npu3", lambda c: c.artefacts()["device_containers"].append({**HOLDER, "name": "old-rank0", "labels": {LABEL: "old"}})),
    ("driver_floor", "below_minimum"): ("driver", lambda c: c.npu().update(driver_version="24.1.rc3")),
    ("driver_floor", "below_recommended"): ("driver", lambda c: c.npu().update(driver_version="25.3.rc1")),
    ("driver_floor", "not_understood"): ("driver", lambda c: c.npu().update(driver_version=None, driver_package_version=None)),
    ("driver_equal", "differs"): ("driver", lambda c: c.npu().update(driver_version="25.5.2")),
    ("firmware_fits", "outside"): ("firmware", lambda c: c.npu().update(compatible_firmware="[7.5.0,8.9.9]")),
    ("firmware_fits", "not_read"): ("firmware", lambda c: c.npu().update(firmware_version=None, file_errors=["/x/firmware/version.info: absent"])),
    ("firmware_equal", "differs"): ("firmware", lambda c: c.npu().update(firmware_version="7.7.0.1.231")),
    ("image_variant", "other_chip"): (f"{IMAGE}-a3", lambda c: rename(c, f"{IMAGE}-a3")),
    ("image_variant", "not_told"): ("example.org/vllm:mine", lambda c: rename(c, "example.org/vllm:mine")),
    ("image_exists", "absent"): (IMAGE, lambda c: image(c, exists=False)),
    ("image_exists", "next_source"): (IMAGE, lambda c: c.artefacts()["images"].update({IMAGE: {
        "present": False, "registry": {"exists": True, "bytes": 1}, "source": "m/" + IMAGE,
        "failed": [{"source": IMAGE, "exists": None, "error": "refused"}]}})),
    ("image_exists", "not_reached"): (IMAGE, lambda c: image(c, error="timed out")),
    ("model_exists", "incomplete"): (DIR, weights, 0),
    ("model_exists", "not_reached"): (DIR, lambda c: weights(c, hub={"exists": False, "error": "HTTP 404", "bytes": None}), 0),
    ("artefacts", "not_asked"): ("", lambda c: failed(c, "artefacts")),
    ("mount_source", "missing"): ("/usr/local/dcmi", lambda c: c.node()["paths"]["/usr/local/dcmi"].update(exists=False, type=None)),
    ("mount_source", "not_asked"): ("/usr/local/dcmi", lambda c: c.node()["paths"].pop("/usr/local/dcmi")),
    ("disk_engine", "full"): ("containers and logs", lambda c: c.node()["docker"]["disk"].update(free_bytes=GIB // 2)),
    ("disk_engine", "not_told"): ("containers and logs", lambda c: c.node()["docker"]["disk"].update(free_bytes=None)),
    ("disk_image", "full"): (IMAGE, lambda c: (image(c, exists=True), c.node()["docker"]["disk"].update(free_bytes=3 * GIB))),
    ("disk_image", "not_told"): (IMAGE, lambda c: (image(c, exists=True), c.node()["docker"].update(disk=None))),
    ("disk_weights", "full"): (DIR, lambda c: (weights(c, hub={"exists": True, "bytes": 6000 * GIB})), 0),
    ("disk_weights", "not_told"): (DIR, lambda c: (weights(c, hub={"exists": True, "bytes": 6000 * GIB}), c.node(c.name(0)).update(disk={})), 0),
    ("shared_memory", "too_large"): ("vllm_shm_size", lambda c: c.host_plan()["units"][0].update(shm_size="2t")),
    ("shared_memory", "no_tmpfs"): ("/dev/shm", lambda c: c.node().update(shm=None)),
    ("port_free", "taken"): ("HCCL_IF_BASE_PORT", lambda c: c.node()["listening"].append({"port": 60005, "address": "::", "pid": 7, "process": "nc"})),
    ("proxy_place", "left"): ("vllm_proxy", lambda c: c.artefacts()["containers"].update({"vllm-proxy": {
        "exists": True, "running": True, "pid": 5, "pids": [5], "labels": {LABEL: "vllm-proxy"}}})),
    ("nic_owns_address", "other"): ("vllm_nic_name", lambda c: c.host_plan().update(nic_name="eth7")),
    ("nic_up", "down"): ("eth0", lambda c: c.node()["interfaces"][1].update(up=False)),
    ("mtu_equal", "differs"): ("eth0", lambda c: c.node()["interfaces"][1].update(mtu=9000)),
    ("tcp_reach", "refused"): ("a2-node0:13389", lambda c: c.reach()["reached"][0].update(status="refused", connected=False)),
    ("tcp_reach", "dropped"): ("a2-node0:13389", lambda c: c.reach()["reached"][0].update(status="timeout", connected=False)),
    ("tcp_reach", "unreachable"): ("a2-node0:13389", lambda c: c.reach()["reached"][0].update(status="unreachable", connected=False)),
    ("tcp_reach", "not_asked"): ("", lambda c: failed(c, "reach")),
    ("clock", "off"): ("", lambda c: c.prerequisites().update(clock_ahead_s=-8.0)),
    ("clock", "far_off"): ("", lambda c: c.prerequisites().update(clock_ahead_s=90.0)),
    ("kernel_settings", "differs"): ("vm.swappiness", lambda c: c.node()["sysctls"].update({"vm.swappiness": "60"})),
    ("kernel_settings", "governor"): ("scaling_governor", lambda c: c.node().update(cpu_governors=["ondemand", "performance"])),
    ("memory_pages", "always"): ("transparent_hugepage", lambda c: c.node().update(transparent_hugepage="always")),
    ("memory_pages", "hoarded"): ("nr_hugepages", lambda c: c.node()["hugepages"].update(total=600000, free=600000)),
    ("hccl_rootinfo", "stale"): ("/etc/hccl_rootinfo.json", lambda c: c.node()["rootinfo"].update(exists=True, type="file", addresses=["10.9.9.9"])),
    ("hccn_tool", "failed"): ("", lambda c: failed(c, "hccn", searched=["/usr/bin"])),
    ("hccn_tool", "not_asked"): ("", lambda c: c.facts[c.name()].pop("hccn")),
    ("hccn_tool", "no_answer"): ("npu4", lambda c: c.port(4).update(lldp=None, errors={"lldp": BUSY})),
    ("hccn_conf", "wrong"): ("npu3", lambda c: c.hccn()["hccn_conf"]["devices"].pop("3")),
    ("hccn_conf", "stale"): ("npu3", lambda c: c.hccn()["hccn_conf"]["devices"]["3"].update(address="10.20.9.9")),
    ("hccn_conf", "absent"): ("/etc/hccn.conf", lambda c: (c.host_plan()["units"][0]["mount_candidates"].pop("/etc/hccn.conf"),
                                                           c.host_plan()["units"][0]["mounts"].remove("/etc/hccn.conf:/etc/hccn.conf"),
                                                           c.hccn()["hccn_conf"].update(exists=False, type=None, devices={}, errors=["missing"]))),
    ("hccn_address", "none"): ("npu2", without_address),
    ("hccn_link", "down"): ("npu2", lambda c: c.port(2).update(link="DOWN")),
    ("hccn_net_health", "bad"): ("npu2", lambda c: c.port(2).update(net_health="Socket fail")),
    ("hccn_net_health", "init"): ("npu2", lambda c: c.port(2).update(net_health="Init")),
    ("hccn_gateway", "none"): ("npu2", lambda c: c.port(2).update(gateway=None)),
    ("hccn_tls", "differs"): ("npu2", lambda c: (c.port(2).update(tls=1), c.hccn()["hccn_conf"]["devices"]["2"].update(tls_enable=1))),
    ("hccn_tls", "all_on"): ("", lambda c: (
        all_ports(c, tls=1),
        [entry.pop("tls_enable") for host in c.hosts for entry in c.hccn(host)["hccn_conf"]["devices"].values()],
    )),
    ("hccn_lldp", "back_to_back"): ("npu2", lambda c: c.port(2).update(lldp={"ifname": "eth2", "port_id": None, "chassis_id": None, "system": None})),
    ("hccn_lldp", "silent"): ("npu2", lambda c: c.port(2).update(lldp=None)),
    ("hccn_superpod", "differs"): ("", lambda c: c.npu()["superpod"].update(id=8)),
    ("hccn_superpod", "not_told"): ("", lambda c: c.npu().update(superpod=None)),
    ("hccn_superpod", "none"): ("", outside_superpods),
    ("hccn_unique", "twice"): ("npu2", lambda c: (c.port(2).update(ip="10.20.0.14"), c.hccn()["hccn_conf"]["devices"]["2"].update(address="10.20.0.14"))),
    ("hccn_subnet", "alone"): ("npu2", lambda c: (c.port(2).update(netmask="255.255.255.0"),
                                                  c.hccn()["hccn_conf"]["devices"]["2"].update(netmask="255.255.255.0"))),
    ("hccn_ping", "lost"): ("npu3 -> a2-node0 npu5", lambda c: ping(c, status="fail", received=0, loss_percent=100.0)),
    ("hccn_ping", "some_lost"): ("npu3 -> a2-node0 npu5", lambda c: ping(c, status="fail", received=2, loss_percent=33.3)),
    ("hccn_ping", "no_path"): ("all NPUs -> a2-node0", lambda c: [entry.update(status="fail", received=0) for entry in c.mesh()["results"]]),
    ("hccn_ping", "one_npu"): ("npu3", lambda c: cut(c, 3)),
    ("hccn_ping", "not_understood"): ("npu3 -> a2-node0 npu5", lambda c: ping(c, status="unknown", sent=None, received=None, text="???")),
    ("hccn_ping", "not_sent"): ("", lambda c: c.mesh()["results"].__delitem__(slice(60, None))),
    ("hccn_ping", "no_address"): ("npu0 -> a2-node1 npu2", without_address, 0),
}
#: Faults that another machine than an A2 pair has.
SHAPES = {("hccn_superpod", "differs"): (2, "a3"), ("hccn_superpod", "not_told"): (2, "a3"), ("hccn_superpod", "none"): (2, "a3")}
#: Faults that are told on the controller.
OF_THE_RUN = {("workers", "too_few"): {"forks": 1}}
#: What is rightly found beside a fault: checks on the same host, or on the peers (named with an @).
BESIDE = {
    ("driver_floor", "below_minimum"): {"driver_equal"},
    ("driver_floor", "below_recommended"): {"driver_equal"},
    # Both ends of a conflict are named.
    ("hccn_unique", "twice"): {"hccn_unique@", "hccn_ping", "hccn_ping@"},
    ("hccn_address", "none"): {"hccn_ping@"},
    ("hccn_ping", "no_address"): {"hccn_ping", "hccn_address@"},
    ("hccn_tls", "all_on"): {"hccn_tls@"},
    ("hccn_superpod", "none"): {"hccn_superpod@"},
}
