# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter verb_hosts: the hosts of every play of every verb."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.filter import verb_hosts
from ansible_collections.ascend.vllm.plugins.plugin_utils import data

FOUND = {"localhost": {"plan_request": {"discover": ["n1"]}, "plan_nodes": ["n0", "n1"], "plan_heads": ["n0"]}}
PROXY = {"name": "vllm-proxy", "host": "n1"}
PLAYBOOKS = pathlib.Path(data.__file__).resolve().parents[2] / "playbooks"


@pytest.mark.parametrize(("which", "hosts"), [("controller", "localhost"), ("discover", ["n1"]), ("nodes", ["n0", "n1"]), ("heads", ["n0"])])
def test_the_hosts_are_those_of_the_plan(which, hosts):
    assert verb_hosts.verb_hosts(FOUND, which) == hosts


@pytest.mark.parametrize("which", ["controller", "discover", "nodes", "heads", "proxies"])
@pytest.mark.parametrize("hostvars", [{}, None])
def test_without_an_inventory_it_is_the_controller(hostvars, which):
    assert verb_hosts.verb_hosts(hostvars, which) == "localhost"


def test_nobody_to_ask_is_a_pattern_that_matches_nobody():
    assert verb_hosts.verb_hosts({"localhost": {"plan_request": {"discover": []}}}, "discover") == ["all", "!all"]


def test_prefill_and_decode_groups_are_acted_on():
    plan = {"groups": {"d": {"role": "decode"}, "p": {"role": "prefill"}}, "proxies": {"proxy": PROXY}}
    localhost = {**FOUND["localhost"], "plan_result": {"plan": plan}}
    assert [verb_hosts.verb_hosts({"localhost": localhost}, which) for which in ("nodes", "heads", "proxies")] == [["n0", "n1"], ["n0"], ["n1"]]


def test_serve_groups_are_acted_on():
    localhost = {**FOUND["localhost"], "plan_result": {"plan": {"groups": {"a": {"role": "serve"}}}}}
    assert verb_hosts.verb_hosts({"localhost": localhost}, "nodes") == ["n0", "n1"]
    assert verb_hosts.verb_hosts({"localhost": localhost}, "proxies") == ["all", "!all"]


def test_replicas_behind_a_proxy_are_acted_on_each_at_its_place():
    localhost = {**FOUND["localhost"], "plan_result": {"plan": {"groups": {"a": {"role": "serve"}, "b": {"role": "serve"}}, "proxies": {"proxy": PROXY}}}}
    assert verb_hosts.verb_hosts({"localhost": localhost}, "nodes") == ["n0", "n1"]
    assert verb_hosts.verb_hosts({"localhost": localhost}, "proxies") == ["n1"]


def test_the_first_play_that_plans_loads_the_filters():
    """What makes every later task quicker must not be lost unseen."""
    plays = yaml.safe_load((PLAYBOOKS / "plan.yml").read_text())
    assert "verb_hosts('controller')" in plays[1]["hosts"]
    assert sorted(path.name for path in (PLAYBOOKS.parent / "plugins" / "filter").glob("*.py"))[-2:] == ["verb_hosts.py", "weights_findings.py"]
