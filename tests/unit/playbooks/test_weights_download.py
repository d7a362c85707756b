# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a download is removed when it is over, and not because nobody could look at it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook

TASKS = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles" / "weights_sync" / "tasks" / "download.yml").read_text())
#: In the place of modules that need an engine: answers what it is given.
STUB = """
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"answer": {"type": "dict", "default": {}}})
module.exit_json(**module.params["answer"])
"""


def scripted(task, answers):
    """Return a task of the file with a stub in the place of its module."""
    replaced = {}
    for key, value in task.items():
        short = key.rpartition(".")[2]
        if short in ("docker_container", "weights_wait", "include_tasks"):
            key, value = "stub", {"answer": answers.get(task["name"], {})}
        elif short in ("block", "always"):
            value = [scripted(one, answers) for one in value]
        replaced[key] = value
    return replaced


@pytest.mark.parametrize(("task", "answer", "removed"), [
    ("Wait until it has ended", {"failed": False, "bytes": 5, "exit_code": 0}, True),
    ("Wait until it has ended", {"failed": True, "bytes": 5, "exit_code": 1}, True),
    ("Wait until it has ended", {"failed": True, "bytes": 5, "stalled": True}, True),
    ("Wait until it has ended", {"failed": True, "msg": "the Docker engine does not answer"}, False),
    ("Start the client, unless one runs already", {"failed": True, "msg": "no image"}, True),
], ids=["ended", "failed", "stalled", "not-seen", "not-begun"])
def test_only_a_client_that_is_over_is_removed(tmp_path, task, answer, removed):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "stub.py").write_text("#!%s\n%s" % (sys.executable, STUB))
    group = {"name": "vllm", "weights": {"kind": "modelscope", "id": "a/b", "revision": "master", "dir": "/w"}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [scripted(one, {task: answer}) for one in TASKS], "vars": {
        "weights_sync_group": group, "weights_sync_client": {"exists": False, "running": False, "labels": {}}}}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    with ansible_playbook(tmp_path) as run:
        done = run("play.yml", "-i", "n0,", "-c", "local")
    assert (done.returncode == 0) is not answer["failed"], done.stdout
    last = done.stdout.partition("TASK [Remove the client]")[2]
    assert last and ("skipping: [n0]" not in last) is removed, done.stdout
