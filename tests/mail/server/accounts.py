"""Hashes that are quick to check, by their passwords, for tests that log in."""

from __future__ import annotations

from argon2 import PasswordHasher

HASHES = {
    "secret": PasswordHasher(1, 8, 1).hash("secret"),
    "other": PasswordHasher(1, 8, 1).hash("other"),
    "slow": PasswordHasher(3, 256, 2).hash("slow"),
}
