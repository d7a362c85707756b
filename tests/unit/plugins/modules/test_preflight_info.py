# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight_info: everything in one round trip, nothing asked twice, and one answer that fails does not take the others with it."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_artefacts, ask_hccn, ask_node, ask_npu, tools
from ansible_collections.ascend.vllm.plugins.modules import preflight_info

COLLECTORS = {"node": ask_node, "npu": ask_npu, "hccn": ask_hccn, "artefacts": ask_artefacts}


@pytest.fixture
def asked(monkeypatch):
    """Answers of the collectors, by name, and what each was asked."""
    questions, answers = {}, {name: {"said": name} for name in COLLECTORS}
    answers["npu"].update(npus=[{"npu_id": 0}], hardware="a2")

    def replace(name, collector):
        def answer(**given):
            questions[name] = given
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]

        monkeypatch.setattr(collector, "answer", answer)

    for name, collector in COLLECTORS.items():
        replace(name, collector)
    return questions, answers


def test_every_collector_gets_its_questions(run_module, asked):
    result = run_module(preflight_info, paths=["/a"], ports=[1], disk_paths=["/d"], sysctls=["vm.swappiness"], local_ip="192.0.2.1", images=["i"],
                        image_sources={"i": ["j"]}, registry_logins={"r": {"auth": "x"}},
                        weights=[{"dir": "/w"}], containers=["c"], devices=[3, 4], timeout=7)
    questions, answers = asked
    assert {name: result[name] for name in COLLECTORS} == answers and result["changed"] is False
    assert questions == {
        "npu": {"timeout": 14.0},
        "node": {"hardware": "a2", "timeout": 7.0, "paths": ["/a"], "ports": [1], "disk_paths": ["/d"], "sysctls": ["vm.swappiness"],
                 "local_ip": "192.0.2.1"},
        "hccn": {"devices": [3, 4], "timeout": 7.0},
        "artefacts": {"images": ["i"], "image_sources": {"i": ["j"]}, "registry_logins": {"r": {"auth": "x"}}, "weights": [{"dir": "/w"}], "containers": ["c"]},
    }


@pytest.mark.parametrize("npu", [{"npus": [], "hardware": "a2"}, {"npus": [{}], "hardware": "unknown"}, tools.NoAnswer("no tool", {"hardware": "a2"})])
def test_hardware_that_the_table_does_not_tell_is_looked_for(run_module, asked, npu):
    questions, answers = asked
    answers["npu"] = npu
    assert not run_module(preflight_info)["failed"] and questions["node"]["hardware"] is None


@pytest.mark.parametrize("name", COLLECTORS)
def test_an_answer_that_fails_leaves_the_others(run_module, asked, name):
    _questions, answers = asked
    answers[name] = tools.NoAnswer("not found. Install it.", {"searched": ["/x"]})
    result = run_module(preflight_info)
    assert not result["failed"] and result[name] == {"msg": "not found. Install it.", "searched": ["/x"]}
    assert all(result[other] == answers[other] for other in COLLECTORS if other != name)


@pytest.mark.parametrize("name", COLLECTORS)
def test_a_surprise_is_said_of_its_own_collector(run_module, asked, name):
    _questions, answers = asked
    answers[name] = KeyError("State")
    result = run_module(preflight_info)
    assert not result["failed"] and "KeyError: 'State'" in result[name]["msg"] and "Traceback" in result[name]["exception"]
    assert all(result[other] == answers[other] for other in COLLECTORS if other != name)


def test_a_timeout_of_nothing_is_refused(run_module, asked):
    assert "more than 0 seconds" in run_module(preflight_info, timeout=0)["msg"]


def test_the_real_collectors_on_any_machine(run_module):
    """Whatever this machine has: all four answer, and a machine without tools says which are missing."""
    result = run_module(preflight_info, devices=[], paths=["/"], local_ip="127.0.0.1")
    assert result["node"]["paths"]["/"]["type"] == "directory" and result["node"]["free_port"] > 0
    assert "docker_error" in result["artefacts"] and ("npus" in result["npu"] or result["npu"]["msg"])
    assert "devices" in result["hccn"] or result["hccn"]["msg"]
