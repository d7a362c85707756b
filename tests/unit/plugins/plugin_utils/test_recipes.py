# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every shipped recipe is planned at its own size. (That vLLM reads every command line is a case of the lab.)"""

from __future__ import annotations

import itertools
import json

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import conditions, data, recipes

KNOWN, _CHECKS = data.load_all()
RECIPES = {name: data.resolve(KNOWN["recipes"], name) for name in KNOWN["recipes"]}
CASES = [(name, release, hardware) for name, entry in RECIPES.items() for release, hardware in itertools.product(entry["releases"], entry["hardware"])]
PD_CASES = [(name, release, hardware) for name, entry in RECIPES.items() if "roles" in entry
            for release, hardware in itertools.product(entry["roles"]["prefill"]["releases"], entry["roles"]["prefill"]["hardware"])]
NPUS = {"a2": 8, "a3": 16}


def options(unit):
    """Return the command line of a unit as {option: value}, JSON read; a bare option is True."""
    words, found = unit["argv"][3:], {}
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        value = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("--") else True
        found[word[2:]] = json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
    return found


@pytest.mark.parametrize(("name", "release", "hardware"), CASES)
def test_a_recipe_is_planned_at_its_own_size(hosts, planned, bad, name, release, hardware):
    entry = RECIPES[name]["hardware"][hardware]
    count = entry["npus_needed"] // NPUS[hardware]
    result = planned(hosts(count, hardware, vllm_model=name, vllm_ascend_version=release))
    assert bad(result) == [] and result["checks"] == []
    group = result["plan"]["groups"]["vllm"]
    assert (group["data_parallel_size"], group["tensor_parallel_size"]) == (entry["data_parallel_size"], entry["tensor_parallel_size"])
    units = [unit for host in result["plan"]["hosts"].values() for unit in host["units"]]
    assert len(units) == count
    for unit in units:
        stated = options(unit)
        assert stated["trust-remote-code"] is True and stated["enable-expert-parallel"] is True
        assert ("headless" in stated) == (unit["rank"] > 0)
        assert unit["env"]["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"
        # What the planner writes, and what belongs to the host, is in no recipe.
        assert not {"LD_PRELOAD", "HCCL_IF_IP"} & set(recipes.select(name, RECIPES[name], release, hardware, "h")[0].env)
    assert {tuple(sorted(unit["env"])) for unit in units} == {tuple(sorted(units[0]["env"]))}


@pytest.mark.parametrize(("name", "release", "hardware"), PD_CASES)
def test_the_two_sides_of_a_recipe_are_planned_at_their_own_sizes(hosts, planned, bad, name, release, hardware):
    sides = RECIPES[name]["roles"]
    counts = {side: sides[side]["hardware"][hardware]["npus_needed"] // NPUS[hardware] for side in ("prefill", "decode")}
    entries = [{"name": side, "role": side, "hosts_from": side} for side in counts]
    hostvars = hosts(sum(counts.values()), hardware, vllm_groups=entries, vllm_model=name, vllm_ascend_version=release)
    names = list(hostvars)
    result = planned(hostvars, {"vllm": names, "prefill": names[: counts["prefill"]], "decode": names[counts["prefill"] :]})
    assert bad(result) == []
    for side in counts:
        entry, group = sides[side]["hardware"][hardware], result["plan"]["groups"][side]
        assert (group["data_parallel_size"], group["tensor_parallel_size"]) == (entry["data_parallel_size"], entry["tensor_parallel_size"])
        recipe, checks = recipes.select(name, RECIPES[name], release, hardware, "h", side)
        assert checks == [] and entry["data_parallel_size"] * entry["tensor_parallel_size"] == entry["npus_needed"] and entry["source"]
        facts = {"env": recipe.env, "flag": recipe.flags, "release": release, "role": side}
        for code, notice in recipe.notices.items():
            assert notice["source"] and notice["text"], code
            conditions.holds(notice["when"], facts)


@pytest.mark.parametrize("release", ["v0.13.0", "v0.23.0"])
def test_prefill_and_decode_of_deepseek_r1_equal_the_page(hosts, planned, release):
    """docs/source/tutorials/features/pd_disaggregation_mooncake_multi_node.md at v0.23.0, Non-layerwise; v0.13.0 adds MLAPO on decode."""
    hostvars = hosts(4, "a3", vllm_ascend_version=release, vllm_groups=[
        {"name": "p1", "hosts_from": "p1", "role": "prefill", "kv_port": 36000, "data_parallel_rpc_port": 12321},
        {"name": "p2", "hosts_from": "p2", "role": "prefill", "kv_port": 36100, "data_parallel_rpc_port": 12321},
        {"name": "d", "hosts_from": "d", "role": "decode", "kv_port": 36200, "data_parallel_rpc_port": 12321}])
    names = list(hostvars)
    result = planned(hostvars, {"vllm": names, "p1": names[:1], "p2": names[1:2], "d": names[2:]})
    ours = {"HCCL_IF_IP", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME", "VLLM_HOST_IP", "VLLM_ENGINE_READY_TIMEOUT_S", "HCCL_CONNECT_TIMEOUT"}
    sizes = {"prefill": {"dp_size": 2, "tp_size": 8}, "decode": {"dp_size": 32, "tp_size": 1}}
    both = {
        "host": "0.0.0.0", "data-parallel-rpc-port": "12321", "served-model-name": "deepseek_r1", "enable-expert-parallel": True, "seed": "1024",
        "max-model-len": "40000", "trust-remote-code": True, "quantization": "ascend", "no-enable-prefix-caching": True,
        "speculative-config": {"num_speculative_tokens": 1, "method": "deepseek_mtp"}}
    common = {"OMP_PROC_BIND": "false", "OMP_NUM_THREADS": "10", "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "TASK_QUEUE_ENABLE": "1",
              "HCCL_OP_EXPANSION_MODE": "AIV"}
    first = result["plan"]["hosts"][names[1]]["units"][1]
    assert options(first) == {
        **both, "port": "7101", "data-parallel-size": "2", "data-parallel-rank": "1", "data-parallel-address": "198.51.100.12", "tensor-parallel-size": "8",
        "max-num-batched-tokens": "16384", "max-num-seqs": "8", "enforce-eager": True, "gpu-memory-utilization": "0.9",
        "additional-config": {"enable_shared_expert_dp": True},
        "kv-transfer-config": {"kv_connector": "MooncakeConnectorV1", "kv_role": "kv_producer", "kv_port": "36100", "kv_connector_extra_config": sizes}}
    assert {key: value for key, value in first["env"].items() if key not in ours} == {**common, "HCCL_BUFFSIZE": "256"}
    last = result["plan"]["hosts"][names[3]]["units"][15]
    assert options(last) == {
        **both, "port": "7115", "data-parallel-size": "32", "data-parallel-rank": "31", "data-parallel-address": "198.51.100.13", "tensor-parallel-size": "1",
        "max-num-batched-tokens": "256", "max-num-seqs": "40", "gpu-memory-utilization": "0.94",
        "additional-config": {"recompute_scheduler_enable": True, "multistream_overlap_shared_expert": True,
                              "finegrained_tp_config": {"lmhead_tensor_parallel_size": 16}},
        "compilation-config": {"cudagraph_mode": "FULL_DECODE_ONLY"},
        "kv-transfer-config": {"kv_connector": "MooncakeConnectorV1", "kv_role": "kv_consumer", "kv_port": "36200", "kv_connector_extra_config": sizes}}
    mlapo = {"VLLM_ASCEND_ENABLE_MLAPO": "1"} if release == "v0.13.0" else {}
    assert {key: value for key, value in last["env"].items() if key not in ours} == {**common, "HCCL_BUFFSIZE": "600", **mlapo}


def test_one_kind_of_model_is_known_for_each_family():
    """The shape of one head and headless nodes is served for more than one model, as data alone."""
    assert {"deepseek_r1_w8a8", "deepseek_v3_1_w8a8", "deepseek_v3_2_w8a8", "glm_4_7_w8a8", "glm_5_w8a8", "glm_5_w4a8", "kimi_k2_5_w4a8", "qwen3_235b_a22b",
            "qwen3_vl_235b_a22b_w8a8", "qwen3_5_397b_a17b_w8a8"} <= set(RECIPES)
    for name, entry in RECIPES.items():
        for part in (entry, *entry["releases"].values(), *entry["hardware"].values()):
            assert part["source"], name
    # Only recipes with several nodes are of that shape on A2; each has one.
    assert all(entry["hardware"]["a2"]["npus_needed"] == 16 for entry in RECIPES.values() if "a2" in entry["hardware"])
