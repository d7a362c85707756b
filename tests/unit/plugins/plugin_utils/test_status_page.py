# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page and the terminal's tables of a report of status."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import pages, status_page
from ansible_collections.ascend.vllm.plugins.plugin_utils.data import BUNDLED, read_yaml
from ansible_collections.ascend.vllm.tests.unit.plugins.status_cluster import HANGS, Serving

TEMPLATE = (pages.TEMPLATES / "status.html.j2").read_text(encoding="utf-8")
SOURCE = (BUNDLED.parent / "plugins/plugin_utils/status_page.py").read_text(encoding="utf-8")
TEXTS = read_yaml(BUNDLED / "words" / "status.yml")["status"]["words"]


def render(report):
    """Return the page of a report."""
    return pages.render(TEMPLATE, report, status_page.status_view)


def names_in(text):
    """Return the placeholders of a text."""
    return {name for dummy, name, dummy2, dummy3 in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", TEXTS)
def test_every_word_is_there_in_each_language_and_used(key):
    texts = TEXTS[key]
    assert set(texts) == set(pages.LANGUAGES) and all(texts.values()) and names_in(texts["en"]) == names_in(texts["zh"])
    assert re.search(rf"[\"'.]{key}\b", TEMPLATE + SOURCE) or re.match(r"(state|text)_(serving|degraded|down)$", key)


def hung():
    """Return a pair whose second container is dead and whose completions hang."""
    serving = Serving()
    serving.container(1).update(running=False, status="exited", exit_code=137, uptime_s=None, pids=[])
    for entry in serving.said["a2-node1"]["npu"]["npus"]:
        entry["processes"] = []
    serving.service.update(completion=HANGS, ranks=[dict(HANGS, rank=rank) for rank in range(4)])
    return serving


def test_the_table_of_a_group_that_serves():
    lines = status_page.status_table(Serving().report())
    assert [line.split() for line in lines[:6]] == [
        ["HOST", "CONTAINER", "STATE", "IMAGE", "UP", "FOR", "RESTARTS", "HBM", "LINKS"],
        ["a2-node0", "vllm-rank0", "running", "0123456789ab", "3d", "4h", "0", "461/512", "GB", "8", "of", "8"],
        ["a2-node1", "vllm-rank2", "running", "0123456789ab", "3d", "4h", "0", "461/512", "GB", "8", "of", "8"],
        [],
        ["GROUP", "STATE", "HEALTH", "MODELS", "COMPLETION", "RUNNING/WAITING", "RANKS"],
        ["vllm", "serving", "200", "deepseek_r1", "0.8", "s", "2/1", "4", "of", "4"],
    ]
    assert [re.sub(r"\d+", "N", line) for line in lines[6:]] == ["", "aN-nodeN: N pass", "aN-nodeN: N pass"]
    # Lines joined by newlines are shown as they are by Ansible's YAML output only so.
    assert all(line == line.rstrip() for line in lines) and lines[0][0] != " "


def test_the_table_of_a_group_that_is_down():
    lines = status_page.status_table(hung().report())
    assert "exited (137)" in lines[2] and lines[5].split() == ["vllm", "down", "200", "deepseek_r1", "none", "in", "30", "s", "2/1", "0", "of", "4"]
    text = "\n".join(lines)
    assert "/health says 200, but a completion did not come back within 30 s" in text and "Remedy: a rank or the network between nodes is stuck" in text


@pytest.mark.parametrize(("change", "cell"), [
    ({"completion": dict(HANGS, timed_out=False, status=401), "ranks": None}, "HTTP 401"),
    ({"completion": dict(HANGS, timed_out=False), "ranks": None}, "–"),
])
def test_a_completion_that_did_not_come(change, cell):
    serving = Serving()
    serving.service.update(change)
    lines = status_page.status_table(serving.report())
    assert re.split(r"  +", lines[5])[4:] == [cell, "2/1", "–"]


def test_a_node_that_is_silent_and_a_host_without_units():
    serving = Serving()
    serving.lose(1)
    assert re.split(r"  +", status_page.status_table(serving.report())[2]) == ["a2-node1", "vllm-rank2", "unknown", *"–––––"]
    for host in serving.hosts:
        serving.plan["hosts"][host]["units"] = []
    report = serving.report()
    assert status_page.status_table(report)[0] == "no containers of the plan" and "no containers of the plan" in render(report)


def test_why_a_run_fails():
    assert status_page.status_lines(Serving().report()) == []
    lines = status_page.status_lines(hung().report())
    assert lines[0] == "vllm: down: No completion comes back. Problems: 3."
    assert len(lines) == 4 and all(line.startswith("[fail] a2-node") and "Remedy: " in line for line in lines[1:])


@pytest.mark.parametrize(("make", "state", "banner", "words"), [
    (Serving, "serving", "pass", "Serving"), (hung, "down", "fail", "Down"),
])
def test_the_page(make, state, banner, words):
    page = render(make().report())
    assert f'data-state="{state}"' in page and f'class="card banner {banner}"' in page and f"<title>Status report: {words}</title>" in page
    assert page.count("<h2>") == 5 and page.count('class="card node"') == 2 and page.rstrip().endswith("</html>")
    assert '<tr class="pass" data-state="running">' in page and 'data-npu="7"' in page and ":root {" in page
    assert not re.search(r"\{[{%]", page) and not re.search(r"(src|href)=\"(?!#)", page)


def test_the_page_in_chinese_and_of_a_group_that_is_degraded():
    serving = Serving()
    serving.plan["run"]["language"] = "zh"
    serving.npu(2)["health"] = "Alarm"
    page = render(serving.report())
    assert "<title>状态报告: 服务降级</title>" in page and 'lang="zh-CN"' in page and "存在 1 个问题" in page


def test_what_a_node_prints_does_nothing_on_the_page():
    serving = Serving()
    serving.container(0).update(running=False, status="<script>alert(1)</script>", exit_code=1, error="<b>{{ 7 * 7 }}</b>")
    page = render(serving.report())
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page and "{{ 7 * 7 }}" in page


def test_kv_transfer_is_shown_by_rank_and_what_is_not_told_is_no_fault():
    serving = Serving()
    none = dict.fromkeys(("tokens", "asked", "transfers", "bytes", "failed", "expired"))
    told = {"tokens": 42, "asked": 45, "transfers": 4, "bytes": 12345000, "failed": 1, "expired": 0}
    serving.service["transfers"] = [told, {**none, "tokens": 0, "asked": 45}, none, None]
    report = serving.report()
    assert report["state"] == "serving" and report["groups"]["vllm"]["transfers"][0] == told
    lines = [re.split(r"  +", line) for line in status_page.status_table(report)]
    at = lines.index(["GROUP", "RANK", "KV TOKENS FETCHED", "ASKED FOR", "TRANSFERS"])
    not_told = "not told by this server"
    assert lines[at + 1:at + 5] == [["vllm", "0", "42", "45", "4, 12.3 MB, 1 failed, 0 expired"], ["vllm", "1", "0", "45", not_told],
                                    ["vllm", "2", not_told, not_told, not_told], ["vllm", "3", "–", "–", "–"]]
    page = render(report)
    assert "<td>4, 12.3 MB, 1 failed, 0 expired</td>" in page and page.count(f"<td>{not_told}</td>") == 4 and 'href="#transfers"' in page
    serving.plan["run"]["language"] = "zh"
    assert "此服务未提供" in render(serving.report())
    assert "KV" not in render(Serving().report())


def test_facts_that_status_does_not_ask_are_left_out():
    facts = [fact["label"] for fact in status_page.status_view(Serving().report())["nodes"][0]["facts"]]
    assert facts == ["Address", "Hardware", "Driver"]


def test_a_state_that_is_not_known_is_down():
    view = status_page.status_view({"verb": "status", "state": "odd", "groups": {"vllm": {}}, "nodes": {"a": None}})
    assert (view["state"], view["banner"], view["services"][0]["kind"], view["units"]) == ("down", "fail", "fail", [])
