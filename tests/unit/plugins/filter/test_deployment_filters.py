# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the history of deployments, of a switch and of a stop: their names, and that they take Ansible's lazy mappings."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter import deployment_lines, deployment_plan, deployment_record, released_findings, switch_lines, unit_ports
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster


def planned(image="quay.io/ascend/vllm-ascend:v0.13.0"):
    """Return the plan of a pair with an image."""
    plan = Cluster().plan
    plan["groups"]["vllm"]["image"] = image
    for entry in plan["hosts"].values():
        entry["units"][0]["image"] = image
    return plan


def history(*images):
    """Return a history of deployments of these images, oldest first."""
    return [{"number": number, "time": 1760000000, "record": filter_of(deployment_record)(Lazy(planned(image)), "vllm")}
            for number, image in enumerate(images, 1)]


def images(plan):
    """Return the images that a plan starts."""
    assert json.loads(json.dumps(plan)) == plan
    return {plan["groups"]["vllm"]["image"], *(unit["image"] for entry in plan["hosts"].values() for unit in entry["units"])}


@pytest.mark.parametrize(("number", "image"), [(None, "b"), ("", "b"), ("newest", "c"), (1, "a"), ("3", "c")])
def test_a_plan_as_it_was_deployed(number, image):
    found = filter_of(deployment_plan)(Lazy(planned("d")), Lazy({"vllm": history("a", "b", "c")}), number)
    assert images(found) == {image}


def test_a_group_without_history_is_left_out_of_the_newest():
    found = filter_of(deployment_plan)(planned("d"), {"vllm": []}, "newest")
    assert found["groups"] == {} and [entry["units"] for entry in found["hosts"].values()] == [[], []]
    assert images(filter_of(deployment_plan)(planned("d"), {})) == {"d"}


@pytest.mark.parametrize(("kept", "number", "words"), [
    ([], None, "group vllm: 0 deployments are kept"), (history("a"), None, "group vllm: 1 deployments are kept"),
    (history("a"), 4, "group vllm: rollback_to is 4, wanted one of: 1: "),
    ([{"number": 1, "time": 1, "record": {"schema": 9, "group": "vllm"}}], "newest", "a record of schema 9 of group vllm, wanted schema 1"),
])
def test_what_cannot_be_put_back_is_an_error_of_the_filter(kept, number, words):
    with pytest.raises(AnsibleFilterError) as caught:
        filter_of(deployment_plan)(planned(), {"vllm": kept}, number)
    assert words in str(caught.value) and "Remedy: " in str(caught.value)


def test_a_record_is_plain_data():
    [kept] = history("a")
    assert json.loads(json.dumps(kept)) == kept and kept["record"]["group"] == "vllm"


def test_a_history_in_lines():
    assert filter_of(deployment_lines)([Lazy(entry) for entry in history("a", "b")]) == [
        "1: 2025-10-09 08:53 UTC, deepseek_r1_w8a8 v0.13.0, image a", "2: 2025-10-09 08:53 UTC, deepseek_r1_w8a8 v0.13.0, image b (newest)"]


def test_a_switch_in_lines():
    drained = {"outcome": "limit", "left": {"running": 2, "waiting": 0}}
    facts = {"serve_launch_times": {"vllm": {"served": 107.0, "stopped": 101.0}}, "serve_stop_requests": {"vllm": drained}}
    found = filter_of(switch_lines)(Lazy(planned("a")), Lazy({"a2-node0": facts, "a2-node1": {}}), "100.5")
    assert found == ["vllm: deepseek_r1_w8a8 v0.13.0 with image a serves; nobody was served for 6 s, 2 requests were cut off"]


def test_what_is_left():
    facts = {"a2-node0": {"serve_stop_left": {"left": []}},
             "a2-node1": {"serve_stop_left": {"left": [{"check": "process_gone", "device": "pid 7", "observed": "x runs"}]}}}
    found = filter_of(released_findings)(["a2-node0", "a2-node1"], Lazy(facts))
    assert [(entry["host"], entry["check"]) for entry in found] == [("a2-node1", "process_gone")]


def test_the_ports_that_a_stopped_group_had():
    plan = planned()
    found = filter_of(unit_ports)(Lazy(plan["hosts"]["a2-node0"]["units"]), Lazy(plan["groups"]))
    assert [port for port in found if port < 60000] == [8000, 13389]
