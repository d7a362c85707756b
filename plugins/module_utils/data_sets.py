# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an evaluation's data sets: are they there, whole, and in the format that the clients read?

A client that does not find its data says so after its warm-up, or counts every answer as wrong. So this is found out before.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http

#: Format -> (kind of file, the fields that each sample has, a text that one of them contains or None). A bare kind has no fields of its own.
FORMATS = {
    "jsonl": ("jsonl", [], None),
    "csv": ("csv", [], None),
    "gsm8k": ("jsonl", ["question", "answer"], ("answer", "####")),
    "gpqa": ("csv", ["Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"], None),
    "aime2024": ("jsonl", ["origin_prompt", "gold_answer"], None),
}
_PIECE = 1 << 20
#: Problems of one file that are said.
MOST = 3


def digest(path):
    """Return the SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(_PIECE), b""):
            found.update(piece)
    return found.hexdigest()


def samples(path, kind):
    """Yield C((where, sample as a dict or None, what is wrong or None)) of each sample. Raises C(OSError)."""
    with open(path, encoding="utf-8-sig", errors="strict", newline="" if kind == "csv" else None) as stream:
        if kind == "csv":
            reader = csv.DictReader(stream, strict=True)
            csv.field_size_limit(1 << 24)
            try:
                for sample in reader:
                    yield "line %d" % reader.line_num, sample, None
            except csv.Error as error:
                yield "line %d" % reader.line_num, None, "no CSV: %s" % error
            return
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)
            except ValueError as error:
                yield "line %d" % number, None, "no JSON: %s" % error
                continue
            yield "line %d" % number, sample if isinstance(sample, dict) else None, None if isinstance(sample, dict) else "no object"


def format_of(path, wanted):
    """Return C((number of samples, what is wrong)) of a file. C(wanted): C({format, fields, lines}); fields add to those of the format."""
    kind, fields, contains = FORMATS[wanted["format"]]
    fields, wrong, count = fields + list(wanted.get("fields") or []), [], 0
    try:
        for where, sample, problem in samples(path, kind):
            count += 1
            if sample is not None:
                absent = [name for name in fields if sample.get(name) in (None, "")]
                if absent:
                    problem = "found no %s, wanted %s in each sample" % (", ".join(absent), ", ".join(fields))
                elif contains and contains[1] not in str(sample[contains[0]]):
                    problem = "found no %s in %s, wanted it before the right answer" % (contains[1], contains[0])
            if problem and len(wrong) < MOST:
                wrong.append("%s: %s" % (where, problem))
    except UnicodeDecodeError as error:
        wrong.append("found bytes that are no UTF-8 (%s), wanted text" % error.reason)
    lines = wanted.get("lines")
    if not wrong and count == 0:
        wrong.append("found no sample, wanted some")
    elif not wrong and lines and count != lines:
        wrong.append("found %d samples, wanted %d" % (count, lines))
    return count, wrong


def prove(path, wanted):
    """Return C({path, there, sha256, lines, wrong}) of one file; wrong: sentences. C(wanted): C({sha256, format, fields, lines})."""
    result = {"path": path, "there": os.path.isfile(path), "sha256": None, "lines": None, "wrong": []}
    if not result["there"]:
        result["wrong"].append("found no such file, wanted it")
        return result
    try:
        result["sha256"] = digest(path)
        if wanted.get("sha256") and result["sha256"] != wanted["sha256"].lower():
            result["wrong"].append("found sha256 %s, wanted %s" % (result["sha256"], wanted["sha256"]))
        result["lines"], wrong = format_of(path, wanted)
        result["wrong"] += wrong
    except OSError as error:
        result["wrong"].append("found a file that cannot be read (%s), wanted one that can" % (error.strerror or error))
    return result


def fetch(path, wanted, proxies, timeout=60.0):
    """Fetch one file from its C(url) to its place, unless it has another content than C(sha256) says. Raises C(OSError) with what was found."""
    status, dummy, body = plain_http.request(wanted["url"], timeout=timeout, proxies=proxies)
    if status != 200:
        raise OSError("%s answered %d" % (wanted["url"], status))
    found = hashlib.sha256(body).hexdigest()
    if found != wanted["sha256"].lower():
        raise OSError("%s has a file with sha256 %s" % (wanted["url"], found))
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    part = path + ".part"
    with open(part, "wb") as stream:
        stream.write(body)
    os.chmod(part, 0o644)
    os.replace(part, path)
