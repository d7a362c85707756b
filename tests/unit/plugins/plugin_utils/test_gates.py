# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gate counts for a run, what passes it, and that the shipped gates are worth what they say."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import data, gates, records
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results
from ansible_collections.ascend.vllm.tests.unit.plugins.plugin_utils import test_clients

SHIPPED = data.load_all(kinds=("sets", "gates", "clients", "recipes"))[0]
ACCURACY = {name: gate for name, gate in SHIPPED["gates"].items() if gate["kind"] == "accuracy"}
TOKENS = 1000.0


def scored(percent=95.0, dataset="gsm8k", samples=1319, tool="lm_eval", recipe="deepseek_r1_w8a8", **change):
    """Return the record of a score that is not judged yet."""
    return {"kind": "accuracy", "tool": tool, "set": dataset, "samples": {"wanted": samples, "done": samples}, "score": {"percent": percent, "std_error": 1.5},
            "deployment": {"recipe": recipe}, "configuration": copy.deepcopy(client_results.CONFIGURED[tool]), "added": [], **change}


def measured(value=TOKENS, tool="vllm_serve", **change):
    """Return the record of a speed that is not judged yet."""
    return {"kind": "performance", "tool": tool, "set": None, "deployment": {"recipe": "x"},
            "performance": {"output_throughput": value, "total_token_throughput": 2 * value}, **change}


# Accuracy


@pytest.mark.parametrize(("dataset", "samples", "tool", "name", "floor"), [
    ("gsm8k", 32, "lm_eval", "gsm8k_first_32", 75), ("gsm8k", 200, "lm_eval", "gsm8k_first_200", 90), ("gsm8k", 1319, "aisbench", "gsm8k", 90),
    ("gpqa", 198, "aisbench", "gpqa", 64.2), ("aime2024", 30, "aisbench", "aime2024", 70),
])
def test_just_under_and_just_over_the_floor(dataset, samples, tool, name, floor):
    for percent, outcome in ((floor, "pass"), (floor + 0.01, "pass"), (100, "pass"), (floor - 0.01, "below"), (0, "below")):
        found = gates.judge(scored(percent, dataset, samples, tool), SHIPPED["gates"])
        assert (found["outcome"], found["name"], found["floor"], found["value"]) == (outcome, name, floor, percent)
        assert found["source"] == SHIPPED["gates"][name]["source"] and (found["reason"] == "") == (outcome == "pass")
    assert f"{0:.2f} % (standard error 1.5) of {samples} samples, wanted at least {floor:g} %. Remedy: " in found["reason"]


def test_a_published_score_is_the_baseline_that_is_shown():
    assert gates.judge(scored(90, "aime2024", 30, "aisbench"), SHIPPED["gates"])["baseline"] == 80.00
    assert gates.judge(scored(90, "gpqa", 198, "aisbench"), SHIPPED["gates"])["baseline"] == 72.22
    assert gates.judge(scored(90), SHIPPED["gates"])["baseline"] is None


@pytest.mark.parametrize(("change", "words"), [
    ({"dataset": "mmlu"}, "no gate of the set mmlu"),
    ({"dataset": "gpqa", "samples": 198}, "no gate for what lm_eval measures; there is one of the set gpqa: gpqa (aisbench; deepseek_r1_w8a8; 198 samples)"),
    ({"recipe": "qwen3_w8a8"}, "no gate for the model qwen3_w8a8; there is one for what lm_eval measures: gsm8k_first_32"),
    ({"samples": 100}, "no gate of 100 samples; there is one for the model deepseek_r1_w8a8: gsm8k_first_32 (lm_eval, aisbench; deepseek_r1_w8a8; 32 samples)"),
    ({"configuration": {}}, "no gate for this configuration of lm_eval; there is one of 1319 samples: gsm8k (lm_eval, aisbench; deepseek_r1_w8a8; "
                            "1319 samples; with gsm8k/gsm8k.yaml)"),
    ({"added": [{"name": "gen_kwargs temperature", "value": 1, "reason": "stated in evaluate_generation"}]}, "with its own sampling, none stated"),
])
def test_no_gate_for_another_run_and_why(change, words):
    found = gates.judge(scored(**change), SHIPPED["gates"])
    assert found["outcome"] == "none" and words in found["reason"] and found["reason"].endswith("Not judged")
    assert (found["value"], found["floor"], found["name"]) == (None, None, None)


def test_the_sampling_of_aisbench_is_a_part_of_its_gates():
    record = scored(100, "aime2024", 30, "aisbench")
    record["configuration"]["files"]["client.py"] = record["configuration"]["files"]["client.py"].replace("temperature=0.6", "temperature=0")
    assert "with temperature=0.6" in gates.judge(record, SHIPPED["gates"])["reason"]


@pytest.mark.parametrize(("name", "reason", "words"), [
    ("num_fewshot", "stated in evaluate_extra_flags", "with no num_fewshot stated"),
    ("model_args max_length", "stated in evaluate_extra_arguments", "with no model_args max_length stated"),
    ("model_args num_concurrent", "stated in evaluate_extra_arguments", ""),
    ("model_args timeout", "stated in evaluate_extra_arguments", ""),
    ("batch-size", "stated in evaluate_extra_flags", ""),
    ("limit", "evaluate_limit: only the first samples", ""),
])
def test_what_the_site_states_makes_another_run_of_it(name, reason, words):
    record = scored(added=[{"name": name, "value": 1, "reason": reason}])
    found = gates.judge(record, SHIPPED["gates"])
    assert (found["outcome"], words in found["reason"]) == ("none" if words else "pass", True)
    assert (gates.find(SHIPPED["gates"], record, planned=True)[1] is None) == bool(words)
    # Of a gate whose own words name it, it is the configuration.
    own = {**ACCURACY["gsm8k"], "tools": {"lm_eval": ["gsm8k/gsm8k.yaml", f"--{name.split()[-1]} 1"]}}
    record["configuration"]["argv"] += [f"--{name.split()[-1]}", "1"]
    assert gates.judge(record, {"own": own})["outcome"] == "pass"


def test_of_a_run_that_is_to_come_command_line_and_files_are_not_looked_at():
    record = scored(configuration={})
    assert gates.find(SHIPPED["gates"], record)[1] is None and gates.find(SHIPPED["gates"], record, planned=True)[0] == "gsm8k"


def test_of_several_gates_the_highest_floor_counts():
    known = {**SHIPPED["gates"], "strict": {**ACCURACY["gsm8k"], "floor": 94}, "loose": {**ACCURACY["gsm8k"], "floor": 1}}
    assert gates.judge(scored(93), known)["name"] == "strict"


# Speed


def test_the_first_result_of_a_load_has_nothing_to_be_compared_with():
    found = gates.judge(measured(), SHIPPED["gates"])
    assert (found["outcome"], found["value"], found["floor"], found["baseline"]) == ("none", TOKENS, None, None)
    assert "it becomes the baseline" in found["reason"]


@pytest.mark.parametrize(("value", "outcome"), [(1000, "pass"), (970.0, "pass"), (970.001, "pass"), (969.999, "below"), (1, "below"), (5000, "pass")])
def test_later_results_reach_97_percent_of_the_baseline(value, outcome):
    found = gates.judge(measured(value), SHIPPED["gates"], {"value": TOKENS, "record": "the-first"})
    assert (found["outcome"], found["floor"], found["baseline"]) == (outcome, 970.0, TOKENS)
    assert found["source"] == "baseline of this site: the-first"
    if outcome == "below":
        assert f"output_throughput {value:.2f}, wanted at least 970.00: 0.97 of the baseline 1000.00 (the-first). Remedy: " in found["reason"]


def test_the_ratio_and_the_number_are_data():
    known = {"mine": {"kind": "performance", "source": "us", "metrics": {"vllm_serve": "total_token_throughput"}, "ratio": 0.5}}
    found = gates.judge(measured(600), known, {"value": 2000.0, "record": "x"})
    assert (found["outcome"], found["value"], found["floor"]) == ("pass", 1200, 1000)
    assert gates.judge(measured(tool="aisbench"), known)["reason"] == "no gate is for the speed that aisbench measures. Not judged"


def test_a_speed_that_the_tool_does_not_say():
    found = gates.judge({**measured(tool="vllm_latency"), "performance": {"output_throughput": None}}, SHIPPED["gates"], {"value": 1, "record": "x"})
    assert found["outcome"] == "none" and "did not say its output_throughput" in found["reason"]


@given(base=st.floats(0.01, 1e7), part=st.floats(0, 3))
def test_the_same_speed_again_always_passes_and_a_slower_one_never_beats_a_faster_one(base, part):
    kept = {"value": base, "record": "x"}
    assert gates.judge(measured(base), SHIPPED["gates"], kept)["outcome"] == "pass"
    slow, fast = sorted((base, base * part + 0.001))
    outcomes = [gates.judge(measured(value), SHIPPED["gates"], kept)["outcome"] for value in (slow, fast)]
    assert outcomes != ["pass", "below"]


# The shipped gates


def chance_below(samples, floor, right):
    """Return in percent how often a model that gives right answers with this probability is below the floor."""
    need = math.ceil(floor * samples / 100 - 1e-9)

    def of(count):
        ways = math.lgamma(samples + 1) - math.lgamma(count + 1) - math.lgamma(samples - count + 1)
        return math.exp(ways + count * math.log(right) + (samples - count) * math.log(1 - right))

    return 100 * sum(of(count) for count in range(need))


@pytest.mark.parametrize("name", sorted(ACCURACY))
def test_the_estimates_of_a_gate_are_right(name):
    gate = ACCURACY[name]
    right = gate["assumed"] / 100
    assert 100 * math.sqrt(right * (1 - right) / gate["samples"]) == pytest.approx(gate["std_error"], abs=0.06)
    assert chance_below(gate["samples"], gate["floor"], right) == pytest.approx(gate["false_fail"], abs=0.05)
    assert chance_below(gate["samples"], gate["floor"], right - 0.1) == pytest.approx(gate["catches"], abs=0.06)


def test_the_estimates_of_the_smoke_gate():
    found = {right: chance_below(32, 75, right / 100) for right in (95, 90, 65, 50)}
    assert found == {95: pytest.approx(0.002, abs=0.0005), 90: pytest.approx(0.33, abs=0.01), 65: pytest.approx(84, abs=0.5), 50: pytest.approx(99.6, abs=0.1)}


@pytest.mark.parametrize("name", sorted(ACCURACY))
def test_a_gate_names_sets_tools_and_models_that_there_are(name):
    gate = ACCURACY[name]
    assert gate["samples"] <= SHIPPED["sets"][gate["set"]]["samples"]
    for tool in gate["tools"]:
        assert gate["set"] in SHIPPED["clients"][tool]["sets"] and tool in SHIPPED["sets"][gate["set"]]["tools"]
    assert set(gate["recipes"]) <= set(SHIPPED["recipes"])


def test_every_client_that_measures_a_speed_has_a_gate():
    measure = {name for name, client in SHIPPED["clients"].items() if "benchmark" in client["verb"]}
    assert measure == set(SHIPPED["gates"]["throughput"]["metrics"])


def planned(**stated):
    """Return the record of a run as the verb plans it, of which only the score is made up."""
    job, = test_clients.jobs("evaluate", **stated)
    record = records.blank({"seconds": 1}, job, client_results.DEPLOYMENT, SHIPPED, "vllm")
    return {**record, "score": {"percent": 100.0, "std_error": 0.0}, "samples": {**record["samples"], "done": record["samples"]["wanted"]}}


@pytest.mark.parametrize("name", sorted(ACCURACY))
def test_a_run_as_it_is_shipped_has_its_gate_and_with_other_sampling_none(name):
    gate = ACCURACY[name]
    limit = gate["samples"] if gate["samples"] < SHIPPED["sets"][gate["set"]]["samples"] else None
    for tool in gate["tools"]:
        stated = {"tool": tool, "sets": [gate["set"]], "limit": limit}
        assert gates.find(SHIPPED["gates"], planned(**stated))[0] == name
        assert gates.find(SHIPPED["gates"], planned(**stated, generation={"temperature": 0}))[0] is None


def test_the_smoke_run_has_its_gate():
    smoke = data.read_yaml(data.BUNDLED.parent / "roles" / "evaluate" / "defaults" / "main.yml")["evaluate_smoke"]
    assert gates.judge(planned(**smoke), SHIPPED["gates"])["name"] == "gsm8k_first_32"
