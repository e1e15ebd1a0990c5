"""DKIM verification against the RFCs' own example and against dkimpy, which signs. RFC 6376, 8301, 8463."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.asking import Found, Question
from dcrouter.wire.dkim.canonical import split
from dcrouter.wire.dkim.verify import MAX_SIGNATURES, Bodies, Signatures, Verdict
from dcrouter.wire.header import block
from tests.wire.dkim.signed import MESSAGE, ed25519_key, rsa_key, sign

NOW = 1_800_000_000
RFC6376 = b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RFC6376_KEYS = {
    "brisbane._domainkey.example.com": "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoG"
    "eLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf"
    "6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
}
RFC8463 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RFC8463_KEYS = {
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
    "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hst"
    "T5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
}


def verify(
    message: bytes, keys: dict[str, str] | str | None = None, *, now: float = NOW, cut: int | None = None
) -> list[Verdict]:
    """`keys`: by name, or the one of s._domainkey.x.test; `cut`: octets of each piece of the body."""
    head = block(message)
    assert head is not None
    bodies = Bodies()
    signatures = Signatures(split(head), bodies, now)
    body = message[len(head) + 2 :]
    for at in range(0, len(body), cut or 1 << 20):
        bodies.add(body[at : at + (cut or 1 << 20)])
    records = {"s._domainkey.x.test": keys} if isinstance(keys, str) else keys or {}
    answers: dict[Question, Found | None] = {
        one: Found((records[one.name],)) if one.name in records else Found() for one in signatures.questions
    }
    return signatures.results(answers)


class ExampleTests(SynchronousTestCase):
    def test_the_first_example_passes(self) -> None:
        """RFC 6376 A.2, with the key of its appendix C; a blank more in the body, and it fails."""
        (found,) = verify(RFC6376, RFC6376_KEYS)
        self.assertEqual((found.result, found.signature and found.signature.identity), ("pass", "football.example.com"))
        (found,) = verify(RFC6376.replace(b"game. ", b"game.  "), RFC6376_KEYS)
        self.assertEqual(found.result, "fail")

    def test_both_signatures_of_the_example_pass(self) -> None:
        """RFC 8463 A.3: Ed25519 and RSA, side by side."""
        self.assertEqual([one.result for one in verify(RFC8463, RFC8463_KEYS)], ["pass", "pass"])

    def test_the_body_may_come_in_any_pieces(self) -> None:
        """One octet at a time too."""
        for cut in (1, 2, 3, 7):
            self.assertEqual([one.result for one in verify(RFC8463, RFC8463_KEYS, cut=cut)], ["pass", "pass"])


class SignedTests(SynchronousTestCase):
    def test_every_canonicalization_passes(self) -> None:
        """Simple and relaxed, of header and body, RSA and Ed25519, however the body is cut (RFC 6376 3.4)."""
        for header in (b"simple", b"relaxed"):
            for body in (b"simple", b"relaxed"):
                for text in (MESSAGE, MESSAGE[: MESSAGE.index(b"Hi.")], MESSAGE + b"no end"):
                    signed = sign(text, canonicalize=(header, body))
                    for cut in (1, 3, None):
                        self.assertEqual([one.result for one in verify(signed, rsa_key()[1], cut=cut)], ["pass"])
        private, public = ed25519_key()
        signed = sign(privkey=private, signature_algorithm=b"ed25519-sha256")
        self.assertEqual([one.result for one in verify(signed, public)], ["pass"])

    def test_a_change_is_seen(self) -> None:
        """Of the body, of a signed field, and one signed field more (RFC 6376 5.4.2)."""
        signed = sign(include_headers=[b"from", b"from", b"subject"])
        for before, after in (
            (b"We lost", b"We won"),
            (b"Is  dinner", b"Is lunch"),
            (b"To: suzie", b"From: eve@x.test\r\nTo: suzie"),
        ):
            changed = signed.replace(before, after, 1)
            self.assertNotEqual(changed, signed)
            self.assertEqual([one.result for one in verify(changed, rsa_key()[1])], ["fail"], after)

    def test_a_length_leaves_the_rest_out(self) -> None:
        """l=: what follows does not count, but what it says must be there (RFC 6376 3.5)."""
        signed = sign(length=True)
        self.assertEqual([one.result for one in verify(signed + b"more\r\n", rsa_key()[1])], ["pass"])
        shorter = signed[: signed.index(b"We lost")]
        self.assertEqual([one.result for one in verify(shorter, rsa_key()[1])], ["fail"])

    def test_weak_and_wrong_keys_are_no_pass(self) -> None:
        """512 bits and SHA-1 (RFC 8301 3), revoked, of another kind, for another use, none at all, broken."""
        self.assertEqual(verify(sign(), None)[0].reason, "there is no key")
        good = rsa_key()[1]
        for record in (
            "v=DKIM1; p=",
            "v=DKIM2; " + good,
            ed25519_key()[1],
            good + "; s=other",
            good + "; h=sha1",
            good + "; k=ed25519",
            "v=DKIM1; p=AAAA",
            "v=DKIM1; p=!",
            "p=é",
            "",
        ):
            self.assertEqual([one.result for one in verify(sign(), record)], ["permerror"], record)
        sha1 = sign().replace(b"a=rsa-sha256", b"a=rsa-sha1")
        self.assertEqual([one.result for one in verify(sha1, good)], ["permerror"])
        self.assertEqual(verify(sign(), good)[0].result, "pass")

    def test_time_counts(self) -> None:
        """x= is behind us, t= before us (RFC 6376 3.5)."""
        signed = sign()
        made = int(signed.split(b" t=")[1].split(b";")[0])
        self.assertEqual(verify(signed, rsa_key()[1], now=made - 1000)[0].reason, "from the future")

    def test_silence_is_temperror(self) -> None:
        """No word from DNS is neither a pass nor a fail."""
        signatures = Signatures(split(sign()), Bodies(), NOW)
        self.assertEqual([one.result for one in signatures.results({})], ["temperror"])

    def test_what_cannot_be_read_is_permerror(self) -> None:
        """Each needed tag missing, twice, or nonsense; it is told, and nothing is asked."""
        signed = sign()
        for before, after in (
            (b"v=1;", b"v=2;"),
            (b"bh=", b"xx="),
            (b" d=x.test;", b""),
            (b" s=s;", b" s=s; s=s;"),
            (b" d=x.test;", b" d=..;"),
            (b" d=x.test;", b" d=x.test; i=@y.test;"),
            (b" d=x.test;", b" d=x.test; l=x;"),
            (b"relaxed/simple", b"loose/simple"),
            (b" d=x.test;", b" d=x.test; q=http;"),
        ):
            broken = signed.replace(before, after, 1)
            self.assertNotEqual(broken, signed, before)
            self.assertEqual([one.result for one in verify(broken, rsa_key()[1])], ["permerror"], after)

    def test_so_many_signatures_are_looked_at(self) -> None:
        """The ones on top; the others cost nothing."""
        message = sign()
        for _ in range(20):
            message = sign(message)
        self.assertEqual(len(verify(message, rsa_key()[1])), MAX_SIGNATURES)
