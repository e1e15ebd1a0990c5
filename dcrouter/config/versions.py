"""Versions of TLS that can be asked for and spoken."""

from __future__ import annotations

from typing import Literal

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
