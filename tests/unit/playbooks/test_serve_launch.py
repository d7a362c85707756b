# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role serve_launch: what its start script has to find in a container before anything is started there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import overlay

TOP = Path(__file__).resolve().parents[3]


def script(**start):
    """Return the start script of a unit."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters.update(comment=lambda text: "# " + text, quote=lambda text: "'%s'" % text)
    item = {"start": {"set_env": [], "ld_preload": [], "ld_library_path": [], **start}}
    return environment.from_string((TOP / "roles" / "serve_launch" / "templates" / "start.sh.j2").read_text()).render(ansible_managed="managed", item=item)


def run(tmp_path, **start):
    """Run it with a command that says that it was reached."""
    (tmp_path / "start.sh").write_text(script(**start))
    return subprocess.run(["bash", str(tmp_path / "start.sh"), "echo", "served"], capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    """A configuration file and a program, as a rank's container has to have them."""
    (tmp_path / "hccn.conf").write_text("address_0=10.0.0.1\n")
    (tmp_path / "hccn_tool").write_text("#!/bin/sh\n")
    (tmp_path / "hccn_tool").chmod(0o755)
    return {"readable": [str(tmp_path / "hccn.conf")], "executable": [str(tmp_path / "hccn_tool")]}


def test_a_rank_with_the_files_of_the_npus_network_is_started(tmp_path, files):
    assert run(tmp_path, **files).stdout == "served\n"


def without(path):
    """Remove a file; Docker makes an empty directory of a source that is not there."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(("name", "breaks"), [
    ("hccn.conf", without), ("hccn.conf", lambda path: path.write_text("")), ("hccn.conf", lambda path: path.unlink()),
    ("hccn_tool", without), ("hccn_tool", lambda path: path.chmod(0o644)),
])
def test_a_rank_without_them_ends_before_the_server_starts(tmp_path, files, name, breaks):
    breaks(tmp_path / name)
    done = run(tmp_path, **files)
    assert (done.returncode, done.stdout) == (78, "") and f"{tmp_path / name} is not in this container" in done.stderr


def test_a_serve_group_s_script_asks_for_nothing(tmp_path):
    assert run(tmp_path, readable=[], executable=[]).stdout == "served\n"
    # What was deployed by an earlier release says nothing of them, and its script stays as it is.
    assert run(tmp_path).stdout == "served\n" and script() == script(readable=[], executable=[])


UNIT = {"name": "vllm-rank0", "group": "vllm", "env": {"A": "1", "B": "2"}, "secret_env": {}, "no_proxy": [], "devices": ["/dev/davinci0", "/dev/davinci1"],
        "mounts": ["/etc/hccn.conf:/etc/hccn.conf:ro"], "mount_candidates": {},
        "secrets": [{"name": "api_key", "mount": "api_key:/run/ascend-vllm/api_key:ro"}],
        "start": {"set_env": [], "ld_preload": [], "ld_library_path": []}}
OTHERS = {
    "same": {}, "variable gone": {"env": {"A": "1"}}, "variable changed": {"env": {"A": "1", "B": "3"}}, "device gone": {"devices": ["/dev/davinci0"]},
    "mount gone": {"mounts": []}, "key gone": {"secrets": []}, "script": {"start": {**UNIT["start"], "ld_preload": ["/lib/x.so"]}},
}  # fmt: skip


def test_a_container_of_which_something_is_taken_away_is_another_one(tmp_path):
    """docker_container compares what it is given: a key that the plan has no more would go on to be asked for."""
    role = TOP / "roles" / "serve_launch"
    (task,) = yaml.safe_load((role / "tasks" / "container.yml").read_text())
    (tmp_path / "templates").symlink_to(role / "templates")
    label = task["community.docker.docker_container"]["labels"]["ascend.vllm.start"]
    given = {**task["vars"], "serve_launch_etc": "/etc/ascend-vllm", "serve_launch_paths": {"/etc/hccn.conf": {"exists": True, "type": "file"}}}
    tasks = [{"ansible.builtin.set_fact": {"labels": "{{ labels | default([]) + [%s] }}" % label.strip("{} ")},
              "vars": {**given, "serve_launch_unit": {**UNIT, **changed}}} for changed in [{}, *OTHERS.values()]]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [
        *tasks, {"ansible.builtin.copy": {"content": "{{ labels | to_json }}", "dest": str(tmp_path / "labels")}}]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    planned, *found = json.loads((tmp_path / "labels").read_text())
    assert {name: other == planned for name, other in zip(OTHERS, found)} == {name: name == "same" for name in OTHERS}


@pytest.mark.parametrize(("drain", "since", "wanted"), [(300, 107.5, 107.5), (300, None, 100.0), (300, 90.0, 100.0), (0, 107.5, 100.0)],
                         ids=["drained", "nothing-ran", "drained-before", "after-a-failure"])
def test_the_time_without_service_begins_with_the_drain(tmp_path, drain, since, wanted):
    """What is looked at before it takes seconds, in which the old service answers."""
    halt = [{"ansible.builtin.set_fact": {"serve_stop_requests": {"vllm": {"since": since}}}}]
    collections = overlay(tmp_path, {
        "roles/serve_launch/tasks/stop.yml": (TOP / "roles" / "serve_launch" / "tasks" / "stop.yml").read_text(),
        "roles/serve_stop/tasks/halt.yml": yaml.safe_dump(halt)})
    values = {"serve_launch_group": {"name": "vllm"}, "serve_launch_mine": [], "serve_launch_proxies": {}, "serve_launch_drain_s": drain}
    tasks = [{"ansible.builtin.set_fact": {"serve_launch_times": {"vllm": {"stopped": 100.0}}}},
             {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_launch", "tasks_from": "stop"}},
             {"ansible.builtin.copy": {"content": "{{ serve_launch_times | to_json }}", "dest": str(tmp_path / "times")}}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml", "-e", json.dumps(values), ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "times").read_text()) == {"vllm": {"stopped": wanted}}


@pytest.mark.parametrize(("seen", "key", "changed", "wanted"), [
    (["g-rank0"], False, False, False), (["g-rank0"], True, False, True), (["g-rank0"], False, True, True),
    (["g-rank0", "g-rank2"], False, False, True), ([], False, False, False),
], ids=["as-planned", "key", "container", "a-rank-of-other-sizes", "none"])
def test_what_makes_a_group_start_anew(tmp_path, seen, key, changed, wanted):
    """A rank that runs under a number of the sizes before holds NPUs of those that the plan has."""
    tasks = yaml.safe_load((TOP / "roles" / "serve_launch" / "tasks" / "compare.yml").read_text())
    (decide,) = [task for task in tasks if "serve_launch_differs" in task.get("ansible.builtin.set_fact", {})]
    group = {"hosts": ["localhost"], "units": [{"name": "g-rank0"}, {"name": "g-rank1"}]}
    values = {"serve_launch_group": group, "serve_launch_result": {"changed": changed}, "serve_launch_key": {"changed": key},
              "serve_launch_artefacts": {"containers": dict.fromkeys(seen, {})}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "vars": {"serve_launch_group": group}, "tasks": [
        {"ansible.builtin.set_fact": values}, decide,
        {"ansible.builtin.copy": {"content": "{{ serve_launch_differs | to_json }}", "dest": str(tmp_path / "differs")}}]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "differs").read_text()) is wanted


@pytest.mark.parametrize(("role", "rekeyed", "running", "fails"), [
    ("serve", True, True, False), ("prefill", True, True, True), ("decode", True, False, False), ("decode", False, True, False),
])
def test_prefill_and_decode_get_no_other_key_one_after_the_other(tmp_path, role, rekeyed, running, fails):
    tasks = yaml.safe_load((TOP / "roles" / "serve_launch" / "tasks" / "compare.yml").read_text())
    (stop,) = [task for task in tasks if "another API key" in task["name"]]
    secrets = [{"item": [{"name": "g-rank0"}, {"name": name}], "changed": rekeyed} for name in ("api_key", "tls.crt")]
    values = {"serve_launch_group": {"name": "g", "role": role, "api_key_file": "/keys/g"}, "serve_launch_mine": [{"name": "g-rank0"}],
              "serve_launch_key": {"results": secrets},
              "serve_launch_artefacts": {"containers": {"g-rank0": {"running": running}, "g-rank1": {"running": False}}}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": values}, stop]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml")
    said = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode != 0) is fails, said
    assert ("localhost: vllm_api_key_file: found g-rank0 with another API key than that of /keys/g, wanted the same" in said) is fails


#: In place of the wait: ends as the host is told to.
WAIT = """
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        outcome = task_vars["ends"]
        said = {"ready": {"decided_at": 7.5}, "none": {"failed": True}}.get(outcome, {"failed": True, "outcome": outcome})
        return {"changed": False, "msg": "it is " + outcome, **said}
"""


def waited(tmp_path, differs, ends):
    """Run the start of a group of two hosts whose wait ends so; return (its output, which tasks it had run on which hosts)."""
    tasks = TOP / "roles" / "serve_launch" / "tasks"
    noted = {name: yaml.safe_dump([{"ansible.builtin.lineinfile": {
        "path": str(tmp_path / "done"), "create": True,
        "line": name + " {{ inventory_hostname }} {{ serve_launch_drain_s | default }}"}, "throttle": 1}]) for name in ("stop", "part")}
    collections = overlay(tmp_path, {
        "plugins/action/group_wait.py": WAIT,
        **{f"roles/serve_launch/tasks/{name}.yml": text for name, text in noted.items()},
        **{f"roles/serve_launch/tasks/{name}.yml": (tasks / f"{name}.yml").read_text() for name in ("start", "failed", "wait")}})
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {
        "hosts": {f"node{number}": {"ends": end, "serve_launch_mine": [1]} for number, end in enumerate(ends)}, "vars": {"ansible_connection": "local"}}}))
    group = {"name": "vllm", "hosts": ["node0", "node1"], "units": [], "served_model_name": "m", "answers_alone": True, "api_key_file": None,
             "api": {"ca_file": None}, "ready_timeout_s": 600}
    values = {"serve_launch_group": group, "serve_launch_differs": differs, "serve_launch_drain_limit_s": 300, "serve_launch_phase_limits": {},
              "serve_launch_language": "en", "serve_launch_data_dirs": [], "serve_launch_log": "/var/log/x"}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_launch", "tasks_from": "start"}}]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-i", "hosts.yml", "play.yml", "-e", json.dumps(values), ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert done.returncode == (0 if set(ends) == {"ready"} else 2), done.stdout + done.stderr
    return done.stdout, (tmp_path / "done").read_text().splitlines() if (tmp_path / "done").exists() else []


@pytest.mark.parametrize(("differs", "ends", "stopped"), [
    (False, ("ready", "ready"), False), (False, ("timeout", "timeout"), False), (False, ("none", "none"), False),
    # A container has ended, so that the rest of the group is of no use.
    (False, ("failed", "failed"), True), (False, ("timeout", "failed"), True), (True, ("timeout", "timeout"), True), (True, ("none", "none"), True),
])
def test_a_group_that_was_only_waited_for_is_stopped_only_when_a_member_of_it_is_dead(tmp_path, differs, ends, stopped):
    said, done = waited(tmp_path, differs, ends)
    assert {line for line in done if line.endswith(" 0")} == ({"stop node0 0", "stop node1 0"} if stopped else set())
    # Before a start the old containers are stopped once their requests have ended.
    assert ("part node0 " in done and "stop node0 300" in done) is differs
    if "ready" not in ends:
        assert "it is " + ends[0] in said and "The logs are kept on each node" in said
        assert ("vllm was not started. Its containers are stopped on node0, node1." in said) is stopped
        assert ("vllm does not answer. It runs as planned, so nothing was stopped: its containers are left running on node0, node1." in said) is not stopped
