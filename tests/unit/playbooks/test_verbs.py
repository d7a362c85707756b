# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verbs do themselves, beside the roles that they call: in which order, and for which groups."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import deployments, plan, request
from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import TOP, overlay


def test_a_restarted_group_has_its_services_before_the_next_one_is_stopped(tmp_path):
    """A run that fails in the next group would leave it without what brings it back."""
    words = {"serve_stop": "stop {{ serve_stop_groups | join }}", "serve_launch": "start {{ serve_launch_groups | join }}",
             "supervise": "supervise {{ supervise_groups | join }}"}
    collections = overlay(tmp_path, {f"roles/{role}/tasks/main.yml": yaml.safe_dump([
        {"ansible.builtin.shell": f'echo "$WORDS" >> {tmp_path}/done', "environment": {"WORDS": text}}]) for role, text in words.items()})
    groups = {name: {"supervise": {"enabled": name != "b"}} for name in "abc"}
    given = {"plan": {"groups": groups, "hosts": {"localhost": {"units": []}}, "run": {"language": "en", "data_dirs": []}},
             "driver_check_said": {"node": {"paths": {}}}}
    task = {"ansible.builtin.include_tasks": str(TOP / "playbooks" / "steps" / "restart_group.yml"), "loop": list(groups),
            "loop_control": {"loop_var": "name"}, "vars": {"restart_plan": "{{ plan | ascend.vllm.only_groups(name) }}"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        ran = run_playbook("-c", "local", "-i", "localhost,", "play.yml", "-e", json.dumps(given), ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "done").read_text().splitlines() == [
        "stop a", "start a", "supervise a", "stop b", "start b", "stop c", "start c", "supervise c"]


def planned(**settings):
    """Return the plan of two groups of a node each."""
    entries = [{"name": name, "hosts_from": name} for name in ("a", "b")]
    hosts = {f"n{index}": {"vllm_hardware": "a3", "vllm_npus": 16, "vllm_local_ip": f"198.51.100.1{index}", "vllm_nic_name": "eth0", "vllm_groups": entries,
                           **settings} for index in (1, 2)}
    result = plan.compute(request.build({"vllm": ["n1", "n2"], "a": ["n1"], "b": ["n2"]}, hosts))
    assert [check for check in result["checks"] if check["status"] == "fail"] == []
    return result["plan"]


@pytest.mark.parametrize(("only", "number", "adopted"), [("a", None, True), ("a", 1, True), ("", None, False), ("b", None, False)])
def test_a_rollback_of_some_groups_takes_no_account_of_what_others_were(tmp_path, only, number, adopted):
    """Group b was added later: it has one deployment, which is none to go back to, and numbers of its own."""
    tasks = yaml.safe_load((TOP / "playbooks" / "rollback.yml").read_text())
    (role,) = [task for play in tasks for task in play.get("tasks", []) if "plan_adopted" in task.get("vars", {})]
    old, new = planned(vllm_extra_args={"seed": 7}), planned()
    history = {"a": [{"number": 1, "time": 0, "record": deployments.record(old, "a")}, {"number": 2, "time": 0, "record": deployments.record(new, "a")}],
               "b": [{"number": 5, "time": 0, "record": deployments.record(new, "b")}]}
    keep = {"ansible.builtin.copy": {"content": "{{ plan_adopted | to_json }}", "dest": str(tmp_path / "adopted")}, "vars": role["vars"]}
    given = {"history": history, "plan_result": {"plan": new}, "only_groups": only, **({} if number is None else {"rollback_to": number})}
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [keep]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        ran = run_playbook("-c", "local", "-i", "localhost,", "play.yml", "-e", "@given.json")
    if not adopted:
        said = " ".join((ran.stdout + ran.stderr).split())
        assert ran.returncode != 0 and "group b: 1 deployments are kept, wanted one before the newest to go back to" in said, said
        return
    assert ran.returncode == 0, ran.stdout + ran.stderr
    hosts = json.loads((tmp_path / "adopted").read_text())["hosts"]
    assert [hosts[host]["units"] for host in ("n1", "n2")] == [old["hosts"]["n1"]["units"], new["hosts"]["n2"]["units"]]
    assert old["hosts"]["n1"]["units"] != new["hosts"]["n1"]["units"]
