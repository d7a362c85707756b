# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hccn_ping against fake tools: the judgement is by text and by exit status, never by the status alone."""

from __future__ import annotations

import time

import pytest

from ansible_collections.ascend.vllm.plugins.modules import hccn_ping

ADDRESS = "198.51.100.90"


def roce(phy_id, received, address=ADDRESS):
    lines = ["device %d PING %s" % (phy_id, address)]
    lines += ["recv seq=%d,time=0.060000ms" % n if n < received else "recv time out seq=%d" % n for n in range(3)]
    loss = {0: "100.00", 1: "66.67", 2: "33.33", 3: "0.00"}[received]
    return "\n".join(lines + ["3 packets transmitted, %d received, %s%% packet loss" % (received, loss), ""])


def hccs(phy_id, sent, received):
    lines = ["device %d PING %s\n" % (phy_id, ADDRESS)]
    for n in range(sent):
        lines.append("This pkt ping success!" if n < received else "This pkt check recv msg fail!")
        lines.append("recv seq %d, time = %d.000us, L1 plane check result = 0x0\n" % (n, 30 if n < received else 0))
    lines.append("%d packets transmitted, %d received, %.2f%% packets loss" % (sent, received, 100.0 * (sent - received) / sent))
    lines += ["max time 30.000us", "min time 30.000us", "average time 30.000us", "TP95 time 30.000us", "Cmd executed successfully!", ""]
    return "\n".join(lines)


def ask(phy_id, kind="roce", extra="", address=ADDRESS):
    return "-i %d -%s -g address %s%s" % (phy_id, "ping" if kind == "roce" else "hccs_ping", address, extra)


@pytest.fixture
def run(run_module):
    def go(tool, *pings, **parameters):
        wanted = [{"phy_id": phy_id, "address": ADDRESS, "kind": kind} for phy_id, kind in pings]
        return run_module(hccn_ping, hccn_tool_path=str(tool), pings=wanted, **parameters)

    return go


def test_both_kinds_in_the_order_given(run, fake_tool, calls):
    tool = fake_tool({ask(1): (roce(1, 3), 0), ask(0, "hccs"): (hccs(0, 3, 3), 0)})
    result = run(tool, (1, "roce"), (0, "hccs"))
    assert not result["failed"] and result["changed"] is False
    assert result["results"] == [
        {"phy_id": 1, "address": ADDRESS, "kind": "roce", "sent": 3, "received": 3, "loss_percent": 0.0, "rtt_ms": 0.06, "status": "pass", "text": ""},
        {"phy_id": 0, "address": ADDRESS, "kind": "hccs", "sent": 3, "received": 3, "loss_percent": 0.0, "rtt_ms": 0.03, "status": "pass", "text": ""},
    ]
    assert calls(tool) == [ask(1), ask(0, "hccs")]


def test_count_is_for_hccs_alone(run, fake_tool, calls):
    """The word pkt of -ping is a packet's length: it has no count to set."""
    tool = fake_tool({ask(1): (roce(1, 3), 0), ask(0, "hccs", " cnt 5"): (hccs(0, 5, 5), 0)})
    result = run(tool, (1, "roce"), (0, "hccs"), count=5)
    assert [(entry["sent"], entry["status"]) for entry in result["results"]] == [(3, "pass"), (5, "pass")]


@pytest.mark.parametrize(
    "kind, text, rc, sent, received, status",
    [
        ("roce", roce(2, 2), 0, 3, 2, "fail"),
        ("roce", roce(2, 1), 1, 3, 1, "fail"),
        ("roce", roce(2, 0), 1, 3, 0, "fail"),
        ("hccs", hccs(2, 3, 2), 0, 3, 2, "fail"),
        ("hccs", hccs(2, 3, 0), 0, 3, 0, "fail"),
        ("roce", roce(2, 3), 1, 3, 3, "unknown"),
        ("roce", roce(3, 3), 0, None, None, "unknown"),
        ("roce", roce(2, 3, "198.51.100.91"), 0, None, None, "unknown"),
        ("roce", "Execute failed: Link status is down.\n", 22, None, None, "fail"),
        ("hccs", "The command is not supported on this product.\n", 13, None, None, "unknown"),
        ("roce", "The device is not exist!\n", 4, None, None, "unknown"),
        ("roce", "Cmd executed successfully!\n", 0, None, None, "unknown"),
        ("roce", "", 0, None, None, "unknown"),
        ("roce", b"\xff\xfe\x00", 0, None, None, "unknown"),
    ],
)
def test_what_does_not_pass_says_why(run, fake_tool, kind, text, rc, sent, received, status):
    (result,) = run(fake_tool({ask(2, kind): (text, rc)}), (2, kind))["results"]
    assert (result["sent"], result["received"], result["status"]) == (sent, received, status)
    assert "exit %d" % rc in result["text"]
    first = (text if isinstance(text, str) else "").splitlines()
    assert not first or first[0] in result["text"]


def test_errors_on_stderr_are_read_too(run, fake_tool):
    tool = fake_tool({ask(2): ("", 13, "Get ipconf failed, because no ip was preset there!\n")})
    (result,) = run(tool, (2, "roce"))["results"]
    assert result["status"] == "fail" and "no ip was preset" in result["text"]


def test_busy_for_a_while_then_an_answer(run, fake_tool, tmp_path):
    before = 'n=$(cat "%s/n" 2>/dev/null || echo 0); echo $((n + 1)) > "%s/n"; [ $n -ge 2 ] || { echo "hccn_tool is busy, please try again."; exit 11; }' % (
        tmp_path, tmp_path)
    result = run(fake_tool({ask(0): (roce(0, 3), 0)}, before=before), (0, "roce"))
    assert result["results"][0]["status"] == "pass" and result["busy_retries"] == 2


@pytest.mark.parametrize("text, rc", [("hccn_tool is busy, please try again.", 11), ("The device is occupied. Please try again later.", 31)])
def test_busy_for_ever_is_unknown(run, fake_tool, text, rc):
    started = time.monotonic()
    result = run(fake_tool({}, before='echo "%s"; exit %d' % (text, rc)), (0, "roce"), (1, "roce"), busy_retry_s=0.7)
    assert time.monotonic() - started < 5
    for entry in result["results"]:
        assert entry["status"] == "unknown" and "still busy after 0.7 s" in entry["text"] and text in entry["text"]


def test_a_ping_that_hangs_is_unknown_and_the_others_go_on(run, fake_tool):
    table = {ask(0): (roce(0, 3), 0), ask(2): (roce(2, 3), 0)}
    result = run(fake_tool(table, before='[ "$2" != 1 ] || sleep 30'), (0, "roce"), (1, "roce"), (2, "roce"), timeout=3)
    assert [entry["status"] for entry in result["results"]] == ["pass", "unknown", "pass"]
    assert "timed out after 3 s" in result["results"][1]["text"]


def test_a_tool_that_always_hangs_costs_two_timeouts(run, fake_tool):
    started = time.monotonic()
    result = run(fake_tool({}, before="sleep 30"), *[(n, "roce") for n in range(16)], timeout=0.4)
    assert time.monotonic() - started < 6
    assert [entry["status"] for entry in result["results"]] == ["unknown"] * 16
    assert all("timed out" in entry["text"] for entry in result["results"])


def test_megabytes(run, fake_tool):
    before = "head -c 5000000 /dev/zero | tr '\\\\0' x"
    (result,) = run(fake_tool({ask(0): (roce(0, 3), 0)}, before=before), (0, "roce"))["results"]
    assert result["status"] == "unknown" and len(result["text"]) < 1000


def test_a_budget_of_nothing_sends_the_first_ping_alone(run, fake_tool, calls):
    tool = fake_tool({ask(n): (roce(n, 3), 0) for n in range(3)})
    result = run(tool, *[(n, "roce") for n in range(3)], budget_s=0)
    assert [entry["phy_id"] for entry in result["results"]] == [0] and result["left"] == 2
    assert calls(tool) == [ask(0)]


@pytest.mark.parametrize("budget_s, sent", [(None, 4), (0.5, 1), (1, 1), (1.5, 2), (3, 3), (3.5, 4), (100, 4)])
def test_no_ping_is_started_after_the_budget(monkeypatch, budget_s, sent):
    now = [0.0]

    def send(dummy, tool, ping, count):
        """A ping that takes one second."""
        now[0] += 1.0
        return ping

    monkeypatch.setattr(hccn_ping, "send", send)
    assert hccn_ping.send_all(None, "hccn_tool", [0, 1, 2, 3], 3, budget_s, lambda: now[0]) == [0, 1, 2, 3][:sent]


def test_without_a_budget_and_with_a_large_one_nothing_is_left(run, fake_tool):
    tool = fake_tool({ask(n): (roce(n, 3), 0) for n in range(3)})
    for more in ({}, {"budget_s": 60}):
        result = run(tool, *[(n, "roce") for n in range(3)], **more)
        assert len(result["results"]) == 3 and result["left"] == 0


def test_a_missing_tool(run, tmp_path):
    result = run(tmp_path / "hccn_tool", (0, "roce"))
    assert result["failed"] and str(tmp_path / "hccn_tool") in result["msg"] and result["searched"] == [str(tmp_path / "hccn_tool")]


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"pings": [{"phy_id": 0, "address": "nowhere"}]}, "not an IPv4 address"),
        ({"pings": [{"phy_id": 0, "address": "198.51.100.300"}]}, "198.51.100.300"),
        ({"pings": [{"phy_id": 0, "address": ADDRESS, "kind": "telepathy"}]}, "telepathy"),
        ({"pings": [{"address": ADDRESS}]}, "phy_id"),
        ({"pings": [], "count": 0}, "count must be from 1 to 1000"),
        ({"pings": [], "timeout": 0}, "timeout"),
        ({"pings": [], "budget_s": -1}, "budget_s must not be less than 0"),
        ({}, "pings"),
    ],
)
def test_wrong_parameters(run_module, parameters, words):
    result = run_module(hccn_ping, **parameters)
    assert result["failed"] and words in result["msg"]


def test_no_pings_is_no_result(run, fake_tool, calls):
    tool = fake_tool({})
    result = run(tool)
    assert (result["results"], result["left"]) == ([], 0) and calls(tool) == []


def test_check_mode_pings_all_the_same(run, fake_tool):
    tool = fake_tool({ask(0): (roce(0, 3), 0)})
    assert run(tool, (0, "roce"), check=True) == run(tool, (0, "roce"))
