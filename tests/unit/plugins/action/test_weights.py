# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""weights_verify, weights_wait, weights_fan_out and image_fetch on scripted nodes: slices, progress, what fails and why."""

from __future__ import annotations

from unittest import mock

import pytest

from ansible_collections.ascend.vllm.plugins.action import image_fetch, weights_fan_out, weights_verify, weights_wait
from ansible_collections.ascend.vllm.plugins.modules import image_fetch as fetch_documented
from ansible_collections.ascend.vllm.plugins.modules import weights_fan_out as fan_out_documented
from ansible_collections.ascend.vllm.plugins.modules import weights_verify as verify_documented
from ansible_collections.ascend.vllm.plugins.modules import weights_wait as wait_documented
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options, run_action as run

HUB = {"kind": "modelscope", "id": "a/b", "revision": "master", "dir": "/w"}


def hashed(count, left, **more):
    """Return a slice of a verification."""
    return dict({"done": left == 0, "changed": False, "hashed_bytes": count, "left_bytes": left, "differences": [], "discarded": []}, **more)


def test_verification_goes_on_until_nothing_is_left():
    found = run(weights_verify, [hashed(10**9, 10**9), hashed(10**9, 0, changed=True)], weights=HUB, full=True)
    assert (found["result"]["changed"], found["result"]["hashed_bytes"], found["result"]["seconds"]) == (True, 2 * 10**9, 10.0)
    assert "failed" not in found["result"] and found["lines"] == ["  [    5 s] n0: verified 1.0 GB of 2.0 GB, 200.0 MB/s, about 5 s left"]
    assert {name for name, dummy in found["calls"]} == {"ascend.vllm.weights_dir"}
    assert all(given["state"] == "verified" and given["budget_s"] == 5.0 and given["full"] for dummy, given in found["calls"])


@pytest.mark.parametrize(("kind", "remedy"), [("modelscope", "run site.yml again"), ("local", "put right files there")])
def test_wrong_files_fail_with_their_names(kind, remedy):
    result = run(weights_verify, [hashed(1, 0, differences=["x is missing"])], weights=dict(HUB, kind=kind))["result"]
    assert result["failed"] and "/w is not whole and was not marked complete: x is missing" in result["msg"] and remedy in result["msg"]


def test_files_that_were_set_aside_are_no_failure_yet():
    result = run(weights_verify, [hashed(1, 0, differences=["x is wrong"], discarded=["x"])], weights=HUB, discard=True)["result"]
    assert "failed" not in result and result["discarded"] == ["x"]


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no hub"}, {"unreachable": True, "msg": "gone"}])
def test_a_verification_that_cannot_run_fails(answer):
    result = run(weights_verify, [hashed(1, 1), answer], weights=HUB)["result"]
    assert result["failed"] and result["msg"] == answer["msg"]


def slice_of(count, running=True, exit_code=None, **more):
    """Return a slice of a download."""
    return dict({"running": running, "exists": True, "exit_code": exit_code, "bytes": count, "log": []}, **more)


def test_a_download_is_shown_and_ends():
    found = run(weights_wait, [slice_of(10**9), slice_of(2 * 10**9), slice_of(3 * 10**9, False, 0)], container="c", dir="/w", total_bytes=3 * 10**9)
    assert (found["result"]["failed"], found["result"]["changed"], found["result"]["bytes"]) == (False, True, 3 * 10**9)
    assert len(found["lines"]) == 2 and "downloaded 2.0 GB of 3.0 GB" in found["lines"][1]


def test_a_client_that_fails_gives_the_cause():
    found = run(weights_wait, [slice_of(1, False, 1, log=["OSError: [Errno 28] No space left on device"])], container="c", dir="/w")
    assert found["result"]["failed"] and "/w was not downloaded: the disk is full" in found["result"]["msg"]


def test_a_client_that_another_controller_removed_has_ended():
    found = run(weights_wait, [slice_of(1), slice_of(5, False, None, exists=False)], container="c", dir="/w")
    assert found["result"]["failed"] is False


def test_no_byte_for_too_long_is_a_stall_and_a_slow_byte_is_none():
    slow = [slice_of(1000 + number, takes=50.0) for number in range(10)]
    stuck = [slice_of(1009, takes=50.0) for dummy in range(3)]
    found = run(weights_wait, [*slow, *stuck], container="c", dir="/w", stall_s=120)
    assert found["result"]["stalled"] and "no byte has come for 120 s" in found["result"]["msg"] and len(found["lines"]) == 13


def test_a_file_that_is_begun_anew_is_no_stall():
    anew = [slice_of(number * 1000, takes=50.0) for number in (9, 0, 1, 2, 3, 4)]
    found = run(weights_wait, [*anew, slice_of(9000, False, 0)], container="c", dir="/w", stall_s=120)
    assert found["result"]["failed"] is False and "stalled" not in found["result"]


#: How weights_fan_out is called.
COPY = {"weights": HUB, "fingerprint": "f", "upstreams": [{"name": "n1"}], "key_file": "/k", "known_hosts_file": "/h"}


def copied(left, running=True, **more):
    """Return a slice of a copy of 4 GB of which 1 GB was there before."""
    return dict({"running": running, "done": not running, "changed": True, "phase": "copied", "total_bytes": 4 * 10**9, "left_bytes": left,
                 "fetched_bytes": 3 * 10**9 - left, "gave_up": {}, "differences": [], "takes": 30.0}, **more)


def test_a_copy_is_begun_once_shown_and_ends():
    gone = {"gave_up": {"n1": "Connection refused"}}
    found = run(weights_fan_out, [copied(2 * 10**9), copied(10**9, **gone), copied(0, False, **gone)], **COPY)
    assert "failed" not in found["result"] and (found["result"]["changed"], found["result"]["seconds"]) == (True, 90.0)
    # A node that is not asked any more is named once.
    assert found["lines"] == ["  [   30 s] n0: copied 2.0 GB of 4.0 GB, 33.3 MB/s, about 60 s left",
                              "n0: n1 is not asked for files any more: Connection refused",
                              "  [   60 s] n0: copied 3.0 GB of 4.0 GB, 33.3 MB/s, about 30 s left"]
    assert [(name, given["begin"]) for name, given in found["calls"]] == [("ascend.vllm.weights_pull", begin) for begin in (True, False, False)]


@pytest.mark.parametrize(("answer", "said"), [
    ({"failed": True, "msg": "no node gives them", "gave_up": {}}, "n0: no node gives them"),
    ({"unreachable": True, "msg": "gone"}, "n0: gone"),
    (copied(0, False, differences=["x is missing"]), "n0: /w is not whole and was not marked complete: x is missing. Remedy"),
])
def test_a_copy_that_fails_says_which_node_and_why(answer, said):
    result = run(weights_fan_out, [copied(10**9), answer], **COPY)["result"]
    assert result["failed"] and result["msg"].startswith(said)


def pulled(count, events, running=True, done=False, error=None, **more):
    """Return a slice of a pull."""
    return dict({"running": running, "done": done, "error": error, "bytes": count, "layers": 5, "layers_done": 2, "events": events}, **more)


def test_a_pull_is_begun_once_shown_and_ends():
    found = run(image_fetch, [pulled(10**9, 5), pulled(2 * 10**9, 9), pulled(3 * 10**9, 12, False, True)], name="i", total_bytes=3 * 10**9)
    assert (found["result"]["failed"], found["result"]["changed"], found["result"]["bytes"]) == (False, True, 3 * 10**9)
    assert found["lines"][0] == "  [    5 s] n0: pulled 1.0 GB of 3.0 GB, 200.0 MB/s, about 10 s left, 2 of 5 layers" and len(found["lines"]) == 2
    assert [given["begin"] for dummy, given in found["calls"]] == [True, False, False]


def test_an_engine_that_cannot_pull_gives_the_cause():
    found = run(image_fetch, [pulled(1, 1, False, error="write /x: no space left on device")], name="i")
    assert found["result"]["failed"] and "n0: i was not pulled: the disk is full (write /x" in found["result"]["msg"]


def test_a_silent_engine_is_given_up_and_its_pull_ended():
    silent = [pulled(1000, 7, takes=50.0) for dummy in range(4)]
    found = run(image_fetch, [*silent, pulled(1000, 7, False, error="ended")], name="i", stall_s=120)
    assert found["result"]["stalled"] and "nothing has come for 120 s" in found["result"]["msg"]
    assert [given.get("stop", False) for dummy, given in found["calls"]] == [False] * 4 + [True]


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no engine"}, {"unreachable": True, "msg": "gone"}])
def test_a_pull_that_cannot_be_looked_at_fails(answer):
    result = run(image_fetch, [answer], name="i")["result"]
    assert result["failed"] and result["msg"] == answer["msg"]


@pytest.mark.parametrize(("plugin", "documented"), [
    (weights_verify, verify_documented), (weights_wait, wait_documented), (weights_fan_out, fan_out_documented), (image_fetch, fetch_documented)])
def test_the_documentation_lists_the_plugin_s_options(plugin, documented):
    options = documented_options(documented)
    taken = {}
    with mock.patch.object(plugin.ActionModule, "validate_argument_spec", lambda self, argument_spec: taken.update(argument_spec) or (None, None)):
        with pytest.raises((TypeError, AttributeError)):
            run(plugin, [])
    assert {name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in options.items()} == {
        name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in taken.items()}
