# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of evaluate and benchmark: their names, what they hand on, and that they take Ansible's lazy mappings."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.filter import (
    client_checks, client_gate_checks, client_jobs, client_npu_checks, client_request, deployment_facts, deployment_record, job_lines,
)
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster

PLAN = Cluster().plan
CONTEXT = {"stamp": "20260101T000000Z", "max_model_len": 40000, "plan_hash": "a"}


def request(verb="evaluate", **stated):
    """Return what was asked for."""
    found = filter_of(client_request)(Lazy(stated), verb)
    assert json.loads(json.dumps(found)) == found
    return found


def test_a_request_says_where_the_client_runs_and_which_files_it_reads():
    found = request(sets="gsm8k")
    assert found["checks"] == [] and found["client"]["kind"] == "container"
    assert [entry["path"] for entry in found["client"]["sets"]["gsm8k"]["files"]] == ["test.jsonl", "train.jsonl"]
    assert request("benchmark")["client"] == {"kind": "exec", "sets": {}}
    assert list(request("benchmark", tool="aisbench")["client"]["sets"]) == ["gsm8k"]
    assert request(tool="gone")["client"] == {}


def test_data_of_the_site_add_a_set_and_bad_data_are_said(tmp_path):
    (tmp_path / "sets").mkdir()
    task = {"metric": "exact_match,strict-match", "include": "gsm8k/gsm8k.yaml", "data": {"dataset_path": "json", "data_files": {"test": "a.jsonl"}},
            "max_tokens": {"completions": 9, "chat": 9}, "timeout_s": 5}
    entry = {"source": "site", "samples": 3, "dir": "ours", "files": [{"path": "a.jsonl", "format": "jsonl"}], "tools": {"lm_eval": task}}
    (tmp_path / "sets" / "own.yml").write_text(yaml.safe_dump({"own": entry}))
    found = filter_of(client_request)({"sets": "own"}, "evaluate", [str(tmp_path)])
    assert found["checks"] == [] and found["client"]["sets"] == {"own": {"files": entry["files"], "dir": "ours"}}
    (job,) = filter_of(client_jobs)(found["settings"], "vllm", PLAN, CONTEXT, [str(tmp_path)])
    assert '{"test": "/var/lib/ascend-vllm/sets/ours/a.jsonl"}' in job["files"]["own_local.yaml"] and (job["limit_s"], job["wanted"]["n"]) == (5, 3)
    assert filter_of(client_request)({"sets": "own", "tool": "aisbench"}, "evaluate", [str(tmp_path)])["checks"][0]["check"] == "set_of_tool"
    (tmp_path / "sets" / "own.yml").write_text("own: 3")
    assert filter_of(client_request)({}, "evaluate", [str(tmp_path)])["checks"][0]["check"] == "data_file"


def test_jobs_of_the_head_and_their_lines():
    settings = request("benchmark", tool="vllm_throughput")["settings"]
    (job,) = filter_of(client_jobs)(settings, "vllm", Lazy(PLAN), Lazy(CONTEXT))
    assert "--tensor-parallel-size" in job["argv"] and job["argv"][job["argv"].index("--tensor-parallel-size") + 1] == "16"
    assert filter_of(job_lines)([Lazy(job)])[0].startswith("20260101T000000Z-vllm_throughput-")
    (job,) = filter_of(client_jobs)(request()["settings"], "vllm", PLAN, CONTEXT)
    assert (job["wanted"]["n"], job["set"]) == (1319, "gsm8k")


def test_what_is_wrong_is_a_check():
    group, unit = PLAN["groups"]["vllm"], PLAN["hosts"]["a2-node0"]["units"][0]
    said = {"service": {"status": None, "error": "refused", "models": []}, "tokenizer": {"files": [], "error": None},
            "room": {"path": "/", "free_mb": None, "error": "gone"}}
    found = filter_of(client_checks)(Lazy(said), Lazy(group), request()["settings"], {"inventory": ["x"], "extra_args": {}})
    assert [check["check"] for check in found] == ["client_service", "client_tokenizer", "client_room"]
    held = {"artefacts": {"device_containers": []}, "npus": [], "settings": request("benchmark", tool="vllm_latency")["settings"]}
    found = filter_of(client_npu_checks)(Lazy(group), Lazy(unit), held, ["x"])
    assert [check["check"] for check in found] == ["client_npus"]


def test_a_gate_without_a_floor_is_a_check():
    found = filter_of(client_gate_checks)(Lazy(request(limit=3)["settings"]), Lazy(PLAN))
    assert {check["check"] for check in found} >= {"gate_floor"}


def test_facts_of_a_deployment():
    record = filter_of(deployment_record)(PLAN, "vllm")
    facts = filter_of(deployment_facts)
    assert facts(Lazy(PLAN), "vllm", [{"number": 4, "time": 1, "record": record}], "sha256:1")["id"] == "4"
    assert facts(PLAN, "vllm", [], None)["id"] is None and len(facts(PLAN, "vllm", [])["plan_hash"]) == 64


@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_every_setting_is_handed_over_by_the_role(verb):
    """What vars/main.yml states is what argument_specs.yml has, but for the plan."""
    from pathlib import Path

    role = Path(__file__).resolve().parents[4] / "roles" / verb
    stated = yaml.safe_load((role / "vars" / "main.yml").read_text())[f"{verb}_stated"]
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {f"{verb}_{name}" for name in stated} | {f"{verb}_plan"} == set(options)
