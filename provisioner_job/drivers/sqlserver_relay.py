"""Between the ODBC driver and the server: a relay in this process that makes one TLS promise for every driver.

Why not the drivers' own TLS: FreeTDS 1.3 accepts a server that encrypts the login alone (ENCRYPT_OFF), after which
everything is clear text, and tells nothing of the connection; Microsoft's driver knows no minimum version, and takes
a private authority from the environment only. Asking PRELOGIN once before the driver connects closes nothing: who sits
in between answers the second time differently. So the connection that was verified is the one that is used.

The driver's side is the loopback device of the Pod's own network namespace, without TLS: one connection is accepted,
and only from a socket that this very process holds. No secret is on it: the driver is given placeholders, and the
relay puts user name and password into the LOGIN7 message on its way to the verified server. Neither a driver's trace
file nor a connection string can hold the password, and no character of it needs quoting.

A server that sends the client on to another one (ENVCHANGE routing) is refused: the driver would go there by itself,
unverified.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import stat
import threading

from api.reasons import Reason
from provisioner_job.drivers import sqlserver_tds as tds
from provisioner_job.drivers.sqlserver_tls import Upstream, tls_failure
from provisioner_job.drivers.tls import Expectation
from provisioner_job.errors import Failure, shortened

_ACCEPT_SECONDS = 30.0
_LONGEST_LOGIN = 1 << 20


class _Ended(Exception):
    """One side has ended the connection."""


class Relay:
    """Listens on 127.0.0.1 for the one connection of a driver, and joins it to the server; a thread of its own."""

    def __init__(self, upstream: Upstream, account: tds.Account, expected: Expectation) -> None:
        self._upstream = upstream
        self._account = account
        self._expected = expected
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4)
        self._listener.settimeout(_ACCEPT_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self.fault: Failure | None = None
        """Why the relay, or the server's TLS, ended the connection."""
        self.cancelled = 0
        """How many replies the server has cut short because they were cancelled."""
        self.complete = True
        """Whether the server has answered to the end what it was asked last."""
        self._driver: socket.socket | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End both sides, whatever goes on; whoever waits for the server in the driver gets an error."""
        self._closed = True
        # The thread wakes up and closes them: a descriptor that is closed here could be another's there.
        for sock in (self._listener, self._driver, self._upstream.socket):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._driver = self._accepted()
            if not self._closed:
                self._log_in(self._driver)
                self._pump(self._driver)
        except (_Ended, EOFError):
            pass
        except tds.Unexpected as unexpected:
            self._fail(Failure(Reason.TLS_FAILED, f"{self._expected.where}: {unexpected}"))
        except ssl.SSLError as error:
            self._fail(tls_failure(error, self._expected, asked=False))
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            self._fail(Failure(Reason.CONNECTION_LOST, f"the connection to {self._expected.where}: {said}"))
        finally:
            self._listener.close()
            self._upstream.close()
            # Last of all, when `fault` says why.
            if self._driver is not None:
                self._driver.close()

    def _fail(self, failure: Failure) -> None:
        if not self._closed and self.fault is None:
            self.fault = failure

    def _accepted(self) -> socket.socket:
        while True:
            driver, peer = self._listener.accept()
            if _is_of_this_process(peer, self._listener.getsockname()):
                self._listener.close()
                driver.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return driver
            driver.close()

    def _log_in(self, driver: socket.socket) -> None:
        packets = tds.Packets()
        kind, _ = _message(driver, packets)
        if kind != tds.PRELOGIN:
            raise tds.Unexpected("the ODBC driver does not begin with PRELOGIN")
        answer = tds.prelogin(tds.ENCRYPT_NOT_SUPPORTED, self._upstream.version)
        driver.sendall(tds.framed(tds.REPLY, answer))
        kind, login7 = _message(driver, packets)
        if kind != tds.LOGIN7:
            raise tds.Unexpected("the ODBC driver does not log in with LOGIN7")
        self._check_silence()
        self._upstream.send(tds.framed(tds.LOGIN7, tds.filled_in(login7, self._account)))
        self._account = self._account.placeholder
        reply, said = self._login_reply()
        elsewhere = tds.route(said)
        if elsewhere is not None:
            failure = Failure(
                Reason.ENDPOINT_INVALID,
                f"{self._expected.where} sends clients on to {shortened(elsewhere, 100)}, which is not followed; "
                "name that server in the endpoint, or let the gateway pass connections through (policy Proxy)",
            )
            self._fail(failure)
            raise _Ended
        driver.sendall(reply)

    def _check_silence(self) -> None:
        """In TLS 1.3 a server refuses a client's certificate after the client's side of the handshake is done."""
        while select.select([self._upstream.socket], [], [], 0)[0]:
            if self._upstream.receive():
                raise tds.Unexpected("the server speaks before the login")

    def _login_reply(self) -> tuple[bytes, bytes]:
        """All packets of the reply, and what they hold."""
        packets, reply, said = tds.Packets(), b"", b""
        while len(reply) < _LONGEST_LOGIN:
            for packet in packets.feed(self._upstream.receive()):
                reply += packet
                said += packet[tds.HEADER.size :]
                if tds.ends_message(packet):
                    return reply, said
        raise tds.Unexpected("a reply to the login without an end")

    def _pump(self, driver: socket.socket) -> None:
        requests, replies, end = tds.Packets(), tds.Packets(), b""
        poller = select.poll()
        for sock in (driver, self._upstream.socket):
            poller.register(sock, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if driver.fileno() in ready:
                for packet in requests.feed(_received(driver)):
                    self.complete = False
                    self._upstream.send(packet)
            if self._upstream.socket.fileno() in ready:
                for packet in replies.feed(self._upstream.receive()):
                    end = (end + packet[tds.HEADER.size :])[-16:]
                    if tds.ends_message(packet):
                        self.cancelled += tds.acknowledges_attention(end)
                        self.complete, end = True, b""
                    driver.sendall(packet)


def _received(driver: socket.socket) -> bytes:
    try:
        data = driver.recv(65536)
    except OSError:
        raise _Ended from None
    if not data:
        raise _Ended
    return data


def _message(driver: socket.socket, packets: tds.Packets) -> tuple[int, bytes]:
    """The next message of the driver: its type and what it holds."""
    data = b""
    while len(data) < _LONGEST_LOGIN:
        for packet in packets.feed(_received(driver)):
            data += packet[tds.HEADER.size :]
            if tds.ends_message(packet):
                return packet[0], data
    raise tds.Unexpected("the ODBC driver's login has no end")


def _is_of_this_process(peer: tuple[str, int], own: tuple[str, int]) -> bool:
    """Whether a socket with this local address, connected to `own`, is among this process's descriptors."""
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(descriptor))) as candidate:
                if (candidate.getsockname(), candidate.getpeername()) == (peer, own):
                    return True
    return False
