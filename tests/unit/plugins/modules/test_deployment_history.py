# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""deployment_history: what is kept, in which order, and what becomes of files that cannot be read or written."""

from __future__ import annotations

import json
import os
import stat
from types import SimpleNamespace

import pytest

from ansible_collections.ascend.vllm.plugins.modules import deployment_history


def record(number):
    """Return a deployment that is told apart by a number."""
    return {"schema": 1, "group": "vllm", "entry": {"model": "m", "port": 8000 + number, "ca_file": None}, "hosts": {"a2-node0": {"units": [{"rank": 0}]}}}


@pytest.fixture
def keep(run_module, tmp_path, monkeypatch):
    """A function (record or None, **parameters) -> the module's result; each time that it is asked, the clock is a minute further."""
    clock = iter(range(1760000000, 1760100000, 60))
    monkeypatch.setattr(deployment_history, "time", SimpleNamespace(time=lambda: next(clock) + 0.7))

    def run(kept=None, **parameters):
        given = dict({"group": "vllm", "folder": str(tmp_path / "deployments")}, **parameters)
        if kept is not None:
            given["record"] = kept
        return run_module(deployment_history, **given)

    return run


def numbers(result):
    """Return the numbers and ports of what is kept, oldest first."""
    assert not result["failed"]
    return [(entry["number"], entry["record"]["entry"]["port"] - 8000) for entry in result["deployments"]]


def test_nothing_is_kept_yet(keep, tmp_path):
    result = keep()
    assert (result["changed"], result["deployments"], result["newest"], result["unreadable"]) == (False, [], None, [])
    assert list(tmp_path.iterdir()) == []


def test_deployments_are_kept_in_their_order_and_whole(keep):
    first = keep(record(1))
    assert (first["changed"], first["newest"], first["deployments"]) == (True, 1, [{"number": 1, "time": 1760000000, "record": record(1)}])
    assert numbers(keep(record(2))) == [(1, 1), (2, 2)]
    found = keep()
    assert (found["changed"], found["newest"], numbers(found)) == (False, 2, [(1, 1), (2, 2)])
    assert [entry["time"] for entry in found["deployments"]] == [1760000000, 1760000060]
    assert found["deployments"][1]["record"] == record(2)


def test_the_same_as_the_newest_one_is_not_written_again_but_going_back_is(keep):
    keep(record(1))
    assert keep(record(1))["changed"] is False
    keep(record(2))
    result = keep(record(1))
    assert (result["changed"], numbers(result)) == (True, [(1, 1), (2, 2), (3, 1)])
    assert keep(dict(record(1), schema=1))["changed"] is False


def test_only_root_reads_them(keep, tmp_path):
    keep(record(1))
    folder = tmp_path / "deployments" / "vllm"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()] == [("000001.json", 0o600)]


def test_old_ones_go_and_numbers_are_never_used_again(keep, tmp_path):
    for number in range(1, 6):
        result = keep(record(number), keep=3)
    assert numbers(result) == numbers(keep(keep=3)) == [(3, 3), (4, 4), (5, 5)]
    assert sorted(os.listdir(str(tmp_path / "deployments" / "vllm"))) == ["000003.json", "000004.json", "000005.json"]
    # A smaller number takes effect with the next one that is kept.
    assert numbers(keep(keep=2)) == [(3, 3), (4, 4), (5, 5)] and numbers(keep(record(6), keep=2)) == [(5, 5), (6, 6)]
    result = keep(record(7), keep=1)
    assert result["failed"] and "keep is 1, wanted 2 or more" in result["msg"] and numbers(keep()) == [(5, 5), (6, 6)]


def test_groups_have_a_history_each(keep):
    keep(record(1), group="prefill")
    assert numbers(keep(group="decode")) == [] and numbers(keep(group="prefill")) == [(1, 1)]


def test_check_mode_says_what_would_be_written(keep, tmp_path):
    result = keep(record(1), check=True)
    assert (result["changed"], numbers(result), result["newest"]) == (True, [(1, 1)], 1) and list(tmp_path.iterdir()) == []
    keep(record(1))
    keep(record(2))
    assert numbers(keep(record(3), keep=2, check=True)) == [(2, 2), (3, 3)] and numbers(keep()) == [(1, 1), (2, 2)]
    assert keep(record(2), check=True)["changed"] is False


@pytest.mark.parametrize("content", [
    "", "{", "[]", "{}", '{"time": 1}', '{"time": "x", "record": {}}', '{"time": 1, "record": []}', '{"time": 1, "record": null}',
])
def test_a_file_that_cannot_be_read_is_named_and_stays(keep, tmp_path, content):
    keep(record(1))
    broken = tmp_path / "deployments" / "vllm" / "000002.json"
    broken.write_text(content)
    for name in ("x", "7.json", ".new-abc", "0000003.json"):
        (broken.parent / name).write_text("{}")
    result = keep()
    assert numbers(result) == [(1, 1)] and len(result["unreadable"]) == 1 and result["unreadable"][0].startswith("%s: " % broken)
    # Its number is not given to another one.
    assert numbers(keep(record(3))) == [(1, 1), (3, 3)] and broken.read_text() == content


def test_a_folder_that_cannot_be_written_is_named(keep, tmp_path):
    (tmp_path / "file").write_text("")
    result = keep(record(1), folder=str(tmp_path / "file"))
    assert result["failed"] and str(tmp_path / "file" / "vllm") in result["msg"] and "Remedy:" in result["msg"]


def test_a_full_disk_leaves_no_half_deployment(keep, tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    keep(record(1))
    with monkeypatch.context() as patched:
        patched.setattr(deployment_history.os, "fsync", full)
        result = keep(record(2))
    assert result["failed"] and "No space left on device" in result["msg"]
    assert os.listdir(str(tmp_path / "deployments" / "vllm")) == ["000001.json"]
    assert json.loads((tmp_path / "deployments" / "vllm" / "000001.json").read_text())["record"] == record(1)
