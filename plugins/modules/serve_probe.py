#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch the units of one node for a few seconds while their group starts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_probe
short_description: Watch serving containers of one node for a few seconds
description:
  - Watches the containers at once for up to O(slice_s) seconds, and returns as soon as one of them is not running any more, or all that have
    an API answer.
  - Of a container with an API it also asks C(/health) and, once that says 200, for a completion of one token; only a completion
    counts as ready, because C(/health) goes on saying 200 with a peer dead or its link down. A prefill rank computes a
    completion that is asked of it alone wholly by itself, and keeps nothing of it for a transfer; a decode rank may end at it (O(completion)).
  - From the log it tells how far the start has come, and the lines that may say what goes wrong.
  - A wait is a loop of such slices, see P(ascend.vllm.group_wait#module).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  units:
    description: What to watch, the base URL of its API, or null where it has none, by the name of the container.
    type: dict
    required: true
  slice_s:
    description: How long to watch, in seconds.
    type: float
    default: 5.0
  model:
    description: Served model name, needed where a unit has a URL.
    type: str
  completion:
    description: Whether a completion is asked for. Without one it counts as ready that the model is served; a decode rank has no more to say by itself.
    type: bool
    default: true
  until:
    description:
      - Base URL of an API of the group on another node. Where no unit of O(units) has one, the slice is over a second after its C(/health) says 200,
        rather than at its end, when the group may serve for long already.
    type: str
  log_lines:
    description: How many of the last log lines to return of a container that has exited.
    type: int
    default: 40
extends_documentation_fragment:
  - ascend.vllm.engine_socket
  - ascend.vllm.api_access
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
"""

EXAMPLES = r"""
- name: Watch the head for five seconds
  ascend.vllm.serve_probe:
    units: {vllm-rank0: "http://198.51.100.11:8000"}
    model: deepseek_r1
  register: probe
"""

RETURN = r"""
units:
  description: What is known of each container, by its name.
  returned: success
  type: dict
  contains:
    phase:
      description: V(running), V(ready) (a completion came back), V(exited) or V(absent).
      returned: success
      type: str
    exit_code:
      description: Exit status of an exited container.
      returned: success
      type: int
    health:
      description: HTTP status of C(/health), 0 where no answer came, null while the port refuses connections or where it was not asked.
      returned: success
      type: int
    error:
      description: What went wrong with the last question to the API, or the engine's own error text for an exited container.
      returned: success
      type: str
    last_line:
      description: Last line of the container's log.
      returned: success
      type: str
    startup:
      description:
        - How far the start has come by the last line of the log that is about it, null where the lines that were read are about none.
        - C(phase) is V(loading), V(compiling), V(waiting) (this node's engines wait for those of other nodes) or V(ready) (the API is up).
        - C(step) is V(81/163) while shards are loaded or graphs captured, V(2 local, 2 remote) for engines that are waited for, else empty.
      returned: success
      type: dict
    telling:
      description:
        - Lines of the log that may say what goes wrong, the first traceback whole. A container that runs is read a few hundred lines back,
          one that has exited some thousand; what several processes say alike is there once.
      returned: success
      type: list
      elements: str
    log:
      description: The last lines of the log of an exited container.
      returned: success
      type: list
      elements: str
"""

import concurrent.futures
import ssl
import threading
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import plain_http, serve_log
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

#: In place of a status of C(/health): somebody listens at the port, or it is not known whether nobody does.
NO_ANSWER = 0
#: Seconds between two looks at the container inside one slice.
LOOK_S = 1.0
#: Lines of the log that are read of a container that runs: many processes may speak between two slices.
RECENT_LINES = 400
#: Lines that are read of a container that has exited: every worker of it says its whole traceback, some of them twice.
EXIT_LINES = 5000
#: Seconds between the first word of a process and the engine's note that it runs, at most.
EARLY_S = 2
#: Bytes of telling lines that are returned, of a container that runs and of one that has exited.
RECENT_BYTES = 16384
EXIT_BYTES = 65536


def look(engine, name):
    """Return (phase, exit code, error, when it was started) of a container."""
    found = engine.container(name)
    if found is None:
        return "absent", None, None, None
    state = found["State"]
    if state["Running"]:
        return "running", None, None, state.get("StartedAt")
    error = state.get("Error") or ("killed by the kernel: out of memory" if state.get("OOMKilled") else None)
    return "exited", state["ExitCode"], error, state.get("StartedAt")


def last_line(lines):
    """Return the last line of a log that says anything beside the process it comes from."""
    for line in reversed(lines):
        if serve_log.split(line)[2].strip():
            return line[:300]
    return ""


def recent(engine, name, since):
    """Return C({last_line, startup, telling}) of a container that runs, by what it has said since it was started."""
    lines = [serve_log.clean(line) for line in engine.logs(name, RECENT_LINES, since)]
    return {"last_line": last_line(lines), "startup": serve_log.stage(lines), "telling": serve_log.telling(lines, RECENT_BYTES)}


def ended(engine, name, log_lines, since):
    """Return C({startup, telling, log}) of a container that has exited, by what it had said since it was started."""
    # The engine notes when it has started a process, and one that ends at once has said why before that.
    found = engine.logs(name, max(EXIT_LINES, log_lines), since) or engine.logs(name, max(EXIT_LINES, log_lines), since, EARLY_S)
    lines = [serve_log.clean(line) for line in found]
    return {"startup": serve_log.stage(lines), "telling": serve_log.telling(lines, EXIT_BYTES), "log": lines[-log_lines:] if log_lines > 0 else []}


def ask(url, params, left):
    """Ask an API within C(left) seconds. Return (health, answered, error)."""
    service = Api(url, params["api_key"], params["ca_file"])
    try:
        health = service.health(min(2.0, left))
    except OSError as error:
        cause = plain_http.cause(error)
        # A port that refuses is a start that goes on; a service that is busy may be late, and TLS that fails will fail again.
        health = None if isinstance(cause, ConnectionRefusedError) else NO_ANSWER
        return health, False, "%s: %s" % (url, cause) if isinstance(cause, (ssl.SSLError, FileNotFoundError)) else None
    if health != 200:
        return health, False, None
    try:
        answered, status, text = service.completion(params["model"], left) if params["completion"] else service.serves(params["model"], left)
    except OSError as error:
        wanted = "a completion" if params["completion"] else "the list of models"
        return health, False, "/health says 200, but %s did not come back: %s" % (wanted, getattr(error, "reason", error))
    if answered:
        return health, True, None
    place = "/v1/completions answered HTTP %d: %s" % (status, text[:300]) if params["completion"] else text
    return health, False, "/health says 200, but %s" % place


def is_up(params):
    """Return whether the API of O(until) is up, by its C(/health); without one it never is."""
    if not params["until"] or any(params["units"].values()):
        return False
    try:
        return Api(params["until"], None, params["ca_file"]).health(LOOK_S) == 200
    except OSError:
        return False


def watch(engine, name, url, params, over):
    """Watch one unit for one slice, or until C(over) is set; see RETURN for the result."""
    result = {"phase": "running", "exit_code": None, "health": None, "error": None, "last_line": "", "startup": None, "telling": [], "log": []}
    end = time.monotonic() + params["slice_s"]
    while True:
        phase, exit_code, error, started = look(engine, name)
        if phase != "running":
            said = ended(engine, name, params["log_lines"], started) if phase == "exited" else {}
            over.set()
            return dict(result, phase=phase, exit_code=exit_code, error=error, **said)
        left = end - time.monotonic()
        if url and left > 0:
            result["health"], answered, result["error"] = ask(url, params, max(left, LOOK_S))
            if answered:
                result["phase"] = "ready"
                return result
        if end - time.monotonic() <= LOOK_S or over.wait(LOOK_S) or is_up(params):
            result.update(recent(engine, name, started))
            return result


def watch_all(engine, params):
    """Watch all units at once; return name -> what is known of it."""
    over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(params["units"])) as beside:
        seen = [(name, beside.submit(watch, engine, name, url, params, over)) for name, url in params["units"].items()]
        return dict((name, found.result()) for name, found in seen)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "dict", "required": True},
            "slice_s": {"type": "float", "default": 5.0},
            "model": {"type": "str"},
            "completion": {"type": "bool", "default": True},
            "until": {"type": "str"},
            "api_key": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "log_lines": {"type": "int", "default": 40},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    urls = sorted(url for url in module.params["units"].values() if url)
    if urls and not module.params["model"]:
        module.fail_json(msg="found no model with %s, wanted the name that is served there. Remedy: state model" % ", ".join(urls))
    if not module.params["units"]:
        module.exit_json(changed=False, units={})
    try:
        result = watch_all(DockerEngine(module.params["docker_socket"]), module.params)
    except OSError as error:
        module.fail_json(msg="the Docker engine does not answer: %s. Remedy: systemctl status docker" % error)
    module.exit_json(changed=False, units=result)


if __name__ == "__main__":
    main()
