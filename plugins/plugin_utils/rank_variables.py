# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranks and addresses of one group alone, for those who want the numbers without a whole plan."""

from __future__ import annotations

from . import data as data_folders
from . import request as requests
from .messages import is_mapping
from .nodes import network_env
from .plan import settle

#: The name under which a recipe that is given as a mapping is looked up.
GIVEN = "given"


def compute(hosts: list, hostvars, recipe: object = None, discovered: dict | None = None) -> tuple[dict, list]:
    """Return ``({host: variables}, checks)`` of one serve group; the mapping is empty if a check failed.

    ``recipe``: the name of a recipe; a recipe entry as in ``data/recipes``; or just its sizes, a mapping with ``tensor_parallel_size``
    and, if wanted, ``npus_needed``, ``data_parallel_size`` and ``expert_parallel_sizes``. None takes vllm_model.
    """
    request = requests.build({requests.GROUP: hosts}, hostvars)
    if not request["hosts"]:
        return {}, request["checks"]
    # One group, whatever vllm_groups says: the caller names its hosts.
    entry = {
        "name": requests.GROUP,
        "role": "serve",
        "hosts": [str(host) for host in hosts],
        "npus": None,
        "settings": {},
    }
    request = {**request, "hosts": entry["hosts"], "groups": [entry]}
    data, found = data_folders.load_all(request["run"].get("vllm_data_dirs") or [])
    if is_mapping(recipe):
        data["recipes"][GIVEN] = dict(recipe) if "releases" in recipe else _from_sizes(recipe, data)
        entry["settings"]["vllm_model"] = GIVEN
    elif recipe is not None:
        entry["settings"]["vllm_model"] = str(recipe)
    groups, settled, checks, _said = settle(request, discovered or {}, data)
    checks = [*request["checks"], *found, *checks]
    if any(entry["status"] in ("fail", "unknown") for entry in checks):
        return {}, checks
    group = groups[0]
    head_ip = settled[group.head].local_ip
    result = {}
    for number, block in enumerate(group.blocks):
        node = settled[block.host]
        result[block.host] = {
            "rank": number,
            "head": number == 0,
            "headless": number > 0,
            "local_ip": node.local_ip,
            "nic_name": node.nic_name,
            **network_env(node),
            "data_parallel_size": group.data_parallel_size,
            "data_parallel_size_local": block.local,
            "data_parallel_start_rank": block.start,
            "data_parallel_address": head_ip,
            "data_parallel_rpc_port": group.settings["vllm_data_parallel_rpc_port"],
            "tensor_parallel_size": group.tensor_parallel_size,
            "npus": list(block.npus),
        }
    return result, checks


def _from_sizes(sizes, data: dict) -> dict:
    """Return a whole recipe entry made of sizes alone, for every known release and hardware."""
    machine = {"npus_needed": 1, **{key: sizes[key] for key in sizes.keys()}}
    return {
        "source": "given by the caller",
        "weights": {"kind": "local", "id": GIVEN},
        "served_model_name": GIVEN,
        "hardware": {name: machine for name in data["hardware"]},
        "releases": {name: {"flags": {"enable-expert-parallel": True}} for name in data["releases"]},
    }
