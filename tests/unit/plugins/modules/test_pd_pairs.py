# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pd_pairs between prefill and decode ranks that keep and fetch a KV cache as vllm-ascend's connector does."""

from __future__ import annotations

import contextlib
import re

import pytest

from ansible_collections.ascend.vllm.plugins.modules import pd_pairs
from ansible_collections.ascend.vllm.tests.unit.plugins.pd_ranks import Decode, Prefill
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

SECRET = "s3cret"


@pytest.fixture
def pairs(run_module, monkeypatch):
    """A function (prefill ranks, decode ranks, **parameters) -> (result of the module, the servers)."""
    quiet_proxies(monkeypatch)
    monkeypatch.setattr(pd_pairs, "PAUSE_S", 0.01)

    def run(prefill, decode, more_prefill=(), **parameters):
        with contextlib.ExitStack() as stack:
            servers = [[stack.enter_context(web_server(rank)) for rank in side] for side in (prefill, decode)]
            urls = [[server.url for server in side] for side in servers]
            result = run_module(pd_pairs, prefill=urls[0] + list(more_prefill), decode=urls[1], model="m", **parameters)
        return result, servers

    return run


def test_each_pair_has_one_request_with_what_the_prefill_rank_kept(pairs):
    first, second = Prefill("p0"), Prefill("p1")
    result, (prefill, decode) = pairs([first, second], [Decode(), Decode()], api_key=SECRET)
    assert not result["failed"] and result["changed"] is False and SECRET not in str(result)
    assert sorted((pair["prefill"], pair["decode"]) for pair in result["pairs"]) == sorted((one.url, other.url) for one in prefill for other in decode)
    assert {(pair["attempts"], pair["error"], pair["alone"]) for pair in result["pairs"]} == {(1, None, None)}
    asked = [entry for entry in prefill[0].asked if entry.path == "/v1/completions"]
    assert [entry.json()["kv_transfer_params"] for entry in asked] == [pd_pairs.KEEP] * 2
    assert {(entry.json()["max_tokens"], entry.json()["stream"], entry.headers["Authorization"]) for entry in asked} == {(1, False, "Bearer " + SECRET)}
    fetched = [entry.json() for entry in decode[1].asked if entry.path == "/v1/completions"]
    assert {entry["kv_transfer_params"]["remote_engine_id"] for entry in fetched} == {"p0", "p1"} and {entry["max_tokens"] for entry in fetched} == {8}
    # What a cache would be found by is no other pair's.
    assert len({entry.json()["prompt"][:60] for side in prefill for entry in side.asked if entry.path == "/v1/completions"}) == 4


def test_a_first_handshake_that_fails_is_tried_again(pairs):
    result, dummy = pairs([Prefill("p0")], [Decode(failures=2)])
    assert not result["failed"] and [pair["attempts"] for pair in result["pairs"]] == [3]


def test_a_pair_that_does_not_work_is_named_with_what_it_said(pairs):
    result, (prefill, decode) = pairs([Prefill("p0"), Prefill("p1")], [Decode(deaf_to="p1"), Decode()], attempts=2)
    assert result["failed"] and result["msg"].startswith("1 of 4 pairs")
    assert f"{prefill[1].url} to {decode[0].url}: decode {decode[0].url}: HTTP 500: " in result["msg"] and "(2 attempts)" in result["msg"]
    assert "Remedy: " in result["msg"] and "hccn.conf" in result["msg"]
    assert sum(pair["error"] is None for pair in result["pairs"]) == 3


@pytest.mark.parametrize(("rank", "words"), [
    (Prefill(None), "answered without kv_transfer_params: it keeps no KV cache"),
    (lambda asked: (401, {"error": "Unauthorized"}), "HTTP 401"),
    (lambda asked: (200, {"choices": []}), "HTTP 200"),
    (lambda asked: b"no HTTP\r\n", "prefill http://127.0.0.1:"),
])
def test_a_prefill_rank_that_hands_nothing_over(pairs, rank, words):
    result, dummy = pairs([rank], [Decode()], attempts=1)
    assert result["failed"] and words in result["msg"]


def test_pairs_that_all_refuse_the_key_say_so(pairs):
    """A new key reaches a rank with its start, and groups are started one after the other."""
    def refuse(asked):
        return 401, {"error": "Unauthorized"}

    result, dummy = pairs([refuse], [Decode()], attempts=1)
    assert result["msg"].endswith("Remedy: the groups run with different API keys: ascend.vllm.stop, then ascend.vllm.site, which starts all of them with "
                                  "the same one.")
    result, dummy = pairs([refuse, Prefill("p1")], [Decode(deaf_to="p1")], attempts=1)
    assert result["msg"].startswith("2 of 2 pairs") and "KV ports" in result["msg"] and "different API keys" not in result["msg"]


def test_a_rank_that_is_not_there(pairs):
    result, dummy = pairs([], [Decode()], more_prefill=["http://127.0.0.1:%d" % closed_port()], attempts=1)
    assert result["failed"] and "refused" in result["msg"]


def test_what_is_handed_over_is_compared_with_what_the_prefill_rank_says_alone(pairs):
    result, (prefill, decode) = pairs([Prefill("p0")], [Decode(), Decode(garbles=9)], compare=True)
    assert not result["failed"]
    assert [(pair["same"], pair["text"], pair["alone"]) for pair in result["pairs"]] == [(True, " bright", " bright"), (False, " %%%", " bright")]
    assert [pair["decode"] for pair in result["differing"]] == [decode[1].url]
    asked = [[entry.json() for entry in server.asked if entry.path == "/v1/completions"] for server in (prefill[0], *decode)]
    alone = [body for body in asked[0] if "kv_transfer_params" not in body]
    # A decode rank with MLAPO would end at a prompt of its own.
    assert len(alone) == 4 and all(re.fullmatch("[0-9a-f]{64}", body["cache_salt"]) for body in alone)
    assert all("kv_transfer_params" in body for body in asked[1] + asked[2])


def test_a_near_tie_that_falls_to_the_other_side_once_is_no_difference(pairs):
    result, dummy = pairs([Prefill("p0")], [Decode(garbles=1)], compare=True)
    [pair] = result["pairs"]
    assert result["differing"] == [] and (pair["same"], pair["attempts"]) == (True, 2)


@pytest.mark.parametrize(("longest", "characters"), [(256, 128), (100000, pd_pairs.CHARACTERS), (None, pd_pairs.CHARACTERS)])
def test_the_prompt_is_as_long_as_the_model_takes(pairs, longest, characters):
    dummy, (prefill, dummy) = pairs([Prefill("p0")], [Decode(longest=longest)])
    [asked] = [entry for entry in prefill[0].asked if entry.path == "/v1/completions"]
    assert characters - 10 < len(asked.json()["prompt"]) < characters + 30


def test_no_prefill_rank_is_no_pair(pairs):
    result, dummy = pairs([], [Decode()])
    assert (result["failed"], result["pairs"]) == (False, [])


def test_many_bad_pairs_are_counted(pairs):
    result, dummy = pairs([Prefill(None) for dummy in range(4)], [Decode(), Decode()], attempts=1)
    assert result["msg"].startswith("8 of 8 pairs") and "and 2 more pairs" in result["msg"]
