# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proxy_handover: what it asks of the table, which has a test of its own with a real kernel, and what it says where there is no nft."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.module_utils import drain, handover
from ansible_collections.ascend.vllm.plugins.modules import proxy_handover


def test_the_module_says_why_it_does_not_and_fails_nothing(run_module, monkeypatch):
    told = []

    def missing(*words):
        told.append(words)
        raise drain.NoNft("nft is not installed here")

    monkeypatch.setattr(handover, "send_on", missing)
    monkeypatch.setattr(handover, "take_back", missing)
    said = run_module(proxy_handover, port=1999, to=2000)
    assert (said["failed"], said["changed"], said["sent_on"], said["why_not"]) == (False, False, False, "nft is not installed here")
    assert run_module(proxy_handover, state="absent")["why_not"] == "nft is not installed here"
    assert told == [(1999, 2000, 900), ()]


def test_the_module_sends_on_and_looks_only_in_check_mode(run_module, monkeypatch):
    told = []
    monkeypatch.setattr(handover, "send_on", lambda *words: told.append(words))
    monkeypatch.setattr(handover, "is_there", lambda: True)
    assert run_module(proxy_handover, port=1999, to=2000, expire_s=60, check=True)["sent_on"] is True and told == []
    said = run_module(proxy_handover, port=1999, to=2000, expire_s=60)
    assert (said["sent_on"], said["why_not"]) == (True, None) and told == [(1999, 2000, 60)]
    assert "missing" in run_module(proxy_handover, port=1999)["msg"]
