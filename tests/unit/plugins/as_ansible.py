# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugins as Ansible uses them: filters by their names with its lazy mappings, actions on scripted modules, documentation with its fragments."""

from __future__ import annotations

import collections.abc
import importlib
from types import SimpleNamespace
from unittest import mock

import yaml


class Lazy(collections.abc.Mapping):
    """A mapping that is no dict, as Ansible hands hostvars over."""

    def __init__(self, content):
        self.content = content

    def __getitem__(self, key):
        value = self.content[key]
        return Lazy(value) if isinstance(value, dict) else value

    def __iter__(self):
        return iter(self.content)

    def __len__(self):
        return len(self.content)


def filter_of(module):
    """Return the only filter of a file, under the file's name."""
    [(name, function)] = module.FilterModule().filters().items()
    assert name == module.__name__.rpartition(".")[2]
    return function


def run_action(module, script, check=False, **args):
    """Run an action plugin on a script of answers (each with the seconds it takes) and of errors to raise; return C({result, lines, calls, slept})."""
    task = SimpleNamespace(args=args, async_val=0, check_mode=check, action=f"ascend.vllm.{module.__name__.rpartition('.')[2]}")
    connection = mock.Mock()
    connection._shell.tmpdir = "/tmp"
    plugin = module.ActionModule(task, connection, mock.Mock(), mock.Mock(), mock.Mock(), None)
    slices, lines, calls, slept, clock = iter(script), [], [], [], SimpleNamespace(now=100.0)

    def execute(module_name, module_args, task_vars):
        calls.append((module_name, dict(module_args)))
        answer = next(slices)
        if isinstance(answer, Exception):
            raise answer
        answer = dict(answer)
        clock.now += answer.pop("takes", 5.0)
        return answer

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds

    shown = SimpleNamespace(display=lines.append, warning=lines.append)
    with mock.patch.object(plugin, "_execute_module", execute), mock.patch.object(module, "display", shown), \
            mock.patch.object(module, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)):
        result = plugin.run(None, {"inventory_hostname": "n0"})
    return {"result": result, "lines": lines, "calls": calls, "slept": slept}


def documented_options(module):
    """Return the options that a module's documentation has, with those of its fragments."""
    stated = yaml.safe_load(module.DOCUMENTATION)
    fragments = stated.get("extends_documentation_fragment") or []
    options = {}
    for name in [fragments] if isinstance(fragments, str) else fragments:
        place = f"ansible_collections.ascend.vllm.plugins.doc_fragments.{name.rpartition('.')[2]}"
        options.update(yaml.safe_load(importlib.import_module(place).ModuleDocFragment.DOCUMENTATION).get("options") or {})
    return {**options, **(stated.get("options") or {})}
