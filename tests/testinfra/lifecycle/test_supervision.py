# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervised pair comes back by itself, whole, with no controller present."""

from __future__ import annotations

import json

import pytest

from conftest import NODES, complete, lab, wait_until
from test_day_two import QUICK, containers, running

SUPERVISED = (*QUICK, "-e", json.dumps({"vllm_supervise": True}))
#: Two starts of the lab's engine, and the time until the head misses its peer.
BACK_S = 420

pytestmark = pytest.mark.extra


def services(nodes):
    """Return the state of each node's service."""
    return [nodes[name].run(f"systemctl is-active ascend-vllm-vllm-rank{rank}").stdout.strip() for rank, name in enumerate(NODES)]


def serves():
    """Return whether a completion comes back."""
    try:
        return bool(complete(timeout=20))
    except OSError:
        return False


def came_back(nodes, before):
    """Return whether both containers were started again, and serve."""
    try:
        now = containers(nodes)
    except (AssertionError, ValueError):
        return False
    return all(now[name][1] != before[name][1] for name in NODES) and running(nodes) == [True, True] and serves()


@pytest.fixture(scope="module")
def supervised(playbook, nodes):
    """The pair that serves, with services that watch it; they are removed in the end."""
    run = playbook("site.yml", *SUPERVISED)
    assert run.rc == 0, run.out[-4000:]
    yield
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert all("could not be found" in node.run("systemctl status 'ascend-vllm-vllm-rank*' 2>&1; systemctl cat ascend-vllm-vllm-rank0 2>&1").stdout
               or not node.file("/etc/systemd/system/ascend-vllm-vllm-rank0.service").exists for node in nodes.values())


def test_services_take_a_group_over_that_runs_and_a_second_run_changes_nothing(supervised, playbook, nodes):
    before = containers(nodes)
    assert services(nodes) == ["active", "active"]
    run = playbook("site.yml", *SUPERVISED)
    assert run.rc == 0 and [run.recap(name)["changed"] for name in NODES] == [0, 0], run.out[-4000:]
    assert containers(nodes) == before
    for rank, name in enumerate(NODES):
        assert nodes[name].file(f"/etc/ascend-vllm/vllm-rank{rank}/watch.key").mode == 0o600


def test_a_member_that_is_killed_brings_the_whole_group_back(supervised, nodes):
    before = containers(nodes)
    nodes["a2-node1"].check_output("docker kill vllm-rank1")
    wait_until(lambda: came_back(nodes, before), BACK_S, "both containers run again and serve")


@pytest.mark.parametrize("name", ["a2-node1", "a2-node0"])
def test_a_node_that_restarts_brings_the_whole_group_back(supervised, nodes, name):
    before = containers(nodes)
    lab("reboot", name)
    wait_until(lambda: came_back(nodes, before), BACK_S, "both containers run again and serve")


def test_a_stopped_group_stays_stopped(supervised, playbook, nodes):
    run = playbook("ascend.vllm.stop")
    assert run.rc == 0, run.out[-4000:]
    assert services(nodes) == ["inactive", "inactive"] and running(nodes) == [False, False]
    lab("reboot", "a2-node1")
    assert running(nodes) == [False, False] and services(nodes) == ["inactive", "inactive"]
    run = playbook("ascend.vllm.restart", *SUPERVISED)
    assert run.rc == 0 and services(nodes) == ["active", "active"] and complete(), run.out[-4000:]
