# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the new connections of one port of this host to another port of it while those that are there go on: an nftables table of our own.

The table changes where the first packet of a TCP connection (SYN without ACK) goes that is for this host, whoever it comes from. The kernel keeps to
that for the rest of the connection (conntrack), also when the table is gone, and never asks the table for a connection that began before. The entry
expires by itself: whoever is killed in the middle leaves nothing that lasts. At C(ITSELF) the host reaches the first port all the same.
"""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.module_utils.drain import refusal, run_nft

FAMILY, TABLE = "ip", "ascend_vllm_handover"
#: One of the host's own loopback addresses, which nobody else asks.
ITSELF = "127.83.0.1"
#: Before the destination changes of others, such as those of a Docker engine (priority -100).
RULES = """
table %(family)s %(table)s {
    map ports { type inet_service : inet_service; flags timeout; elements = { %(port)d timeout %(seconds)ds : %(to)d } }
    chain prerouting {
        type nat hook prerouting priority -110; policy accept;
        fib daddr type local tcp flags & (syn | ack) == syn redirect to :tcp dport map @ports
    }
    chain output {
        type nat hook output priority -110; policy accept;
        ip daddr != %(itself)s fib daddr type local tcp flags & (syn | ack) == syn redirect to :tcp dport map @ports
    }
}
"""


def gone():
    """Return the lines that leave the table out, whether it is there or not."""
    return "table %s %s { }\ndelete table %s %s\n" % (FAMILY, TABLE, FAMILY, TABLE)


def is_there(nft=run_nft):
    """Return whether the table is there; raises drain.DrainError where nft cannot be used."""
    status, dummy, errors = nft(["list", "table", FAMILY, TABLE])
    if status != 0 and "No such file or directory" not in errors:
        raise refusal(errors)
    return status == 0


def send_on(port, to, seconds, nft=run_nft):
    """Send new connections to C(port) on to C(to), for so many seconds at most; an earlier word about that is replaced."""
    script = gone() + RULES % {"family": FAMILY, "table": TABLE, "port": port, "to": to, "seconds": seconds, "itself": ITSELF}
    status, dummy, errors = nft(["-f", "-"], script)
    if status != 0:
        raise refusal(errors)


def take_back(nft=run_nft):
    """Send nobody on any more; return whether somebody was."""
    if not is_there(nft):
        return False
    status, dummy, errors = nft(["-f", "-"], gone())
    if status != 0:
        raise refusal(errors)
    return True
