# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report is written as a whole or not at all, for everybody to read."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.ascend.vllm.plugins.action import report_files
from ansible_collections.ascend.vllm.plugins.plugin_utils import pages


def test_a_file_is_written_in_one_step_and_readable_by_everybody(tmp_path):
    target = tmp_path / "preflight.json"
    target.write_text("old")
    assert report_files.write(str(target), "neu: 健康\n") == str(target)
    assert target.read_text(encoding="utf-8") == "neu: 健康\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["preflight.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "preflight.json"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        report_files.write(str(target), "a lone surrogate: \ud800")
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["preflight.json"]


def test_a_directory_that_is_not_there_is_said_by_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        report_files.write(str(tmp_path / "gone" / "preflight.json"), "text")
    assert str(tmp_path / "gone") in str(error.value.filename)


def test_every_page_of_a_verb_of_its_own_has_its_template():
    templates = pages.TEMPLATES
    assert all((templates / f"{verb}.html.j2").is_file() and callable(view) for verb, view in report_files.VIEWS.items())
    assert "status" in report_files.VIEWS and (templates / "preflight.html.j2").is_file()
