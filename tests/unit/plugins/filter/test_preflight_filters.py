# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of preflight: their names, and that they take the lazy mappings that Ansible hands over."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ascend.vllm.plugins.filter import driver_questions, mesh_lines, mesh_pings, preflight_report, prerequisites, reach_questions
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import CONTROLLER, Cluster

MODULES = [driver_questions, mesh_lines, mesh_pings, preflight_report, prerequisites, reach_questions]


@pytest.mark.parametrize("module", MODULES)
def test_registered_under_its_own_name(module):
    assert callable(filter_of(module))


def test_the_report_is_plain_data_from_lazy_facts():
    cluster = Cluster()
    cluster.port(2)["link"] = "DOWN"
    found = filter_of(preflight_report)(cluster.plan, Lazy(cluster.hostvars()), dict(CONTROLLER, forks="5"))
    assert json.loads(json.dumps(found)) == found
    assert [(entry["host"], entry["check"], entry["device"]) for entry in found["checks"] if entry["status"] != "pass"] == [("a2-node1", "hccn_link", "npu2")]
    assert filter_of(preflight_report)(Lazy(cluster.plan), cluster.hostvars(), CONTROLLER)["summary"] == found["summary"]


def test_pings_and_their_announcement():
    cluster = Cluster()
    answers = {host: cluster.hccn(host) for host in cluster.hosts}
    pings = filter_of(mesh_pings)(cluster.plan, answers)["a2-node0"]
    assert len(pings) == 64 and json.loads(json.dumps(pings)) == pings
    assert filter_of(mesh_lines)(cluster.plan)[0].startswith("vllm: 128 pings")


def test_questions():
    cluster = Cluster()
    asked = filter_of(driver_questions)(cluster.plan)["a2-node0"]
    assert asked["local_ip"] == "198.51.100.11" and json.loads(json.dumps(asked)) == asked
    reach = filter_of(reach_questions)(cluster.plan, {host: cluster.node(host) for host in cluster.hosts})["a2-node0"]
    assert [peer["host"] for peer in reach["peers"]] == ["a2-node1"]


def test_prerequisites_take_the_result_of_raw():
    assert filter_of(prerequisites)(Lazy({"unreachable": True, "msg": "timed out"})) == {"unreachable": True, "msg": "timed out"}
