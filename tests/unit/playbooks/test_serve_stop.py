# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role serve_stop, run by Ansible: in which order the containers of a group go. A module in place of serve_released writes down which it stopped."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import TOP, overlay

HOSTS = ("node0", "node1", "node2")
TASKS = "roles/serve_stop/tasks"
#: Stops what is not on its list yet, and says that a process is left of the containers in LEFT.
RELEASED = """
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({name: {"type": "raw"} for name in ("containers", "stop", "pids", "ports", "npus", "hbm_idle_mb", "wait_s")})
with open("DONE", "a+") as stream:
    stream.seek(0)
    new = set(module.params["containers"]) - set(stream.read().split()) if module.params["stop"] else ()
    stream.write("".join(name + "\\n" for name in new))
left = [{"check": "process_gone", "device": "pid 7", "observed": "x runs"} for name in module.params["containers"] if name in LEFT]
module.exit_json(changed=bool(new), left=left)
"""


@pytest.fixture
def order(tmp_path):
    """Return a function (host -> how its requests ended, **variables of the role) -> the hosts that were stopped, a list for each task that did.

    ``left``: hosts of whose container a process is left; the run fails then, and what it says is returned. ``more``: host -> containers of the group
    that the plan does not have; with them the containers are returned in the order in which they were stopped.
    """
    def run(ended, left=(), more=None, **given):
        module = RELEASED.replace("DONE", str(tmp_path / "done")).replace("LEFT", repr(tuple(left)))
        collections = overlay(tmp_path, {
            **{f"{TASKS}/{name}": (TOP / TASKS / name).read_text() for name in ("order.yml", "released.yml")},
            "plugins/modules/serve_released.py": module})
        (tmp_path / "done").write_text("")
        # The rest of what the plan says of a unit is for its ports.
        hosts = {name: {"serve_stop_there": {"containers": {name: {"pids": [7]}, **{odd: {"pids": [8]} for odd in (more or {}).get(name, [])}}},
                        "serve_stop_mine": [{"name": name, "group": "vllm", "head": name == "node0", "npus": [0], "env": {}, "api": None}],
                        **({"serve_stop_requests": {"vllm": {"outcome": ended[name]}}} if name in ended else {})} for name in HOSTS}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
        group = {"name": "vllm", "head": "node0", "hosts": list(HOSTS), "rpc_port": 13389, "supervise": {"port": None}}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [
            {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_stop", "tasks_from": "order"}}]}]))
        values = {"serve_stop_group": group, "serve_stop_release_s": 60, "serve_stop_restarts": False, **given}
        done = run_playbook("-i", "hosts.yml", "play.yml", "-e", json.dumps(values), ANSIBLE_COLLECTIONS_PATH=str(collections))
        if left:
            assert done.returncode == 2, done.stdout + done.stderr
            return done.stdout
        assert done.returncode == 0, done.stdout + done.stderr
        if more:
            return (tmp_path / "done").read_text().split()
        said, stopped = [block.splitlines() for block in done.stdout.split("TASK [")], (tmp_path / "done").read_text().splitlines()
        tasks = [[line for line in block if line.startswith("changed: ")] for block in said if block[0].startswith("ascend.vllm.serve_stop : Stop ")]
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


def test_a_rank_of_the_sizes_before_goes_with_the_others(order):
    stopped = order({}, more={"node0": ["old-rank1"], "node2": ["old-rank9"]})
    assert set(stopped[:2]) == {"node0", "old-rank1"} and set(stopped[2:]) == {"node1", "node2", "old-rank9"}


def test_what_is_left_ends_the_run_where_it_is_looked_for(order):
    said = order({"node0": "drained"}, left=["node2"], serve_stop_restarts=True)
    assert "node2" in said and "process_gone" in said and "x runs" in said
    # After a failure its reason is what has to be said.
    assert order({}, serve_stop_release_s=0) == ONE_AFTER_THE_OTHER


#: In place of serve_drain: ends as the variables say.
DRAIN = """
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"changed": False, "seconds": 70.0, **task_vars["ends"]}
"""


@pytest.mark.parametrize(("ends", "said"), [
    ({"outcome": "silent", "left": None}, "vllm: it does not say how many requests it has; whatever it still computes is cut off after 70.0 s (silent)"),
    ({"outcome": "stalled", "left": {"running": 2, "waiting": 1}}, "vllm: 2 requests running and 1 waiting are cut off after 70.0 s (stalled)"),
    ({"outcome": "drained", "left": {"running": 0, "waiting": 0}}, None),
], ids=["silent", "stalled", "drained"])
def test_what_is_cut_off_is_said_also_where_nobody_knows_how_much(tmp_path, ends, said):
    collections = overlay(tmp_path, {"plugins/action/serve_drain.py": DRAIN, f"{TASKS}/drain.yml": (TOP / TASKS / "drain.yml").read_text()})
    values = {"serve_stop_group": {"name": "vllm", "api_key_file": None, "api": {"ca_file": None}}, "serve_stop_proxies": {}, "serve_stop_drain_s": 300,
              "serve_stop_stall_s": 60, "serve_stop_apis": [{"port": 8000, "url": "http://127.0.0.1:8000"}], "ends": ends}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "ascend.vllm.serve_stop", "tasks_from": "drain"}}]}]))
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-c", "local", "-i", "localhost,", "play.yml", "-e", json.dumps(values), ANSIBLE_COLLECTIONS_PATH=str(collections))
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout if said else '"msg"' not in done.stdout
