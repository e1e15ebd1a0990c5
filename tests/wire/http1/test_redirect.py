"""Where a redirect leads, and where no client can make it lead."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.http1 import RequestHead, expand, parse_head, response


def head(target: str, host: str | None = "a.example:8080") -> RequestHead:
    version, line = ("1.1", f"Host: {host}\r\n") if host is not None else ("1.0", "")
    found = parse_head(f"GET {target} HTTP/{version}\r\n{line}\r\n".encode("latin-1"))
    assert found is not None
    return found


class Expand(SynchronousTestCase):
    """expand."""

    def test_placeholders(self) -> None:
        """Each of them, in one place or several."""
        for template, target, expected in (
            ("https://{host}{uri}", "/a?b=c", "https://a.example/a?b=c"),
            ("https://{host}{uri}", "/", "https://a.example/"),
            ("https://{host}:{port}{path}", "/a?b", "https://a.example:443/a"),
            ("https://new.example{path}?from={host}&{query}", "/a?b", "https://new.example/a?from=a.example&b"),
            ("https://new.example/", "/a?b", "https://new.example/"),
            ("/new{uri}", "/a?b", "/new/a?b"),
            ("https://{host}{uri}", "/%C3%A4?x=%20", "https://a.example/%C3%A4?x=%20"),
            ("https://{host}/{unknown}", "/", "https://a.example/%7Bunknown%7D"),
        ):
            self.assertEqual(expand(template, head(target), 443), expected)

    def test_values_are_not_expanded_again(self) -> None:
        """A client cannot write placeholders."""
        self.assertEqual(
            expand("https://x.example{uri}", head("/{port}?{host}"), 1), "https://x.example/%7Bport%7D?%7Bhost%7D"
        )

    def test_ipv6(self) -> None:
        """A literal keeps its brackets."""
        self.assertEqual(expand("https://{host}{uri}", head("/", "[::1]:80"), 443), "https://[::1]/")

    def test_server_wide_options(self) -> None:
        """`OPTIONS *` goes to the root."""
        found = parse_head(b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert found is not None
        self.assertEqual(expand("https://{host}{uri}", found, 443), "https://a.example/")

    def test_without_host(self) -> None:
        """A template that needs a host is a 400 for a client that names none; others are not."""
        error = self.assertRaises(WireError, expand, "https://{host}/", head("/", None), 443)
        self.assertTrue(error.reply.startswith(b"HTTP/1.1 400 "))
        self.assertEqual(expand("https://b.example{uri}", head("/x", None), 443), "https://b.example/x")

    def test_foreign_hosts(self) -> None:
        """Paths that browsers read as hosts do not lead away."""
        for template in ("{uri}", "{path}", "/{path}", "/{uri}", "{query}"):
            for target in (
                "//evil.example/x",
                "///evil.example",
                "/\\evil.example",
                "/x?//evil.example",
                "/x?https://evil.example",
            ):
                location = expand(template, head(target), 443)
                self.assertNotIn("\\", location)
                self.assertEqual(
                    urlsplit(urljoin("https://a.example/", location)).hostname, "a.example", (template, target)
                )

    @settings(max_examples=300)
    @given(
        st.sampled_from(
            ["https://{host}{uri}", "{uri}", "/a{path}", "{path}?{query}", "https://b.example:{port}{uri}"]
        ),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=30),
    )
    def test_any_target(self, template: str, rest: str) -> None:
        """Whatever is asked for, the Location is one header line, and on the template's host."""
        location = expand(template, head("/" + rest), 443)
        self.assertIn(
            b"\r\nLocation: " + location.encode("ascii") + b"\r\n", response(308, b"", {"Location": location})
        )
        where = urlsplit(urljoin("https://a.example/", location))
        self.assertEqual(
            (where.scheme, where.hostname), ("https", "b.example" if "b.example" in template else "a.example")
        )
