# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""group_lock as runs ask for it: on scripted modules, with the real module's functions, and from real runs of ansible-playbook."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleActionFail

from ansible_collections.ascend.vllm.plugins.action import group_lock
from ansible_collections.ascend.vllm.plugins.modules import group_lock as node
from ansible_collections.ascend.vllm.plugins.plugin_utils import holding

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def module(folder):
    """Return what the module does on the head, with its lock in a folder."""
    def execute(given):
        path = node.path_of(str(folder), given["group"])
        if given["state"] == "absent":
            there = node.give_back(path, given["holder"])
        else:
            there = node.take(path, given["holder"], given.get("replace"))
        return {"changed": False, "held": bool(there) and there["id"] == given["holder"]["id"], "holder": there}

    return execute


def ask(answer, check=False, **args):
    """Run the plugin; C(answer): what the module says to its arguments. Return C({result, warnings, asked})."""
    given = dict({"group": "vllm", "verb": "stop"}, **args)
    task = SimpleNamespace(args=given, async_val=0, check_mode=check, action="ascend.vllm.group_lock")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = group_lock.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    warnings, asked = [], []

    def execute(module_name, module_args, task_vars):
        assert module_name == "ascend.vllm.group_lock" and task_vars["inventory_hostname"] == "a2-node0"
        asked.append(module_args)
        return answer(module_args)

    with mock.patch.object(plugin, "_execute_module", execute), mock.patch.object(group_lock, "display", SimpleNamespace(warning=warnings.append)):
        result = plugin.run(None, {"inventory_hostname": "a2-node0"})
    return {"result": result, "warnings": warnings, "asked": asked}


def other(folder, pid=1, **more):
    """Let another run have the lock; return it as a holder. Process 1 is always there."""
    holder = {**holding.describe(pid, "switch", "sre", time.time(), 3600), **more}
    assert node.take(node.path_of(str(folder), "vllm"), holder) == holder
    return holder


@pytest.fixture
def process():
    """A process that goes on for a while."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait(10)


def test_a_free_lock_is_taken_and_given_back(tmp_path):
    found = ask(module(tmp_path))
    assert found["result"]["held"] is True and "failed" not in found["result"] and found["warnings"] == []
    holder = found["asked"][0]["holder"]
    # The run is the process above the worker in which a task is done.
    assert (holder["pid"], holder["verb"], holder["until"] - holder["since"]) == (os.getppid(), "stop", 14400)
    assert "replace" not in found["asked"][0] and len(found["asked"]) == 1
    assert ask(module(tmp_path), state="absent")["result"]["holder"] is None


def test_who_has_it_is_named_and_nothing_is_taken(tmp_path):
    holder = other(tmp_path)
    found = ask(module(tmp_path))
    assert found["result"]["failed"] and len(found["asked"]) == 1 and found["warnings"] == []
    assert found["result"]["msg"].startswith(f"a2-node0: {holding.words(holder)} acts on group vllm, wanted: nobody else. Nothing was changed. Remedy: ")
    assert "sre on " in found["result"]["msg"] and "verb switch since " in found["result"]["msg"] and "group_lock_force=true" in found["result"]["msg"]
    # Giving back what another run has is no failure and does nothing.
    assert "failed" not in ask(module(tmp_path), state="absent")["result"] and node.read(node.path_of(str(tmp_path), "vllm")) == holder


def test_a_run_of_this_controller_that_is_gone_is_replaced(tmp_path, process):
    holder = other(tmp_path, process.pid)
    assert ask(module(tmp_path))["result"]["failed"]
    process.kill()
    process.wait(10)
    found = ask(module(tmp_path))
    assert found["result"]["held"] is True and "failed" not in found["result"] and found["asked"][1]["replace"] == holder["id"]
    assert found["warnings"] == [
        f"a2-node0: the lock of group vllm is taken over from {holding.words(holder)}: its process {process.pid} on this controller has ended"]


def test_a_run_of_another_controller_is_replaced_once_its_time_is_over(tmp_path):
    other(tmp_path, controller="elsewhere", until=time.time() + 60)
    assert ask(module(tmp_path))["result"]["failed"]
    node.write(node.path_of(str(tmp_path), "vllm"), {"id": "x", "controller": "elsewhere", "until": time.time() - 1})
    found = ask(module(tmp_path))
    assert found["result"]["held"] is True and "its time was over at " in found["warnings"][0]


@pytest.mark.parametrize("content", [None, "no lock at all"])
def test_force_takes_it_from_anybody(tmp_path, content):
    other(tmp_path)
    if content:
        Path(node.path_of(str(tmp_path), "vllm")).write_text(content)
        assert "a file that is no lock" in ask(module(tmp_path))["result"]["msg"]
    found = ask(module(tmp_path), force=True)
    assert found["result"]["held"] is True and found["warnings"][0].endswith("it was asked for by force")


def test_who_is_quicker_to_take_over_is_named(tmp_path, process):
    other(tmp_path, process.pid)
    process.kill()
    process.wait(10)
    quicker = {"id": "q", "who": "ops on c2", "controller": "c2"}

    def answer(given):
        if "replace" in given:
            node.write(node.path_of(str(tmp_path), "vllm"), quicker)
        return module(tmp_path)(given)

    result = ask(answer)["result"]
    assert result["failed"] and result["msg"].startswith("a2-node0: ops on c2 acts on group vllm")


def test_check_mode_says_who_has_it_and_does_not_fail():
    said = {"changed": False, "held": False, "holder": {"id": "x"}}
    found = ask(lambda given: said, check=True)
    assert found["result"] == said and len(found["asked"]) == 1


@pytest.mark.parametrize("said", [{"failed": True, "msg": "no room"}, {"unreachable": True, "msg": "gone"}])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_head_that_cannot_be_asked_ends_the_run(said, turn):
    answers = iter([{"held": False, "holder": {"id": "x", "until": 1}}, said][1 - turn:])
    result = ask(lambda given: dict(next(answers)))["result"]
    assert said.items() <= result.items() and not result.get("held")


def test_a_user_without_a_name(tmp_path, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(group_lock.getpass, "getuser", nobody)
    assert ask(module(tmp_path))["asked"][0]["holder"]["who"].startswith(f"user {os.getuid()} on ")


def test_wrong_arguments_are_refused():
    with pytest.raises(AnsibleActionFail, match="holder"):
        ask(None, holder={"id": "x"})


def test_the_documentation_lists_the_plugin_s_options():
    documented = yaml.safe_load(node.DOCUMENTATION)["options"]
    with mock.patch.object(group_lock.ActionModule, "validate_argument_spec", autospec=True, side_effect=KeyboardInterrupt) as validate:
        with pytest.raises(KeyboardInterrupt):
            ask(None)
    taken = validate.call_args.kwargs["argument_spec"]
    assert set(documented) - set(taken) == {"holder", "replace"}
    for name, spec in taken.items():
        assert {key: documented[name].get(key) for key in ("type", "required", "default", "choices")} == {
            key: spec.get(key) for key in ("type", "required", "default", "choices")}, name


PLAYS = """
- hosts: all
  gather_facts: false
  tasks:
    - ascend.vllm.group_lock: &outer {group: vllm, verb: switch, folder: "{{ folder }}"}
- hosts: all
  gather_facts: false
  tasks:
    - ascend.vllm.group_lock: &inner {group: vllm, verb: launch, folder: "{{ folder }}"}
    - ascend.vllm.group_lock: {<<: *inner, state: absent}
      register: kept
    - ansible.builtin.assert: {that: kept.held}
    - ansible.builtin.wait_for: {path: "{{ until }}", timeout: 60, sleep: 1}
      when: until is defined
    - ascend.vllm.group_lock: {<<: *outer, state: absent}
      register: given
    - ansible.builtin.assert: {that: given.holder is none}
"""


def start(tmp_path, **variables):
    """Start a run of its own that takes the lock, uses it for another verb, and gives it back."""
    (tmp_path / "play.yml").write_text(PLAYS)
    extra = [word for name, value in {"folder": tmp_path / "run", "ansible_python_interpreter": sys.executable, **variables}.items()
             for word in ("-e", f"{name}={value}")]
    return subprocess.Popen([str(PLAYBOOK), "-i", "a2-node0,", "-c", "local", str(tmp_path / "play.yml"), *extra], cwd=tmp_path, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_runs_of_ansible_playbook(tmp_path):
    """One that is at work, a second one that is refused, the first one killed, a third one that takes over."""
    lock, first = tmp_path / "run" / "group-vllm.lock", start(tmp_path, until=tmp_path / "end")
    try:
        give_up = time.monotonic() + 60
        while not lock.exists() and first.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        assert node.read(str(lock))["pid"] == first.pid, first.stdout.read() if first.poll() is not None else "another process has it"
        second = start(tmp_path)
        said = second.communicate(timeout=60)[0]
        assert second.returncode == 2 and f"(process {first.pid}), verb switch since " in said and "acts on group vllm" in said
    finally:
        first.kill()
        # What it had begun on the node ends.
        (tmp_path / "end").write_text("")
        first.communicate(timeout=60)
    third = start(tmp_path)
    said = third.communicate(timeout=60)[0]
    assert third.returncode == 0, said
    assert f"its process {first.pid} on this controller has ended" in " ".join(said.split()) and not lock.exists()
