"""What a file's name says of its content: the table of the standard library, without what this host adds to it.

RFC 9110 section 8.3.
"""

from __future__ import annotations

from functools import lru_cache
from mimetypes import MimeTypes

UNKNOWN = "application/octet-stream"

_MORE = {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_table = MimeTypes()
for _suffix, _type in _MORE.items():
    _table.add_type(_type, _suffix)


@lru_cache(maxsize=1024)
def media_type(name: str) -> str:
    """The Content-Type of a file of this name; text is taken for UTF-8."""
    found, packed = _table.guess_type("x/" + name)
    if packed is not None:
        return _PACKED.get(packed, UNKNOWN)
    if found is None:
        return UNKNOWN
    return f"{found}; charset=utf-8" if found.startswith("text/") else found
