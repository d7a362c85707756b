# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: from a request, the data and the nodes' answers to every unit's ranks, addresses, environment and command line.

Pure: nothing is read but the data folders, and the TLS files of a group. All problems of all hosts are collected; there is no plan if one of them fails.
Here everything is settled and checked; what is settled is written down by the module ``units``.
"""

from __future__ import annotations

import re

from . import commandline, disaggregation, inputs, nodes, proxies, ranks, recipes, tls, units
from . import data as data_folders
from .checks import accept_checks
from .messages import check, failed, shown
from .request import agreed

#: The ports that HCCL takes on every host of a job, from HCCL_IF_BASE_PORT on (CANN 8.3 and later).
HCCL_BASE_PORT = 60000
HCCL_PORTS = 32
#: Without a value of these that can be used, whatever the rank arithmetic says would be about another group.
SIZE_VARIABLES = {
    "vllm_model",
    "vllm_ascend_version",
    "vllm_node_rank",
    "vllm_data_parallel_size",
    "vllm_data_parallel_size_local",
    "vllm_tensor_parallel_size",
}
HOST_IP_REASON = (
    "vLLM would otherwise take the address of the default route, which need not be the network between the nodes"
)
BASE_PORT_REASON = "another group on one of its hosts has HCCL's own ports 60000 to 60031"


class Group:
    """One group while it is planned: its settings, data, ranks and command line. Attributes are None until they are settled."""

    def __init__(self, entry: dict, values: dict):
        self.name = entry["name"]
        self.role = entry["role"]
        self.npus = entry["npus"]
        self.entry = entry
        self.hosts, self.checks = ranks.order(
            entry["hosts"],
            {host: values[host]["vllm_node_rank"] for host in entry["hosts"] if "vllm_node_rank" in values[host]},
        )
        self.settings: dict = {}
        self.release: dict = {}
        self.recipe = None
        self.hardware = None
        self.machine: dict = {}
        self.hbm_idle_mb = None
        self.tensor_parallel_size = None
        self.data_parallel_size = None
        self.blocks: list = []
        self.seats: list = []
        self.flags: dict = {}
        self.base_port = HCCL_BASE_PORT
        self.own_base_port = False
        self.envs: dict = {}
        #: Of prefill and decode groups: the first port of a rank's API on each host, the first for KV transfer, hosts shared by both sides.
        self.rank_port = None
        self.kv_port = None
        self.colocated: set = set()

    @property
    def head(self) -> str:
        """Return the host that answers for the group."""
        return self.hosts[0]

    def setting(self, name: str, values: dict):
        """Return a variable of the group: its entry's, else what its hosts agree on, else the default; disagreement is a check."""
        if name in self.entry["settings"] and name not in ("vllm_extra_args", "vllm_extra_env"):
            return self.entry["settings"][name]
        value, checks = agreed(name, self.hosts, values)
        self.checks += checks
        own = self.entry["settings"].get(name)
        return {**value, **own} if own else value

    def host_setting(self, name: str, values: dict):
        """Return a variable that may differ between hosts, as a mapping {host: value}."""
        own = self.entry["settings"].get(name)
        default = inputs.defaults().get(name)
        if name == "vllm_extra_env":
            return {host: {**values[host].get(name, default), **(own or {})} for host in self.hosts}
        return {host: own if own is not None else values[host].get(name, default) for host in self.hosts}


def compute(request: dict, discovered: dict | None = None) -> dict:
    """Return ``{plan, checks, notices}``; ``plan`` is None if a check failed.

    ``discovered``: {host: answer of node_info, or {"error": text}} for the hosts in ``request["discover"]``.
    """
    if not request["groups"]:
        return {"plan": None, "checks": list(request["checks"]), "notices": []}
    data, found = data_folders.load_all(request["run"].get("vllm_data_dirs") or [])
    groups, settled, checks, said = settle(request, discovered or {}, data)
    found += accept_checks(request["run"].get("preflight_accept") or [], data["checks"], request["hosts"])
    checks = _distinct([*request["checks"], *found, *checks])
    plan = None if failed(checks) else units.assemble(groups, settled, request, said)
    return {"plan": plan, "checks": checks, "notices": said}


def settle(request: dict, discovered: dict, data: dict) -> tuple[list, dict, list, list]:
    """Return ``(groups, {host: Node}, checks, notices)``: everything that is known before the plan is written down."""
    settled, checks = settle_nodes(request, discovered, data["hardware"])
    groups = [Group(entry, request["inputs"]) for entry in request["groups"]]
    said: list = []
    for group in groups:
        _settings(group, request["inputs"])
        _data(group, data, settled, request)
        group.checks += _tls(group, request) + _bind(group, settled, discovered)
        _ranks(group, settled, request)
    _share_hosts(groups)
    disaggregation.settle(groups, settled, request)
    for group in groups:
        said += _command(group, settled, request)
    proxy = proxies.choose(groups, settled, request)
    if proxy:
        proxies.judge(proxy, list(request["inputs"]))
    _ports(groups, settled, proxy)
    if request["run"].get("vllm_groups"):
        _name_groups(groups)
    return groups, settled, [*checks, *(entry for group in groups for entry in group.checks)], said


def _name_groups(groups: list) -> None:
    """Put the group's name in front of what was found, where there may be several of them and the check does not say it yet."""
    for group in groups:
        for entry in group.checks:
            if not re.search(rf"\bgroup {re.escape(group.name)}(?![\w.-])", entry["observed"]):
                entry["observed"] = f"group {group.name}: {entry['observed']}"


def settle_nodes(request: dict, discovered: dict, hardware: dict) -> tuple[dict, list]:
    """Return ``({host: Node}, checks)``; a host with a problem is in the checks only."""
    settled, checks = {}, []
    for host in request["hosts"]:
        node, problems = nodes.settle(
            host, request["inputs"][host], discovered.get(host), hardware, request["invalid"].get(host, ())
        )
        checks += problems
        if node:
            settled[host] = node
    found = list(settled.values())
    return settled, checks + nodes.unreachable(found) + nodes.duplicates(found)


def _distinct(checks: list) -> list:
    """Return the checks in their order without exact repetitions: the request's own are in both lists."""
    return list({tuple(entry.values()): entry for entry in checks}.values())


def _settings(group: Group, values: dict) -> None:
    """Settle the variables that the hosts of a group share."""
    for name, option in inputs.options().items():
        if option["scope"] == "group":
            group.settings[name] = group.setting(name, values)


def _data(group: Group, data: dict, settled: dict, request: dict) -> None:
    """Settle release, hardware and recipe of a group, as far as its hosts are settled."""
    release = group.settings["vllm_ascend_version"]
    entry, found = data_folders.find(data["releases"], release, group.head, "vllm_ascend_version", "release")
    group.checks += found
    group.release = entry or {}
    group.checks += _together(group)
    model = group.settings["vllm_model"]
    recipe, found = data_folders.find(data["recipes"], model, group.head, "vllm_model", "recipe")
    group.checks += found
    group.hardware = _one_hardware(group, settled, request)
    group.machine = data["hardware"].get(group.hardware, {})
    group.hbm_idle_mb = (data["checks"].get("npu_hbm_idle", {}).get("limits") or {}).get(group.hardware)
    if recipe and entry and group.hardware:
        group.recipe, found = recipes.select(model, recipe, release, group.hardware, group.head, group.role)
        group.checks += found


def _together(group: Group) -> list:
    """Return checks for settings of a group that do not go together."""
    found, source = [], group.settings["vllm_weights_source"] or {}
    if group.settings["vllm_image_fanout"] == "head" and "@" in (group.settings["vllm_image"] or ""):
        found.append(
            check(
                group.head,
                "variable_value",
                "vllm_image_fanout",
                "head, with an image that is pinned by its digest",
                "an image with a tag: a digest is of a registry, which a copied image does not come from",
                "set vllm_image to the image's tag, or vllm_image_fanout to each.",
            )
        )
    if source.get("host_key") and not group.settings["vllm_weights_token_file"]:
        found.append(
            check(
                group.head,
                "variable_value",
                "vllm_weights_token_file",
                f"nothing, with weights of {source.get('id')}",
                "the private key that this host accepts",
                "set it to a file on the controller; the account needs to read the folder only.",
            )
        )
    return found


def _tls(group: Group, request: dict) -> list:
    """Return a check if certificate and key of a group are not both there, or do not belong together."""
    names = (tls.CERTIFICATE, tls.KEY, tls.CA)
    if any(name in request["invalid"].get(host, ()) for name in names for host in group.hosts):
        return []
    certificate, key, ca_file = (group.settings[name] for name in names)
    if certificate and key:
        problem = tls.problem(certificate, key, ca_file or certificate)
    elif certificate or key or ca_file:
        absent = tls.KEY if certificate else tls.CERTIFICATE
        stated = next(name for name in names if group.settings[name])
        remedy = f"set {absent} to a file on the controller, or remove {stated}."
        problem = absent, f"nothing, with {stated}", f"{tls.CERTIFICATE} and {tls.KEY}, or neither", remedy
    else:
        problem = None
    if problem is None:
        return []
    device, observed, expected, remedy = problem
    return [check(group.head, "tls_files", device, f"group {group.name}: {observed}", expected, remedy)]


def _bind(group: Group, settled: dict, discovered: dict) -> list:
    """Return a check if it is known that the head does not have the address its API is to listen on, or if that is not known."""
    bind = group.settings["vllm_bind_address"]
    node, answer = settled.get(group.head), discovered.get(group.head)
    if disaggregation.is_pd(group):
        # The proxy reaches every rank, and the ranks of a group are on several hosts.
        return [] if bind == "0.0.0.0" else [check(group.head, "bind_address", "vllm_bind_address", f"group {group.name}: {bind}, with role {group.role}",
                                                   "0.0.0.0: the proxy reaches every rank on its host's own address",
                                                   "remove vllm_bind_address for this group.")]
    if node is None or bind in ("0.0.0.0", "127.0.0.1", node.local_ip):
        return []
    expected = f"0.0.0.0, 127.0.0.1 or an address of {group.head}, as {node.local_ip}"
    if answer is None:
        # Everything is stated, so that nobody asked the host; the server ends at once if it does not have the address.
        return [check(group.head, "bind_address", "vllm_bind_address", f"group {group.name}: {bind}, which the host was not asked for", expected,
                      "make sure that it has it: ip -br addr.", "warn")]
    owned = [cidr.partition("/")[0] for port in answer["interfaces"] for cidr in port.get("addresses", [])]
    if bind in owned:
        return []
    return [check(group.head, "bind_address", "vllm_bind_address", f"group {group.name}: {bind}; the host has {', '.join(owned)}", expected,
                  "correct vllm_bind_address, or give the host the address.")]


def _one_hardware(group: Group, settled: dict, request: dict) -> str | None:
    """Return the generation that all hosts of the group have; a second one is refused, naming its first host."""
    found: dict = {}
    for host in group.hosts:
        hardware = settled[host].hardware if host in settled else request["inputs"][host].get("vllm_hardware")
        if hardware:
            found.setdefault(hardware, host)
    first = next(iter(found), None)
    for hardware, host in list(found.items())[1:]:
        remedy = "put them into two groups (vllm_groups), or correct vllm_hardware."
        group.checks.append(
            check(
                host,
                "hardware_agrees",
                "vllm_hardware",
                hardware,
                f"{first} as on {found[first]}: one group is of one generation",
                remedy,
            )
        )
    return first if len(found) == 1 else None


def _ranks(group: Group, settled: dict, request: dict) -> None:
    """Settle the ranks of a group, if its recipe and all of its hosts are settled."""
    refused = {name for host in group.hosts for name in request["invalid"].get(host, ())}
    if not group.recipe or any(host not in settled for host in group.hosts) or refused & SIZE_VARIABLES:
        return
    recipe, values = group.recipe, request["inputs"]
    tp = group.tensor_parallel_size = group.settings["vllm_tensor_parallel_size"] or recipe.tensor_parallel_size
    absent: list = []
    for host in group.hosts:
        npus, found = _npus_of_entry(group, settled[host])
        absent += found
        group.seats.append(ranks.Seat(host, npus, values[host].get("vllm_data_parallel_size_local")))
    group.checks += absent
    if absent:
        return
    group.checks += recipes.heads_check(recipe, tp, group.head)
    blocks, found = ranks.assign(group.seats, tp, group.settings["vllm_data_parallel_size"])
    group.checks += found
    if not blocks:
        return
    for block in blocks:
        if disaggregation.is_pd(group) and not block.local:
            disaggregation.refuse(group, "rank_shares", "vllm_data_parallel_size_local", "0 ranks on its head", "1 rank or more on every host of this role",
                                  "take the host out of the group, or state a share of 1 or more.")
            return
    group.data_parallel_size = dp = sum(block.local for block in blocks)
    flags, found = commandline.merge_flags(recipe.flags, group.settings["vllm_extra_args"], group.head)
    group.checks += found
    group.flags = flags
    present = sum(len(seat.npus) for seat in group.seats)
    expert_parallel = bool(flags.get("enable-expert-parallel"))
    group.checks += recipes.size_checks(recipe, present, group.machine["npus"], group.hosts, dp, tp, expert_parallel)
    group.blocks = blocks


def _npus_of_entry(group: Group, node: nodes.Node) -> tuple[tuple, list]:
    """Return ``(npus, checks)``: the NPUs that the group may use on a host, all or those of its entry; ids that the host has not are refused."""
    if group.npus is None:
        return node.npus, []
    if isinstance(group.npus, int):
        chosen = node.npus[: group.npus]
        absent = group.npus > len(node.npus)
    else:
        chosen = tuple(group.npus)
        absent = bool(set(chosen) - set(node.npus))
    if not absent:
        return chosen, []
    observed, has = f"group {group.name}: npus {shown(group.npus)}", ", ".join(map(str, node.npus))
    return (), [
        check(
            node.host,
            "npus_found",
            "vllm_groups",
            observed,
            f"NPUs of the host: {has}",
            "correct npus of the entry, or vllm_npus.",
        )
    ]


def _share_hosts(groups: list) -> None:
    """Refuse two groups that use one NPU, and give the second group of a host its own HCCL ports."""
    owner: dict = {}
    on_host: dict = {}
    for index, group in enumerate(groups):
        for block in group.blocks:
            for npu in block.npus:
                first = owner.setdefault((block.host, npu), group.name)
                if first != group.name:
                    observed = f"NPU {npu} in group {first} and in group {group.name}"
                    group.checks.append(
                        check(
                            block.host,
                            "npus_shared",
                            "vllm_groups",
                            observed,
                            "every NPU in one group only",
                            "state npus: [..] in both entries, without a common id.",
                        )
                    )
                    break
        shares = any(on_host.get(host) for host in group.hosts)
        for host in group.hosts:
            on_host.setdefault(host, []).append(group.name)
        if shares:
            group.base_port = HCCL_BASE_PORT + HCCL_PORTS * index
            group.own_base_port = True


def _command(group: Group, settled: dict, request: dict) -> list:
    """Settle the environment of every host of a group; return the recipe's notices."""
    if not group.blocks:
        return []
    extra = group.host_setting("vllm_extra_env", request["inputs"])
    for block in group.blocks:
        own, reasons = _environment(group, settled[block.host])
        env, found = commandline.merge_env(own, extra[block.host], block.host)
        group.checks += found + commandline.env_ranges(env, block.host)
        disaggregation.env_checks(group, block.host, env, settled[block.host].local_ip)
        group.envs[block.host] = (env, {name: reason for name, reason in reasons.items() if env.get(name) == own[name]})
    facts = {
        "release": group.settings["vllm_ascend_version"],
        "hardware": group.hardware,
        "role": group.role,
        "nodes": len(group.hosts),
        "npus": group.data_parallel_size * group.tensor_parallel_size,
        "data_parallel_size": group.data_parallel_size,
        "tensor_parallel_size": group.tensor_parallel_size,
        "expert_parallel_size": (
            group.data_parallel_size * group.tensor_parallel_size if group.flags.get("enable-expert-parallel") else 1
        ),
        "env": group.envs[group.head][0],
        "flag": group.flags,
    }
    said, found = recipes.notices(group.recipe, group.name, group.head, facts)
    group.checks += found
    return said


def _environment(group: Group, node: nodes.Node) -> tuple[dict, dict]:
    """Return ``(environment, {name: reason})`` of one host before the inventory's is merged; the reasons are of what was added."""
    env = {**nodes.network_env(node), **group.recipe.env}
    reasons = disaggregation.colocate_env(group, node.host, env)

    def add(name, value, reason):
        if name not in env:
            env[name] = value
            reasons[name] = reason

    add("VLLM_HOST_IP", node.local_ip, HOST_IP_REASON)
    for name, entry in group.recipe.timeouts.items():
        add(name, str(entry["value"]), entry["reason"])
    if group.own_base_port:
        add("HCCL_IF_BASE_PORT", str(group.base_port), BASE_PORT_REASON)
    return env, reasons


def _single_ports(group: Group) -> list:
    """Return ``[(host, variable, port)]`` that a group listens on. The ranks of one process, or of a single host, need fewer to meet and be watched."""
    named = ["vllm_watch_port"] if units.watch_port(group) else []
    if not disaggregation.is_pd(group):
        named = ["vllm_port", *(["vllm_data_parallel_rpc_port"] if len(group.hosts) > 1 else []), *named]
        return [(group.head, variable, group.settings[variable]) for variable in named]
    if group.rank_port is None:
        return []
    own = [(block.host, "vllm_rank_port", group.rank_port + index) for block in group.blocks for index in range(block.local)]
    named = [*(["vllm_data_parallel_rpc_port"] if group.data_parallel_size > 1 else []), *named]
    return own + [(group.head, variable, group.settings[variable]) for variable in named]


def _ports(groups: list, settled: dict, proxy: dict | None) -> None:
    """Refuse a port that is used twice on one host, or that HCCL or Mooncake uses there."""
    taken: dict = {}
    ranges: dict = {}
    single = [(host, variable, port, f"group {group.name}", group) for group in groups for host, variable, port in _single_ports(group)]
    if proxy:
        single += [(proxy["host"], variable, port, "the proxy", proxy["groups"][0]) for variable, port in proxies.ports(proxy)]
    for group in groups:
        for host, (env, _reasons) in group.envs.items():
            base = env.get("HCCL_IF_BASE_PORT", "")
            base = int(base) if base.isdigit() else group.base_port
            ranges.setdefault(host, []).append((base, group))
    for host, variable, port, owner, group in single:
        first = taken.setdefault((host, port), (owner, variable))
        if first != (owner, variable):
            observed = f"{port} for {variable} of {owner} and for {first[1]} of {first[0]}"
            group.checks.append(
                check(host, "ports_distinct", variable, observed, "each port once on a host", f"set {variable} to a free port.")
            )
        if port > 65535:
            group.checks.append(
                check(host, "ports_distinct", variable, f"{port} for {variable} of {owner}", "a port up to 65535", f"set {variable} to a lower port.")
            )
        # Of a group whose environment is not settled, its own ports; HCCL has none on a host that only runs the proxy.
        for base, other in ranges.get(host, [(group.base_port, group)] if host in group.hosts else []):
            if base <= port < base + HCCL_PORTS:
                observed = f"{port}, inside HCCL's ports {base} to {base + HCCL_PORTS - 1} of group {other.name}"
                group.checks.append(
                    check(
                        host,
                        "ports_distinct",
                        variable,
                        observed,
                        "a port that HCCL does not use",
                        f"set {variable} to a port below {HCCL_BASE_PORT}.",
                    )
                )
    hccl = {host: [(base, HCCL_PORTS, other) for base, other in entries] for host, entries in ranges.items()}
    disaggregation.port_checks(groups, settled, [entry[:4] for entry in single], hccl)
    for host, entries in ranges.items():
        entries = sorted(entries, key=lambda entry: entry[0])
        for (base, first), (following, second) in zip(entries, entries[1:]):
            if following < base + HCCL_PORTS:
                observed = f"HCCL_IF_BASE_PORT {following} of group {second.name} within {HCCL_PORTS} ports of {base} of group {first.name}"
                second.checks.append(
                    check(
                        host,
                        "ports_distinct",
                        "vllm_extra_env",
                        observed,
                        f"base ports {HCCL_PORTS} or more apart",
                        "correct or remove HCCL_IF_BASE_PORT in vllm_extra_env.",
                    )
                )
