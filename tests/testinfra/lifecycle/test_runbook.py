# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a pair that serves: every command of docs/runbook.md that only looks is run as it is written there.

The verbs that act are other tests' business; tests/unit/test_meta_runbook.py sees to it that each is run somewhere with the options shown.
"""

from __future__ import annotations

import json
import re
import shlex
import time

import pytest

from conftest import LOGIN, NODES, PROJECT, complete

#: Verbs that change nothing on a node. With --check no verb does.
READ_ONLY = ("plan", "preflight", "status", "verify", "history", "logs", "monitoring")
FENCE = re.compile(r"^```shell (controller|node)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LOCK = "/run/ascend-vllm/group-vllm.lock"


def lines(where):
    """Return the command lines of the runbook for the controller or a node, each once, in their order."""
    blocks = [block for kind, block in FENCE.findall((PROJECT / "docs" / "runbook.md").read_text()) if kind == where]
    return list(dict.fromkeys(line.strip() for block in blocks for line in block.splitlines() if line.strip()))


def looks_only(line):
    """Return whether a command for the controller changes nothing."""
    words = shlex.split(line)
    return "--check" in words or words[1].removeprefix("ascend.vllm.") in READ_ONLY


@pytest.mark.parametrize("line", lines("node"))
def test_a_command_on_a_node_works(nodes, line):
    done = nodes["a2-node0"].run(f"{LOGIN}; {line}")
    assert done.rc == 0, f"{line}: {done.stdout}{done.stderr}"


# Each verb is run by a quicker test of the core set, too; these are the very lines.
@pytest.mark.extra
@pytest.mark.parametrize("line", [line for line in lines("controller") if looks_only(line)])
def test_a_verb_that_looks_works_as_it_is_written(playbook, tmp_path, line):
    program, verb, *args = shlex.split(line)
    assert program == "ansible-playbook" and args[:2] == ["-i", "a2_pair"], line
    run = playbook(verb, *args[2:], "-e", f"vllm_report_dir={tmp_path}")
    assert run.rc == 0, run.out[-4000:]
    if "--check" not in args:
        assert re.search(r"^\S+ +: ok=\d+ +changed=[1-9]", run.out, re.M) is None, run.out[-2000:]


@pytest.mark.extra
def test_the_lock_of_another_controller_is_taken_over_by_force_only(playbook, nodes):
    """As the runbook's section on two operators says; the pair goes on serving all the while."""
    head, now = nodes["a2-node0"], int(time.time())
    other = {"id": "elsewhere/1/1", "controller": "elsewhere", "pid": 1, "began": "1", "who": "ops on elsewhere", "verb": "stop", "since": now,
             "until": now + 14400}
    head.check_output("mkdir -p /run/ascend-vllm && printf %s > " + LOCK, json.dumps(other))
    try:
        refused = playbook("site.yml", "-e", "preflight_mesh=off")
        assert refused.rc != 0 and "ops on elsewhere" in refused.text and "-e group_lock_force=true" in refused.text, refused.out[-4000:]
        run = playbook("site.yml", "-e", "preflight_mesh=off", "-e", "group_lock_force=true")
        assert run.rc == 0 and "is taken over from ops on elsewhere" in run.text, run.out[-4000:]
        assert [run.recap(name)["changed"] for name in NODES] == [0, 0] and complete()
        assert not head.file(LOCK).exists
    finally:
        head.run(f"rm -f {LOCK}")
