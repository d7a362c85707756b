# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link that is gone: completions hang while /health is good. Last, because the core set leaves the pair like that."""

from __future__ import annotations

import pytest

from conftest import ask, complete, lab
from test_day_two import QUICK, STATUS, report


def test_a_dead_link_hangs_completions_while_health_is_good_and_status_says_so(playbook, reports, nodes):
    """What is served is asked for under a time limit: /health alone would say that all is well."""
    given, directory = reports
    lab("fault", "a2-node1", "set", "nic-down")
    try:
        assert ask("/health") == ""
        run = playbook("ascend.vllm.status", *STATUS, *given)
        said = report(directory, "status")["groups"]["vllm"]
        assert run.rc != 0 and said["state"] in ("down", "degraded"), run.out[-4000:]
        assert "/health" in run.text and "ascend.vllm.restart" in run.text
    finally:
        lab("fault", "a2-node1", "clear")


@pytest.mark.extra
def test_restart_of_a_group_that_hangs_does_not_wait_for_its_requests_for_ever(playbook):
    run = playbook("ascend.vllm.restart", *QUICK, "-e", "serve_stop_drain_s=20")
    assert run.rc == 0, run.out[-4000:]
    assert complete()
