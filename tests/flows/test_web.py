"""Web traffic through the whole service, with curl and openssl in front and nginx behind."""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support.knock import knock
from tests.support.peers import require
from tests.support.programs import HAProxy, Nginx
from tests.support.router import Router

TEXT = """
proxy_protocol: [{from: [127.0.0.1/32], ports: [$proxied, $proxied_tls]}]
routes:
  - name: welcome
    match: {ports: $tls}
    tls: {mode: terminate, certificate: internal}
    action: {type: respond, body: "It works.", headers: {x-from: dcrouter}}
  - name: named
    match: {ports: $tls, domains: [named.example.test, "*.wild.example.test"]}
    tls: {mode: terminate, certificate: internal}
    action: {type: forward, target: {host: 127.0.0.1, port: $plain_backend}}
  - name: through
    match: {ports: [$tls, $proxied_tls], domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
  - name: again
    match: {ports: $tls, domains: [again.example.test]}
    tls: {mode: terminate-and-reencrypt, certificate: internal, upstream: {server_name: www.example.test, ca: $ca}}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
  - name: distrusted
    match: {ports: $tls, domains: [distrusted.example.test]}
    tls: {mode: terminate-and-reencrypt, certificate: internal, upstream: {server_name: other.example.test, ca: $ca}}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
  - name: only-through
    match: {ports: $strict, domains: [www.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $tls_backend}}
  - name: to-https
    match: {ports: $http}
    action: {type: redirect, to: "https://{host}:$tls{uri}"}
  - name: shut
    match: {ports: $http, domains: [shut.example.test]}
    action: {type: block, status: 451}
  - name: closed
    match: {ports: $closed}
    action: {type: block}
  - name: plain
    match: {ports: [$plain, $proxied]}
    action: {type: forward, target: {host: 127.0.0.1, port: $plain_backend}}
  - name: refused
    match: {ports: $plain, client_ips: [127.0.0.9/32]}
    action: {type: block}
"""
PORTS = ("tls", "strict", "http", "closed", "plain", "proxied", "proxied_tls")


class WebCase(SynchronousTestCase):
    nginx: Nginx
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.nginx = Nginx("www.example.test")
        cls.addClassCleanup(cls.nginx.close)
        cls.router = Router(
            TEXT,
            ports=PORTS,
            expected=["not for other.example.test"],
            plain_backend=cls.nginx.port,
            tls_backend=cls.nginx.tls,
            ca=cls.nginx.ca,
        )
        cls.addClassCleanup(cls.router.close)

    def curl(self, url: str, *options: str, status: int = 0) -> str:
        """What curl prints for `url`, in which `name:port` may use the name of a port; its exit status is checked."""
        for name, port in self.router.ports.items():
            url = url.replace(f":{name}/", f":{port}/")
        argv = [require("curl"), "--silent", "--show-error", "--max-time", "100", "--cacert", self.ca(), *options]
        hosts = ["--connect-to", "::127.0.0.1:"]
        done = subprocess.run([*argv, *hosts, url], capture_output=True, timeout=120, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout.decode()

    def ca(self) -> str:
        """Both authorities in one file: the router's and the backend's."""
        both = self.router.base / "both.pem"
        if not both.exists():
            internal = (self.router.state / "internal-ca" / "ca.pem").read_bytes()
            both.write_bytes(internal + self.nginx.ca.read_bytes())
        return str(both)

    def s_client(self, port: str, *options: str, say: str = "") -> str:
        """What openssl s_client prints, both streams."""
        argv = [
            require("openssl"),
            "s_client",
            "-connect",
            f"127.0.0.1:{self.router.ports[port]}",
            "-CAfile",
            self.ca(),
        ]
        done = subprocess.run([*argv, *options], input=say, capture_output=True, text=True, timeout=240, check=False)
        return done.stdout + done.stderr


class TestCurl(WebCase):
    def test_the_welcome_page_comes_over_tls(self) -> None:
        """Trusted by the internal CA's root, with the headers of the route."""
        said = self.curl("https://localhost:tls/", "--include")
        self.assertTrue(said.startswith("HTTP/1.1 200 OK\r\n"), said)
        self.assertIn("x-from: dcrouter\r\n", said)
        self.assertTrue(said.endswith("\r\n\r\nIt works."), said)

    def test_plain_http_is_redirected(self) -> None:
        """To the same host, path and query over TLS; curl follows it to the page."""
        said = self.curl("http://localhost:http/a/b?c=d", "--include")
        self.assertTrue(said.startswith("HTTP/1.1 308 "), said)
        self.assertIn(f"\r\nLocation: https://localhost:{self.router.ports['tls']}/a/b?c=d\r\n", said)
        self.assertEqual(self.curl("http://localhost:http/", "--location"), "It works.")

    def test_block_answers_http_and_closes_tcp(self) -> None:
        """A status where HTTP is spoken; elsewhere the end of the connection."""
        self.assertTrue(self.curl("http://shut.example.test:http/", "-i").startswith("HTTP/1.1 451 "))
        said = subprocess.run([require("curl"), "-sS", f"http://127.0.0.1:{self.router.ports['closed']}/"], check=False)
        self.assertIn(said.returncode, (52, 56))

    def test_every_way_to_a_backend(self) -> None:
        """Plain, terminated by an exact and a wildcard name, passed through by SNI, and encrypted anew."""
        for url in (
            "http://localhost:plain/hello",
            "https://named.example.test:tls/hello",
            "https://a.wild.example.test:tls/hello",
            "https://again.example.test:tls/hello",
        ):
            self.assertIn("hello over HTTP/1.1", self.curl(url), url)
        self.assertIn("hello over HTTP/2.0", self.curl("https://www.example.test:tls/hello", "--http2"))
        self.assertIn("hello over HTTP/1.1", self.curl("https://www.example.test:tls/hello", "--http1.1"))

    def test_both_versions_of_tls(self) -> None:
        """1.2 and 1.3, ended here and by the backend; nothing older."""
        for name in ("localhost", "named.example.test", "www.example.test", "again.example.test"):
            for options in (["--tls-max", "1.2"], ["--tlsv1.3"]):
                self.curl(f"https://{name}:tls/hello", *options)
        self.curl("https://localhost:tls/", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", status=35)

    def test_a_target_that_proves_to_be_another_gets_nothing(self) -> None:
        """terminate-and-reencrypt verifies the name; the client is told 502, and no more."""
        url = f"https://distrusted.example.test:{self.router.ports['tls']}/hello"
        argv = [require("curl"), "-sS", "-k", "--connect-to", "::127.0.0.1:", url]
        said = subprocess.run(argv, capture_output=True, check=False)
        self.assertEqual((said.returncode, said.stdout), (0, b"502 Bad Gateway\n"))

    def test_a_connection_is_kept_alive(self) -> None:
        """Twenty requests of curl over one connection are one connection of the backend, in every mode."""
        ports = self.router.ports
        for url in (f"http://localhost:{ports['plain']}/hello", f"https://named.example.test:{ports['tls']}/hello"):
            said = self.curl(url, *[url] * 19)
            self.assertEqual((len(said.splitlines()), len(set(said.splitlines()))), (20, 1), said)


class TestServerName(WebCase):
    def test_the_certificate_follows_the_name(self) -> None:
        """Each name gets its own; without one it is that of the port's first terminating route."""
        said = self.s_client("tls", "-servername", "named.example.test", "-verify_hostname", "named.example.test")
        self.assertIn("Verify return code: 0 (ok)", said)
        said = self.s_client("tls", "-servername", "www.example.test", "-verify_hostname", "www.example.test")
        self.assertIn("Verify return code: 0 (ok)", said)
        self.assertIn("Verify return code: 0 (ok)", self.s_client("tls", "-noservername"))

    def test_an_unknown_name_is_an_alert(self) -> None:
        """And so is none at all, where every route has names: unrecognized_name, not a silent end."""
        for options in (["-servername", "nobody.example.test"], ["-noservername"]):
            self.assertIn("unrecognized name", self.s_client("strict", *options))
        (line,) = self.router.access(sni="nobody.example.test")
        self.assertEqual((line.get("route"), line["ended_by"]), (None, "router"))
        self.assertIn("no route for nobody.example.test", line["reason"])

    def test_no_tls_where_tls_is_spoken_ends(self) -> None:
        """A plain request on the TLS port is closed without an answer."""
        heard = knock(self.router.ports["strict"], b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n")
        self.assertEqual(heard.data, b"")


class TestBehindHAProxy(WebCase):
    def test_the_true_client_is_told(self) -> None:
        """Version 1 and 2, plain and in front of a ClientHello: the log has the client and who introduced it."""
        for header in ("send-proxy", "send-proxy-v2"):
            for port, url in (("proxied", "http://x:{}/hello"), ("proxied_tls", "https://www.example.test:{}/hello")):
                haproxy = HAProxy(self.router.ports[port], header)
                self.addCleanup(haproxy.close)
                options = ["--interface", "127.0.0.7", "--write-out", "%{local_port}"]
                said = self.curl(url.format(haproxy.port), *options)
                self.assertIn("hello over HTTP/", said)
                peer = ["127.0.0.7", int(said.splitlines()[-1])]
                (line,) = self.router.access(peer=peer)
                self.assertEqual(line["via"], "127.0.0.1")

    def test_without_a_header_nobody_gets_in(self) -> None:
        """A listed peer must introduce its clients."""
        heard = knock(self.router.ports["proxied"], b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(heard.data, b"")

    def test_a_header_from_others_is_not_believed(self) -> None:
        """Where nobody is listed, the header is just bytes: the backend refuses them."""
        haproxy = HAProxy(self.router.ports["plain"], "send-proxy")
        self.addCleanup(haproxy.close)
        self.assertIn("400 Bad Request", self.curl(f"http://localhost:{haproxy.port}/hello"))
