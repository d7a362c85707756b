# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what keeps a client from being run."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def client_checks(said, group, settings, command, data_dirs=()):
    """Return a failed check for each problem of what evaluation_info answered."""
    data = clients.load([str(folder) for folder in data_dirs])[0]
    return clients.service_checks(plain(said), plain(group), plain(settings), data, plain(command))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"client_checks": client_checks}
