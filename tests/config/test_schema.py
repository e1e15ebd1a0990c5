"""What is made from the classes: the schema for editors and the reference; and the file that is read first."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import SkipTest

import yaml
from twisted.trial.unittest import SynchronousTestCase

import dcrouter
from dcrouter.config.actions import Redirect, Respond
from dcrouter.config.admin import Config
from dcrouter.config.keys import fields_of
from dcrouter.config.load import load_with_warnings
from dcrouter.config.reference import reference
from dcrouter.config.schema import json_schema
from tests.config.test_plain import PlainTests

ROOT = Path(dcrouter.__file__).parent.parent

try:
    import jsonschema
except ImportError:
    jsonschema = None


class SchemaTests(SynchronousTestCase):
    def setUp(self) -> None:
        if jsonschema is None:
            raise SkipTest("jsonschema is not installed")
        self.validator = jsonschema.Draft202012Validator(json_schema())

    def errors(self, text: str) -> list[str]:
        return [error.message for error in self.validator.iter_errors(yaml.safe_load(text))]

    def test_it_is_a_schema(self) -> None:
        """Of the draft that it names, and plain JSON."""
        jsonschema.Draft202012Validator.check_schema(json_schema())
        self.assertEqual(json.loads(json.dumps(json_schema())), json_schema())

    def test_what_the_router_takes(self) -> None:
        """The file of the repository, one with every kind of value, short forms, variables."""
        for text in (
            (ROOT / "routes.yaml").read_text("utf-8"),
            PlainTests.TEXT,
            "{}",
            "user: ${U}\nlisten: ['${A}']",
            "routes: [{name: 5, enabled: '${E}', match: {ports: '${P}'}, action: {type: block}}]",
            "routes: [{name: a, match: {ports: [{from: 1, to: 2}]}, action: {type: forward, target: {unix: /x}}}]",
            "routes: [{name: a, match: {ports: 1}, action: {type: forward, target: {host: h, port: preserve}}}]",
            "resolver: {trust_ad: true, servers: ['127.0.0.1:5353']}",
            "resolver: {trust_ad: auto}",
            "email: {hostname: a.b, rules: [{name: a, limits: {messages: 5/min}, action: {type: mta}}]}",
            "email: {hostname: a.b, rules: [{name: a, match: {senders: ['<>']}, action: {type: deliver, lmtp: /x}}]}",
            "email: {hostname: a.b, rules: [{name: a, limits: {messages: {rate: 5/s}}, action: {type: mta}}]}",
            "email: {hostname: a.b, auth: {required: smtp, users_file: x}, bounces: {return: full}}",
            "defaults: {timeouts: {idle: '${I:-5s}'}, security: {max_connections: null}}",
        ):
            self.assertEqual(self.errors(text), [])

    def test_what_the_router_refuses(self) -> None:
        """As far as a schema can tell."""
        for text in (
            "nope: 1",
            "version: 2",
            "log: {level: loud}",
            "listen: []",
            "defaults: {timeouts: {idle: 5}}",
            "defaults: {timeouts: {idle: 5x}}",
            "routes: [{name: a}]",
            "routes: [{name: a b, match: {ports: 1}, action: {type: block}}]",
            "routes: [{name: a, match: {ports: 0}, action: {type: block}}]",
            "routes: [{name: a, match: {ports: 1}, action: {type: block, to: x}}]",
            "routes: [{name: a, match: {ports: 1}, action: {}}]",
            "routes: [{name: a, match: {ports: 1}, action: {type: forward}}]",
            "routes: [{name: a, match: {ports: 1}, action: {type: redirect, to: /, status: 200}}]",
            "email: {}",
            "email: {hostname: a.b, default_action: {type: forward}}",
            "email: {hostname: a.b, max_message_size: 50}",
            "resolver: {trust_ad: yes please}",
            "email: {hostname: a.b, auth: {users: [{name: a, password_hash: secret}]}}",
            "email: {hostname: a.b, rules: [{name: a, limits: {messages: 5}, action: {type: mta}}]}",
            "email: {hostname: a.b, zones: {a: {connections: 0}}}",
            "email: {hostname: a.b, destinations: {a: {speed: 1}}}",
            "email: {hostname: a.b, queue: {store: redis}}",
        ):
            self.assertNotEqual(self.errors(text), [], text)

    def test_every_key_is_described(self) -> None:
        """An editor shows it beside the key."""

        def check(schema: Any) -> None:
            for word, key in schema.get("properties", {}).items():
                self.assertTrue(key.get("description"), word)
            for part in schema.values():
                if isinstance(part, dict):
                    check(part)

        check(json_schema())


class ReferenceTests(SynchronousTestCase):
    def test_the_page_is_fresh(self) -> None:
        """`python -m dcrouter.config.reference > docs/configuration.md` makes it so."""
        self.assertEqual((ROOT / "docs/configuration.md").read_text("utf-8"), reference())

    def test_every_link_has_its_section(self) -> None:
        """As Markdown renderers make anchors of titles."""
        page = reference()
        anchors = {
            re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", page, re.M)
        }
        self.assertLessEqual(set(re.findall(r"\]\(#([^)]*)\)", page)), anchors)

    def test_it_names_the_keys_of_the_whole_file(self) -> None:
        """Each of them."""
        for word in fields_of(Config):
            self.assertIn(f"| `{word}` |", reference())


class FirstFileTests(SynchronousTestCase):
    def test_the_file_of_the_repository_needs_nothing(self) -> None:
        """No privileges, no files, no warnings."""
        config, warnings = load_with_warnings(ROOT / "routes.yaml", {})
        self.assertEqual(warnings, ())
        self.assertEqual(config.state_dir, ROOT / "state")
        ports = [ports.start for route in config.routes for ports in route.match.ports]
        assert config.email is not None
        self.assertTrue(all(port > 1023 for port in (*ports, *(port.port for port in config.email.ports))))
        welcome, to_https = (route.action for route in config.routes)
        assert isinstance(welcome, Respond) and isinstance(to_https, Redirect)
        self.assertIn("<h1>", welcome.body)
        self.assertEqual(to_https.to, "https://{host}:8443{uri}")

    def test_what_it_shows_as_comments_works_too(self) -> None:
        """With the marks taken away, as it asks for."""
        text = (ROOT / "routes.yaml").read_text("utf-8")
        lines = []
        for line in text.splitlines():
            body = line.lstrip()
            shown = body.startswith(("# - ", "#   ")) and line.startswith("  ")
            lines.append(line.replace("# ", "", 1) if shown else line)
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, folder)
        file = folder / "routes.yaml"
        file.write_text("\n".join(lines), "utf-8")
        config, warnings = load_with_warnings(file, {})
        assert config.email is not None
        self.assertEqual([route.name for route in config.routes], ["welcome", "to-https", "app", "shop"])
        self.assertEqual([rule.name for rule in config.email.rules], ["mailboxes", "office"])
        self.assertEqual(warnings, ())
