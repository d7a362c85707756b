# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that a node's engine unpacked, kept for the nodes of later labs."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab"))

from lablib import bringup, kept_layers, nodes, places, shape  # noqa: E402

LOWER, UPPER, OTHER = (f"sha256:{digit * 64}" for digit in "abc")
LAYERS = {LOWER: f"sha256:{'1' * 64}", UPPER: f"sha256:{'2' * 64}"}


@pytest.fixture
def engine(tmp_path):
    """The folder of an engine that unpacked both layers, and has a container of its own on them."""
    root = tmp_path / "engine"
    for number, (diff_id, digest, chain) in enumerate(zip(LAYERS, LAYERS.values(), kept_layers.chain_ids(LAYERS))):
        files = {
            f"image/overlay2/layerdb/sha256/{chain[7:]}/cache-id": f"unpacked{number}",
            f"image/overlay2/layerdb/sha256/{chain[7:]}/diff": diff_id,
            f"image/overlay2/distribution/diffid-by-digest/sha256/{digest[7:]}": diff_id,
            f"image/overlay2/distribution/v2metadata-by-diffid/sha256/{diff_id[7:]}": "[]",
            f"overlay2/unpacked{number}/link": f"SHORT{number}",
            f"overlay2/unpacked{number}/diff/usr/lib/file{number}": "bytes",
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "overlay2/l").mkdir(exist_ok=True)
        (root / f"overlay2/l/SHORT{number}").symlink_to(f"../unpacked{number}/diff")
    (root / "overlay2/container/diff").mkdir(parents=True)
    return root


def test_a_stack_is_named_as_docker_names_it():
    """The first two layers of an image, and what an engine called them."""
    stack = ["sha256:fd19dcc8f098bfec1851a869435d5863c775705f878a9ba369b6c46e431ac474",
             "sha256:93ea7b4f3b8762e794940bb8731564c7c7d4fa54adb946b925103ab33219803d"]  # fmt: skip
    assert kept_layers.chain_ids(stack) == [stack[0], "sha256:f3eb0033f40cf16bb11b5ff150bb9fb7ce8b0ab24b2405afe7a8afcadc7ea6f8"]


def test_the_layers_are_linked_and_nothing_else_of_that_engine_comes_along(engine, tmp_path):
    target = tmp_path / "target"
    assert kept_layers.copy(engine, target, LAYERS) and kept_layers.has(target, LAYERS)
    there = {path.relative_to(engine) for path in engine.rglob("*")}
    assert there - {path.relative_to(target) for path in target.rglob("*")} == {pathlib.Path("overlay2/container"), pathlib.Path("overlay2/container/diff")}
    linked = pathlib.Path("overlay2/unpacked1/diff/usr/lib/file1")
    assert (target / linked).stat().st_ino == (engine / linked).stat().st_ino
    assert (target / "overlay2/l/SHORT1").resolve() == target / "overlay2/unpacked1/diff"


@pytest.mark.parametrize("layers", [{**LAYERS, OTHER: f"sha256:{'3' * 64}"}, {UPPER: LAYERS[UPPER]}, {LOWER: f"sha256:{'3' * 64}"}])
def test_where_one_layer_is_not_there_nothing_is_copied(engine, tmp_path, layers):
    assert not kept_layers.copy(engine, tmp_path / "target", layers)
    assert not (tmp_path / "target").exists()


@pytest.fixture
def lab(engine, tmp_path, monkeypatch):
    """A pair whose second node has unpacked both layers."""
    run, pair = tmp_path / "run", shape.Shape("a2", 2)
    for module, name, value in (
        (bringup, "RUN", run), (nodes, "RUN", run), (bringup, "CACHE", tmp_path / "cache"), (places, "CACHE", tmp_path / "cache"),
        (bringup, "_LAYERS_FILE", run / "layers.json"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    for node in pair.nodes:
        (nodes.folder(node) / "docker").mkdir(parents=True)
    (run / "layers.json").write_text(json.dumps(LAYERS))
    return pair


def put(engine, lab, number):
    """Make this the engine's folder of a node."""
    place = nodes.folder(lab.nodes[number]) / "docker"
    place.rmdir()
    engine.rename(place)
    return place


def test_what_one_lab_unpacked_the_nodes_of_the_next_one_have(lab, engine, capsys):
    bringup._give_layers(lab)
    assert "no layers of an earlier lab are kept" in capsys.readouterr().out
    put(engine, lab, 1)
    bringup._keep_layers()
    first = nodes.folder(lab.nodes[0]) / "docker"
    assert not kept_layers.has(first, LAYERS)
    bringup._give_layers(shape.Shape("a2", 1))
    assert kept_layers.has(first, LAYERS)


def test_an_engine_that_has_only_some_is_not_kept(lab, engine):
    (engine / "overlay2/l/SHORT1").unlink()
    put(engine, lab, 0)
    bringup._keep_layers()
    assert not bringup.is_cached(*bringup._kept_layers(LAYERS))


def test_a_full_disk_does_not_keep_a_lab_from_going_down(lab, engine, monkeypatch, capsys):
    put(engine, lab, 0)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_layers, "copy", full)
    bringup._keep_layers()
    assert "not kept for later labs: [Errno 28] No space left on device" in capsys.readouterr().out
    assert not bringup.is_cached(*bringup._kept_layers(LAYERS))
