#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a container that downloads weights for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_progress
short_description: Watch a container that downloads weights for a few seconds
description:
  - Looks every half second whether the container still runs, for up to O(slice_s) seconds, and says how many bytes lie in the directory.
  - An engine that gives no answer is asked again for up to two minutes.
  - A wait is a loop of such slices, see P(ascend.vllm.weights_wait#module).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  container:
    description: Name of the container.
    type: str
    required: true
  dir:
    description: The directory that it downloads to.
    type: path
    required: true
  slice_s:
    description: Seconds to watch at most.
    type: float
    default: 5.0
  log_lines:
    description: How many of the container's last lines are returned once it has ended.
    type: int
    default: 40
extends_documentation_fragment:
  - ascend.vllm.engine_socket
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: The node that downloads.
"""

EXAMPLES = r"""
- name: Watch the download
  ascend.vllm.weights_progress:
    container: vllm-weights
    dir: /mnt/weights/DeepSeek-R1-W8A8
"""

RETURN = r"""
running:
  description: Whether the container runs.
  returned: success
  type: bool
exists:
  description: Whether there is such a container; one that was removed by another controller is not.
  returned: success
  type: bool
exit_code:
  description: Its exit status once it has ended.
  returned: success
  type: int
bytes:
  description: Size of all files in the directory, those that are not whole yet included.
  returned: success
  type: int
log:
  description: Its last lines once it has ended.
  returned: success
  type: list
  elements: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine, patiently
from ansible_collections.ascend.vllm.plugins.module_utils.manifest import BAD

#: Seconds between two looks.
PAUSE_S = 0.5


def size_of(root):
    """Return the bytes of all files below a directory; the clients keep what is not whole in hidden folders. What was set aside does not count."""
    total = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != BAD]
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                # The client has just moved it to its place.
                continue
    return total


def look(engine, name, tail):
    """Return C({running, exists, exit_code, log}) of a container; raises C(OSError)."""
    found = engine.container(name)
    if found is None:
        return {"running": False, "exists": False, "exit_code": None, "log": []}
    if found["State"]["Running"]:
        return {"running": True, "exists": True, "exit_code": None, "log": []}
    return {"running": False, "exists": True, "exit_code": found["State"].get("ExitCode"), "log": engine.logs(name, tail)}


def watch(engine, name, seconds, tail):
    """Return what look() says after so many seconds, or as soon as the container does not run any more.

    A download goes on while the engine is away (live-restore), and is not given up for that at once. Raises C(OSError).
    """
    deadline = time.monotonic() + seconds
    while True:
        found = patiently(lambda: look(engine, name, tail))
        if not found["running"] or time.monotonic() >= deadline:
            return found
        time.sleep(min(PAUSE_S, max(0.0, deadline - time.monotonic())))


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "slice_s": {"type": "float", "default": 5.0},
            "log_lines": {"type": "int", "default": 40},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = watch(DockerEngine(params["docker_socket"]), params["container"], params["slice_s"], params["log_lines"])
    except OSError as error:
        module.fail_json(msg="the Docker engine does not answer: %s. Remedy: systemctl status docker, then run again; a download that goes on is joined."
                             % error)
    module.exit_json(changed=False, bytes=size_of(params["dir"]), **result)


if __name__ == "__main__":
    main()
