# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node apart from its NPUs: the edges of each rule, and what a person reads."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import DIR, GIB, IMAGE, Cluster
from ansible_collections.ascend.vllm.tests.unit.plugins.faults import image, rename, weights

H, P = "a2-node0", "a2-node1"


def only(cluster, **controller):
    """Return (check, device, status, observed) of the only fault, or None."""
    found = cluster.bad(**controller)
    assert len(found) <= 1, [(entry["check"], entry["observed"]) for entry in found]
    return (*(found[0][key] for key in ("check", "device", "status", "observed")),) if found else None


# what Ansible and Docker need


@pytest.mark.parametrize(("core", "python", "status"), [
    ("2.19.1", "3.8.0", "pass"), ("2.19.1", "3.7.17", "fail"), ("2.21.0", "3.8.18", "fail"), ("2.21.0", "3.9.9", "pass"), ("2.20", "3.10.1", "pass"),
    # A core that the data does not know yet needs at least what the newest known one does.
    ("2.99.0", "3.8.0", "fail"), ("2.99.0", "3.13.0", "pass"), ("2.19.1", None, "unknown"), ("2.19.1", "three", "unknown"),
])
def test_python(core, python, status):
    cluster = Cluster(1)
    cluster.prerequisites()["python_version"] = python
    found = only(cluster, core=core)
    assert found == (None if status == "pass" else ("python_version", "", status, f"{python} (/usr/bin/python3)"))


@pytest.mark.parametrize(("manager", "command"), [
    ("apt", "apt-get install python3-requests"), ("dnf", "dnf install python3-requests"), ("yum", "yum install python3-requests"),
    ("zypper", "zypper install python3-requests"), (None, "install python3-requests with the package manager of the distribution"),
    ("pacman", "install python3-requests with the package manager of the distribution"),
])
def test_the_remedy_is_the_distributions_command(manager, command):
    cluster = Cluster(1)
    cluster.prerequisites().update(requests=False, package_manager=manager)
    assert only(cluster) == ("python_requests", "", "fail", "absent for /usr/bin/python3") and f"on this node: {command};" in cluster.bad()[0]["remedy"]


@pytest.mark.parametrize(("docker", "observed"), [
    ({"reachable": True, "version": "20.10", "api_version": "1.25", "error": None}, None),
    ({"reachable": True, "version": "20.10", "api_version": "1.9", "error": None}, "20.10, API 1.9"),
    ({"reachable": True, "version": "20.10", "api_version": None, "error": None}, "20.10, API None"),
    ({"reachable": False, "error": "no such socket"}, "no such socket"), ({}, "no answer"), (None, "no answer"),
])
def test_docker(docker, observed):
    cluster = Cluster(1)
    cluster.node()["docker"] = docker
    assert only(cluster) == (("docker_engine", "", "fail", observed) if observed else None)


def test_an_engine_that_is_down_is_said_once_and_hides_nothing_else():
    cluster = Cluster(1)
    cluster.node()["docker"].update(reachable=False, error="refused")
    cluster.artefacts().update(docker_error="refused", images={}, containers={}, device_containers=[])
    weights(cluster, hub={"exists": False, "error": "HTTP 404", "bytes": None})
    assert [entry[1] for entry in cluster.brief()] == ["docker_engine", "model_exists"]
    # Nobody can say which containers have NPUs.
    assert "npu_containers" not in {entry["check"] for entry in cluster.report()["checks"]}


# its interface


@pytest.mark.parametrize(("interfaces", "wanted"), [
    ([("eth0", True, ["198.51.100.11/24"])], None),
    ([("bond0", False, ["198.51.100.11/24"]), ("eth0", True, ["198.51.100.1/24", "198.51.100.11/32"])], None),
    ([("eth0", True, [])], ("nic_owns_address", "vllm_nic_name", "fail", "198.51.100.11 is on no interface")),
    ([("eth0", True, ["198.51.100.111/24"])], ("nic_owns_address", "vllm_nic_name", "fail", "198.51.100.11 is on no interface")),
    ([("eth0", True, []), ("eth1", True, ["198.51.100.11/24"])], ("nic_owns_address", "vllm_nic_name", "fail", "198.51.100.11 is on eth1")),
    ([("lo", True, []), ("eth1", True, ["198.51.100.11/24"])],
     ("nic_owns_address", "vllm_nic_name", "fail", "198.51.100.11 is on eth1; the node has lo, eth1")),
    ([("eth0", False, ["198.51.100.11/24"])], ("nic_up", "eth0", "fail", "down")),
])
def test_interface(interfaces, wanted):
    cluster = Cluster(1)
    cluster.node()["interfaces"] = [{"name": name, "up": up, "mtu": 1500, "addresses": addresses} for name, up, addresses in interfaces]
    assert only(cluster) == wanted


# ports


def listen(cluster, *listeners):
    """Let somebody listen: (port, pid, process)."""
    cluster.node()["listening"] += [{"port": port, "pid": pid, "process": name, "address": address}
                                    for port, pid, name in listeners for address in ("0.0.0.0", "::")]


@pytest.mark.parametrize(("serves", "listeners", "wanted"), [
    (False, [(8000, 7, "nginx")], [("vllm_port", "nginx (pid 7) listens on 8000")]),
    (True, [(8000, 100, "vllm"), (60000, 100, "vllm")], []),
    (True, [(8000, 100, "vllm"), (60031, 7, None)], [("HCCL_IF_BASE_PORT", "a process (pid 7) listens on 60031")]),
    (True, [(8000, 7, "nginx"), (8000, 100, "vllm")], [("vllm_port", "nginx (pid 7) listens on 8000")]),
    (False, [(8000, 7, "a"), (8000, 8, "b")], [("vllm_port", "a (pid 7) listens on 8000"), ("vllm_port", "b (pid 8) listens on 8000")]),
    (False, [(8000, None, None)], [("vllm_port", "a process (pid ?) listens on 8000")]),
    # A listener whose process cannot be seen is taken for ours while our server runs.
    (True, [(8000, None, None)], []),
    (False, [(60032, 7, "x"), (59999, 7, "x"), (22, 7, "sshd"), (13389, 7, "x")], []),
])
def test_ports_of_a_node_alone(serves, listeners, wanted):
    cluster = Cluster(1)
    if serves:
        cluster.serve()
    listen(cluster, *listeners)
    assert [(entry["check"], entry["device"], entry["observed"]) for entry in cluster.bad()] == [("port_free", *one) for one in wanted]


def test_ports_of_a_pair():
    cluster = Cluster()
    listen(cluster, (8000, 7, "x"), (13389, 7, "x"))
    assert cluster.brief() == []
    cluster.node(H)["listening"] = cluster.node(P)["listening"]
    assert cluster.brief() == [(H, "port_free", "vllm_port", "fail"), (H, "port_free", "vllm_data_parallel_rpc_port", "fail")]


@pytest.mark.parametrize(("service", "wanted"), [
    ("ascend-vllm-vllm-rank0.service", []),
    ("ascend-vllm-other-rank0.service", [("vllm_watch_port", "python3 (pid 7) listens on 8123")]),
    (None, [("vllm_watch_port", "python3 (pid 7) listens on 8123")]),
])
def test_the_port_of_the_watch_is_the_head_s_and_its_own_watch_may_have_it(service, wanted):
    cluster = Cluster()
    cluster.plan["groups"]["vllm"]["supervise"].update(enabled=True, port=8123)
    assert cluster.host_plan(H)["units"][0]["name"] == "vllm-rank0"
    for host in (H, P):
        cluster.node(host)["listening"] = [{"port": 8123, "address": "0.0.0.0", "pid": 7, "process": "python3", "service": service}]
    assert [(entry["device"], entry["observed"]) for entry in cluster.bad() if entry["host"] == H] == wanted
    assert [entry for entry in cluster.bad() if entry["host"] == P] == []


def test_the_watch_of_a_single_node_listens_nowhere(hosts, planned):
    """A stranger may have its port: it is never opened."""
    cluster = Cluster(1)
    cluster.plan["groups"]["vllm"]["supervise"] = planned(hosts(1, "a3", vllm_supervise=True))["plan"]["groups"]["vllm"]["supervise"]
    assert cluster.plan["groups"]["vllm"]["supervise"]["enabled"]
    listen(cluster, (13390, 7, "nginx"))
    assert cluster.bad() == []


def test_the_remedy_names_the_variable():
    cluster = Cluster(1)
    listen(cluster, (60005, 7, "nc"))
    assert "ps -fp 7 " in cluster.bad()[0]["remedy"] and "set HCCL_IF_BASE_PORT of vllm_extra_env to another port" in cluster.bad()[0]["remedy"]


# image and weights


@pytest.mark.parametrize(("reference", "hardware", "status"), [
    (IMAGE, "a2", "pass"), (f"{IMAGE}-a3", "a2", "fail"), (f"{IMAGE}-a3", "a3", "pass"), (f"{IMAGE}-a3-openeuler", "a3", "pass"), (IMAGE, "a3", "fail"),
    (f"{IMAGE}-openeuler", "a2", "pass"), (f"{IMAGE}-310p", "a2", "fail"), ("example.org:5000/ascend/vllm-ascend:v0.13.0", "a2", "pass"),
    ("example.org:5000/mine:a3", "a2", "warn"), ("mine", "a2", "warn"), ("mine:x-a3", "a3", "pass"), ("mine:x-a3", "a2", "fail"),
    (f"{IMAGE}-a3@sha256:{'0' * 64}", "a3", "pass"),
])
def test_image_variant(reference, hardware, status):
    cluster = Cluster(1, hardware)
    rename(cluster, reference)
    assert [(entry["check"], entry["status"]) for entry in cluster.bad()] == ([] if status == "pass" else [("image_variant", status)])


@pytest.mark.parametrize(("registry", "observed"), [
    ({"exists": True}, None), ({"exists": False}, "not in the registry (https://quay.io/v2/x)"), ({"error": "timed out"}, "timed out"),
    ({}, "no usable answer"),
])
def test_image(registry, observed):
    cluster = Cluster(1)
    image(cluster, **registry)
    assert only(cluster) == (("image_exists", IMAGE, "fail", observed) if observed else None)


@pytest.mark.parametrize(("entry", "observed"), [
    ({"hub": {"exists": True, "bytes": 5}}, None), ({"hub": {"exists": False, "error": "HTTP 404: no such model"}}, "HTTP 404: no such model"),
    ({"hub": {"exists": None, "error": None}}, "no usable answer"), ({"hub": None, "differences": ["a", "b", "c", "d"]}, "a; b; c"),
])
def test_weights(entry, observed):
    cluster = Cluster(1)
    weights(cluster, **entry)
    assert only(cluster) == (("model_exists", DIR, "fail", observed) if observed else None)


# disk and memory


@pytest.mark.parametrize(("free", "packed", "full"), [
    (31 * GIB, 8 * GIB, False), (30 * GIB, 8 * GIB, True), (34 * GIB, None, False), (32 * GIB, None, True),
])
def test_room_for_the_image(free, packed, full):
    cluster = Cluster(1)
    image(cluster, exists=True, bytes=packed)
    cluster.node()["docker"]["disk"]["free_bytes"] = free
    # Room for the image is room to run.
    assert [entry[1] for entry in cluster.brief()] == (["disk_image"] if full else [])


@pytest.mark.parametrize(("there", "free", "full"), [
    (0, 700, True), (0, 736, False), (600, 106, False), (600, 104, True), (700, 0, False),
])
def test_room_for_the_weights_that_are_still_to_be_fetched(there, free, full):
    cluster = Cluster(1)
    weights(cluster, bytes=there * GIB, hub={"exists": True, "bytes": 700 * GIB})
    cluster.node()["disk"][DIR]["free_bytes"] = free * GIB
    assert [entry[1] for entry in cluster.brief()] == (["disk_weights"] if full else [])


@pytest.mark.parametrize(("free", "full"), [(1 << 30, False), ((1 << 30) - 1, True), (0, True)])
def test_what_is_there_needs_room_to_run_only(free, full):
    cluster = Cluster(1)
    cluster.node()["docker"]["disk"]["free_bytes"], cluster.node()["disk"][DIR]["free_bytes"] = free, 0
    assert [entry[1:] for entry in cluster.brief()] == ([("disk_engine", "containers and logs", "fail")] if full else [])


@pytest.mark.parametrize(("asked", "status"), [("1g", None), ("1500g", None), ("1501g", "fail"), ("much", None)])
def test_shared_memory(asked, status):
    cluster = Cluster(1)
    cluster.host_plan()["units"][0]["shm_size"] = asked
    assert [entry[1:] for entry in cluster.brief()] == ([("shared_memory", "vllm_shm_size", status)] if status else [])


# the kernel: warnings only


@pytest.mark.parametrize(("change", "wanted"), [
    ({"sysctls": {"vm.swappiness": "1", "kernel.numa_balancing": "0"}}, []), ({"sysctls": {"vm.swappiness": None, "kernel.numa_balancing": None}}, []),
    ({"sysctls": {"vm.swappiness": "2", "kernel.numa_balancing": "1"}}, ["vm.swappiness", "kernel.numa_balancing"]), ({"cpu_governors": []}, []),
    ({"cpu_governors": ["powersave"]}, ["scaling_governor"]), ({"transparent_hugepage": "never"}, []), ({"transparent_hugepage": None}, []),
    ({"transparent_hugepage": "always"}, ["transparent_hugepage"]), ({"hugepages": None}, []),
    ({"hugepages": {"total": 9, "free": 300000, "size_kb": 2048}}, []),
    ({"hugepages": {"total": 9, "free": 400000, "size_kb": 2048}}, ["nr_hugepages"]), ({"hugepages": {"total": 600000, "free": 0, "size_kb": 2048}}, []),
])
def test_kernel_settings_warn(change, wanted):
    cluster = Cluster(1)
    cluster.node().update(change)
    assert [(entry["device"], entry["status"]) for entry in cluster.bad()] == [(device, "warn") for device in wanted]
    assert cluster.report()["result"] == "pass"


@pytest.mark.parametrize(("kind", "bad"), [("controller", []), ("rsync", []), ("local", ["model_exists"])])
def test_weights_that_are_copied_need_not_be_there_yet(kind, bad):
    cluster = Cluster()
    cluster.plan["groups"]["vllm"]["weights"].update(kind=kind, id="/srv/model")
    cluster.facts[cluster.hosts[0]]["artefacts"]["weights"][0].update(complete=False, differences=["nothing"], bytes=0)
    assert [entry["check"] for entry in cluster.bad()] == bad


@pytest.mark.parametrize(("fanout", "bad"), [("each", ["image_exists"]), ("head", [])])
def test_an_image_that_comes_from_the_head_need_not_be_in_a_registry(fanout, bad):
    cluster = Cluster()
    cluster.plan["groups"]["vllm"]["image_fanout"] = fanout
    image = {"present": False, "id": None, "registry": None, "source": None, "failed": []}
    cluster.facts["a2-node1"]["artefacts"]["images"] = {IMAGE: image}
    assert [entry["check"] for entry in cluster.bad() if entry["host"] == "a2-node1"] == bad
