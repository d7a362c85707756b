#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send one request through each pair of a prefill and a decode rank."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pd_pairs
short_description: Send one request through each pair of a prefill and a decode rank
description:
  - Asks each prefill rank for one token as a proxy does, and each decode rank for the rest with what the prefill rank said of its KV cache. So every
    pair has had its first handshake, which is slow and may fail once, before a client comes, and a pair that does not work is named.
  - A pair whose request fails is asked again, up to O(attempts) times. Decode ranks are asked at once, each of them for one pair after the other.
  - With O(compare) each prefill rank is also asked for the same completion by itself; RV(pairs) says whether both are the same. A decode rank is
    never asked by itself, because it may have no weights for a prompt. A prompt of its own for each pair keeps a cache from hiding a transfer that goes wrong.
  - The exchange is that of vllm-router 0.1.17 (C(--kv-connector nixl)) and of vllm-ascend's C(load_balance_proxy_server_example.py).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  prefill:
    description: Base URLs of prefill ranks.
    type: list
    elements: str
    required: true
  decode:
    description: Base URLs of decode ranks.
    type: list
    elements: str
    required: true
  model:
    description: Served model name.
    type: str
    required: true
  max_tokens:
    description: How many tokens to ask a decode rank for.
    type: int
    default: 8
  attempts:
    description: How often a pair is asked at most.
    type: int
    default: 3
  timeout_s:
    description: Seconds until one unanswered request counts as failed.
    type: float
    default: 120.0
  compare:
    description: Whether each prefill rank is asked for the same completion by itself, too.
    type: bool
    default: false
  api_key:
    description: API key of the ranks.
    type: str
extends_documentation_fragment:
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Hosts that reach all ranks.
"""

EXAMPLES = r"""
- name: Have the first handshake of each pair
  ascend.vllm.pd_pairs:
    prefill: [http://198.51.100.11:7100, http://198.51.100.12:7100]
    decode: [http://198.51.100.13:7100]
    model: deepseek_r1
"""

RETURN = r"""
pairs:
  description: >-
    For each pair C(prefill), C(decode), C(attempts), C(seconds) of the last one, C(error) (null where the request came through) and C(text). With
    O(compare) C(alone), what the prefill rank says by itself, and C(same).
  returned: always
  type: list
  elements: dict
  sample: [{"prefill": "http://198.51.100.11:7100", "decode": "http://198.51.100.13:7100", "attempts": 1, "seconds": 0.8, "error": null, "text": " bright"}]
differing:
  description: The pairs of which both texts came and are not the same.
  returned: always
  type: list
  elements: dict
"""

import concurrent.futures
import hashlib
import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api, PROMPT

#: What a prefill rank is told: keep the KV cache for a decode rank that will fetch it.
KEEP = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None, "remote_host": None, "remote_port": None}
#: Characters of the prompt: two blocks of 128 tokens and more for most tokenizers, so that whole blocks are handed over.
CHARACTERS = 1200
#: Of a model with a short context the prompt has this part of it, should each character be a token.
PART = 2
#: Pairs that a message names.
NAMED = 6
#: Characters of what each of them said.
SHOWN = 200
#: What to do where every pair that does not work refuses the key, and where anything else is wrong.
KEYS = "the groups run with different API keys: ascend.vllm.stop, then ascend.vllm.site, which starts all of them with the same one"
NETWORK = ("docker logs of both ranks; each decode rank's host has to reach the KV ports of the prefill rank's (VLLM_HOST_IP and kv_port of its group), "
           "and hccn.conf and hccn_tool have to be in both containers (docker exec NAME cat /etc/hccn.conf)")
#: Seconds before a pair is asked again.
PAUSE_S = 1.0


class Failed(Exception):
    """A rank did not give what was asked for; the text says which and what came."""


def completion(api, what, body, timeout):
    """Return (decoded answer, its first choice's text); raise Failed with what the rank said."""
    try:
        status, answer, text = api.post("/v1/completions", body, timeout)
    except (OSError, ValueError) as error:
        raise Failed("%s %s: %s" % (what, api.url, plain_http.reason(error))) from error
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if status != 200 or not choices or not isinstance(choices[0], dict):
        raise Failed("%s %s: HTTP %d: %s" % (what, api.url, status, " ".join(text.split())[:SHOWN]))
    return answer, str(choices[0].get("text") or "")


def hand_over(prefill, decode, body, params):
    """Send one request through a pair; return the text that comes out."""
    first = dict(body, max_tokens=1, min_tokens=1, kv_transfer_params=KEEP)
    answer, dummy = completion(prefill, "prefill", first, params["timeout_s"])
    kept = answer.get("kv_transfer_params")
    if not isinstance(kept, dict) or not kept:
        raise Failed("prefill %s answered without kv_transfer_params: it keeps no KV cache for a decode rank" % prefill.url)
    return completion(decode, "decode", dict(body, kv_transfer_params=kept), params["timeout_s"])[1]


def length_of(api):
    """Return how many characters a prompt may have."""
    try:
        status, text = api.get("/v1/models")
        longest = [int(entry["max_model_len"]) for entry in json.loads(text)["data"]] if status == 200 else []
    except (OSError, ValueError, KeyError, TypeError):
        longest = []
    return min([CHARACTERS] + [size // PART for size in longest])


def prompt_of(prefill, decode, characters):
    """Return a prompt that no other pair has, and no earlier run: its beginning is what a cache would be found by."""
    begun = "%.6f %s %s. " % (time.time(), prefill.url, decode.url)
    return (begun + (PROMPT + " bright. ") * (CHARACTERS // len(PROMPT)))[:characters].rstrip() + " " + PROMPT


def salt_of(prompt):
    """Return what keeps a request from finding another one's cache; a newer vLLM takes neither C(/) nor C(@) there, nor more than 128 characters."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()


def ask_pair(prefill, decode, params):
    """Return what became of one pair; see RETURN.

    A text that differs is asked for again, with another prompt: near-ties fall to one side or the other, but a cache that is wrong is always wrong.
    """
    found = {"prefill": prefill.url, "decode": decode.url, "attempts": 0, "seconds": 0.0, "error": None, "text": None, "alone": None, "same": None}
    length = length_of(decode)
    while found["attempts"] < params["attempts"]:
        if found["attempts"]:
            time.sleep(PAUSE_S)
        found["attempts"] += 1
        found.update(alone=None, same=None)
        body = {"model": params["model"], "prompt": prompt_of(prefill, decode, length), "max_tokens": params["max_tokens"], "temperature": 0, "stream": False}
        began = time.monotonic()
        try:
            found.update(text=hand_over(prefill, decode, body, params), error=None)
            if params["compare"]:
                # Not the decode rank: one with MLAPO has no weights for a prompt, and ends at it.
                found["alone"] = completion(prefill, "prefill", dict(body, cache_salt=salt_of(body["prompt"])), params["timeout_s"])[1]
                found["same"] = found["alone"] == found["text"]
        except Failed as failure:
            found["error"] = str(failure)
        found["seconds"] = round(time.monotonic() - began, 2)
        if found["error"] is None and found["same"] is not False:
            break
    return found


def ask_all(params):
    """Return what became of each pair, in order: all of a decode rank after each other, the decode ranks at once."""
    apis = dict((url, Api(url, params["api_key"])) for url in params["prefill"] + params["decode"])

    def of_one(place):
        # Each begins with another prefill rank, so that not all of them ask the same one first.
        turn = [params["prefill"][(place + step) % len(params["prefill"])] for step in range(len(params["prefill"]))]
        return [ask_pair(apis[url], apis[params["decode"][place]], params) for url in turn]

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(len(params["decode"]), 1)) as beside:
        return [pair for pairs in beside.map(of_one, range(len(params["decode"]))) for pair in pairs]


def lines(pairs):
    """Return what went wrong with these pairs, on one line."""
    named = ["%s to %s: %s (%d attempts)" % (pair["prefill"], pair["decode"], pair["error"], pair["attempts"]) for pair in pairs[:NAMED]]
    return "; ".join(named + (["and %d more pairs" % (len(pairs) - NAMED)] if len(pairs) > NAMED else []))


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "prefill": {"type": "list", "elements": "str", "required": True},
            "decode": {"type": "list", "elements": "str", "required": True},
            "model": {"type": "str", "required": True},
            "max_tokens": {"type": "int", "default": 8, "no_log": False},
            "attempts": {"type": "int", "default": 3},
            "timeout_s": {"type": "float", "default": 120.0},
            "compare": {"type": "bool", "default": False},
            "api_key": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    pairs = ask_all(params) if params["prefill"] else []
    bad = [pair for pair in pairs if pair["error"]]
    result = {"pairs": pairs, "differing": [pair for pair in pairs if pair["same"] is False]}
    if bad:
        remedy = KEYS if all("HTTP 401" in pair["error"] for pair in bad) else NETWORK
        module.fail_json(msg="%d of %d pairs of a prefill and a decode rank do not work: %s. Wanted: a completion through each pair. Remedy: %s."
                         % (len(bad), len(pairs), lines(bad), remedy), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
