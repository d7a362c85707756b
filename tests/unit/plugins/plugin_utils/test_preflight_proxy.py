# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight where a proxy runs: its ports, its container, and a host that runs nothing else."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import questions
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster

H, P, NAME = "a2-node0", "a2-node1", "vllm-proxy"


def proxied(host=P, nodes=2):
    """Return a cluster with a proxy on a host."""
    cluster = Cluster(nodes)
    cluster.plan["proxies"] = {"proxy": {"name": NAME, "host": host, "port": 1999, "prometheus_port": 29000, "backends": [{"host": H, "port": 8000}]}}
    return cluster


def listen(cluster, host, *listeners):
    """Let processes listen: (port, pid, name)."""
    cluster.node(host)["listening"] = [{"port": port, "address": "0.0.0.0", "pid": pid, "process": process} for port, pid, process in listeners]


def test_its_ports_and_its_container_are_asked_where_it_runs():
    asked = questions.driver_questions(proxied().plan)
    assert {1999, 29000} <= set(asked[P]["ports"]) and NAME in asked[P]["containers"]
    assert not {1999, 29000} & set(asked[H]["ports"])
    # It may have been there before.
    assert NAME in asked[H]["containers"] and f"{NAME}-next" not in asked[H]["containers"]


def test_a_stranger_on_its_ports_is_named_and_itself_is_not():
    cluster = proxied()
    listen(cluster, P, (1999, 7, "nginx"), (29000, 8, "x"))
    assert [(entry["host"], entry["check"], entry["device"], entry["observed"]) for entry in cluster.bad()] == [
        (P, "port_free", "vllm_proxy.port", "nginx (pid 7) listens on 1999"), (P, "port_free", "vllm_proxy.prometheus_port", "x (pid 8) listens on 29000")]
    cluster.facts[P]["artefacts"]["containers"][NAME] = {"exists": True, "running": True, "pid": 7, "pids": [7, 8], "labels": {"ascend.vllm.group": NAME}}
    assert cluster.bad() == []
    listen(cluster, H, (1999, 7, "nginx"))
    assert cluster.bad() == []


@pytest.mark.parametrize("there", [True, False])
def test_a_host_that_only_runs_it_needs_no_npus(there):
    cluster = proxied(H, 1)
    cluster.plan["hosts"]["gate"] = dict(cluster.plan["hosts"][H], units=[], local_ip="198.51.100.99")
    cluster.plan["proxies"]["proxy"]["host"] = "gate"
    cluster.hosts.append("gate")
    facts = cluster._facts("gate")
    facts["node"]["listening"] = [] if there else [{"port": 1999, "address": "0.0.0.0", "pid": 7, "process": "nginx"}]
    facts["npu"] = {"msg": "npu-smi: not found"}
    facts["hccn"] = {"msg": "hccn_tool: not found"}
    facts["reach"] = {"reached": [{"host": H, "address": "198.51.100.11", "port": 8000, "status": "reached", "connected": True}]}
    cluster.facts["gate"] = facts
    assert [(entry["host"], entry["check"], entry["device"]) for entry in cluster.bad()] == ([] if there else [("gate", "port_free", "vllm_proxy.port")])
