"""The fields that reception adds, as they stand."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.facts import ConnectionFacts
from dcrouter.mail.server import trace


class ReceivedTests(SynchronousTestCase):
    def received(self, *, peer: str = "192.0.2.1", only: str | None = None, **words: bool) -> str:
        facts = ConnectionFacts("s1", (peer, 4711), ("192.0.2.25", 25), 0.0)
        tls = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 key-exchange X25519MLKEM768" if words["tls"] else None
        field = trace.received(
            facts,
            helo="c.example",
            esmtp=words["esmtp"],
            tls=tls,
            authenticated=words["authenticated"],
            hostname="mx.example",
            name="1f",
            only=only,
        )
        return field.decode("ascii")

    def test_the_protocol_is_named_as_rfc_3848_says(self) -> None:
        """S for TLS, A for AUTH, both only of ESMTP."""
        for esmtp, tls, authenticated, word in (
            (False, False, False, "SMTP"),
            (False, True, False, "SMTP"),
            (True, False, False, "ESMTP"),
            (True, True, False, "ESMTPS"),
            (True, False, True, "ESMTPA"),
            (True, True, True, "ESMTPSA"),
        ):
            field = self.received(esmtp=esmtp, tls=tls, authenticated=authenticated)
            self.assertIn(f" with {word} id 1f;\r\n", field)
            self.assertEqual("(using TLSv1.3 with cipher " in field, tls)

    def test_the_whole_field(self) -> None:
        """RFC 5321 4.4: one field, folded, with the client's address, the only recipient and a date."""
        field = self.received(peer="2001:db8::1", only="b@y.example", esmtp=True, tls=True, authenticated=True)
        text, _, date = field.removesuffix("\r\n").rpartition(";\r\n\t")
        self.assertEqual(
            text,
            "Received: from c.example ([IPv6:2001:db8::1])\r\n"
            "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 key-exchange X25519MLKEM768)\r\n"
            "\tby mx.example (dcrouter session s1) with ESMTPSA id 1f\r\n"
            "\tfor <b@y.example>",
        )
        self.assertIsNotNone(parsedate_to_datetime(date))

    def test_a_message_id_is_of_this_host(self) -> None:
        """With the name that the message has in the log."""
        self.assertEqual(trace.message_id("1f", "mx.example"), b"Message-ID: <1f@mx.example>\r\n")
