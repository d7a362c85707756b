# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a serving pair: the metrics that dashboard and alerts use are those that the engine really has, and promtool takes both."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import urllib.request

import pytest

from conftest import PROJECT

API = "http://198.51.100.11:8000"
#: What promtool says of every vLLM: its names have a colon, and one histogram the name of a counter.
KNOWN = re.compile(r"""vllm:\w+ metric names should not contain ':'|vllm:iteration_tokens_total non-counter metrics should not have "_total" suffix""")


def promtool(*words, **more):
    """Run promtool and return what ended."""
    path = subprocess.run([PROJECT / "tests" / "tools" / "promtool"], capture_output=True, text=True, check=True).stdout.strip()
    return subprocess.run([path, *words], capture_output=True, text=True, check=False, timeout=60, **more)


def ask(path, body=None, key=None):
    """Ask the API from the controller, past any proxy; return the text of the answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(API + path, data=json.dumps(body).encode() if body else None, headers=headers)
    with opener.open(request, timeout=120) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def written(playbook, tmp_path_factory):
    """Return the directory that the verb wrote for the pair."""
    folder = tmp_path_factory.mktemp("monitoring")
    done = playbook("ascend.vllm.monitoring", "-e", f"monitoring_dir={folder}")
    assert done.rc == 0, done.out[-3000:]
    assert done.recap("localhost")["changed"] == 0
    return folder


@pytest.fixture(scope="module")
def exposed(lab_vars):
    """Return the text of /metrics, asked for without a key after a completion."""
    stated = lab_vars.get("vllm_api_key_file")
    key = pathlib.Path(stated).read_text().strip() if stated else None
    model = json.loads(ask("/v1/models", key=key))["data"][0]["id"]
    ask("/v1/completions", {"model": model, "prompt": "The future of AI is", "max_tokens": 5, "temperature": 0}, key)
    return ask("/metrics")


def test_files_are_whole(written):
    done = promtool("check", "config", "prometheus.yml", cwd=written)
    assert done.returncode == 0, done.stderr
    text = (written / "prometheus.yml").read_text()
    assert API.partition("//")[2] in text and "scheme: http\n" in text


def test_every_metric_that_is_used_is_there(written, exposed):
    texts = [(written / name).read_text() for name in ("rules/alerts.yml", "grafana/ascend_vllm.json")]
    used = set(re.findall(r"vllm:\w+", " ".join(texts)))
    there = set(re.findall(r"^(vllm:\w+)[ {]", exposed, re.MULTILINE))
    assert "vllm:generation_tokens_total" in used
    assert used - there == set()


def test_engines_of_both_nodes_are_told_apart(exposed):
    """With the labels that alerts and dashboard group by."""
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "generation_tokens_total", "time_to_first_token_seconds_count"):
        labels = re.findall(rf"^vllm:{name}{{([^}}]*)}} ", exposed, re.MULTILINE)
        assert sorted(re.search(r'engine="(\d+)"', text)[1] for text in labels) == ["0", "1"], name
    assert re.search(r'^vllm:request_success_total{[^}]*finished_reason="length"', exposed, re.MULTILINE)
    assert re.search(r'^vllm:spec_decode_num_accepted_tokens_per_pos_total{[^}]*position="0"', exposed, re.MULTILINE)
    counted = [float(value) for value in re.findall(r"^vllm:generation_tokens_total{[^}]*} (\S+)$", exposed, re.MULTILINE)]
    assert sum(counted) >= 5


def test_promtool_reads_the_live_metrics(exposed):
    """Nothing is wrong but what is known of vLLM."""
    done = promtool("check", "metrics", input=exposed)
    assert done.returncode in (0, 3), done.stderr
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and not KNOWN.fullmatch(line.strip())]
    assert found == []
