# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver's files: version.info, ascend_install.info, hccn.conf and the device nodes."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import driver_files


@pytest.mark.parametrize(
    "text, version",
    [
        ("Version=25.3.rc1\nascendhal_version=7.35.23\npackage_version=25.3.rc1\n", "25.3.rc1"),
        ("firmware_version=1.0\nVersion=7.1.0.11.220\npackage_version=23.0.7\n", "7.1.0.11.220"),
        ("package_version=24.1\n", "24.1"),
        ("Version = 25.2.0 \r\n", "25.2.0"),
        ("Ascend-cann-atb : 9.1.0\nAscend-cann-atb Version : 9.1.0.B150\nbranch : br_x\n", "9.1.0.B150"),
        ("Version=\nother=1\n", None),
        ("", None),
        ("\ufffd\ufffd\n====\n:::\n", None),
    ],
)
def test_package_version(text, version):
    assert driver_files.package_version(text) == version


def test_read_version(tmp_path):
    good = tmp_path / "version.info"
    good.write_text("Version=25.2.0\n")
    assert driver_files.read_version(str(good)) == ("25.2.0", None)
    empty = tmp_path / "empty.info"
    empty.write_text("")
    folder = tmp_path / "folder.info"
    folder.mkdir()
    for path, words in ((empty, "no line Version="), (folder, "not a file but a directory"), (tmp_path / "none", "missing")):
        version, error = driver_files.read_version(str(path))
        assert version is None and words in error and str(path) in error


def test_install_info_in_any_order(tmp_path):
    path = tmp_path / "ascend_install.info"
    path.write_text("Driver_Install_For_All=yes\nDriver_Install_Path_Param=/opt/Ascend\nUserName=HwHiAiUser\n")
    info = driver_files.read_install_info(str(path))
    assert info["errors"] == [] and info["type"] == "file" and info["exists"]
    assert info["values"]["UserName"] == "HwHiAiUser"
    assert driver_files.install_home(info) == "/opt/Ascend"


@pytest.mark.parametrize("kind, errors", [("missing", ["missing"]), ("directory", ["not a file but a directory"]), ("dangling", ["a dangling link"])])
def test_install_info_that_is_none(tmp_path, kind, errors):
    path = tmp_path / "ascend_install.info"
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        os.symlink(str(tmp_path / "nowhere"), str(path))
    info = driver_files.read_install_info(str(path))
    assert info["errors"] == errors and info["values"] == {} and info["exists"] == (kind != "missing")
    assert driver_files.install_home(info) == "/usr/local/Ascend"


def test_install_info_without_its_path(tmp_path):
    path = tmp_path / "ascend_install.info"
    path.write_text("UserName=HwHiAiUser\n")
    assert driver_files.read_install_info(str(path))["errors"] == ["no line Driver_Install_Path_Param="]


CONF = """\
# written by hccn_tool
gateway_10=198.51.100.1
address_0=198.51.100.80
netmask_0=255.255.255.0
netdetect_0=198.51.100.1
tls_enable_0=1
send_arp_status_0=1
arp_0=-i eth0 -s 198.51.100.90 bc:1e:85:00:ca:dd
route_address_203.0.113.0_netmask_255.255.255.0_0=gateway 198.51.100.1

IPv6address_10=2001:db8::10
address_10=198.51.100.90
netmask_10=255.255.255.0"""


def test_hccn_conf():
    parsed = driver_files.parse_hccn_conf(CONF)
    assert parsed["errors"] == []
    assert sorted(parsed["devices"]) == ["0", "10"]
    assert parsed["devices"]["0"] == {
        "address": "198.51.100.80",
        "netmask": "255.255.255.0",
        "netdetect": "198.51.100.1",
        "tls_enable": 1,
        "send_arp_status": "1",
        "arp": "-i eth0 -s 198.51.100.90 bc:1e:85:00:ca:dd",
        "route_address_203.0.113.0_netmask_255.255.255.0": "gateway 198.51.100.1",
    }
    assert parsed["devices"]["10"]["address"] == "198.51.100.90"
    assert parsed["devices"]["10"]["netmask"] == "255.255.255.0", "the last line has no newline"


@pytest.mark.parametrize(
    "text, words",
    [
        ("address_0=198.51.100.80\nnetm", "line 2 is not understood"),
        ("address_0=198.51.1", "line 1: address_0 is not an IPv4 address"),
        ("address_0=\n", "line 1: address_0 is not an IPv4 address"),
        ("netmask_0=255.255.255.256\n", "netmask_0 is not an IPv4 address"),
        ("address_0=198.51.100.80\naddress_0=198.51.100.81\n", "line 2: address_0 is given twice"),
        ("tls_enable_0=on\n", "tls_enable_0 is neither 0 nor 1"),
        ("address=198.51.100.80\n", "line 1 is not understood"),
        ("\ufffd\ufffd\ufffd\n", "line 1 is not understood"),
    ],
)
def test_hccn_conf_damaged(text, words):
    errors = driver_files.parse_hccn_conf(text)["errors"]
    assert len(errors) == 1 and words in errors[0]


def test_hccn_conf_twice_the_same_is_no_error():
    assert driver_files.parse_hccn_conf("address_0=198.51.100.80\naddress_0=198.51.100.80\n")["errors"] == []


@pytest.mark.parametrize("key", ["arp", "ip_rule", "ip_route"])
def test_hccn_conf_has_a_line_for_each_of_these(key):
    text = "address_0=198.51.100.80\n%s_0=-i eth0 -s 10.20.11.11 aa\n%s_0=-i eth0 -s 10.20.11.12 bb\n" % (key, key)
    assert driver_files.parse_hccn_conf(text) == {
        "devices": {"0": {"address": "198.51.100.80", key: "-i eth0 -s 10.20.11.11 aa\n-i eth0 -s 10.20.11.12 bb"}},
        "errors": [],
    }


def test_read_hccn_conf(tmp_path):
    path = tmp_path / "hccn.conf"
    missing = driver_files.read_hccn_conf(str(path))
    assert (missing["exists"], missing["type"], missing["devices"], missing["errors"]) == (False, None, {}, ["missing"])
    path.write_text("")
    assert driver_files.read_hccn_conf(str(path))["errors"] == ["states no device"]
    path.write_bytes(b"address_0=198.51.100.80\n\xff\xfe\n")
    read = driver_files.read_hccn_conf(str(path))
    assert read["devices"]["0"]["address"] == "198.51.100.80" and len(read["errors"]) == 1
    path.unlink()
    path.mkdir()
    folder = driver_files.read_hccn_conf(str(path))
    assert (folder["exists"], folder["type"], folder["errors"]) == (True, "directory", ["not a file but a directory"])


def test_a_huge_file_is_cut_and_said_to_be(tmp_path):
    path = tmp_path / "hccn.conf"
    path.write_bytes(b"address_0=198.51.100.80\n" + b"#" * (2 * 1024 * 1024))
    assert any("larger than" in error for error in driver_files.read_hccn_conf(str(path))["errors"])


def test_device_ids(tmp_path):
    for name in ("davinci0", "davinci10", "davinci2", "davinci_manager", "davinci1x", "hisi_hdc"):
        (tmp_path / name).write_text("")
    assert driver_files.device_ids(str(tmp_path)) == [0, 2, 10]
    assert driver_files.device_ids(str(tmp_path / "none")) == []
