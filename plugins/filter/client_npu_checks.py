# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what keeps an engine of its own from the NPUs of a node."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients, data
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def client_npu_checks(group, unit, said, inventory, data_dirs=()):
    """Return a failed check for each problem: the size of the model, and who holds the NPUs."""
    recipes = data.load_all([str(folder) for folder in data_dirs], ("recipes",))[0]["recipes"]
    entry = plain(group)
    needed = clients.npus_needed(entry, recipes)
    return clients.npu_checks(entry, plain(unit), plain(said["artefacts"]["device_containers"]), plain(said["npus"]), plain(said["settings"]), needed,
                              plain(inventory))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"client_npu_checks": client_npu_checks}
