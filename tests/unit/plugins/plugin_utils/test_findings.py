# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the judge with an answer that passes, one that fails and one that is not understood."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import findings
from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_line

H, P = "a2-node0", "a2-node1"
IMAGE = "quay.io/ascend/vllm-ascend:v0.13.0"
DIR = "/mnt/weights/DeepSeek-R1-W8A8"
KEYS = {"host", "check", "device", "status", "observed", "expected", "remedy"}


def groups(*hosts):
    """Return the groups of a plan: one group of these hosts."""
    return {"vllm": {"head": H, "hosts": list(hosts), "api": {"host": H, "address": "198.51.100.11", "port": 8000}, "rpc_port": 13389, "image": IMAGE,
                     "weights": {"kind": "modelscope", "id": "x/y", "dir": DIR}}}


PAIR, ALONE = groups(H, P), groups(H)


def unit(head=True, npus=range(8), **more):
    """Return one unit of a plan."""
    return dict({
        "name": "vllm-rank0" if head else "vllm-rank2", "group": "vllm", "head": head, "headless": not head, "image": IMAGE, "npus": list(npus), "env": {},
        "devices": [f"/dev/davinci{number}" for number in npus] + ["/dev/davinci_manager"],
        "mount_candidates": {"/usr/local/bin/npu-smi": {"sources": ["/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi"]}},
        "no_proxy": ["198.51.100.11", "198.51.100.12", "localhost"],
    }, **more)


def host_plan(head=True, hardware="a2", **more):
    """Return one host of a plan."""
    return {"local_ip": "198.51.100.11", "nic_name": "eth0", "hardware": hardware, "npus_expected": 8, "units": [unit(head, **more)]}


def node(**more):
    """Return what node_info says of a sound node."""
    return dict({
        "interfaces": [{"name": "lo", "up": True, "addresses": ["127.0.0.1/8"]}, {"name": "eth0", "up": True, "addresses": ["198.51.100.11/24"]}],
        "npus": list(range(8)), "listening": [], "python": {"requests": True, "executable": "/usr/bin/python3"},
        "docker": {"reachable": True, "api_version": "1.41", "error": None},
    }, **more)


def npu(health="OK", count=8, **more):
    """Return what npu_info says."""
    entries = [{"npu_id": number, "phy_id": number, "health": "OK"} for number in range(count)]
    if entries:
        entries[-1]["health"] = health
    return dict({"npus": entries, "hardware": "a2", "driver_version": "25.2.1"}, **more)


def artefacts(**more):
    """Return what artefact_info says of a node that has everything."""
    return dict({"images": {IMAGE: {"present": True, "registry": None}}, "weights": [{"dir": DIR, "complete": True, "differences": [], "hub": None}],
                 "containers": {"vllm-rank0": {"exists": False, "running": False, "pids": []}}, "docker_error": None}, **more)


def judge(plan=None, where=None, **answers):
    """Judge the head; answers override those of a sound node."""
    given = dict({"node": node(), "npu": npu(), "artefacts": artefacts(), "mounts": []}, **answers)
    found = findings.driver_findings(H, plan or host_plan(), where or PAIR, **given)
    for check in found:
        assert set(check) == KEYS and check["host"] == H and check["observed"] and check["expected"]
        assert check["status"] in ("pass", "warn", "fail", "unknown") and bool(check["remedy"]) == (check["status"] != "pass")
    return found


def bad(found):
    """Return (check, status) of what did not pass."""
    return [(check["check"], check["status"]) for check in found if check["status"] != "pass"]


def the(found, name):
    """Return the only check of a name."""
    named = [check for check in found if check["check"] == name]
    assert len(named) == 1, found
    return named[0]


# what is asked


def test_questions_of_a_head_and_of_a_headless_node():
    asked = findings.driver_questions(host_plan(), PAIR)
    assert asked["paths"] == sorted([f"/dev/davinci{n}" for n in range(8)] + ["/dev/davinci_manager", "/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi"])
    assert asked["ports"] == [8000, 13389] + list(range(60000, 60032))
    assert (asked["images"], asked["weights"], asked["containers"]) == ([IMAGE], [PAIR["vllm"]["weights"]], ["vllm-rank0"])
    asked = findings.driver_questions(host_plan(head=False), PAIR)
    assert (asked["ports"], asked["weights"], asked["containers"]) == (list(range(60000, 60032)), [], ["vllm-rank2"])


def test_a_group_of_one_has_no_rpc_port():
    assert findings.driver_questions(host_plan(), ALONE)["ports"] == [8000] + list(range(60000, 60032))


def test_hccls_ports_are_where_the_environment_says():
    moved = host_plan(env={"HCCL_IF_BASE_PORT": "61000"})
    assert findings.driver_questions(moved, PAIR)["ports"] == [8000, 13389] + list(range(61000, 61032))
    assert bad(judge(moved, node=node(listening=[{"port": 60000, "pid": 7, "process": "x"}]))) == []
    assert bad(judge(moved, node=node(listening=[{"port": 61000, "pid": 7, "process": "x"}]))) == [("port_free", "fail")]


# one node


def test_a_sound_node_passes_every_rule():
    found = judge()
    assert bad(found) == []
    assert {check["check"] for check in found} == {
        "python_requests", "docker_engine", "npu_hardware", "npu_count", "npu_device_nodes", "nic_owns_address", "nic_up", "image_exists", "model_exists"}


@pytest.mark.parametrize("answer, said", [
    ({"unreachable": True, "msg": "Permission denied\n (publickey)."}, "Permission denied (publickey)."),
    ({}, "no answer"),
    (None, "no answer"),
])
def test_a_node_that_does_not_answer_is_one_failed_check(answer, said):
    found = judge(node=answer, npu={"skipped": True}, artefacts={"skipped": True}, mounts=[])
    assert bad(found) == [("node_answers", "fail")] and found[0]["observed"] == said and f"ansible {H} " in found[0]["remedy"]


def test_mount_checks_are_this_hosts():
    mount = {"host": "", "check": "mount_source", "device": "/etc/hccn.conf", "status": "fail", "observed": "absent", "expected": "a file", "remedy": "x"}
    assert the(judge(mounts=[mount]), "mount_source") == dict(mount, host=H)


@pytest.mark.parametrize("change, wanted", [
    ({"node": node(python={"requests": False, "executable": "/usr/bin/python3.9"})}, ("python_requests", "fail", "absent for /usr/bin/python3.9")),
    ({"node": node(docker={"reachable": False, "error": "no such socket"})}, ("docker_engine", "fail", "no such socket")),
    ({"node": node(docker={"reachable": True, "api_version": "1.24"})}, ("docker_engine", "fail", "API 1.24")),
    ({"node": node(docker={"reachable": True, "api_version": "1.9"})}, ("docker_engine", "fail", "API 1.9")),
    ({"node": node(docker={"reachable": True, "api_version": None})}, ("docker_engine", "fail", "API None")),
    ({"node": node(docker={})}, ("docker_engine", "fail", "no answer")),
    ({"artefacts": artefacts(docker_error="timed out", images={}, containers={})}, ("docker_engine", "fail", "timed out")),
    ({"npu": npu(hardware="a3")}, ("npu_hardware", "fail", "a3")),
    ({"npu": npu(hardware="unknown")}, ("npu_hardware", "unknown", "unknown")),
    ({"npu": npu(count=7)}, ("npu_count", "fail", "7 in npu-smi info")),
    ({"npu": npu(count=0)}, ("npu_count", "fail", "0 in npu-smi info")),
    ({"npu": {"failed": True, "msg": "dcmi module initialize failed.\nret is -8005"}}, ("npu_smi", "fail", "dcmi module initialize failed. ret is -8005")),
    ({"npu": {"failed": False, "msg": "npu-smi was not found"}}, ("npu_smi", "fail", "npu-smi was not found")),
    ({"npu": npu(failed=True, msg="half an answer")}, ("npu_smi", "fail", "half an answer")),
    ({"npu": {}}, ("npu_smi", "fail", "no answer")),
    ({"npu": None}, ("npu_smi", "fail", "no answer")),
    ({"node": node(npus=[0, 1, 2, 4, 5, 6])}, ("npu_device_nodes", "fail", "missing: /dev/davinci3, /dev/davinci7")),
    ({"npu": npu(health="Warning")}, ("npu_health", "warn", "Warning")),
    ({"npu": npu(health="Alarm")}, ("npu_health", "fail", "Alarm")),
    ({"npu": npu(health="Critical")}, ("npu_health", "fail", "Critical")),
    ({"npu": npu(health="UNKNOWN")}, ("npu_health", "unknown", "UNKNOWN")),
    ({"npu": npu(health=None)}, ("npu_health", "unknown", "nothing")),
    ({"node": node(interfaces=[{"name": "eth0", "up": True, "addresses": []}])}, ("nic_owns_address", "fail", "198.51.100.11 is on no interface")),
    ({"node": node(interfaces=[{"name": "eth1", "up": True, "addresses": ["198.51.100.11/24"]}])}, ("nic_owns_address", "fail", "198.51.100.11 is on eth1")),
    ({"node": node(interfaces=[{"name": "eth0", "up": True, "addresses": ["198.51.100.111/24"]}])},
     ("nic_owns_address", "fail", "198.51.100.11 is on no interface")),
    ({"node": node(interfaces=[{"name": "eth0", "up": False, "addresses": ["198.51.100.1/24", "198.51.100.11/32"]}])}, ("nic_up", "fail", "down")),
    ({"artefacts": artefacts(images={IMAGE: {"present": False, "registry": {"exists": False, "url": "https://quay.io/v2/x"}}})},
     ("image_exists", "fail", "not in the registry (https://quay.io/v2/x)")),
    ({"artefacts": artefacts(images={IMAGE: {"present": False, "registry": {"exists": None, "error": "timed out"}}})}, ("image_exists", "fail", "timed out")),
    ({"artefacts": artefacts(images={IMAGE: {"present": False, "registry": {"exists": None, "error": None}}})}, ("image_exists", "fail", "no usable answer")),
    ({"artefacts": artefacts(weights=[{"dir": DIR, "complete": False, "differences": ["x"], "hub": {"exists": False, "error": "HTTP 404: no such model"}}])},
     ("model_exists", "fail", "HTTP 404: no such model")),
    ({"artefacts": artefacts(weights=[{"dir": DIR, "complete": False, "differences": ["a", "b", "c", "d"], "hub": None}])},
     ("model_exists", "fail", "a; b; c")),
    ({"artefacts": {"failed": False, "msg": "MODULE FAILURE\nsee stdout"}}, ("artefacts", "unknown", "MODULE FAILURE see stdout")),
    ({"artefacts": {}}, ("artefacts", "unknown", "no answer")),
    ({"artefacts": None}, ("artefacts", "unknown", "no answer")),
])
def test_one_fault_is_one_finding(change, wanted):
    found = judge(**change)
    assert [(check["check"], check["status"], check["observed"]) for check in found if check["status"] != "pass"] == [wanted]


def test_the_oldest_engine_that_will_do():
    assert bad(judge(node=node(docker={"reachable": True, "api_version": "1.25"}))) == []


def test_an_address_on_two_interfaces_is_judged_by_the_one_that_is_used():
    both = [{"name": name, "up": name == "eth0", "addresses": ["198.51.100.11/24"]} for name in ("bond0", "eth0", "eth1")]
    assert bad(judge(node=node(interfaces=both))) == []
    elsewhere = judge(node=node(interfaces=[entry for entry in both if entry["name"] != "eth0"]))
    assert the(elsewhere, "nic_owns_address")["observed"] == "198.51.100.11 is on bond0, eth1"


def test_what_a_person_reads_of_a_broken_node():
    missing = {"present": False, "registry": {"exists": None, "error": "https://quay.io: timed out"}}
    found = judge(
        node=node(python={"requests": False, "executable": "/usr/bin/python3"}, docker={"reachable": True, "api_version": "1.18"}, npus=list(range(7)),
                  interfaces=[{"name": "eth1", "up": True, "addresses": ["198.51.100.11/24"]}], listening=[listener(60001, 9, "old")]),
        npu=npu(health="Alarm", count=7, hardware="a3"),
        artefacts=artefacts(docker_error="/var/run/docker.sock: timed out", images={IMAGE: missing},
                            weights=[{"dir": DIR, "complete": False, "differences": ["a"], "hub": {"error": "HTTP 404"}}]))
    assert [check_line(check) for check in found] == [
        "[fail] a2-node0: python_requests: found absent for /usr/bin/python3, wanted the Python module requests (community.docker needs it). "
        "Remedy: apt-get install python3-requests, or dnf install python3-requests",
        "[fail] a2-node0: docker_engine: found API 1.18, wanted API 1.25 or newer. Remedy: install Docker and start it: systemctl enable --now docker",
        "[fail] a2-node0: npu_hardware: found a3, wanted a2. Remedy: set vllm_hardware of this host to what it is, or take the host out of the group",
        "[fail] a2-node0: npu_count: found 7 in npu-smi info, wanted 8. "
        "Remedy: look for a dropped card: lspci -d 19e5: and dmesg; or correct vllm_npus of this host",
        "[fail] a2-node0: npu_device_nodes: found missing: /dev/davinci7, wanted /dev/davinci0 to /dev/davinci7. "
        "Remedy: reload the driver; a device node is missing",
        "[fail] a2-node0 npu6: npu_health: found Alarm, wanted OK. Remedy: npu-smi info -t health -i 6 on this node names the error codes",
        "[fail] a2-node0 vllm_nic_name: nic_owns_address: found 198.51.100.11 is on eth1, wanted 198.51.100.11 on eth0. "
        "Remedy: set vllm_nic_name of a2-node0 to the interface that has 198.51.100.11, or vllm_local_ip to an address of eth0",
        "[fail] a2-node0 HCCL_IF_BASE_PORT: port_free: found old (pid 9) listens on it, wanted port 60001 free. "
        "Remedy: stop that process, or set HCCL_IF_BASE_PORT of vllm_extra_env to another port",
        "[fail] a2-node0: docker_engine: found /var/run/docker.sock: timed out, wanted answers on its socket. Remedy: systemctl status docker",
        f"[fail] a2-node0 {IMAGE}: image_exists: found https://quay.io: timed out, wanted a registry that has {IMAGE}. "
        "Remedy: check vllm_image_registries, the proxy and the insecure registries of this node's Docker engine",
        f"[fail] a2-node0 {DIR}: model_exists: found HTTP 404, wanted the model on the hub. "
        "Remedy: check id, revision and endpoint in vllm_weights_source, and that this node reaches the hub",
    ]


def test_the_device_of_a_sick_npu_is_its_physical_id_where_that_is_known():
    answer = npu()
    answer["npus"][2].update(health="Alarm", phy_id=5)
    answer["npus"][3].update(health="Alarm", phy_id=None)
    assert [check["device"] for check in judge(npu=answer) if check["check"] == "npu_health"] == ["npu5", "npu3"]


def test_more_npus_than_expected_are_no_fault_and_a_unit_may_have_none():
    assert bad(judge(npu=npu(count=16))) == []
    assert bad(judge(host_plan(npus=[]))) == []


def test_an_engine_that_is_down_is_said_once_and_hides_nothing_else():
    found = judge(node=node(docker={"reachable": False, "error": "refused"}),
                  artefacts=artefacts(docker_error="refused", images={}, containers={}, weights=[
                      {"dir": DIR, "complete": False, "differences": ["x"], "hub": {"exists": False, "error": "HTTP 404"}}]))
    assert bad(found) == [("docker_engine", "fail"), ("model_exists", "fail")]


def test_weights_that_come_from_no_hub_are_put_there_by_hand():
    check = the(judge(artefacts=artefacts(weights=[{"dir": DIR, "complete": False, "differences": ["config.json is missing"], "hub": None}])), "model_exists")
    assert (check["observed"], check["expected"]) == ("config.json is missing", "the whole model in its directory") and "put the missing" in check["remedy"]


def test_what_can_be_fetched_passes():
    found = judge(artefacts=artefacts(
        images={IMAGE: {"present": False, "registry": {"exists": True}}},
        weights=[{"dir": DIR, "complete": False, "differences": ["no marker"], "hub": {"exists": True, "error": None}}]))
    assert bad(found) == []
    assert (the(found, "image_exists")["observed"], the(found, "model_exists")["observed"]) == ("in the registry", "on the hub")


# ports


def listener(port, pid, process="python3", address="0.0.0.0"):
    """Return one listener as node_info shows it."""
    return {"port": port, "pid": pid, "process": process, "address": address}


def ours(running=True, pids=(100, 101)):
    """Return what artefact_info says while our server runs."""
    return artefacts(containers={"vllm-rank0": {"exists": True, "running": running, "pids": list(pids)}})


def test_our_own_server_is_no_finding():
    found = judge(node=node(listening=[listener(8000, 100), listener(13389, 101), listener(60000, 101)]), artefacts=ours())
    assert bad(found) == []


@pytest.mark.parametrize("there", [ours(), ours(running=False, pids=()), artefacts()])
def test_a_stranger_is_named_alone_also_beside_our_own_server(there):
    mine = [listener(13389, 101)] if there == ours() else []
    found = judge(node=node(listening=[*mine, listener(8000, 4242, "nginx")]), artefacts=there)
    assert bad(found) == [("port_free", "fail")]
    check = the(found, "port_free")
    assert (check["device"], check["observed"], check["expected"]) == ("vllm_port", "nginx (pid 4242) listens on it", "port 8000 free")
    assert check["remedy"] == "stop that process, or set vllm_port to another port"


def test_a_stranger_on_the_same_port_as_our_server_is_seen():
    found = judge(node=node(listening=[listener(8000, 4242, "nginx", "127.0.0.1"), listener(8000, 100)]), artefacts=ours())
    assert [check["observed"] for check in found if check["check"] == "port_free"] == ["nginx (pid 4242) listens on it"]


def test_a_stranger_is_named_once_a_port():
    found = judge(node=node(listening=[listener(8000, 7), listener(8000, 7, address="::"), listener(8000, 8), listener(13389, 7)]))
    assert [(check["device"], check["observed"]) for check in found if check["check"] == "port_free"] == [
        ("vllm_port", "python3 (pid 7) listens on it"), ("vllm_port", "python3 (pid 8) listens on it"),
        ("vllm_data_parallel_rpc_port", "python3 (pid 7) listens on it")]


def test_a_listener_that_nobody_can_name_is_a_stranger_unless_our_server_runs():
    unnamed = node(listening=[listener(8000, None, None)])
    assert bad(judge(node=unnamed, artefacts=ours())) == []
    assert the(judge(node=unnamed), "port_free")["observed"] == "a process (pid ?) listens on it"


def test_hccls_ports_say_where_they_are_set():
    check = the(judge(node=node(listening=[listener(60031, 7)])), "port_free")
    assert check["device"] == "HCCL_IF_BASE_PORT" and "set HCCL_IF_BASE_PORT of vllm_extra_env" in check["remedy"]
    assert bad(judge(node=node(listening=[listener(60032, 7), listener(22, 7)]))) == []


def test_a_headless_node_needs_no_api_port():
    assert bad(judge(host_plan(head=False), node=node(listening=[listener(8000, 7), listener(13389, 7)]))) == []


# NPU network


def port(number, **more):
    """Return one device as hccn_info shows it."""
    return dict({"phy_id": number, "ip": f"203.0.113.{number}", "link": "UP", "net_health": "Success", "tls": 0, "vnic": None, "errors": {}}, **more)


def hccn(where=None, plan=None, mesh=None, devices=None, **more):
    """Judge a head of 2 NPUs of which the second answers this."""
    plan = plan or host_plan(npus=range(2))
    found = findings.hccn_findings(H, plan, where or PAIR, {"devices": [port(0), port(1, **more)] if devices is None else devices}, mesh)
    for check in found:
        assert set(check) == KEYS and check["host"] == H and check["observed"] and bool(check["remedy"]) == (check["status"] != "pass")
    return found


A3 = host_plan(hardware="a3", npus=range(2))
VNIC = {"link": "UP", "ip": "192.168.2.199", "netmask": "255.255.255.0"}


def test_sound_ports_pass_every_rule():
    found = hccn()
    assert bad(found) == [] and len(found) == 6
    assert {check["check"] for check in found} == {"hccn_link", "hccn_net_health", "hccn_address"}


FAULTS = [
    ({"link": "DOWN"}, ("hccn_link", "fail", "DOWN")),
    ({"link": None}, ("hccn_link", "unknown", "nothing")),
    ({"link": None, "errors": {"link": "hccn_tool timed out after 30 s"}}, ("hccn_link", "unknown", "hccn_tool timed out after 30 s")),
    ({"net_health": "Init"}, ("hccn_net_health", "warn", "Init")),
    ({"net_health": "Receive timeout"}, ("hccn_net_health", "fail", "Receive timeout")),
    ({"net_health": None}, ("hccn_net_health", "unknown", "nothing")),
    ({"net_health": None, "errors": {"net_health": "busy"}}, ("hccn_net_health", "unknown", "busy")),
    ({"ip": None}, ("hccn_address", "fail", "nothing")),
    ({"ip": None, "errors": {"ip": "exit 1: boom"}}, ("hccn_address", "unknown", "exit 1: boom")),
    ({"tls": None, "errors": {"tls": "exit 1: boom"}}, ("hccn_tls", "unknown", "exit 1: boom")),
]


@pytest.mark.parametrize("answer, wanted", FAULTS)
def test_one_fault_of_a_port_is_one_finding(answer, wanted):
    found = [check for check in hccn(**answer) if check["status"] != "pass"]
    assert [(check["check"], check["status"], check["observed"]) for check in found] == [wanted]
    assert found[0]["device"] == "npu1" and ("-i 1 " in found[0]["remedy"] or "address_1" in found[0]["remedy"])


@pytest.mark.parametrize("answer, wanted", FAULTS)
def test_in_a_group_of_one_node_every_fault_only_warns(answer, wanted):
    assert bad(hccn(ALONE, **answer)) == [(wanted[0], "warn")]


@pytest.mark.parametrize("where, status", [(PAIR, "fail"), (ALONE, "warn"), (groups(P, "a2-node2"), "warn")])
@pytest.mark.parametrize("answer, said", [
    ({"failed": False, "msg": "hccn_tool was\nnot found"}, "hccn_tool was not found"), ({}, "no answer"), (None, "no answer"),
])
def test_a_tool_that_gave_nothing(where, status, answer, said):
    found = findings.hccn_findings(H, host_plan(), where, answer, None)
    assert bad(found) == [("hccn_tool", status)] and found[0]["observed"] == said


def test_an_npu_without_any_answer_is_unknown():
    assert [(check["device"], check["status"]) for check in hccn(devices=[port(1)]) if check["status"] != "pass"] == [("npu0", "unknown")]
    assert bad(hccn(devices=[])) == [("hccn_link", "unknown")] * 2
    assert bad(hccn(ALONE, devices=[])) == [("hccn_link", "warn")] * 2


def test_an_a3_die_needs_no_roce_while_hccs_is_up():
    dark = {"link": "DOWN", "net_health": "Init", "ip": None}
    assert bad(hccn(plan=A3, vnic=VNIC, **dark)) == [("hccn_link", "warn"), ("hccn_net_health", "warn")]
    assert bad(hccn(plan=A3, vnic=VNIC, link=None, net_health=None, ip=None)) == [("hccn_link", "warn"), ("hccn_net_health", "warn")]
    assert [check["observed"] for check in hccn(plan=A3, vnic=VNIC, **dark) if check["check"] == "hccn_address"] == ["203.0.113.0", "192.168.2.199 (HCCS)"]
    for vnic in (None, dict(VNIC, link="DOWN"), dict(VNIC, ip=None)):
        assert bad(hccn(plan=A3, vnic=vnic, **dark)) == [("hccn_link", "fail"), ("hccn_net_health", "warn"), ("hccn_address", "fail")]
    # An A2 has no HCCS between nodes, whatever its tool says.
    assert ("hccn_link", "fail") in bad(hccn(vnic=VNIC, **dark))


@pytest.mark.parametrize("result, status, observed", [
    ({"status": "pass", "sent": 3, "received": 3, "text": ""}, "pass", "3 of 3 packets came back"),
    ({"status": "fail", "sent": 3, "received": 1, "text": "x"}, "fail", "1 of 3 packets came back"),
    ({"status": "fail", "sent": None, "received": None, "text": "exit 1: unreachable"}, "fail", "exit 1: unreachable"),
    ({"status": "unknown", "sent": None, "received": None, "text": "timed out after 30 s"}, "unknown", "timed out after 30 s"),
    ({"status": "unknown", "sent": 3, "received": 3, "text": "exit 7: odd"}, "unknown", "exit 7: odd"),
])
def test_pings(result, status, observed):
    found = the(hccn(mesh={"results": [dict(result, phy_id=1, address="203.0.113.9")]}), "npu_mesh")
    assert (found["status"], found["observed"], found["device"]) == (status, observed, "npu1->203.0.113.9")


@pytest.mark.parametrize("mesh, wanted", [
    (None, []),
    ({}, []),
    ({"skipped": True, "changed": False, "skip_reason": "Conditional result was False"}, []),
    ({"results": []}, []),
    # What a failed task is with failed_when false: not failed.
    ({"failed": False, "failed_when_result": False, "msg": "hccn_tool was\nnot found"}, ["hccn_tool was not found"]),
    ({"failed": True, "msg": "MODULE FAILURE"}, ["MODULE FAILURE"]),
])
def test_pings_that_were_not_sent_are_unknown_unless_there_were_none_to_send(mesh, wanted):
    assert [(check["status"], check["observed"]) for check in hccn(mesh=mesh) if check["check"] == "npu_mesh"] == [("unknown", said) for said in wanted]


# who pings whom


def test_each_npu_pings_its_counterpart_on_every_peer():
    answers = {host: {"devices": [port(n, ip=f"203.0.113.{10 * index + n}") for n in (1, 0)]} for index, host in enumerate((H, P, "a2-node2"))}
    assert findings.mesh_pings(P, host_plan(), groups(H, P, "a2-node2"), answers) == [
        {"phy_id": 0, "address": "203.0.113.0", "kind": "roce"}, {"phy_id": 1, "address": "203.0.113.1", "kind": "roce"},
        {"phy_id": 0, "address": "203.0.113.20", "kind": "roce"}, {"phy_id": 1, "address": "203.0.113.21", "kind": "roce"}]


@pytest.mark.parametrize("hardware, vnic, wanted", [
    ("a3", VNIC, [("hccs", "192.168.2.199")]),
    ("a3", None, [("roce", "203.0.113.0")]),
    ("a3", dict(VNIC, ip=None), [("roce", "203.0.113.0")]),
    ("a2", VNIC, [("roce", "203.0.113.0")]),
])
def test_a3_nodes_are_pinged_over_hccs_where_that_has_an_address(hardware, vnic, wanted):
    answers = {H: {"devices": [port(0)]}, P: {"devices": [port(0, vnic=vnic)]}}
    assert [(ping["kind"], ping["address"]) for ping in findings.mesh_pings(H, host_plan(hardware=hardware), PAIR, answers)] == wanted


@pytest.mark.parametrize("where, answers", [
    (ALONE, {H: {"devices": [port(0)]}}),
    (groups(P), {H: {"devices": [port(0)]}, P: {"devices": [port(0)]}}),
    (PAIR, {H: {"devices": [port(0)]}, P: {"devices": [port(0, ip=None)]}}),
    (PAIR, {H: {"devices": [port(0)]}, P: {"msg": "unreachable", "unreachable": True}}),
    (PAIR, {P: {"devices": [port(0)]}}),
])
def test_nobody_to_ping(where, answers):
    assert findings.mesh_pings(H, host_plan(), where, answers) == []


def test_a_host_of_two_groups_pings_the_larger():
    where = dict(ALONE, big=dict(PAIR["vllm"]))
    answers = {H: {"devices": [port(0)]}, P: {"devices": [port(0, ip="203.0.113.99")]}}
    assert [ping["address"] for ping in findings.mesh_pings(H, host_plan(), where, answers)] == ["203.0.113.99"]


# all nodes


def values(host, tls=(0, 0), driver="25.2.1", results=(), hccn_results=()):
    """Return the variables that a checked host leaves behind."""
    return {
        "driver_check_results": list(results), "hccn_verify_results": list(hccn_results), "driver_check_npu": {"driver_version": driver},
        "hccn_verify_info": {"devices": [port(number, tls=switch) for number, switch in enumerate(tls)]}}


def fault(host, check="nic_up", status="fail"):
    """Return one check result that did not pass."""
    return findings.finding(host, check, status, "x", "y", "z")


def test_nothing_to_say_of_equal_nodes():
    assert findings.all_findings([H, P], {H: values(H), P: values(P)}) == []


def test_two_problems_on_two_hosts_are_both_reported():
    one, two, fine = fault(H), fault(P, "hccn_link", "unknown"), findings.finding(P, "nic_up", "pass", "x", "y")
    assert findings.all_findings([H, P], {H: values(H, results=[one]), P: values(P, results=[fine], hccn_results=[two])}) == [one, fine, two]


def test_a_host_that_left_nothing_behind_is_a_failed_check_beside_those_of_the_others():
    one = fault(H)
    found = findings.all_findings([H, P], {H: values(H, results=[one]), P: {}})
    assert found[0] == one and (found[1]["host"], found[1]["check"], found[1]["status"], len(found)) == (P, "node_answers", "fail", 2)


def test_an_unreachable_host_is_said_once():
    dead = {"driver_check_results": findings.driver_findings(P, host_plan(), PAIR, {"msg": "timed out", "unreachable": True}, {}, {}, [])}
    assert [(check["host"], check["check"]) for check in findings.all_findings([H, P], {H: values(H), P: dead})] == [(P, "node_answers")]


def test_a_host_whose_npu_network_was_not_looked_at_is_unknown():
    half = values(P)
    del half["hccn_verify_results"]
    found = findings.all_findings([H, P], {H: values(H), P: half})
    assert [(check["host"], check["check"], check["status"]) for check in found] == [(P, "hccn_verify", "unknown")]


def test_a_host_that_answered_with_faults_still_needs_its_npu_network_looked_at():
    half = values(P, results=[fault(P), findings.finding(P, "node_answers", "pass", "x", "y")])
    del half["hccn_verify_results"]
    assert [check["check"] for check in findings.all_findings([H, P], {H: values(H), P: half})] == ["nic_up", "node_answers", "hccn_verify"]


def test_an_unequal_tls_switch_is_named_by_host_and_npu():
    found = findings.all_findings([H, P], {H: values(H), P: values(P, tls=(0, 1))})
    assert bad(found) == [("hccn_tls", "fail")]
    assert (found[0]["host"], found[0]["device"], found[0]["observed"]) == (P, "npu1", "switch 1")
    assert found[0]["expected"] == "switch 0, as on the other NPUs" and found[0]["remedy"] == "hccn_tool -i 1 -tls -s enable 0"


def test_the_majority_of_the_switches_is_right_and_off_when_there_is_none():
    found = findings.all_findings([H, P], {H: values(H, tls=(1, 1)), P: values(P, tls=(1, 0))})
    assert [(check["host"], check["device"], check["remedy"]) for check in found] == [(P, "npu1", "hccn_tool -i 1 -tls -s enable 1")]
    found = findings.all_findings([H, P], {H: values(H, tls=(1, 1)), P: values(P)})
    assert [(check["host"], check["device"], check["expected"]) for check in found] == [
        (H, "npu0", "switch 0, as on the other NPUs"), (H, "npu1", "switch 0, as on the other NPUs")]


def test_tls_on_everywhere_warns_once_a_node():
    found = findings.all_findings([H, P], {H: values(H, tls=(1, 1)), P: values(P, tls=(1, 1))})
    assert [(check["host"], check["check"], check["status"]) for check in found] == [(H, "hccn_tls", "warn"), (P, "hccn_tls", "warn")]


def test_within_one_node_unequal_tls_only_warns():
    assert bad(findings.all_findings([H], {H: values(H, tls=(0, 1))})) == [("hccn_tls", "warn")]


def test_a_tool_without_a_tls_question_has_no_say():
    assert findings.all_findings([H, P], {H: values(H), P: values(P, tls=(None, None))}) == []
    dark = dict(values(P), hccn_verify_info={"msg": "not found"})
    assert findings.all_findings([H, P], {H: values(H), P: dark}) == []


def test_an_unequal_driver_is_named():
    found = findings.all_findings([H, P], {H: values(H), P: values(P, driver="24.1.rc3")})
    assert bad(found) == [("driver_equal", "fail")]
    assert (found[0]["host"], found[0]["observed"], found[0]["expected"]) == (P, "24.1.rc3", "25.2.1, as on a2-node0")
    assert findings.all_findings([H, P], {H: values(H), P: values(P, driver=None)}) == []


# image, weights, environment


def image(layers=("sha256:" + "a" * 64, "sha256:" + "b" * 64), architecture="arm64"):
    """Return what image_pull leaves behind."""
    return {"image_pull_found": {"layers": list(layers), "architecture": architecture, "id": "sha256:differs"}}


def test_images():
    assert findings.image_findings([H, P], {H: image(), P: dict(image(), id="other")}, IMAGE) == []
    found = findings.image_findings([H, P], {H: image(), P: image(["sha256:" + "c" * 64])}, IMAGE)
    assert [(check["host"], check["observed"], check["expected"]) for check in found] == [
        (P, "1 layers, last " + "c" * 12, f"2 layers, last {'b' * 12}, as on {H}")]
    found = findings.image_findings([H, P], {H: image(), P: image(architecture="amd64")}, IMAGE)
    assert [(check["host"], check["observed"], check["expected"]) for check in found] == [(P, "amd64", f"arm64, as on {H}")]
    found = findings.image_findings([H, P], {H: image(), P: image([], None)}, IMAGE)
    assert [check["observed"] for check in found] == ["None", "0 layers, last none"]
    assert bad(found) == [("image_equal", "fail")] * 2


def test_a_shared_directory_is_seen_by_all():
    seen = {H: {"weights_sync_seen": {"stat": {"exists": True}}}, P: {"weights_sync_seen": {"stat": {"exists": False}}}}
    assert [(check["host"], check["status"], check["device"]) for check in findings.shared_findings([H, P], seen, DIR)] == [(P, "fail", DIR)]
    assert findings.shared_findings([H], seen, DIR) == []


def weights(complete=True, fingerprint="f", **more):
    """Return what weights_sync leaves behind."""
    return {"weights_sync_found": dict({"complete": complete, "fingerprint": fingerprint, "files": 3, "bytes": 105, "differences": []}, **more)}


def test_weights_are_whole_and_the_same_on_all():
    group = PAIR["vllm"]
    assert findings.weights_findings([H, P], {H: weights(), P: weights()}, group) == []
    found = findings.weights_findings([H, P], {H: weights(), P: weights(fingerprint="g", files=4)}, group)
    assert [(check["host"], check["check"], check["observed"]) for check in found] == [(P, "weights_equal", "4 files, 105 bytes")]
    assert bad(found) == [("weights_equal", "fail")]
    found = findings.weights_findings([H, P], {H: weights(), P: weights(False, differences=list("abcdefg"))}, group)
    assert [(check["host"], check["check"], check["observed"]) for check in found] == [(P, "weights_complete", "a; b; c; d; e")]
    assert bad(found) == [("weights_complete", "fail")]


@pytest.mark.parametrize("env, wanted", [
    ({}, "198.51.100.11,198.51.100.12,localhost"),
    ({"no_proxy": "example.org, localhost"}, "198.51.100.11,198.51.100.12,localhost,example.org"),
    ({"NO_PROXY": "example.org", "no_proxy": "example.net"}, "198.51.100.11,198.51.100.12,localhost,example.net,example.org"),
    ({"no_proxy": ""}, "198.51.100.11,198.51.100.12,localhost"),
])
def test_the_groups_addresses_are_kept_from_any_proxy_beside_those_the_site_keeps(env, wanted):
    given = unit(env=dict(env, HCCL_IF_IP="198.51.100.11"))
    before = copy.deepcopy(given)
    assert findings.unit_env(given) == {"HCCL_IF_IP": "198.51.100.11", "no_proxy": wanted, "NO_PROXY": wanted}
    assert given == before
