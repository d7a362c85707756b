# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: say which hosts a play of a verb runs on."""

from __future__ import annotations

#: Word -> the fact on localhost that names the hosts, and the key in there.
PLACES = {"discover": ("plan_request", "discover"), "nodes": ("plan_nodes", None), "heads": ("plan_heads", None)}
#: A pattern that matches no host and, unlike an empty one, is no error.
NOBODY = ["all", "!all"]


def verb_hosts(hostvars, which: str):
    """Return the hosts of a play, as its C(hosts).

    A play's hosts are computed by Ansible's own process. Using a filter of this collection there loads the filters once, for all the
    workers that are made from it, which otherwise load them anew for every task on every host (0.1 s each).
    """
    if which == "controller" or not hostvars:
        # A syntax check has no inventory, and so no hostvars.
        return "localhost"
    if which == "proxies":
        proxies = hostvars["localhost"]["plan_result"]["plan"].get("proxies") or {}
        return list(dict.fromkeys(proxy["host"] for proxy in proxies.values())) or NOBODY
    fact, key = PLACES[which]
    found = hostvars["localhost"][fact]
    return list(found[key] if key else found) or NOBODY


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"verb_hosts": verb_hosts}
