# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is inside a directory of weights: would vLLM find a configuration, a tokenizer and every tensor of its index?

Pure on a directory: nothing is written and nobody is asked. Every problem is a pair C((path, text)), the text saying what was
found and what was wanted, so that C("%s %s") is the line to show. Only headers of safetensors files are read, never tensors.
"""

from __future__ import annotations

import json
import os
import re
import struct

CONFIG = "config.json"
#: The index that vLLM reads. Quantization tools write theirs under other names that end in the same way.
INDEX = "model.safetensors.index.json"
#: What vLLM-Ascend reads for C(--quantization ascend); no other name will do.
QUANTIZATION = "quant_model_description.json"
#: One of these is a tokenizer: Hugging Face fast, SentencePiece, WordPiece or BPE vocabularies, tiktoken, Mistral.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model", "tekken.json")
#: A header is a few hundred kilobytes; the format's own reader refuses more than this.
MAX_HEADER = 100000000
#: Bytes of one element, where it is whole bytes (safetensors' own names).
ELEMENT_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}
_NUMBERED = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.safetensors$")


def read_json(root, path, shape=dict):
    """Return a JSON file's content; raise C(ValueError) with a text for what cannot be read, is no JSON or not of the shape."""
    try:
        with open(os.path.join(root, path), encoding="utf-8") as stream:
            content = json.load(stream)
    except OSError as error:
        raise ValueError("cannot be read: %s" % (error.strerror or error)) from error
    except (ValueError, RecursionError) as error:
        raise ValueError("is no JSON: %s, wanted a JSON document" % error) from error
    if not isinstance(content, shape):
        raise ValueError("is no JSON of the wanted form: found %s" % type(content).__name__)
    return content


def tensors(path):
    """Return the header of a safetensors file without its metadata: tensor -> C({dtype, shape, data_offsets}).

    The format: 8 bytes with the header's length (little endian), the header as JSON, the data. The data of the tensors
    lies end to end and ends with the file. Raises C(ValueError) with a text for a file that is not so, C(OSError) for one that
    cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        first = stream.read(8)
        if len(first) < 8:
            raise ValueError("is no safetensors file: it has %d bytes, wanted 8 for the length of its header" % size)
        length = struct.unpack("<Q", first)[0]
        if not 2 <= length <= MAX_HEADER:
            raise ValueError("is no safetensors file: its header would have %d bytes, wanted 2 to %d" % (length, MAX_HEADER))
        if length > size - 8:
            raise ValueError("is truncated: it has %d bytes, wanted %d for its header alone" % (size, 8 + length))
        text = stream.read(length)
    try:
        header = json.loads(text.decode("utf-8"))
        header.pop("__metadata__", None)
        spans = sorted((int(entry["data_offsets"][0]), int(entry["data_offsets"][1]), name) for name, entry in header.items())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError("has a header that is no safetensors header (%s: %s)" % (type(error).__name__, error)) from error
    end = 0
    for start, stop, name in spans:
        if start != end or stop < start:
            raise ValueError("has its tensor %s at bytes %d to %d, wanted it to start at %d" % (name, start, stop, end))
        wanted = _tensor_bytes(header[name])
        if wanted is not None and stop - start != wanted:
            raise ValueError("has %d bytes for its tensor %s, wanted %d for its type and shape" % (stop - start, name, wanted))
        end = stop
    if size != 8 + length + end:
        what = "is truncated: it" if size < 8 + length + end else "has bytes that belong to no tensor: it"
        raise ValueError("%s has %d bytes, wanted %d by its own header" % (what, size, 8 + length + end))
    return header


def _tensor_bytes(entry):
    """Return the bytes of a tensor by its type and shape, or None for a type or a shape that is not known here."""
    unit = ELEMENT_BYTES.get(entry.get("dtype"))
    shape = entry.get("shape")
    if unit is None or not isinstance(shape, list) or not all(isinstance(side, int) for side in shape):
        return None
    for side in shape:
        unit *= side
    return unit


def _names(root):
    """Return the names of the regular files at the top of a directory (links followed)."""
    return {name for name in os.listdir(root) if not name.startswith(".") and os.path.isfile(os.path.join(root, name))}


def index_name(names):
    """Return the name of the index among file names, or None where there is none."""
    if INDEX in names:
        return INDEX
    return next((name for name in sorted(names) if name.endswith(".safetensors.index.json")), None)


def weight_map(root, names):
    """Return C((name of the index or None, tensor -> file)); raise C(ValueError) with a text for an index that is none."""
    index = index_name(names)
    if index is None:
        return None, {}
    mapping = read_json(root, index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping or not all(isinstance(name, str) for name in mapping.values()):
        raise ValueError("has no weight_map, wanted one of tensors to files")
    for name in set(mapping.values()):
        if os.path.isabs(name) or ".." in name.split("/"):
            raise ValueError("names the file %s, wanted a file of this directory" % name)
    return index, mapping


def shard_problems(root, names, index, mapping, listed):
    """Return the problems with which safetensors files there are.

    C(listed): the names that whoever published the weights gives, or None where that is not known. A file that neither the
    index nor the publisher knows is a problem and not just litter: without C(model.safetensors.index.json) vLLM loads every
    C(*.safetensors) at the top of the directory.
    """
    present = sorted(name for name in names if name.endswith(".safetensors"))
    problems = []
    if index:
        wanted = set(mapping.values())
        problems += [(name, "is missing, wanted by %s" % index) for name in sorted(wanted) if not os.path.isfile(os.path.join(root, name))]
        known = wanted | set(listed or ())
        return problems + [(name, "is there, but neither %s nor the model's file list knows it: wanted no such file" % index)
                           for name in present if name not in known]
    if listed is not None:
        problems += [(name, "is there, but the model's file list does not know it: wanted no such file") for name in present if name not in listed]
    numbered = {}
    for name in present:
        match = _NUMBERED.match(name)
        if match:
            numbered.setdefault((match.group(1), int(match.group(3))), set()).add(int(match.group(2)))
    for (stem, count), numbers in sorted(numbered.items()):
        problems += [("%s-%05d-of-%05d.safetensors" % (stem, number, count), "is missing, wanted as one of %d" % count)
                     for number in range(1, count + 1) if number not in numbers]
    if not present or (listed is None and not numbered and "model.safetensors" not in present):
        problems.append(("model.safetensors", "is missing, and so is an index of several files: wanted one of the two"))
    return problems


def header_problems(root, files, index, mapping):
    """Return C((problems, all tensors)) of the safetensors files: headers that are none, and tensors of the index that are not there."""
    problems, found = [], set()
    expected = {}
    for tensor, name in mapping.items():
        expected.setdefault(name, set()).add(tensor)
    for name in files:
        try:
            here = tensors(os.path.join(root, name))
        except ValueError as error:
            problems.append((name, str(error)))
            continue
        except OSError as error:
            problems.append((name, "cannot be read: %s" % (error.strerror or error)))
            continue
        found.update(here)
        absent = sorted(expected.get(name, set()).difference(here))
        if absent:
            more = " and %d more" % (len(absent) - 3) if len(absent) > 3 else ""
            problems.append((name, "has no tensor %s%s, wanted by %s" % (", ".join(absent[:3]), more, index)))
    return problems, found


def _layers(config):
    """Return C((num_hidden_layers, num_nextn_predict_layers)) of a configuration, its text part's for a model of several kinds; None for none."""
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    values = []
    for key in ("num_hidden_layers", "num_nextn_predict_layers"):
        value = config.get(key, text.get(key))
        values.append(value if isinstance(value, int) and not isinstance(value, bool) else None)
    return tuple(values)


def mtp_problems(config, source, names):
    """Return what is missing to speculate with the model's own MTP layers.

    C(source): the file that says which tensors (C(names)) there are. DeepSeek keeps its MTP layers behind the last hidden
    layer: with C(num_hidden_layers) 61 they are C(model.layers.61.*); other families name them C(mtp.*) or C(*.mtp_layers.*).
    """
    hidden, following = _layers(config)
    if not following or following < 1:
        return [(CONFIG, "says num_nextn_predict_layers %s, wanted 1 or more: the model has to have MTP layers to speculate with" % following)]
    if hidden is None:
        return [(CONFIG, "says no num_hidden_layers, wanted it to find the MTP layers")]
    if any(part.startswith("mtp") for name in names for part in name.split(".")[:2]):
        return []
    problems = []
    for number in range(hidden, hidden + following):
        place = "layers.%d." % number
        if not any(name.startswith(place) or "." + place in name for name in names):
            problems.append((source, "has no tensor of the MTP layer, wanted model.layers.%d.*" % number))
    return problems


def check(root, requirements=None, listed=None, headers=True):
    """Return the problems of the model in a directory as C([(path, text)]), sorted by path; empty for a model that can be loaded.

    C(requirements): C({quantization, mtp}), quantization C(ascend) wants its description, mtp true wants the MTP layers.
    C(listed): see shard_problems. Without C(headers) no safetensors file is opened.
    """
    requirements = requirements or {}
    problems, config = [], None
    try:
        names = _names(root)
    except OSError as error:
        return [(root, "cannot be read: %s" % (error.strerror or error))]
    for name, wanted in ((CONFIG, True), (QUANTIZATION, requirements.get("quantization") == "ascend")):
        if not wanted:
            continue
        if name not in names:
            problems.append((name, "is missing" if name == CONFIG else "is missing, wanted for --quantization ascend"))
            continue
        try:
            content = read_json(root, name)
            config = content if name == CONFIG else config
        except ValueError as error:
            problems.append((name, str(error)))
    if not any(name in TOKENIZERS or name.endswith(".tiktoken") for name in names):
        problems.append(("tokenizer.json", "is missing, and so is every other tokenizer file: wanted one of %s" % ", ".join(TOKENIZERS)))
    try:
        index, mapping = weight_map(root, names)
    except ValueError as error:
        return sorted(problems + [(index_name(names), str(error))])
    problems += shard_problems(root, names, index, mapping, listed)
    found = set(mapping)
    if headers:
        files = {name for name in names if name.endswith(".safetensors")} | set(mapping.values())
        more, there = header_problems(root, sorted(name for name in files if os.path.isfile(os.path.join(root, name))), index, mapping)
        problems += more
        found = found or there
    if requirements.get("mtp") and config is not None and (found or headers):
        problems += mtp_problems(config, index or "model.safetensors", found)
    return sorted(problems)


def local_problems(root):
    """Return what a quick look misses in weights that the site put there itself: the configuration and the files of the index."""
    names = _names(root)
    problems = [] if CONFIG in names else [(CONFIG, "is missing")]
    try:
        index, mapping = weight_map(root, names)
    except ValueError as error:
        return problems + [(index_name(names), "cannot be understood: it %s" % error)]
    # What is too many does not keep a model from being complete at first sight; it is named when the directory is verified.
    return problems + [problem for problem in shard_problems(root, names, index, mapping, None) if "is missing" in problem[1]]
