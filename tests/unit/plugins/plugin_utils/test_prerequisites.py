# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says over a plain shell, in all the ways in which it may say it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import prerequisites

ASK = Path(__file__).resolve().parents[4] / "roles" / "prerequisites" / "templates" / "ask.sh.j2"
PAIRS = {"asked": "1760000000.5", "time": "1760000002.75", "python": "/usr/bin/python3", "python_version": "3.9.9", "requests": "yes",
         "rsync": "/usr/bin/rsync",
         "docker": "/usr/bin/docker", "package_manager": "dnf"}
SOUND = {"python": "/usr/bin/python3", "python_version": "3.9.9", "requests": True, "rsync": "/usr/bin/rsync", "docker": "/usr/bin/docker",
         "package_manager": "dnf",
         "asked": 1760000000.5, "clock_ahead_s": 2.25}


def printed(before="", after="", end="\n", **pairs):
    """Return the result of a shell that printed these lines; None leaves one out."""
    pairs = {name: value for name, value in {**PAIRS, **pairs}.items() if value is not None}
    lines = [prerequisites.BEGIN, *[f"{name}={value}" for name, value in pairs.items()], prerequisites.END]
    return {"rc": 0, "stdout": before + end.join(lines) + end + after, "stderr": ""}


@pytest.mark.parametrize(("result", "change"), [
    (printed(), {}),
    (printed(before="Welcome!\nname=value\npython=/opt/evil\n", after="python=/opt/evil\nbye\n"), {}),
    (printed(end="\r\n"), {}),
    (printed(python="", python_version=None, requests=None), {"python": None, "python_version": None, "requests": False}),
    (printed(requests=None), {"requests": False}),
    (printed(requests="no"), {"requests": False}),
    (printed(rsync=""), {"rsync": None}),
    (printed(docker=""), {"docker": None}),
    (printed(package_manager=None), {"package_manager": None}),
    (printed(time="1759999990.5"), {"clock_ahead_s": -10.0}),
    (printed(time="1760000002.%N"), {"clock_ahead_s": None}),
    (printed(time=None), {"clock_ahead_s": None}),
    (printed(asked=None), {"clock_ahead_s": None, "asked": None}),
    (printed(rsync="/odd=path/rsync"), {"rsync": "/odd=path/rsync"}),
    (dict(printed(), rc=1), {}),
])
def test_an_answer(result, change):
    assert prerequisites.parse(result) == {**SOUND, **change}


@pytest.mark.parametrize(("result", "wanted"), [
    (None, {"unreachable": True, "msg": "no answer"}),
    ("text", {"unreachable": True, "msg": "no answer"}),
    ({}, {"unreachable": True, "msg": "no answer"}),
    ({"unreachable": True, "msg": "Failed to connect:\n Permission denied"}, {"unreachable": True, "msg": "Failed to connect: Permission denied"}),
    ({"rc": 1, "stdout": "", "stderr": "sudo: a password is required\n", "msg": "non-zero return code"},
     {"unreachable": True, "msg": "non-zero return code sudo: a password is required"}),
    ({"rc": 0, "stdout": "This account is not available.\n", "stderr": ""}, {"error": "This account is not available."}),
    ({"rc": 0, "stdout": "", "stderr": ""}, {"error": "nothing printed"}),
    ({"rc": 0, "stdout": prerequisites.BEGIN + "\npython=/usr/bin/python3\n"}, {"error": f"{prerequisites.BEGIN} python=/usr/bin/python3"}),
    ({"rc": 0, "stdout": "x" * 5000}, {"error": "x" * 300}),
])
def test_no_answer(result, wanted):
    assert prerequisites.parse(result) == wanted


@given(st.dictionaries(st.sampled_from(["stdout", "stderr", "msg", "rc", "unreachable"]), st.none() | st.booleans() | st.integers() | st.text()))
def test_no_result_raises(result):
    assert set(prerequisites.parse(result)) in ({"unreachable", "msg"}, {"error"}, set(SOUND))


def test_the_script_of_the_role_is_understood(tmp_path):
    environment = jinja2.Environment(autoescape=False)  # noqa: S701
    environment.filters["quote"] = str
    environment.globals["now"] = lambda utc: __import__("datetime").datetime.now(__import__("datetime").timezone.utc)
    script = environment.from_string(ASK.read_text()).render(prerequisites_pythons=["no-such-python", "python3"])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    found = prerequisites.parse({"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
    assert found["python"].endswith("python3") and found["python_version"].startswith("3.") and found["package_manager"] in ("apt", "dnf", "yum",
                                                                                                                             "zypper", None)
    assert abs(found["clock_ahead_s"]) < 60


@pytest.mark.parametrize(("time", "heard", "ahead"), [
    (1760000000.6, 1760000004.0, 0.0), (1760000003.9, 1760000004.0, 0.0), (1760000007.0, 1760000004.0, 3.0), (1759999998.5, 1760000004.0, -2.0),
])
def test_a_slow_answer_is_no_clock_that_is_off(time, heard, ahead):
    """Asked at ..00.5: between asking and hearing, any time is right."""
    assert prerequisites.parse(printed(time=str(time)), heard)["clock_ahead_s"] == ahead
