"""The demo's steps: one request or message each, made as a client makes it, and looked at as a client sees the answer.

A step is done when the whole answer is there (and, for mail, when the message has arrived); its seconds are those.
Whatever is not as it should be raises StepFailed, an OSError, or what http.client and smtplib raise.
"""

from __future__ import annotations

import contextlib
import secrets
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.client import HTTPResponse

from attrs import frozen

from dcrouter.admin.demo.backends import MailServer
from dcrouter.admin.demo.place import HERE, HOST, MAIL_NAME, THERE, Place, Ports
from dcrouter.errors import DcrouterError

WAIT = 10.0
"""Seconds for each answer, and for a message to arrive."""
POLL = 0.005
CLIENT_NAME = "client.example.org"
SENDER = f"me@{CLIENT_NAME}"
LARGEST_ANSWER = 1 << 16


class StepFailed(DcrouterError):
    """The answer is not the one that the route should give."""


@frozen(kw_only=True)
class Outcome:
    """What came of a step: `answer` in a few words, what it took, and the client's own port, to find it in the log."""

    answer: str
    seconds: float
    port: int
    remark: str = ""


@frozen(kw_only=True)
class Step:
    """`kind`: of route; `way`: from where to where; `by_hand`: a command that does the same."""

    kind: str
    way: str
    by_hand: str
    act: Callable[[], Outcome]


def steps(place: Place, ports: Ports, next_hop: MailServer) -> Iterator[Step]:
    """All of them, in the order in which they are told."""
    yield from _web_steps(place, ports)
    yield from _mail_steps(place, ports, next_hop)


def _web_steps(place: Place, ports: Ports) -> Iterator[Step]:
    web, secure = f"{HOST}:{ports.web}", f"{HOST}:{ports.secure_web}"

    def plain(kind: str, name: str, way: str, status: int, options: str = "-i") -> Step:
        host = f"{name}.localhost"
        url = f"http://{host}:{ports.http}/"
        return Step(
            kind=kind,
            way=f"{url} -> {way}",
            by_hand=f"curl {options} {url}",
            act=lambda: _request(ports.http, host, None, status),
        )

    def secured(kind: str, name: str, way: str, ca: str) -> Step:
        host = f"{name}.localhost"
        url = f"https://{host}:{ports.https}/"
        return Step(
            kind=kind,
            way=f"{url} -> {way}",
            by_hand=f"curl --cacert {ca} {url}",
            act=lambda: _request(ports.https, host, _trust(ca), 200),
        )

    router_ca, backends_ca = str(place.router_ca), str(place.backends_ca)
    yield plain("plain forward", "plain", web, 200)
    yield secured("passthrough", "passthrough", f"{secure} (its own TLS)", backends_ca)
    yield secured("terminate", "terminate", f"{web} (plain)", router_ca)
    yield secured("re-encrypt", "reencrypt", f"{secure} (TLS, verified)", router_ca)
    yield plain("redirect", "redirect", f"https://respond.localhost:{ports.https}/", 308)
    yield secured("respond", "respond", "the router", router_ca)
    yield plain("block", "block", "nobody", 403)
    url = f"https://nobody.localhost:{ports.https}/"
    yield Step(
        kind="no such name",
        way=f"{url} -> nobody",
        by_hand=f"curl {url}",
        act=lambda: _unknown_name(ports.https),
    )


def _mail_steps(place: Place, ports: Ports, next_hop: MailServer) -> Iterator[Step]:
    server = f"smtp://{HOST}:{ports.smtp}"

    def mail(kind: str, recipient: str, way: str, act: Callable[[], Outcome], options: str = "") -> Step:
        by_hand = f"swaks --server {HOST}:{ports.smtp} --from {SENDER} --to {recipient}{options}"
        return Step(kind=kind, way=f"{server} -> {way}", by_hand=by_hand, act=act)

    you = f"you@{HERE}"
    maildir = f"Maildir of {you}"
    yield mail("mail in", you, maildir, lambda: _to_maildir(place, ports.smtp, you, tls=False))
    yield mail(
        "STARTTLS",
        you,
        maildir,
        lambda: _to_maildir(place, ports.smtp, you, tls=True),
        f" --tls --tls-verify --tls-ca-path {place.router_ca} --tls-sni {MAIL_NAME}",
    )
    them = f"them@{THERE}"
    yield mail("mail on", them, f"{HOST}:{ports.next_hop} (next hop)", lambda: _to_next_hop(ports.smtp, them, next_hop))
    elsewhere = "somebody@elsewhere.example"
    yield mail("no relaying", elsewhere, "nobody", lambda: _refused(ports.smtp, elsewhere))


# Web.


def _trust(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _request(port: int, host: str, trust: ssl.SSLContext | None, expected: int) -> Outcome:
    """One GET; with `trust`, over TLS to a server that must prove to be `host`."""
    began = time.monotonic()
    with socket.create_connection((HOST, port), WAIT) as plain:
        own_port: int = plain.getsockname()[1]
        with plain if trust is None else trust.wrap_socket(plain, server_hostname=host) as connection:
            request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode("ascii"))
            response = HTTPResponse(connection, method="GET")
            response.begin()
            body = response.read(LARGEST_ANSWER).decode("utf-8", "replace").strip()
            seconds = time.monotonic() - began
            version = _goodbye(connection)
    if response.status != expected:
        raise StepFailed(f"answered {response.status} instead of {expected}: {body}")
    location = response.getheader("Location")
    remark = f"Location: {location}" if location is not None else f"“{body}”"
    answer = f"{response.status}" + (f", {version}" if version is not None else "")
    return Outcome(answer=answer, seconds=seconds, port=own_port, remark=remark)


def _goodbye(connection: socket.socket) -> str | None:
    """End TLS in due form, which closing alone does not; the version that was spoken, None in clear."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    version = connection.version()
    with contextlib.suppress(OSError):
        connection.unwrap()
    return version


def _unknown_name(port: int) -> Outcome:
    """A name that no route has: the handshake must end with the alert that says so."""
    context = ssl.create_default_context()
    began = time.monotonic()
    with socket.create_connection((HOST, port), WAIT) as plain:
        own_port: int = plain.getsockname()[1]
        try:
            context.wrap_socket(plain, server_hostname="nobody.localhost").close()
        except ssl.SSLError as error:
            seconds = time.monotonic() - began
            if error.reason != "TLSV1_UNRECOGNIZED_NAME":
                raise
            return Outcome(answer="TLS alert", seconds=seconds, port=own_port, remark="unrecognized name")
    raise StepFailed("the handshake succeeded for a name that no route has")


# Mail.


class _Client(smtplib.SMTP):
    """An SMTP client that knows the server by its name (to verify its certificate) and reaches it on loopback."""

    def __init__(self, port: int) -> None:
        super().__init__(MAIL_NAME, port, CLIENT_NAME, WAIT)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((HOST, port), timeout)

    @property
    def own_port(self) -> int:
        assert self.sock is not None
        port: int = self.sock.getsockname()[1]
        return port


def _message(recipient: str, marker: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = recipient
    message["Subject"] = f"dcrouter demo {marker}"
    message.set_content("One message, on its way through the router.\n")
    return message


def _send(port: int, recipient: str, marker: str, tls: ssl.SSLContext | None) -> tuple[int, str]:
    """Send one message that holds `marker`: (own port, TLS version or "")."""
    with _Client(port) as client:
        own_port = client.own_port
        version = ""
        if tls is not None:
            client.starttls(context=tls)
            assert isinstance(client.sock, ssl.SSLSocket)
            version = client.sock.version() or ""
        client.send_message(_message(recipient, marker))
    return own_port, version


def _to_maildir(place: Place, port: int, recipient: str, *, tls: bool) -> Outcome:
    """Until the message is a file in the recipient's Maildir."""
    marker = secrets.token_hex(4)
    began = time.monotonic()
    own_port, version = _send(port, recipient, marker, _trust(str(place.router_ca)) if tls else None)
    taken = time.monotonic() - began
    new = place.maildir(recipient) / "new"
    while True:
        for path in new.glob("*"):
            if marker in path.read_text("utf-8", "replace"):
                seconds = time.monotonic() - began
                name = path.relative_to(place.directory)
                answer = f"250, {version}" if version else "250"
                remark = f"taken after {taken * 1000:.1f} ms; {name}"
                return Outcome(answer=answer, seconds=seconds, port=own_port, remark=remark)
        if time.monotonic() - began > WAIT:
            raise StepFailed(f"taken, but after {WAIT:g} s it is not in {new}")
        time.sleep(POLL)


def _to_next_hop(port: int, recipient: str, next_hop: MailServer) -> Outcome:
    """Until the next hop has the message."""
    marker = secrets.token_hex(4)
    began = time.monotonic()
    own_port, _ = _send(port, recipient, marker, None)
    taken = time.monotonic() - began
    message = next_hop.wait_for(marker.encode(), WAIT)
    seconds = time.monotonic() - began
    if message is None:
        raise StepFailed(f"taken, but after {WAIT:g} s the next hop does not have it")
    if (message.sender, message.recipient) != (SENDER, recipient):
        raise StepFailed(f"the next hop got it from {message.sender} for {message.recipient}")
    remark = f"taken after {taken * 1000:.1f} ms; the next hop has it, {len(message.content)} bytes"
    return Outcome(answer="250", seconds=seconds, port=own_port, remark=remark)


def _refused(port: int, recipient: str) -> Outcome:
    """A stranger's mail for elsewhere: the recipient must be refused."""
    began = time.monotonic()
    with _Client(port) as client:
        own_port = client.own_port
        client.ehlo()
        client.mail(SENDER)
        code, reply = client.rcpt(recipient)
        seconds = time.monotonic() - began
    if code != 550:
        raise StepFailed(f"RCPT was answered {code} instead of 550")
    return Outcome(answer=str(code), seconds=seconds, port=own_port, remark=f"“{reply.decode('ascii', 'replace')}”")
