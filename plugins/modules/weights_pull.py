#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch verified weights from other nodes in the background, and watch that for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_pull
short_description: Fetch verified weights from other nodes in the background, and watch that for a few seconds
description:
  - Runs on a node that has its own copy of the weights. Asks the node before it, by rsync over SSH, for the files of the head's manifest,
    proves the SHA-256 of each, and only then puts it where the next node sees it. The directory is marked complete last.
  - A node that is gone, refuses, stands still or has a wrong content is left for the next one in O(upstreams).
  - What is here and right is hashed rather than fetched; what is here and wrong is moved below C(.ascend-vllm-bad).
  - With O(begin=true) starts a process that does this; one that does it already, for a run before this one, is ended. What is whole is kept,
    and half files go on where they were. The process ends itself when nobody has watched it for two minutes.
  - Then looks every half second how far it is, until it has ended, for up to O(slice_s) seconds. M(ascend.vllm.weights_fan_out) watches
    until the end.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  begin:
    description: Whether it is begun.
    type: bool
    default: false
  slice_s:
    description: Seconds to watch at most.
    type: float
    default: 30.0
  stall_s:
    description: Seconds after which a node that gets nothing new itself is left for the next one.
    type: float
    default: 60.0
extends_documentation_fragment:
  - ascend.vllm.weights_copy
"""

EXAMPLES = r"""
- name: Begin to fetch, and watch for half a minute
  ascend.vllm.weights_pull:
    weights: "{{ group.weights }}"
    fingerprint: "{{ head.fingerprint }}"
    upstreams:
      - {name: node1, address: 198.51.100.12, port: 22, user: root}
      - {name: node0, address: 198.51.100.11, port: 22, user: root}
    begin: true
    key_file: /run/ascend-vllm/copy/key
    known_hosts_file: /run/ascend-vllm/copy/known_hosts
"""

RETURN = r"""
running:
  description: Whether it goes on.
  returned: success
  type: bool
done:
  description: Whether nothing is left to do.
  returned: success
  type: bool
phase:
  description: What it does, as a word for the progress.
  returned: success
  type: str
total_bytes:
  description: Bytes of all files.
  returned: success
  type: int
left_bytes:
  description: Bytes of the files that are not here and proved.
  returned: success
  type: int
fetched_bytes:
  description: Bytes of the files that were fetched since it began.
  returned: success
  type: int
gave_up:
  description: Nodes that are not asked any more, with the reason.
  returned: success
  type: dict
differences:
  description: What keeps the directory from being complete when all is done.
  returned: success
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.module_utils.service import fork_process
from ansible_collections.ascend.vllm.plugins.module_utils import background, manifest, relay, tools, weights

#: Seconds until a copy that was told to end is seen to have ended: SIGTERM needs none, a write to NFS may.
END_S = 15.0


def begin(job, work, given):
    """Start the copy. One that goes on is of a run that has ended, with other options and a key that is no longer let in. Raises relay.RelayError."""
    relay.check(given["streams"])
    job.stop()
    deadline = time.monotonic() + END_S
    while job.look()[1]:
        if time.monotonic() >= deadline:
            raise relay.RelayError("another copy goes on there, found after %d s, wanted none. Remedy: wait until it has ended, and run again." % END_S)
        time.sleep(0.1)
        # It had not said its number yet.
        job.stop()
    fresh = dict({"fingerprint": work.fingerprint, "done": False, "error": None, "changed": False, "differences": []}, **work.progress())
    job.start(fork_process, lambda: relay.carry_on(work, job, given["streams"], given["bandwidth_limit"], given["stall_s"], given["full"]), fresh)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            relay.SPEC,
            begin={"type": "bool", "default": False},
            slice_s={"type": "float", "default": 30.0},
            stall_s={"type": "float", "default": 60.0},
        ),
        supports_check_mode=True,
    )
    given = module.params
    absent = [name for name in ("rsync", "ssh") if not tools.find_tool(name)["path"]]
    if absent:
        module.fail_json(msg="%s is not installed here. Remedy: install it; ascend.vllm.prerequisites does." % " and ".join(absent))
    wanted = dict(given["weights"])
    requirements = dict(wanted.get("requirements") or {})
    wanted["requirements"] = dict(requirements, mtp=boolean(requirements.get("mtp") or False, strict=False))
    work = relay.Relay(wanted, given["upstreams"], given["fingerprint"], given["key_file"], given["known_hosts_file"])
    job = relay.job(wanted["dir"])
    try:
        if module.check_mode:
            module.exit_json(running=False, **relay.step(work, given["streams"], full=given["full"], dry=True))
        if given["begin"]:
            begin(job, work, given)
    except relay.RelayError as error:
        module.fail_json(msg="%s: %s" % (wanted["dir"], error))
    except (manifest.WriteError, weights.HubError, OSError) as error:
        module.fail_json(msg="%s: the copy cannot be begun: %s. Remedy: make room there and in %s, and let root write there."
                         % (wanted["dir"], error, background.FOLDER))
    state, running = job.watch(given["slice_s"])
    if state is None:
        module.fail_json(msg="%s: nothing is known of a copy here. Remedy: run again; what is whole is kept." % wanted["dir"])
    error = state.pop("error")
    if not running and not state["done"] and not error:
        error = "%s: the process that copied was ended. Remedy: run again; what is whole is kept." % wanted["dir"]
    if error:
        module.fail_json(msg=error, gave_up=state["gave_up"])
    module.exit_json(running=running, **state)


if __name__ == "__main__":
    main()
