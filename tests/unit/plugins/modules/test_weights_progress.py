# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""weights_progress: how a container ends, and an engine that is away for a while."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import docker_engine
from ansible_collections.ascend.vllm.plugins.modules import weights_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, inspected, multiplexed, unix_server


@pytest.fixture
def look(run_module, tmp_path):
    """Return a function that looks at a container for a moment."""
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "part").write_bytes(b"12345")
    return lambda: run_module(weights_progress, container="c", dir=str(tmp_path / "w"), slice_s=0.1, docker_socket=str(tmp_path / "d.sock"))


@pytest.mark.parametrize(("containers", "wanted"), [
    ({"c": inspected()}, (True, True, None, [])),
    ({"c": inspected(False, ExitCode=3)}, (False, True, 3, ["no room"])),
    ({}, (False, False, None, [])),
], ids=["runs", "ended", "gone"])
def test_what_a_container_does_is_said(look, tmp_path, containers, wanted):
    with unix_server(tmp_path / "d.sock", FakeEngine(containers=containers, logs={"c": multiplexed((2, b"no room\n"))})):
        found = look()
    assert (found["running"], found["exists"], found["exit_code"], found["log"], found["bytes"]) == (*wanted, 5)


def test_an_engine_that_is_away_for_a_moment_fails_no_watch(look, tmp_path, monkeypatch):
    monkeypatch.setattr(docker_engine, "AGAIN_S", 0.01)
    engine, failures = FakeEngine(containers={"c": inspected(False)}, logs={"c": b""}), [1, 2, 3]
    with unix_server(tmp_path / "d.sock", lambda asked: (500, {"message": failures.pop()}) if failures else engine(asked)):
        found = look()
    assert (found["failed"], found["exit_code"], failures) == (False, 0, [])


def test_an_engine_that_stays_away_is_said_and_the_download_goes_on(look, monkeypatch):
    monkeypatch.setattr(docker_engine, "AWAY_S", 0.0)
    found = look()
    assert found["failed"] and "d.sock: No such file or directory. Remedy: " in found["msg"] and "goes on is joined" in found["msg"]
