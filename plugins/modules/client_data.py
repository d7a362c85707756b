#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove the data sets of an evaluation on this node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_data
short_description: Prove the data sets of an evaluation on this node
description:
  - Hashes every file, and reads every sample in the format that the clients want. Fails naming each file that is missing or wrong, with what
    was found, what is wanted and what to do.
  - With O(fetch=true), a file that is missing or has another content is fetched first, if its C(url) and C(sha256) are known.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  dir:
    description: Folder on the node with one folder for each set.
    type: path
    required: true
  sets:
    description:
      - Set -> C({files, dir}). C(dir) is the set's folder below O(dir), its name if it is left out.
      - Each of C(files) has C(path) (below the set's folder), C(format) (C(gsm8k), C(gpqa), C(aime2024), or C(jsonl) and C(csv) with C(fields)),
        and may have C(sha256), C(fields) (that each sample has), C(lines) (how many samples) and C(url).
    type: dict
    required: true
  fetch:
    description: Whether files that are missing or wrong are fetched.
    type: bool
    default: false
  proxies:
    description: Proxies to fetch through, C(http) and C(https). None is used unless it is given.
    type: dict
    default: {}
  remedy:
    description: What a person does about files that are not right; shown at the end of the failure.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: In check mode nothing is fetched.
  diff_mode:
    support: none
    description: Files are not shown as a difference.
  platform:
    support: full
    platforms: posix
    description: The node that the client runs on.
"""

EXAMPLES = r"""
- name: Prove gsm8k
  ascend.vllm.client_data:
    dir: /mnt/sets
    sets:
      gsm8k:
        files:
          - {path: test.jsonl, format: gsm8k, lines: 1319}
          - {path: train.jsonl, format: gsm8k, lines: 7473}
    remedy: put them there
"""

RETURN = r"""
sets:
  description: Set -> C(dir), its folder, and C(files), for each its C(path), C(sha256), C(lines) (samples) and C(wrong) (sentences).
  returned: always
  type: dict
fetched:
  description: Files that were fetched.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import data_sets


def stated_wrong(sets):
    """Return what of the option sets is not understood, as sentences."""
    wrong = []
    for name, entry in sorted(sets.items()):
        files = entry.get("files") if isinstance(entry, dict) else None
        if not isinstance(files, list) or not files:
            wrong.append("%s: found no files, wanted a list of them" % name)
            continue
        for wanted in files:
            path, form = (wanted.get("path"), wanted.get("format")) if isinstance(wanted, dict) else (None, None)
            if not path or os.path.isabs(path) or ".." in path.split("/"):
                wrong.append("%s: found path %s, wanted one below the set's folder" % (name, path))
            elif form not in data_sets.FORMATS:
                wrong.append("%s: %s: found format %s, wanted one of %s" % (name, path, form, ", ".join(sorted(data_sets.FORMATS))))
    return wrong


def one(path, wanted, given, check):
    """Return C((proof of a file, whether it was fetched))."""
    proof, fetched = data_sets.prove(path, wanted), False
    if proof["wrong"] and given["fetch"] and not check:
        if not wanted.get("url") or not wanted.get("sha256"):
            proof["wrong"].append("it is not fetched: found no %s of it in the data, wanted both" % " and ".join(
                key for key in ("url", "sha256") if not wanted.get(key)))
        else:
            try:
                data_sets.fetch(path, wanted, given["proxies"])
                proof, fetched = data_sets.prove(path, wanted), True
            except (OSError, ValueError) as error:
                proof["wrong"].append("it was not fetched: %s" % (getattr(error, "reason", None) or error))
    return proof, fetched


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "sets": {"type": "dict", "required": True},
            "fetch": {"type": "bool", "default": False},
            "proxies": {"type": "dict", "default": {}},
            "remedy": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given, sets, fetched = module.params, {}, []
    wrong = stated_wrong(given["sets"])
    if wrong:
        module.fail_json(msg="sets: %s. Remedy: correct the data of the sets" % "; ".join(wrong), sets={}, fetched=[])
    for name, entry in sorted(given["sets"].items()):
        folder = os.path.join(given["dir"], entry.get("dir") or name)
        proofs = []
        for wanted in entry["files"]:
            proof, new = one(os.path.join(folder, wanted["path"]), wanted, given, module.check_mode)
            proofs.append(proof)
            fetched += [proof["path"]] if new else []
        sets[name] = {"dir": folder, "files": proofs}
    bad = ["%s: %s: %s" % (name, proof["path"], "; ".join(proof["wrong"]))
           for name, entry in sorted(sets.items()) for proof in entry["files"] if proof["wrong"]]
    if bad:
        module.fail_json(msg="%s. Remedy: %s" % (". ".join(bad), given["remedy"]), sets=sets, fetched=fetched, changed=bool(fetched))
    module.exit_json(changed=bool(fetched), sets=sets, fetched=fetched)


if __name__ == "__main__":
    main()
