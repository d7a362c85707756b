#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a served model for one completion and judge it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_completion
short_description: Ask a served model for a completion and judge it
description:
  - Sends one request to C(/v1/completions), past any proxy, as the tutorial's "Functional Verification" does.
  - Fails unless a completion of the model asked for comes back in time, with a text and with tokens counted, and, with O(expected),
    with the text that is wanted.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  url:
    description: Base URL of the API.
    type: str
    required: true
  model:
    description: Served model name.
    type: str
    required: true
  prompt:
    description: The prompt.
    type: str
    default: The future of AI is
  max_tokens:
    description: How many tokens to ask for.
    type: int
    default: 50
  timeout_s:
    description: Seconds until an unanswered request counts as failed.
    type: float
    default: 300.0
  expected:
    description: A regular expression that the completion has to contain a match of. Nothing is expected while this is empty.
    type: str
    default: ""
  api_key:
    description: API key of the service.
    type: str
  ca_file:
    description:
      - Certificates on the node that vouch for the service, where O(url) is C(https). The name in the service's certificate does not count,
        because the service is asked by its address.
    type: path
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same in check mode.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Hosts that reach the API.
"""

EXAMPLES = r"""
- name: Ask for the tutorial's completion
  ascend.vllm.serve_completion:
    url: https://198.51.100.11:8000
    model: deepseek_r1
    ca_file: /etc/ascend-vllm/vllm-rank0/tls_ca.pem
    api_key: "{{ lookup('ansible.builtin.file', 'api_key') }}"
  register: answer

- name: Ask for something that has one right answer
  ascend.vllm.serve_completion:
    url: http://198.51.100.11:8000
    model: deepseek_r1
    prompt: "1 + 1 ="
    expected: '^\s*2\b'
"""

RETURN = r"""
text:
  description: The completion.
  returned: when a completion came back
  type: str
model:
  description: The model that says it wrote the completion.
  returned: when a completion came back
  type: str
usage:
  description: C(prompt_tokens) and C(completion_tokens), as the service counts them.
  returned: when a completion came back
  type: dict
status:
  description: HTTP status, null if there was no answer.
  returned: always
  type: int
seconds:
  description: How long the answer took.
  returned: always
  type: float
"""

import re
import ssl
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import PROMPT, Api

#: HTTP status -> what to do about it.
REMEDIES = {
    400: "look into the answer: the service refuses the request itself",
    401: "the service was started with another API key than this one, or with one where none is given: set vllm_api_key_file, and run site.yml",
    404: "look at /v1/models: vllm_served_model_name says what the model is called",
}
BUSY = "docker logs of the group's containers say why; site.yml starts a group again that does not serve"


def text_of(answer):
    """Return the text of a decoded answer, or None if it is no completion."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    text = first.get("text") if isinstance(first, dict) else None
    return text if isinstance(text, str) else None


def silence(error, params):
    """Return (found, remedy) of a request without an HTTP answer."""
    cause = plain_http.cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "vllm_tls_ca_file has to be of the authority that signed the service's certificate; run site.yml after a change"
        return "a certificate that %s does not vouch for: %s" % (params["ca_file"] or "the system", cause.verify_message), remedy
    if isinstance(cause, ssl.SSLError):
        return "no TLS that can be understood: %s" % plain_http.reason(error), "http and https are mixed up, or %s holds no certificate" % params["ca_file"]
    if isinstance(cause, FileNotFoundError) and params["ca_file"]:
        return "no file %s" % params["ca_file"], "run site.yml, which puts it there"
    if isinstance(cause, ConnectionError):
        return plain_http.reason(error), "nothing listens there: " + BUSY
    return plain_http.reason(error), "a group with a lost peer hangs: " + BUSY


def fault(status, answer, text, params):
    """Return (found, remedy) of an HTTP answer that is not what was asked for, or None."""
    if status != 200:
        return "HTTP %d: %s" % (status, " ".join(text.split())[:300]), REMEDIES.get(status, BUSY)
    said = text_of(answer)
    if said is None:
        return "no completion: %s" % " ".join(text.split())[:300], "something else than vLLM listens there: compare vllm_port with what runs on the node"
    if answer.get("model") != params["model"]:
        return "one by %s" % answer.get("model"), "another service listens there: compare vllm_port and vllm_served_model_name"
    usage = answer.get("usage")
    if not said or not isinstance(usage, dict) or not usage.get("completion_tokens"):
        return "one without a text or without tokens: %s" % " ".join(text.split())[:300], BUSY
    if params["expected"] and not re.search(params["expected"], said):
        return "%r" % said, "the engines compute something else than they should: compare image, weights and options with those that gave the right answer"
    return None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "prompt": {"type": "str", "default": PROMPT},
            "max_tokens": {"type": "int", "default": 50, "no_log": False},
            "timeout_s": {"type": "float", "default": 300.0},
            "expected": {"type": "str", "default": ""},
            "api_key": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        re.compile(params["expected"])
    except re.error as error:
        module.fail_json(msg="expected: found %r, which is no regular expression: %s. Remedy: correct serve_verify_expected" % (params["expected"], error),
                         status=None, seconds=0.0)
    wanted = "a completion by %s within %g s" % (params["model"], params["timeout_s"])
    if params["expected"]:
        wanted += " with a match of %r" % params["expected"]
    service, start = Api(params["url"], params["api_key"], params["ca_file"]), time.monotonic()
    result = {"status": None}
    try:
        status, answer, text = service.completions(params["model"], params["timeout_s"], None, params["max_tokens"], params["prompt"])
    except OSError as error:
        problem = silence(error, params)
    else:
        problem = fault(status, answer, text, params)
        result["status"] = status
        if text_of(answer) is not None:
            result.update(text=text_of(answer), model=answer.get("model"), usage=answer.get("usage"))
    result["seconds"] = round(time.monotonic() - start, 2)
    if problem:
        module.fail_json(msg="%s/v1/completions: found %s; wanted %s. Remedy: %s" % (service.url, problem[0], wanted, problem[1]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
