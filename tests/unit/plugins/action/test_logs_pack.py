# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bundle of several archives: what is in it and for whom, without secrets, and as a whole or not at all."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from types import SimpleNamespace
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.ascend.vllm.plugins.action import logs_pack

SECRET = "Zq9xWv7-key"
PLAN = {
    "groups": {"vllm": {"head": "a2-node0", "api_key_file": "/srv/api_key"}},
    "hosts": {"a2-node0": {"units": [{"env": {"HF_TOKEN": "Hf0Kj3", "A": SECRET}, "argv": ["vllm", "--api-key", "Ak7Lm2"]}]}, "a2-node1": {}},
    "run": {"data_dirs": [], "language": "en"},
}


def archive(path, files=(), kinds=()):
    """Write a node's archive of (name, bytes)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in [*files, ("MANIFEST.json", b'{"units": [], "entries": []}')]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.mode = len(data), 1700000000, 1000, 0o777
            tar.addfile(info, io.BytesIO(data))
        for name, kind in kinds:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/shadow"
            tar.addfile(info)
    return str(path)


def pack(report_dir, parts, plan=None, secrets=(SECRET,)):
    """Run the plugin; return its result."""
    args = {"plan": plan or PLAN, "parts": parts, "report_dir": str(report_dir), "secrets": list(secrets)}
    task = SimpleNamespace(args=args, async_val=0, check_mode=False, action="ascend.vllm.logs_pack", environment=None, diff=False, no_log=False)
    plugin = logs_pack.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    return plugin.run(task_vars={})


def read(path):
    """Return the members of a bundle: [(name without the top folder, bytes)]."""
    with tarfile.open(path) as tar:
        assert all(member.isreg() and member.mode == 0o600 and member.uid == 0 for member in tar.getmembers())
        top = os.path.basename(path)[: -len(".tar.gz")]
        assert all(member.name.startswith(top + "/") and ".." not in member.name for member in tar.getmembers())
        return [(member.name[len(top) + 1:], tar.extractfile(member).read()) for member in tar.getmembers()]


def test_a_bundle_has_the_summary_first_and_a_folder_a_node(tmp_path):
    (tmp_path / "preflight.json").write_text(json.dumps({"checks": [], "api_key": "Ak7Lm2", "said": SECRET}))
    (tmp_path / "odd.json").write_text("{ no json, PASSWORD=Pw5Rt8")
    (tmp_path / "preflight.html").write_text("page")
    parts = {"a2-node0": {"archive": archive(tmp_path / "0.tar.gz", [("npu/npu-smi.txt", b"table")])},
             "a2-node1": {"archive": archive(tmp_path / "1.tar.gz"), "error": ""}}
    result = pack(tmp_path, parts)
    assert not result["changed"] and result["summary"]["complete"] and result["bytes"] == os.path.getsize(result["bundle"])
    assert os.path.dirname(result["bundle"]) == str(tmp_path) and os.path.basename(result["bundle"]).startswith("logs-vllm-2")
    assert stat.S_IMODE(os.stat(result["bundle"]).st_mode) == 0o600
    found = read(result["bundle"])
    assert [name for name, dummy in found] == ["SUMMARY.txt", "plan.json", "reports/odd.json", "reports/preflight.json", "a2-node0/npu/npu-smi.txt",
                                               "a2-node0/MANIFEST.json", "a2-node1/MANIFEST.json"]
    assert dict(found)["a2-node0/npu/npu-smi.txt"] == b"table"
    plan = json.loads(dict(found)["plan.json"])
    assert plan["hosts"]["a2-node0"]["units"][0] == {"env": {"HF_TOKEN": "[removed]", "A": "[removed]"}, "argv": ["vllm", "--api-key", "[removed]"]}
    assert plan["groups"]["vllm"]["api_key_file"] == "/srv/api_key"
    everything = b"".join(data for dummy, data in found)
    assert not [secret for secret in (SECRET, "Hf0Kj3", "Ak7Lm2", "Pw5Rt8") if secret.encode() in everything]
    # Nothing is left beside it.
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_node_that_gave_nothing_is_named_and_the_bundle_is_there(tmp_path):
    (tmp_path / "broken").write_bytes(b"x")
    parts = {"a2-node0": {"archive": None, "error": "Failed to connect:\nno route, http://u:Pw5Rt8@x and %s" % SECRET},
             "a2-node1": {"archive": str(tmp_path / "broken")}}
    result = pack(tmp_path / "new" / "reports", parts)
    assert not result["summary"]["complete"]
    nodes = result["summary"]["nodes"]
    assert nodes[0]["why"] == "Failed to connect: no route, http://[removed]@x and [removed]" and "cannot be read" in nodes[1]["why"]
    assert dict(read(result["bundle"]))["SUMMARY.txt"].decode().count("NOT IN THE BUNDLE") == 2


def test_names_and_links_of_an_archive_lead_nowhere(tmp_path):
    made = archive(tmp_path / "0.tar.gz", [("../../a", b"1"), ("/etc/b", b"2")], [("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)])
    plan = {**PLAN, "hosts": {"../x y": {}}, "groups": {"a": {"head": "../x y"}, "b": {"head": "../x y"}}}
    result = pack(tmp_path, {"../x y": {"archive": made}}, plan)
    assert os.path.basename(result["bundle"]).startswith("logs-cluster-")
    assert [name for name, dummy in read(result["bundle"])][2:] == ["_2f_x_20_y/a", "_2f_x_20_y/etc/b", "_2f_x_20_y/MANIFEST.json"]


def test_two_bundles_of_the_same_parts_are_alike(tmp_path):
    made = archive(tmp_path / "0.tar.gz", [("a", b"1")])
    for number in (1, 2):
        logs_pack.write(str(tmp_path / f"{number}.tar.gz"), "logs-x", [("SUMMARY.txt", "text")], [("h", made)], 1700000000)
    with tarfile.open(tmp_path / "1.tar.gz") as one, tarfile.open(tmp_path / "2.tar.gz") as two:
        assert [member.get_info() for member in one] == [member.get_info() for member in two]


def test_a_directory_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(AnsibleActionFail, match="vllm_report_dir"):
        pack(tmp_path / "file" / "reports", {"a2-node0": {}, "a2-node1": {}})


def test_a_bundle_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(logs_pack.os, "replace", mock.Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(AnsibleActionFail, match="No space left"):
        pack(tmp_path / "reports", {"a2-node0": {}, "a2-node1": {}})
    assert os.listdir(tmp_path / "reports") == []
