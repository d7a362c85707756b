# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan written down: every container of every host, from groups whose ranks and settings are settled.

Shape: ``{schema, run, groups: {name: ..}, hosts: {host: {local_ip, nic_name, hardware, npus_expected, units: [..]}}, notices}``, with
``proxies: {name: ..}`` where several groups answer as one.
A ``group`` is a plan.Group of which every attribute is settled.
"""

from __future__ import annotations

from . import commandline, conditions, disaggregation, proxies, ranks
from .inputs import size_bytes
from .request import SCHEMA

#: Of a larger group the addresses are not listed one by one in every unit: no_proxy would grow with the square of the hosts.
NO_PROXY_HOSTS = 64
#: On the node; one folder a unit, mounted where CANN writes its logs.
LOG_ROOT = "/var/log/ascend-vllm"
#: On the node; one folder a unit, for what only root reads.
ETC_ROOT = "/etc/ascend-vllm"
#: Where a unit's secrets are in its container.
SECRETS = "/run/ascend-vllm"
#: Names of the certificate, its key and what vouches for it, on the head.
TLS_CERTIFICATE, TLS_KEY, TLS_CA = "tls.crt", "tls.key", "tls_ca.pem"
#: Variables of the whole run that are in the plan as what follows from them.
PLANNED = ("vllm_groups", "vllm_proxy", "vllm_pd_colocate")
#: Where a hub is, and its default branch, if nobody says otherwise.
HUB_DEFAULTS = {
    "modelscope": {"endpoint": "https://www.modelscope.cn", "revision": "master"},
    "huggingface": {"endpoint": "https://huggingface.co", "revision": "main"},
    "local": {"revision": "local"},
    "controller": {"revision": "local"},
    "rsync": {"revision": "local"},
}


def rank_arguments(group, block: ranks.Block, head_ip: str) -> dict:
    """Return the options of ``vllm serve`` that say which ranks a host has; those of a single host are the tutorial's A3 script."""
    flags: dict = {}
    several = len(group.blocks) > 1
    if several and block.host != group.head:
        flags["headless"] = True
    flags["data-parallel-size"] = group.data_parallel_size
    if several:
        flags["data-parallel-size-local"] = block.local
        if block.host != group.head:
            flags["data-parallel-start-rank"] = block.start
        flags["data-parallel-address"] = head_ip
        flags["data-parallel-rpc-port"] = group.settings["vllm_data_parallel_rpc_port"]
    flags["tensor-parallel-size"] = group.tensor_parallel_size
    return flags


def assemble(groups: list, settled: dict, request: dict, said: list) -> dict:
    """Return the plan of groups that have no problem."""
    plan = {"schema": SCHEMA, "run": _run(request), "groups": {}, "hosts": {}, "notices": said}
    machines = {group.hardware: group.machine for group in groups}
    for host in request["hosts"]:
        node = settled[host]
        plan["hosts"][host] = {
            "local_ip": node.local_ip,
            "nic_name": node.nic_name,
            "hardware": node.hardware,
            "npus": list(node.npus),
            "npus_expected": _npus_expected(node, request["inputs"][host], machines),
            "units": [],
        }
    for group in groups:
        weights, image = _weights(group), _images(group)[0]
        shm = group.host_setting("vllm_shm_size", request["inputs"])
        head_ip = settled[group.head].local_ip
        quiet = _no_proxy(group, settled)
        plan["groups"][group.name] = entry = _group_entry(group, settled, weights, image)
        for block in group.blocks:
            for index, part in enumerate(_slices(group, block)):
                unit = _unit(group, block, part, head_ip, weights, image, shm[block.host])
                if disaggregation.is_pd(group):
                    _rank_unit(unit, group, part, head_ip, group.rank_port + index)
                unit["no_proxy"] = quiet(block.host)
                unit["api"] = _unit_api(group, unit, entry["api"], settled[block.host].local_ip)
                entry["units"].append({"name": unit["name"], "host": block.host, "rank": unit["rank"], "url": unit["api"] and unit["api"]["url"]})
                if disaggregation.is_pd(group):
                    entry["rank_urls"].append(unit["api"]["url"])
                plan["hosts"][block.host]["units"].append(unit)
    proxy = proxies.choose(groups, settled, request)
    if proxy:
        plan["proxies"] = {"proxy": proxies.entry(proxy, settled, _images(proxy["groups"][0])[0], SECRETS)}
    return plan


def _slices(group, block: ranks.Block) -> list:
    """Return the containers of a group on one host: one, or one a rank of a prefill or decode group."""
    return ranks.slices(block, group.tensor_parallel_size, disaggregation.is_pd(group))


def _rank_unit(unit: dict, group, part: ranks.Slice, head_ip: str, port: int) -> None:
    """Make a unit one rank that a proxy finds by itself (external load balancing), with what is its own in its command line."""
    first = group.kv_port + part.rank * group.tensor_parallel_size
    flags = {
        "host": group.settings["vllm_bind_address"],
        "port": port,
        **_rank_flags(group, part, head_ip),
        "served-model-name": group.settings["vllm_served_model_name"] or group.recipe.served_model_name,
        **group.flags,
    }
    unit.update(
        {
            "head": part.rank == 0,
            "headless": False,
            "port": port,
            "kv_ports": [first, first + group.tensor_parallel_size - 1],
            "start": {**unit["start"], "readable": [disaggregation.HCCN_CONF], "executable": [disaggregation.HCCN_TOOL]},
            "argv": [*unit["argv"][:3], *commandline.render(flags)],
        }
    )


def _rank_flags(group, part: ranks.Slice, head_ip: str) -> dict:
    """Return the options that say which rank a unit is. A single rank meets nobody, and vLLM refuses it a rank of its own."""
    flags = {"data-parallel-size": group.data_parallel_size}
    if group.data_parallel_size > 1:
        flags["data-parallel-rank"] = part.rank
        flags["data-parallel-address"] = head_ip
        flags["data-parallel-rpc-port"] = group.settings["vllm_data_parallel_rpc_port"]
    flags["tensor-parallel-size"] = group.tensor_parallel_size
    return flags


def _npus_expected(node, stated: dict, machines: dict) -> int:
    """Return how many NPUs a node has to show: as stated, else no fewer than the reference machine of its generation has."""
    found = len(node.npus)
    # A host that only runs the proxy may be of a generation that no group has: nothing is wanted of its NPUs.
    return found if "vllm_npus" in stated else max(found, machines.get(node.hardware, {}).get("npus", 0))


def _run(request: dict) -> dict:
    """Return the variables that the whole run shares, without their prefix, for the playbooks to hand on."""
    return {name.removeprefix("vllm_"): value for name, value in request["run"].items() if name not in PLANNED}


def _weights(group) -> dict:
    """Return where the weights come from and where they are: the recipe's, with the inventory's over it."""
    stated, recipe = group.settings["vllm_weights_source"] or {}, group.recipe.weights
    kind = stated.get("kind") or recipe["kind"]
    # The address and the branch of one hub mean nothing at another one.
    inherited = recipe if kind == recipe["kind"] else {"id": recipe["id"]}
    weights = {**HUB_DEFAULTS.get(kind, {}), **inherited, **stated, "kind": kind}
    last = weights["id"].rstrip("/").rpartition("/")[2]
    return {
        **weights,
        "dir": group.settings["vllm_weights_dir"] or f"/mnt/weights/{last}",
        "token_file": group.settings["vllm_weights_token_file"],
        "target": group.settings["vllm_weights_target"],
        # Bytes per second, 0 for none.
        "bandwidth_limit": size_bytes(group.settings["vllm_weights_bandwidth_limit"]),
        "requirements": _requirements(group.flags),
    }


def _requirements(flags: dict) -> dict:
    """Return what the weights need to have for these options of vllm serve: a quantization description, MTP layers."""
    speculative = flags.get("speculative-config")
    method = speculative.get("method") if isinstance(speculative, dict) else None
    # A draft model of its own is not in this directory.
    mtp = "mtp" in str(method or "") and not (speculative or {}).get("model")
    return {"quantization": flags.get("quantization"), "mtp": mtp}


def _images(group) -> list:
    """Return the full references of the image, to be tried in this order: the stated one, or one for each registry."""
    if group.settings["vllm_image"]:
        return [group.settings["vllm_image"]]
    suffix = group.release["image_tag"][group.hardware][group.settings["vllm_image_os"]]
    version = group.settings["vllm_ascend_version"]
    return [f"{registry}/ascend/vllm-ascend:{version}{suffix}" for registry in dict.fromkeys(group.settings["vllm_image_registries"])]


def _no_proxy(group, settled: dict):
    """Return a function host -> addresses that no proxy may see: the group's, the host itself."""
    local = ["localhost", "127.0.0.1"]
    if len(group.hosts) <= NO_PROXY_HOSTS:
        everyone = [settled[host].local_ip for host in group.hosts] + local
        return lambda host: list(everyone)
    head = settled[group.head].local_ip
    networks = sorted({settled[host].network for host in group.hosts if settled[host].network})
    return lambda host: list(dict.fromkeys([head, settled[host].local_ip, *networks, *local]))


def _group_entry(group, settled: dict, weights: dict, image: str) -> dict:
    """Return what every role may want to know of a group."""
    env, _reasons = group.envs[group.head]
    return {
        **_transfer(group),
        "role": group.role,
        "head": group.head,
        "hosts": group.hosts,
        "addresses": {host: settled[host].local_ip for host in group.hosts},
        # All containers in their order, filled in one by one, and where each rank answers, if it does by itself.
        "units": [],
        "rank_urls": [],
        # Whether a completion may be asked of a rank by itself (disaggregation.answers_alone).
        "answers_alone": disaggregation.answers_alone(group),
        "data_parallel_size": group.data_parallel_size,
        "tensor_parallel_size": group.tensor_parallel_size,
        "model": group.settings["vllm_model"],
        "release": group.settings["vllm_ascend_version"],
        "hardware": group.hardware,
        "hbm_idle_mb": group.hbm_idle_mb,
        "served_model_name": group.settings["vllm_served_model_name"] or group.recipe.served_model_name,
        "api": _api(group, settled[group.head].local_ip),
        "api_key_file": group.settings["vllm_api_key_file"],
        "tls": _tls(group),
        "rpc_port": group.settings["vllm_data_parallel_rpc_port"],
        "supervise": _supervise(group),
        "image": image,
        # An archive takes the place of every registry.
        "image_sources": [] if group.settings["vllm_image_archive"] else _images(group),
        "image_archive": group.settings["vllm_image_archive"],
        "image_fanout": group.settings["vllm_image_fanout"] if len(group.hosts) > 1 else "each",
        "registry_auth_file": group.settings["vllm_registry_auth_file"],
        "ready_timeout_s": int(env.get("VLLM_ENGINE_READY_TIMEOUT_S", 600)),
        "weights": weights,
        "recipe_source": group.recipe.source,
        "software": {key: group.release.get(key) for key in ("vllm", "cann", "mooncake", "torch", "torch_npu", "hdk")},
    }


def _transfer(group) -> dict:
    """Return what only prefill and decode groups have: the ports for KV transfer by host, first and last."""
    if not disaggregation.is_pd(group):
        return {}
    return {
        "kv_port": group.kv_port,
        "kv_ports": {block.host: list(disaggregation.kv_slice(group, block)) for block in group.blocks},
        "colocated": sorted(group.colocated),
    }


def _api(group, local_ip: str) -> dict:
    """Return where the group answers, as the head reaches it: what asks runs there, for the API may listen on the loopback only.

    ``ca_file``: certificates on the head that vouch for an ``https`` service, else None.
    """
    bind, tls = group.settings["vllm_bind_address"], _tls(group)
    port = group.rank_port if disaggregation.is_pd(group) else group.settings["vllm_port"]
    address = local_ip if bind == "0.0.0.0" else bind
    first = _slices(group, group.blocks[0])[0]
    return {
        "host": group.head,
        "address": address,
        "bind": bind,
        "port": port,
        "tls": tls is not None,
        "url": f"{'https' if tls else 'http'}://{address}:{port}",
        "ca_file": f"{ETC_ROOT}/{proxies.unit_name(group, first)}/{TLS_CA}" if tls else None,
    }


def _unit_api(group, unit: dict, api: dict, local_ip: str) -> dict | None:
    """Return ``{address, port, url, ca_file, ranks}`` of what a unit answers at, as its own host reaches it, None for a headless one.

    ``api``: that of the group. ``ranks``: how many data-parallel ranks answer there.
    """
    if unit["headless"]:
        return None
    if not disaggregation.is_pd(group):
        return {**{key: api[key] for key in ("address", "port", "url", "ca_file")}, "ranks": group.data_parallel_size}
    return {"address": local_ip, "port": unit["port"], "url": f"http://{local_ip}:{unit['port']}", "ca_file": None, "ranks": 1}


def _tls(group) -> dict | None:
    """Return the files on the controller that make the API speak TLS, or None."""
    certificate = group.settings["vllm_tls_certificate_file"]
    if not certificate:
        return None
    ca_file = group.settings["vllm_tls_ca_file"] or certificate
    return {"certificate_file": certificate, "key_file": group.settings["vllm_tls_key_file"], "ca_file": ca_file}


def _secrets(group, is_head: bool) -> list:
    """Return the files of one unit that only root may read: ``[{source, name, mount}]``.

    source: on the controller; name: in the unit's folder on the node; mount: of Docker, without that folder.
    """
    files = {"api_key": group.settings["vllm_api_key_file"]}
    tls = _tls(group)
    if tls and is_head:
        files.update({TLS_CERTIFICATE: tls["certificate_file"], TLS_KEY: tls["key_file"]})
    return [{"source": source, "name": name, "mount": f"{name}:{SECRETS}/{name}:ro"} for name, source in files.items() if source]


def _listening(group, is_head: bool) -> dict:
    """Return the options of ``vllm serve`` that say where and how the API listens; a headless one has none and keeps the tutorial's."""
    if not is_head:
        return {"host": "0.0.0.0", "port": group.settings["vllm_port"]}
    flags = {"host": group.settings["vllm_bind_address"], "port": group.settings["vllm_port"]}
    if _tls(group):
        flags.update({"ssl-certfile": f"{SECRETS}/{TLS_CERTIFICATE}", "ssl-keyfile": f"{SECRETS}/{TLS_KEY}"})
    return flags


def _supervise(group) -> dict:
    """Return whether services bring the group back, the port of the head's one, and all units of the group by name, the head's first."""
    units = [proxies.unit_name(group, part) for block in group.blocks for part in _slices(group, block)]
    return {"enabled": group.settings["vllm_supervise"], "port": watch_port(group), "units": units}


def watch_port(group) -> int | None:
    """Return the port on which the watch of a group's head answers those of its other units, None where nobody listens."""
    several = len(group.hosts) > 1 or any(len(_slices(group, block)) > 1 for block in group.blocks)
    return group.settings["vllm_watch_port"] if group.settings["vllm_supervise"] and several else None


def _required(mount: dict, group) -> bool:
    """Return whether a mount's source has to be there: as the data says, or by a condition on the group."""
    stated = mount["required"]
    if isinstance(stated, bool):
        return stated
    return conditions.holds(stated, {"nodes": len(group.hosts), "role": group.role, "hardware": group.hardware})


def _unit(group, block: ranks.Block, part: ranks.Slice, head_ip: str, weights: dict, image: str, shm_size: str) -> dict:
    """Return one container: a contiguous slice of a host's ranks."""
    is_head = block.host == group.head
    name = proxies.unit_name(group, part)
    env, reasons = group.envs[block.host]
    served = group.settings["vllm_served_model_name"] or group.recipe.served_model_name
    flags = {
        **_listening(group, is_head),
        **rank_arguments(group, block, head_ip),
        "served-model-name": served,
        **group.flags,
    }
    candidates = {
        entry["target"]: {"sources": entry["sources"], "type": entry["type"], "required": _required(entry, group)}
        for entry in group.machine["mounts"]
    }
    start = group.release["start"]
    return {
        "name": name,
        "group": group.name,
        "rank": part.rank,
        "ranks": part.ranks,
        "head": is_head,
        "headless": not is_head,
        "port": group.settings["vllm_port"],
        "image": image,
        "npus": list(part.npus),
        "devices": [f"/dev/davinci{number}" for number in part.npus] + list(group.machine["device_nodes"]),
        "mounts": [f"{entry['sources'][0]}:{entry['target']}" for entry in group.machine["mounts"]]
        + [f"{weights['dir']}:{weights['dir']}:ro", f"{LOG_ROOT}/{name}:/root/ascend/log"],
        "mount_candidates": candidates,
        "secrets": _secrets(group, is_head),
        "shm_size": shm_size,
        "env": env,
        "env_added": reasons,
        "argv": ["vllm", "serve", weights["dir"], *commandline.render(flags)],
        "start": {
            "set_env": list(start["set_env"]),
            "ld_preload": list(start["ld_preload"][group.settings["vllm_image_os"]]),
            "ld_library_path": list(start["ld_library_path"]),
            # What the container has to have before anything is started in there.
            "readable": [],
            "executable": [],
        },
        "npus_required_hardware": group.hardware,
    }
