# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role serve_stop, run by Ansible: in which order the containers of a group go. What stops one writes down on which host."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import TOP, overlay

HOSTS = ("node0", "node1", "node2")


@pytest.fixture
def order(tmp_path):
    """Return a function (host -> how its requests ended, **variables of the role) -> the hosts that were stopped, a list for each task that did."""
    write = [{"name": "Go", "ansible.builtin.shell": f"echo {{{{ inventory_hostname }}}} >> {tmp_path}/done"}]
    collections = overlay(tmp_path, {
        "roles/serve_stop/tasks/order.yml": (TOP / "roles" / "serve_stop" / "tasks" / "order.yml").read_text(),
        "roles/serve_stop/tasks/containers.yml": yaml.safe_dump(write)})

    def run(ended, **given):
        (tmp_path / "done").write_text("")
        hosts = {name: {"serve_stop_requests": {"vllm": {"outcome": ended[name]}}} if name in ended else {} for name in HOSTS}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
        values = {"serve_stop_group": {"name": "vllm", "head": "node0", "hosts": list(HOSTS)}, **given}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [
            {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_stop", "tasks_from": "order"}}]}]))
        done = run_playbook("-i", "hosts.yml", "play.yml", "-e", json.dumps(values), ANSIBLE_COLLECTIONS_PATH=str(collections))
        assert done.returncode == 0, done.stdout + done.stderr
        said, stopped = [block.splitlines() for block in done.stdout.split("TASK [")], (tmp_path / "done").read_text().splitlines()
        tasks = [[line for line in block if line.startswith("changed: ")] for block in said if block[0].startswith("ascend.vllm.serve_stop : Go]")]
        assert sum(map(len, tasks)) == len(stopped)
        return [sorted(stopped[sum(map(len, tasks[:place])):][:len(task)]) for place, task in enumerate(tasks) if task]

    with ansible_playbook(tmp_path) as run_playbook:
        yield run


ONE_AFTER_THE_OTHER, ALL = [["node0"], ["node1", "node2"]], [list(HOSTS)]


@pytest.mark.parametrize(("ended", "given", "wanted"), [
    ({"node0": "drained"}, {"serve_stop_restarts": False}, ONE_AFTER_THE_OTHER),
    ({"node0": "drained"}, {"serve_stop_restarts": True}, ALL),
    ({"node0": "drained", "node2": "drained"}, {"serve_stop_restarts": True}, ALL),
    ({"node0": "drained", "node2": "limit"}, {"serve_stop_restarts": True}, ONE_AFTER_THE_OTHER),
    ({"node0": "stalled"}, {"serve_stop_restarts": True}, ONE_AFTER_THE_OTHER),
    ({}, {"serve_stop_restarts": True}, ONE_AFTER_THE_OTHER),
], ids=["stop", "again", "two-apis", "one-cut-off", "stalled", "not-asked"])
def test_the_head_goes_first_unless_nothing_is_computed_and_the_group_is_started_again(order, ended, given, wanted):
    assert order(ended, **given) == wanted
