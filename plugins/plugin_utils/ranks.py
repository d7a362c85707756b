# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rank arithmetic of one data-parallel group: the only place where a rank is computed.

A data-parallel (DP) rank is one engine on ``tp`` NPUs of one host. The hosts of a group, in their order, hold contiguous blocks of
ranks that cover ``[0, dp)``. The rules are those of vLLM's ``--data-parallel-*`` options: the shares add up to the size, every
share's NPUs are there, only the head may have no rank at all (it then only answers HTTP).
"""

from __future__ import annotations

from dataclasses import dataclass

from .messages import check


@dataclass(frozen=True)
class Seat:
    """One host of a group, in rank order: the physical ids of the NPUs it may use, and its own share if it states one."""

    host: str
    npus: tuple
    share: int | None = None


@dataclass(frozen=True)
class Block:
    """The ranks ``[start, start + local)`` of one host, and the NPUs that they use, rank by rank."""

    host: str
    start: int
    local: int
    npus: tuple


@dataclass(frozen=True)
class Slice:
    """The ranks of one unit (container): ``ranks`` of them from ``rank`` on, and their NPUs."""

    rank: int
    ranks: int
    npus: tuple


def order(hosts: list, node_ranks: dict) -> tuple[list, list]:
    """Return ``(hosts in rank order, checks)``.

    Without any entry in ``node_ranks`` ({host: vllm_node_rank}) the order given stays. Stated for some hosts only, or twice, is refused.
    """
    stated = [host for host in hosts if host in node_ranks]
    if not stated:
        return list(hosts), []
    checks = [
        check(
            host,
            "node_order",
            "vllm_node_rank",
            "nothing",
            "a rank for every host of the group, or for none",
            f"{len(stated)} of {len(hosts)} hosts state one; state it here too.",
        )
        for host in hosts
        if host not in node_ranks
    ]
    owner: dict = {}
    for host in stated:
        first = owner.setdefault(node_ranks[host], host)
        if first != host:
            checks.append(
                check(
                    host,
                    "node_order",
                    "vllm_node_rank",
                    f"{node_ranks[host]}, which {first} has too",
                    "a rank of its own for every host",
                    "change one of the two.",
                )
            )
    return (list(hosts) if checks else sorted(hosts, key=node_ranks.__getitem__)), checks


def assign(seats: list, tp: int, dp: int | None) -> tuple[list, list]:
    """Return ``(blocks, checks)`` of a group; there are no blocks if any check failed.

    ``dp`` is the stated size of the group, spread evenly over the hosts that state no share; without it every NPU is used.
    """
    checks = _tensor_parallel_fits(seats, tp)
    if checks:
        return [], checks
    shares, checks = _use_all(seats, tp) if dp is None else _spread(seats, tp, dp)
    if checks:
        return [], checks
    checks = _shares_fit(seats, shares, tp, dp)
    if checks:
        return [], checks
    blocks, start = [], 0
    for seat, share in zip(seats, shares):
        blocks.append(Block(seat.host, start, share, tuple(seat.npus[: share * tp])))
        start += share
    return blocks, []


def slices(block: Block, tp: int, unit_per_rank: bool = False) -> list:
    """Return the units of one host: one for all of its ranks, or one a rank where an external load balancer picks the rank."""
    if not unit_per_rank:
        return [Slice(block.start, block.local, block.npus)]
    return [Slice(block.start + index, 1, block.npus[index * tp : (index + 1) * tp]) for index in range(block.local)]


def _tensor_parallel_fits(seats: list, tp: int) -> list:
    """Refuse a TP that one host cannot hold: a rank never spans hosts."""
    return [
        check(
            seat.host,
            "tensor_parallel_fits",
            "vllm_tensor_parallel_size",
            f"TP {tp} on {len(seat.npus)} NPU(s)",
            "a TP of at most the NPUs of every host that holds a rank",
            f"set vllm_tensor_parallel_size to {len(seat.npus)} or less, or vllm_npus to what the host has.",
        )
        for seat in seats
        if tp > len(seat.npus) and seat.share != 0
    ]


def _use_all(seats: list, tp: int) -> tuple[list, list]:
    """Return each host's share when no size is stated: all of its NPUs. NPUs that would stay unused are refused."""
    shares, checks = [], []
    for seat in seats:
        shares.append(len(seat.npus) // tp if seat.share is None else seat.share)
        rest = len(seat.npus) % tp
        if seat.share is None and rest:
            checks.append(
                check(
                    seat.host,
                    "npus_used",
                    "vllm_npus",
                    f"{len(seat.npus)} NPUs, of which {rest} would stay unused with TP {tp}",
                    f"a multiple of {tp} NPUs, or a stated number of ranks",
                    f"set vllm_tensor_parallel_size to a divisor of {len(seat.npus)}, or state vllm_data_parallel_size for the group "
                    f"(or vllm_data_parallel_size_local: {len(seat.npus) // tp} for this host) if they shall stay unused.",
                )
            )
    return shares, checks


def _spread(seats: list, tp: int, dp: int) -> tuple[list, list]:
    """Return each host's share of a stated size: its own, and the rest evenly over the hosts that state none."""
    stated = sum(seat.share for seat in seats if seat.share is not None)
    open_seats = [seat for seat in seats if seat.share is None]
    rest = dp - stated
    if not open_seats and rest:
        holder = next(seat for seat in reversed(seats))
        return [], [
            check(
                holder.host,
                "rank_shares",
                "vllm_data_parallel_size_local",
                f"shares of {', '.join(str(seat.share) for seat in seats[:8])}{', ..' if len(seats) > 8 else ''}, together {stated}",
                f"shares that add up to vllm_data_parallel_size, {dp}",
                f"change the shares, or set vllm_data_parallel_size to {stated}.",
            )
        ]
    if open_seats and (rest < len(open_seats) or rest % len(open_seats)):
        return [], [_uneven(seats, open_seats, tp, dp, stated)]
    each = rest // len(open_seats) if open_seats else 0
    return [each if seat.share is None else seat.share for seat in seats], []


def _uneven(seats: list, open_seats: list, tp: int, dp: int, stated: int) -> dict:
    """Return the check for a size that does not spread evenly."""
    count, rest = len(open_seats), dp - stated
    # The nearest sizes below and above that spread evenly, as far as the smallest of these hosts has the NPUs.
    most = min(len(seat.npus) for seat in open_seats) // tp
    each = sorted({min(max(rest // count, 1), most), min(max(rest // count + (rest >= count), 1), most)})
    sizes = " or ".join(str(share * count + stated) for share in each)
    after = f" after {stated} stated by the others" if stated else ""
    return check(
        open_seats[0].host,
        "rank_shares",
        "vllm_data_parallel_size",
        f"DP {dp}: {rest} rank(s) over {count} host(s){after}",
        "the same number of ranks, 1 or more, on every host that states no share of its own",
        f"set vllm_data_parallel_size to {sizes}, or state vllm_data_parallel_size_local for {'all hosts but one' if len(seats) > 1 else 'the host'}.",
    )


def _shares_fit(seats: list, shares: list, tp: int, dp: int | None) -> list:
    """Refuse a host with more ranks than NPUs, or with no rank at all unless it is the head."""
    checks = []
    for index, (seat, share) in enumerate(zip(seats, shares)):
        variable = (
            "vllm_data_parallel_size_local" if seat.share is not None or dp is None else "vllm_data_parallel_size"
        )
        if share * tp > len(seat.npus):
            checks.append(
                check(
                    seat.host,
                    "ranks_fit_npus",
                    variable,
                    f"{share} rank(s) of TP {tp}: {share * tp} NPUs wanted, {len(seat.npus)} there",
                    f"at most {len(seat.npus) // tp} rank(s) on this host",
                    f"lower {variable} or vllm_tensor_parallel_size, or add a host.",
                )
            )
        elif share == 0 and (index > 0 or len(seats) == 1):
            checks.append(
                check(
                    seat.host,
                    "rank_shares",
                    "vllm_data_parallel_size_local",
                    "0 ranks",
                    "1 rank or more on every host but the head of several",
                    "take the host out of the group, or state a share of 1 or more.",
                )
            )
    return checks
