# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two replicas behind the router: a client asks all the time while one of them is stopped, started anew, upgraded; none of its requests fails.

The first test deploys them; each other one takes the replicas as the one before it left them: both serve.
"""

from __future__ import annotations

import json
import re
import urllib.error

import pytest
import yaml

from conftest import NODES, PROJECT, Requests, ask, complete, inspect, wait_until

# In `make test` the router has prefill and decode behind it (test_z_halves.py).
pytestmark = pytest.mark.extra
INVENTORY = PROJECT / "molecule" / "pd" / "replicas"
ROUTER = "http://198.51.100.11:1999"
#: Pings are other tests' business.
QUICK = ("-e", "preflight_mesh=off")
STATUS = ("-e", "serve_status_timeout_s=15")


@pytest.fixture
def verb(playbook):
    """Run a playbook with the inventory of the replicas."""
    return lambda name, *args: playbook(name, *args, inventory=INVENTORY)


def started(nodes):
    """Return when each replica's container was started, and the proxy's last."""
    found = [inspect(nodes[name], f"replica{number}-rank0") for number, name in enumerate(NODES)]
    return [entry["State"]["StartedAt"] for entry in [*found, inspect(nodes["a2-node0"], "vllm-proxy")]]


def backends():
    """Return the backends that the router sends requests to."""
    return sorted(entry["url"] for entry in ask("/workers", api=ROUTER)["workers"] if entry["is_healthy"])


def command(nodes):
    """Return what the router is started with the next time."""
    return nodes["a2-node0"].check_output("cat /etc/ascend-vllm/vllm-proxy/command")


BOTH = ["http://198.51.100.11:8000", "http://198.51.100.12:8000"]
GROUPS = yaml.safe_load((INVENTORY / "group_vars" / "vllm.yml").read_text())["vllm_groups"]


def test_site_serves_both_behind_one_address(verb, nodes):
    run = verb("site.yml", *QUICK)
    assert run.rc == 0, run.out[-5000:]
    assert backends() == BOTH and complete(api=ROUTER)
    proxy = inspect(nodes["a2-node0"], "vllm-proxy")
    host = proxy["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["CapDrop"], host["Devices"] or []) == (False, True, ["ALL"], [])


def test_a_second_run_changes_nothing(verb):
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and [run.recap(name)["changed"] for name in NODES] == [0, 0], run.out[-4000:]


def test_status_and_verify_know_the_proxy(verb, reports):
    given, directory = reports
    run = verb("ascend.vllm.status", *STATUS, *given)
    assert run.rc == 0 and "vllm-proxy" in run.text, run.out[-4000:]
    assert json.loads((directory / "status.json").read_text())["groups"]["replica1"]["state"] == "serving"
    run = verb("ascend.vllm.verify")
    assert run.rc == 0 and f"vllm-proxy answers at {ROUTER}" in run.text, run.out[-4000:]


def test_one_replica_is_stopped_taken_out_of_the_inventory_and_added_while_a_client_asks(verb, nodes):
    before = started(nodes)
    with Requests(clients=2, tokens=8, api=ROUTER) as clients:
        run = verb("ascend.vllm.stop", "-e", "only_groups=replica1")
        assert run.rc == 0, run.out[-4000:]
        assert not inspect(nodes["a2-node1"], "replica1-rank0")["State"]["Running"] and backends() == BOTH[:1]
        left = verb("ascend.vllm.status", *STATUS)
        assert left.rc != 0 and "replica1" in left.text and BOTH[1] in left.text, left.out[-4000:]
        run = verb("site.yml", *QUICK, "-e", json.dumps({"vllm_groups": GROUPS[:1]}))
        assert run.rc == 0 and backends() == BOTH[:1] and BOTH[1] not in command(nodes), run.out[-4000:]
        run = verb("site.yml", *QUICK)
        assert run.rc == 0 and backends() == BOTH and BOTH[1] in command(nodes), run.out[-4000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    assert [now == then for now, then in zip(started(nodes), before)] == [True, False, True]


def test_both_are_upgraded_one_after_the_other_while_a_client_asks(verb, nodes):
    """What the plan says is on both afterwards; the router itself goes on."""
    before = started(nodes)
    with Requests(clients=2, tokens=8, api=ROUTER) as clients:
        run = verb("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_extra_args": {"max-num-seqs": 12}}))
        assert run.rc == 0 and backends() == BOTH, run.out[-4000:]
    assert run.text.count("the others behind the proxy served alone for") == 2, run.out[-4000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    assert [now == then for now, then in zip(started(nodes), before)] == [False, False, True]
    for number, name in enumerate(NODES):
        argv = inspect(nodes[name], f"replica{number}-rank0")["Config"]["Cmd"]
        assert argv[argv.index("--max-num-seqs") + 1] == "12"


def test_one_replica_alone_is_upgraded_while_a_client_asks(verb, nodes):
    before = started(nodes)
    with Requests(clients=2, tokens=8, api=ROUTER) as clients:
        run = verb("ascend.vllm.upgrade", *QUICK, "-e", "only_groups=replica1", "-e", json.dumps({"vllm_extra_args": {"max-num-seqs": 8}}))
        assert run.rc == 0 and backends() == BOTH, run.out[-4000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    assert [now == then for now, then in zip(started(nodes), before)] == [True, False, True]


def test_an_upgrade_that_fails_in_the_second_group_brings_both_back_and_no_request_fails(verb, nodes):
    wrong = [{**GROUPS[0], "extra_args": {"max-num-seqs": 10}}, {**GROUPS[1], "extra_args": {"no-such-option": 1}}]
    with Requests(clients=2, tokens=8, api=ROUTER) as clients:
        run = verb("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_groups": wrong}))
        assert run.rc != 0 and "unrecognized arguments: --no-such-option" in run.text, run.out[-4000:]
        assert all(re.search(rf"replica{number}: [^;]* serves again; .*no request was cut off", run.text) for number in (0, 1)), run.out[-4000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    assert backends() == BOTH
    assert "no-such-option" not in str([inspect(nodes[name], f"replica{number}-rank0")["Config"]["Cmd"] for number, name in enumerate(NODES)])


def test_a_gate_that_the_second_group_does_not_pass_brings_both_back(verb, nodes, reports):
    """Each group is measured before the next one is taken out: the first is quick enough for its baseline, the second can never be."""
    given, directory = reports
    load = ("-e", "benchmark_num_prompts=6", "-e", "benchmark_input_len=16", "-e", "benchmark_output_len=8", *given)
    run = verb("ascend.vllm.benchmark", *load)
    assert run.rc == 0, run.out[-4000:]
    for group, factor in (("replica0", 0.01), ("replica1", 100)):
        kept = directory / "results" / group / "baselines.json"
        kept.write_text(json.dumps({name: {**entry, "value": entry["value"] * factor} for name, entry in json.loads(kept.read_text()).items()}))
    before = [inspect(nodes[name], f"replica{number}-rank0")["Config"]["Cmd"] for number, name in enumerate(NODES)]
    run = verb("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"vllm_extra_args": {"max-num-seqs": 9}}), "-e", "serve_switch_gate=throughput", *load)
    assert run.rc != 0 and "below" in run.text, run.out[-4000:]
    assert all(re.search(rf"replica{number}: [^;]* serves again", run.text) for number in (0, 1)), run.out[-4000:]
    judged = {group: [json.loads(path.read_text())["gate"]["outcome"] for path in (directory / "results" / group).glob("*.json")
                      if path.name != "baselines.json"] for group in ("replica0", "replica1")}
    assert "below" not in judged["replica0"] and judged["replica1"].count("below") == 1, judged
    assert [inspect(nodes[name], f"replica{number}-rank0")["Config"]["Cmd"] for number, name in enumerate(NODES)] == before
    assert backends() == BOTH and complete(api=ROUTER)


def test_a_key_is_asked_for_and_shown_nowhere(verb, nodes, tmp_path):
    key = "lab-key-5d2c"
    (tmp_path / "key").write_text(key + "\n")
    run = verb("site.yml", *QUICK, "--diff", "-vv", "-e", f"vllm_api_key_file={tmp_path / 'key'}")
    assert run.rc == 0 and key not in run.out, run.out[-4000:]
    assert complete(api=ROUTER, headers={"Authorization": f"Bearer {key}"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        complete(api=ROUTER)
    head = nodes["a2-node0"]
    assert key not in json.dumps(inspect(head, "vllm-proxy")) + head.check_output("docker logs vllm-proxy 2>&1") + command(nodes)
    assert key not in head.check_output("cat /proc/$(docker inspect -f '{{.State.Pid}}' vllm-proxy)/cmdline")
    secret = head.file("/etc/ascend-vllm/vllm-proxy/api_key")
    assert (secret.user, secret.mode) == ("root", 0o600)
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and complete(api=ROUTER), run.out[-4000:]


def ready():
    """Return whether the router says that it is ready."""
    try:
        return bool(ask("/readiness", api=ROUTER))
    except OSError:
        return False


def test_the_router_comes_back_when_it_is_killed(verb, nodes):
    nodes["a2-node0"].check_output("docker kill -s KILL vllm-proxy; docker start vllm-proxy")
    wait_until(ready, 60, "the router is ready")
    assert complete(api=ROUTER) and verb("ascend.vllm.status", *STATUS).rc == 0


def test_a_stop_of_all_leaves_nothing(verb, nodes):
    run = verb("ascend.vllm.stop")
    assert run.rc == 0, run.out[-4000:]
    for node in nodes.values():
        assert node.run("ss -ltnH '( sport = :8000 or sport = :1999 or sport = :29000 )'").stdout == ""
        assert node.run("docker ps -q").stdout == ""
