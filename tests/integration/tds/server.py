"""The server: listens, and serves every client in a thread of its own, as well or as badly as it is told to."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.tds import packets, tokens
from tests.integration.tds.batches import Words
from tests.integration.tds.batches import tokens as words
from tests.integration.tds.engine import TEXT, Ended, Engine, Variable
from tests.integration.tds.engine import Argument as Given
from tests.integration.tds.packets import Encryption, Kind, framed
from tests.integration.tds.reply import Attention, Refusal, Reply
from tests.integration.tds.requests import Login7, Parameter, Rpc, batch_text, calls
from tests.integration.tds.transport import Channel
from tests.integration.tds.types import Type
from tests.integration.tds.world import Request, World
from tests.servers.pki import KeyPair


@dataclass
class Behaviour:
    """How the server presents itself; what is not changed is a server that is right."""

    certificate: KeyPair
    encryption: Encryption = Encryption.ON
    """The answer of PRELOGIN."""
    newest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    """SQL Server speaks TLS 1.3 only since TDS 8.0."""
    tickets_in_packets: bool = True
    client_ca: Path | None = None
    """Whether a client must show a certificate of this authority."""
    silent: bool = False
    """Takes connections and says nothing."""
    garbage: bytes = b""
    """Said instead of the answer of PRELOGIN."""
    closes_at: str = ""
    """`prelogin`, `handshake` or `login`: ends the connection there."""
    login_error: tuple[int, str, int] | None = None
    """Number, message and severity with which every login is refused."""
    routed_to: tuple[str, int] | None = None
    """Where a login that was accepted is sent on."""


@dataclass
class Server:
    """A double of SQL Server on a free port; a context manager."""

    behaviour: Behaviour
    world: World = field(default_factory=World)
    listen: str = "127.0.0.1"
    port: int = 0
    """0: a free one, from the first start on."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(51))
    _channels: dict[int, Channel] = field(default_factory=dict)
    _awake: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, certificate: KeyPair | None = None) -> None:
        """Take connections, as what it was when it was stopped; certificate: another one to show."""
        if certificate is not None:
            self.behaviour.certificate = certificate
        self._awake.set()
        self._listener = socket.create_server((self.listen, self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """End the process, with all that runs there; what it has stored stays. Raises TimeoutError."""
        self._end()
        self.wait_idle()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections, and takes new ones, and answers nothing."""
        self._awake.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._awake.set()

    def kill(self) -> None:
        """End every session at once, as a server that crashes."""
        for channel in [*self._channels.values()]:
            with contextlib.suppress(OSError):
                channel.sock.shutdown(socket.SHUT_RDWR)

    def wait_idle(self, seconds: float = 5) -> None:
        """Until no session is left: then what each has heard is in `world`. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self._channels:
            if time.monotonic() > deadline:
                raise TimeoutError("the double still serves somebody")
            time.sleep(0.01)

    def _end(self) -> None:
        self.resume()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.kill()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=self._serve, args=(sock, next(self._numbers)), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        channel = self._channels[number] = Channel(sock, self._awake)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            Session(self, channel, number).serve()
        except (OSError, struct.error, IndexError):  # the client went away, or speaks something else
            pass
        finally:
            self.world.in_clear += channel.in_clear
            self.world.release(number)
            del self._channels[number]
            channel.close()


class Session:
    """One client's conversation."""

    def __init__(self, server: Server, channel: Channel, number: int) -> None:
        self.behaviour = server.behaviour
        self.world = server.world
        self.channel = channel
        self.number = number
        self.packet_size = 4096
        self.engine = Engine(server.world, number, self._attention)
        self._prepared: dict[int, tuple[str, str]] = {}
        self._handles = itertools.count(1)

    def serve(self) -> None:
        """From the first packet to the last. Raises OSError when the client is gone."""
        if self.behaviour.silent:
            while self.channel.read(1):
                pass
        if not self._prelogin():
            return
        message = packets.read_message(self.channel.read)
        if self.behaviour.closes_at == "login" or message.kind != Kind.LOGIN7:
            return
        if not self._login(Login7.parse(message.data)):
            return
        while True:
            self._request(packets.read_message(self.channel.read))

    def _prelogin(self) -> bool:
        message = packets.read_message(self.channel.read)
        if self.behaviour.closes_at == "prelogin":
            return False
        if self.behaviour.garbage:
            self.channel.send(self.behaviour.garbage)
            return False
        if message.kind != Kind.PRELOGIN:
            return False
        answer = {
            packets.VERSION: struct.pack(">BBHH", *tokens.VERSION, 0),
            packets.ENCRYPTION: bytes((self.behaviour.encryption,)),
            packets.INSTANCE: b"\0",
            packets.THREAD: b"",
            packets.MARS: b"\0",
        }
        self.channel.send(framed(Kind.REPLY, packets.prelogin(answer)))
        if self.behaviour.closes_at == "handshake":
            packets.read_message(self.channel.read)
            return False
        if self.behaviour.encryption in (Encryption.ON, Encryption.REQUIRED):
            self.channel.start_tls(self._context(), tickets_in_packets=self.behaviour.tickets_in_packets)
        return True

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.behaviour.certificate.certificate, self.behaviour.certificate.key)
        context.maximum_version = self.behaviour.newest_tls
        if self.behaviour.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.behaviour.client_ca)
        return context

    def _login(self, login: Login7) -> bool:
        self.world.logins.append(login.password)
        error = self.behaviour.login_error
        if error is None and self.world.accounts.get(login.username) != login.password:
            error = (18456, f"Login failed for user '{login.username}'.", 14)
        if error is None and login.database and login.database not in self.world.databases:
            error = (4060, f'Cannot open database "{login.database}" requested by the login. The login failed.', 11)
        if error is not None:
            number, text, severity = error
            refused = tokens.message(number, text, severity) + tokens.done(tokens.DONE, tokens.ERROR)
            self.channel.send(framed(Kind.REPLY, refused))
            return False
        self.packet_size = max(512, min(login.packet_size, 8192))
        accepted = tokens.logged_in(login.database or "master", self.packet_size, features=login.features)
        if self.behaviour.routed_to is not None:
            accepted = tokens.routed(*self.behaviour.routed_to) + accepted
        self.channel.send(framed(Kind.REPLY, accepted))
        return True

    def _attention(self, seconds: float) -> bool:
        return self.channel.readable(seconds) and packets.read_message(self.channel.read).kind == Kind.ATTENTION

    def _request(self, message: packets.Message) -> None:
        reply = Reply(self.channel, self.packet_size)
        try:
            match message.kind:
                case Kind.BATCH:
                    text = batch_text(message.data)
                    self.world.requests.append(Request(self.number, "batch", text))
                    self._guarded(lambda: self.engine.batch(text, reply), reply, tokens.DONE)
                case Kind.RPC:
                    for call in calls(message.data):
                        self._rpc(call, reply)
                case Kind.ATTENTION:
                    reply.cancelled()
                    return
                case _:
                    reply.refuse(Refusal(4002, "The incoming TDS protocol stream is incorrect.", 16), tokens.DONE)
        except Attention:
            reply.cancelled()
        else:
            reply.finish()

    def _guarded(self, run: object, reply: Reply, token: int) -> bool:
        """Run it; whether it came to its end. Errors become tokens."""
        assert callable(run)
        try:
            run()
        except Refusal as refusal:
            reply.refuse(refusal, token)
            return False
        except Ended:
            reply.done(token, tokens.ERROR)
            return False
        return True

    def _rpc(self, call: Rpc, reply: Reply) -> None:
        values = tuple((one.name, one.type, one.value) for one in call.parameters)
        text = next((str(one.value) for one in call.parameters if isinstance(one.value, str)), "")
        given = list(call.parameters)
        handle: int | None = None
        match call.name:
            case "sp_executesql":
                text, declared, given = str(given[0].value), self._text(given[1:2]), given[2:]
            case "sp_prepexec" | "sp_prepare":
                handle = next(self._handles)
                declared, text = self._text(given[1:2]), str(given[2].value)
                self._prepared[handle] = (declared, text)
                given = given[3:] if call.name == "sp_prepexec" else []
            case "sp_execute":
                declared, text = self._prepared[int(str(given[0].value))]
                given = given[1:]
            case "sp_unprepare":
                self._prepared.pop(int(str(given[0].value)), None)
                reply.add(tokens.return_status(0))
                reply.done(tokens.DONEPROC)
                return
            case _:
                declared, text = "", ""
        self.world.requests.append(Request(self.number, call.name, text, values))
        if call.name == "sp_prepare":
            fine = True
        elif text:
            scope = dict(zip(self._names(declared), (Variable(TEXT, one.value) for one in given), strict=True))
            fine = self._guarded(lambda: self.engine.batch(text, reply, scope), reply, tokens.DONEINPROC)
        else:
            fine = self._guarded(lambda: self._by_name(call, reply), reply, tokens.DONEINPROC)
        reply.add(tokens.return_status(0 if fine else -6))
        if handle is not None:
            reply.add(tokens.return_value("", Type.parse("int"), handle))
        reply.done(tokens.DONEPROC, 0 if fine else tokens.ERROR)

    def _by_name(self, call: Rpc, reply: Reply) -> None:
        name = Words(words(call.name)).name()
        arguments = [Given(one.name, one.value) for one in call.parameters]
        self.engine.call(name, arguments, reply, None)

    @staticmethod
    def _text(parameters: list[Parameter]) -> str:
        return str(parameters[0].value or "") if parameters else ""

    @staticmethod
    def _names(declared: str) -> list[str]:
        parts = [part.strip() for part in declared.split(",@")] if declared else []
        return ["@" + part.lstrip("@").split()[0].lower() for part in parts]
