# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefill-decode disaggregation: what groups of the roles prefill and decode need of each other before a plan is written down.

Each rank of such a group is one ``vllm serve`` in a container of its own, with its own port and NPUs (external load balancing). The KV cache
goes from a prefill rank to a decode rank by a Mooncake connector, which is told the sizes of both sides and listens on one port an NPU:
``kv_port + data_parallel_rank * tp`` is the first of a rank (vllm_ascend/distributed/kv_transfer/kv_p2p/mooncake_connector.py at v0.23.0,
the same at v0.13.0; pipeline and context parallel sizes, which would multiply it, are not planned). A ``group`` is a plan.Group whose ranks
are settled.
"""

from __future__ import annotations

from . import commandline, versions
from .messages import check, is_mapping, shown

#: Role of a group -> ``kv_role`` of its connector.
KV_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
#: Mooncake's AscendDirectTransport takes random ports from here on, this many an NPU of the node
#: (vllm-ascend docs, pd_disaggregation_mooncake_multi_node.md, kv_port Configuration Guide).
MOONCAKE_PORT, MOONCAKE_PORTS = 20000, 1000
#: A group that shares a host with earlier ones begins at the next multiple, as that page's 36000, 36100, 36200.
KV_PORT_STEP = 100
LAST_PORT = 65535
CONNECTOR = "MooncakeConnectorV1"
#: Connectors of vllm-ascend that take the same sizes and ports and are asked by way of prefill first, as both proxies do -> the first release that
#: registers it (vllm_ascend/distributed/__init__.py, from v0.14.0rc1 on vllm_ascend/distributed/kv_transfer/__init__.py, at each tag).
CONNECTORS = {CONNECTOR: "v0.11.0rc0", "MooncakeHybridConnector": "v0.20.2rc1"}
#: Options by which the bytes of a KV cache mean something else -> the first release that lets the sides differ in it; None: none does. A decode rank
#: copies as many bytes a block as its own blocks have; of another block size it is told since v0.23.0rc1 (mooncake_connector.py: ``block_len`` where
#: ``batch_transfer_sync_read`` is called, and ``remote_block_size`` in ``_local_kernel_ids_for_shard``).
SAME_CACHE = {"block-size": "v0.23.0rc1", "kv-cache-dtype": None, "dtype": None}
COLOCATE_REASON = "prefill and decode are both on this host; KV transfer inside one node needs it (vllm-ascend issue 4866)"
HOST_IP = "VLLM_HOST_IP"
PCIE, ROCE = "HCCL_INTRA_PCIE_ENABLE", "HCCL_INTRA_ROCE_ENABLE"
#: In a container that has its own NPUs only, they are numbered from 0; whatever is set here would name others
#: (vllm-ascend pull requests 12959 and 16256).
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
#: What has to be in the container of a rank: without them what comes out is wrong, and nothing says so (vllm-ascend issue 7711).
HCCN_CONF, HCCN_TOOL = "/etc/hccn.conf", "/usr/local/Ascend/driver/tools/hccn_tool"


def is_pd(group) -> bool:
    """Return whether a group is one half of prefill-decode disaggregation."""
    return group.role in KV_ROLES


def answers_alone(group) -> bool:
    """Return whether a rank may be asked for a completion that it has to compute wholly by itself; a decode rank may not.

    With MLAPO and 1024 batched tokens or fewer, as the recipes have it, a consumer drops the weights that only a prefill needs, and ends at a prompt
    (vllm_ascend/attention/mla_v1.py, ``_process_weights_for_fused_mlapo`` and ``forward``, at v0.13.0 and later).
    """
    return group.role != "decode"


def refuse(group, name: str, variable: str, observed: str, expected: str, remedy: str, host: str | None = None) -> None:
    """Add a problem of a group to its checks, with the group's name in front."""
    group.checks.append(check(host or group.head, name, variable, f"group {group.name}: {observed}", expected, remedy))


def both_sides(groups: list, host: str) -> list:
    """Return a check if there is a prefill group and no decode group, or the other way round; by the entries alone."""
    roles = {entry["role"] for entry in groups}
    found = []
    for side, other in (("prefill", "decode"), ("decode", "prefill")):
        if side in roles and other not in roles:
            names = ", ".join(entry["name"] for entry in groups if entry["role"] == side)
            found.append(
                check(
                    host,
                    "pd_roles",
                    "vllm_groups",
                    f"group {names}: role {side}, and no group of role {other}",
                    "one group or more of each of the roles prefill and decode",
                    f"add an entry with role: {other}, or serve with role: serve.",
                )
            )
    return found


def settle(groups: list, settled: dict, request: dict) -> None:
    """Settle ports and connector of every prefill and decode group, and refuse what does not go together."""
    mine = [group for group in groups if is_pd(group)]
    for group in groups:
        _unread(group, mine, request)
        if group.blocks:
            _options(group)
    _same(mine)
    _colocated(mine, bool(request["run"].get("vllm_pd_colocate")))
    whole = [group for group in mine if group.blocks]
    for group in whole:
        _ports(group, whole, settled)
    sides = {role: next((group for group in whole if group.role == role), None) for role in KV_ROLES}
    if not all(sides.values()):
        return
    for group in whole:
        _tensor_parallel(group, sides)
        _speculative(group, sides)
        group.flags["kv-transfer-config"] = transfer_config(group, sides["prefill"], sides["decode"])


def _additional(group) -> dict:
    """Return ``--additional-config`` of a group."""
    value = group.flags.get("additional-config")
    return value if is_mapping(value) else {}


def _unread(group, mine: list, request: dict) -> None:
    """Warn of what an entry states and nobody reads in a group of its role."""
    names = ("vllm_port",) if is_pd(group) else ("vllm_kv_port", "vllm_rank_port")
    for name in [name for name in names if name in group.entry["settings"]]:
        key = name[len("vllm_"):]
        instead = "rank_port is the port of the first rank of each host" if is_pd(group) else "port is where the head answers"
        group.checks.append(check(group.head, "groups", "vllm_groups", f"group {group.name}: {key} in a group of role {group.role}",
                                  "a key that this role reads", f"remove {key} from the entry; {instead}.", "warn"))
    if mine and not is_pd(group) and request["run"].get("vllm_proxy") is not None:
        group.checks.append(check(group.head, "proxy", "vllm_proxy", f"group {group.name}: role serve beside prefill and decode groups, which have the proxy",
                                  "a proxy in front of every group", f"ask {group.name} at its own address, or plan it in an inventory of its own.", "warn"))


def _options(group) -> None:
    """Refuse options that vLLM or vllm-ascend would refuse, or silently drop, in a group of this role.

    Source: vllm_ascend/platform.py and ascend_config.py at v0.23.0; the tutorial on balance scheduling; additional_config.md.
    """
    config = _additional(group)
    extra = "vllm_extra_args"
    if config.get("recompute_scheduler_enable") and group.role != "decode":
        refuse(group, "pd_options", extra, f"recompute_scheduler_enable in a group of role {group.role}", "the recompute scheduler in decode groups only",
               "set additional-config: {recompute_scheduler_enable: ..} in the decode groups' entries only.")
    if config.get("enable_kv_nz") and group.role != "decode":
        refuse(group, "pd_options", extra, f"enable_kv_nz in a group of role {group.role}", "enable_kv_nz in decode groups only", "remove it here.")
    _finegrained(group, config.get("finegrained_tp_config"))
    speculative = group.flags.get("speculative-config")
    if _speculated(group) == 0:
        refuse(group, "speculative_tokens", extra, f"num_speculative_tokens: {shown(speculative['num_speculative_tokens'])}", "a number of tokens, 1 or more",
               "correct it, or remove speculative-config for no speculation.")
    if not is_pd(group):
        return
    scheduler = config.get("scheduler_config")
    if config.get("enable_balance_scheduling") or (is_mapping(scheduler) and scheduler.get("enable_balance_scheduling")):
        refuse(group, "balance_scheduling", extra, f"balance scheduling in a group of role {group.role}",
               "no balance scheduling where prefill and decode are separated", "remove enable_balance_scheduling from additional-config for this group.")
    if group.settings["vllm_tls_certificate_file"]:
        # Whatever is in front of them, the collection's proxy or another: both that are known ask their backends over HTTP (proxies.py).
        refuse(group, "pd_options", "vllm_tls_certificate_file", f"TLS in a group of role {group.role}", "no TLS there: a proxy asks each rank over HTTP",
               "remove vllm_tls_certificate_file and vllm_tls_key_file for this group, and keep the ports of its hosts to the network between the nodes.")
    _connector(group)
    _mounts(group)


def _mounts(group) -> None:
    """Refuse hardware data of a site by which a rank's container would lack what the connector needs in there."""
    targets = [entry["target"] for entry in group.machine.get("mounts") or []]
    for path in (HCCN_CONF, HCCN_TOOL):
        if path not in targets:
            refuse(group, "pd_mounts", "vllm_data_dirs", f"no mount {path} in the data of hardware {group.hardware}", f"{path} in the container of each rank",
                   f"add a mount with target: {path} to that hardware's entry; without it the output is wrong, and nothing says so.")


def _finegrained(group, sizes: object) -> None:
    """Refuse sizes of ``finegrained_tp_config`` that do not divide the DP size, and output-projection TP where it cannot be."""
    if sizes is not None and not is_mapping(sizes):
        refuse(group, "finegrained_tp", "vllm_extra_args", f"finegrained_tp_config: {shown(sizes)}", "a mapping of sizes", "write it as YAML.")
    for name, size in (sizes.items() if is_mapping(sizes) else ()):
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            refuse(group, "finegrained_tp", "vllm_extra_args", f"{name}: {shown(size)}", "a number of NPUs, 0 for off", f"correct {name}.")
            continue
        if not size:
            continue
        if group.data_parallel_size % size:
            divisors = [number for number in range(1, group.data_parallel_size + 1) if group.data_parallel_size % number == 0]
            refuse(group, "finegrained_tp", "vllm_extra_args", f"{name} {size} with DP {group.data_parallel_size}", f"a {name} that divides the DP size",
                   f"set it to one of {', '.join(map(str, divisors))}, or remove it.")
        if name == "oproj_tensor_parallel_size" and (group.role != "decode" or group.tensor_parallel_size != 1 or group.flags.get("enforce-eager")):
            eager = ", enforce-eager" if group.flags.get("enforce-eager") else ""
            refuse(group, "finegrained_tp", "vllm_extra_args", f"{name} {size} with role {group.role}, TP {group.tensor_parallel_size}{eager}",
                   "it in a decode group with TP 1 in graph mode only", f"remove {name} for this group.")


def _stated_connector(group):
    """Return the connector that a ``--kv-transfer-config`` names, CONNECTOR where it names none."""
    stated = group.flags.get("kv-transfer-config")
    return stated.get("kv_connector", CONNECTOR) if is_mapping(stated) else CONNECTOR


def _connector(group) -> None:
    """Refuse what a ``--kv-transfer-config`` states that the planner computes: the real ports, roles and sizes."""
    stated = group.flags.get("kv-transfer-config")
    if stated is None:
        return
    if not is_mapping(stated):
        refuse(group, "kv_transfer", "vllm_extra_args", f"kv-transfer-config: {shown(stated)}", "a mapping", "write it as YAML.")
        group.flags.pop("kv-transfer-config")
        return
    inner = stated.get("kv_connector_extra_config")
    computed = {"kv_role": "the role of the group's entry", "kv_port": "kv_port of the group's entry", "engine_id": "nothing: vLLM makes a unique one"}
    taken = [(name, instead) for name, instead in computed.items() if name in stated]
    taken += [(f"kv_connector_extra_config.{side}", f"the sizes of the {side} groups") for side in KV_ROLES if is_mapping(inner) and side in inner]
    for name, instead in taken:
        refuse(group, "kv_transfer", "vllm_extra_args", f"{name} in kv-transfer-config", "nothing there that the planner computes", f"use {instead}.")
    if inner is not None and not is_mapping(inner):
        refuse(group, "kv_transfer", "vllm_extra_args", f"kv_connector_extra_config: {shown(inner)}", "a mapping", "write it as YAML.")
    connector, release = _stated_connector(group), group.settings["vllm_ascend_version"]
    if not isinstance(connector, str) or connector not in CONNECTORS:
        refuse(group, "kv_transfer", "vllm_extra_args", f"the connector {shown(connector)}", f"one of {', '.join(CONNECTORS)}",
               "the proxies ask prefill first, as these connectors want it.")
    elif versions.older(release, CONNECTORS[connector]):
        refuse(group, "kv_transfer", "vllm_extra_args", f"the connector {connector} with release {release}", f"release {CONNECTORS[connector]} or newer for it",
               f"use {CONNECTOR}, or set vllm_ascend_version.")


def _same(mine: list) -> None:
    """Refuse groups of one side that differ in size, and groups of either side that differ in what is served."""
    first: dict = {}
    for group in [group for group in mine if group.blocks]:
        one = first.setdefault(group.role, group)
        if (one.data_parallel_size, one.tensor_parallel_size) != (group.data_parallel_size, group.tensor_parallel_size):
            refuse(group, "pd_sizes", "vllm_data_parallel_size", f"DP {group.data_parallel_size} x TP {group.tensor_parallel_size}",
                   f"DP {one.data_parallel_size} x TP {one.tensor_parallel_size} as group {one.name}: the other side is told one size for all groups of "
                   f"role {group.role}",
                   "give every group of this role the same data_parallel_size and tensor_parallel_size.")
        _same_cache(group, next(other for other in mine if other.blocks))
    for group in mine[1:]:
        for name, what in (("vllm_model", "the recipe"), ("vllm_served_model_name", "the name")):
            theirs, own = _served(mine[0], name), _served(group, name)
            if theirs and own and theirs != own:
                refuse(group, "pd_model", name, f"{own}", f"{theirs} as group {mine[0].name}: a request goes through prefill and decode with one model",
                       f"state {what} once for all groups of roles prefill and decode.")
        theirs, own = mine[0].settings.get("vllm_api_key_file"), group.settings.get("vllm_api_key_file")
        if theirs != own:
            refuse(group, "pd_model", "vllm_api_key_file", own or "nothing", f"{theirs or 'nothing'} as group {mine[0].name}: the proxy sends one key to all",
                   "state it once for all groups of roles prefill and decode.")


def _same_cache(group, one) -> None:
    """Refuse a group that keeps its KV cache in another form than ``one``; say where decode ends before prefill."""
    for name, since in SAME_CACHE.items():
        own, theirs = group.flags.get(name), one.flags.get(name)
        told = since and not any(versions.older(side.settings["vllm_ascend_version"], since) for side in (group, one))
        if own != theirs and not told:
            refuse(group, "pd_cache", "vllm_extra_args", f"{name} {'not stated' if own is None else own}",
                   f"{'none stated' if theirs is None else theirs} as group {one.name}: what one side writes is what the other reads",
                   f"state {name} once for all groups of roles prefill and decode, or for none.")
    own, theirs = _stated_connector(group), _stated_connector(one)
    if own != theirs:
        refuse(group, "kv_transfer", "vllm_extra_args", f"the connector {shown(own)}",
               f"{shown(theirs)} as group {one.name}: the two sides speak with each other",
               "state one kv_connector for all groups of roles prefill and decode.")
    own, theirs = group.flags.get("max-model-len"), one.flags.get("max-model-len")
    if group.role != one.role and own != theirs:
        group.checks.append(check(
            group.head, "pd_cache", "vllm_extra_args", f"group {group.name}: max-model-len {own or 'of the model'}",
            f"{theirs or 'that of the model'} as group {one.name}: a request has to fit both", "state one max-model-len for both sides.", "warn"))


def _served(group, name: str):
    """Return the recipe's name, or the name under which a group answers, as far as they are known."""
    own = group.settings.get(name)
    return own or (group.recipe.served_model_name if name == "vllm_served_model_name" and group.recipe else None)


def _colocated(mine: list, allowed: bool) -> None:
    """Note the hosts that have both a prefill and a decode group, and refuse them unless that is allowed."""
    prefill = {host: group for group in reversed(mine) if group.role == "prefill" for host in group.hosts}
    for group in [group for group in mine if group.role == "decode"]:
        for host in group.hosts:
            other = prefill.get(host)
            if other is None:
                continue
            for one in [entry for entry in mine if host in entry.hosts]:
                one.colocated.add(host)
            if not allowed:
                refuse(group, "pd_same_node", "vllm_pd_colocate", f"decode on {host}, where group {other.name} is prefill",
                       "prefill and decode on different nodes",
                       "set vllm_pd_colocate: true to allow it, or give the groups different hosts (hosts_from).", host)


def colocate_env(group, host: str, env: dict) -> dict:
    """Return ``{name: reason}`` of what is set in ``env`` for a host with both sides; the recipe's own switch for PCIe excludes it."""
    if host not in group.colocated:
        return {}
    env.pop(PCIE, None)
    env[ROCE] = "1"
    return {ROCE: COLOCATE_REASON}


def env_checks(group, host: str, env: dict, address: str) -> None:
    """Refuse an environment that prefill-decode does not work with; ``address``: of the host, as the plan has it.

    Source: CANN, HCCL_INTRA_ROCE_ENABLE; vllm-ascend pull request 12959; vLLM's ``get_ip`` for the address of a handshake.
    """
    if not is_pd(group):
        return
    extra = "vllm_extra_env"
    if env.get("VLLM_ASCEND_BALANCE_SCHEDULING", "0") not in ("0", ""):
        refuse(group, "balance_scheduling", extra, "VLLM_ASCEND_BALANCE_SCHEDULING is on", "no balance scheduling where prefill and decode are separated",
               f"set {extra}: {{VLLM_ASCEND_BALANCE_SCHEDULING: null}} for this group.", host)
    if env.get(HOST_IP) != address:
        refuse(group, "pd_options", extra, f"{HOST_IP}={env.get(HOST_IP, 'nothing')}", f"{address}: the other side fetches the KV cache from there",
               f"remove {HOST_IP} from {extra}; vllm_local_ip states the address of a host.", host)
    if VISIBLE in env:
        refuse(group, "pd_options", extra, f"{VISIBLE}={env[VISIBLE]}", "nothing: each rank's container has its own NPUs only, numbered from 0",
               f"remove {VISIBLE}; npus of the group's entry states which NPUs it has.", host)
    if env.get(PCIE) == "1" and env.get(ROCE) == "1":
        refuse(group, "pd_options", extra, f"{PCIE}=1 with {ROCE}=1", "one of the two: HCCL does not support both", f"set one of them to null in {extra}.",
               host)
    if host in group.colocated and env.get(ROCE) != "1":
        refuse(group, "pd_same_node", extra, f"{ROCE}={env.get(ROCE, 'nothing')} on a host with prefill and decode", f"{ROCE}=1 there",
               f"remove it from {extra}.", host)


def _ports(group, mine: list, settled: dict) -> None:
    """Settle the first API port of a group on its hosts, and its kv_port: those stated, else the first that no earlier group of a shared host has."""
    earlier = [other for other in mine[: mine.index(group)] if set(other.hosts) & set(group.hosts)]
    own = group.entry["settings"]
    group.rank_port = first = group.settings["vllm_rank_port"]
    if "vllm_rank_port" not in own:
        group.rank_port = max([first, *(other.rank_port + most(other) for other in earlier)])
    low = max(mooncake_end(settled[host], group.machine) for host in group.hosts)
    stated = group.settings["vllm_kv_port"]
    group.kv_port = low if stated is None else stated
    if "vllm_kv_port" not in own:
        ends = [other.kv_port + kv_span(other) for other in earlier]
        group.kv_port = max([group.kv_port, *(-(-end // KV_PORT_STEP) * KV_PORT_STEP for end in ends)])


def most(group) -> int:
    """Return the largest number of ranks that a group has on one host."""
    return max(block.local for block in group.blocks)


def kv_span(group) -> int:
    """Return how many ports a group has for handing over the KV cache, one an NPU."""
    return group.data_parallel_size * group.tensor_parallel_size


def kv_slice(group, block) -> tuple[int, int]:
    """Return ``(first, last)`` of the ports that the ranks of one host listen on for handing over the KV cache."""
    first = group.kv_port + block.start * group.tensor_parallel_size
    return first, first + block.local * group.tensor_parallel_size - 1


def mooncake_end(node, machine: dict) -> int:
    """Return the first port above Mooncake's random ones: by the NPUs that a node of this hardware has, or by a higher id."""
    return MOONCAKE_PORT + MOONCAKE_PORTS * max(machine["npus"], max(node.npus) + 1)


def port_checks(groups: list, settled: dict, single: list, ranges: dict) -> None:
    """Refuse ports for handing over the KV cache that meet anything else on a host: Mooncake's, HCCL's, each other, an API.

    HCCL's ports must not meet Mooncake's either. ``single``: ``[(host, variable, port, owner)]``; ``ranges``: ``{host: [(HCCL's first port,
    how many, group)]}``.
    """
    mine = [group for group in groups if is_pd(group) and group.kv_port is not None]
    by_host: dict = {}
    for host, variable, port, name in single:
        by_host.setdefault(host, []).append((port, port, f"{variable} {port} of {name}"))
    seen: dict = {}
    for group in mine:
        for block in group.blocks:
            low, high = kv_slice(group, block)
            end = mooncake_end(settled[block.host], group.machine)
            taken = [(MOONCAKE_PORT, end - 1, "Mooncake's random ports, 1000 an NPU")]
            taken += [(base, base + count - 1, f"HCCL's ports of group {other.name}") for base, count, other in ranges.get(block.host, [])]
            taken += by_host.get(block.host, [])
            taken += [(first, last, f"the KV ports of group {other.name}") for first, last, other in seen.get(block.host, [])]
            _apart(group, block.host, (low, high), taken, end)
            seen.setdefault(block.host, []).append((low, high, group))
    for host in dict.fromkeys(block.host for group in mine for block in group.blocks):
        group = next(group for group in mine if any(block.host == host for block in group.blocks))
        end = mooncake_end(settled[host], group.machine)
        for port, _last, what in by_host.get(host, []):
            if MOONCAKE_PORT <= port < end:
                refuse(group, "kv_ports", what.partition(" ")[0], f"{what}, inside Mooncake's random ports {MOONCAKE_PORT} to {end - 1}",
                       "a port that Mooncake does not take", f"set it below {MOONCAKE_PORT} or to {end} or more.", host)
        for base, count, other in ranges.get(host, []):
            if base < end and base + count > MOONCAKE_PORT:
                refuse(other, "kv_ports", "vllm_extra_env", f"HCCL_IF_BASE_PORT {base}: HCCL's ports {base} to {base + count - 1} meet Mooncake's random ports "
                       f"{MOONCAKE_PORT} to {end - 1}", f"{count} ports that Mooncake does not take",
                       f"remove HCCL_IF_BASE_PORT from vllm_extra_env, or set it to {MOONCAKE_PORT - count} or less or to {end} or more.", host)


def _apart(group, host: str, own: tuple, taken: list, end: int) -> None:
    """Refuse a range of ports that meets one of ``taken``, or that ends above the last port there is."""
    low, high = own
    for first, last, what in taken:
        if low <= last and first <= high:
            where = f"{first} to {last}" if last > first else f"{first}"
            # Below what is met, if there is room above Mooncake's ports; else above it.
            below = f"from {end} to {first - (high - low) - 1}" if first - (high - low) - 1 >= end else f"{max(end, last + 1)} or more"
            refuse(group, "kv_ports", "vllm_kv_port", f"ports {low} to {high} on {host} meet {where}, {what}",
                   f"{high - low + 1} port(s) of its own for every host, {end} or more",
                   f"state kv_port in the group's entry: {below}, {KV_PORT_STEP} or more away from the other groups of the host.", host)
    if high > LAST_PORT:
        refuse(group, "kv_ports", "vllm_kv_port", f"ports {low} to {high}", f"ports up to {LAST_PORT}",
               f"state a lower kv_port in the group's entry: {end} or more.", host)


def _tensor_parallel(group, sides: dict) -> None:
    """Refuse TP sizes between which the connector cannot map heads. Source: mooncake_connector.py and ascend_config.py at v0.13.0 and v0.23.0."""
    if group.role != "decode":
        return
    ahead, own = sides["prefill"].tensor_parallel_size, group.tensor_parallel_size
    if ahead < own:
        expected, remedy = "a TP of prefill that is not below decode's", f"set tensor_parallel_size of the decode groups to {ahead} or less."
    elif not group.recipe.mla and ahead % own:
        expected, remedy = "a TP of prefill that decode's divides, for a model without MLA", "change tensor_parallel_size of one side."
    else:
        return
    refuse(group, "pd_sizes", "vllm_tensor_parallel_size", f"TP {own}, prefill has TP {ahead}", expected, remedy)


def _speculated(group):
    """Return how many tokens a group speculates, None if it does not, 0 where what is stated is no number of tokens (_options has refused that)."""
    config = group.flags.get("speculative-config")
    if not is_mapping(config):
        return None
    tokens = config.get("num_speculative_tokens", 1)
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0 else 0


def _speculative(group, sides: dict) -> None:
    """Settle or refuse the number of speculative tokens: 1 on prefill, which only makes the draft layer's KV cache; hybrid models the same on both.

    Source: pd_disaggregation_mooncake_multi_node.md, the note on num_speculative_tokens.
    """
    if group.role != "prefill":
        return
    own, theirs, variable = _speculated(group), _speculated(sides["decode"]), "vllm_extra_args"
    if 0 in (own, theirs):
        return
    if (own is None) != (theirs is None):
        refuse(group, "pd_speculative", variable, f"{own or 'no'} speculative tokens on prefill, {theirs or 'none'} on decode",
               "speculative decoding on both sides, or on neither", "state speculative-config for both sides, or remove it from both.")
    elif own is not None and group.recipe.hybrid and own != theirs:
        refuse(group, "pd_speculative", variable, f"{own} speculative tokens on prefill, {theirs} on decode",
               "the same number on both sides: this model is a hybrid one",
               "state the same num_speculative_tokens for both sides.")
    elif own is not None and not group.recipe.hybrid and own != 1:
        stated = {commandline.option_name(key) for key in group.settings["vllm_extra_args"]}
        if "speculative-config" in stated:
            refuse(group, "pd_speculative", variable, f"num_speculative_tokens {own}", "1 on prefill",
                   "set num_speculative_tokens: 1 in the entries of the prefill groups, in a whole speculative-config.")
        else:
            group.flags["speculative-config"] = {**group.flags["speculative-config"], "num_speculative_tokens": 1}


def transfer_config(group, prefill, decode) -> dict:
    """Return ``--kv-transfer-config`` of a group: what recipe and inventory add, and over it role, port and the real sizes of both sides."""
    stated = group.flags.get("kv-transfer-config")
    stated = dict(stated) if is_mapping(stated) else {}
    inner = stated.pop("kv_connector_extra_config", None)
    sizes = {side.role: {"dp_size": side.data_parallel_size, "tp_size": side.tensor_parallel_size} for side in (prefill, decode)}
    return {
        "kv_connector": CONNECTOR,
        **stated,
        "kv_role": KV_ROLES[group.role],
        "kv_port": str(group.kv_port),
        "kv_connector_extra_config": {**(inner if is_mapping(inner) else {}), **sizes},
    }
