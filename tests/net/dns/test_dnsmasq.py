"""The resolver against a DNS server that others wrote: dnsmasq."""

from __future__ import annotations

import getpass
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.resolver import Resolver as ResolverConfig
from dcrouter.errors import NoAddress, NoSuchName
from dcrouter.net.resolver import Resolver
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program

MANY = 120
CONF = """\
keep-in-foreground
no-resolv
no-hosts
bind-interfaces
pid-file=
listen-address=127.0.0.1
user={user}
port={port}
local=/test/
mx-host=a.test,mx1.a.test,10
mx-host=a.test,mx2.a.test,20
host-record=mx1.a.test,192.0.2.1,2001:db8::1
host-record=mx2.a.test,192.0.2.2
cname=alias.test,mx1.a.test
txt-record=text.test,hello
"""


class DnsmasqTests(TestCase):
    async def test_a_real_server_is_understood(self) -> None:
        """MX, both families of addresses, CNAME, NODATA, NXDOMAIN, and an answer that only TCP can carry."""
        dnsmasq = require("dnsmasq")
        base, place = Path(tempfile.mkdtemp(prefix="dnsmasq-")), Reserved()
        many = "".join(f"mx-host=big.test,exchanger-number-{at}.big.test,{at + 1}\n" for at in range(MANY))
        (base / "conf").write_text(CONF.format(user=getpass.getuser(), port=place.port) + many)
        program = Program([dnsmasq, f"--conf-file={base / 'conf'}"], base, place.port, (place,))
        self.addCleanup(program.close)
        resolver = Resolver(
            ResolverConfig(servers=(HostPort("127.0.0.1", place.port),)), reactor, hosts=Path("/nonexistent")
        )
        self.addCleanup(resolver.close)
        self.assertEqual((await resolver.mx("a.test")).hosts, ((10, "mx1.a.test"), (20, "mx2.a.test")))
        self.assertEqual(await resolver.addresses("mx1.a.test"), ("192.0.2.1", "2001:db8::1"))
        self.assertEqual(await resolver.addresses("alias.test"), ("192.0.2.1", "2001:db8::1"))
        self.assertEqual((await resolver.mx("text.test")).hosts, ())
        await self.assertFailure(resolver.addresses("text.test"), NoAddress)
        await self.assertFailure(resolver.addresses("nothing.test"), NoSuchName)
        self.assertEqual(len((await resolver.mx("big.test")).hosts), MANY)
