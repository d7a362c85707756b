# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""client_progress: what it says when it cannot run a client, check mode, and that its documentation has its options."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.modules import client_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.engine_processes import Processes, serving

GIVEN = {"name": "vllm-client", "group": "vllm", "run_id": "r", "argv": ["true"], "results_dir": "/nonexistent/r", "limit_s": 5, "step": "begin"}


def test_a_missing_image_fails_with_its_remedy(run_module, tmp_path):
    with serving(tmp_path / "d.sock", Processes()):
        found = run_module(client_progress, image="none:1", docker_socket=str(tmp_path / "d.sock"), **GIVEN)
    assert found["failed"] and "vllm-client: found no image none:1 on this node; wanted the image of the client. Remedy: " in found["msg"]


def test_no_engine_fails_and_says_that_a_client_goes_on(run_module):
    found = run_module(client_progress, docker_socket="/none.sock", **GIVEN)
    assert found["failed"] and "/none.sock: No such file or directory. Remedy: " in found["msg"] and "goes on" in found["msg"]


def test_check_mode_asks_nobody(run_module):
    found = run_module(client_progress, check=True, docker_socket="/none.sock", **GIVEN)
    assert (found["failed"], found["changed"], found["running"]) == (False, True, False)
