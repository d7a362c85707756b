# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that keeps new connections away: what nft is asked for, and what the kernel then does between two network namespaces."""

from __future__ import annotations

import json
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import drain


class Nft:
    """Answers as nft does and keeps what it was told; C(ports) is None without the table."""

    def __init__(self, ports=None, refuse=None, listed=None):
        self.ports, self.refuse, self.listed, self.scripts = ports, refuse, listed, []

    def __call__(self, arguments, script=None):
        """Do one call."""
        if arguments == ["-f", "-"]:
            self.scripts.append(script)
            return (1, "", self.refuse) if self.refuse else self.change(script)
        if self.ports is None:
            return 1, "", "Error: No such file or directory\nlist table inet ascend_vllm_drain\n"
        if arguments == ["list", "table", "inet", "ascend_vllm_drain"]:
            return 0, "table inet ascend_vllm_drain {\n}\n", ""
        assert arguments == ["-j", "list", "set", "inet", "ascend_vllm_drain", "ports"]
        found = {"family": "inet", "name": "ports", "table": "ascend_vllm_drain", "type": "inet_service", "handle": 2, "flags": ["timeout"]}
        if self.ports:
            found["elem"] = [{"elem": {"val": port, "timeout": 100, "expires": 99}} for port in self.ports]
        text = json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": found}]})
        return self.listed or (0, text, "")

    def change(self, script):
        """Do what a script says."""
        if "table inet ascend_vllm_drain {" in script:
            assert self.ports is None
            self.ports = []
        if "delete table" in script:
            self.ports = None
        for line in script.splitlines():
            words = line.split()
            if words[1:2] == ["element"]:
                port = int(words[6])
                assert words[2:6] == ["inet", "ascend_vllm_drain", "ports", "{"] and (words[0] == "add" or port in self.ports)
                self.ports = [other for other in self.ports if other != port] + [port] * (words[0] == "add")
        return 0, "", ""


def test_the_first_port_makes_the_table_and_the_last_one_takes_it_away():
    nft = Nft()
    assert drain.kept_away(nft) == [] and drain.let_in(8000, nft) is False and nft.scripts == []
    assert drain.keep_away(8000, 900, nft) is True and drain.kept_away(nft) == [8000]
    assert nft.scripts[0].endswith("add element inet ascend_vllm_drain ports { 8000 timeout 900s }\n")
    assert drain.keep_away(8001, 60, nft) is True and drain.kept_away(nft) == [8000, 8001] and "table inet ascend_vllm_drain {" not in nft.scripts[1]
    assert drain.let_in(8000, nft) is True and nft.ports == [8001]
    assert drain.let_in(8000, nft) is False and nft.ports == [8001]
    assert drain.let_in(8001, nft) is True and nft.ports is None


def test_asking_again_gives_it_the_new_time():
    nft = Nft([8000])
    assert drain.keep_away(8000, 77, nft) is False
    # Deleted first: the kernel keeps the old time of an entry that is there. Added first: one that has just expired cannot be deleted.
    assert nft.scripts == [
        "add element inet ascend_vllm_drain ports { 8000 }\n"
        "delete element inet ascend_vllm_drain ports { 8000 }\n"
        "add element inet ascend_vllm_drain ports { 8000 timeout 77s }\n"]


def test_a_table_whose_entries_have_expired_is_taken_away():
    nft = Nft([])
    assert drain.kept_away(nft) == [] and drain.let_in(8000, nft) is True and nft.ports is None


def test_what_nft_refuses_is_said():
    with pytest.raises(drain.DrainError, match="nft refuses: Error: Operation not permitted"):
        drain.keep_away(8000, 9, Nft(refuse="Error:\n Operation not permitted"))
    for port in (8000, 8001):
        with pytest.raises(drain.DrainError, match="Operation not permitted"):
            drain.let_in(port, Nft([8000, 8001], refuse="Operation not permitted"))
    # No rights is not the same as no table.
    for ask in (lambda nft: drain.let_in(8000, nft), drain.kept_away, lambda nft: drain.keep_away(8000, 9, nft)):
        with pytest.raises(drain.DrainError, match="nft refuses: Operation not permitted"):
            ask(lambda arguments, script=None: (1, "", "Operation not permitted"))
        with pytest.raises(drain.DrainError, match="it does not say why"):
            ask(lambda arguments, script=None: (1, "", ""))


def test_an_nft_without_json_does_not_pass_for_an_empty_set():
    nft = Nft([8000], listed=(1, "", "Error: JSON support not compiled-in"))
    for ask in (lambda: drain.kept_away(nft), lambda: drain.let_in(8000, nft), lambda: drain.keep_away(8000, 9, nft)):
        with pytest.raises(drain.DrainError, match="JSON support not compiled-in"):
            ask()
    assert nft.scripts == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nftables": 5}', '{"nftables": ["x"]}', '{"nftables": [{"set": {"elem": [{"x": 1}]}}]}'])
def test_words_of_nft_that_are_not_understood(text):
    with pytest.raises(drain.DrainError, match="is not understood"):
        drain.kept_away(Nft([8000], listed=(0, text, "")))


def test_ports_without_a_time_are_read_as_well():
    text = json.dumps({"nftables": [{"set": {"elem": [8000, {"elem": {"val": 8001, "timeout": 5}}]}}]})
    assert drain.kept_away(Nft([1], listed=(0, text, ""))) == [8000, 8001]


def test_without_nft(tmp_path):
    with pytest.raises(drain.NoNft, match="nft is not installed here"):
        drain.run_nft(["list", "tables"], nft=str(tmp_path / "nft"))
    (tmp_path / "nft").write_text("")
    with pytest.raises(drain.DrainError, match="nft cannot be run: .*Permission denied") as caught:
        drain.run_nft(["list", "tables"], nft=str(tmp_path / "nft"))
    assert not isinstance(caught.value, drain.NoNft)


def test_nft_is_found_where_a_plain_user_s_shell_does_not_look_and_speaks_english(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    status, out, dummy = drain.run_nft(["--version"])
    assert status == 0 and out.startswith("nftables v")
    (tmp_path / "nft").write_text('#!/bin/sh\nread line\necho "$1 $line $LC_ALL"\necho wrong >&2\nexit 3\n')
    (tmp_path / "nft").chmod(0o755)
    assert drain.run_nft(["-f"], "in\n") == (3, "-f in C\n", "wrong\n")


STRANGER = """
table inet filter {
    set blocked { type inet_service; flags timeout; elements = { 9, 8000 }; }
    chain input { type filter hook input priority 0; policy accept; tcp dport 9999 reject; }
}
"""


def test_new_connections_are_reset_and_all_else_goes_on(hosts):
    assert hosts.nft(["-f", "-"], STRANGER)[0] == 0
    before = hosts.ruleset()
    assert hosts.open(2, "old") == "ok" and "ascend" not in before
    assert drain.keep_away(8000, 60, hosts.nft) is True and drain.kept_away(hosts.nft) == [8000]
    for address in ("192.0.2.1", "2001:db8::1"):
        assert hosts.open(2, "new", address) == "ConnectionRefusedError"
    # What is there goes on, the other port is open, and the node itself may ask.
    assert hosts.said(2, "old") == "8000" and hosts.open(2, "other", port=8001) == "ok"
    assert [hosts.open(1, "own", address) for address in ("127.0.0.1", "::1", "192.0.2.1", "2001:db8::1")] == ["ok"] * 4

    # The table of somebody else, with a set of the same kind, is as it was.
    assert before in hosts.ruleset()
    assert drain.keep_away(8001, 60, hosts.nft) is True and hosts.open(2, "other", port=8001) == "ConnectionRefusedError"
    assert drain.let_in(8000, hosts.nft) is True and drain.kept_away(hosts.nft) == [8001]
    assert hosts.open(2, "new") == "ok" and hosts.open(2, "other", port=8001) == "ConnectionRefusedError"

    # An entry with a short time gets a longer one when it is asked for again, and a short one again; then it is over by itself.
    # The short time is enough for two words to a kernel that is busy.
    assert drain.keep_away(8000, 4, hosts.nft) is True and drain.keep_away(8000, 60, hosts.nft) is False
    time.sleep(4.2)
    assert hosts.open(2, "new") == "ConnectionRefusedError" and drain.keep_away(8000, 1, hosts.nft) is False
    until = time.monotonic() + 20
    while hosts.open(2, "new") != "ok":
        assert time.monotonic() < until, "a second was asked for"
        time.sleep(0.1)
    assert drain.kept_away(hosts.nft) == [8001]
    assert drain.let_in(8000, hosts.nft) is False and drain.let_in(8001, hosts.nft) is True and drain.let_in(8001, hosts.nft) is False
    assert hosts.ruleset() == before and hosts.said(2, "old") == "8000"
