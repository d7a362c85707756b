# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""drain_progress: when a slice ends, and the module with an nft of its own and an API on a real port."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import urllib.error

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import quiet
from ansible_collections.ascend.vllm.plugins.modules import drain_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

METRICS = "vllm:num_requests_running{engine=\"0\"} %d\nvllm:num_requests_waiting{engine=\"0\"} %d\nvllm:generation_tokens_total{engine=\"0\"} %d\n"
SECRET = "s3cret"


class Scripted:
    """An API that says one thing after the other, the last one for ever: (running, waiting, tokens), None for nothing known, or an error."""

    def __init__(self, script, takes=0.0):
        self.script, self.takes, self.now, self.looks = itertools.chain(script, itertools.repeat(script[-1])), takes, 100.0, 0

    def load(self):
        """Answer once."""
        self.looks, self.now, said = self.looks + 1, self.now + self.takes, next(self.script)
        if isinstance(said, Exception):
            raise said
        return ({"running": said[0], "waiting": said[1]}, said[2]) if said else (None, None)

    def pause(self, seconds):
        """Let time pass."""
        self.now += seconds


def watch(script, slice_s=5.0, takes=0.0):
    """Return (requests, tokens, drained, seconds, looks) of one slice."""
    api = Scripted(script, takes)
    requests, tokens, drained = quiet.watch(api, slice_s, clock=lambda: api.now, pause=api.pause)
    return requests and (requests["running"], requests["waiting"]), tokens, drained, round(api.now - 100, 2), api.looks


def test_nothing_there_for_a_while_is_the_end():
    assert watch([(0, 0, 7)]) == ((0, 0), 7, True, 3.0, 7)


def test_a_request_that_comes_late_or_was_computed_between_two_looks_is_seen():
    assert watch([(0, 0, 7)] * 4 + [(1, 0, 8)]) == ((1, 0), 8, False, 4.5, 10)
    assert watch([(0, 0, 7)] * 4 + [(0, 1, 7)] + [(0, 0, 9)])[2:4] == (True, 5.5)
    # Nobody was counted in between, but a token came.
    assert watch([(0, 0, 7)] * 4 + [(0, 0, 8)])[2:4] == (True, 5.5)


@pytest.mark.parametrize("busy", [(1, 0, 7), (0, 1, 7), (3, 2, None)])
def test_requests_are_watched_until_the_slice_is_over(busy):
    assert watch([busy]) == (busy[:2], busy[2], False, 4.5, 10)
    assert watch([busy], slice_s=0.2)[3:] == (0.0, 1) and watch([busy], slice_s=0)[3:] == (0.0, 1)


def test_with_nobody_connected_no_request_needs_no_while():
    nobody = itertools.chain([False, True], itertools.repeat(False))
    api = Scripted([(1, 0, 7), (0, 0, 8), (0, 0, 8)])
    assert quiet.watch(api, 5.0, clock=lambda: api.now, pause=api.pause, alone=lambda: next(nobody)) == ({"running": 0, "waiting": 0}, 8, True)
    assert api.looks == 2
    # A request that is counted is one, whoever is connected; and who is connected may be about to ask.
    for script, alone in (([(1, 0, 7)], True), ([(0, 0, 7)], False)):
        api = Scripted(script)
        assert quiet.watch(api, 1.0, clock=lambda api=api: api.now, pause=api.pause, alone=lambda alone=alone: alone)[2] is not alone and api.looks > 1


def test_a_short_slice_sees_a_quiet_time_to_its_end():
    assert watch([(0, 0, 7)], slice_s=1.0) == ((0, 0), 7, True, 3.0, 7)
    assert watch([(1, 0, 7), (0, 0, 8), (2, 0, 9)], slice_s=1.0) == ((2, 0), 9, False, 1.0, 3)


def test_an_api_without_a_count_of_tokens_is_watched_by_its_requests():
    assert watch([(0, 0, None)])[:3] == ((0, 0), None, True)


REFUSED = ConnectionRefusedError(111, "Connection refused")
LATE = [socket.timeout("timed out"), OSError("no valid HTTP answer"), urllib.error.URLError(socket.timeout("timed out"))]


@pytest.mark.parametrize("late", LATE, ids=["late", "garbage", "late-connection"])
def test_an_api_that_listens_and_does_not_answer_is_asked_until_the_slice_is_over(late):
    # Nothing is known, which is not that there is nothing.
    assert watch([late]) == ({}, None, False, 4.5, 10) and watch([late], takes=5.0) == ({}, None, False, 5.0, 1)
    assert watch([late] * 4 + [(1, 0, 8)])[:3] == ((1, 0), 8, False)
    assert watch([late, REFUSED, late, REFUSED, late], slice_s=9.0)[0] == {}
    # Nor does it count as quiet.
    assert watch([(0, 0, 7)] * 4 + [late] + [(0, 0, 7)])[2:4] == (True, 5.5)


@pytest.mark.parametrize("nothing", [None, REFUSED, urllib.error.URLError(REFUSED)])
def test_nobody_three_times_in_a_row_is_none(nothing):
    assert watch([nothing]) == (None, None, False, 1.0, 3)
    # An answer that was late once or twice cuts nobody off, also at the end of a slice.
    assert watch([(1, 0, 7), nothing, nothing, (1, 0, 8)])[:3] == ((1, 0), 8, False)
    assert watch([nothing, nothing, (1, 0, 8)], takes=5.0) == ((1, 0), 8, False, 16.0, 3)
    assert watch([nothing], takes=5.0)[:3] == (None, None, False)
    # Nor does it count as quiet.
    assert watch([(0, 0, 7)] * 4 + [nothing] + [(0, 0, 7)])[2:4] == (True, 5.5)


@pytest.fixture
def ask(run_module, tmp_path, monkeypatch):
    """A function (**parameters) -> the module's result; nft is a script that keeps what it is told, in C(tmp_path)/told."""
    quiet_proxies(monkeypatch)
    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    listed = json.dumps({"nftables": [{"set": {"elem": [{"elem": {"val": 8000, "timeout": 9}}]}}]})
    (tmp_path / "nft").write_text(
        '#!/bin/sh\ncd "%s"\nif [ -e refuse ]; then cat refuse >&2; exit 1; fi\nif [ "$1" = -f ]; then cat >> told; exit 0; fi\n'
        "[ -e told ] || { echo 'Error: No such file or directory' >&2; exit 1; }\n[ \"$1\" != -j ] || echo '%s'\n" % (tmp_path, listed))
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setattr(quiet, "QUIET_S", 0.2)
    monkeypatch.setattr(quiet, "LOOK_S", 0.05)

    def run(**parameters):
        result = run_module(drain_progress, **dict({"ports": [8000]}, **parameters))
        assert not result["failed"] and result["changed"] is False and SECRET not in json.dumps(result)
        return result

    return run


@pytest.fixture
def warned(monkeypatch):
    """The warnings of a module."""
    found = []
    monkeypatch.setattr(drain_progress.AnsibleModule, "warn", lambda self, warning: found.append(warning))
    return found


def test_the_module_keeps_away_and_watches(ask, tmp_path):
    answers = itertools.chain([(2, 1, 5), (1, 0, 6)], itertools.repeat((0, 0, 9)))
    with web_server(lambda asked: (200, (METRICS % next(answers)).encode())) as server:
        result = ask(urls=[server.url], api_key=SECRET, expire_s=77)
    assert {key: result[key] for key in ("kept_away", "why_not", "requests", "tokens", "drained")} == {
        "kept_away": True, "why_not": None, "requests": {"running": 0, "waiting": 0}, "tokens": 9, "drained": True}
    assert {(asked.path, asked.headers["Authorization"]) for asked in server.asked} == {("/metrics", "Bearer " + SECRET)}
    assert "add element inet ascend_vllm_drain ports { 8000 timeout 77s }\n" in (tmp_path / "told").read_text()
    assert "delete table" not in (tmp_path / "told").read_text()


def test_who_is_still_connected_is_waited_for(ask, monkeypatch):
    """Three seconds of quiet, unless nobody else is connected and nobody can be: then at once."""
    with web_server(lambda asked: (200, (METRICS % (0, 0, 9)).encode())) as server:
        port = int(server.url.rpartition(":")[2])
        for connected, alone, looks in ((False, True, 1), (True, True, 2), (False, False, 2)):
            with contextlib.ExitStack() as stack:
                if connected:
                    stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                place = len(server.asked)
                assert ask(ports=[port], urls=[server.url], alone=alone)["drained"] is True
                assert len(server.asked) - place >= looks and (looks > 1 or len(server.asked) - place == 1)


def test_new_connections_are_let_in_again(ask, tmp_path):
    assert ask(state="absent")["why_not"] is None and not (tmp_path / "told").exists()
    ask()
    result = ask(state="absent", urls=["http://127.0.0.1:1"])
    assert (result["kept_away"], result["requests"]) == (False, None) and (tmp_path / "told").read_text().endswith("delete table inet ascend_vllm_drain\n")


def test_without_an_api_to_ask_only_the_door_is_closed(ask):
    result = ask()
    assert (result["kept_away"], result["requests"], result["drained"]) == (True, None, False)
    result = ask(urls=["http://127.0.0.1:%d" % closed_port()], slice_s=60)
    assert (result["kept_away"], result["requests"], result["tokens"], result["drained"]) == (True, None, None, False)


def test_what_nft_does_not_do_is_said_and_the_requests_are_watched_all_the_same(ask, warned, tmp_path):
    (tmp_path / "refuse").write_text("Operation not permitted")
    with web_server(lambda asked: (200, (METRICS % (0, 0, 1)).encode())) as server:
        result = ask(urls=[server.url])
    assert (result["kept_away"], result["why_not"], result["drained"]) == (False, "nft refuses: Operation not permitted", True)
    assert warned == []
    assert ask(state="absent")["why_not"] == "nft refuses: Operation not permitted"
    assert warned == ["new connections to port 8000 are let in again only when the time is over that was asked for: nft refuses: Operation not permitted"]


def test_a_node_without_nft_has_nothing_to_let_in(ask, warned, monkeypatch):
    def missing(arguments, script=None):
        raise drain_progress.drain.NoNft("nft is not installed here")

    for name in ("let_in", "keep_away"):
        monkeypatch.setattr(drain_progress.drain, name, lambda *arguments: missing(arguments))
    result = ask(state="absent")
    assert (result["why_not"], result["kept_away"]) == ("nft is not installed here", False) and warned == []
    assert ask()["why_not"] == "nft is not installed here"


def test_check_mode_looks_and_does_nothing(ask, tmp_path):
    with web_server(lambda asked: (200, (METRICS % (0, 0, 1)).encode())) as server:
        result = ask(urls=[server.url], check=True)
        assert (result["kept_away"], result["requests"], server.asked) == (False, None, []) and not (tmp_path / "told").exists()
    ask()
    before = (tmp_path / "told").read_text()
    assert ask(check=True)["kept_away"] is True and ask(check=True, ports=[8000, 8001])["kept_away"] is False
    ask(check=True, state="absent")
    assert (tmp_path / "told").read_text() == before
