# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an outcome becomes a check result: status by condition, words in braces, language, and what is accepted."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import checks
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import CHECKS, KEYS, judge_of

MINE = {
    "port": {
        "title": {"en": "Port", "zh": "端口"}, "meaning": {"en": "It is free.", "zh": "空闲。"}, "limits": {"warn_s": 5}, "source": "x",
        "outcomes": {
            "taken": {"status": "fail", "remedy": {"en": "stop {pid} on {host}", "zh": "在 {host} 上停掉 {pid}"},
                      "unless": [{"when": {"hccs": {"is": True}}, "status": "pass"}, {"when": {"nodes": {"is": 1}}, "status": "warn"}]},
            "dark": {"status": "unknown", "remedy": {"en": "look"}},
        },
    },
    "link": {"title": {"en": "Link"}, "meaning": {"en": "Up."}, "source": "x", "outcomes": {}, "acceptable": False},
}


def judge(language="en", **facts):
    """Return a judge of the data above."""
    return checks.Judge("n1", MINE, {"hardware": "a2", "nodes": 2, "role": "serve", "release": "v0.13.0", **facts}, language)


def test_a_found_outcome_has_all_words():
    found = judge().found("port", "taken", "nginx", "nobody", "vllm_port", pid=7)
    assert found == {"host": "n1", "check": "port", "device": "vllm_port", "status": "fail", "observed": "nginx", "expected": "nobody",
                     "remedy": "stop 7 on n1", "accepted": False, "title": "Port", "meaning": "It is free."}
    assert set(found) == KEYS


def test_language():
    found = judge("zh").found("port", "taken", "nginx", "nobody", pid=7)
    assert (found["title"], found["meaning"], found["remedy"]) == ("端口", "空闲。", "在 n1 上停掉 7")
    # A site's own entry may have English only.
    assert judge("zh").found("port", "dark", 0, 1)["remedy"] == "look"
    assert judge("zh").passed("link", "UP")["title"] == "Link"


@pytest.mark.parametrize(("facts", "hccs", "status"), [
    ({}, False, "fail"), ({"nodes": 1}, False, "warn"), ({}, True, "pass"), ({"nodes": 1}, True, "pass"), ({"nodes": 16}, False, "fail"),
])
def test_the_first_condition_that_holds_decides_the_status(facts, hccs, status):
    found = judge(**facts).found("port", "taken", "x", "y", hccs=hccs, pid=7)
    assert found["status"] == status and bool(found["remedy"]) == (status != "pass")


@pytest.mark.parametrize(("observed", "shown"), [(None, "nothing"), ("", "nothing"), (0, "0"), (False, "False"), ([1], "[1]"), (" x ", " x ")])
def test_what_was_seen_is_never_empty(observed, shown):
    assert judge().found("port", "dark", observed, "y")["observed"] == shown
    assert judge().passed("port", observed, "y")["observed"] == shown


def test_passed_expects_what_it_saw_unless_told():
    assert judge().passed("port", 8000)["expected"] == "8000" and judge().passed("port", 8000, "free")["expected"] == "free"
    assert judge().passed("port", 8000)["remedy"] == ""


def test_judged_is_one_of_the_two():
    assert judge().judged("port", None, "x", "y", "d", hccs=True, pid=7) == judge().passed("port", "x", "y", "d")
    assert judge().judged("port", "taken", "x", "y", "d", hccs=True, pid=7) == judge().found("port", "taken", "x", "y", "d", hccs=True, pid=7)


def test_limits():
    assert judge().limits("port") == {"warn_s": 5} and judge().limits("link") == {}


def test_what_the_data_does_not_have_is_no_silent_pass():
    for name, outcome in (("port", "other"), ("nic", "taken")):
        with pytest.raises(KeyError):
            judge().found(name, outcome, "x", "y")
    with pytest.raises(KeyError):
        judge().found("port", "taken", "x", "y")


# severity in the shipped data


#: (check, outcome) -> status in: an A2 pair, an A2 alone, an A3 alone with and without HCCS, an A3 pair with and without HCCS.
SEVERITY = {
    ("hccn_tool", "failed"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_tool", "not_asked"): ["unknown"] * 6,
    ("hccn_tool", "no_answer"): ["unknown", "warn", "warn", "warn", "unknown", "unknown"],
    ("hccn_conf", "wrong"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_conf", "stale"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_address", "none"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_link", "down"): ["fail", "warn", "pass", "warn", "pass", "fail"],
    ("hccn_net_health", "bad"): ["fail", "warn", "pass", "warn", "pass", "fail"],
    ("hccn_net_health", "init"): ["warn", "pass", "pass", "pass", "pass", "warn"],
    ("hccn_gateway", "none"): ["fail", "warn", "pass", "warn", "pass", "fail"],
    ("hccn_tls", "differs"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_tls", "all_on"): ["warn"] * 6,
    ("hccn_lldp", "back_to_back"): ["fail", "warn", "pass", "warn", "pass", "fail"],
    ("hccn_lldp", "silent"): ["warn", "pass", "pass", "pass", "pass", "warn"],
    ("hccn_unique", "twice"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_subnet", "alone"): ["fail", "warn", "warn", "warn", "fail", "fail"],
    ("hccn_ping", "lost"): ["fail"] * 6,
    ("driver_floor", "below_recommended"): ["warn", "pass", "pass", "pass", "warn", "warn"],
    ("driver_floor", "below_minimum"): ["fail"] * 6,
    ("npu_health", "warning"): ["warn"] * 6,
    ("npu_health", "bad"): ["fail"] * 6,
    ("npu_health", "not_understood"): ["unknown"] * 6,
    ("kernel_settings", "differs"): ["warn"] * 6,
    ("hccl_rootinfo", "stale"): ["warn"] * 6,
}
WHERE = [("a2", 2, False), ("a2", 1, False), ("a3", 1, True), ("a3", 1, False), ("a3", 2, True), ("a3", 2, False)]
WORDS = dict.fromkeys(("npu", "npu_id", "question", "wanted", "peer", "peer_npu", "setting"), "N")


@pytest.mark.parametrize("key", SEVERITY, ids=" ".join)
def test_severity_of_the_shipped_checks(key):
    found = [judge_of(hardware=hardware, nodes=nodes).found(*key, "seen", "wanted", "npu0", hccs, **WORDS) for hardware, nodes, hccs in WHERE]
    assert [entry["status"] for entry in found] == SEVERITY[key]


def test_no_other_outcome_depends_on_anything():
    varied = {(name, outcome) for name, entry in CHECKS.items() for outcome, content in entry["outcomes"].items() if "unless" in content}
    assert varied - set(SEVERITY) <= {("hccn_conf", "absent")}


# what is accepted


def result(check="port", host="n1", status="fail"):
    """Return a check result."""
    return {"check": check, "host": host, "status": status, "accepted": False}


@pytest.mark.parametrize(("accepted", "wanted"), [
    ([], [False, False, False]), (["port"], [True, True, False]), (["port@n1"], [True, False, False]), (["port@n2", "link"], [False, True, True]),
    (["port@n3", "por", "n1", "port@"], [False, False, False]),
])
def test_accept(accepted, wanted):
    given = [result(), result(host="n2", status="unknown"), result("link", status="warn")]
    found = checks.accept(given, accepted)
    assert [entry["accepted"] for entry in found] == wanted
    assert [{**entry, "accepted": False} for entry in found] == given


def test_a_pass_needs_no_acceptance():
    assert checks.accept([result(status="pass")], ["port"]) == [result(status="pass")]


@pytest.mark.parametrize(("status", "accepted", "wanted"), [
    ("pass", False, False), ("warn", False, False), ("fail", False, True), ("unknown", False, True), ("fail", True, False), ("unknown", True, False),
])
def test_stops(status, accepted, wanted):
    assert checks.stops({"status": status, "accepted": accepted}) is wanted
    assert checks.stops({"status": status}) is (status in ("fail", "unknown"))


@pytest.mark.parametrize(("entry", "expected", "remedy"), [
    ("prot", "one of link, port", "did you mean 'port'? Names are those of the report."),
    ("", "one of link, port", "Names are those of the report."),
    ("@n1", "one of link, port", "Names are those of the report."),
    (7, "one of link, port", "Names are those of the report."),
    ("link", "a fault that a run can go on with", "mend it; nothing can be done on a node without it."),
    ("link@n1", "a fault that a run can go on with", "mend it; nothing can be done on a node without it."),
    ("port@nn1", "check@host with one of n1, n2", "did you mean 'n1'? Leave @host out to accept it on all nodes."),
    ("port@", "check@host with one of n1, n2", "Leave @host out to accept it on all nodes."),
])
def test_an_entry_that_accepts_nothing_is_refused(entry, expected, remedy):
    [found] = checks.accept_checks(["port", entry, "port@n2"], MINE, ["n1", "n2"])
    assert (found["host"], found["check"], found["device"], found["status"]) == ("localhost", "accept_known", "preflight_accept", "fail")
    assert (found["observed"], found["expected"], found["remedy"]) == (f"the entry {entry!r}", expected, remedy)


def test_right_entries_are_not_refused():
    assert checks.accept_checks(["port", "port@n1"], MINE, ["n1"]) == [] == checks.accept_checks([], MINE, [])
