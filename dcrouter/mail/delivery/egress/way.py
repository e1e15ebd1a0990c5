"""How connections to a next hop are made, as a value: those of one way are never used for mail that has another."""

from __future__ import annotations

from typing import Any, NamedTuple

from attrs import frozen

from dcrouter.config.egress import OnFailure
from dcrouter.config.targets import MailBalance
from dcrouter.config.through import Proxy


@frozen(kw_only=True, cache_hash=True)
class Way:
    """Straight, without anything; else through one of `proxies`, or as the Twisted client endpoint that `endpoint`
    describes connects, wherever that leads.
    """

    proxies: tuple[Proxy, ...] = ()
    balance: MailBalance = "failover"
    on_failure: OnFailure = "defer"
    endpoint: str | None = None

    def shown(self) -> dict[str, Any]:
        """JSON-ready, without users and passwords."""
        if self.endpoint is not None:
            return {"way": "endpoint", "endpoint": self.endpoint}
        if not self.proxies:
            return {"way": "direct"}
        told: dict[str, Any] = {"way": "proxy", "through": [str(proxy) for proxy in self.proxies]}
        if len(self.proxies) > 1:
            told["balance"] = self.balance
        return {**told, "on_failure": self.on_failure}


DIRECT = Way()


class Undecided(NamedTuple):
    """Nobody knows yet how to connect, so that the mail waits; why."""

    reason: str
