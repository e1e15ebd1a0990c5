"""By whom mail goes to a next hop, and for what: a connection carries the mail of one lane only."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True, cache_hash=True)
class Lane:
    """`zone`: its name. `domain`: the recipients' domain, where that has an entry of its own among `destinations`.
    `source`: the address of ours that it leaves from, "": the kernel's choice; `name`: what that is called in EHLO, "":
    as the host is.
    """

    zone: str
    domain: str = ""
    source: str = ""
    name: str = ""
