# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hccn_info against fake tools: real processes with the answers, errors and misbehaviour of the real one."""

from __future__ import annotations

import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_hccn
from ansible_collections.ascend.vllm.plugins.modules import hccn_info
from ansible_collections.ascend.vllm.tests.unit.plugins import limits

BUSY = "hccn_tool is busy, please try again.\n"


def answers(phy_id):
    """What an A2 device answers."""
    ask = "-i %d " % phy_id
    return {
        ask + "-ip -g": ("ipaddr:198.51.100.%d\nnetmask:255.255.255.0\n" % (80 + phy_id), 0),
        ask + "-link -g": ("link status: UP\n", 0),
        ask + "-net_health -g": ("net health status: Success\n", 0),
        ask + "-netdetect -g": ("netdetect addr: 198.51.100.1\n", 0),
        ask + "-gateway -g": ("default gateway:198.51.100.1, Iface:eth%d\n" % phy_id, 0),
        ask + "-tls -g": ("dev_id:%d, tls switch[1](0:disable, 1:enable), tls alarm time threshold[60]days\n" % phy_id, 0),
        ask + "-lldp -g": ("Port ID TLV\n\tIfname: 400GE1/0/%d\n" % phy_id, 0),
        ask + "-vnic -g": ("The command is not supported on this product.\n", 13),
    }


@pytest.fixture
def run(run_module, tmp_path):
    """Run the module with an hccn.conf of its own, which is not there unless the test writes it."""

    def go(tool, **parameters):
        parameters.setdefault("hccn_conf_path", str(tmp_path / "hccn.conf"))
        return run_module(hccn_info, hccn_tool_path=str(tool), **parameters)

    return go


def test_every_question_about_every_device(run, fake_tool, calls):
    tool = fake_tool(dict(answers(0), **answers(1)))
    result = run(tool, devices=[1, 0, 1])
    assert not result["failed"] and result["changed"] is False
    assert result["devices"] == [
        {
            "phy_id": n,
            "ip": "198.51.100.%d" % (80 + n),
            "netmask": "255.255.255.0",
            "gateway": "198.51.100.1",
            "netdetect": "198.51.100.1",
            "link": "UP",
            "net_health": "Success",
            "tls": 1,
            "lldp": {"ifname": "400GE1/0/%d" % n, "port_id": "Ifname: 400GE1/0/%d" % n, "chassis_id": None, "system": None},
            "vnic": None,
            "errors": {},
        }
        for n in (0, 1)
    ]
    assert len(calls(tool)) == 16 == result["calls"] and result["busy_retries"] == 0
    assert result["hccn_tool"] == str(tool)


def test_calls_never_overlap(run, fake_tool, tmp_path):
    lock = tmp_path / "lock"
    tool = fake_tool(answers(0), before='mkdir "%s" || { echo "%s"; exit 11; }; trap \'rmdir "%s"\' EXIT; sleep 0.02' % (lock, BUSY.strip(), lock))
    result = run(tool, devices=[0])
    assert result["devices"][0]["errors"] == {} and result["busy_retries"] == 0


def test_a3_die_without_roce_but_with_hccs(run, fake_tool):
    tool = fake_tool(
        {
            "-i 12 -ip -g": ("", 13, "Get ipconf failed, because no ip was preset there!\n"),
            "-i 12 -gateway -g": ("", 2, "Get gateway failed, because no gateway was preset there!\n"),
            "-i 12 -link -g": ("link status: DOWN\n", 0),
            "-i 12 -net_health -g": ("net health status: Init\n", 0),
            "-i 12 -netdetect -g": ("netdetect addr: 0.0.0.0\n", 0),
            "-i 12 -tls -g": ("dev_id:12, tls switch[0](0:disable, 1:enable)\n", 0),
            "-i 12 -lldp -g": ("", 0),
            "-i 12 -vnic -g": ("vnic link status: UP\nvnic ipaddr: 192.168.2.187\nvnic netmask: 255.255.255.0\n", 0),
        }
    )
    (device,) = run(tool, devices=[12])["devices"]
    assert device == {
        "phy_id": 12, "ip": None, "netmask": None, "gateway": None, "netdetect": None, "link": "DOWN", "net_health": "Init", "tls": 0,
        "lldp": None, "vnic": {"link": "UP", "ip": "192.168.2.187", "netmask": "255.255.255.0"}, "errors": {},
    }


def test_only_the_questions_asked(run, fake_tool, calls):
    tool = fake_tool(answers(0))
    (device,) = run(tool, devices=[0], questions=["link", "ip"])["devices"]
    assert calls(tool) == ["-i 0 -ip -g", "-i 0 -link -g"]
    assert device["link"] == "UP" and device["tls"] is None and device["errors"] == {}


def test_what_is_not_understood_is_null_and_named(run, fake_tool):
    table = answers(0)
    table["-i 0 -link -g"] = (b"l\xffnk status: \xfe\n", 0)
    table["-i 0 -tls -g"] = ("", 12, "permission denied: pls check this cmd run permission.\n")
    table["-i 0 -ip -g"] = ("", 13)
    del table["-i 0 -lldp -g"]
    (device,) = run(fake_tool(table), devices=[0])["devices"]
    assert (device["link"], device["tls"], device["ip"], device["lldp"]) == (None, None, None, None)
    assert device["net_health"] == "Success"
    assert sorted(device["errors"]) == ["ip", "link", "lldp", "tls"]
    assert "\ufffd" in device["errors"]["link"] and "become" in device["errors"]["tls"]
    assert "exit 13" in device["errors"]["ip"] and "Error parameter" in device["errors"]["lldp"]


def test_busy_for_a_while_is_retried(run, fake_tool, tmp_path):
    before = 'n=$(cat "%s/n" 2>/dev/null || echo 0); echo $((n + 1)) > "%s/n"; [ $n -ge 3 ] || { echo "%s"; exit 11; }' % (tmp_path, tmp_path, BUSY.strip())
    result = run(fake_tool(answers(0), before=before), devices=[0])
    assert result["devices"][0]["errors"] == {} and result["devices"][0]["ip"] == "198.51.100.80"
    assert result["busy_retries"] == 3 and result["calls"] == 11


def test_busy_for_ever_is_reported_and_its_budget_spent_once(run, fake_tool):
    started = time.monotonic()
    result = run(fake_tool({}, before='echo "%s"; exit 11' % BUSY.strip()), devices=[0, 1], busy_retry_s=1)
    assert 0.9 < time.monotonic() - started < 8
    assert not result["failed"]
    for device in result["devices"]:
        assert len(device["errors"]) == 8 and device["link"] is None
        assert "still busy after 1 s" in device["errors"]["link"] and "hccn_tool is busy" in device["errors"]["link"]


def test_one_question_that_hangs_spoils_no_other(run, fake_tool, monkeypatch):
    limits.of_tools(monkeypatch, lambda arguments: "-lldp" in arguments)
    result = run(fake_tool(answers(0), before='[ "$3" != -lldp ] || sleep 30'), devices=[0], timeout=20)
    (device,) = result["devices"]
    assert list(device["errors"]) == ["lldp"] and "timed out after 0.5 s" in device["errors"]["lldp"]
    assert device["link"] == "UP"


def test_a_tool_that_always_hangs_costs_two_timeouts(run, fake_tool):
    started = time.monotonic()
    result = run(fake_tool({}, before="sleep 30"), devices=list(range(8)), timeout=0.4)
    assert time.monotonic() - started < 6
    assert not result["failed"] and result["calls"] == 2
    for device in result["devices"]:
        assert len(device["errors"]) == 8
        assert all("timed out" in text for text in device["errors"].values())


def test_megabytes(run, fake_tool):
    result = run(fake_tool(answers(0), before="head -c 5000000 /dev/zero | tr '\\\\0' x"), devices=[0], questions=["link"])
    (device,) = result["devices"]
    assert device["link"] is None and len(device["errors"]["link"]) < 1000


def test_devices_are_those_of_the_device_nodes(run, fake_tool, monkeypatch):
    monkeypatch.setattr(ask_hccn.driver_files, "device_ids", lambda: [0])
    assert [device["phy_id"] for device in run(fake_tool(answers(0)))["devices"]] == [0]
    monkeypatch.setattr(ask_hccn.driver_files, "device_ids", lambda: [])
    result = run(fake_tool(answers(0)))
    assert not result["failed"] and result["devices"] == []


def test_hccn_conf(run, fake_tool, tmp_path):
    (tmp_path / "hccn.conf").write_text("address_0=198.51.100.80\nnetmask_0=255.255.255.0\ntls_enable_0=1\nnetdet")
    conf = run(fake_tool(answers(0)), devices=[0])["hccn_conf"]
    assert (conf["exists"], conf["type"]) == (True, "file")
    assert conf["devices"] == {"0": {"address": "198.51.100.80", "netmask": "255.255.255.0", "tls_enable": 1}}
    assert conf["errors"] == ["line 4 is not understood: netdet"]


@pytest.mark.parametrize(
    "kind, exists, file_type, error",
    [("missing", False, None, "missing"), ("directory", True, "directory", "not a file but a directory")],
)
def test_hccn_conf_that_is_none(run, fake_tool, tmp_path, kind, exists, file_type, error):
    if kind == "directory":
        (tmp_path / "hccn.conf").mkdir()
    result = run(fake_tool(answers(0)), devices=[0])
    assert not result["failed"]
    assert (result["hccn_conf"]["exists"], result["hccn_conf"]["type"], result["hccn_conf"]["errors"]) == (exists, file_type, [error])


@pytest.mark.parametrize("kind, words", [("missing", "was not found"), ("directory", "is a directory"), ("mode", "is not executable")])
def test_a_tool_that_cannot_be_run(run, tmp_path, kind, words):
    place = tmp_path / "hccn_tool"
    if kind == "directory":
        place.mkdir()
    elif kind == "mode":
        place.write_text("#!/bin/sh\n")
        place.chmod(0o644)
    result = run(place, devices=[0])
    assert result["failed"] and words in result["msg"] and str(place) in result["msg"]
    assert result["searched"] == [str(place)] and result["hccn_conf"]["exists"] is False


def test_check_mode_reads_all_the_same(run, fake_tool):
    tool = fake_tool(answers(0))
    assert run(tool, devices=[0], check=True) == run(tool, devices=[0])


def test_wrong_parameters(run, fake_tool):
    tool = fake_tool(answers(0))
    assert "timeout" in run(tool, devices=[0], timeout=0)["msg"]
    assert run(tool, devices=[0], questions=["colour"])["failed"]
    assert run(tool, devices=["zero"])["failed"]
