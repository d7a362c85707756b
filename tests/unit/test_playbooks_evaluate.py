# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs evaluate and benchmark on this machine as the one node: what is refused before anything is run, and what check mode says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import free_port, web_server

BIN = Path(sys.executable).parent
KEY = "Zq9xWv7-api"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a verb against a service at a port: the finished process."""
    for name in ("weights", "results", "reports", "sets/gsm8k"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "weights/tokenizer.json").write_text("{}")
    (tmp_path / "api_key").write_text(KEY + "\n")
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "vllm_local_ip": "198.51.100.11"}

    def start(verb, port, *words, collections=None, **more):
        variables = {
            "vllm_hardware": "a3", "vllm_npus": 16, "vllm_nic_name": "eth0", "vllm_weights_dir": str(tmp_path / "weights"), "vllm_port": port,
            "vllm_bind_address": "127.0.0.1", "vllm_report_dir": str(tmp_path / "reports"), "vllm_api_key_file": str(tmp_path / "api_key"),
            "evaluate_results": str(tmp_path / "results"), "benchmark_results": str(tmp_path / "results"), "evaluate_room_mb": 1, "benchmark_room_mb": 1,
            "evaluate_data_dir": str(tmp_path / "sets"), "vllm_extra_args": {"seed": 7}, **more,
        }
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"vllm": {"hosts": {"a3-node0": host}, "vars": variables}}))
        command = [str(BIN / "ansible-playbook"), verb if verb.endswith(".yml") else f"ascend.vllm.{verb}", "-i", str(inventory), *words]
        env = {**environment, **({"ANSIBLE_COLLECTIONS_PATH": str(collections)} if collections else {})}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300, check=False)

    # Ansible has a socket in TMPDIR, whose path may have 107 characters: pytest's own folders are too deep for it.
    with tempfile.TemporaryDirectory(prefix="a.", dir="/tmp") as short:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") and "proxy" not in key.lower()}
        environment.update(ANSIBLE_NOCOLOR="1", ANSIBLE_INJECT_FACT_VARS="0", TMPDIR=short, ANSIBLE_HOME=str(tmp_path / "home"), COLUMNS="400")
        yield start


@pytest.fixture
def service():
    """Return a function that gives a service with a model of some context length, which wants the key."""

    def serve(length=40000):
        def answer(asked):
            if asked.headers.get("Authorization") != "Bearer " + KEY:
                return 401, b"no"
            return 200, {"data": [{"id": "deepseek_r1", "max_model_len": length}]}

        return web_server(answer)

    return serve


def port_of(server):
    """Return the port of a server."""
    return int(server.url.rpartition(":")[2])


def said(done):
    """Return what a run says, on one line."""
    text = " ".join((done.stdout + done.stderr).split())
    assert KEY not in text
    return text


@pytest.mark.parametrize(("verb", "words", "found"), [
    ("evaluate", ["-e", "evaluate_sets=gsm8k,mmlu"], "the set 'mmlu', wanted one of"),
    ("evaluate", ["-e", "evaluate_tool=lm_evel"], "one of lm_eval, aisbench. Remedy: did you mean 'lm_eval'?"),
    ("evaluate", ["-e", "evaluate_limit=0"], "evaluate_limit"),
    ("benchmark", ["-e", "benchmark_tool=serve"], "one of aisbench, vllm_serve, vllm_latency, vllm_throughput"),
    ("benchmark", ["-e", "benchmark_request_rates=1,zero"], "numbers above 0, or inf"),
])
def test_bad_input_is_refused_and_nobody_is_asked(run, service, verb, words, found):
    with service() as server:
        done = run(verb, port_of(server), *words)
        assert done.returncode != 0 and found in said(done) and server.asked == []


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_a_limit_is_refused(run, verb):
    done = run(verb, free_port(), "--limit", "a3-node0")
    assert done.returncode != 0 and "Wanted: a run without --limit" in said(done)


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_a_service_that_is_down_is_said_with_what_to_do(run, verb):
    done = run(verb, free_port())
    assert done.returncode != 0
    assert "client_service" in said(done) and "ansible-playbook ascend.vllm.status -i hosts.yml" in said(done)


def test_a_short_context_comes_with_the_very_command(run, service):
    with service(16384) as server:
        text = said(run("evaluate", port_of(server)))
    command = re.search(r"Remedy: (ansible-playbook ascend.vllm.upgrade -i \S+) -e '(\{.*?\}\})'", text)
    assert command and command.group(1).endswith(" hosts.yml"), text
    assert json.loads(command.group(2).replace('\\"', '"')) == {"vllm_extra_args": {"seed": 7, "max-model-len": 35000}}


def test_a_data_set_that_is_not_there_is_said_before_a_client_is_made(run, service):
    with service() as server:
        text = said(run("evaluate", port_of(server), "-e", "evaluate_min_model_len=40000"))
    assert "test.jsonl" in text and "evaluate_data_dir" in text and "evaluate_fetch=true" in text


def test_check_mode_says_what_would_be_run_and_runs_nothing(run, service, tmp_path):
    with service(16384) as server:
        done = run("benchmark", port_of(server), "--check", "-e", "benchmark_request_rates=1,inf", "-e", "benchmark_num_prompts=4")
        assert {asked.path for asked in server.asked} == {"/v1/models"}
    text = said(done)
    assert done.returncode == 0, text
    assert "vllm bench serve" in text and "--request-rate 1.0" in text and "--request-rate inf" in text and "added: ready-check-timeout-sec = 30" in text
    assert list((tmp_path / "results").iterdir()) == [] and "changed=1" not in text


def test_an_engine_of_its_own_is_refused_on_a_node_without_npus_before_anything_is_run(run):
    done = run("benchmark", free_port(), "--check", "-e", "benchmark_tool=vllm_latency")
    # This machine has no npu-smi: who holds the NPUs cannot be said, and so nothing is started.
    assert done.returncode != 0 and "npu-smi" in said(done)


# ---- From end to end, but for the client itself

FAKE = """
from ansible.plugins.action import ActionBase
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results
import json

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        given = self._task.args
        with open("given.json", "a") as stream:
            stream.write(json.dumps({key: given[key] for key in sorted(given)}, default=str) + "\\n")
        return client_results.run(FIXTURE)
"""


@pytest.fixture
def faked(tmp_path):
    """Return a function that gives a folder of collections in which the client is a kept run, and its image is there."""

    def make(name):
        ours = tmp_path / "collections" / "ansible_collections"
        there = next(Path(sys.executable).parents[1].glob("lib/python3*/site-packages/ansible_collections"))
        (ours / "ascend" / "vllm" / "plugins" / "action").mkdir(parents=True)
        (ours / "ascend" / "vllm" / "roles" / "eval_client" / "tasks").mkdir(parents=True)
        for path in there.iterdir():
            if path.name != "ascend":
                (ours / path.name).symlink_to(path.resolve())
        source, target = Path(__file__).resolve().parents[2], ours / "ascend" / "vllm"
        for folder in ("", "plugins", "plugins/action", "roles"):
            for path in (source / folder).iterdir():
                if not (target / folder / path.name).exists() and path.name != "client_run.py" and not path.name.startswith("."):
                    (target / folder / path.name).symlink_to(path)
        (target / "plugins" / "action" / "client_run.py").write_text(FAKE.replace("FIXTURE", repr(name)))
        ready = {"ansible.builtin.set_fact": {"eval_client_ready": "{{ {eval_client_tool: {'image': 'client:1'}} }}"}}
        (target / "roles" / "eval_client" / "tasks" / "main.yml").write_text(yaml.safe_dump([ready]))
        return tmp_path / "collections"

    return make


def given_of(folder):
    """Return what the client was given, a run each."""
    return [json.loads(line) for line in (folder / "given.json").read_text().splitlines()]


def test_a_benchmark_from_the_plan_to_the_verdict(run, service, faked, tmp_path):
    words = ["-e", "benchmark_request_rates=inf", "-e", "benchmark_num_prompts=8", "-e", "benchmark_input_len=20", "-e", "benchmark_output_len=12"]
    with service(16384) as server:
        done = run("benchmark", port_of(server), *words, collections=faked("vllm_serve/good"))
    assert done.returncode == 0, said(done)
    (given,) = given_of(tmp_path)
    assert (given["name"], given["kind"], given["image"], given["mounts"]) == ("vllm-rank0", "exec", "", []) and given["limit_s"] == 14400
    assert given["secrets"] == {"OPENAI_API_KEY": "/etc/ascend-vllm/vllm-rank0/api_key"} and given["results_dir"].startswith("/tmp/ascend-vllm/vllm/")
    assert "[none] vllm: vllm_serve" in said(done)
    (kept,) = [path for path in (tmp_path / "reports/results/vllm").iterdir() if path.name != "baselines.json"]
    found = json.loads(kept.read_text())
    assert found["deployment"]["release"] == "v0.13.0" and len(found["deployment"]["plan_hash"]) == 64 and found["load"]["num_prompts"] == 8
    assert {entry["name"] for entry in found["added"]} >= {"base-url", "ready-check-timeout-sec"}


def site_set(folder):
    """Put eight questions, and data that say so, below a folder; return the folder of the data."""
    for name, count in (("test", 8), ("train", 2)):
        lines = [json.dumps({"question": f"What is {number} + 1?", "answer": f"#### {number + 1}"}) for number in range(count)]
        (folder / "sets" / "gsm8k" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "data" / "sets").mkdir(parents=True)
    entry = {"source": "a test", "samples": 8, "answered": "", "unanswered_max_percent": 0,
             "files": [{"path": f"{name}.jsonl", "format": "gsm8k", "lines": count} for name, count in (("test", 8), ("train", 2))],
             "tools": {"lm_eval": {"metric": "exact_match,flexible-extract"}}}
    (folder / "data" / "sets" / "gsm8k.yml").write_text(yaml.safe_dump({"gsm8k": entry}))
    return folder / "data"


def test_an_evaluation_from_the_plan_to_the_verdict(run, service, faked, tmp_path):
    data_dir, collections = site_set(tmp_path), faked("lm_eval/one_fails")
    with service() as server:
        done = run("evaluate", port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)])
    text = said(done)
    assert done.returncode != 0 and "[invalid] vllm: gsm8k with lm_eval" in text, text
    (given,) = given_of(tmp_path)
    assert (given["name"], given["kind"], given["image"]) == ("vllm-lm_eval-gsm8k", "container", "client:1") and given["devices"] == []
    config = Path(given["argv"][given["argv"].index("--include_path") + 1])
    assert f"{config}:{config}:ro" in given["mounts"] and yaml.safe_load((config / "gsm8k_local.yaml").read_text())["task"] == "gsm8k_local"
    assert config.parent == Path(given["results_dir"]).parent and not Path(given["results_dir"]).exists()
    assert (tmp_path / "reports" / "evaluate.html").is_file()


def test_a_gate_of_a_set_is_judged_as_the_last_step(run, service, faked, tmp_path):
    """The entry point gate by itself, in a play of the head; site.yml has it as its last step."""
    data_dir, collections = site_set(tmp_path), faked("lm_eval/good")
    playbook = tmp_path / "gate.yml"
    gate = {"ansible.builtin.include_role": {"name": "ascend.vllm.evaluate", "tasks_from": "{{ item }}"},
            "vars": {"evaluate_gate": "gsm8k", "evaluate_plan": "{{ hostvars['localhost'].plan_result.plan }}"}}
    playbook.write_text(yaml.safe_dump([
        {"name": "Plan", "import_playbook": "ascend.vllm.plan"},
        {"hosts": "a3-node0", "gather_facts": False, "tasks": [
            {**gate, "ansible.builtin.include_role": {**gate["ansible.builtin.include_role"], "tasks_from": name}} for name in ("gate_ready", "gate")]}]))
    with service() as server:
        done = run(str(playbook), port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)])
    text = said(done)
    assert done.returncode == 0, text
    assert "vllm: gsm8k with lm_eval" in text and len(given_of(tmp_path)) == 1 and (tmp_path / "reports" / "evaluate.json").is_file()


# ---- What becomes of records


@pytest.fixture
def judge(tmp_path):
    """Return a function that hands records to the end of a verb, in a play of nodes or not: the finished process."""
    playbook, values = tmp_path / "play.yml", tmp_path / "values.json"
    role = {"ansible.builtin.include_role": {"name": "ascend.vllm.measure", "tasks_from": "verdict"}}
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [role]}]))

    def start(verb, records, **more):
        plan = {"run": {"report_dir": str(tmp_path / "reports"), "language": "en", "data_dirs": []}, "groups": {"vllm": {}}}
        values.write_text(json.dumps({"measure_verb": verb, "measure_plan": plan, "measure_judged": records, **more}))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment.update(ANSIBLE_NOCOLOR="1", ANSIBLE_INJECT_FACT_VARS="0", TMPDIR=short, ANSIBLE_HOME=str(tmp_path / "home"))
        return subprocess.run([str(BIN / "ansible-playbook"), str(playbook), "-e", f"@{values}"], capture_output=True, text=True,
                              cwd=tmp_path, env=environment, timeout=300, check=False)

    with tempfile.TemporaryDirectory(prefix="a.", dir="/tmp") as short:
        yield start


def record(run, number=1, **change):
    """Return the record of a kept run of a client, judged by the data of the fixtures."""
    job = client_results.job(run, **change)
    job["id"] = job["id"].replace("T09", f"T{9 + number:02}")
    kept = change.pop("kept", None)
    return records.make(client_results.run(run), job, client_results.DEPLOYMENT, client_results.known(), kept, "vllm")


def kept_of(folder):
    """Return what is kept below a folder of reports."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_speed_becomes_the_baseline_and_the_next_one_is_beside_it(judge, tmp_path):
    first, second = record("vllm_serve/good"), record("vllm_serve/good", 2)
    done = judge("benchmark", [first])
    assert done.returncode == 0 and "changed=0" in done.stdout, said(done)
    assert set(kept_of(tmp_path / "reports")) == {
        "benchmark.html", "benchmark.json", "results/vllm/baselines.json", f"results/vllm/{first['id']}.json"}
    assert "[none] vllm: vllm_serve" in said(done) and "becomes the baseline" in said(done)
    baselines = json.loads((tmp_path / "reports/results/vllm/baselines.json").read_text())
    assert [entry["record"] for entry in baselines.values()] == [first["id"]]
    assert judge("benchmark", [second]).returncode == 0
    assert json.loads((tmp_path / "reports/results/vllm/baselines.json").read_text()) == baselines
    report = json.loads((tmp_path / "reports/benchmark.json").read_text())
    assert [entry["id"] for entry in report["records"]] == [second["id"]] and [entry["id"] for entry in report["history"]] == [first["id"]]
    assert judge("benchmark", [second], measure_replace=True).returncode == 0
    assert [entry["record"] for entry in json.loads((tmp_path / "reports/results/vllm/baselines.json").read_text()).values()] == [second["id"]]


def test_an_invalid_run_is_kept_shown_and_fails_the_verb(judge, tmp_path):
    bad = record("lm_eval/good")
    bad["gate"].update(outcome="invalid", reason="1 of 8 requests failed, wanted 0. Remedy: look.")
    done = judge("evaluate", [bad, record("aisbench/good")])
    text = said(done)
    assert done.returncode != 0 and "[invalid] vllm: gsm8k with lm_eval" in text and "1 of 8 requests failed" in text
    assert {"evaluate.html", "evaluate.json", f"results/vllm/{bad['id']}.json"} <= set(kept_of(tmp_path / "reports"))


def test_no_result_is_no_success(judge):
    done = judge("evaluate", [])
    assert done.returncode != 0 and "no result" in said(done)


def test_baselines_that_cannot_be_read_let_nothing_pass(judge, tmp_path):
    (tmp_path / "reports/results/vllm").mkdir(parents=True)
    (tmp_path / "reports/results/vllm/baselines.json").write_text("{")
    (tmp_path / "reports/results/vllm/broken.json").write_text("[")
    done = judge("benchmark", [record("vllm_serve/good")])
    assert done.returncode != 0 and "baselines.json cannot be read as JSON" in said(done) and "Remedy: restore the file" in said(done)
