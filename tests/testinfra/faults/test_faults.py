# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of faults.yml on a pair that serves: found, named with host and device, explained, and nothing touched by looking.

Faults are cleared before the next are set, and the next run would show whatever the clearing left: every run says exactly what is
wrong, and nothing else. The sound pair is looked at before the faults that end the service.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import urllib.request

import pytest
import yaml

from conftest import NODES, lab

HERE = pathlib.Path(__file__).resolve().parent
TABLE = yaml.safe_load((HERE / "faults.yml").read_text())
BATCHES = yaml.safe_load((HERE / "batches.yml").read_text())
REGISTRY = "http://198.51.100.2:5000/v2/ascend/vllm-ascend/manifests"


def runs(table, batches, each):
    """Return the lists of faults that are set together: each alone, or in its batch. What ends the service comes last."""
    together = [] if each else batches
    alone = [[name] for name in table if not any(name in batch for batch in together)]
    return sorted([*together, *alone], key=lambda names: any(table[name].get("service") == "ends" for name in names))


RUNS = runs(TABLE, BATCHES, os.environ.get("FAULTS") == "each")


def test_every_fault_of_the_table_is_set_once():
    """In batches or each alone, no fault is left out and none is set twice."""
    for each in (False, True):
        assert sorted(name for names in runs(TABLE, BATCHES, each) for name in names) == sorted(TABLE)


def clear_all(nodes=NODES):
    """Clear every fault of every node."""
    for node in nodes:
        lab("fault", node, "clear")


@pytest.fixture(scope="module")
def pair_serves(nodes):
    """The pair that converge left: two containers that run, and no fault set."""
    clear_all()
    assert all(node.run("docker ps -q").stdout.split() for node in nodes.values())
    yield
    clear_all()


@pytest.fixture(scope="module")
def copied_tag():
    """The image under a second tag, which no node has: it would have to be fetched."""
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(f"{REGISTRY}/v0.13.0", headers=accept)) as answer:
        kind, manifest = answer.headers["Content-Type"], answer.read()
    put = urllib.request.Request(f"{REGISTRY}/v0.13.0-copy", data=manifest, method="PUT", headers={"Content-Type": kind})
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 201


@pytest.fixture
def preflight(playbook, tmp_path):
    """Run preflight and return ``(run, report, page)``."""

    def run(*args, mesh="rails", inventory="a2_pair"):
        done = playbook("ascend.vllm.preflight", "-e", f"preflight_mesh={mesh}", "-e", f"vllm_report_dir={tmp_path}", *args, inventory=inventory)
        path = tmp_path / "preflight.json"
        assert path.exists(), done.out[-4000:]
        return done, json.loads(path.read_text()), (tmp_path / "preflight.html").read_text()

    return run


def not_passed(report):
    """Return the check results that did not pass."""
    return [check for check in report["checks"] if check["status"] != "pass"]


def matches(wanted, check):
    """Return whether a check result is what an entry of ``expect`` describes."""
    return all(check[key] == value for key, value in wanted.items())


def described(checks):
    """Return check results as lines, for a message."""
    return "\n".join(f"{c['host']} {c['check']} [{c['device']}] {c['status']}: {c['observed']} / {c['expected']}" for c in checks)


def running(nodes):
    """Return every container that runs, with the moment it was started."""
    ask = "docker ps -q --no-trunc | xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}' | grep -v ascend-lab-stranger | sort"
    return {name: node.run(ask).stdout for name, node in nodes.items()}


def test_the_pair_is_sound_when_all_faults_are_cleared(pair_serves, preflight):
    """With every fault cleared, the full mesh included, nothing fails and nothing warns."""
    assert re.findall(r"active: (.*)", lab("fault", NODES[0], "list") + lab("fault", NODES[1], "list")) and "{" not in lab("faults")
    run, report, _page = preflight(mesh="full")
    assert (run.rc, not_passed(report)) == (0, []), described(not_passed(report))
    assert report["mesh"]["sent"] == report["mesh"]["planned"] == report["mesh"]["possible"] == 128


def test_an_accepted_fault_is_shown_and_does_not_stop(pair_serves, preflight):
    """preflight_accept takes a check on one host: shown as accepted, exit status 0; on the other host it still stops."""
    for node in NODES:
        lab("fault", node, "set", "gateway-missing", "npu=7")
    try:
        run, report, page = preflight("-e", "preflight_accept=hccn_gateway@a2-node0")
        assert run.rc != 0
        assert [(c["host"], c["accepted"]) for c in not_passed(report)] == [("a2-node0", True), ("a2-node1", False)]
        run, report, page = preflight("-e", "preflight_accept=hccn_gateway")
        assert (run.rc, report["summary"]["accepted"]) == (0, 2), run.out[-3000:]
        assert "accepted" in page and "accepted" in run.text
    finally:
        clear_all()


def test_a_misspelt_accepted_check_is_refused(pair_serves, playbook):
    """A name that no check has accepts nothing: it is refused before any node is asked, with the name that was meant."""
    run = playbook("ascend.vllm.preflight", "-e", "preflight_accept=hccn_gatway")
    assert run.rc != 0
    assert "preflight_accept" in run.text and "did you mean 'hccn_gateway'" in run.text


def test_a_stranger_beside_the_service_is_named_alone(pair_serves, nodes, preflight):
    """Preflight subtracts what the deployment owns: its own processes hold NPUs and ports, and only the stranger is named."""
    _run, report, _page = preflight()
    own = [check for check in report["checks"] if check["check"] == "npu_processes" and "of this deployment" in check["observed"]]
    assert {check["host"] for check in own} == set(NODES)
    assert not_passed(report) == []


#: Tools that hang or are busy for ever: each call waits for its time limit, half a minute in all. Unit tests of the runner are close.
SLOW = {"npu-smi-hangs", "hccn-tool-hangs"}


@pytest.mark.parametrize("names", [pytest.param(names, marks=pytest.mark.extra if SLOW & set(names) else ()) for names in RUNS], ids="+".join)
def test_faults_are_found_and_named_and_nothing_is_touched(names, pair_serves, copied_tag, nodes, preflight):
    """Exactly the faults that are set are said, with what to do; the service goes on; the exit status follows."""
    entries = [TABLE[name] for name in names]
    before = None if any(entry.get("service") == "ends" for entry in entries) else running(nodes)
    management = any(entry.get("inventory") == "management" for entry in entries)
    inventory = lab("inventory", "--management").strip() if management else "a2_pair"
    mesh = next((entry["mesh"] for entry in entries if "mesh" in entry), "rails")
    try:
        for words in [words for entry in entries for words in entry.get("set", [])]:
            node, *rest = words.split()
            lab("fault", node, "set", *rest)
        run, report, page = preflight(*[arg for entry in entries for arg in entry.get("args", [])], mesh=mesh, inventory=inventory)
    finally:
        clear_all()
    found = not_passed(report)
    expected = [wanted for entry in entries for wanted in entry["expect"]]
    for wanted in expected:
        assert any(matches(wanted, check) for check in found), f"{wanted} is not in:\n{described(found)}\n{run.out[-1500:]}"
    allowed = [{"host": words.split()[0], "check": words.split()[1]} for entry in entries for words in entry.get("also", [])]
    strange = [check for check in found if not any(matches(wanted, check) for wanted in [*expected, *allowed])]
    assert strange == [], f"also said:\n{described(strange)}"
    assert all(check["remedy"] and check["observed"] and "{" not in check["remedy"] for check in found)
    stops = [check for check in found if check["status"] in ("fail", "unknown")]
    assert (run.rc != 0) == bool(stops) == (report["result"] == "fail")
    for check in stops:
        assert f"[{check['status']}] {check['host']}" in run.text and check["check"] in page
    assert all(run.recap(host)["changed"] == 0 for host in NODES)
    if before is not None:
        assert running(nodes) == before
