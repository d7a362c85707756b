# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights directories on a real file system: whole, short, foreign, half written, unreadable."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import weights

WANTED = {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "master"}
FILES = {"config.json": b"{}", "model-1.safetensors": b"x" * 100, "sub/tokenizer.json": b"[1]"}


def fill(root, files=None):
    """Write files below a directory; return it as a string."""
    for name, content in (files or FILES).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def listed(files=None):
    """Return files as list_files shows them."""
    return [{"path": name, "size": len(content)} for name, content in sorted((files or FILES).items())]


@pytest.fixture
def root(tmp_path):
    """A whole and marked directory."""
    path = fill(tmp_path / "w")
    weights.write_marker(path, WANTED, listed())
    return path


def test_whole_and_marked_is_complete(root):
    found = weights.state(root, WANTED)
    assert len(found.pop("fingerprint")) == 64
    assert found == {"exists": True, "complete": True, "files": 3, "bytes": 105, "differences": []}


def test_nothing_there(tmp_path):
    found = weights.state(str(tmp_path / "w"), WANTED)
    assert found["exists"] is False and found["complete"] is False and found["differences"] == ["%s is not a directory" % (tmp_path / "w")]
    assert (found["files"], found["bytes"], found["fingerprint"]) == (0, 0, None)
    (tmp_path / "w").write_text("a file")
    assert weights.state(str(tmp_path / "w"), WANTED)["exists"] is False


def test_without_a_marker_nothing_is_complete(tmp_path):
    found = weights.state(fill(tmp_path), WANTED)
    assert found["complete"] is False and found["files"] == 3 and "a download never finished here" in found["differences"][0]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": {}}', '{"files": []}', '{"files": [1]}', '{"files": [{"path": "a"}]}', b"\xff"])
def test_a_marker_that_is_none_counts_as_absent(root, content):
    with open(os.path.join(root, weights.MARKER), "wb") as stream:
        stream.write(content if isinstance(content, bytes) else content.encode())
    assert weights.read_marker(root) is None
    assert weights.state(root, WANTED)["complete"] is False


@pytest.mark.parametrize("key, value", [("kind", "huggingface"), ("id", "vllm-ascend/DeepSeek-V3"), ("revision", "v2")])
def test_the_marker_of_another_model_does_not_count(root, key, value):
    found = weights.state(root, dict(WANTED, **{key: value}))
    assert found["complete"] is False
    assert found["differences"] == ["the marker says %s %s, wanted %s" % (key, WANTED[key], value)]


def test_missing_and_short_files_are_named(root):
    os.remove(os.path.join(root, "sub", "tokenizer.json"))
    with open(os.path.join(root, "model-1.safetensors"), "ab") as stream:
        stream.truncate(99)
    found = weights.state(root, WANTED)
    assert found["complete"] is False
    assert found["differences"] == ["model-1.safetensors has 99 bytes, wanted 100", "sub/tokenizer.json is missing"]


def test_files_beyond_the_list_do_not_matter(root):
    with open(os.path.join(root, "README.md"), "w") as stream:
        stream.write("more")
    assert weights.state(root, WANTED)["complete"] is True


def test_what_starts_with_a_dot_is_no_weight(root):
    os.makedirs(os.path.join(root, "._____temp"))
    for name in (".mdl", "._____temp/model-2.safetensors"):
        with open(os.path.join(root, name), "w") as stream:
            stream.write("x")
    assert weights.list_files(root) == listed()
    hub = listed() + [{"path": ".gitattributes", "size": 9}, {"path": ".github/x.yml", "size": 9}, {"path": "sub/.msc", "size": 9}]
    assert weights.compare(hub, weights.list_files(root)) == []


def test_a_link_to_a_file_counts_and_a_link_to_nothing_is_missing(root, tmp_path):
    (tmp_path / "blob").write_bytes(b"x" * 100)
    os.remove(os.path.join(root, "model-1.safetensors"))
    os.symlink(str(tmp_path / "blob"), os.path.join(root, "model-1.safetensors"))
    assert weights.state(root, WANTED)["complete"] is True
    (tmp_path / "blob").unlink()
    assert weights.state(root, WANTED)["differences"] == ["model-1.safetensors is missing"]


def test_the_fingerprint_sees_names_sizes_and_small_contents_but_no_times(tmp_path):
    def print_of(name, files):
        root = fill(tmp_path / name, files)
        return weights.fingerprint(root, weights.list_files(root))

    first = print_of("a", FILES)
    assert print_of("b", FILES) == first
    os.utime(str(tmp_path / "a" / "config.json"), (1, 1))
    assert weights.fingerprint(str(tmp_path / "a"), listed()) == first
    assert print_of("c", dict(FILES, **{"config.json": b"[]"})) != first
    assert print_of("d", dict(FILES, **{"config.json": b"{} "})) != first
    renamed = {name.replace("config", "konfig"): content for name, content in FILES.items()}
    assert print_of("e", renamed) != first


def test_large_files_are_compared_by_size_only(tmp_path, monkeypatch):
    assert 4096 <= weights.SMALL <= 1 << 24, "the configuration is compared, a shard is not read over the network"
    monkeypatch.setattr(weights, "SMALL", 3)
    prints = []
    for name, content in (("a", b"1234"), ("b", b"5678"), ("c", b"12345"), ("d", b"123"), ("e", b"456")):
        root = fill(tmp_path / name, {"x": content})
        prints.append(weights.fingerprint(root, weights.list_files(root)))
    assert prints[0] == prints[1] and len(set(prints)) == 4


def test_a_file_that_cannot_be_read_is_a_difference_and_no_crash(root, monkeypatch):
    def refuse(path, files):
        raise PermissionError(13, "Permission denied", os.path.join(path, "config.json"))

    # Root reads everything on a local disk, but not over NFS with root_squash.
    monkeypatch.setattr(weights, "fingerprint", refuse)
    found = weights.state(root, WANTED)
    assert found["complete"] is False and found["differences"] == ["%s/config.json cannot be read: Permission denied" % root]


def test_the_marker_is_written_in_one_step_and_says_what_it_is(root):
    with open(os.path.join(root, weights.MARKER)) as stream:
        content = json.load(stream)
    assert content == dict(WANTED, schema=1, files=listed())
    assert [name for name in os.listdir(root) if "partial" in name] == []


def test_a_marker_that_cannot_be_finished_leaves_the_old_one(root, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    before = weights.state(root, WANTED)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        weights.write_marker(root, dict(WANTED, revision="v2"), listed())
    assert weights.read_marker(root)["revision"] == "master"
    assert weights.state(root, WANTED) == before


# weights that the site put there itself

LOCAL = {"kind": "local", "id": "mine", "revision": "master"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}).encode()


@pytest.mark.parametrize("files, differences", [
    ({"config.json": b"{}", "model.safetensors": b"x"}, []),
    ({"config.json": b"{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": b"x", "model-2.safetensors": b"x"}, []),
    ({"config.json": b"{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": b"x"}, ["model-2.safetensors is missing"]),
    ({"config.json": b"{}", "model-1.safetensors": b"x"}, ["model.safetensors is missing"]),
    ({"tokenizer.json": b"{}"}, ["config.json is missing", "model.safetensors is missing"]),
    ({"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": 1}}'}, ["1 is missing"]),
])
def test_local_weights_need_no_marker_but_every_file_of_their_index(tmp_path, files, differences):
    found = weights.state(fill(tmp_path / "w", files), LOCAL)
    assert (found["differences"], found["complete"]) == (differences, not differences)


@pytest.mark.parametrize("index", [b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": null}', b"\xff"])
def test_an_index_that_is_none_is_a_difference_and_no_crash(tmp_path, index):
    found = weights.state(fill(tmp_path / "w", {"config.json": b"{}", "model.safetensors.index.json": index}), LOCAL)
    assert found["complete"] is False and found["differences"][0].startswith("model.safetensors.index.json cannot be understood: ")
