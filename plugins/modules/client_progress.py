#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin a client in the background, or look at one for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_progress
short_description: Begin an evaluation or benchmark client in the background, and look at it for a few seconds
description:
  - With O(step=begin) starts the client, or joins the one of the same O(run_id).
  - Then looks every half second whether it still runs, for up to O(slice_s) seconds. Once it has ended its results are returned.
  - An engine that gives no answer meanwhile is asked again for up to two minutes.
  - With O(step=done) says that the results have arrived. The client's container is removed, and the next run with this O(run_id) begins anew.
  - A run is a loop of such calls, see P(ascend.vllm.client_run#module).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  step:
    description: What to do.
    type: str
    choices: [begin, watch, done]
    default: watch
extends_documentation_fragment:
  - ascend.vllm.client_options
  - ascend.vllm.engine_socket
"""

EXAMPLES = r"""
- name: Begin, and look for five seconds
  ascend.vllm.client_progress:
    step: begin
    name: vllm-rank0
    group: vllm
    kind: exec
    run_id: vllm_serve-0f5a
    argv: [vllm, bench, serve, --help]
    results_dir: /tmp/ascend-vllm-client/0f5a
    limit_s: 60
"""

RETURN = r"""
running:
  description: Whether the client runs.
  returned: success
  type: bool
joined:
  description: With O(step=begin), whether it had been begun before.
  returned: success
  type: bool
started:
  description: When it began, in UTC as C(yyyy-mm-ddThh:mm:ssZ), or null where that is not known.
  returned: success
  type: str
seconds:
  description: How long it has been running, in seconds.
  returned: success
  type: float
log:
  description: Its last lines, without secrets; all 200 that are kept once it has ended.
  returned: success
  type: list
  elements: str
rc:
  description: Exit status once it has ended, or null where nobody knows it.
  returned: success
  type: int
timed_out:
  description: Whether it was ended at its limit.
  returned: success
  type: bool
error:
  description: Why it ended before its own end, or null.
  returned: success
  type: str
files:
  description: Relative path -> text of the files that O(collect) names, once it has ended.
  returned: success
  type: dict
left_out:
  description: Files that O(collect) names and that did not fit into O(max_mb).
  returned: success
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import client_runs
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import ClientEngine

#: Lines that are returned while the client runs.
SHOWN = 20


def began(state):
    """Return when the client of a state began, in ISO 8601, or None."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state["started"])) if state else None
    except (OverflowError, ValueError, OSError):
        # The client may write there, too.
        return None


def step(run, what, seconds):
    """Return the result of one call."""
    joined = run.begin() if what == "begin" else False
    if what == "done":
        run.done()
        return {"changed": False, "running": False, "joined": False, "started": None, "seconds": 0.0, "log": [], "rc": None, "timed_out": False, "error": None,
                "files": {}, "left_out": []}
    found = run.watch(seconds)
    state, log = found["state"], run.log(found["state"])
    result = {"changed": what == "begin" and not joined, "running": found["running"], "joined": joined, "started": began(state),
              "seconds": (state or {}).get("seconds", 0.0), "log": log[-SHOWN:] if found["running"] else log,
              "rc": None if found["running"] else found["rc"], "error": found["error"], "timed_out": bool((state or {}).get("timed_out")),
              "files": {}, "left_out": []}
    if not found["running"]:
        result["files"], result["left_out"] = run.results()
    return result


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(client_runs.SPEC, step={"type": "str", "choices": ["begin", "watch", "done"], "default": "watch"}),
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=given["step"] == "begin", running=False, joined=False, started=None, seconds=0.0, log=[], rc=None, timed_out=False,
                         error=None, files={}, left_out=[])
    try:
        result = step(client_runs.of(given, ClientEngine(given["docker_socket"])), given["step"], given["slice_s"])
    except client_runs.RunError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="%s: the client could not be looked at: %s. Remedy: see whether the Docker engine answers (systemctl status docker), and run "
                             "again; a client that was begun goes on." % (given["name"], error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
