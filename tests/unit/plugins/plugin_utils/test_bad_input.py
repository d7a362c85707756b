# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input that is decided before any node is touched: each problem names host, variable, what was found, wanted and to be done."""

from __future__ import annotations

import pytest

PAIR = ("a2-node0", "a2-node1")


@pytest.mark.parametrize(
    ("variables", "device", "observed", "expected", "remedy"),
    [
        (
            {"vllm_model": "deepseek_r1_w8a9"},
            "vllm_model",
            "'deepseek_r1_w8a9'",
            "one of deepseek_r1_w8a8",
            "did you mean 'deepseek_r1_w8a8'?",
        ),
        ({"vllm_ascend_version": "v0.13"}, "vllm_ascend_version", "'v0.13'", "v0.11.0, v0.13.0, v0.13.0rc3", "did you mean 'v0.13.0'?"),
        (
            {"vllm_ascend_version": "v0.18.0"},
            "vllm_ascend_version",
            "recipe deepseek_r1_w8a8 has no entry",
            "one of v0.13.0, v0.23.0",
            "vllm_data_dirs",
        ),
        (
            {"vllm_data_parallel_size": 5},
            "vllm_data_parallel_size",
            "5 rank(s) over 2 host(s)",
            "the same number",
            "set vllm_data_parallel_size to 4, or state",
        ),
        (
            {"vllm_data_parallel_size": 2},
            "vllm_data_parallel_size",
            "8 of 16 NPUs used by DP 2 x TP 4",
            "16 NPUs or more",
            "vllm_data_parallel_size to 4",
        ),
        (
            {"vllm_data_parallel_rpc_port": 8000},
            "vllm_data_parallel_rpc_port",
            "8000 for vllm_data_parallel_rpc_port",
            "each port once",
            "free port",
        ),
        (
            {"vllm_supervise": True, "vllm_watch_port": 13389},
            "vllm_watch_port",
            "13389 for vllm_watch_port of group vllm and for vllm_data_parallel_rpc_port",
            "each port once",
            "free port",
        ),
        ({"vllm_supervise": "yes", "vllm_watch_port": 60002}, "vllm_watch_port", "HCCL's ports", "that HCCL does not use", "below 60000"),
        ({"vllm_port": 60031}, "vllm_port", "HCCL's ports 60000 to 60031", "that HCCL does not use", "below 60000"),
        ({"vllm_data_parallel_rpc_port": "60000"}, "vllm_data_parallel_rpc_port", "HCCL's ports", "that HCCL does not use", "below 60000"),
        (
            {"vllm_extra_args": {"tensor_parallel_size": 8}},
            "vllm_extra_args",
            "--tensor-parallel-size",
            "writes itself",
            "use vllm_tensor_parallel_size",
        ),
        ({"vllm_data_dirs": ["data"]}, "vllm_data_dirs", "'data'", "an absolute path", "inventory_dir"),
    ],
)
def test_one_problem_of_the_group(hosts, only_problem, variables, device, observed, expected, remedy):
    check = only_problem(hosts(2, **variables))
    assert check["host"] in (*PAIR, "localhost")
    assert check["device"] == device
    assert observed in check["observed"] and expected in check["expected"] and remedy in check["remedy"]


@pytest.mark.parametrize(
    ("variables", "device", "observed", "expected"),
    [
        ({"vllm_tensor_parallel_size": 16}, "vllm_tensor_parallel_size", "TP 16 on 8 NPU(s)", "at most the NPUs"),
        ({"vllm_data_parallel_size": 8}, "vllm_data_parallel_size", "16 NPUs wanted, 8 there", "at most 2 rank(s)"),
        ({"vllm_data_parallel_size_local": 3}, "vllm_data_parallel_size_local", "12 NPUs wanted, 8 there", "at most 2 rank(s)"),
        ({"vllm_port": 65536}, "vllm_port", "65536 (an integer)", "from 1 to 65535"),
        ({"vllm_port": "0"}, "vllm_port", "'0' (a text)", "from 1 to 65535"),
        ({"vllm_data_parallel_rpc_port": 80}, "vllm_data_parallel_rpc_port", "80 (an integer)", "from 1024 to 65535"),
        ({"vllm_npus": "eight"}, "vllm_npus", "'eight' (a text)", "the number of NPUs"),
        ({"vllm_npus": 6}, "vllm_npus", "6 NPUs, of which 2 would stay unused with TP 4", "a multiple of 4"),
        ({"vllm_npus": [20, 21, 22, 23]}, "vllm_npus", "NPU id 23", "ids below 16"),
        ({"vllm_hardware": "a5"}, "vllm_hardware", "'a5' (a text)", "one of a2, a3"),
        ({"vllm_extra_env": {"HCCL_CONNECT_TIMEOUT": 60}}, "vllm_extra_env", "HCCL_CONNECT_TIMEOUT=60", "from 120 to 7200"),
        ({"vllm_extra_env": {"VLLM_API_KEY": "k"}}, "vllm_extra_env", "VLLM_API_KEY", "no secret"),
        ({"vllm_network": "203.0.113.0/24"}, "vllm_local_ip", "198.51.100.1", "inside vllm_network 203.0.113.0/24"),
    ],
)
def test_one_problem_of_every_host(hosts, planned, bad, variables, device, observed, expected):
    found = bad(planned(hosts(2, **variables)))
    assert [check["host"] for check in found] == list(PAIR)
    for check in found:
        assert check["device"] == device
        assert observed in check["observed"] and expected in check["expected"] and check["remedy"]


@pytest.mark.parametrize(("npus", "tp", "dp", "sizes"), [(8, 4, 5, "4"), (8, 2, 5, "4 or 6"), (8, 4, 1, "2"), (8, 1, 99, "16")])
def test_the_sizes_that_are_proposed_fit(hosts, planned, bad, npus, tp, dp, sizes):
    found = bad(planned(hosts(2, npus=npus, vllm_tensor_parallel_size=tp, vllm_data_parallel_size=dp)))
    assert f"set vllm_data_parallel_size to {sizes}, or state" in found[0]["remedy"]


def test_tp_that_divides_neither_heads_nor_npus(hosts, planned, bad):
    found = bad(planned(hosts(2, vllm_tensor_parallel_size=3)))
    assert [(check["host"], check["device"]) for check in found] == [
        (PAIR[0], "vllm_tensor_parallel_size"),
        (PAIR[0], "vllm_npus"),
        (PAIR[1], "vllm_npus"),
    ]
    assert "128 attention heads" in found[0]["expected"] and "1, 2, 4, 8" in found[0]["remedy"]


def test_one_a2_node_is_too_small(hosts, only_problem):
    check = only_problem(hosts(1))
    assert (check["host"], check["device"]) == ("a2-node0", "vllm_npus")
    assert check["observed"] == "8 NPU(s) on 1 host(s)" and check["expected"].startswith("16 NPUs or more for DeepSeek-R1 W8A8")
    assert check["remedy"] == "add 1 more node(s) of 8 NPUs to the group."


def test_three_a2_nodes_give_a_size_that_expert_parallelism_does_not_know(hosts, only_problem):
    check = only_problem(hosts(3))
    assert check["observed"] == "DP 6 x TP 4 = 24 expert-parallel ranks"
    assert check["remedy"] == "serve with 2 or 4 or 8 host(s) of 8 NPUs."
    assert only_problem(hosts(5, vllm_data_parallel_size=5))["remedy"].startswith("serve with 2 or 4 or 8")


def test_a_recipe_without_the_hardware(hosts, planned, bad, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "x.yml").write_text("only_a3: {base: deepseek_r1_w8a8, source: s, hardware: {a2: null}}\n", encoding="utf-8")
    found = bad(planned(hosts(2, vllm_model="only_a3", vllm_data_dirs=[str(tmp_path)])))
    assert [(check["device"], check["expected"]) for check in found] == [("vllm_hardware", "one of a3")]


def test_two_generations_in_one_group(hosts, planned, bad):
    found = bad(
        planned({**hosts(1, "a2"), **{name: {**values, "vllm_local_ip": "198.51.100.31"} for name, values in hosts(1, "a3").items()}})
    )
    assert [(check["host"], check["device"], check["observed"]) for check in found] == [("a3-node0", "vllm_hardware", "a3")]


def test_two_hosts_with_one_address(hosts, only_problem):
    pair = hosts(2)
    pair["a2-node1"]["vllm_local_ip"] = "198.51.100.11"
    check = only_problem(pair)
    assert (check["host"], check["device"]) == ("a2-node1", "vllm_local_ip")
    assert "a2-node0" in check["observed"]


def test_nic_that_does_not_own_the_address(hosts, only_problem):
    pair = hosts(2)
    del pair["a2-node1"]["vllm_npus"]
    answer = {
        "hardware": "a2",
        "npus": list(range(8)),
        "interfaces": [
            {"name": "eth0", "up": True, "addresses": ["10.0.0.2/8"]},
            {"name": "eth1", "up": True, "addresses": ["198.51.100.12/24"]},
        ],
    }
    check = only_problem(pair, answers={"a2-node1": answer})
    assert (check["host"], check["device"], check["observed"]) == ("a2-node1", "vllm_nic_name", "198.51.100.12 on eth1")
    assert check["remedy"].startswith("set vllm_nic_name: eth1")


@pytest.mark.parametrize("text", ["ssh: connect to host 198.51.100.12 port 22: No route to host", "Permission denied (publickey)."])
def test_a_host_that_cannot_be_asked(hosts, only_problem, text):
    pair = hosts(2)
    del pair["a2-node1"]["vllm_hardware"]
    check = only_problem(pair, answers={"a2-node1": {"error": text}})
    assert (check["host"], check["check"], check["observed"]) == ("a2-node1", "reachable", text)
    assert "vllm_hardware" in check["expected"] and "ansible -m ping a2-node1" in check["remedy"]


@pytest.mark.parametrize(("groups", "observed"), [({"vllm": []}, "no host in it"), ({"all": ["x"]}, "no such group")])
def test_an_empty_or_missing_group(planned, bad, groups, observed):
    found = bad(planned({}, groups))
    assert [(check["host"], check["device"], check["observed"]) for check in found] == [("localhost", "vllm", observed)]
    assert found[0]["remedy"]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("vllm_port", 8000, 8001),
        ("vllm_model", "deepseek_r1_w8a8", "other"),
        ("vllm_extra_args", {"seed": 1}, {"seed": 2}),
        ("vllm_report_dir", "/a", "/b"),
        ("vllm_weights_dir", "/mnt/a", "/mnt/b"),
    ],
)
def test_hosts_of_one_group_have_to_agree(hosts, only_problem, name, first, second):
    pair = hosts(2)
    pair["a2-node0"][name], pair["a2-node1"][name] = first, second
    check = only_problem(pair)
    assert (check["host"], check["device"], check["check"]) == ("a2-node1", name, "variable_agrees")
    assert "a2-node0" in check["expected"]


def test_stating_the_default_on_one_host_is_agreement(hosts, planned, bad):
    pair = hosts(2)
    pair["a2-node1"]["vllm_port"] = "8000"
    assert bad(planned(pair)) == []


def test_all_problems_of_all_hosts_at_once(hosts, planned, bad):
    trio = hosts(3, vllm_port="high", vllm_data_parallel_rpc_port=60001)
    trio["a2-node1"]["vllm_npus"] = "none"
    trio["a2-node2"]["vllm_local_ip"] = "198.51.100.11"
    found = {(check["host"], check["device"]) for check in bad(planned(trio))}
    assert found >= {
        ("a2-node0", "vllm_port"),
        ("a2-node1", "vllm_port"),
        ("a2-node2", "vllm_port"),
        ("a2-node1", "vllm_npus"),
        ("a2-node2", "vllm_local_ip"),
    }


def test_a_wrong_variable_of_the_group_does_not_hide_what_the_ranks_say(hosts, planned, bad):
    found = bad(planned(hosts(1, vllm_port="high")))
    assert [check["device"] for check in found] == ["vllm_port", "vllm_npus"]


def test_a_wrong_size_is_not_planned_as_if_it_were_unstated(hosts, planned, bad):
    found = bad(planned(hosts(2, npus=6, vllm_data_parallel_size="two")))
    assert {check["device"] for check in found} == {"vllm_data_parallel_size"}


def test_an_unknown_variable_warns_and_changes_nothing(hosts, planned):
    result = planned(hosts(2, vllm_prot=9000))
    assert result["plan"] is not None
    assert [(check["host"], check["status"], check["device"]) for check in result["checks"]] == [
        (host, "warn", "vllm_prot") for host in PAIR
    ]
    assert "did you mean 'vllm_port'?" in result["checks"][0]["remedy"]


@pytest.mark.parametrize(("name", "meant"), [("vllm_group", "vllm_groups"), ("vllm_grups", "vllm_groups"), ("vllm_proxi", "vllm_proxy")])
def test_a_misspelt_variable_without_which_the_hosts_would_do_something_else_stops(hosts, planned, bad, name, meant):
    found = bad(planned(hosts(2, **{name: [{"name": "one"}]})))
    assert {(check["device"], check["status"]) for check in found} == {(name, "fail")}
    assert f"did you mean '{meant}'?" in found[0]["remedy"]
