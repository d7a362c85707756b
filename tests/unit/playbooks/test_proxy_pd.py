# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role proxy in front of prefill and decode ranks, run by Ansible on this machine with a real vllm-router, without a Docker engine."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins import router_process
from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import TOP, overlay
from ansible_collections.ascend.vllm.tests.unit.plugins.pd_ranks import Decode, Prefill
from ansible_collections.ascend.vllm.tests.unit.plugins.router_process import routed
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port

pytestmark = pytest.mark.skipif(router_process.program() is None, reason="vllm-router is not installed for this Python")
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - include_role: {name: ascend.vllm.proxy, tasks_from: "{{ entry.tasks_from }}"}
      vars: {proxy_backend_group: prefill1, proxy_backend_state: "{{ entry.state | default('absent') }}"}
      loop: "{{ entries }}"
      loop_control: {loop_var: entry}
"""


@pytest.fixture
def run(tmp_path):
    """Return a function (entry points, router, servers of p0, p1 and decode) -> what ansible-playbook said, with its exit status first."""
    (tmp_path / "play.yml").write_text(PLAYBOOK)

    def start(entries, router, servers, **more):
        behind = [{"role": role, "group": group, "url": server.url}
                  for role, group, server in zip(("prefill", "prefill", "decode"), ("prefill0", "prefill1", "decode"), servers)]
        proxy = {"name": "vllm-proxy", "kind": "vllm-router", "mode": "pd", "host": "localhost", "url": router.url, "backends": behind,
                 "next": {"name": "vllm-proxy-next"},
                 "groups": ["prefill0", "prefill1", "decode"], "served_model_name": "m", "api_key_file": None}
        given = {"proxy_all": {"proxy": proxy}, "entries": entries, "ansible_python_interpreter": sys.executable, "ansible_connection": "local", **more}
        (tmp_path / "given.json").write_text(json.dumps(given))
        done = run_playbook("-i", "localhost,", "play.yml", "-e", "@given.json", DOCKER_HOST="unix:///nowhere.sock")
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    with ansible_playbook(tmp_path) as run_playbook:
        yield start


def test_each_pair_and_the_proxy_are_asked_and_a_rank_that_left_comes_back_with_a_start_of_the_proxy(run):
    first, second = Prefill("p0"), Prefill("p1")
    with routed(first, second, Decode(failures=1), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}, {"tasks_from": "backend"}, {"tasks_from": "backend", "state": "present"}], router, servers)
        assert "2 pairs of a prefill and a decode rank work" in said and "itself says the same" in said
        assert set(router.workers()) == {servers[0].url, servers[2].url}
        # Its own pairs alone, and then the engine, which is not here: the proxy is not touched.
        assert "1 pairs of a prefill and a decode rank work" in said and status != 0
        assert "localhost: the Docker engine does not say whether vllm-proxy runs: found" in said and "hand-over" not in said


def test_a_proxy_s_host_that_is_not_reached_is_a_failure_of_the_head_that_can_go_back(tmp_path):
    """Ansible takes the host that delegates for the one that is gone: it would be left out of the rescue, with its group half stopped."""
    proxy = {"name": "vllm-proxy", "kind": "vllm-router", "mode": "replicas", "host": "px", "url": "http://127.0.0.1:9", "next": None, "api_key_file": None,
             "groups": ["prefill1"], "backends": [{"role": "serve", "group": "prefill1", "url": "http://127.0.0.1:9"}]}
    play = yaml.safe_load(PLAYBOOK)
    play[0].update(hosts="head", any_errors_fatal=True, tasks=[{
        "block": play[0]["tasks"], "rescue": [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} goes back"}}]}])
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    px = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": closed_port()}
    head = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"head": head, "px": px}}}))
    with ansible_playbook(tmp_path) as run_playbook:
        given = {"proxy_all": {"proxy": proxy}, "entries": [{"tasks_from": "backend", "state": "present"}]}
        done = run_playbook("-i", "hosts.yml", "play.yml", "-e", json.dumps(given))
    said = " ".join((done.stdout + done.stderr).split())
    assert "px: found no way to it over SSH (" in said and "which is to send requests to group prefill1" in said and "head goes back" in said, said


def test_a_kv_cache_that_arrives_wrong_is_a_failure_and_names_the_pair(run):
    with routed(Prefill("p0"), Prefill("p1"), Decode(garbles=99), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}], router, servers)
        assert status != 0 and "2 of 2 pairs of a prefill and a decode rank say something else than the prefill rank by itself" in said
        assert f"{servers[0].url} to {servers[2].url}: found \" %%%\"" in said and "hccn_tool -i 0 -ip -g" in said
        assert run([{"tasks_from": "verify"}], router, servers, proxy_same=False)[0] == 0


def test_of_a_group_that_was_stopped_on_purpose_no_pair_is_asked(run):
    """With some groups alone, those count that serve again, and others as far as the proxy has them."""
    with routed(Prefill("p0"), Prefill("p1"), Decode(deaf_to="p1"), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "backend"}, {"tasks_from": "verify"}], router, servers, proxy_only=["prefill0"], proxy_pair_attempts=1)
        assert set(router.workers()) == {servers[0].url, servers[2].url}
        assert status == 0 and "1 pairs of a prefill and a decode rank work" in said, said
        status, said = run([{"tasks_from": "verify"}], router, servers, proxy_pair_attempts=1)
        assert status != 0 and "1 of 2 pairs" in said


def test_a_pair_that_does_not_work_is_named(run):
    with routed(Prefill("p0"), Prefill("p1"), Decode(deaf_to="p1"), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}], router, servers, proxy_pair_attempts=1)
        assert status != 0 and "1 of 2 pairs" in said and f"{servers[1].url} to {servers[2].url}" in said


@pytest.mark.parametrize(("said", "refused"), [
    ({"up": [], "down": [], "other": ["http://10.0.0.9:8000"]}, True), ({"up": ["http://10.0.0.1:8000"], "down": [], "other": ["http://10.0.0.9:8000"]}, False),
    ({"up": [], "down": [], "other": ["http://10.0.0.1:8100", "http://10.0.0.9:8000"]}, False), ({"up": [], "down": [], "other": []}, False),
    ({"failed": True, "msg": "it hangs"}, False), ({"skipped": True}, False),
], ids=["another-s", "grown", "other-ports", "empty", "hangs", "not-running"])
def test_the_proxy_of_another_inventory_on_the_same_host_is_left_alone(tmp_path, said, refused):
    (task,) = [task for task in yaml.safe_load((TOP / "roles" / "proxy" / "tasks" / "ours.yml").read_text()) if "another inventory" in task["name"]]
    proxy = {"name": "vllm-proxy", "host": "px", "groups": ["a"], "backends": [{"url": "http://10.0.0.1:8000"}]}
    facts = {"ansible.builtin.set_fact": {"proxy_one": proxy, "proxy_said": said}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [facts, task]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml")
    text = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode != 0) is refused, text
    assert ("px: found vllm-proxy with the backends http://10.0.0.9:8000, of which none is on a host of this inventory's groups a;" in text) is refused, text


#: In place of actions and tasks that need a Docker engine: what was done, in order.
NOTE = """
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open("DONE", "a") as stream:
            stream.write("lock %s\\n" % self._task.args.get("state", "present"))
        return {"held": True}
"""


@pytest.mark.parametrize(("answer", "broken", "done"), [
    ({"containers": {"vllm-proxy-next": {"exists": True}}}, False, ["ours", "lock present", "alone", "lock absent"]),
    ({"containers": {"vllm-proxy-next": {"exists": True}}}, True, ["ours", "lock present", "alone", "lock absent"]),
    ({"containers": {"vllm-proxy-next": {"exists": False}}}, False, []), ({"containers": {}, "docker_error": "no engine"}, False, []),
], ids=["left", "cannot-be-ended", "none", "no-engine"])
def test_a_second_proxy_that_a_killed_run_left_is_ended_first(tmp_path, answer, broken, done):
    """It has the new requests, and would send them to ranks that the first one lets go of."""
    noted = {name: [{"ansible.builtin.shell": f"echo {name} >> {tmp_path}/done"}] for name in ("ours", "alone")}
    noted["alone"].append({"ansible.builtin.fail": {"msg": "it stays"}, "when": broken})
    tasks = {f"roles/proxy/tasks/{name}.yml": yaml.safe_dump(each) for name, each in noted.items()}
    collections = overlay(tmp_path, {
        **tasks, "roles/proxy/tasks/left.yml": (TOP / "roles" / "proxy" / "tasks" / "left.yml").read_text(),
        "plugins/action/group_lock.py": NOTE.replace("DONE", str(tmp_path / "done")),
        "plugins/modules/artefact_info.py": "from ansible.module_utils.basic import AnsibleModule\n"
        f"AnsibleModule(argument_spec={{'containers': {{'type': 'list'}}}}).exit_json(**{answer!r})\n"})
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": {"name": "ascend.vllm.proxy", "tasks_from": "left"}}]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "done").write_text("")
    given = {"proxy_one": {"name": "vllm-proxy", "host": "localhost", "next": {"name": "vllm-proxy-next"}}}
    with ansible_playbook(tmp_path) as run_playbook:
        ran = run_playbook("-c", "local", "-i", "localhost,", "play.yml", "-e", json.dumps(given), ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert (tmp_path / "done").read_text().splitlines() == done, ran.stdout + ran.stderr
    assert (ran.returncode != 0) is broken, ran.stdout + ran.stderr
