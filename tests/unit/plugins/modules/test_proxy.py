# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proxy_backends and proxy_probe on a real vllm-router in front of backends on loopback, and on routers that answer what they should not."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http, proxy_router, quiet
from ansible_collections.ascend.vllm.plugins.modules import proxy_backends, proxy_probe, status_info
from ansible_collections.ascend.vllm.tests.unit.plugins import router_process
from ansible_collections.ascend.vllm.tests.unit.plugins.pd_ranks import Decode, Prefill
from ansible_collections.ascend.vllm.tests.unit.plugins.router_process import Backend, ask, routed
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, free_port, inspected, multiplexed, quiet_proxies, unix_server, web_server

real = pytest.mark.skipif(router_process.program() is None, reason="vllm-router is not installed for this Python")
NAME, SECRET = "vllm-proxy", "s3cret"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No proxy of the machine in between, and short waits."""
    quiet_proxies(monkeypatch)
    monkeypatch.setattr(quiet, "QUIET_S", 0.1)
    monkeypatch.setattr(quiet, "LOOK_S", 0.02)
    monkeypatch.setattr(proxy_backends, "LOOK_S", 0.02)
    monkeypatch.setattr(proxy_probe, "LOOK_S", 0.02)


def grown(told, more):
    """Return what a list gets from now on, as soon as that is so much."""
    place, end = len(told), time.monotonic() + 60
    while len(told) < place + more:
        assert time.monotonic() < end, "only %s" % told[place:]
        time.sleep(0.01)
    return told[place:]


def test_the_lists_are_compared():
    assert proxy_router.compare(["a", "b", "c"], {"a": True, "b": False, "d": True}) == {"up": ["a"], "down": ["b"], "missing": ["c"], "other": ["d"]}
    assert proxy_router.compare([], {}) == {"up": [], "down": [], "missing": [], "other": []}


@real
def test_a_backend_leaves_and_comes_back_with_no_failed_request(run_module):
    """What upgrade does with one replica while clients ask all the time."""
    with routed(Backend("east"), Backend("west")) as (router, dummy, servers):
        west = servers[1].url
        assert {ask(router) for dummy in range(4)} == {"east", "west"}
        router.add(west, 5)
        told, over = [], threading.Event()

        def client():
            while not over.is_set():
                told.append(ask(router))

        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        taken = run_module(proxy_backends, url=router.url, backends=[west], state="absent", wait_s=60, settle_s=0.1)
        assert (taken["changed"], taken["answers"], taken["missing"], taken["other"]) == (True, True, [west], [servers[0].url])
        assert taken["drained"] is True and taken["requests"] == {west: {"running": 0, "waiting": 0}}
        assert set(grown(told, 3)) == {"east"}
        assert run_module(proxy_backends, url=router.url, backends=[west], state="absent")["changed"] is False
        assert run_module(proxy_backends, True, url=router.url, backends=[west], state="present")["changed"] is True
        assert router.workers() == {servers[0].url: True}
        back = run_module(proxy_backends, url=router.url, backends=[west], state="present")
        assert (back["changed"], back["up"], back["missing"]) == (True, [west], [])
        assert run_module(proxy_backends, url=router.url, backends=[west], state="present")["changed"] is False
        assert set(grown(told, 4)) == {"east", "west"}
        over.set()
        thread.join(20)
        listed = run_module(proxy_backends, url=router.url, backends=[west])
        assert listed["changed"] is False and listed["up"] == [west] and listed["other"] == [servers[0].url]


class Slow(Backend):
    """Its completions are streams: one event, and the last one only when C(go) is set."""

    def __init__(self, name):
        super().__init__(name)
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, asked):
        """Answer one request."""
        if asked.path != "/v1/completions":
            return super().__call__(asked)

        def stream(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {\"n\": 1}\n\n")
            handler.wfile.flush()
            self.begun.set()
            self.go.wait(60)
            handler.wfile.write(b"data: [DONE]\n\n")

        return stream


@real
def test_a_stream_of_a_backend_that_is_taken_out_goes_on_to_its_end(run_module):
    slow = Slow("east")
    with routed(slow) as (router, dummy, servers):
        got = []

        def client():
            got.append(plain_http.request(router.url + "/v1/completions", "POST", b'{"model": "m", "prompt": "x", "stream": true}',
                                          {"Content-Type": "application/json"}))

        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        assert slow.begun.wait(20)
        assert run_module(proxy_backends, url=router.url, backends=[servers[0].url], state="absent", settle_s=0)["changed"]
        assert router.workers() == {} and not got
        slow.go.set()
        thread.join(20)
        assert got[0][0] == 200 and got[0][2].endswith(b"data: [DONE]\n\n")


@real
def test_its_own_count_has_a_backend_that_never_was_there():
    gone = "http://127.0.0.1:%d" % free_port()
    with routed(Backend("east"), also=[gone]) as (router, dummy, servers):
        # What makes each backend be asked here, too.
        assert router.readiness() == {"status": 200, "healthy": 2, "total": 2}
        found = proxy_router.state_of(router, [servers[0].url, gone])
        assert not found["ready"] and list(found["unreachable"]) == [gone] and "refused" in found["unreachable"][gone]
        # Another group is no concern of who waits for this one.
        assert proxy_router.state_of(router, [servers[0].url], [gone])["ready"] and not proxy_router.state_of(router, [servers[0].url])["ready"]
        assert ask(router) == ask(router) == "east"
        router.remove(gone)
        assert proxy_router.state_of(router, [servers[0].url])["ready"]
        assert proxy_router.state_of(router, [])["other"] == [servers[0].url]
        router.remove(servers[0].url)
        assert router.readiness() == {"status": 503, "healthy": 0, "total": 0}


@real
def test_the_client_s_key_reaches_the_backend():
    with routed(Backend("east")) as (router, dummy, servers):
        ask(router)
        assert [asked.headers["Authorization"] for asked in servers[0].asked if asked.path == "/v1/completions"] == ["Bearer client"]


def test_a_backend_that_is_too_busy_to_say_what_it_has_is_not_drained():
    with web_server(lambda asked: b"garbage\r\n\r\n") as busy:
        began = time.monotonic()
        assert proxy_backends.drain([busy.url], None, 0.2) == ({busy.url: None}, False) and 0.15 < time.monotonic() - began < 4


@real
def test_the_wait_for_what_a_backend_has_ends(run_module):
    with routed(Backend("east"), Backend("west", load=(2, 1))) as (router, dummy, servers):
        taken = run_module(proxy_backends, url=router.url, backends=[servers[1].url], state="absent", wait_s=0.2, settle_s=0)
        assert taken["drained"] is False and taken["requests"] == {servers[1].url: {"running": 2, "waiting": 1}}


@real
def test_one_that_does_not_answer_is_not_put_in(run_module):
    gone = "http://127.0.0.1:%d" % free_port()
    with routed(Backend("east")) as (router, dummy, servers), web_server(Backend("west", health=503)) as ill:
        for backend, why in ((gone, "refused"), (ill.url, "HTTP 503")):
            failed = run_module(proxy_backends, url=router.url, backends=[backend], state="present", wait_s=0.05)
            assert failed["failed"] and backend in failed["msg"] and why in failed["msg"] and "Remedy: " in failed["msg"]
        assert router.workers() == {servers[0].url: True}


def test_a_router_that_nobody_started_is_no_failure(run_module):
    url = "http://127.0.0.1:%d" % free_port()
    for state in ("present", "absent", None):
        found = run_module(proxy_backends, url=url, backends=["http://127.0.0.1:1"], **({"state": state} if state else {}))
        assert (found["failed"], found["changed"], found["answers"]) == (False, False, False) and "refused" in found["error"]


@pytest.mark.parametrize(("answer", "words"), [
    (lambda asked: (500, b"no"), "/workers answered HTTP 500 and no list of backends: no"),
    (lambda asked: (200, {"workers": [{"url": "http://b"}]}), "no list of backends"),
    (lambda asked: (200, {"workers": [{"url": "http://b", "is_healthy": True}]}) if asked.method == "GET" else (401, b"not you"),
     "did not let go of http://b: HTTP 401: not you"),
    (lambda asked: (200, {"workers": [{"url": "http://b", "is_healthy": True}]}), "its list says otherwise"),
    (lambda asked: b"\x00\x01 no HTTP\r\n", "does not answer"),
])
def test_a_router_that_answers_what_it_should_not_is_a_failure(run_module, answer, words):
    with web_server(answer) as server:
        failed = run_module(proxy_backends, url=server.url, backends=["http://b"], state="absent", api_key=SECRET)
    assert failed["failed"] and words in failed["msg"] and "Remedy: " in failed["msg"] and SECRET not in str(failed["msg"])


@pytest.fixture
def probe(run_module, tmp_path):
    """A function (container as the engine inspects it, url, backends, **parameters) -> the result of proxy_probe."""

    def run(container, url, backends, log=b"", **parameters):
        path = str(tmp_path / "d.sock")
        engine = FakeEngine(containers={NAME: container} if container else {}, logs={NAME: log})
        with contextlib.ExitStack() as stack:
            stack.enter_context(unix_server(path, engine))
            return run_module(proxy_probe, container=NAME, url=url, backends=backends, docker_socket=path, slice_s=0.05, **parameters)

    return run


@real
def test_ready_is_when_each_backend_is_there_and_answers(probe):
    with routed(Backend("east"), Backend("west")) as (router, dummy, servers):
        urls = [server.url for server in servers]
        found = probe(inspected(), router.url, urls)
        assert found["phase"] == "ready" and found["router"]["up"] == urls and found["changed"] is False
        late = probe(inspected(), router.url, urls + ["http://127.0.0.1:1"])
        assert late["phase"] == "running" and late["router"]["missing"] == ["http://127.0.0.1:1"]
        assert probe(inspected(), router.url, urls[:1])["phase"] == "running"


@pytest.mark.parametrize(("container", "parameters", "wanted"), [
    (None, {}, ("absent", None, 0)),
    (inspected(False, ExitCode=1), {}, ("exited", 1, 0)),
    (inspected(True, Restarting=True, ExitCode=1), {}, ("exited", 1, 0)),
    (dict(inspected(), RestartCount=2), {"restarts": 1}, ("exited", None, 2)),
    (dict(inspected(), RestartCount=2), {"restarts": 2}, ("running", None, 2)),
    (dict(inspected(), RestartCount=2), {}, ("running", None, 2)),
])
def test_one_that_the_engine_starts_again_has_ended(probe, container, parameters, wanted):
    log = multiplexed((1, b"\x1b[2m INFO one\nError starting router: Address already in use (os error 98)\n"))
    found = probe(container, "http://127.0.0.1:%d" % free_port(), ["http://127.0.0.1:1"], log, **parameters)
    assert (found["phase"], found["exit_code"], found["restarts"]) == wanted
    if wanted[0] == "exited":
        assert found["telling"][-1] == found["log"][-1] == "Error starting router: Address already in use (os error 98)"
    if wanted[0] == "running":
        assert found["router"]["answers"] is False and "refused" in found["router"]["error"]


@real
def test_status_asks_it_and_takes_nothing_that_fails_for_a_reason_to_stop():
    with routed(Backend("east")) as (router, dummy, servers):
        proxy = {"name": NAME, "url": router.url, "kind": "vllm-router", "model": "m", "backends": ["http://127.0.0.1:1", servers[0].url]}
        found = status_info.ask_proxy(proxy, None, 5)
        assert found["completion"]["answered"] and found["completion"]["text"] == "east"
        assert found["router"]["up"] == [servers[0].url] and found["router"]["missing"] == ["http://127.0.0.1:1"]
    gone = status_info.ask_proxy(proxy, None, 5)
    assert not gone["completion"]["answered"] and gone["router"]["answers"] is False and list(gone["router"]["unreachable"]) == proxy["backends"]


@real
def test_prefill_and_decode_are_counted_together_and_each_rank_is_there(probe):
    with routed(Prefill("p0"), Prefill("p1"), Decode(), pd=2) as (router, dummy, servers):
        urls = [server.url for server in servers]
        assert router.readiness() == {"status": 200, "healthy": 3, "total": 3}
        assert probe(inspected(), router.url, urls)["phase"] == "ready"
        assert probe(inspected(), router.url, urls[:2])["phase"] == "running"
        status, answer, dummy = plain_http.post_json(router.url + "/v1/completions", {"model": "m", "prompt": "x"})
        assert status == 200 and answer["choices"][0]["text"] == " bright"
        fetched = [asked.json()["kv_transfer_params"]["remote_engine_id"] for asked in servers[2].asked if asked.path == "/v1/completions"]
        assert fetched in (["p0"], ["p1"])


@real
def test_a_prefill_rank_leaves_with_no_failed_request_and_comes_back_with_a_start(run_module):
    """What upgrade does with one of several prefill groups: in 0.1.17 the router takes nothing back while it runs."""
    with routed(Prefill("p0"), Prefill("p1"), Decode(), pd=2) as (router, dummy, servers):
        gone = servers[1].url

        def ask_it():
            status, dummy, text = plain_http.post_json(router.url + "/v1/completions", {"model": "m", "prompt": "x"})
            assert status == 200, text

        ask_it()
        taken = run_module(proxy_backends, url=router.url, mode="pd", backends=[gone], state="absent", settle_s=0)
        assert (taken["changed"], taken["restart"], taken["missing"]) == (True, False, [gone])
        place = len(servers[1].asked)
        for dummy in range(4):
            ask_it()
        assert not [asked for asked in servers[1].asked[place:] if asked.path == "/v1/completions"]
        assert router.readiness() == {"status": 200, "healthy": 2, "total": 2}
        with pytest.raises(proxy_router.RouterError, match="did not take in .* HTTP 400: PD router requires specific"):
            router.add(gone, 5)
        back = run_module(proxy_backends, url=router.url, mode="pd", backends=[gone], state="present")
        assert (back["changed"], back["restart"], back["missing"]) == (True, True, [gone])
        there = run_module(proxy_backends, url=router.url, mode="pd", backends=[servers[0].url], state="present", fresh=True)
        assert (there["changed"], there["restart"]) == (False, False)


class ExampleProxy:
    """vllm-ascend's example proxy as it answers: its lists, changed while it runs; one that is removed stays listed while there is a request."""

    def __init__(self, busy=False):
        self.lists, self.busy, self.refuses = {"prefill": ["h:1", "h:2"], "decode": ["h:3"]}, busy, []

    def __call__(self, asked):
        """Answer one request."""
        if asked.path == "/healthcheck":
            return 200, {"status": "ok", **{"%s_instances" % side: len(places) for side, places in self.lists.items()}}
        if not asked.path.startswith("/instances/"):
            return 404, {"detail": "Not Found"}
        body = asked.json()
        if asked.path == "/instances/remove":
            self.refuses += body["instances"]
            if not self.busy:
                self.lists[body["type"]] = [place for place in self.lists[body["type"]] if place not in body["instances"]]
        return 200, {"message": "", **{"current_%s_instances" % side: places for side, places in self.lists.items()}}


@pytest.mark.parametrize("busy", [False, True])
def test_the_example_proxy_lets_go_of_a_rank_and_has_it_again_with_a_start(run_module, busy):
    example = ExampleProxy(busy)
    with web_server(example) as server:
        router = proxy_router.Example(server.url)
        assert router.readiness() == {"status": 200, "healthy": 3, "total": 3}
        assert router.workers() == {"http://h:1": True, "http://h:2": True, "http://h:3": True}
        given = {"url": server.url, "kind": "vllm-ascend", "mode": "pd", "backends": ["http://h:2"]}
        taken = run_module(proxy_backends, state="absent", settle_s=0, **given)
        assert taken["changed"] and set(example.refuses) == {"h:2"} and taken["missing"] == ([] if busy else ["http://h:2"])
    with web_server(Backend("p1")) as rank:
        with web_server(example) as server:
            example.lists["prefill"] = [rank.url[7:]]
            given.update(url=server.url, backends=[rank.url], state="present")
            # It does not say whether it has let go of one: what was started anew needs a start of it, what was not does not.
            assert [run_module(proxy_backends, fresh=fresh, **given)["restart"] for fresh in (True, False)] == [True, False]
            assert run_module(proxy_backends, True, fresh=True, **given)["changed"] is True


def test_a_proxy_of_another_kind_is_asked_in_its_own_words_and_put_nothing_in(run_module):
    """The plan has another kind than what still runs: nobody may be sent to a group that stops, and what comes has its own list."""
    example = ExampleProxy()
    with web_server(example) as server:
        given = {"url": server.url, "kind": "vllm-router", "mode": "pd"}
        put = run_module(proxy_backends, backends=["http://h:2", "http://h:9"], state="present", **given)
        assert (put["changed"], put["restart"], put["up"], put["missing"]) == (False, False, ["http://h:2"], ["http://h:9"])
        taken = run_module(proxy_backends, backends=["http://h:2"], state="absent", settle_s=0, **given)
        assert taken["changed"] and taken["missing"] == ["http://h:2"] and set(example.refuses) == {"h:2"}


@real
def test_a_router_where_the_plan_has_the_example_proxy(run_module):
    with routed(Prefill("p0"), Prefill("p1"), Decode(), pd=2) as (router, dummy, servers):
        urls = [server.url for server in servers]
        given = {"url": router.url, "kind": "vllm-ascend", "mode": "pd"}
        assert run_module(proxy_backends, backends=urls[:1], state="present", fresh=True, **given)["restart"] is False
        assert run_module(proxy_backends, backends=urls[:1], state="absent", settle_s=0, **given)["missing"] == urls[:1]
        assert set(router.workers()) == set(urls[1:])


@pytest.mark.parametrize("answer", [(500, b"no"), (200, {"error": "Instance type"})])
def test_an_example_proxy_that_answers_what_it_should_not(run_module, answer):
    with web_server(lambda asked: answer) as server:
        failed = run_module(proxy_backends, url=server.url, kind="vllm-ascend", mode="pd", backends=["http://h:2"])
        assert failed["failed"] and "no list of instances" in failed["msg"] and "Remedy: " in failed["msg"]
        assert proxy_router.Example(server.url).readiness()["total"] is None
