# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""group_wait with a scripted serve_probe: every host of a group in a process of its own, as Ansible runs them, on one board."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import time
from types import SimpleNamespace
from unittest import mock

import pytest
from ansible import context as cli
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError

from ansible_collections.ascend.vllm.plugins.action import group_wait
from ansible_collections.ascend.vllm.plugins.module_utils import serve_log
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options

H, P = "a2-node0", "a2-node1"
SECRET = "s3cret"


def running(line=""):
    """Return what serve_probe says of a container that runs."""
    return {"phase": "running", "exit_code": None, "health": None, "error": None, "last_line": line, "startup": serve_log.stage([line]), "telling": [],
            "log": [], "changed": False, "invocation": {}}


READY = dict(running(), phase="ready", health=200)
EXITED = dict(running(), phase="exited", exit_code=1, log=["Traceback", "RuntimeError: HCCL boom"])
UNREACHABLE = AnsibleConnectionFailure("ssh: connect to host 198.51.100.12: No route to host")


class Clock:
    """A time that passes only in so far as somebody looks or sleeps."""

    def __init__(self, step=0.0):
        self.now, self.step, self.slept = 0.0, step, 0

    def monotonic(self):
        """Return seconds."""
        self.now += self.step
        return self.now

    def time(self):
        """Return the time of the day."""
        return 1800000000.0 + self.now

    def sleep(self, seconds):
        """Count a pause instead of making it."""
        self.slept += 1
        self.now += seconds


def watch(host, board, script, hosts=(H, P), clock=None, forks=50, **args):
    """Run the plugin for one host on a script of slices, the last of which goes on for ever.

    Return C({result, lines, probes}): what it returned, what it displayed and what it asked the module.
    """
    units = [{"name": f"vllm-rank{place}", "host": name, "url": "http://198.51.100.11:8000" if name == H else None} for place, name in enumerate(hosts)]
    given = {"board": str(board), "units": units, "model": "deepseek_r1", "limit_s": 30}
    given = {name: value for name, value in dict(given, **args).items() if value is not None}
    task = SimpleNamespace(args=given, async_val=0, check_mode=False, action="ascend.vllm.group_wait")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = group_wait.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    slices = itertools.chain(script, itertools.repeat(script[-1]))
    probes, lines = [], []

    def execute(module_name, module_args, task_vars):
        assert module_name == "ascend.vllm.serve_probe" and task_vars["inventory_hostname"] == host
        probes.append(module_args)
        found = next(slices)
        if isinstance(found, Exception):
            raise found
        # One state is that of each of the host's units.
        return found if "phase" not in found else {"units": dict.fromkeys(module_args["units"], found)}

    real = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=lambda seconds: None)
    with mock.patch.object(plugin, "_execute_module", execute), \
            mock.patch.object(group_wait, "display", SimpleNamespace(display=lines.append)), \
            mock.patch.object(group_wait, "time", clock or real), \
            mock.patch.object(cli, "CLIARGS", {"forks": forks}):
        result = plugin.run(None, {"inventory_hostname": host})
    return {"result": result, "lines": lines, "probes": probes}


def watch_all(board, scripts, **args):
    """Run every host's watcher at the same time, each in its own process; return host -> what watch() returned."""
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()

    def child(host):
        try:
            answers.put((host, watch(host, board, scripts[host], hosts=tuple(scripts), **args)))
        except BaseException as error:
            answers.put((host, repr(error)))
            raise

    children = [fork.Process(target=child, args=(host,), daemon=True) for host in scripts]
    for process in children:
        process.start()
    found = dict(answers.get(timeout=40) for _process in children)
    for process in children:
        process.join(10)
    return found


def messages(found):
    """Return the set of the messages that the hosts ended with."""
    return {answer["result"]["msg"] for answer in found.values()}


def test_ready_ends_everywhere_with_one_message(tmp_path):
    found = watch_all(tmp_path, {H: [running(), running(), READY], P: [running()]})
    assert len(messages(found)) == 1 and messages(found).pop().startswith("a completion came back from a2-node0 after ")
    for answer in found.values():
        result = answer["result"]
        assert (result["failed"], result["changed"], result["outcome"], result["host"]) == (False, False, "ready", H)
        assert 0 <= result["elapsed_s"] < 30
    assert len({answer["result"]["decided_at"] for answer in found.values()}) == 1
    assert abs(found[H]["result"]["decided_at"] - time.time()) < 60


def test_an_exit_on_one_node_ends_the_wait_everywhere_with_its_log(tmp_path):
    found = watch_all(tmp_path, {H: [running()], P: [running(), EXITED], "a2-node2": [running()]})
    assert messages(found) == {"the container on a2-node1 exited with status 1. Its last lines:\nTraceback\nRuntimeError: HCCL boom"}
    assert all(answer["result"]["failed"] and answer["result"]["host"] == P for answer in found.values())


NIC = "RuntimeError: Unable to find address for: eth9"


def test_an_exit_is_explained_in_the_language_of_the_run(tmp_path):
    found = watch_all(tmp_path, {H: [running()], P: [running(), dict(EXITED, telling=[NIC])]}, language="zh")
    assert len(messages(found)) == 1 and "该节点没有网卡 eth9" in messages(found).pop()
    assert {answer["result"]["host"] for answer in found.values()} == {P}


def test_a_site_s_cause_explains_an_exit(tmp_path):
    folder = tmp_path / "data" / "causes"
    folder.mkdir(parents=True)
    (folder / "ours.yml").write_text("ours: {source: us, patterns: [HCCL boom], cause: {en: our rack is off}, remedy: {en: switch it on}}\n")
    (tmp_path / "board").mkdir()
    found = watch_all(tmp_path / "board", {H: [running()], P: [EXITED]}, data_dirs=[str(tmp_path / "data")])
    assert {message.splitlines()[0] for message in messages(found)} == {
        "the container on a2-node1 exited with status 1. Cause: our rack is off. Remedy: switch it on."}


def test_an_exit_that_follows_from_something_else_waits_for_the_node_that_has_the_reason(tmp_path):
    follows = dict(EXITED, telling=["RuntimeError: Connection closed by peer [198.51.100.11]:4711"])
    board = group_wait.Board(str(tmp_path))
    # The head was asked before the exit; what it says next is the reason.
    board.post(H, dict(running(), at=0.0, progressed=0.0, since=None, misses=0))
    clock = Clock(step=0.01)
    answer = watch(P, tmp_path, [follows], clock=clock)
    assert answer["result"]["failed"] and answer["result"]["host"] == P and len(answer["probes"]) > 3
    assert 5.0 < clock.now < 10.0 and clock.slept > 3
    # With the head's watcher at work the reason is found.
    other = tmp_path / "other"
    other.mkdir()
    found = watch_all(other, {H: [dict(running(), telling=[NIC])], P: [running(), follows]})
    assert {answer["result"]["host"] for answer in found.values()} == {H}
    assert all("eth9" in message and "the container on a2-node1 exited" in message for message in messages(found))


def test_slices_are_short_while_the_reason_of_an_exit_is_looked_for(tmp_path):
    board = group_wait.Board(str(tmp_path))
    board.post(P, {"phase": "exited", "exit_code": 1, "log": [], "at": 1.0, "since": 1.0, "misses": 0})
    board.post("a2-node2", {"phase": "running", "at": 0.0, "misses": 0})
    answer = watch(H, tmp_path, [running()], hosts=[H, P, "a2-node2"], clock=Clock(step=1.0), slice_s=60)
    assert answer["result"]["host"] == P and len(answer["probes"]) > 1
    assert [probe["slice_s"] for probe in answer["probes"]][:2] == [5.0, 1.0]


def test_a_node_without_an_api_looks_by_itself_whether_the_head_is_up(tmp_path):
    """The task ends when its last slice does."""
    for host, wanted in ((P, "http://198.51.100.11:8000"), (H, None)):
        (tmp_path / host).mkdir()
        answer = watch(host, tmp_path / host, [running()], clock=Clock(step=1.0), limit_s=5)
        assert {probe.get("until") for probe in answer["probes"]} == {wanted}


def test_a_phase_without_progress_ends_the_wait_everywhere_and_names_the_node(tmp_path):
    shard = "Loading safetensors checkpoint shards:  50%% Completed | %d/163 [00:01<00:01]"
    answer = watch(H, tmp_path, [running(shard % 1), running(shard % 2)], hosts=[H], clock=Clock(step=1.0), limit_s=1000, phase_limits={"loading": 20})
    result = answer["result"]
    assert (result["outcome"], result["host"]) == ("timeout", H) and 20 < result["elapsed_s"] < 40
    assert result["msg"].startswith("a2-node0 has made no progress for 2") and "while loading weights; the limit of this phase is 20 s" in result["msg"]


@pytest.mark.parametrize("limits", [{"pulling": 5}, {"loading": 0}])
def test_limits_of_phases_that_cannot_be_meant_are_refused_before_anything_is_asked(tmp_path, limits):
    answer = watch(H, tmp_path, [READY], hosts=[H], phase_limits=limits)
    assert answer["result"]["failed"] and "Remedy: " in answer["result"]["msg"] and answer["probes"] == []


def test_an_exit_of_the_head_ends_the_wait_of_its_peers(tmp_path):
    found = watch_all(tmp_path, {H: [EXITED], P: [running()]})
    assert {answer["result"]["host"] for answer in found.values()} == {H} and len(messages(found)) == 1


def test_a_head_that_answers_waits_for_the_others_to_be_seen(tmp_path):
    # The peer's first slice takes two tries to reach it.
    found = watch_all(tmp_path, {H: [READY], P: [UNREACHABLE, UNREACHABLE, running()]})
    assert {answer["result"]["outcome"] for answer in found.values()} == {"ready"}
    assert len(found[P]["probes"]) >= 3 and found[H]["lines"][-1].endswith("a2-node0: answers | a2-node1: starting")


@pytest.mark.parametrize("fault", [
    UNREACHABLE,
    AnsibleError("Incorrect sudo password"),
    {"failed": True, "msg": "the Docker engine does not answer: /var/run/docker.sock: Connection refused"},
])
def test_a_node_that_cannot_be_asked_for_a_minute_ends_the_wait(tmp_path, fault):
    # A second between two tries passes, and nothing else.
    found = watch_all(tmp_path, {H: [running()], P: [running(), fault]}, clock=Clock(), limit_s=300)
    text = str(fault) if isinstance(fault, Exception) else fault["msg"]
    assert messages(found) == {f"a2-node1 has not answered 61 times in a row: {text}"}
    assert all(answer["result"]["failed"] for answer in found.values())
    assert len(found[P]["probes"]) == 62


def test_a_node_that_refuses_connections_for_half_a_minute_is_waited_for(tmp_path):
    found = watch(H, tmp_path, [running(), *[UNREACHABLE] * 30, READY], hosts=[H], clock=Clock(), limit_s=300)
    assert found["result"]["outcome"] == "ready" and len(found["probes"]) == 32


def test_a_node_whose_tries_take_long_is_tried_three_times(tmp_path):
    found = watch(H, tmp_path, [UNREACHABLE], hosts=[H], clock=Clock(step=20.0), limit_s=3000)
    assert found["result"]["outcome"] == "failed" and "3 times in a row" in found["result"]["msg"] and len(found["probes"]) == 3


def test_misses_count_only_in_a_row(tmp_path):
    script = [UNREACHABLE, UNREACHABLE, running(), UNREACHABLE, UNREACHABLE, running(), EXITED]
    found = watch_all(tmp_path, {H: [running()], P: script})
    # The exit has no reason of its own, so that the head may be heard once more.
    assert len(found[P]["probes"]) >= len(script)
    assert {answer["result"]["msg"].splitlines()[0] for answer in found.values()} == {"the container on a2-node1 exited with status 1. Its last lines:"}


def test_a_node_that_cannot_be_asked_is_not_asked_again_at_once(tmp_path):
    clock = Clock()
    watch(H, tmp_path, [UNREACHABLE], hosts=[H], clock=clock, limit_s=300)
    assert clock.slept == 61
    watch(H, tmp_path, [{"failed": True, "msg": "x"}], hosts=[H], clock=clock)
    # The decision already stands, so that one slice is enough.
    assert clock.slept == 62


def test_only_the_head_shows_progress_of_all_nodes(tmp_path):
    shard = "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]"
    found = watch_all(tmp_path, {H: [running("INFO:     Application startup complete."), READY], P: [running(shard)]})
    assert found[P]["lines"] == []
    lines = found[H]["lines"]
    assert re.match(r"  \[ +\d+ s of at most 30 s\] a2-node0: API up \| a2-node1: ", lines[0])
    assert lines[-1].endswith("a2-node0: answers | a2-node1: loading weights, shard 1 of 2")


def test_what_is_wrong_with_the_api_or_the_container_reaches_the_person(tmp_path):
    refused = dict(running("x"), health=200, error="/health says 200, but /v1/completions answered HTTP 404")
    killed = dict(EXITED, error="killed by the kernel: out of memory")
    answer = watch(H, tmp_path, [refused, killed], hosts=[H])
    assert [line.partition("] ")[2] for line in answer["lines"]] == ["a2-node0: " + refused["error"], "a2-node0: exited (killed by the kernel: out of memory)"]
    assert answer["result"]["msg"].startswith(
        "the container on a2-node0 exited with status 1 (killed by the kernel: out of memory). Cause: The node's own memory")


def test_a_line_is_shown_when_it_changes_and_when_it_has_not_for_long(tmp_path):
    # Two looks at the clock a slice, so ten seconds pass in each.
    script = [running("one")] * 10 + [running("two"), READY]
    lines = watch(H, tmp_path, script, hosts=[H], clock=Clock(step=5), limit_s=100000)["lines"]
    said = [line.split("] ")[1] for line in lines]
    assert said[-2:] == ["a2-node0: starting (two)", "a2-node0: answers"]
    assert 1 < said.count("a2-node0: starting (one)") < 10
    assert len(set(lines)) == len(lines)


def test_the_time_is_up(tmp_path):
    answer = watch(H, tmp_path, [running("still at it")], clock=Clock(step=1), limit_s=7)
    assert answer["result"]["outcome"] == "timeout" and answer["result"]["failed"]
    assert answer["result"]["msg"] == "no completion within 7 s. a2-node0: starting (still at it); a2-node1: not asked yet"
    assert answer["result"]["elapsed_s"] >= 7


def test_a_decision_that_stands_is_followed_whatever_this_host_sees(tmp_path):
    group_wait.Board(str(tmp_path)).settle({"at": 0.0, "outcome": "failed", "host": P, "message": "decided"})
    answer = watch(H, tmp_path, [READY], hosts=[H])
    assert (answer["result"]["failed"], answer["result"]["msg"], answer["result"]["host"]) == (True, "decided", P)


def test_only_the_head_is_asked_for_a_completion_and_gets_the_key(tmp_path):
    found = watch_all(tmp_path, {H: [READY], P: [running()]}, api_key=SECRET, ca_file="/etc/ascend-vllm/ca.pem", slice_s=2.5)
    assert found[H]["probes"][0] == {
        "units": {"vllm-rank0": "http://198.51.100.11:8000"}, "slice_s": 2.5, "model": "deepseek_r1", "completion": True, "api_key": SECRET,
        "ca_file": "/etc/ascend-vllm/ca.pem"}
    assert found[P]["probes"][0] == {
        "units": {"vllm-rank1": None}, "slice_s": 2.5, "until": "http://198.51.100.11:8000", "ca_file": "/etc/ascend-vllm/ca.pem"}
    assert all(SECRET not in str((answer["result"], answer["lines"])) for answer in found.values())
    assert all(SECRET not in path.read_text() for path in tmp_path.iterdir())


def test_too_few_forks_are_refused_before_anything_is_asked(tmp_path):
    answer = watch(H, tmp_path, [READY], hosts=[H, P, "a2-node2"], forks=2)
    assert answer["result"] == {"failed": True, "msg": "forks is 2, but 3 nodes have to be watched at once. Remedy: --forks 3"}
    assert answer["probes"] == [] and list(tmp_path.iterdir()) == []
    assert watch(H, tmp_path, [READY], hosts=[H], forks=1)["result"]["outcome"] == "ready"
    # Nothing is said of forks: nobody can be refused.
    assert watch(H, tmp_path, [READY], hosts=[H], forks=None)["result"]["outcome"] == "ready"


@pytest.mark.parametrize("wrong", [{"limit_s": "soon"}, {"model": None}, {"slize_s": 1}, {"language": "de"}, {"phase_limits": 5}])
def test_wrong_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(AnsibleActionFail, match=next(iter(wrong))):
        watch(H, tmp_path, [READY], hosts=[H], **wrong)
    assert list(tmp_path.iterdir()) == []


PD = [{"name": f"decode-rank{rank}", "host": (H, P)[rank // 2], "rank": rank, "url": f"http://198.51.100.{11 + rank // 2}:{7100 + rank % 2}"}
      for rank in range(4)]


def watch_ranks(board, scripts):
    """Return what became of the wait for a decode group of two nodes with two ranks each."""
    return watch_all(board, scripts, units=PD)


def ranks(*states):
    """Return what serve_probe says of a host's ranks."""
    return [{"units": {unit["name"]: state for unit, state in zip(PD[place:], states)}} for place in (0, 2)]


def test_a_group_of_ranks_is_ready_when_each_of_them_answers(tmp_path):
    first, second = ranks(READY, READY)
    assert len(messages(watch_ranks(tmp_path, {H: [first], P: [ranks(running(), READY)[1], second]}))) == 1
    late = watch(H, tmp_path / "no", [first], units=PD[:2]) if (tmp_path / "no").mkdir() is None else None
    assert late["result"]["outcome"] == "ready" and late["probes"][0]["units"] == {unit["name"]: unit["url"] for unit in PD[:2]}
    assert late["lines"][0].endswith("a2-node0 (decode-rank0): answers | a2-node0 (decode-rank1): answers")


def test_a_group_of_ranks_waits_for_each_of_them(tmp_path):
    found = watch(H, tmp_path, ranks(READY, running())[:1], units=PD[:2], limit_s=1, clock=Clock(step=0.2))
    assert found["result"]["outcome"] == "timeout" and "a2-node0 (decode-rank1): starting" in found["result"]["msg"]


def test_a_rank_that_exits_ends_the_wait_everywhere_and_is_named(tmp_path):
    first, second = ranks(READY, READY)[0], ranks(running(), EXITED)[1]
    found = watch_ranks(tmp_path, {H: [first], P: [second]})
    assert messages(found) == {"the container on a2-node1 (decode-rank3) exited with status 1. Its last lines:\nTraceback\nRuntimeError: HCCL boom"}


def test_the_documentation_states_the_arguments_that_are_taken(tmp_path):
    from ansible_collections.ascend.vllm.plugins.modules import group_wait as documented

    options = documented_options(documented)
    with mock.patch.object(group_wait.ActionModule, "validate_argument_spec", autospec=True, side_effect=KeyboardInterrupt) as validate:
        with pytest.raises(KeyboardInterrupt):
            watch(H, tmp_path, [READY])
    spec = validate.call_args.kwargs["argument_spec"]
    assert set(spec) == set(options) and spec["api_key"]["no_log"] is True and set(spec["units"]["options"]) == set(options["units"]["suboptions"])
    for name, option in options.items():
        taken = {"type": spec[name]["type"], "required": spec[name].get("required", False), "default": spec[name].get("default")}
        assert taken == {"type": option["type"], "required": option.get("required", False), "default": option.get("default")}, name
