# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped checks (data/checks): every text is there in every language, and says the same commands in all of them."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import checks, conditions, data

FILES = sorted((data.BUNDLED / "checks").glob("*.yml"))
#: The keys of an entry and of an outcome, and whether each has to be there.
ENTRY = {"title": True, "meaning": True, "source": True, "outcomes": True, "acceptable": False, "limits": False}
OUTCOME = {"status": True, "remedy": True, "unless": False}
#: What is not understood is `unknown`; an outcome is what was found wrong, so only an exception may turn it into a pass.
STATUSES = ("warn", "fail", "unknown")
EXCEPTION_STATUSES = ("pass", *STATUSES)
#: One value of each subject that a condition may ask for.
FACTS = {"hardware": "a2", "nodes": 2, "role": "serve", "release": "v0.13.0", "hccs": False, "env": {}, "flag": {}}
HAN = re.compile(r"[\u4e00-\u9fff]")
#: What a person types: placeholders, paths, names with an underscore and options. ASCII, because Chinese text needs no space beside them.
TYPED = re.compile(r"\{\w+\}|(?<![\w/])/\w[\w./*-]*\w\*?|[\w.]*_\w*|(?<![\w-])--?[a-z][\w-]*", re.ASCII | re.IGNORECASE)


def placeholders(text: str) -> set:
    """Return the names in braces. Raises ValueError for braces that `str.format` with keywords cannot fill."""
    names = set()
    for dummy, name, form, conversion in Formatter().parse(text):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError(f"{{{name}}} is no plain name in braces")
        names.add(name)
    return names


def typed(text: str) -> set:
    """Return the words of a text that are no language: they are the same in every translation."""
    return set(TYPED.findall(text))


def text_problems(where: str, texts: object, fills: bool) -> list:
    """Return what is wrong with one text in all of its languages; `fills` says whether names in braces are filled in."""
    if not isinstance(texts, dict):
        return [f"{where}: no texts"]
    # A comma in an unquoted text of a flow mapping ends the text and makes a key of the rest.
    found = [f"{where}: {key!r} is no language" for key in texts if key not in checks.LANGUAGES]
    absent = [key for key in checks.LANGUAGES if not isinstance(texts.get(key), str) or not texts[key].strip()]
    found += [f"{where}: no text in {key}" for key in absent]
    if absent:
        return found
    if not HAN.search(texts["zh"]):
        found.append(f"{where}: zh is not Chinese")
    if HAN.search(texts["en"]):
        found.append(f"{where}: en is Chinese")
    try:
        names = {key: placeholders(texts[key]) for key in checks.LANGUAGES}
    except ValueError as error:
        return [*found, f"{where}: braces: {error}"]
    if not fills and any(names.values()):
        found.append(f"{where}: nothing fills braces here")
    for key in checks.LANGUAGES:
        if names[key] != names["en"]:
            found.append(f"{where}: other names in braces in {key} than in en")
        elif typed(texts[key]) != typed(texts["en"]):
            found.append(f"{where}: other commands in {key} than in en: {sorted(typed(texts[key]) ^ typed(texts['en']))}")
    return found


def exception_problems(where: str, exceptions: object) -> list:
    """Return what is wrong with the `unless` of an outcome."""
    if not isinstance(exceptions, list) or not exceptions:
        return [f"{where}: unless is no list of when and status"]
    found = []
    for exception in exceptions:
        if not isinstance(exception, dict) or set(exception) != {"when", "status"}:
            found.append(f"{where}: unless without when and status")
            continue
        if exception["status"] not in EXCEPTION_STATUSES:
            found.append(f"{where}: unless has the status {exception['status']!r}")
        try:
            conditions.holds(exception["when"], FACTS)
        except conditions.ConditionError as error:
            found.append(f"{where}: unless: {error}")
    return found


def key_problems(where: str, entry: dict, keys: dict) -> list:
    """Return the keys that are missing and those that nobody reads."""
    missing = [f"{where}: no {key}" for key, needed in keys.items() if needed and not entry.get(key)]
    return missing + [f"{where}: nobody reads {key!r}" for key in entry if key not in keys]


def outcome_problems(where: str, outcome: object) -> list:
    """Return what is wrong with one outcome of a check."""
    if not isinstance(outcome, dict):
        return [f"{where}: no status and no remedy"]
    found = key_problems(where, outcome, OUTCOME)
    if outcome.get("status") and outcome["status"] not in STATUSES:
        found.append(f"{where}: has the status {outcome['status']!r}")
    if outcome.get("remedy"):
        found += text_problems(f"{where} remedy", outcome["remedy"], fills=True)
    if "unless" in outcome:
        found += exception_problems(where, outcome["unless"])
    return found


def problems(entries: dict) -> list:
    """Return what is missing or wrong in the entries of data/checks, a line each; nothing for entries that are complete."""
    found = []
    for name, entry in entries.items():
        found += key_problems(name, entry, ENTRY)
        for part in ("title", "meaning"):
            if entry.get(part):
                found += text_problems(f"{name} {part}", entry[part], fills=False)
        if not isinstance(entry.get("acceptable", False), bool):
            found.append(f"{name}: acceptable is neither true nor false")
        for outcome, content in (entry.get("outcomes") or {}).items():
            if not isinstance(outcome, str):
                # YAML reads a bare off, on, yes or no as a boolean: such a name has to be quoted.
                found.append(f"{name}: the outcome {outcome!r} is no text")
            found += outcome_problems(f"{name} {outcome}", content)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_checks_are_complete_in_every_language(path):
    assert problems(data.read_yaml(path)) == []


def test_all_checks_are_looked_at():
    names = [name for path in FILES for name in data.read_yaml(path)]
    assert len(names) == len(set(names)), "a check is in two files"
    assert {"node_answers", "npu_smi", "driver_floor", "tcp_reach", "clock", "hccn_link", "hccn_ping"} <= set(names)
    assert set(checks.LANGUAGES) >= {"en", "zh"}


@pytest.mark.parametrize("language", checks.LANGUAGES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_outcome_is_told_with_its_words_filled_in(path, language):
    entries = data.read_yaml(path)
    judge = checks.Judge("node7", entries, {"hardware": "a2", "nodes": 2, "role": "serve", "release": "v0.13.0"}, language)
    for name, entry in entries.items():
        for outcome, content in entry["outcomes"].items():
            words = {word: f"<{word}>" for word in placeholders(content["remedy"]["en"]) - {"host"}}
            told = judge.found(name, outcome, "seen", "wanted", **words)
            assert told["status"] == content["status"] and told["title"] == entry["title"][language]
            assert all(word in told["remedy"] for word in words.values()) and "{" not in told["remedy"], (name, outcome)
            assert bool(HAN.search(told["remedy"])) == (language == "zh"), (name, outcome)


def sound(**changes) -> dict:
    """Return one complete entry as data/checks has them, with keys replaced; `None` takes a key away."""
    entry = {
        "title": {"en": "Link", "zh": "链路"},
        "meaning": {"en": "The port has link.", "zh": "网口链路为 UP。"},
        "source": "installation.md",
        "outcomes": {"down": outcome_of()},
    }
    return {"link": {key: value for key, value in {**entry, **changes}.items() if value is not None}}


def outcome_of(remedy=None, **changes) -> dict:
    """Return one complete outcome, with its remedy or other keys replaced; `None` takes a key away."""
    entry = {
        "status": "fail",
        "remedy": remedy or {"en": "ip link set {nic} up, then see /etc/hccn.conf", "zh": "执行 ip link set {nic} up，再查看/etc/hccn.conf"},
        "unless": [{"when": {"nodes": {"is": 1}}, "status": "warn"}],
    }
    return {key: value for key, value in {**entry, **changes}.items() if value is not None}


def with_outcome(remedy=None, **changes) -> dict:
    """Return an entry whose only outcome has its remedy or other keys replaced."""
    return sound(outcomes={"down": outcome_of(remedy, **changes)})


@pytest.mark.parametrize(
    "entries",
    [
        sound(),
        sound(acceptable=False, limits={"api": 1}),
        with_outcome(unless=None),
        with_outcome(unless=[{"when": {"hccs": {"is": True}}, "status": "pass"}]),
        with_outcome({"en": "see x", "zh": "查看 x"}),
    ],
)
def test_a_complete_entry_has_no_problems(entries):
    assert problems(entries) == []


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (sound(title=None), "link: no title"),
        (sound(meaning=None), "link: no meaning"),
        (sound(source=None), "link: no source"),
        (sound(source=""), "link: no source"),
        (sound(outcomes={}), "link: no outcomes"),
        (sound(remedies={}), "link: nobody reads 'remedies'"),
        (sound(acceptable="no"), "link: acceptable is neither true nor false"),
        (sound(title="Link"), "link title: no texts"),
        (sound(title={"en": "Link"}), "link title: no text in zh"),
        (sound(title={"zh": "链路"}), "link title: no text in en"),
        (sound(title={"en": "Link", "zh": ""}), "link title: no text in zh"),
        (sound(title={"en": " ", "zh": "链路"}), "link title: no text in en"),
        (sound(title={"en": "Link", "zh": None}), "link title: no text in zh"),
        (sound(title={"en": "Link", "zh": "Link"}), "link title: zh is not Chinese"),
        (sound(title={"en": "链路", "zh": "链路"}), "link title: en is Chinese"),
        (sound(meaning={"en": "It is there", "or not": None, "zh": "存在"}), "link meaning: 'or not' is no language"),
        (sound(meaning={"en": "Link of {nic}", "zh": "{nic} 的链路"}), "link meaning: nothing fills braces here"),
        (sound(outcomes={False: outcome_of()}), "link: the outcome False is no text"),
        (sound(outcomes={"down": None}), "link down: no status and no remedy"),
        (with_outcome(status=None), "link down: no status"),
        (with_outcome(status="pass"), "link down: has the status 'pass'"),
        (with_outcome(hint="x"), "link down: nobody reads 'hint'"),
        (sound(outcomes={"down": {"status": "fail"}}), "link down: no remedy"),
        (with_outcome({"en": "see {nic}"}), "link down remedy: no text in zh"),
        (with_outcome({"en": "see {nic}", "zh": "查看 {nick}"}), "link down remedy: other names in braces in zh than in en"),
        (with_outcome({"en": "see it", "zh": "查看 {nic}"}), "link down remedy: other names in braces in zh than in en"),
        (with_outcome({"en": "see {}", "zh": "查看 {}"}), "link down remedy: braces: {} is no plain name in braces"),
        (with_outcome({"en": "see {a.b}", "zh": "查看 {a.b}"}), "link down remedy: braces: {a.b} is no plain name in braces"),
        (with_outcome({"en": "see {nic", "zh": "查看 {nic}"}), "link down remedy: braces: expected '}' before end of string"),
        (
            with_outcome({"en": "see /etc/hccn.conf", "zh": "查看 /etc/hccn"}),
            "link down remedy: other commands in zh than in en: ['/etc/hccn', '/etc/hccn.conf']",
        ),
        (with_outcome({"en": "hccn_tool -g", "zh": "执行 hccn_tool"}), "link down remedy: other commands in zh than in en: ['-g']"),
        (with_outcome({"en": "set vllm_port", "zh": "设置端口"}), "link down remedy: other commands in zh than in en: ['vllm_port']"),
        (with_outcome(unless=[]), "link down: unless is no list of when and status"),
        (with_outcome(unless={"when": {"nodes": {"is": 1}}, "status": "warn"}), "link down: unless is no list of when and status"),
        (with_outcome(unless=[{"when": {"nodes": {"is": 1}}}]), "link down: unless without when and status"),
        (with_outcome(unless=[{"status": "warn"}]), "link down: unless without when and status"),
        (with_outcome(unless=["nodes"]), "link down: unless without when and status"),
        (with_outcome(unless=[{"when": {"nodes": {"is": 1}}, "status": "ok"}]), "link down: unless has the status 'ok'"),
        (with_outcome(unless=[{"when": {"nodes": 1}, "status": "warn"}]), "link down: unless: nodes takes a mapping of tests, such as {is: 1}, got 1"),
    ],
)
def test_an_entry_that_lacks_something_is_named(entries, words):
    assert problems(entries) == [words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hccn_tool -i {npu} -link -g，再检查", {"hccn_tool", "-i", "{npu}", "-link", "-g"}),
        ("查看/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor", {"/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"}),
        ("占用了/dev/davinci*，停掉", {"/dev/davinci*"}),
        ("end prefill-decode on a node, or -8020: 10 s.", set()),
        ("docker ps --all; in /etc/sysctl.d.", {"--all", "/etc/sysctl.d"}),
        ("sysctl -w {setting}={wanted}，并写入", {"-w", "{setting}", "{wanted}"}),
        ("加 HCCL_INTER_HCCS_DISABLE=TRUE", {"HCCL_INTER_HCCS_DISABLE"}),
    ],
)
def test_what_a_person_types_is_told_from_the_language_around_it(text, words):
    assert typed(text) == words
