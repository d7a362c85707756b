# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that turns a report into what its page shows, escaped for HTML."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.pages import html_safe, report_view


def page_view(report):
    """Return what the page shows, every text of it escaped."""
    return html_safe(report_view(report))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"report_view": page_view}
