"""What strangers' mail is read with: the server's and the client's side of SMTP, messages, signatures and records."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import get_args

from bench.fuzz.session import cut, sending, session
from dcrouter.errors import WireError
from dcrouter.net.slices import finished
from dcrouter.wire import bearer, dmarc, mtasts, returned, sasl
from dcrouter.wire.arc import Chain
from dcrouter.wire.authresults import authserv_id, without_forged
from dcrouter.wire.conversion import conversion
from dcrouter.wire.dkim import canonical, tags
from dcrouter.wire.dkim.canonical import BodyHash, Form
from dcrouter.wire.dkim.key import Key
from dcrouter.wire.dkim.signature import of_message
from dcrouter.wire.dkim.verify import Bodies, Signatures
from dcrouter.wire.header import addresses, block, count, fields
from dcrouter.wire.hostname import host_name
from dcrouter.wire.scram import Scram, Verifier
from dcrouter.wire.smtp import xclient
from dcrouter.wire.smtp.address import parse_path, split
from dcrouter.wire.smtp.data import Chunks, Stuffer, Unstuffer
from dcrouter.wire.smtp.reply import ReplyReader
from dcrouter.wire.spf import record

_REPLIES = re.compile(rb"(?:[2-5][0-9]{2}[ -][^\r\n]*\r\n)*")


def _smtp(data: bytes) -> None:
    """The server machine: whole replies only; and the same session however the octets are cut, but where it is cut
    that tells a client which waits from one which does not (554 5.5.0).
    """
    if len(data) < 2:
        return
    size, tls, stream = 1 + data[0], bool(data[1] % 2), data[2:]
    whole = session([stream], tls=tls)
    cuts = session(cut(stream, size), tls=tls)
    assert whole == cuts or b"554 5.5.0" in whole[0] + cuts[0], (whole, cuts)
    assert _REPLIES.fullmatch(whole[0]), whole
    session([stream], tls=tls, strict=True)


def _data(data: bytes) -> None:
    """DATA and BDAT: what leaves again can end nothing before its end, and comes back as it was."""
    stuffer = Stuffer()
    wire = b"".join(stuffer.send(piece) for piece in cut(data, 5)) + stuffer.end()
    incoming = Unstuffer()
    octets, rest = incoming.receive(wire)
    assert incoming.ended and not rest, wire
    assert incoming.flaw in (None, "long-line"), wire
    judged, raw = Chunks(binary=False), Unstuffer()
    judged.receive(data)
    judged.end()
    raw.receive(data + b"\r\n.\r\n")
    if judged.flaw is None and data.endswith(b"\r\n"):
        assert octets == data, (octets, data)


def _address(data: bytes) -> None:
    """Paths and the parameters behind them: an address reads as itself again."""
    text = data.decode("utf-8", "replace")
    with suppress(WireError):
        address, _ = parse_path(text, null=True, postmaster=True, utf8=True)
        split(address)
        if "@" in address:
            assert parse_path(f"<{address}>", utf8=True)[0] == address, address
    with suppress(WireError):
        ReplyReader().receive(data)


def _header(data: bytes) -> None:
    """Header blocks and address lists."""
    head = block(data) or data
    count(head, b"received")
    assert len(without_forged(head, "mx.example")) <= len(head)
    for _, value in fields(head):
        with suppress(WireError):
            for address in addresses(value):
                assert parse_path(f"<{address}>", utf8=True)[0] == address, address


def _mime(data: bytes) -> None:
    """Conversion of 8-bit and binary content: lines of ASCII, and nothing is left to do the second time."""
    with suppress(WireError):
        once = finished(conversion(data))
        assert once.isascii(), once
        assert finished(conversion(once)) == once, once


def _dkim(data: bytes) -> None:
    """DKIM and ARC: fields, tags, keys, bodies."""
    found = canonical.split(data)
    for field in found[:50]:
        field.canonical("relaxed")
    bodies = Bodies()
    signatures = Signatures(found, bodies, 1e9)
    chain = Chain(found, bodies)
    bodies.add(data)
    for verdicts in (signatures, chain):
        assert len(verdicts.questions) <= 100
    with suppress(WireError):
        tags.parse(data.decode("utf-8", "replace"))
    with suppress(WireError):
        signature = of_message(data)
        Key(data.decode("latin-1"), signature)
    for form in get_args(Form):
        whole, parts = BodyHash(form), BodyHash(form)
        whole.add(data)
        for piece in cut(data, 3):
            parts.add(piece)
        assert whole.digest() == parts.digest(), form


def _records(data: bytes) -> None:
    """SPF and DMARC records, and what authserv-id a field claims."""
    text = data.decode("utf-8", "replace")
    dmarc.parse(text)
    authserv_id(data)
    with suppress(WireError):
        record.parse("v=spf1 " + text)


def _client(data: bytes) -> None:
    """A hostile server: each message ends at most once, with an answer for each recipient, however it is cut."""
    if len(data) < 3:
        return
    flags, size, stream = data[0], 1 + data[1], data[2:]
    sending([stream], flags)
    sending(cut(stream, size), flags)


def _login(data: bytes) -> None:
    """What clients say at AUTH: a claim or a WireError; none that only knows how the messages look is believed."""
    for mechanism in ("PLAIN", "LOGIN"):
        exchange = sasl.Exchange(mechanism)
        with suppress(WireError):
            for response in (None, *data.split(b"\n", 1)):
                if isinstance(exchange.receive(response), sasl.Credentials):
                    break
    for mechanism in ("OAUTHBEARER", "XOAUTH2"):
        with suppress(WireError):
            assert bearer.read(mechanism, data).token
    first, _, final = data.partition(b"\n")
    for plus in (False, True):
        login = Scram(plus=plus, bindings={"tls-exporter": b"x"}, offered=plus, nonce="N")
        with suppress(WireError):
            login.first(first)
            login.challenge(_VERIFIER)
            assert not login.final(final).fits(_VERIFIER)
    text = data.decode("utf-8", "replace")
    with suppress(WireError):
        sasl.decode(text)
    assert sasl.prepare_account(sasl.prepare_account(text)) == sasl.prepare_account(text), text


def _words(data: bytes) -> None:
    """What other hosts publish and report: policies, notices of delivery, what a proxy of ours says of a client."""
    text = data.decode("utf-8", "replace")
    with suppress(WireError):
        policy = mtasts.parse(data)
        assert mtasts.parse("\r\n".join(policy.lines).encode()) == policy, data
    mtasts.policy_id([text])
    with suppress(WireError):
        xclient.parse(text)
    found = returned.read(data)
    if found is not None:
        assert len(found.fates) <= returned.MAX_RECIPIENTS
    with suppress(ValueError):
        name = host_name(data)
        assert host_name(name.encode()) == name


_VERIFIER = Verifier.make("secret", iterations=1, salt=b"salt")

TARGETS: dict[str, Callable[[bytes], None]] = {
    "smtp": _smtp,
    "client": _client,
    "login": _login,
    "data": _data,
    "address": _address,
    "header": _header,
    "mime": _mime,
    "dkim": _dkim,
    "records": _records,
    "words": _words,
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "smtp": (
        b"\1\0EHLO c\r\nMAIL FROM:<a@x> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<b@y>\r\nDATA\r\n..x\r\n.\r\n",
        b"\2\0EHLO c\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@y>\r\nBDAT 3\r\n\n.\nBDAT 0 LAST\r\nRSET\r\n",
        b"\x09\1EHLO c\r\nAUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\n*\r\nVRFY a\r\nHELP\r\nNOOP\r\n",
        b"\7\0EHLO c\r\nSTARTTLS\r\n",
        b"\5\0EHLO c\r\nMAIL FROM:<\xc3\xbc@x> SMTPUTF8\r\nRCPT TO:<b@b\xc3\xbc.x>\r\n",
    ),
    "client": (
        b"\x00\x03220 x\r\n250-x\r\n250-PIPELINING\r\n250 SIZE 9\r\n250 a\r\n250 b\r\n550 5.1.1 c\r\n354 d\r\n250 e\r\n"
        b"421 f\r\n",
        b"\x01\x01220 x\r\n250 STARTTLS\r\n220 go\r\n",
        b"\x02\x09220 x\r\n250-LIMITS RCPTMAX=1 MAILMAX=2\r\n250 CHUNKING\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n",
        b"\x04\x09220 x\r\n250-x\r\n250-BINARYMIME\r\n250 CHUNKING\r\n250 b\r\n250 c\r\n452 d\r\n250 e\r\n",
        b"\x08\x09220 x\r\n250-x\r\n250 AUTH PLAIN LOGIN\r\n235 a\r\n250 b\r\n250 c\r\n452 d\r\n354 e\r\n250 f\r\n",
    ),
    "login": (
        b"\0user\0secret",
        b"user\nsecret",
        b"n,a=x,\x01auth=Bearer abc\x01\x01",
        b"user=x\x01auth=Bearer abc\x01\x01",
        b"n,,n=user,r=abc\nc=biws,r=abcN,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"p=tls-exporter,,n=us=2Cer,r=abc\nc=cD10bHMtZXhwb3J0ZXIsLHg=,r=abcN,p=AAAA",
    ),
    "data": (b"a\r\n.\r\nb\r\n..\r\n", b"\n.\r\n\r.\n"),
    "address": (
        b'<@r.example:"a b"@[IPv6:2001:db8::1]> SIZE=1',
        b"<\xc3\xbc@b\xc3\xbc.x>",
        b"<postmaster>",
        b"250-x\r\n250 5.1.1 y\r\n",
    ),
    "header": (b'From: "a" <b@c.d>, g: x@y (c), z@w;\r\n\tfold\r\nAuthentication-Results: mx.example; none\r\n\r\n',),
    "mime": (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b\r\nContent-Type:"
        b" message/rfc822\r\n\r\nSubject: x\r\n\r\n\xfe\n\r\n--b--\r\n",
    ),
    "dkim": (
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=x.y; s=k; h=from:to; bh=AAAA; b=AAAA; l=1; t=1\r\n"
        b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=x.example; s=k; b=AAAA\r\nFrom: a@x.example\r\n",
    ),
    "records": (b"v=DMARC1; p=none; np=reject; t=y", b"ip4:192.0.2.0/24 include:%{d1r}.x -all", b" mx.example 1; none"),
    "words": (
        b"version: STSv1\r\nmode: enforce\r\nmx: *.x.example\r\nmx: mx.y.example\r\nmax_age: 86400\r\n",
        b"v=STSv1; id=20261122;",
        b"NAME=a.example ADDR=IPV6:2001:db8::1 PORT=25 PROTO=ESMTP LOGIN=u+40x HELO=[UNAVAILABLE] DESTADDR=192.0.2.1",
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        b"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@b.c\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        b"Diagnostic-Code: smtp; 550 no\r\n\r\n--b--\r\n",
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        b"Feedback-Type: abuse\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nTo: a@b.c\r\n\r\n--b--\r\n",
    ),
}
