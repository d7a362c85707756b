#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a directory of weights, and verify every file of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_dir
short_description: Look at a directory of model weights, and verify every file of it
description:
  - With O(state=read), says what the directory holds and whether every file is still the one that was verified. Sizes and times
    are compared with the manifest C(.ascend-vllm-weights.json) beside the weights, and nothing is hashed.
  - With O(state=verified), hashes every file that the manifest does not cover, compares with the hub's own list (or another list
    of hashes, see O(expected_file)), looks inside the model (configuration, tokenizer, index, the header of every safetensors
    file) and, when all is well, writes the manifest. What was hashed is kept, so a verification that was cut short goes on.
  - Differences do not make O(state=verified) fail; they are returned, and no manifest is written.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  weights:
    description:
      - The weights, with C(kind) (V(modelscope), V(huggingface), V(local), V(controller) or V(rsync)), C(id), C(revision), C(endpoint),
        C(dir) and C(requirements).
      - C(requirements) has C(quantization) (V(ascend) wants C(quant_model_description.json)) and C(mtp) (wants the MTP layers).
      - Without a hub, that is with any other kind than V(modelscope) and V(huggingface), a C(SHA256SUMS) beside the weights or the
        earlier manifest says what is wanted; without either the first verification records the hashes.
    type: dict
    required: true
  state:
    description: Read only, or verify.
    type: str
    choices: [read, verified]
    default: read
  full:
    description: With O(state=verified), hash every file, whatever its size and time say. This alone finds a content that changed silently.
    type: bool
    default: false
  budget_s:
    description:
      - With O(state=verified), begin no file that would end after this many seconds; call again while RV(done) is false.
      - A file that was begun is finished, and every thread begins one, so a call may last as long as the largest file takes.
    type: float
  discard:
    description:
      - With O(state=verified), move a file that the list names and that is another one below C(.ascend-vllm-bad) in the directory,
        so that the client fetches it again. Nothing is deleted.
    type: bool
    default: false
  threads:
    description: Threads that hash; V(0) takes the processors there are, at most 16.
    type: int
    default: 0
  expected_file:
    description:
      - Path on the node of a manifest (that of another node, for instance) or of a list as C(sha256sum) writes it, which says what is
        wanted. No hub is asked then.
    type: path
  token_file:
    description: Path on the node of a file with the hub's token.
    type: path
  proxies:
    description: Proxies to reach the hub, C(http) and C(https). None is used unless it is given.
    type: dict
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written, moved or hashed; RV(left_bytes) says what would be hashed.
  diff_mode:
    support: none
    description: The manifest is not shown as a difference.
  platform:
    support: full
    platforms: posix
    description: Nodes that see the weights directory.
"""

EXAMPLES = r"""
- name: Look at the weights
  ascend.vllm.weights_dir:
    weights:
      kind: modelscope
      id: vllm-ascend/DeepSeek-R1-W8A8
      revision: master
      endpoint: https://www.modelscope.cn
      dir: /mnt/weights/DeepSeek-R1-W8A8
      requirements:
        quantization: ascend
        mtp: true
  register: weights

- name: Verify them for a minute
  ascend.vllm.weights_dir:
    weights: "{{ group.weights }}"
    state: verified
    budget_s: 60
    discard: true
  register: verification
"""

RETURN = r"""
exists:
  description: Whether the directory is there.
  returned: success
  type: bool
complete:
  description:
    - The same as RV(verified). For weights of kind V(local) without a manifest it is enough that the configuration and every file of
      the index are there.
  returned: success
  type: bool
verified:
  description: Whether a manifest of exactly these weights and requirements is there and every file has the size and time it had when it was verified.
  returned: success
  type: bool
files:
  description: Number of files.
  returned: success
  type: int
bytes:
  description: Their total size in bytes.
  returned: success
  type: int
fingerprint:
  description:
    - SHA-256 over path, size and SHA-256 of every file of the manifest; equal on nodes whose files have equal contents, whatever their times.
    - For weights of kind V(local) without a manifest, over names and sizes of all files and the content of the small ones. Null where there
      is nothing to compare.
  returned: success
  type: str
differences:
  description: What keeps the directory from being complete, one line for each file, with what was found and what was wanted.
  returned: always
  type: list
  elements: str
extra:
  description: Files that no list names. They are no difference, unless vLLM would load them.
  returned: success
  type: list
  elements: str
to_hash_bytes:
  description: Bytes of the files that are there and not yet hashed as they are now. Falls while a verification is under way.
  returned: success
  type: int
done:
  description: Whether nothing is left to hash, so that RV(differences) is all.
  returned: O(state=verified)
  type: bool
hashed_bytes:
  description: Bytes hashed by this call.
  returned: O(state=verified)
  type: int
left_bytes:
  description: Bytes left to hash.
  returned: O(state=verified)
  type: int
seconds:
  description: How long the verification took.
  returned: O(state=verified)
  type: float
discarded:
  description: Files that were moved below C(.ascend-vllm-bad), by the path they had.
  returned: O(state=verified)
  type: list
  elements: str
expected_from:
  description: Where the list of wanted files comes from, V(the hub), the name of a file, or V(nobody) when the hashes were recorded for the first time.
  returned: O(state=verified)
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.ascend.vllm.plugins.module_utils import manifest, plain_http, weights


def read_token(path):
    """Return the token in a file; raise HubError, which does not show it."""
    try:
        with open(path, encoding="ascii") as stream:
            return plain_http.check_token(stream.read())
    except OSError as error:
        raise weights.HubError("the token file %s cannot be read: %s" % (path, error.strerror or error)) from error
    except ValueError:
        # Not from the error: a UnicodeDecodeError quotes what it could not read.
        raise weights.HubError("the token file %s is of no use: there is no token in it, or a character that no token has" % path) from None


def hub(module, wanted):
    """Return a function that asks the hub for the files of the weights, or None for weights of no hub."""
    if wanted["kind"] not in plain_http.HUBS:
        return None
    endpoint, ask = plain_http.HUBS[wanted["kind"]]

    def files():
        """Return the hub's list."""
        token = read_token(module.params["token_file"]) if module.params["token_file"] else None
        if token:
            module.no_log_values.add(token)
        answer = ask(wanted.get("endpoint") or endpoint, wanted["id"], wanted.get("revision") or "master",
                     proxies=module.params["proxies"], token=token)
        if not answer["exists"]:
            raise weights.HubError(answer["error"])
        return answer["files"]

    return files


def verify(module, wanted):
    """Verify the directory; return the module's result."""
    given = {key: module.params[key] for key in ("full", "budget_s", "discard", "threads", "expected_file")}
    try:
        return weights.verify(wanted["dir"], wanted, hub(module, wanted), dry=module.check_mode, **given)
    except weights.HubError as error:
        module.fail_json(
            msg="cannot compare %s with the hub: %s. Remedy: check the endpoint in vllm_weights_source, the way to it and the token." % (wanted["dir"], error),
            differences=[])
    except manifest.WriteError as error:
        module.fail_json(msg="cannot write %s. Remedy: make room and let root write there." % error, differences=[])
    return {}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "weights": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["read", "verified"], "default": "read"},
            "full": {"type": "bool", "default": False},
            "budget_s": {"type": "float"},
            "discard": {"type": "bool", "default": False},
            "threads": {"type": "int", "default": 0},
            "expected_file": {"type": "path"},
            # A path is no secret.
            "token_file": {"type": "path", "no_log": False},
            "proxies": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params["weights"])
    absent = [key for key in ("kind", "id", "dir") if not wanted.get(key)]
    if absent:
        module.fail_json(msg="weights has no %s" % ", ".join(absent), differences=[])
    requirements = dict(wanted.get("requirements") or {})
    requirements["mtp"] = boolean(requirements.get("mtp") or False, strict=False)
    wanted["requirements"] = requirements
    if module.params["state"] == "read":
        module.exit_json(changed=False, **manifest.state(wanted["dir"], wanted))
    done = verify(module, wanted)
    found = dict(manifest.state(wanted["dir"], wanted), **done)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
