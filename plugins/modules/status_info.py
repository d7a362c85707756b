#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a node how its part of a deployment is, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Ask a node how its part of a deployment is, in one round trip
description:
  - Looks at containers, NPUs and the links of their network ports, and on the head of a group asks the API for what only it can tell,
    among that a real completion and one of every data-parallel rank.
  - C(hccn_tool) is called once at a time; the API is asked meanwhile.
  - What could not be asked is a part of the result and does not keep the rest from being asked.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  containers:
    description: Names of containers to look at.
    type: list
    elements: str
    default: []
  images:
    description: References of the images that the containers should be made of.
    type: list
    elements: str
    default: []
  links:
    description: Physical ids of the NPUs whose network ports are asked for their links. Nobody is asked while this is empty.
    type: list
    elements: int
    default: []
  link_questions:
    description: What is asked of a network port, words of M(ascend.vllm.hccn_info).
    type: list
    elements: str
    choices: [link, vnic]
    default: [link]
  services:
    description: The groups that this host is the head of.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      url:
        description: Base URL of the API.
        type: str
        required: true
      model:
        description: Served model name.
        type: str
        required: true
      ranks:
        description: Number of data-parallel ranks that have to answer.
        type: int
        default: 1
      rank_urls:
        description: Base URLs of the ranks, by rank, of a group each rank of which answers by itself. Each is asked for its KV transfer, too.
        type: list
        elements: str
        default: []
      answers_alone:
        description: Whether a completion may be asked for; without it that of a rank is whether it serves the model.
        type: bool
        default: true
      ca_file:
        description: Certificates on the node that vouch for the service, where O(services[].url) is C(https).
        type: path
  proxies:
    description: The proxies that run on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of its container.
        type: str
        required: true
      url:
        description: Base URL.
        type: str
        required: true
      kind:
        description: Which proxy it is.
        type: str
        choices: [vllm-router, vllm-ascend]
        default: vllm-router
      model:
        description: Served model name.
        type: str
        required: true
      backends:
        description: Base URLs of the backends that it should have.
        type: list
        elements: str
        required: true
  api_keys:
    description: API keys of the services and proxies, by the name of the group or proxy.
    type: dict
    default: {}
  completion_timeout_s:
    description: Seconds after which a completion is taken for hanging.
    type: float
    default: 30
  timeout:
    description: Seconds after which one call of a tool is taken for hanging.
    type: float
    default: 15
extends_documentation_fragment:
  - ascend.vllm.engine_socket
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Linux nodes with Ascend NPUs.
"""

EXAMPLES = r"""
- name: Ask the head of a group of four ranks
  ascend.vllm.status_info:
    containers: [vllm-rank0]
    images: ["quay.io/ascend/vllm-ascend:v0.13.0"]
    links: [0, 1, 2, 3, 4, 5, 6, 7]
    services:
      - {name: vllm, url: "http://198.51.100.11:8000", model: deepseek_r1, ranks: 4}
    api_keys:
      vllm: "{{ lookup('ansible.builtin.file', vllm_api_key_file) }}"
  register: status
"""

RETURN = r"""
time:
  description: The node's clock, seconds since 1970-01-01 UTC.
  returned: success
  type: float
docker:
  description: >-
    C(error), why the engine does not answer or null; C(containers) by name, each with C(exists), C(status) (the engine's word), C(running),
    C(paused), C(exit_code), C(error), C(oom), C(image), C(image_id), C(started_at), C(uptime_s), C(restarts), C(command), C(labels) and C(pids);
    C(images), reference to id, null for one that is not there.
  returned: success
  type: dict
  sample: {"error": null, "containers": {}, "images": {}}
npu:
  description: As M(ascend.vllm.npu_info) returns it, without details; C(msg) and no C(npus) where that module would fail.
  returned: success
  type: dict
  sample: {"npus": [], "driver_version": "25.5.1"}
hccn:
  description: As M(ascend.vllm.hccn_info) returns it, empty where no link was asked for; C(msg) and no C(devices) where that module would fail.
  returned: success
  type: dict
  sample: {"devices": [], "calls": 0}
kept_away:
  description: Ports to which new connections are rejected while a stop lets requests end. Null where no service was asked or nftables does not say it.
  returned: success
  type: list
  elements: int
  sample: []
services:
  description: >-
    By the name of the group, C(health) (HTTP status) and C(health_error), C(models_status) and C(models), C(requests) (C(running) and C(waiting), or
    null), C(completion), C(ranks) and C(transfers). A completion has C(answered), C(status) (HTTP), C(seconds), C(timed_out) and C(text), what came or why
    nothing did; that of a rank has C(rank) too. C(transfers) has what each rank's metrics say of KV transfer since it started, by rank and null for
    one that does not answer, C(tokens) of prompts that came from another rank, C(asked), tokens that were asked for, C(transfers), C(bytes),
    C(failed) and C(expired), each null where the metrics do not say it. What was not asked, because the API does not answer, is null.
  returned: success
  type: dict
  sample: {"vllm": {"health": 200, "health_error": null, "models_status": 200, "models": ["deepseek_r1"]}}
proxies:
  description: By the name of the proxy, C(router) (what it says of itself and of its backends, as M(ascend.vllm.proxy_probe) returns it) and C(completion).
  returned: success
  type: dict
  sample: {}
"""

import calendar
import concurrent.futures
import time
import traceback

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_hccn, ask_npu, drain, tools
from ansible_collections.ascend.vllm.plugins.module_utils.ask_service import AT_ONCE, QUICK_S, ask_ranks, completion, why
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine, processes_below
from ansible_collections.ascend.vllm.plugins.module_utils.proxy_router import KINDS, proxy_of, state_of
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api, Several


def ask(name, question, **words):
    """Return the answer to a question, or C({msg, ..}) where there is none: no surprise takes the answers to the others with it."""
    try:
        return question(**words)
    except tools.NoAnswer as failure:
        return dict(failure.known, msg=failure.message)
    except Exception as error:  # pylint: disable=broad-except
        return {"msg": "%s: %s: %s" % (name, type(error).__name__, error), "exception": traceback.format_exc()}


def seconds_of(text):
    """Return the engine's time (C(2026-01-02T03:04:05.678Z), always UTC) as seconds since 1970, or None for none."""
    try:
        found = calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    # A container that never ran has the year 1.
    return found if found > 0 else None


def container_entry(engine, name, now):
    """Return what is known of one container; see RETURN."""
    entry = {"exists": False, "status": None, "running": False, "paused": False, "exit_code": None, "error": None, "oom": False, "image": None,
             "image_id": None, "started_at": None, "uptime_s": None, "restarts": 0, "command": [], "labels": {}, "pids": []}
    found = engine.container(name)
    if not found:
        return entry
    state, config = found.get("State") or {}, found.get("Config") or {}
    running, started = bool(state.get("Running")), seconds_of(state.get("StartedAt"))
    entry.update(exists=True, status=state.get("Status"), running=running, paused=bool(state.get("Paused")), error=state.get("Error") or None,
                 oom=bool(state.get("OOMKilled")), image=config.get("Image"), image_id=found.get("Image"), restarts=found.get("RestartCount") or 0,
                 command=config.get("Cmd") or [], labels=config.get("Labels") or {}, started_at=state.get("StartedAt") if started else None)
    if running:
        entry["uptime_s"] = max(0, round(now - started)) if started else None
        entry["pids"] = processes_below(state["Pid"]) if state.get("Pid") else []
    else:
        entry["exit_code"] = state.get("ExitCode")
    return entry


def ask_docker(path, containers, images, now):
    """Return C({error, containers, images}); an engine that does not answer is a part of it."""
    result = {"error": None, "containers": {}, "images": {}}
    engine = DockerEngine(path)
    try:
        result["containers"] = dict((name, container_entry(engine, name, now)) for name in containers)
        result["images"] = dict((name, (engine.image(name) or {}).get("Id")) for name in images)
    except OSError as error:
        result["error"] = str(error)
    return result


def served(api, model):
    """Return whether a rank serves the model, in the words of a completion."""
    began = time.monotonic()
    try:
        answered, status, text = api.serves(model, QUICK_S)
    except (OSError, ValueError) as error:
        answered, status, text = False, None, why(error)
    return {"answered": answered, "status": status, "seconds": round(time.monotonic() - began, 3), "timed_out": False, "text": text}


def transfers(api):
    """Return what one rank says of its KV transfer, None where it does not answer."""
    try:
        return api.transfers(QUICK_S)
    except (OSError, ValueError):
        return None


def ask_service(service, api_key, timeout):
    """Return what the API of one group answers; see RETURN."""
    api = Api(service["url"], api_key, service["ca_file"])
    result = dict.fromkeys(("health", "health_error", "models_status", "models", "requests", "ranks", "transfers"))
    try:
        result["health"] = api.health(QUICK_S)
        result["models_status"], result["models"] = api.models(QUICK_S)
        # Before this run asks for completions of its own.
        result["requests"] = Several([api.at(url) for url in service["rank_urls"]] or [api]).load()[0]
    except (OSError, ValueError) as error:
        result["health_error"] = why(error)
    if service["rank_urls"]:
        with concurrent.futures.ThreadPoolExecutor(max_workers=AT_ONCE) as at_once:
            result["transfers"] = list(at_once.map(transfers, [api.at(url) for url in service["rank_urls"]]))
    if not service["answers_alone"]:
        ranks = [served(api.at(url), service["model"]) for url in service["rank_urls"]]
        return dict(result, completion=ranks[0], ranks=[dict(said, rank=rank) for rank, said in enumerate(ranks)])
    said = result["completion"] = completion(api, service["model"], timeout)
    if said["answered"] and service["ranks"] == 1:
        result["ranks"] = [dict(said, rank=0)]
    elif said["answered"] or (result["health"] == 200 and (said["timed_out"] or (said["status"] or 0) >= 500)):
        # Where one hangs or fails, the others may still answer.
        result["ranks"] = ask_ranks(api, service["model"], service["ranks"], timeout, urls=service["rank_urls"])
    return result


def ask_proxy(proxy, api_key, timeout):
    """Return what one proxy says of its backends, and a completion through it; see RETURN."""
    router = state_of(proxy_of(dict(proxy, api_key=api_key)), proxy["backends"])
    router.pop("ready")
    return {"router": router, "completion": completion(Api(proxy["url"], api_key), proxy["model"], timeout)}


def kept_away(nft=drain.run_nft):
    """Return the ports to which new connections are rejected, which this node itself does not notice; None where nftables does not say it."""
    try:
        return drain.kept_away(nft)
    except drain.DrainError:
        return None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "default": []},
            "images": {"type": "list", "elements": "str", "default": []},
            "links": {"type": "list", "elements": "int", "default": []},
            "link_questions": {"type": "list", "elements": "str", "choices": ["link", "vnic"], "default": ["link"]},
            "services": {"type": "list", "elements": "dict", "default": [], "options": {
                "name": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "model": {"type": "str", "required": True},
                "ranks": {"type": "int", "default": 1},
                "rank_urls": {"type": "list", "elements": "str", "default": []},
                "answers_alone": {"type": "bool", "default": True},
                "ca_file": {"type": "path"},
            }},
            "proxies": {"type": "list", "elements": "dict", "default": [], "options": {
                "name": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "kind": {"type": "str", "choices": list(KINDS), "default": "vllm-router"},
                "model": {"type": "str", "required": True},
                "backends": {"type": "list", "elements": "str", "required": True},
            }},
            "api_keys": {"type": "dict", "default": {}, "no_log": True},
            "completion_timeout_s": {"type": "float", "default": 30},
            "timeout": {"type": "float", "default": 15},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    params, now = module.params, time.time()
    for name in ("timeout", "completion_timeout_s"):
        if params[name] <= 0:
            module.fail_json(msg="%s must be more than 0 seconds, not %g." % (name, params[name]))
    with concurrent.futures.ThreadPoolExecutor(max_workers=1 + len(params["services"]) + len(params["proxies"])) as aside:
        services = dict((service["name"], aside.submit(ask, "API", ask_service, service=service, api_key=params["api_keys"].get(service["name"]),
                                                       timeout=params["completion_timeout_s"])) for service in params["services"])
        proxies = dict((proxy["name"], aside.submit(ask, "proxy", ask_proxy, proxy=proxy, api_key=params["api_keys"].get(proxy["name"]),
                                                    timeout=params["completion_timeout_s"])) for proxy in params["proxies"])
        docker = aside.submit(ask, "Docker", ask_docker, path=params["docker_socket"], containers=params["containers"], images=params["images"], now=now)
        # npu-smi waits longer for its driver than hccn_tool does.
        npu = ask("npu-smi", ask_npu.answer, timeout=2 * params["timeout"], details=False)
        hccn = {}
        if params["links"]:
            hccn = ask("hccn_tool", ask_hccn.answer, devices=params["links"], questions=params["link_questions"], timeout=params["timeout"])
        answers = dict((name, answer.result()) for name, answer in services.items())
        module.exit_json(changed=False, time=now, docker=docker.result(), npu=npu, hccn=hccn, services=answers,
                         proxies=dict((name, answer.result()) for name, answer in proxies.items()), kept_away=kept_away() if answers else None)


if __name__ == "__main__":
    main()
