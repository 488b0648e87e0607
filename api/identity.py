"""What names a database on its server, as servers confuse names, and the instance name that follows from it.

Errs towards calling two names one: then the second Database is refused, while the opposite error would hand one
Database to two owners.
"""

from __future__ import annotations

import json
import unicodedata
from base64 import b32encode
from hashlib import sha256
from ipaddress import ip_address

from api.engines import Engine

INSTANCE_PREFIX = "db-"
_HASH_LENGTH = 26
"""Base32 characters: 130 bits."""
_IGNORED = frozenset({"Mn", "Me", "Cf"})
"""Unicode categories that collations ignore: accents and other marks, invisible format characters."""


def normalise(identity: str) -> str:
    """The form in which names that some server takes for one are equal; idempotent.

    NFKC, case folded, without accents, invisible characters and trailing spaces.
    """
    previous = None
    # Folding can undo a composition and composition a folding: repeated until nothing changes.
    while identity != previous:
        previous = identity
        decomposed = unicodedata.normalize("NFKD", identity.casefold())
        bare = "".join(c for c in decomposed if unicodedata.category(c) not in _IGNORED)
        # Turkish collations fold I to the dotless i, all others to the dotted one.
        identity = unicodedata.normalize("NFKC", bare).replace("ı", "i").rstrip(" ")
    return identity


def length(text: str, engine: Engine) -> int:
    """How long `text` is as an identifier, in the engine's units."""
    match engine.identifier_unit:
        case "bytes":
            return len(text.encode())
        case "utf16":
            return len(text.encode("utf-16-le")) // 2
    return len(text)


def too_long(identity: str, engine: Engine) -> bool:
    """Whether the engine would cut or refuse `identity` as an identifier."""
    return length(identity, engine) > engine.identifier_limit


def described_length(text: str, engine: Engine) -> str:
    """How long `text` is, in words: `71 bytes`."""
    unit = "UTF-16 units" if engine.identifier_unit == "utf16" else engine.identifier_unit
    return f"{length(text, engine)} {unit}"


def cut(identity: str, engine: Engine) -> str:
    """`identity` as far as the engine looks at it, never with half a character at the end."""
    limit = engine.identifier_limit
    match engine.identifier_unit:
        case "bytes":
            return identity.encode()[:limit].decode(errors="ignore")
        case "utf16":
            return identity.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", errors="ignore")
    return identity[:limit]


def instance_name(family: str, host: str, port: int, identity: str) -> str:
    """The name of the DatabaseInstance that claims `identity` on a server: a DNS label beginning with a letter.

    Whatever `normalise` and `normalise_host` make equal has one name.
    """
    # JSON, so that no two different lists give one text.
    server = json.dumps([family, normalise_host(host), port, normalise(identity)])
    digest = b32encode(sha256(server.encode()).digest()).decode("ascii")
    return INSTANCE_PREFIX + digest[:_HASH_LENGTH].lower()


def normalise_host(host: str) -> str:
    """One spelling for a host: lower case, no trailing dot, an IP address bare and in its shortest form."""
    bare = host.lower().removesuffix(".")
    address = bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare
    try:
        return ip_address(address).compressed
    except ValueError:
        return bare
