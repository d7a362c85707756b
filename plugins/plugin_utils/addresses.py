# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv4 addresses and networks, by netaddr: the one place that uses it."""

from __future__ import annotations

try:
    import netaddr
except ImportError:
    netaddr = None


class MissingLibrary(RuntimeError):
    """netaddr is not installed on the controller."""


def require() -> None:
    """Raise MissingLibrary with the remedy if netaddr cannot be imported."""
    if netaddr is None:
        raise MissingLibrary(
            "the Python library netaddr is missing on the controller; remedy: pip install netaddr, with the Python that runs ansible-playbook"
        )


def is_ipv4(text: str) -> bool:
    """Return whether a text is an IPv4 address in its full dotted form."""
    return netaddr.valid_ipv4(text, flags=netaddr.INET_PTON)


def can_be_owned(text: str) -> bool:
    """Return whether an IPv4 address can belong to one host: not 0.x, multicast, reserved or broadcast."""
    address = netaddr.IPAddress(text)
    return not (
        address in netaddr.IPNetwork("0.0.0.0/8")
        or address.is_multicast()
        or address in netaddr.IPNetwork("240.0.0.0/4")
    )


def is_loopback(text: str) -> bool:
    """Return whether an IPv4 address never leaves its host."""
    return netaddr.IPAddress(text).is_loopback()


def network(text: str) -> str | None:
    """Return a CIDR without its host bits, or None if the text is none: the prefix has to be there."""
    address, slash, prefix = text.partition("/")
    if not slash or not is_ipv4(address) or not prefix.isdigit() or int(prefix) > 32:
        return None
    return str(netaddr.IPNetwork(text).cidr)


def inside(addresses: list, cidr: str) -> list:
    """Return those of the addresses that are in the network."""
    wanted = netaddr.IPNetwork(cidr)
    return [address for address in addresses if netaddr.IPAddress(address) in wanted]
