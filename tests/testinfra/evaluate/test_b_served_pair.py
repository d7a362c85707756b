# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on a pair that serves with the real engine: verify, evaluate, benchmark with sweeps and baselines, and gates of site.yml and upgrade.

The model has random weights: its scores and speeds say nothing, but that they are measured.
"""

from __future__ import annotations

import json

import pytest

from conftest import answers, complete, inspect
from test_a_gates import record_of

# On the pair of a2_pair, `make test` deploys, which verifies, and runs a benchmark; here are all of them.
pytestmark = pytest.mark.extra
QUICK = ("-e", "preflight_mesh=off")
LOAD = ("-e", "benchmark_num_prompts=6", "-e", "benchmark_input_len=16", "-e", "benchmark_output_len=8")


@pytest.fixture(scope="module", autouse=True)
def pair(playbook):
    """Have the group serve."""
    if not answers():
        run = playbook("site.yml", *QUICK)
        assert run.rc == 0, run.out[-4000:]


def test_verify_asks_everything(playbook):
    run = playbook("ascend.vllm.verify")
    assert run.rc == 0 and "completion: " in run.text, run.out[-4000:]
    for check in ("api_models", "chat_answers", "stream_answers", "rank_answers"):
        assert check in run.text, (check, run.out[-4000:])


def test_verify_fails_for_an_answer_that_is_not_expected(playbook):
    questions = [{"prompt": "The future of AI is", "expected": "^ brighter than ever$"}]
    run = playbook("ascend.vllm.verify", "-e", json.dumps({"serve_verify_questions": questions}))
    assert run.rc != 0 and "answer_expected" in run.text and "brighter than ever" in run.text and "Remedy" in run.text, run.out[-4000:]


def test_a_sweep_makes_the_baselines_and_the_next_one_is_judged_by_them(playbook, reports):
    given, directory = reports
    sweep = (*LOAD, "-e", "benchmark_request_rates=4,inf")
    run = playbook("ascend.vllm.benchmark", *sweep, *given)
    assert run.rc == 0, run.out[-4000:]
    records = json.loads((directory / "benchmark.json").read_text())["records"]
    assert [(entry["load"]["request_rate"], entry["samples"]["done"], entry["samples"]["failed"]) for entry in records] == [(4, 6, 0), (None, 6, 0)]
    assert all(entry["performance"]["output_throughput"] > 0 and entry["performance"]["ttft_ms"]["p99"] > 0 for entry in records)
    assert all(added["reason"] for entry in records for added in entry["added"])
    store = directory / "results" / "vllm" / "baselines.json"
    baselines = json.loads(store.read_text())
    assert len(baselines) == 2 and complete()
    # The site had twice that once.
    store.write_text(json.dumps({key: {**entry, "value": entry["value"] * 1000} for key, entry in baselines.items()}))
    run = playbook("ascend.vllm.benchmark", *sweep, *given)
    assert run.rc != 0 and "below" in run.text and "0.97" in run.text and "Remedy" in run.text, run.out[-4000:]
    assert len(list((directory / "results" / "vllm").glob("*-vllm_serve-*.json"))) == 4
    assert "<svg" in (directory / "benchmark.html").read_text()
    run = playbook("ascend.vllm.benchmark", *LOAD, "-e", "benchmark_concurrencies=2", *given)
    assert run.rc == 0 and record_of(directory, "benchmark")["load"]["max_concurrency"] == 2, run.out[-4000:]


@pytest.mark.parametrize("tool", ["vllm_latency", "vllm_throughput"])
def test_an_engine_of_its_own_is_refused_while_the_group_serves(playbook, tool):
    run = playbook("ascend.vllm.benchmark", "-e", f"benchmark_tool={tool}")
    assert run.rc != 0 and "ansible-playbook ascend.vllm.stop -i a2_pair" in run.text and complete(), run.out[-4000:]


def test_the_real_engine_is_evaluated(playbook, sets, lm_eval, reports):
    given, directory = reports
    short = ("-e", "evaluate_sets=gsm8k_random", "-e", "evaluate_min_model_len=512", "-e", "evaluate_concurrency=2", "-e", "evaluate_max_tokens=16",
             "-e", json.dumps({"evaluate_extra_flags": {"num_fewshot": 1}}))
    run = playbook("ascend.vllm.evaluate", *short, *given)
    record = record_of(directory)
    assert run.rc == 0 and record["gate"]["outcome"] == "none" and record["samples"]["done"] == 8, run.out[-4000:]
    run = playbook("ascend.vllm.evaluate", *short, "-e", "evaluate_limit=4", *given)
    assert run.rc != 0 and record_of(directory)["gate"]["outcome"] == "below", run.out[-4000:]


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_the_real_engine_with_aisbench(playbook, sets, aisbench, reports, verb):
    given, directory = reports
    # vLLM 0.32.0 on a CPU ends itself at top_k for several requests with speculative tokens: "index 1024 is out of bounds" (topk_topp_sampler.py).
    sampling = ("-e", json.dumps({"evaluate_generation": {"top_k": None}}))
    small = ("-e", "evaluate_sets=gsm8k_random", "-e", "evaluate_min_model_len=512", "-e", "evaluate_max_tokens=16", *sampling) if verb == "evaluate" else (
        *LOAD, "-e", "benchmark_set=gsm8k_random")
    run = playbook(f"ascend.vllm.{verb}", "-e", f"{verb}_tool=aisbench", *small, *given)
    assert run.rc == 0, run.out[-4000:]
    record = record_of(directory, verb)
    assert record["samples"]["failed"] == 0 and record["gate"]["outcome"] in ("none", "pass"), record


def test_a_gate_of_site_and_of_upgrade(playbook, nodes, sets, lm_eval, reports):
    """A set whose gate cannot be reached: site.yml fails and the pair goes on serving; upgrade brings back what served. And one that passes."""
    given, dummy = reports
    smoke = {"tool": "lm_eval", "sets": ["gsm8k_random"], "limit": 4, "mode": "completions", "max_tokens": 16, "min_model_len": 512, "timeout_s": 600,
             "extra_flags": {"num_fewshot": 1}}
    gate = ("-e", json.dumps({"evaluate_smoke": smoke}), *given)
    before = inspect(nodes["a2-node0"], "vllm-rank0")["Id"]
    run = playbook("site.yml", *QUICK, "-e", "evaluate=smoke", *gate)
    assert run.rc != 0 and "below" in run.text and complete() and inspect(nodes["a2-node0"], "vllm-rank0")["Id"] == before, run.out[-4000:]
    changed = json.dumps({"vllm_extra_args": {"max-num-seqs": 8}})
    run = playbook("ascend.vllm.upgrade", *QUICK, "-e", changed, "-e", "serve_switch_gate=smoke", *gate)
    assert run.rc != 0 and "below" in run.text and "serves again" in run.text, run.out[-4000:]
    argv = inspect(nodes["a2-node0"], "vllm-rank0")["Config"]["Cmd"]
    assert argv[argv.index("--max-num-seqs") + 1] == "16" and complete()
    # One that nothing is stated for is refused, and nothing was stopped for it.
    before = inspect(nodes["a2-node0"], "vllm-rank0")["Id"]
    bare = ("-e", json.dumps({"evaluate_smoke": {**smoke, "limit": 3}}), *given)
    run = playbook("ascend.vllm.upgrade", *QUICK, "-e", changed, "-e", "serve_switch_gate=smoke", *bare)
    assert run.rc != 0 and "no gate of 3 samples" in run.text and inspect(nodes["a2-node0"], "vllm-rank0")["Id"] == before, run.out[-4000:]
    # The first speed of a load becomes the baseline.
    run = playbook("ascend.vllm.upgrade", *QUICK, "-e", changed, "-e", "serve_switch_gate=throughput", *LOAD, *given)
    assert run.rc == 0 and complete(), run.out[-4000:]
    assert playbook("site.yml", *QUICK).rc == 0


def test_latency_and_throughput_with_an_engine_of_their_own(playbook, nodes, reports):
    given, directory = reports
    assert playbook("ascend.vllm.stop").rc == 0
    # The lab's engine is newer than the release that it stands for; see data/clients.
    flags = {"load-format": "dummy", "hf-overrides": {"vocab_size": 16384}}
    random = {"random-input-len": 16, "random-output-len": 8}
    for tool in ("vllm_latency", "vllm_throughput"):
        extra = json.dumps({"benchmark_extra_flags": flags if tool == "vllm_latency" else {**flags, **random}})
        run = playbook("ascend.vllm.benchmark", "-e", f"benchmark_tool={tool}", *LOAD, "-e", extra, *given)
        assert run.rc == 0 and record_of(directory, "benchmark")["samples"]["failed"] == 0, run.out[-4000:]
    assert nodes["a2-node0"].check_output("docker ps -q") == ""
