# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check results and plans as a person reads them."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_line, check_lines, plan_lines

CHECK = {"host": "a2-node1", "check": "nic_up", "device": "eth0", "status": "fail", "observed": "down", "expected": "up", "remedy": "ip link set eth0 up"}

PLAN = {
    "groups": {"vllm": {
        "model": "deepseek_r1_w8a8", "hardware": "a2", "release": "v0.13.0", "data_parallel_size": 4, "tensor_parallel_size": 4, "head": "a2-node0",
        "hosts": ["a2-node0", "a2-node1"], "image": "quay.io/ascend/vllm-ascend:v0.13.0", "served_model_name": "deepseek_r1",
        "weights": {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "dir": "/mnt/weights/DeepSeek-R1-W8A8"},
        "api": {"address": "198.51.100.11", "port": 8000}}},
    "hosts": {
        "a2-node0": {"local_ip": "198.51.100.11", "nic_name": "eth0", "units": [
            {"name": "vllm-rank0", "headless": False, "npus": [0, 1, 2, 3, 4, 5, 6, 7], "env_added": {"VLLM_HOST_IP": "several addresses"}}]},
        "a2-node1": {"local_ip": "198.51.100.12", "nic_name": "eth1", "units": [
            {"name": "vllm-rank2", "headless": True, "npus": [4, 1, 2, 3, 7], "env_added": {"VLLM_HOST_IP": "several addresses"}}]},
    },
}


def test_a_check_says_where_what_found_wanted_and_what_to_do():
    assert check_line(CHECK) == "[fail] a2-node1 eth0: nic_up: found down, wanted up. Remedy: ip link set eth0 up"


@pytest.mark.parametrize("without", [{"device": ""}, {"device": None}])
def test_a_check_without_device_or_remedy(without):
    assert check_line(dict(CHECK, remedy="", **without)) == "[fail] a2-node1: nic_up: found down, wanted up."


def test_failures_come_first_and_otherwise_the_order_stays():
    statuses = ["pass", "warn", "unknown", "fail", "warn", "fail", "odd"]
    checks = [dict(CHECK, status=status, check=f"c{number}") for number, status in enumerate(statuses)]
    before = copy.deepcopy(checks)
    assert [line.split(":")[1].strip() for line in check_lines(checks)] == ["c3", "c5", "c2", "c6", "c1", "c4", "c0"]
    assert checks == before


def test_no_checks_no_lines():
    assert check_lines([]) == []


def test_the_plan_names_everything_a_person_decides_by():
    lines = plan_lines({"plan": PLAN})
    assert lines == [
        "vllm: deepseek_r1_w8a8 on a2, release v0.13.0, DP 4 x TP 4 on 2 node(s), head a2-node0",
        "  image quay.io/ascend/vllm-ascend:v0.13.0",
        "  weights modelscope:vllm-ascend/DeepSeek-R1-W8A8 in /mnt/weights/DeepSeek-R1-W8A8",
        "  answers at http://198.51.100.11:8000 as deepseek_r1",
        "a2-node0: vllm-rank0 (head), 198.51.100.11 on eth0, NPUs 0-7",
        "a2-node1: vllm-rank2 (headless), 198.51.100.12 on eth1, NPUs 1-4,7",
        "added to the recipe's environment: VLLM_HOST_IP (several addresses)",
    ]


def test_notices_and_warnings_end_the_plan_and_failures_are_shown_elsewhere():
    result = {"plan": PLAN, "notices": [{"level": "warn", "text": "dp4tp4 is recommended"}, {"level": "info", "text": "prefix caching has a switch"}],
              "checks": [dict(CHECK, status="warn"), CHECK, dict(CHECK, status="pass")]}
    assert plan_lines(result)[-3:] == ["warn: dp4tp4 is recommended", "info: prefix caching has a switch", check_line(dict(CHECK, status="warn"))]


def test_a_unit_without_npus_or_additions():
    plan = copy.deepcopy(PLAN)
    plan["hosts"]["a2-node0"]["units"] = [{"name": "vllm-api", "headless": False, "npus": []}]
    assert "a2-node0: vllm-api (head), 198.51.100.11 on eth0, no NPUs" in plan_lines({"plan": plan})


def test_nothing_planned():
    assert plan_lines({"plan": {"groups": {}, "hosts": {}}}) == []
