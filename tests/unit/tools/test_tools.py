# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that set up, check and run: what they refuse, what they report, and how they end."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name):
    """Import a script of tests/tools by its file."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / (name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_parts(tmp_path):
    """Return a function that runs run-parts on a parts.conf with the given lines."""

    def run(lines, *words):
        conf = tmp_path / "parts.conf"
        conf.write_text("# comment\n\n" + "\n".join(lines) + "\n")
        env = dict(os.environ, PARTS_CONF=str(conf), PARTS_LOGS=str(tmp_path / "logs"))
        return subprocess.run([TOOLS / "run-parts", *words], env=env, capture_output=True, text=True, check=False, timeout=60)

    return run


def script(tmp_path, name, text):
    """Write an executable shell script and return its path."""
    path = tmp_path / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_parts_end_with_a_table_and_the_count(run_parts, tmp_path):
    good, bad = script(tmp_path, "good", "echo fine"), script(tmp_path, "bad", "echo broken >&2; exit 3")
    done = run_parts(["one core 1 %s" % good, "two core 1.5 %s" % bad, "three core 2 %s" % good, "four extra 1 %s" % bad], "core")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 passed, 1 failed"
    assert re.search(r"^two +0\.0 +1\.5  FAILED, exit 3 \(log: .*two\.log\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^total +0\.\d +4\.5$", done.stdout, re.MULTILINE)
    assert "not run: 0" in done.stdout and "four" not in done.stdout
    assert (tmp_path / "logs" / "two.log").read_text() == "broken\n"


def test_why_a_part_failed_stands_below_the_table(run_parts, tmp_path):
    """A long run is seen by its end alone."""
    told = script(tmp_path, "told", "echo 'E   assert 1 == 2'; echo 'FAILED tests/a.py::test_b - assert 1 == 2'; seq 100; exit 1")
    silent = script(tmp_path, "silent", "seq 200; exit 1")
    good = script(tmp_path, "good", "echo 'FAILED is only a word'")
    out = run_parts(["one core 1 %s" % told, "two core 1 %s" % silent, "three core 1 %s" % good], "core").stdout
    below = out[out.index("part            minutes"):].splitlines()
    first = below.index("-- one:")
    assert below[first:first + 4] == ["-- one:", "E   assert 1 == 2", "FAILED tests/a.py::test_b - assert 1 == 2", "-- two:"]
    assert below[first + 4:-2] == [str(number) for number in range(191, 201)]


def test_parts_run_in_the_order_of_the_file_and_all_means_all(run_parts, tmp_path):
    tell = script(tmp_path, "tell", 'echo "ran $1"')
    lines = ["one core 1 %s 1" % tell, "two extra 1 %s 2" % tell]
    done = run_parts(lines, "two", "one")
    assert re.findall(r"^ran (\d)$", done.stdout, re.MULTILINE) == ["1", "2"]
    assert run_parts(lines, "all").stdout.splitlines()[-1] == "2 passed, 0 failed"


def test_what_was_not_run_is_counted(run_parts, tmp_path):
    partly = script(tmp_path, "partly", 'echo "NOT RUN: samples (folder absent)"')
    wholly = script(tmp_path, "wholly", 'echo "NOT RUN: all of it (no Python 3.8)"; exit 77')
    done = run_parts(["one core 1 %s" % partly, "two core 1 %s" % wholly], "core")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-4:] == [
        "NOT RUN: samples (folder absent)", "NOT RUN: all of it (no Python 3.8)", "not run: 2", "1 passed, 0 failed, 1 skipped"]


def test_without_the_environment_nothing_else_runs_and_the_run_fails(run_parts, tmp_path):
    done = run_parts(["setup core 1 false", "one core 1 %s" % script(tmp_path, "good", "echo ran")], "core")
    assert done.returncode == 1
    assert "NOT RUN: one (setup failed)" in done.stdout and "ran" not in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "0 passed, 2 failed"


def test_an_unknown_part_is_refused(run_parts):
    done = run_parts(["one core 1 true"], "onee")
    assert done.returncode == 2 and "no part onee; known: all core one" in done.stderr


def test_a_daemon_that_a_part_leaves_behind_does_not_hold_the_run(run_parts, tmp_path):
    leaves = script(tmp_path, "leaves", "setsid sleep 20 & echo left")
    done = run_parts(["one core 1 %s" % leaves], "core")
    assert done.returncode == 0 and "left" in done.stdout


def test_settings_of_the_person_do_not_reach_a_part(tmp_path):
    conf = tmp_path / "parts.conf"
    conf.write_text("one core 1 env\n")
    env = dict(os.environ, PARTS_CONF=str(conf), PARTS_LOGS=str(tmp_path / "logs"), ANSIBLE_COLLECTIONS_PATH="/elsewhere")
    done = subprocess.run([TOOLS / "run-parts", "core"], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert "ANSIBLE_COLLECTIONS_PATH" not in done.stdout
    assert re.search(r"^ANSIBLE_HOME=.*/\.cache/ansible$", done.stdout, re.MULTILINE)


def test_a_python_that_does_not_run_is_passed_over(tmp_path):
    """A pyenv shim is there for every installed version and fails for those that are not selected."""
    for name in ("python3.4", "python3"):
        script(tmp_path, name, "echo 'pyenv: python3.4: command not found' >&2; exit 127")
    env = {"PATH": "%s:/usr/bin:/bin" % tmp_path, "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert subprocess.run([TOOLS / "find-python", "3.4"], env=env, check=False, capture_output=True).returncode == 1
    folder = tmp_path / "pyenv" / "versions" / "3.4.9" / "bin"
    folder.mkdir(parents=True)
    good = script(folder, "python", "echo %s/python" % folder)
    done = subprocess.run([TOOLS / "find-python", "3.4"], env=env, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(good)


def test_a_python_of_another_version_is_passed_over(tmp_path):
    (tmp_path / "python3.4").symlink_to(shutil.which(os.path.realpath(sys.executable)))
    env = {"PATH": "%s:/usr/bin:/bin" % tmp_path, "HOME": str(tmp_path)}
    assert subprocess.run([TOOLS / "find-python", "3.4"], env=env, check=False, capture_output=True).returncode == 1


def test_a_virtual_environment_is_looked_through():
    """The first Python in PATH is that of an environment which setup is about to remove."""
    version = "%d.%d" % sys.version_info[:2]
    env = dict(os.environ, PATH="%s:%s" % (Path(sys.executable).parent, os.environ["PATH"]))
    done = subprocess.run([TOOLS / "find-python", version], env=env, check=True, capture_output=True, text=True)
    assert sys.prefix != sys.base_prefix
    assert not done.stdout.startswith(sys.prefix + "/")


def test_setup_says_when_there_is_no_such_python(tmp_path):
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([TOOLS / "setup", "3.4"], env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 3 and "no Python 3.4 runs on this machine" in done.stderr


def test_collections_come_with_the_controllers_only():
    make_venv = load("make_venv")
    package, names = make_venv.collections_wanted("controller-2.19")
    assert package.startswith("ansible==12.") and "community.docker" in names
    assert make_venv.collections_wanted("controller-2.21")[0].startswith("ansible==14.")
    assert make_venv.collections_wanted("node-3.8") == (None, [])


def test_the_stamp_covers_the_lock(tmp_path, monkeypatch):
    make_venv = load("make_venv")
    before = make_venv.inputs_hash("controller-2.19")
    shutil.copytree(make_venv.REQUIREMENTS, tmp_path / "requirements")
    monkeypatch.setattr(make_venv, "REQUIREMENTS", tmp_path / "requirements")
    assert make_venv.inputs_hash("controller-2.19") == before
    with (tmp_path / "requirements" / "controller-2.19.txt").open("a") as lock:
        lock.write("one-more==1\n")
    assert make_venv.inputs_hash("controller-2.19") != before
    assert make_venv.inputs_hash("controller-2.19") != make_venv.inputs_hash("controller-2.21")


def plan():
    """A plan of one host, as small as it gets."""
    unit = {"name": "vllm-rank0", "group": "vllm", "rank": 0, "head": True, "argv": ["vllm", "serve", "/w"]}
    return {"schema": 1, "groups": {"vllm": {"hosts": ["a"]}}, "hosts": {"a": {"units": [unit]}}}


def test_a_whole_plan_has_no_fault():
    assert load("check_plan").faults(plan()) == []


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda made: made.update(schema=2), "no plan of schema 1"),
    (lambda made: made.update(groups={}), "no plan of schema 1"),
    (lambda made: made["groups"]["vllm"]["hosts"].append("b"), "host b of group vllm has no unit"),
    (lambda made: made["hosts"]["a"]["units"][0].update(head=False), "has heads []"),
    (lambda made: made["hosts"]["a"]["units"][0].update(rank=1), "does not start at rank 0"),
    (lambda made: made["hosts"]["a"]["units"][0].update(argv=["sh", "-c"]), "does not run `vllm serve`"),
])
def test_a_spoiled_plan_is_seen(spoil, said):
    made = plan()
    spoil(made)
    assert any(said in text for text in load("check_plan").faults(made))


def test_the_tarball_is_held_against_git():
    check = load("check_tarball")
    known = [start + "x" if start.endswith("/") else start for start in check.SHIPPED]
    assert check.faults([*known, "FILES.json", "MANIFEST.json"], [*known, "tests/unit/test_x.py"]) == []
    assert check.faults([*known, "inventories/reports/r.json"], known) == ["inventories/reports/r.json is in the tarball, but git does not know it"]
    assert check.faults([name for name in known if name != "data/x"], known) == ["data/x is missing from the tarball", "nothing of data/ is in the tarball"]
    assert check.faults([*known, "tests/x"], [*known, "tests/x"]) == ["tests/x does not belong in the tarball"]


def test_pip_settings_of_files_and_environment_are_kept(tmp_path):
    listed = "global.index-url='https://files/simple'\ninstall.no-binary='x'\n:env:.cert='/ca.crt'\n:env:.index-url='https://env/simple'\n"
    parser = load("pip_settings").settings(listed, "/cache")
    with (tmp_path / "pip.conf").open("w") as out:
        parser.write(out)
    again = configparser.RawConfigParser()
    again.read(tmp_path / "pip.conf")
    assert {name: dict(again[name]) for name in again.sections()} == {
        "global": {"index-url": "https://env/simple", "cert": "/ca.crt", "cache-dir": "/cache"}, "install": {"no-binary": "x"}}
