#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a served group everything that shows that it serves as it should, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_answers
short_description: Ask a served group everything that shows that it serves as it should
description:
  - Asks the API of one group, past any proxy, one question after the other in one round trip. What did not answer, or answered wrongly, is a
    part of the result and does not keep the rest from being asked; the filter P(ascend.vllm.answer_checks#filter) judges it.
  - With O(depth=completion) it sends the request of the tutorial's "Functional Verification", and O(questions) where there are any.
  - With O(depth=full) it asks also for the served models, the same completion again, a chat, both as a stream, a token of every data-parallel
    rank, and with another API key than O(api_key) and without one.
  - Everything is asked at temperature 0. When the first completion does not come, nothing else is asked that would have to be computed, but for
    the ranks of a group that hangs or fails.
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
  ranks:
    description: Number of data-parallel ranks that have to answer.
    type: int
    default: 1
  rank_urls:
    description: Base URLs of the ranks, by rank, of a group each rank of which answers by itself. Without any they are asked by way of O(url).
    type: list
    elements: str
    default: []
  depth:
    description: How much is asked.
    type: str
    choices: [completion, full]
    default: completion
  prompt:
    description: The prompt, of the chat, too.
    type: str
    default: The future of AI is
  max_tokens:
    description: How many tokens to ask for.
    type: int
    default: 50
  expected:
    description: A regular expression that the completion has to contain a match of. Nothing is expected while this is empty.
    type: str
    default: ""
  questions:
    description: Prompts that have a right answer.
    type: list
    elements: dict
    default: []
    suboptions:
      prompt:
        description: The prompt.
        type: str
        required: true
      expected:
        description: A regular expression that the answer has to contain a match of.
        type: str
        required: true
      max_tokens:
        description: How many tokens to ask for. O(max_tokens) while this is not given.
        type: int
      chat:
        description: Whether it is asked as a chat, not as a completion.
        type: bool
        default: false
  timeout_s:
    description: Seconds until one unanswered request counts as failed.
    type: float
    default: 300.0
  limit_s:
    description: Seconds for all questions together. What was not asked until then is named in RV(not_asked).
    type: float
    default: 900.0
extends_documentation_fragment:
  - ascend.vllm.api_access
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Hosts that reach the API.
"""

EXAMPLES = r"""
- name: Ask for the tutorial's completion
  ascend.vllm.serve_answers:
    url: https://198.51.100.11:8000
    model: deepseek_r1
    ca_file: /etc/ascend-vllm/vllm-rank0/tls_ca.pem
    api_key: "{{ lookup('ansible.builtin.file', 'api_key') }}"
  register: said

- name: Ask everything, and what has one right answer
  ascend.vllm.serve_answers:
    url: http://198.51.100.11:8000
    model: deepseek_r1
    ranks: 4
    depth: full
    questions:
      - {prompt: "1 + 1 =", expected: '^\s*2\b', max_tokens: 3}
      - {prompt: "What is the capital of France?", expected: Paris, max_tokens: 500, chat: true}
  register: said
"""

RETURN = r"""
answers:
  description: >-
    By the name of the question. An answer has C(answered), C(status) (HTTP), C(seconds), C(timed_out), C(failure) (without an HTTP answer one of
    C(hung), C(refused), C(certificate), C(tls), C(ca_file), C(silent)), C(text) (what came, or why nothing did), C(model), C(usage),
    C(finish_reason), C(path), C(prompt), C(max_tokens), C(expected) and C(matched).
  returned: success
  type: dict
  contains:
    completion:
      description: The answer to the tutorial's request. C(repeat) is that to the same request again, C(chat) that to the prompt as a chat.
      returned: success
      type: dict
    questions:
      description: The answers to O(questions).
      returned: where all were asked
      type: list
      elements: dict
    stream:
      description: >-
        What came of the completion as a stream, and in C(chat_stream) of the chat: C(ended) (by [DONE]), C(status), C(seconds), C(timed_out),
        C(failure), C(error), C(text) (joined), C(chunks) (with a text), C(first_s), C(spread_s) (from the first to the last chunk),
        C(finish_reason), C(model), C(endless), C(path), C(same) (text as without a stream), C(stable) (all texts without a stream are the same)
        and C(unstreamed), the text without a stream.
      returned: where it was asked
      type: dict
    models:
      description: C(status) (HTTP) and C(names), those that are served.
      returned: where it was asked
      type: dict
    requests:
      description: C(running) and C(waiting) requests of others before the first completion, empty where the metrics do not say it.
      returned: where it was asked
      type: dict
    ranks:
      description: For each rank C(rank), C(answered), C(status), C(seconds), C(timed_out) and C(text).
      returned: where it was asked
      type: list
      elements: dict
    key_refusals:
      description: The answers to C(wrong), a request with another API key, and C(none), one without.
      returned: where there is a key
      type: dict
  sample: {"completion": {"answered": true, "status": 200, "text": " bright"}}
not_asked:
  description: Names of questions without an answer, because the first one failed or the time was over.
  returned: success
  type: list
  elements: str
over:
  description: Whether O(limit_s) was over before everything was asked.
  returned: success
  type: bool
asked:
  description: Number of questions that there are at this depth.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils.ask_service import Questions
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import PROMPT


def refuse_expressions(module):
    """Fail for what is no regular expression, before anything is asked."""
    found = [("serve_verify_expected", module.params["expected"])]
    found += [("serve_verify_questions, number %d" % number, entry["expected"]) for number, entry in enumerate(module.params["questions"], 1)]
    wrong = []
    for variable, text in found:
        try:
            re.compile(text)
        except re.error as error:
            wrong.append("%s: found %r, which is no regular expression: %s" % (variable, text, error))
    if wrong:
        module.fail_json(msg="%s. Remedy: correct it; a special character is written with a backslash before it" % "; ".join(wrong))


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "ranks": {"type": "int", "default": 1},
            "rank_urls": {"type": "list", "elements": "str", "default": []},
            "depth": {"type": "str", "choices": ["completion", "full"], "default": "completion"},
            "prompt": {"type": "str", "default": PROMPT},
            "max_tokens": {"type": "int", "default": 50, "no_log": False},
            "expected": {"type": "str", "default": ""},
            "questions": {"type": "list", "elements": "dict", "default": [], "options": {
                "prompt": {"type": "str", "required": True},
                "expected": {"type": "str", "required": True},
                "max_tokens": {"type": "int", "no_log": False},
                "chat": {"type": "bool", "default": False},
            }},
            "timeout_s": {"type": "float", "default": 300.0},
            "limit_s": {"type": "float", "default": 900.0},
            "api_key": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    for name in ("timeout_s", "limit_s", "ranks", "max_tokens"):
        if params[name] <= 0:
            module.fail_json(msg="%s: found %g, wanted more than 0. Remedy: correct serve_verify_%s" % (name, params[name], name))
    refuse_expressions(module)
    began, questions = time.monotonic(), Questions(params)
    said, not_asked, over = questions.run()
    module.exit_json(changed=False, answers=said, not_asked=not_asked, over=over, asked=len(questions.names), seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
