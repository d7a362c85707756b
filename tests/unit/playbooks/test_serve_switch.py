# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role serve_switch, run by Ansible: in which order groups are started, verified and judged, and which of them go back. The roles that it calls write
down that they were called."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import overlay

#: Role and its entry point -> the words that it writes down.
ROLES = {
    ("serve_launch", "main"): "start {{ serve_launch_groups | join }} {{ serve_launch_groups.values() | map(attribute='release') | join }}",
    ("serve_verify", "main"): "verify {{ serve_verify_groups | join }}",
    ("evaluate", "gate_ready"): "ready {{ evaluate_gate }} {{ evaluate_plan | ascend.vllm.measured_groups | join(',') }}",
    ("evaluate", "gate"): "judge {{ evaluate_gate }} {{ evaluate_plan | ascend.vllm.measured_groups | join(',') }}",
    ("supervise", "main"): "supervise {{ supervise_groups | join(',') }}",
}
LOCK = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"held": True}
"""


@pytest.fixture
def switch(tmp_path):
    """Return a function (roles of the groups, what fails, **variables of the role) -> what was done in order, and all that Ansible said."""
    files = {"plugins/action/group_lock.py": LOCK}
    for (role, entry), words in ROLES.items():
        tasks = [{"ansible.builtin.shell": f'echo "$WORDS" >> {tmp_path}/done', "environment": {"WORDS": words}},
                 {"ansible.builtin.fail": {"msg": "no: {{ words }}"}, "when": "words in broken", "vars": {"words": words}}]
        if role == "serve_launch":
            told = "{{ serve_launch_proxies.proxy.release }} after {{ serve_launch_proxies_before.proxy.release }}"
            tasks.insert(0, {"ansible.builtin.shell": f'echo "$TOLD" >> {tmp_path}/told', "environment": {"TOLD": told}})
        files[f"roles/{role}/tasks/{entry}.yml"] = yaml.safe_dump(tasks)
    collections = overlay(tmp_path, files)

    def run(roles, broken=(), only=None, **variables):
        def plan(release):
            group = {"head": "localhost", "hosts": ["localhost"], "release": release, "model": "m", "image": "i", "api": {}, "rank_urls": []}
            groups = {name: {**group, "role": role} for name, role in roles.items()}
            proxy = {"release": release, "mode": "pd", "groups": list(roles), "address": "a", "port": 1, "url": "http://a:1"}
            return {"groups": groups, "hosts": {"localhost": {"units": []}}, "proxies": {"proxy": proxy}, "run": {"language": "en", "data_dirs": []}}

        (tmp_path / "done").write_text("")
        given = {"broken": list(broken), "whole": plan("new"), "old": plan("old"), "only": only or "", "ansible_connection": "local", **variables}
        (tmp_path / "given.json").write_text(json.dumps(given))
        part = {name: "{{ %s | ascend.vllm.only_groups(only) }}" % name for name in ("whole", "old")}
        values = {"serve_switch_new": part["whole"], "serve_switch_old": part["old"], "serve_switch_whole": "{{ whole }}", "serve_switch_paths": {}}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [
            {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_switch"}, "vars": values}]}]))
        done = run_playbook("-i", "localhost,", "play.yml", "-e", "@given.json", ANSIBLE_COLLECTIONS_PATH=str(collections))
        return done.returncode, (tmp_path / "done").read_text().splitlines(), " ".join((done.stdout + done.stderr).split())

    with ansible_playbook(tmp_path) as run_playbook:
        yield run


REPLICAS = {"a": "serve", "b": "serve", "c": "serve"}
PD = {"p0": "prefill", "p1": "prefill", "d": "decode"}


def test_without_a_gate_a_completion_judges(switch):
    status, done, said = switch({"a": "serve"})
    assert (status, done) == (0, ["start a new", "verify a", "supervise a"]), said


def test_a_proxy_lets_go_of_a_group_where_it_answered_before(switch, tmp_path):
    """Its ports may be others in the new deployment."""
    status, done, said = switch({"a": "serve", "b": "serve"}, ["start b new"])
    assert status != 0 and done[-1] == "supervise a,b", said
    assert (tmp_path / "told").read_text().splitlines() == ["new after old"] * 2 + ["old after new"] * 2


def test_each_group_is_judged_before_the_next_one_is_taken_out_and_one_that_fails_brings_those_before_it_back(switch):
    status, done, said = switch(REPLICAS, ["judge smoke b"], serve_switch_gate="smoke")
    assert status != 0 and "no: judge smoke b" in said
    forth = [word for name in "ab" for word in (f"start {name} new", f"verify {name}", f"judge smoke {name}")]
    # The one that failed serves nobody, and is there again before another one is taken out. What runs as planned, as the third one does, is not started again.
    back = [word for name in "cba" for word in (f"start {name} old", f"verify {name}")]
    assert done == ["ready smoke a,b,c", *forth, *back, "supervise a,b,c"]


def test_prefill_and_decode_are_judged_together_after_each_of_them(switch):
    status, done, said = switch(PD, serve_switch_gate="throughput")
    assert status == 0, said
    assert [word for word in done if word.startswith(("start", "judge", "ready"))] == [
        "ready throughput d", *(word for name in PD for word in (f"start {name} new", "judge throughput d"))]


def test_a_prefill_group_alone_is_judged_with_the_decode_groups_beside_it(switch):
    status, done, said = switch(PD, only="p1", serve_switch_gate="throughput")
    assert status == 0, said
    assert done == ["ready throughput d", "start p1 new", "verify p1", "judge throughput d", "supervise p1"]
