# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role supervise: which API the watch of each unit asks."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2.meta
import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "roles" / "supervise" / "templates" / "watch.json.j2"
HEAD = {"url": "https://198.51.100.11:8000", "ca_file": "/etc/ascend-vllm/vllm-rank0/tls_ca.pem"}


@pytest.mark.parametrize(("unit", "wanted"), [
    ({"name": "vllm-rank0", "api": HEAD}, (True, True, HEAD["url"], HEAD["ca_file"])),
    # Of a headless unit nothing is asked; where its group answers is only written down.
    ({"name": "vllm-rank2", "api": None}, (False, False, HEAD["url"], HEAD["ca_file"])),
    ({"name": "vllm-rank2", "api": {"url": "http://198.51.100.12:7100", "ca_file": None}}, (False, True, "http://198.51.100.12:7100", None)),
])
def test_each_watch_asks_the_api_of_its_own_unit(unit, wanted):
    environment = jinja2.Environment()
    environment.filters["to_json"] = json.dumps
    group = {"head": "a", "addresses": {"a": "198.51.100.11"}, "supervise": {"units": ["vllm-rank0", "vllm-rank2"], "port": 13390}, "api": HEAD,
             "api_key_file": None, "answers_alone": False, "served_model_name": "m", "ready_timeout_s": 600}
    numbers = {name: 1 for name in jinja2.meta.find_undeclared_variables(environment.parse(TEMPLATE.read_text()))}
    made = json.loads(environment.from_string(TEMPLATE.read_text()).render(
        {**numbers, "item": {"group": "vllm", **unit}, "supervise_group": group, "supervise_config_dir": "/etc", "supervise_state_dir": "/var"}))
    assert (made["head"], made["asks"], made["url"], made["ca_file"]) == wanted
    assert made["answers_alone"] is False and made["state_file"] == f"/var/{unit['name']}/state.json"
