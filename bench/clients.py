"""Own load makers, each a process of its own: `python -m bench.clients NAME {json}` prints one JSON line.

probe    one exchange, tried until it is answered -> {"answer": text}
bulk     one download after another until the time is up -> {"units": bytes}
small    one small request after another on new connections, 2 ms apart -> {"latencies": [seconds]}
hellos   one ClientHello after another on new connections, 2 ms apart, to each port in turn -> {"latencies": [[s], [s]]}
hold     opens connections, exchanges a few bytes on each, says {"open": n} and keeps them until standard input ends
silent   the backend of `hold`: answers the first bytes of each connection and keeps it; says {"port": n}
mail     paced messages into a mail port -> {"units": accepted, "errors": refused, "latencies": [seconds]}
mailhold opens SMTP sessions, says {"open": n} and keeps them until standard input ends
letters  messages from a file into a mail port -> {"seconds": s, "failed": [texts]}
flood    connections that say nothing, or nonsense; says {"open": n, "closed": n} and keeps them until it is ended
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.hello import SNI, client_hello
from bench.paced import mail
from bench.sendmail import flood, letters

_TIMEOUT = 10.0


def _connect(options: dict[str, Any], tls: bool) -> socket.socket:
    plain = socket.create_connection((options["host"], options["port"]), timeout=_TIMEOUT)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _context().wrap_socket(plain, server_hostname=SNI) if tls else plain


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def probe(options: dict[str, Any]) -> dict[str, Any]:
    """`first`: request, hello or nothing (the server speaks first)."""
    first = {"request": f"GET /small HTTP/1.0\r\nHost: {SNI}\r\n\r\n".encode(), "hello": client_hello(), "nothing": b""}
    end = time.monotonic() + _TIMEOUT
    while True:
        try:
            with _connect(options, options["tls"]) as sock:
                sock.sendall(first[options["first"]])
                if answer := sock.recv(64):
                    return {"answer": answer.decode("latin-1")}
                raise ConnectionError("closed without an answer")
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def bulk(options: dict[str, Any]) -> dict[str, Any]:
    """Bytes of a plain download are dropped by the kernel (MSG_TRUNC); those of TLS are decrypted."""
    end = time.monotonic() + options["seconds"]
    buffer = bytearray(1 << 20)
    total = 0
    with _connect(options, options["tls"]) as sock:
        flags = 0 if options["tls"] else socket.MSG_TRUNC
        while time.monotonic() < end:
            sock.sendall(f"GET /bulk HTTP/1.1\r\nHost: {SNI}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                more = sock.recv(1)
                if not more:
                    raise ConnectionError("closed before an answer")
                head += more
            left = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            while left and time.monotonic() < end:
                got = sock.recv_into(buffer, min(left, len(buffer)), flags)
                if not got:
                    raise ConnectionError("closed inside a download")
                left -= got
                total += got
    return {"units": total}


def small(options: dict[str, Any]) -> dict[str, Any]:
    """Latency from before connect to the end of the answer; with TLS the handshake is part of it."""
    end = time.monotonic() + options["seconds"]
    latencies = []
    while time.monotonic() < end:
        begin = time.monotonic()
        with _connect(options, options["tls"]) as sock:
            sock.sendall(f"GET /small HTTP/1.0\r\nHost: {SNI}\r\n\r\n".encode())
            answer = b""
            while more := sock.recv(4096):
                answer += more
        if b" 200 " not in answer:
            raise ConnectionError(f"answered {answer[:60]!r}")
        latencies.append(time.monotonic() - begin)
        time.sleep(0.002)
    return {"latencies": latencies}


def hellos(options: dict[str, Any]) -> dict[str, Any]:
    """Latency from before connect to the first bytes of the answer, for each of `ports`."""
    end = time.monotonic() + options["seconds"]
    latencies: list[list[float]] = [[] for _ in options["ports"]]
    first = client_hello()
    while time.monotonic() < end:
        for port, taken in zip(options["ports"], latencies, strict=True):
            begin = time.monotonic()
            with socket.create_connection((options["host"], port), timeout=_TIMEOUT) as sock:
                sock.sendall(first)
                if not sock.recv(64):
                    raise ConnectionError(f"port {port} closed without an answer")
                taken.append(time.monotonic() - begin)
            time.sleep(0.002)
    return {"latencies": latencies}


def hold(options: dict[str, Any]) -> None:
    """`kind`: plain, passthrough (sends a ClientHello as its bytes) or terminate (a TLS session)."""
    kept: list[socket.socket] = []
    first = client_hello() if options["kind"] == "passthrough" else b"ping\n"
    context = _context()
    for _ in range(options["count"]):
        sock = socket.create_connection((options["host"], options["port"]), timeout=_TIMEOUT)
        if options["kind"] == "terminate":
            sock = context.wrap_socket(sock, server_hostname=SNI)
        sock.sendall(first)
        if not sock.recv(64):
            raise ConnectionError(f"connection {len(kept)} was closed")
        kept.append(sock)
    print(json.dumps({"open": len(kept)}), flush=True)
    sys.stdin.read()
    for sock in kept:
        sock.close()


def mailhold(options: dict[str, Any]) -> None:
    """`count` SMTP sessions that have said EHLO, inside TLS where `tls` is true, and are kept."""
    kept: list[socket.socket] = []
    context = _context()
    for _ in range(options["count"]):
        sock = socket.create_connection((options["host"], options["port"]), timeout=_TIMEOUT)
        _said(sock, None)
        _said(sock, b"EHLO bench.example.test\r\n")
        if options["tls"]:
            _said(sock, b"STARTTLS\r\n")
            sock = context.wrap_socket(sock, server_hostname=SNI)
            _said(sock, b"EHLO bench.example.test\r\n")
        kept.append(sock)
    print(json.dumps({"open": len(kept)}), flush=True)
    sys.stdin.read()
    for sock in kept:
        sock.close()


def _said(sock: socket.socket, line: bytes | None) -> None:
    """Sends a line, if any, and reads the whole reply, which must be a good one."""
    if line is not None:
        sock.sendall(line)
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.splitlines()[-1][3:4] == b" "):
        more = sock.recv(4096)
        if not more:
            raise ConnectionError(f"closed after {reply[:80]!r}")
        reply += more
    if not reply.startswith(b"2"):
        raise ConnectionError(f"answered {reply[:80]!r}")


def silent(options: dict[str, Any]) -> None:
    with socket.create_server((options["host"], options["port"]), backlog=4096) as listener:
        print(json.dumps({"port": options["port"]}), flush=True)
        listener.setblocking(False)
        poll = select.epoll()
        poll.register(listener, select.EPOLLIN)
        poll.register(sys.stdin, select.EPOLLIN)
        kept: dict[int, socket.socket] = {}
        while True:
            for fd, _ in poll.poll():
                if fd == sys.stdin.fileno():
                    return
                if fd == listener.fileno():
                    with contextlib.suppress(BlockingIOError):
                        sock, _ = listener.accept()
                        kept[sock.fileno()] = sock
                        poll.register(sock, select.EPOLLIN)
                elif not _answered(kept[fd]):
                    poll.unregister(fd)
                    kept.pop(fd).close()


def _answered(sock: socket.socket) -> bool:
    """False where the connection has ended."""
    try:
        if not sock.recv(65536):
            return False
        sock.sendall(b"pong\n")
    except ConnectionError:
        return False
    return True


_CLIENTS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "probe": probe,
    "bulk": bulk,
    "small": small,
    "hellos": hellos,
    "hold": hold,
    "silent": silent,
    "mail": mail,
    "mailhold": mailhold,
    "letters": letters,
    "flood": flood,
}


def main() -> None:
    result = _CLIENTS[sys.argv[1]](json.loads(sys.argv[2]))
    if result is not None:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
