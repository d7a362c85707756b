# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments as records, plans with records put back, and what is said of a switch."""

from __future__ import annotations

import copy
import json

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import deployments
from ansible_collections.ascend.vllm.plugins.plugin_utils.deployments import DeploymentError

H, P = "a2-node0", "a2-node1"
BEGUN = 1760000000.0


@pytest.fixture
def pair(hosts, planned):
    """A function (**variables) -> the plan of two nodes."""
    def make(**variables):
        result = planned(hosts(2, **variables))
        assert result["plan"], result["checks"]
        return result["plan"]

    return make


@pytest.fixture
def two_groups(hosts, planned):
    """A function (**settings of the first group) -> the plan of two groups that share two A3 hosts, half the NPUs each."""
    def make(**settings):
        groups = [{"name": "one", "npus": list(range(8)), **settings},
                  {"name": "two", "npus": list(range(8, 16)), "port": 8001, "data_parallel_rpc_port": 13390}]
        result = planned(hosts(2, "a3", vllm_groups=groups))
        assert result["plan"], result["checks"]
        return result["plan"]

    return make


def kept(number, plan, name="vllm"):
    """Return a deployment of the history."""
    return {"number": number, "time": int(BEGUN) + number * 86400, "record": deployments.record(plan, name)}


def test_a_record_is_plain_data_and_has_what_is_needed_to_start_again(pair):
    plan = pair()
    found = deployments.record(plan, "vllm")
    assert json.loads(json.dumps(found)) == found
    assert (found["schema"], found["group"], found["entry"]) == (1, "vllm", plan["groups"]["vllm"])
    assert {host: set(entry) for host, entry in found["hosts"].items()} == {H: {"local_ip", "nic_name", "units"}, P: {"local_ip", "nic_name", "units"}}
    assert found["hosts"][P]["units"] == plan["hosts"][P]["units"]


def test_a_plan_with_a_record_put_back_is_the_plan_of_then(pair):
    then, now = pair(), pair(vllm_port=8100, vllm_extra_args={"max-num-seqs": 8})
    before = copy.deepcopy(now)
    found = deployments.put_back(now, json.loads(json.dumps(deployments.record(then, "vllm"))))
    assert now == before and found != now
    assert found["groups"] == then["groups"] and {host: entry["units"] for host, entry in found["hosts"].items()} == {
        host: entry["units"] for host, entry in then["hosts"].items()}
    assert found["run"] == now["run"]
    assert deployments.record(found, "vllm") == deployments.record(then, "vllm")


def test_another_group_on_the_same_hosts_stays_as_it_is_planned(two_groups):
    then, now = two_groups(), two_groups(extra_args={"max-num-seqs": 8})
    found = deployments.put_back(now, deployments.record(then, "one"))
    assert found["groups"]["one"] == then["groups"]["one"] and found["groups"]["two"] == now["groups"]["two"]
    for host in now["hosts"]:
        units = {unit["group"]: unit for unit in found["hosts"][host]["units"]}
        assert len(found["hosts"][host]["units"]) == 2
        assert units == {"one": then["hosts"][host]["units"][0], "two": now["hosts"][host]["units"][1]} and units["one"] != now["hosts"][host]["units"][0]
    assert deployments.record(found, "two") == deployments.record(now, "two")


def test_what_does_not_fit_the_inventory_is_refused_with_both(pair, hosts, planned):
    record = deployments.record(pair(), "vllm")
    other = planned(hosts(2, name="x{index}"))["plan"]
    with pytest.raises(DeploymentError, match="group vllm was deployed on a2-node0, a2-node1, the inventory has x0, x1. Remedy: "):
        deployments.put_back(other, record)
    turned = dict(reversed(list(hosts(2).items())))
    with pytest.raises(DeploymentError, match="was deployed on a2-node0, a2-node1, the inventory has a2-node1, a2-node0"):
        deployments.put_back(planned(turned)["plan"], record)
    with pytest.raises(DeploymentError, match="a2-node0 had 198.51.100.11 on eth0 then, the inventory has 198.51.100.11 on eth1. Remedy: "):
        deployments.put_back(pair(vllm_nic_name="eth1"), record)
    moved = hosts(2)
    moved[P]["vllm_local_ip"] = "198.51.100.77"
    with pytest.raises(DeploymentError, match="a2-node1 had 198.51.100.12 on eth0 then, the inventory has 198.51.100.77 on eth0"):
        deployments.put_back(planned(moved)["plan"], record)


@pytest.mark.parametrize("wrong", [{"schema": 2}, {"group": "other"}, {"schema": None}])
def test_a_record_of_another_shape_or_group_is_not_started(pair, wrong):
    plan = pair()
    with pytest.raises(DeploymentError, match=r"wanted schema 1 of one of: vllm. Remedy: deploy it anew"):
        deployments.put_back(plan, {**deployments.record(plan, "vllm"), **wrong})


@pytest.mark.parametrize("number", [None, ""])
def test_without_a_number_the_one_before_the_newest_is_chosen(pair, number):
    history = [kept(place, pair(vllm_port=8000 + place)) for place in (3, 4, 7)]
    assert deployments.choose("vllm", history, number)["number"] == 4
    for short in ([], history[:1]):
        with pytest.raises(DeploymentError, match=f"group vllm: {len(short)} deployments are kept, wanted one before the newest"):
            deployments.choose("vllm", short, number)


def test_a_number_is_chosen_however_it_is_written(pair):
    history = [kept(place, pair()) for place in (3, 4, 7)]
    assert [deployments.choose("vllm", history, number)["number"] for number in (3, "3", " 7 ", 4)] == [3, 3, 7, 4]


@pytest.mark.parametrize("number", [5, "5", "x", "-3", "3.0", "\u00b2", 0])
def test_a_number_that_is_not_kept_is_answered_with_those_that_are(pair, number):
    with pytest.raises(DeploymentError) as caught:
        deployments.choose("vllm", [kept(3, pair()), kept(4, pair())], number)
    assert str(caught.value).startswith(f"group vllm: rollback_to is {number}, wanted one of: 3: 2025-10-12 08:53 UTC, deepseek_r1_w8a8 v0.13.0, image ")
    assert "; 4: " in str(caught.value) and str(caught.value).endswith("Remedy: correct rollback_to.")
    with pytest.raises(DeploymentError, match="wanted one of: none is kept"):
        deployments.choose("vllm", [], number)


def test_lines(pair):
    assert deployments.lines([]) == []
    assert deployments.lines([kept(3, pair()), kept(7, pair(vllm_ascend_version="v0.13.0"))]) == [
        "3: 2025-10-12 08:53 UTC, deepseek_r1_w8a8 v0.13.0, image quay.io/ascend/vllm-ascend:v0.13.0",
        "7: 2025-10-16 08:53 UTC, deepseek_r1_w8a8 v0.13.0, image quay.io/ascend/vllm-ascend:v0.13.0 (newest)"]


WHAT = "vllm: deepseek_r1_w8a8 v0.13.0 with image quay.io/ascend/vllm-ascend:v0.13.0"


def said(plan, way="forth", stopped=None, served=None, before=None, requests=None):
    """Return what is said of a switch of a group, by when it was stopped, when it served, when it was stopped on the way forth, and its requests."""
    times = {key: value for key, value in (("stopped", stopped), ("served", served)) if value is not None}
    facts = {"serve_launch_times": {"vllm": times}, "serve_switch_before": {"vllm": {"stopped": before}}, "serve_stop_requests": {"vllm": requests}}
    [line] = deployments.switch_lines(plan, {H: facts, P: {}}, BEGUN, way)
    assert line.startswith(WHAT)
    return line[len(WHAT):]


def drained(running=0, waiting=0, outcome="limit"):
    """Return what serve_drain says."""
    return {"outcome": outcome, "left": {"running": running, "waiting": waiting}}


def test_a_group_that_was_not_started_was_not_touched(pair):
    assert said(pair()) == " was not touched: it serves as planned"
    # What a launch before this switch left behind does not count.
    assert said(pair(), served=BEGUN - 5, stopped=BEGUN - 60) == " was not touched: it serves as planned"


def test_a_group_that_was_stopped_and_did_not_come_back_is_not_said_to_serve(pair):
    line = said(pair(), "back", before=BEGUN + 1, stopped=BEGUN + 60, served=None)
    assert line.startswith(" does not serve: it was stopped and did not come back. Remedy: ")
    assert "does not serve" in said(pair(), "back", before=BEGUN + 1, stopped=BEGUN + 60, served=BEGUN - 5)


def test_how_long_nobody_was_served(pair):
    facts = {"stopped": BEGUN + 10, "served": BEGUN + 70.4}
    assert said(pair(), **facts) == " serves; nobody was served for 60 s, no request was cut off"
    assert said(pair(), **{name: str(value) for name, value in facts.items()}) == " serves; nobody was served for 60 s, no request was cut off"
    # Going back: the old service was stopped before the new one was tried.
    back = said(pair(), "back", before=BEGUN + 10, stopped=BEGUN + 100, served=BEGUN + 160)
    assert back == " serves again; nobody was served for 150 s, no request was cut off"
    # A time from before the switch is none of this switch.
    assert "for 70 s" in said(pair(), stopped=BEGUN - 500, served=BEGUN + 70)
    assert "for 70 s" in said(pair(), "back", served=BEGUN + 70)


@pytest.mark.parametrize(("found", "words"), [
    (None, "no request was cut off"), ({"skipped": True}, "no request was cut off"), (drained(0, 0, "drained"), "no request was cut off"),
    (drained(3, 1), "4 requests were cut off"), (drained(0, 2, "stalled"), "2 requests were cut off"),
    ({"outcome": "silent", "left": None}, "it is not known how many requests were cut off"),
    ({"outcome": "off", "left": None}, "it is not known how many requests were cut off"),
])
def test_how_many_requests_were_cut_off(pair, found, words):
    line = said(pair(), stopped=BEGUN, served=BEGUN + 1, requests=found)
    assert line == " serves; nobody was served for 1 s, " + words


@pytest.mark.parametrize(("groups", "words"), [
    (["vllm", "other"], "the others behind the proxy served alone for 60 s"), (["vllm"], "nobody was served for 60 s"),
    (["other", "third"], "nobody was served for 60 s"),
])
def test_behind_a_proxy_the_others_served(pair, groups, words):
    line = said({**pair(), "proxies": {"vllm-proxy": {"groups": groups}}}, stopped=BEGUN, served=BEGUN + 60)
    assert line == f" serves; {words}, no request was cut off"


def test_one_line_for_each_group_from_the_facts_of_its_head(two_groups):
    plan = two_groups()
    plan["groups"]["two"]["head"] = "a3-node1"
    lines = deployments.switch_lines(plan, {"a3-node0": {"serve_launch_times": {"one": {"served": BEGUN + 9}}}, "a3-node1": {}}, BEGUN)
    assert [line.partition(":")[0] for line in lines] == ["one", "two"] and "nobody was served for 9 s" in lines[0] and "was not touched" in lines[1]
