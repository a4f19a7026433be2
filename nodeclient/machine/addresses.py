"""Where a task's connection may lead: to addresses of the public internet, and nowhere near here.

A name is its owner's to point anywhere, also at this Pi, at its network or at the cable. So not the
name is judged but every address behind it, and the connection is made to an address that was
judged, not to the name again (DNS rebinding).

Source: RFC 6890 and the IANA registries of special-purpose addresses, as Python's ``ipaddress``
knows them; RFC 4291, RFC 6052, RFC 3056 and RFC 4380 for IPv6 that carries an IPv4 address.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from agent.formats.netboot import PI_ADDRESS, PREFIX

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CABLE = ip_network(f"{PI_ADDRESS}/{PREFIX}", strict=False)
_GLOBAL6 = IPv6Network("2000::/3")
# A router behind this Pi may turn these into the IPv4 address inside, of whatever kind that is.
_CARRIERS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))


def may_lead_to(address: Address, permitted: Iterable[Network]) -> bool:
    """Whether it is a global unicast address, or in a network that the operator permits besides.

    The cable is neither, whatever is permitted.
    """
    address = plain(address)
    if address in _CABLE:
        return False
    if any(address in network for network in permitted):
        return True
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return True
    return address in _GLOBAL6 and not any(address in network for network in _CARRIERS)


def plain(address: Address) -> Address:
    """The IPv4 address that stands in an IPv6 one (RFC 4291, 2.5.5.2), or the address itself."""
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return inner or address


def is_own(address: Address) -> bool:
    """Whether this host has the address: it would then be the sender, too. Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:  # nowhere to go: whoever dials finds that out
            return False
        return str(probe.getsockname()[0]) == str(address)
