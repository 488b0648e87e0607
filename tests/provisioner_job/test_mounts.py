"""What is mounted is read as it was meant, and a missing key is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.operation import Server
from api.reasons import Reason
from provisioner_job.errors import Failure
from provisioner_job.mounts import Mounts

SERVER = Server("main", "db.example", 5432, "postgres")


def mounted(folder: Path, **files: str) -> Mounts:
    """A folder with `credentials` and what else is given, as `folder__file="content"`."""
    files = {"credentials__username": "admin", "credentials__password": "top secret"} | files
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())
    return Mounts(str(folder))


def test_a_login_has_what_is_there(tmp_path: Path) -> None:
    login = mounted(tmp_path).login(SERVER)

    assert (login.username, login.password) == ("admin", "top secret")
    assert login.ca_file is None
    assert login.client_certificate is None


def test_ca_and_client_certificate_are_paths(tmp_path: Path) -> None:
    files = {"ca__ca.crt": "c", "client__tls.crt": "t", "client__tls.key": "k"}
    login = mounted(tmp_path, **files).login(SERVER)

    assert login.ca_file == str(tmp_path / "ca/ca.crt")
    assert login.client_certificate == (str(tmp_path / "client/tls.crt"), str(tmp_path / "client/tls.key"))


def test_the_last_newline_of_a_file_is_not_part_of_a_password(tmp_path: Path) -> None:
    login = mounted(tmp_path, credentials__password=" a\rb \r\n").login(SERVER)

    assert login.password == " a\rb "


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_password_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(Failure, match="key password of the endpoint's credentials Secret is empty") as failure:
        mounted(tmp_path, credentials__password=content).login(SERVER)

    assert failure.value.reason is Reason.ENDPOINT_INVALID


def test_bytes_that_are_no_text_are_named_and_not_shown(tmp_path: Path) -> None:
    mounts = mounted(tmp_path)
    (tmp_path / "credentials/password").write_bytes(b"secret\xff")

    with pytest.raises(Failure, match="not UTF-8") as failure:
        mounts.login(SERVER)

    assert "secret\\" not in repr(failure.value)


def test_half_a_client_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"both keys tls\.crt and tls\.key"):
        mounted(tmp_path, **{"client__tls.crt": "t"}).login(SERVER)


def test_a_generated_password_that_is_not_mounted_is_the_operators_fault(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        mounted(tmp_path).generated()

    assert failure.value.reason is Reason.OPERATION_INVALID
    assert mounted(tmp_path, generated__password="g").generated() == {"password": "g"}
