# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same image and the same weights on every node, the environment of a unit, and what a stop has left."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from ansible_collections.ascend.vllm.plugins.modules import serve_released
from ansible_collections.ascend.vllm.plugins.plugin_utils import findings

H, P = "a2-node0", "a2-node1"
IMAGE = "quay.io/ascend/vllm-ascend:v0.13.0"
DIR = "/mnt/weights/DeepSeek-R1-W8A8"
GROUP = {"head": H, "hosts": [H, P], "weights": {"dir": DIR}}


def unit(**more):
    """Return one unit of a plan."""
    return {"name": "vllm-rank0", "env": {}, "no_proxy": ["198.51.100.11", "198.51.100.12", "localhost"], **more}


def bad(found):
    """Return (check, status) of what did not pass; every result has all of its words."""
    for check in found:
        assert set(check) == {"host", "check", "device", "status", "observed", "expected", "remedy"}
        assert check["observed"] and check["expected"] and bool(check["remedy"]) == (check["status"] != "pass")
    return [(check["check"], check["status"]) for check in found if check["status"] != "pass"]


def image(layers=("sha256:" + "a" * 64, "sha256:" + "b" * 64), architecture="arm64"):
    """Return what image_pull leaves behind."""
    return {"image_pull_found": {"layers": list(layers), "architecture": architecture, "id": "sha256:differs"}}


def test_images():
    assert findings.image_findings([H, P], {H: image(), P: dict(image(), id="other")}, IMAGE) == []
    found = findings.image_findings([H, P], {H: image(), P: image(["sha256:" + "c" * 64])}, IMAGE)
    assert [(check["host"], check["observed"], check["expected"]) for check in found] == [
        (P, "1 layers, last " + "c" * 12, f"2 layers, last {'b' * 12}, as on {H}")]
    found = findings.image_findings([H, P], {H: image(), P: image(architecture="amd64")}, IMAGE)
    assert [(check["host"], check["observed"], check["expected"]) for check in found] == [(P, "amd64", f"arm64, as on {H}")]
    found = findings.image_findings([H, P], {H: image(), P: image([], None)}, IMAGE)
    assert [check["observed"] for check in found] == ["None", "0 layers, last none"]
    assert bad(found) == [("image_equal", "fail")] * 2


def token(output=None, msg=None):
    """Return what the container that wrote or read the token left behind."""
    seen = {"container": {"Output": output}} if output is not None else {}
    return {"weights_sync_random": "c0ffee", "weights_sync_seen": dict(seen, msg=msg, failed=False)}


def test_a_shared_directory_is_seen_by_all():
    group = dict(GROUP, image=IMAGE)
    assert findings.shared_findings([H, P], {H: token("c0ffee\n"), P: token("c0ffee\n")}, group) == []
    for said, remedy in (("cat: /mnt/x: No such file or directory", "mount the shared file system"), ("cat: /mnt/x: Permission denied", "no_root_squash"),
                         ("Error creating container: bind source path does not exist: /mnt", "mount the shared file system")):
        found = findings.shared_findings([H, P], {H: token("c0ffee\n"), P: token(said, said)}, group)
        assert [(check["host"], check["status"], check["device"]) for check in found] == [(P, "fail", DIR)] and bad(found)
        assert said in found[0]["observed"] and remedy in found[0]["remedy"]


def test_without_a_token_only_the_head_is_named():
    said = "/bin/sh: 1: cannot create /mnt/x: Permission denied"
    found = findings.shared_findings([P, H], {H: token(said, said), P: token("cat: no such file", "x")}, dict(GROUP, image=IMAGE))
    assert [(check["host"], check["check"]) for check in found] == [(H, "weights_shared")]
    assert said in found[0]["observed"] and "no_root_squash" in found[0]["remedy"]


def weights(complete=True, fingerprint="f", **more):
    """Return what weights_sync leaves behind."""
    return {"weights_sync_found": dict({"verified": complete, "fingerprint": fingerprint, "files": 3, "bytes": 105, "differences": []}, **more)}


def test_weights_are_whole_and_the_same_on_all():
    assert findings.weights_findings([H, P], {H: weights(), P: weights()}, GROUP) == []
    found = findings.weights_findings([H, P], {H: weights(), P: weights(fingerprint="g", files=4)}, GROUP)
    assert [(check["host"], check["check"], check["observed"]) for check in found] == [(P, "weights_equal", "4 files, 105 bytes")]
    assert bad(found) == [("weights_equal", "fail")]
    found = findings.weights_findings([H, P], {H: weights(), P: weights(False, differences=list("abcdefg"))}, GROUP)
    assert [(check["host"], check["check"], check["observed"]) for check in found] == [(P, "weights_complete", "a; b; c; d; e")]
    assert bad(found) == [("weights_complete", "fail")] and "mount the shared file system" in found[0]["remedy"]
    for target, head in (("local", True), ("shared", False)):
        group = dict(GROUP, weights={"dir": DIR, "target": target})
        found = findings.weights_findings([H, P], {H: weights(head), P: weights(False)}, group)
        assert all("run site.yml" in check["remedy"] for check in found) and found


@pytest.mark.parametrize("env, wanted", [
    ({}, "198.51.100.11,198.51.100.12,localhost"),
    ({"no_proxy": "example.org, localhost"}, "198.51.100.11,198.51.100.12,localhost,example.org"),
    ({"NO_PROXY": "example.org", "no_proxy": "example.net"}, "198.51.100.11,198.51.100.12,localhost,example.net,example.org"),
    ({"no_proxy": ""}, "198.51.100.11,198.51.100.12,localhost"),
])
def test_the_groups_addresses_are_kept_from_any_proxy_beside_those_the_site_keeps(env, wanted):
    given = unit(env=dict(env, HCCL_IF_IP="198.51.100.11"))
    before = copy.deepcopy(given)
    assert findings.unit_env(given) == {"HCCL_IF_IP": "198.51.100.11", "no_proxy": wanted, "NO_PROXY": wanted}
    assert given == before


def test_what_a_stop_has_left_is_a_failure_each():
    assert findings.released_findings([H, P], {H: {"serve_stop_left": {"left": []}}, P: {"serve_stop_left": {"skipped": True}}}) == []
    left = [{"check": name, "device": f"d{number}", "observed": f"o{number}"} for number, name in enumerate(findings.RELEASED)]
    found = findings.released_findings([P, H], {H: {"serve_stop_left": {"left": left}}, P: {"serve_stop_left": {"left": left[:1]}}})
    assert bad(found) == [("container_stopped", "fail")] + [(name, "fail") for name in findings.RELEASED]
    assert [(check["host"], check["device"], check["observed"]) for check in found[:3]] == [(P, "d0", "o0"), (H, "d0", "o0"), (H, "d1", "o1")]


def test_everything_that_is_looked_for_after_a_stop_has_words():
    source = Path(serve_released.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'entry\("(\w+)"', source)) == set(findings.RELEASED)
