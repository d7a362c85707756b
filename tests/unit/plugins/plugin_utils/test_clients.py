# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evaluate and benchmark ask of their clients: settings, what keeps a client from being run, command lines and configuration files."""

from __future__ import annotations

import ast
import copy
import json

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.filter.deployment_facts import deployment_facts
from ansible_collections.ascend.vllm.plugins.plugin_utils import clients, data, deployments, records
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster

DATA, PROBLEMS = clients.load()
PLAN = Cluster().plan
GROUP = {**PLAN["groups"]["vllm"]}
UNIT = PLAN["hosts"]["a2-node0"]["units"][0]
WEIGHTS = GROUP["weights"]["dir"]
URL = GROUP["api"]["url"]
CONTEXT = {"stamp": "20260101T000000Z", "max_model_len": 40000, "needed": 1, "plan_hash": "a"}


def read(verb, **stated):
    """Return the settings and the checks of what is stated."""
    return clients.read(verb, stated, DATA)


def settings_of(verb, **stated):
    """Return settings that nothing is wrong with."""
    found, checks = read(verb, **stated)
    assert checks == []
    return found


def jobs(verb, group=None, context=None, **stated):
    """Return the runs of what is stated."""
    return clients.jobs(settings_of(verb, **stated), "vllm", {**GROUP, **(group or {})}, UNIT, {**CONTEXT, **(context or {})}, DATA)


def options(argv):
    """Return {option: value} of a command line."""
    return {word: None if following.startswith("--") else following for word, following in zip(argv, [*argv[1:], "--"]) if word.startswith("--")}


def model_args(job):
    """Return the --model_args of lm_eval."""
    return json.loads(options(job["argv"])["--model_args"])


def assigned(text):
    """Return the keywords of the model in AISBench's configuration, those that are plain values, and the names that are imported."""
    tree = ast.parse(text)
    (call,) = [node.value.elts[0] for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "models"]
    values = {}
    for keyword in call.keywords:
        try:
            values[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            values[keyword.arg] = ast.unparse(keyword.value)
    imported = {f"{node.module}.{alias.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return values, imported


# ---- The data


def test_the_data_are_whole():
    assert PROBLEMS == [] and {"lm_eval", "aisbench", "vllm_serve", "vllm_latency", "vllm_throughput"} <= set(DATA["clients"])
    for name, client in DATA["clients"].items():
        assert set(client["verb"]) <= {"evaluate", "benchmark"} and client["kind"] in ("container", "exec", "serving"), name
        parts = [*client["added"].values(), client.get("env", {}), *client.get("performance", {}).get("added", {}).values()]
        assert [entry for part in parts for entry in part.values() if not entry.get("reason") or "value" not in entry] == [], name


# ---- What was asked for


def test_without_a_word_it_is_the_tutorials():
    found = settings_of("evaluate")
    assert (found["tool"], found["sets"], found["limit"], found["mode"]) == ("lm_eval", ["gsm8k"], None, "completions")
    found = settings_of("benchmark")
    assert (found["tool"], found["input_len"], found["num_prompts"], found["points"]) == ("vllm_serve", 200, 200, [{"rate": 1.0, "concurrency": None}])


@pytest.mark.parametrize("sets", ["gsm8k,gpqa", ["gsm8k", "gpqa"], '["gsm8k", "gpqa"]', "gsm8k, gpqa,gsm8k"])
def test_sets_are_a_text_or_a_list(sets):
    assert settings_of("evaluate", tool="aisbench", sets=sets, limit="7")["sets"] == ["gsm8k", "gpqa"]


def test_texts_become_what_they_are():
    found = settings_of("benchmark", request_rates="1,2.5,inf", concurrencies="8,32", num_prompts="50", new_baseline="true")
    assert (found["num_prompts"], found["new_baseline"]) == (50, True)
    assert [(point["rate"], point["concurrency"]) for point in found["points"]] == [(1.0, None), (2.5, None), (None, None), (None, 8), (None, 32)]
    assert settings_of("benchmark", request_rates=[float("inf"), 1, "1"])["points"] == [{"rate": None, "concurrency": None}, {"rate": 1.0, "concurrency": None}]


@pytest.mark.parametrize(("verb", "stated", "device", "words"), [
    ("evaluate", {"tool": "lm_evel"}, "evaluate_tool", "did you mean 'lm_eval'?"),
    ("evaluate", {"tool": "vllm_serve"}, "evaluate_tool", "one of lm_eval, aisbench"),
    ("evaluate", {"sets": "gms8k"}, "evaluate_sets", "did you mean 'gsm8k'?"),
    ("evaluate", {"sets": "mmlu"}, "evaluate_sets", "aime2024"),
    ("evaluate", {"sets": "aime2024"}, "evaluate_sets", "evaluate_tool=aisbench"),
    ("evaluate", {"sets": []}, "evaluate_sets", "no set"),
    ("evaluate", {"sets": ["smok"], "gate": True}, "gate", "one of none, smoke, throughput, aime2024, gpqa, gsm8k"),
    ("evaluate", {"limit": 0}, "evaluate_limit", "1 or more"),
    ("evaluate", {"limit": "ten"}, "evaluate_limit", "an integer"),
    ("evaluate", {"tool": "aisbench", "mode": "completions"}, "evaluate_mode", "one of chat"),
    ("evaluate", {"extra_flags": "seed"}, "evaluate_extra_flags", "a mapping"),
    ("benchmark", {"tool": "lm_eval"}, "benchmark_tool", "one of aisbench, vllm_serve, vllm_latency, vllm_throughput"),
    ("benchmark", {"request_rates": "1,-2"}, "benchmark_request_rates", "numbers above 0, or inf"),
    ("benchmark", {"request_rates": "0"}, "benchmark_request_rates", "numbers above 0, or inf"),
    ("benchmark", {"request_rates": "fast"}, "benchmark_request_rates", "numbers above 0, or inf"),
    ("benchmark", {"concurrencies": "0"}, "benchmark_concurrencies", "1 or more"),
    ("benchmark", {"tool": "vllm_latency", "request_rates": "1"}, "benchmark_request_rates, benchmark_concurrencies", "without a service"),
    ("benchmark", {"tool": "aisbench", "set": "gpqa"}, "benchmark_set", "one of gsm8k"),
    ("benchmark", {"tool": "aisbench", "num_prompts": 1320}, "benchmark_num_prompts", "at most the 1319 questions of gsm8k"),
    ("benchmark", {"num_prompts": 0}, "benchmark_num_prompts", "1 or more"),
])
def test_bad_input_is_said_before_anything_is_asked(verb, stated, device, words):
    checks = read(verb, **stated)[1]
    assert [check["device"] for check in checks] == [device] and all(check["status"] == "fail" for check in checks)
    assert any(words in check[key] for check in checks for key in ("observed", "expected", "remedy")), checks
    assert all(check[key] for check in checks for key in ("observed", "expected", "remedy"))


def test_more_samples_than_a_set_has_are_refused():
    known = copy.deepcopy(DATA)
    known["sets"]["gsm8k"] = {"samples": 10, "source": "x"}
    (found,) = clients.read("evaluate", {"limit": "11"}, known)[1]
    assert "at most the 10 samples of gsm8k" in found["expected"] and clients.read("evaluate", {"limit": 10}, known)[1] == []


# ---- What keeps a client from being run


def said(**changed):
    """Return what a head answers where nothing is wrong."""
    found = {"service": {"status": 200, "error": None, "models": [{"id": "deepseek_r1", "max_model_len": 35000}]},
             "tokenizer": {"files": ["tokenizer.json"], "error": None}, "room": {"path": "/var/lib", "free_mb": 5000, "error": None}}
    return {**found, **changed}


def refused(verb, answer, extra_args=None, **stated):
    """Return the checks of an answer."""
    command = {"inventory": ["a2_pair"], "extra_args": extra_args or {}}
    return clients.service_checks(answer, GROUP, settings_of(verb, **stated), DATA, command)


def test_a_service_that_is_right_is_not_refused():
    assert refused("evaluate", said()) == [] and refused("benchmark", said()) == []


def test_a_short_context_comes_with_the_command_that_mends_it():
    short = said(service={"status": 200, "error": None, "models": [{"id": "deepseek_r1", "max_model_len": 16384}]})
    (found,) = refused("evaluate", short, {"max_model_len": 16384, "seed": 7})
    assert "16384" in found["observed"] and "at least 35000" in found["expected"]
    command, dummy, given = found["remedy"].partition(" -e ")
    assert command == "ansible-playbook ascend.vllm.upgrade -i a2_pair"
    assert json.loads(given.strip("'")) == {"vllm_extra_args": {"seed": 7, "max-model-len": 35000}}
    assert refused("evaluate", short, min_model_len="4096") == [] and refused("benchmark", short) == []
    unsaid = said(service={"status": 200, "error": None, "models": [{"id": "deepseek_r1", "max_model_len": None}]})
    assert "not said" in refused("evaluate", unsaid)[0]["observed"]


@pytest.mark.parametrize(("answer", "words"), [
    ({"service": {"status": None, "error": "Connection refused", "models": []}}, ["Connection refused", "ascend.vllm.status -i a2_pair"]),
    ({"service": {"status": 401, "error": "no", "models": []}}, ["HTTP 401", "vllm_api_key_file"]),
    ({"service": {"status": 200, "error": None, "models": [{"id": "other", "max_model_len": 40000}]}}, ["the models other", "the model deepseek_r1"]),
    ({"tokenizer": {"files": [], "error": None}}, ["no file of a tokenizer", WEIGHTS, "ascend.vllm.fetch -i a2_pair"]),
    ({"room": {"path": "/var", "free_mb": 3, "error": None}}, ["3 MB free", "2048 MB", "evaluate_results"]),
])
def test_what_is_wrong_is_named_with_what_to_do(answer, words):
    (found,) = refused("evaluate", said(**answer))
    text = " ".join(found.values())
    assert [word for word in words if word not in text] == [] and found["host"] == "a2-node0"


def test_an_inventory_is_named_as_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert clients.inventory([f"{tmp_path}/a2_pair", "/etc/other site"]) == "a2_pair -i '/etc/other site'" and clients.inventory([]) == "INVENTORY"


def test_an_engine_of_its_own_asks_no_service():
    assert refused("benchmark", said(service={"status": None, "error": None, "models": []}), tool="vllm_latency") == []


def held(containers=(), processes=(), needed=1, **stated):
    """Return the checks of NPUs that are held by these."""
    npus = [{"phy_id": number, "processes": [{"pid": pid, "name": "x", "memory_mb": 1} for pid, phy in processes if phy == number]} for number in range(8)]
    settings = settings_of("benchmark", tool="vllm_throughput", **stated)
    return clients.npu_checks(GROUP, UNIT, list(containers), npus, settings, needed, ["a2_pair"])


def test_an_engine_of_a_benchmark_is_ended_by_its_name_and_that_of_this_very_run_is_no_obstacle():
    labels = {"ascend.vllm.group": "vllm", "ascend.vllm.purpose": "client"}
    (other,) = held([container("vllm-vllm_latency-tokens200x128", labels=labels, pids=[41])], [(41, 3)])
    assert "docker stop vllm-vllm_latency-tokens200x128 on a2-node0" in other["remedy"] and "ascend.vllm.stop" not in other["remedy"]
    name = jobs("benchmark", tool="vllm_throughput")[0]["name"]
    assert held([container(name, labels=labels, pids=[41])], [(41, 3)]) == []
    for changed in ({**labels, "ascend.vllm.group": "other"}, {"ascend.vllm.group": "vllm"}, {}):
        assert len(held([container(name, labels=changed, pids=[41])], [(41, 3)])) == 1


def container(name="vllm-rank0", devices=("/dev/davinci3",), labels=None, pids=(), privileged=False):
    """Return a container as artefact_info describes it."""
    return {"name": name, "devices": list(devices), "labels": labels or {}, "pids": list(pids), "privileged": privileged}


def test_npus_that_nobody_holds_are_free():
    assert held() == [] and held([container(devices=["/dev/davinci_other"])]) == [] and held([container("lab", [], privileged=True)]) == []


def test_a_service_of_ours_comes_with_the_command_that_stops_it_and_a_stranger_without():
    (ours,) = held([container(labels={"ascend.vllm.group": "vllm"}, pids=[41])], [(41, 3)])
    assert ours["remedy"] == "ansible-playbook ascend.vllm.stop -i a2_pair" and "vllm-rank0" in ours["observed"]
    (stranger,) = held([container("other")])
    assert "not ours" in stranger["observed"] and "ascend.vllm.stop" not in stranger["remedy"]
    (hidden,) = held([container("lab", [], privileged=True, pids=[7])], [(7, 2)])
    assert hidden["device"] == "/dev/davinci2" and "lab" in hidden["observed"]
    (bare,) = held(processes=[(99, 5)])
    assert (bare["device"], bare["observed"]) == ("/dev/davinci5", "process 99, in no container")


def test_a_model_that_does_not_fit_one_node_is_refused():
    (found,) = held(needed=16)
    assert found["observed"] == "16 NPUs" and "8 NPUs of a2-node0" in found["expected"] and "vllm_serve" in found["remedy"]
    assert held(needed=16, tensor_parallel_size=8) == []
    recipes = data.load_all()[0]["recipes"]
    assert clients.npus_needed(GROUP, recipes) == 16 and clients.npus_needed({**GROUP, "model": "gone"}, recipes) is None


# ---- Command lines


def test_lm_eval_is_the_tutorials_command_with_model_and_tokenizer_mended():
    (job,) = jobs("evaluate", limit=20)
    assert job["argv"][:2] == ["lm_eval", "run"] and job["kind"] == "container" and job["name"] == "vllm-lm_eval-gsm8k"
    found, arguments = options(job["argv"]), model_args(job)
    assert (found["--model"], found["--tasks"], found["--limit"], found["--seed"]) == ("local-completions", "gsm8k_local", "20", "1234")
    assert "--log_samples" in found and "--apply_chat_template" not in found and found["--include_path"] == job["config"]
    assert found["--output_path"] == job["results"] + "/out"
    wanted = {"model": "deepseek_r1", "base_url": URL + "/v1/completions", "tokenizer": WEIGHTS, "tokenized_requests": False, "trust_remote_code": True,
              "max_length": 40000, "max_gen_toks": 2048, "timeout": 7200, "num_concurrent": 16}
    assert {name: arguments[name] for name in wanted} == wanted and "think_end_token" not in arguments
    assert (job["env"]["HF_HUB_OFFLINE"], job["env"]["HF_DATASETS_OFFLINE"], job["limit_s"], job["secrets"]) == ("1", "1", 21600, {})
    assert f"{WEIGHTS}:{WEIGHTS}:ro" in job["mounts"] and "/var/lib/ascend-vllm/sets/gsm8k:/var/lib/ascend-vllm/sets/gsm8k:ro" in job["mounts"]
    assert f"{job['config']}:{job['config']}:ro" in job["mounts"] and not job["config"].startswith(job["results"])
    assert (job["wanted"]["n"], job["wanted"]["task"]) == (20, "gsm8k_local")


def test_lm_evals_task_is_the_packaged_one_with_the_files_of_the_site():
    (job,) = jobs("evaluate")
    task = yaml.safe_load(job["files"]["gsm8k_local.yaml"])
    assert task == {
        "include": DATA["clients"]["lm_eval"]["tasks_dir"] + "/gsm8k/gsm8k.yaml", "task": "gsm8k_local", "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {"train": "/var/lib/ascend-vllm/sets/gsm8k/train.jsonl", "test": "/var/lib/ascend-vllm/sets/gsm8k/test.jsonl"}}}


def test_a_reasoning_model_is_asked_as_in_a_conversation():
    (job,) = jobs("evaluate", mode="chat")
    found, arguments = options(job["argv"]), model_args(job)
    assert found["--model"] == "local-chat-completions" and "--apply_chat_template" in found
    assert (arguments["base_url"], arguments["think_end_token"], arguments["max_gen_toks"]) == (URL + "/v1/chat/completions", "</think>", 32768)


@pytest.mark.parametrize(("length", "tokens"), [(40000, 32768), (16384, 14336), (1024, 512), (None, 32768)])
def test_an_answer_is_no_longer_than_fits(length, tokens):
    (job,) = jobs("evaluate", context={"max_model_len": length}, mode="chat")
    assert model_args(job)["max_gen_toks"] == tokens and model_args(job).get("max_length") == length
    assert model_args(jobs("evaluate", max_tokens="64")[0])["max_gen_toks"] == 64


def test_everything_added_is_listed_with_its_reason():
    (job,) = jobs("evaluate", extra_flags={"seed": "7", "use_cache": "x"}, extra_arguments={"max-retries": 0, "num_concurrent": None},
                  generation={"temperature": 0.6})
    added = {entry["name"]: entry for entry in job["added"]}
    assert {"include_path", "log_samples", "model_args tokenizer", "model_args model", "model_args timeout", "environment HF_HUB_OFFLINE"} <= set(added)
    assert all(entry["reason"] for entry in job["added"])
    assert not {"model", "tasks", "output_path", "model_args tokenized_requests", "model_args trust_remote_code"} & set(added)
    assert options(job["argv"])["--seed"] == "7" and options(job["argv"])["--use_cache"] == "x"
    assert model_args(job)["max_retries"] == 0 and "num_concurrent" not in model_args(job)
    assert added["use_cache"]["reason"] == "stated in evaluate_extra_flags" and json.loads(options(job["argv"])["--gen_kwargs"]) == {"temperature": 0.6}


def test_a_record_says_what_was_asked():
    job = jobs("evaluate")[0]
    found = job["configuration"]
    assert (found["model"], found["model_args model"], found["limit_s"]) == ("local-completions", "deepseek_r1", 21600)
    assert found["argv"] == job["argv"] and found["files"] == job["files"]
    found = jobs("evaluate", tool="aisbench")[0]["configuration"]
    assert (found["model model"], found["generation_kwargs top_k"]) == ("deepseek_r1", 10) and found["datasets"].endswith("cot_chat_prompt")
    assert jobs("benchmark")[0]["configuration"]["random-input-len"] == 200


def test_a_run_is_known_by_what_is_asked_and_of_what():
    first, again = jobs("evaluate")[0], jobs("evaluate", context={"stamp": "20270101T000000Z"})[0]
    assert (first["run_id"], first["results"], first["argv"]) == (again["run_id"], again["results"], again["argv"]) and first["id"] != again["id"]
    others = [jobs("evaluate", limit=3)[0], jobs("evaluate", context={"plan_hash": "b"})[0], jobs("evaluate", timeout_s=5)[0]]
    assert len({job["run_id"] for job in [first, *others]}) == 4 and others[0]["results"] == first["results"] and others[0]["config"] != first["config"]
    assert clients.UNNAMED not in json.dumps(first)


def test_aisbenchs_configuration_is_the_pages_with_the_served_name():
    found = jobs("evaluate", tool="aisbench", sets="gsm8k,gpqa,aime2024")
    assert [job["set"] for job in found] == ["gsm8k", "gpqa", "aime2024"]
    job = found[2]
    given = options(job["argv"])
    assert job["argv"][:2] == ["ais_bench", job["config"] + "/client.py"] and (given["--mode"], given["--work-dir"]) == ("all", job["results"] + "/out")
    assert "--dump-eval-details" in given and "--merge-ds" in given and "--num-prompts" not in given
    values, imported = assigned(job["files"]["client.py"])
    assert (values["model"], values["host_ip"], values["host_port"], values["stream"]) == ("deepseek_r1", "198.51.100.11", 8000, False)
    assert (values["max_out_len"], values["batch_size"], values["api_key"]) == (32768, 16, "")
    assert values["generation_kwargs"] == "dict(temperature=0.6, top_k=10, top_p=0.95, repetition_penalty=1.03)"
    assert "extract_non_reasoning_content" in values["pred_postprocessor"] and "enable_ssl" not in values
    assert any(name.endswith("aime2024_gen_0_shot_chat_prompt.aime2024_datasets") for name in imported)
    assert "datasets[0]['path'] = '/var/lib/ascend-vllm/sets/aime2024/aime.jsonl'" in job["files"]["client.py"]


def test_a_name_cannot_leave_its_quotes():
    (job,) = jobs("evaluate", {"served_model_name": "x',api_key='y"}, tool="aisbench", sets="gsm8k")
    assert assigned(job["files"]["client.py"])[0]["model"] == "x',api_key='y"


def test_the_key_is_a_file_of_root_and_in_no_command_line():
    kept = {"api_key_file": "/controller/key"}
    for verb, stated in (("evaluate", {}), ("evaluate", {"tool": "aisbench"}), ("benchmark", {}), ("benchmark", {"tool": "aisbench"})):
        (job,) = jobs(verb, kept, **stated)
        assert job["secrets"] == {"OPENAI_API_KEY": "/etc/ascend-vllm/vllm-rank0/api_key"} and "/controller/key" not in json.dumps(job)
    text = jobs("evaluate", kept, tool="aisbench")[0]["files"]["client.py"]
    assert "__import__('os').environ.get('OPENAI_API_KEY', '')" in text
    assert jobs("benchmark", kept, tool="vllm_latency", tensor_parallel_size=8)[0]["secrets"] == {}


def test_a_certificate_is_vouched_for():
    api = {**GROUP["api"], "tls": True, "url": "https://198.51.100.11:8000", "ca_file": "/etc/ascend-vllm/vllm-rank0/tls_ca.pem"}
    (job,) = jobs("evaluate", {"api": api}, tool="aisbench")
    assert assigned(job["files"]["client.py"])[0]["enable_ssl"] is True and job["env"]["SSL_CERT_FILE"] == api["ca_file"]
    assert f"{api['ca_file']}:{api['ca_file']}:ro" in job["mounts"] and job["added"][-1]["name"] == "environment SSL_CERT_FILE"
    (job,) = jobs("benchmark", {"api": api})
    assert job["env"] == {"SSL_CERT_FILE": "/run/ascend-vllm/tls.crt"} and job["mounts"] == []


def test_aisbench_measures_with_a_stream_and_a_tokenizer():
    (job,) = jobs("benchmark", tool="aisbench", num_prompts=8, output_len=32, request_rates="2")
    given, (values, imported) = options(job["argv"]), assigned(job["files"]["client.py"])
    assert (given["--mode"], given["--num-prompts"]) == ("perf", "8") and "--merge-ds" not in given
    assert (values["stream"], values["path"], values["max_out_len"], values["batch_size"], values["request_rate"]) == (True, WEIGHTS, 32, 8, 2.0)
    assert values["generation_kwargs"] == "dict(temperature=0, ignore_eos=True)" and "pred_postprocessor" not in values
    # Its results are in a folder of this name.
    assert job["wanted"]["abbr"] == values["abbr"] == "vllm-api-stream-chat"
    (accuracy,) = jobs("evaluate", tool="aisbench", extra_arguments={"abbr": "ours"})
    assert accuracy["wanted"]["abbr"] == "ours"
    assert any("default_perf" in name for name in imported) and any("str_perf" in name for name in imported)
    assert job["load"] == {"request_rate": 2.0, "max_concurrency": None, "input_len": None, "output_len": 32, "num_prompts": 8}
    (job,) = jobs("benchmark", tool="aisbench", concurrencies="4")
    assert (assigned(job["files"]["client.py"])[0]["batch_size"], assigned(job["files"]["client.py"])[0]["request_rate"]) == (4, 0)


def test_vllm_serve_is_the_tutorials_command_in_the_serving_container():
    found = jobs("benchmark", request_rates="1,inf", concurrencies="8")
    assert [job["id"].rpartition("-")[2] for job in found] == ["rate1", "rateinf", "concurrency8"]
    job = found[0]
    assert job["argv"][:5] == ["/bin/bash", "/opt/ascend-vllm/start.sh", "vllm", "bench", "serve"] and (job["kind"], job["name"]) == ("exec", "vllm-rank0")
    given = options(job["argv"])
    tutorial = {"--model": WEIGHTS, "--dataset-name": "random", "--random-input-len": "200", "--num-prompts": "200", "--request-rate": "1.0",
                "--save-result": None, "--result-dir": job["results"]}
    assert {name: given[name] for name in tutorial} == tutorial and job["results"].startswith("/tmp/") and "--max-concurrency" not in given
    assert (given["--served-model-name"], given["--base-url"], given["--ready-check-timeout-sec"]) == ("deepseek_r1", URL, "30")
    assert [options(job["argv"])["--request-rate"] for job in found[1:]] == ["inf", "inf"] and options(found[2]["argv"])["--max-concurrency"] == "8"
    assert [job["load"]["request_rate"] for job in found] == [1.0, None, None] and job["collect"] == ["result.json"]
    assert len({job["results"] for job in found}) == 3 and job["mounts"] == [] and job["files"] == {}


@pytest.mark.parametrize("tool", ["vllm_latency", "vllm_throughput"])
def test_an_engine_of_its_own_gets_what_the_service_is_started_with(tool):
    (job,) = jobs("benchmark", tool=tool, context={"needed": 16}, extra_flags={"load-format": "dummy", "hf-overrides": {"vocab_size": 16384}})
    assert job["kind"] == "serving" and job["argv"][2:5] == ["vllm", "bench", tool.removeprefix("vllm_")]
    given = options(job["argv"])
    assert (given["--model"], given["--tensor-parallel-size"], given["--quantization"], given["--max-model-len"]) == (WEIGHTS, "16", "ascend", "16384")
    assert (given["--input-len"], given["--output-len"]) == ("200", "128") and "--enable-expert-parallel" in given
    assert not [name for name in given if name.startswith(("--data-parallel", "--host", "--port", "--served", "--headless"))]
    assert json.loads(given["--speculative-config"]) and json.loads(given["--hf-overrides"]) == {"vocab_size": 16384} and given["--load-format"] == "dummy"
    assert job["env"]["HCCL_IF_IP"] == "198.51.100.11" and job["argv"].count("--tensor-parallel-size") == 1
    assert {entry["name"]: entry["reason"] for entry in job["added"]}["quantization"] == "as the service is started"


def test_lengths_of_random_prompts_are_said_as_the_release_takes_them():
    (old,) = jobs("benchmark", tool="vllm_throughput")
    (new,) = jobs("benchmark", {"software": {"vllm": "v0.23.0"}}, tool="vllm_throughput")
    assert "--random-input-len" not in options(old["argv"])
    assert (options(new["argv"])["--random-input-len"], options(new["argv"])["--random-output-len"]) == ("200", "128")


@pytest.mark.parametrize(("argv", "flags"), [
    (["--seed", "1", "--trust-remote-code", "--x=-1", "--host", "0.0.0.0", "--headless", "--data-parallel-size-local", "2"],
     {"seed": "1", "trust-remote-code": True, "x": "-1"}),
    (["--headless", "--compilation-config", '{"a":1}'], {"compilation-config": '{"a":1}'}),
    (["--gone", "1", "--last"], {"last": True}),
])
def test_options_are_read_back(argv, flags):
    assert clients.engine_flags(["vllm", "serve", "/w", *argv], ["gone"]) == flags


# ---- What was run on


def test_a_deployment_is_known_by_its_number_and_its_hash():
    record = deployments.record(PLAN, "vllm")
    found = clients.deployment(record, {"number": 3, "record": record}, GROUP, "sha256:1")
    assert (found["id"], found["release"], found["recipe"], found["image_id"]) == ("3", "v0.13.0", "deepseek_r1_w8a8", "sha256:1")
    changed = copy.deepcopy(record)
    changed["hosts"]["a2-node1"]["units"][0]["argv"].append("--x")
    other = clients.deployment(record, {"number": 3, "record": changed}, GROUP, None)
    assert other["id"] is None and other["plan_hash"] == found["plan_hash"]
    assert clients.deployment(changed, None, GROUP, None)["plan_hash"] != found["plan_hash"]


@pytest.fixture
def halves(hosts, planned):
    """Return a function (prefill's settings, decode's, **variables) -> (what a record says of the deployment, its baseline's key)."""

    def make(prefill=None, decode=None, **variables):
        entries = [{"name": "p", "role": "prefill", "hosts_from": "p", **(prefill or {})}, {"name": "d", "role": "decode", "hosts_from": "d", **(decode or {})}]
        hostvars = hosts(4, "a2", **{"name": "n{index}", "vllm_groups": entries, **variables})
        plan = planned(hostvars, {"vllm": list(hostvars), "p": list(hostvars)[:2], "d": list(hostvars)[2:]})["plan"]
        facts = deployment_facts(plan, "d", [{"number": 3, "record": deployments.record(plan, "d")}])
        return facts, records.key({"tool": "aisbench", "deployment": facts})

    return make


@pytest.mark.parametrize("side", ["prefill", "decode"])
@pytest.mark.parametrize("change", [{"extra_args": {"max-num-seqs": 5}}, {"extra_env": {"HCCL_BUFFSIZE": "300"}}])
def test_what_either_half_is_started_with_gives_another_baseline(halves, side, change):
    (facts, key), (other, changed) = halves(), halves(**{side: change})
    assert facts["id"] == "3" and facts["plan_hash"] != other["plan_hash"] and changed != key
    assert changed.rpartition("=")[0] == key.rpartition("=")[0] and " decode=dp4tp4 prefill=dp4tp4 options=" in key


def test_a_size_of_prefill_is_a_part_of_the_baseline_and_where_things_are_is_not(halves):
    facts, key = halves()
    assert halves({"tensor_parallel_size": 8})[1].partition(" options=")[0] != key.partition(" options=")[0]
    elsewhere = {"vllm_nic_name": "bond0", "vllm_rank_port": 7300, "vllm_kv_port": 30000, "vllm_data_parallel_rpc_port": 13500, "vllm_served_model_name": "m",
                 "vllm_image": "registry.example/vllm:1", "name": "other{index}"}
    other, same = halves(**elsewhere)
    assert same == key and other["plan_hash"] != facts["plan_hash"] and other["together"] == facts["together"]


def test_a_group_that_serves_by_itself_is_known_by_itself():
    serving = copy.deepcopy(PLAN)
    serving["groups"]["other"] = serving["groups"]["vllm"]
    assert deployment_facts(serving, "vllm", []) == deployment_facts(PLAN, "vllm", []) and deployment_facts(PLAN, "vllm", [])["together"] is None


def test_lines_say_what_would_be_run_and_what_was_added():
    found = clients.lines(jobs("benchmark"))
    assert found[0].startswith("20260101T000000Z-vllm_serve-rate1: /bin/bash ") and any("added: base-url" in line for line in found)


# ---- Gates


def gate_checks(verb="evaluate", group=None, argv=(), **stated):
    """Return what is refused of a gate before anything is started; ``argv``: more of the head's command line."""
    plan = copy.deepcopy(PLAN)
    plan["groups"]["vllm"].update(group or {})
    unit = plan["hosts"]["a2-node0"]["units"][0]
    words = unit["argv"]
    if "--max-model-len" in words:
        del words[words.index("--max-model-len"):words.index("--max-model-len") + 2]
    unit["argv"] = [*words, *argv]
    return clients.gate_checks(settings_of(verb, **stated), plan, DATA)


@pytest.mark.parametrize(("stated", "words"), [
    ({"limit": 3}, "no gate of 3 samples"),
    ({"sets": "gpqa"}, "no gate for what lm_eval measures"),
    ({"group": {"model": "qwen3_w8a8"}}, "no gate for the model qwen3_w8a8"),
    ({"extra_flags": {"num_fewshot": 1}}, "with no num_fewshot stated"),
    ({"generation": {"temperature": 0}}, "with its own sampling, none stated"),
])
def test_a_gate_that_has_no_floor_is_refused_before_anything_is_started(stated, words):
    (found,) = gate_checks(**stated)
    assert words in found["observed"] and found["host"] == "a2-node0" and "folder of vllm_data_dirs" in found["remedy"]
    assert gate_checks() == [] and gate_checks("benchmark", group={"model": "qwen3_w8a8"}) == []


@pytest.mark.parametrize(("argv", "refused_"), [
    (["--max-model-len", "16384"], True), (["--max-model-len=34999"], True), (["--max-model-len", "35000"], False), (["--max-model-len", "32k"], False),
    (["--max-model-len", "-1"], False), ([], False),
])
def test_a_context_that_the_plan_has_too_short_for_a_gate_is_refused_before_anything_is_started(argv, refused_):
    found = gate_checks(argv=argv)
    assert [entry["check"] for entry in found] == (["client_model_len"] if refused_ else [])
    assert not found or ("at least 35000" in found[0]["expected"] and "vllm_extra_args" in found[0]["remedy"])
    assert gate_checks(argv=argv, min_model_len=4096) == [] and gate_checks("benchmark", argv=argv) == []


def test_a_gate_of_speed_measures_the_service():
    for tool in ("vllm_latency", "vllm_throughput"):
        (found,) = read("benchmark", tool=tool, gate=True)[1]
        assert tool in found["observed"] and "vllm_serve" in found["remedy"] and read("benchmark", tool=tool)[1] == []
    assert read("benchmark", gate=True)[1] == []


def test_what_was_begun_before_the_service_was_started_is_another_run():
    names = [jobs("benchmark", context={"serving_since": since})[0]["run_id"] for since in (None, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")]
    assert len(set(names)) == 3


def test_the_size_of_an_engine_of_its_own_is_a_part_of_its_load():
    assert jobs("benchmark", tool="vllm_latency", tensor_parallel_size=8)[0]["load"]["tensor_parallel_size"] == 8
    assert "tensor_parallel_size" not in jobs("benchmark")[0]["load"]
    facts = clients.deployment({}, None, GROUP, None)
    assert (facts["data_parallel_size"], facts["tensor_parallel_size"]) == (GROUP["data_parallel_size"], GROUP["tensor_parallel_size"])
