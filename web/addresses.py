"""Where requests come from: addresses, networks, and what proxies say of both. Pure."""

import ipaddress
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def source_address(peer: str, forwarded: str, trusted: Collection[Network]) -> str:
    """Return where a request came from: the nearest address that is no trusted proxy.

    ``forwarded`` is the header X-Forwarded-For. What an untrusted peer says there doesn't count;
    what can't be read ends the search at the proxy that sent it.
    """
    nearest = _address(peer)
    if nearest is None:
        return ""
    for entry in reversed(forwarded.split(",")):
        if not any(nearest in network for network in trusted):
            break
        before = _address(_without_port(entry.strip()))
        if before is None:
            break
        nearest = before
    return str(nearest)


def is_trusted(peer: str, trusted: Collection[Network]) -> bool:
    """Tell whether a request comes from a trusted proxy itself."""
    address = _address(peer)
    return address is not None and any(address in network for network in trusted)


def networks_of(text: str) -> tuple[Network, ...]:
    """Return addresses and networks, separated by commas. Raises ValueError."""
    return tuple([ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip()])


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(entry: str) -> str:
    """Return an entry's address; some proxies add the port, to an IPv6 address in brackets."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
