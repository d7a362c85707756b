# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of evaluate and benchmark, and what its page shows, before it is laid out and after."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree
from string import Formatter

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import pages, results_page
from ansible_collections.ascend.vllm.plugins.plugin_utils.data import BUNDLED, read_yaml

NAN = float("nan")
TEMPLATES = "".join((pages.TEMPLATES / name).read_text(encoding="utf-8") for name in (
    "evaluate.html.j2", "benchmark.html.j2", "page/results.html.j2", "page/plot.html.j2"))
SOURCE = (BUNDLED.parent / "plugins/plugin_utils/results_page.py").read_text(encoding="utf-8")
TEXTS = read_yaml(BUNDLED / "words" / "evaluate.yml")["evaluate"]["words"]
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}</svg>\x1b[31m"

SCORE = {
    "schema": 1, "kind": "accuracy", "id": "20260502T090000Z-aisbench-gpqa", "group": "vllm", "tool": "aisbench", "tool_version": "3.1", "set": "gpqa",
    "limit": None, "model": "deepseek_r1", "started": "2026-05-02T09:00:00Z", "seconds": 90, "samples": {"wanted": 198, "done": 198, "failed": 0, "empty": 0},
    "score": {"metric": "accuracy", "percent": 72.73, "std_error": 3.17}, "load": None, "performance": None,
    "gate": {"outcome": "pass", "value": 72.73, "floor": 64.2, "baseline": 72.22, "source": "a page", "reason": ""},
    "configuration": {"temperature": 0.6, "stream": True}, "added": [{"name": "max_out_len", "value": 32768, "reason": "why"}],
    "deployment": {"id": "d1", "release": "v0.13.0", "image": "i", "image_id": "sha256:0123456789abcdef", "recipe": "r", "plan_hash": "h"},
}
SPEED = {
    **SCORE, "kind": "performance", "id": "20260502T090000Z-vllm_serve-1", "tool": "vllm_serve", "set": None, "score": None,
    "load": {"request_rate": 1.0, "max_concurrency": None, "input_len": 200, "output_len": 128, "num_prompts": 200},
    "performance": {"output_throughput": 128.0, "total_token_throughput": 328.0, "request_throughput": 1.0, "duration_s": 200.0,
                    "ttft_ms": {"mean": 180.0, "p50": 170.0, "p90": 200.0, "p99": 15000.0}, "tpot_ms": {"mean": 38.0, "p50": 37.0, "p90": 45.0, "p99": 60.0}},
    "gate": {"outcome": "pass", "value": 128.0, "floor": 124.16, "baseline": 128.0, "source": "this site", "reason": ""},
}


def changed(record, **change):
    """Return a copy of a record; ``part__key=value`` changes one key of a part."""
    found = copy.deepcopy(record)
    for name, value in change.items():
        name, dummy, key = name.partition("__")
        if key:
            found[name][key] = value
        else:
            found[name] = value
    return found


def view_of(*records, verb="evaluate", history=(), language="en"):
    """Return what the page shows of some records."""
    return results_page.results_view(results_page.build(list(records), verb, history, language, "0.1.0"))


def page_of(*records, verb="evaluate", history=(), language="en"):
    """Return the page of some records."""
    template = (pages.TEMPLATES / f"{verb}.html.j2").read_text(encoding="utf-8")
    return pages.render(template, results_page.build(list(records), verb, history, language, "0.1.0"), results_page.results_view)


def names_in(text):
    """Return the placeholders of a text."""
    return {name for dummy, name, dummy2, dummy3 in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", TEXTS)
def test_every_word_is_there_in_each_language_and_used(key):
    texts = TEXTS[key]
    assert set(texts) == set(pages.LANGUAGES) and all(isinstance(text, str) and text.strip() for text in texts.values())
    assert names_in(texts["en"]) == names_in(texts["zh"])
    # Words that end in an outcome, an axis or a part of the drawing are looked up by it.
    made = re.match(r"((outcome|text|count|short)_(pass|none|below|invalid|empty)|(rate|concurrency)_axis|samples_(failed|empty)|legend_\w+)$", key)
    assert made or re.search(rf"[\"'.]{key}\b", TEMPLATES + SOURCE)


def test_only_known_words_are_used():
    used = set(re.findall(r"texts\.(\w+)", TEMPLATES)) | set(re.findall(r"texts\[\"(\w+)\"\]", SOURCE))
    assert used and used <= set(TEXTS)


@pytest.mark.parametrize(("outcomes", "outcome", "result"), [
    (["pass", "pass"], "pass", "pass"), (["pass", "none"], "pass", "pass"), (["none"], "none", "pass"), ([None], "none", "pass"),
    (["pass", "below"], "below", "fail"), (["below", "invalid"], "invalid", "fail"), (["odd"], "invalid", "fail"), ([], "empty", "fail"),
])
def test_a_run_is_as_bad_as_its_worst_result(outcomes, outcome, result):
    records = [changed(SCORE, gate__outcome=found) for found in outcomes]
    report = results_page.build(records, "evaluate", language="en", version="1")
    assert (report["outcome"], report["result"]) == (outcome, result)
    view = results_page.results_view(report)
    assert view["outcome"] == outcome and len(view["reasons"]) == sum(found in ("below", "invalid", "odd") for found in outcomes)


def test_a_report_is_strict_json_and_counts_a_record_once():
    record = changed(SCORE, score__std_error=NAN, configuration={"deep": [{"x": float("inf")}]})
    older = changed(SCORE, id="older", started="2026-01-01T00:00:00Z")
    report = results_page.build([record], "evaluate", [SCORE, older, changed(older, id="oldest", started="2025-12-01T00:00:00Z")])
    json.loads(json.dumps(report), parse_constant=pytest.fail)
    assert report["records"][0]["score"]["std_error"] is None and report["records"][0]["configuration"] == {"deep": [{"x": None}]}
    assert [entry["id"] for entry in report["history"]] == ["oldest", "older"] and report["started_at"] == "2026-05-02T09:00:00Z"


def test_reasons_are_invalid_first_with_found_and_wanted():
    below = changed(SCORE, gate__outcome="below", gate__reason="too low", score__percent=60.0)
    invalid = changed(SCORE, gate__outcome="invalid", gate__reason="3 failed", samples__failed=3, samples__empty=2, set="aime2024")
    reasons = view_of(below, invalid)["reasons"]
    assert [(entry["outcome"], entry["what"], entry["reason"]) for entry in reasons] == [
        ("invalid", "aime2024 · aisbench", "3 failed"), ("below", "gpqa · aisbench", "too low")]
    facts = [{fact["label"]: fact["text"] for fact in entry["facts"]} for entry in reasons]
    assert "Found" not in facts[0] and facts[0]["Samples"] == "198 of 198, 3 failed, 2 empty"
    assert (facts[1]["Found"], facts[1]["Wanted"], facts[1]["Baseline"]) == ("60.00 ± 3.17 %", "at least 64.20 %", "72.22 %")


@pytest.mark.parametrize(("change", "value", "shown"), [
    ({}, 128.0, "128 token/s"), ({"gate__value": 328.0}, 328.0, "328 token/s"), ({"gate__value": 1.0}, 1.0, "1.00 req/s"),
    ({"gate__value": 180.0}, 180.0, "180 ms"), ({"gate__value": 15000.0}, 15000.0, "15.0 s"), ({"gate__value": 77.0}, 77.0, "77.0 token/s"),
    ({"gate__value": None}, 128.0, "128 token/s"), ({"gate__value": NAN}, 128.0, "128 token/s"), ({"gate": None}, 128.0, "128 token/s"),
    ({"gate__value": None, "gate__outcome": "invalid"}, None, "–"), ({"gate": None, "performance": None}, None, "–"),
    ({"gate": None, "performance": {"e2el_ms": {"mean": 41200}}}, 41200.0, "41.2 s"),
])
def test_the_number_a_speed_is_compared_by(change, value, shown):
    view = results_page._View(results_page.build([changed(SPEED, **change)], "benchmark"))
    assert (view.value_of(view.records[0])[0], view.value_text(view.records[0])) == (value, shown)


@pytest.mark.parametrize(("loads", "wanted"), [
    ([(1, None), (2, None)], [("rate", 2)]), ([(None, 1), (None, 8)], [("concurrency", 2)]), ([(None, 4)], [("concurrency", 1)]),
    ([(None, None)], [("rate", 1)]), ([(4, 16)], [("rate", 1)]), ([(4, 16), (4, 32)], [("concurrency", 2)]), ([(1, 16), (2, 16)], [("rate", 2)]),
    ([(1, 16), (2, 32), (2, 16), (2, None)], [("rate", 2), ("rate", 1), ("rate", 1)]), ([], []),
])
def test_what_varies_in_a_sweep(loads, wanted):
    records = [changed(SPEED, load__request_rate=rate, load__max_concurrency=count) for rate, count in loads]
    assert [(axis, len(listed)) for axis, listed in results_page.sweeps(records)] == wanted


def test_other_tools_and_shapes_of_requests_are_other_sweeps():
    records = [SPEED, changed(SPEED, load__input_len=3500), changed(SPEED, tool="aisbench"), changed(SPEED, load__num_prompts=400)]
    assert [len(listed) for dummy, listed in results_page.sweeps(records)] == [2, 1, 1]
    assert [load["title"] for load in view_of(*records, verb="benchmark")["loads"]] == [
        "vllm_serve · input 200, output 128 tokens", "vllm_serve · input 3,500, output 128 tokens", "aisbench · input 200, output 128 tokens"]


def test_plots_of_a_sweep():
    records = [changed(SPEED, load__request_rate=rate, id=str(rate)) for rate in (4, 1, None)]
    [load] = view_of(*records, verb="benchmark")["loads"]
    assert [plot["title"] for plot in load["plots"]] == ["Throughput", "Requests finished", "Time to first token (TTFT)", "Time per output token (TPOT)"]
    assert [row["cells"][0] for row in load["rows"]] == ["1 req/s", "4 req/s", "all at once"]
    assert [row["load"] for row in load["latency_rows"]] == ["1 req/s", "4 req/s", "all at once"] and load["latency_rows"][0]["cells"][:2] == ["180", "170"]
    assert [entry["name"] for entry in load["latencies"]] == ["TTFT", "TPOT"]
    # The slowest first token took 15 s.
    names = [entry["text"] for entry in load["plots"][2]["items"] if entry["attributes"]["class"] == "name"]
    assert names == ["s, log", "Request rate (req/s); ∞: no limit"] and "170 ms to 15.0 s" in load["plots"][2]["about"]


def test_a_sweep_without_a_valid_value_has_no_plots():
    [load] = view_of(changed(SPEED, gate__outcome="invalid"), verb="benchmark")["loads"]
    assert load["plots"] == [] and load["rows"][0]["badge"] == {"kind": "unknown", "text": "invalid"}


def test_runs_over_time_are_those_of_one_set_and_tool():
    history = [changed(SCORE, id=str(month), started=f"2026-{month:02}-01T00:00:00Z", deployment__release=f"v{month // 3}") for month in range(1, 5)]
    history += [changed(SCORE, id="x", set="aime2024", started="2026-01-01T00:00:00Z"), changed(SCORE, id="y", tool="lm_eval", started="2026-01-01T00:00:00Z")]
    over = view_of(SCORE, history=history)["over_time"]
    assert [[plot["title"] for plot in group["plots"]] for group in over["groups"]] == [["gpqa"]] and over["others_text"] == "Not in this run: 2 more"
    assert [group["title"] for group in over["others"]] == ["aisbench", "lm_eval"]
    assert len(over["rows"]) == 7 and over["rows"][0]["mine"] and not any(row["mine"] for row in over["rows"][1:])
    letters = [entry["text"] for entry in over["groups"][0]["plots"][0]["items"] if entry["attributes"]["class"] == "letter"]
    assert len(letters) == 3


def test_only_the_last_runs_are_drawn_and_it_is_said():
    history = [changed(SCORE, id=str(number), started=f"2026-01-01T00:{number:02}:00Z") for number in range(40)]
    [group] = view_of(SCORE, history=history)["over_time"]["groups"]
    assert group["plots"][0]["note"] == "The last 24 of 41 runs."
    assert len([entry for entry in group["plots"][0]["items"] if "circle" in entry["attributes"]["class"].split()]) == 24


def test_a_speed_s_floor_is_said_in_percent_of_its_baseline():
    [group] = view_of(SPEED, verb="benchmark")["over_time"]["groups"]
    assert {entry["text"] for entry in group["plots"][0]["items"] if entry["attributes"]["class"].startswith("series")} == {"baseline", "97 %"}


def test_what_all_results_have_in_common_is_said_once():
    other = changed(SCORE, set="aime2024", configuration__temperature=1.0)
    [tool] = view_of(SCORE, other)["configuration"]
    assert tool["title"] == "aisbench 3.1" and [row["cells"] for row in tool["rows"]] == [
        ["temperature", "0.6", "gpqa · aisbench"], ["temperature", "1.0", "aime2024 · aisbench"], ["stream", "true", "every result"]]
    assert [row["cells"] for row in view_of(SCORE, other)["added"]["rows"]] == [["max_out_len", "32768", "why", "every result"]]


def test_deployments_of_this_run_come_first():
    older = changed(SCORE, id="o", started="2026-01-01T00:00:00Z", deployment__release="v0.12.0")
    assert [(entry["title"], entry["mine"]) for entry in view_of(SCORE, history=[older])["deployments"]] == [
        ("Deployment B (this run)", True), ("Deployment A", False)]
    facts = {fact["label"]: fact["text"] for fact in view_of(SCORE)["deployments"][0]["facts"]}
    assert facts == {"Deployment id": "d1", "Release": "v0.13.0", "Image": "i", "Image id": "0123456789ab", "Recipe": "r", "Plan hash": "h"}


def test_groups_are_named_where_there_are_several():
    assert view_of(SCORE, changed(SCORE, group="second"))["accuracy"]["rows"][1]["cells"][0] == "gpqa · aisbench · second"


@pytest.mark.parametrize(("text", "wanted"), [
    ("2026-05-02T09:00:00Z", "2026-05-02 09:00"), ("2026-05-02T09:00:00+08:00", "2026-05-02 01:00"), ("2026-05-02T09:00:00", "2026-05-02 09:00"),
    ("yesterday", None), (None, None), (7, None),
])
def test_times_are_utc(text, wanted):
    found = results_page.moment(text)
    assert (f"{found:%Y-%m-%d %H:%M}" if found else None) == wanted


def hostile(value):
    """Return a record in which every text is hostile, numbers are what they were."""
    if isinstance(value, dict):
        return {key: value[key] if key in ("kind", "outcome") else hostile(value[key]) for key in value}
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("outcome", ["pass", "invalid", "below"])
@pytest.mark.parametrize("record", [SCORE, SPEED], ids=["score", "speed"])
def test_no_text_of_a_record_becomes_markup(record, outcome):
    page = page_of(hostile(changed(record, gate__outcome=outcome)), history=[hostile(changed(record, id="older"))])
    assert "<script" not in page and "{{ 7 * 7 }}" in page and "\x1b" not in page and page.count("</svg>") == len(re.findall(r"<svg[ >]", page))


@pytest.mark.parametrize("language", pages.LANGUAGES)
def test_plots_are_well_formed_and_the_page_needs_nothing_else(language):
    page = page_of(SPEED, changed(SPEED, load__request_rate=None, id="x"), SCORE, verb="benchmark", language=language)
    found = re.findall(r"<svg class=\"plot\".*?</svg>", page, re.DOTALL)
    assert len(found) >= 6 and ">p99</text>" in page
    for text in found:
        drawn = xml.etree.ElementTree.fromstring(text)
        named = [drawn.find(tag) for tag in ("title", "desc")]
        assert all(entry.text for entry in named) and drawn.get("aria-labelledby").split() == [entry.get("id") for entry in named]
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import|<script", page) and page.rstrip().endswith("</html>") and not re.search(r"\{[{%]", page)


BLANK = [{}, dict.fromkeys(SCORE), {**dict.fromkeys(SCORE), "kind": "performance"}, {"kind": "performance", "load": "odd", "performance": [1], "gate": "x"},
         changed(SPEED, performance={"output_throughput": "-", "ttft_ms": {"mean": NAN}}, load={"request_rate": "inf"}), changed(SCORE, score={"percent": NAN}),
         changed(SCORE, samples={}, added=["x"], configuration=None, deployment=7)]


@pytest.mark.parametrize("record", BLANK, ids=range(len(BLANK)))
def test_anything_may_be_missing(record):
    page = page_of(record, history=[record, {}])
    assert page.rstrip().endswith("</html>") and not re.search(r"\bnan\b|\bNone\b", page)


def test_a_run_without_results_says_so():
    page = page_of()
    assert 'data-outcome="empty"' in page and "<title>Accuracy report: No result</title>" in page and "<section" not in page
    # What older runs gave is shown all the same.
    assert "Not in this run: 1 more" in page_of(history=[SCORE])
