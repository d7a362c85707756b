# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of a report shows, before it is laid out."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import pages
from ansible_collections.ascend.vllm.plugins.plugin_utils.data import read_yaml

TOP = Path(pages.__file__).resolve().parents[2]
TEMPLATE = (TOP / "roles/report/templates/preflight.html.j2").read_text(encoding="utf-8")
PARTS = "".join(path.read_text(encoding="utf-8") for path in sorted((TOP / "roles/report/templates").rglob("*.j2")))
SOURCES = [PARTS] + [(TOP / f"plugins/plugin_utils/{name}.py").read_text(encoding="utf-8") for name in ("pages", "lines")]
WORDS = read_yaml(TOP / "data/words/report.yml")["report"]["words"]
EN = pages.load_words("en")

CHECK = {"host": "n0", "check": "nic_up", "device": "npu1", "status": "fail", "observed": "down", "expected": "up", "remedy": "up it", "accepted": False,
         "title": "NIC", "meaning": "why"}


def ping(npu, peer_npu, host="n0", peer="n1", **change):
    """Return a ping that was answered."""
    return {"host": host, "npu": npu, "peer": peer, "peer_npu": peer_npu, "address": "192.0.2.1", "kind": "roce", "status": "pass", "sent": 3, "received": 3,
            "loss_percent": 0.0, "rtt_ms": 0.1, "text": "", **change}


def nodes(*hosts, npus=2):
    """Return nodes with some NPUs."""
    return {host: {"answers": True, "npus": [{"npu": number} for number in range(npus)]} for host in hosts}


def names_in(text):
    """Return the placeholders of a text."""
    return {name for dummy, name, dummy2, dummy3 in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", WORDS)
def test_every_word_is_there_in_each_language_with_the_same_placeholders(key):
    texts = WORDS[key]
    assert set(texts) == set(pages.LANGUAGES) and all(isinstance(text, str) and text.strip() for text in texts.values())
    assert names_in(texts["en"]) == names_in(texts["zh"])


def test_only_known_words_are_used_and_all_words_are():
    used = set(re.findall(r"\bwords\.(\w+)", PARTS)) - {"format"}
    assert used and used <= set(WORDS)
    quoted = {word for text in SOURCES for word in re.findall(r"[\"'](\w+)[\"']", text)}
    # Words whose name ends in a kind or a status are looked up by it.
    made = re.compile(r"(status|count|mesh_cell|result|unknown|accepted)_(fail|unknown|warn|accepted|pass|loss|none|note)$")
    assert {word for word in WORDS if word not in used | quoted and not made.match(word)} == set()


def test_an_unknown_language_is_english():
    assert pages.load_words("fr") == EN and pages.load_words("zh")["fail" if "fail" in EN else "status_fail"] == "失败"


@pytest.mark.parametrize(("change", "wanted"), [
    ({}, "fail"), ({"accepted": True}, "accepted"), ({"status": "warn", "accepted": True}, "accepted"), ({"status": "pass", "accepted": True}, "pass"),
    ({"status": "odd"}, "unknown"), ({"status": None}, "unknown"), ({"status": "accepted"}, "accepted"),
])
def test_kinds(change, wanted):
    assert pages.kind(dict(CHECK, **change)) == wanted


@pytest.mark.parametrize(("change", "wanted"), [
    ({}, "pass"), ({"status": "fail", "received": 0, "loss_percent": 100.0}, "fail"), ({"status": "fail", "received": 2, "loss_percent": 33.3}, "loss"),
    ({"status": "pass", "received": 2, "loss_percent": 33.3}, "loss"), ({"status": "unknown"}, "unknown"), ({"status": None}, "unknown"),
    ({"status": "fail", "loss_percent": None, "received": None}, "fail"), ({"status": "fail", "received": 0, "loss_percent": 50.0}, "fail"),
])
def test_ping_kinds(change, wanted):
    assert pages.ping_kind(ping(0, 0, **change)) == wanted


def test_problems_are_one_entry_a_check_failures_first():
    checks = [dict(CHECK, status="warn", check="w"), CHECK, dict(CHECK, status="pass"), dict(CHECK, host="n1", remedy="other"), dict(CHECK, accepted=True),
              dict(CHECK, status="unknown", check="u")]
    found = pages.problems(checks, EN)
    assert [(entry["kind"], entry["check"], len(entry["places"])) for entry in found] == [
        ("fail", "nic_up", 2), ("unknown", "u", 1), ("warn", "w", 1), ("accepted", "nic_up", 1)]
    assert found[0]["remedy"] == "" and [place["remedy"] for place in found[0]["places"]] == ["up it", "other"]
    assert found[3]["remedy"] == "up it" and found[3]["status_text"] == "accepted (fail)" and found[3]["note"]


def test_many_places_can_be_opened_and_none_is_lost():
    checks = [dict(CHECK, device=f"npu{number}") for number in range(40)]
    entry = pages.problems(checks, EN)[0]
    assert [place["device"] for place in entry["places"] + entry["more"]] == [f"npu{number}" for number in range(40)]
    assert len(entry["places"]) == pages.PLACES_AT_ONCE and entry["more_text"] == "28 more"
    assert pages.problems(checks[:14], EN)[0]["more"] == []


def test_an_npu_is_marked_by_the_checks_about_it_and_by_no_other():
    report = {"nodes": {"n0": {"npus": [{"npu": number, "link": "DOWN"} for number in range(13)]}},
              "checks": [dict(CHECK, status="warn"), dict(CHECK, device="npu12->n1 npu3"), dict(CHECK, device="eth0"), dict(CHECK, host="n1", device="npu2")]}
    marks = {npu["npu"]: npu["kind"] for npu in pages.report_view(report)["nodes"][0]["npus"]}
    assert marks == {**{str(number): "pass" for number in range(13)}, "1": "warn", "12": "fail"}


@pytest.mark.parametrize(("report", "words"), [
    ({"result": "pass", "checks": []}, "Nothing found that stops serving."),
    ({"result": "pass", "checks": [dict(CHECK, accepted=True), dict(CHECK, status="warn")]}, "Notes to read below: 2"),
    ({"result": "fail", "checks": [CHECK, dict(CHECK, status="unknown"), dict(CHECK, status="warn")]}, "can start: 2"),
    ({"result": "fail", "checks": []}, "No failed check was recorded"),
    ({"result": None, "checks": [CHECK]}, "can start: 1"),
])
def test_headline(report, words):
    assert words in pages.report_view(report)["headline"]


@pytest.mark.parametrize(("started", "ended", "wanted"), [
    ("2026-01-01T00:00:00Z", "2026-01-01T00:01:05Z", "2026-01-01 00:00:00 UTC, took 65 s"), ("2026-01-01T00:00:00Z", None, "2026-01-01T00:00:00Z"),
    ("soon", "later", "soon"), (None, None, ""),
])
def test_when(started, ended, wanted):
    assert pages.report_view({"started_at": started, "ended_at": ended})["when"] == wanted


def test_a_matrix_is_one_direction_and_what_was_not_sent_is_one_wide_cell():
    mesh = {"mode": "rails", "planned": 2, "sent": 2, "possible": 32, "pings": [
        ping(0, 0), ping(3, 2, status="fail", received=0, loss_percent=100.0, rtt_ms=None)]}
    view = pages.mesh_view(mesh, nodes("n0", "n1", npus=4), EN)
    (pair,) = view["pairs"]
    (matrix,) = pair["matrices"]
    assert (pair["kind"], matrix["title"], matrix["text"], matrix["columns"]) == ("fail", "n0 → n1", "1 of 2 answered", [0, 1, 2, 3])
    assert [[(cell["kind"], cell["span"]) for cell in row["cells"]] for row in matrix["rows"]] == [
        [("pass", 1), ("none", 3)], [("none", 4)], [("none", 4)], [("none", 2), ("fail", 1), ("none", 1)]]
    assert matrix["rows"][3]["cells"][1]["label"] == "n0 NPU 3 → n1 NPU 2: no answer, 0 of 3 packets came back"
    assert [entry["ends"] for entry in view["bad"]] == ["n0 NPU 3 → n1 NPU 2"]
    assert view["overview"] is None and "30 left out by plan" in view["summary"][1]


def test_shades_are_multiples_of_the_median():
    times = [0.1, 0.1, 0.1, 0.12, 0.14, 0.19, 0.3, 0.5]
    sent = [ping(number, 0, rtt_ms=rtt) for number, rtt in enumerate(times)] + [ping(number, 0, rtt_ms=0.1) for number in (8, 9, 10)]
    rows = pages.mesh_view({"pings": sent}, nodes("n0", "n1"), EN)["pairs"][0]["matrices"][0]["rows"]
    assert [row["cells"][0]["shade"] for row in rows][:8] == [0, 0, 0, 0, 1, 2, 3, 4]


def test_three_nodes_have_an_overview_with_the_worst_of_each_direction():
    lossy = {"status": "fail", "received": 1, "loss_percent": 66.67}
    mesh = {"mode": "full", "pings": [ping(0, 0), ping(0, 1, **lossy), ping(0, 0, "n1", "n0"), ping(0, 0, "n2", "n0", status="unknown")]}
    view = pages.mesh_view(mesh, nodes("n0", "n1", "n2"), EN)
    cells = [[(cell["kind"], cell["text"], cell["target"]) for cell in row["cells"]] for row in view["overview"]["rows"]]
    assert cells[0] == [("self", "", ""), ("loss", "1/2", "pair-0-1"), ("none", "", "pair-0-2")]
    assert cells[1][0] == ("pass", "1/1", "pair-0-1") and cells[1][2] == ("none", "", "") and cells[2][0][0] == "unknown"
    assert [(pair["id"], pair["kind"], pair["open"]) for pair in view["pairs"]] == [("pair-0-2", "unknown", False), ("pair-0-1", "loss", False)]


@pytest.mark.parametrize(("mesh", "count", "words"), [
    ({"mode": "off", "pings": []}, 2, "preflight_mesh is off"), ({"mode": "off"}, 1, "One node has no mesh"),
    ({"mode": "full", "pings": []}, 2, "No pings were sent"),
    ({}, 2, "No pings were sent"),
])
def test_no_mesh_is_explained(mesh, count, words):
    view = pages.mesh_view(mesh, nodes(*[f"n{number}" for number in range(count)]), EN)
    assert view["state"] == "note" and words in view["note"]


def test_pings_that_were_not_sent_and_peers_that_are_not_known_are_counted():
    mesh = {"mode": "full", "planned": 9, "sent": 2, "possible": 9, "seconds": 1.25, "pings": [
        ping(0, None, peer=None, status="fail", received=0), ping(0, 0)]}
    view = pages.mesh_view(mesh, nodes("n0", "n1"), EN)
    assert view["summary"] == ["2 of 9 possible pings sent (preflight_mesh: full) in 1.25 s", "7 planned pings were not sent.",
                               "1 pings name no peer; they are in the list, not in the heat map."]
    assert view["bad"][0]["ends"] == "n0 NPU 0 → 192.0.2.1"


@pytest.mark.parametrize(("count", "wanted"), [
    (None, None), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3_298_534_883_328, "3.0 TiB"), (150 * 2**30, "150 GiB")])
def test_bytes(count, wanted):
    assert pages.bytes_text(count) == wanted


def texts_of(value):
    """Return every text in a view."""
    if isinstance(value, dict):
        return [text for entry in value.values() for text in texts_of(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in texts_of(entry)]
    return [value] if isinstance(value, str) else []


def test_no_text_of_a_report_reaches_the_page_unescaped():
    """Every text of the report is markup; none of the view is, and each is still there."""
    bad = "<b title='x\">&"
    check = dict.fromkeys(CHECK, bad) | {"status": "fail", "accepted": False, "host": bad}
    npu = {"npu": bad, "health": bad, "link": bad, "net_health": bad, "address": bad, "processes": [{"pid": bad, "name": bad, "memory_mb": 1}]}
    node = dict.fromkeys(("local_ip", "nic_name", "hardware", "driver", "firmware", "docker", "kernel", "arch", "python"), bad) | {"npus": [npu]}
    report = {
        "verb": bad, "started_at": bad, "version": bad, "checks": [check], "nodes": {bad: node}, "result": bad, "language": bad,
        "groups": {
            bad: dict.fromkeys(("model", "release", "hardware", "head"), bad) | {"hosts": [bad], "data_parallel_size": bad, "tensor_parallel_size": bad}
        },
        "mesh": {"mode": bad, "pings": [ping(1, 1, bad, "n1", status="fail", address=bad, kind=bad, text=bad), ping(1, 1, "n1", bad, rtt_ms=1.0)]},
    }
    view = pages.html_safe(pages.report_view(report))
    found = texts_of(view)
    assert [text for text in found if re.search("[<>\"']", text)] == []
    assert len([text for text in found if "&lt;b title=&#x27;x&quot;&gt;&amp;" in text or "&lt;B TITLE=&#x27;X&quot;&gt;&amp;" in text]) > 30


def test_a_report_without_anything_has_a_page():
    blank = {"nodes": {"n0": None, "n1": {"answers": False}}, "checks": [dict.fromkeys(CHECK)], "mesh": None, "summary": None, "groups": None}
    view = pages.report_view(blank)
    assert view["result"] == "fail" and [node["answers"] for node in view["nodes"]] == [True, False]
    assert view["problems"][0]["kind"] == "unknown" and pages.report_view({})["title"]
