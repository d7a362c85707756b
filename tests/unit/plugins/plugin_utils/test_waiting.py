# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision as a table and as a property, the words of a progress line, and the board between real processes."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils.waiting import LOST_AFTER, SHOWN_LINES, Board, decide, phrase, summary

H, P = "a2-node0", "a2-node1"
RUNS = {"phase": "running", "misses": 0}
READY = {"phase": "ready", "misses": 0}


def exited(code=1, log=(), error=None):
    """Return the state of an exited container."""
    return {"phase": "exited", "exit_code": code, "log": list(log), "error": error, "misses": 0}


def lost(misses, error="ssh: connect to host: No route to host"):
    """Return the state of a node that does not answer."""
    return {"phase": "unreachable", "misses": misses, "error": error}


@pytest.mark.parametrize("states, outcome, host", [
    ({}, None, None),
    ({H: READY}, None, None),
    ({H: RUNS, P: RUNS}, None, None),
    ({H: READY, P: RUNS}, "ready", H),
    ({H: READY, P: READY}, "ready", H),
    ({H: RUNS, P: READY}, None, None),
    ({H: READY, P: lost(1)}, None, None),
    ({H: READY, P: lost(LOST_AFTER - 1)}, None, None),
    ({H: READY, P: lost(LOST_AFTER)}, "failed", P),
    ({H: READY, P: {"phase": "absent"}}, "failed", P),
    ({H: READY, P: exited()}, "failed", P),
    ({P: exited()}, "failed", P),
    ({H: exited(), P: RUNS}, "failed", H),
    ({H: exited(), P: exited()}, "failed", H),
    ({H: lost(9), P: exited()}, "failed", P),
    ({H: {"phase": "absent"}, P: exited()}, "failed", P),
])
def test_decide(states, outcome, host):
    decision = decide(states, [H, P], H, 10.0, 60)
    assert (decision and decision["outcome"], decision and decision["host"]) == (outcome, host)


def test_one_node_is_a_group_too():
    assert decide({H: RUNS}, [H], H, 1, 60) is None
    assert decide({H: READY}, [H], H, 12.4, 60)["message"] == "a completion came back from a2-node0 after 12 s"


def test_hosts_of_another_group_do_not_count():
    assert decide({H: READY, "other": exited()}, [H], H, 1, 60)["outcome"] == "ready"


def test_the_time_is_up_at_the_limit_and_says_how_far_every_node_came():
    states = {H: dict(RUNS, last_line="Application startup complete."), P: lost(1, "Connection timed out")}
    assert decide(states, [H, P, "a2-node2"], H, 59.9, 60) is None
    decision = decide(states, [H, P, "a2-node2"], H, 60.0, 60)
    assert decision == {"outcome": "timeout", "host": H, "message":
                        "no completion within 60 s. a2-node0: API up; a2-node1: unreachable (Connection timed out); a2-node2: not asked yet"}


def test_an_exit_and_a_completion_count_more_than_the_time():
    assert decide({H: READY, P: RUNS}, [H, P], H, 61, 60)["outcome"] == "ready"
    assert decide({H: RUNS, P: exited()}, [H, P], H, 61, 60)["outcome"] == "failed"


def test_an_exit_shows_status_reason_and_the_end_of_the_log():
    log = [f"line {number}" for number in range(100)]
    message = decide({H: RUNS, P: exited(137, log, "killed by the kernel: out of memory")}, [H, P], H, 1, 60)["message"]
    lines = message.splitlines()
    assert lines[0] == "the container on a2-node1 exited with status 137 (killed by the kernel: out of memory). Its last lines:"
    assert lines[1:] == log[-SHOWN_LINES:]


@pytest.mark.parametrize("log", [None, [], ["", "  "]])
def test_an_exit_without_a_log_says_so(log):
    message = decide({H: dict(exited(2), log=log)}, [H], H, 1, 60)["message"]
    assert message == "the container on a2-node0 exited with status 2. It wrote no log."


def test_a_lost_node_shows_how_often_and_why():
    message = decide({H: RUNS, P: lost(4, "Permission denied (publickey)")}, [H, P], H, 1, 60)["message"]
    assert message == "a2-node1 has not answered 4 times in a row: Permission denied (publickey)"


def test_a_removed_container_is_named():
    assert "a2-node1 is gone" in decide({H: RUNS, P: {"phase": "absent"}}, [H, P], H, 1, 60)["message"]


STATE = st.one_of(st.none(), st.fixed_dictionaries(
    {"phase": st.sampled_from(["running", "ready", "exited", "absent", "unreachable"]), "misses": st.integers(0, 5)},
    optional={"exit_code": st.integers(0, 255), "log": st.lists(st.text(max_size=8), max_size=40), "error": st.none() | st.text(max_size=8),
              "last_line": st.text(max_size=8)}))


@settings(max_examples=300, deadline=None)
@given(st.lists(STATE, min_size=1, max_size=5), st.integers(0, 4), st.floats(0, 20), st.integers(1, 10))
def test_decide_never_calls_a_group_ready_that_is_not(found, at, elapsed, limit):
    hosts = [f"node{number}" for number in range(len(found))]
    head = hosts[at % len(hosts)]
    states = {host: state for host, state in zip(hosts, found) if state}
    decision = decide(states, hosts, head, elapsed, limit)
    phases = [state["phase"] if state else None for state in found]
    may_be_ready = states.get(head, {}).get("phase") == "ready" and set(phases) <= {"running", "ready"}
    dead = [host for host, phase in zip(hosts, phases) if phase == "exited"]
    gone = [host for host, state in states.items() if state["phase"] == "absent" or state["phase"] == "unreachable" and state["misses"] >= LOST_AFTER]
    if dead:
        assert decision["outcome"] == "failed" and decision["host"] == dead[0] and f"the container on {dead[0]} exited" in decision["message"]
        log = states[dead[0]].get("log") or []
        assert not "".join(log).strip() or decision["message"].endswith("\n".join(log[-SHOWN_LINES:]))
    elif gone:
        assert decision["outcome"] == "failed" and decision["host"] == gone[0] and gone[0] in decision["message"]
    elif may_be_ready:
        assert decision["outcome"] == "ready" and decision["host"] == head
    elif elapsed >= limit:
        assert decision["outcome"] == "timeout" and all(host in decision["message"] for host in hosts)
    else:
        assert decision is None


@pytest.mark.parametrize("state, words", [
    (None, "not asked yet"),
    (READY, "answers"),
    (RUNS, "running"),
    (dict(RUNS, last_line=None), "running"),
    (dict(RUNS, last_line="INFO 11-23 20:26:09 [core.py:77] Starting to load model /mnt/x"), "loading weights"),
    (dict(RUNS, last_line="x", error="/health says 200, but\n  a completion\tdid not come back"), "/health says 200, but a completion did not come back"),
    (dict(RUNS, error="e" * 500), "e" * 160),
    (exited(), "exited"),
    (lost(1, "Connection\ntimed out"), "unreachable (Connection timed out)"),
    ({"phase": "absent"}, "absent"),
])
def test_summary_is_a_part_of_one_line(state, words):
    assert summary(state) == words


@pytest.mark.parametrize("line, words", [
    ("(Worker_DP0_TP0 pid=9) Loading safetensors checkpoint shards:  50% Completed | 81/163 [02:06<02:01, 1.5s/it]", "loading weights, shard 81 of 163"),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/163 [00:00<?, ?it/s]", "loading weights, shard 0 of 163"),
    ("(EngineCore_DP0 pid=72) INFO 11-23 20:26:09 [default_loader.py:308] Loading weights took 61.5 seconds", "loading weights"),
    ("(APIServer pid=1) DEBUG 11-23 20:26:09 [utils.py:862] Waiting for 2 local, 2 remote core engine proc(s) to start.",
     "waiting for engines (2 local, 2 remote)"),
    ("Capturing CUDA graphs (decode, FULL):  20%|##        | 1/5", "capturing graphs"),
    ("INFO 11-23 20:26:09 [model_runner.py:1] Graph capturing finished in 7 secs", "capturing graphs"),
    ("INFO 11-23 20:26:09 [backends.py:5] Dynamo bytecode transform time: 9.60 s", "compiling"),
    ("INFO 11-23 20:26:09 [monitor.py:34] torch.compile takes 20.1 s in total", "compiling"),
    ("INFO 11-23 20:26:09 [backends.py:5] Compiling a graph for dynamic shape takes 10 s", "compiling"),
    ("INFO:     Application startup complete.", "API up"),
    # The line that prints the whole configuration is about no phase.
    ("(EngineCore_DP0 pid=72) INFO 11-23 20:26:09 [core.py:77] Initializing a V1 LLM engine with config: compilation_config={'mode': 0}",
     "[core.py:77] Initializing a V1 LLM engine with config: compilation_config={'mode': 0}"),
    ("(APIServer pid=1) INFO 11-23 20:26:09 [api_server.py:1772] vLLM API server version 0.13.0", "[api_server.py:1772] vLLM API server version 0.13.0"),
    ("(EngineCore_DP0 pid=1) (Worker pid=3, ip=198.51.100.12) WARNING 11-23 20:26:09 [x.py:1] hm", "[x.py:1] hm"),
    ("(EngineCore_DP0 pid=1) ", ""),
    ("ValueError: boom", "ValueError: boom"),
    ("INFO", "INFO"),
    ("", ""),
    ("y" * 300, "y" * 100),
])
def test_phrase(line, words):
    assert phrase(line) == words


# the board


def test_states_and_decision_come_back_as_they_were_posted(tmp_path):
    one, other = Board(str(tmp_path)), Board(str(tmp_path))
    assert other.states([H, P]) == {} and other.decision() is None
    one.post(H, RUNS)
    one.post(H, dict(READY, log=["\u00fc"]))
    assert other.states([H, P]) == {H: dict(READY, log=["\u00fc"])}
    assert one.settle({"outcome": "ready"}) == {"outcome": "ready"}
    assert other.settle({"outcome": "failed"}) == {"outcome": "ready"}
    assert other.decision() == {"outcome": "ready"}


def test_odd_host_names_do_not_meet_or_leave_the_board(tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    hosts = ["a/b", "a_b", "a b", "../x", "a_2f_b", "[2001:db8::1]", "\u00fc", "decision"]
    board = Board(str(folder))
    for number, host in enumerate(hosts):
        board.post(host, {"phase": "running", "misses": number})
    assert {host: state["misses"] for host, state in board.states(hosts).items()} == {host: number for number, host in enumerate(hosts)}
    assert board.decision() is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["board"]


def _run_together(target, count, *args):
    """Run a function in so many processes, started at one moment; return what each of them put, in any order."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()
    children = [context.Process(target=target, args=(number, barrier, results, *args), daemon=True) for number in range(count)]
    for child in children:
        child.start()
    try:
        return [results.get(timeout=30) for _child in children]
    finally:
        for child in children:
            child.join(30)


def _settle(number, barrier, results, path):
    barrier.wait(30)
    results.put(Board(path).settle({"outcome": "failed", "host": str(number), "message": "x" * 100000}))


def test_the_first_decision_stands_whole_and_all_follow_it(tmp_path):
    for attempt in range(10):
        path = tmp_path / str(attempt)
        path.mkdir()
        decisions = _run_together(_settle, 4, str(path))
        assert all(decision == decisions[0] for decision in decisions) and len(decisions[0]["message"]) == 100000
        assert Board(str(path)).decision() == decisions[0]


def _post_and_read(number, barrier, results, path, hosts):
    """Post ever longer states and read all the others', until each host has posted its last."""
    board, seen, error, step = Board(path), {}, None, 0
    barrier.wait(30)
    try:
        while len(seen) < len(hosts) or any(seen[host]["step"] < 200 for host in hosts):
            step = min(step + 1, 200)
            board.post(hosts[number], {"phase": "running", "step": step, "log": ["y" * 500] * step})
            found = board.states(hosts)
            assert all(len(state["log"]) == state["step"] for state in found.values())
            assert all(found[host]["step"] >= seen[host]["step"] for host in seen), "a state went backwards or vanished"
            seen = found
    except Exception as problem:  # pylint: disable=broad-except
        error = repr(problem)
    finally:
        # The others wait for this host's last state.
        board.post(hosts[number], {"phase": "running", "step": 200, "log": ["y" * 500] * 200})
    results.put(error)


def test_no_half_state_is_ever_read(tmp_path):
    assert _run_together(_post_and_read, 3, str(tmp_path), ["n0", "n1", "n2"]) == [None, None, None]
    assert sorted(os.listdir(str(tmp_path))) == ["state-n0", "state-n1", "state-n2"]
