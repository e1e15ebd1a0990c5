"""Passwords as argon2id hashes (RFC 9106), in the PHC form `$argon2id$v=19$m=..,t=..,p=..$salt$digest`.

`verify` takes tens of milliseconds and lets go of the GIL for all of them (tried: a busy Python thread beside it runs
on), so it belongs in a thread; each call takes the hash's `m` KiB meanwhile.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode

from argon2 import PasswordHasher
from argon2.exceptions import HashingError, VerificationError, VerifyMismatchError

from dcrouter.errors import DcrouterError
from dcrouter.wire.sasl import prepare_password

_MAKER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""What OWASP names as the least for argon2id: some 20 ms and 19 MiB, of which a mail server can bear many."""


class UnusableHash(DcrouterError):
    """A hash that cannot be computed here: parameters beyond argon2's bounds or this machine's memory."""


def make_hash(password: str) -> str:
    """A new hash of this password."""
    return _MAKER.hash(prepare_password(password))


def verify(hashed: str, password: str) -> bool:
    """Whether the hash, of any parameters, is of this password. Raises UnusableHash."""
    try:
        return _MAKER.verify(hashed, prepare_password(password))
    except VerifyMismatchError:
        return False
    except (VerificationError, HashingError, ValueError) as error:
        raise UnusableHash(str(error)) from None


def impostor(hashed: str) -> str:
    """A hash that takes as long as this one and is of nobody's password."""
    *parameters, salt, digest = hashed.split("$")
    return "$".join((*parameters, *(_random_like(part) for part in (salt, digest))))


def _random_like(part: str) -> str:
    size = len(b64decode(part + "=" * (-len(part) % 4)))
    return b64encode(os.urandom(size)).decode("ascii").rstrip("=")
