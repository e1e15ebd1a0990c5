"""The edge and the mail half as two services, from one routes.yaml: `dcrouter run --only proxy` and `--only mail`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.proxyheader import build_v1, build_v2
from tests.mail.server.accounts import HASHES
from tests.support.halves import Halves
from tests.support.knock import knock
from tests.support.mailboxes import messages
from tests.support.peers import require_swaks_tls
from tests.support.programs import SmtpSink
from tests.support.router import RUN, until
from tests.support.shell import run
from tests.support.talk import ACCOUNT, HOSTNAME, PASSWORD, USER, Door, Talk, open_door

EDGE = "127.0.0.1"
TWISTD = str(Path(sys.executable).with_name("twistd"))
MOST = 20
TRUSTED, STRANGER, BLOCKED, ELSEWHERE = "127.0.0.64", "127.0.0.9", "127.0.0.13", "127.0.0.7"
TEXT = f"""
routes: [{{name: web, match: {{ports: $web}}, action: {{type: respond, body: web}}}}]
email:
  hostname: {HOSTNAME}
  postmaster: root@ours.test
  ports:
    - {{port: $smtp, kind: smtp, max_connections: {MOST}}}
    - {{port: $submission, kind: submission}}
    - {{port: $smtps, kind: smtps}}
  remote:
    host: {EDGE}
    from: [{EDGE}/32]
    ports: {{$smtp: $smtp_inner, $submission: $submission_inner, $smtps: $smtps_inner}}
  # The edge's own address, too: a client is never taken for it.
  trusted: [{TRUSTED}/32, {EDGE}/32]
  auth: {{failures: {{max: 2}}, users: [{ACCOUNT}]}}
  security: {{block: [{BLOCKED}/32], max_connections_per_ip: 3}}
  rules:
    - name: ours
      match: {{recipients: ["*@ours.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
    - name: world
      match: {{clients: may_relay}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: $world}}]}}
"""
TURNED_AWAY = "is turned away from port"
PORTS = ("web", "smtp", "submission", "smtps", "smtp_inner", "submission_inner", "smtps_inner", "spare")
HERE = ("127.0.0.1", 4711), ("127.0.0.1", 25)
assert HASHES[PASSWORD]


class HalvesCase(SynchronousTestCase):
    halves: Halves
    world: SmtpSink
    seen: _Seen

    @classmethod
    def setUpClass(cls) -> None:
        cls.world = SmtpSink()
        cls.addClassCleanup(cls.world.close)
        cls.halves = Halves(TEXT, ports=PORTS, world=cls.world.port, expected=["is banned for", TURNED_AWAY])
        cls.addClassCleanup(cls.halves.close)
        cls.seen = _Seen(cls.halves)

    def swaks(self, port: str, to: str, *options: str, source: str = STRANGER, status: int = 0) -> str:
        server = ["--server", "127.0.0.1", "--port", str(self.halves.proxy.ports[port]), "--local-interface", source]
        argv = [require_swaks_tls(), *server, "--helo", "client.test", "--from", USER, "--to", to, *options]
        return run(argv, status=status).decode()

    def dcrouter(self, *arguments: str) -> str:
        """What the command line says, in the directory of both."""
        argv = [sys.executable, "-m", "dcrouter.admin.cli", *arguments]
        done = subprocess.run(
            argv, cwd=self.halves.proxy.base, capture_output=True, text=True, timeout=240, check=False
        )
        return done.stdout + done.stderr


class _Seen:
    """A Router as `open_door` wants one: clients connect to the edge, and verify what the mail half shows."""

    def __init__(self, halves: Halves) -> None:
        self.ports = halves.proxy.ports
        self.state = halves.mail.state


class HalvesTests(HalvesCase):
    def test_mail_comes_through_both(self) -> None:
        """In clear, by STARTTLS, and by TLS at once with a login; Received tells of the client, not of the edge."""
        login = ("-a", "PLAIN", "-au", USER, "-ap", PASSWORD)
        for port, box, options in (
            ("smtp", "clear", ()),
            ("smtp", "starttls", ("-tls",)),
            ("submission", "submitted", ("-tls", *login)),
            ("smtps", "tls", ("-tlsc", *login)),
        ):
            said = self.swaks(port, f"{box}@ours.test", *options)
            self.assertIn("250 2.", said)
            folder = self.halves.proxy.state / "maildir" / f"{box}@ours.test"
            (arrived,) = until(lambda folder=folder: messages(folder))
            self.assertIn(f"[{STRANGER}]".encode(), arrived.raw.partition(b"\r\n\r\n")[0])
            self.assertNotIn(f"[{EDGE}]".encode(), arrived.raw.partition(b"\r\n\r\n")[0])

    def test_the_certificate_is_the_mail_halfs(self) -> None:
        """STARTTLS and TLS at once verify against what the mail half has; the edge's own authority is another."""
        for kind in ("smtp", "smtps"):
            with open_door(self.seen, Door(kind=kind, tls=True), source=STRANGER) as talk:
                self.assertEqual(talk.say("NOOP")[:3], b"250")

    def test_only_the_clients_address_counts(self) -> None:
        """`trusted`, `block` and limits mean who connects to the edge, and the edge's own address nobody."""
        with Talk(self.halves.proxy.ports["smtp"], source=STRANGER) as talk:
            self.assertEqual(talk.reply()[:4], b"220 ")
            replies = [talk.say("EHLO a.test"), *talk.pipeline(f"MAIL FROM:<{USER}>", "RCPT TO:<victim@else.test>")]
            self.assertEqual(replies[-1][:9], b"550 5.7.1")
        with Talk(self.halves.proxy.ports["smtp"], source=TRUSTED) as talk:
            self.assertEqual(talk.reply()[:4], b"220 ")
            replies = [talk.say("EHLO a.test"), *talk.pipeline(f"MAIL FROM:<{USER}>", "RCPT TO:<victim@else.test>")]
            self.assertEqual(replies[-1][:4], b"250 ")
        with Talk(self.halves.proxy.ports["smtp"], source=BLOCKED) as talk:
            self.assertEqual(talk.reply()[:4], b"421 ")
        three = [Talk(self.halves.proxy.ports["smtp"], source="127.0.0.21") for _ in range(3)]
        try:
            for talk in three:
                self.assertEqual(talk.reply()[:4], b"220 ")
            with Talk(self.halves.proxy.ports["smtp"], source="127.0.0.21") as talk:
                self.assertEqual(talk.reply()[:4], b"421 ")
            with Talk(self.halves.proxy.ports["smtp"], source="127.0.0.22") as talk:
                self.assertEqual(talk.reply()[:4], b"220 ")
        finally:
            for talk in three:
                talk.__exit__()

    def test_bans_are_of_clients(self) -> None:
        """Wrong passwords ban the address behind the header; others who come by the same edge log in, and
        `dcrouter bans` asks the half that knows.
        """
        door = Door(kind="submission", tls=True, account=True)
        guesser = "127.0.0.31"
        for _ in range(2):
            with open_door(self.seen, door, source=guesser, login=False) as talk:
                self.assertIn(talk.say("AUTH PLAIN AGFsaWNlQHNlbmRlci50ZXN0AG5v")[:3], (b"535", b"421"))
        with Talk(self.halves.proxy.ports["submission"], source=guesser) as talk:
            self.assertEqual(talk.reply()[:4], b"421 ")
        with open_door(self.seen, door, source="127.0.0.32") as talk:
            self.assertEqual(talk.say("NOOP")[:3], b"250")
        self.assertIn(guesser, self.dcrouter("bans", "list"))
        self.assertIn("1 ban lifted", self.dcrouter("bans", "clear", guesser))

    def test_who_is_no_edge_is_nobody(self) -> None:
        """From an address that `from` does not name, a PROXY header of either version, however trusted the client in
        it, leads to no reply but a refusal; nothing goes out, and the log names the address.
        """
        trusted = (TRUSTED, 4711), HERE[1]
        for name in ("smtp_inner", "submission_inner", "smtps_inner"):
            for header in (build_v2(*trusted), build_v1(*trusted), b""):
                mail = f"EHLO a.test\r\nMAIL FROM:<{USER}>\r\nRCPT TO:<victim@else.test>\r\nDATA\r\n".encode()
                said = knock(self.halves.proxy.ports[name], header + mail, ELSEWHERE).data
                self.assertIn(said[:4], (b"", b"421 "), said)
                self.assertLessEqual(said.count(b"\r\n"), 1, said)
        self.assertEqual(self.world.messages(), [])
        until(lambda: any(f"{ELSEWHERE} {TURNED_AWAY}" in line["text"] for line in self.halves.mail.log()))

    def test_an_edge_must_introduce_its_clients(self) -> None:
        """From the edge's address, mail without a header gets no greeting; nor does half a header, or silence."""
        whole = build_v2(*HERE)
        for first in (b"EHLO a.test\r\nMAIL FROM:<>\r\n", b"", whole[:13], b"PROXY TCP4 1\r\n"):
            said = knock(self.halves.proxy.ports["smtp_inner"], first, EDGE).data
            self.assertNotIn(b"220", said, first)
        said = knock(self.halves.proxy.ports["smtp_inner"], build_v2((STRANGER, 5), HERE[1]) + b"QUIT\r\n", EDGE).data
        self.assertIn(
            (said[:4], said.splitlines()[-1][:4]), ((b"220 ", b"221 "), (b"554 ", b"554 "))
        )  # it did not wait

    def test_each_half_tells_what_it_is(self) -> None:
        """`routes`, `check`, `status`, `queue` and `connections`, of either half; a service without a word of which
        half it is does not start.
        """
        proxy, ports = self.halves.proxy, self.halves.proxy.ports
        self.assertIn(f"mail (smtp) at {EDGE}:{ports['smtp_inner']}", self.dcrouter("routes"))
        mail = self.dcrouter("routes", "--only", "mail")
        self.assertIn(f"smtps-{ports['smtps_inner']}*", mail)
        self.assertNotIn("web", mail)
        for only in ((), ("--only", "proxy"), ("--only", "mail")):
            self.assertIn("routes.yaml: ok", self.dcrouter("check", *only))
        roles = {name: set((half.status() or {})["children"]) for name, half in (("p", proxy), ("m", self.halves.mail))}
        self.assertEqual(roles, {"p": {"edge"}, "m": {"edge", "mail"}})
        self.assertIn("mail: ready", self.dcrouter("status", "--only", "mail"))
        self.assertNotIn("mail:", self.dcrouter("status"))
        self.assertIn("nothing", self.dcrouter("queue", "list").replace("is empty", "nothing"))
        code, said = proxy.try_start()
        self.assertEqual(code, 1)
        self.assertIn("--only proxy and --only mail", said)


class ChangesTests(HalvesCase):
    def test_each_half_follows_the_file(self) -> None:
        """A reload moves a port between the halves, and says who may come; one without `remote` is refused."""
        proxy, mail = self.halves.proxy, self.halves.mail
        self.addCleanup(proxy.reload)
        self.addCleanup(mail.reload)
        self.addCleanup(proxy.write, TEXT)
        proxy.write(TEXT.replace("$smtp: $smtp_inner", "$smtp: $spare"))
        for half in (mail, proxy):
            self.assertEqual(half.reload()["problems"], [])
        listening = {one["port"] for one in (mail.status() or {})["listeners"]}
        self.assertIn(proxy.ports["spare"], listening)
        self.assertNotIn(proxy.ports["smtp_inner"], listening)
        self.assertTrue(self.greeted())
        proxy.write(TEXT.replace(f"from: [{EDGE}/32]", f"from: [{ELSEWHERE}/32]"))
        for half in (mail, proxy):
            self.assertEqual(half.reload()["problems"], [])
        self.assertFalse(self.greeted())
        for half in (mail, proxy):
            half.expected.append("reload: ")
            proxy.write(TEXT[: TEXT.index("  remote:")] + TEXT[TEXT.index("  # The edge's") :])
            self.assertIn("'remote' is missing", half.reload()["problems"][0])

    def test_a_crowd_that_says_nothing_turns_over(self) -> None:
        """`max_connections` of a port: the oldest without EHLO hears 421 through the edge, those who have said it stay,
        and who comes is served; both halves are without a connection when all have gone.
        """
        port = self.halves.proxy.ports["smtp"]
        with contextlib.ExitStack() as stack:

            def come(number: int) -> Talk:
                talk = stack.enter_context(Talk(port, source=f"127.0.1.{number}"))
                self.assertEqual(talk.reply()[:4], b"220 ", number)
                return talk

            honest = come(1)
            self.assertEqual(honest.say("EHLO a.test")[:4], b"250-")
            crowd = [come(number) for number in range(2, MOST + 10)]
            gone = [talk.rest() for talk in crowd[:9]]
            self.assertEqual({said[0][:9] for said in gone}, {b"421 4.3.2"})
            self.assertEqual(honest.say(f"MAIL FROM:<{USER}>")[:4], b"250 ")
            self.assertEqual(crowd[-1].say("EHLO a.test")[:4], b"250-")
            self.assertEqual(self.halves.mail.counters("mail")["shed"], 9)
        for half in (self.halves.proxy, self.halves.mail):
            until(lambda half=half: half.counters("edge")["active"] + half.counters("edge")["handed_over"] == 0)

    def test_the_queue_is_opened_once(self) -> None:
        """One service that would have the same queue does not start; nor does a second mail half."""
        proxy, mail = self.halves.proxy, self.halves.mail
        for command in (RUN, (TWISTD, "-n", "--pidfile=", "dcrouter")):
            code, said = proxy.try_start((*command, "--only", "mail"))
            self.assertEqual(code, 1)
            self.assertIn("mail-half is in use by another dcrouter", said)
            code, said = proxy.try_start((*command, "--only", "both"))
            self.assertIn("proxy", said)
            if command == RUN:  # twistd before 25 ends with 0 when it has shown how it is used
                self.assertNotEqual(code, 0)
        proxy.stop()
        whole = TEXT[: TEXT.index("  remote:")] + TEXT[TEXT.index("  # The edge's") :]
        self.addCleanup(proxy.start)
        self.addCleanup(proxy.write, TEXT)
        proxy.write(whole)
        code, said = proxy.try_start()
        self.assertEqual(code, 1)
        self.assertIn("is in use by another dcrouter, or one of its halves", said)
        self.assertTrue(mail.status())

    def test_a_half_that_dies_comes_back(self) -> None:
        """Either's edge and the mail process are started again with what they were; while nobody is there, the edge
        answers 421 and never hangs.
        """
        proxy, mail = self.halves.proxy, self.halves.mail
        for half, role in ((mail, "mail"), (mail, "edge"), (proxy, "edge")):
            half.expected.append(r"has died|channel|died")
            before = half.pids()[role]
            subprocess.run(["kill", "-9", str(before)], check=True)
            until(lambda half=half, role=role, before=before: half.pids().get(role, before) != before)
            until(lambda: self.greeted())
        mail.stop()
        proxy.expected.append("cannot connect")
        with Talk(proxy.ports["smtp"], source=STRANGER) as talk:
            self.assertEqual(talk.reply()[:4], b"421 ")
        mail.start()
        until(lambda: self.greeted())

    def greeted(self) -> bool:
        try:
            with Talk(self.halves.proxy.ports["smtp"], source=STRANGER) as talk:
                return talk.reply()[:4] == b"220 "
        except OSError:
            return False


class DrainTests(SynchronousTestCase):
    def test_an_edge_that_stops_lets_the_mail_half_say_so(self) -> None:
        """421 to whoever has a session when `drain` is over, in clear and within TLS, idle and in a message; the edge
        has ended then."""
        halves = Halves(f"defaults: {{timeouts: {{drain: 1s}}}}{TEXT}", ports=PORTS, world=1)
        self.addCleanup(halves.close)
        seen = _Seen(halves)
        with contextlib.ExitStack() as stack:
            talks = [
                stack.enter_context(open_door(seen, door, source=STRANGER, login=False))
                for door in (Door(kind="smtp"), Door(kind="smtp", tls=True), Door(kind="smtps", tls=True))
            ]
            talks[1].begin("a@ours.test", sender="b@x.test")
            self.assertEqual(halves.proxy.stop(), 0)
            self.assertEqual([talk.reply()[:10] for talk in talks], [b"421 4.3.2 "] * 3)
            self.assertEqual([talk.reply() for talk in talks], [b""] * 3)
        until(lambda: halves.mail.counters("mail").get("connections") == 0)
