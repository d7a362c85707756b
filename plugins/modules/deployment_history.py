#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the history of a group's deployments on its head."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_history
short_description: Keep the history of a group's deployments on its head
description:
  - Each deployment that served is a file with its part of the plan, from which it can be started again. Only root reads them, because an
    environment may hold secrets of the site.
  - A deployment that is the same as the newest one is not written again.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  group:
    description: Name of the group.
    type: str
    required: true
  record:
    description: The deployment to keep, as P(ascend.vllm.deployment_record#filter) gives it. Without it the history is read.
    type: dict
  keep:
    description: How many deployments are kept; older ones are removed.
    type: int
    default: 20
  folder:
    description: Where the history is.
    type: path
    default: /var/lib/ascend-vllm/deployments
attributes:
  check_mode:
    support: full
    description: Says what would be written, and writes nothing.
  diff_mode:
    support: none
    description: A record is long.
  platform:
    support: full
    platforms: posix
    description: Any node.
"""

EXAMPLES = r"""
- name: Read the history
  ascend.vllm.deployment_history:
    group: vllm
  register: history
"""

RETURN = r"""
deployments:
  description: The deployments that are kept, oldest first, each with C(number), C(time) (seconds since 1970-01-01 UTC) and its record.
  returned: success
  type: list
  elements: dict
newest:
  description: The number of the newest one, null without any.
  returned: success
  type: int
unreadable:
  description: Files of the history that cannot be read, with the reason.
  returned: success
  type: list
  elements: str
"""

import json
import os
import re
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

_NAME = re.compile(r"^(\d{6})\.json$")


def read(folder):
    """Return (deployments, oldest first; lines about files that cannot be read)."""
    found, unreadable = [], []
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        match = _NAME.match(name)
        if not match:
            continue
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                entry = json.load(stream)
            if not isinstance(entry["record"], dict) or not isinstance(entry["time"], int):
                raise ValueError("it is no deployment")
            found.append({"number": int(match.group(1)), "time": entry["time"], "record": entry["record"]})
        except (OSError, ValueError, KeyError, TypeError) as error:
            unreadable.append("%s: %s" % (os.path.join(folder, name), error))
    return found, unreadable


def write(folder, number, record, now):
    """Write a deployment so that a reader has it whole or not at all."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"time": int(now), "record": record}, stream, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, os.path.join(folder, "%06d.json" % number))
    except OSError:
        os.unlink(partial)
        raise


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "group": {"type": "str", "required": True},
            "record": {"type": "dict"},
            "keep": {"type": "int", "default": 20},
            "folder": {"type": "path", "default": "/var/lib/ascend-vllm/deployments"},
        },
        supports_check_mode=True,
    )
    given = module.params
    folder = os.path.join(given["folder"], re.sub(r"[^A-Za-z0-9_.-]", "_", given["group"]))
    if given["keep"] < 2:
        module.fail_json(msg="keep is %d, wanted 2 or more: the newest deployment and one to go back to." % given["keep"])
    try:
        found, unreadable = read(folder)
        changed = given["record"] is not None and (not found or found[-1]["record"] != given["record"])
        if changed:
            numbers = [int(_NAME.match(name).group(1)) for name in (os.listdir(folder) if os.path.isdir(folder) else []) if _NAME.match(name)]
            new = {"number": max(numbers or [0]) + 1, "time": int(time.time()), "record": given["record"]}
            found.append(new)
            if not module.check_mode:
                write(folder, new["number"], new["record"], new["time"])
                for old in found[:-given["keep"]]:
                    os.unlink(os.path.join(folder, "%06d.json" % old["number"]))
            found = found[-given["keep"]:]
    except OSError as error:
        module.fail_json(msg="the history of group %s cannot be kept in %s: %s. Remedy: make room there and let root write." % (given["group"], folder, error))
    module.exit_json(changed=changed, deployments=found, newest=found[-1]["number"] if found else None, unreadable=unreadable)


if __name__ == "__main__":
    main()
