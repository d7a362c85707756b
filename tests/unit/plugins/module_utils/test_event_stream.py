# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events from a server on a real port."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import event_stream
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates, limits
from ansible_collections.ascend.vllm.tests.unit.plugins.served_group import sending
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """A proxy of the environment is not asked."""
    quiet_proxies(monkeypatch, "http://127.0.0.1:1")


def heard(server, timeout=5.0, **words):
    """Return the events."""
    return list(event_stream.events(event_stream.parts(server.url + "/v1/completions", {"stream": True}, {"X-a": "b"}, timeout, **words)))


@pytest.mark.parametrize("tls", [False, certificates.SIGNED + certificates.SIGNED_KEY])
def test_events_arrive_one_after_another(tls, tmp_path):
    (tmp_path / "ca").write_text(certificates.AUTHORITY)
    # The server sends the next one when the last one has arrived.
    there, waited = threading.Semaphore(0), []
    answer = sending(["one", "two", "[DONE]"], then=lambda: waited.append(there.acquire(timeout=10)))
    with web_server(lambda asked: answer, tls=tls) as server:
        arrived = []
        for said in event_stream.events(event_stream.parts(server.url + "/x", {"stream": True}, None, 60.0, str(tmp_path / "ca") if tls else None)):
            arrived.append(said)
            there.release()
        [asked] = server.asked
    assert arrived == [(200, "one"), (200, "two"), (200, "[DONE]")] and waited == [True, True, True]
    assert (asked.method, asked.path, asked.json(), asked.headers["Content-Type"]) == ("POST", "/x", {"stream": True}, "application/json")


@pytest.mark.parametrize(("body", "events"), [
    (b"data: a\r\n\r\n: comment\nevent: x\ndata:b\n\n", [(200, "a"), (200, "b")]), (b"", []), (b'{"no": "stream"}', []), (b"data: without an end", []),
])
def test_what_is_an_event(body, events):
    with web_server(lambda asked: (200, body)) as server:
        assert heard(server) == events


def test_an_answer_that_is_no_200_is_given_whole():
    with web_server(lambda asked: (404, b"data: a\nno such\nmodel")) as server:
        assert heard(server) == [(404, "data: a\nno such\nmodel")]


def test_the_time_is_for_all_of_it():
    for answer in (sending(["x"], 0.02, forever="y"), sending(["x"], closed=False), None):
        with web_server(lambda asked, answer=answer: answer) as server:
            began = time.monotonic()
            with pytest.raises(socket.timeout):
                heard(server, timeout=0.3)
            assert 0.25 < time.monotonic() - began < 5


def test_a_late_event_does_not_begin_the_time_anew(monkeypatch):
    clock, there = limits.Clock(), threading.Semaphore(0)
    monkeypatch.setattr(event_stream, "time", clock)
    with web_server(lambda asked: sending(["x", "y"], closed=False, then=lambda: there.acquire(timeout=20))) as server:
        arriving = event_stream.events(event_stream.parts(server.url + "/x", {"stream": True}, timeout=60.0))
        assert next(arriving) == (200, "x")
        clock.now = 30.0
        there.release()
        assert next(arriving) == (200, "y")
        clock.now = 59.5
        began = time.monotonic()
        with pytest.raises(socket.timeout):
            next(arriving)
        # Not as long as all of it, nor as was left at the event.
        assert time.monotonic() - began < 15
        there.release()


def test_an_answer_that_breaks_off_and_no_answer():
    with web_server(lambda asked: sending(["one"])) as server, pytest.raises(ConnectionError, match="broke off"):
        heard(server)
    with web_server(lambda asked: b"garbage\r\n\r\n") as server, pytest.raises(OSError, match="no valid HTTP answer"):
        heard(server)
    with pytest.raises(ConnectionRefusedError):
        list(event_stream.parts("http://127.0.0.1:%d/" % closed_port(), {}))


@pytest.mark.parametrize("vouching", [certificates.OTHER, None])
def test_a_certificate_that_nobody_vouches_for(vouching, tmp_path):
    (tmp_path / "ca").write_text(vouching or "")
    with web_server(lambda asked: sending(["x"]), tls=certificates.SIGNED + certificates.SIGNED_KEY) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            heard(server, ca_file=str(tmp_path / "ca") if vouching else None)
        assert server.asked == []
