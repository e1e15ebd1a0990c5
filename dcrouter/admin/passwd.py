"""`dcrouter passwd [NAME]`: a password becomes the hash and the SCRAM verifier that `email.auth.users` wants.

It is asked for twice on a terminal, without echo, or is one line of standard input; never an argument, which every user
of the machine could read.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys

from dcrouter.config.patterns import mail_address
from dcrouter.errors import DcrouterError
from dcrouter.mail.server.passwords import make_hash
from dcrouter.wire.scram import Verifier

LONGEST = 1024
"""Characters; more would not fit into every client's AUTH."""


def passwd(arguments: argparse.Namespace) -> int:
    """Prints the hash and the verifier, a line each, or with a name the line for `users_file`."""
    password = _password()
    hashed, verifier = make_hash(password), str(Verifier.make(password))
    if arguments.name is None:
        print(hashed)
        print(verifier)
        return 0
    # A JSON string is a YAML one.
    name = json.dumps(arguments.name, ensure_ascii=False)
    print(f"- {{name: {name}, password_hash: {json.dumps(hashed)}, scram: {json.dumps(verifier)}}}")
    try:
        mail_address(arguments.name)
    except ValueError as error:
        print(f"dcrouter: {error}: the line needs may_send_as", file=sys.stderr)
    return 0


def _password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            raise DcrouterError("the passwords differ")
    else:
        password = _line()
    if not password:
        raise DcrouterError("the password is empty")
    if len(password) > LONGEST:
        raise DcrouterError(f"the password is longer than {LONGEST} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in password):
        raise DcrouterError("the password contains control characters")
    return password


def _line() -> str:
    line = sys.stdin.buffer.readline(4 * LONGEST + 8)
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise DcrouterError("the password is not UTF-8") from None
