# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the runs of a client as lines."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def job_lines(jobs):
    """Return, for a person, what would be run."""
    return clients.lines(plain(jobs))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"job_lines": job_lines}
