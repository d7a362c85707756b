# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters evaluate_record, evaluate_lines, evaluate_failed and evaluate_files, with the data of the collection and of a site."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter import evaluate_failed, evaluate_files, evaluate_lines, evaluate_record
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results

MODULES = {"evaluate_failed": evaluate_failed, "evaluate_files": evaluate_files, "evaluate_lines": evaluate_lines, "evaluate_record": evaluate_record}
SITE_GATE = "small: {source: us, kind: accuracy, set: gsm8k, samples: 8, recipes: [deepseek_r1_w8a8], tools: {lm_eval: []}, floor: %s}\n"


def judged(name, *rest, **named):
    """Return the record of a kept run."""
    return evaluate_record.evaluate_record(client_results.run(name), client_results.job(name), client_results.DEPLOYMENT, *rest, **named)


@pytest.fixture(name="site")
def site_folder(tmp_path):
    """Give the function that writes one file of a site's data and returns its folder."""

    def write(kind, text):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / "site.yml").write_text(text, encoding="utf-8")
        return str(tmp_path)

    return write


@pytest.mark.parametrize("name", sorted(MODULES))
def test_registered_under_its_own_name(name):
    assert list(MODULES[name].FilterModule().filters()) == [name]


@pytest.mark.parametrize(("floor", "outcome"), [(49.9, "pass"), (50, "pass"), (50.1, "below")])
def test_a_gate_of_the_site(site, floor, outcome):
    record = judged("lm_eval/half_right", [site("gates", SITE_GATE % floor)], group="vllm")
    assert (record["gate"]["outcome"], record["gate"]["floor"], record["group"]) == (outcome, floor, "vllm")
    assert bool(evaluate_failed.evaluate_failed([record])) == (outcome == "below")
    assert evaluate_lines.evaluate_lines([record])[0].startswith(f"[{outcome}] ")


def test_a_run_of_another_size_has_no_gate():
    record = judged("lm_eval/good")
    assert record["gate"]["outcome"] == "none"
    assert evaluate_failed.evaluate_failed([record]) == [] and "wanted a gate" in evaluate_failed.evaluate_failed([record], True)[0]


@pytest.mark.parametrize(("kind", "text", "words"), [
    ("gates", SITE_GATE % "high", "floor 'high' (a text)"),
    ("gates", SITE_GATE % 0, "floor 0 of 8 samples"),
    ("gates", "x: {source: us, kind: speed}\n", "kind 'speed' (a text)"),
    ("sets", "gsm8k: {source: us, samples: 8}\n", "no files, tools"),
])
def test_data_of_a_site_that_are_wrong(site, kind, text, words):
    with pytest.raises(AnsibleFilterError) as caught:
        judged("lm_eval/good", [site(kind, text)])
    assert words in str(caught.value) and "Remedy" in str(caught.value)


@pytest.mark.parametrize("name", ["run", "job", "deployment"])
def test_what_is_no_run(name):
    given = {"run": client_results.run("lm_eval/good"), "job": client_results.job("lm_eval/good"), "deployment": client_results.DEPLOYMENT, name: "text"}
    with pytest.raises(AnsibleFilterError, match=f"the {name} is a text, wanted a mapping. Remedy"):
        evaluate_record.evaluate_record(*given.values())


def test_a_set_that_is_not_known_and_a_broken_file_of_baselines():
    job = client_results.job("lm_eval/good")
    with pytest.raises(AnsibleFilterError, match="evaluate_record: found the set 'mmlu', wanted one of aime2024, gpqa, gsm8k"):
        evaluate_record.evaluate_record(client_results.run("lm_eval/good"), {**job, "wanted": {**job["wanted"], "set": "mmlu"}}, client_results.DEPLOYMENT)
    with pytest.raises(AnsibleFilterError, match="evaluate_record: baselines.json is "):
        judged("vllm_serve/good", kept=[1])
    with pytest.raises(AnsibleFilterError, match="evaluate_files: baselines.json is "):
        evaluate_files.evaluate_files([judged("vllm_serve/good", group="vllm")], {"vllm": [1]})


def test_a_first_run_its_files_and_the_next_run():
    first = judged("vllm_serve/good", group="vllm")
    files = evaluate_files.evaluate_files([first])
    kept = json.loads(files[1]["text"])
    assert [entry["path"] for entry in files] == ["results/vllm/20260502T090000Z-vllm_serve-rate1.json", "results/vllm/baselines.json"]
    assert judged("vllm_serve/good", kept=kept, group="vllm")["gate"]["outcome"] == "pass"
    assert len(evaluate_files.evaluate_files([first], {"vllm": kept})) == 1
    assert len(evaluate_files.evaluate_files([{**first, "id": "later"}], {"vllm": kept}, True)) == 2
