# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients against a service that gets wrong what a test wants: which runs pass, which are below their gate, and which count for nothing.

First of the scenario: no group serves yet. The image of lm_eval is built by the first test that needs it.
"""

from __future__ import annotations

import json
import re

import pytest

from conftest import SET

#: The mock says that it has a context of 8192 tokens.
SHORT = ("-e", "evaluate_min_model_len=1024", "-e", "evaluate_concurrency=4")
EVALUATE = ("ascend.vllm.evaluate", *SHORT, "-e", "evaluate_sets=gsm8k_lab")


def record_of(directory, verb="evaluate"):
    """Return the one record of a report."""
    (found,) = json.loads((directory / f"{verb}.json").read_text())["records"]
    return found


def test_a_service_that_is_down_is_said_before_anything_is_built(playbook, nodes, sets, reports):
    run = playbook(*EVALUATE, *reports[0])
    assert run.rc != 0 and "a2-node0" in run.text and "http://198.51.100.11:8000" in run.text and "Remedy" in run.text, run.out[-3000:]
    assert "ascend-vllm-client" not in nodes["a2-node0"].check_output("docker images")


@pytest.mark.parametrize(("given", "said"), [
    (["evaluate_tool=lm-eval"], "lm_eval"),
    (["evaluate_sets=gsm9k"], "gsm8k"),
    (["evaluate_tool=aisbench", "evaluate_mode=completions"], "evaluate_mode"),
], ids=["tool", "set", "mode"])
def test_what_is_not_known_is_refused_with_what_is(playbook, given, said):
    run = playbook("ascend.vllm.evaluate", *[word for setting in given for word in ("-e", setting)])
    value = given[-1].partition("=")[2]
    assert run.rc != 0 and value in run.text and said in run.text and "Remedy" in run.text, run.out[-3000:]


def test_a_context_that_is_too_short_is_refused_with_the_command_that_mends_it(playbook, mock):
    with mock():
        run = playbook("ascend.vllm.evaluate", "-e", "evaluate_sets=gsm8k_lab")
    assert run.rc != 0 and "8192" in run.text and "35000" in run.text, run.out[-3000:]
    assert re.search(r"ansible-playbook ascend\.vllm\.upgrade -i a2_pair .*max-model-len", run.text), run.out[-3000:]


def test_a_data_set_that_is_not_as_stated_is_named(playbook, mock, nodes):
    head = nodes["a2-node0"]
    head.check_output(f"mv {SET}/train.jsonl {SET}/kept && sed -i s/racks/shelves/ {SET}/test.jsonl")
    try:
        with mock():
            run = playbook(*EVALUATE)
        assert run.rc != 0 and f"{SET}/train.jsonl" in run.text and f"{SET}/test.jsonl" in run.text and "Remedy" in run.text, run.out[-3000:]
    finally:
        head.check_output(f"mv {SET}/kept {SET}/train.jsonl && sed -i s/shelves/racks/ {SET}/test.jsonl")


def test_an_image_that_cannot_be_built_is_said(playbook, mock, nodes, lm_eval):
    with mock():
        run = playbook(*EVALUATE, "-e", "eval_client_index_url=http://198.51.100.2:8090/nothing-here")
    assert run.rc != 0 and "a2-node0" in run.text and "http://198.51.100.2:8090/nothing-here" in run.text and "Remedy" in run.text, run.out[-3000:]
    assert "ascend-vllm-client" not in nodes["a2-node0"].check_output("docker images")


def test_in_check_mode_nothing_is_run(playbook, mock, nodes, lm_eval):
    with mock():
        run = playbook(*EVALUATE, "--check")
    assert run.rc == 0 and "lm_eval run" in run.text and "num_concurrent" in run.text, run.out[-3000:]
    assert "ascend-vllm-client" not in nodes["a2-node0"].check_output("docker images")


def test_right_answers_pass_and_the_image_is_built_once(playbook, mock, nodes, lm_eval, reports):
    given, directory = reports
    with mock():
        run = playbook(*EVALUATE, *given)
        assert run.rc == 0, run.out[-4000:]
        record = record_of(directory)
        image = nodes["a2-node0"].check_output("docker images -q --no-trunc 'ascend-vllm-client/lm_eval'")
        assert (record["gate"]["outcome"], record["score"]["percent"], record["samples"]["done"]) == ("pass", 100.0, 8), record
        assert record["tool_version"] == "0.4.13" and record["deployment"]["recipe"] == "deepseek_r1_lab"
        assert len(image.split()) == 1 and "gsm8k_lab" in (directory / "evaluate.html").read_text()
        (kept,) = [json.loads(path.read_text()) for path in (directory / "results" / "vllm").glob("*-lm_eval-*.json")]
        # The report's record has nothing more than the one that is kept.
        assert kept == record
        again = playbook(*EVALUATE, "-e", "evaluate_mode=chat", *given)
    assert again.rc == 0 and record_of(directory)["configuration"] != record["configuration"], again.out[-4000:]
    assert nodes["a2-node0"].check_output("docker images -q --no-trunc 'ascend-vllm-client/lm_eval'") == image
    # Nothing of a client is left but its results.
    assert nodes["a2-node0"].check_output("docker ps -aq") == ""


# What each client makes of each fault.
FAULTS = {
    "just-over": (["--wrong", "1"], "pass", "87.5"), "just-under": (["--wrong", "2"], "below", "75"), "one-fails": (["--fails", "one"], "invalid", ""),
    "all-fail": (["--fails", "all"], "invalid", ""), "cut": (["--cut"], "invalid", ""),
}
CORE = ("just-under", "one-fails")


@pytest.mark.parametrize(("fault", "outcome", "score"), [
    pytest.param(*fault, id=name, marks=[] if name in CORE else pytest.mark.extra) for name, fault in FAULTS.items()])
def test_what_counts_with_lm_eval(playbook, mock, lm_eval, reports, fault, outcome, score):
    given, directory = reports
    with mock(*fault):
        run = playbook(*EVALUATE, *given)
    record = record_of(directory)
    assert (run.rc == 0) == (outcome == "pass") and record["gate"]["outcome"] == outcome, run.out[-4000:]
    assert "gsm8k_lab" in run.text and outcome in run.text and score in run.text
    if outcome != "pass":
        assert "Remedy" in run.text and record["gate"]["reason"], record


@pytest.mark.extra
def test_a_service_that_hangs_ends_at_the_limit_and_counts_for_nothing(playbook, mock, nodes, lm_eval, reports):
    given, directory = reports
    with mock("--silent"):
        run = playbook(*EVALUATE, "-e", "evaluate_timeout_s=40", *given)
    assert run.rc != 0 and record_of(directory)["gate"]["outcome"] == "invalid" and "40 s" in run.text, run.out[-4000:]
    assert nodes["a2-node0"].check_output("docker ps -q") == ""


@pytest.mark.extra
@pytest.mark.parametrize(("fault", "outcome", "score"), [([], "pass", "100"), *FAULTS.values()], ids=["right", *FAULTS])
def test_what_counts_with_aisbench(playbook, mock, aisbench, reports, fault, outcome, score):
    given, directory = reports
    with mock(*fault):
        run = playbook(*EVALUATE, "-e", "evaluate_tool=aisbench", *given)
    record = record_of(directory)
    assert (run.rc == 0) == (outcome == "pass") and record["gate"]["outcome"] == outcome, run.out[-4000:]
    assert outcome in run.text and score in run.text
