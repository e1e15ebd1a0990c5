"""`dcrouter explain`: which route a connection gets, which were considered, and why each lost.

Offline it reads the file; with `--live` the service answers, by the configuration that it runs with, and says what its
edge decides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

import attrs
from twisted.internet.defer import Deferred

from dcrouter.admin.client import ask
from dcrouter.admin.control import Command
from dcrouter.admin.deliveryexplain import explained_delivery
from dcrouter.admin.mailexplain import explained_mail
from dcrouter.admin.places import find_config, service_socket
from dcrouter.admin.report import aligned, word
from dcrouter.admin.table import rows
from dcrouter.config.admin import Config
from dcrouter.config.load import load
from dcrouter.config.versions import TlsVersion
from dcrouter.errors import DcrouterError
from dcrouter.proxy.explain import explain
from dcrouter.proxy.question import Question, asked


class Mistaken(DcrouterError):
    """A question that cannot be understood: one line."""


def add_explain_command(command: Command) -> argparse.ArgumentParser:
    """The parser, which still wants to know where configuration and service are."""
    parser = command("explain", explained, "print which route a connection gets, or which rules mail meets, and why")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("mail", "delivery"),
        help="which rule each recipient of a message meets; how mail to ADDRESS would leave now (asks the service)",
    )
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="of `explain delivery`: to whom")
    connection = parser.add_argument_group("the connection")
    connection.add_argument(
        "--port", type=int, metavar="N", help="the port that the client connects to; needed but for mail"
    )
    connection.add_argument("--listen", metavar="ADDRESS", help="the address that it connects to")
    connection.add_argument("--client-ip", metavar="ADDRESS", help="its own address")
    connection.add_argument("--time", metavar="TIME", help="when it comes: 2026-11-21T08:00 [now]")
    connection.add_argument("--tls", action="store_true", help="it speaks TLS (as it does with one of the next three)")
    connection.add_argument("--sni", metavar="NAME", help="the name that it asks for")
    connection.add_argument("--alpn", metavar="NAMES", help="what it offers by ALPN: h2,http/1.1")
    connection.add_argument("--tls-version", choices=get_args(TlsVersion), help="the newest version that it offers")
    request = parser.add_argument_group("its request")
    request.add_argument("--host", metavar="NAME", help="Host [as --sni]")
    request.add_argument("--path", metavar="PATH")
    request.add_argument("--method", metavar="METHOD")
    request.add_argument(
        "--header",
        action="append",
        metavar="NAME:VALUE",
        help="a header of the request, or of the mail; may be said several times",
    )
    mail = parser.add_argument_group("explain mail")
    mail.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="its sender [<>]; of delivery, too")
    mail.add_argument("--to", action="append", metavar="ADDRESS", help="a recipient; may be said several times")
    mail.add_argument("--size", metavar="SIZE", help="how large it is: 2MB")
    mail.add_argument("--auth", metavar="ACCOUNT", help="whom the client has logged in as [nobody]")
    mail.add_argument(
        "--xclient",
        metavar="ATTRIBUTES",
        help='what the client says by XCLIENT: "ADDR=192.0.2.7 LOGIN=a@b.example"',
    )
    delivery = parser.add_argument_group("explain delivery")
    delivery.add_argument("--zone", metavar="NAME", help="as if the mail were in this zone")
    delivery.add_argument("--message", metavar="ID", help="which source this message has")
    parser.add_argument("--all", action="store_true", help="print routes of other names too")
    parser.add_argument("--live", action="store_true", help="ask the running service, not the file")
    return parser


def explained(arguments: argparse.Namespace) -> int:
    """The command. Exit status 1 where no route is found."""
    if arguments.what == "mail":
        return explained_mail(arguments)
    if arguments.what == "delivery":
        if arguments.address is None:
            arguments.parser.error("explain delivery: to whom? ADDRESS is missing")
        return explained_delivery(arguments)
    if arguments.port is None:
        arguments.parser.error("the following arguments are required: --port")
    fields = _fields(arguments)
    if arguments.live:
        answer = ask(service_socket(arguments), "POST", "/explain", {**fields, "all": arguments.all})
    else:
        answer = explanation(load(find_config(arguments.config), arguments.only), fields, everything=arguments.all)
    print(json.dumps(answer, indent=1) if arguments.json else "\n".join(lines(answer)))
    return 0 if answer["route"] is not None else 1


def explanation(config: Config, fields: Mapping[str, Any], *, everything: bool = False) -> dict[str, Any]:
    """JSON-ready. `considered`: places in the order; `others`: how many more there are, for other names."""
    question = question_of(fields)
    found = explain(config, question)
    places = [(number, place) for number, place in enumerate(found.considered, 1) if everything or place.named]
    winner = next((row for row in rows(config) if row["name"] == found.winner), None)
    return {
        "question": in_words(question),
        "route": found.winner,
        "protocol": found.protocol,
        "action": winner["action"] if winner is not None else None,
        "status": found.status,
        "notes": list(found.notes),
        "considered": [{"order": number, **attrs.asdict(place)} for number, place in places],
        "others": len(found.considered) - len(places),
    }


def explained_live(
    config: Config, fields: Mapping[str, Any], decide: Callable[[dict[str, Any]], Deferred[dict[str, Any]]]
) -> Deferred[dict[str, Any]]:
    """`explanation` by the configuration in use; `decide` asks the edge, whose answer counts where all was told.

    `fields` may have `all`: places for other names are listed too.
    """
    told = {name: value for name, value in fields.items() if name != "all"}
    found = explanation(config, told, everything=bool(fields.get("all")))
    # Time goes on between the two, and must not be what they differ in.
    told["time"] = question_of(told).now

    def compared(decided: dict[str, Any]) -> dict[str, Any]:
        if "error" in decided:
            return decided
        fallen = found["route"] is None and found["status"] is None
        agrees = decided["route"] == ("defaults.target" if fallen and decided["route"] else found["route"])
        if not agrees and not any(place["verdict"] == "open" for place in found["considered"]):
            found["notes"].append(f"the edge decides otherwise, as it has another configuration: {decided['route']}")
        return {**found, "edge": decided}

    return decide(told).addCallback(compared)


def question_of(fields: Mapping[str, Any]) -> Question:
    """Mistaken where it cannot be understood."""
    try:
        return asked(fields)
    except ValueError as error:
        raise Mistaken(str(error)) from None


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    yield answer["question"]
    opens = [place for place in answer["considered"] if place["verdict"] == "open"]
    if answer["route"] is not None:
        unless = ", unless one above it does that is open" if opens else ""
        yield f"{answer['route']} wins ({answer['protocol']}, {word(answer['action'])}){unless}"
    elif answer["status"] is not None:
        yield f"no route: the client is answered {answer['status']}"
    else:
        yield "no route" + (" for certain" if opens else "")
    yield from answer["notes"]
    yield from _table(answer["considered"])
    if answer["others"]:
        yield f"{answer['others']} more for other names (--all)"


def in_words(question: Question) -> str:
    """One line."""
    client = f" from {question.client}" if question.client is not None else ""
    local = f" of {question.local}" if question.local is not None else ""
    text = f"port {question.port}{local}{client}: "
    if question.tls:
        more = [*(question.alpn or ()), *([question.tls_version] if question.tls_version else [])]
        text += f"TLS for {question.sni or 'nobody'}" + (f" ({', '.join(more)})" if more else "")
    else:
        text += "plain"
    if question.has_request:
        host = f" of {question.host}" if question.host is not None else ""
        text += f", {question.method or 'a request'} {question.path or ''}".rstrip() + host
        text += "".join(f", {name}: {value}" for name, value in question.headers or ())
    return word(text)


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was told."""
    headers = None
    if arguments.header is not None:
        headers = [[part.strip() for part in text.split(":", 1)] for text in arguments.header]
        if any(len(pair) != 2 for pair in headers):
            raise Mistaken("--header is written as NAME:VALUE")
    told = {
        "port": arguments.port,
        "listen": arguments.listen,
        "client_ip": arguments.client_ip,
        "tls": arguments.tls or None,
        "sni": arguments.sni,
        "alpn": [one.strip() for one in arguments.alpn.split(",")] if arguments.alpn is not None else None,
        "tls_version": arguments.tls_version,
        "host": arguments.host,
        "path": arguments.path,
        "method": arguments.method,
        "headers": headers,
        "time": arguments.time,
    }
    return {name: value for name, value in told.items() if value is not None}


def _table(places: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    cells = [
        (str(place["order"]), place["route"], _match(place), place["verdict"], word(place["why"])) for place in places
    ]
    if cells:
        cells.insert(0, ("order", "route", "for", "", "why"))
    return aligned(cells)


def _match(place: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (place["name"], place["path"]))) or "any"
