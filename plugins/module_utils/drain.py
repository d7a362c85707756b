# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep new connections away from a port while those that are there go on: an nftables table of our own.

The table rejects the first packet of a TCP connection (SYN without ACK) that comes in for one of the ports of a set, except over loopback, so
that the node still sees how many requests are left. Nothing that is established is touched, nor any table of anybody else. The entries of the
set expire by themselves: whoever is killed in the middle leaves nothing that lasts.
"""

from __future__ import annotations

import json
import os
import subprocess

TABLE = "ascend_vllm_drain"
#: Before the usual filters (priority 0), so that what they accept is seen here first.
RULES = """
table inet %(table)s {
    set ports { type inet_service; flags timeout; }
    chain input {
        type filter hook input priority -10; policy accept;
        iifname != "lo" tcp dport @ports tcp flags & (syn | ack) == syn reject with tcp reset
    }
}
"""


class DrainError(Exception):
    """nftables cannot be used here; the text says why."""


class NoNft(DrainError):
    """nftables is not installed here, so that nothing can be kept away, nor is."""


def run_nft(arguments, script=None, nft="nft"):
    """Return (exit status, output, errors) of one call."""
    # A shell for another user may not look where the system's own programs are.
    places = os.pathsep.join([os.environ.get("PATH") or os.defpath, "/usr/local/sbin", "/usr/sbin", "/sbin"])
    try:
        # No AnsibleModule here to run a command by.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            [nft] + arguments, input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=20, check=False,
            env=dict(os.environ, PATH=places, LC_ALL="C"))
    except FileNotFoundError as error:
        raise NoNft("nft is not installed here") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrainError("nft cannot be run: %s" % error) from error
    return done.returncode, done.stdout, done.stderr


def table_is_there(nft=run_nft):
    """Return whether the table is there."""
    status, dummy, errors = nft(["list", "table", "inet", TABLE])
    if status != 0 and "No such file or directory" not in errors:
        raise refusal(errors)
    return status == 0


def refusal(errors):
    """Return what nft said as an error to raise."""
    return DrainError("nft refuses: %s" % (" ".join(errors.split())[:300] or "it does not say why"))


def kept_away(nft=run_nft):
    """Return the ports that are in the set now."""
    if not table_is_there(nft):
        return []
    status, out, errors = nft(["-j", "list", "set", "inet", TABLE, "ports"])
    if status != 0:
        raise refusal(errors)
    ports = []
    try:
        for entry in json.loads(out)["nftables"]:
            for element in (entry.get("set") or {}).get("elem") or []:
                ports.append(element["elem"]["val"] if isinstance(element, dict) else element)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DrainError("nft -j said what is not understood: %s" % out[:200]) from error
    return ports


def element_gone(port):
    """Return the lines that leave an entry out: there first, because an entry that has expired by now cannot be deleted."""
    entry = "element inet %s ports { %d }\n" % (TABLE, port)
    return "add %sdelete %s" % (entry, entry)


def keep_away(port, seconds, nft=run_nft):
    """Reject new connections to a port for so many seconds at most; return whether that is new."""
    there, script = port in kept_away(nft), ""
    if not there and not table_is_there(nft):
        script = RULES % {"table": TABLE}
    # An entry that is there would keep its old time.
    script += element_gone(port) + "add element inet %s ports { %d timeout %ds }\n" % (TABLE, port, seconds)
    status, dummy, errors = nft(["-f", "-"], script)
    if status != 0:
        raise refusal(errors)
    return not there


def let_in(port, nft=run_nft):
    """Let new connections to a port in again, and remove the table with its last port; return whether anything was to be done."""
    if not table_is_there(nft):
        return False
    ports = kept_away(nft)
    left = [other for other in ports if other != port]
    if left and port not in ports:
        return False
    status, dummy, errors = nft(["-f", "-"], element_gone(port) if left else "delete table inet %s\n" % TABLE)
    if status != 0:
        raise refusal(errors)
    return True
