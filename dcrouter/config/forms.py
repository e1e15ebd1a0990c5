"""How a scalar of routes.yaml becomes a value: each `Form` is told once, and reading, JSON Schema and reference use it.

A field's type names its form: `Annotated[float, Form]` (here as `Duration`, `Size` ...), or one of the bare types of
`BARE`. `key(...)` is the metadata of a field: its sentence of documentation, and its name where Python keeps that word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from attrs import frozen

from dcrouter.config import names, units
from dcrouter.wire.hostport import bracketed, hostport
from dcrouter.wire.scram import Verifier

_KEY = "dcrouter.key"


@frozen(kw_only=True, eq=False)
class Form:
    """`name`: its name in the schema. `words`: what the reference calls it.

    `read` gets the scalar's text (or, with `typed`, what YAML 1.2 makes of it) and raises ValueError with a sentence.
    `schema`: JSON Schema of what is accepted. `base`: where a relative path starts: this file's directory or state_dir.
    """

    name: str
    words: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    typed: bool = False
    base: Literal["file", "state"] | None = None


@frozen(kw_only=True)
class Key:
    """A field as a key of the file.

    `text`: one sentence. `name`: the key, where it is not the field's name. `single`: another key that takes one
    element instead of the list. `scalar`: a list may be written as its only element. `nonempty`: an empty list
    is an error, and why. `unless`: another key, which makes it optional. `default`: how the reference shows the default
    where the value says too little. `entry`: of a mapping of text, gets each key and value and raises ValueError.
    """

    text: str
    name: str | None = None
    single: str | None = None
    scalar: bool = False
    nonempty: str | None = None
    unless: str | None = None
    default: str | None = None
    entry: Callable[[str, str], None] | None = None


def key(
    text: str,
    *,
    name: str | None = None,
    single: str | None = None,
    scalar: bool = False,
    nonempty: str | None = None,
    unless: str | None = None,
    default: str | None = None,
    entry: Callable[[str, str], None] | None = None,
) -> dict[str, Key]:
    """Metadata of a field that the operator may write."""
    return {
        _KEY: Key(
            text=text,
            name=name,
            single=single,
            scalar=scalar,
            nonempty=nonempty,
            unless=unless,
            default=default,
            entry=entry,
        )
    }


def key_of(metadata: Mapping[str, Any]) -> Key | None:
    """The `Key` of a field's metadata; None for a field that is no key of the file."""
    found = metadata.get(_KEY)
    return found if isinstance(found, Key) else None


def form_of(type_: Any) -> Form | None:
    """The form of a field's type; None where it has none (classes, lists, bare text and numbers)."""
    if get_origin(type_) is Annotated:
        return next((extra for extra in get_args(type_)[1:] if isinstance(extra, Form)), None)
    return BARE.get(type_)


def counted(low: int, high: int = 1 << 31) -> Form:
    """A whole number between `low` and `high`."""
    return Form(
        name=f"count_{low}_{high}",
        words="a whole number" if high == 1 << 31 else f"a whole number from {low} to {high}",
        read=lambda value: units.whole_number(value, low, high),
        schema={"type": "integer", "minimum": low, "maximum": high},
        typed=True,
    )


def one_of(*allowed: int) -> Form:
    """One of a few numbers."""

    def read(value: object) -> int:
        if isinstance(value, bool) or value not in allowed:
            raise ValueError(f"{units.shown(value)} is not one of {', '.join(map(str, allowed))}")
        return int(str(value))

    return Form(
        name="one_of_" + "_".join(map(str, allowed)),
        words="one of " + ", ".join(map(str, allowed)),
        read=read,
        schema={"enum": list(allowed)},
        typed=True,
    )


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(f"{units.shown(text)} is not a path")
    if text.startswith("~"):
        raise ValueError(f"{units.shown(text)}: ~ is nobody's home here: write ${{HOME}}, or the whole path")
    return Path(text)


def _log_file(text: str) -> Path | None:
    return None if text == "stdout" else _path(text)


def _target_port(value: object) -> int | None:
    if value == "preserve":
        return None
    if isinstance(value, str):
        raise ValueError(f"{units.shown(value)} is not a port number or preserve{units.unquoted(value)}")
    return units.port(value)


class Secret(str):
    """Text that no log and no error shows; in the file as text, `${ENV}` or `{file: path}`. `file`: that path."""

    __slots__ = ("file",)

    file: Path | None

    def __new__(cls, text: str, file: Path | None = None) -> Secret:
        secret = super().__new__(cls, text)
        secret.file = file
        return secret

    def __repr__(self) -> str:
        return "Secret(...)"


@frozen
class HostPort:
    """An address and a port; written `192.0.2.1:53`, `[2001:db8::1]:53`, or without the port where one is usual."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        return bracketed(self.host) if self.port is None else hostport(self.host, self.port)


def _password_hash(text: str) -> str:
    if _ARGON2ID.fullmatch(text) is None:
        # Never shown: it may be the password itself.
        if _CUT_HASH.fullmatch(text) is not None:
            raise ValueError("the hash ends at its first comma: inside {...} it needs quotes")
        raise ValueError("not an argon2id hash: make one with `dcrouter passwd`")
    return text


def _scram(text: str) -> str:
    return str(Verifier.parse(text))


def _server_address(text: str) -> HostPort:
    host, port = names.host_port(text)
    if not names.is_address(host):
        raise ValueError(f"{units.shown(text)} is not the address of a DNS server, such as 192.0.2.53")
    return HostPort(host, port)


def _code_name(text: str) -> str:
    if _CODE_NAME.fullmatch(text) is None:
        hint = ", such as hooks:Echo" if ":" not in text else ""
        raise ValueError(f"{units.shown(text)} is not package.module:name{hint}")
    return text


def _lmtp_place(text: str) -> HostPort | Path:
    if text.startswith("/"):
        return _path(text)
    host, port = names.host_port(text)
    if port is None:
        raise ValueError(f"{units.shown(text)} has no port: LMTP has no usual one (127.0.0.1:24)")
    return HostPort(names.target_host(host), port)


_ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=\d{1,8},t=\d{1,4},p=\d{1,3}\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,172}")
_CODE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_CUT_HASH = re.compile(r"\$argon2id\$v=19\$m=\d{1,8}")

_PORT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXT_SCHEMA: Mapping[str, Any] = {"type": "string", "minLength": 1}

Duration = Annotated[
    float,
    Form(
        name="duration",
        words="a duration: `250ms` `5s` `10m` `4h` `5d`",
        read=units.duration,
        schema={"type": "string", "pattern": f"^{units.DURATION_PATTERN}$"},
    ),
]
Size = Annotated[
    int,
    Form(
        name="size",
        words="a size: `16KB` `50MB` (1024-based)",
        read=units.size,
        schema={"type": "string", "pattern": f"^{units.SIZE_PATTERN}$"},
    ),
]
Share = Annotated[
    float,
    Form(
        name="share",
        words="a number from 0 to 1",
        read=units.share,
        schema={"type": "number", "minimum": 0, "maximum": 1},
        typed=True,
    ),
]
Port = Annotated[int, Form(name="port", words="a port", read=units.port, schema=_PORT_SCHEMA, typed=True)]
TargetPort = Annotated[
    int | None,
    Form(
        name="target_port",
        words="a port, or `preserve` (the port that the client connected to)",
        read=_target_port,
        schema={"anyOf": [_PORT_SCHEMA, {"const": "preserve"}]},
        typed=True,
    ),
]
Name = Annotated[
    str,
    Form(
        name="name",
        words="a name: letters, digits, `.` `_` `-`",
        read=names.name,
        schema={"type": ["string", "number", "boolean"], "pattern": f"^{names.NAME_PATTERN}$"},
    ),
]
HostName = Annotated[str, Form(name="hostname", words="a host name", read=names.hostname, schema=_TEXT_SCHEMA)]
TargetHost = Annotated[
    str, Form(name="host", words="a host name or an address", read=names.target_host, schema=_TEXT_SCHEMA)
]
ServerName = Annotated[
    str, Form(name="server_name", words="a host name or an address", read=names.server_name, schema=_TEXT_SCHEMA)
]
DomainPattern = Annotated[
    str,
    Form(
        name="domain",
        words="a domain: `www.example.com`, `*.example.com` (exactly one label), `**.example.com` (one or more)",
        read=names.domain_pattern,
        schema=_TEXT_SCHEMA,
    ),
]
ReadPath = Annotated[
    Path,
    Form(
        name="path",
        words="a path; relative ones start at the directory of this file",
        read=_path,
        schema=_TEXT_SCHEMA,
        base="file",
    ),
]
WrittenPath = Annotated[
    Path,
    Form(
        name="written_path",
        words="a path; relative ones start at `state_dir`",
        read=_path,
        schema=_TEXT_SCHEMA,
        base="state",
    ),
]
LogFile = Annotated[
    Path | None,
    Form(
        name="log_file",
        words="`stdout` or a path; relative ones start at `state_dir`",
        read=_log_file,
        schema=_TEXT_SCHEMA,
        base="state",
    ),
]

Frequency = Annotated[
    tuple[int, float],
    Form(
        name="frequency",
        words="a rate: `100/s` `300/min` `500/hour` `1000/day`",
        read=units.frequency,
        schema={"type": "string", "pattern": f"^{units.FREQUENCY_PATTERN}$"},
    ),
]
PasswordHash = Annotated[
    str,
    Form(
        name="password_hash",
        words="an argon2id hash, as `dcrouter passwd` prints it",
        read=_password_hash,
        schema={"type": "string", "pattern": r"^\$argon2id\$"},
    ),
]
ScramVerifier = Annotated[
    str,
    Form(
        name="scram",
        words="a SCRAM-SHA-256 verifier, as `dcrouter passwd` prints it",
        read=_scram,
        schema={"type": "string", "pattern": r"^SCRAM-SHA-256\$"},
    ),
]
ServerAddress = Annotated[
    HostPort,
    Form(
        name="server_address",
        words="an address, with a port where it is not 53: `192.0.2.53` `127.0.0.1:5353` `[::1]:5353`",
        read=_server_address,
        schema=_TEXT_SCHEMA,
    ),
]
CodeName = Annotated[
    str,
    Form(
        name="code",
        words="a name in Python: `package.module:name`",
        read=_code_name,
        schema={"type": "string", "pattern": "^[^:]+:[^:]+$"},
    ),
]
LmtpPlace = Annotated[
    HostPort | Path,
    Form(
        name="lmtp",
        words="an address and port (`127.0.0.1:24`), or the absolute path of a unix socket",
        read=_lmtp_place,
        schema=_TEXT_SCHEMA,
    ),
]

BARE: Mapping[Any, Form] = {
    IPv4Address | IPv6Address: Form(
        name="address", words="an IP address", read=units.address, schema={"type": "string", "minLength": 2}
    ),
    IPv4Network | IPv6Network: Form(
        name="network",
        words="a network (`10.0.0.0/8`, `2001:db8::/32`) or an address",
        read=units.network,
        schema={"type": "string", "minLength": 2},
    ),
}
"""Forms of types that stand for themselves."""
