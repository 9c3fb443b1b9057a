"""Sockets on which a tree of processes listens, and access to them by another user of the machine."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOBODY = 65534
TIMEOUT_S = 20
_TCP_LISTEN, _UNIX_ACCEPTS = "0A", 0x10000
_HEADERS, _DATA, _RESET, _SETTINGS, _GOAWAY = 1, 0, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
MANAGEMENT = "/org.pytorch.serve.grpc.management.ManagementAPIsService/"
INFERENCE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket of the process `pid`; `path` for one of a file or an abstract name, else `port`."""

    pid: int
    path: str = ""
    host: str = ""
    port: int = 0

    def connect(self) -> socket.socket:
        """A connection to it from the current user."""
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout=TIMEOUT_S)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(TIMEOUT_S)
        try:
            made.connect(self.path)
        except OSError:
            made.close()
            raise
        return made


def listeners(pids: Iterable[int]) -> list[Listener]:
    """Every listening socket of the processes: TCP of both families, and Unix, abstract names included."""
    found = []
    for pid in pids:
        inodes = set(_socket_inodes(pid))
        found += [one for inode, one in _listening(pid) if inode in inodes]
    return found


def _socket_inodes(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if (target := os.readlink(link)).startswith("socket:["):
                yield target[8:-1]


def _listening(pid: int) -> Iterator[tuple[str, Listener]]:
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _TCP_LISTEN:
                address, _, port = local.partition(":")
                yield rest[5], Listener(pid, host=_host(address, family), port=int(port, 16))
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *name = line.split(maxsplit=7)
        if int(flags, 16) & _UNIX_ACCEPTS:
            path = name[0] if name else ""
            yield inode, Listener(pid, path="\0" + path[1:] if path.startswith("@") else path)


def _host(address: str, family: socket.AddressFamily) -> str:
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    return socket.inet_ntop(family, b"".join(words))


def as_nobody(work: Callable[[], Any]) -> Any:
    """The result of `work`, as JSON carries it, in a child process of the user `nobody`; root may ask."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            told = work()
        except BaseException as error:
            told = {"broke": repr(error)}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert not (isinstance(told, dict) and "broke" in told), told
    return told


def grpc_status(connection: socket.socket, method: str, message: bytes, key: str | None = None) -> str:
    """The gRPC status of one unary call over raw HTTP/2: a number, or the reason for none."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    if key is not None:
        fields["authorization"] = f"Bearer {key}"
    block = b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields.items())
    data = b"\0" + struct.pack(">I", len(message)) + message
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, data)
    )
    with connection.makefile("rb") as answers:
        return _status_in(connection, answers)


def _status_in(connection: socket.socket, answers: Any) -> str:
    while len(head := answers.read(9)) == 9:
        kind, flags = head[3], head[4]
        payload = answers.read(int.from_bytes(head[:3], "big"))
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        # The server does not compress short texts, so the trailer can be read without HPACK's tables.
        name = b"grpc-status"
        if kind == _HEADERS and (at := payload.find(name)) >= 0:
            length = payload[at + len(name)]
            return str(payload[at + len(name) + 1 :][:length].decode())
        if kind in (_RESET, _GOAWAY):
            return "reset"
    return "closed"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    rest = len(text) - 127
    length = bytes([len(text)]) if rest < 0 else bytes([127, rest])
    assert rest < 128
    return length + text.encode()


def register_message(url: str) -> bytes:
    """RegisterModelRequest: a worker of the archive or folder `url`, under the name `evil`."""
    return b"\x18\x01\x2a\x04evil" + b"\x4a" + bytes([len(url)]) + url.encode()


def predictions_message(model: str) -> bytes:
    """PredictionsRequest for `model`, with a prompt."""
    text = b'{"prompt": "Hi", "max_tokens": 1}'
    entry = b"\x0a\x04body\x12" + bytes([len(text)]) + text
    return b"\x0a" + bytes([len(model)]) + model.encode() + b"\x1a" + bytes([len(entry)]) + entry
