# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole group of watches, simulated second by second: clocks, engines, threads and the network are the test's own.

The last tests run two watches with real sockets, real files and engines on unix sockets.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import group_watch, watch_wire
from ansible_collections.ascend.vllm.plugins.module_utils.group_watch import (
    ABSENT, ANSWERED, BUSY, FAILED, FOREIGN, GIVEN_UP, RUNNING, SERVING, STARTING, STOPPED, STOPPING, WAITING, Head, Peer, Seen, Watch,
)
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, free_port, quiet_proxies, unix_server, web_server

KEY = b"0123456789abcdef0123456789abcdef"
EPOCH = 1764000000
TIMES = {
    "lost_s": 20, "ready_timeout_s": 600, "probe_s": 30, "probe_timeout_s": 60, "backoff_s": 10, "backoff_limit_s": 300, "starts": 5, "window_s": 3600,
    "stable_s": 600, "stop_timeout_s": 60,
}


class Engine:
    """A Docker engine with one container; C(stop_s) is how long that takes to end."""

    def __init__(self, world, name, group="vllm"):
        self.world, self.name, self.group = world, name, group
        self.there, self.up, self.exit_code, self.runs = True, False, 0, 0
        self.broken, self.start_error = False, None
        self.asked, self.generation = [], None

    def inspect(self):
        """Return the container as the engine shows it."""
        state = {"Running": self.up, "ExitCode": self.exit_code, "StartedAt": "run-%d" % self.runs}
        return {"Id": "id-" + self.name, "State": state, "Config": {"Labels": {"ascend.vllm.group": self.group}}}

    def container(self, name):
        """Answer a look."""
        if self.broken:
            raise OSError("no engine")
        assert name == self.name
        return self.inspect() if self.there else None

    def start(self, name):
        """Start it as an operator could."""
        assert name == "id-" + self.name
        self.asked.append("start")
        if self.start_error:
            raise OSError(self.start_error)
        self.run()

    def run(self):
        """Let it run, whoever asked for it."""
        if not self.up:
            self.up, self.runs = True, self.runs + 1
            self.world.started.append((self.world.now, self.name))

    def stop(self, name, timeout):
        """Stop it."""
        assert name == "id-" + self.name and timeout == 60
        self.asked.append("stop")
        self.up, self.exit_code = False, 0

    def die(self, exit_code=137):
        """Let its process die."""
        self.up, self.exit_code = False, exit_code


class Node:
    """A unit on its node: what outlives its watch and what does not."""

    def __init__(self, world, unit, head):
        self.world, self.unit, self.head = world, unit, head
        self.engine = Engine(world, unit)
        self.saved, self.watch, self.desk, self.key = None, None, None, KEY
        self.log, self.delays = [], {}

    def boot(self):
        """Start the watch."""
        config = dict(TIMES, unit=self.unit, group="vllm", asks=self.head or self.world.asks)
        world = self.world
        saved = json.loads(json.dumps(self.saved)) if self.saved else None
        own = {"engine": self.engine, "clock": lambda: world.now, "wall": lambda: EPOCH + world.now, "spawn": self.spawn, "keep": self.keep,
               "say": self.log.append}
        if self.head:
            self.watch = Watch(config, Head(config, saved, world.now, world.units[1:]), ask=world.complete, **own)
            self.desk = watch_wire.Desk(self.key, "vllm", world.units[1:], self.watch.hear)
        else:
            link = watch_wire.Link(self.key, "vllm", self.unit, lambda body, mac: world.carry(self, body, mac))
            self.watch = Watch(config, Peer(config, saved, world.now), talk=link.exchange, ask=lambda: world.rank_answers(self), **own)

    def spawn(self, run):
        """Run a start, a stop or a completion after as long as it takes here."""
        action = self.watch.hands.busy if self.watch.hands.done is None and self.watch.hands.busy else "probe"
        if action == "probe":
            self.world.probe(run)
            return
        generation = self.saved["generation"]

        def act():
            if action == "start":
                self.engine.generation = generation
            run()

        self.world.later(self.delays.get(action, 1), act)

    def keep(self, record):
        """Be the disk."""
        self.saved = record

    def halt(self):
        """End the watch as a crash of it does: the container stays as it is."""
        self.watch = self.desk = None

    def power_off(self):
        """Take the node down."""
        self.halt()
        self.engine.die(137)

    @property
    def member(self):
        """Return what decides."""
        return self.watch.member


class World:
    """A group of nodes, a network between them and a clock. C(asks): whether each unit answers by itself, as the ranks of prefill and decode do."""

    def __init__(self, peers=1, asks=False):
        self.asks, self.silent, self.slow = asks, set(), {}
        self.now, self.queue, self.started = 0.0, [], []
        self.units = ["vllm-rank%d" % number for number in range(peers + 1)]
        self.nodes = [Node(self, unit, unit == self.units[0]) for unit in self.units]
        self.head, self.peers = self.nodes[0], self.nodes[1:]
        self.cut, self.hanging, self.answer, self.recorded = set(), False, None, []
        self.load_s = 40

    def boot(self):
        """Start all watches."""
        for node in self.nodes:
            node.boot()

    def later(self, seconds, run):
        """Run a function when its time has come."""
        self.queue.append((self.now + seconds, run))

    def probe(self, run):
        """A completion takes a second, or a minute when the engines hang."""
        self.later(60 if self.hanging else 1, run)

    def complete(self):
        """Answer a completion as the engines do."""
        if self.answer:
            return self.answer
        if self.hanging:
            return FAILED, "timed out"
        together = all(node.engine.up for node in self.nodes)
        loaded = together and self.now - max(moment for moment, name in self.started) >= self.load_s
        return (ANSWERED, "") if loaded else (FAILED, "connection refused")

    def rank_answers(self, node):
        """Answer what a unit is asked by its own watch."""
        assert self.asks, "a headless unit has no API"
        if node.unit in self.silent or not node.engine.up:
            return FAILED, "connection refused"
        loaded = self.now - max(moment for moment, name in self.started if name == node.unit) >= self.slow.get(node.unit, self.load_s)
        return (ANSWERED, "") if loaded else (FAILED, "connection refused")

    def carry(self, node, body, mac):
        """Bring a message to the head."""
        if self.head.desk is None or node.unit in self.cut:
            raise OSError("no route")
        self.recorded.append((body, mac))
        return self.head.desk.handle(body, mac)

    def run(self, seconds):
        """Let time pass; everybody looks every two seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            due, self.queue = [run for moment, run in self.queue if moment <= self.now], [entry for entry in self.queue if entry[0] > self.now]
            for run in due:
                run()
            for number, node in enumerate(self.nodes):
                if node.watch and (self.now + number) % 2 == 0:
                    node.watch.tick()

    def until(self, phase, limit=2000):
        """Let time pass until the head says a phase; return how long it took."""
        before = self.now
        while self.head.member.answer()["phase"] != phase:
            self.run(1)
            assert self.now - before < limit, (self.head.log, self.phase)
        return self.now - before

    @property
    def phase(self):
        """Return the head's phase."""
        return self.head.member.phase

    @property
    def up(self):
        """Return which containers run."""
        return [node.engine.up for node in self.nodes]

    def serving(self):
        """Return whether all run for one generation, and the head says that it serves."""
        return self.phase == SERVING and all(self.up) and len({node.member.generation for node in self.nodes}) == 1

    def never_half(self, seconds):
        """Let time pass; nobody may be started while another one still runs of an earlier start."""
        for dummy in range(int(seconds)):
            before = len(self.started)
            self.run(1)
            generations = {node.engine.generation for node in self.nodes if node.engine.up}
            assert len(self.started) == before or len(generations) == 1, self.started


@pytest.fixture(params=[1, 3], ids=["a pair", "four nodes"])
def world(request):
    """A group whose watches have just begun, on nodes that have just booted."""
    made = World(request.param)
    made.boot()
    return made


@pytest.fixture
def served(world):
    """A group that serves."""
    world.until(SERVING)
    world.run(2)
    assert world.serving()
    return world


@pytest.fixture
def ranks():
    """Three ranks that answer by themselves and serve."""
    made = World(2, asks=True)
    made.boot()
    made.until(SERVING)
    made.run(2)
    return made


def test_ranks_that_answer_by_themselves_serve_when_each_has_answered():
    world = World(2, asks=True)
    world.slow["vllm-rank2"] = 200
    world.boot()
    world.until(STARTING)
    world.run(120)
    assert world.phase == STARTING and world.head.saved["waits_for"] == "no answer of vllm-rank2 yet"
    assert 60 < world.until(SERVING) < 120
    world.run(2)
    assert world.serving() and [node.engine.runs for node in world.nodes] == [1, 1, 1]


def test_a_rank_that_never_answers_ends_the_start_with_its_name():
    world = World(2, asks=True)
    world.silent.add("vllm-rank1")
    world.boot()
    world.until(STARTING)
    world.until(STOPPING)
    assert world.head.member.reason == "no answer of vllm-rank1 within 600 s"


@pytest.mark.parametrize("who", [0, 2])
def test_a_rank_that_stops_answering_restarts_the_group(ranks, who):
    world, generation = ranks, ranks.head.member.generation
    if who:
        world.silent.add("vllm-rank2")
    else:
        world.answer = FAILED, "connection refused"
    world.run(25)
    # Once is not enough.
    assert world.phase == SERVING and all(world.up)
    world.until(STOPPING, 60)
    said = "2 completions in a row failed: connection refused"
    assert world.head.member.reason == (f"vllm-rank2: {said}" if who else said) and world.head.member.generation > generation
    world.silent, world.answer = set(), None
    world.never_half(200)
    assert world.serving() and [node.engine.runs for node in world.nodes] == [2, 2, 2]


def test_a_rank_that_is_busy_or_answers_again_is_left_alone(ranks):
    for seconds in (31, 29, 31, 29):
        ranks.silent.symmetric_difference_update({"vllm-rank1"})
        ranks.run(seconds)
    ranks.silent.clear()
    ranks.rank_answers = lambda node: (BUSY, "timed out")
    ranks.run(300)
    assert ranks.serving() and [node.engine.runs for node in ranks.nodes] == [1, 1, 1]


def test_the_watch_of_a_rank_that_is_restarted_asks_it_again(ranks):
    ranks.nodes[2].halt()
    ranks.run(5)
    ranks.silent.add("vllm-rank2")
    ranks.nodes[2].boot()
    ranks.until(STOPPING, 120)
    assert ranks.head.member.reason == "vllm-rank2: 2 completions in a row failed: connection refused"


def test_a_headless_unit_is_asked_nothing(pair):
    pair.run(120)
    assert pair.serving() and pair.head.member.reports["vllm-rank1"]["answered"] is None


@pytest.fixture
def pair():
    """A pair that serves."""
    made = World(1)
    made.boot()
    made.until(SERVING)
    made.run(2)
    return made


def test_after_a_boot_everybody_starts_together(world):
    assert world.until(STARTING) <= 10
    generation = world.head.member.generation
    assert generation >= EPOCH and world.until(SERVING) < 60
    world.run(2)
    assert world.serving() and [node.engine.asked for node in world.nodes] == [["start"]] * len(world.nodes)
    assert {node.saved["generation"] for node in world.nodes} == {generation}
    assert world.peers[0].saved["phase"] == SERVING and world.peers[0].saved["container_id"] == "id-vllm-rank1"


def test_a_group_of_one_needs_nobody():
    world = World(0)
    world.boot()
    world.until(SERVING)
    world.head.engine.die(1)
    world.run(100)
    assert world.serving() and world.head.engine.runs == 2


@pytest.mark.parametrize("who", [0, 1])
def test_an_engine_that_takes_long_to_start_is_waited_for(world, who):
    world.nodes[who].delays["start"] = 15
    world.until(SERVING, 100)
    world.run(30)
    assert world.serving() and all(node.engine.asked == ["start"] for node in world.nodes)


def starting_head():
    """Return a head and its generation, in the middle of a start of a pair."""
    head = Head(TIMES_OF_ONE, None, 0.0, ["vllm-rank1"])
    off, up = Seen(STOPPED, "a", None, ""), Seen(RUNNING, "a", "t", "")
    assert head.step(0.0, EPOCH, off, None) == []
    head.hear(1.0, "vllm-rank1", {"generation": head.generation, "container": STOPPED, "started": False})
    assert head.step(2.0, EPOCH + 2, off, None) == ["start"] and head.step(4.0, EPOCH + 4, up, None) == []
    return head, head.generation, up


TIMES_OF_ONE = dict(TIMES, unit="vllm-rank0", group="vllm")


def test_a_peer_that_left_in_the_middle_of_a_start_ends_it():
    """It must not begin again alone what the others are in the middle of."""
    head, generation, up = starting_head()
    head.hear(5.0, "vllm-rank1", {"generation": None, "container": STOPPED, "started": False})
    assert head.step(6.0, EPOCH + 6, up, None) == ["stop"] and head.generation > generation
    assert head.reason == "vllm-rank1 is not of this start any more"


def test_a_completion_of_an_earlier_start_proves_nothing():
    head, generation, up = starting_head()
    head.step(6.0, EPOCH + 6, up, None, probe=(generation - 1, ANSWERED, ""))
    assert head.phase == STARTING
    head.step(8.0, EPOCH + 8, up, None, probe=(generation, ANSWERED, ""))
    assert head.phase == SERVING


def test_the_head_waits_for_the_last_peer_and_says_for_whom(world):
    world.peers[-1].halt()
    world.run(300)
    assert world.phase == WAITING and world.up == [False] * len(world.nodes)
    assert world.head.saved["waits_for"] == world.units[-1] + " is not heard"
    world.peers[-1].boot()
    world.until(SERVING, 100)


@pytest.fixture
def launched():
    """A function (peers, **changes of the head's state) -> a group that a playbook launched: containers run, state files name them, no watch yet."""

    def make(peers=1, **changes):
        made = World(peers)
        for node in made.nodes:
            node.engine.run()
            node.saved = {"generation": 7, "phase": SERVING, "started": True, "container_id": "id-" + node.unit, "started_at": "run-1"}
        made.head.saved.update(changes)
        return made

    return make


@pytest.mark.parametrize("peers", [1, 3])
def test_a_running_group_is_adopted(launched, peers):
    world = launched(peers)
    world.now = 1000.0
    world.boot()
    world.run(200)
    assert world.serving() and {node.member.generation for node in world.nodes} == {7}
    assert [node.engine.asked for node in world.nodes] == [[]] * (peers + 1)


def test_services_that_begin_a_while_apart_adopt_too(launched):
    world = launched(3)
    world.now = 1000.0
    for node in reversed(world.nodes):
        node.boot()
        world.run(13)
    world.run(100)
    assert world.serving() and all(node.engine.asked == [] for node in world.nodes)


@pytest.mark.parametrize("changes", [{"container_id": "another"}, {"started_at": "run-0"}, {"generation": None}, {"generation": True}, {"container_id": None}])
def test_another_run_of_the_container_is_not_adopted(launched, changes):
    world = launched(1, **changes)
    world.now = 1000.0
    world.boot()
    world.never_half(100)
    assert world.serving() and world.head.member.generation >= EPOCH
    assert [node.engine.asked for node in world.nodes] == [["stop", "start"]] * 2


def test_a_watch_that_is_restarted_changes_nothing(served):
    before = [node.engine.runs for node in served.nodes]
    for node in served.nodes:
        node.halt()
        served.run(5)
        node.boot()
        served.run(30)
    assert served.serving() and [node.engine.runs for node in served.nodes] == before


def test_a_watch_that_is_restarted_while_the_group_starts_goes_on_waiting(world):
    world.until(STARTING)
    world.run(6)
    for node in world.nodes:
        node.halt()
        node.boot()
    assert world.until(SERVING) < 60
    assert all(node.engine.runs == 1 for node in world.nodes)


@pytest.mark.parametrize("who", [0, 1])
def test_an_exit_stops_the_group_and_all_start_again(served, who):
    generation = served.head.member.generation
    served.nodes[who].engine.die(1)
    served.run(6)
    assert served.phase in (STOPPING, WAITING) and served.head.member.generation > generation
    assert served.head.member.reason == "vllm-rank%d exited with status 1" % who
    served.run(4)
    assert not any(served.up)
    served.never_half(100)
    assert served.serving() and all(node.engine.runs == 2 for node in served.nodes)


@pytest.mark.parametrize("who", [0, 1])
def test_an_exit_in_the_middle_of_a_start_is_not_answered_by_a_start_alone(world, who):
    world.until(STARTING)
    world.run(10)
    assert all(world.up)
    world.nodes[who].engine.die(1)
    world.run(12)
    assert not any(world.up) and world.nodes[who].engine.asked == ["start"]
    world.never_half(120)
    assert world.serving() and world.nodes[who].engine.asked == ["start", "start"]


def test_a_slow_stop_is_waited_for(served):
    slow = served.peers[-1]
    slow.delays["stop"] = 55
    served.head.engine.die(1)
    served.never_half(40)
    assert served.up == [False] * (len(served.nodes) - 1) + [True]
    assert slow.engine.asked == ["start"] and served.head.saved["waits_for"] == slow.unit + " is not stopped yet"
    served.until(SERVING)
    # The peer went on reporting while it stopped: it was one failure, not two.
    assert len(served.head.member.starts) == 2 and slow.engine.asked == ["start", "stop", "start"]


def test_a_peer_that_is_cut_off_stops_and_comes_back(served):
    lost = served.peers[-1]
    served.cut.add(lost.unit)
    served.run(16)
    assert served.serving()
    served.run(10)
    assert not any(served.up)
    assert served.head.member.reason == lost.unit + " has not been heard for 21 s" and lost.member.generation is None
    assert "the head does not answer: no route" in lost.log and lost.saved["reason"].startswith("the head has not answered for")
    served.run(500)
    assert not any(served.up) and len(served.head.member.starts) == 1
    served.cut.clear()
    served.never_half(60)
    assert served.serving()


def test_a_short_cut_is_borne(served):
    served.cut.update(served.units)
    served.run(14)
    served.cut.clear()
    served.run(100)
    assert served.serving() and all(node.engine.runs == 1 for node in served.nodes)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("away", [5, 120])
def test_a_node_that_reboots_takes_the_group_down_and_back(served, who, away):
    node = served.nodes[who]
    node.power_off()
    served.run(away)
    if away > 30:
        # Nobody else goes on alone.
        assert not any(served.up)
    node.boot()
    served.never_half(120)
    assert served.serving() and all(entry.engine.runs == 2 for entry in served.nodes)


def test_all_nodes_lose_power(served):
    generation = served.head.member.generation
    for node in served.nodes:
        node.power_off()
    served.run(60)
    served.boot()
    served.until(SERVING)
    assert served.head.member.generation > generation


def test_a_generation_only_grows_even_if_the_clock_went_back(pair):
    pair.head.saved["generation"] = EPOCH + 10 ** 6
    for node in pair.nodes:
        node.power_off()
    pair.boot()
    pair.until(SERVING)
    assert pair.head.member.generation == EPOCH + 10 ** 6 + 1


def test_completions_that_hang_stop_the_group(served):
    served.hanging = True
    served.run(62)
    assert served.phase == SERVING
    # A question every 30 s that waits 60 s, twice.
    served.run(110)
    assert served.head.member.reason == "2 completions in a row failed: timed out"
    served.hanging = False
    served.until(SERVING)
    assert all(node.engine.runs == 2 for node in served.nodes)


def test_one_completion_that_fails_is_borne(pair):
    for dummy in range(5):
        pair.answer = FAILED, "HTTP 500"
        pair.run(30)
        pair.answer = None
        pair.run(60)
    assert pair.serving() and pair.head.engine.runs == 1


def test_a_group_that_is_busy_is_left_alone(pair):
    pair.answer = BUSY, "timed out"
    pair.run(1000)
    assert pair.serving() and pair.head.engine.runs == 1


def test_completions_that_fail_while_the_group_starts_are_no_failure_but_the_time_is_limited(world):
    world.load_s = 10 ** 6
    world.until(STARTING)
    world.run(590)
    assert world.phase == STARTING and world.head.saved["waits_for"] == "no completion yet"
    world.run(20)
    assert world.phase != STARTING and world.head.member.reason == "no completion within 600 s"


NO_CA = "no file /etc/ascend-vllm/ca.pem"


def test_a_start_of_which_nothing_can_be_known_is_said_and_not_ended(pair):
    pair.peers[0].engine.die()
    pair.answer = BUSY, NO_CA
    pair.until(STARTING)
    pair.run(1000)
    assert pair.phase == STARTING and all(pair.up) and pair.head.engine.runs == 2
    assert pair.head.saved["waits_for"] == f"no completion ({NO_CA}) yet" and len([line for line in pair.head.log if NO_CA in line]) == 2
    # Once it can be asked, its answers count.
    pair.answer = FAILED, "HTTP 500"
    pair.run(10)
    assert pair.phase != STARTING and pair.head.member.reason == "no completion within 600 s"
    pair.answer = None
    pair.until(SERVING)


def test_a_rank_that_its_node_cannot_ask_is_said_by_the_head(ranks):
    ranks.nodes[1].engine.die()
    ranks.until(STARTING)
    answers = ranks.rank_answers
    ranks.rank_answers = lambda node: (BUSY, NO_CA) if node.unit == "vllm-rank2" else answers(node)
    ranks.run(1000)
    assert ranks.phase == STARTING and ranks.head.saved["waits_for"] == f"no answer of vllm-rank2 ({NO_CA}) yet"
    assert [line for line in ranks.nodes[2].log if NO_CA in line] == [f"a completion did not come back (busy): {NO_CA}"]
    # What is known of another one ends the start.
    ranks.silent.add("vllm-rank1")
    ranks.nodes[1].engine.die()
    ranks.until(STOPPING)
    ranks.until(STARTING)
    ranks.run(700)
    assert ranks.head.member.reason == "no answer of vllm-rank1 within 600 s"


def test_what_an_operator_has_to_mend_is_logged_of_a_group_that_serves(pair):
    pair.answer = BUSY, NO_CA
    pair.run(300)
    assert pair.serving() and f"a completion did not come back (busy): {NO_CA}" in pair.head.log


def starts_of_head(world):
    """Return the seconds between the head's starts."""
    moments = [moment for moment, name in world.started if name == world.units[0]]
    return [int(later - earlier) for earlier, later in zip(moments, moments[1:])]


def crash(world):
    """Let the head's container die, and wait until the group starts again."""
    world.run(4)
    world.head.engine.die(1)
    world.run(4)
    assert world.phase != STARTING
    world.until(STARTING)


def test_quick_crashes_wait_longer_each_time_and_end(pair):
    pair.run(700)
    assert pair.head.member.starts == []
    for dummy in range(5):
        crash(pair)
    pair.run(4)
    waits = starts_of_head(pair)[-4:]
    assert [10 * 2 ** number <= wait <= 10 * 2 ** number + 14 for number, wait in enumerate(waits, 1)] == [True] * 4, waits
    pair.head.engine.die(1)
    pair.run(10)
    assert pair.phase == GIVEN_UP
    assert pair.head.saved["reason"] == "5 starts in a row came to nothing, the last one: vllm-rank0 exited with status 1"
    pair.run(5000)
    assert pair.phase == GIVEN_UP and pair.up == [False, False]
    assert pair.peers[0].saved["phase"] == GIVEN_UP and pair.peers[0].saved["reason"] == pair.head.saved["reason"]


def test_who_has_given_up_stays_so_over_a_restart_for_an_hour(pair):
    test_quick_crashes_wait_longer_each_time_and_end(pair)
    pair.head.saved["starts"] = [EPOCH + pair.now - 100] * 5
    pair.head.halt()
    pair.head.boot()
    pair.run(100)
    assert pair.phase == GIVEN_UP and pair.head.saved["reason"].endswith("the last one: vllm-rank0 exited with status 1")
    pair.run(3600)
    pair.head.halt()
    pair.head.boot()
    pair.until(SERVING)


def test_the_back_off_has_a_limit(pair):
    pair.head.member.config.update(starts=100)
    for dummy in range(8):
        crash(pair)
    assert 300 <= starts_of_head(pair)[-1] <= 314


def test_starts_that_take_longer_than_any_window_come_to_an_end_too(pair):
    pair.load_s = 10 ** 6
    pair.head.engine.die(1)
    pair.until(GIVEN_UP, 5000)
    assert len(pair.head.member.starts) == 5


def test_serving_for_a_while_forgets_earlier_starts(served):
    served.head.engine.die(1)
    served.until(STARTING)
    served.until(SERVING)
    assert len(served.head.member.starts) == 2
    served.run(590)
    assert len(served.head.member.starts) == 2
    served.run(20)
    assert served.head.member.starts == []


@pytest.mark.parametrize("who", [0, 1])
def test_a_strangers_container_is_never_touched(world, who):
    stranger = world.nodes[who].engine
    stranger.group = "another"
    stranger.run()
    world.run(300)
    assert stranger.asked == [] and stranger.up and world.phase == WAITING
    assert world.head.saved["waits_for"] == "vllm-rank%d has not the label ascend.vllm.group=vllm" % who


@pytest.mark.parametrize("who", [0, 1])
def test_a_container_that_is_gone_is_waited_for(served, who):
    engine = served.nodes[who].engine
    engine.there, engine.up = False, False
    served.run(100)
    assert not any(served.up) and served.head.saved["waits_for"] == "vllm-rank%d is not there" % who
    assert served.head.member.reason == "vllm-rank%d is not there" % who and len(served.head.member.starts) == 1
    engine.there = True
    served.until(SERVING)


@pytest.mark.parametrize("who", [0, 1])
def test_a_start_that_the_engine_refuses_names_the_reason(world, who):
    engine = world.nodes[who].engine
    engine.start_error = "answered 500: no such device"
    world.until(STARTING)
    world.run(8)
    assert world.head.member.reason == "vllm-rank%d could not be started: answered 500: no such device" % who
    engine.start_error = None
    world.until(SERVING)


@pytest.mark.parametrize("who", [0, 1])
def test_a_container_that_somebody_else_restarted_is_no_member(served, who):
    engine = served.nodes[who].engine
    engine.die(0)
    engine.run()
    served.run(8)
    assert "somebody else" in served.head.member.reason or "not started by its watch" in served.head.member.reason
    served.until(SERVING)
    assert served.nodes[who].engine.runs == 3


@pytest.mark.parametrize("who", [0, 1])
def test_an_engine_that_does_not_answer_proves_nothing(served, who):
    served.nodes[who].engine.broken = True
    served.run(200)
    assert served.phase == SERVING and all(served.up)
    served.nodes[who].engine.broken = False
    served.run(100)
    assert served.serving() and all(node.engine.runs == 1 for node in served.nodes)


def test_a_head_that_does_not_know_yet_starts_nobody(pair):
    for node in pair.nodes:
        node.power_off()
    pair.head.saved["phase"] = STARTING
    pair.head.engine.broken = True
    pair.boot()
    pair.run(30)
    assert pair.head.member.answer()["phase"] == WAITING and pair.up == [False, False]
    pair.head.engine.broken = False
    pair.until(SERVING)


@pytest.mark.parametrize("who", [0, 1])
def test_a_watch_that_crashed_between_its_note_and_its_start_begins_anew(pair, who):
    generation = pair.head.member.generation
    pair.nodes[who].saved.update(container_id=None, started_at=None)
    pair.nodes[who].halt()
    pair.nodes[who].boot()
    pair.never_half(120)
    assert pair.serving() and pair.head.member.generation > generation and all(node.engine.runs == 2 for node in pair.nodes)


#: What happens to nodes, by name.
ACCIDENTS = {
    "exit": lambda world, node, dice: node.engine.die(1),
    "watch dies": lambda world, node, dice: node.halt(),
    "watch begins": lambda world, node, dice: node.watch or node.boot(),
    "power off": lambda world, node, dice: node.power_off(),
    "cut": lambda world, node, dice: world.cut.add(node.unit),
    "joined": lambda world, node, dice: world.cut.discard(node.unit),
    "engine": lambda world, node, dice: setattr(node.engine, "broken", not node.engine.broken),
    "hang": lambda world, node, dice: setattr(world, "hanging", not world.hanging),
    "slow": lambda world, node, dice: node.delays.update(stop=dice.choice([1, 50]), start=dice.choice([1, 15])),
}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_there_is_never_half_a_group_and_it_comes_back(seed, monkeypatch):
    monkeypatch.setitem(TIMES, "starts", 1000)
    monkeypatch.setitem(TIMES, "backoff_limit_s", 20)
    dice = random.Random(seed)
    world = World(dice.choice([1, 2, 3]))
    world.boot()
    world.until(SERVING)
    for dummy in range(25):
        ACCIDENTS[dice.choice(sorted(ACCIDENTS))](world, dice.choice(world.nodes), dice)
        world.never_half(dice.randint(1, 60))
    world.cut.clear()
    world.hanging = False
    for node in world.nodes:
        node.engine.broken = False
        node.delays.clear()
        ACCIDENTS["watch begins"](world, node, dice)
    world.never_half(400)
    assert world.serving()


def test_a_full_disk_stops_nobody(pair):
    def full(record):
        raise OSError("No space left on device")

    pair.head.watch.keep = full
    pair.head.engine.die(1)
    pair.until(STARTING)
    pair.until(SERVING)
    assert "the state file cannot be written: No space left on device" in pair.head.log


def test_a_fake_head_is_refused(pair):
    fake = watch_wire.Desk(b"another key" * 4, "vllm", ["vllm-rank1"], lambda unit, report: {"generation": 1, "phase": STOPPING, "reason": ""})
    true, pair.head.desk = pair.head.desk, fake
    pair.run(10)
    assert "the head does not answer: the head answered HTTP 403: it has another key, or this unit is not of its group" in pair.peers[0].log
    # One that answers whatever it gets, signed with its own key.
    said = json.dumps({"generation": 1, "phase": STOPPING, "reason": "", "accepted": True, "nonce": "x", "challenge": "y"}).encode()
    fake.handle = lambda body, mac: (200, said, watch_wire.sign(fake.key, watch_wire.ANSWER, said))
    pair.run(6)
    assert "the head does not answer: an answer that was not signed by the head" in pair.peers[0].log
    assert pair.up == [True, True] and pair.peers[0].member.wanted == pair.head.member.generation
    # What it says is not believed, so it is as good as no head.
    pair.run(20)
    assert pair.peers[0].engine.up is False
    pair.head.desk = true
    pair.until(SERVING)


def exchange(report):
    """Return (desk, link, heard, said): one link to a desk, what the desk heard, and what went over the wire."""
    heard, said = [], []
    desk = watch_wire.Desk(KEY, "vllm", ["vllm-rank1"], lambda unit, found: heard.append((unit, found)) or {"generation": len(heard)})

    def post(body, mac):
        answer = desk.handle(body, mac)
        said.append((body, mac, answer))
        return answer

    link = watch_wire.Link(KEY, "vllm", "vllm-rank1", post)
    assert link.exchange(report)["generation"] == 1
    return desk, link, heard, said


def test_a_request_that_is_repeated_changes_nothing():
    desk, link, heard, said = exchange({"container": RUNNING})
    body, mac, dummy = said[-1]
    challenge = desk.challenges["vllm-rank1"]
    status, again, dummy = desk.handle(body, mac)
    assert status == 200 and json.loads(again)["accepted"] is False and "generation" not in json.loads(again)
    assert heard == [("vllm-rank1", {"container": RUNNING})] and desk.challenges["vllm-rank1"] == challenge
    # The next message of the true unit is taken at once.
    before = len(said)
    assert link.exchange({"container": STOPPED})["generation"] == 2 and len(said) == before + 1


def test_an_answer_that_is_repeated_is_refused():
    dummy, link, heard, said = exchange({})
    old = said[-1][2]
    link.post = lambda body, mac: old
    with pytest.raises(OSError, match="not signed by the head"):
        link.exchange({})


def test_a_request_is_no_answer():
    """The two directions are signed differently, so that what a peer says cannot be given back to another one."""
    dummy, link, heard, said = exchange({})
    link.post = lambda body, mac: (200, body, mac)
    with pytest.raises(OSError, match="not signed by the head"):
        link.exchange({})


@pytest.mark.parametrize("change", [
    {"group": "other"}, {"unit": "vllm-rank2"}, {"unit": ["vllm-rank1"]}, {"report": None}, {"report": [1]},
])
def test_what_is_not_of_the_group_is_refused(change):
    desk, dummy, heard, said = exchange({})
    body = json.dumps(dict(json.loads(said[-1][0]), challenge=desk.challenges["vllm-rank1"], **change)).encode()
    assert desk.handle(body, watch_wire.sign(KEY, watch_wire.REQUEST, body))[0] == 403 and len(heard) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_what_is_signed_but_no_message_is_refused(body):
    desk = watch_wire.Desk(KEY, "vllm", ["vllm-rank1"], None)
    assert desk.handle(body, watch_wire.sign(KEY, watch_wire.REQUEST, body)) == (403, b"", "")
    assert desk.handle(body, None)[0] == 403 and desk.handle(body, "\udce9")[0] == 403


def test_a_head_that_never_takes_a_message_is_no_head():
    def post(body, mac):
        said = json.dumps({"accepted": False, "challenge": "x", "nonce": json.loads(body)["nonce"]}).encode()
        return 200, said, watch_wire.sign(KEY, watch_wire.ANSWER, said)

    with pytest.raises(OSError, match="does not take the message"):
        watch_wire.Link(KEY, "vllm", "vllm-rank1", post).exchange({})


@pytest.mark.parametrize("answer", [{}, {"generation": "7", "phase": SERVING, "reason": ""}, {"generation": 7, "phase": None, "reason": ""}])
def test_an_answer_without_its_parts_is_none(pair, answer):
    peer = pair.peers[0].watch
    peer.talk = lambda report: dict(answer)
    peer.tick()
    assert peer.complained == "the head does not answer: an answer without generation, phase and reason"
    assert pair.peers[0].engine.asked == ["start"]


LABELLED = {"Config": {"Labels": {"ascend.vllm.group": "vllm"}}, "Id": "c0ffee"}


@pytest.mark.parametrize(("found", "wanted"), [
    (None, Seen(ABSENT, None, None, "is not there")),
    ({"Id": "c0ffee", "State": {"Running": True}, "Config": {"Labels": None}}, Seen(FOREIGN, None, None, "has not the label ascend.vllm.group=vllm")),
    (dict(LABELLED, State={"Running": True, "StartedAt": "t"}), Seen(RUNNING, "c0ffee", "t", "")),
    (dict(LABELLED, State={"Running": False, "StartedAt": "t", "ExitCode": 1, "Error": "no device"}),
     Seen(STOPPED, "c0ffee", None, "exited with status 1 (no device)")),
    (dict(LABELLED, State={"ExitCode": 137, "OOMKilled": True}), Seen(STOPPED, "c0ffee", None, "exited with status 137 (killed by the kernel: out of memory)")),
])
def test_look(found, wanted):
    class Answering:
        """An engine with one answer."""

        def container(self, name):
            """Answer."""
            return found

    assert group_watch.look(Answering(), "vllm-rank0", "vllm") == wanted


def metrics(tokens):
    """Return the metrics of a group that has computed so many tokens."""
    return 200, b"vllm:generation_tokens_total %d\n" % tokens


@pytest.mark.parametrize(("completion", "tokens", "wanted"), [
    ((200, {"choices": [{"text": " x"}]}), [1, 1], (ANSWERED, "")),
    ((500, b"dead"), [1, 1], (FAILED, "HTTP 500: dead")),
    ((500, b"dead"), [1, 2], (BUSY, "HTTP 500: dead")),
    ((401, b"who are you"), [1, 1], (BUSY, "HTTP 401: who are you")),
    (None, [5, 5], (FAILED, "timed out")),
    (None, [5, 6], (BUSY, "timed out")),
])
def test_ask_completion(completion, tokens, wanted, tmp_path, monkeypatch):
    quiet_proxies(monkeypatch)
    left = list(tokens)
    key = tmp_path / "api_key"
    key.write_text("k3y\n")

    def answer(asked):
        return metrics(left.pop(0)) if asked.path == "/metrics" else completion

    with web_server(answer) as server:
        # Short only for the answer that never comes.
        config = {"url": server.url, "model": "m", "api_key_file": str(key), "ca_file": None, "probe_timeout_s": 0.3 if completion is None else 20}
        assert group_watch.ask_completion(config) == wanted
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer k3y"}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("health", [200, 503])
def test_a_rank_that_computes_no_prompt_is_never_asked_for_a_completion(alone, health, monkeypatch):
    quiet_proxies(monkeypatch)

    def answer(asked):
        if asked.path == "/v1/completions":
            return 200, {"choices": [{"text": " x"}]}
        return metrics(1) if asked.path == "/metrics" else (health, b"unwell") if asked.path == "/health" else (200, {"data": [{"id": "m"}]})

    with web_server(answer) as server:
        outcome, detail = group_watch.ask_completion({"url": server.url, "model": "m", "probe_timeout_s": 5, "answers_alone": alone})
        asked = [asked.path for asked in server.asked if asked.path not in ("/metrics", "/health")]
    assert (outcome, asked) == ((ANSWERED, ["/v1/completions" if alone else "/v1/models"]) if health == 200 else (FAILED, []))
    assert detail.startswith("HTTP 503: ") == (health == 503)


def asking(server, **more):
    """Return what becomes of a completion."""
    return group_watch.ask_completion(dict({"url": server.url, "model": "m", "probe_timeout_s": 5}, **more))


@pytest.mark.parametrize(("pem", "vouching", "words"), [
    (certificates.SIGNED + certificates.SIGNED_KEY, certificates.OTHER, "a certificate that CA does not vouch for: "),
    (certificates.EXPIRED + certificates.SIGNED_KEY, certificates.EXPIRED, "a certificate that CA does not vouch for: certificate has expired"),
    (certificates.SIGNED + certificates.SIGNED_KEY, "", "this node cannot ask: CA is of no use: "),
    (certificates.SIGNED + certificates.SIGNED_KEY, None, "this node cannot ask: CA is of no use: No such file or directory"),
], ids=["another", "expired", "empty", "missing"])
def test_what_this_node_cannot_trust_says_nothing_against_the_group(pem, vouching, words, tmp_path, monkeypatch):
    quiet_proxies(monkeypatch)
    ca_file = tmp_path / "ca.pem"
    if vouching is not None:
        ca_file.write_text(vouching)
    with web_server(lambda asked: (200, {"choices": [{"text": " x"}]}), tls=pem) as server:
        outcome, detail = asking(server, ca_file=str(ca_file))
    assert outcome == BUSY and detail.startswith(words.replace("CA", str(ca_file)))


@pytest.mark.parametrize(("key", "words"), [
    (None, "this node cannot ask: KEY is of no use: No such file or directory"), (b"\xff", "this node cannot ask: KEY is of no use: "),
    (b"s3cret\nkey", "the question could not be sent: "), ("s3cr\u4e00t".encode(), "the question could not be sent: "),
], ids=["missing", "no-text", "two-lines", "not-for-a-header"])
def test_a_key_that_cannot_be_read_or_sent_says_nothing_against_the_group(key, words, tmp_path, monkeypatch):
    quiet_proxies(monkeypatch)
    path = tmp_path / "api_key"
    if key is not None:
        path.write_bytes(key)
    with web_server(lambda asked: (200, {"choices": [{"text": " x"}]})) as server:
        outcome, detail = asking(server, api_key_file=str(path))
        assert not server.asked
    assert outcome == BUSY and detail.startswith(words.replace("KEY", str(path))) and "s3cr" not in detail


@pytest.mark.parametrize(("counts", "wanted"), [
    ([None, 5, 6], BUSY), ([None, 5, 5], FAILED), ([None, None, 6], FAILED), ([None, 5, None], FAILED),
    # Metrics without the counter are no sign of load.
    (["", 5, 6], FAILED),
])
def test_metrics_that_are_late_before_a_completion_are_asked_for_twice_after_it(counts, wanted, monkeypatch):
    quiet_proxies(monkeypatch)
    monkeypatch.setattr(group_watch, "BETWEEN_S", 0.01)
    left = list(counts)

    def answer(asked):
        if asked.path == "/metrics":
            count = left.pop(0)
            return count if count is None else metrics(count) if count else (200, b"")
        return (200,) if asked.path == "/health" else None

    with web_server(answer) as server:
        assert asking(server, probe_timeout_s=0.5) == (wanted, "timed out")


def test_metrics_get_as_much_time_as_a_completion(monkeypatch):
    given = []
    monkeypatch.setattr(group_watch.Api, "load", lambda self, timeout=5.0: given.append(timeout) or (None, len(given)))
    monkeypatch.setattr(group_watch, "_asked", lambda api, config: (False, 500, "x"))
    assert group_watch.ask_completion({"url": "http://127.0.0.1:1", "model": "m", "probe_timeout_s": 60}) == (BUSY, "HTTP 500: x")
    assert given == [60, 60]


def test_ask_completion_of_nobody():
    config = {"url": "http://127.0.0.1:%d" % closed_port(), "model": "m", "probe_timeout_s": 1}
    outcome, detail = group_watch.ask_completion(config)
    assert outcome == FAILED and "refused" in detail


def test_a_call_beside_the_loop_that_breaks_is_an_error_and_one_at_a_time():
    queued = []
    beside = group_watch.Beside(queued.append)
    beside.begin("start", lambda: 1 // 0)
    beside.begin("stop", lambda: None)
    assert beside.busy == "start" and len(queued) == 1 and beside.take() is None
    queued[0]()
    assert beside.busy is None and beside.take() == ("start", None, "integer division or modulo by zero") and beside.take() is None


def test_the_state_file_is_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    keep = group_watch.keeper(str(path))
    keep({"generation": 1})
    keep({"generation": 2})
    assert group_watch.read_json(str(path)) == {"generation": 2} and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(str(tmp_path)) == ["state.json"]
    path.write_text("[1]")
    assert group_watch.read_json(str(path)) is None and group_watch.read_json(str(tmp_path / "none")) is None


class RealEngine:
    """A Docker engine on a unix socket that starts and stops its one container."""

    def __init__(self, name):
        self.name, self.up, self.runs, self.changes = name, False, 0, []

    def __call__(self, asked):
        """Answer one request."""
        if asked.path == "/containers/%s/json" % self.name:
            state = {"Running": self.up, "ExitCode": 0, "StartedAt": str(self.runs)}
            return 200, dict(LABELLED, State=state)
        if asked.method == "POST" and asked.path in ("/containers/c0ffee/start", "/containers/c0ffee/stop"):
            self.changes.append(asked.target.rpartition("/")[2])
            wanted = asked.path.endswith("start")
            if wanted == self.up:
                return (304,)
            self.up, self.runs = wanted, self.runs + wanted
            return (204,)
        return 404, {"message": "no"}


def soon(true, what, seconds=20):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_two_watches_over_real_sockets(tmp_path, monkeypatch, capsys):
    quiet_proxies(monkeypatch)
    monkeypatch.setattr(group_watch, "POLL_S", 0.05)
    monkeypatch.setattr(group_watch, "START_PROBE_S", 0.05)
    engines = [RealEngine("vllm-rank0"), RealEngine("vllm-rank1")]
    port, over = free_port(), threading.Event()
    (tmp_path / "watch.key").write_bytes(KEY + b"\n")

    def completion(asked):
        return (200, {"choices": [{"text": "x"}]}) if all(engine.up for engine in engines) else (500, b"alone")

    with unix_server(tmp_path / "0.sock", engines[0]), unix_server(tmp_path / "1.sock", engines[1]), web_server(completion) as api:
        threads = []
        for number, engine in enumerate(engines):
            config = dict(TIMES, unit=engine.name, group="vllm", head=number == 0, units=["vllm-rank1"], address="127.0.0.1", port=port, url=api.url, model="m",
                          key_file=str(tmp_path / "watch.key"), state_file=str(tmp_path / ("%d.json" % number)),
                          docker_socket=str(tmp_path / ("%d.sock" % number)), backoff_s=0, api_key_file=None, ca_file=None)
            (tmp_path / ("config%d.json" % number)).write_text(json.dumps(config))
            threads.append(threading.Thread(target=group_watch.run, args=(str(tmp_path / ("config%d.json" % number)), over), daemon=True))
            threads[-1].start()

        def phases():
            return [(group_watch.read_json(str(tmp_path / name)) or {}).get("phase") for name in ("0.json", "1.json")]

        soon(lambda: phases() == [SERVING, SERVING], "the start")
        assert [engine.changes for engine in engines] == [["start"], ["start"]]
        engines[1].up = False
        soon(lambda: [engine.runs for engine in engines] == [2, 2] and phases() == [SERVING, SERVING], "the second start")
        assert engines[0].changes == ["start", "stop?t=60", "start"] and engines[1].changes == ["start", "start"]
        over.set()
        for thread in threads:
            thread.join(10)
        assert all(engine.up for engine in engines)
    assert "stop vllm-rank0" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "config", "said"), [
    (KEY, "{", "run site.yml again"), (KEY, "{}", "run site.yml again"), (None, None, "run site.yml again"), (b"short", None, "is shorter than 32 characters"),
])
def test_a_configuration_that_is_of_no_use_ends_the_service_for_good(tmp_path, capsys, key, config, said):
    if key:
        (tmp_path / "watch.key").write_bytes(key)
    whole = dict(TIMES, unit="vllm-rank0", group="vllm", head=True, units=[], key_file=str(tmp_path / "watch.key"), state_file=str(tmp_path / "s.json"))
    (tmp_path / "watch.json").write_text(config or json.dumps(whole))
    assert group_watch.run(str(tmp_path / "watch.json"), threading.Event()) == 78
    assert said in capsys.readouterr().out


def test_the_head_waits_for_its_address(monkeypatch, capsys):
    monkeypatch.setattr(group_watch, "POLL_S", 0.01)
    over = threading.Event()
    threading.Timer(0.2, over.set).start()
    assert group_watch.listen({"address": "192.0.2.1", "port": free_port()}, None, over) is None
    assert capsys.readouterr().out.count("cannot listen on 192.0.2.1:") == 1


def test_the_watch_runs_by_the_standard_library_alone_and_ends_when_it_is_told_to(tmp_path):
    """As its service runs it: a tree with the files that the role copies, no site-packages, and SIGTERM at the end."""
    here = os.path.dirname(os.path.abspath(group_watch.__file__))
    tree = tmp_path / "ansible_collections" / "ascend" / "vllm" / "plugins" / "module_utils"
    tree.mkdir(parents=True)
    with open(os.path.join(here, "..", "..", "roles", "supervise", "tasks", "code.yml"), encoding="utf-8") as stream:
        installed = re.search(r"loop: \[(.*)\]", stream.read()).group(1).split(", ")
    for name in installed:
        with open(os.path.join(here, name), "rb") as stream:
            (tree / name).write_bytes(stream.read())
    (tmp_path / "watch.key").write_bytes(KEY)
    config = dict(TIMES, unit="vllm-rank0", group="vllm", head=True, units=[], key_file=str(tmp_path / "watch.key"), state_file=str(tmp_path / "state.json"),
                  docker_socket=str(tmp_path / "d.sock"))
    (tmp_path / "watch.json").write_text(json.dumps(config))
    command = [sys.executable, "-S", "-m", "ansible_collections.ascend.vllm.plugins.module_utils.group_watch", str(tmp_path / "watch.json")]
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    with unix_server(tmp_path / "d.sock", RealEngine("vllm-rank0")):
        with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            said = process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=20)[0]
    assert said.startswith(b"generation ") and b"starting" in said and process.returncode == 0, said + rest
    assert group_watch.read_json(str(tmp_path / "state.json"))["phase"] == STARTING
