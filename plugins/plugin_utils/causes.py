# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a server ended, by the lines of its log: from data/causes, in the language of the run.

Pure but for ``load``. The work is bounded for a log of any size: of a long one only the lines that may tell something are looked at.
"""

from __future__ import annotations

import re
from string import Formatter

from ..module_utils import serve_log
from . import data

#: Rank of an entry that states none; the lowest is told first.
RANK = 50
#: From this rank on an entry says how a container ended, not why.
HOW_IT_ENDED = 80
#: Lines of a log that are read: the first and the last of a longer one.
MOST_LINES = 100000
#: Bytes that are searched. Of a log that is longer, what is only told and the frames of later tracebacks go first, then the middle.
MOST_BYTES = 262144
#: Lines that are shown behind a cause, and characters of each.
EVIDENCE, WIDTH = 3, 300
#: Lines of a traceback that are shown of its beginning and of its end.
TRACEBACK_HEAD, TRACEBACK_TAIL = 5, 18


def load(site_dirs=()) -> dict:
    """Return name -> entry of the collection's causes and those of the site's folders; an entry that is wrong is left out (a plan refuses it)."""
    return data.load_all(site_dirs, kinds=("causes",))[0]["causes"]


def explain(lines, causes: dict, language: str = "en") -> dict:
    """Return ``{causes, traceback, unexplained}`` of a log, whose lines may be bytes.

    ``causes``: a list of ``{name, cause, remedy, rank, consequence, lines}``, the most telling first: what is no consequence of something
    else, then by rank, then by place in the log. ``lines`` are the ones behind it, at most ``EVIDENCE``. Left out is what is known only by
    lines that a better one explains. ``traceback``: the first one, shortened in its middle. ``unexplained``: whether there is a traceback
    and no cause knows the error that it ends with.
    """
    lines = _bounded(list(lines))
    places: dict = {}
    for place, line in enumerate(lines):
        text = serve_log.split(line)[2]
        if text.strip():
            places.setdefault(text, place)
    found = [cause for cause in (_look(name, entry, places, language) for name, entry in causes.items()) if cause]
    found.sort(key=lambda cause: (cause["consequence"], cause["rank"], cause["place"]))
    told, known = [], set()
    for cause in found:
        if not set(cause["texts"]) <= known:
            told.append({key: cause[key] for key in ("name", "cause", "remedy", "rank", "consequence", "lines")})
            known.update(cause["texts"])
    first = serve_log.first_traceback(lines)
    error = [serve_log.split(lines[place])[2] for place in first if not serve_log.split(lines[place])[2].startswith((" ", "\t"))]
    return {
        "causes": told,
        "traceback": _shortened([serve_log.split(lines[place])[2] for place in first]),
        "unexplained": bool(first) and not any(text in known for text in error),
    }


def _bounded(lines: list) -> list:
    """Return the lines, clean and no more than can be searched in a moment."""
    if len(lines) > MOST_LINES:
        lines = lines[: MOST_LINES // 2] + lines[-MOST_LINES // 2 :]
    lines = [serve_log.clean(line) for line in lines]
    return lines if sum(map(len, lines)) <= MOST_BYTES else serve_log.telling(lines, MOST_BYTES)


def _look(name: str, entry: dict, places: dict, language: str):
    """Return one cause with its evidence, or None. ``places``: text of a line -> its first place."""
    words, texts = {}, {}
    for pattern in entry["patterns"]:
        search = re.compile(pattern).search
        for text, place in places.items():
            match = search(text)
            if match:
                # The patterns of an entry stand in the order of what they tell.
                words = words or {key: value for key, value in match.groupdict().items() if value}
                texts.setdefault(text, place)
    if not texts:
        return None
    ordered = sorted(texts, key=texts.get)
    return {
        "name": name,
        "cause": filled(entry["cause"], words, language),
        "remedy": filled(entry["remedy"], words, language),
        "rank": entry.get("rank", RANK),
        "consequence": bool(entry.get("consequence")),
        "lines": list(dict.fromkeys(text.strip()[:WIDTH] for text in ordered))[:EVIDENCE],
        "texts": ordered,
        "place": texts[ordered[0]],
    }


class _Words(dict):
    """The words of a match; what the log does not say is a question mark."""

    def __missing__(self, key):
        return "?"


def filled(texts: dict, words: dict, language: str) -> str:
    """Return a text in the language of the run, or in English, with the words of the log in its braces."""
    text = texts.get(language) or texts["en"]
    try:
        return Formatter().vformat(text, (), _Words(words))
    except (ValueError, IndexError, AttributeError, KeyError):
        # A site's text with braces that are none of names.
        return text


def _shortened(lines: list) -> list:
    """Return a traceback without its middle when it is long: what was called, and the error with the last frames."""
    if len(lines) > TRACEBACK_HEAD + TRACEBACK_TAIL + 1:
        lines = [*lines[:TRACEBACK_HEAD], "  ...", *lines[-TRACEBACK_TAIL:]]
    return [line.rstrip()[:WIDTH] for line in lines]
