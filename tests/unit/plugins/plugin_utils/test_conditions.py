# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions as data, and the notices of the recipe that they guard."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import conditions

FACTS = {
    "nodes": 2,
    "role": "serve",
    "release": "v1",
    "env": {"A": "1", "N": "120"},
    "flag": {"len": 100, "json": {"on": True, "deep": {"x": 3}}, "bare": True},
}


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({"nodes": {"is": 2}}, True),
        ({"nodes": {"is": 1}}, False),
        ({"nodes": {"gt": 1, "lt": 3}}, True),
        ({"nodes": {"gt": 1, "lt": 2}}, False),
        ({"nodes": {"ge": 2}}, True),
        ({"nodes": {"le": 1}}, False),
        ({"role": {"in": ["serve", "prefill"]}}, True),
        ({"role": {"in": ["prefill"]}}, False),
        ({"env.A": {"is": "1"}}, True),
        ({"env.A": {"is": 1}}, False),
        ({"env.N": {"lt": 121}}, True),
        ({"env.A": {"set": True}}, True),
        ({"env.B": {"set": True}}, False),
        ({"env.B": {"set": False}}, True),
        ({"env.B": {"is": "1"}}, False),
        ({"env.B": {"lt": 1}}, False),
        ({"flag.len": {"lt": 101}}, True),
        ({"flag.bare": {"lt": 2}}, False),
        ({"flag.json.on": {"is": True}}, True),
        ({"flag.json.deep.x": {"is": 3}}, True),
        ({"flag.len.x": {"set": False}}, True),
        ({"nodes": {"is": 2}, "role": {"is": "decode"}}, False),
        ({"any": [{"nodes": {"is": 1}}, {"role": {"is": "serve"}}]}, True),
        ({"any": [{"nodes": {"is": 1}}, {"role": {"is": "decode"}}]}, False),
        ({"nodes": {"is": 2}, "any": [{"env.B": {"set": True}}]}, False),
    ],
)
def test_holds(condition, wanted):
    assert conditions.holds(condition, FACTS) is wanted


@pytest.mark.parametrize(
    "condition",
    [
        None,
        {},
        [],
        "nodes > 1",
        {"node": {"is": 1}},
        {"nodes": 1},
        {"nodes": {}},
        {"nodes": {"equals": 1}},
        {"any": {"nodes": {"is": 1}}},
        {"env.": {"set": True}},
        {"any": [{"nodes": {"is": 2}}, {"nodes": {"matches": 1}}]},
    ],
)
def test_a_condition_that_is_wrong_is_an_error_and_never_false(condition):
    with pytest.raises(conditions.ConditionError):
        conditions.holds(condition, FACTS)


def codes(result):
    """Return the codes of a plan's notices by level."""
    found = {}
    for notice in result["plan"]["notices"]:
        assert notice["text"] and notice["source"] and notice["group"] == "vllm"
        found.setdefault(notice["level"], set()).add(notice["code"])
    return found


def test_notices_of_the_pair(hosts, planned):
    assert codes(planned(hosts(2))) == {"info": {"balance_scheduling", "mlapo_memory", "context_for_accuracy", "prefix_caching"}}


def test_dp2tp8_on_one_node_warns_and_on_two_it_is_not_that_notice(hosts, planned):
    single = codes(planned(hosts(1, "a3", vllm_tensor_parallel_size=8)))
    assert single["warn"] == {"dp2tp8_single_node", "mla_heads_per_npu"}
    assert codes(planned(hosts(2, "a2", vllm_tensor_parallel_size=8)))["warn"] == {"mla_heads_per_npu"}
    assert "warn" not in codes(planned(hosts(1, "a3")))


def test_notices_follow_the_settings(hosts, planned):
    quiet = {"max-model-len": 35000, "no-enable-prefix-caching": True}
    env = {"VLLM_ASCEND_ENABLE_MLAPO": "0", "VLLM_ASCEND_BALANCE_SCHEDULING": None}
    assert codes(planned(hosts(2, vllm_extra_args=quiet, vllm_extra_env=env))) == {}
    newer = codes(planned(hosts(2, vllm_ascend_version="v0.23.0")))
    assert newer == {"info": {"balance_scheduling", "mlapo_memory", "context_for_accuracy", "prefix_caching"}}
    newer = codes(planned(hosts(2, vllm_ascend_version="v0.23.0", vllm_extra_args={"additional-config": None})))
    assert "balance_scheduling" not in newer["info"]


def test_a_notice_that_cannot_be_read_stops_the_run(hosts, planned, bad, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "x.yml").write_text(
        "x: {base: deepseek_r1_w8a8, source: s, notices: {odd: {level: info, text: t, when: {weather: {is: 1}}}}}\n", encoding="utf-8"
    )
    found = bad(planned(hosts(2, vllm_model="x", vllm_data_dirs=[str(tmp_path)])))
    assert [(check["check"], check["status"]) for check in found] == [("recipe_notice", "unknown")]
    assert "weather" in found[0]["observed"]
