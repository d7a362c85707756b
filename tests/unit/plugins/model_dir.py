# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small model as real files, whole until a test breaks one thing of it."""

from __future__ import annotations

import hashlib
import json
import os
import struct

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def safetensors(tensors):
    """Return a safetensors file: tensor -> number of BF16 elements."""
    header, end = {}, 0
    for name, count in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [count], "data_offsets": [end, end + 2 * count]}
        end += 2 * count
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(number % 251 for number in range(end))


def model():
    """Return path -> content of a model with one hidden layer, one MTP layer and a quantization description."""
    shards = {SHARDS[0]: {"model.embed_tokens.weight": 300, "model.layers.0.w": 200}, SHARDS[1]: {"model.layers.1.w": 400, "lm_head.weight": 100}}
    index = {"weight_map": {tensor: shard for shard, tensors in shards.items() for tensor in tensors}}
    files = {shard: safetensors(tensors) for shard, tensors in shards.items()}
    files.update({
        "config.json": json.dumps({"num_hidden_layers": 1, "num_nextn_predict_layers": 1}).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "quant_model_description.json": b'{"model.layers.0.w": "W8A8"}',
        "tokenizer.json": b"{}",
        "sub/notes.md": b"notes",
    })
    return files


def fill(root, files=None):
    """Write files below a directory and return it as a string."""
    for path, content in (model() if files is None else files).items():
        target = os.path.join(str(root), path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as stream:
            stream.write(content)
    return str(root)


def listing(files=None):
    """Return what a hub lists."""
    return [{"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for path, content in (files or model()).items()]


def flip(root, path, place=-1, keep_time=False):
    """Turn one bit of a file; with C(keep_time) nothing but its content tells."""
    target = os.path.join(root, path)
    seen = os.stat(target)
    with open(target, "r+b") as stream:
        content = bytearray(stream.read())
        content[place] ^= 1
        stream.seek(0)
        stream.write(content)
    if keep_time:
        os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    else:
        os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1000))
