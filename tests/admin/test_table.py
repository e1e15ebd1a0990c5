from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.table import draw, rows
from dcrouter.config.actions import Action, Block, Forward, Redirect
from dcrouter.config.admin import Admin, Config
from dcrouter.config.forms import Secret
from dcrouter.config.mail import Email, MailPort
from dcrouter.config.match import Match, PortRange
from dcrouter.config.routes import Route, RouteTls
from dcrouter.config.targets import Target, TargetMatch
from dcrouter.config.through import Proxy
from dcrouter.config.tls import CertificateFiles

FORWARD = Forward(targets=(Target(host="10.0.0.1", port=80), Target(host="b.internal"), Target(unix=Path("/run/x"))))
EVERYONE = Match(ports=(PortRange(start=443, end=443),))


def route(name: str, match: Match = EVERYONE, action: Action = FORWARD, tls: RouteTls | None = None) -> Route:
    return Route(name=name, match=match, action=action, tls=tls)


class TestTable(SynchronousTestCase):
    def config(self, *routes: Route) -> Config:
        return Config(
            state_dir=Path("/s"),
            admin=Admin(socket=Path("/s/a")),
            routes=routes,
            email=Email(hostname="m", ports=(MailPort(port=25, kind="smtp"),)),
        )

    def test_routes_are_in_the_order_in_which_connections_meet_them(self) -> None:
        """Priority, then the more specific name, then the file; mail routes are marked."""
        named = Match(ports=EVERYONE.ports, domains=("www.example.com",))
        wild = Match(ports=EVERYONE.ports, domains=("*.example.com",))
        tls = RouteTls(mode="terminate")
        routes = (
            route("any", tls=tls),
            route("wild", wild, tls=tls),
            route("named", named, tls=tls),
            Route(name="first", priority=5, match=EVERYONE, action=FORWARD, tls=tls),
        )
        table = rows(self.config(*routes))
        self.assertEqual([row["name"] for row in table], ["first", "named", "wild", "any", "smtp-25"])
        self.assertEqual([row["generated"] for row in table], [False] * 4 + [True])

    def test_columns_are_aligned_and_say_it_all(self) -> None:
        """What an operator wants to see of a route, on one line."""
        match = Match(
            ports=(PortRange(start=80, end=80), PortRange(start=8000, end=8010)),
            listen=(ip_address("192.0.2.1"),),
            client_ips=(ip_network("10.0.0.0/8"),),
        )
        pair = CertificateFiles(cert=Path("/etc/www.pem"), key=Path("/etc/www.key"))
        text = draw(
            rows(
                self.config(
                    route("to-https", match, Redirect(to="https://{host}{uri}")),
                    route("web", tls=RouteTls(mode="terminate", certificate=pair)),
                )
            )
        )
        self.assertEqual(
            text.splitlines(),
            [
                "order  name      protocol  listen                  match            tls                  action",
                "1      to-https  http      192.0.2.1:80,8000-8010  from 10.0.0.0/8  -                    "
                "redirect 308 to https://{host}{uri}",
                "2      web       tcp       443                     any              terminate (www.pem)  "
                "forward to 10.0.0.1:80, b.internal:preserve, unix:/run/x (round-robin)",
                "3      smtp-25*  tcp       25                      any              mail server's        mail (smtp)",
                "* made from `email.ports`",
            ],
        )

    def test_targets_say_what_is_special_about_them(self) -> None:
        """Weight, backup, match, the way to them; never the password of a proxy."""
        proxy = Proxy(scheme="socks5", host="proxy.test", port=1080, user="me", password=Secret("hunter2"))
        action = Forward(
            targets=(
                Target(host="a.test", port=1, weight=3),
                Target(unix=Path("/run/x"), backup=True),
                Target(host="b.test", port=1, match=TargetMatch(methods=("GET",))),
            ),
            balance="random-two",
            through=proxy,
            source=ip_address("192.0.2.1"),
        )
        match = Match(ports=(PortRange(start=1, end=1),))
        (row,) = rows(Config(state_dir=Path("/s"), routes=(Route(name="a", match=match, action=action),)))
        self.assertEqual(
            row["action"],
            "forward to a.test:1 weight 3, unix:/run/x backup, b.test:1 match (random-two) "
            "through socks5://proxy.test:1080 from 192.0.2.1",
        )

    def test_addresses_of_ipv6_stand_in_brackets(self) -> None:
        """So that the port behind them can be told."""
        match = Match(ports=EVERYONE.ports, listen=(ip_address("::1"), ip_address("127.0.0.1")))
        (row, _) = rows(self.config(route("a", match, Forward(targets=(Target(host="2001:db8::1", port=80),)))))
        self.assertEqual((row["listen"], row["action"]), ("[::1],127.0.0.1:443", "forward to [2001:db8::1]:80"))

    def test_a_block_that_answers_says_with_what(self) -> None:
        """One that only closes does not."""
        silent = route("a", action=Block())
        spoken = route("b", Match(ports=(PortRange(start=80, end=80),)), Block(status=451, answers=True))
        self.assertEqual([row["action"] for row in rows(self.config(silent, spoken))][:2], ["block", "block 451"])
