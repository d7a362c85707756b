# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proxy_wait on a scripted proxy_probe: how the wait ends, and what is said then."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.ascend.vllm.plugins.action import proxy_wait
from ansible_collections.ascend.vllm.plugins.modules import proxy_wait as documented
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options

SECRET, HOST = "s3cret", "a2-node0"
EAST, WEST = "http://198.51.100.11:8000", "http://198.51.100.13:8000"


def wait(script, **args):
    """Run the plugin on a script of slices of five seconds; return C({result, lines, calls})."""
    given = dict({"container": "vllm-proxy", "url": "http://198.51.100.11:1999", "backends": [EAST, WEST], "api_key": SECRET}, **args)
    task = SimpleNamespace(args=given, async_val=0, check_mode=False, action="ascend.vllm.proxy_wait")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = proxy_wait.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    slices, lines, calls, clock = iter(script), [], [], SimpleNamespace(now=100.0)

    def execute(module_name, module_args, task_vars):
        assert module_name == "ascend.vllm.proxy_probe" and task_vars["inventory_hostname"] == HOST
        calls.append(module_args)
        clock.now += 5.0
        return dict(next(slices))

    with mock.patch.object(plugin, "_execute_module", execute), \
            mock.patch.object(proxy_wait, "display", SimpleNamespace(display=lines.append)), \
            mock.patch.object(proxy_wait, "time", SimpleNamespace(monotonic=lambda: clock.now)):
        result = plugin.run(None, {"inventory_hostname": HOST})
    assert SECRET not in str((result, lines))
    return {"result": result, "lines": lines, "calls": calls}


def router(answers=True, up=(EAST, WEST), **more):
    """Return what the router says of itself."""
    return dict({"answers": answers, "error": None if answers else "refused", "readiness": {"status": 200, "healthy": len(up), "total": len(up)},
                 "up": list(up), "down": [], "missing": [], "other": [], "unreachable": {}}, **more)


def seen(phase="running", said=None, **more):
    """Return what proxy_probe says of a slice."""
    return dict({"changed": False, "phase": phase, "exit_code": None, "restarts": 0, "router": said, "telling": [], "log": []}, **more)


def test_it_is_waited_for_until_every_backend_is_there():
    found = wait([seen(said=router(False, ())), seen(said=router(up=[EAST], unreachable={WEST: "timed out"})), seen("ready", router())])
    assert found["result"]["failed"] is False and found["result"]["outcome"] == "ready" and found["result"]["elapsed_s"] == 15.0
    assert found["lines"] == ["  [    5 s of at most 120 s] a2-node0: the proxy does not answer yet, 2 backends are wanted",
                              "  [   10 s of at most 120 s] a2-node0: 1 of 2 backends are up"]
    assert found["calls"][0]["slice_s"] == 5.0 and found["calls"][0]["api_key"] == SECRET and found["calls"][0]["restarts"] is None


def test_a_start_that_the_engine_makes_meanwhile_is_an_end():
    assert [call["restarts"] for call in wait([seen(restarts=7), seen(restarts=7), seen("ready", router())])["calls"]] == [None, 7, 7]
    assert [call["restarts"] for call in wait([seen(restarts=0), seen("ready", router())], fresh=True)["calls"]] == [0, 0]


@pytest.mark.parametrize(("said", "words"), [
    (router(False, ()), "does not answer (refused), wanted 2 backends at http://198.51.100.11:1999"),
    (router(up=[EAST], unreachable={WEST: "HTTP 503"}, down=[WEST]), f"backends: {WEST} does not answer a2-node0: HTTP 503. Wanted"),
    (router(up=[EAST], down=[WEST]), f"{WEST} is unhealthy for the proxy"),
    (router(up=[EAST], missing=[WEST]), f"the proxy does not have {WEST}"),
    (router(other=["http://x"]), "the proxy also has http://x"),
    (router(readiness={"status": 503, "healthy": 0, "total": 2}), "/readiness says HTTP 503, 0 healthy of 2"),
])
def test_the_limit_names_what_is_not_there(said, words):
    found = wait([seen(said=said)] * 2, limit_s=10)["result"]
    assert found["failed"] and found["outcome"] == "limit" and words in found["msg"] and "after 10 s" in found["msg"] and "Remedy: " in found["msg"]


def test_what_a_proxy_that_ended_says_is_explained():
    log = ["Error starting router: Address already in use (os error 98)"]
    found = wait([seen("exited", exit_code=1, telling=log, log=log)])["result"]
    assert found["failed"] and found["outcome"] == "exited"
    assert found["msg"].splitlines() == [
        "a2-node0: vllm-proxy ended with exit status 1, wanted a proxy that goes on. The port of the proxy is taken on its host. Remedy: ss -ltnp shows who "
        "listens there; stop it, or choose another port in vllm_proxy.", *log]
    zh = wait([seen("exited", exit_code=1, telling=log, log=log)], language="zh")["result"]["msg"]
    assert "端口" in zh


@pytest.mark.parametrize(("telling", "log", "words"), [
    (["thread panicked"], ["INFO", "thread panicked"], "the first error is:\nthread panicked"), ([], ["INFO"], "the first error is:\nINFO"),
    ([], [], "(it has no log)"),
])
def test_an_end_that_nobody_knows_shows_the_log(telling, log, words):
    found = wait([seen("exited", telling=telling, log=log)])["result"]
    assert found["failed"] and words in found["msg"] and "Remedy: see its log, docker logs vllm-proxy" in found["msg"]


def test_one_that_is_gone_and_one_that_cannot_be_asked():
    assert "found no container vllm-proxy" in wait([seen("absent")])["result"]["msg"]
    found = wait([{"failed": True, "msg": "the Docker engine does not answer"}])["result"]
    assert found["failed"] and found["msg"] == "a2-node0: the Docker engine does not answer"


@pytest.mark.parametrize("wrong", [{"backends": None}, {"limit_s": "long"}, {"surprise": 1}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(AnsibleActionFail):
        wait([], **wrong)


def test_the_documentation_lists_the_plugin_s_options():
    assert set(documented_options(documented)) == {
        "container", "url", "kind", "backends", "also", "api_key", "fresh", "limit_s", "slice_s", "language", "data_dirs"}
