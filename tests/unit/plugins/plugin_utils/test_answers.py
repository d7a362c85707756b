# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose container is whose: those of a deployment are ours, the engine of a benchmark is not."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import Answers


def test_the_engine_of_a_benchmark_is_no_service_of_ours():
    label = {"ascend.vllm.group": "vllm"}
    containers = [
        {"name": "vllm-rank0", "labels": label, "pids": [1, 2]},
        {"name": "vllm-vllm_latency-tokens200x128", "labels": {**label, "ascend.vllm.purpose": "client"}, "pids": [3]},
        {"name": "other", "labels": {"ascend.vllm.purpose": "client"}, "pids": [4]},
        {"name": "bare", "labels": None, "pids": [5]},
    ]
    answers = Answers(artefacts={"device_containers": containers})
    assert set(answers.own_containers()) == {"vllm-rank0"} and answers.own_pids() == {1, 2}
