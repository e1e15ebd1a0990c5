"""What a route does with its connections."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.forms import CodeName, ReadPath, counted, key, one_of
from dcrouter.config.health import Health
from dcrouter.config.http import AnswerHeaders, FileName, Headers, PathRewrite
from dcrouter.config.lines import RedirectTemplate
from dcrouter.config.match import Address
from dcrouter.config.remote import Remote
from dcrouter.config.targets import Balance, Target
from dcrouter.config.through import ProxyUrl
from dcrouter.wire.http1 import check_header

MailKind = Literal["smtp", "submission", "smtps"]


@frozen(kw_only=True)
class Forward:
    """Bytes go to one of `targets`; when its connect fails, up to `retries` others are tried.

    Backups are tried last, and only as far as `retries` reach.
    """

    type: Literal["forward"] = field(default="forward", metadata=key("What the route does."))
    targets: tuple[Target, ...] = field(
        metadata=key(
            "Where connections go; `target: {...}` is short for a list of one.",
            single="target",
            nonempty="it would lead nowhere",
            unless="select",
        )
    )
    select: CodeName | None = field(
        default=None,
        metadata=key(
            "A callable that gets what is known of the connection, or of the request, and names the target; where it "
            "does not, `targets` are used. Modules as for `factory` of a handler.",
            default="nobody is asked",
        ),
    )
    balance: Balance = field(
        default="round-robin",
        metadata=key(
            "How one of several targets is picked: in turn; the one with the fewest connections for its weight; "
            "always the same for a client; the better of two at random; the first that can be reached."
        ),
    )
    retries: Annotated[int, counted(0, 100)] = field(
        default=2, metadata=key("How many other targets are tried when a connect fails.")
    )
    source: Address | None = field(
        default=None, metadata=key("The local address that targets are connected from.", default="the kernel's choice")
    )
    through: ProxyUrl | None = field(
        default=None,
        metadata=key(
            "The proxy through which targets are connected to; it gets their names as they are written. A user and a "
            "password are percent-encoded.",
            default="straight",
        ),
    )
    health: Health | None = field(
        default=None, metadata=key("How targets are found to be down.", default="all are always tried")
    )
    proxy_protocol: Literal["v1", "v2"] | None = field(
        default=None,
        metadata=key("The PROXY header that tells the target who the client is.", default="none is sent"),
    )
    headers: Headers | None = field(
        default=None, metadata=key("Headers of requests and responses that are changed.", default="none")
    )
    path_rewrite: PathRewrite | None = field(
        default=None, metadata=key("What the target is asked for instead.", default="the path as it is")
    )


@frozen(kw_only=True)
class Redirect:
    """HTTP requests are answered with a redirect."""

    type: Literal["redirect"] = field(default="redirect", metadata=key("What the route does."))
    to: RedirectTemplate = field(
        metadata=key("The new URL; {host} (without port) {port} {path} {query} {uri} are those of the request.")
    )
    status: Annotated[int, one_of(301, 302, 303, 307, 308)] = field(default=308, metadata=key("Status of the answer."))


@frozen(kw_only=True)
class Respond:
    """HTTP requests are answered with this."""

    type: Literal["respond"] = field(default="respond", metadata=key("What the route does."))
    status: Annotated[int, counted(200, 599)] = field(default=200, metadata=key("Status of the answer."))
    body: str = field(default="", metadata=key("The answer's body, sent as UTF-8."))
    headers: dict[str, str] = field(
        factory=dict,
        metadata=key("Headers of the answer; `content-type` is plain text unless it is said here.", entry=check_header),
    )


@frozen(kw_only=True)
class Static:
    """Files under `root`, and nothing else: no listing, no hidden files, no link that leads out of it."""

    type: Literal["static"] = field(default="static", metadata=key("What the route does."))
    root: ReadPath = field(metadata=key("The directory; it may be a link, which is followed for each request."))
    index: tuple[FileName, ...] = field(
        default=("index.html",), metadata=key("What stands for a directory: the first of these files that is there.")
    )
    headers: AnswerHeaders | None = field(
        default=None, metadata=key("Headers of responses that are changed.", default="none")
    )
    path_rewrite: PathRewrite | None = field(
        default=None, metadata=key("The path that is looked for instead.", default="the path as it is")
    )


@frozen(kw_only=True)
class Block:
    """Nobody gets through: an answer on http routes, a plain close on tcp ones. A `status` makes it an http route.

    `answers`: `status` was written.
    """

    type: Literal["block"] = field(default="block", metadata=key("What the route does."))
    status: Annotated[int, counted(400, 599)] = field(
        default=403, metadata=key("Status of the answer on http routes; tcp routes are closed.")
    )
    answers: bool = False


@frozen(kw_only=True)
class Handler:
    """A Twisted protocol factory of the operator's own takes the connection over, TLS included, in another process."""

    type: Literal["handler"] = field(default="handler", metadata=key("What the route does."))
    factory: CodeName = field(
        metadata=key(
            "The factory: an IProtocolFactory, or what makes one when it is called. Modules are installed packages, or "
            "stand beside this file."
        )
    )


@frozen(kw_only=True)
class MailHandover:
    """The connection goes to the mail server, which does the TLS of it."""

    type: Literal["mail"] = field(default="mail", metadata=key("What the route does."))
    kind: MailKind = field(
        default="smtp",
        metadata=key("How mail is spoken: `smtp` and `submission` with STARTTLS, `smtps` with TLS at once."),
    )


@frozen(kw_only=True)
class MailRelay(MailHandover):
    """The connection goes to the mail half, which is a service of its own: what `email.remote` makes of a handover.

    Never read from a file, and never sent to another process.
    """

    remote: Remote


Action = Forward | Redirect | Respond | Static | Block | Handler | MailHandover
