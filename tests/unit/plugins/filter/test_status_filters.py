# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of status: their names, and that they take the lazy mappings that Ansible hands over."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ascend.vllm.plugins.filter import status_lines, status_questions, status_report, status_table
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of
from ansible_collections.ascend.vllm.tests.unit.plugins.status_cluster import CONTROLLER, Serving


@pytest.mark.parametrize("module", [status_lines, status_questions, status_report, status_table])
def test_registered_under_its_own_name(module):
    assert callable(filter_of(module))


def test_the_report_is_plain_data_from_lazy_facts():
    serving = Serving()
    serving.npu(2)["health"] = "Alarm"
    found = filter_of(status_report)(Lazy(serving.plan), Lazy(serving.hostvars()), CONTROLLER)
    assert json.loads(json.dumps(found)) == found and found["groups"]["vllm"]["state"] == "degraded"
    assert filter_of(status_lines)(found)[0].startswith("vllm: degraded: ")
    assert any("Remedy: " in line for line in filter_of(status_table)(found))


def test_questions_are_plain_data():
    asked = filter_of(status_questions)(Serving().plan)["a2-node0"]
    assert json.loads(json.dumps(asked)) == asked
