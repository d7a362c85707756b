# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a whole: its shape, its determinism, and that its cost grows with the hosts and not with their square."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import inputs, plan, rank_variables, request
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates

INVENTORIES = Path(inputs.SPECIFICATION).parents[3] / "inventories"


#: What the weights of the recipe are verified for, and what nobody stated.
PROOF = {"requirements": {"quantization": "ascend", "mtp": True}, "token_file": None, "target": "shared", "bandwidth_limit": 0}


def test_shape_of_the_pair(hosts, planned, bad):
    result = planned(hosts(2))
    assert bad(result) == [] and result["checks"] == []
    made = result["plan"]
    assert made["schema"] == 1
    group = made["groups"]["vllm"]
    assert {
        key: group[key]
        for key in (
            "role",
            "head",
            "hosts",
            "data_parallel_size",
            "tensor_parallel_size",
            "model",
            "release",
            "hardware",
            "served_model_name",
            "rpc_port",
            "ready_timeout_s",
        )
    } == {
        "role": "serve",
        "head": "a2-node0",
        "hosts": ["a2-node0", "a2-node1"],
        "data_parallel_size": 4,
        "tensor_parallel_size": 4,
        "model": "deepseek_r1_w8a8",
        "release": "v0.13.0",
        "hardware": "a2",
        "served_model_name": "deepseek_r1",
        "rpc_port": 13389,
        "ready_timeout_s": 3600,
    }
    assert group["api"] == {
        "host": "a2-node0",
        "address": "198.51.100.11",
        "bind": "0.0.0.0",
        "port": 8000,
        "tls": False,
        "url": "http://198.51.100.11:8000",
        "ca_file": None,
    }
    assert group["image"] == "quay.io/ascend/vllm-ascend:v0.13.0"
    assert group["weights"] == {
        **PROOF,
        "kind": "modelscope",
        "id": "vllm-ascend/DeepSeek-R1-W8A8",
        "revision": "master",
        "endpoint": "https://www.modelscope.cn",
        "dir": "/mnt/weights/DeepSeek-R1-W8A8",
    }
    for index, (host, entry) in enumerate(made["hosts"].items()):
        assert (entry["local_ip"], entry["nic_name"], entry["hardware"], entry["npus_expected"]) == (
            f"198.51.100.{11 + index}",
            "eth0",
            "a2",
            8,
        )
        (unit,) = entry["units"]
        assert (unit["group"], unit["rank"], unit["ranks"], unit["head"], unit["headless"], unit["port"]) == (
            "vllm",
            2 * index,
            2,
            index == 0,
            index == 1,
            8000,
        )
        assert unit["name"] == f"vllm-rank{2 * index}", host
        assert unit["no_proxy"] == ["198.51.100.11", "198.51.100.12", "localhost", "127.0.0.1"]
        assert unit["start"]["set_env"] == ["/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/nnal/atb/set_env.sh"]
        assert unit["start"]["ld_preload"] == ["/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2"]
        assert set(unit["mount_candidates"]) == {mount.split(":")[1] for mount in unit["mounts"][:8]}
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(
    ("hardware", "variables", "image"),
    [
        ("a2", {}, "quay.io/ascend/vllm-ascend:v0.13.0"),
        ("a3", {}, "quay.io/ascend/vllm-ascend:v0.13.0-a3"),
        ("a2", {"vllm_image_os": "openeuler"}, "quay.io/ascend/vllm-ascend:v0.13.0-openeuler"),
        ("a3", {"vllm_image_os": "openeuler"}, "quay.io/ascend/vllm-ascend:v0.13.0-a3-openeuler"),
        ("a2", {"vllm_image_registries": ["m.daocloud.io/quay.io"]}, "m.daocloud.io/quay.io/ascend/vllm-ascend:v0.13.0"),
        ("a2", {"vllm_image": "r/x@sha256:" + "1" * 64}, "r/x@sha256:" + "1" * 64),
    ],
)
def test_image(hosts, planned, hardware, variables, image):
    result = planned(hosts({"a2": 2, "a3": 1}[hardware], hardware, **variables))
    assert result["plan"]["groups"]["vllm"]["image"] == image
    unit = next(iter(result["plan"]["hosts"].values()))["units"][0]
    assert unit["image"] == image
    wanted = (
        "/usr/lib64/libjemalloc.so.2"
        if variables.get("vllm_image_os") == "openeuler"
        else "/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2"
    )
    assert unit["start"]["ld_preload"] == [wanted]


def test_settings_reach_the_plan(hosts, planned):
    result = planned(
        hosts(
            2,
            vllm_port="9000",
            vllm_data_parallel_rpc_port="9001",
            vllm_served_model_name="r1",
            vllm_weights_source={"id": "me/other", "endpoint": "http://hub:8090"},
            vllm_weights_dir="/data/w",
            vllm_shm_size="16g",
            vllm_report_dir="/var/reports",
            vllm_api_key_file="/etc/key",
            vllm_extra_env={"VLLM_ENGINE_READY_TIMEOUT_S": 7200, "VLLM_HOST_IP": None, "X": "y"},
        )
    )
    group, unit = result["plan"]["groups"]["vllm"], result["plan"]["hosts"]["a2-node1"]["units"][0]
    assert group["weights"] == {
        **PROOF,
        "kind": "modelscope",
        "id": "me/other",
        "revision": "master",
        "endpoint": "http://hub:8090",
        "dir": "/data/w",
    }
    assert "/data/w:/data/w:ro" in unit["mounts"] and unit["argv"][2] == "/data/w"
    assert (unit["port"], group["api"]["port"], group["rpc_port"], unit["shm_size"]) == (9000, 9000, 9001, "16g")
    assert unit["argv"][unit["argv"].index("--served-model-name") + 1] == group["served_model_name"] == "r1"
    assert result["plan"]["run"]["report_dir"] == "/var/reports" and group["api_key_file"] == "/etc/key"
    assert (group["ready_timeout_s"], unit["env"]["VLLM_ENGINE_READY_TIMEOUT_S"], unit["env"]["X"]) == (7200, "7200", "y")
    # What the inventory sets or removes is its own and no longer shown as added.
    assert "VLLM_HOST_IP" not in unit["env"] and set(unit["env_added"]) == {"HCCL_CONNECT_TIMEOUT"}


def test_a_group_is_supervised_on_request(hosts, planned, bad):
    """Without it the port of the watch is in nobody's way, nor is it on a single host, where nobody else has to be answered."""
    result = planned(hosts(2, vllm_watch_port=13389))
    assert bad(result) == [] and result["plan"]["groups"]["vllm"]["supervise"] == {
        "enabled": False, "port": None, "units": ["vllm-rank0", "vllm-rank2"]}
    result = planned(hosts(2, vllm_supervise="yes"))
    assert bad(result) == [] and result["plan"]["groups"]["vllm"]["supervise"] == {
        "enabled": True, "port": 13390, "units": ["vllm-rank0", "vllm-rank2"]}
    alone = planned(hosts(1, "a3", vllm_supervise=True, vllm_watch_port=8000))
    assert bad(alone) == [] and alone["plan"]["groups"]["vllm"]["supervise"] == {"enabled": True, "port": None, "units": ["vllm-rank0"]}
    units = [unit["name"] for entry in result["plan"]["hosts"].values() for unit in entry["units"]]
    assert units == result["plan"]["groups"]["vllm"]["supervise"]["units"]


def test_an_api_listens_where_the_inventory_says(hosts, planned, bad):
    """On the loopback the head asks itself there; headless units have no API and keep the tutorial's option."""
    for bind in ("127.0.0.1", "198.51.100.11"):
        result = planned(hosts(2, vllm_bind_address=bind, vllm_port=9000))
        assert bad(result) == [] and result["checks"] == []
        api = result["plan"]["groups"]["vllm"]["api"]
        assert (api["bind"], api["address"], api["url"], api["tls"], api["ca_file"]) == (bind, bind, f"http://{bind}:9000", False, None)
        head, other = (result["plan"]["hosts"][f"a2-node{index}"]["units"][0]["argv"] for index in (0, 1))
        assert [argv[argv.index("--host") + 1] for argv in (head, other)] == [bind, "0.0.0.0"]
        assert head[head.index("--data-parallel-address") + 1] == "198.51.100.11"


def test_an_address_that_the_head_was_not_asked_for_is_a_warning(hosts, planned, bad):
    result = planned(hosts(2, vllm_bind_address="203.0.113.5"))
    assert bad(result) == [] and result["plan"]["groups"]["vllm"]["api"]["url"] == "http://203.0.113.5:8000"
    (warning,) = result["checks"]
    assert (warning["host"], warning["check"], warning["device"], warning["status"]) == ("a2-node0", "bind_address", "vllm_bind_address", "warn")
    assert "203.0.113.5" in warning["observed"] and "198.51.100.11" in warning["expected"]


@pytest.mark.parametrize(("owned", "problems"), [("203.0.113.5/24", 0), ("203.0.113.6/24", 1)])
def test_an_address_of_a_head_that_was_asked_is_known(hosts, planned, owned, problems):
    pair = hosts(2, vllm_bind_address="203.0.113.5")
    del pair["a2-node0"]["vllm_nic_name"]
    ports = [{"name": "eth0", "up": True, "addresses": ["198.51.100.11/24"]}, {"name": "eth1", "up": True, "addresses": [owned]}]
    result = planned(pair, answers={"a2-node0": {"hardware": "a2", "npus": list(range(8)), "interfaces": ports}})
    assert len(result["checks"]) == problems and (result["plan"] is None) == bool(problems)
    if problems:
        assert result["checks"][0]["device"] == "vllm_bind_address" and owned.partition("/")[0] in result["checks"][0]["observed"]


@pytest.fixture
def tls_files(tmp_path):
    """Files of a service's certificate as the variables name them."""
    texts = {"certificate": certificates.SIGNED, "key": certificates.SIGNED_KEY, "ca": certificates.AUTHORITY}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {f"vllm_tls_{name}_file": str(tmp_path / name) for name in texts}


def test_tls_reaches_the_head_only_and_no_secret_a_command_line(hosts, planned, bad, tls_files, tmp_path):
    result = planned(hosts(2, vllm_api_key_file="/etc/key", **tls_files))
    assert bad(result) == [] and result["checks"] == []
    group = result["plan"]["groups"]["vllm"]
    assert (group["api"]["tls"], group["api"]["url"]) == (True, "https://198.51.100.11:8000")
    assert group["api"]["ca_file"] == "/etc/ascend-vllm/vllm-rank0/tls_ca.pem"
    assert group["tls"] == {"certificate_file": f"{tmp_path}/certificate", "key_file": f"{tmp_path}/key", "ca_file": f"{tmp_path}/ca"}
    head, other = (result["plan"]["hosts"][f"a2-node{index}"]["units"][0] for index in (0, 1))
    plain = planned(hosts(2))["plan"]["hosts"]["a2-node0"]["units"][0]
    added = ["--ssl-certfile", "/run/ascend-vllm/tls.crt", "--ssl-keyfile", "/run/ascend-vllm/tls.key"]
    assert sorted(head["argv"]) == sorted(plain["argv"] + added) and not any("ssl" in word for word in other["argv"])
    key = {"source": "/etc/key", "name": "api_key", "mount": "api_key:/run/ascend-vllm/api_key:ro"}
    assert plain["secrets"] == [] and other["secrets"] == [key]
    assert head["secrets"] == [
        key,
        {"source": f"{tmp_path}/certificate", "name": "tls.crt", "mount": "tls.crt:/run/ascend-vllm/tls.crt:ro"},
        {"source": f"{tmp_path}/key", "name": "tls.key", "mount": "tls.key:/run/ascend-vllm/tls.key:ro"},
    ]
    assert head["env"] == plain["env"] and "PRIVATE KEY" not in json.dumps(result)
    assert planned(hosts(2, vllm_api_key_file="/etc/key", **tls_files)) == result


def test_a_certificate_vouches_for_itself_if_nothing_else_does_and_an_entry_may_state_it(hosts, planned, tls_files):
    entry = {name.removeprefix("vllm_"): path for name, path in tls_files.items() if name != "vllm_tls_ca_file"}
    pair = hosts(2, vllm_groups=[{"name": "r1", "bind_address": "127.0.0.1", **entry}])
    group = planned(pair)["plan"]["groups"]["r1"]
    assert group["tls"]["ca_file"] == group["tls"]["certificate_file"] == tls_files["vllm_tls_certificate_file"]
    assert (group["api"]["url"], group["api"]["ca_file"]) == ("https://127.0.0.1:8000", "/etc/ascend-vllm/r1-rank0/tls_ca.pem")


def test_the_files_are_on_the_head_that_only_answers_http(hosts, planned, tls_files):
    trio = hosts(3, **tls_files)
    trio["a2-node0"]["vllm_data_parallel_size_local"] = 0
    made = planned(trio)["plan"]
    assert made["groups"]["vllm"]["api"]["ca_file"] == "/etc/ascend-vllm/vllm-api/tls_ca.pem"
    assert [len(made["hosts"][f"a2-node{index}"]["units"][0]["secrets"]) for index in range(3)] == [2, 0, 0]


@pytest.mark.parametrize(("stated", "absent"), [
    ({"certificate"}, "vllm_tls_key_file"), ({"key"}, "vllm_tls_certificate_file"), ({"ca"}, "vllm_tls_certificate_file"),
    ({"certificate", "ca"}, "vllm_tls_key_file"),
])
def test_half_of_a_certificate_is_refused(hosts, only_problem, tls_files, stated, absent):
    problem = only_problem(hosts(2, **{f"vllm_tls_{name}_file": tls_files[f"vllm_tls_{name}_file"] for name in stated}))
    assert (problem["host"], problem["check"], problem["device"]) == ("a2-node0", "tls_files", absent)
    assert problem["observed"].startswith("group vllm: nothing, with vllm_tls_") and problem["remedy"].startswith(f"set {absent} to a file")


def test_files_that_do_not_belong_together_are_refused_and_a_missing_one_is_the_only_problem(hosts, only_problem, planned, tls_files, tmp_path):
    (tmp_path / "other").write_text(certificates.OTHER_KEY)
    problem = only_problem(hosts(2, **{**tls_files, "vllm_tls_key_file": str(tmp_path / "other")}))
    assert (problem["host"], problem["device"]) == ("a2-node0", "vllm_tls_key_file") and "mismatch" in problem["observed"]
    result = planned(hosts(2, **{**tls_files, "vllm_tls_key_file": str(tmp_path / "absent")}))
    assert {(check["check"], check["device"]) for check in result["checks"]} == {("variable_value", "vllm_tls_key_file")}


def test_a_weights_directory_is_named_after_the_model(hosts, planned):
    result = planned(hosts(2, vllm_weights_source={"id": "me/other/"}))
    assert result["plan"]["groups"]["vllm"]["weights"]["dir"] == "/mnt/weights/other"


def test_a_head_that_only_answers_http(hosts, planned, bad):
    trio = hosts(3)
    trio["a2-node0"]["vllm_data_parallel_size_local"] = 0
    result = planned(trio)
    assert bad(result) == []
    head, second = (result["plan"]["hosts"][f"a2-node{index}"]["units"][0] for index in (0, 1))
    assert (head["name"], head["ranks"], head["npus"], head["devices"]) == (
        "vllm-api",
        0,
        [],
        ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"],
    )
    assert head["argv"][head["argv"].index("--data-parallel-size-local") + 1] == "0"
    assert second["name"] == "vllm-rank0" and second["argv"][second["argv"].index("--data-parallel-start-rank") + 1] == "0"


def test_a_single_host_has_no_rpc_port_that_could_be_in_the_way(hosts, planned, bad):
    result = planned(hosts(1, "a3", vllm_port=13389))
    assert bad(result) == []
    assert not [
        word for word in result["plan"]["hosts"]["a3-node0"]["units"][0]["argv"] if "rpc" in word or "local" in word or "address" in word
    ]


def test_hosts_of_different_size_use_all_of_their_npus(hosts, planned, bad):
    pair = hosts(2)
    pair["a2-node1"]["vllm_npus"] = 16
    found = bad(planned(pair))
    assert [check["check"] for check in found] == ["expert_parallel_size"]
    pair["a2-node1"]["vllm_data_parallel_size_local"] = 6
    assert bad(planned(pair))[0]["check"] == "ranks_fit_npus"
    pair["a2-node0"]["vllm_npus"], pair["a2-node1"]["vllm_data_parallel_size_local"] = 16, 4
    assert bad(planned(pair)) == []


def test_only_hosts_that_leave_something_unstated_are_asked(hosts, planned, bad):
    pair = hosts(2, vllm_network="198.51.100.0/24")
    del pair["a2-node1"]["vllm_local_ip"], pair["a2-node1"]["vllm_nic_name"]
    asked = request.build({"vllm": list(pair)}, pair)
    assert asked["discover"] == ["a2-node1"]
    answer = {"hardware": "a2", "npus": list(range(8)), "interfaces": [{"name": "bond0.7", "up": True, "addresses": ["198.51.100.12/24"]}]}
    result = plan.compute(asked, {"a2-node1": answer})
    assert bad(result) == []
    assert result["plan"]["hosts"]["a2-node1"]["units"][0]["env"]["HCCL_SOCKET_IFNAME"] == "bond0.7"
    assert bad(plan.compute(asked))[0]["device"] == "vllm_local_ip"


def test_a_variable_that_was_refused_is_not_asked_of_the_node(hosts):
    pair = hosts(2, vllm_npus="many")
    assert request.build({"vllm": list(pair)}, pair)["discover"] == []


def test_the_inventory_order_counts_and_the_order_of_variables_does_not(hosts, planned):
    pair = hosts(4, vllm_extra_env={"B": "1", "A": "2"})
    names = list(pair)
    wanted = json.dumps(planned(pair, {"vllm": names}))
    shuffled = names[:]
    random.Random(7).shuffle(shuffled)
    other = {name: dict(reversed(pair[name].items())) for name in shuffled}
    assert json.dumps(planned(other, {"vllm": names})) == wanted
    assert planned(pair, {"vllm": names[::-1]})["plan"]["groups"]["vllm"]["head"] == "a2-node3"


def test_planning_leaves_its_input_as_it_was(hosts):
    pair = hosts(2)
    asked = request.build({"vllm": list(pair)}, pair)
    before = json.dumps(asked)
    assert plan.compute(asked)["plan"] == plan.compute(asked)["plan"]
    assert json.dumps(asked) == before


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70000),
    st.text(max_size=6),
    st.sampled_from(["8", "a2", "198.51.100.11", "0,1"]),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(inputs.RULES)), VALUES, max_size=4), min_size=1, max_size=3))
def test_whatever_is_stated_every_problem_names_a_known_host_and_variable(changes):
    hostvars = {}
    for index, change in enumerate(changes):
        own = {"vllm_hardware": "a2", "vllm_npus": 8, "vllm_local_ip": f"198.51.100.{11 + index}", "vllm_nic_name": "eth0"}
        hostvars[f"n{index}"] = {**own, **change}
    asked = request.build({"vllm": list(hostvars)}, hostvars)
    result = plan.compute(asked, {host: {"error": "not asked"} for host in asked["discover"]})
    for check in result["checks"]:
        assert check["host"] in {*hostvars, "localhost"}
        assert check["device"] in {*inputs.RULES, "ssh"} or check["status"] == "warn", check
        assert check["observed"] and check["expected"] and check["remedy"]
    stops = any(check["status"] in ("fail", "unknown") for check in result["checks"])
    assert (result["plan"] is None) == stops


SIZES = {"tensor_parallel_size": 4}


def lines_run(work):
    """Return how many lines of the planner run while ``work`` is done: a cost that does not depend on the machine."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        if event == "call" and "plugin_utils" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("which", ["ranks", "plan"])
def test_cost_and_size_grow_with_the_hosts_and_not_faster(hosts, tmp_path, which):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "any.yml").write_text(
        "any_size: {base: deepseek_r1_w8a8, source: s, hardware: {a2: {expert_parallel_sizes: null}}}\n", encoding="utf-8"
    )
    inputs.options()

    def work(count):
        hostvars = hosts(count, vllm_model="any_size", vllm_data_dirs=[str(tmp_path)], vllm_network="198.51.0.0/16")
        if which == "ranks":
            result, checks = rank_variables.compute(list(hostvars), hostvars, SIZES)
            assert checks == [] and len(result) == count
        else:
            result = plan.compute(request.build({"vllm": list(hostvars)}, hostvars))
            assert len(result["plan"]["hosts"]) == count
        return len(json.dumps(result))

    # From 100 to 200 and from 200 to 400 hosts each further host costs the same, within the digits of larger numbers.
    costs = [lines_run(lambda count=count: work(count)) for count in (100, 200, 400)]
    sizes = [work(count) for count in (100, 200, 400)]
    for small, middle, large in (costs, sizes):
        assert (large - middle) / 200 <= 1.02 * (middle - small) / 100


@pytest.mark.parametrize(("name", "count", "dp"), [("a2_pair", 2, 4), ("a2_quad", 4, 8), ("a3_single", 1, 4)])
def test_shipped_inventories_plan_without_asking_anybody(planned, bad, name, count, dp):
    listed = yaml.safe_load((INVENTORIES / name / "hosts.yml").read_text(encoding="utf-8"))["vllm"]["hosts"]
    common = yaml.safe_load((INVENTORIES / name / "group_vars" / "vllm.yml").read_text(encoding="utf-8"))
    hostvars = {host: {**common, **values} for host, values in listed.items()}
    assert request.build({"vllm": list(hostvars)}, hostvars)["discover"] == []
    result = planned(hostvars)
    assert bad(result) == [] and result["checks"] == []
    group = result["plan"]["groups"]["vllm"]
    assert (len(group["hosts"]), group["data_parallel_size"], group["tensor_parallel_size"], group["head"]) == (
        count,
        dp,
        4,
        next(iter(listed)),
    )
    assert all(values["ansible_host"] == values["vllm_local_ip"] for values in listed.values())


@pytest.mark.parametrize(("source", "endpoint", "revision"), [
    ({"kind": "huggingface"}, "https://huggingface.co", "main"),
    ({"kind": "huggingface", "endpoint": "https://hf-mirror.com"}, "https://hf-mirror.com", "main"),
    ({"revision": "v1"}, "https://www.modelscope.cn", "v1"), ({"kind": "local"}, None, "local"),
])
def test_a_hub_has_its_own_address_and_branch(hosts, planned, source, endpoint, revision):
    weights = planned(hosts(2, vllm_weights_source=source))["plan"]["groups"]["vllm"]["weights"]
    assert (weights.get("endpoint"), weights["revision"], weights["id"]) == (endpoint, revision, "vllm-ascend/DeepSeek-R1-W8A8")


@pytest.mark.parametrize(("args", "wanted"), [
    ({}, {"quantization": "ascend", "mtp": True}), ({"quantization": None}, {"quantization": None, "mtp": True}),
    ({"speculative-config": None}, {"quantization": "ascend", "mtp": False}),
    ({"speculative-config": {"method": "eagle", "model": "/x", "num_speculative_tokens": 1}}, {"quantization": "ascend", "mtp": False}),
])
def test_weights_are_wanted_as_the_options_use_them(hosts, planned, args, wanted):
    assert planned(hosts(2, vllm_extra_args=args))["plan"]["groups"]["vllm"]["weights"]["requirements"] == wanted


def test_an_image_has_a_source_for_each_registry_and_none_beside_an_archive(hosts, planned, tmp_path):
    group = planned(hosts(2, vllm_image_registries=["a.example", "b.example/quay.io", "a.example"]))["plan"]["groups"]["vllm"]
    assert group["image_sources"] == ["a.example/ascend/vllm-ascend:v0.13.0", "b.example/quay.io/ascend/vllm-ascend:v0.13.0"]
    assert group["image"] == group["image_sources"][0]
    assert planned(hosts(2, vllm_image="r.example/x:1"))["plan"]["groups"]["vllm"]["image_sources"] == ["r.example/x:1"]
    assert group["image_fanout"] == "each"
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"")
    group = planned(hosts(2, vllm_image_archive=str(archive)))["plan"]["groups"]["vllm"]
    assert (group["image_sources"], group["image_archive"]) == ([], str(archive))


@pytest.mark.parametrize(("nodes", "image", "fanout"), [(2, "r.example/x:1", "head"), (1, "r.example/x:1", "each"), (2, None, "head")])
def test_an_image_goes_from_node_to_node_where_there_are_several(hosts, planned, nodes, image, fanout):
    result = planned(hosts(nodes, hardware="a2" if nodes > 1 else "a3", vllm_image_fanout="head", vllm_image=image))
    assert result["plan"]["groups"]["vllm"]["image_fanout"] == fanout


def test_an_image_pinned_by_its_digest_cannot_go_from_node_to_node(hosts, planned):
    result = planned(hosts(2, vllm_image_fanout="head", vllm_image=f"r.example/x@sha256:{'0' * 64}"))
    [found] = [entry for entry in result["checks"] if entry["device"] == "vllm_image_fanout"]
    assert (found["status"], found["host"]) == ("fail", "a2-node0") and "digest" in found["observed"] and "vllm_image_fanout to each" in found["remedy"]


@pytest.mark.parametrize(("token", "bad"), [(None, ["vllm_weights_token_file"]), ("key", [])])
def test_weights_of_a_host_over_ssh_need_a_private_key(hosts, planned, tmp_path, token, bad):
    source = {"kind": "rsync", "id": "me@h.example:/srv/m", "host_key": "ssh-ed25519 AAAA"}
    result = planned(hosts(2, vllm_weights_source=source, vllm_weights_token_file=token and str(tmp_path / token)))
    assert [entry["device"] for entry in result["checks"] if entry["status"] == "fail"] == bad
