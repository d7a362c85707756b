# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights directories on a real file system: whole, wrong by one bit, short, foreign, half verified, unreadable."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import manifest, weights
from ansible_collections.ascend.vllm.tests.unit.plugins.model_dir import SHARDS, fill, flip, listing, model, safetensors

WANTED = {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "master", "endpoint": "http://hub",
          "requirements": {"quantization": "ascend", "mtp": True}}
LOCAL = {"kind": "local", "id": "mine", "revision": "master"}


def silent():
    """A hub that is asked and does not answer."""
    raise weights.HubError("no answer")


def verify(root, wanted=None, ask=listing, **parameters):
    """Verify with two threads, as on the smallest node."""
    return weights.verify(root, wanted or WANTED, ask, **dict({"threads": 2}, **parameters))


@pytest.fixture
def whole(tmp_path):
    """A directory that was verified."""
    root = fill(tmp_path / "w")
    assert verify(root)["differences"] == []
    return root


def state(root, wanted=None):
    """Return what reading says."""
    return manifest.state(root, wanted or WANTED)


def nothing_is_marked(root):
    """Say that no run from here on takes the directory for complete."""
    return not state(root)["complete"] and not state(root)["verified"]


# all is well


def test_a_whole_directory_is_marked_with_the_hash_of_every_file(tmp_path):
    root = fill(tmp_path)
    before = state(root)
    assert not before["complete"] and before["to_hash_bytes"] == before["bytes"] == sum(map(len, model().values()))
    result = verify(root)
    assert (result["done"], result["changed"], result["differences"], result["expected_from"]) == (True, True, [], "the hub")
    assert result["hashed_bytes"] == before["bytes"] and result["left_bytes"] == 0
    content = manifest.read_marker(root)
    assert {entry["path"]: entry["sha256"] for entry in content["files"]} == {entry["path"]: entry["sha256"] for entry in listing()}
    after = state(root)
    assert after["complete"] and after["verified"] and after["to_hash_bytes"] == 0 and after["differences"] == []
    assert sorted(name for name in os.listdir(root) if name.startswith(".")) == [manifest.MARKER]


def test_a_second_verification_hashes_nothing_and_changes_nothing(whole):
    result = verify(whole, ask=silent)
    assert (result["hashed_bytes"], result["changed"], result["differences"]) == (0, False, [])


def test_copies_of_equal_content_have_one_fingerprint(whole, tmp_path):
    other = shutil.copytree(whole, tmp_path / "copy", ignore=shutil.ignore_patterns(".*"))
    assert verify(str(other))["differences"] == []
    assert state(str(other))["fingerprint"] == state(whole)["fingerprint"]
    flip(str(other), "sub/notes.md")
    verify(str(other), LOCAL, None)
    assert state(str(other), LOCAL)["fingerprint"] != state(whole)["fingerprint"]


# what is wrong is named, and the directory is not marked


@pytest.mark.parametrize(("damage", "named"), [
    (lambda root: flip(root, SHARDS[0]), [SHARDS[0], "sha256", "wanted"]),
    (lambda root: os.truncate(os.path.join(root, SHARDS[1]), 50), [SHARDS[1], "has 50 bytes, wanted"]),
    (lambda root: os.remove(os.path.join(root, SHARDS[1])), [SHARDS[1], "is missing"]),
    (lambda root: fill(root, {"model-00003-of-00002.safetensors": safetensors({"x": 1})}), ["model-00003-of-00002.safetensors", "wanted no such file"]),
    (lambda root: os.remove(os.path.join(root, "config.json")), ["config.json", "is missing"]),
    (lambda root: (os.remove(os.path.join(root, "tokenizer.json")), os.mkdir(os.path.join(root, "tokenizer.json"))), ["tokenizer.json", "is a directory"]),
    (lambda root: (os.remove(os.path.join(root, "tokenizer.json")), os.symlink("/nowhere/x", os.path.join(root, "tokenizer.json"))),
     ["tokenizer.json", "is a link to /nowhere/x, which is not there"]),
])
def test_one_wrong_file_is_named_with_what_was_wanted(tmp_path, damage, named):
    root = fill(tmp_path)
    damage(root)
    result = verify(root)
    assert result["done"] and len(result["differences"]) == 1 and all(word in result["differences"][0] for word in named)
    assert nothing_is_marked(root)


@pytest.mark.parametrize("damage", [lambda root: flip(root, SHARDS[0]), lambda root: os.remove(os.path.join(root, SHARDS[0])),
                                    lambda root: os.truncate(os.path.join(root, SHARDS[0]), 9), lambda root: fill(root, {"x.safetensors": b"y"})])
def test_damage_after_the_mark_is_seen_by_reading_alone(whole, damage):
    damage(whole)
    found = state(whole)
    assert not found["complete"] and len(found["differences"]) == 1


def test_a_bit_that_leaves_size_and_time_is_found_by_a_full_verification_only(whole):
    flip(whole, SHARDS[0], keep_time=True)
    assert state(whole)["complete"] and verify(whole)["differences"] == []
    result = verify(whole, full=True, ask=silent)
    assert [line.split()[0] for line in result["differences"]] == [SHARDS[0]] and nothing_is_marked(whole)
    # It stays so: what the manifest said is still known, and is wanted.
    assert [line.split()[0] for line in verify(whole, ask=silent)["differences"]] == [SHARDS[0]]


def test_a_new_time_alone_is_hashed_again_and_is_fine(whole):
    path = os.path.join(whole, SHARDS[0])
    os.utime(path, ns=(1, 1))
    assert not state(whole)["complete"]
    result = verify(whole)
    assert (result["hashed_bytes"], result["differences"], result["changed"]) == (os.path.getsize(path), [], True) and state(whole)["complete"]


def test_another_model_revision_or_requirement_is_not_the_wanted_one(whole):
    for other in ({"id": "x/y"}, {"revision": "v2"}, {"kind": "huggingface"}):
        found = state(whole, dict(WANTED, **other))
        assert not found["complete"] and "the marker says" in found["differences"][0]
    plain = dict(WANTED, requirements={})
    assert state(whole, plain)["complete"]
    os.remove(os.path.join(whole, manifest.MARKER))
    assert verify(whole, plain)["differences"] == [] and not state(whole)["complete"]


def test_a_marker_without_hashes_was_never_verified(tmp_path):
    root = fill(tmp_path)
    old = {"schema": 1, "kind": "modelscope", "id": WANTED["id"], "revision": "master", "files": [{"path": "config.json", "size": 1}]}
    (tmp_path / manifest.MARKER).write_text(json.dumps(old))
    assert "old one without hashes" in state(root)["differences"][-1]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 2, "files": [{"path": 1}]}', '{"schema": 2, "files": []}', "\0"])
def test_a_garbled_marker_marks_nothing(whole, text):
    with open(os.path.join(whole, manifest.MARKER), "w") as stream:
        stream.write(text)
    assert nothing_is_marked(whole) and verify(whole)["differences"] == [] and state(whole)["complete"]


# a client fetches again what was set aside


def test_a_wrong_file_is_set_aside_and_never_deleted(tmp_path):
    root = fill(tmp_path)
    flip(root, SHARDS[0])
    with open(os.path.join(root, SHARDS[0]), "rb") as stream:
        wrong = stream.read()
    result = verify(root, discard=True)
    assert result["discarded"] == [SHARDS[0]] and not os.path.exists(os.path.join(root, SHARDS[0])) and nothing_is_marked(root)
    with open(os.path.join(root, manifest.BAD, SHARDS[0]), "rb") as stream:
        assert stream.read() == wrong
    fill(root, {SHARDS[0]: model()[SHARDS[0]]})
    again = verify(root, discard=True)
    assert again["differences"] == [] and again["hashed_bytes"] == len(model()[SHARDS[0]]) and state(root)["complete"]


def test_what_no_list_names_is_not_set_aside(tmp_path):
    root = fill(tmp_path, dict(model(), **{"mine.txt": b"mine", "x.safetensors": b"x"}))
    result = verify(root, discard=True)
    assert result["discarded"] == [] and {"mine.txt", "x.safetensors"} <= set(os.listdir(root)) and "mine.txt" in result["extra"]


# slices, interruptions, full disks


def test_slices_go_on_where_the_last_one_stopped(tmp_path):
    root, hashed, results = fill(tmp_path), 0, []
    while not results or not results[-1]["done"]:
        results.append(verify(root, threads=1, budget_s=0))
        hashed += results[-1]["hashed_bytes"]
        assert len(results) < 20
    assert len(results) == len(model()) and hashed == sum(map(len, model().values())) and state(root)["complete"]
    assert [result["left_bytes"] for result in results] == sorted((result["left_bytes"] for result in results), reverse=True)
    assert all(result["changed"] is False for result in results[:-1])


def test_a_file_written_to_between_two_slices_is_hashed_again(tmp_path):
    root = fill(tmp_path)
    verify(root, threads=1, budget_s=0)
    done = next(iter(manifest.read_partial(root)["hashes"]))
    flip(root, done)
    result = verify(root)
    assert [line.split()[0] for line in result["differences"]] == [done]


def test_a_disk_that_is_full_keeps_the_old_manifest(whole, monkeypatch):
    with open(os.path.join(whole, manifest.MARKER), "rb") as stream:
        old = stream.read()
    os.utime(os.path.join(whole, SHARDS[0]), ns=(1, 1))

    def full(*given, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest.tempfile, "mkstemp", full)
    with pytest.raises(manifest.WriteError, match="No space left on device"):
        verify(whole)
    with open(os.path.join(whole, manifest.MARKER), "rb") as stream:
        assert stream.read() == old
    assert nothing_is_marked(whole)


def test_a_dry_run_writes_and_hashes_nothing(tmp_path):
    root = fill(tmp_path)
    result = verify(root, dry=True)
    assert result["changed"] and result["left_bytes"] == sum(map(len, model().values())) and result["hashed_bytes"] == 0
    assert not [name for name in os.listdir(root) if name.startswith(".")]


# where the list comes from


def test_a_hub_that_does_not_answer_is_an_error_where_nobody_else_knows(tmp_path):
    with pytest.raises(weights.HubError, match="no answer"):
        verify(fill(tmp_path), ask=silent)


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_list_that_leads_out_of_the_directory_is_refused(tmp_path, path):
    with pytest.raises(weights.HubError, match="not below the directory"):
        verify(fill(tmp_path), ask=lambda: [{"path": path, "size": 1}])


def test_git_blob_ids_of_small_files_are_compared(tmp_path):
    entries = [dict(entry, sha256=None, git_oid="0" * 40) if entry["path"] == "tokenizer.json" else entry for entry in listing()]
    root = fill(tmp_path)
    result = verify(root, ask=lambda: entries)
    assert len(result["differences"]) == 1 and "git blob id 9e26dfeeb6e641a33dae4961196235bdb965b21b, wanted 0000" in result["differences"][0]


def test_weights_of_the_site_are_recorded_once_and_compared_afterwards(tmp_path):
    root = fill(tmp_path)
    assert state(root, LOCAL)["complete"] and not state(root, LOCAL)["verified"]
    result = verify(root, LOCAL, None)
    assert (result["differences"], result["expected_from"]) == ([], "nobody") and state(root, LOCAL)["verified"]
    flip(root, SHARDS[1])
    assert [line.split()[0] for line in verify(root, LOCAL, None)["differences"]] == [SHARDS[1]]


def test_a_hash_list_of_the_site_is_what_is_wanted(tmp_path):
    root = fill(tmp_path)
    sums = "".join("%s  %s\n" % (entry["sha256"], entry["path"]) for entry in listing())
    (tmp_path / "SHA256SUMS").write_text(sums)
    flip(root, "config.json", place=2)
    result = verify(root, LOCAL, None)
    assert result["expected_from"] == "SHA256SUMS" and [line.split()[0] for line in result["differences"]] == ["config.json"]


def test_a_directory_that_is_not_there_or_not_readable_is_said(tmp_path):
    assert state(str(tmp_path / "no"))["differences"] == ["%s is not a directory" % (tmp_path / "no")]
    assert verify(str(tmp_path / "no"))["differences"] == ["%s is not a directory" % (tmp_path / "no")]


def test_ten_thousand_files_are_read_without_opening_them(tmp_path, monkeypatch):
    files = dict(model(), **{"many/%05d.bin" % number: b"x" for number in range(10000)})
    root = fill(tmp_path, files)
    assert verify(root, ask=lambda: listing(files))["differences"] == []
    opened = []
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *more, **given: opened.append(str(path)) or real(path, *more, **given))
    assert state(root)["complete"] and {os.path.basename(path) for path in opened} <= {manifest.MARKER, manifest.PARTIAL}
