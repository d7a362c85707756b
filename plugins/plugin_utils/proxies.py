# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy: one address in front of all ranks of prefill and decode groups, or in front of serve groups that are replicas of one model.

Its command lines are those of ``vllm-router`` 0.1.17 and of vllm-ascend's ``load_balance_proxy_server_example.py``; both speak plain HTTP to
their backends and send them the key in the environment variable ``OPENAI_API_KEY``. A ``group`` is a plan.Group.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ..module_utils.handover import ITSELF
from . import disaggregation, inputs, ranks
from .messages import check, did_you_mean, known_names

#: Name of its container and of its folder on the node.
NAME = "vllm-proxy"
PACKAGE = "vllm-router==0.1.17"
#: In vllm-ascend's images.
SCRIPT = "/vllm-workspace/vllm-ascend/examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"
#: Where each kind says how many of its backends it counts on.
READY = {"vllm-router": "/readiness", "vllm-ascend": "/healthcheck"}
KEY_VARIABLE = "OPENAI_API_KEY"
#: Where the router's metrics are if nobody says otherwise: its own 29000 is one of Mooncake's random ports on a node with 16 NPUs.
PROMETHEUS_PORT, BELOW_MOONCAKE = 29000, 19000


def choose(groups: list, settled: dict, request: dict) -> dict | None:
    """Return ``{kind, host, port, next_port, prometheus_port, policy, image, stated, groups, pd}``, or None where no proxy is planned.

    stated is vllm_proxy itself; host is the stated one, else the head of the first group behind the proxy; groups are those behind it.
    """
    stated = request["run"].get("vllm_proxy")
    halves = [group for group in groups if disaggregation.is_pd(group)]
    behind = halves or ([] if stated is None else list(groups))
    table = inputs.options()["vllm_proxy"]["options"]
    settings = {name: option.get("default") for name, option in table.items()}
    settings.update(stated or {})
    if not behind or settings["kind"] == "none":
        return None
    settings["host"] = settings["host"] or behind[0].head
    if settings["prometheus_port"] is None:
        mine = [group for group in halves if settings["host"] in group.hosts and settings["host"] in settled and group.machine]
        ends = [disaggregation.mooncake_end(settled[settings["host"]], group.machine) for group in mine]
        settings["prometheus_port"] = BELOW_MOONCAKE if PROMETHEUS_PORT < max(ends, default=0) else PROMETHEUS_PORT
    if settings["next_port"] is None and halves:
        settings["next_port"] = settings["port"] + 1
    return {**settings, "stated": stated or {}, "groups": behind, "pd": bool(halves)}


def ports(proxy: dict) -> list:
    """Return ``[(variable, port)]`` that the proxy listens on, and the one that has its requests while it starts anew."""
    router = proxy["kind"] == "vllm-router"
    own = [("vllm_proxy.port", proxy["port"])] + [("vllm_proxy.prometheus_port", proxy["prometheus_port"])] * router
    return own + [("vllm_proxy.next_port", proxy["next_port"] + more) for more in range((1 + router) * proxy["pd"])]


def on_host(plan: dict, host: str) -> list:
    """Return the proxies of a plan that run on a host."""
    return [proxy for proxy in (plan.get("proxies") or {}).values() if proxy["host"] == host]


def measured(plan: dict) -> dict:
    """Return name -> entry of the groups of a plan that a client measures, each with the address that it asks.

    Prefill and decode groups serve together: the first decode group stands for all of them, at the proxy's address, and its ``load_urls`` say how
    many requests there are. Raises ValueError where there is no proxy for them.
    """
    groups = plan["groups"]
    halves = {name: group for name, group in groups.items() if group["role"] != "serve"}
    first = next((name for name, group in halves.items() if group["role"] == "decode"), None)
    found = {name: group for name, group in groups.items() if name not in halves}
    if first is None:
        return found
    proxy = next((entry for entry in (plan.get("proxies") or {}).values() if entry["mode"] == "pd"), None)
    if proxy is None:
        raise ValueError(f"found no proxy in front of the groups {', '.join(halves)}, wanted one: a rank alone shows nothing of how they serve together. "
                         "Remedy: leave vllm_proxy out, or set its kind to vllm-router.")
    api = {**groups[first]["api"], **{key: proxy[key] for key in ("address", "port", "url")}, "tls": False, "ca_file": None}
    urls = [url for group in halves.values() for url in group["rank_urls"]]
    return {**found, first: {**groups[first], "api": api, "load_urls": urls}}


def listening(proxy: dict) -> dict:
    """Return port -> the variable that sets it, of what a proxy of a plan listens on."""
    found = {proxy["port"]: "vllm_proxy.port", proxy["prometheus_port"]: "vllm_proxy.prometheus_port"}
    found.update({proxy["next"][key]: "vllm_proxy.next_port" for key in ("port", "prometheus_port") if proxy.get("next")})
    return {port: name for port, name in found.items() if port is not None}


def judge(proxy: dict, members: list) -> None:
    """Refuse a proxy that could not run, or could not reach what is behind it. ``members``: the hosts of the inventory group."""
    groups = proxy["groups"]
    first = groups[0]

    def refuse(group, variable, observed, expected, remedy):
        group.checks.append(check(group.head, "proxy", variable, observed, expected, remedy))

    if proxy["host"] not in members:
        refuse(first, "vllm_proxy", f"host: {proxy['host']!r}", f"a host of the inventory group vllm: {known_names(members)}",
               f"{did_you_mean(proxy['host'], members)}set vllm_proxy.host to one of these.")
    if proxy["kind"] == "vllm-ascend" and not proxy["pd"]:
        refuse(first, "vllm_proxy", "kind: vllm-ascend, without prefill and decode groups", "kind vllm-router in front of plain replicas",
               "set kind: vllm-router.")
    if proxy["pd"] and first.settings["vllm_api_key_file"]:
        # Both send the ranks a key of their own, whatever the client sends (vllm_pd_router.rs; auth_headers of the example).
        first.checks.append(check(
            first.head, "proxy", "vllm_api_key_file",
            f"a key for the ranks, and port {proxy['port']} of {proxy['host']}, at which {proxy['kind']} asks for none",
            "clients that are meant to be served", "keep the port to their network, or put a reverse proxy that checks keys in front.", "warn"))
    if proxy["kind"] == "vllm-ascend" and proxy["stated"].get("policy"):
        first.checks.append(check(
            first.head, "proxy", "vllm_proxy", f"policy: {proxy['policy']} with kind: vllm-ascend, which has one way of choosing",
            "a policy that somebody reads", "remove policy, or set kind: vllm-router.", "warn"))
    for group in [] if proxy["pd"] else groups:
        if group.settings["vllm_tls_certificate_file"]:
            refuse(group, "vllm_tls_certificate_file", f"group {group.name}: TLS behind the proxy", "no TLS there: the proxy speaks HTTP to its backends",
                   "remove vllm_tls_certificate_file and vllm_tls_key_file for this group, and keep the ports of its hosts to the network between the nodes.")
        _replica(group, first, proxy["host"], refuse)


def _replica(group, first, host: str, refuse) -> None:
    """Refuse a serve group that is no replica of the first one, or that does not answer to the proxy's host."""
    for variable, own, theirs in (
        ("vllm_model", *(entry.recipe.weights.get("id") if entry.recipe else None for entry in (group, first))),
        ("vllm_served_model_name",
         *(entry.settings["vllm_served_model_name"] or (entry.recipe.served_model_name if entry.recipe else None) for entry in (group, first))),
        ("vllm_api_key_file", *(entry.settings["vllm_api_key_file"] for entry in (group, first))),
    ):
        if own != theirs and (variable == "vllm_api_key_file" or (own and theirs)):
            refuse(group, variable, f"group {group.name}: {own or 'nothing'}",
                   f"{theirs or 'nothing'} as group {first.name}: what is behind one proxy is replicas of one model",
                   f"state {variable} once for all groups, or remove vllm_proxy.")
    if group.settings["vllm_bind_address"] == "127.0.0.1" and host != group.head:
        refuse(group, "vllm_bind_address", f"group {group.name}: 127.0.0.1, with the proxy on {host}", "an address that the proxy reaches",
               "remove vllm_bind_address for this group.")


def backends(proxy: dict, settled: dict) -> list:
    """Return ``[{role, group, unit, rank, host, address, port, url}]``: every rank of prefill and decode groups, or the head of every replica."""
    found = []
    for group in proxy["groups"]:
        for unit, rank, host, port in api_ports(group):
            bind = group.settings["vllm_bind_address"]
            address = settled[host].local_ip if bind == "0.0.0.0" else bind
            found.append({"role": group.role, "group": group.name, "unit": unit, "rank": rank, "host": host, "address": address, "port": port,
                          "url": f"http://{address}:{port}"})
    return found


def api_ports(group) -> list:
    """Return ``[(unit, rank, host, port)]`` of every API of a group."""
    if not disaggregation.is_pd(group):
        first = ranks.slices(group.blocks[0], group.tensor_parallel_size)[0]
        return [(unit_name(group, first), first.rank, group.head, group.settings["vllm_port"])]
    return [
        (unit_name(group, part), part.rank, block.host, group.rank_port + index)
        for block in group.blocks
        for index, part in enumerate(ranks.slices(block, group.tensor_parallel_size, True))
    ]


def unit_name(group, part: ranks.Slice) -> str:
    """Return the name of a container; a head without ranks of its own only answers HTTP, the first ranks are another host's."""
    return f"{group.name}-rank{part.rank}" if part.ranks else f"{group.name}-api"


def entry(proxy: dict, settled: dict, image: str | None, secrets: str) -> dict:
    """Return the proxy as the plan says it. ``image``: of the first group; ``secrets``: where a unit's secrets are in its container.

    ``command`` is ``argv`` without the backends, a change of which needs no other container.
    ``argv`` holds no secret: ``secret_env`` names the variable that has to be read from a file when the container starts.
    """
    behind = backends(proxy, settled)
    first = proxy["groups"][0]
    key = first.settings["vllm_api_key_file"]
    address = settled[proxy["host"]].local_ip
    router = proxy["kind"] == "vllm-router"
    words = _words(proxy["kind"])
    return {
        "kind": proxy["kind"],
        "mode": "pd" if proxy["pd"] else "replicas",
        "name": NAME,
        "host": proxy["host"],
        "address": address,
        "bind": "0.0.0.0",
        "port": proxy["port"],
        "url": f"http://{address}:{proxy['port']}",
        "prometheus_port": proxy["prometheus_port"] if router else None,
        "policy": proxy["policy"] if router else None,
        "own_url": f"http://{ITSELF}:{proxy['port']}",
        "next": _next(proxy, words, address, behind) if proxy["pd"] else None,
        "image": proxy["image"] or (None if router else image),
        # Of the groups' image; the router's is the site's own (eval_client_archives).
        "image_archive": None if router or proxy["image"] else first.settings["vllm_image_archive"],
        "package": PACKAGE if router else None,
        "argv": words(proxy, behind),
        "command": " ".join(words(proxy, [])),
        "ready": _ready(proxy["kind"], behind),
        "served_model_name": first.settings["vllm_served_model_name"] or first.recipe.served_model_name,
        "groups": [group.name for group in proxy["groups"]],
        "backends": behind,
        "api_key_file": key,
        "secrets": [{"source": key, "name": "api_key", "mount": f"api_key:{secrets}/api_key:ro"}] if key else [],
        "secret_env": {KEY_VARIABLE: f"{secrets}/api_key"} if key else {},
    }


def _words(kind: str):
    """Return the function (proxy, behind) -> command line of a kind of proxy."""
    return _router if kind == "vllm-router" else _example


def _ready(kind: str, behind: list) -> dict:
    """Return where a proxy says how many backends it counts on, and how many of each role it has to."""
    sides = [side for side in ("prefill", "decode", "serve") if any(backend["role"] == side for backend in behind)]
    return {"path": READY[kind], **{side: sum(backend["role"] == side for backend in behind) for side in sides}}


def with_group(made: dict, name: str, groups: dict) -> dict:
    """Return a proxy of a plan with the backends of one group as its entry in ``groups`` says, that of a deployment that was kept.

    Where that group answered then, the proxy has to look for it, and by the name under which the first one of them is served.
    """
    group, first = groups[name], groups[made["groups"][0]]
    mine = [{"role": group["role"], "group": name, "unit": unit["name"], "rank": unit["rank"], "host": unit["host"],
             "address": urlsplit(unit["url"]).hostname, "port": urlsplit(unit["url"]).port, "url": unit["url"]} for unit in group["units"] if unit["url"]]
    behind = [entry for each in made["groups"] for entry in (mine if each == name else [entry for entry in made["backends"] if entry["group"] == each])]
    words, given = _words(made["kind"]), {**made, "pd": made["mode"] == "pd"}
    after = made["next"] and {**made["next"], "argv": words({**given, **{key: made["next"][key] for key in ("port", "prometheus_port")}}, behind)}
    return {**made, "backends": behind, "argv": words(given, behind), "next": after, "ready": _ready(made["kind"], behind),
            "served_model_name": first["served_model_name"]}


def _next(proxy: dict, words, address: str, behind: list) -> dict:
    """Return what has the proxy's new requests while it starts anew: the same on other ports, from ``words(proxy, behind)``."""
    ports_of_it = {"port": proxy["next_port"], "prometheus_port": proxy["next_port"] + 1 if proxy["kind"] == "vllm-router" else None}
    return {"name": f"{NAME}-next", **ports_of_it, "url": f"http://{address}:{proxy['next_port']}", "argv": words({**proxy, **ports_of_it}, behind)}


def _router(proxy: dict, behind: list) -> list:
    """Return the command line of ``vllm-router``; ``nixl`` names the exchange that vllm-ascend's Mooncake connector has with a proxy."""
    argv = ["vllm-router", "--host", "0.0.0.0", "--port", str(proxy["port"]),
            "--prometheus-host", "0.0.0.0", "--prometheus-port", str(proxy["prometheus_port"])]
    if proxy["pd"]:
        argv.append("--vllm-pd-disaggregation")
        for side in ("prefill", "decode"):
            argv += [word for backend in behind if backend["role"] == side for word in (f"--{side}", backend["url"])]
    else:
        argv += ["--worker-urls", *(backend["url"] for backend in behind)]
    argv += ["--policy", proxy["policy"]] + ["--kv-connector", "nixl"] * proxy["pd"]
    # Its own 30 and 60 s are long for a proxy that starts when its backends serve, and for one of them that is gone.
    return argv + ["--worker-startup-check-interval", "2", "--health-check-interval-secs", "10"]


def _example(proxy: dict, behind: list) -> list:
    """Return the command line of vllm-ascend's example proxy."""
    argv = ["python3", SCRIPT, "--port", str(proxy["port"]), "--host", "0.0.0.0"]
    for side, word in (("prefill", "prefiller"), ("decode", "decoder")):
        mine = [backend for backend in behind if backend["role"] == side]
        argv += [f"--{word}-hosts", *(backend["address"] for backend in mine), f"--{word}-ports", *(str(backend["port"]) for backend in mine)]
    return argv
