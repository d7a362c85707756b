# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of text that leaves a node: those that are known word for word, and what looks like one.

Text is taken line by line, so that a log of any size takes little memory. Too much is removed rather than too little: a value
ends where its line does when nothing better is known. What is left in place of a secret is C([removed]).
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from urllib.parse import quote

REMOVED = "[removed]"
REMOVED_KEY = "[removed: private key]"
#: A known secret that is shorter (characters) would be found in half of all words; only the patterns take it out.
SHORTEST = 4
#: Characters of one line that are kept; a line that is longer is cut there.
LONGEST_LINE = 64 * 1024
#: Of a line that was cut its end is not kept: half a secret there would not be known for one.
UNSURE_END = 4096
#: Lines that a private key may have; after so many without its end it is taken for none.
KEY_LINES = 400

#: Colours and other things of terminals, and control characters, which could stand in the middle of a secret.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

_NAME = (
    r"(?:token|[_-]key|(?:api|access|secret|private|auth|account|signing)key|(?:password|passwd|passphrase|secret|credential)[\w.-]{0,64}"
    r"|[_-]auth|signature|accesskeyid)"
)
_VALUE = (
    r"(?:b?\"(?:[^\"\\]|\\.){0,8192}\"|b?'(?:[^'\\]|\\.){0,8192}'|\\+\"[^\"]{0,8192}\"|[\[(][^\])]{0,8192}[\])]|\S+)"
)

#: Words that are looked for first, because that is so much quicker than a pattern: an ordinary line has none. Not "token" and "key"
#: alone, which half of all lines of vLLM have.
_NAMED = tuple(word + end for word in ("token", "key", "_auth", "-auth") for end in "=:\"'\\ \t") + ("passw", "passphrase", "secret", "credential", "signature")
#: (words of which one must be in the line, in lower case; pattern; what takes its place). In this order.
_RULES = (
    (("private key",), re.compile(_KEY_BEGIN.pattern + r".*?(?:" + _KEY_END.pattern + r"|$)"), REMOVED_KEY),
    (("://",), re.compile(r"://[^\s/\"'<>]*@"), "://%s@" % REMOVED),
    (("authorization",), re.compile(r"(?i)(authorization\\*[\"']?\s*[:=,]\s*)(?:digest\s.*|(\\*b?[\"'])?[^\"'\\]*)"), r"\g<1>" + REMOVED),
    (("bearer",), re.compile(r"(?i)(\bbearer\s+)[^\s\"'\\]+"), r"\g<1>" + REMOVED),
    (("cookie",), re.compile(r"(?i)(cookie\\*[\"']?\s*[:=]\s*).*"), r"\g<1>" + REMOVED),
    # An option may have several values: all words up to the next option.
    (
        ("--",),
        re.compile(r"(?i)(--[\w-]{0,64}?(?:key|token|password|passwd|secret))(?![\w-])"
                   r"(?:=\S+|[\\\"']*[\s,]+(?!-|[\\\"']+-)[^\s,]+(?:[\s,]+(?!-|[\\\"']+-)[^\s,]+)*)"),
        r"\g<1>=" + REMOVED,
    ),
    (("x-amz-", "sig="), re.compile(r"(?i)(x-amz-[a-z-]{1,40}=|[?&]sig=)[^&\s\"']+"), r"\g<1>" + REMOVED),
    (
        _NAMED + ("accesskeyid",),
        re.compile(r"(?i)(" + _NAME + r"\\*[\"']?\s*[:=]\s*)(?!\[removed\])" + _VALUE),
        r"\g<1>" + REMOVED,
    ),
    (("\"auth\"", "'auth'", "auth\\\""), re.compile(r"(\\*[\"']auth\\*[\"']\s*:\s*)" + _VALUE), r"\g<1>" + REMOVED),
    # Tokens that are known by their looks: Hugging Face, OpenAI and its kin, GitHub, AWS, ModelScope, JSON web tokens.
    (
        ("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "akia", "ms-", "eyj"),
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|ms-[0-9a-f]{8}-[0-9a-f-]{27}"
            r"|eyJ[A-Za-z0-9_-]{10,4096}\.[A-Za-z0-9_-]{10,4096}(?:\.[A-Za-z0-9_-]*)?)"
        ),
        REMOVED,
    ),
)
_SECRET_NAME = re.compile(r"(?i)(?:^|[_\W])(?:auth|auths|cookie)$|" + _NAME + r"$")
_SECRET_OPTION = re.compile(r"(?i)^--[\w-]*(?:key|token|password|passwd|secret)(=.*)?$")
_ASSIGNMENT = re.compile(r"^([A-Za-z_][\w.-]*)=(.*)$", re.S)


def _of_logins(value, found):
    """Collect the passwords and tokens in the decoded C(auths) of a Docker C(config.json)."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if isinstance(entry, str) and name.lower() in ("auth", "password", "identitytoken", "registrytoken", "secret"):
                found.append(entry)
                if name.lower() == "auth":
                    try:
                        found.append(base64.b64decode(entry).decode("utf-8").partition(":")[2])
                    except (ValueError, UnicodeDecodeError):
                        pass
            else:
                _of_logins(entry, found)
    elif isinstance(value, list):
        for entry in value:
            _of_logins(entry, found)


def words_of(secret):
    """Return what of a secret's text must not be seen: a Docker C(config.json) has its logins, any other text its lines."""
    try:
        decoded = json.loads(secret)
    except ValueError:
        decoded = None
    if isinstance(decoded, (dict, list)):
        found = []
        _of_logins(decoded, found)
        return found
    return [line.strip() for line in secret.splitlines() if line.strip() and not line.startswith("-----")]


def _forms(word):
    """Return a word as it may be written: as it is, in JSON, in an address, in base64."""
    encoded = base64.b64encode(word.encode("utf-8", "surrogatepass")).decode("ascii")
    return {word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1], quote(word, safe="", errors="replace"), encoded.rstrip("=")}


class Redactor:
    """Removes secrets. C(count): how many were removed so far. C(short): how many of those given are too short to be looked for."""

    def __init__(self, secrets=()):
        words = set(word for secret in secrets if secret for word in words_of(secret))
        self.short = sum(1 for word in words if len(word) < SHORTEST)
        forms = set(form for word in words if len(word) >= SHORTEST for form in _forms(word) if len(form) >= SHORTEST)
        # The longest first: one secret may begin with another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._forms = ordered
        self._exact = re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None
        self.count = 0

    def line(self, text):
        """Return one line, without its end, without secrets, colours and control characters."""
        text = _CONTROL.sub("", text)
        for form in self._forms:
            if form in text:
                text, removed = self._exact.subn(REMOVED, text)
                self.count += removed
                break
        lowered = text.lower()
        for words, pattern, instead in _RULES:
            for word in words:
                if word in lowered:
                    text, removed = pattern.subn(instead, text)
                    self.count += removed
                    break
        return text

    def words(self, text):
        """Return a text without the secrets that are known word for word, and as it is otherwise: for what a program reads afterwards."""
        if not self._exact:
            return text
        text, removed = self._exact.subn(REMOVED, text)
        self.count += removed
        return text

    def text(self, text, cut_before=False):
        """Return a text of several lines without secrets; C(cut_before): it begins in the middle of something."""
        lines = Lines(self, cut_before)
        found = [line for part in text.splitlines() for line in lines.feed(part)] + lines.end()
        return "\n".join(found) + ("\n" if found else "")

    def value(self, value, name=""):
        """Return decoded JSON without secrets: by the names of values, in lists C(NAME=value) and options with their values."""
        if _SECRET_NAME.search(name) and value not in (None, "", [], {}) and not isinstance(value, bool):
            self.count += 1
            return REMOVED
        if isinstance(value, dict):
            return dict((self.line(str(key)), self.value(entry, str(key))) for key, entry in value.items())
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, str):
            return self._string(value)
        return REMOVED if self._exact and self._exact.search(str(value)) else value

    def _list(self, entries):
        found, inside = [], False
        for entry in entries:
            option = _SECRET_OPTION.match(entry) if isinstance(entry, str) else None
            if option:
                inside = option.group(1) is None
                found.append(entry if inside else entry[:option.start(1)] + "=" + REMOVED)
                self.count += 0 if inside else 1
            elif inside and isinstance(entry, str) and not entry.startswith("-"):
                found.append(REMOVED)
                self.count += 1
            else:
                inside = False
                found.append(self.value(entry))
        return found

    def _string(self, text):
        assigned = _ASSIGNMENT.match(text)
        if assigned and assigned.group(2) and _SECRET_NAME.search(assigned.group(1)):
            self.count += 1
            return "%s=%s" % (assigned.group(1), REMOVED)
        if "\n" in text:
            return self.text(text).rstrip("\n")
        return self.line(text)


class Lines:
    """The lines of one stream, in their order: what C(Redactor.line) cannot see, private keys over several lines, is removed here.

    C(cut_before): the stream begins in the middle of something, perhaps of a private key, so its first lines are held back until
    that is known.
    """

    def __init__(self, redactor, cut_before=False):
        self._redactor = redactor
        self._inside = 0
        self._held = [] if cut_before else None

    def feed(self, line, whole=True):
        """Take one line and return those that can be shown, cleaned. C(whole): the line is not one whose end is missing."""
        if self._inside:
            end = _KEY_END.search(line)
            self._inside = 0 if end else self._inside - 1
            return self.feed(line[end.end():]) if end and line[end.end():].strip() else []
        begin, end = _KEY_BEGIN.search(line), _KEY_END.search(line)
        if end and (not begin or end.start() < begin.start()):
            # Its beginning was before the first line.
            self._held = None
            self._redactor.count += 1
            return [REMOVED_KEY]
        if begin and not _KEY_END.search(line, begin.end()) and whole:
            self._inside = KEY_LINES
        cleaned = self._redactor.line(line)
        if self._held is None:
            return [cleaned]
        self._held.append(cleaned)
        return self.end() if begin or len(self._held) >= KEY_LINES else []

    def end(self):
        """Return what is still held back."""
        held, self._held = self._held or [], None
        return held


class Splitter:
    """Makes lines of pieces of bytes. Gives C((text, whole)): a line that is too long is cut, its end is dropped and that is said.

    C(strict): bytes that are no UTF-8 raise C(UnicodeDecodeError), instead of becoming the replacement character; a zero byte does too.
    """

    def __init__(self, strict=False):
        self._strict = strict
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict" if strict else "replace")
        self._rest = ""
        self._skipping = False

    def feed(self, data):
        """Return the lines that end in this piece."""
        if self._strict and b"\x00" in data:
            raise UnicodeDecodeError("utf-8", data[:16], 0, 1, "a zero byte")
        return self._split(self._decoder.decode(data))

    def end(self):
        """Return the last line, if it has no end of its own."""
        # Not the decoder's own end: a file that is written to may end in the middle of a character.
        rest, self._rest = self._rest, ""
        return [self._line(rest)] if rest and not self._skipping else []

    def _split(self, text):
        found = []
        parts = (self._rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        self._rest = parts.pop()
        for part in parts:
            if not self._skipping:
                found.append(self._line(part))
            self._skipping = False
        if len(self._rest) > LONGEST_LINE:
            if not self._skipping:
                found.append(self._line(self._rest))
            self._rest, self._skipping = "", True
        return found

    @staticmethod
    def _line(text):
        return (text, True) if len(text) <= LONGEST_LINE else (text[:LONGEST_LINE], False)


def clean(lines, text, whole):
    """Return the lines to show of one line of a C(Splitter), which a C(Lines) cleans."""
    shown = lines.feed(text, whole)
    if not whole:
        shown = [line[:-UNSURE_END] + " [cut: a line of more than %d characters]" % LONGEST_LINE for line in shown]
    return shown
