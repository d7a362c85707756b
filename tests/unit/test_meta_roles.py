# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles: their defaults and their argument specifications say the same, and a role reads as its table of contents."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (TOP / "roles").iterdir() if path.is_dir())
LONGEST = 60


def specified(role):
    """Return ``(names of all options, {name: default})`` over all entry points of a role."""
    entry_points = yaml.safe_load((TOP / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    names, defaults = set(), {}
    for entry_point in entry_points.values():
        for name, option in (entry_point.get("options") or {}).items():
            names.add(name)
            if "default" in option:
                defaults[name] = option["default"]
    return names, defaults


def differences(names, specs, defaults):
    """Return what differs between the specified options and the defaults, as sentences."""
    found = ["%s has a default in defaults/main.yml but is not specified" % name for name in sorted(set(defaults) - names)]
    found += ["%s is specified with the default %r but is not in defaults/main.yml" % (name, specs[name]) for name in sorted(set(specs) - set(defaults))]
    found += ["%s is %r in defaults/main.yml but has no default in its specification" % (name, defaults[name])
              for name in sorted((names & set(defaults)) - set(specs))]
    found += ["%s is specified with the default %r but is %r in defaults/main.yml" % (name, specs[name], defaults[name])
              for name in sorted(set(specs) & set(defaults)) if specs[name] != defaults[name] or type(specs[name]) is not type(defaults[name])]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_defaults_equal_argument_specs(role):
    names, specs = specified(role)
    path = TOP / "roles" / role / "defaults" / "main.yml"
    defaults = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    assert differences(names, specs, defaults) == []


@pytest.mark.parametrize(("names", "specs", "defaults", "said"), [
    ({"a"}, {"a": 1}, {"a": 1}, []),
    ({"a", "b"}, {"a": 1}, {"a": 1}, []),
    ({"a"}, {"a": 1}, {"a": 1, "b": 2}, ["b has a default in defaults/main.yml but is not specified"]),
    ({"a"}, {"a": 1}, {}, ["a is specified with the default 1 but is not in defaults/main.yml"]),
    ({"a"}, {}, {"a": 1}, ["a is 1 in defaults/main.yml but has no default in its specification"]),
    ({"a"}, {"a": 1}, {"a": "1"}, ["a is specified with the default 1 but is '1' in defaults/main.yml"]),
    ({"a"}, {"a": 1}, {"a": True}, ["a is specified with the default 1 but is True in defaults/main.yml"]),
])
def test_every_difference_is_seen(names, specs, defaults, said):
    assert differences(names, specs, defaults) == said


def test_there_are_roles():
    assert "plan" in ROLES and len(ROLES) >= 7


@pytest.mark.parametrize("path", sorted([*TOP.glob("roles/*/tasks/**/*.yml"), *TOP.glob("playbooks/*.yml")]), ids=lambda path: str(path.relative_to(TOP)))
def test_a_task_file_fits_on_a_page(path):
    assert len(path.read_text().splitlines()) < LONGEST, "split it by purpose"
