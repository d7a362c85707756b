#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch the proxy for a few seconds while it starts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_probe
short_description: Watch the container of a proxy for a few seconds
description:
  - Watches the container for up to O(slice_s) seconds. Returns at once when it has ended, and when the router counts every backend.
  - The router's own count is not enough, because it takes a backend for healthy that it has not asked yet. So its list has to be exactly
    O(backends), and each backend has to answer C(/health) of this host, too.
  - A wait is a loop of such slices, see M(ascend.vllm.proxy_wait).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  container:
    description: Name of the container.
    type: str
    required: true
  url:
    description: Base URL of the router.
    type: str
    required: true
  kind:
    description: Which proxy it is.
    type: str
    choices: [vllm-router, vllm-ascend]
    default: vllm-router
  backends:
    description: Base URLs of the backends that it should have.
    type: list
    elements: str
    required: true
  also:
    description: Base URLs of backends that it may have beside these, in whatever state.
    type: list
    elements: str
    default: []
  api_key:
    description: API key of router and backends.
    type: str
  restarts:
    description: >-
      How often the engine had started the container again before; more than that counts as ended, because the engine starts this one again by itself.
      Not looked at while it is not stated.
    type: int
  slice_s:
    description: How long to watch, in seconds.
    type: float
    default: 5.0
  log_lines:
    description: How many of the last log lines to return when the container has ended.
    type: int
    default: 40
extends_documentation_fragment:
  - ascend.vllm.engine_socket
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Hosts with a Docker engine.
"""

EXAMPLES = r"""
- name: Watch the proxy for five seconds
  ascend.vllm.proxy_probe:
    container: vllm-proxy
    url: http://198.51.100.11:1999
    backends: [http://198.51.100.11:8000, http://198.51.100.13:8000]
  register: probe
"""

RETURN = r"""
phase:
  description: V(running), V(ready) (every backend is there), V(exited) or V(absent).
  returned: success
  type: str
exit_code:
  description: Exit status of a container that has ended.
  returned: success
  type: int
restarts:
  description: How often the engine has started it again.
  returned: success
  type: int
router:
  description: >-
    What the router says, C(answers), C(error) and C(readiness) (C(status), C(healthy), C(total)), its backends C(up), C(down), C(missing) and C(other),
    and C(unreachable), backend to why it does not answer this host.
  returned: success
  type: dict
telling:
  description: Lines of the log that may say what goes wrong, of a container that has ended.
  returned: success
  type: list
  elements: str
log:
  description: The last lines of the log of a container that has ended.
  returned: success
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import serve_log
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.proxy_router import KINDS, proxy_of, state_of

#: Seconds between two looks inside one slice.
LOOK_S = 0.5
#: Lines of the log that are read of a container that has ended, and bytes of telling ones that are returned.
EXIT_LINES = 2000
EXIT_BYTES = 32768


def look(engine, name, known_restarts):
    """Return (phase, exit code, restarts) of a container; one that was started again behind our back has ended, too."""
    found = engine.container(name)
    if found is None:
        return "absent", None, 0
    state, restarts = found["State"], int(found.get("RestartCount") or 0)
    again = known_restarts is not None and restarts > known_restarts
    if state["Running"] and not state.get("Restarting") and not again:
        return "running", None, restarts
    # Once it runs again its exit status is the new run's.
    return "exited", None if state["Running"] and not state.get("Restarting") else state.get("ExitCode"), restarts


def ended(engine, name, log_lines):
    """Return C({telling, log}) of a container that has ended."""
    lines = [serve_log.clean(line) for line in engine.logs(name, max(EXIT_LINES, log_lines))]
    return {"telling": serve_log.telling(lines, EXIT_BYTES), "log": lines[-log_lines:] if log_lines > 0 else []}


def watch(engine, params):
    """Watch for one slice; see RETURN for the result."""
    result = {"phase": "running", "exit_code": None, "restarts": 0, "router": None, "telling": [], "log": []}
    router, end = proxy_of(params), time.monotonic() + params["slice_s"]
    while True:
        phase, exit_code, restarts = look(engine, params["container"], params["restarts"])
        result.update(phase=phase, exit_code=exit_code, restarts=restarts)
        if phase == "exited":
            result.update(ended(engine, params["container"], params["log_lines"]))
        if phase != "running":
            return result
        result["router"] = state_of(router, params["backends"], params["also"])
        if result["router"].pop("ready"):
            result["phase"] = "ready"
            return result
        if time.monotonic() + LOOK_S > end:
            return result
        time.sleep(LOOK_S)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": list(KINDS), "default": "vllm-router"},
            "backends": {"type": "list", "elements": "str", "required": True},
            "also": {"type": "list", "elements": "str", "default": []},
            "api_key": {"type": "str", "no_log": True},
            "restarts": {"type": "int"},
            "slice_s": {"type": "float", "default": 5.0},
            "log_lines": {"type": "int", "default": 40},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    try:
        result = watch(DockerEngine(module.params["docker_socket"]), module.params)
    except OSError as error:
        module.fail_json(msg="the Docker engine does not answer: %s. Remedy: systemctl status docker" % error)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
