# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a start fails with the real engine, and what happens to a pair that serves: the cause is named, no half group is left, it comes back."""

from __future__ import annotations

import json
import os
import pathlib
import signal

import pytest

from conftest import NODES, Requests, complete, inspect, lab, wait_until
from test_day_two import QUICK, containers, drain_table, engines_held, keeps_away, running

HERE = pathlib.Path(__file__).resolve().parent


def replace(argv, option, value):
    """Change the value of an option."""
    argv[argv.index(option) + 1] = value


def rank_too_high(hosts):
    replace(hosts["a2-node1"][0]["argv"], "--data-parallel-start-rank", "2")


def other_flags(hosts):
    hosts["a2-node1"][0]["argv"].remove("--enable-expert-parallel")


def wrong_nic(hosts):
    hosts["a2-node1"][0]["env"]["GLOO_SOCKET_IFNAME"] = "eth9"


def never_joins(hosts):
    hosts["a2-node1"][0]["argv"] = ["sleep", "900"]
    for units in hosts.values():
        units[0]["env"]["VLLM_ENGINE_READY_TIMEOUT_S"] = "45"


def wrong_head(hosts):
    replace(hosts["a2-node1"][0]["argv"], "--data-parallel-address", "198.51.100.99")
    for units in hosts.values():
        units[0]["env"]["VLLM_ENGINE_READY_TIMEOUT_S"] = "45"


@pytest.fixture(scope="module")
def planned(playbook, tmp_path_factory):
    """Return the plan of the pair, as JSON text."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    run = playbook("ascend.vllm.plan", "-e", f"plan_file={path}")
    assert run.rc == 0, run.out[-3000:]
    return path.read_text()


@pytest.mark.parametrize(("tamper", "said", "host"), [
    pytest.param(rank_too_high, "data_parallel_rank (2) must be in the range [0, 2)", "a2-node1", marks=pytest.mark.extra),
    pytest.param(other_flags, "Configuration mismatch detected for engine 1", "a2-node0", marks=pytest.mark.extra),
    pytest.param(wrong_nic, "Unable to find address for: eth9", "a2-node1", marks=pytest.mark.extra),
    pytest.param(never_joins, "Timed out waiting for engine core processes to start", "a2-node0", marks=pytest.mark.extra),
    pytest.param(wrong_head, "Timed out waiting for engine core processes to start", "a2-node0", marks=pytest.mark.extra),
], ids=["rank-too-high", "other-flags", "wrong-nic", "never-joins", "wrong-head"])
def test_a_start_that_fails_names_node_cause_and_remedy_and_leaves_no_half_group(playbook, nodes, planned, tmp_path, tamper, said, host):
    plan = json.loads(planned)
    tamper({name: entry["units"] for name, entry in plan["hosts"].items()})
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run = playbook(HERE / "tampered.yml", *QUICK, "-e", f"tampered_plan={tmp_path / 'plan.json'}")
    assert run.rc != 0 and said in run.text, run.out[-5000:]
    assert f"the container on {host}" in run.text and "Cause:" in run.text and "Remedy:" in run.text, run.out[-5000:]
    assert running(nodes) == [False, False]


@pytest.mark.extra
def test_an_rpc_port_that_somebody_has_is_named_by_the_start_too(playbook, nodes):
    """Preflight names it; accepted there, the engine itself dies of it."""
    assert playbook("ascend.vllm.stop").rc == 0
    lab("fault", "a2-node0", "set", "port-taken", "port=13389")
    try:
        run = playbook("site.yml", *QUICK)
        assert run.rc != 0 and "port_free" in run.text and "13389" in run.text and running(nodes) == [False, False], run.out[-4000:]
        run = playbook("site.yml", *QUICK, "-e", "preflight_accept=port_free")
        assert run.rc != 0 and "Address already in use" in run.text and "Cause:" in run.text and "a2-node0" in run.text, run.out[-5000:]
        assert running(nodes) == [False, False]
    finally:
        lab("fault", "a2-node0", "clear")


@pytest.mark.extra
def test_after_that_site_serves_again(playbook):
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert complete()


@pytest.mark.extra
@pytest.mark.parametrize("harm", [
    ("a2-node1", "docker kill --signal TERM vllm-rank1"), ("a2-node1", "docker kill vllm-rank1"), ("a2-node0", "docker kill vllm-rank0"),
    ("a2-node1", "docker rm -f vllm-rank1"), ("a2-node1", "systemctl restart docker"),
], ids=["headless-term", "headless-kill", "head-kill", "removed", "docker-restarted"])
def test_a_member_that_ends_is_seen_by_status_and_the_group_comes_back_whole(playbook, nodes, harm, tmp_path):
    before = containers(nodes)
    host, command = harm
    nodes[host].check_output(command)
    run = playbook("ascend.vllm.status", "-e", "serve_status_timeout_s=10", "-e", f"vllm_report_dir={tmp_path}")
    state = json.loads((tmp_path / "status.json").read_text())["groups"]["vllm"]["state"]
    assert run.rc != 0 and state in ("down", "degraded") and host in run.text, run.out[-4000:]
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert all(containers(nodes)[name] != before[name] for name in NODES) and complete()


@pytest.mark.extra
def test_a_rank_under_a_number_of_other_sizes_goes_with_its_group(playbook, nodes):
    """With another TP or DP size the same node has other numbers: its container holds the NPUs of those that are started."""
    nodes["a2-node1"].check_output("docker rename vllm-rank1 vllm-rank7")
    try:
        run = playbook("site.yml", *QUICK)
        assert run.rc == 0, run.out[-4000:]
        said = nodes["a2-node1"].check_output("docker ps --filter label=ascend.vllm.group --format '{{.Names}}'")
        assert said.split() == ["vllm-rank1"] and running(nodes) == [True, True] and complete()
    finally:
        nodes["a2-node1"].run("docker rm -f vllm-rank7")
    assert [playbook("site.yml", *QUICK).recap(name)["changed"] for name in NODES] == [0, 0]


@pytest.mark.extra
def test_a_group_under_another_name_is_named_before_anything_is_done(playbook, nodes):
    """The old server would answer for the new one, at the same port."""
    before = containers(nodes)
    run = playbook("site.yml", *QUICK, "-e", json.dumps({"vllm_groups": [{"name": "other", "hosts_from": "vllm", "role": "serve"}]}))
    assert run.rc != 0 and "of group vllm, which the inventory does not have" in run.text and "give the group its name vllm again" in run.text, run.out[-4000:]
    assert containers(nodes) == before and complete()


@pytest.mark.extra
@pytest.mark.parametrize(("given", "said"), [
    ({"vllm_image": "198.51.100.2:5000/ascend/vllm-ascend:no-such-tag"}, "not in the registry"),
    ({"vllm_extra_args": {"max-model-len": 99999999}}, "serves again"),
    ({"vllm_extra_env": {"VLLM_ENGINE_READY_TIMEOUT_S": "5"}}, "serves again"),
    ({"serve_verify_expected": "^ brighter than ever$", "vllm_extra_args": {"seed": 7}}, "serves again"),
], ids=["no-such-image", "exits-at-once", "never-ready", "answers-wrongly"])
def test_an_upgrade_that_cannot_serve_leaves_the_old_service(playbook, nodes, lab_vars, given, said):
    before = containers(nodes)
    if "vllm_extra_env" in given:
        given = {"vllm_extra_env": {**lab_vars["vllm_extra_env"], **given["vllm_extra_env"]}}
    run = playbook("ascend.vllm.upgrade", *QUICK, "-e", json.dumps(given))
    assert run.rc != 0 and said in run.text, run.out[-4000:]
    assert complete()
    if said != "serves again":
        assert containers(nodes) == before
    assert playbook("site.yml", *QUICK).recap("a2-node0")["changed"] == 0


@pytest.mark.extra
def test_a_controller_that_is_killed_in_the_middle_of_a_drain_is_followed_by_one_that_lets_clients_in(playbook, begin, nodes):
    before = containers(nodes)
    with Requests(clients=2, tokens=128, answered=False) as clients, engines_held(nodes):
        killed = begin("ascend.vllm.stop")
        wait_until(keeps_away, 60, "new connections are kept away")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert keeps_away() and clients.outcomes["broken"] == 0, clients.said
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0 and [run.recap(name)["changed"] for name in NODES] == [0, 0], run.out[-4000:]
    assert drain_table(nodes["a2-node0"]) == "" and containers(nodes) == before and complete()


@pytest.mark.extra
def test_a_controller_that_is_killed_in_the_middle_of_an_upgrade_is_followed_by_another_run(playbook, begin, nodes):
    """It is killed while the new group starts; the next run finds the lock of a dead process, and brings the planned group up."""
    before = containers(nodes)
    killed = begin("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_extra_args": {"max-num-seqs": 8}}))
    wait_until(lambda: all(nodes[name].run(f"docker inspect vllm-rank{rank}").rc == 0 and containers(nodes)[name][0] != before[name][0]
                           for rank, name in enumerate(NODES)), 240, "the new containers are there")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0 and "is taken over from" in run.text, run.out[-4000:]
    argv = inspect(nodes["a2-node0"], "vllm-rank0")["Config"]["Cmd"]
    assert argv[argv.index("--max-num-seqs") + 1] == "16" and complete()


@pytest.mark.extra
def test_a_controller_that_is_killed_in_the_middle_of_site_is_followed_by_another_run(playbook, begin, nodes):
    """It is killed while the group starts; the containers go on starting, and the next run takes the group as it finds it."""
    assert playbook("ascend.vllm.stop").rc == 0
    killed = begin("site.yml", *QUICK)
    wait_until(lambda: running(nodes) == [True, True], 240, "the containers run")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert complete() and running(nodes) == [True, True]


@pytest.mark.extra
def test_a_disk_that_is_full_is_named_before_anything_is_stopped(playbook, nodes):
    before = containers(nodes)
    lab("fault", "a2-node1", "set", "disk-full")
    try:
        run = playbook("ascend.vllm.restart", *QUICK)
        assert run.rc != 0 and "a2-node1" in run.text and "Nothing was changed on any node" in run.text, run.out[-4000:]
        assert containers(nodes) == before
    finally:
        lab("fault", "a2-node1", "clear")
