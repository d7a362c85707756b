# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""serve_probe against an engine on a real socket and an API on a real port."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pytest

from ansible_collections.ascend.vllm.plugins.modules import serve_probe
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import (
    closed_port, FakeEngine, inspected, multiplexed, quiet_proxies, unix_server, web_server,
)

NAME = "vllm-rank0"
TLS = certificates.SIGNED + certificates.SIGNED_KEY
COMPLETION = {"choices": [{"text": " bright"}]}


@pytest.fixture
def probe(run_module, tmp_path, monkeypatch):
    """A function (container as the engine inspects it, **parameters) -> the module's result."""
    monkeypatch.setattr(serve_probe, "LOOK_S", 0.01)
    quiet_proxies(monkeypatch)

    def run(container, log=b"", slice_s=0.5, url=None, once=None, **parameters):
        """C(once): the slice is one look of at most so many seconds, which ends with the answer to its question."""
        if once:
            slice_s = once
            monkeypatch.setattr(serve_probe, "LOOK_S", once)
        path = str(tmp_path / "d.sock")
        with unix_server(path, FakeEngine(containers={NAME: container} if container else {}, logs={NAME: log})):
            result = run_module(serve_probe, units={NAME: url}, docker_socket=path, slice_s=slice_s, **parameters)
        return dict(result, **result["units"][NAME])

    return run


def api(health=(200,), completion=(200, COMPLETION)):
    """Return an API's answers."""
    return lambda asked: health if asked.path == "/health" else completion


def test_a_running_container_gives_its_last_line_when_the_slice_is_over(probe):
    before = time.monotonic()
    result = probe(inspected(), multiplexed((1, b"one\ntwo\n"), (2, b"\n"), (2, b"\x1b[1;36m(EngineCore_DP0 pid=7)\x1b[0;0m \n")), slice_s=0.2)
    # It ends when less than one look is left of the slice.
    assert 0.15 < time.monotonic() - before < 5
    assert not result["failed"] and result["changed"] is False
    assert {key: result[key] for key in ("phase", "exit_code", "health", "error", "last_line", "startup", "log")} == {
        "phase": "running", "exit_code": None, "health": None, "error": None, "last_line": "two", "startup": None, "log": []}


@pytest.mark.parametrize(("health", "slice_s", "least", "most"), [(200, 60, 0, 30), (503, 3, 2.5, 60)])
def test_without_an_api_of_its_own_a_slice_is_over_when_the_head_is_up(probe, monkeypatch, health, slice_s, least, most):
    # The head gets as long for an answer.
    monkeypatch.setattr(serve_probe, "LOOK_S", 0.25)
    before = time.monotonic()
    with web_server(lambda asked: (health,)) as head:
        result = probe(inspected(), multiplexed((1, b"one\n")), slice_s=slice_s, until=head.url)
    assert least < time.monotonic() - before < most
    assert (result["phase"], result["health"], result["last_line"]) == ("running", None, "one")
    assert {asked.path for asked in head.asked} == {"/health"}


def test_a_head_that_is_not_up_or_does_not_matter_ends_no_slice(probe):
    before = time.monotonic()
    assert probe(inspected(), slice_s=0.5, until=f"http://127.0.0.1:{closed_port()}")["phase"] == "running"
    with web_server(lambda asked: (200,)) as head, web_server(api(health=(503,))) as own:
        assert probe(inspected(), slice_s=0.5, url=own.url, model="m", until=head.url)["phase"] == "running"
    assert time.monotonic() - before > 0.9 and not head.asked


def test_a_log_that_says_nothing_yet(probe):
    assert probe(inspected())["last_line"] == ""
    assert probe(inspected(), multiplexed((1, b"x" * 1000)))["last_line"] == "x" * 300


SHARD = b"Loading safetensors checkpoint shards:  50%% Completed | %d/163 [02:06<02:01, 1.5s/it]"


def test_how_far_the_start_is_and_what_may_be_wrong_come_with_every_slice(probe):
    shards = b"\r".join(SHARD % number for number in range(80, 83))
    log = shards + b"\n(W pid=9) ERROR 11-23 20:26:09 [x.py:1] EI0006: caf\xe9\n(W pid=8) ERROR 11-23 20:26:09 [x.py:1] EI0006: caf\xe9\nINFO 11-23 20:26:09 a"
    result = probe(inspected(), log)
    assert result["startup"] == {"phase": "loading", "step": "82/163"}
    assert result["telling"] == ["(W pid=9) ERROR 11-23 20:26:09 [x.py:1] EI0006: caf\ufffd"]
    assert (result["last_line"], result["log"]) == ("INFO 11-23 20:26:09 a", [])
    assert probe(inspected(), b"hello\n")["startup"] is None


def test_an_exit_gives_the_first_error_however_far_back_it_is(probe):
    frames = b"".join(b'(E pid=1)   File "/x.py", line %d, in run\n(E pid=1)     go()\n' % number for number in range(20))
    first = b"(E pid=1) Traceback (most recent call last):\n" + frames + b"(E pid=1) ValueError: the root\n"
    log = SHARD % 163 + b"\n" + first + b"later\n" * 2000 + b"Traceback (most recent call last):\nRuntimeError: See root cause above\n"
    result = probe(inspected(False, ExitCode=1), log, log_lines=3)
    assert result["telling"][:42] == first.decode().splitlines()
    assert result["telling"][42:] == ["later", "RuntimeError: See root cause above"]
    assert result["log"] == ["later", "Traceback (most recent call last):", "RuntimeError: See root cause above"]
    assert result["startup"] == {"phase": "loading", "step": "163/163"}


def test_a_huge_log_gives_only_so_much(probe):
    log = b"".join(b"error %d %s\n" % (number, b"x" * 5000) for number in range(500))
    assert len(str(probe(inspected(False), log)["telling"])) < 70000
    assert len(str(probe(inspected(), log)["telling"])) < 20000


def test_an_exit_ends_the_slice_at_once_with_the_end_of_the_log(probe):
    looks = itertools.chain([inspected(), inspected()], itertools.repeat(inspected(False, ExitCode=137)))
    before = time.monotonic()
    result = probe(lambda: next(looks), multiplexed((2, b"ValueError: boom\n")), slice_s=60)
    assert time.monotonic() - before < 20
    assert (result["phase"], result["exit_code"], result["error"], result["log"]) == ("exited", 137, None, ["ValueError: boom"])


@pytest.mark.parametrize("state, wanted", [
    ({"ExitCode": 137, "OOMKilled": True}, "killed by the kernel: out of memory"),
    ({"ExitCode": 127, "Error": "exec: not found", "OOMKilled": True}, "exec: not found"),
    ({"ExitCode": 0}, None),
])
def test_why_a_container_exited(probe, state, wanted):
    result = probe(inspected(False, **state))
    assert (result["phase"], result["exit_code"], result["error"]) == ("exited", state["ExitCode"], wanted)


def test_a_container_that_is_not_there(probe):
    result = probe(None, slice_s=60)
    assert (result["phase"], result["log"], result["failed"]) == ("absent", [], False)


def test_ready_is_a_completion(probe, monkeypatch):
    with web_server(api()) as server, web_server(lambda asked: (418,)) as proxy:
        quiet_proxies(monkeypatch, proxy.url)
        result = probe(inspected(), slice_s=60, url=server.url, model="deepseek_r1", api_key="s3cret")
        assert (result["phase"], result["health"], result["error"]) == ("ready", 200, None)
        assert "s3cret" not in str(result)
        assert [asked.path for asked in server.asked] == ["/health", "/v1/completions"]
        assert server.asked[1].headers["Authorization"] == "Bearer s3cret"
        assert server.asked[1].json() == {"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 1, "temperature": 0}
        assert proxy.asked == []


def test_without_a_key_none_is_sent_and_without_a_url_nobody_is_asked(probe):
    with web_server(api()) as server:
        assert probe(inspected())["phase"] == "running"
        assert server.asked == []
        probe(inspected(), slice_s=60, url=server.url, model="m")
        assert server.asked[1].headers["Authorization"] is None


@pytest.mark.parametrize("health, completion, wanted", [
    ((200,), (404, {"message": "The model `m` does not exist."}), "/health says 200, but /v1/completions answered HTTP 404: {\"message\": \"The model `m`"),
    ((200,), (401, {"error": "Unauthorized"}), "/health says 200, but /v1/completions answered HTTP 401"),
    ((200,), (500, b"Internal Server Error"), "/health says 200, but /v1/completions answered HTTP 500: Internal Server Error"),
    ((200,), (200, {"choices": []}), "/health says 200, but /v1/completions answered HTTP 200"),
    ((200,), (200, [COMPLETION]), "/health says 200, but /v1/completions answered HTTP 200"),
    ((200,), (200, b"<html>"), "/health says 200, but /v1/completions answered HTTP 200: <html>"),
    ((200,), b"", "/health says 200, but a completion did not come back: "),
    ((200,), None, "/health says 200, but a completion did not come back: timed out"),
    ((503,), None, None),
    (b"garbage\r\n\r\n", None, None),
    (None, None, None),
])
def test_an_api_that_gives_no_completion_is_not_ready(probe, health, completion, wanted):
    with web_server(api(health, completion)) as server:
        result = probe(inspected(), multiplexed((1, b"loading\n")), once=1.0 if None in (health, completion) else 20, url=server.url, model="m")
    assert (result["phase"], result["last_line"]) == ("running", "loading")
    # Somebody listens: no answer is not a port that refuses.
    assert result["health"] == (health[0] if isinstance(health, tuple) else 0)
    assert result["error"] is None if wanted is None else wanted in result["error"]


def test_a_port_that_refuses_is_a_start_that_goes_on(probe):
    result = probe(inspected(), url="http://127.0.0.1:%d" % closed_port(), model="m")
    assert (result["phase"], result["health"], result["error"]) == ("running", None, None)


def test_an_exit_counts_more_than_an_api_that_still_answers(probe):
    with web_server(api()) as server:
        assert probe(inspected(False), url=server.url, model="m")["phase"] == "exited"
        assert server.asked == []


def test_an_api_that_comes_up_within_the_slice_is_seen(probe):
    answers = itertools.chain([(503,), (503,)], itertools.repeat((200,)))
    with web_server(lambda asked: next(answers) if asked.path == "/health" else (200, COMPLETION)) as server:
        result = probe(inspected(), slice_s=60, url=server.url, model="m")
        assert (result["phase"], len(server.asked)) == ("ready", 4)


def test_no_engine_fails_with_its_socket_and_what_to_do(run_module, tmp_path):
    result = run_module(serve_probe, units={NAME: None}, docker_socket=str(tmp_path / "d.sock"))
    assert result["failed"] and "d.sock: No such file or directory" in result["msg"] and "systemctl status docker" in result["msg"]


def test_a_url_needs_a_model(run_module, tmp_path):
    result = run_module(serve_probe, units={NAME: "http://127.0.0.1:1"})
    assert result["failed"] and "model" in result["msg"]


@pytest.mark.parametrize(("vouching", "phase"), [(certificates.AUTHORITY, "ready"), (certificates.OTHER, "running"), (None, "running")])
def test_a_service_with_tls_is_ready_for_whom_its_certificate_is_vouched_for(probe, tmp_path, vouching, phase):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(vouching or "")
    with web_server(api(), tls=TLS) as server:
        # It ends when the service is ready; time for a handshake on a busy machine.
        given = {"slice_s": 20} if phase == "ready" else {"once": 20}
        result = probe(inspected(), url=server.url, model="m", ca_file=str(ca_file) if vouching else None, **given)
        assert (result["phase"], result["health"], len(server.asked)) == ((phase, 200, 2) if phase == "ready" else (phase, 0, 0))
    assert result["error"] is None if phase == "ready" else server.url in result["error"] and "certificate verify failed" in result["error"].lower()


def test_what_vouches_is_missing_on_the_node(probe, tmp_path):
    result = probe(inspected(), url="https://127.0.0.1:%d" % closed_port(), model="m", ca_file=str(tmp_path / "no.pem"))
    assert (result["phase"], result["health"]) == ("running", 0) and "No such file" in result["error"]
    (tmp_path / "no.pem").write_text("none")
    assert "NO_CERT" in probe(inspected(), url="https://127.0.0.1:1", model="m", ca_file=str(tmp_path / "no.pem"))["error"].upper()


def test_check_mode_does_the_same(probe):
    assert probe(inspected(False, ExitCode=3), check=True)["exit_code"] == 3


@pytest.mark.parametrize("container, parameters, tail", [
    (inspected(False), {"log_lines": 11}, "5000"), (inspected(False), {"log_lines": 6000}, "6000"), (inspected(), {"log_lines": 6000}, "400"),
])
def test_only_so_many_lines_of_the_log_are_asked_for(run_module, tmp_path, container, parameters, tail):
    path = str(tmp_path / "d.sock")
    with unix_server(path, FakeEngine(containers={NAME: container}, logs={NAME: b"a\n" * 20})) as server:
        result = run_module(serve_probe, units={NAME: None}, docker_socket=path, slice_s=0.01, **parameters)["units"][NAME]
        assert [asked.query["tail"] for asked in server.asked if asked.path.endswith("/logs")] == [tail]
    assert len(result["log"]) == (min(20, parameters["log_lines"]) if result["phase"] == "exited" else 0)
    assert serve_probe.EXIT_LINES == 5000 and serve_probe.RECENT_LINES == 400


def test_what_the_api_said_last_is_kept_when_the_slice_ends(probe, monkeypatch):
    clock = itertools.count(step=10)
    # Ten seconds pass at every look at the clock, so that the last look at the container comes after the end of the slice.
    monkeypatch.setattr(serve_probe, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None))
    with web_server(api(completion=(500, b"oops"))) as server:
        result = probe(inspected(), slice_s=25, url=server.url, model="m")
        assert len(server.asked) == 2
    assert result["health"] == 200 and "HTTP 500: oops" in result["error"]


@pytest.mark.parametrize("running", [True, False])
def test_lines_of_an_earlier_run_of_the_container_are_not_asked_for(run_module, tmp_path, monkeypatch, running):
    """A container that was started again has them in the same log: an old error would be told as this start's."""
    monkeypatch.setattr(serve_probe, "LOOK_S", 0.01)
    path = str(tmp_path / "d.sock")
    with unix_server(path, FakeEngine(containers={NAME: inspected(running, StartedAt="2026-11-25T22:37:02.123456789Z")})) as server:
        run_module(serve_probe, units={NAME: None}, docker_socket=path, slice_s=0.03)
        # One that ended at once may have said why a moment before the engine noted that it ran.
        wanted = ["1795646222.123456789"] if running else ["1795646222.123456789", "1795646220.123456789"]
        assert [asked.query["since"] for asked in server.asked if asked.path.endswith("/logs")] == wanted


def test_units_of_one_node_are_watched_at_once(run_module, tmp_path, monkeypatch):
    monkeypatch.setattr(serve_probe, "LOOK_S", 0.01)
    quiet_proxies(monkeypatch)
    path, names = str(tmp_path / "d.sock"), ["prefill-rank0", "prefill-rank1", "prefill-rank2"]
    containers = dict.fromkeys(names, inspected())
    with web_server(api()) as server, web_server(api(health=(503,))) as other, unix_server(path, FakeEngine(containers=containers)):
        units = dict(zip(names, [server.url, other.url, server.url]))
        found = run_module(serve_probe, units=units, docker_socket=path, slice_s=3, model="m")["units"]
        assert [found[name]["phase"] for name in names] == ["ready", "running", "ready"]
        assert len([asked for asked in server.asked if asked.path == "/v1/completions"]) == 2 and other.asked


def test_one_that_exits_ends_the_slice_of_all(run_module, tmp_path):
    path, names = str(tmp_path / "d.sock"), ["decode-rank0", "decode-rank1"]
    before = time.monotonic()
    with unix_server(path, FakeEngine(containers={names[0]: inspected(), names[1]: inspected(False, ExitCode=1)}, logs={names[1]: b"ValueError: boom\n"})):
        found = run_module(serve_probe, units=dict.fromkeys(names), docker_socket=path, slice_s=60)["units"]
    assert time.monotonic() - before < 20
    assert [found[name]["phase"] for name in names] == ["running", "exited"] and found[names[1]]["log"] == ["ValueError: boom"]


def test_no_unit_is_nothing_to_watch(run_module):
    assert run_module(serve_probe, units={})["units"] == {}


@pytest.mark.parametrize(("names", "phase"), [(["m"], "ready"), (["other"], "running"), ([], "running")])
def test_a_decode_rank_is_asked_what_it_serves_and_for_no_completion(probe, names, phase):
    def answer(asked):
        return (200,) if asked.path == "/health" else (200, {"data": [{"id": name} for name in names]})

    with web_server(answer) as server:
        result = probe(inspected(), url=server.url, model="m", completion=False, **({"slice_s": 20} if phase == "ready" else {"once": 20}))
        assert {asked.path for asked in server.asked} == {"/health", "/v1/models"}
    assert (result["phase"], result["health"]) == (phase, 200)
    assert phase == "ready" or "/v1/models has " in result["error"]


def test_a_decode_rank_that_does_not_say_what_it_serves_is_told_so(probe):
    with web_server(api((200,), None)) as server:
        result = probe(inspected(), once=1.0, url=server.url, model="m", completion=False)
    assert (result["phase"], result["error"]) == ("running", "/health says 200, but the list of models did not come back: timed out")
