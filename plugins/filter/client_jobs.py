# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the runs of a client."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients, data, proxies
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def client_jobs(settings, name, plan, context, data_dirs=()):
    """Return the runs of a client against a group of the plan, in order."""
    folders = [str(folder) for folder in data_dirs]
    entry = proxies.measured(plain(plan))[str(name)]
    unit = next(plain(unit) for unit in plan["hosts"][entry["head"]]["units"] if unit["group"] == name)
    needed = clients.npus_needed(entry, data.load_all(folders, ("recipes",))[0]["recipes"])
    return clients.jobs(plain(settings), str(name), entry, unit, {**plain(context), "needed": needed}, clients.load(folders)[0])


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"client_jobs": client_jobs}
