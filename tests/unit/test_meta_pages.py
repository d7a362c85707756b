# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the README and the pages in docs/ tell a person to type exists.

Fenced blocks marked ``shell``, ``console`` or ``text`` are read, line by line. A line
counts by its first words: ``make TARGET``, ``ansible-playbook PLAYBOOK -i INVENTORY``, ``tests/lab/lab COMMAND``,
each also after ``cd inventories &&`` (or a ``cd`` line before it) and with a path such as ``.venv/bin/`` before it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(TOP).as_posix() for path in [*TOP.glob("README*.md"), *TOP.glob("docs/**/*.md"), *TOP.glob("roles/*/README.md")])
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def commands(page):
    """Return the commands in a page's blocks, each as its list of words, continuation lines joined, comments left out."""
    found = []
    for language, block in FENCE.findall(page):
        if language not in ("shell", "console", "text"):
            continue
        for line in re.sub(r"\\\n", " ", block).splitlines():
            for part in re.split(r"&&|;|\|\|?", line.strip().removeprefix("$ ")):
                try:
                    words = shlex.split(part, comments=True)
                except ValueError:
                    # a quote that spans lines: no command of ours
                    continue
                while words and re.fullmatch(r"sudo|\w+=\S*", words[0]):
                    words.pop(0)
                if words:
                    found.append(words)
    return found


def make_targets():
    """Return ``(names, patterns)`` of the Makefile's targets."""
    names = re.findall(r"^([\w%-]+):(?!=)", (TOP / "Makefile").read_text(), re.MULTILINE)
    return {name for name in names if "%" not in name}, {name for name in names if "%" in name}


def parts(*sets):
    """Return ``{part: minutes}`` of tests/parts.conf, of all sets or of those named."""
    rows = [line.split(None, 3) for line in (TOP / "tests" / "parts.conf").read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {row[0]: float(row[2]) for row in rows if not sets or row[1] in sets}


def unknown(words):
    """Return what a command names that does not exist, or an empty string."""
    program = words[0].rsplit("/", 1)[-1]
    if program == "make":
        names, dummy = make_targets()
        for target in words[1:]:
            if target.startswith("-") or "=" in target or target in names:
                continue
            if not (target.startswith("test-") and target[5:] in parts()):
                return "make has no target %s" % target
    elif program == "ansible-playbook":
        plays = [word for word in words[1:] if re.search(r"\.ya?ml$|^ascend\.vllm\.", word) and not word.startswith("@")]
        for play in plays:
            name = play.removeprefix("ascend.vllm.").rsplit("/", 1)[-1]
            places = [TOP / "playbooks" / (name + ".yml")] if play.startswith("ascend.vllm.") else [TOP / "inventories" / name, TOP / "playbooks" / name]
            if not any(place.is_file() for place in places):
                return "there is no playbook %s" % play
        for option, value in zip(words, words[1:]):
            name = value.rstrip("/").rsplit("/", 1)[-1]
            if option in ("-i", "--inventory") and re.fullmatch(r"(inventories/)?a[23]_\w+/?", value) and not (TOP / "inventories" / name).is_dir():
                return "there is no inventory %s" % value
    elif words[0].endswith("tests/lab/lab"):
        source = "".join(path.read_text() for path in (TOP / "tests" / "lab" / "lablib").glob("*.py"))
        if len(words) > 1 and not words[1].startswith("-") and '"%s"' % words[1] not in source:
            return "the lab has no command %s" % words[1]
    elif words[0].startswith(("tests/", "./tests/")) and not (TOP / words[0]).is_file():
        return "there is no file %s" % words[0]
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    found = commands((TOP / page).read_text())
    assert [(" ".join(words), unknown(words)) for words in found if unknown(words)] == []


def test_the_readme_shows_the_two_commands():
    """Also the proof that the blocks are found at all."""
    found = commands((TOP / "README.md").read_text())
    assert ["make", "demo"] in found and ["make", "test"] in found
    assert any(words[0] == "ansible-playbook" and "a2_pair" in words for words in found)


@pytest.mark.parametrize(("line", "said"), [
    ("make test", ""),
    ("sudo make -j2 test-a2_pair", ""),
    ("make no-such-thing", "make has no target no-such-thing"),
    ("make test-nothing", "make has no target test-nothing"),
    ("cd inventories && ansible-playbook site.yml -i a2_pair", ""),
    ("ansible-playbook ascend.vllm.plan -i my_cluster -e plan_file=plan.json", ""),
    ("ansible-playbook ascend.vllm.plam -i a2_pair", "there is no playbook ascend.vllm.plam"),
    ("ansible-playbook site.yml -i a2_trio", "there is no inventory a2_trio"),
    ("tests/lab/lab up --nodes 2", ""),
    ("tests/lab/lab fly", "the lab has no command fly"),
    ("curl http://localhost/", ""),
])
def test_a_command_that_does_not_exist_is_seen(line, said):
    words = commands("```shell\n$ %s  # comment\n```\n" % line)[-1]
    assert unknown(words) == said


def test_what_is_not_a_command_is_left_alone():
    assert commands("```yaml\nmake fun\n```\nmake fun\n") == []
    assert [unknown(words) for words in commands("```text\nplan -> site\nmaking fun\n```\n")] == ["", ""]


def test_the_budget_of_every_part_is_in_the_testing_page():
    """docs/testing.md has a table row `| part | what | budget |` for each part, with the minutes of tests/parts.conf last."""
    rows = {}
    for line in (TOP / "docs" / "testing.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        if line.lstrip().startswith("|") and len(cells) > 1 and re.fullmatch(r"\d+(\.\d)?", cells[-1]):
            rows[cells[0]] = float(cells[-1])
    assert {name: rows.get(name) for name in parts()} == parts()
    assert sum(parts("core").values()) <= 40
