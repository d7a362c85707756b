# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hccn_mesh with a scripted hccn_ping: slices, progress, and a tool that gives up."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure

from ansible_collections.ascend.vllm.plugins.action import hccn_mesh
from ansible_collections.ascend.vllm.plugins.modules import hccn_mesh as documented
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import documented_options

H = "a2-node0"
PINGS = [{"phy_id": number, "address": f"10.20.1.{number + 10}", "kind": "roce"} for number in range(6)]


def answers(statuses, seconds=2.0):
    """Return a slice of hccn_ping that sends as many pings as there are statuses."""
    return {"changed": False, "statuses": statuses, "seconds": seconds}


def run(script, pings=PINGS, **args):
    """Run the plugin on a script of slices; return C({result, lines, calls})."""
    task = SimpleNamespace(args={"pings": pings, **args}, async_val=0, check_mode=False, action="ascend.vllm.hccn_mesh")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = hccn_mesh.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    slices, lines, calls, clock = iter(script), [], [], SimpleNamespace(now=100.0)

    def execute(module_name, module_args, task_vars):
        assert module_name == "ascend.vllm.hccn_ping" and task_vars["inventory_hostname"] == H
        calls.append(module_args)
        answer = next(slices)
        if isinstance(answer, Exception):
            raise answer
        if "statuses" not in answer:
            return answer
        clock.now += answer["seconds"]
        results = [{**ping, "status": status} for ping, status in zip(module_args["pings"], answer["statuses"])]
        return {"changed": False, "results": results, "left": len(module_args["pings"]) - len(results)}

    with mock.patch.object(plugin, "_execute_module", execute), mock.patch.object(hccn_mesh, "display", SimpleNamespace(display=lines.append)), \
            mock.patch.object(hccn_mesh, "time", SimpleNamespace(monotonic=lambda: clock.now)):
        result = plugin.run(None, {"inventory_hostname": H})
    return {"result": result, "lines": lines, "calls": calls}


def test_all_pings_in_one_slice():
    found = run([answers(["pass"] * 6)])
    assert found["result"] == {"changed": False, "results": [{**ping, "status": "pass"} for ping in PINGS], "left": 0, "seconds": 2.0}
    assert found["calls"] == [{"pings": PINGS, "budget_s": 5.0}] and found["lines"] == []


def test_slices_go_on_where_the_last_one_ended():
    found = run([answers(["pass", "fail"]), answers(["pass"]), answers(["unknown", "pass", "pass"])], slice_s=1.5, hccn_tool_path="/opt/hccn_tool")
    assert [call["pings"] for call in found["calls"]] == [PINGS, PINGS[2:], PINGS[3:]]
    assert all((call["budget_s"], call["hccn_tool_path"]) == (1.5, "/opt/hccn_tool") for call in found["calls"])
    assert [entry["status"] for entry in found["result"]["results"]] == ["pass", "fail", "pass", "unknown", "pass", "pass"]
    assert [entry["address"] for entry in found["result"]["results"]] == [ping["address"] for ping in PINGS]
    assert (found["result"]["left"], found["result"]["seconds"]) == (0, 6.0)
    assert [line.strip() for line in found["lines"]] == [
        "[    2 s] a2-node0: 2 of 6 pings, 1 failed, about 4 s left", "[    4 s] a2-node0: 3 of 6 pings, 1 failed, about 4 s left"]


def test_nothing_to_ping():
    found = run([], pings=[])
    assert found["result"] == {"changed": False, "results": [], "left": 0, "seconds": 0.0} and found["calls"] == []


def test_a_tool_that_stays_busy_is_not_asked_for_ever():
    found = run([answers(["pass", "unknown"]), answers(["unknown", "unknown"])])
    assert len(found["calls"]) == 2 and found["result"]["left"] == 2 and "failed" not in found["result"]
    assert [entry["status"] for entry in found["result"]["results"]] == ["pass", "unknown", "unknown", "unknown"]


def test_a_tool_that_is_busy_for_a_while_is_asked_again():
    found = run([answers(["unknown", "pass"]), answers(["pass"] * 4)])
    assert found["result"]["left"] == 0


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "hccn_tool was not found", "searched": ["/usr/bin"]}, {"msg": "MODULE FAILURE"}])
def test_a_module_that_cannot_run_fails(answer):
    found = run([answer])
    assert found["result"] == {**answer, "failed": True, "seconds": 0.0} and len(found["calls"]) == 1


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "MODULE FAILURE"}, {"results": [], "left": 4}])
def test_a_module_that_stops_later_leaves_what_was_sent(answer):
    found = run([answers(["pass", "pass"]), answer])
    assert (len(found["result"]["results"]), found["result"]["left"], found["result"]["changed"]) == (2, 4, False)


def test_a_module_that_sends_nothing_ends_it():
    assert run([{"results": [], "left": 6}])["result"] == {"changed": False, "results": [], "left": 6, "seconds": 0.0}


def test_a_lost_connection_is_ansibles_to_tell():
    with pytest.raises(AnsibleConnectionFailure):
        run([answers(["pass"]), AnsibleConnectionFailure("timed out")])


@pytest.mark.parametrize("wrong", [{"slice_s": "soon"}, {"pings": None}, {"slize_s": 1}, {"pings": ["x"]}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(AnsibleActionFail, match=next(iter(wrong))):
        run([answers(["pass"] * 6)], **wrong)


def test_the_documentation_states_the_arguments_that_are_taken():
    options = documented_options(documented)
    with mock.patch.object(hccn_mesh.ActionModule, "validate_argument_spec", autospec=True, side_effect=KeyboardInterrupt) as validate:
        with pytest.raises(KeyboardInterrupt):
            run([])
    spec = validate.call_args.kwargs["argument_spec"]
    assert set(spec) == set(options)
    for name, option in options.items():
        taken = {key: spec[name].get(key) for key in ("type", "elements", "default")}
        assert taken == {key: option.get(key) for key in ("type", "elements", "default")}, name
        assert bool(spec[name].get("required")) == bool(option.get("required")), name


@pytest.mark.parametrize(("done", "total", "elapsed", "text"), [
    (["pass"], 64, 2.1, "[    2 s] h: 1 of 64 pings, 0 failed, about 2 min left"),
    (["pass", "unknown"], 4, 5.0, "[    5 s] h: 2 of 4 pings, 1 failed, about 5 s left"),
    (["pass"] * 4, 4, 5.0, "[    5 s] h: 4 of 4 pings, 0 failed, about 0 s left"),
])
def test_progress(done, total, elapsed, text):
    assert hccn_mesh.progress("h", [{"status": status} for status in done], total, elapsed) == text
