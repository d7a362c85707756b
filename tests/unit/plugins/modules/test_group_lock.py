# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""group_lock: one holder at a time, also when several ask at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import threading

import pytest

from ansible_collections.ascend.vllm.plugins.modules import group_lock

MINE = {"id": "controller/1/100", "who": "ops on controller", "verb": "stop"}
OTHER = {"id": "elsewhere/2/200", "who": "sre on elsewhere", "verb": "switch"}


@pytest.fixture
def ask(run_module, tmp_path):
    """A function (holder, **parameters) -> the module's result, in a folder of its own."""

    def run(holder, **parameters):
        given = {"group": "vllm", "verb": (holder or MINE)["verb"], "holder": holder, "folder": str(tmp_path / "run")}
        return run_module(group_lock, **dict(given, **parameters))

    return run


def brief(result):
    """Return (whether this run has it, who has it)."""
    assert result["failed"] is False and result["changed"] is False
    return result["held"], result["holder"]


def test_the_first_one_has_it_until_it_gives_it_back(ask, tmp_path):
    assert brief(ask(MINE)) == (True, MINE)
    assert brief(ask(OTHER)) == (False, MINE)
    assert brief(ask(MINE)) == (True, MINE)
    assert brief(ask(OTHER, state="absent")) == (False, MINE)
    assert brief(ask(MINE, state="absent")) == (False, None)
    assert brief(ask(MINE, state="absent")) == (False, None)
    assert brief(ask(OTHER)) == (True, OTHER)
    assert sorted(os.listdir(str(tmp_path / "run"))) == ["group-vllm.lock", "group-vllm.lock.guard"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "run").iterdir())


def test_a_verb_that_another_one_uses_neither_takes_it_anew_nor_gives_it_back(ask):
    outer, inner = dict(MINE, verb="switch"), dict(MINE, verb="launch")
    assert brief(ask(outer)) == (True, outer)
    assert brief(ask(inner)) == (True, outer)
    assert brief(ask(inner, state="absent")) == (True, outer)
    assert brief(ask(outer, state="absent")) == (False, None)


def test_each_group_has_a_lock_of_its_own(ask):
    assert brief(ask(MINE, group="prefill")) == (True, MINE)
    assert brief(ask(OTHER, group="decode")) == (True, OTHER)
    assert group_lock.path_of("/run/x", "../etc/a b") == "/run/x/group-.._etc_a_b.lock"


def test_only_the_holder_that_was_meant_is_replaced(ask):
    ask(OTHER)
    assert brief(ask(MINE, replace="a third one")) == (False, OTHER)
    assert brief(ask(MINE, replace=OTHER["id"])) == (True, MINE)
    # Who was replaced gives back nothing any more.
    assert brief(ask(OTHER, state="absent")) == (False, MINE)


def test_replacing_a_holder_that_has_gone_meanwhile_takes_the_lock(ask):
    assert brief(ask(MINE, replace=OTHER["id"])) == (True, MINE)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"id": 7}', '{"id": null}', '"x"'])
def test_a_file_that_is_no_lock_is_somebody_s(ask, tmp_path, content):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "group-vllm.lock"
    path.write_text(content)
    assert brief(ask(MINE)) == (False, {"id": "", "who": "a file that is no lock: %s" % path})
    assert brief(ask(MINE, state="absent"))[0] is False and path.read_text() == content
    assert brief(ask(MINE, replace="")) == (True, MINE) and json.loads(path.read_text()) == MINE


def test_check_mode_takes_and_gives_back_nothing(ask, tmp_path):
    assert brief(ask(MINE, check=True)) == (False, None) and not (tmp_path / "run").exists()
    ask(OTHER)
    assert brief(ask(MINE, check=True, replace=OTHER["id"])) == (False, OTHER)
    assert brief(ask(OTHER, check=True, state="absent")) == (True, OTHER)


def test_giving_back_what_nobody_has_makes_nothing(ask, tmp_path):
    assert brief(ask(MINE, state="absent")) == (False, None) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("holder", [None, {"verb": "stop"}, {"verb": "stop", "id": ""}])
def test_the_module_alone_does_not_know_who_asks(ask, holder):
    result = ask(holder)
    assert result["failed"] and "use ascend.vllm.group_lock in a playbook" in result["msg"]


def test_a_folder_that_cannot_be_written_is_named(ask, tmp_path):
    (tmp_path / "file").write_text("")
    result = ask(MINE, folder=str(tmp_path / "file"))
    assert result["failed"] and str(tmp_path / "file" / "group-vllm.lock") in result["msg"] and "Remedy:" in result["msg"]


def test_a_lock_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(handed, stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(group_lock.json, "dump", full)
    with pytest.raises(OSError):
        group_lock.take(str(tmp_path / "group-vllm.lock"), MINE)
    assert [path.name for path in tmp_path.iterdir()] == ["group-vllm.lock.guard"]


def contend(path, number, replace, barrier, answers):
    """Ask as one of several runs at once."""
    barrier.wait(20)
    answers.put((number, group_lock.take(path, dict(MINE, id="run %d" % number), replace)["id"]))


@pytest.mark.parametrize("replace", [None, OTHER["id"]])
def test_of_several_that_ask_at_once_one_has_it_and_all_know_who(tmp_path, replace):
    fork = multiprocessing.get_context("fork")
    for attempt in range(12):
        path = str(tmp_path / ("group-%d.lock" % attempt))
        if replace:
            group_lock.take(path, OTHER)
        barrier, answers = fork.Barrier(6), fork.Queue()
        runs = [fork.Process(target=contend, args=(path, number, replace, barrier, answers), daemon=True) for number in range(6)]
        for run in runs:
            run.start()
        said = dict(answers.get(timeout=30) for dummy in runs)
        for run in runs:
            run.join(10)
        assert set(said.values()) == {group_lock.read(path)["id"]} and len(said) == 6


def test_one_run_waits_while_another_one_is_at_it(tmp_path):
    path, answers = str(tmp_path / "group-vllm.lock"), []
    with group_lock.alone(path):
        other = threading.Thread(target=lambda: answers.append(group_lock.take(path, OTHER)), daemon=True)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        group_lock.write(path, MINE)
    other.join(10)
    assert answers == [MINE]
