# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the repository: habits that are kept everywhere, or nowhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().relative_to(TOP).as_posix()
KNOWN = sorted({name for name in subprocess.run(
    ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=TOP, check=True, capture_output=True, text=True).stdout.split("\0") if name and (TOP / name).is_file()})
LICENSE_LINES = (
    "# Copyright: ascend.vllm contributors",
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)
# Places of one developer's machine, and of no user's: this very checkout, or somebody's home.
STRANGE = re.compile(rf"(?<![A-Za-z0-9_.-]){re.escape(str(TOP))}/|/home/[a-z]|/Users/")


def text_of(name):
    """Return the text of a file, or an empty string for one that is not text."""
    try:
        return (TOP / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def ansible_files():
    """Return the YAML files that hold tasks, with their text."""
    return [(name, text_of(name)) for name in KNOWN if re.match(r"(roles/.*/(tasks|handlers)/.*|playbooks/.*|inventories/.*|molecule/.*)\.ya?ml$", name)]


def silenced(text):
    """Return the numbers of lines that hide a failure without saying why, right there or in a comment just above."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*(- )?ignore_errors\s*:", line):
            found.append(number)
        elif re.match(r"\s*(- )?failed_when\s*:\s*(false|no)\b", line, re.IGNORECASE):
            above = lines[number - 2].strip() if number > 1 else ""
            if not re.search(r"\s#\s*\S", line) and not above.startswith("#"):
                found.append(number)
    return found


def test_no_failure_is_hidden():
    assert {name: silenced(text) for name, text in ansible_files() if silenced(text)} == {}


@pytest.mark.parametrize(("text", "lines"), [
    ("- a:\n  failed_when: false\n", [2]),
    ("- a:\n  failed_when: false  # a missing tool is an answer\n", []),
    ("- a:\n  # a missing tool is an answer\n  failed_when: false\n", []),
    ("- a:\n  ignore_errors: true  # because\n", [2]),
    ("- a:\n  failed_when: found.rc > 1\n", []),
])
def test_a_hidden_failure_is_seen(text, lines):
    assert silenced(text) == lines


def test_no_file_speaks_of_one_machine():
    found = [name for name in KNOWN if name != HERE and STRANGE.search(text_of(name))]
    assert found == []


def test_python_files_carry_their_licence():
    """After a shebang and an encoding line, if there are any, come the three lines."""
    def carries(name):
        lines = [line for line in text_of(name).splitlines() if not re.match(r"#!|# -\*- coding", line)]
        return not lines or tuple(lines[:3]) == LICENSE_LINES

    assert [name for name in KNOWN if name.endswith(".py") and not carries(name)] == []


def entries_without_source(entries, inherited=("base",)):
    """Return the names of data entries that say neither where their values come from nor which entry they are based on."""
    return [name for name, entry in entries.items() if not isinstance(entry, dict) or not (entry.get("source") or any(entry.get(key) for key in inherited))]


DATA = [name for name in KNOWN if re.match(r"(tests/lab/)?data/.*\.ya?ml$", name)]


@pytest.mark.parametrize("name", DATA)
def test_every_data_entry_has_a_source(name):
    entries = yaml.safe_load(text_of(name))
    assert isinstance(entries, dict) and entries
    assert entries_without_source(entries) == []


def test_data_is_found_and_a_missing_source_is_seen():
    assert any(name.startswith("data/recipes/") for name in DATA) and any(name.startswith("data/releases/") for name in DATA)
    assert entries_without_source({"a": {"source": "page"}, "b": {"source": ""}, "c": {"x": 1}, "d": {"base": "a"}, "e": 3}) == ["b", "c", "e"]


def plugin_files():
    """Return ``{(kind, name)}`` of the plugins that this collection offers to playbooks."""
    kinds = {"modules": "module", "action": "module"}
    found = set()
    for path in (TOP / "plugins").glob("*/*.py"):
        kind = path.parent.name
        if kind in ("module_utils", "plugin_utils", "doc_fragments") or path.stem == "__init__":
            continue
        found.add((kinds.get(kind, kind), path.stem))
    return found


def test_every_plugin_is_documented():
    """One call of ansible-doc for all of them; an action plugin is documented by the module of its name."""
    wanted = plugin_files()
    assert ("filter", "rank_vars") in wanted
    # One document that cannot be read must not hide the others: it is in the answer as its error.
    dumped = subprocess.run([str(Path(sys.executable).parent / "ansible-doc"), "--metadata-dump", "--no-fail-on-errors", "ascend.vllm"],
                            capture_output=True, text=True, check=True).stdout
    dump = json.loads(dumped)["all"]
    problems = []
    for kind, name in sorted(wanted):
        entry = dump.get(kind, {}).get("ascend.vllm." + name)
        if entry is None:
            problems.append("%s %s: ansible-doc does not know it" % (kind, name))
        elif "error" in entry:
            problems.append("%s %s: %s" % (kind, name, entry["error"]))
        elif not entry["doc"].get("short_description") or not entry.get("examples") or (entry.get("return") is None):
            problems.append("%s %s: wanted a short description, examples and return values" % (kind, name))
    assert problems == []


def version_tuple(text):
    """Return a version as a tuple of its leading numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def test_collections_we_depend_on_are_installed_new_enough():
    wanted = yaml.safe_load(text_of("galaxy.yml"))["dependencies"]
    assert set(wanted) == {"ansible.posix", "community.docker", "community.general"}
    installed = Path(yaml.__file__).resolve().parents[1] / "ansible_collections"
    for name, bound in wanted.items():
        assert bound.startswith(">="), name
        have = json.loads((installed.joinpath(*name.split(".")) / "MANIFEST.json").read_text())["collection_info"]["version"]
        assert version_tuple(have) >= version_tuple(bound), "%s %s is installed, galaxy.yml wants %s" % (name, have, bound)


def test_python_packages_users_need_are_installed_new_enough():
    wanted = [line.split(">=") for line in text_of("requirements.txt").splitlines() if line and not line.startswith("#")]
    assert [name for name, dummy in wanted] == ["jmespath", "netaddr"]
    for name, bound in wanted:
        assert version_tuple(metadata.version(name)) >= version_tuple(bound)


def test_locks_agree_with_each_other():
    """The two controllers differ in ansible-core and what depends on the Python, not in the tools named in tools.in."""
    def lock(name):
        return dict(line.lower().split("==") for line in text_of("requirements/%s.txt" % name).splitlines() if line and not line.startswith("#"))

    old, new = lock("controller-2.19"), lock("controller-2.21")
    named = [line.lower() for line in text_of("requirements/tools.in").splitlines() if line and not line.startswith("#")]
    normal = {name.replace("_", "-"): version for name, version in old.items()}
    newer = {name.replace("_", "-"): version for name, version in new.items()}
    assert named and all(normal[name] == newer[name] for name in named)
    assert old["ansible-core"].startswith("2.19.") and new["ansible-core"].startswith("2.21.")
    assert "pytest-ansible" not in normal and "pytest-ansible" not in newer


SECTIONS = {section[0] for section in yaml.safe_load(text_of("changelogs/config.yaml"))["sections"]} | {"release_summary", "trivial"}
FRAGMENTS = [name for name in KNOWN if name.startswith("changelogs/fragments/")]


@pytest.mark.parametrize("name", FRAGMENTS)
def test_changelog_fragment(name):
    """Known sections; entries are one-sentence strings that start with what they are about: `role - what.`"""
    fragment = yaml.safe_load(text_of(name))
    assert name.endswith((".yml", ".yaml")) and isinstance(fragment, dict)
    assert set(fragment) <= SECTIONS
    for section, entries in fragment.items():
        if section == "release_summary":
            assert isinstance(entries, str)
            continue
        for entry in entries:
            assert re.match(r"[\w./-]+( [\w-]+)* - .+\.$", entry, re.DOTALL), entry


def test_versions_agree():
    """What a released changelog says is not newer than galaxy.yml."""
    version = yaml.safe_load(text_of("galaxy.yml"))["version"]
    released = re.findall(r"^v(\d+\.\d+\.\d+)$", text_of("CHANGELOG.rst"), re.MULTILINE)
    assert all(version_tuple(old) <= version_tuple(version) for old in released)
    assert FRAGMENTS or version in released
