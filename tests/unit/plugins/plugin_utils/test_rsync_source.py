# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of weights that rsync copies: how they are reached, and what a real rsync lists."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils.rsync_source import rsync_files, rsync_source


@pytest.mark.parametrize(("port", "name"), [(None, "h.example"), (22, "h.example"), (2222, "[h.example]:2222")])
def test_over_ssh_only_the_stated_host_is_talked_to(port, name):
    found = rsync_source({"kind": "rsync", "id": "me@h.example:/srv/m/", "host_key": "ssh-ed25519 AAAA", "port": port}, "/run/key", "/run/known")
    assert found["url"] == "me@h.example:/srv/m" and found["known_hosts"] == f"{name} ssh-ed25519 AAAA\n"
    assert found["argv"][:2] == ["rsync", "-e"]
    for part in ("-i /run/key", f"-p {port or 22}", "UserKnownHostsFile=/run/known", "StrictHostKeyChecking=yes", "BatchMode=yes"):
        assert part in found["argv"][2]


def test_a_daemon_gets_its_password_by_a_file_and_the_controller_nothing():
    daemon = {"kind": "rsync", "id": "rsync://h.example/models/m"}
    assert rsync_source(daemon, "/run/password") == {"argv": ["rsync", "--password-file=/run/password"], "url": daemon["id"], "known_hosts": ""}
    assert rsync_source(daemon)["argv"] == ["rsync"]
    assert rsync_source({"kind": "controller", "id": "/srv/me@h:/x"}, "/run/key") == {"argv": ["rsync"], "url": "/srv/me@h:/x", "known_hosts": ""}


def test_a_real_listing_is_read(tmp_path):
    (tmp_path / "sub" / ".cache").mkdir(parents=True)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "a file.bin").write_bytes(b"x" * 12345)
    (tmp_path / "sub" / ".cache" / "x").write_text("x")
    (tmp_path / "link").symlink_to("config.json")
    said = subprocess.run(["rsync", "-rL", "--list-only", "--no-h", "-8", f"{tmp_path}/"], capture_output=True, text=True, check=True).stdout
    assert rsync_files(said) == [{"path": "config.json", "size": 2}, {"path": "link", "size": 2}, {"path": "sub/a file.bin", "size": 12345}]
