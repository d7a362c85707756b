# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped data sets and gates, and what the loader refuses of a site's."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.module_utils import data_sets
from ansible_collections.ascend.vllm.plugins.plugin_utils import data

SHIPPED = data.load_all(kinds=data.CLIENT_KINDS)[0]


@pytest.mark.parametrize("name", sorted(SHIPPED["sets"]))
def test_a_shipped_set_is_one_that_the_clients_and_the_module_know(name):
    entry = SHIPPED["sets"][name]
    for part in entry["files"]:
        assert part["format"] in data_sets.FORMATS and part["lines"] >= 1
        assert re.fullmatch(r"[0-9a-f]{64}", part.get("sha256", "0" * 64)) and ("url" in part) <= ("sha256" in part)
    assert entry["samples"] in [part["lines"] for part in entry["files"]]
    assert set(entry["tools"]) == {tool for tool, client in SHIPPED["clients"].items() if name in client.get("sets", {})}
    assert ("name" in entry["tools"]["aisbench"]) and re.compile(entry["answered"])


@pytest.mark.parametrize(("name", "whole", "cut"), [
    ("gsm8k", ["so 3 + 4 = 7\n#### 7", "answer: 7", r"\boxed{7}", "The answer is 7."], ["First we add 3 and 4", "3 + 4 = 7 and then we"]),
    ("gpqa", ["Answer: C"], ["Option C would mean that"]),
    ("aime2024", [r"Thus \boxed{204}"], ["Thus 204 would"]),
])
def test_what_a_whole_answer_contains(name, whole, cut):
    pattern = re.compile(SHIPPED["sets"][name]["answered"])
    assert all(pattern.search(text) for text in whole) and not any(pattern.search(text) for text in cut)


def loaded(tmp_path, kind, name, change):
    """Return the checks of a site's folder in which a shipped entry is replaced by a changed one; None removes a key."""
    entry = copy.deepcopy(SHIPPED[kind][name])
    for key, value in change.items():
        if value is None:
            entry.pop(key)
        else:
            entry[key] = value
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "site.yml").write_text(yaml.safe_dump({name: entry}), encoding="utf-8")
    found, checks = data.load_all([str(tmp_path)], data.CLIENT_KINDS)
    assert (name in found[kind]) == (checks == [])
    return checks


@pytest.mark.parametrize(("kind", "name", "change"), [
    ("sets", "gsm8k", {"samples": 8}), ("sets", "gsm8k", {"answered": None, "unanswered_max_percent": None}),
    ("gates", "gsm8k", {"floor": 42.5, "published": 50}),
    ("gates", "gsm8k", {"tools": {"lm_eval": []}}), ("gates", "throughput", {"ratio": 1}),
])
def test_entries_that_a_site_may_have(tmp_path, kind, name, change):
    assert loaded(tmp_path, kind, name, change) == []


@pytest.mark.parametrize(("kind", "name", "change", "words"), [
    ("sets", "gsm8k", {"samples": 0}, "samples 0"), ("sets", "gsm8k", {"samples": "8"}, "samples '8' (a text)"),
    ("sets", "gsm8k", {"samples": True}, "samples True"), ("sets", "gsm8k", {"samples": None}, "no samples"), ("sets", "gsm8k", {"files": []}, "files []"),
    ("sets", "gsm8k", {"files": [{"path": "x"}]}, "files ["), ("sets", "gsm8k", {"tools": {"lm_eval": {}}}, "tools {"),
    ("sets", "gsm8k", {"answered": "("}, "answered '(' (a text): missing )"),
    ("sets", "gsm8k", {"unanswered_max_percent": 101}, "unanswered_max_percent 101"), ("gates", "gsm8k", {"kind": "score"}, "kind 'score' (a text)"),
    ("gates", "gsm8k", {"kind": None}, "no kind"), ("gates", "gsm8k", {"floor": None}, "floor nothing"),
    ("gates", "gsm8k", {"floor": "90"}, "floor '90' (a text)"), ("gates", "gsm8k", {"floor": 101}, "floor 101 of 1319 samples"),
    ("gates", "gsm8k", {"samples": 1.5}, "samples 1.5"), ("gates", "gsm8k", {"recipes": []}, "recipes []"),
    ("gates", "gsm8k", {"tools": {"lm_eval": "x"}}, "tools {"), ("gates", "throughput", {"ratio": 0}, "ratio 0"),
    ("gates", "throughput", {"ratio": 1.1}, "ratio 1.1"), ("gates", "throughput", {"metrics": {}}, "metrics {}"),
])
def test_entries_that_could_not_judge_are_refused(tmp_path, kind, name, change, words):
    check, = loaded(tmp_path, kind, name, change)
    assert f"{kind} entry {name} with {words}" in check["observed"] and check["remedy"]
