# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""serve_drain on a scripted drain_progress: how a drain ends, what is shown meanwhile, and what is asked of the head."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.ascend.vllm.plugins.action import serve_drain
from ansible_collections.ascend.vllm.plugins.modules import serve_drain as documented
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options

SECRET = "s3cret"
HOST = "a2-node0"

WHEN = 1800000000.0


def drain(script, check=False, **args):
    """Run the plugin on a script of slices, each with the seconds it takes; return C({result, lines, warnings, calls})."""
    given = dict({"ports": [8000], "urls": ["http://198.51.100.11:8000"], "limit_s": 300}, **args)
    task = SimpleNamespace(args=given, async_val=0, check_mode=check, action="ascend.vllm.serve_drain")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = serve_drain.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    slices, lines, warnings, calls, clock = iter(script), [], [], [], SimpleNamespace(now=100.0)

    def execute(module_name, module_args, task_vars):
        assert module_name == "ascend.vllm.drain_progress" and task_vars["inventory_hostname"] == HOST
        calls.append(module_args)
        answer = dict(next(slices))
        clock.now += answer.pop("takes", 5.0)
        return answer

    with mock.patch.object(plugin, "_execute_module", execute), \
            mock.patch.object(serve_drain, "display", SimpleNamespace(display=lines.append, warning=warnings.append)), \
            mock.patch.object(serve_drain, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: WHEN + clock.now)):
        result = plugin.run(None, {"inventory_hostname": HOST})
    assert SECRET not in str((result, lines, warnings))
    return {"result": result, "lines": lines, "warnings": warnings, "calls": calls}


def seen(running, waiting, tokens, drained=False, why_not=None, **more):
    """Return what drain_progress says of a slice."""
    return dict({"changed": False, "kept_away": why_not is None, "why_not": why_not, "requests": {"running": running, "waiting": waiting}, "tokens": tokens,
                 "drained": drained}, **more)


SILENT = dict(seen(0, 0, None), requests=None)


def test_requests_end():
    found = drain([seen(3, 2, 10), seen(1, 0, 90), seen(0, 0, 95, drained=True, takes=3.2)], api_key=SECRET, ca_file="/etc/ascend-vllm/ca.pem")
    assert found["result"] == {"changed": False, "outcome": "drained", "left": {"running": 0, "waiting": 0}, "kept_away": True, "since": WHEN + 100,
                               "seconds": 13.2}
    assert found["lines"] == [
        "  [    5 s of at most 300 s] a2-node0: 3 requests running, 2 waiting", "  [   10 s of at most 300 s] a2-node0: 1 requests running, 0 waiting"]
    assert found["calls"][0] == {"ports": [8000], "urls": ["http://198.51.100.11:8000"], "api_key": SECRET, "ca_file": "/etc/ascend-vllm/ca.pem",
                                 "alone": False, "slice_s": 5.0, "expire_s": 900}
    # The time for which new ones are kept away covers the rest of the wait and the stop that follows.
    assert [given["expire_s"] for given in found["calls"]] == [900, 895, 890] and found["warnings"] == []


def test_the_limit():
    found = drain([seen(1, 0, count) for count in range(5)], limit_s=12)
    assert (found["result"]["outcome"], found["result"]["left"], found["result"]["seconds"]) == ("limit", {"running": 1, "waiting": 0}, 15.0)
    assert [given["slice_s"] for given in found["calls"]] == [5.0, 5.0, 2.0]


def test_requests_of_which_no_token_comes():
    found = drain([seen(2, 0, 10), seen(2, 0, 11)] + [seen(2, 0, 11)] * 9, stall_s=20)
    assert (found["result"]["outcome"], found["result"]["left"], len(found["calls"])) == ("stalled", {"running": 2, "waiting": 0}, 7)


def test_requests_that_end_or_begin_are_no_stall():
    script = [seen(number, 1, 10) for number in range(9, 2, -1)] + [seen(0, 0, 10, drained=True)]
    assert drain(script, stall_s=8)["result"]["outcome"] == "drained"


def test_an_api_that_does_not_count_tokens_is_not_taken_for_one_that_stands_still():
    found = drain([seen(1, 0, None)] * 30 + [seen(0, 0, None, drained=True)], stall_s=20)
    assert found["result"]["outcome"] == "drained" and found["result"]["seconds"] == 155.0


def test_an_api_that_does_not_say_how_many_there_are():
    found = drain([seen(1, 0, 10), SILENT])
    assert (found["result"]["outcome"], found["result"]["left"], "failed" in found["result"]) == ("silent", None, False)


LATE = dict(SILENT, requests={})


def test_an_api_that_is_too_busy_to_answer_is_asked_until_requests_would_be_cut_off_anyway():
    found = drain([LATE] * 6 + [seen(2, 0, 10), LATE, seen(0, 0, 99, drained=True)])
    assert (found["result"]["outcome"], found["lines"][0]) == ("drained", "  [    5 s of at most 300 s] a2-node0: no answer yet")
    found = drain([seen(2, 0, 10)] + [LATE] * 99)
    assert (found["result"]["outcome"], found["result"]["left"], found["result"]["seconds"]) == ("silent", None, 70.0)
    assert drain([LATE] * 99, limit_s=20)["result"]["seconds"] == 20.0 and drain([LATE] * 99, limit_s=20)["result"]["outcome"] == "silent"
    # An answer in between, which is the same, is no progress.
    found = drain([seen(2, 0, 10), LATE] * 99)
    assert (found["result"]["outcome"], found["result"]["left"]) == ("silent", None) and found["result"]["seconds"] == 70.0


def test_what_nft_does_not_do_is_warned_of_once():
    why = "nft is not installed here"
    found = drain([seen(1, 0, 1, why_not=why), seen(1, 0, 2, why_not=why), seen(0, 0, 2, drained=True, why_not=why)])
    assert found["result"]["outcome"] == "drained" and found["result"]["kept_away"] is False
    assert found["warnings"] == ["a2-node0: new requests are not kept away from port 8000: nft is not installed here. Remedy: install nftables there."]


@pytest.mark.parametrize("more", [{"limit_s": 0}, {"check": True}])
def test_off(more):
    found = drain([], **more)
    assert found["result"] == {"changed": False, "outcome": "off", "left": None, "kept_away": False, "since": None, "seconds": 0.0} and found["calls"] == []


@pytest.mark.parametrize(("answer", "words"), [
    ({"failed": True, "msg": "no room"}, "no room"), ({"unreachable": True, "msg": "gone"}, "gone"), ({}, "the module ended without a result"),
])
def test_a_head_that_cannot_be_asked_ends_it(answer, words):
    result = drain([seen(1, 0, 1), answer])["result"]
    assert result["failed"] and result["msg"] == f"a2-node0: {words}"


@pytest.mark.parametrize("wrong", [{"limit_s": "soon"}, {"limits": 1}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(AnsibleActionFail, match=next(iter(wrong))):
        drain([], **wrong)


def test_the_documentation_lists_the_plugin_s_options():
    options = documented_options(documented)
    with mock.patch.object(serve_drain.ActionModule, "validate_argument_spec", autospec=True, side_effect=KeyboardInterrupt) as validate:
        with pytest.raises(KeyboardInterrupt):
            drain([])
    taken = validate.call_args.kwargs["argument_spec"]
    assert taken["api_key"]["no_log"] is True
    assert {name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in options.items()} == {
        name: (entry["type"], entry.get("default"), entry.get("required", False)) for name, entry in taken.items()}
