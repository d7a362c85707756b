# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection with some of its files replaced, as Ansible finds it: for tests that run a role without what it calls."""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]


def overlay(folder, files):
    """Return a folder of collections, made below ``folder``: ours has ``files`` (path in the collection -> text) in place of its own, all else is linked.

    A role of which a file is replaced has no other file.
    """
    ours, there = folder / "collections" / "ansible_collections", next(Path(sys.executable).parents[1].glob("lib/python3*/site-packages/ansible_collections"))
    target = ours / "ascend" / "vllm"
    for path, text in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text)
    made = {str(parent) for path in files for parent in Path(path).parents if parent.parts[:1] != ("roles",)} | {"", "roles"}
    for source, place in [(there, ours), *((TOP / name, target / name) for name in made)]:
        place.mkdir(exist_ok=True)
        for path in source.iterdir():
            if not (place / path.name).exists() and not path.name.startswith("."):
                (place / path.name).symlink_to(path.resolve())
    return folder / "collections"
