"""Open relay: who may reach whom, for every published way to write an address, on every door.

Nothing of the batteries may reach the sink that stands for the rest of the world.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mail.server.test_admission import FOREIGN, NO_PATHS, ROUTED
from tests.support.programs import SmtpSink
from tests.support.router import Router, until
from tests.support.talk import ACCOUNT, DOORS, HOSTNAME, USER, Door, Talk, open_door, plain

TEXT = f"""
proxy_protocol: [{{from: [127.0.0.2/32], ports: [$proxied]}}]
email:
  hostname: {HOSTNAME}
  postmaster: root@ours.test
  ports:
    - {{port: $smtp, kind: smtp}}
    - {{port: $submission, kind: submission}}
    - {{port: $smtps, kind: smtps}}
    - {{port: $proxied, kind: smtp}}
  trusted: [127.0.0.64/30, "2001:db8:1::/48"]
  auth: {{failures: {{max: 10000}}, users: [{ACCOUNT}]}}
  rules:
    - name: ours
      match: {{recipients: ["*@ours.test"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: $inside}}]}}
    - name: world
      match: {{clients: may_relay}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: $world}}]}}
  security: {{max_connections_per_ip: 1000}}
"""
SENDERS = ("", USER, "u@else.test", "u@ours.test", "u@[192.0.2.25]", f"root@{HOSTNAME}")
ABROAD = "RCPT TO:<victim@else.test>"
NO_NUL = tuple(path for path in NO_PATHS if "\0" not in path)


class RelayTests(SynchronousTestCase):
    router: Router
    world: SmtpSink

    @classmethod
    def setUpClass(cls) -> None:
        cls.world, inside = SmtpSink(), SmtpSink()
        cls.addClassCleanup(cls.world.close)
        cls.addClassCleanup(inside.close)
        cls.router = Router(
            TEXT,
            ports=("smtp", "submission", "smtps", "proxied"),
            world=cls.world.port,
            inside=inside.port,
        )
        cls.addClassCleanup(cls.router.close)

    def tearDown(self) -> None:
        """What was not asked for has not gone out."""
        until(lambda: not self.router.queue())
        self.assertEqual([one for one in self.world.messages() if b"allowed" not in one], [])

    def asked(self, door: Door, sender: str, paths: tuple[str, ...], source: str = "127.0.0.1") -> list[bytes]:
        """The replies to RCPT with these paths."""
        with open_door(self.router, door, source=source) as talk:
            talk.say(f"MAIL FROM:<{sender}>")
            return talk.pipeline(*(f"RCPT TO:{path}" for path in paths))

    def reaches(self, talk: Talk) -> bool:
        """Whether it may send abroad as it stands."""
        talk.say("RSET")
        began, reply = talk.pipeline(f"MAIL FROM:<{USER}>", ABROAD)
        taken = began[:4] == b"250 " and reply[:4] == b"250 "
        self.assertTrue(taken or reply[:1] == b"5", (began, reply))
        return taken

    def test_strangers_reach_nobody_but_ours(self) -> None:
        """Percent hack, bang paths, quotes, source routes, literals, NULs, from any sender, on each door: 5xx."""
        for door in DOORS:
            if door.account:
                continue
            for sender in SENDERS:
                for paths in (ROUTED, FOREIGN, NO_PATHS):
                    replies = self.asked(door, sender, paths)
                    for path, reply in zip(paths, replies, strict=True):
                        self.assertEqual(reply[:1], b"5", (door, sender, path, reply))

    def test_nor_do_they_behind_the_proxy(self) -> None:
        """The same, said by the proxy to come from a stranger: its own address, which nobody trusts, opens nothing."""
        for family, address in (("TCP4", "192.0.2.64"), ("TCP6", "2001:db8:2::1")):
            mine = "192.0.2.1" if family == "TCP4" else "2001:db8::25"
            line = f"PROXY {family} {address} {mine} 4711 25\r\n".encode()
            for sender in SENDERS:
                for paths in (ROUTED, FOREIGN, NO_PATHS):
                    with Talk(self.router.ports["proxied"], source="127.0.0.2", first=line) as talk:
                        self.assertEqual(talk.reply()[:4], b"220 ")
                        talk.say("EHLO client.test")
                        talk.say(f"MAIL FROM:<{sender}>")
                        replies = talk.pipeline(*(f"RCPT TO:{path}" for path in paths))
                    for path, reply in zip(paths, replies, strict=True):
                        self.assertEqual(reply[:1], b"5", (address, sender, path, reply))

    def test_names_that_look_like_ours_are_not_ours(self) -> None:
        """Homographs in UTF-8 where that is asked for (RFC 6531), and as what they are in DNS (RFC 5891 4.4)."""
        paths = ("<u@\u043eurs.test>", "<u@our\u0455.test>", "<u@\u043eurs.t\u0435st>", "<u@xn--urs-gdd.test>")
        for door in DOORS:
            if not door.account:
                with open_door(self.router, door) as talk:
                    talk.say("MAIL FROM:<u@else.test> SMTPUTF8")
                    for path in paths:
                        self.assertEqual(talk.say(f"RCPT TO:{path}")[:1], b"5", (door, path))

    def test_whoever_may_relay_reaches_abroad_and_routes_nobody(self) -> None:
        """Logged in, or from a trusted network: others are reached, but no address that leads on from there."""
        doors = [(door, "127.0.0.1") for door in DOORS if door.account]
        doors += [(door, "127.0.0.65") for door in DOORS if door.tls and not door.account]
        for door, source in doors:
            for sender in ("", USER):
                for paths, code in ((ROUTED, {b"550"}), (FOREIGN, {b"250"}), (NO_NUL, {b"501", b"553"})):
                    for path, reply in zip(paths, self.asked(door, sender, paths, source), strict=True):
                        self.assertIn(reply[:3], code, (door, sender, path))

    def test_an_account_sends_as_itself_whatever_the_spelling(self) -> None:
        """553 at MAIL, for each way to write another's address that looks like its own."""
        others = (
            "u@else.test",
            "alice@sender.test.else.test",
            "alice@sub.sender.test",
            "alice%sender.test@else.test",
            '"alice@sender.test"@else.test',
            "alice@sender.tes",
            "@sender.test:u@else.test",
            "else.test!alice@ours.test",
        )
        for door in DOORS:
            if not door.account:
                continue
            for other in others:
                with open_door(self.router, door) as talk:
                    self.assertEqual(talk.say(f"MAIL FROM:<{other}>")[:4], b"553 ", (door, other))
                    self.assertEqual(talk.say(ABROAD)[:4], b"503 ", (door, other))

    def test_what_is_allowed_arrives(self) -> None:
        """So that an empty sink means something."""
        for door in DOORS:
            if door.account:
                with open_door(self.router, door) as talk:
                    talk.begin("friend@else.test")
                    talk.send(f"From: {USER}\r\nSubject: allowed\r\n\r\nx\r\n.\r\n".encode())
                    self.assertEqual(talk.reply()[:4], b"250 ", door)
        until(lambda: len(self.world.messages()) == 3)

    def test_trusted_networks_end_where_they_end(self) -> None:
        """The first and the last address of the network, and the neighbours of both; on each door."""
        for door in DOORS:
            if door.account:
                continue
            for host, inside in ((63, False), (64, True), (67, True), (68, False)):
                with open_door(self.router, door, source=f"127.0.0.{host}") as talk:
                    expected = inside and (door.tls or door.kind == "smtp")  # submission wants TLS of everybody
                    self.assertEqual(self.reaches(talk), expected, (door, host))

    def test_the_proxys_word_counts_only_where_the_proxy_is_listed(self) -> None:
        """Behind it the client's address decides, IPv4 in IPv6's clothes too, and never the proxy's own; from anybody
        else, and on other ports, a PROXY line is no command.
        """
        proxied = self.router.ports["proxied"]
        for family, address, inside in (
            ("TCP4", "127.0.0.64", True),
            ("TCP4", "127.0.0.63", False),
            ("TCP4", "192.0.2.64", False),
            ("TCP6", "::ffff:127.0.0.64", True),
            ("TCP6", "::ffff:127.0.0.68", False),
            ("TCP6", "::127.0.0.64", False),
            ("TCP6", "2001:db8:1:ffff::1", True),
            ("TCP6", "2001:db8:2::1", False),
        ):
            mine = "192.0.2.1" if family == "TCP4" else "2001:db8::25"
            line = f"PROXY {family} {address} {mine} 4711 25\r\n".encode()
            with Talk(proxied, source="127.0.0.2", first=line) as talk:
                self.assertEqual(talk.reply()[:4], b"220 ")
                talk.say("EHLO client.test")
                self.assertEqual(self.reaches(talk), inside, address)
        line = b"PROXY TCP4 127.0.0.64 192.0.2.1 4711 25\r\n"
        for port, source in ((proxied, "127.0.0.3"), (self.router.ports["smtp"], "127.0.0.2")):
            with Talk(port, source=source) as talk:
                talk.reply()
                self.assertEqual(talk.say(line.decode().rstrip())[:4], b"500 ")
                talk.say("EHLO client.test")
                self.assertFalse(self.reaches(talk), source)

    def test_claims_are_no_proof(self) -> None:
        """A trusted name in EHLO, AUTH= at MAIL, XCLIENT and XFORWARD, on each door."""
        claims = (
            "EHLO [127.0.0.64]",
            "XCLIENT ADDR=127.0.0.64",
            f"XCLIENT ADDR=127.0.0.64 LOGIN={USER} PROTO=ESMTP",
            "XCLIENT NAME=[UNAVAILABLE]",
            "XFORWARD ADDR=127.0.0.64 SOURCE=LOCAL",
            "PROXY TCP4 127.0.0.64 192.0.2.1 4711 25",
            f"MAIL FROM:<{USER}> AUTH={USER}",
            f"MAIL FROM:<{USER}> AUTH=<>",
        )
        for door in DOORS:
            if door.account:
                continue
            for claim in claims:
                with open_door(self.router, door) as talk:
                    said = talk.say("EHLO client.test")
                    self.assertNotIn(b"XCLIENT", said)
                    self.assertNotIn(b"XFORWARD", said)
                    reply = talk.say(claim)
                    if claim.startswith("X"):
                        self.assertEqual(reply[:4], b"502 ", (door, claim))
                    self.assertEqual(talk.say(ABROAD)[:1], b"5", (door, claim))
                    self.assertFalse(self.reaches(talk), (door, claim))

    def test_a_login_that_failed_opens_nothing(self) -> None:
        """Wrong, cancelled, half, broken, for another: the client is what it was before."""
        for door in DOORS:
            if not door.account:
                continue
            for lines in (
                (plain(password="wrong"),),
                (plain(user="nobody@sender.test"),),
                (plain(act_as="root@ours.test"),),
                (plain(user="", password=""),),
                ("AUTH PLAIN", "*"),
                ("AUTH LOGIN", "YWxpY2U=", "*"),
                ("AUTH PLAIN !",),
                (plain() + "!",),
                (plain()[:-4],),
                ("AUTH CRAM-MD5",),
                ("AUTH EXTERNAL YWxpY2VAc2VuZGVyLnRlc3Q=",),
                ("AUTH",),
            ):
                with open_door(self.router, door, login=False) as talk:
                    for line in lines:
                        last = talk.say(line)
                    self.assertEqual(last[:1], b"5", (door, lines))
                    self.assertFalse(self.reaches(talk), (door, lines))

    def test_a_login_is_its_connections_own(self) -> None:
        """It holds over EHLO and RSET, not over a failed second one that is no second one; and never elsewhere."""
        for door in DOORS:
            if not door.account:
                continue
            with open_door(self.router, door) as talk, open_door(self.router, door, login=False) as other:
                self.assertTrue(self.reaches(talk))
                self.assertEqual(talk.say("EHLO [192.0.2.1]")[:4], b"250-")
                self.assertTrue(self.reaches(talk))
                talk.say("RSET")
                self.assertEqual(talk.say(plain(password="wrong"))[:4], b"503 ")
                self.assertTrue(self.reaches(talk))
                self.assertFalse(self.reaches(other))

    def test_commands_out_of_order_open_nothing(self) -> None:
        """RCPT before MAIL, DATA without a recipient, a second MAIL: 503 or 554, and nothing is taken."""
        for door in DOORS:
            with open_door(self.router, door) as talk:
                self.assertEqual(talk.say(ABROAD)[:4], b"503 ", door)
                self.assertEqual(talk.say("DATA")[:4], b"503 ", door)
                if door.sends:
                    talk.say(f"MAIL FROM:<{USER}>")
                    self.assertEqual(talk.say("MAIL FROM:<>")[:4], b"503 ", door)
                    if not door.account:
                        self.assertEqual(talk.say(ABROAD)[:4], b"550 ", door)
                    self.assertEqual(talk.say("DATA")[:4], b"554 ", door)
