# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How nodes reach each other to copy weights, from what each said."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.findings import copy_nodes

SAID = ["user=ops", "until=202601020304", "rrsync=/usr/bin/rrsync", "key=ssh-ed25519 AAAA", "key=ssh-rsa BBBB="]
HOSTVARS = {"a": {"weights_sync_asked": {"stdout_lines": SAID}}, "b": {"weights_sync_asked": {"stdout_lines": SAID[:4]}, "ansible_port": "2222"}}
ADDRESSES = {"a": "198.51.100.11", "b": "198.51.100.12", "c": "198.51.100.13"}


def test_each_node_is_reached_at_its_own_address_port_and_account():
    found = copy_nodes(["a", "b"], HOSTVARS, ADDRESSES)
    assert found["a"] == {"name": "a", "address": "198.51.100.11", "port": 22, "user": "ops", "until": "202601020304", "rrsync": "/usr/bin/rrsync"}
    assert (found["b"]["address"], found["b"]["port"]) == ("198.51.100.12", 2222)


def test_every_host_key_is_in_known_hosts_with_the_port_where_it_is_not_22():
    assert copy_nodes(["a", "b"], HOSTVARS, ADDRESSES, "known_hosts").splitlines() == [
        "198.51.100.11 ssh-ed25519 AAAA", "198.51.100.11 ssh-rsa BBBB=", "[198.51.100.12]:2222 ssh-ed25519 AAAA"]
