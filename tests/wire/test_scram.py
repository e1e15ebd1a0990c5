"""SCRAM-SHA-256: the RFC's own dialogue, channel bindings, those who take them away, and noise."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.scram import Proof, Scram, Verifier
from tests.support.scramclient import ScramClient

SALT = b"0123456789abcdef"
VERIFIER = Verifier.make("pencil", iterations=4096, salt=SALT)
CHANNEL = {"tls-exporter": b"x" * 32, "tls-server-end-point": b"y" * 32}


def run(client: ScramClient, *, plus: bool = False, offered: bool = True, verifier: Verifier = VERIFIER) -> Proof:
    scram = Scram(plus=plus, bindings=CHANNEL, offered=offered)
    scram.first(client.first())
    return scram.final(client.final(scram.challenge(verifier)))


class ScramTests(SynchronousTestCase):
    def test_the_dialogue_of_rfc_7677(self) -> None:
        """RFC 7677 section 3, octet by octet."""
        scram = Scram(plus=False, bindings={}, nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        verifier = Verifier.make("pencil", iterations=4096, salt=b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81")
        self.assertEqual(scram.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), "user")
        self.assertEqual(
            scram.challenge(verifier),
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        proof = scram.final(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        )
        self.assertTrue(proof.fits(verifier))
        self.assertEqual(proof.signature(verifier), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def test_right_and_wrong_passwords(self) -> None:
        """Only the right one fits; the server's signature is what the client expects."""
        client = ScramClient("user", "pencil")
        proof = run(client)
        self.assertTrue(proof.fits(VERIFIER))
        self.assertTrue(client.proves(proof.signature(VERIFIER)))
        self.assertFalse(run(ScramClient("user", "pencils")).fits(VERIFIER))
        self.assertFalse(
            run(ScramClient("user", "pencil"), verifier=Verifier.impostor("user", b"k", 4096)).fits(VERIFIER)
        )

    def test_names(self) -> None:
        """RFC 5802 5.1: =2C and =3D; whom to act for comes with the GS2 header."""
        proof = run(ScramClient("a=2Cb=3Dc", "pencil", authzid="d=2Ce"))
        self.assertEqual((proof.account, proof.authorize_as), ("a,b=c", "d,e"))

    def test_bound_to_the_channel(self) -> None:
        """RFC 5802 6: by each binding that this channel has; another channel's data fits nothing."""
        for kind, data in CHANNEL.items():
            good = run(ScramClient("user", "pencil", flag=f"p={kind}", binding=data), plus=True)
            self.assertTrue(good.fits(VERIFIER))
            elsewhere = run(ScramClient("user", "pencil", flag=f"p={kind}", binding=b"z" * 32), plus=True)
            self.assertFalse(elsewhere.bound)
            self.assertFalse(elsewhere.fits(VERIFIER))

    def test_a_downgrade_is_refused(self) -> None:
        """RFC 5802 6: a client that could bind and was not offered to, where it was: 535; `n` cannot, and passes."""
        for client, offered, reply in (
            (ScramClient("user", "pencil", flag="y"), True, b"535 5.7.8"),
            (ScramClient("user", "pencil", flag="y"), False, b""),
            (ScramClient("user", "pencil", flag="n"), True, b""),
        ):
            if reply:
                error = self.assertRaises(WireError, run, client, offered=offered)
                self.assertEqual((error.reply or b"")[:9], reply)
            else:
                self.assertTrue(run(client, offered=offered).fits(VERIFIER))

    def test_the_flag_is_the_mechanism_s(self) -> None:
        """-PLUS binds, and the other does not; an unknown binding is refused."""
        for flag, plus, reply in (
            ("n", True, b"501 5.5.2"),
            ("y", True, b"501 5.5.2"),
            ("p=tls-exporter", False, b"501 5.5.2"),
            ("p=tls-unique", True, b"535 5.7.8"),
            ("p=", True, b"535 5.7.8"),
        ):
            error = self.assertRaises(WireError, run, ScramClient("user", "pencil", flag=flag), plus=plus)
            self.assertEqual((error.reply or b"")[:9], reply)

    def test_malformed_first_messages(self) -> None:
        """501, and nothing of them in the error."""
        for message in (
            b"", b"n", b"n,", b"n,,", b"n,,n=user", b"n,,r=x,n=user", b"n,,n=,r=x", b"n,,n=us=er,r=x", b"n,,n=user,r=",
            b"n,b=x,n=user,r=x", b"n,,m=x,n=user,r=x", b"x,,n=user,r=x", b"n,,n=user,r=\xff", b"n,,n=us\0er,r=x",
            b"n,,n=user,r=a b", b"n,,n=user,r=" + b"x" * 257,
        ):  # fmt: skip
            error = self.assertRaises(WireError, Scram(plus=False, bindings={}).first, message)
            self.assertEqual((error.reply or b"")[:9], b"501 5.5.2", message)
            self.assertNotIn("user", str(error))

    def test_malformed_final_messages(self) -> None:
        """Another nonce, another GS2 header, no proof, a short one."""
        nonce = b"abcdef"
        proof = b64encode(b"x" * 32)
        for message, reply in (
            (b"c=biws,r=abcdef,p=" + b64encode(b"x" * 31), b"501"),
            (b"c=biws,r=abcdef", b"501"),
            (b"r=abcdef,c=biws,p=" + proof, b"501"),
            (b"c=eSws,r=abcdef,p=" + proof, b"501"),
            (b"c=biws,r=abcdeg,p=" + proof, b"535"),
            (b"c=biws,r=abc,p=" + proof, b"535"),
            (b"c=biws,r=abc\xc3\xa4,p=" + proof, b"535"),
            (b"c=!,r=abcdef,p=" + proof, b"501"),
            (b"c=biws,r=abcdef,p=!", b"501"),
        ):
            scram = Scram(plus=False, bindings={}, nonce=nonce[3:].decode())
            scram.first(b"n,,n=user,r=abc")
            scram.challenge(VERIFIER)
            error = self.assertRaises(WireError, scram.final, message)
            self.assertEqual((error.reply or b"")[:3], reply, message)

    @given(st.binary(max_size=60), st.binary(max_size=90))
    def test_no_octets_break_it(self, first: bytes, final: bytes) -> None:
        """A name and a proof that does not fit, or WireError with a reply."""
        for begin in (first, b"n,,n=user,r=abc"):
            scram = Scram(plus=False, bindings=CHANNEL, offered=True)
            try:
                scram.first(begin)
                scram.challenge(VERIFIER)
                self.assertFalse(scram.final(final).fits(VERIFIER))
            except WireError as error:
                self.assertIsNotNone(error.reply)


class VerifierTests(SynchronousTestCase):
    def test_as_text_and_back(self) -> None:
        """The form of RFC 5803, as PostgreSQL writes it."""
        text = "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"
        self.assertTrue(str(VERIFIER).startswith(text))
        self.assertEqual(Verifier.parse(str(VERIFIER)), VERIFIER)
        self.assertNotIn("stored_key", repr(VERIFIER))

    def test_what_is_none(self) -> None:
        """Few iterations, another hash, bad base64, short keys: ValueError, which shows nothing of it."""
        good = str(VERIFIER)
        for text in (
            "", "geheim", good.replace("256", "1"), good.replace("4096", "4095"), good.replace("4096", "99999999"),
            good[:-2], good.replace("MDEy", "M!Ey"), good + ":", good.replace("MDEyMzQ1Njc4OWFiY2RlZg==", "MDE="),
        ):  # fmt: skip
            error = self.assertRaises(ValueError, Verifier.parse, text)
            self.assertNotIn("geheim", str(error))

    def test_salts(self) -> None:
        """Random for accounts; for a name that nobody has always the same one, which another secret would not give."""
        self.assertNotEqual(Verifier.make("x", iterations=4096).salt, Verifier.make("x", iterations=4096).salt)
        one, again = (Verifier.impostor("bob", b"k", 4096) for _ in range(2))
        self.assertEqual((one.salt, len(one.salt)), (again.salt, 16))
        self.assertNotIn(
            one.salt, (Verifier.impostor("bob", b"l", 4096).salt, Verifier.impostor("bo", b"k", 4096).salt)
        )

    def test_a_password_is_prepared(self) -> None:
        """RFC 5802 2.2: SASLprep; what it does not allow is taken as it is."""
        same = [Verifier.make(text, iterations=4096, salt=SALT) for text in ("I\u00adX", "IX", "\u2168")]
        self.assertEqual(same[0], same[1])
        self.assertEqual(same[1], same[2])
        Verifier.make("\U0001f600", iterations=4096)
