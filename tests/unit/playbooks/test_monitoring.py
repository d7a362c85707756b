# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ascend.vllm.monitoring writes, judged by Prometheus' own promtool: configuration, alert rules that fire and stay quiet, dashboard."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
FILES = ["grafana/ascend_vllm.json", "prometheus.yml", "rules/alerts.yml", "scrape_ascend_vllm.yml"]
JOB = "ascend_vllm-vllm"


@pytest.fixture(scope="session")
def promtool():
    """Return a function that runs promtool in a directory and returns what ended."""
    found = subprocess.run([TOP / "tests" / "tools" / "promtool"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    path = found.stdout.strip()

    def run(*words, cwd=None, **more):
        return subprocess.run([path, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=60, **more)

    return run


def play(playbook, *words, home):
    """Run ansible-playbook in inventories/ with nobody's settings and return what ended."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    env.update(ANSIBLE_NOCOLOR="1", ANSIBLE_HOME=str(home), PATH=f"{BIN}:{env['PATH']}")
    argv = [BIN / "ansible-playbook", playbook, *map(str, words)]
    return subprocess.run(argv, cwd=TOP / "inventories", env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return the directory that the verb wrote for the shipped pair, twice: in check mode, then for real."""
    folder = tmp_path_factory.mktemp("monitoring")
    found = []
    for words in (["--check"], []):
        done = play("ascend.vllm.monitoring", "-i", "a2_pair", "-e", f"monitoring_dir={folder}/out", *words, home=folder / "home")
        assert done.returncode == 0, done.stdout + done.stderr
        # Nothing but localhost in the recap: no node was contacted, and nothing is ever changed.
        assert re.findall(r"^(\S+)\s+: ok=\d+ +changed=(\d+)", done.stdout, re.MULTILINE) == [("localhost", "0")], done.stdout
        found.append(contents(folder / "out"))
    assert sorted(found[0]) == FILES and found[1] == found[0]
    return folder / "out"


def contents(folder):
    """Return ``{path: text}`` of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_promtool_takes_the_configuration(written, promtool):
    done = promtool("check", "config", "prometheus.yml", cwd=written)
    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout and "6 rules found" in done.stdout
    assert promtool("check", "config", "scrape_ascend_vllm.yml", cwd=written).returncode == 0
    whole, alone = (yaml.safe_load((written / name).read_text()) for name in ("prometheus.yml", "scrape_ascend_vllm.yml"))
    assert list(alone) == ["scrape_configs"] and whole["scrape_configs"] == alone["scrape_configs"]
    (entry,) = alone["scrape_configs"]
    assert (entry["job_name"], entry["metrics_path"], entry["scheme"]) == (JOB, "/metrics", "http")
    labels = {"group": "vllm", "model": "deepseek_r1_w8a8", "release": "v0.13.0", "hardware": "a2"}
    assert entry["static_configs"] == [{"targets": ["198.51.100.11:8000"], "labels": labels}]


def test_two_groups_one_with_tls_and_thresholds_of_the_site(tmp_path, promtool):
    """The role by itself, with a plan as it is with certificates; thresholds come as text, as with -e x=1."""
    authority = tmp_path / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    base = {"model": "m", "release": "v0.13.0", "hardware": "a3"}
    groups = {
        "a": {**base, "tls": None, "api": {"host": "n0"}, "units": [{"url": "http://198.51.100.21:8000"}]},
        "b": {**base, "tls": {"ca_file": str(authority)}, "api": {"host": "n1"}, "units": [{"url": "https://198.51.100.22:8443"}]},
    }
    playbook, values = tmp_path / "play.yml", tmp_path / "values.json"
    values.write_text(json.dumps({"monitoring_plan": {"run": {"report_dir": str(tmp_path / "reports")}, "groups": groups}, "monitoring_job": "site2"}))
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["ascend.vllm.monitoring"]}]))
    done = play(playbook, "-e", f"@{values}", "-e", "monitoring_ttft_seconds=3 monitoring_kv_cache_usage=0.8", home=tmp_path / "home")
    assert done.returncode == 0 and " changed=0 " in done.stdout, done.stdout + done.stderr
    folder = tmp_path / "reports" / "monitoring"
    assert sorted(contents(folder)) == [*FILES, "tls/b.pem"]
    assert (folder / "tls" / "b.pem").read_text() == authority.read_text()
    assert promtool("check", "config", "prometheus.yml", cwd=folder).returncode == 0
    jobs = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    assert [(job["job_name"], job["scheme"], job.get("tls_config")) for job in jobs] == [
        ("site2-a", "http", None), ("site2-b", "https", {"ca_file": "tls/b.pem"})]
    rules = yaml.safe_load((folder / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert [rule["labels"].get("group") for rule in rules if rule["alert"] == "AscendVllmGroupDown"] == ["a", "b"]
    text = " ".join(rule["expr"] for rule in rules)
    assert "> 3" in text and "> 0.8" in text and "ascend_vllm" not in text


@pytest.fixture(scope="session")
def separated(tmp_path_factory):
    """Return the directory that the verb wrote for two prefill groups, a decode group of 32 ranks and a router."""
    folder = tmp_path_factory.mktemp("separated")
    done = play("ascend.vllm.monitoring", "-i", "pd_2p1d", "-e", f"monitoring_dir={folder}/out", home=folder / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\S+)\s+: ok=\d+ +changed=(\d+)", done.stdout, re.MULTILINE) == [("localhost", "0")], done.stdout
    return folder / "out"


def test_every_rank_of_prefill_and_decode_is_watched_and_the_router(separated, promtool):
    """Each is a server of its own, which knows of its own engine only."""
    assert promtool("check", "config", "prometheus.yml", cwd=separated).returncode == 0
    jobs = {job["job_name"]: job for job in yaml.safe_load((separated / "prometheus.yml").read_text())["scrape_configs"]}
    assert {(job["metrics_path"], job["scheme"]) for job in jobs.values()} == {("/metrics", "http")}
    assert {name: [target for static in job["static_configs"] for target in static["targets"]] for name, job in jobs.items()} == {
        "ascend_vllm-prefill1": ["198.51.100.31:7100", "198.51.100.31:7101"],
        "ascend_vllm-prefill2": ["198.51.100.32:7100", "198.51.100.32:7101"],
        "ascend_vllm-decode": [f"198.51.100.{host}:{port}" for host in (33, 34) for port in range(7100, 7116)],
        "ascend_vllm_proxy": ["198.51.100.31:19000"],
    }
    labels = jobs["ascend_vllm-decode"]["static_configs"][0]["labels"]
    assert labels == {"group": "decode", "model": "deepseek_r1_w8a8", "release": "v0.13.0", "hardware": "a3"}
    assert jobs["ascend_vllm_proxy"]["static_configs"][0]["labels"] == {"proxy": "vllm-proxy"}


@pytest.mark.parametrize(("missing", "named"), [({7101}, "198.51.100.31:7101"), ({7100, 7101}, "each of its 2 ranks")])
def test_the_rank_that_is_gone_is_named(separated, promtool, tmp_path, missing, named):
    """One rank that does not answer, and a job that Prometheus does not know."""
    own = 'job="ascend_vllm-prefill1",group="prefill1"'
    up = {7100: "1x10", 7101: "0x10"} if missing == {7101} else {}
    others = [f'up{{job="ascend_vllm-{name}",group="{name}",instance="x"}}' for name in ("prefill2", "decode")]
    instance = {"instance": named} if up else {}
    rule = {"alertname": "AscendVllmGroupDown", "eval_time": "5m", "exp_alerts": [{
        "exp_labels": {"severity": "critical", "job": "ascend_vllm-prefill1", "group": "prefill1", **instance},
        "exp_annotations": {
            "summary": "An API of group prefill1 does not answer",
            "description": f"http://{named}/metrics has not been scraped for a minute: this rank is not serving (a group answers once all of its ranks have "
            "loaded), or Prometheus does not reach it or does not know the job. Next: the log of the rank's container."}}]}
    data = [{"series": f'up{{{own},instance="198.51.100.31:{port}"}}', "values": values} for port, values in up.items()]
    data += [{"series": series, "values": "1x10"} for series in others]
    test = {"rule_files": [str(separated / "rules" / "alerts.yml")], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": data, "alert_rule_test": [rule]}]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", "test.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def advice(folder, name):
    """Return what the alert of this name says to do."""
    rules = yaml.safe_load((folder / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]
    (text,) = {rule["annotations"]["description"].partition("Next: ")[2] for rule in rules if rule["alert"] == name}
    return text.strip()


def test_no_alert_sends_to_a_verb_that_refuses_the_plan(written, separated, tmp_path):
    """Verify takes neither prefill and decode groups nor a proxy."""
    assert advice(written, "AscendVllmNoTokens") == "ansible-playbook ascend.vllm.verify asks for a completion."
    assert advice(separated, "AscendVllmNoTokens") == "ask for a completion under a timeout, at http://198.51.100.31:1999."
    alone = ["-e", f"monitoring_dir={tmp_path}/out", "-e", '{"vllm_proxy": {"kind": "none"}}']
    done = play("ascend.vllm.monitoring", "-i", "pd_1p1d", *alone, home=tmp_path / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    assert advice(tmp_path / "out", "AscendVllmNoTokens") == "ask for a completion under a timeout, through what is in front of prefill and decode."
    jobs = yaml.safe_load((tmp_path / "out" / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["ascend_vllm-prefill", "ascend_vllm-decode"]


def test_a_url_of_one_rank_is_not_taken_for_a_group_of_several(tmp_path):
    urls = '{"monitoring_urls": {"decode": "http://gate.example:80"}}'
    done = play("ascend.vllm.monitoring", "-i", "pd_2p1d", "-e", f"monitoring_dir={tmp_path}/out", "-e", urls, home=tmp_path / "home")
    said = " ".join(done.stdout.split())
    assert done.returncode != 0 and "group decode, of which each of 32 ranks answers for itself" in said and "Remedy: take it out" in said


def series(job=JOB, **changed):
    """Return 40 minutes of a group of two engines that is at work; ``changed``: values of one series by its short name, None for none."""
    values = {"up": "1x40"}
    for engine in "01":
        values.update({f"running{engine}": "4x40", f"waiting{engine}": "0x40", f"tokens{engine}": "0+600x40", f"kv{engine}": "0.5x40",
                       f"done{engine}": "0+15x40", **{f"{bucket}{engine}": "0+15x40" for bucket in ("fast", "slow", "all")}})
    values.update(changed)
    names = {"running": "num_requests_running", "waiting": "num_requests_waiting", "tokens": "generation_tokens_total", "kv": "kv_cache_usage_perc",
             "done": 'request_success_total{finished_reason="stop"', "fast": 'time_to_first_token_seconds_bucket{le="1"',
             "slow": 'time_to_first_token_seconds_bucket{le="20"', "all": 'time_to_first_token_seconds_bucket{le="+Inf"'}
    found = []
    for short, samples in values.items():
        own = f'job="{job}",group="vllm"'
        if short != "up":
            name = f"vllm:{names[short[:-1]]}"
            own = f'{name}{"," if "{" in name else "{"}{own},model_name="deepseek_r1",engine="{short[-1]}"}}'
        else:
            own = f"up{{{own}}}"
        if samples is not None:
            found.append({"series": own, "values": samples})
    return found


IDLE = {f"{name}{engine}": "0x40" for name in ("running", "tokens", "done", "fast", "slow", "all") for engine in "01"}
NOTHING = dict.fromkeys([*IDLE, "up", "waiting0", "waiting1", "kv0", "kv1"])
#: What happens, the series in which it differs from a group at work, and {time: {alert that fires then: how often}}.
CASES = [
    ("a group at work", {}, {"0m": {}, "20m": {}, "40m": {}}),
    ("a group that nobody asks", IDLE, {"20m": {}, "40m": {}}),
    ("the API is gone", {**NOTHING, "up": "1x10 0x30"}, {"11m": {}, "12m": {"AscendVllmGroupDown": 1}, "40m": {"AscendVllmGroupDown": 1}}),
    ("one scrape failed", {**NOTHING, "up": "1x10 0 1x29"}, {"11m": {}, "12m": {}}),
    ("Prometheus does not know the job", NOTHING, {"0m": {}, "2m": {"AscendVllmGroupDown": 1}}),
    ("one engine hangs", {"tokens1": "0+600x10 6000x30"}, {"14m": {}, "18m": {"AscendVllmNoTokens": 1}}),
    ("both hang", {"tokens0": "0+600x10 6000x30", "tokens1": "0+600x10 6000x30"}, {"18m": {"AscendVllmNoTokens": 2}}),
    ("a long prompt after a pause", {**IDLE, "running0": "0x20 1x20", "tokens0": "0x21 0+60x18"}, {"21m": {}, "23m": {}, "40m": {}}),
    ("ever more requests wait", {"waiting0": "0x5 1+1x34"}, {"10m": {}, "25m": {"AscendVllmRequestsPileUp": 1}}),
    ("as many wait all the time", {"waiting0": "5x40", "waiting1": "3x40"}, {"40m": {}}),
    ("the queue becomes shorter", {"waiting0": "90-2x40"}, {"40m": {}}),
    ("a burst", {"waiting0": "0x10 0+9x4 36-9x4 0x20"}, {"14m": {}, "18m": {}, "40m": {}}),
    ("the KV cache is nearly full", {"kv1": "0.97x40"}, {"9m": {}, "11m": {"AscendVllmKvCacheFull": 1}}),
    ("the KV cache is well used", {"kv0": "0.94x40", "kv1": "0.94x40"}, {"40m": {}}),
    ("the KV cache is full for a moment", {"kv1": "0.5x10 1x8 0.5x20"}, {"17m": {}, "40m": {}}),
    ("first tokens come late", {"fast0": "0x40", "fast1": "0x40"}, {"10m": {}, "14m": {"AscendVllmSlowFirstToken": 1}}),
    ("one first token of thirty comes late", {"fast0": "0+14x40"}, {"40m": {}}),
    ("one engine does hardly anything", {"tokens1": "0+10x40"}, {"5m": {}, "40m": {"AscendVllmEngineAsymmetry": 1}}),
    ("few requests, all for one engine", {"tokens1": "0+10x40", "done0": "0+1x40", "done1": "0x40"}, {"40m": {}}),
]


def fired(promtool, written, folder, data, times):
    """Ask promtool whether at each time exactly these alerts fire, and return what ended."""
    expected = [
        {"eval_time": time, "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
         "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in sorted(alerts.items())]}
        for time, alerts in times.items()
    ]
    test = {"rule_files": [str(written / "rules" / "alerts.yml")], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": data, "promql_expr_test": expected}]}
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    return promtool("test", "rules", "test.yml", cwd=folder)


@pytest.mark.parametrize(("changed", "times"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_alerts_fire_and_stay_quiet(written, promtool, tmp_path, changed, times):
    done = fired(promtool, written, tmp_path, series(**changed), times)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_some_case_and_is_told_apart(written):
    names = {rule["alert"] for rule in yaml.safe_load((written / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]}
    assert names == {name for _what, _changed, times in CASES for alerts in times.values() for name in alerts}
    assert {name for name in names if not re.fullmatch(r"AscendVllm[A-Za-z]+", name)} == set()


def test_vllm_of_somebody_else_is_left_alone(written, promtool, tmp_path):
    """Also proof that the alerts are told apart at all: with our name on the jobs, the same series do fire."""
    broken = {"tokens1": "0+600x10 6000x30", "kv1": "0.97x40", "up": "0x40"}
    own = series(**NOTHING | {"up": "1x40"})
    assert fired(promtool, written, tmp_path, own + series("other-vllm", **broken), {"18m": {}}).returncode == 0
    assert fired(promtool, written, tmp_path, own + series("ascend_vllm-two", **broken), {"18m": {}}).returncode == 1


def test_an_alert_says_who_and_what_to_do(written, promtool, tmp_path):
    rule = {"alertname": "AscendVllmNoTokens", "eval_time": "18m", "exp_alerts": [{
        "exp_labels": {"severity": "critical", "job": JOB, "group": "vllm", "model_name": "deepseek_r1", "engine": "1"},
        "exp_annotations": {
            "summary": "Engine 1 of group vllm runs requests but generates nothing",
            "description": "4 request(s) run and no token came for five minutes: the engine hangs, as when a node or its link is gone. "
            "/health may well say 200. Next: ansible-playbook ascend.vllm.verify asks for a completion."}}]}
    test = {"rule_files": [str(written / "rules" / "alerts.yml")], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": series(tokens1="0+600x10 6000x30"), "alert_rule_test": [rule]}]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", "test.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# The dashboard.


@pytest.fixture(scope="session")
def dashboard(written):
    """Return the dashboard as it was written."""
    return json.loads((written / "grafana" / "ascend_vllm.json").read_text())


def panels(dashboard):
    """Return the panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard):
    """Return every expression, as Grafana sends it when all groups are chosen."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    return [text.replace("$__rate_interval", "5m").replace("$group", ".+") for text in found]


def test_dashboard_has_what_grafana_wants(dashboard):
    assert dashboard["uid"] == "ascend-vllm" and dashboard["schemaVersion"] >= 36 and "id" not in dashboard
    variables = {entry["name"]: entry for entry in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "group"]
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    assert variables["group"]["datasource"]["uid"] == "${datasource}"
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(dashboard):
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["id"]
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        assert all('group=~"$group"' in target["expr"] and target["legendFormat"] for target in panel["targets"])


def overlapping(boxes):
    """Return the pairs of boxes ``{x, y, w, h}`` that share a place, and the boxes that are wider than the page."""
    wrong = [(box, box) for box in boxes if box["x"] < 0 or box["x"] + box["w"] > 24]
    for index, one in enumerate(boxes):
        for two in boxes[:index]:
            beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
            below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
            if not (beside or below):
                wrong.append((one, two))
    return wrong


def test_no_panel_covers_another(dashboard):
    assert overlapping([panel["gridPos"] for panel in dashboard["panels"]]) == []
    one = {"x": 0, "y": 0, "w": 12, "h": 8}
    assert overlapping([one, {**one, "x": 11}]) and overlapping([one, {**one, "y": 7}]) and overlapping([{**one, "w": 25}])
    assert not overlapping([one, {**one, "x": 12}, {**one, "y": 8}])


def test_every_expression_parses(dashboard, promtool, tmp_path):
    rules = [{"record": f"panel:{index}", "expr": text} for index, text in enumerate(expressions(dashboard))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stderr


def test_every_expression_finds_something(dashboard, promtool, tmp_path):
    """On series with the labels that vLLM gives them, no join loses its partner."""
    shared = f'job="{JOB}",group="vllm"'
    engine = f'{shared},model_name="deepseek_r1",engine="0"'
    special = {"vllm:request_success_total": 'finished_reason="stop",', "vllm:spec_decode_num_accepted_tokens_per_pos_total": 'position="0",'}
    data = [{"series": f'up{{{shared},release="v0.13.0",hardware="a2"}}', "values": "1x40"}]
    for name in sorted(metrics(" ".join(expressions(dashboard)))):
        buckets = [f'le="{bound}",' for bound in ("1", "+Inf")] if name.endswith("_bucket") else [special.get(name, "")]
        data += [{"series": f"{name}{{{own}{engine}}}", "values": "0+15x40"} for own in buckets]
    found = [{"expr": f"count({text}) > bool 0", "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": 1}]} for text in expressions(dashboard)]
    test = {"evaluation_interval": "1m", "tests": [{"interval": "1m", "input_series": data, "promql_expr_test": found}]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", "test.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def metrics(text):
    """Return the names of vLLM's metrics in a text."""
    return set(re.findall(r"vllm:\w+", text))


def test_the_metrics_are_those_of_the_page(written, dashboard):
    """docs/monitoring.md has a table `| metric | what |` with every name that is used, and no other."""
    used = {name.removesuffix("_bucket") for name in metrics((written / "rules" / "alerts.yml").read_text() + " ".join(expressions(dashboard)))}
    rows = re.findall(r"^\| `(vllm:\w+)` \|", (TOP / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(used)
    # Every count of vLLM's ends like this in what Prometheus sees, whatever the source calls it.
    assert {name for name in used if not name.endswith(("_total", "_seconds"))} == {
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"}


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path):
    done = play("ascend.vllm.monitoring", "-i", "a2_pair", "-e", f"monitoring_dir={tmp_path}/out monitoring_job=a-b", home=tmp_path / "home")
    assert done.returncode != 0 and "Remedy: choose another name." in " ".join(done.stdout.split())
    assert not (tmp_path / "out" / "prometheus.yml").exists()
