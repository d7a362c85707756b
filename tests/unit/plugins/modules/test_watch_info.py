# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""watch_info on folders of its own and an engine on a real socket."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from ansible_collections.ascend.vllm.plugins.modules import watch_info
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, inspected, unix_server

CODE = "code/ansible_collections/ascend/vllm/plugins/module_utils"


@pytest.fixture
def ask(run_module, tmp_path):
    """A function (units, containers) -> the module's result."""

    def run(units, containers=None, **parameters):
        places = {key: str(tmp_path / name) for key, name in (("config_dir", "etc"), ("state_dir", "lib"), ("code_dir", "code"), ("systemd_dir", "systemd"))}
        with unix_server(tmp_path / "d.sock", FakeEngine(containers=containers or {})):
            return run_module(watch_info, units=units, **dict(places, **dict({"docker_socket": str(tmp_path / "d.sock")}, **parameters)))

    return run


def write(path, text):
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_node_without_a_watch(ask):
    result = ask({"vllm-rank0": "vllm"})
    assert not result["failed"] and not result["changed"]
    assert (result["services"], result["code"], result["python"]) == ([], {}, sys.executable)
    assert result["units"] == {"vllm-rank0": {
        "container": {"kind": "absent", "id": None, "started_at": None, "detail": "is not there"}, "state": None, "adopted": False, "key": None}}


@pytest.mark.parametrize(("state", "adopted"), [
    ({"container_id": "c0ffee", "started_at": "t"}, True), ({"container_id": "c0ffee", "started_at": "u"}, False),
    ({"container_id": None}, False), (None, False),
])
def test_what_a_watch_left(ask, tmp_path, state, adopted):
    write(tmp_path / "systemd" / "ascend-vllm-vllm-rank0.service", "")
    write(tmp_path / "systemd" / "docker.service", "")
    write(tmp_path / CODE / "group_watch.py", "x = 1\n")
    write(tmp_path / CODE / "notes.txt", "")
    write(tmp_path / "etc" / "vllm-rank0" / "watch.key", "secret\n")
    if state:
        write(tmp_path / "lib" / "vllm-rank0" / "state.json", json.dumps(state))
    result = ask({"vllm-rank0": "vllm"}, {"vllm-rank0": inspected(StartedAt="t")})
    assert result["services"] == ["vllm-rank0"]
    assert result["code"] == {"group_watch.py": hashlib.sha1(b"x = 1\n").hexdigest()}
    unit = result["units"]["vllm-rank0"]
    assert unit["container"] == {"kind": "running", "id": "c0ffee", "started_at": "t", "detail": ""}
    assert (unit["state"], unit["adopted"]) == (state, adopted)
    assert unit["key"] == hashlib.sha256(b"secret\n").hexdigest() and "secret" not in json.dumps(result)


def test_a_strangers_container_and_an_engine_that_does_not_answer(ask, tmp_path):
    assert ask({"vllm-rank0": "other"}, {"vllm-rank0": inspected()})["units"]["vllm-rank0"]["container"]["kind"] == "foreign"
    result = ask({"vllm-rank0": "vllm"}, docker_socket=str(tmp_path / "none.sock"))
    assert result["units"]["vllm-rank0"]["container"]["kind"] == "unknown" and not result["failed"]
