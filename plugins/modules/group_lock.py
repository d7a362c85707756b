#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one run at a time act on a group."""

from __future__ import annotations

DOCUMENTATION = r"""
module: group_lock
short_description: Let one run at a time act on a group of nodes
description:
  - Runs on the head of a group. The first run that asks has the lock until it gives it back; a second one is refused and told who has it, since
    when and for what.
  - A run that was killed leaves its lock behind. The next run from the same controller sees that the process is gone, and takes the lock over.
    From another controller it is taken over once the time that it was asked for is over, or with O(force).
  - Asking again within one run changes nothing, and only the verb that got the lock gives it back. So a verb may use another one.
  - The lock is a file below C(/run) of the head; a restart of the node ends it.
  - This is an action plugin; the module of the same name reads and writes the file.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  group:
    description: Name of the group.
    type: str
    required: true
  verb:
    description: What the lock is for, in a word.
    type: str
    required: true
  state:
    description: V(present) takes the lock, V(absent) gives it back; one that another run has is left alone.
    type: str
    choices: [present, absent]
    default: present
  lease_s:
    description: Seconds after which another controller may take the lock over.
    type: int
    default: 14400
  force:
    description: Take the lock whoever has it.
    type: bool
    default: false
  holder:
    description: Who asks; the action plugin fills this in.
    type: dict
  replace:
    description: The C(id) of the O(holder) that may be replaced; the action plugin fills this in.
    type: str
  folder:
    description: Where the lock's file is.
    type: path
    default: /run/ascend-vllm
attributes:
  check_mode:
    support: full
    description: Takes no lock, and says who has it.
  diff_mode:
    support: none
    description: A lock is no change of the node.
  platform:
    support: full
    platforms: posix
    description: Any node.
"""

EXAMPLES = r"""
- name: Let nobody else act on the group
  ascend.vllm.group_lock:
    group: vllm
    verb: stop

- name: Give it back
  ascend.vllm.group_lock:
    group: vllm
    verb: stop
    state: absent
"""

RETURN = r"""
held:
  description: Whether this run has the lock.
  returned: success
  type: bool
holder:
  description: Who has the lock, null for nobody.
  returned: success
  type: dict
"""

import contextlib
import fcntl
import json
import os
import re
import tempfile

from ansible.module_utils.basic import AnsibleModule


def path_of(folder, group):
    """Return where the lock of a group is."""
    return os.path.join(folder, "group-%s.lock" % re.sub(r"[^A-Za-z0-9_.-]", "_", group))


def read(path):
    """Return who has the lock, or None. A file that cannot be read as one is a holder without a name: somebody put it there."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("id") and isinstance(found["id"], str):
        return found
    return {"id": "", "who": "a file that is no lock: %s" % path}


@contextlib.contextmanager
def alone(path):
    """Let one process at a time read and change the lock: of two runs that take over at once, the second one sees the first."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    guard = os.open(path + ".guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
    finally:
        os.close(guard)


def write(path, holder):
    """Write the lock so that a reader has it whole."""
    handle, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".lock-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(holder, stream)
        os.replace(partial, path)
    except OSError:
        os.unlink(partial)
        raise


def take(path, holder, replace=None):
    """Take the lock if nobody has it, or the one with the id C(replace); return who has it now."""
    with alone(path):
        there = read(path)
        if there is not None and (replace is None or there["id"] != replace):
            return there
        write(path, holder)
        return holder


def give_back(path, holder):
    """Remove the lock if this run's verb has it; return who has it now."""
    if read(path) is None:
        return None
    with alone(path):
        there = read(path)
        if there is not None and (there["id"], there.get("verb")) == (holder["id"], holder["verb"]):
            os.unlink(path)
            return None
        return there


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "group": {"type": "str", "required": True},
            "verb": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "lease_s": {"type": "int", "default": 14400},
            "force": {"type": "bool", "default": False},
            "holder": {"type": "dict"},
            "replace": {"type": "str"},
            "folder": {"type": "path", "default": "/run/ascend-vllm"},
        },
        supports_check_mode=True,
    )
    given = module.params
    path, holder = path_of(given["folder"], given["group"]), given["holder"]
    if not holder or not holder.get("id"):
        module.fail_json(msg="group_lock is an action plugin: it says who asks. Remedy: use ascend.vllm.group_lock in a playbook.")
    try:
        if module.check_mode:
            there = read(path)
        elif given["state"] == "absent":
            there = give_back(path, holder)
        else:
            there = take(path, holder, given["replace"])
    except OSError as error:
        module.fail_json(msg="the lock of group %s cannot be kept in %s: %s. Remedy: let root write there." % (given["group"], path, error))
    module.exit_json(changed=False, held=bool(there) and there["id"] == holder["id"], holder=there)


if __name__ == "__main__":
    main()
