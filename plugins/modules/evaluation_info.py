#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the head of a group what has to be known before a client is run against it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evaluation_info
short_description: Ask the head of a group what has to be known before its service is evaluated
description:
  - Asks the API for its models and the length of their context and the Docker engine since when the serving container runs, looks for the tokenizer
    beside the weights, and for room on the disk, in one round trip.
  - Never fails for an answer; what could not be found out is null with an error text beside it.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  url:
    description: Base URL of the API. Nobody is asked without it.
    type: str
  container:
    description: Name of the serving container. The engine is not asked without it.
    type: str
  requests:
    description: Whether the service is asked how many requests it has, too.
    type: bool
    default: false
  load_urls:
    description: Base URLs of those that are asked how many requests they have, added up, where O(url) is that of a proxy.
    type: list
    elements: str
    default: []
  timeout_s:
    description: Seconds until an unanswered question counts as failed.
    type: float
    default: 10.0
  weights_dir:
    description: The directory of the weights.
    type: path
    required: true
  results_dir:
    description: Where results will be written. One that does not exist yet stands for its nearest parent that does.
    type: path
    required: true
extends_documentation_fragment:
  - ascend.vllm.api_access
  - ascend.vllm.engine_socket
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Hosts that reach the API.
"""

EXAMPLES = r"""
- name: Ask before an evaluation
  ascend.vllm.evaluation_info:
    url: http://198.51.100.11:8000
    container: vllm-rank0
    weights_dir: /mnt/weights/DeepSeek-R1-W8A8
    results_dir: /var/lib/ascend-vllm/results
  register: said
"""

RETURN = r"""
service:
  description: >-
    C(status) (HTTP status of C(/v1/models), null without an answer), C(error), and C(models), each with C(id) and C(max_model_len), which is null
    where the service does not say it. All null without O(url). With O(requests), C(requests) are those that it has, C(running) and C(waiting), the
    fewer of two looks; null where its metrics do not say it.
  returned: success
  type: dict
  sample: {"status": 200, "error": null, "models": [{"id": "deepseek_r1", "max_model_len": 35000}], "requests": {"running": 0, "waiting": 0}}
container:
  description: >-
    C(started), when O(container) started, as the engine says it, or null where it does not run or nobody was asked; C(error), why the engine did not say it.
  returned: success
  type: dict
  sample: {"started": "2026-05-02T09:00:00.123456789Z", "error": null}
tokenizer:
  description: C(files), those of a tokenizer beside the weights, and C(error), why the directory cannot be read, or null.
  returned: success
  type: dict
  sample: {"files": ["tokenizer.json", "tokenizer_config.json"], "error": null}
room:
  description: C(path) that was looked at, C(free_mb) there and C(error).
  returned: success
  type: dict
  sample: {"path": "/var/lib", "free_mb": 51200, "error": null}
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import host, plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api, Several

#: Files that hold a whole vocabulary: without one of them there is no tokenizer.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
#: Seconds between two looks at the requests of a service.
AGAIN_S = 1.0
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "merges.txt")


def models(text):
    """Return C([{id, max_model_len}]) of what /v1/models answered; entries that are none are left out. Raises C(ValueError)."""
    entries = json.loads(text)
    if not isinstance(entries, dict) or not isinstance(entries.get("data"), list):
        raise ValueError("no list of models")
    found = []
    for entry in entries["data"]:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            length = entry.get("max_model_len")
            found.append({"id": entry["id"], "max_model_len": length if isinstance(length, int) and not isinstance(length, bool) else None})
    return found


def ask_service(api, timeout):
    """Return what the service serves: C({status, error, models})."""
    try:
        status, text = api.get("/v1/models", timeout)
    except OSError as error:
        return {"status": None, "error": plain_http.reason(error), "models": []}
    if status != 200:
        return {"status": status, "error": " ".join(text.split())[:300], "models": []}
    try:
        return {"status": status, "error": None, "models": models(text)}
    except ValueError as error:
        return {"status": status, "error": "something else than a list of models: %s" % error, "models": []}


def ask_engine(name, docker_socket):
    """Return C({started, error}) of a container."""
    try:
        state = (DockerEngine(docker_socket).container(name) or {}).get("State") or {}
    except OSError as error:
        return {"started": None, "error": str(error)}
    return {"started": state.get("StartedAt") if state.get("Running") else None, "error": None}


def ask_requests(api, timeout, pause=time.sleep):
    """Return C({running, waiting}), the fewest of two looks, or None where the metrics do not say it: a probe of a second is no load."""
    found = None
    for again in (False, True):
        if again:
            pause(AGAIN_S)
        try:
            seen = api.requests(timeout)
        except OSError:
            return None
        if seen is None or not sum(seen.values()):
            return seen
        if found is None or sum(seen.values()) < sum(found.values()):
            found = seen
    return found


def look_for_tokenizer(folder):
    """Return C({files, error}) of a directory of weights."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return {"files": [], "error": "%s: %s" % (folder, error.strerror or error)}
    found = [name for name in names if name in TOKENIZERS]
    return {"files": found + [name for name in names if found and name in BESIDE], "error": None}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str"},
            "api_key": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "container": {"type": "str"},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
            "requests": {"type": "bool", "default": False},
            "load_urls": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "float", "default": 10.0},
            "weights_dir": {"type": "path", "required": True},
            "results_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    service = {"status": None, "error": None, "models": []}
    api = Api(given["url"], given["api_key"], given["ca_file"]) if given["url"] else None
    if api:
        service = ask_service(api, given["timeout_s"])
    loaded = Several([api.at(url) for url in given["load_urls"]] or [api]) if api else None
    service["requests"] = ask_requests(loaded, given["timeout_s"]) if loaded and given["requests"] else None
    container = ask_engine(given["container"], given["docker_socket"]) if given["container"] else {"started": None, "error": None}
    disk = host.describe_disk(given["results_dir"])
    free = disk["free_bytes"]
    module.exit_json(
        changed=False, service=service, container=container, tokenizer=look_for_tokenizer(given["weights_dir"]),
        room={"path": disk["path"], "free_mb": None if free is None else free >> 20, "error": disk["error"]})


if __name__ == "__main__":
    main()
