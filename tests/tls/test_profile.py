from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Sequence

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.targets import UpstreamTls
from dcrouter.config.tls import TlsProfile
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential
from dcrouter.tls.peer import Peer
from dcrouter.tls.profile import client_context, server_context
from tests.support.certificates import Authority
from tests.support.handshake import Server, meet, trusting
from tests.support.peers import require

AUTHORITY = Authority()
SITE = AUTHORITY.credential(["site.test", "127.0.0.1"])
SITE_RSA = AUTHORITY.credential(["site.test"], rsa_key=True)


def leaf(credential: Credential) -> bytes:
    return credential.certificates()[0].public_bytes(Encoding.DER)


class ServerContextTests(SynchronousTestCase):
    def serve(self, *credentials: Credential, profile: TlsProfile | None = None, alpn: Sequence[str] = ()) -> int:
        return Server(self, server_context(credentials or (SITE,), profile or TlsProfile(), alpn)).port

    def s_client(self, port: int, *options: str) -> str:
        command = [
            require("openssl"),
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            "-servername",
            "site.test",
            *options,
        ]
        return subprocess.run(command, input=b"?", capture_output=True, timeout=240, check=False).stdout.decode()

    def test_a_client_that_trusts_the_root_is_convinced(self) -> None:
        """The intermediate is sent along, over TLS 1.3 and 1.2."""
        port = self.serve()
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            met = meet(port, "site.test", AUTHORITY.root_pem, version=version)
            self.assertEqual(met.leaf, leaf(SITE))
            self.assertEqual(met.version, version.name.replace("_", "."))

    def test_a_client_that_expects_another_name_refuses(self) -> None:
        """It is the client's verdict, which our certificate must allow."""
        self.assertRaises(ssl.SSLCertVerificationError, meet, self.serve(), "other.test", AUTHORITY.root_pem)

    def test_openssl_s_client_is_convinced(self) -> None:
        """A peer that is not Python, with verification on."""
        root = self.mktemp()
        with open(root, "wb") as file:
            file.write(AUTHORITY.root_pem)
        said = self.s_client(self.serve(), "-CAfile", root, "-verify_hostname", "site.test")
        self.assertIn("Verification: OK", said)
        self.assertIn("TLSv1.3", said)

    def test_ecdsa_and_rsa_stand_side_by_side(self) -> None:
        """Who can do both gets ECDSA; who can do only RSA gets that, with its own issuer."""
        other = Authority("other").credential(["site.test"], rsa_key=True)
        port = self.serve(SITE, other)
        context = trusting(AUTHORITY.root_pem)
        self.assertEqual(meet(port, "site.test", b"", context=context).leaf, leaf(SITE))
        said = self.s_client(port, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-showcerts")
        self.assertEqual(said.count("BEGIN CERTIFICATE"), 2)
        self.assertIn("other intermediate", said)
        self.assertNotIn("test intermediate", said)

    def test_a_client_without_ecdsa_gets_rsa(self) -> None:
        """Told by its signature algorithms alone, in TLS 1.3 and 1.2; and one that can do only ECDSA gets that."""
        port = self.serve(SITE, SITE_RSA)
        for version in ("-tls1_3", "-tls1_2"):
            for algorithms, credential in (
                ("rsa_pss_rsae_sha256:RSA+SHA256", SITE_RSA),
                ("ECDSA+SHA256", SITE),
                ("ECDSA+SHA256:rsa_pss_rsae_sha256", SITE),
            ):
                said = self.s_client(port, version, "-sigalgs", algorithms)
                self.assertIn(credential.leaf.decode().strip(), said)

    def test_a_client_that_can_do_none_of_ours_is_refused(self) -> None:
        """By the handshake, with an alert."""
        said = self.s_client(self.serve(SITE), "-sigalgs", "rsa_pss_rsae_sha256:RSA+SHA256")
        self.assertNotIn("BEGIN CERTIFICATE", said)

    def test_old_versions_are_refused(self) -> None:
        """TLS 1.1 is never spoken (RFC 8996), TLS 1.2 not under `modern` or min_version TLSv1.3."""
        for profile in (TlsProfile(ciphers="modern"), TlsProfile(min_version="TLSv1.3")):
            port = self.serve(profile=profile)
            self.assertRaises(ssl.SSLError, meet, port, "site.test", AUTHORITY.root_pem, version=ssl.TLSVersion.TLSv1_2)
            self.assertEqual(meet(port, "site.test", AUTHORITY.root_pem).version, "TLSv1.3")
        said = self.s_client(self.serve(), "-tls1_1", "-cipher", "ALL@SECLEVEL=0")
        self.assertIn("Cipher is (NONE)", said)

    def test_intermediate_offers_forward_secrecy_only(self) -> None:
        """Neither RSA key exchange nor CBC; in TLS 1.2 the client's order decides between AES and ChaCha20."""
        port = self.serve(SITE, SITE_RSA)
        for suite in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384"):
            self.assertRaises(
                ssl.SSLError,
                meet,
                port,
                "site.test",
                AUTHORITY.root_pem,
                version=ssl.TLSVersion.TLSv1_2,
                ciphers=suite,
            )
        for order in (("CHACHA20-POLY1305", "AES128-GCM-SHA256"), ("AES128-GCM-SHA256", "CHACHA20-POLY1305")):
            met = meet(
                port,
                "site.test",
                AUTHORITY.root_pem,
                version=ssl.TLSVersion.TLSv1_2,
                ciphers=":".join("ECDHE-ECDSA-" + suite for suite in order),
            )
            self.assertEqual(met.cipher, "ECDHE-ECDSA-" + order[0])

    def test_an_openssl_string_is_taken_as_it_is(self) -> None:
        """Suites of TLS 1.3 may stand in it; without others TLS 1.2 is off."""
        only = TlsProfile(ciphers="TLS_CHACHA20_POLY1305_SHA256")
        self.assertEqual(
            meet(self.serve(profile=only), "site.test", AUTHORITY.root_pem).cipher, "TLS_CHACHA20_POLY1305_SHA256"
        )
        mixed = self.serve(profile=TlsProfile(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:TLS_AES_128_GCM_SHA256"))
        self.assertEqual(meet(mixed, "site.test", AUTHORITY.root_pem).cipher, "TLS_AES_128_GCM_SHA256")
        met = meet(mixed, "site.test", AUTHORITY.root_pem, version=ssl.TLSVersion.TLSv1_2)
        self.assertEqual(met.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384")

    def test_an_unknown_suite_is_an_error_that_quotes_it(self) -> None:
        """Found when the context is made, which `check` does."""
        for ciphers in ("NONSENSE", "TLS_NONSENSE", "gefährlich", ""):
            error = self.assertRaises(TlsError, server_context, [SITE], TlsProfile(ciphers=ciphers))
            self.assertIn(repr(ciphers), str(error))

    def test_alpn_follows_our_order(self) -> None:
        """RFC 7301 3.2: the server's preference decides."""
        port = self.serve(alpn=("h2", "http/1.1"))
        self.assertEqual(meet(port, "site.test", AUTHORITY.root_pem, alpn=("http/1.1", "h2")).alpn, "h2")
        self.assertEqual(meet(port, "site.test", AUTHORITY.root_pem, alpn=("http/1.1",)).alpn, "http/1.1")

    def test_a_client_that_offers_none_of_our_protocols_is_told(self) -> None:
        """RFC 7301 3.2: an alert. One that offers nothing goes on, and so does everybody where we offer nothing."""
        port = self.serve(alpn=("h2",))
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            with self.assertRaises(ssl.SSLError) as caught:
                meet(port, "site.test", AUTHORITY.root_pem, alpn=("imap",), version=version)
            self.assertIn("no application protocol", str(caught.exception))
        self.assertIsNone(meet(port, "site.test", AUTHORITY.root_pem).alpn)
        self.assertIsNone(meet(self.serve(), "site.test", AUTHORITY.root_pem, alpn=("h2",)).alpn)

    def test_sessions_resume_by_ticket(self) -> None:
        """Over TLS 1.3 and 1.2, with nothing kept on the server."""
        port = self.serve()
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = trusting(AUTHORITY.root_pem)
            first = meet(port, "site.test", b"", context=context, version=version)
            again = meet(port, "site.test", b"", context=context, version=version, session=first.session)
            self.assertEqual((first.resumed, again.resumed), (False, True))

    def test_renegotiation_is_refused(self) -> None:
        """A client of TLS 1.2 cannot make us do the handshake again and again."""
        port = self.serve()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        with socket.create_connection(("127.0.0.1", port), timeout=240) as sock:
            sock.settimeout(None)
            client = SSL.Connection(context, sock)
            client.set_connect_state()
            client.do_handshake()
            client.renegotiate()
            self.assertRaises(SSL.Error, client.do_handshake)

    def test_a_post_quantum_group_is_negotiated(self) -> None:
        """Groups are OpenSSL's own: no setting of ours pins a classical one."""
        if not hasattr(SSL.Connection, "get_group_name"):
            return
        port = self.serve()
        with socket.create_connection(("127.0.0.1", port), timeout=240) as sock:
            sock.settimeout(None)
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
            client.set_connect_state()
            client.do_handshake()
            self.assertEqual(client.get_group_name(), "X25519MLKEM768")

    def test_a_damaged_credential_is_an_error(self) -> None:
        """A key of somebody else's, say; the sentence has the names and not the key."""
        broken = Credential.from_plain({**SITE.to_plain(), "key": SITE_RSA.to_plain()["key"]})
        error = self.assertRaises(TlsError, server_context, [broken], TlsProfile())
        self.assertIn("site.test", str(error))
        self.assertNotIn("PRIVATE", str(error))


class ClientContextTests(SynchronousTestCase):
    def connect(self, context: SSL.Context, server_name: str, *credentials: Credential) -> SSL.Connection:
        port = Server(self, server_context(credentials or (SITE,), TlsProfile(), ("h2", "http/1.1"))).port
        sock = socket.create_connection(("127.0.0.1", port), timeout=240)
        sock.settimeout(None)
        self.addCleanup(sock.close)
        connection = SSL.Connection(context, sock)
        self.peer = Peer(server_name, verify=context.get_verify_mode() != SSL.VERIFY_NONE)
        self.peer.expect(connection)
        connection.set_connect_state()
        connection.do_handshake()
        return connection

    def test_a_target_under_our_ca_is_believed(self) -> None:
        """By its DNS name and by its address, as asked."""
        context = client_context(UpstreamTls(), AUTHORITY.root_pem)
        for name in ("site.test", "127.0.0.1"):
            connection = self.connect(context, name)
            self.peer.check(connection)

    def test_a_target_with_another_name_is_not(self) -> None:
        """The error says which name was asked for, and whose certificate it is."""
        context = client_context(UpstreamTls(), AUTHORITY.root_pem)
        for name in ("other.test", "127.0.0.2"):
            connection = self.connect(context, name)
            error = self.assertRaises(TlsError, self.peer.check, connection)
            self.assertIn(f"not for {name} but for site.test, 127.0.0.1", str(error))

    def test_a_target_under_a_foreign_ca_fails_the_handshake(self) -> None:
        """Neither another CA nor the system's bundle vouches for it."""
        for ca in (Authority("foreign").root_pem, None):
            context = client_context(UpstreamTls(), ca)
            self.assertRaises(SSL.Error, self.connect, context, "site.test")
            self.assertIn("unable to get local issuer certificate", str(self.peer.problem))

    def test_an_expired_target_fails_the_handshake(self) -> None:
        """Verification is more than the name."""
        context = client_context(UpstreamTls(), AUTHORITY.root_pem)
        expired = AUTHORITY.credential(["site.test"], days=-1)
        self.assertRaises(SSL.Error, self.connect, context, "site.test", expired)
        self.assertEqual(self.peer.problem, "certificate verify failed: certificate has expired")

    def test_the_targets_own_certificate_may_be_the_trust(self) -> None:
        """`ca` may name any certificate of the target's chain."""
        context = client_context(UpstreamTls(), SITE.chain)
        connection = self.connect(context, "site.test")
        self.peer.check(connection)

    def test_without_verification_anybody_is_taken(self) -> None:
        """`verify: false` is what it says."""
        context = client_context(UpstreamTls(verify=False), None)
        self.connect(context, "site.test", Authority("foreign").credential(["else.test"]))

    def test_alpn_is_offered(self) -> None:
        """What the client negotiated with us can be asked of the target."""
        context = client_context(UpstreamTls(), AUTHORITY.root_pem, ["http/1.1"])
        self.assertEqual(self.connect(context, "site.test").get_alpn_proto_negotiated(), b"http/1.1")

    def test_a_ca_file_without_certificates_is_an_error(self) -> None:
        """Empty, and not PEM."""
        for content in (b"", b"nothing here"):
            self.assertRaises(TlsError, client_context, UpstreamTls(), content)
