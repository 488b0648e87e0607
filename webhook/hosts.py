"""Hosts: what a name or address must be, beyond its characters, so that it names one server and no other."""

from __future__ import annotations

import re
from ipaddress import ip_address

_LABEL_LIMIT = 63
"""Characters: RFC 1035, 2.3.4."""
_LAST_LABEL_OF_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)")


def host_fault(host: str) -> str | None:
    """What keeps a host of the right characters from being a name or an address, in words; None when nothing does."""
    if ":" in host:
        return None if _is_address(host) else "is no IPv6 address; write it as in 2001:db8::1"
    # Resolvers read 10.1 as 10.0.0.1 and 010.0.0.1 as 8.0.0.1; a certificate carries neither.
    if _LAST_LABEL_OF_A_NUMBER.fullmatch(host):
        return None if _is_address(host) else "is no IPv4 address, and a name does not end in a number; write 10.0.0.1"
    if long := next((label for label in host.split(".") if len(label) > _LABEL_LIMIT), None):
        return f"has a part of {len(long)} characters between its dots; DNS allows {_LABEL_LIMIT}"
    return None


def is_loopback(host: str) -> bool:
    """Whether a host is the machine itself, which for a Job is its own Pod."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    return _is_address(host) and ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
