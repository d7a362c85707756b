# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on other shapes of clusters: what is a fault on one is the normal state of another.

Each test brings its lab up in place of the one before; the pair of the other file has been tested by then.
"""

from __future__ import annotations

import pytest

# preflight is a fixture
from test_faults import described, lab, not_passed, preflight  # noqa: F401  pylint: disable=unused-import


@pytest.fixture(scope="module")
def shape():
    """Return a function that brings a lab of a shape up and gives the path of its inventory."""

    def up(generation, count):
        lab("up", "--replace", "--generation", generation, "--nodes", str(count), "--packet-interval", "0.02")
        return lab("inventory").strip()

    return up


def test_a_sound_a3_node_alone(shape, preflight):  # noqa: F811
    """One A3: no mesh, and nothing to warn of."""
    run, report, _page = preflight(inventory=shape("a3", 1))
    assert (run.rc, not_passed(report)) == (0, []), described(not_passed(report)) + run.out[-2000:]
    assert report["mesh"]["planned"] == 0 and len(report["nodes"]["a3-node0"]["npus"]) == 16


def test_an_a3_node_alone_without_roce_warns_at_most(preflight):  # noqa: F811
    """A lone A3 often has no link, no RoCE address and no hccn.conf: nothing of that stops a run."""
    for fault in ("roce-down", "hccn-conf-missing"):
        lab("fault", "a3-node0", "set", fault)
    run, report, _page = preflight(inventory=lab("inventory").strip())
    assert run.rc == 0, run.out[-3000:]
    assert {check["status"] for check in not_passed(report)} <= {"warn"}, described(not_passed(report))


@pytest.mark.extra
def test_two_a3_nodes_over_hccs(shape, preflight):  # noqa: F811
    """Every die reaches every die over HCCS, and RoCE links that are down are no fault while HCCS is fine."""
    inventory = shape("a3", 2)
    run, report, _page = preflight("-e", "preflight_mesh=full", inventory=inventory)
    assert (run.rc, not_passed(report)) == (0, []), described(not_passed(report)) + run.out[-2000:]
    assert (report["mesh"]["sent"], {ping["kind"] for ping in report["mesh"]["pings"]}) == (512, {"hccs"})
    for node in ("a3-node0", "a3-node1"):
        lab("fault", node, "set", "roce-down")
    run, report, _page = preflight(inventory=inventory)
    assert (run.rc, not_passed(report)) == (0, []), described(not_passed(report))


@pytest.mark.extra
def test_two_super_pods_are_refused(preflight):  # noqa: F811
    """HCCS does not leave a super pod: the node of the other one is named."""
    for node in ("a3-node0", "a3-node1"):
        lab("fault", node, "clear")
    lab("fault", "a3-node1", "set", "superpod-id", "id=7")
    run, report, _page = preflight(inventory=lab("inventory").strip())
    assert run.rc != 0
    found = [check for check in not_passed(report) if check["check"] == "hccn_superpod"]
    assert [(check["host"], check["status"]) for check in found] == [("a3-node1", "fail")]
    assert {check["check"] for check in not_passed(report)} <= {"hccn_superpod", "hccn_ping"}, described(not_passed(report))


@pytest.mark.extra
def test_two_a3_nodes_in_no_super_pod_are_joined_by_roce(preflight):  # noqa: F811
    """HCCS ends with each node then, whatever the virtual NICs say: their NPUs are pinged and judged by RoCE, and it is said."""
    for node in ("a3-node0", "a3-node1"):
        lab("fault", node, "clear")
        lab("fault", node, "set", "superpod-id", "id=4294967295")
    run, report, _page = preflight(inventory=lab("inventory").strip())
    assert run.rc == 0, run.out[-3000:]
    assert {(check["host"], check["check"], check["status"]) for check in not_passed(report)} == {
        (node, "hccn_superpod", "warn") for node in ("a3-node0", "a3-node1")}, described(not_passed(report))
    assert report["mesh"]["sent"] == report["mesh"]["planned"] and {ping["kind"] for ping in report["mesh"]["pings"]} == {"roce"}
    lab("fault", "a3-node1", "set", "roce-down")
    run, report, _page = preflight(inventory=lab("inventory").strip())
    assert run.rc != 0 and ("a3-node1", "hccn_link", "fail") in {(check["host"], check["check"], check["status"]) for check in not_passed(report)}


@pytest.mark.extra
def test_four_a2_nodes_on_rails(shape, preflight):  # noqa: F811
    """Four nodes: rails by default, which says what it skips, and uses every NPU and every node pair."""
    run, report, _page = preflight("-e", "preflight_mesh=", "-e", "vllm_data_parallel_size=4", inventory=shape("a2", 4))
    assert (run.rc, not_passed(report)) == (0, []), described(not_passed(report)) + run.out[-2000:]
    mesh = report["mesh"]
    assert (mesh["mode"], mesh["sent"], mesh["possible"]) == ("rails", 192, 768)
    assert "576 of 768 pairs are skipped" in run.text
    assert {(ping["host"], ping["npu"]) for ping in mesh["pings"]} == {(f"a2-node{node}", npu) for node in range(4) for npu in range(8)}
    assert len({(ping["host"], ping["peer"]) for ping in mesh["pings"]}) == 12
