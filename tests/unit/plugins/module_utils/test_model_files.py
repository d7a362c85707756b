# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is inside a model: each thing that vLLM would stumble over is named with its file."""

from __future__ import annotations

import json
import struct

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import model_files
from ansible_collections.ascend.vllm.tests.unit.plugins.model_dir import SHARDS, fill, model, safetensors

ALL = {"quantization": "ascend", "mtp": True}


def check(tmp_path, change, requirements=None, listed=None):
    """Return the problems of a model with some files replaced (None removes one)."""
    files = dict(model(), **change)
    root = fill(tmp_path, {path: content for path, content in files.items() if content is not None})
    return model_files.check(root, ALL if requirements is None else requirements, listed)


def test_a_whole_model_has_no_problem(tmp_path):
    assert check(tmp_path, {}) == []


@pytest.mark.parametrize(("change", "path", "text"), [
    ({"config.json": None}, "config.json", "is missing"),
    ({"config.json": b"{"}, "config.json", "is no JSON"),
    ({"config.json": b"[1]"}, "config.json", "found list"),
    ({"tokenizer.json": None}, "tokenizer.json", "every other tokenizer file"),
    ({"quant_model_description.json": None}, "quant_model_description.json", "wanted for --quantization ascend"),
    ({"model.safetensors.index.json": b'{"weight_map": {}}'}, "model.safetensors.index.json", "has no weight_map"),
    ({"model.safetensors.index.json": b'{"weight_map": {"a": "../x"}}'}, "model.safetensors.index.json", "a file of this directory"),
    ({SHARDS[1]: None}, SHARDS[1], "is missing, wanted by model.safetensors.index.json"),
    ({"model-00009-of-00002.safetensors": safetensors({"x": 1})}, "model-00009-of-00002.safetensors", "wanted no such file"),
    ({SHARDS[0]: b"short"}, SHARDS[0], "wanted 8 for the length of its header"),
    ({SHARDS[0]: model()[SHARDS[0]][:-1]}, SHARDS[0], "is truncated"),
    ({SHARDS[0]: model()[SHARDS[0]] + b"x"}, SHARDS[0], "has bytes that belong to no tensor"),
    ({SHARDS[0]: struct.pack("<Q", 1 << 40) + b"{}"}, SHARDS[0], "its header would have"),
    ({SHARDS[0]: struct.pack("<Q", 2) + b"[]"}, SHARDS[0], "is no safetensors header"),
    ({SHARDS[0]: safetensors({"model.embed_tokens.weight": 300})}, SHARDS[0], "has no tensor model.layers.0.w"),
    ({"config.json": b'{"num_hidden_layers": 1}'}, "config.json", "num_nextn_predict_layers None"),
    ({"config.json": b'{"num_hidden_layers": 5, "num_nextn_predict_layers": 1}'}, "model.safetensors.index.json", "model.layers.5.*"),
])
def test_each_problem_names_its_file(tmp_path, change, path, text):
    problems = check(tmp_path, change)
    assert [entry[0] for entry in problems] == [path] and text in problems[0][1]


@pytest.mark.parametrize("change", [{"quant_model_description.json": None}, {"config.json": b"{}"}])
def test_what_the_recipe_does_not_use_is_not_wanted(tmp_path, change):
    assert check(tmp_path, change, {}) == []


def test_tensors_that_overlap_or_leave_a_hole_are_found(tmp_path):
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}, "b": {"dtype": "BF16", "shape": [2], "data_offsets": [6, 10]}}
    text = json.dumps(header).encode()
    [problem] = [entry for entry in check(tmp_path, {SHARDS[0]: struct.pack("<Q", len(text)) + text + b"x" * 10}) if entry[0] == SHARDS[0]]
    assert "tensor b at bytes 6 to 10, wanted it to start at 4" in problem[1]


def test_one_file_without_an_index_is_a_model_too(tmp_path):
    change = {"model.safetensors.index.json": None, SHARDS[0]: None, SHARDS[1]: None, "model.safetensors": safetensors({"model.layers.1.w": 3})}
    assert check(tmp_path, change) == []
    problems = check(tmp_path / "b", dict(change, **{"model.safetensors": None}), {})
    assert [path for path, dummy in problems] == ["model.safetensors"] and "and so is an index" in problems[0][1]
