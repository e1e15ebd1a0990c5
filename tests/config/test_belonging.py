"""Unknown keys that are known elsewhere: where they belong."""

from __future__ import annotations

from dcrouter.config.belonging import home_of
from dcrouter.config.findings import Path, spell
from tests.config.written import FileTestCase


class HomeTests(FileTestCase):
    def test_the_error_says_where(self) -> None:
        """Not which keys there are, which would be long."""
        self.assertEqual(
            self.problems("routes: [{name: x, ports: 80, action: {type: block}}]"),
            ["1:20: routes[0].ports: unknown key (did you mean routes[0].match.ports?)"],
        )

    def test_one_mapping_up_or_down(self) -> None:
        """Or up and down; the indices on the way are those of the key."""
        for path, home in (
            (("routes", 2, "match", "protocol"), "routes[2].protocol"),
            (("routes", 2, "ports"), "routes[2].match.ports"),
            (("routes", 2, "action", "ports"), "routes[2].match.ports"),
            (("routes", 2, "target"), "routes[2].action.target"),
            (("routes", 2, "tls", "verify"), "routes[2].tls.upstream.verify"),
            (("email", "rules", 1, "recipients"), "email.rules[1].match.recipients"),
            (("email", "retry"), "email.queue.retry"),
            (("rules",), "email.rules"),
        ):
            found = home_of(path)
            self.assertEqual(found and spell(found), home)

    def test_no_guess(self) -> None:
        """None where it belongs to several places, far away, into a list, or nowhere; and none for what is known."""
        paths: tuple[Path, ...] = (
            ("timeouts",),
            ("routes", 0, "hostname"),
            ("routes", 0, "host"),
            ("email", "rules", 0, "action", "targets", 0, "weight"),
            ("routes", 0, "nonsense"),
            ("routes", 0, "match", "ports"),
            (0, "name"),
        )
        for path in paths:
            self.assertIsNone(home_of(path), path)
