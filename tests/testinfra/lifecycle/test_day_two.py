# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of day two on a pair that serves, in the order of an operator's day; each test takes the pair as the one before it left it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tarfile
import urllib.error

import pytest

from conftest import LOGIN, NODES, Requests, ask, complete, inspect, wait_until

#: Pings are other tests' business.
QUICK = ("-e", "preflight_mesh=off")
STATUS = ("-e", "serve_status_timeout_s=15")


def containers(nodes):
    """Return ``{host: (id, started)}`` of the pair's containers."""
    found = {name: inspect(nodes[name], f"vllm-rank{rank}") for rank, name in enumerate(NODES)}
    return {name: (entry["Id"], entry["State"]["StartedAt"]) for name, entry in found.items()}


def running(nodes):
    """Return whether each container of the pair runs."""
    return [inspect(nodes[name], f"vllm-rank{rank}")["State"]["Running"] for rank, name in enumerate(NODES)]


def drain_table(node):
    """Return what is there of the table that keeps new connections away."""
    return node.run("nft list table inet ascend_vllm_drain").stdout


def keeps_away():
    """Return whether a new connection to the API is refused."""
    try:
        ask("/v1/models", timeout=30)
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    return False


def report(directory, name):
    """Return a report as JSON."""
    return json.loads((directory / f"{name}.json").read_text())


def test_status_of_a_pair_that_serves(playbook, reports):
    given, directory = reports
    run = playbook("ascend.vllm.status", *STATUS, *given)
    assert run.rc == 0, run.out[-4000:]
    said = report(directory, "status")
    group = said["groups"]["vllm"]
    assert (group["state"], group["ranks_answered"], group["models"]) == ("serving", 2, ["deepseek_r1"])
    assert "serving" in run.text and all(run.recap(name)["changed"] == 0 for name in NODES)
    assert "<script src" not in (directory / "status.html").read_text()


def test_history_has_the_deployment(playbook):
    run = playbook("ascend.vllm.history")
    assert run.rc == 0 and re.search(r"1: \d{4}-\d\d-\d\d \d\d:\d\d UTC, deepseek_r1_lab v0\.13\.0", run.text), run.out[-3000:]


def test_logs_of_all_nodes_in_one_bundle(playbook, reports, nodes):
    given, directory = reports
    run = playbook("ascend.vllm.logs", *given)
    assert run.rc == 0, run.out[-4000:]
    bundles = list(directory.glob("logs-*.tar.gz"))
    assert len(bundles) == 1 and bundles[0].stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundles[0]) as bundle:
        names = bundle.getnames()
    for words in ("SUMMARY.txt", "plan.json", "a2-node0", "a2-node1"):
        assert any(words in name for name in names), words
    assert any("vllm-rank0" in name for name in names) and any("vllm-rank1" in name for name in names)
    assert all(node.run("ls -d /tmp/ascend-vllm* /var/tmp/ascend-vllm*").stdout == "" for node in nodes.values())


@contextlib.contextmanager
def engines_held(nodes):
    """Let the engines do nothing while the block runs: their requests do not end, and their API servers go on."""
    try:
        for node in nodes.values():
            node.check_output("pkill -STOP -f '^VLLM::EngineCor[e]'")
        yield
    finally:
        for node in nodes.values():
            node.check_output("pkill -CONT -f '^VLLM::EngineCor[e]'")


def test_stop_lets_requests_end_refuses_a_second_operator_and_goes_on_after_it_was_killed(playbook, begin, nodes):
    """The first stop waits for a request and is killed; meanwhile a second is refused. The next one takes over and stops clean."""
    head = nodes["a2-node0"]
    # They have to last until the second run is refused, however quick this machine is.
    with Requests(clients=2, tokens=128, answered=False) as clients, engines_held(nodes):
        first = begin("ascend.vllm.stop")
        wait_until(lambda: "8000" in drain_table(head), 60, "new connections are kept away")
        assert keeps_away()
        second = playbook("ascend.vllm.stop")
        assert second.rc != 0 and "acts on group vllm" in second.text and "Nothing was changed" in second.text and "verb stop" in second.text
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert clients.outcomes["broken"] == 0, clients.said
    assert running(nodes) == [True, True]
    left = playbook("ascend.vllm.status", *STATUS)
    assert left.rc != 0 and "api_open" in left.text and "vllm: degraded" in left.text, left.out[-4000:]
    shm = {name: node.check_output("ls /dev/shm") for name, node in nodes.items()}
    run = playbook("ascend.vllm.stop")
    assert run.rc == 0, run.out[-4000:]
    assert "is taken over from" in run.text and "has ended" in run.text
    assert running(nodes) == [False, False] and drain_table(head) == ""
    for node in nodes.values():
        assert node.run("ss -ltnH '( sport = :8000 or sport = :13389 )'").stdout == ""
        assert node.run("pgrep -f '[v]llm serve'").stdout == ""
        assert "No running processes found in NPU 0" in node.check_output(f"{LOGIN}; npu-smi info")
    assert {name: node.check_output("ls /dev/shm") for name, node in nodes.items()} == shm


def test_stop_again_and_status_of_a_group_that_is_down(playbook, reports):
    given, directory = reports
    run = playbook("ascend.vllm.stop")
    assert run.rc == 0 and [run.recap(name)["changed"] for name in NODES] == [0, 0]
    run = playbook("ascend.vllm.status", *STATUS, *given)
    assert run.rc != 0 and report(directory, "status")["groups"]["vllm"]["state"] == "down" and "vllm: down" in run.text


def test_restart_brings_it_back(playbook):
    run = playbook("ascend.vllm.restart", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert complete()


def test_an_upgrade_that_does_not_serve_goes_back_and_breaks_no_request(playbook, nodes):
    before = containers(nodes)
    with Requests(clients=1, tokens=4) as clients:
        run = playbook("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_extra_args": {"no-such-option": 1}}))
    assert run.rc != 0 and "unrecognized arguments: --no-such-option" in run.text, run.out[-4000:]
    said = re.search(r"vllm: deepseek_r1_lab v0\.13\.0 with image \S+ serves again; nobody was served for (\d+) s, no request was cut off", run.text)
    assert said, run.out[-4000:]
    assert clients.outcomes["broken"] == 0, clients.said
    assert clients.outcomes["refused"] > 0 and complete()
    after = containers(nodes)
    assert all(after[name] != before[name] for name in NODES) and drain_table(nodes["a2-node0"]) == ""
    assert playbook("site.yml", *QUICK).recap("a2-node0")["changed"] == 0


@pytest.mark.extra
def test_an_upgrade_that_serves_and_the_way_back(playbook, nodes):
    with Requests(clients=1, tokens=4) as clients:
        run = playbook("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_extra_args": {"max-num-seqs": 8}}))
    assert run.rc == 0 and re.search(r"serves; nobody was served for \d+ s, no request was cut off", run.text), run.out[-4000:]
    assert clients.outcomes["broken"] == 0, clients.said
    argv = inspect(nodes["a2-node0"], "vllm-rank0")["Config"]["Cmd"]
    assert argv[argv.index("--max-num-seqs") + 1] == "8"
    shown = playbook("ascend.vllm.history")
    assert "2: " in shown.text and "(newest)" in shown.text
    refused = playbook("ascend.vllm.rollback", *QUICK, "-e", "rollback_to=77")
    assert refused.rc != 0 and "rollback_to is 77" in refused.text and "1: " in refused.text
    back = playbook("ascend.vllm.rollback", *QUICK)
    assert back.rc == 0, back.out[-4000:]
    argv = inspect(nodes["a2-node0"], "vllm-rank0")["Config"]["Cmd"]
    assert argv[argv.index("--max-num-seqs") + 1] == "16" and complete()
