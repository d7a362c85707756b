# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a host are mounted, when hosts differ."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import mounts


def paths_of(unit, **changes):
    """Return what node_info says of a host that has everything, with changes by path (None: absent)."""
    found = {path: {"exists": True, "type": "directory" if path.endswith(("dcmi", "/")) else "file"} for path in mounts.sources(unit)}
    found["/usr/local/sbin/npu-smi"] = {"exists": False, "type": None}
    for path, kind in changes.items():
        found[path] = {"exists": kind is not None, "type": kind}
    return found


@pytest.fixture(name="unit")
def one_unit(hosts, planned):
    """Give the head's unit of the pair."""
    return planned(hosts(2))["plan"]["hosts"]["a2-node0"]["units"][0]


def test_a_usual_host(unit):
    result = mounts.choose(unit, paths_of(unit), "h")
    assert result["mounts"] == unit["mounts"]
    assert {check["status"] for check in result["checks"]} == {"pass"}
    assert len(result["checks"]) == len(unit["mount_candidates"]) == 8


def test_npu_smi_in_sbin_keeps_its_target(unit):
    paths = paths_of(unit, **{"/usr/local/bin/npu-smi": None, "/usr/local/sbin/npu-smi": "file"})
    result = mounts.choose(unit, paths, "h")
    assert "/usr/local/sbin/npu-smi:/usr/local/bin/npu-smi" in result["mounts"]
    assert {check["status"] for check in result["checks"]} == {"pass"}


def test_an_optional_file_that_is_absent_is_left_out(unit):
    result = mounts.choose(unit, paths_of(unit, **{"/usr/bin/hccn_tool": None}), "h")
    assert [mount for mount in unit["mounts"] if mount not in result["mounts"]] == ["/usr/bin/hccn_tool:/usr/bin/hccn_tool"]
    assert {check["status"] for check in result["checks"]} == {"pass"}


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/etc/hccn.conf", None, "/etc/hccn.conf is absent"),
        ("/etc/hccn.conf", "directory", "/etc/hccn.conf is a directory"),
        ("/usr/bin/hccn_tool", "directory", "/usr/bin/hccn_tool is a directory"),
        ("/usr/local/bin/npu-smi", None, "/usr/local/bin/npu-smi is absent; /usr/local/sbin/npu-smi is absent"),
        ("/usr/local/dcmi", "file", "/usr/local/dcmi is a file"),
    ],
)
def test_a_missing_or_wrong_source_is_refused(unit, path, kind, words):
    result = mounts.choose(unit, paths_of(unit, **{path: kind}), "h")
    refused = [check for check in result["checks"] if check["status"] == "fail"]
    assert [(check["host"], check["device"], check["observed"]) for check in refused] == [("h", path, words)]
    assert refused[0]["remedy"]


def test_a_path_that_was_not_looked_at_is_unknown(unit):
    paths = paths_of(unit)
    del paths["/etc/hccn.conf"]
    result = mounts.choose(unit, paths, "h")
    assert [(check["device"], check["status"]) for check in result["checks"] if check["status"] != "pass"] == [
        ("/etc/hccn.conf", "unknown")
    ]


def test_a_final_slash_does_not_matter(unit):
    paths = {path.rstrip("/"): answer for path, answer in paths_of(unit).items()}
    assert mounts.choose(unit, paths, "h")["mounts"] == unit["mounts"]
