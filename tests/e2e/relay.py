# SPDX-License-Identifier: GPL-2.0-only
"""`relay.py FOLDER` runs what ssh was asked to run in the guest whose sockets are in the folder.

sshd runs it (ForceCommand) in place of a shell. See guest_logins.c for the frames.
"""

import contextlib
import os
import select
import socket
import struct
import sys
from pathlib import Path

PORTS = 24
_LOST = 255


def _port(folder: Path) -> socket.socket:
    """Connect to a port that nobody has used since the guest was started."""
    for number in range(1, PORTS + 1):
        with contextlib.suppress(FileExistsError):
            (folder / "used" / str(number)).touch(exist_ok=False)
            port = socket.socket(socket.AF_UNIX)
            try:
                port.connect(str(folder / f"port-{number}"))
            except OSError:
                (folder / "used" / str(number)).unlink(missing_ok=True)
                raise
            return port
    raise ConnectionError("the guest has no port left")


def _exactly(port: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = port.recv(size - len(data))
        if not piece:
            raise ConnectionError("connection closed by the guest")
        data += piece
    return data


def _frame(port: socket.socket) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("<cI", _exactly(port, 5))
    return kind, _exactly(port, size)


def _send(port: socket.socket, data: bytes) -> None:
    port.sendall(struct.pack("<I", len(data)) + data)


def _run(folder: Path, command: str) -> int:
    port = _port(folder)
    _frame(port)
    _send(port, command.encode())
    sources = [port, sys.stdin]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if sys.stdin in ready:
            data = os.read(0, 32768)
            _send(port, data)
            if not data:
                sources.remove(sys.stdin)
        if port in ready:
            kind, data = _frame(port)
            if kind == b"x":
                return data[0]
            while data:
                data = data[os.write(1 if kind == b"o" else 2, data) :]


if __name__ == "__main__":
    try:
        sys.exit(_run(Path(sys.argv[1]), os.environ["SSH_ORIGINAL_COMMAND"]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_LOST)
