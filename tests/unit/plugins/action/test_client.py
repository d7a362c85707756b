# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""client_run and image_build on scripted nodes: slices, progress, what fails and why."""

from __future__ import annotations

from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.ascend.vllm.plugins.action import client_run, image_build
from ansible_collections.ascend.vllm.plugins.modules import client_data
from ansible_collections.ascend.vllm.plugins.modules import client_run as run_documented
from ansible_collections.ascend.vllm.plugins.modules import image_build as build_documented
from ansible_collections.ascend.vllm.plugins.plugin_utils.data import BUNDLED
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options, run_action as run

CLIENT = {"name": "vllm-client", "group": "vllm", "run_id": "r", "argv": ["lm_eval"], "results_dir": "/r", "limit_s": 100}
BUILD = {"name": "c:1", "dir": "/d"}


def looked(running=True, log=(), **more):
    """Return a slice of a client."""
    return dict({"running": running, "joined": False, "started": "2026-05-02T09:00:00Z", "seconds": 5.0, "log": list(log), "rc": None, "timed_out": False,
                 "error": None, "files": {}, "left_out": []}, **more)


def test_a_client_is_begun_once_shown_and_its_files_returned():
    bars = [f"Requesting API:  10%|#  | {done}/200 [00:10<01:30]" for done in (20, 40)]
    found = run(client_run, [looked(log=["loading"]), looked(log=[bars[0], "x"], seconds=10.0), looked(log=bars, seconds=20.0, takes=10.0),
                             looked(False, ["a", "b"], rc=3, seconds=31.0, files={"f": "t"}), {"changed": False}],
                progress=r"(?P<done>\d+)/(?P<total>\d+) \[", **CLIENT)
    assert found["result"] == {"rc": 3, "started": "2026-05-02T09:00:00Z", "timed_out": False, "error": None, "files": {"f": "t"}, "left_out": [],
                               "log": "a\nb", "joined": False, "changed": True, "seconds": 31.0}
    assert found["lines"] == ["  [    5 s] n0: vllm-client: loading", "  [   10 s] n0: vllm-client: 20 of 200",
                              "  [   20 s] n0: vllm-client: 40 of 200, about 80 s left"]
    assert [given["step"] for dummy, given in found["calls"]] == ["begin", "watch", "watch", "watch", "done"]
    assert {name for name, dummy in found["calls"]} == {"ascend.vllm.client_progress"} and "progress" not in found["calls"][0][1]


def test_a_client_that_is_joined_or_ended_at_its_limit_is_no_failure():
    found = run(client_run, [looked(joined=True), looked(False, rc=124, timed_out=True, error="its limit"), {}], **CLIENT)
    assert (found["result"]["joined"], found["result"]["timed_out"], found["result"]["error"]) == (True, True, "its limit")
    assert "failed" not in found["result"] and found["lines"] == ["  [    5 s] n0: vllm-client: has said nothing yet"]


def test_slices_are_at_most_five_seconds():
    assert run(client_run, [looked(False), {}], slice_s=60, **CLIENT)["calls"][0][1]["slice_s"] == 5.0


@pytest.mark.parametrize(("plugin", "args"), [(client_run, CLIENT), (image_build, BUILD)])
@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no engine"}, {"unreachable": True, "msg": "gone"}])
def test_what_cannot_be_looked_at_fails(plugin, args, answer):
    result = run(plugin, [answer], **args)["result"]
    assert result["failed"] and result["msg"] == "n0: " + answer["msg"]


@pytest.mark.parametrize("gone", [AnsibleConnectionFailure("ssh: gone"), {"unreachable": True, "msg": "ssh: gone"}])
def test_a_node_that_is_not_reached_for_a_moment_ends_no_watch(gone):
    found = run(client_run, [looked(), gone, gone, looked(), gone, gone, looked(False, rc=0), gone, {"changed": False}], **CLIENT)
    assert (found["result"]["rc"], found["slept"]) == (0, [client_run.AGAIN_S] * 5) and "failed" not in found["result"]
    assert [given["step"] for dummy, given in found["calls"]] == ["begin"] + ["watch"] * 6 + ["done"] * 2
    assert "  n0: vllm-client: not reached, asked again in 30 s: ssh: gone" in found["lines"]


def test_a_node_that_is_lost_is_said():
    gone = AnsibleConnectionFailure("ssh: gone")
    for script in ([gone], [looked(), gone, gone, gone]):
        with pytest.raises(AnsibleConnectionFailure, match="ssh: gone"):
            run(client_run, script, **CLIENT)
    # What the client gave is here already.
    found = run(client_run, [looked(False, rc=0), gone, gone, gone], **CLIENT)
    assert found["result"]["rc"] == 0 and "what was left of the client was not removed: ssh: gone" in found["lines"][-1]


def test_what_is_left_of_a_client_is_a_warning():
    found = run(client_run, [looked(False, rc=0), {"failed": True, "msg": "busy"}], **CLIENT)
    assert "failed" not in found["result"] and "busy" in found["lines"][0]


def test_a_progress_that_is_no_expression_is_refused():
    found = run(client_run, [], progress="(", **CLIENT)
    assert found["result"]["failed"] and "progress: found '(', wanted a regular expression" in found["result"]["msg"]


@pytest.mark.parametrize(("plugin", "args"), [(client_run, CLIENT), (image_build, BUILD)])
def test_check_mode_runs_nothing(plugin, args):
    found = run(plugin, [], check=True, **args)
    assert found["result"]["changed"] and found["calls"] == []


def built(events, running=True, done=False, error=None, **more):
    """Return a slice of a build."""
    return dict({"running": running, "done": done, "error": error, "step": "Step 7/9 : RUN python3 -m pip", "said": [], "events": events}, **more)


def test_a_build_is_begun_once_shown_and_ends():
    found = run(image_build, [built(1), built(5, said=["Collecting torch"]), built(9, False, True)], **BUILD)
    assert "failed" not in found["result"] and found["result"]["changed"]
    assert found["lines"] == ["  [    5 s] n0: c:1: Step 7/9 : RUN python3 -m pip", "  [   10 s] n0: c:1: Collecting torch"]
    assert [given["begin"] for dummy, given in found["calls"]] == [True, False, False]


@pytest.mark.parametrize(("said", "error", "cause"), [
    (["ERROR: No matching distribution found for lm_eval==0.4.13"], "code: 1", "lacks a package of the lock file (ERROR: No matching distribution"),
    (["WARNING: Retrying ... NewConnectionError('... Connection refused')", "bye"], "code: 1", "the package index cannot be reached"),
    (["found Python 3.12, wanted Python 3.11"], "code: 1", "the base image has another Python (found Python 3.12"),
    ([], "write /x: no space left on device", "the disk is full"),
    ([], "pull access denied for base", "the base image cannot be had (pull access denied for base). Remedy: set eval_client_base_image."),
    (["/usr/bin/python3: No module named pip"], "code: 1", "no Python with pip"),
    (["ERROR: HTTP error 403 while getting"], "code: 1", "the package index refuses"),
    (["something new"], "code: 1", "its last words: code: 1"),
])
def test_a_build_that_fails_gives_the_cause(said, error, cause):
    result = run(image_build, [built(1, False, error=error, said=said)], **BUILD)["result"]
    assert result["failed"] and "n0: c:1 was not built, at Step 7/9" in result["msg"] and cause in result["msg"] and "Remedy: " in result["msg"]


def test_a_silent_build_is_given_up_and_ended():
    found = run(image_build, [*(built(7, takes=50.0) for dummy in range(4)), built(7, False)], stall_s=120, **BUILD)
    assert found["result"]["stalled"] and "has said nothing for 120 s" in found["result"]["msg"]
    assert [given.get("stop", False) for dummy, given in found["calls"]] == [False] * 4 + [True]


@pytest.mark.parametrize(("plugin", "documented"), [(client_run, run_documented), (image_build, build_documented)])
def test_the_documentation_lists_the_plugin_s_options(plugin, documented):
    options = documented_options(documented)
    taken = {}
    with mock.patch.object(plugin.ActionModule, "validate_argument_spec", lambda self, argument_spec: taken.update(argument_spec) or (None, None)):
        with pytest.raises((TypeError, AttributeError)):
            run(plugin, [])
    assert {name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in options.items()} == {
        name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in taken.items()}


def test_the_bundled_sets_are_understood():
    known = {}
    for path in sorted((BUNDLED / "sets").glob("*.yml")):
        known.update(yaml.safe_load(path.read_text()))
    assert known and client_data.stated_wrong(known) == []
