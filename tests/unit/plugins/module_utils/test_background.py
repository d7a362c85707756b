# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a process of its own: what another job left is nobody's, and a job that has just ended can be stopped.

Whole jobs are run by test_pulls and test_weights_pull.
"""

from __future__ import annotations

import fcntl

from ansible_collections.ascend.vllm.plugins.module_utils import background


def test_before_a_job_has_said_its_number_there_is_none(tmp_path):
    """The one before it may be somebody else's by now."""
    job, seen = background.Job("x", str(tmp_path)), []
    (tmp_path / "x.lock").write_text("4711", encoding="ascii")

    def fork():
        seen.append((tmp_path / "x.lock").read_text(encoding="ascii"))
        return 1

    assert job.start(fork, None, {}) and seen == [""]


def test_a_job_that_has_just_ended_can_be_stopped(tmp_path, monkeypatch):
    job, asked = background.Job("x", str(tmp_path)), []

    def gone(number, signal):
        asked.append(number)
        raise ProcessLookupError

    monkeypatch.setattr(background.os, "killpg", gone)
    with open(str(tmp_path / "x.lock"), "w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711")
        held.flush()
        job.stop()
    assert asked == [4711]


def test_without_a_folder_nothing_goes_on(tmp_path):
    job = background.Job("x", str(tmp_path / "none"))
    job.stop()
    assert job.look() == (None, False) and not (tmp_path / "none").exists()
