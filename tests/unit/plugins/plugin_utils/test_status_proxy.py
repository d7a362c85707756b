# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status of a proxy: what is asked, how it is judged, and what table and page show of it. A test breaks one thing of a proxy that serves."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import status, status_page
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import LABEL
from ansible_collections.ascend.vllm.tests.unit.plugins.status_cluster import HANGS, Serving, done

EAST, WEST, NAME = "http://198.51.100.11:8000", "http://198.51.100.13:8000", "vllm-proxy"
COMMAND = "vllm-router --port 1999 --worker-urls"


class Proxied(Serving):
    """The same with a proxy on the second host, in front of the group and of another one, which the plan of this test leaves out."""

    def __init__(self):
        super().__init__()
        self.place = self.hosts[1]
        self.proxy = {"name": NAME, "kind": "vllm-router", "host": self.place, "url": "http://198.51.100.12:1999", "served_model_name": "deepseek_r1",
                      "groups": ["vllm", "west"], "command": COMMAND, "api_key_file": "/etc/keys/vllm",
                      "backends": [{"group": "vllm", "url": EAST}, {"group": "west", "url": WEST}]}
        self.plan["proxies"] = {"proxy": self.proxy}
        self.container_ = dict(self.container(0), image="ascend-vllm-client/vllm_router:0123", labels={LABEL: NAME, "ascend.vllm.command": COMMAND})
        self.said[self.place]["docker"]["containers"][NAME] = self.container_
        self.router = {"answers": True, "error": None, "readiness": {"status": 200, "healthy": 2, "total": 2}, "up": [EAST, WEST], "down": [], "missing": [],
                       "other": [], "unreachable": {}}
        self.answer = {"router": self.router, "completion": done()}
        self.said[self.place]["proxies"] = {NAME: self.answer}

    def shown(self):
        """Return (state, [(check, device, status)] of what did not pass) of the proxy."""
        report = self.report()
        found = report["proxies"][NAME]
        return found["state"], [(entry["check"], entry["device"], entry["status"]) for entry in report["checks"] if entry["status"] != "pass"]


def test_its_host_is_asked_for_its_container_its_list_and_a_completion():
    cluster = Proxied()
    asked = status.status_questions(cluster.plan)
    assert asked[cluster.place]["containers"] == ["vllm-rank2", NAME] and asked[cluster.place]["key_files"] == {NAME: "/etc/keys/vllm"}
    assert asked[cluster.place]["proxies"] == [{"name": NAME, "url": "http://198.51.100.12:1999", "kind": "vllm-router", "model": "deepseek_r1",
                                                "backends": [EAST, WEST]}]
    assert asked[cluster.hosts[0]]["proxies"] == []


def test_one_that_serves():
    cluster = Proxied()
    assert cluster.shown() == ("serving", [])
    found = cluster.report()["proxies"][NAME]
    assert found["backends"] == [{"group": "vllm", "url": EAST, "state": "up"}, {"group": "west", "url": WEST, "state": "up"}] and found["backends_up"] == 2
    # The engine may start it again.
    cluster.container_["restarts"] = 3
    assert cluster.shown() == ("serving", [])


def broken(change):
    """Return a cluster with a change of it."""
    cluster = Proxied()
    change(cluster)
    return cluster


@pytest.mark.parametrize(("change", "state", "checks"), [
    (lambda cluster: cluster.router.update(up=[EAST], missing=[WEST]), "degraded", [("proxy_backends", f"{NAME} west", "fail")]),
    (lambda cluster: cluster.router.update(up=[EAST], down=[WEST]), "degraded", [("proxy_backends", f"{NAME} west", "fail")]),
    (lambda cluster: cluster.router.update(unreachable={WEST: "HTTP 503"}), "degraded", [("proxy_backends", f"{NAME} west", "fail")]),
    (lambda cluster: cluster.router.update(other=["http://x"]), "serving", [("proxy_backends", NAME, "warn")]),
    (lambda cluster: cluster.container_["labels"].update({"ascend.vllm.command": "vllm-router --port 1998 --worker-urls"}), "degraded",
     [("proxy_command", NAME, "fail")]),
    # One that an earlier release has made.
    (lambda cluster: cluster.container_["labels"].pop("ascend.vllm.command"), "degraded", [("proxy_command", NAME, "fail")]),
    (lambda cluster: cluster.answer.update(completion=HANGS), "down", [("proxy_completion", NAME, "fail")]),
    (lambda cluster: (cluster.router.update(answers=False, error="refused"), cluster.answer.update(completion=HANGS)), "down",
     [("proxy_backends", NAME, "fail"), ("proxy_completion", NAME, "fail")]),
    (lambda cluster: (cluster.container_.update(running=False, exit_code=1, status="exited"), cluster.answer.update(completion=HANGS)), "down",
     [("proxy_runs", NAME, "fail")]),
    (lambda cluster: (cluster.container_.clear(), cluster.answer.update(completion=HANGS)), "down", [("proxy_runs", NAME, "fail")]),
    (lambda cluster: cluster.container_.update(labels={}), "degraded", [("proxy_runs", NAME, "fail")]),
])
def test_what_is_wrong_with_it_is_said_and_fails_the_run(change, state, checks):
    cluster = broken(change)
    assert cluster.shown() == (state, checks)
    report = cluster.report()
    assert report["state"] == state and report["groups"]["vllm"]["state"] == "serving"
    lines = "\n".join(status_page.status_lines(report))
    assert (state == "serving") == (f"{NAME}: {state}" not in lines)


def test_a_host_that_does_not_answer_is_named_once():
    cluster = Proxied()
    cluster.lose(1)
    report = cluster.report()
    assert report["proxies"][NAME]["state"] == "down" and report["proxies"][NAME]["backends"][0]["state"] == "unknown"
    assert [entry["host"] for entry in report["checks"] if entry["check"] == "node_answers" and entry["status"] != "pass"] == [cluster.place]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_and_the_page_have_it_and_each_backend(language):
    cluster = broken(lambda cluster: cluster.router.update(up=[EAST], missing=[WEST]))
    cluster.plan["run"]["language"] = language
    report = cluster.report()
    lines = status_page.status_table(report)
    [row] = [line.split() for line in lines if line.startswith(f"{NAME} ") and "1999" in line]
    assert row[1:4] == [cluster.place, "degraded", "running"]
    assert [line.split() for line in lines if line.startswith(f"{NAME} ") and line.split()[1] in (EAST, WEST)] == [
        [NAME, EAST, "vllm", "up"], [NAME, WEST, "west", "missing"]]
    view = status_page.status_view(report)
    assert [entry["kind"] for entry in view["proxies"]] == ["warn"] and [entry["kind"] for entry in view["backends"]] == ["pass", "fail"]


def test_without_a_proxy_nothing_is_said_of_one():
    report = Serving().report()
    assert report["proxies"] == {} and not any("PROXY" in line for line in status_page.status_table(report))
