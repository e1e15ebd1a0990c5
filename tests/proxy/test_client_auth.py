"""Certificates of clients, and our own as a client of targets."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID

from dcrouter.config.actions import Forward
from dcrouter.config.routes import RouteTls
from dcrouter.config.targets import UpstreamTls
from dcrouter.config.tls import ClientAuth
from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, read
from tests.proxy.test_introduction import Introduced, answer
from tests.support.certificates import Authority, write
from tests.support.edge import Backend, EdgeTest, route
from tests.support.threaded import Talk

CA, CRL = Path("/clients.pem"), Path("/revoked.pem")
"""Where nothing is: the edge gets the contents from the parent, and opens no file."""


class ClientAuthTest(EdgeTest):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority("clients")
        self.alice = self.authority.credential(["alice.example"])
        self.backend = Backend(self, answer)

    def lists(self, *revoked: Credential, days: float = 30) -> bytes:
        return b"".join(self.authority.revocations(*revoked, days=days))

    def serve(self, auth: ClientAuth, *, crl: bytes | None = None, ca: bytes | None = None, **keys: Any) -> int:
        """A port on which a.example asks for certificates, and b.example does not."""
        port = self.port()
        tls = RouteTls(mode="terminate", client_auth=auth, **keys)
        self.files = {str(CA): ca or self.authority.root_pem}
        if crl is not None:
            self.files[str(CRL)] = crl
        self.open(
            route("a", port, self.backend.target, tls=tls, domains=("a.example",)),
            route("b", port, self.backend.target, tls="terminate", domains=("b.example",)),
            ca_files=self.files,
        )
        return port

    def context(self, credential: Credential | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "internal-ca" / "ca.pem"))
        if credential is not None:
            files = write(credential, self.directory, "client")
            context.load_cert_chain(files.cert, files.key)
        if version is not None:
            context.maximum_version = version
        return context

    def ask_as(
        self,
        port: int,
        credential: Credential | None,
        name: str = "a.example",
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> bytes:
        """What is answered; ssl.SSLError where the client is not let in."""
        context = context or self.context(credential)

        def run() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", port), 30) as sock,
                context.wrap_socket(sock, server_hostname=name, session=session) as tls,
            ):
                tls.sendall(b"x")
                said = tls.recv(100)
                self.session, self.resumed = tls.session, tls.session_reused
                return said

        return self.client(run)

    def refused(self, port: int, credential: Credential | None, alert: str, reason: str, **keys: Any) -> None:
        """The client is told by that alert, the log by that reason, and no target hears of it."""
        before = self.backend.connections
        self.loop.until(lambda: not self.edge.engine.tasks)
        self.events.clear()
        with self.assertRaises(ssl.SSLError) as caught:
            self.ask_as(port, credential, **keys)
        self.assertIn(alert, str(caught.exception).upper())
        event = self.event()
        self.assertEqual((event.reason, event.ended_by), (f"TLS handshake: {reason}", "client"))
        self.assertIsNone(event.client_certificate)
        self.assertEqual(self.backend.connections, before)


class RequireTests(ClientAuthTest):
    def test_who_shows_a_good_certificate_is_let_in_and_known(self) -> None:
        """Of the authority in `ca`, by an intermediate that the client brings; its subject is in the log."""
        port = self.serve(ClientAuth(ca=CA))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertEqual(self.ask_as(port, None, context=self.context(self.alice, version)), b"heard x")
            self.assertEqual(self.event().client_certificate, "CN=alice.example")
        self.assertEqual(self.ask_as(port, None, "b.example"), b"heard x")
        self.assertIsNone(self.event().client_certificate)

    def test_everybody_else_is_refused(self) -> None:
        """Without one, with one of somebody else's, one that has expired, one that is for servers only."""
        port = self.serve(ClientAuth(ca=CA))
        self.refused(port, None, "CERTIFICATE_REQUIRED", "peer did not return a certificate")
        stranger = Authority("strangers").credential(["alice.example"])
        self.refused(port, stranger, "UNKNOWN_CA", "unable to get local issuer certificate")
        expired = self.authority.credential(["alice.example"], days=-1)
        self.refused(port, expired, "CERTIFICATE_EXPIRED", "certificate has expired")
        server = self.authority.credential(["alice.example"], usage=ExtendedKeyUsageOID.SERVER_AUTH)
        self.refused(port, server, "UNSUPPORTED_CERTIFICATE", "unsuitable certificate purpose")

    def test_the_authorities_are_told_to_clients(self) -> None:
        """So that they can choose: openssl prints whom we take."""
        import subprocess

        from tests.support.peers import require

        port = self.serve(ClientAuth(ca=CA))
        argv = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "a.example"]

        def run() -> str:
            done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=240, check=False)
            return done.stdout

        self.assertIn("clients root", self.client(run).partition("Acceptable client certificate CA names")[2])

    def test_a_session_of_another_route_opens_no_door(self) -> None:
        """Tickets are good for the context that gave them: who was never asked for a certificate is asked now."""
        port = self.serve(ClientAuth(ca=CA))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(None, version)
            self.assertEqual(self.ask_as(port, None, "b.example", context), b"heard x")
            self.assertEqual(self.ask_as(port, None, "b.example", context, self.session), b"heard x")
            self.assertTrue(self.resumed)
            with self.assertRaises(ssl.SSLError):
                self.ask_as(port, None, "a.example", context, self.session)

    def test_a_target_behind_proxy_protocol_is_told_who_it_is(self) -> None:
        """The common name, and that it was verified."""
        introduced = Introduced(answer)
        action = Forward(targets=(Backend(self, introduced).target,), proxy_protocol="v2")
        port = self.port()
        tls = RouteTls(mode="terminate", client_auth=ClientAuth(ca=CA, mode="request"))
        self.open(
            route("a", port, action, tls=tls, domains=("a.example",)), ca_files={str(CA): self.authority.root_pem}
        )
        for credential, told in ((self.alice, ("alice.example", True)), (None, (None, False))):
            self.assertEqual(self.ask_as(port, credential), b"heard x")
            header = introduced.header()
            self.assertEqual((header.told.client_name, header.told.client_verified), told)


class RequestTests(ClientAuthTest):
    def test_none_need_be_shown_but_a_bad_one_must_not(self) -> None:
        """Mode `request`."""
        port = self.serve(ClientAuth(ca=CA, mode="request"))
        self.assertEqual(self.ask_as(port, None), b"heard x")
        self.assertIsNone(self.event().client_certificate)
        self.assertEqual(self.ask_as(port, self.alice), b"heard x")
        self.assertEqual(self.event().client_certificate, "CN=alice.example")
        stranger = Authority("strangers").credential(["alice.example"])
        self.refused(port, stranger, "UNKNOWN_CA", "unable to get local issuer certificate")


class RevocationTests(ClientAuthTest):
    AUTH = ClientAuth(ca=CA, crl=CRL)

    def test_who_is_revoked_is_refused(self) -> None:
        """And others are not."""
        bob = self.authority.credential(["bob.example"])
        port = self.serve(self.AUTH, crl=self.lists(bob))
        self.assertEqual(self.ask_as(port, self.alice), b"heard x")
        self.refused(port, bob, "CERTIFICATE_REVOKED", "certificate revoked")

    def test_a_new_list_holds_at_once_for_resumed_sessions_too(self) -> None:
        """No reload, no restart; and a list that cannot be used changes nothing."""
        port = self.serve(self.AUTH, crl=self.lists())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.edge.believe(self.files)
            context = self.context(self.alice, version)
            self.assertEqual(self.ask_as(port, None, context=context), b"heard x")
            self.assertEqual(self.ask_as(port, None, context=context, session=self.session), b"heard x")
            self.assertTrue(self.resumed)
            self.assertRaises(TlsError, self.edge.believe, {**self.files, str(CRL): b"no list"})
            self.assertEqual(self.ask_as(port, None, context=context), b"heard x")
            self.edge.believe({**self.files, str(CRL): self.lists(self.alice)})
            keys = {"context": context, "session": self.session}
            self.refused(port, None, "CERTIFICATE_REVOKED", "certificate revoked", **keys)

    def test_without_a_current_list_nobody_is_let_in(self) -> None:
        """One that has run out, or that one of the authorities lacks."""
        port = self.serve(self.AUTH, crl=self.lists(days=-1))
        self.refused(port, self.alice, "", "CRL has expired")
        self.edge.believe({**self.files, str(CRL): self.authority.revocations()[0]})
        self.refused(port, self.alice, "", "unable to get certificate CRL")
        self.edge.believe({**self.files, str(CRL): self.lists()})
        self.assertEqual(self.ask_as(port, self.alice), b"heard x")

    def test_an_intermediate_may_be_the_authority(self) -> None:
        """Then its own list is enough: nobody asks for the list of who signed it."""
        lists = self.authority.revocations(self.authority.credential(["bob.example"]))[1]
        port = self.serve(self.AUTH, ca=self.authority.intermediate_pem, crl=lists)
        self.assertEqual(self.ask_as(port, self.alice), b"heard x")


class TargetTests(EdgeTest):
    def test_a_target_that_asks_is_shown_our_certificate(self) -> None:
        """And the renewed one from the next connection on; without one there is no way in."""
        targets, ours = Authority("targets"), Authority("ours")
        site = targets.credential(["inner.example"])
        first = ours.files(self.directory, ["router.example"], stem="router")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (self.directory / "site.pem").write_bytes(site.chain + site.key)
        context.load_cert_chain(self.directory / "site.pem")
        context.load_verify_locations(cadata=ours.root_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        shown: list[str] = []

        def asks(talk: Talk) -> Talk:
            def wrapped(sock: socket.socket) -> None:
                with context.wrap_socket(sock, server_side=True) as session:
                    certificate = session.getpeercert()
                    assert certificate
                    shown.append(str(certificate["serialNumber"]))
                    talk(session)

            return wrapped

        backend = Backend(self, asks(answer))
        ca = Path("/targets.pem")
        upstream = UpstreamTls(ca=ca, server_name="inner.example", client_certificate=first)
        without = UpstreamTls(ca=ca, server_name="inner.example")
        port = self.port()
        self.open(
            route(
                "with",
                port,
                backend.target,
                tls=RouteTls(mode="terminate-and-reencrypt", upstream=upstream),
                domains=("a.example",),
            ),
            route(
                "without",
                port,
                backend.target,
                tls=RouteTls(mode="terminate-and-reencrypt", upstream=without),
                domains=("b.example",),
            ),
            ca_files={str(ca): targets.root_pem},
        )
        self.assertEqual(self.ask_tls(port, "a.example", b"x"), b"heard x")
        self.assertEqual(self.ask_tls(port, "a.example", b"x"), b"heard x")
        self.assertEqual(len(set(shown)), 1)
        ours.files(self.directory, ["router.example"], stem="router")
        self.chooser.update([self.ca.issue(["a.example", "b.example", "localhost"]), read(first.cert, first.key)])
        self.assertEqual(self.ask_tls(port, "a.example", b"x"), b"heard x")
        self.assertEqual(len(set(shown)), 2)
        self.assertEqual(self.ask_tls(port, "b.example", b"x"), b"")

    def test_other_authorities_hold_from_the_next_connection_on(self) -> None:
        """`upstream.ca` is watched: a target of the old one is not believed any more."""
        before, after = Authority("before"), Authority("after")
        site = before.credential(["inner.example"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (self.directory / "site.pem").write_bytes(site.chain + site.key)
        context.load_cert_chain(self.directory / "site.pem")

        def talk(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as session:
                answer(session)

        ca = Path("/targets.pem")
        tls = RouteTls(mode="terminate-and-reencrypt", upstream=UpstreamTls(ca=ca, server_name="inner.example"))
        port = self.port()
        self.open(
            route("web", port, Backend(self, talk).target, tls=tls, domains=("a.example",)),
            ca_files={str(ca): before.root_pem},
        )
        self.assertEqual(self.ask_tls(port, "a.example", b"x"), b"heard x")
        self.events.clear()
        self.edge.believe({str(ca): after.root_pem})
        self.assertEqual(self.ask_tls(port, "a.example", b"x"), b"")
        self.assertIn("unable to get local issuer certificate", self.event().reason)
