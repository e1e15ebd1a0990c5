"""Mail through proxies by the whole service: to smtp-sink through microsocks, and never past it."""

from __future__ import annotations

import json
import os
import signal
import smtplib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.ports import Reserved
from tests.support.programs import SmtpSink
from tests.support.proxies import Microsocks
from tests.support.router import Router, until
from tests.support.threaded import Threaded

EMAIL = """
email:
  hostname: mail.example.test
  postmaster: root@local.test
  ports: [{port: $smtp, kind: smtp}]
  trusted: [127.0.0.1/32]
  queue: {retry: {base: 1s, max: 2s}}
  rules:
    - {name: local, match: {recipients: ["*@local.test"]}, action: {type: deliver, maildir: "maildir/{recipient}"}}
    - name: out
      match: {recipients: ["*@example.test"]}
      action: {type: forward, targets: [{host: localhost, port: $hop}]}
  egress:
"""

CODE = """
from dcrouter.interfaces import ByEndpoint

PROXY = "socks5://me:hush@127.0.0.1:%d"

def pick(departure):
    assert departure.message and departure.host == "localhost" and departure.zone == "default", departure
    user = departure.recipient.partition("@")[0]
    if user == "fails":
        raise ValueError("no idea")
    return {
        "proxy": PROXY,
        "rules": [{"match": {"host": "other.test"}, "through": ["http://127.0.0.1:1"]}, {"through": [PROXY]}],
        "endpoint": ByEndpoint(f"tcp:127.0.0.1:{departure.port}"),
        "direct": "direct",
    }.get(user)
"""


class TestEgress(SynchronousTestCase):
    def router(self, rules: str, hop: int, **options: Any) -> Router:
        common = "access_log: {file: access.log}\n"
        router = Router(EMAIL + rules, ports=("smtp",), hop=hop, common=common, **options)
        self.addCleanup(router.close)
        return router

    def send(self, router: Router, *recipients: str) -> None:
        with smtplib.SMTP("127.0.0.1", router.ports["smtp"], timeout=240) as client:
            for recipient in recipients:
                client.sendmail("a@local.test", [recipient], "Subject: x\r\n\r\nx\r\n")

    def test_through_a_proxy_and_never_past_it(self) -> None:
        """The proxy is not there: mail waits, and nobody ever connects to the far end. It comes: the mail flows, the
        access log and `dcrouter status` name it. The password is nowhere.
        """
        far, own = Threaded(lambda sock: None), Reserved()  # the far end only counts who connects
        self.addCleanup(far.close)
        rules = "    - {match: {host: localhost}, through: ['socks5://me:hush@127.0.0.1:$proxy'], on_failure: defer}\n"
        router = self.router(rules, far.port, proxy=own.port, expected=["left alone|socks5"])
        self.send(router, "a@example.test")
        until(lambda: len([line for line in router.access_lines() if line["event"] == "delivery"]) >= 2)
        self.assertEqual({line.get("outcome") for line in router.access_lines()} - {None}, {"deferred"})
        self.assertEqual(far.connections, 0)
        self.assertEqual(router.counters("mail")["egress"]["direct"]["attempts"], 0)
        sink = SmtpSink()
        self.addCleanup(sink.close)
        router.write((EMAIL + rules).replace("$hop", str(sink.port)))
        router.reload()
        proxy = Microsocks("me", "hush", own=own)
        self.addCleanup(proxy.close)
        until(sink.messages)
        (line,) = router.access(1, event="delivery", outcome="delivered")
        label = f"socks5://127.0.0.1:{own.port}"
        self.assertEqual(line["through"], label)
        counted = until(lambda: router.counters("mail")["egress"])
        self.assertEqual(counted["proxies"][label]["connected"], 1)
        self.assertEqual((counted["direct"]["attempts"], far.connections), (0, 0))
        self.assertNotIn("hush", json.dumps(router.status()) + str(router.log()) + str(router.access_lines()))

    def test_code_of_the_operators(self) -> None:
        """`select`: a proxy, rules, an endpoint, straight, nothing (the rule behind decides); where it fails, mail
        waits, until it is mended.
        """
        sink, proxy = SmtpSink(), Microsocks("me", "hush")
        self.addCleanup(sink.close)
        self.addCleanup(proxy.close)
        rules = (
            "    - {match: {recipient: '*@example.test'}, select: 'hooks:pick'}\n"
            "    - {match: {recipient: 'behind@*'}, through: ['socks5://me:hush@127.0.0.1:$proxy']}\n"
        )
        router = self.router(rules, sink.port, proxy=proxy.port, start=False, expected=["no idea|ValueError|pick"])
        hooks = router.base / "hooks.py"
        hooks.write_text(CODE % proxy.port)
        router.start()
        names = ("proxy", "rules", "endpoint", "direct", "behind", "nothing", "fails")
        self.send(router, *(f"{name}@example.test" for name in names))
        label = f"socks5://127.0.0.1:{proxy.port}"
        ways = {"proxy": label, "rules": label, "behind": label, "endpoint": f"tcp:127.0.0.1:{sink.port}"}
        for name in names[:-1]:
            (line,) = router.access(1, event="delivery", outcome="delivered", recipient=f"{name}@example.test")
            self.assertEqual(line.get("through"), ways.get(name), name)
        line = until(lambda: [one for one in router.access_lines() if one.get("recipient") == "fails@example.test"])[0]
        self.assertEqual(line["outcome"], "deferred")
        self.assertIn("hooks:pick does not say how to connect: ValueError: no idea", line["reply"])
        hooks.write_text((CODE % proxy.port).replace('raise ValueError("no idea")', "return PROXY"))
        router.reload()
        (line,) = router.access(1, event="delivery", outcome="delivered", recipient="fails@example.test")
        self.assertEqual(line["through"], label)
        self.assertNotIn("hush", json.dumps(router.status()) + str(router.log()) + str(router.access_lines()))

    def test_code_comes_by_reload_and_outlives_its_processes(self) -> None:
        """No `select` at the start; a reload brings it, with the process that runs it. Whichever process dies, mail
        goes the way that the code says, and never straight.
        """
        sink, proxy = SmtpSink(), Microsocks("me", "hush")
        self.addCleanup(sink.close)
        self.addCleanup(proxy.close)
        none = "    - {match: {host: other.test}, through: ['socks5://127.0.0.1:1']}\n"
        router = self.router(none, sink.port, start=False, expected=["has died|died|again|handlers"])
        (router.base / "hooks.py").write_text(CODE % proxy.port)
        router.start()
        self.assertNotIn("handlers", router.pids())
        router.write((EMAIL + "    - {select: 'hooks:pick'}\n").replace("$hop", str(sink.port)))
        router.reload()
        label = f"socks5://127.0.0.1:{proxy.port}"

        def sent() -> None:
            count = len([line for line in router.access_lines() if line.get("outcome") == "delivered"])
            self.send(router, "proxy@example.test")
            until(lambda: len([line for line in router.access_lines() if line.get("outcome") == "delivered"]) > count)

        sent()
        for role in ("handlers", "mail"):
            before = router.pids()[role]
            os.kill(before, signal.SIGKILL)
            until(lambda role=role, before=before: router.pids().get(role) not in (None, before))
            until(lambda: (router.status() or {}).get("children", {}).get("mail", {}).get("state") == "ready")
            sent()
        delivered = [line for line in router.access_lines() if line.get("outcome") == "delivered"]
        self.assertEqual({line.get("through") for line in delivered}, {label})
        router.write((EMAIL + none).replace("$hop", str(sink.port)))
        router.reload()
        until(lambda: "handlers" not in router.pids())
