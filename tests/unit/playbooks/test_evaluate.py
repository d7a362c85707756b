# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs evaluate and benchmark on this machine as the one node: what is refused before anything is run, and what check mode says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.tests.unit.plugins import client_results
from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import overlay
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, web_server

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
        environ = {"ANSIBLE_COLLECTIONS_PATH": str(collections)} if collections else {}
        return run_playbook(verb if verb.endswith(".yml") else f"ascend.vllm.{verb}", "-i", str(inventory), *words, **environ)

    with ansible_playbook(tmp_path) as run_playbook:
        yield start


@pytest.fixture
def service():
    """Return a function that gives a service with a model of some context length, which wants the key."""

    def serve(length=40000, running=0):
        def answer(asked):
            if asked.path == "/metrics":
                return 200, f'vllm:num_requests_running{{engine="0"}} {running}\nvllm:num_requests_waiting{{engine="0"}} 0\n'.encode()
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
    done = run(verb, closed_port(), "--limit", "a3-node0")
    assert done.returncode != 0 and "Wanted: a run without --limit" in said(done)


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_a_service_that_is_down_is_said_with_what_to_do(run, verb):
    done = run(verb, closed_port())
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
    done = run("benchmark", closed_port(), "--check", "-e", "benchmark_tool=vllm_latency")
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
        ready = {"ansible.builtin.set_fact": {"eval_client_ready": "{{ {eval_client_tool: {'image': 'client:1' ~ (eval_client_plan_auth_file | basename)}} }}"}}
        return overlay(tmp_path, {"plugins/action/client_run.py": FAKE.replace("FIXTURE", repr(name)),
                                  "roles/eval_client/tasks/main.yml": yaml.safe_dump([ready])})

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


LOAD = ["-e", "benchmark_request_rates=inf", "-e", "benchmark_num_prompts=8", "-e", "benchmark_input_len=20", "-e", "benchmark_output_len=12"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_speed_beside_the_requests_of_others_is_kept_and_is_no_baseline(run, service, faked, tmp_path, replace):
    """It fails only where a new baseline was asked for."""
    with service(16384, running=3) as server:
        done = run("benchmark", port_of(server), *LOAD, "-e", f"benchmark_new_baseline={str(replace).lower()}", collections=faked("vllm_serve/good"))
    assert (done.returncode != 0) == replace and "3 requests of others" in said(done) and "while nobody else uses the service" in said(done)
    (kept,) = (tmp_path / "reports/results/vllm").iterdir()
    assert json.loads(kept.read_text())["others"] == 3 and kept.name != "baselines.json"


def test_a_record_is_kept_though_the_next_run_cannot_be_judged(run, service, faked, tmp_path):
    """The client of the second load point is not run at all."""
    collections = faked("vllm_serve/good")
    action = collections / "ansible_collections/ascend/vllm/plugins/action/client_run.py"
    action.write_text(action.read_text().replace("        with open(", "        if 'rate4' in given['results_dir']:\n"
                                                 "            return {'failed': True, 'msg': 'the engine is gone'}\n        with open("))
    with service(16384) as server:
        done = run("benchmark", port_of(server), *LOAD, "-e", "benchmark_request_rates=inf,4", collections=collections)
    assert done.returncode != 0 and "the engine is gone" in said(done) and "Judge all groups together" not in said(done)
    (kept,) = (tmp_path / "reports/results/vllm").iterdir()
    assert json.loads(kept.read_text())["load"]["request_rate"] is None


def site_set(folder, gate=False):
    """Put eight questions, and data that say so, below a folder, and with ``gate`` a floor for them; return the folder of the data."""
    for name, count in (("test", 8), ("train", 2)):
        lines = [json.dumps({"question": f"What is {number} + 1?", "answer": f"#### {number + 1}"}) for number in range(count)]
        (folder / "sets" / "gsm8k" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "data" / "sets").mkdir(parents=True)
    entry = {"source": "a test", "samples": 8, "answered": "", "unanswered_max_percent": 0,
             "files": [{"path": f"{name}.jsonl", "format": "gsm8k", "lines": count} for name, count in (("test", 8), ("train", 2))],
             "tools": {"lm_eval": {"metric": "exact_match,flexible-extract"}}}
    (folder / "data" / "sets" / "gsm8k.yml").write_text(yaml.safe_dump({"gsm8k": entry}))
    if gate:
        (folder / "data" / "gates").mkdir()
        ours = {"kind": "accuracy", "source": "a test", "set": "gsm8k", "samples": 8, "recipes": ["deepseek_r1_w8a8"], "tools": {"lm_eval": []}, "floor": 50}
        (folder / "data" / "gates" / "ours.yml").write_text(yaml.safe_dump({"ours": ours}))
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


def test_the_logins_of_the_plan_are_those_of_the_client_s_image_too(run, service, faked, tmp_path):
    (tmp_path / "logins.json").write_text("{}")
    data_dir, collections = site_set(tmp_path), faked("lm_eval/good")
    with service() as server:
        done = run("evaluate", port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)], vllm_registry_auth_file=str(tmp_path / "logins.json"))
    assert done.returncode == 0, said(done)
    assert given_of(tmp_path)[0]["image"] == "client:1logins.json"


def gate_play(folder, gate, *names):
    """Return a playbook of these entry points of the role, in a play of the head."""
    role = {"name": "ascend.vllm.evaluate"}
    values = {"evaluate_gate": gate, "evaluate_plan": "{{ hostvars['localhost'].plan_result.plan }}"}
    (folder / "gate.yml").write_text(yaml.safe_dump([
        {"name": "Plan", "import_playbook": "ascend.vllm.plan"},
        {"hosts": "a3-node0", "gather_facts": False, "tasks": [
            {"ansible.builtin.include_role": {**role, "tasks_from": name}, "vars": values} for name in names]}]))
    return str(folder / "gate.yml")


#: As the tests of gates have to serve it: the tutorial's context is too short for a set.
LONG = {"vllm_extra_args": {"max-model-len": 40000}}


def test_a_gate_that_nothing_judges_is_refused_before_anything_is_started_and_fails_at_the_end(run, service, faked, tmp_path):
    data_dir, collections = site_set(tmp_path), faked("lm_eval/good")
    with service() as server:
        early = run(gate_play(tmp_path, "gsm8k", "gate_ready"), port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)], **LONG)
        assert early.returncode != 0 and "gate_floor" in said(early) and "no gate of 8 samples" in said(early) and server.asked == []
        late = run(gate_play(tmp_path, "gsm8k", "gate"), port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)], **LONG)
    assert late.returncode != 0 and "wanted a gate that judges it. Remedy: add a gate in a folder of vllm_data_dirs" in said(late)


def test_a_context_that_the_plan_has_too_short_is_refused_by_a_gate_before_anything_is_started(run, service, faked, tmp_path):
    data_dir, collections = site_set(tmp_path, gate=True), faked("lm_eval/good")
    with service() as server:
        done = run(gate_play(tmp_path, "gsm8k", "gate_ready"), port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)],
                   vllm_extra_args={"max-model-len": 20000})
        assert done.returncode != 0 and "max-model-len 20000 in the plan" in said(done) and server.asked == []


@pytest.mark.parametrize(("verb", "words", "found"), [
    ("site", ["serve_switch_gate=smoke"], "serve_switch_gate: found smoke, wanted none: here it has no effect. Remedy: -e evaluate=smoke"),
    ("upgrade", ["evaluate=smoke"], "evaluate: found smoke, wanted none: here it has no effect. Remedy: -e serve_switch_gate=smoke"),
    ("upgrade", ["serve_switch_gate=gsm8k", "evaluate=smoke"], "evaluate: found smoke"),
    ("site", ["evaluate=gsm9k"], "the gate 'gsm9k', wanted one of none, smoke"),
    ("upgrade", ["serve_switch_gate=gsm9k"], "the gate 'gsm9k', wanted one of none, smoke"),
    ("site", ["evaluate=throughput", "benchmark_tool=vllm_latency"], "gate_tool"),
    ("upgrade", ["serve_switch_gate=throughput", "benchmark_request_rates=fast"], "numbers above 0, or inf"),
])
def test_a_gate_that_cannot_be_is_refused_before_there_is_a_plan(run, verb, words, found):
    done = run(verb, closed_port(), *[part for word in words for part in ("-e", word)])
    assert done.returncode != 0 and found in said(done) and "Compute the plan" not in done.stdout


def test_a_gate_of_a_set_is_judged_as_the_last_step(run, service, faked, tmp_path):
    """The entry point gate by itself, in a play of the head; site.yml has it as its last step."""
    data_dir, collections = site_set(tmp_path, gate=True), faked("lm_eval/good")
    with service() as server:
        done = run(gate_play(tmp_path, "gsm8k", "gate_ready", "gate"), port_of(server), collections=collections, vllm_data_dirs=[str(data_dir)], **LONG)
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
        return run_playbook(str(playbook), "-e", f"@{values}")

    with ansible_playbook(tmp_path) as run_playbook:
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
