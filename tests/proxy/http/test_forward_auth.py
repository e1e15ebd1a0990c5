"""security.forward_auth, with an authority that says every byte."""

from __future__ import annotations

import os
import socket
import threading

from dcrouter.tls.trust import system_trust
from tests.support.certificates import Authority
from tests.support.edge import secured
from tests.support.features import Answer, FeatureTest, resolved
from tests.support.ports import reserved
from tests.support.threaded import Talk
from tests.support.web import Message, Wire, always, each, http, ok


class ForwardAuthTests(FeatureTest):
    def guarded(
        self, authority: Talk, more: str = "copy_headers: [X-User, x-group]", port: int = 0, scheme: str = "http"
    ) -> int:
        self.authority = self.backend(authority)
        target = self.echo().port
        place = f"{scheme}://127.0.0.1:{port or self.authority.port}"
        return self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              security: {{forward_auth: {{url: "{place}/check?x=1", {more}}}}}
              action: {{type: forward, target: {{host: 127.0.0.1, port: {target}}}}}
        """)

    def ask(self, port: int, *options: str, path: str = "/") -> Answer:  # type: ignore[override]
        return self.curl(f"http://a.example:{port}{path}", *resolved(port), *options)

    def test_the_authority_hears_of_the_request(self) -> None:
        """Its head as a GET, and what it was; nothing of its content, and nothing that the client says of itself."""
        asked: list[Message] = []

        def answer(message: Message) -> bytes:
            asked.append(message)
            return ok(b"fine", b"X-User: ann", b"X-Group: a", b"X-Group: b", b"X-Other: no")

        port = self.guarded(each(answer))
        lines = ("X-User: root", "X_User: root", "X-Forwarded-Uri: /x", "X-Forwarded-Method: PUT", "Range: bytes=0-1")
        options = [part for line in (*lines, "Cookie: a=b", 'If-None-Match: "x"') for part in ("-H", line)]
        answered = self.ask(port, "-d", "content", *options, path="/p?q=1")
        self.assertEqual((answered.status, answered.body), (200, b"POST /p?q=1 HTTP/1.1"))
        (message,) = asked
        self.assertEqual(message.first, b"GET /check?x=1 HTTP/1.1")
        self.assertEqual(message.get(b"host"), b"127.0.0.1:%d" % self.authority.port)
        self.assertEqual(message.get(b"x-forwarded-uri"), b"/p?q=1")
        self.assertEqual(message.get(b"x-forwarded-method"), b"POST")
        self.assertEqual(message.get(b"x-forwarded-host"), b"a.example:%d" % port)
        self.assertEqual(message.get(b"x-forwarded-for"), b"127.0.0.1")
        self.assertEqual(message.get(b"cookie"), b"a=b")
        for gone in (b"content-length", b"range", b"if-none-match"):
            self.assertIsNone(message.get(gone))
        (seen,) = self.seen
        self.assertEqual((seen.get(b"x-user"), seen.body), (b"ann", b"content"))
        self.assertEqual(seen.head.lower().count(b"x-group"), 2)
        self.assertNotIn(b"root", seen.head)
        self.assertIsNone(seen.get(b"x-other"))
        self.assertEqual(seen.get(b"range"), b"bytes=0-1")

    def test_by_https_it_must_be_whom_the_system_trusts(self) -> None:
        """Else nobody is let in, and nothing of the request is told to it."""
        asked: list[Message] = []

        def answer(message: Message) -> bytes:
            asked.append(message)
            return ok(b"fine")

        authority = Authority()
        trusted = self.directory / "trusted.pem"
        trusted.write_bytes(authority.root_pem)
        self.patch(os, "environ", {**os.environ, "SSL_CERT_FILE": str(trusted)})
        system_trust.cache_clear()
        self.addCleanup(system_trust.cache_clear)
        for issuer, status in ((authority, 200), (Authority("nobody"), 503)):
            with self.subTest(status=status):
                self.listeners = self.listeners[-1:]
                guard = secured(each(answer), issuer.credential(["127.0.0.1"]), self.directory)
                self.assertEqual(self.ask(self.guarded(guard, scheme="https")).status, status)
        self.assertEqual(len(asked), 1)

    def test_its_no_goes_to_the_client(self) -> None:
        """As it is: a page, a challenge, the way to a login; on a connection that stays."""
        for status, lines in (
            (b"401 Unauthorized", (b'WWW-Authenticate: Basic realm="x"', b"Content-Type: text/html")),
            (b"302 Found", (b"Location: https://login.example/?back", b"Set-Cookie: a=b", b"Set-Cookie: c=d")),
            (b"403 Forbidden", ()),
        ):
            port = self.guarded(always(ok(b"<p>no", *lines, status=status)))
            answer = self.ask(port, "-d", "content")
            self.assertEqual((answer.status, answer.body), (int(status[:3]), b"<p>no"))
            for line in {line.partition(b":")[0] for line in lines}:
                name = line.decode().lower()
                given = [one.partition(b": ")[2].decode() for one in lines if one.startswith(line + b":")]
                self.assertEqual(answer.headers[name], given)
            self.assertEqual(self.seen, [])
            done = self.request()
            self.assertEqual(done.reason, f"forward_auth answered {int(status[:3])}")
            self.edge.stop()
            self.listeners.clear()
            self.requests.clear()

    def test_nobody_gets_in_while_it_does_not_answer(self) -> None:
        """It is not there, says nothing, nonsense, too much, breaks off, or fails itself."""
        stop = threading.Event()
        self.addCleanup(stop.set)

        def raw(data: bytes) -> Talk:
            def talk(sock: socket.socket) -> None:
                sock.recv(65536)
                sock.sendall(data)

            return talk

        for authority, why in (
            (raw(b""), "it ended without an answer"),
            (raw(b"SSH-2.0-x\r\n"), "not a response"),
            (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), "broke off"),
            (raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70000), "too large"),
            (raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 20), "nothing but 1xx"),
            (each(lambda asked: ok(b"", status=b"500 Oh")), "forward_auth answered 500"),
            (each(lambda asked: ok(b"", status=b"304 Not Modified")), "forward_auth answered 304"),
            (lambda sock: stop.wait(30), "forward_auth timeout"),
        ):
            seconds = "500ms" if why == "forward_auth timeout" else "30s"
            port = self.guarded(authority, more=f"timeout: {seconds}")
            answered = self.client_while_time_passes(port)
            self.assertEqual(answered, 503, why)
            self.assertIn(why, str(self.request().reason))
            self.assertEqual(self.seen, [])
            self.edge.stop()
            self.listeners.clear()
        gone = reserved(self)
        port = self.guarded(each(lambda asked: ok(b"")), port=gone)
        self.assertEqual(self.ask(port).status, 503)

    def client_while_time_passes(self, port: int) -> int:
        done: list[bytes] = []

        def run() -> None:
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
                done.append(sock.recv(65536))

        threading.Thread(target=run, daemon=True).start()
        self.loop.until(lambda: self.loop.reactor.advance(0.1) or done)
        return int(done[0].split(b" ")[1])

    def test_connections_to_it_are_kept(self) -> None:
        """Chunked answers too; one that was closed meanwhile is made anew."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        port = self.guarded(each(lambda asked: chunked))
        for _ in range(3):
            self.assertEqual(self.ask(port).status, 200)
        self.assertEqual(self.authority.connections, 1)
        self.edge.stop()
        self.listeners.clear()

        def twice(wire: Wire) -> None:
            wire.message()
            wire.send(ok(b"x"))
            wire.message()  # and closes without an answer

        port = self.guarded(http(twice))
        for _ in range(2):
            self.assertEqual(self.ask(port).status, 200)
        self.assertEqual(self.authority.connections, 2)
