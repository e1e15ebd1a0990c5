"""`dcrouter explain mail`: which rule each recipient meets, why no rule before it, and what the server would answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import evolve

from dcrouter.admin.places import find_config
from dcrouter.admin.report import word
from dcrouter.config.actions import MailKind
from dcrouter.config.aliases import Aliases, load_aliases
from dcrouter.config.lists import load_recipients, load_users
from dcrouter.config.load import load
from dcrouter.config.mail import Email
from dcrouter.config.patterns import matches, parse
from dcrouter.config.rules import Reject, Rule
from dcrouter.config.units import size as parse_size
from dcrouter.errors import DcrouterError, WireError
from dcrouter.mail.envelope import Client
from dcrouter.mail.pipeline.conditions import Content
from dcrouter.mail.pipeline.rules import Decision, Rules
from dcrouter.mail.server.admission import RECIPIENT_OK, SENDER_OK, denied
from dcrouter.mail.server.existing import NOBODY
from dcrouter.mail.server.submission import refused_sender
from dcrouter.mail.server.users import Users
from dcrouter.match.addresses import Networks
from dcrouter.wire.header import Head
from dcrouter.wire.smtp.address import parse_path
from dcrouter.wire.smtp.said import NOT_IMPLEMENTED, TOO_BIG
from dcrouter.wire.smtp.xclient import Introduced
from dcrouter.wire.smtp.xclient import parse as parse_xclient

DEFAULT_CLIENT = "192.0.2.1"
"""Somebody who is nobody (RFC 5737)."""


class NoMail(DcrouterError):
    """A question that cannot be answered: one line."""


def explained_mail(arguments: argparse.Namespace) -> int:
    """The command. Exit status 1 where a recipient would be refused."""
    email = load(find_config(arguments.config)).email
    if email is None:
        raise NoMail("the configuration has no `email`")
    if not arguments.to:
        raise NoMail("explain mail: say for whom it is: --to ADDRESS")
    answer = mail_explanation(
        email,
        sender=arguments.sender,
        recipients=arguments.to,
        address=arguments.client_ip or DEFAULT_CLIENT,
        told=_introduced(arguments.xclient),
        account=arguments.auth,
        port=arguments.port,
        content=_content(arguments.header, arguments.size),
    )
    print(json.dumps(answer, indent=1) if arguments.json else "\n".join(mail_lines(answer)))
    return 0 if all(one["answer"].startswith("250") for one in (answer, *answer["recipients"])) else 1


def mail_explanation(
    email: Email,
    *,
    sender: str,
    recipients: Sequence[str],
    address: str,
    account: str | None,
    port: int | None,
    content: Content | None,
    told: Introduced | None = None,
) -> dict[str, Any]:
    """JSON-ready. `answer`: to MAIL; `recipients`: of each the rule, the answer to RCPT (or to the message, where that
    decides), what it depends on (`notes`), the rules before it with why they do not match (`passed`), and where
    nothing is known of the message (`content` None) those that it may meet instead (`may`). `targets`: the same of
    whom the recipient, an alias, stands for; they meet the rules as from a client that may relay.
    `told`: by XCLIENT, for whom the client at `address` speaks; then `client.via` is that, and `client` whom it told.
    """
    client = _client(email, address, account, port)
    introduces = Networks(email.xclient_from).covers(address)
    via = None
    if told is not None:
        if not introduces:
            raise NoMail(f"--xclient: {address} is not in email.xclient_from: it would hear {_text(NOT_IMPLEMENTED)}")
        via, address, account = address, told.address or address, told.login
        client = _client(email, address, account, port)
    path = "" if sender in ("", "<>") else _address(sender, "--from")
    rules = Rules(email)
    aliases = load_aliases(email.aliases_file, email.hostname) if email.aliases_file is not None else None
    return {
        "client": {
            "address": address,
            "kind": client.kind,
            "account": account,
            "may_relay": client.may_relay,
            "via": via,
            "may_xclient": introduces,
        },
        "sender": path,
        "answer": _too_big(email, content) or _to_mail(email, client, path, introduced=told is not None),
        "recipients": [
            _expanded(email, rules, client, path, _address(one, "--to"), content, aliases) for one in recipients
        ],
    }


def mail_lines(answer: dict[str, Any]) -> Iterator[str]:
    """For people."""
    client = answer["client"]
    who = (
        f"logged in as {client['account']}"
        if client["account"]
        else "may relay"
        if client["may_relay"]
        else "a stranger"
    )
    told = f", as {client['via']} says by XCLIENT" if client["via"] else ""
    yield word(f"{client['address']} on a port of kind {client['kind']}, {who}{told}")
    if client["may_xclient"] and not client["via"]:
        yield word("it may say by XCLIENT for whom it speaks (xclient_from, --xclient); what follows is for itself")
    yield word(f"MAIL FROM:<{answer['sender']}>: {answer['answer']}")
    for one in answer["recipients"]:
        yield word(f"RCPT TO:<{one['recipient']}>: {one['answer']}")
        yield from _reasons(one)
        for target in one["targets"]:
            yield word(f"  stands for {target['recipient']}: {target['answer']}")
            yield from (f"  {line}" for line in _reasons(target))


def _reasons(one: Mapping[str, Any]) -> Iterator[str]:
    yield word(
        f"  {one['rule'] or 'default_action'}: {one['action']}"
        + (f", for {one['address']}" if one["address"] != one["recipient"] else "")
    )
    for passed in one["passed"]:
        yield word(f"  not {passed['rule']}: {passed['why']}")
    for may in one["may"]:
        yield word(f"  or {may['rule']}: {may['action']}, {may['answer']}, if {may['when']}")
    for note in one["notes"]:
        yield word(f"  {note}")


def _client(email: Email, address: str, account: str | None, port: int | None) -> Client:
    try:
        ip_address(address)
    except ValueError:
        raise NoMail(f"--client-ip: {address!r} is not an IP address") from None
    kinds = {one.port: one.kind for one in email.ports}
    if port is not None and port not in kinds:
        raise NoMail(f"--port: {port} is no mail port; those are {', '.join(map(str, kinds))}")
    usual: MailKind = "submission" if account is not None and "submission" in kinds.values() else "smtp"
    kind = kinds[port] if port is not None else usual
    return Client(address=address, kind=kind, account=account, trusted=Networks(email.trusted).covers(address))


def _introduced(attributes: str | None) -> Introduced | None:
    try:
        return parse_xclient(attributes) if attributes is not None else None
    except WireError as error:
        raise NoMail(f"--xclient: {attributes!r}: {error}") from None


def _address(text: str, option: str) -> str:
    try:
        address, rest = parse_path(f"<{text.removeprefix('<').removesuffix('>')}>", postmaster=True, utf8=True)
    except WireError as error:
        raise NoMail(f"{option}: {text!r} is not a mail address: {error}") from None
    if rest:
        raise NoMail(f"{option}: {text!r} is not a mail address")
    return address


def _content(headers: Sequence[str] | None, size: str | None) -> Content | None:
    """None: nothing is known of the message."""
    if headers is None and size is None:
        return None
    lines = []
    for header in headers or ():
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise NoMail(f"--header: {header!r} is not NAME:VALUE")
        lines.append(f"{name.strip()}: {value.strip()}\r\n")
    try:
        octets = parse_size(size) if size is not None else 0
    except ValueError as error:
        raise NoMail(f"--size: {error}") from None
    return Content(Head("".join(lines).encode("utf-8", "surrogateescape")), octets)


def _to_mail(email: Email, client: Client, sender: str, *, introduced: bool) -> str:
    """`introduced`: who has logged in, a proxy says that we believe."""
    if client.account is None:
        if client.kind in email.auth.required and not client.trusted:
            return "530 5.7.0 Authentication required"
        return _text(SENDER_OK)
    auth = email.auth
    users = Users((*auth.users, *(load_users(auth.users_file) if auth.users_file is not None else ())))
    user = users.find(client.account)
    if user is None:
        if not introduced and auth.ldap is None and auth.oauth2 is None:
            return "535 5.7.8 Authentication credentials invalid"
        user = users.known_elsewhere(client.account)  # if the directory or the issuer knows it, which is not asked
    refusal = refused_sender(user, sender)
    return _text(refusal if refusal is not None else SENDER_OK)


def _too_big(email: Email, content: Content | None) -> str:
    """What a client that says the size hears (RFC 1870 6.1); else it is the answer to the message."""
    return TOO_BIG.decode("ascii") if content is not None and content.size > email.max_message_size else ""


def _expanded(
    email: Email,
    rules: Rules,
    client: Client,
    sender: str,
    recipient: str,
    content: Content | None,
    aliases: Aliases | None,
) -> dict[str, Any]:
    found = _recipient(email, rules, client, sender, recipient, content)
    targets = aliases.expand(found["address"]) if aliases is not None else None
    if targets is None:
        return {**found, "targets": []}
    found = _recipient(email, rules, client, sender, recipient, content, alias=True)
    relay = evolve(client, trusted=True)
    told = [_recipient(email, rules, relay, sender, target, content) for target in targets]
    if found["answer"].startswith("250") and not any(one["answer"].startswith("250") for one in told):
        found["answer"] = told[0]["answer"]
    return {**found, "targets": told}


def _recipient(
    email: Email,
    rules: Rules,
    client: Client,
    sender: str,
    recipient: str,
    content: Content | None,
    *,
    alias: bool = False,
) -> dict[str, Any]:
    """`alias`: need not exist."""
    decision = rules.decide(recipient, client, sender)
    rule, refusal, notes = decision.rule, decision.refusal, list[str]()
    passed = list(rules.passed(decision, _as_met(decision, recipient, client), sender))
    may = []
    for one in decision.before:
        if content is None:
            answer = _to_recipient(decision.address, one.rule, one.refusal, alias=alias)
            may.append({"rule": one.rule.name, "action": one.rule.action.type, "answer": answer, "when": str(one.late)})
        elif one.late.hold(content):
            rule, refusal = one.rule, one.refusal
            notes.append("decided at the end of the message")
            break
        else:
            passed.append((one.rule.name, str(one.late)))
    answer = _to_recipient(decision.address, rule, refusal, alias=alias)
    if rule is not None and answer.startswith("250"):
        notes += _dependent(email, rule, sender, stranger=client.kind == "smtp" and not client.may_relay)
    if not answer.startswith("250") and any(one["answer"].startswith("250") for one in may):
        notes.append("at the end of the message: RCPT is taken, as one of those may take it")
    order = {rule.name: at for at, rule in enumerate(email.rules)}
    return {
        "recipient": recipient,
        "address": decision.address,
        "rule": rule.name if rule is not None else None,
        "action": rule.action.type if rule is not None else "reject",
        "answer": answer,
        "notes": notes,
        "may": may,
        "passed": [{"rule": name, "why": why} for name, why in sorted(passed, key=lambda one: order[one[0]])],
    }


def _to_recipient(address: str, rule: Rule | None, refusal: Reject | None, *, alias: bool) -> str:
    """The answer, as far as it is known what the recipient meets."""
    denial = denied(address, rule, refusal)
    if denial is not None:
        return _text(denial.reply)
    assert rule is not None
    if rule.recipients_file is not None and not alias and not _exists(rule.recipients_file, address):
        return _text(NOBODY)
    return _text(RECIPIENT_OK)


def _dependent(email: Email, rule: Rule, sender: str, *, stranger: bool) -> Iterator[str]:
    """What else may make it another answer."""
    if rule.verify is not None:
        yield "unless the target, which is asked, does not know the recipient (verify)"
    if rule.limits.messages is not None or rule.limits.max_recipients is not None:
        yield "unless the rule's limits are reached"
    if stranger and email.dnsbl:
        yield "unless DNS lists know the client (dnsbl)"
    if stranger and email.greylist is not None:
        yield "unless the client is not known yet (greylist)"
    if stranger and email.authentication_results.spf and sender:
        yield "unless the sender's domain takes no mail (null MX)"
    if stranger and email.authentication_results.dmarc == "enforce":
        yield "unless the policy of the domain in From refuses the message (dmarc: enforce)"
    if email.rate_limits:
        yield "unless a limit is reached (rate_limits)"


def _as_met(decision: Decision, recipient: str, client: Client) -> Client:
    """Mail to postmaster meets the rules as from a client that may relay."""
    return evolve(client, trusted=True) if decision.address != recipient else client


def _exists(path: Path, address: str) -> bool:
    return any(matches(parse(one), address) for one in load_recipients(path))


def _text(answer: bytes) -> str:
    return answer.decode("ascii").rstrip()
