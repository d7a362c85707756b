# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what evaluate or benchmark was asked for, converted and checked."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def client_request(stated, verb, data_dirs=()):
    """Return C({settings, client, checks}); C(stated): the role's variables without its prefix."""
    data, problems = clients.load([str(folder) for folder in data_dirs])
    if problems:
        return {"settings": {}, "client": {}, "checks": problems}
    settings, checks = clients.read(str(verb), plain(stated), data)
    return {"settings": settings, "client": clients.told(settings, data), "checks": checks}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"client_request": client_request}
