# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that sends new connections on: what it does between two network namespaces."""

from __future__ import annotations

import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import drain, handover

STRANGER = """
table ip nat {
    chain prerouting { type nat hook prerouting priority -100; policy accept; tcp dport 9000 redirect to :8001; }
    chain output { type nat hook output priority -100; policy accept; }
}
"""


def test_new_connections_go_to_the_other_port_and_those_that_are_there_stay(hosts):
    assert hosts.nft(["-f", "-"], STRANGER)[0] == 0
    before = hosts.ruleset()
    assert hosts.port(2, "old") == "8000" and hosts.port(1, "own-old", "127.0.0.1") == "8000"
    handover.send_on(8000, 8001, 60, hosts.nft)
    assert handover.is_there(hosts.nft) is True
    # From the other host and from this one, at each of its addresses but the one that stays.
    assert [hosts.port(2, "new"), hosts.port(1, "own", "127.0.0.1"), hosts.port(1, "own", "192.0.2.1")] == ["8001"] * 3
    assert hosts.port(1, "own", handover.ITSELF) == "8000"
    assert [hosts.said(2, "old"), hosts.said(1, "own-old")] == ["8000", "8000"]
    # What is for another host, and the rules of somebody else, are as they were.
    assert hosts.port(1, "away", "192.0.2.2") == "ConnectionRefusedError" and before in hosts.ruleset() and hosts.port(2, "nat", port=9000) == "8001"

    assert handover.take_back(hosts.nft) is True and handover.take_back(hosts.nft) is False
    assert hosts.port(2, "again") == "8000" and hosts.ruleset() == before
    # One that was sent on goes on where it is.
    assert [hosts.said(2, name) for name in ("old", "new", "again")] == ["8000", "8001", "8000"]


def test_it_ends_by_itself_and_a_new_word_replaces_the_old_one(hosts):
    handover.send_on(8000, 8001, 60, hosts.nft)
    # Time for this and one connection.
    handover.send_on(8000, 8001, 4, hosts.nft)
    assert hosts.port(2, "new") == "8001"
    until = time.monotonic() + 20
    while hosts.port(2, "later") != "8000":
        assert time.monotonic() < until, "four seconds were asked for"
        time.sleep(0.1)
    assert handover.take_back(hosts.nft) is True


def refusing(arguments, script=None):
    """Answer as nft does without rights."""
    return 1, "", "Error:\n Operation not permitted"


def test_what_nft_refuses_is_said():
    for ask in (lambda: handover.send_on(8000, 8001, 9, refusing), lambda: handover.take_back(refusing), lambda: handover.is_there(refusing)):
        with pytest.raises(drain.DrainError, match="nft refuses: Error: Operation not permitted"):
            ask()
