# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records: judged runs of every situation, the site's baselines, the files that are kept, and the lines for the terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results
from ansible_collections.ascend.vllm.tests.unit.plugins.plugin_utils import test_results

KNOWN = client_results.known()
KEYS = {"schema", "kind", "id", "group", "tool", "tool_version", "set", "limit", "model", "started", "seconds", "samples", "others", "score", "load",
        "performance", "gate", "configuration", "added", "deployment"}
GATE = {"outcome", "name", "value", "floor", "baseline", "source", "reason"}
#: Scores below the floor of the fixtures, 80 %.
BELOW = {"aisbench/half_right", "aisbench/gpqa", "lm_eval/half_right"}


def made(name="lm_eval/good", kept=None, run=None, **change):
    """Return the record of a kept run; ``change``: of its job."""
    return records.make(client_results.run(name, **(run or {})), client_results.job(name, **change), client_results.DEPLOYMENT, KNOWN, kept, "vllm")


def speed(value, rate=1.0, identifier="20260502T090000Z-vllm_serve-rate1", outcome="none", **change):
    """Return the record of a speed."""
    load = {"request_rate": rate, "max_concurrency": None, "input_len": 200, "output_len": 128, "num_prompts": 200}
    return {"kind": "performance", "id": identifier, "group": "vllm", "tool": "vllm_serve", "set": None, "started": "2026-05-02T09:00:00Z", "load": load,
            "score": None, "performance": {"output_throughput": value}, "added": [], "deployment": client_results.DEPLOYMENT,
            "gate": {"outcome": outcome, "value": None if outcome == "invalid" else value, "floor": None, "reason": ""}, **change}


@pytest.mark.parametrize("name", client_results.folders())
def test_the_outcome_of_every_situation(name):
    record = made(name)
    accuracy = test_results.VALID.get(name) is not None
    wanted = "invalid" if name in test_results.INVALID else "below" if name in BELOW else "pass" if accuracy else "none"
    assert record["gate"]["outcome"] == wanted
    assert set(record) == KEYS and set(record["gate"]) == GATE and set(record["samples"]) == {"wanted", "done", "failed", "empty"}
    assert (records.failed([record]) == []) == (wanted in ("pass", "none"))
    if wanted == "invalid":
        assert record["score"] is None and record["performance"] is None and record["gate"]["value"] is None
    json.dumps(record, allow_nan=False)


def test_a_record_has_what_was_asked_for():
    wanted = {**client_results.job("lm_eval/good")["wanted"], "n": 5, "limit": 5}
    record = made("lm_eval/first_5", wanted=wanted, added=[{"name": "limit", "value": 5, "reason": "r"}])
    assert (record["schema"], record["kind"], record["group"], record["tool"], record["tool_version"]) == (1, "accuracy", "vllm", "lm_eval", "0.4.13")
    assert (record["id"], record["started"], record["seconds"]) == ("20260502T090000Z-lm_eval-gsm8k", "2026-05-02T09:00:00Z", 12.5)
    assert (record["set"], record["limit"], record["model"]) == ("gsm8k", 5, "deepseek_r1")
    assert record["added"] and record["configuration"]["argv"] and record["deployment"] == client_results.DEPLOYMENT
    assert record["gate"]["outcome"] == "none" and "no gate of 5 samples" in record["gate"]["reason"]


def test_versions_of_tools():
    assert made("aisbench/good")["tool_version"] == "3.1.20260630"
    assert made("vllm_serve/good")["tool_version"] is None


@pytest.mark.parametrize(("run", "words"), [
    ({"timed_out": True, "rc": 137, "seconds": 3600.0}, "the client was ended at its time limit after 3600 s. Remedy: see with status.yml whether the"),
    ({"timed_out": True, "rc": 137, "seconds": None, "files": {}}, "the client was ended at its time limit; no result (results_*.json)"),
    ({"rc": 1}, "the client ended with 1, wanted 0"),
    ({"rc": None}, "the client ended with an exit status that nobody knows, wanted 0"),
    ({"error": "the engine\nwas stopped"}, "the client did not come to its end: the engine was stopped"),
    ({"rc": 1, "files": {}, "log": "x\nRuntimeError: Session is closed\n"}, "; exit status 1. Its log: RuntimeError: Session is closed. Remedy: "),
    ({"files": {}, "left_out": ["out/samples_gsm8k_local_1.jsonl"]}, "; not read because they are too large: out/samples_gsm8k_local_1.jsonl"),
])
def test_a_client_that_did_not_come_to_its_end(run, words):
    record = made(run={"log": "", **run})
    assert record["gate"]["outcome"] == "invalid" and words in record["gate"]["reason"] and "Remedy: " in record["gate"]["reason"]
    assert records.failed([record]) == [f"[invalid] vllm: gsm8k with lm_eval: found {record['gate']['reason']}"]


def test_a_set_that_is_not_known_lists_the_known_ones():
    with pytest.raises(records.RecordError, match=r"found the set 'gsm9k', wanted one of aime2024, gpqa, gsm8k. Remedy: did you mean 'gsm8k'\? "):
        made(wanted={**client_results.job("lm_eval/good")["wanted"], "set": "gsm9k"})
    with pytest.raises(records.RecordError, match="found the set 'aime2024' with lm_eval, wanted it with one of aisbench"):
        made(wanted={**client_results.job("lm_eval/good")["wanted"], "set": "aime2024"})


def test_a_score_just_under_and_just_over_the_floor():
    """6.4 of 8 are 80 %: of real files, one wrong answer passes and two do not."""
    files = client_results.run("lm_eval/good")["files"]
    path, = (path for path in files if "/results_" in path)

    def outcome(fraction):
        text = files[path].replace('"exact_match,flexible-extract": 1.0', f'"exact_match,flexible-extract": {fraction}')
        return made(run={"files": {**files, path: text}})["gate"]["outcome"]

    assert [outcome(fraction) for fraction in (0.875, 0.8, 0.7999, 0.75)] == ["pass", "pass", "below", "below"]


# Baselines


def test_the_first_speed_becomes_the_baseline_and_later_ones_are_judged_by_it():
    first = made("vllm_serve/good")
    assert first["gate"]["outcome"] == "none"
    kept = records.with_baselines(None, [first])
    (name, entry), = kept.items()
    assert name == "vllm_serve request_rate=none max_concurrency=none input_len=20 output_len=12 num_prompts=8 deepseek_r1_w8a8 a2 dp=4 tp=4"
    assert entry == {"value": pytest.approx(521.667359), "metric": "output_throughput", "record": "20260502T090000Z-vllm_serve-rate1",
                     "started": "2026-05-02T09:00:00Z"}
    again = made("vllm_serve/good", kept=json.loads(records.text(kept)))
    assert (again["gate"]["outcome"], again["gate"]["baseline"]) == ("pass", entry["value"])
    assert records.with_baselines(kept, [again]) == kept
    faster = {name: {**entry, "value": entry["value"] / 0.96}}
    assert made("vllm_serve/good", kept=faster)["gate"]["outcome"] == "below"
    assert made("vllm_serve/good", kept={name: {**entry, "value": entry["value"] / 0.98}})["gate"]["outcome"] == "pass"


def test_an_invalid_run_never_becomes_a_baseline():
    for name in test_results.INVALID:
        assert records.with_baselines(None, [made(name)], replace=True) == {}
    assert records.with_baselines(None, [speed(5.0, outcome="invalid")], replace=True) == {}
    # Nor one that says a value all the same.
    odd = speed(5.0)
    assert records.with_baselines(None, [{**odd, "gate": {**odd["gate"], "outcome": "invalid"}}], replace=True) == {}


def test_a_baseline_is_replaced_only_where_that_is_asked_for():
    kept = records.with_baselines(None, [speed(1000.0)])
    slow = speed(500.0, identifier="second", outcome="below")
    assert records.with_baselines(kept, [slow]) == kept
    assert [entry["value"] for entry in records.with_baselines(kept, [slow], replace=True).values()] == [500.0]


def test_what_has_to_be_the_same_for_two_speeds_to_be_compared():
    mine = records.key(speed(1.0))
    others = [
        speed(1.0, rate=2.0), speed(1.0, tool="aisbench"), speed(1.0, set="gsm8k"), speed(1.0, deployment={**client_results.DEPLOYMENT, "hardware": "a3"}),
        speed(1.0, deployment={**client_results.DEPLOYMENT, "recipe": "other"}), speed(1.0, load={**speed(1.0)["load"], "max_concurrency": 4}),
        speed(1.0, load={**speed(1.0)["load"], "input_len": 3500}),
        speed(1.0, deployment={**client_results.DEPLOYMENT, "data_parallel_size": 2}),
        speed(1.0, deployment={**client_results.DEPLOYMENT, "tensor_parallel_size": 8}),
        speed(1.0, deployment={**client_results.DEPLOYMENT, "together": "prefill=dp1tp1 options=1"}),
        speed(1.0, deployment={**client_results.DEPLOYMENT, "together": "prefill=dp1tp1 options=2"}),
        speed(1.0, load={**speed(1.0)["load"], "tensor_parallel_size": 8}), speed(1.0, load={**speed(1.0)["load"], "tensor_parallel_size": 16}),
        speed(1.0, added=[{"name": "burstiness", "value": 2, "reason": "stated in benchmark_extra_flags"}]),
    ]
    assert len({mine, *map(records.key, others)}) == 1 + len(others)
    # A new release is compared with the old one, and what is always added says nothing.
    assert records.key(speed(1.0, deployment={**client_results.DEPLOYMENT, "release": "v0.23.0", "image_id": "x", "plan_hash": "y"})) == mine
    assert records.key(speed(1.0, added=[{"name": "seed", "value": 1024, "reason": "every run sends the same prompts"}])) == mine
    assert records.key(speed(1.0, rate=1)) == mine


@pytest.mark.parametrize("kept", [[1], "text", {"a": 1}, {"a": {}}, *({"a": {"value": value}} for value in ("1", 0, -1, True, float("nan"), float("inf")))])
def test_a_file_of_baselines_that_is_none_is_refused(kept):
    with pytest.raises(records.RecordError, match="baselines.json.* wanted .*Remedy: "):
        made("vllm_serve/good", kept=kept)


@given(values=st.lists(st.tuples(st.sampled_from([1.0, 2.0, None]), st.floats(0.01, 1e6), st.sampled_from(["none", "pass", "below", "invalid"])), max_size=8))
def test_a_baseline_is_the_first_valid_speed_of_its_load_whatever_comes_after(values):
    made_records = [speed(round(value, 6), rate, f"id-{number}", outcome) for number, (rate, value, outcome) in enumerate(values)]
    kept = {}
    for record in made_records:
        kept = records.with_baselines(kept, [record])
    assert kept == records.with_baselines({}, made_records)
    for name, entry in kept.items():
        first = next(record for record in made_records if records.key(record) == name and record["gate"]["outcome"] != "invalid")
        assert (entry["value"], entry["record"]) == (first["gate"]["value"], first["id"])
    assert len(kept) == len({records.key(record) for record in made_records if record["gate"]["outcome"] != "invalid"})


# Files and lines


def test_what_is_kept():
    found = records.files([made("vllm_serve/good"), made("lm_eval/good")])
    assert [entry["path"] for entry in found] == ["results/vllm/20260502T090000Z-vllm_serve-rate1.json", "results/vllm/20260502T090000Z-lm_eval-gsm8k.json",
                                                  "results/vllm/baselines.json"]
    kept = json.loads(found[-1]["text"])
    assert json.loads(found[1]["text"])["score"]["percent"] == 100
    # Nothing is written for a baseline that stays.
    assert len(records.files([made("vllm_serve/good", kept=kept)], {"vllm": kept})) == 1
    assert len(records.files([made("vllm_serve/good", kept=kept)], {"vllm": {**kept, "x": {"value": 1}}})) == 1


def test_two_groups_keep_their_own_baselines():
    found = records.files([speed(1.0), speed(2.0, group="two")])
    assert [entry["path"] for entry in found][2:] == ["results/two/baselines.json", "results/vllm/baselines.json"]


def test_no_name_of_a_file_leads_elsewhere():
    found = records.files([speed(1.0, identifier="../../etc/x", group="../g h")])
    assert {entry["path"] for entry in found} == {"results/-g-h/-..-etc-x.json", "results/-g-h/baselines.json"}


def test_lines_with_the_bad_ones_first():
    kept = records.with_baselines(None, [speed(1000.0)])
    found = records.lines([made("lm_eval/good"), made("lm_eval/half_right"), made("vllm_serve/down"), made("vllm_serve/rate_20", kept=kept)])
    assert [line.split("]")[0][1:] for line in found] == ["invalid", "below", "none", "pass"]
    assert found[0].startswith("[invalid] vllm: vllm_serve, all at once: no result: 8 of 8 requests failed, wanted 0. ")
    assert found[1].startswith("[below] vllm: gsm8k with lm_eval: 50.00 % +- 18.90, floor 80.0: 50.00 % (standard error 18.9) of 8 samples, wanted at least "
                               "80 %. Remedy: ")
    assert found[2].startswith("[none] vllm: vllm_serve at 20 requests/s, 4 at once: 170.9 output tokens/s, TTFT 15.6 ms, TPOT 9.9 ms, ITL 9.9 ms, "
                               "E2EL 124.1 ms: the first result of this load")
    assert found[3] == "[pass] vllm: gsm8k with lm_eval: 100.00 % +- 0.00, floor 80.0"


def test_no_record_is_a_failure_and_so_is_an_outcome_that_is_not_known():
    assert len(records.failed([])) == 1 and "Remedy" in records.failed([])[0]
    odd = {**made(), "gate": {**made()["gate"], "outcome": "odd", "reason": "?"}}
    assert records.failed([odd]) == ["[odd] vllm: gsm8k with lm_eval: found ?"]


# A gate that was asked for


def test_a_gate_that_judges_nothing_fails_and_the_first_speed_does_not():
    wanted = {**client_results.job("lm_eval/good")["wanted"], "n": 5, "limit": 5}
    score, speed_ = made("lm_eval/first_5", wanted=wanted), made("vllm_serve/good")
    assert records.failed([score, speed_]) == []
    (line,) = records.failed([score, speed_], gate=True)
    assert line.startswith("[none] vllm: gsm8k (first 5) with lm_eval: found no gate of 5 samples; there is one ")
    assert ", wanted a gate that judges it. Remedy: add a gate in a folder of vllm_data_dirs" in line and "name another gate" in line
    # A speed that nobody said is judged by nothing and becomes nothing.
    unsaid = {**speed_, "gate": {**speed_["gate"], "value": None, "reason": "vllm_serve did not say its output_throughput. Not judged"}}
    assert len(records.failed([unsaid], gate=True)) == 1 and records.failed([unsaid]) == []


def test_an_engine_of_its_own_is_known_by_its_own_size_alone():
    load = {**speed(1.0)["load"], "tensor_parallel_size": 8}
    other = {**client_results.DEPLOYMENT, "data_parallel_size": 2}
    assert records.key(speed(1.0, load=load)) == records.key(speed(1.0, load=load, deployment=other))


def test_a_record_has_the_time_of_its_client_not_of_the_one_who_looked():
    assert made(run={"started": "2026-05-01T23:00:00Z"})["started"] == "2026-05-01T23:00:00Z"


# Requests of others


@pytest.mark.parametrize(("run", "number"), [
    ({}, None), ({"before": None, "after": None}, None), ({"before": {"running": 0, "waiting": 0}, "after": None}, 0),
    ({"before": {"running": 2, "waiting": 1}, "after": {"running": 1, "waiting": 0}}, 3),
    # Those before a client that was joined were its own.
    ({"before": {"running": 16, "waiting": 9}, "after": {"running": 0, "waiting": 0}, "joined": True}, 0),
    ({"before": {"running": 0, "waiting": 0}, "after": {"running": 0, "waiting": 4}, "joined": True}, 4),
])
def test_requests_of_others_are_those_before_and_after_a_client(run, number):
    assert made("vllm_serve/good", run=run)["others"] == number


def test_a_speed_beside_the_requests_of_others_does_not_become_the_baseline():
    busy = {"before": {"running": 3, "waiting": 0}, "after": {"running": 0, "waiting": 0}}
    first = made("vllm_serve/good", run=busy)
    assert first["gate"]["outcome"] == "none" and first["performance"] and "3 requests of others" in first["gate"]["reason"]
    assert records.with_baselines(None, [first]) == {} and records.with_baselines(None, [first], replace=True) == {}
    assert records.failed([first]) == []
    (line,) = records.failed([first], gate=True)
    assert line.startswith("[none] vllm: vllm_serve") and line.count("Remedy: run it again while nobody else uses the service") == line.count("Remedy") == 1
    # With a baseline it is judged as any other, and says it where it is slower.
    kept = {records.key(first): {"value": 1.0, "record": "r"}}
    assert made("vllm_serve/good", run=busy, kept=kept)["gate"]["outcome"] == "pass"
    slow = made("vllm_serve/good", run=busy, kept={records.key(first): {"value": 1e6, "record": "r"}})["gate"]
    assert slow["outcome"] == "below" and "(r), beside 3 requests of others. Remedy: run it again while nobody else" in slow["reason"]
