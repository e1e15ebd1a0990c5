"""The TLS contexts of one process: built when first needed, kept while they are in use, and never changed.

At most MOST of them are there, the longest unused goes first: a name that nobody asks for costs its certificate and no
more. One that is older than TICKETS is built anew, because the keys of session tickets are those of their context and
cannot be exchanged: nobody who gets hold of the keys can read more than the sessions of half a day.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Container

from attrs import define, frozen
from OpenSSL import SSL

from dcrouter.config.tls import TlsProfile
from dcrouter.tls.clients import ClientCheck
from dcrouter.tls.credential import Credential
from dcrouter.tls.profile import server_context

MOST = 1000
"""Contexts, of about 22 KB each."""
MOST_CHECKED = 32
"""Contexts of one identity that ask clients for certificates. Each new revocation list makes one, and the oldest go."""
TICKETS = 12 * 3600.0
"""Seconds for which one context makes tickets; OpenSSL takes them for two hours."""


@define(eq=False)
class Identity:
    """The credentials that stand side by side in one context. `checks`: what clients must prove, oldest first."""

    credentials: tuple[Credential, ...]
    checks: tuple[_Key, ...] = ()


_Key = tuple[Identity, tuple[str, ...], str | None]
"""With ALPN, and the id of what clients must prove."""


@frozen(eq=False)
class _Built:
    context: SSL.Context
    until: float


class Contexts:
    """`seconds`: a clock that never goes back."""

    def __init__(self, profile: TlsProfile, seconds: Callable[[], float] = time.monotonic) -> None:
        self._profile = profile
        self._seconds = seconds
        self._built: OrderedDict[_Key, _Built] = OrderedDict()

    def __len__(self) -> int:
        return len(self._built)

    def get(self, identity: Identity, alpn: tuple[str, ...], clients: ClientCheck | None = None) -> SSL.Context:
        """The context for these; TlsError where it cannot be built."""
        key = (identity, alpn, None if clients is None else clients.id)
        built = self._built.get(key)
        if built is not None and self._seconds() < built.until:
            self._built.move_to_end(key)
            return built.context
        context = server_context(identity.credentials, self._profile, alpn, clients)
        self._built[key] = _Built(context, self._seconds() + TICKETS)
        self._built.move_to_end(key)
        if built is None and clients is not None:
            identity.checks = (*(one for one in identity.checks if one in self._built), key)
            if len(identity.checks) > MOST_CHECKED:
                del self._built[identity.checks[0]]
        if len(self._built) > MOST:
            self._built.popitem(last=False)
        return context

    def keep(self, identities: Container[Identity]) -> None:
        """Forget the contexts of all others."""
        for key in [key for key in self._built if key[0] not in identities]:
            del self._built[key]
