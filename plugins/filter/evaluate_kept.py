# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the records and baselines that are kept of older runs, on the controller."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_mapping
from ansible_collections.ascend.vllm.plugins.plugin_utils.records import BASELINES


def _baselines(path: Path):
    """Return the content of a group's baselines, empty without the file. Raises AnsibleFilterError: by a broken file no run may pass."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(f"evaluate_kept: {path} cannot be read as JSON: {error}; wanted the baselines of a group. Remedy: restore the file, or remove "
                                 "it: the next run makes new baselines.") from error


def _records(folder: Path):
    """Return the records in a folder, in the order of their names; files that are none are left out: a page of results does not depend on them."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if path.name != BASELINES and is_mapping(record) and record.get("id"):
            found.append(record)
    return found


def evaluate_kept(report_dir, groups):
    """Return C({baselines: {group: its baselines}, records: [record]})."""
    folders = {str(group): Path(str(report_dir)) / "results" / str(group) for group in groups}
    return {"baselines": {group: _baselines(folder / BASELINES) for group, folder in folders.items()},
            "records": [record for folder in folders.values() for record in _records(folder)]}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_kept": evaluate_kept}
