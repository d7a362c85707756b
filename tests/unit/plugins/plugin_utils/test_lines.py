# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check results and plans as a person reads them."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_line, check_lines, check_table, plan_lines, width

CHECK = {"host": "a2-node1", "check": "nic_up", "device": "eth0", "status": "fail", "observed": "down", "expected": "up", "remedy": "ip link set eth0 up"}

PLAN = {
    "groups": {"vllm": {
        "model": "deepseek_r1_w8a8", "hardware": "a2", "release": "v0.13.0", "data_parallel_size": 4, "tensor_parallel_size": 4, "head": "a2-node0",
        "hosts": ["a2-node0", "a2-node1"], "image": "quay.io/ascend/vllm-ascend:v0.13.0", "served_model_name": "deepseek_r1",
        "weights": {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "dir": "/mnt/weights/DeepSeek-R1-W8A8"},
        "api": {"address": "198.51.100.11", "port": 8000, "url": "http://198.51.100.11:8000"}}},
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


def test_an_accepted_failure_says_so_and_comes_after_the_warnings():
    checks = [dict(CHECK, accepted=True), dict(CHECK, status="pass", accepted=True), dict(CHECK, status="warn", accepted=False)]
    assert [line.split("]")[0] for line in check_lines(checks)] == ["[warn", "[accepted (fail)", "[pass"]


def test_a_tool_cannot_steer_the_terminal_or_break_a_line():
    line = check_line(dict(CHECK, observed="\x1b[2Jgone\nsecond\tline\x00"))
    assert "found \\x1b[2Jgone second line\\x00, wanted up." in line


def test_the_table_has_failures_first_with_remedies_and_counts():
    checks = [
        dict(CHECK, status="pass", host="a2-node0"),
        dict(CHECK, status="warn", host="a2-node0", check="mtu_equal", observed=1400, expected=1500, remedy=""),
        dict(CHECK, accepted=True, check="driver_equal", device=None),
        dict(CHECK, title="NIC is up"),
        dict(CHECK, status="unknown", check="npu_count"),
    ]
    assert check_table(checks) == [
        "STATUS           HOST      DEVICE  CHECK         FOUND  WANTED",
        "fail             a2-node1  eth0    nic_up        down   up",
        "    NIC is up",
        "    Remedy: ip link set eth0 up",
        "unknown          a2-node1  eth0    npu_count     down   up",
        "    Remedy: ip link set eth0 up",
        "warn             a2-node0  eth0    mtu_equal     1400   1500",
        "accepted (fail)  a2-node1          driver_equal  down   up",
        "    Remedy: ip link set eth0 up",
        "a2-node0: 1 pass, 1 warn",
        "a2-node1: 1 fail, 1 unknown, 1 accepted",
    ]


def test_a_long_value_is_not_cut_and_does_not_widen_the_columns():
    long = "no answer " * 30
    table = check_table([dict(CHECK, observed=long), dict(CHECK, host="a2-node0")])
    assert table[1:5] == ["fail    a2-node1  eth0    nic_up", "    Found: " + long.strip(), "    Wanted: up", "    Remedy: ip link set eth0 up"]
    assert table[5] == "fail    a2-node0  eth0    nic_up  down   up"


def test_chinese_takes_two_columns_a_character():
    table = check_table([dict(CHECK, title="网卡已启用"), dict(CHECK, status="unknown", observed="无应答", accepted=True)], "zh")
    assert table == [
        "状态            节点      设备  检查项  实测    期望",
        "失败            a2-node1  eth0  nic_up  down    up",
        "    网卡已启用",
        "    处理建议：ip link set eth0 up",
        "已接受（未知）  a2-node1  eth0  nic_up  无应答  up",
        "    处理建议：ip link set eth0 up",
        "a2-node1: 1 项失败, 1 项已接受",
    ]
    assert (width("无ab"), width("e\u0301"), width("（")) == (4, 1, 2)


@pytest.mark.parametrize("change", [{"status": "pass"}, {"observed": None, "expected": "", "device": None, "remedy": None}, {"observed": "x "}])
def test_joined_lines_need_no_quotes_in_yaml(change):
    """A first line that starts with a space or a line that ends in one would end the block form of Ansible's YAML output."""
    table = check_table([dict(CHECK, **change)])
    assert table and table[0][0] != " " and all(line and line == line.rstrip() for line in table)


def test_no_checks_no_table():
    assert check_table([]) == []


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
