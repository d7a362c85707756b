# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefill-decode disaggregation as it is planned: ranks, NPUs, ports and connector of every group, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.ascend.vllm.plugins.plugin_utils import data, judge_api, plan, request, status
from ansible_collections.ascend.vllm.plugins.plugin_utils.checks import Judge
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

INVENTORIES = data.BUNDLED.parent / "inventories"
#: A recipe for every size: what is tested is arithmetic.
ANY_SIZE = {
    "any_size": {
        "source": "test",
        "weights": {"kind": "local", "id": "m"},
        "served_model_name": "m",
        "mla": True,
        "hardware": {"a2": {"npus_needed": 1, "tensor_parallel_size": 1}, "a3": {"npus_needed": 1, "tensor_parallel_size": 1}},
        "releases": {"v0.13.0": {}},
        "roles": {
            side: {
                "hardware": {"a2": {"npus_needed": 1, "tensor_parallel_size": 1}, "a3": {"npus_needed": 1, "tensor_parallel_size": 1}},
                "releases": {"v0.13.0": {"flags": {"enable-expert-parallel": True}}},
            }
            for side in ("prefill", "decode")
        },
    }
}


@pytest.fixture(name="any_size")
def any_size_recipe(tmp_path):
    """Give the variables that choose a recipe for any size; a test may change it by the function's arguments."""

    def write(**changes):
        (tmp_path / "recipes").mkdir(exist_ok=True)
        entry = {**ANY_SIZE["any_size"], **changes}
        (tmp_path / "recipes" / "any.yml").write_text(yaml.safe_dump({"any_size": entry}), encoding="utf-8")
        return {"vllm_model": "any_size", "vllm_data_dirs": [str(tmp_path)]}

    return write


def a3_inventory(hosts, *changes, **variables):
    """Return hostvars and groups of 2P1D on four A3 nodes; ``changes`` go to the entries prefill1, prefill2 and decode in this order."""
    entries = [{"name": name, "hosts_from": name, "role": name.rstrip("12")} for name in ("prefill1", "prefill2", "decode")]
    for entry, change in zip(entries, changes):
        entry.update(change)
    hostvars = hosts(4, "a3", vllm_groups=[entry for entry in entries if entry.get("name")], **variables)
    names = list(hostvars)
    return hostvars, {"vllm": names, "prefill1": names[:1], "prefill2": names[1:2], "decode": names[2:]}


def first_ports(result):
    """Return (kv_port, port of the first rank's API) of each group."""
    return [(group["kv_port"], group["units"][0]["url"].rpartition(":")[2]) for group in result["plan"]["groups"].values()]


def both_on(hosts, count=1, hardware="a3", prefill=(), decode=(), **variables):
    """Return hostvars of hosts that carry a prefill and a decode group each, half of the NPUs each."""
    half = {"a2": 4, "a3": 8}[hardware]
    entries = [
        {"name": "p", "role": "prefill", "npus": list(range(half)), **dict(prefill)},
        {"name": "d", "role": "decode", "npus": list(range(half, 2 * half)), "data_parallel_rpc_port": 13390, **dict(decode)},
    ]
    return hosts(count, hardware, vllm_groups=entries, **variables)


def units_of(result, group=None):
    """Return (host, unit) of all units, or of one group's."""
    return [(host, unit) for host, entry in result["plan"]["hosts"].items() for unit in entry["units"] if group in (None, unit["group"])]


def flags(unit):
    """Return the options of a unit's command line; a bare one is True."""
    words, found = unit["argv"][3:], {}
    for index, word in enumerate(words):
        if word.startswith("--"):
            value = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("--") else True
            found[word[2:]] = value
    return found


def test_2p1d_has_a_container_for_every_rank(hosts, planned, bad):
    result = planned(*a3_inventory(hosts))
    assert bad(result) == []
    groups = result["plan"]["groups"]
    assert [(name, group["role"], group["head"], group["data_parallel_size"], group["tensor_parallel_size"]) for name, group in groups.items()] == [
        ("prefill1", "prefill", "a3-node0", 2, 8),
        ("prefill2", "prefill", "a3-node1", 2, 8),
        ("decode", "decode", "a3-node2", 32, 1),
    ]
    for name, group in groups.items():
        units = units_of(result, name)
        assert [unit["rank"] for _host, unit in units] == list(range(group["data_parallel_size"]))
        assert [unit["name"] for _host, unit in units] == [f"{name}-rank{rank}" for rank in range(group["data_parallel_size"])]
        assert [unit["head"] for _host, unit in units] == [True] + [False] * (len(units) - 1)
        assert not any(unit["headless"] for _host, unit in units) and {unit["ranks"] for _host, unit in units} == {1}
        for host, unit in units:
            stated = flags(unit)
            assert stated["data-parallel-rank"] == str(unit["rank"]) and stated["data-parallel-size"] == str(group["data_parallel_size"])
            assert stated["data-parallel-address"] == group["addresses"][group["head"]] and stated["data-parallel-rpc-port"] == "13389"
            assert stated["tensor-parallel-size"] == str(group["tensor_parallel_size"]) and stated["port"] == str(unit["port"])
            assert not {"headless", "data-parallel-size-local", "data-parallel-start-rank"} & set(stated)
            # In a container with its own NPUs only, they are numbered from 0: nothing may choose among them.
            assert "ASCEND_RT_VISIBLE_DEVICES" not in unit["env"]
            assert [path for path in unit["devices"] if path[-1].isdigit()] == [f"/dev/davinci{npu}" for npu in unit["npus"]]
            assert unit["env"]["VLLM_HOST_IP"] == unit["env"]["HCCL_IF_IP"] == group["addresses"][host]
            assert "/etc/hccn.conf:/etc/hccn.conf" in unit["mounts"] and unit["mount_candidates"]["/etc/hccn.conf"]["required"]
    ports = {host: [unit["port"] for where, unit in units_of(result) if where == host] for host in result["plan"]["hosts"]}
    assert ports == {"a3-node0": [7100, 7101], "a3-node1": [7100, 7101], "a3-node2": list(range(7100, 7116)), "a3-node3": list(range(7100, 7116))}
    npus = {host: [unit["npus"] for where, unit in units_of(result) if where == host] for host in ("a3-node0", "a3-node3")}
    assert npus == {"a3-node0": [list(range(8)), list(range(8, 16))], "a3-node3": [[npu] for npu in range(16)]}
    assert groups["decode"]["api"]["url"] == groups["decode"]["units"][0]["url"] == "http://198.51.100.13:7100"
    assert groups["decode"]["units"][17] == {"name": "decode-rank17", "rank": 17, "host": "a3-node3", "url": "http://198.51.100.14:7101"}
    assert units_of(result, "decode")[17][1]["api"] == {
        "address": "198.51.100.14", "port": 7101, "url": "http://198.51.100.14:7101", "ca_file": None, "ranks": 1}
    assert groups["decode"]["supervise"]["units"] == [f"decode-rank{rank}" for rank in range(32)]


def test_the_connector_is_told_the_real_sizes(hosts, planned):
    result = planned(*a3_inventory(hosts, {"kv_port": "36000"}, {"kv_port": 36100}, {"kv_port": 36200}))
    sizes = {"prefill": {"dp_size": 2, "tp_size": 8}, "decode": {"dp_size": 32, "tp_size": 1}}
    for name, role, port in (("prefill1", "kv_producer", "36000"), ("prefill2", "kv_producer", "36100"), ("decode", "kv_consumer", "36200")):
        for _host, unit in units_of(result, name):
            assert json.loads(flags(unit)["kv-transfer-config"]) == {
                "kv_connector": "MooncakeConnectorV1", "kv_role": role, "kv_port": port, "kv_connector_extra_config": sizes}
    decode = result["plan"]["groups"]["decode"]
    # kv_port + data_parallel_rank * tp: a rank's first port, and a host's slice of them.
    assert decode["kv_ports"] == {"a3-node2": [36200, 36215], "a3-node3": [36216, 36231]}
    assert [unit["kv_ports"] for _host, unit in units_of(result, "prefill1")] == [[36000, 36007], [36008, 36015]]
    assert units_of(result, "decode")[19][1]["kv_ports"] == [36219, 36219]


def test_what_else_the_connector_is_to_know_is_kept(hosts, planned, bad):
    more = {"kv-transfer-config": {"kv_load_failure_policy": "fail", "kv_connector_extra_config": {"use_ascend_direct": True}}}
    result = planned(*a3_inventory(hosts, vllm_extra_args=more))
    assert bad(result) == []
    stated = json.loads(flags(units_of(result)[0][1])["kv-transfer-config"])
    assert stated["kv_load_failure_policy"] == "fail" and set(stated["kv_connector_extra_config"]) == {"use_ascend_direct", "prefill", "decode"}


def test_ports_begin_above_mooncake_and_behind_the_groups_of_the_same_host(hosts, planned, bad, any_size):
    result = planned(*a3_inventory(hosts))
    # A group that shares no host with another one keeps its ports when that one goes.
    assert {group["kv_port"] for group in result["plan"]["groups"].values()} == {36000}
    shared = planned(both_on(hosts, 2, "a2", vllm_pd_colocate=True, **any_size()))
    assert bad(shared) == []
    assert first_ports(shared) == [(28000, "7100"), (28100, "7104")]
    stated = planned(both_on(hosts, 2, "a2", decode={"kv_port": 31000, "rank_port": 7300}.items(), vllm_pd_colocate=True, **any_size()))
    assert first_ports(stated) == [(28000, "7100"), (31000, "7300")]


def test_prefill_and_decode_on_one_node(hosts, planned, bad, any_size):
    found = bad(planned(both_on(hosts, 2, **any_size())))
    assert [(check["host"], check["check"], check["device"]) for check in found] == [
        (host, "pd_same_node", "vllm_pd_colocate") for host in ("a3-node0", "a3-node1")]
    assert all("group d: decode on" in check["observed"] and "group p is prefill" in check["observed"] for check in found)
    result = planned(both_on(hosts, 2, vllm_pd_colocate="true", **any_size()))
    assert bad(result) == []
    for _host, unit in units_of(result):
        assert unit["env"]["HCCL_INTRA_ROCE_ENABLE"] == "1" and "issue 4866" in unit["env_added"]["HCCL_INTRA_ROCE_ENABLE"]
    assert [group["colocated"] for group in result["plan"]["groups"].values()] == [["a3-node0", "a3-node1"]] * 2
    apart = planned(*a3_inventory(hosts, vllm_pd_colocate=True))
    assert all("HCCL_INTRA_ROCE_ENABLE" not in unit["env"] for _host, unit in units_of(apart))


def test_the_switch_of_a_recipe_that_excludes_one_node_gives_way(hosts, planned, bad):
    """HCCL does not support PCIe and RoCE inside one node together."""
    result = planned(both_on(hosts, 4, "a2", decode={"data_parallel_rpc_port": 13390}.items(), vllm_pd_colocate=True, vllm_ascend_version="v0.23.0"))
    assert bad(result) == []
    for _host, unit in units_of(result):
        assert unit["env"]["HCCL_INTRA_ROCE_ENABLE"] == "1" and "HCCL_INTRA_PCIE_ENABLE" not in unit["env"]
    found = bad(planned(both_on(hosts, 4, "a2", vllm_pd_colocate=True, vllm_extra_env={"HCCL_INTRA_ROCE_ENABLE": "0"})))
    assert {(check["check"], check["device"]) for check in found} == {("pd_same_node", "vllm_extra_env")} and len(found) == 8
    found = bad(planned(both_on(hosts, 4, "a2", vllm_pd_colocate=True, vllm_extra_env={"HCCL_INTRA_PCIE_ENABLE": "1"})))
    assert {check["check"] for check in found} == {"pd_options"} and "does not support both" in found[0]["expected"]


def test_a_single_rank_states_no_rank(hosts, planned, bad, any_size):
    """vLLM refuses external load balancing with a DP size of 1 (vllm/config/parallel.py), and nobody has to be met."""
    one = {"data_parallel_size": 1, "npus": 1}
    hostvars = hosts(2, "a2",
                     vllm_groups=[{"name": "p", "role": "prefill", "hosts_from": "p", **one}, {"name": "d", "role": "decode", "hosts_from": "d", **one}],
                     vllm_data_parallel_rpc_port=7100, **any_size())
    result = planned(hostvars, {"vllm": list(hostvars), "p": ["a2-node0"], "d": ["a2-node1"]})
    assert bad(result) == []
    for _host, unit in units_of(result):
        assert not {"data-parallel-rank", "data-parallel-address", "data-parallel-rpc-port"} & set(flags(unit))


@pytest.mark.parametrize(
    ("changes", "variables", "device", "observed", "remedy"),
    [
        # Ports.
        (({"kv_port": 30000},), {}, "vllm_kv_port", "group prefill1: ports 30000 to 30015 on a3-node0 meet 20000 to 35999, Mooncake's", "36000 or more"),
        (({}, {}, {"kv_port": 35990}), {}, "vllm_kv_port", "group decode: ports 35990 to 36005 on a3-node2 meet 20000 to 35999", "36000 or more"),
        (({"kv_port": 59990},), {}, "vllm_kv_port", "ports 59990 to 60005 on a3-node0 meet 60000 to 60031, HCCL's ports of group prefill1",
         "from 36000 to 59984"),
        (({}, {"kv_port": 65530}), {}, "vllm_kv_port", "ports 65530 to 65545", "lower kv_port"),
        (({"kv_port": 13380},), {}, "vllm_kv_port", "meet 13389, vllm_data_parallel_rpc_port 13389 of group prefill1", "36000 or more"),
        (({"kv_port": 7090},), {}, "vllm_kv_port", "meet 7100, vllm_rank_port 7100 of group prefill1", "36000 or more"),
        (({"kv_port": 1990},), {}, "vllm_kv_port", "meet 1999, vllm_proxy.port 1999 of the proxy", "36000 or more"),
        (({"rank_port": 20500},), {}, "vllm_rank_port", "inside Mooncake's random ports 20000 to 35999", "below 20000 or to 36000"),
        (({"data_parallel_rpc_port": 7101},), {}, "vllm_data_parallel_rpc_port",
         "7101 for vllm_data_parallel_rpc_port of group prefill1 and for vllm_rank_port", "free port"),
        (({}, {}, {"rank_port": 65535}), {}, "vllm_rank_port", "65536 for vllm_rank_port of group decode", "lower port"),
        (({"extra_env": {"HCCL_IF_BASE_PORT": 25000}},), {}, "vllm_extra_env",
         "group prefill1: HCCL_IF_BASE_PORT 25000: HCCL's ports 25000 to 25031 meet Mooncake's random ports 20000 to 35999", "19968 or less or to 36000"),
        # Sizes.
        (({}, {"data_parallel_size": 1, "npus": 8},), {}, "vllm_npus", "group prefill2: 8 NPU(s) on 1 host(s)", "add 1 more node"),
        (({}, {"tensor_parallel_size": 4},), {}, "vllm_data_parallel_size", "group prefill2: DP 4 x TP 4", "the same data_parallel_size"),
        (({}, {}, {"data_parallel_size": 31}), {}, "vllm_data_parallel_size", "group decode: DP 31: 31 rank(s) over 2 host(s)", "to 30 or 32"),
        (({"tensor_parallel_size": 3},), {}, "vllm_tensor_parallel_size", "group prefill1: TP 3", "1, 2, 4, 8, 16"),
        (({"npus": 17},), {}, "vllm_groups", "group prefill1: npus 17", "correct npus"),
        # Roles.
        (({}, {}, {"role": "serve"}), {}, "vllm_groups", "group prefill1, prefill2: role prefill, and no group of role decode", "role: decode"),
        (({"role": "decode"}, {"role": "decode"}), {}, "vllm_groups", "role decode, and no group of role prefill", "role: prefill"),
        (({"role": "encode"},), {}, "vllm_groups", "group prefill1: the role 'encode'", "did you mean 'decode'?"),
        # What is served.
        (({}, {}, {"served_model_name": "other"}), {}, "vllm_served_model_name", "group decode: other", "once for all groups"),
        # Options.
        (({"extra_args": {"additional-config": {"recompute_scheduler_enable": True}}},), {}, "vllm_extra_args", "group prefill1: recompute_scheduler_enable",
         "decode groups' entries"),
        (({"extra_args": {"additional-config": {"enable_kv_nz": True}}},), {}, "vllm_extra_args", "group prefill1: enable_kv_nz", "remove it"),
        (({"extra_args": {"additional-config": {"enable_balance_scheduling": True}}},), {}, "vllm_extra_args", "group prefill1: balance scheduling", "remove"),
        (({"extra_args": {"additional-config": {"scheduler_config": {"enable_balance_scheduling": True}}}},), {}, "vllm_extra_args", "balance scheduling",
         "remove"),
        (({}, {}, {"extra_args": {"additional-config": {"finegrained_tp_config": {"lmhead_tensor_parallel_size": 12}}}}), {}, "vllm_extra_args",
         "group decode: lmhead_tensor_parallel_size 12 with DP 32", "1, 2, 4, 8, 16, 32"),
        (({"extra_args": {"additional-config": {"finegrained_tp_config": {"oproj_tensor_parallel_size": 2}}}},), {}, "vllm_extra_args",
         "oproj_tensor_parallel_size 2 with role prefill, TP 8, enforce-eager", "remove oproj"),
        (({"extra_args": {"pipeline-parallel-size": 2}},), {}, "vllm_extra_args", "group prefill1: the option --pipeline-parallel-size",
         "vllm_tensor_parallel_size"),
        (({"extra_args": {"speculative-config": {"method": "mtp", "num_speculative_tokens": 2}}},), {}, "vllm_extra_args",
         "group prefill1: num_speculative_tokens 2", "set num_speculative_tokens: 1 in the entries of the prefill groups"),
        (({}, {}, {"extra_args": {"speculative-config": None}}), {}, "vllm_extra_args", "1 speculative tokens on prefill, none on decode", "both sides"),
        (({"extra_args": {"kv-transfer-config": {"kv_port": 1}}},), {}, "vllm_extra_args", "group prefill1: kv_port in kv-transfer-config",
         "kv_port of the group's entry"),
        (({"extra_args": {"kv-transfer-config": {"kv_connector_extra_config": {"decode": {"dp_size": 4}}}}},), {}, "vllm_extra_args",
         "kv_connector_extra_config.decode", "the sizes of the decode groups"),
        (({"extra_args": {"kv-transfer-config": "{}"}},), {}, "vllm_extra_args", "kv-transfer-config: '{}' (a text)", "YAML"),
        (({"extra_args": {"kv-transfer-config": {"kv_connector": "MooncakeLayerwiseConnector"}}},), {}, "vllm_extra_args", "MooncakeLayerwiseConnector",
         "prefill first"),
        (({"extra_args": {"kv-transfer-config": {"kv_connector": "MooncakeHybridConnector"}}},), {}, "vllm_extra_args",
         "group prefill1: the connector MooncakeHybridConnector with release v0.13.0", "use MooncakeConnectorV1"),
        (({"extra_args": {"kv-transfer-config": {"kv_connector_extra_config": "x"}}},), {}, "vllm_extra_args", "kv_connector_extra_config: 'x'", "YAML"),
        # One key of an option, and JSON text, are seen into as the whole mapping is.
        (({}, {}, {"extra_args": {"kv-transfer-config.kv_role": "kv_producer"}}), {}, "vllm_extra_args", "group decode: kv_role in kv-transfer-config",
         "the role of the group's entry"),
        (({"extra_args": {"additional-config.recompute_scheduler_enable": True}},), {}, "vllm_extra_args", "group prefill1: recompute_scheduler_enable",
         "decode groups' entries"),
        (({"extra_args": {"additional-config": '{"enable_balance_scheduling": true}'}},), {}, "vllm_extra_args", "group prefill1: balance scheduling",
         "remove"),
        (({"extra_args": {"speculative-config": '{"method": "mtp", "num_speculative_tokens": 3}'}},), {}, "vllm_extra_args",
         "group prefill1: num_speculative_tokens 3", "set num_speculative_tokens: 1"),
        (({"extra_args": {"speculative-config.num_speculative_tokens": "one"}},), {}, "vllm_extra_args", "num_speculative_tokens: 'one'", "correct it"),
        (({}, {}, {"extra_args": {"speculative-config.num_speculative_tokens": 0}}), {}, "vllm_extra_args", "num_speculative_tokens: 0", "correct it"),
        (({}, {}, {"extra_args": {"additional-config.finegrained_tp_config": "x"}}), {}, "vllm_extra_args", "finegrained_tp_config: 'x'", "YAML"),
        (({}, {}, {"extra_args": {"additional-config.finegrained_tp_config.lmhead_tensor_parallel_size": 16.0}}), {}, "vllm_extra_args",
         "lmhead_tensor_parallel_size: 16.0", "correct lmhead"),
        # What one side writes is what the other reads.
        (({}, {}, {"extra_args": {"block-size": 64}}), {}, "vllm_extra_args", "group decode: block-size 64", "block-size once"),
        (({}, {}, {"extra_args": {"kv-cache-dtype": "fp8"}}), {}, "vllm_extra_args", "group decode: kv-cache-dtype fp8", "kv-cache-dtype once"),
        (({}, {}, {"extra_args": {"dtype": "float32"}}), {}, "vllm_extra_args", "group decode: dtype float32", "dtype once"),
        (({}, {}, {"extra_env": {"VLLM_HOST_IP": "127.0.0.1"}}), {}, "vllm_extra_env", "group decode: VLLM_HOST_IP=127.0.0.1", "vllm_local_ip"),
        (({}, {}, {"extra_env": {"VLLM_HOST_IP": None}}), {}, "vllm_extra_env", "group decode: VLLM_HOST_IP=nothing", "vllm_local_ip"),
        # An entry that says nothing where it says something.
        (({"role": ""},), {}, "vllm_groups", "group prefill1: role: ''", "leave role out"),
        (({"hosts_from": []},), {}, "vllm_groups", "group prefill1: hosts_from: []", "leave hosts_from out"),
        (({"extra_env": {"VLLM_ASCEND_BALANCE_SCHEDULING": "1"}},), {}, "vllm_extra_env", "group prefill1: VLLM_ASCEND_BALANCE_SCHEDULING is on", "null"),
        (({"extra_env": {"ASCEND_RT_VISIBLE_DEVICES": "0"}},), {}, "vllm_extra_env", "group prefill1: ASCEND_RT_VISIBLE_DEVICES=0",
         "npus of the group's entry"),
        (({"bind_address": "127.0.0.1"},), {}, "vllm_bind_address", "group prefill1: 127.0.0.1, with role prefill", "remove vllm_bind_address"),
    ],
)
def test_refused(hosts, planned, bad, changes, variables, device, observed, remedy):
    hostvars, groups = a3_inventory(hosts, *changes, **variables)
    found = bad(planned(hostvars, groups))
    # One wrong size is wrong in itself and beside the other groups'; everything else is one problem.
    assert {check["device"] for check in found} - {"vllm_data_parallel_size", "vllm_npus"} <= {device}, found
    mine = [check for check in found if check["device"] == device]
    assert observed in mine[0]["observed"] and remedy in mine[0]["remedy"], found
    assert all(check["observed"].count("group ") and check["expected"] and check["host"] in hostvars for check in found)


@pytest.mark.parametrize(
    ("changes", "variables", "host", "observed"),
    [
        (({"port": 8000},), {}, "a3-node0", "group prefill1: port in a group of role prefill"),
        (({}, {}, {"extra_args": {"max-model-len": 8192}}), {}, "a3-node2", "group decode: max-model-len 8192"),
        ((), {"vllm_proxy": {"kind": "vllm-ascend", "policy": "random"}}, "a3-node0", "policy: random with kind: vllm-ascend"),
    ],
)
def test_what_is_said_and_does_not_stop(hosts, planned, bad, changes, variables, host, observed):
    result = planned(*a3_inventory(hosts, *changes, **variables))
    assert bad(result) == []
    said = [check for check in result["checks"] if check["status"] == "warn" and observed in check["observed"]]
    assert [(check["host"], check["remedy"] != "") for check in said] == [(host, True)]


@pytest.mark.parametrize(("release", "option", "differs"), [
    ("v0.22.1rc1", {"block-size": 64}, True), ("v0.23.0rc1", {"block-size": 64}, False), ("v0.23.0", {"block-size": 64}, False),
    ("v0.23.0", {"dtype": "float32"}, True)])
def test_which_release_lets_the_sides_differ(hosts, planned, bad, any_size, release, option, differs):
    """Source: vllm-ascend's mooncake_connector.py, tag by tag."""
    assert [check["host"] for check in bad(at_release(hosts, planned, any_size, release, {}, option))] == ["a3-node2"] * differs


@pytest.mark.parametrize(("release", "sides", "wrong"), [
    ("v0.19.1rc1", ("MooncakeHybridConnector", "MooncakeHybridConnector"), ["a3-node0", "a3-node1", "a3-node2"]),
    ("v0.20.2rc1", ("MooncakeHybridConnector", "MooncakeHybridConnector"), []), ("v0.23.0", ("MooncakeConnectorV1", "MooncakeHybridConnector"), ["a3-node2"]),
    ("v0.23.0", ("MooncakeConnectorV1", ["x"]), ["a3-node2", "a3-node2"])])
def test_which_release_has_which_connector(hosts, planned, bad, any_size, release, sides, wrong):
    """Source: the connectors that vllm-ascend registers, tag by tag."""
    found = bad(at_release(hosts, planned, any_size, release, *({"kv-transfer-config": {"kv_connector": connector}} for connector in sides)))
    assert [check["host"] for check in found] == wrong and {check["check"] for check in found} <= {"kv_transfer"}


def at_release(hosts, planned, any_size, release, ahead, behind):
    """Return the plan of 2P1D at a release, with these options on prefill and on decode."""
    recipe = json.loads(json.dumps(ANY_SIZE["any_size"]["roles"]))
    for side in recipe.values():
        side["releases"] = {release: next(iter(side["releases"].values()))}
    entries = ({"extra_args": ahead}, {"extra_args": ahead}, {"extra_args": behind})
    return planned(*a3_inventory(hosts, *entries, **any_size(roles=recipe), vllm_ascend_version=release))


def test_a_serve_group_beside_the_halves_is_not_behind_their_proxy(hosts, planned, bad):
    hostvars, groups = a3_inventory(hosts, {}, {"role": "serve", "data_parallel_size": 4, "tensor_parallel_size": 4, "rank_port": 7300}, vllm_proxy={})
    result = planned(hostvars, groups)
    assert bad(result) == []
    said = [check["observed"] for check in result["checks"] if check["status"] == "warn" and check["host"] == "a3-node1"]
    assert "group prefill2: rank_port in a group of role serve" in said
    assert "group prefill2: role serve beside prefill and decode groups, which have the proxy" in said


def test_a_host_without_a_group_is_said(hosts, planned, bad):
    hostvars, groups = a3_inventory(hosts)
    entries = hostvars["a3-node0"]["vllm_groups"]
    for values in hostvars.values():
        values["vllm_groups"] = entries[:1] + entries[2:]
    result = planned(hostvars, groups)
    assert bad(result) == []
    (found,) = [check for check in result["checks"] if check["check"] == "host_unused"]
    assert (found["host"], found["status"], found["observed"]) == ("a3-node1", "warn", "a3-node1: in no entry")


def test_all_problems_of_all_groups_are_said_at_once(hosts, planned, bad):
    changes = [{"kv_port": 30000}, {"extra_args": {"additional-config": {"recompute_scheduler_enable": True}}}, {"rank_port": 25000, "served_model_name": "x"}]
    found = bad(planned(*a3_inventory(hosts, *changes)))
    assert {check["device"] for check in found} == {"vllm_kv_port", "vllm_extra_args", "vllm_rank_port", "vllm_served_model_name"}


@pytest.mark.parametrize(("base", "meets"), [(19968, False), (19969, True), (35999, True), (36000, False)])
def test_hccl_s_ports_end_before_mooncake_s_or_begin_behind_them(hosts, planned, bad, base, meets):
    found = bad(planned(*a3_inventory(hosts, {}, {}, {"kv_port": 40000, "extra_env": {"HCCL_IF_BASE_PORT": base}})))
    assert [(check["host"], check["device"]) for check in found] == [(host, "vllm_extra_env") for host in ("a3-node2", "a3-node3")] * meets


def test_a_group_is_named_even_if_its_name_is_in_another_word(hosts, planned, bad):
    """One letter is in nearly every text, and p in p-2."""
    hostvars = hosts(3, vllm_groups=[{"name": "p-2", "hosts_from": "p2"}, {"name": "p", "hosts_from": "p1", "model": "deepseek"}],
                     vllm_extra_args={"enable-expert-parallel": True})
    found = bad(planned(hostvars, {"vllm": list(hostvars), "p2": list(hostvars)[:2], "p1": list(hostvars)[2:]}))
    assert [check["observed"].partition(":")[0] for check in found if check["device"] == "vllm_model"] == ["group p"]
    groups = [SimpleNamespace(name="p", checks=[{"observed": "the group p-2 has it"}, {"observed": "1 for vllm_port of group p and for x"}])]
    plan._name_groups(groups)
    assert [check["observed"] for check in groups[0].checks] == ["group p: the group p-2 has it", "1 for vllm_port of group p and for x"]


def test_following_a_remedy_for_speculative_tokens_ends(hosts, planned, bad, any_size):
    """A recipe without them, and an inventory that wants three: stated on decode only, then on both, then as the last remedy says."""
    three, one = ({"speculative-config": {"method": "mtp", "num_speculative_tokens": number}} for number in (3, 1))
    said = []
    for ahead in ({}, three, one):
        change = {"extra_args": ahead}
        found = bad(planned(*a3_inventory(hosts, change, change, {"extra_args": three}, **any_size())))
        said.append({check["remedy"].partition(",")[0] for check in found})
    assert said == [{"state speculative-config for both sides"}, {"set num_speculative_tokens: 1 in the entries of the prefill groups"}, set()]


def test_a_host_in_two_groups_has_each_npu_once(hosts, planned, bad, any_size):
    hostvars = both_on(hosts, 1, decode={"npus": [7, 8, 9, 10, 11, 12, 13, 14]}.items(), vllm_pd_colocate=True, **any_size())
    found = bad(planned(hostvars))
    assert [(check["device"], check["observed"]) for check in found] == [("vllm_groups", "NPU 7 in group p and in group d")]
    found = bad(planned(both_on(hosts, 1, decode={"data_parallel_rpc_port": 13389}.items(), vllm_pd_colocate=True, **any_size())))
    assert [check["device"] for check in found] == ["vllm_data_parallel_rpc_port"]
    found = bad(planned(both_on(hosts, 1, decode={"kv_port": 36004, "rank_port": 7105}.items(), vllm_pd_colocate=True, **any_size())))
    assert {(check["device"], check["observed"].split(" on ")[0]) for check in found if check["check"] == "kv_ports"} == {("vllm_kv_port",
                                                                                                                           "group d: ports 36004 to 36011")}
    assert [check["observed"][:5] for check in found if check["device"] == "vllm_rank_port"] == ["7105 ", "7106 ", "7107 "]


@pytest.mark.parametrize(
    ("mla", "prefill", "decode", "words"),
    [(True, 4, 4, None), (True, 8, 3, None), (True, 2, 4, "not below decode's"), (False, 8, 4, None), (False, 8, 3, "decode's divides"),
     (False, 2, 4, "not below decode's")],
)
def test_tensor_parallel_sizes_of_the_two_sides(hosts, planned, bad, any_size, mla, prefill, decode, words):
    hostvars = hosts(2, "a3", vllm_groups=[
        {"name": "p", "role": "prefill", "hosts_from": "p", "tensor_parallel_size": prefill, "data_parallel_size": 2},
        {"name": "d", "role": "decode", "hosts_from": "d", "tensor_parallel_size": decode, "data_parallel_size": 2}], **any_size(mla=mla))
    found = bad(planned(hostvars, {"vllm": list(hostvars), "p": ["a3-node0"], "d": ["a3-node1"]}))
    assert [(check["device"], words in check["expected"]) for check in found] == ([] if words is None else [("vllm_tensor_parallel_size", True)])


@pytest.mark.parametrize(
    ("hybrid", "prefill", "decode", "wanted"),
    [(False, 3, 3, 1), (False, 1, 3, 1), (False, None, None, None), (True, 3, 3, 3), (True, 1, 3, "hybrid"), (True, 3, 1, "hybrid")],
)
def test_speculative_tokens_of_prefill(hosts, planned, bad, any_size, hybrid, prefill, decode, wanted):
    roles = json.loads(json.dumps(ANY_SIZE["any_size"]["roles"]))
    for side, number in (("prefill", prefill), ("decode", decode)):
        if number is not None:
            roles[side]["releases"]["v0.13.0"]["flags"]["speculative-config"] = {"method": "mtp", "num_speculative_tokens": number}
    result = planned(*a3_inventory(hosts, **any_size(hybrid=hybrid, roles=roles)))
    if wanted == "hybrid":
        found = bad(result)
        words = f"{prefill} speculative tokens on prefill, {decode} on decode"
        assert {check["observed"] for check in found} == {f"group prefill{number}: {words}" for number in (1, 2)}
        return
    assert bad(result) == []
    seen = {name: json.loads(flags(units_of(result, name)[0][1]).get("speculative-config", "{}")).get("num_speculative_tokens") for name in ("prefill1",
                                                                                                                                             "decode")}
    assert seen == {"prefill1": wanted, "decode": decode}


@pytest.mark.parametrize(("role", "tp", "eager", "fits"), [
    ("decode", 1, False, True), ("decode", 2, False, False), ("decode", 1, True, False), ("prefill", 1, False, False)])
def test_output_projection_tp_is_for_decode_with_tp_1_in_graph_mode(hosts, planned, bad, any_size, role, tp, eager, fits):
    args = {"additional-config": {"finegrained_tp_config": {"oproj_tensor_parallel_size": 2}}, "enforce-eager": eager}
    change = {"tensor_parallel_size": tp, "extra_args": args}
    # The other side is large enough for each of these.
    changes = [change, change, {}] if role == "prefill" else [{"tensor_parallel_size": 2}] * 2 + [change]
    found = bad(planned(*a3_inventory(hosts, *changes, **any_size())))
    assert ({check["check"] for check in found} == {"finegrained_tp"}) != fits and bool(found) != fits


def test_ranges_that_touch_do_not_meet_and_one_port_is_enough_to_meet(hosts, planned, bad, any_size):
    for port, meets in ((36007, True), (36008, False)):
        hostvars = both_on(hosts, 1, decode={"kv_port": port}.items(), vllm_pd_colocate=True, **any_size())
        found = bad(planned(hostvars))
        assert [check["device"] for check in found] == ["vllm_kv_port"] * meets, found


def test_mooncake_counts_the_npus_of_the_node_and_not_those_in_use(hosts, planned, bad, any_size):
    """A node of 16 NPUs of which a few are stated has the random ports of all of them."""
    one = [{"name": side, "role": side, "hosts_from": side} for side in ("prefill", "decode")]
    for hardware, npus, port in (("a3", 2, 36000), ("a2", 2, 28000), ("a2", [8, 9], 30000)):
        hostvars = hosts(2, hardware, npus=npus, vllm_groups=one, **any_size())
        result = planned(hostvars, {"vllm": list(hostvars), "prefill": list(hostvars)[:1], "decode": list(hostvars)[1:]})
        assert bad(result) == [] and {group["kv_port"] for group in result["plan"]["groups"].values()} == {port}


def test_one_key_for_all(hosts, planned, bad):
    found = bad(planned(*a3_inventory(hosts, {}, {}, {"api_key_file": "/keys/decode"})))
    assert [(check["host"], check["device"], check["observed"]) for check in found] == [("a3-node2", "vllm_api_key_file", "group decode: /keys/decode")]


def test_notices_of_a_recipe_and_of_its_role_are_both_said(hosts, planned, any_size):
    roles = json.loads(json.dumps(ANY_SIZE["any_size"]["roles"]))
    roles["decode"]["notices"] = {"own": {"level": "info", "when": {"nodes": {"ge": 1}}, "text": "of the role"}}
    whole = {"whole": {"level": "info", "when": {"nodes": {"ge": 1}}, "text": "of the recipe"}}
    said = planned(*a3_inventory(hosts, **any_size(roles=roles, notices=whole)))["notices"]
    assert [(notice["group"], notice["code"]) for notice in said] == [("prefill1", "whole"), ("prefill2", "whole"), ("decode", "whole"), ("decode", "own")]


def test_a_recipe_without_the_roles_is_refused(hosts, planned, bad, any_size):
    found = bad(planned(*a3_inventory(hosts, **any_size(roles={"decode": ANY_SIZE["any_size"]["roles"]["decode"]}))))
    assert {(check["check"], check["device"], check["expected"]) for check in found} == {("recipe_role", "vllm_groups", "one of serve, decode")}
    assert "group prefill1: the role prefill, for which the recipe any_size has no entry" == found[0]["observed"]


def test_a_head_without_ranks_would_answer_nothing(hosts, planned, bad):
    hostvars, groups = a3_inventory(hosts)
    hostvars["a3-node2"]["vllm_data_parallel_size_local"] = 0
    found = bad(planned(hostvars, groups))
    assert [(check["host"], check["device"], check["observed"]) for check in found] == [
        ("a3-node2", "vllm_data_parallel_size_local", "group decode: 0 ranks on its head")]


def test_a_serve_group_beside_them_is_planned_as_ever(hosts, planned, bad):
    hostvars, groups = a3_inventory(hosts, {}, {"role": "serve", "port": 8000})
    alone = planned({"a3-node1": {key: value for key, value in hostvars["a3-node1"].items() if key != "vllm_groups"}})["plan"]
    beside = planned(hostvars, groups)
    assert bad(beside) == []
    mine, theirs = beside["plan"]["hosts"]["a3-node1"]["units"], alone["hosts"]["a3-node1"]["units"]
    assert [(unit["argv"], unit["env"], unit["devices"]) for unit in mine] == [(unit["argv"], unit["env"], unit["devices"]) for unit in theirs]
    assert not {"kv_port", "kv_ports", "colocated"} & set(beside["plan"]["groups"]["prefill2"])
    assert "proxies" not in alone and beside["plan"]["proxies"]["proxy"]["groups"] == ["prefill1", "decode"]


@pytest.mark.parametrize(("name", "sizes"), [
    ("pd_2p1d", {"prefill1": ("prefill", 2, 8, 36000), "prefill2": ("prefill", 2, 8, 36100), "decode": ("decode", 32, 1, 36200)}),
    ("pd_1p1d", {"prefill": ("prefill", 4, 4, 28000), "decode": ("decode", 4, 4, 28100)}),
])
def test_shipped_inventories(planned, bad, name, sizes):
    children = yaml.safe_load((INVENTORIES / name / "hosts.yml").read_text(encoding="utf-8"))["vllm"]["children"]
    common = yaml.safe_load((INVENTORIES / name / "group_vars" / "vllm.yml").read_text(encoding="utf-8"))
    hostvars = {host: {**common, **values} for child in children.values() for host, values in child["hosts"].items()}
    groups = {"vllm": list(hostvars), **{child: list(entry["hosts"]) for child, entry in children.items()}}
    assert request.build(groups, hostvars)["discover"] == []
    for release in ("v0.13.0", "v0.23.0"):
        result = planned({host: {**values, "vllm_ascend_version": release} for host, values in hostvars.items()}, groups)
        assert bad(result) == [] and result["checks"] == []
        found = {key: (group["role"], group["data_parallel_size"], group["tensor_parallel_size"], group["kv_port"]) for key,
                 group in result["plan"]["groups"].items()}
        assert found == sizes
        assert all(values["ansible_host"] == values["vllm_local_ip"] for values in hostvars.values())


SHAPES = st.tuples(
    st.sampled_from(["a2", "a3"]),
    # Of each prefill group and of decode: hosts, ranks a host, TP.
    st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 2, 4])),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 2, 4])),
    st.booleans(),
    st.one_of(st.none(), st.integers(1024, 65535)),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES)
def test_whatever_the_sizes_nothing_meets(hosts, any_size, shape):
    """On every host: each NPU and each port once, KV ports away from Mooncake's, HCCL's and all APIs, or the plan is refused."""
    hardware, count, (p_hosts, p_local, p_tp), (d_hosts, d_local, d_tp), together, kv_port = shape
    npus, names = {"a2": 8, "a3": 16}[hardware], [f"p{number}" for number in range(count)]
    assume(p_local * p_tp <= npus and d_local * d_tp <= npus)
    hostvars = hosts(count * p_hosts + (0 if together else d_hosts), hardware, vllm_pd_colocate=True, **any_size())
    all_hosts = list(hostvars)
    groups = {"vllm": all_hosts, **{name: all_hosts[index * p_hosts : (index + 1) * p_hosts] for index, name in enumerate(names)}}
    groups["d"] = all_hosts[:d_hosts] if together else all_hosts[-d_hosts:]
    entries = [{"name": name, "hosts_from": name, "role": "prefill", "tensor_parallel_size": p_tp, "data_parallel_size": p_hosts * p_local,
                "npus": list(range(p_local * p_tp))} for name in names]
    entries.append({"name": "d", "hosts_from": "d", "role": "decode", "tensor_parallel_size": d_tp, "data_parallel_size": len(groups["d"]) * d_local,
                    "npus": list(range(npus))[-d_local * d_tp :], "data_parallel_rpc_port": 13390, "kv_port": kv_port})
    for values in hostvars.values():
        values["vllm_groups"] = entries
    result = plan.compute(request.build(groups, hostvars))
    if result["plan"] is None:
        # Nothing but what was asked for wrongly: a port, an NPU twice, TP the wrong way round.
        devices = {check["device"] for check in result["checks"] if check["status"] == "fail"}
        assert devices <= {"vllm_kv_port", "vllm_groups", "vllm_tensor_parallel_size"} and (kv_port is not None or "vllm_kv_port" not in devices)
        return
    low = 20000 + 1000 * npus
    for host, entry in result["plan"]["hosts"].items():
        used = [npu for unit in entry["units"] for npu in unit["npus"]]
        assert len(used) == len(set(used))
        kv_ports = [port for unit in entry["units"] for port in range(unit["kv_ports"][0], unit["kv_ports"][1] + 1)]
        others = [unit["port"] for unit in entry["units"]]
        others += [group["rpc_port"] for group in result["plan"]["groups"].values() if group["head"] == host and group["data_parallel_size"] > 1]
        proxy = result["plan"]["proxies"]["proxy"]
        others += [entry[key] for entry in (proxy, proxy["next"]) for key in ("port", "prometheus_port")] if proxy["host"] == host else []
        assert len(kv_ports + others) == len(set(kv_ports + others))
        assert not [port for port in kv_ports + others if 20000 <= port < low or 60000 <= port < 60032 or port > 65535]
        for unit in entry["units"]:
            base = int(unit["env"].get("HCCL_IF_BASE_PORT", 60000))
            assert not [port for port in kv_ports + others if base <= port < base + 32]
    for name, group in result["plan"]["groups"].items():
        for host, (first, last) in group["kv_ports"].items():
            mine = [unit["kv_ports"] for where, unit in units_of(result, name) if where == host]
            assert (first, last) == (min(ports[0] for ports in mine), max(ports[1] for ports in mine))
        ranks = sorted(unit["rank"] for _host, unit in units_of(result, name))
        assert ranks == list(range(group["data_parallel_size"]))
        for _host, unit in units_of(result, name):
            tp = group["tensor_parallel_size"]
            assert len(unit["npus"]) == tp and unit["kv_ports"] == [group["kv_port"] + unit["rank"] * tp, group["kv_port"] + (unit["rank"] + 1) * tp - 1]


def test_a_container_without_the_npus_own_network_files_is_not_started(hosts, planned):
    result = planned(*a3_inventory(hosts))
    for _host, unit in units_of(result):
        assert (unit["start"]["readable"], unit["start"]["executable"]) == (["/etc/hccn.conf"], ["/usr/local/Ascend/driver/tools/hccn_tool"])


def test_hardware_data_without_those_files_are_refused(hosts, planned, bad, tmp_path):
    machine = yaml.safe_load((data.BUNDLED / "hardware" / "atlas_800.yml").read_text(encoding="utf-8"))["a3"]
    machine["mounts"] = [entry for entry in machine["mounts"] if entry["target"] != "/etc/hccn.conf"]
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "ours.yml").write_text(yaml.safe_dump({"a3": machine}), encoding="utf-8")
    found = bad(planned(*a3_inventory(hosts, vllm_data_dirs=[str(tmp_path)])))
    assert {check["check"] for check in found} == {"pd_mounts"} and "no mount /etc/hccn.conf" in found[0]["observed"]


def test_status_asks_each_rank_at_its_own_place_and_names_the_one_that_is_silent(hosts, planned):
    result = planned(*a3_inventory(hosts))
    asked = status.status_questions(result["plan"])
    [service] = asked["a3-node2"]["services"]
    assert (service["name"], service["ranks"], len(service["rank_urls"]), service["url"]) == ("decode", 32, 32, "http://198.51.100.13:7100")
    assert service["rank_urls"][17] == "http://198.51.100.14:7101" and asked["a3-node3"]["services"] == []
    assert asked["a3-node3"]["containers"] == [f"decode-rank{rank}" for rank in range(16, 32)]
    assert [proxy["kind"] for proxy in asked["a3-node0"]["proxies"]] == ["vllm-router"] and len(asked["a3-node0"]["proxies"][0]["backends"]) == 36
    said = {"answered": True, "status": 200, "seconds": 0.1, "timed_out": False, "text": " b"}
    ranks = [{**said, "rank": rank, **({"answered": False, "status": 500, "text": "oops"} if rank == 17 else {})} for rank in range(32)]
    group, units = result["plan"]["groups"]["decode"], {host: entry["units"] for host, entry in result["plan"]["hosts"].items()}
    facts = {"hardware": "a3", "nodes": 2, "role": "decode", "release": group["release"]}
    judges = {host: Judge(host, data.load_all()[0]["checks"], facts, "en") for host in group["hosts"]}
    [found] = judge_api.judge_ranks("decode", group, ranks, judges, units)
    assert (found["host"], found["device"], found["status"]) == ("a3-node3", "decode rank 17", "fail") and "decode-rank17" in found["remedy"]
