# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories and their plans, as short as a test wants them."""

from __future__ import annotations

import pytest
from hypothesis import settings

from ansible_collections.ascend.vllm.plugins.plugin_utils import plan, request

# A test that is slow on a busy machine is not wrong.
settings.register_profile("no_deadline", parent=settings(), deadline=None)
settings.load_profile("no_deadline")


def _hosts(count=2, hardware="a2", npus=None, name="{hardware}-node{index}", **variables):
    """Return hostvars of a group whose hosts state everything; ``variables`` go to every host."""
    return {
        name.format(hardware=hardware, index=index): {
            "vllm_hardware": hardware,
            "vllm_npus": npus or {"a2": 8, "a3": 16}[hardware],
            "vllm_local_ip": f"198.51.{100 + index // 200}.{11 + index % 200}",
            "vllm_nic_name": "eth0",
            **variables,
        }
        for index in range(count)
    }


def _plan(hostvars, groups=None, answers=None):
    """Return the result of planning hostvars, as one group in the order of the mapping unless groups are given."""
    asked = request.build(groups or {"vllm": list(hostvars)}, hostvars)
    return plan.compute(asked, answers)


def _bad(result):
    """Return the checks that stop a run, and that there is no plan then."""
    found = [check for check in result["checks"] if check["status"] in ("fail", "unknown")]
    assert bool(found) == (result["plan"] is None)
    return found


@pytest.fixture
def hosts():
    """Give the function that makes hostvars."""
    return _hosts


@pytest.fixture
def planned():
    """Give the function that plans hostvars."""
    return _plan


@pytest.fixture
def bad():
    """Give the function that picks the checks that stop a run."""
    return _bad


@pytest.fixture
def only_problem():
    """Give the function that plans hostvars and returns the one check that stops it; every check has all of its words."""

    def run(hostvars, groups=None, answers=None):
        found = _bad(_plan(hostvars, groups, answers))
        assert len(found) == 1, [f"{check['host']} {check['device']} {check['check']}: {check['observed']}" for check in found]
        assert all(found[0][key] for key in ("host", "check", "device", "observed", "expected", "remedy"))
        return found[0]

    return run
