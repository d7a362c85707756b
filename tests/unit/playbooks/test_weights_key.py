# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of a run of copies is handed out whole, to root only, and a node that cannot keep it says why without showing it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook

TASKS = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles" / "weights_sync" / "tasks" / "key.yml").read_text())
HOST_KEYS = {"n0": {"weights_sync_asked": {"stdout_lines": ["user=ops", "until=202605030900", "rrsync=/usr/bin/rrsync", "key=ssh-ed25519 AAAAhostkey"]}}}


@pytest.fixture
def run_playbook(tmp_path):
    """Return what runs ansible-playbook."""
    with ansible_playbook(tmp_path) as run:
        yield run


@pytest.fixture
def keys(run_playbook):
    """Return the folder that the key is made in."""
    return run_playbook.tmpdir


@pytest.fixture
def hand_out(tmp_path, run_playbook):
    """Return a function that runs the tasks with this machine as the node: the finished process. The key is made below its C(tmpdir)."""
    play = [{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "ascend.vllm.weights_sync", "tasks_from": "key"}},
        {"ansible.builtin.debug": {"msg": "key at {{ weights_sync_folder.path }}"}}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))

    def run(place):
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        variables = {"weights_sync_place": str(place), "weights_sync_pulls": True, "weights_sync_chain": ["n0", "n1"],
                     "weights_sync_group": {"name": "vllm", "addresses": {"n0": "198.51.100.11", "n1": "198.51.100.12"}}}
        hosts = {"n0": {**host, **HOST_KEYS["n0"]}, "n1": host}
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        return run_playbook("play.yml", "-i", "hosts.json", "--limit", "n1", "-vvv")

    return run


def test_key_and_host_keys_are_two_files_that_root_reads(hand_out, keys, tmp_path):
    place = tmp_path / "run" / "copy-vllm"
    place.mkdir(parents=True)
    (place / "key").write_text("of an earlier run")
    done = hand_out(place)
    assert done.returncode == 0, done.stdout
    (made,) = keys.glob("ascend-vllm-key.*/key")
    assert (place / "key").read_text() == made.read_text() and (place / "known_hosts").read_text() == "198.51.100.11 ssh-ed25519 AAAAhostkey\n"
    assert [path.stat().st_mode & 0o777 for path in (place, place / "key", place / "known_hosts")] == [0o700, 0o600, 0o600]
    # ssh takes it.
    assert subprocess.run(["ssh-keygen", "-y", "-f", str(place / "key")], capture_output=True, text=True, check=True).stdout.split()[1] in \
        made.with_suffix(".pub").read_text()
    assert made.read_text().splitlines()[1] not in done.stdout + done.stderr


def test_a_node_that_cannot_keep_it_says_why_without_the_key(hand_out, keys, tmp_path):
    (tmp_path / "file").write_text("")
    done = hand_out(tmp_path / "file" / "copy-vllm")
    said = " ".join(done.stdout.split())
    assert done.returncode != 0 and "Remedy: let root" in said, done.stdout[-3000:]
    assert f"n1: the key of this run cannot be kept in {tmp_path}/file/copy-vllm: found mkdir:" in said, done.stdout[-3000:]
    (made,) = keys.glob("ascend-vllm-key.*/key")
    assert made.read_text().splitlines()[1] not in done.stdout + done.stderr


def test_the_key_is_read_to_its_end_also_where_it_cannot_be_kept(tmp_path):
    """A shell that ended at once would break the pipe of whoever writes the key a moment later, who then does not learn why."""
    (script,) = (task["ansible.builtin.command"]["argv"][2] for task in TASKS if "stdin" in task.get("ansible.builtin.command", {}))
    (tmp_path / "file").write_text("")
    argv = ["/bin/sh", "-c", script, "hand-out", str(tmp_path / "file" / "copy-vllm")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stderr.readline().startswith("mkdir:")
        with pytest.raises(subprocess.TimeoutExpired):
            shell.wait(timeout=1)
        shell.communicate("a key\n", timeout=30)
        assert shell.returncode == 1
