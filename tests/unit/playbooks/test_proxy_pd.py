# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role proxy in front of prefill and decode ranks, run by Ansible on this machine with a real vllm-router, without a Docker engine."""

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.ascend.vllm.tests.unit.plugins import router_process
from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.pd_ranks import Decode, Prefill
from ansible_collections.ascend.vllm.tests.unit.plugins.router_process import routed

pytestmark = pytest.mark.skipif(router_process.program() is None, reason="vllm-router is not installed for this Python")
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - include_role: {name: ascend.vllm.proxy, tasks_from: "{{ entry.tasks_from }}"}
      vars: {proxy_backend_group: prefill1, proxy_backend_state: "{{ entry.state | default('absent') }}"}
      loop: "{{ entries }}"
      loop_control: {loop_var: entry}
"""


@pytest.fixture
def run(tmp_path):
    """Return a function (entry points, router, servers of p0, p1 and decode) -> what ansible-playbook said, with its exit status first."""
    (tmp_path / "play.yml").write_text(PLAYBOOK)

    def start(entries, router, servers, **more):
        behind = [{"role": role, "group": group, "url": server.url}
                  for role, group, server in zip(("prefill", "prefill", "decode"), ("prefill0", "prefill1", "decode"), servers)]
        proxy = {"name": "vllm-proxy", "kind": "vllm-router", "mode": "pd", "host": "localhost", "url": router.url, "backends": behind,
                 "next": {"name": "vllm-proxy-next"},
                 "groups": ["prefill0", "prefill1", "decode"], "served_model_name": "m", "api_key_file": None}
        given = {"proxy_all": {"proxy": proxy}, "entries": entries, "ansible_python_interpreter": sys.executable, "ansible_connection": "local", **more}
        (tmp_path / "given.json").write_text(json.dumps(given))
        done = run_playbook("-i", "localhost,", "play.yml", "-e", "@given.json", DOCKER_HOST="unix:///nowhere.sock")
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    with ansible_playbook(tmp_path) as run_playbook:
        yield start


def test_each_pair_and_the_proxy_are_asked_and_a_rank_that_left_comes_back_with_a_start_of_the_proxy(run):
    first, second = Prefill("p0"), Prefill("p1")
    with routed(first, second, Decode(failures=1), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}, {"tasks_from": "backend"}, {"tasks_from": "backend", "state": "present"}], router, servers)
        assert "2 pairs of a prefill and a decode rank work" in said and "itself says the same" in said
        assert set(router.workers()) == {servers[0].url, servers[2].url}
        # Its own pairs alone, and then the engine, which is not here: the proxy is not touched.
        assert "1 pairs of a prefill and a decode rank work" in said and status != 0
        assert "localhost: the Docker engine does not say whether vllm-proxy runs: found" in said and "hand-over" not in said


def test_a_kv_cache_that_arrives_wrong_is_a_failure_and_names_the_pair(run):
    with routed(Prefill("p0"), Prefill("p1"), Decode(garbles=99), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}], router, servers)
        assert status != 0 and "2 of 2 pairs of a prefill and a decode rank say something else than the prefill rank by itself" in said
        assert f"{servers[0].url} to {servers[2].url}: found \" %%%\"" in said and "hccn_tool -i 0 -ip -g" in said
        assert run([{"tasks_from": "verify"}], router, servers, proxy_same=False)[0] == 0


def test_a_pair_that_does_not_work_is_named(run):
    with routed(Prefill("p0"), Prefill("p1"), Decode(deaf_to="p1"), pd=2) as (router, dummy, servers):
        status, said = run([{"tasks_from": "verify"}], router, servers, proxy_pair_attempts=1)
        assert status != 0 and "1 of 2 pairs" in said and f"{servers[1].url} to {servers[2].url}" in said
