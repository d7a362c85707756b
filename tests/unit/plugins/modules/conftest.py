# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module's main() with real tools: shell scripts written for the test."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible.module_utils import basic

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:

    @contextlib.contextmanager
    def patch_module_args(module_args):
        """What ansible-core before 2.19 reads its arguments from (such a version runs these tests on Python 3.8)."""
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": module_args}).encode("utf-8")
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


@pytest.fixture
def run_module(capsys, monkeypatch):
    """A function (module, **parameters) -> the module's result, with failed set to whether it failed."""

    def run(module, check=False, **parameters):
        capsys.readouterr()
        with patch_module_args(dict(parameters, _ansible_check_mode=check, _ansible_remote_tmp="/tmp")):
            with pytest.raises(SystemExit) as ended:
                module.main()
        printed = capsys.readouterr().out
        result = json.loads(printed[printed.index("{"):])
        assert (ended.value.code != 0) == bool(result.get("failed"))
        result["failed"] = bool(result.get("failed"))
        return result

    return run


@pytest.fixture
def fake_tool(tmp_path):
    """A function (answers) -> path of a tool that gives them.

    answers: {arguments as one string: (stdout, exit status[, stderr])}; for other arguments the tool prints an error
    and ends with 1. Every call is appended to <path>.calls.
    """
    count = []

    def make(answers, name="tool", before=""):
        count.append(name)
        folder = tmp_path / ("%s-%d" % (name, len(count)))
        folder.mkdir()
        path = folder / name
        lines = ["#!/bin/sh", 'echo "$*" >> "%s.calls"' % path, before, 'case "$*" in']
        for number, (arguments, answer) in enumerate(answers.items()):
            for stream, text in (("out", answer[0]), ("err", answer[2] if len(answer) > 2 else "")):
                data = text if isinstance(text, bytes) else text.encode("utf-8")
                (folder / ("%d.%s" % (number, stream))).write_bytes(data)
            lines.append(
                '"%s") cat "%s/%d.out"; cat "%s/%d.err" >&2; exit %d;;' % (arguments, folder, number, folder, number, answer[1])
            )
        lines += ['*) echo "Error parameter" ; exit 1;;', "esac", ""]
        path.write_text("\n".join(lines))
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def calls():
    """A function (path of a fake tool) -> the calls it got, each as one string."""

    def read(path):
        record = path.parent / (path.name + ".calls")
        return record.read_text().splitlines() if record.exists() else []

    return read
