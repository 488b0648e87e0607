"""DSNs: what they declare, what they may not ask for, and that nothing of them leaks."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dsn import Dsn, DsnError, endpoint_manifests, parse_dsn
from api.engines import Driver
from api.kinds import DatabaseEndpoint

PASSWORD = "s3cr3t-Pa55"


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        (
            "sqlserver://sa:Password&1@192.168.49.1:1433/master",
            Dsn(Driver.SQLSERVER, "192.168.49.1", 1433, "master", "sa", "Password&1"),
        ),
        (
            "postgres://postgres:Password&1@localhost:5432/postgres",
            Dsn(Driver.POSTGRES, "localhost", 5432, "postgres", "postgres", "Password&1"),
        ),
        ("mariadb://root:pw@db.example.org/mysql", Dsn(Driver.MARIADB, "db.example.org", None, "mysql", "root", "pw")),
        ("mysql://root:pw@db:3306", Dsn(Driver.MYSQL, "db", 3306, None, "root", "pw")),
        ("postgresql://u:p%40s%3As%2F%25@h/", Dsn(Driver.POSTGRES, "h", None, None, "u", "p@s:s/%")),
        ("postgres://u:a+b:c@h/my%20db", Dsn(Driver.POSTGRES, "h", None, "my db", "u", "a+b:c")),
        ("postgres://u:p@ss@h/", Dsn(Driver.POSTGRES, "h", None, None, "u", "p@ss")),
        ("postgres://u:p@[2001:db8::1]:5433/d", Dsn(Driver.POSTGRES, "2001:db8::1", 5433, "d", "u", "p")),
        ("postgres://u:p@h/d?sslmode=verify-full", Dsn(Driver.POSTGRES, "h", None, "d", "u", "p")),
        ("postgres://u:p@h/d?sslmode=verify-ca", Dsn(Driver.POSTGRES, "h", None, "d", "u", "p", "VerifyCA")),
        ("mysql://u:p@h/d?tls=true", Dsn(Driver.MYSQL, "h", None, "d", "u", "p")),
        ("mysql://u:p@h/d?ssl-mode=VERIFY_IDENTITY", Dsn(Driver.MYSQL, "h", None, "d", "u", "p")),
        (
            "sqlserver://u:p@h?database=x&encrypt=strict&TrustServerCertificate=no&HostNameInCertificate=db.example.org",
            Dsn(Driver.SQLSERVER, "h", None, "x", "u", "p", "VerifyFull", "db.example.org"),
        ),
    ],
)
def test_a_dsn_reads(text: str, dsn: Dsn) -> None:
    assert parse_dsn(text) == dsn
    assert parse_dsn(text).password == dsn.password


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no DSN"),
        (f"host=h user=u password={PASSWORD}", "no DSN"),
        (f"u:{PASSWORD}@tcp(h:3306)/", "mysql://user:password@host:3306/database"),
        (f"mysql://u:{PASSWORD}@tcp(h:3306)/d", "user:password@host:3306"),
        (f"oracle://u:{PASSWORD}@h/d", "unknown"),
        ("postgres://u@h/d", "password is missing"),
        ("postgres://u:@h/d", "password is missing"),
        (f"postgres://:{PASSWORD}@h/d", "user name is missing"),
        ("postgres://h/d", "user name is missing"),
        (f"postgres://u:{PASSWORD}@/d", "host is missing"),
        (f"postgres://u:{PASSWORD}@:5432/d", "host is missing"),
        (f"postgres://u:{PASSWORD}@%2Fvar%2Frun/d", "host is neither"),
        (f"postgres://u:{PASSWORD}@a,b/d", "host is neither"),
        (f"postgres://u:{PASSWORD}@[fe80::1%25eth0]/d", "host is neither"),
        (f"postgres://u:{PASSWORD}@h:0/d", "port is no number"),
        (f"postgres://u:{PASSWORD}@h:65536/d", "port is no number"),
        (f"postgres://u:x/{PASSWORD}@h/d", "percent-encode"),
        (f"postgres://u:x?{PASSWORD}@h/d", "percent-encode"),
        (f"postgres://u:x#{PASSWORD}@h/d", "percent-encode"),
        (f"postgres://u:x@y?{PASSWORD}=1@h/d", "percent-encode"),
        (f"postgres://u:{PASSWORD}%zz@h/d", "%25"),
        (f"postgres://u:{PASSWORD}%ff@h/d", "UTF-8"),
        (f"postgres://u:{PASSWORD}%00@h/d", "NUL"),
        (f"postgres://u:{PASSWORD}@h/a/b", "%2F"),
        (f"sqlserver://u:{PASSWORD}@h/instance/db", "named instances"),
        (f"sqlserver://u:{PASSWORD}@h/a?database=b", "two databases"),
        (f"postgres://u:{PASSWORD}@h/d?sslmode=disable", "sslmode=disable asks for less than verified TLS"),
        (f"postgres://u:{PASSWORD}@h/d?sslmode=require", "write verify-full"),
        (f"postgres://u:{PASSWORD}@h/d?sslmode=other", "sslmode may ask"),
        (f"postgres://u:{PASSWORD}@h/d?sslrootcert=/ca.pem", "put certificates into a Secret"),
        (f"postgres://u:{PASSWORD}@h/d?application_name=x", "application_name is not supported"),
        (f"postgres://u:{PASSWORD}@h/d?sslmode=verify-full&sslmode=disable", "twice"),
        (f"sqlserver://u:{PASSWORD}@h?encrypt=disable", "encrypt=disable asks"),
        (f"sqlserver://u:{PASSWORD}@h?Encrypt=false", "encrypt=false asks"),
        (f"sqlserver://u:{PASSWORD}@h?Trust+Server+Certificate=true", "trustservercertificate=true asks"),
        (f"sqlserver://u:{PASSWORD}@h?hostNameInCertificate=a/b", "no DNS name"),
        (f"mysql://u:{PASSWORD}@h/d?tls=skip-verify", "tls=skip-verify asks"),
        (f"mariadb://u:{PASSWORD}@h/d?tls=false", "tls=false asks"),
        (f"mysql://u:{PASSWORD}@h/d?tls=preferred", "tls=preferred asks"),
        (f"mysql://u:{PASSWORD}@h/d?=x", "no name"),
    ],
)
def test_a_dsn_is_refused_with_the_cure_and_without_its_password(text: str, words: str) -> None:
    with pytest.raises(DsnError) as refusal:
        parse_dsn(text)

    assert words in str(refusal.value)
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__cause__ is None


@given(st.text(min_size=1).filter(lambda text: "\0" not in text), st.text(min_size=1).filter(lambda t: "\0" not in t))
def test_every_user_name_and_password_can_be_encoded(username: str, password: str) -> None:
    dsn = parse_dsn(f"postgres://{quote(username, safe='')}:{quote(password, safe='')}@h/d")

    assert (dsn.username, dsn.password) == (username, password)


@given(st.text("abc:/?#@%[]&=+().\n ", max_size=30), st.sampled_from(["postgres", "mysql", "sqlserver"]))
def test_any_text_is_a_dsn_or_a_dsn_error(rest: str, scheme: str) -> None:
    try:
        dsn = parse_dsn(f"{scheme}://{rest}")
    except DsnError:
        return
    assert dsn.username
    assert dsn.password
    assert dsn.host


def test_a_dsn_declares_an_endpoint_and_its_labelled_secret() -> None:
    dsn = parse_dsn(f"postgres://admin:{PASSWORD}@db.example.org:5433/app?sslmode=verify-ca")
    endpoint, secret = endpoint_manifests("eu", "small", dsn, "dbaas-system")

    parsed = DatabaseEndpoint.parse(endpoint)
    assert (parsed.class_name, parsed.host, parsed.port, parsed.database) == ("small", "db.example.org", 5433, "app")
    assert parsed.tls.mode == "VerifyCA"
    assert parsed.credentials_secret == secret["metadata"]["name"]
    assert secret["metadata"]["namespace"] == "dbaas-system"
    assert secret["metadata"]["labels"] == {"dbaas.bedag.ch/endpoint-credentials": "true"}
    assert json.loads(json.dumps(secret))["stringData"] == {"username": "admin", "password": PASSWORD}


def test_what_a_dsn_leaves_out_stays_with_the_defaults() -> None:
    endpoint, _ = endpoint_manifests("eu", "small", parse_dsn("mysql://u:p@h"), "dbaas-system")

    assert endpoint["spec"].keys() == {"className", "host", "credentialsSecretRef"}


def test_a_password_does_not_show_when_dsn_or_secret_are_printed() -> None:
    dsn = parse_dsn(f"postgres://u:{PASSWORD}@h/d")

    assert PASSWORD not in f"{dsn} {dsn!r} {endpoint_manifests('a', 'b', dsn, 'c')}"
