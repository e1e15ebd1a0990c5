"""What the documents show must be true of the program as it is: configurations, links, commands."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from shutil import rmtree
from textwrap import dedent, indent
from typing import get_args

import attrs
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.cli import _parser
from dcrouter.config.actions import Action
from dcrouter.config.lists import load_recipients, load_users
from dcrouter.config.load import load_with_warnings
from dcrouter.config.rules import MailAction
from dcrouter.service.__main__ import worker_of
from tests.config.test_accounts import VERIFIER
from tests.config.test_lists import HASH
from tests.support.certificates import Authority

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
EXAMPLE = ROOT / "examples" / "one-server"

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]*)\)")
_COMMAND = r"dcrouter ([a-z][a-z-]*[a-z])(?: ([a-z][a-z-]*[a-z]))?([^`\n#|;&]*)"
_IN_TEXT = re.compile(rf"`(?:[./\w]*/)?{_COMMAND}")
_IN_BLOCK = re.compile(rf"(?:^|/){_COMMAND}", re.MULTILINE)
_OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]*")

_ROUTE = {
    "match": "  match: {ports: 443, domains: [www.example.com]}\n",
    "tls": "  tls: {mode: terminate, certificate: internal}\n",
    "action": "  action: {type: forward, target: {host: 127.0.0.1, port: 80}}\n",
}
_RULES = "  rules: [{name: nobody, match: {recipients: ['*@example.com']}, action: {type: reject}}]\n"


def blocks(document: Path, *languages: str) -> Iterator[str]:
    """The code blocks of these languages, without the indent that they have in a list."""
    for margin, language, text in _BLOCK.findall(document.read_text("utf-8")):
        if language in languages:
            yield re.sub(rf"^{margin}", "", text, flags=re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Of its titles, as Markdown renderers make them."""
    text = _BLOCK.sub("", document.read_text("utf-8"))
    titles = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def completed(text: str, place: Path) -> str:
    """A whole file around a piece of one; what stands for a secret or for a directory gets one."""
    text = dedent(text).replace("$argon2id$...", HASH).replace("SCRAM-SHA-256$...", VERIFIER)
    text = text.replace("/srv/www", str(place.absolute()))
    keys = re.findall(r"^(?:- )?(\w+):", text, re.MULTILINE)
    if keys[0] in ("targets", "health"):
        text = f"action:\n{indent(text, '  ')}  type: forward\n"
        text += "" if "targets" in keys else "  target: {host: 127.0.0.1, port: 80}\n"
        keys = ["action"]
    if keys[0] in ("match", "tls", "action", "security"):
        missing = (line for key, line in _ROUTE.items() if key not in keys)
        text = f"- name: piece\n{indent(text, '  ')}{''.join(missing)}"
    if text.startswith("- "):
        return f"version: 1\nroutes:\n{text}"
    if "email" in keys:
        rules = "" if re.search(r"^  rules:", text, re.MULTILINE) else _RULES
        text = re.sub(r"^email:\n", f"email:\n  hostname: mail.example.com\n{rules}", text, flags=re.MULTILINE)
    elif "routes" not in keys:
        text += f"routes:\n- name: piece\n{''.join(_ROUTE.values())}"
    return f"version: 1\n{text}"


def bring(place: Path, *names: str) -> None:
    """What configurations of the documents name beside themselves."""
    (place / "certificates").mkdir(parents=True)
    credential = Authority().credential(list(names))
    (place / "certificates" / "fullchain.pem").write_bytes(credential.chain)
    (place / "certificates" / "privkey.pem").write_bytes(credential.key)
    (place / "smart-host.password").write_text("secret\n")
    for name in ("users.yaml", "recipients.txt"):
        (place / name).write_bytes((EXAMPLE / name).read_bytes())


class ConfigurationTests(SynchronousTestCase):
    def test_every_complete_configuration_is_good(self) -> None:
        """A block that says `version` is a whole file: `check` has nothing to say of it, not even a warning."""
        place = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, place)
        bring(place, "mail.example.com")
        found = 0
        for document in DOCUMENTS:
            for number, text in enumerate(blocks(document, "yaml")):
                if re.search(r"^version:", text, re.MULTILINE):
                    file = place / f"{document.stem}-{number}.yaml"
                    file.write_text(text, "utf-8")
                    self.assertEqual(load_with_warnings(file, {})[1], ())
                    found += 1
        self.assertGreater(found, 1)

    def test_every_other_piece_is_good_where_it_belongs(self) -> None:
        """A few keys, or a list of routes: put into a file that has what they need besides, `check` has no error."""
        place = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, place)
        bring(place, "mail.example.com")
        authority = Authority()
        (place / "clients.pem").write_bytes(authority.root_pem)
        (place / "revoked.pem").write_bytes(b"".join(authority.revocations()))
        (place / "ldap.pw").write_text("secret\n")
        (place / "tsig.key").write_text("c2VjcmV0\n")
        (place / "htpasswd").write_text(f"ops:{HASH}\n")
        found = set()
        for document in DOCUMENTS:
            for number, text in enumerate(blocks(document, "yaml")):
                if not re.search(r"^version:", text, re.MULTILINE):
                    file = place / f"{document.stem}-{number}.yaml"
                    file.write_text(completed(text, place), "utf-8")
                    load_with_warnings(file, {"P1": "one", "P2": "two"})
                    found.add(document.stem)
        self.assertLess({"README", "egress", "http", "upstreams"}, found)

    def test_the_example_is_good(self) -> None:
        """As it stands in the repository; its only account has a mailbox."""
        self.assertEqual(load_with_warnings(EXAMPLE / "routes.yaml", {})[1], ())
        (user,) = load_users(EXAMPLE / "users.yaml")
        self.assertIn(user.name, load_recipients(EXAMPLE / "recipients.txt"))

    def test_what_the_example_shows_as_comments_works_too(self) -> None:
        """With the marks taken away; the second rule `out` stands instead of the first."""
        place = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, place)
        bring(place, "example.com", "www.example.com", "mail.example.com")
        text = (EXAMPLE / "routes.yaml").read_text("utf-8")
        own = "    - name: out\n      match: {clients: may_relay}\n      action: {type: mta}\n"
        self.assertIn(own, text)
        text = text.replace(own, "")
        text = re.sub(r"^( *)# (- name:|  )", r"\1\2", text, flags=re.MULTILINE)
        file = place / "routes.yaml"
        file.write_text(text, "utf-8")
        config, warnings = load_with_warnings(file, {})
        assert config.email is not None
        self.assertEqual(warnings, ())
        self.assertEqual([route.name for route in config.routes], ["site", "to-https", "imaps"])
        self.assertEqual([(rule.name, rule.action.type) for rule in config.email.rules][-1], ("out", "forward"))
        self.assertIsNotNone(config.certificates.acme)


class ActionTests(SynchronousTestCase):
    def test_every_action_is_told(self) -> None:
        """Each has its line: those of routes in docs/routing.md, those of mail's rules in docs/mail.md."""
        for page, actions in ("routing", Action), ("mail", MailAction):
            text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
            for action in get_args(actions):
                word = attrs.fields(action).type.default
                self.assertRegex(text, rf"(?m)^\| \[?`{word}`")


class LinkTests(SynchronousTestCase):
    def test_every_link_leads_somewhere(self) -> None:
        """To a file of the repository, and to a title in it."""
        for document in DOCUMENTS:
            for link in _LINK.findall(_BLOCK.sub("", document.read_text("utf-8"))):
                if link.startswith(("https:", "http:")):
                    continue
                name, _, anchor = link.partition("#")
                target = (document.parent / name).resolve() if name else document
                self.assertTrue(target.exists(), f"{document.name}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors(target), f"{document.name}: {link}")

    def test_every_page_is_in_the_index(self) -> None:
        """README.md leads to each, and each has one title."""
        index = (ROOT / "README.md").read_text("utf-8")
        for document in DOCUMENTS[1:]:
            self.assertIn(f"](docs/{document.name})", index)
            titles = re.findall(r"^# ", _BLOCK.sub("", document.read_text("utf-8")), re.MULTILINE)
            self.assertEqual(len(titles), 1, document.name)


class ModuleTests(SynchronousTestCase):
    def test_every_module_that_is_named_exists(self) -> None:
        """`mail/queue/queue` and the like, as a module or a folder; `net/test_engine` among the tests."""
        folders = "|".join(sorted(path.name for path in (ROOT / "dcrouter").iterdir() if path.is_dir()))
        for document in DOCUMENTS:
            for name in re.findall(rf"`((?:{folders})/[\w/]*\w)", document.read_text("utf-8")):
                places = (ROOT / "dcrouter" / name, ROOT / "tests" / name)
                there = any(place.is_dir() or place.with_suffix(".py").exists() for place in places)
                self.assertTrue(there, f"{document.name}: {name}")


class MessageTests(SynchronousTestCase):
    def test_what_children_are_told_is_in_the_table(self) -> None:
        """Of docs/architecture.md: each kind of message that some child obeys."""
        table = (ROOT / "docs" / "architecture.md").read_text("utf-8")
        named = {
            word for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)
        }
        for role in ("edge", "mail", "handlers"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                worker = worker_of(role)(MemoryReactorClock(), ours)
                self.assertEqual(set(worker.acts) - named, set(), role)


class CommandTests(SynchronousTestCase):
    def test_every_command_exists(self) -> None:
        """`dcrouter queue list --rule NAME` and the like, in text and in blocks, are commands of the parser, with all
        their options.
        """
        found: set[tuple[str, str, str]] = set()
        for document in DOCUMENTS:
            text = document.read_text("utf-8")
            found.update(_IN_TEXT.findall(_BLOCK.sub("", text)))
            for block in blocks(document, "", "sh"):
                found.update(_IN_BLOCK.findall(block))
        self.assertIn(("queue", "list"), {(verb, noun) for verb, noun, _ in found})
        options = [(verb, noun, option) for verb, noun, rest in found for option in _OPTION.findall(rest)]
        self.assertIn(("explain", "", "--sni"), options)
        helps = {(verb, noun): self.help_of(verb, noun) for verb, noun, _ in found}
        for verb, noun, option in options:
            self.assertRegex(helps[verb, noun], rf"(?m)(^ +|, ){option}\b", f"dcrouter {verb} {noun} {option}")

    def help_of(self, *words: str) -> str:
        """What `dcrouter ... --help` prints."""
        arguments = [*filter(None, words), "--help"]
        with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as complaint:
            ended = self.assertRaises(SystemExit, _parser().parse_args, arguments)
        self.assertEqual(ended.code, 0, f"dcrouter {' '.join(words)}: {complaint.getvalue()}")
        return output.getvalue()
