# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rank arithmetic: tables of the decided cases, and properties for any hosts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import ranks


def seats(*counts, shares=None):
    """Return seats of hosts h0, h1, .. with these numbers of NPUs and, by host number, shares of their own."""
    return [ranks.Seat(f"h{index}", tuple(range(count)), (shares or {}).get(index)) for index, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "tp", "dp", "shares", "blocks"),
    [
        ((8, 8), 4, None, {}, [(0, 2), (2, 2)]),
        ((8, 8), 4, 4, {}, [(0, 2), (2, 2)]),
        ((16,), 4, None, {}, [(0, 4)]),
        ((8, 8, 8), 4, None, {}, [(0, 2), (2, 2), (4, 2)]),
        ((8, 16), 4, None, {}, [(0, 2), (2, 4)]),
        ((8, 8), 1, 2, {}, [(0, 1), (1, 1)]),
        ((8, 16), 4, 6, {1: 4}, [(0, 2), (2, 4)]),
        ((8, 16), 4, 5, {0: 1, 1: 4}, [(0, 1), (1, 4)]),
        ((8, 8, 8), 4, 5, {2: 1}, [(0, 2), (2, 2), (4, 1)]),
        ((8, 8), 3, 2, {}, [(0, 1), (1, 1)]),
        ((8, 8), 3, None, {0: 2, 1: 1}, [(0, 2), (2, 1)]),
        # A head that only answers HTTP.
        ((8, 8), 4, 2, {0: 0}, [(0, 0), (0, 2)]),
        ((2, 8), 4, None, {0: 0}, [(0, 0), (0, 2)]),
    ],
)
def test_shares(counts, tp, dp, shares, blocks):
    found, checks = ranks.assign(seats(*counts, shares=shares), tp, dp)
    assert checks == []
    assert [(block.start, block.local) for block in found] == blocks
    assert all(block.npus == tuple(range(block.local * tp)) for block in found)


@pytest.mark.parametrize(
    ("counts", "tp", "dp", "shares", "name", "host", "variable", "words"),
    [
        ((8, 8), 16, None, {}, "tensor_parallel_fits", "h0", "vllm_tensor_parallel_size", "TP 16 on 8 NPU(s)"),
        ((8, 8), 3, None, {}, "npus_used", "h0", "vllm_npus", "2 would stay unused with TP 3"),
        ((8, 6), 4, None, {}, "npus_used", "h1", "vllm_npus", "6 NPUs, of which 2"),
        ((8, 8), 4, 5, {}, "rank_shares", "h0", "vllm_data_parallel_size", "5 rank(s) over 2 host(s)"),
        ((8, 8), 4, 1, {}, "rank_shares", "h0", "vllm_data_parallel_size", "1 rank(s) over 2 host(s)"),
        ((8, 8, 8), 4, 4, {2: 1}, "rank_shares", "h0", "vllm_data_parallel_size", "3 rank(s) over 2 host(s) after 1"),
        ((8, 8), 4, 4, {0: 4}, "rank_shares", "h1", "vllm_data_parallel_size", "0 rank(s) over 1"),
        ((8, 8), 4, 4, {0: 1, 1: 2}, "rank_shares", "h1", "vllm_data_parallel_size_local", "together 3"),
        ((8, 8), 4, 8, {}, "ranks_fit_npus", "h0", "vllm_data_parallel_size", "16 NPUs wanted, 8 there"),
        ((8, 8), 1, 18, {}, "ranks_fit_npus", "h0", "vllm_data_parallel_size", "9 NPUs wanted, 8 there"),
        ((7,), 4, None, {0: 2}, "ranks_fit_npus", "h0", "vllm_data_parallel_size_local", "8 NPUs wanted, 7 there"),
        ((8, 8), 4, None, {1: 3}, "ranks_fit_npus", "h1", "vllm_data_parallel_size_local", "12 NPUs wanted, 8 there"),
        ((8, 8), 4, 2, {1: 0, 0: 2}, "rank_shares", "h1", "vllm_data_parallel_size_local", "0 ranks"),
        ((8,), 4, None, {0: 0}, "rank_shares", "h0", "vllm_data_parallel_size_local", "0 ranks"),
    ],
)
def test_refused(counts, tp, dp, shares, name, host, variable, words):
    blocks, checks = ranks.assign(seats(*counts, shares=shares), tp, dp)
    assert blocks == []
    assert (checks[0]["check"], checks[0]["host"], checks[0]["device"]) == (name, host, variable)
    assert words in checks[0]["observed"]
    assert checks[0]["expected"] and checks[0]["remedy"]


def test_every_host_with_a_problem_is_named():
    _blocks, checks = ranks.assign(seats(6, 8, 7), 4, None)
    assert [check["host"] for check in checks] == ["h0", "h2"]


@pytest.mark.parametrize(
    ("node_ranks", "wanted"),
    [({}, ["b", "a", "c"]), ({"a": 0, "b": 1, "c": 2}, ["a", "b", "c"]), ({"a": 9, "b": 3, "c": 4}, ["b", "c", "a"])],
)
def test_order(node_ranks, wanted):
    assert ranks.order(["b", "a", "c"], node_ranks) == (wanted, [])


def test_order_stated_for_some_or_twice_is_refused():
    _hosts, checks = ranks.order(["a", "b", "c"], {"a": 0, "b": 0})
    assert [(check["host"], check["observed"]) for check in checks] == [("c", "nothing"), ("b", "0, which a has too")]
    assert {check["device"] for check in checks} == {"vllm_node_rank"}


def test_one_unit_a_rank_is_a_cut_of_the_same_block():
    block = ranks.Block("h", 4, 2, tuple(range(8)))
    assert ranks.slices(block, 4) == [ranks.Slice(4, 2, tuple(range(8)))]
    assert ranks.slices(block, 4, unit_per_rank=True) == [ranks.Slice(4, 1, (0, 1, 2, 3)), ranks.Slice(5, 1, (4, 5, 6, 7))]


GROUPS = st.tuples(
    st.lists(st.integers(1, 16), min_size=1, max_size=12),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    st.one_of(st.none(), st.integers(1, 60)),
    st.dictionaries(st.integers(0, 11), st.integers(0, 6), max_size=4),
)


@settings(max_examples=400)
@given(GROUPS)
def test_blocks_are_contiguous_covering_disjoint_and_fit(group):
    counts, tp, dp, shares = group
    given_seats = seats(*counts, shares={index: share for index, share in shares.items() if index < len(counts)})
    blocks, checks = ranks.assign(given_seats, tp, dp)
    assert bool(blocks) != bool(checks)
    known = {seat.host for seat in given_seats}
    for check in checks:
        assert check["host"] in known
        assert check["device"].startswith("vllm_")
        assert check["observed"] and check["expected"] and check["remedy"]
    following = 0
    for seat, block in zip(given_seats, blocks):
        assert block.host == seat.host
        assert block.start == following
        assert block.local * tp <= len(seat.npus)
        assert len(set(block.npus)) == len(block.npus) == block.local * tp and set(block.npus) <= set(seat.npus)
        assert seat.share is None or seat.share == block.local
        assert block.local > 0 or (block.host == "h0" and len(given_seats) > 1)
        cut = ranks.slices(block, tp, unit_per_rank=True)
        assert [part.rank for part in cut] == list(range(block.start, block.start + block.local))
        assert sum((part.npus for part in cut), ()) == block.npus
        following += block.local
    if blocks:
        assert dp in (None, following)
        unstated = [block.local for seat, block in zip(given_seats, blocks) if seat.share is None]
        if dp is None:
            assert all(block.local * tp == len(seat.npus) for seat, block in zip(given_seats, blocks) if seat.share is None)
        else:
            assert len(set(unstated)) <= 1


@settings(max_examples=200)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=10), st.sampled_from([1, 2, 4]))
def test_whole_hosts_are_never_refused(multiples, tp):
    """A stated size that uses every NPU evenly, or no stated size, is always planned."""
    blocks, checks = ranks.assign(seats(*(tp * multiple for multiple in multiples)), tp, None)
    assert checks == [] and sum(block.local for block in blocks) == sum(multiples)
