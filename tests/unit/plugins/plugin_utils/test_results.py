# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients' own files say: every situation that they were run in, and files that are cut, missing or changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import records, results
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results

KNOWN = client_results.known()
#: Situation -> score in percent, or None for a speed.
VALID = {
    "aisbench/good": 100, "aisbench/half_right": 50, "aisbench/gpqa": 25, "lm_eval/good": 100, "lm_eval/chat": 100, "lm_eval/half_right": 50,
    "aisbench_perf/good": None, "aisbench_perf/half_right": None, "aisbench_perf/one_empty": None, "aisbench_perf/truncated": None,
    "vllm_serve/good": None, "vllm_serve/good_0.13.0": None, "vllm_serve/rate_20": None, "vllm_latency/good": None, "vllm_latency/good_0.13.0": None,
    "vllm_throughput/good": None, "vllm_throughput/good_0.13.0": None,
}
#: Situation -> what its reason says.
INVALID = {
    "aisbench/one_fails": "1 of 8 requests failed, wanted 0; the first: Internal Server Error",
    "aisbench/all_fail": "8 of 8 requests failed, wanted 0; the first: Internal Server Error",
    "aisbench/wrong_model": "8 of 8 requests failed, wanted 0; the first: Not Found",
    "aisbench/down": "8 of 8 requests failed, wanted 0; the first: After 2 retries, request failed with exception: ClientConnectorError",
    "aisbench/no_data": "no score of gsm8k: '-'",
    "aisbench/first_5": "5 samples, wanted 8",
    "aisbench/truncated": "8 of 8 answers are empty, cut off or without a result (0 of them empty), wanted at most 10 %",
    "aisbench/one_empty": "1 of 8 answers are empty, cut off or without a result (1 of them empty), wanted at most 10 %",
    "aisbench/aime2024": "1 of 3 answers are empty, cut off or without a result (0 of them empty), wanted at most 30 %",
    "aisbench_perf/one_fails": "1 of 8 requests failed, wanted 0",
    "aisbench_perf/all_fail": "no result (performances/vllm-api-stream-chat/gsm8k.json)",
    "aisbench_perf/wrong_model": "no result (performances/vllm-api-stream-chat/gsm8k.json)",
    "aisbench_perf/down": "no result (performances/vllm-api-stream-chat/gsm8k.json)",
    "aisbench_perf/first_5": "5 samples, wanted 8",
    "lm_eval/one_fails": "no result (results_*.json)",
    "lm_eval/all_fail": "no result (results_*.json)",
    "lm_eval/wrong_model": "no result (results_*.json)",
    "lm_eval/down": "no result (results_*.json)",
    "lm_eval/first_5": "5 samples, wanted 8",
    "lm_eval/truncated": "8 of 8 answers are empty, cut off",
    "lm_eval/one_empty": "1 of 8 answers are empty, cut off",
    "vllm_serve/one_fails": "1 of 8 requests failed, wanted 0",
    "vllm_serve/one_fails_0.13.0": "1 of 8 requests failed, wanted 0",
    "vllm_serve/all_fail": "8 of 8 requests failed, wanted 0",
    "vllm_serve/wrong_model": "8 of 8 requests failed, wanted 0",
    "vllm_serve/down": "8 of 8 requests failed, wanted 0",
    "vllm_serve/down_asked": "no result (*.json)",
    "vllm_serve/first_5": "5 samples, wanted 8",
    "vllm_throughput/other_lengths": "9216 tokens in 8 prompts and answers, wanted 256: the load was another one",
}


def parsed(name, files=None, **change):
    """Return what is read of a kept run, its files or some of its job's wishes changed."""
    job = client_results.job(name)
    wanted = {**records.wanted(job, KNOWN), **change}
    return results.parse(job["tool"], client_results.run(name)["files"] if files is None else files, wanted)


def refused(name, files=None, **change):
    """Return why a run is invalid."""
    with pytest.raises(results.Invalid) as caught:
        parsed(name, files, **change)
    assert caught.value.remedy
    return caught.value.reason


def changed(name, ending, old, new, most=-1):
    """Return the files of a kept run with a text replaced in the one whose path ends so."""
    files = client_results.run(name)["files"]
    path, = (path for path in files if path.endswith(ending))
    assert old in files[path]
    return {**files, path: files[path].replace(old, new, most)}


def test_every_kept_run_is_judged_here():
    assert client_results.folders() == sorted([*VALID, *INVALID])


@pytest.mark.parametrize("name", sorted(VALID))
def test_a_run_that_is_right(name):
    found = parsed(name)
    latency = name.startswith("vllm_latency")
    assert found["samples"] == {"wanted": 5 if latency else client_results.SIZES.get(name.split("/")[1], 8), "done": found["samples"]["wanted"], "failed": 0,
                                "empty": 0}
    assert (found["score"] or {}).get("percent") == VALID[name]
    assert (found["performance"] is None) == (VALID[name] is not None)


@pytest.mark.parametrize("name", sorted(INVALID))
def test_a_run_that_says_nothing(name):
    assert INVALID[name] in refused(name)


def test_exit_statuses_of_the_clients_are_no_help():
    zero = [name for name in INVALID if client_results.run(name)["rc"] == 0]
    assert {"aisbench/down", "aisbench/all_fail", "aisbench/wrong_model", "vllm_serve/down", "vllm_serve/all_fail", "aisbench_perf/one_fails"} <= set(zero)


def test_scores_with_their_errors():
    assert parsed("lm_eval/half_right")["score"] == {"metric": "exact_match,flexible-extract", "percent": 50.0, "std_error": 18.9, "version": "3.0"}
    assert parsed("lm_eval/half_right")["tool_version"] == "0.4.13"
    # AISBench says none: binomial.
    assert parsed("aisbench/half_right")["score"] == {"metric": "accuracy", "percent": 50.0, "std_error": 17.68, "version": "50861a"}


def test_all_digits_of_a_score_are_used_where_they_are_kept():
    files = client_results.run("aisbench/aime2024")["files"]
    assert parsed("aisbench/aime2024", files, unanswered_max_percent=40)["score"]["percent"] == 33.3333
    files = {path: text for path, text in files.items() if "/results/" not in path}
    assert parsed("aisbench/aime2024", files, unanswered_max_percent=40)["score"]["percent"] == 33.33


def test_speeds():
    found = parsed("vllm_serve/good")["performance"]
    assert (round(found["output_throughput"], 1), round(found["total_token_throughput"], 1), round(found["request_throughput"], 2)) == (521.7, 1391.1, 43.47)
    assert {key: round(value, 1) for key, value in found["ttft_ms"].items()} == {"mean": 25.4, "p50": 23.1, "p90": 31.3, "p99": 45.8}
    found = parsed("aisbench_perf/good")["performance"]
    assert found["e2el_ms"] == {"mean": 114.9, "p50": 114.8, "p90": 115.8, "p99": 117.2}
    assert 0.2 < found["duration_s"] < 0.3 and found["output_throughput"] * found["duration_s"] == pytest.approx(96, rel=0.01)
    found = parsed("vllm_latency/good")["performance"]
    assert found["output_throughput"] == pytest.approx(8 * 12 / 0.07586915219981165)
    assert found["e2el_ms"]["mean"] == pytest.approx(75.869, abs=0.001) and found["ttft_ms"] is None
    assert parsed("vllm_latency/good", batch_size=None)["performance"]["output_throughput"] is None
    found = parsed("vllm_throughput/good")["performance"]
    assert found["output_throughput"] == pytest.approx(8 * 12 / 0.07309220200113486) and found["total_token_throughput"] == pytest.approx(3502.4, abs=0.1)


def test_a_load_that_is_not_the_one_asked_for():
    job = client_results.job("vllm_serve/good")
    assert "request_rate 'inf'" not in refused("vllm_serve/good", load={**job["load"], "request_rate": 4.0})
    assert "request_rate nothing in the result, wanted 4.0" in refused("vllm_serve/good", load={**job["load"], "request_rate": 4.0})
    assert "max_concurrency 4" in refused("vllm_serve/rate_20", load={**job["load"], "request_rate": 20})
    assert "96 tokens in 8 answers, wanted 1024" in refused("vllm_serve/good", load={**job["load"], "output_len": 128})
    assert parsed("vllm_serve/good", load={**job["load"], "output_len": 128}, ignore_eos=False)
    assert "160 tokens in 8 prompts, wanted 1600" in refused("vllm_serve/good", load={**job["load"], "input_len": 200})


@pytest.mark.parametrize(("name", "ending", "old", "new", "words"), [
    ("aisbench/good", ".csv", "100.00", "-", "no score of gsm8k: '-'"),
    ("aisbench/good", ".csv", "100.00", "nan", "the score of gsm8k is 'nan' (a text), wanted a number"),
    ("aisbench/good", ".csv", "100.00", "101", "the score of gsm8k is 101, wanted 0 to 100"),
    ("aisbench/good", ".csv", "100.00", "87.50", "87.5 % in the summary, 100 % in"),
    ("aisbench/good", ".csv", "gsm8k,", "mmlu,", "no score of gsm8k by vllm-api-general-chat"),
    ("aisbench/good", ".csv", "accuracy", "score", "the metric 'score' of gsm8k, wanted 'accuracy'"),
    ("aisbench/good", "gsm8k.jsonl", '"success": true', '"success": false', "8 of 8 requests failed"),
    ("aisbench/good", "gsm8k.jsonl", '"id": 7', '"id": 6', "7 samples, wanted 8"),
    ("aisbench/good", "gsm8k.jsonl", '"gold"', "gold", "is no JSON"),
    ("aisbench/good", "gsm8k.json", '"accuracy": 100.0', '"accuracy": NaN', "is nan (a decimal number), wanted a number"),
    ("lm_eval/good", "378246.json", '"exact_match,flexible-extract": 1.0', '"exact_match,flexible-extract": NaN', "is nan"),
    ("lm_eval/good", "378246.json", '"exact_match,flexible-extract": 1.0', '"exact_match,flexible-extract": 2.0', "is 2, wanted 0 to 1"),
    ("lm_eval/good", "378246.json", '"exact_match,flexible-extract"', '"acc"', "no results / gsm8k_local / exact_match,flexible-extract"),
    ("lm_eval/good", "378246.json", '"model_name": "deepseek_r1"', '"model_name": "other"', "a result of the model other"),
    ("lm_eval/good", "378246.json", '"effective": 8', '"effective": 7', "7 samples, wanted 8"),
    ("vllm_serve/good", "result.json", '"failed": 0, ', "", "no failed in the result"),
    ("vllm_serve/good", "result.json", '"output_throughput": 5', '"output_throughput": NaN, "x": 5', "output_throughput is nan"),
    ("vllm_serve/good", "result.json", '"output_throughput": 5', '"output_throughput": 0, "x": 5', "output_throughput is 0, wanted more"),
    ("vllm_serve/good", "result.json", '"mean_ttft_ms": ', '"mean_ttft_ms": -', "mean_ttft_ms is -25.3752, wanted 0 or more"),
    ("vllm_serve/good", "result.json", '"p99_e2el_ms"', '"p98_e2el_ms"', "no p99_e2el_ms in the result"),
    ("vllm_serve/good", "result.json", '"completed": 8', '"completed": "eight"', "completed is 'eight' (a text), wanted a number"),
    ("vllm_serve/good", "result.json", '"completed": 8', '"completed": true', "completed is True (a boolean), wanted a number"),
    ("aisbench_perf/good", "gsm8k.csv", "TTFT", "XXXX", "has no TTFT, wanted it: the answers were not streamed"),
    ("aisbench_perf/good", "gsm8k.json", "token/s", "", None),
    ("aisbench_perf/good", "gsm8k.csv", "OutputTokens,total,12.0,12.0", "OutputTokens,total,12.0,0", "an answer without a token"),
    ("vllm_latency/good", "result.json", '"99"', '"98"', "no 99 in the result"),
    ("vllm_latency/good", "result.json", '"latencies": [', '"latencies": [0, ', "a latency is 0, wanted more"),
    ("vllm_throughput/good", "result.json", '"num_requests": 8', '"num_requests": 7', "7 samples, wanted 8"),
])
def test_a_result_that_was_changed(name, ending, old, new, words):
    files = changed(name, ending, old, new, 1) if "success" not in old else changed(name, ending, old, new)
    if words is None:
        assert parsed(name, files)
    else:
        assert words in refused(name, files)


@pytest.mark.parametrize("name", sorted(VALID))
def test_any_file_that_is_missing_cut_or_there_twice(name):
    files = client_results.run(name)["files"]
    for path, text in files.items():
        if "/results/" not in path:
            assert refused(name, {other: files[other] for other in files if other != path})
            again = path.replace("out/2026", "out/2027").replace("results_2026", "results_2027").replace("local_2026", "local_2027")
            if again != path:
                assert "they are of more than one run" in refused(name, {**files, again: text})
        if path.endswith(("json", "jsonl")):
            assert refused(name, {**files, path: text[: len(text) // 2]})


def test_details_may_be_missing_then_the_answers_alone_count():
    files = {path: text for path, text in client_results.run("aisbench/truncated")["files"].items() if "/results/" not in path}
    assert "8 of 8 answers" in refused("aisbench/truncated", files)


@pytest.mark.parametrize(("answer", "wanted"), [
    ("The answer is 5", "The answer is 5"), ("<think>a long way</think>\n5", "5"), ("a long way</think> 5 ", "5"), ("<think>a long w", ""), ("", ""),
    (None, ""),
])
def test_what_a_reasoning_model_thinks_is_no_answer(answer, wanted):
    assert results.final(answer) == wanted


def test_an_answer_that_is_cut_off_while_it_is_thought_about():
    files = client_results.run("aisbench/good")["files"]
    path, = (path for path in files if path.endswith("predictions/vllm-api-general-chat/gsm8k.jsonl"))
    lines = [json.loads(line) for line in files[path].splitlines()]
    lines[0]["prediction"] = "<think>The answer could be 12. But"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert "1 of 8 answers are empty, cut off" in refused("aisbench/good", {**files, path: text})
    assert parsed("aisbench/good", {**files, path: text}, unanswered_max_percent=12.5)["samples"]["empty"] == 1


def test_a_tool_that_is_not_known():
    with pytest.raises(results.Invalid, match="the tool 'evalscope', wanted one of lm_eval"):
        results.parse("evalscope", {}, {})


@pytest.mark.parametrize(("log", "wanted"), [
    ("a\nValueError: no\n  at end\n", "ValueError: no"), ("a\n\x1b[31mb\x1b[0m\n\n", "b"), ("", ""), (None, ""), ("x" * 300, "x" * 197 + "..."),
])
def test_the_last_words_of_a_log(log, wanted):
    assert results.last_words(log) == wanted


NAMES = st.sampled_from(sorted(VALID))


@given(name=NAMES, part=st.data())
def test_files_that_were_damaged_never_give_a_number_that_is_none(name, part):
    """Whatever is cut out of one of the files: the run is invalid, or all of its numbers are numbers and its samples are those that were asked for."""
    files = client_results.run(name)["files"]
    path = part.draw(st.sampled_from(sorted(files)))
    begin = part.draw(st.integers(0, len(files[path])))
    length = part.draw(st.integers(1, 40))
    text = files[path][:begin] + part.draw(st.sampled_from(["", "NaN", "-1", "null", "[]", "0", "inf"])) + files[path][begin + length:]
    try:
        found = parsed(name, {**files, path: text})
    except results.Invalid:
        return
    assert found["samples"]["failed"] == 0 and found["samples"]["done"] == found["samples"]["wanted"]
    if found["score"]:
        assert 0 <= found["score"]["percent"] <= 100
    json.dumps(found, allow_nan=False)
