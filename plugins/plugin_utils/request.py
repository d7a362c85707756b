# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request: what the inventory asks for, converted once, before any node is asked and before anything is computed.

``{schema, hosts, groups: [{name, role, hosts, npus, settings}], run, inputs: {host: {variable: value}}, invalid: {host: [variable]},
discover: [host], checks}``. ``settings`` of a group are what its entry of vllm_groups states, under the variables' full names;
``run`` are the variables that the whole run shares.
"""

from __future__ import annotations

import json
import re

from . import addresses, disaggregation, inputs
from .messages import CONTROLLER, check, did_you_mean, is_mapping, known_names, shown
from .nodes import unstated

SCHEMA = 1
#: The inventory group that the collection serves.
GROUP = "vllm"
ROLES = ("serve", "prefill", "decode")


def build(groups, hostvars) -> dict:
    """Return the request of an inventory.

    ``groups``: {inventory group: [host]}; ``hostvars``: {host: mapping of variables}, both read lazily. Nothing is raised for bad input.
    """
    addresses.require()
    members = [str(host) for host in (groups[GROUP] if GROUP in groups else [])]
    request = {
        "schema": SCHEMA,
        "hosts": [],
        "groups": [],
        "run": {},
        "inputs": {},
        "invalid": {},
        "discover": [],
        "checks": [],
    }
    if not members:
        observed = "no host in it" if GROUP in groups else "no such group"
        remedy = "put the nodes into the group, head node first; or pass the inventory with -i."
        request["checks"].append(
            check(
                CONTROLLER,
                "group_members",
                GROUP,
                observed,
                f"an inventory group '{GROUP}' with the nodes that serve",
                remedy,
            )
        )
        return request
    for host in members:
        values, checks, invalid = inputs.read_host(host, hostvars[host])
        request["inputs"][host] = values
        request["checks"] += checks
        if invalid:
            request["invalid"][host] = invalid
    for name, option in inputs.options().items():
        if option["scope"] == "run":
            value, checks = agreed(name, members, request["inputs"])
            request["run"][name] = value
            request["checks"] += checks
    bad_groups = any("vllm_groups" in names for names in request["invalid"].values())
    if request["run"]["vllm_groups"] is None:
        request["groups"] = (
            [] if bad_groups else [{"name": GROUP, "role": "serve", "hosts": members, "npus": None, "settings": {}}]
        )
    else:
        request["groups"], checks = _entries(request["run"]["vllm_groups"], groups, members)
        request["checks"] += checks
    used = {host for group in request["groups"] for host in group["hosts"]}
    proxy = request["run"]["vllm_proxy"] or {}
    if proxy.get("kind") != "none":
        # It may run on a host that no entry has, which the plan has to know as well.
        used.add(proxy.get("host"))
    request["hosts"] = [host for host in members if host in used]
    idle = [host for host in members if host not in used]
    if request["groups"] and idle and not request["checks"]:
        remedy = "add them to an entry, or ignore this if they are meant to have nothing to do."
        observed = f"{', '.join(idle)}: in no entry"
        request["checks"].append(
            check(idle[0], "host_unused", "vllm_groups", observed, f"every host of {GROUP} in an entry", remedy, "warn")
        )
    request["discover"] = [
        host
        for host in request["hosts"]
        if set(unstated(request["inputs"][host])) - set(request["invalid"].get(host, []))
    ]
    return request


def agreed(name: str, hosts: list, values: dict) -> tuple[object, list]:
    """Return ``(value, checks)`` of a variable that the hosts share, its default where no host states it.

    A host whose value differs from the first host's is named, once a different value.
    """
    default = inputs.defaults().get(name)
    first = values[hosts[0]].get(name, default)
    seen = {_key(first)}
    checks = []
    for host in hosts[1:]:
        value = values[host].get(name, default)
        if _key(value) in seen:
            continue
        seen.add(_key(value))
        wanted = f"{shown(first)} as on {hosts[0]}: the hosts of a group share this variable"
        checks.append(
            check(host, "variable_agrees", name, shown(value), wanted, f"state {name} once, for the inventory group.")
        )
    return first, checks


def _key(value: object) -> str:
    """Return something hashable that is equal for equal values."""
    return json.dumps(value, sort_keys=True)


def _entries(entries: list, groups, members: list) -> tuple[list, list]:
    """Return ``(groups of the request, checks)`` of vllm_groups."""
    result, checks, names = [], [], set()
    known_members = set(members)
    if not entries:
        return [], [
            _wrong(
                members[0],
                "an empty list",
                "one entry or more",
                "leave vllm_groups out to serve all hosts as one group.",
            )
        ]
    for index, entry in enumerate(entries):
        label = f"entry {index + 1}"
        if (
            not is_mapping(entry)
            or not isinstance(entry.get("name"), str)
            # It is part of the names of containers, folders and services; a DNS label has 63 characters at most.
            or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", entry["name"])
        ):
            found = shown(entry.get("name")) if is_mapping(entry) else shown(entry)
            checks.append(
                _wrong(
                    members[0],
                    f"{label}: {found} as its name",
                    "a name of small letters, digits, dots, dashes and underscores, 63 at most",
                    "give every entry a name.",
                )
            )
            continue
        name = entry["name"]
        if name in names:
            checks.append(
                _wrong(
                    members[0],
                    f"{label}: the name {name} a second time",
                    "a name of its own for every entry",
                    "rename one of the two.",
                )
            )
            continue
        names.add(name)
        group, problems = _entry(entry, name, groups, members, known_members)
        checks += problems
        if group:
            result.append(group)
    if not checks:
        # With an entry missing, what is said of the others would be about another deployment.
        checks += disaggregation.both_sides(result, members[0])
    return result, checks


def _entry(entry: dict, name: str, groups, members: list, known_members: set) -> tuple[dict | None, list]:
    """Return ``(group, checks)`` of one entry of vllm_groups whose name is right."""
    checks: list = []

    def refuse(observed, expected, remedy, host=members[0]):
        checks.append(_wrong(host, f"group {name}: {observed}", expected, remedy))

    table = inputs.entry_options()
    known = ["name", "hosts_from", "role", "npus", *table]
    for key in ("role", "hosts_from"):
        if key in entry and not entry[key]:
            refuse(f"{key}: {shown(entry[key])}", f"{key} with a value", f"give it one, or leave {key} out.")
    role = entry.get("role") or "serve"
    if role not in ROLES:
        refuse(f"the role {role!r}", known_names(ROLES), f"{did_you_mean(role, ROLES)}known: {', '.join(ROLES)}.")
    source = entry.get("hosts_from") or GROUP
    hosts = [str(host) for host in groups[source]] if isinstance(source, str) and source in groups else []
    if not hosts:
        refuse(
            f"hosts_from: {source!r}, an inventory group without hosts",
            "an inventory group with hosts",
            f"{'' if isinstance(source, str) and source in groups else did_you_mean(source, groups.keys())}put the hosts into it.",
        )
    for host in hosts:
        if host not in known_members:
            refuse(
                f"{host} of {source} is not in the inventory group {GROUP}",
                f"every host also in {GROUP}",
                f"make {source} a child of {GROUP}.",
                host,
            )
    npus = None
    if not inputs.is_unstated(entry.get("npus")):
        try:
            npus = inputs.npu_list(entry["npus"])
        except inputs.InputError as error:
            refuse(f"npus: {shown(entry['npus'])}", error.expected, "correct npus of the entry.")
    settings = {}
    for key, raw in entry.items():
        if key in ("name", "hosts_from", "role", "npus"):
            continue
        if key not in table:
            refuse(
                f"the key {key!r}",
                known_names(known),
                f"{did_you_mean(key, known)}variables are written without 'vllm_' here; what belongs to a host is stated on the host.",
            )
            continue
        if inputs.is_unstated(raw):
            continue
        try:
            settings[f"vllm_{key}"] = inputs.convert(table[key], raw)
        except inputs.InputError as error:
            refuse(
                f"{key}: {error.observed or shown(raw)}", error.expected, error.remedy or f"correct {key} of the entry."
            )
    if checks:
        return None, checks
    return {"name": name, "role": role, "hosts": hosts, "npus": npus, "settings": settings}, []


def _wrong(host: str, observed: str, expected: str, remedy: str) -> dict:
    """Return the check for something wrong in vllm_groups."""
    return check(host, "groups", "vllm_groups", observed, expected, remedy)
