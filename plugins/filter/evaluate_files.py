# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the files in which records and baselines are kept."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def evaluate_files(made, kept=None, replace=False):
    """Return what is to be written as C([{path, text}]). C(kept): group -> its baselines."""
    try:
        return records.files(plain(made), plain(kept), bool(replace))
    except records.RecordError as error:
        raise AnsibleFilterError(f"evaluate_files: {error}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_files": evaluate_files}
