# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision as a table and as a property, whose log is named, the phases, the words of a progress line, and the board between real processes."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import causes
from ansible_collections.ascend.vllm.plugins.plugin_utils.pages import load_words
from ansible_collections.ascend.vllm.plugins.plugin_utils.waiting import (
    HOLD_S, LOST_AFTER, LOST_S, SHOWN_LINES, Board, Watch, decide, limits_problem, phrase, summary,
)
from ansible_collections.ascend.vllm.tests.unit.plugins.plugin_utils import test_checks_data

H, P = "a2-node0", "a2-node1"
KNOWN = causes.load()
WORDS = load_words("en", "wait")
RUNS = {"phase": "running", "misses": 0}
READY = {"phase": "ready", "misses": 0}


def exited(code=1, log=(), error=None):
    """Return the state of an exited container."""
    return {"phase": "exited", "exit_code": code, "log": list(log), "error": error, "misses": 0}


def lost(misses, seconds=LOST_S, error="ssh: connect to host: No route to host"):
    """Return the state of a node that has not answered for so long."""
    return {"phase": "unreachable", "misses": misses, "missed": 100.0, "at": 100.0 + seconds, "error": error}


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
    ({H: READY, P: lost(9 * LOST_AFTER, LOST_S - 1)}, None, None),
    ({H: READY, P: {"phase": "absent"}}, "failed", P),
    ({H: READY, P: exited()}, "failed", P),
    ({P: exited()}, "failed", P),
    ({H: exited(), P: RUNS}, "failed", H),
    ({H: exited(), P: exited()}, "failed", H),
    ({H: lost(9), P: exited()}, "failed", P),
    ({H: {"phase": "absent"}, P: exited()}, "failed", P),
])
def test_decide(states, outcome, host):
    decision = decide(states, [H, P], [H], 10.0, 60)
    assert (decision and decision["outcome"], decision and decision["host"]) == (outcome, host)


def test_one_node_is_a_group_too():
    assert decide({H: RUNS}, [H], [H], 1, 60) is None
    assert decide({H: READY}, [H], [H], 12.4, 60)["message"] == "a completion came back from a2-node0 after 12 s"


def test_hosts_of_another_group_do_not_count():
    assert decide({H: READY, "other": exited()}, [H], [H], 1, 60)["outcome"] == "ready"


def test_the_time_is_up_at_the_limit_and_says_how_far_every_node_came():
    states = {H: dict(RUNS, last_line="Application startup complete."), P: lost(1, error="Connection timed out")}
    assert decide(states, [H, P, "a2-node2"], [H], 59.9, 60) is None
    decision = decide(states, [H, P, "a2-node2"], [H], 60.0, 60)
    assert decision == {"outcome": "timeout", "host": H, "message":
                        "no completion within 60 s. a2-node0: API up; a2-node1: unreachable (Connection timed out); a2-node2: not asked yet"}


def test_an_exit_and_a_completion_count_more_than_the_time():
    assert decide({H: READY, P: RUNS}, [H, P], [H], 61, 60)["outcome"] == "ready"
    assert decide({H: RUNS, P: exited()}, [H, P], [H], 61, 60)["outcome"] == "failed"


def test_an_exit_that_nothing_explains_shows_status_reason_and_the_end_of_the_log():
    log = [f"line {number}" for number in range(100)]
    message = decide({H: RUNS, P: exited(1, log, "the engine's own words")}, [H, P], [H], 1, 60, KNOWN)["message"]
    lines = message.splitlines()
    assert lines[0] == "the container on a2-node1 exited with status 1 (the engine's own words). Its last lines:"
    assert lines[1:] == log[-SHOWN_LINES:]


@pytest.mark.parametrize("log", [None, [], ["", "  "]])
def test_an_exit_without_a_log_says_so(log):
    message = decide({H: dict(exited(2), log=log)}, [H], [H], 1, 60)["message"]
    assert message == "the container on a2-node0 exited with status 2. It wrote no log."


def test_a_lost_node_shows_how_often_and_why():
    message = decide({H: RUNS, P: lost(4, error="Permission denied (publickey)")}, [H, P], [H], 1, 60)["message"]
    assert message == "a2-node1 has not answered 4 times in a row: Permission denied (publickey)"


def test_a_removed_container_is_named():
    assert "a2-node1 is gone" in decide({H: RUNS, P: {"phase": "absent"}}, [H, P], [H], 1, 60)["message"]


# whose log is named, and for what

NIC = "RuntimeError: Unable to find address for: eth9"
FAILED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
MISMATCH = "RuntimeError: Configuration mismatch detected for engine 1. All DP workers must have identical configurations"
SOCKET = "EI0006: Getting socket times out. Reason: 1. The remote does not initiate a connect request."
GONE = "RuntimeError: Connection closed by peer [198.51.100.11]:4711"
TRACEBACK = ["Traceback (most recent call last):", '  File "/x/engine.py", line 7, in step', "    go()", "KeyError: 'x'"]


def ended(states, hosts=(H, P), language="en"):
    """Return the decision, which has to be a failure."""
    decision = decide(states, list(hosts), [hosts[0]], 1, 60, KNOWN, language)
    assert decision["outcome"] == "failed"
    return decision


def test_a_known_cause_is_told_with_node_remedy_and_the_lines_behind_it():
    log = ["hello", NIC, FAILED, "last"]
    decision = ended({H: RUNS, P: exited(1, log)})
    assert decision["host"] == P
    lines = decision["message"].splitlines()
    assert lines[0].startswith("the container on a2-node1 exited with status 1. Cause: The network interface eth9 is not on this node")
    assert "Remedy: on this node: ip -br address; then set vllm_nic_name" in lines[0]
    assert lines[1:] == ["The lines behind it:", NIC]


def test_the_same_in_chinese():
    message = ended({H: RUNS, P: exited(1, [NIC])}, language="zh")["message"]
    assert message.startswith("a2-node1 上的容器已退出，状态码 1。原因：该节点没有网卡 eth9") and "处理：" in message and "Cause" not in message


def test_an_unknown_error_shows_its_first_traceback_and_not_its_last_lines():
    log = ["line", *TRACEBACK, *(f"later {number}" for number in range(50)), FAILED]
    lines = ended({H: RUNS, P: exited(1, log)})["message"].splitlines()
    assert lines[0].startswith("the container on a2-node1 exited with status 1. Cause: Another process of the server failed first.")
    assert lines[1:] == ["The lines behind it:", FAILED, "Its first error:", *TRACEBACK]
    lines = ended({H: RUNS, P: exited(1, TRACEBACK + ["later"])})["message"].splitlines()
    assert lines == ["the container on a2-node1 exited with status 1.", "Its first error:", *TRACEBACK]


def test_the_lines_that_came_with_earlier_slices_explain_an_exit_too():
    assert "eth9" in ended({H: RUNS, P: dict(exited(1, ["last"]), telling=[NIC])})["message"]


@pytest.mark.parametrize("one, other, named", [
    # Root causes before what another node saw, tracebacks before consequences, anything before nothing.
    (exited(1, [MISMATCH]), exited(1, [GONE]), H),
    (exited(1, [GONE]), exited(1, [MISMATCH]), P),
    (exited(1, [FAILED]), exited(1, [SOCKET]), P),
    (exited(1, [SOCKET]), exited(1, [NIC]), P),
    (exited(1, [SOCKET]), exited(1, TRACEBACK), P),
    (exited(1, TRACEBACK), exited(1, [NIC]), P),
    (exited(1, [FAILED]), exited(1, TRACEBACK), P),
    (exited(1, ["a"]), exited(1, [GONE]), P),
    (exited(1, ["a"]), exited(143, []), P),
    (exited(1, [GONE]), exited(143, []), P),
    (exited(0, []), exited(1, [SOCKET]), P),
    (exited(137, [], "killed by the kernel: out of memory"), exited(1, [GONE]), H),
    # The better of two roots, then the one that was seen first, then the first of the group.
    (exited(1, [NIC]), exited(1, ["HCCL_BUFFSIZE is too SMALL"]), P),
    (dict(exited(1, [NIC]), since=9.0, at=9.0), dict(exited(1, [NIC]), since=3.0, at=9.0), P),
    (exited(1, [NIC]), exited(1, [NIC]), H),
    # A node that still runs is named when its log tells more.
    (exited(1, [FAILED]), dict(RUNS, telling=[MISMATCH]), P),
    (exited(1, [FAILED]), dict(RUNS, telling=TRACEBACK), P),
    (exited(143, []), dict(RUNS, telling=[MISMATCH]), P),
    (exited(1, TRACEBACK), dict(RUNS, telling=[MISMATCH]), P),
    (exited(1, TRACEBACK), dict(RUNS, telling=[SOCKET]), H),
    (exited(1, [NIC]), dict(RUNS, telling=["HCCL_BUFFSIZE is too SMALL"]), H),
    (exited(1, ["a"]), dict(RUNS, telling=[GONE]), H),
])
def test_the_node_whose_log_says_why_is_named(one, other, named):
    for states, host in (({H: one, P: other}, named), ({H: other, P: one}, {H: P, P: H}[named])):
        if one == other and host == P:
            continue
        decision = ended(states)
        assert decision["host"] == host
        exits = [name for name in (H, P) if states[name]["phase"] == "exited"]
        assert all(name in decision["message"] for name in exits) and host in decision["message"]


def test_the_others_that_exited_are_told_after_it():
    states = {H: exited(1, [GONE]), P: exited(2, [NIC]), "a2-node2": exited(3, [])}
    lines = ended(states, (H, P, "a2-node2"))["message"].splitlines()
    assert lines[0].startswith("the container on a2-node1 exited with status 2. Cause: The network interface eth9")
    assert lines[-1].startswith("Also exited: a2-node0 with status 1 (Another process or node") and "; a2-node2 with status 3." in lines[-1]


def test_a_cause_in_the_log_of_a_node_that_runs_is_told_beside_the_exit():
    lines = ended({H: exited(1, [FAILED]), P: dict(RUNS, telling=["a", NIC])})["message"].splitlines()
    assert lines[0].startswith(
        "the container on a2-node0 exited with status 1. The reason is in the log of a2-node1, whose container still runs. Cause: The network interface eth9")
    assert lines[1:] == ["The lines behind it:", NIC]


def test_further_causes_of_the_same_log_are_told_in_a_line_each():
    lines = ended({H: exited(1, ["OSError: [Errno 28] No space left on device: '/x'", NIC, FAILED])}, (H,))["message"].splitlines()
    assert lines[-1] == "Also in this log: A file system of this node, or of the container, is full."
    assert "Also in this log: Another process" not in "".join(lines)


def test_a_stopped_container_says_so_and_shows_the_end_of_its_log():
    lines = ended({H: RUNS, P: exited(143, ["INFO: Shutting down"])})["message"].splitlines()
    assert lines[0].startswith("the container on a2-node1 exited with status 143. Cause: The container was stopped from outside (SIGTERM)")
    assert lines[0].endswith("Its last lines:") and lines[1:] == ["INFO: Shutting down"]


@pytest.mark.parametrize("exit_of_one, other, hosts, goes_on", [
    # The other node has said nothing since the exit was seen.
    (exited(1, [GONE]), dict(RUNS, at=99.0), (H, P), True),
    (exited(1, [GONE]), None, (H, P), True),
    (exited(1, TRACEBACK), dict(RUNS, at=99.0), (H, P), True),
    (exited(1, []), dict(RUNS, at=99.0), (H, P), True),
    (exited(0, []), dict(RUNS, at=99.0), (H, P), True),
    # It has, or there is no other, or the reason is clear.
    (exited(1, [GONE]), dict(RUNS, at=100.5), (H, P), False),
    (exited(1, [GONE]), None, (H,), False),
    (exited(1, [NIC]), dict(RUNS, at=99.0), (H, P), False),
    (exited(1, [GONE]), dict(RUNS, at=99.0, telling=[NIC]), (H, P), False),
])
def test_an_exit_without_a_reason_waits_for_the_log_of_the_others(exit_of_one, other, hosts, goes_on):
    states = {hosts[0]: dict(exit_of_one, since=100.0, at=101.0)}
    if other:
        states[hosts[1]] = other
    decision = decide(states, list(hosts), [hosts[0]], 1, 60, KNOWN)
    assert (decision is None) == goes_on
    states[hosts[0]]["at"] = 100.0 + HOLD_S
    assert decide(states, list(hosts), [hosts[0]], 1, 60, KNOWN)["outcome"] == "failed"


# phases


def at_phase(phase, step="", idle=0.0, now=1000.0, **more):
    """Return the state of a node that has been in a phase for so long."""
    return dict(RUNS, startup={"phase": phase, "step": step} if phase else None, at=now, progressed=now - idle, since=None, **more)


LIMITS = {"starting": 100, "loading": 200, "compiling": 300, "waiting": 400, "ready": 50}


@pytest.mark.parametrize("one, other, wanted", [
    (at_phase("loading", "3/163", 200.0), at_phase("loading", "5/163"), None),
    (at_phase("loading", "3/163", 201.0), at_phase("loading", "5/163"), (H, "loading weights")),
    (at_phase("loading", "3/163", 250.0), at_phase("loading", "5/163", 240.0), (H, "loading weights")),
    (at_phase("loading", "3/163", 240.0), at_phase("loading", "5/163", 250.0), (P, "loading weights")),
    (at_phase(None, "", 101.0), at_phase("loading", "5/163"), (H, "starting")),
    (at_phase("ready", "", 51.0), at_phase("waiting", ""), (H, "API up")),
    # Who has loaded all, compiles or waits may have to wait for a slower one.
    (at_phase("loading", "163/163", 900.0), at_phase("loading", "5/163"), None),
    (at_phase("loading", "", 900.0), at_phase("loading", "5/163"), None),
    (at_phase("compiling", "1/5", 900.0), at_phase("loading", "5/163"), None),
    (at_phase("waiting", "", 900.0), at_phase("loading", "5/163"), None),
    (at_phase("compiling", "1/5", 301.0), at_phase("compiling", "1/5", 301.0), (H, "compiling")),
    (at_phase("waiting", "", 900.0), at_phase("compiling", "2/5", 301.0), (P, "compiling")),
    (at_phase("waiting", "", 900.0), at_phase("waiting", "", 401.0), (H, "waiting for the other engines")),
    (at_phase("waiting", "", 900.0), at_phase("waiting", "", 399.0), None),
    # Of several the one that is least far.
    (at_phase("compiling", "1/5", 900.0), at_phase("loading", "5/163", 800.0), (P, "loading weights")),
    # Who does not run, or cannot be asked, is in no phase.
    (dict(at_phase("loading", "3/163", 900.0), phase="unreachable"), at_phase("loading", "5/163"), None),
    (RUNS, RUNS, None),
])
def test_a_node_that_makes_no_progress_in_its_phase_ends_the_wait(one, other, wanted):
    decision = decide({H: one, P: other}, [H, P], [H], 10, 3600, KNOWN, "en", LIMITS)
    if wanted is None:
        assert decision is None
        return
    host, words = wanted
    assert (decision["outcome"], decision["host"]) == ("timeout", host)
    assert decision["message"].startswith(f"{host} has made no progress for ") and f" s while {words}; the limit of this phase is " in decision["message"]
    assert "serve_launch_phase_limits" in decision["message"] and P in decision["message"]


def test_no_limits_no_end():
    assert decide({H: at_phase("loading", "3/163", 1e6)}, [H], [H], 10, 3600, KNOWN) is None
    assert decide({H: at_phase("loading", "3/163", 1e6)}, [H], [H], 10, 3600, KNOWN, "en", {"starting": 1}) is None


def test_a_stuck_node_s_log_says_why():
    states = {H: at_phase("loading", "", 201.0, telling=[SOCKET]), P: at_phase("loading", "", 201.0, telling=[NIC])}
    lines = decide(states, [H, P], [H], 10, 3600, KNOWN, "en", LIMITS)["message"].splitlines()
    assert lines[0] == ("a2-node0 has made no progress for 201 s while loading weights; the limit of this phase is 200 s. "
                        "a2-node0: loading weights; a2-node1: loading weights")
    assert lines[1].startswith("Remedy: see what it does (docker logs on a2-node0)") and lines[1].endswith("there loading.")
    assert lines[2].startswith("In the log of a2-node1: Cause: The network interface eth9") and lines[3:] == ["The lines behind it:", NIC]
    late = decide(states, [H, P], [H], 3600, 3600, KNOWN, "en", LIMITS)["message"].splitlines()
    assert late[0].startswith("no completion within 3600 s. ") and late[1:] == lines[2:]


def test_what_an_idle_node_is_measured_by():
    watch, shard = Watch(), {"phase": "loading", "step": "1/9"}
    states = [watch.state(dict(RUNS, startup=startup, telling=telling), now) for now, startup, telling in [
        (10.0, None, ["a"]), (15.0, shard, ["a", "b"]), (20.0, shard, []), (25.0, None, None),
        # At some log levels two phases take turns; neither of them gets further.
        (30.0, {"phase": "waiting", "step": "0 local, 1 remote"}, []), (35.0, shard, []), (40.0, {"phase": "waiting", "step": "0 local, 1 remote"}, []),
        # The draft model's shards are counted from the beginning again.
        (45.0, {"phase": "loading", "step": "0/9"}, []),
    ]]
    assert [state["progressed"] for state in states] == [10.0, 15.0, 15.0, 15.0, 30.0, 30.0, 30.0, 45.0]
    assert [state["startup"] for state in states[:4]] == [None, shard, shard, shard]
    assert [state["at"] for state in states] == [10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0]
    assert states[-1]["telling"] == ["a", "b"] and states[-1]["since"] is None and states[-1]["misses"] == 0


def test_what_a_watcher_remembers_of_misses_and_of_an_exit():
    watch = Watch()
    shard = {"phase": "loading", "step": "1/9"}
    watch.state(dict(RUNS, startup=shard, telling=[NIC]), 1.0)
    silent = {"phase": "unreachable", "error": "x"}
    assert [(state["misses"], state["missed"]) for state in (watch.state(silent, now) for now in (2.0, 3.0))] == [(1, 2.0), (2, 2.0)]
    gone = watch.state(dict(exited(1), telling=["b"]), 4.0)
    assert (gone["misses"], gone["missed"], gone["since"], gone["startup"], gone["telling"]) == (0, None, 4.0, shard, [NIC, "b"])
    assert watch.state(silent, 5.0)["missed"] == 5.0
    assert watch.state(exited(1), 9.0)["since"] == 4.0
    huge = watch.state(dict(exited(1), telling=[f"{number} " + "x" * 700 for number in range(1000)]), 10.0)["telling"]
    assert huge[0] == NIC and sum(map(len, huge)) < 100000


@pytest.mark.parametrize("limits, words", [
    ({}, None), (LIMITS, None), ({"loading": 0.5}, None),
    ({"pulling": 5}, "the phase 'pulling'. Remedy: name phases of starting, loading, compiling, waiting, ready only"),
    ({"loading": 0}, "the phase loading the limit 0. Remedy"), ({"loading": "900"}, "the limit '900'. Remedy"),
    ({"loading": True}, "the limit True"), ({"loading": None}, "the limit None"), ({"loading": float("nan")}, "the limit nan"),
])
def test_limits_that_cannot_be_meant_are_refused(limits, words):
    found = limits_problem(limits)
    assert found is None if words is None else words in found


def test_every_word_of_the_wait_is_there_in_both_languages():
    from ansible_collections.ascend.vllm.plugins.plugin_utils import data

    entry = data.read_yaml(data.BUNDLED / "words" / "wait.yml")["wait"]
    # These two are signs of either language, and no words.
    texts = {key: value for key, value in entry["words"].items() if key not in ("between", "with_error")}
    assert [problem for key, value in texts.items() for problem in test_checks_data.text_problems(key, value, fills=True)] == []


STATE = st.one_of(st.none(), st.fixed_dictionaries(
    {"phase": st.sampled_from(["running", "ready", "exited", "absent", "unreachable"]), "misses": st.integers(0, 5), "missed": st.floats(-99, 0)},
    optional={"exit_code": st.integers(0, 255), "log": st.lists(st.text(max_size=8) | st.sampled_from([NIC, GONE, *TRACEBACK]), max_size=40),
              "error": st.none() | st.text(max_size=8), "last_line": st.text(max_size=8), "telling": st.lists(st.sampled_from([NIC, GONE, SOCKET])),
              "at": st.floats(0, 50), "since": st.none() | st.floats(0, 50), "progressed": st.floats(0, 50),
              "startup": st.none() | st.just({"phase": "loading", "step": "1/9"})}))


@settings(max_examples=300)
@given(st.lists(STATE, min_size=1, max_size=5), st.integers(0, 4), st.floats(0, 20), st.integers(1, 10))
def test_decide_never_calls_a_group_ready_that_is_not(found, at, elapsed, limit):
    hosts = [f"node{number}" for number in range(len(found))]
    head = hosts[at % len(hosts)]
    # Whoever posts, says when.
    states = {host: dict({"at": 0.0}, **state) for host, state in zip(hosts, found) if state}
    decision = decide(states, hosts, [head], elapsed, limit, KNOWN)
    phases = [state["phase"] if state else None for state in found]
    may_be_ready = states.get(head, {}).get("phase") == "ready" and set(phases) <= {"running", "ready"}
    dead = [host for host, phase in zip(hosts, phases) if phase == "exited"]
    gone = [host for host, state in states.items() if state["phase"] == "absent"
            or state["phase"] == "unreachable" and state["misses"] >= LOST_AFTER and state["at"] - state["missed"] >= LOST_S]
    if dead:
        seen = [state["since"] for state in states.values() if state.get("since") is not None]
        if decision is None:
            assert seen and max(state["at"] for state in states.values()) - min(seen) < HOLD_S
        else:
            assert decision["outcome"] == "failed" and decision["host"] in states
            assert any(f"the container on {host} exited" in decision["message"] for host in dead) and all(host in decision["message"] for host in dead)
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
    (RUNS, "starting"),
    (dict(RUNS, last_line=None), "starting"),
    (dict(RUNS, last_line="INFO 11-23 20:26:09 [core.py:77] Starting to load model /mnt/x"), "loading weights"),
    (dict(RUNS, last_line="x", error="/health says 200, but\n  a completion\tdid not come back"), "/health says 200, but a completion did not come back"),
    (dict(RUNS, error="e" * 500), "e" * 160),
    (exited(), "exited"),
    (lost(1, error="Connection\ntimed out"), "unreachable (Connection timed out)"),
    ({"phase": "absent"}, "absent"),
    (at_phase("loading", "81/163", last_line="WARNING hm"), "loading weights, shard 81 of 163"),
    (at_phase("compiling", "1/5"), "capturing graphs, 1 of 5"),
    (at_phase("waiting", "0 local, 2 remote"), "waiting for engines (0 local, 2 remote)"),
    (at_phase("waiting"), "waiting for the other engines"),
    (at_phase("ready", error="/health says 200, but"), "/health says 200, but"),
    (at_phase("ready"), "API up"),
    (at_phase(None, last_line="vLLM API server version 0.13.0"), "starting (vLLM API server version 0.13.0)"),
])
def test_summary_is_a_part_of_one_line(state, words):
    assert summary(state) == words


def test_summary_in_chinese():
    assert summary(at_phase("loading", "81/163"), "zh") == "加载权重，分片 81/163" and summary(None, "zh") == "尚未查询"
    assert summary(lost(1, error="timed out"), "zh") == "无法访问（timed out）"


@pytest.mark.parametrize("line, words", [
    ("(Worker_DP0_TP0 pid=9) Loading safetensors checkpoint shards:  50% Completed | 81/163 [02:06<02:01, 1.5s/it]", "loading weights, shard 81 of 163"),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/163 [00:00<?, ?it/s]", "loading weights, shard 0 of 163"),
    ("(EngineCore_DP0 pid=72) INFO 11-23 20:26:09 [default_loader.py:308] Loading weights took 61.5 seconds", "loading weights"),
    ("(APIServer pid=1) DEBUG 11-23 20:26:09 [utils.py:862] Waiting for 2 local, 2 remote core engine proc(s) to start.",
     "waiting for engines (2 local, 2 remote)"),
    ("Capturing CUDA graphs (decode, FULL):  20%|##        | 1/5", "capturing graphs, 1 of 5"),
    ("INFO 11-23 20:26:09 [model_runner.py:1] Graph capturing finished in 7 secs", "compiling"),
    ("INFO 11-23 20:26:09 [backends.py:5] Dynamo bytecode transform time: 9.60 s", "compiling"),
    ("INFO 11-23 20:26:09 [monitor.py:34] torch.compile takes 20.1 s in total", "compiling"),
    ("INFO 11-23 20:26:09 [backends.py:5] Compiling a graph for dynamic shape takes 10 s", "compiling"),
    ("INFO:     Application startup complete.", "API up"),
    # The line that prints the whole configuration is about no phase.
    ("(EngineCore_DP0 pid=72) INFO 11-23 20:26:09 [core.py:77] Initializing a V1 LLM engine with config: compilation_config={'mode': 0}",
     "starting (Initializing a V1 LLM engine with config: compilation_config={'mode': 0})"),
    ("(APIServer pid=1) INFO 11-23 20:26:09 [api_server.py:1772] vLLM API server version 0.13.0", "starting (vLLM API server version 0.13.0)"),
    ("(EngineCore_DP0 pid=1) (Worker pid=3, ip=198.51.100.12) WARNING 11-23 20:26:09 [x.py:1] hm", "starting (hm)"),
    ("(EngineCore_DP0 pid=1) ", "starting"),
    ("ValueError: boom", "starting (ValueError: boom)"),
    ("INFO", "starting (INFO)"),
    ("", "starting"),
    ("y" * 300, "starting (" + "y" * 100 + ")"),
])
def test_phrase(line, words):
    assert phrase(line, WORDS) == words


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
