"""Data source names such as `postgres://user:password@host/database`, read into an endpoint and its Secret.

No message quotes a DSN, because each holds a password. What a DSN asks for is done or refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_plus

from api.engines import Driver
from api.kinds import TlsMode
from api.labels import LABEL_ENDPOINT_CREDENTIALS, PASSWORD_KEY, USERNAME_KEY
from api.resources import ENDPOINTS, SECRETS

SCHEMES = {
    "postgres": Driver.POSTGRES,
    "postgresql": Driver.POSTGRES,
    "mariadb": Driver.MARIADB,
    "mysql": Driver.MYSQL,
    "sqlserver": Driver.SQLSERVER,
}
_FORM = "write driver://user:password@host:port/database with driver postgres, mariadb, mysql or sqlserver"
_ENCODE = "percent-encode @ : / ? # and % in user name and password (%40 %3A %2F %3F %23 %25)"


class DsnError(ValueError):
    """A DSN that is refused; the message says the cure and quotes neither the DSN nor anything secret."""


class Concealed(str):
    """A secret text that does not show when the object that holds it is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


@dataclass(frozen=True, slots=True)
class Dsn:
    """What a DSN says; absent parts are the engine's defaults."""

    driver: Driver
    host: str
    """A DNS name or an IP address; IPv6 without brackets."""
    port: int | None
    database: str | None
    username: str
    password: str = field(repr=False)
    tls_mode: TlsMode = "VerifyFull"
    server_name: str | None = None
    """The name that the certificate must carry when it is not `host`."""


def parse_dsn(text: str) -> Dsn:
    """Read a DSN; raises DsnError."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        _refuse_form(text)
    driver = SCHEMES.get(scheme.lower())
    if driver is None:
        raise DsnError(f"the driver before :// is unknown; {_FORM}")
    authority, path, query = _split(rest)
    username, password, server = _credentials(authority)
    host, port = _host_and_port(server)
    options = _options(query)
    database = _database(driver, path, options)
    tls_mode, server_name = _tls(driver, options)
    return Dsn(driver, host, port, database, username, password, tls_mode, server_name)


def endpoint_manifests(name: str, class_name: str, dsn: Dsn, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The DatabaseEndpoint that a DSN declares, and its credentials Secret in the operator's `namespace`."""
    secret_name = f"{name}-endpoint-credentials"
    spec: dict[str, Any] = {
        "className": class_name,
        "host": dsn.host,
        "credentialsSecretRef": {"name": secret_name},
    }
    if dsn.port is not None:
        spec["port"] = dsn.port
    if dsn.database is not None:
        spec["database"] = dsn.database
    tls: dict[str, str] = {} if dsn.tls_mode == "VerifyFull" else {"mode": dsn.tls_mode}
    if dsn.server_name is not None:
        tls["serverName"] = dsn.server_name
    if tls:
        spec["tls"] = tls
    endpoint = {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    secret = {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": secret_name,
            "namespace": namespace,
            "labels": {LABEL_ENDPOINT_CREDENTIALS: "true"},
        },
        "type": "Opaque",
        "stringData": {USERNAME_KEY: Concealed(dsn.username), PASSWORD_KEY: Concealed(dsn.password)},
    }
    return endpoint, secret


_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?"
)
_GO_MYSQL = re.compile(r"@(tcp|unix)\(")
_OPTION_NAME = re.compile(r"[A-Za-z][A-Za-z _.-]{0,39}")
_ON = frozenset({"true", "yes", "1", "mandatory", "strict"})
_OFF = frozenset({"false", "no", "0", "disable", "disabled", "optional"})


def _refuse_form(text: str) -> NoReturn:
    if _GO_MYSQL.search(text):
        raise DsnError("this is the form of Go's MySQL driver; write mysql://user:password@host:3306/database")
    raise DsnError(f"this is no DSN; {_FORM}")


def _split(rest: str) -> tuple[str, str, str]:
    """User and server, path, query. An `@` behind the server means that the password was cut in two."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if "@" in tail or "#" in tail:
        raise DsnError(f"a character stands where it ends the user name or the password; {_ENCODE}")
    path, _, query = tail.partition("?")
    return authority, path, query


def _credentials(authority: str) -> tuple[str, str, str]:
    if _GO_MYSQL.search(authority):
        raise DsnError("host and port stand in tcp(…), the form of Go's MySQL driver; write user:password@host:3306")
    userinfo, at, server = authority.rpartition("@")
    username, colon, password = userinfo.partition(":")
    if not at or not username:
        raise DsnError(f"the user name is missing; {_FORM}, and {_ENCODE}")
    if not colon or not password:
        raise DsnError(f"the password is missing; {_FORM}")
    return _decoded(username, "user name"), _decoded(password, "password"), server


def _decoded(text: str, what: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise DsnError(f"the {what} has a % that begins no percent-encoding; write %25 for it")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DsnError(f"the {what} is not UTF-8 once it is decoded; percent-encode its UTF-8 bytes") from None
    if "\0" in decoded:
        raise DsnError(f"the {what} contains a NUL character; no server takes one")
    return decoded


def _host_and_port(server: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", server, re.DOTALL)
    host, port = bracketed.groups() if bracketed else (server.partition(":")[::2])
    if not host:
        raise DsnError(f"the host is missing; {_FORM}")
    if not (_is_ipv6(host) if bracketed else _HOST_NAME.fullmatch(host.lower())):
        raise DsnError(
            "the host is neither a DNS name nor an IP address (IPv6 in brackets); "
            "sockets and lists of hosts are not supported"
        )
    if not port:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise DsnError("the port is no number from 1 to 65535")
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address) and "%" not in text
    except ValueError:
        return False


def _options(query: str) -> dict[str, str]:
    """Query options by lower-case name, without spaces as SQL Server's drivers write them."""
    options: dict[str, str] = {}
    for term in filter(None, query.split("&")):
        name, _, value = term.partition("=")
        key = unquote_plus(name)
        if not _OPTION_NAME.fullmatch(key):
            raise DsnError(f"an option after ? has no name; {_ENCODE}")
        canonical = key.lower().replace(" ", "")
        if canonical in options:
            raise DsnError(f"the option {key} is given twice; keep one")
        options[canonical] = unquote_plus(value)
    return options


def _database(driver: Driver, path: str, options: dict[str, str]) -> str | None:
    named = _decoded(path.removeprefix("/"), "database name")
    if driver is Driver.SQLSERVER:
        if "/" in path.removeprefix("/"):
            raise DsnError("named instances are not supported; leave the instance out and give its port instead")
        option = options.pop("database", named)
        if named and option != named:
            raise DsnError("the path and the option database name two databases; keep one")
        named = option
    elif "/" in path.removeprefix("/"):
        raise DsnError("there is more than one / after the host; percent-encode / in the database name (%2F)")
    return named or None


@dataclass(frozen=True, slots=True)
class _TlsOption:
    """Which values of an option keep TLS as strict as an endpoint's default, and which ask for less."""

    accepted: Mapping[str, TlsMode]
    refused: frozenset[str]
    cure: str


_FULL: TlsMode = "VerifyFull"
_SSLMODE = _TlsOption(
    {"verify-full": "VerifyFull", "verify_identity": "VerifyFull", "verify-ca": "VerifyCA", "verify_ca": "VerifyCA"},
    _OFF | {"allow", "prefer", "preferred", "require", "required"},
    "leave it out or write verify-full",
)
_TLS_OPTIONS: dict[Driver, dict[str, _TlsOption]] = {
    Driver.POSTGRES: {"sslmode": _SSLMODE},
    Driver.SQLSERVER: {
        "encrypt": _TlsOption(dict.fromkeys(_ON, _FULL), _OFF, "leave it out or write true"),
        "trustservercertificate": _TlsOption(dict.fromkeys(_OFF, _FULL), _ON, "leave it out or write false"),
    },
    Driver.MYSQL: {
        "tls": _TlsOption(
            dict.fromkeys(("true", "1"), _FULL), _OFF | {"skip-verify", "preferred"}, "leave it out or write true"
        ),
        "sslmode": _SSLMODE,
        "ssl-mode": _SSLMODE,
    },
}
_TLS_OPTIONS[Driver.MARIADB] = _TLS_OPTIONS[Driver.MYSQL]
_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslca", "ssl-ca", "ssl-cert", "ssl-key", "certificate"})


def _tls(driver: Driver, options: dict[str, str]) -> tuple[TlsMode, str | None]:
    """The TLS mode and server name that the options ask for; refuses every option that it does not know."""
    server_name = options.pop("hostnameincertificate", None) if driver is Driver.SQLSERVER else None
    if server_name is not None and not _HOST_NAME.fullmatch(server_name.lower()):
        raise DsnError("the option hostNameInCertificate is no DNS name; write the name in the certificate")
    known = _TLS_OPTIONS[driver]
    mode: TlsMode = "VerifyFull"
    for name, value in options.items():
        option = known.get(name)
        if option is None:
            _refuse_option(name, known)
        asked = option.accepted.get(value.lower())
        if asked is None:
            # Only a value that is known can be shown: another may be anything.
            shown = f"{name}={value.lower()} asks" if value.lower() in option.refused else f"{name} may ask"
            raise DsnError(f"the option {shown} for less than verified TLS; {option.cure}")
        mode = asked if asked != "VerifyFull" else mode
    return mode, server_name


def _refuse_option(name: str, known: Mapping[str, _TlsOption]) -> NoReturn:
    if name in _FILES:
        raise DsnError(
            f"the option {name} names a file; put certificates into a Secret and name it in the endpoint's tls"
        )
    raise DsnError(f"the option {name} is not supported; known are {', '.join(known)}")
