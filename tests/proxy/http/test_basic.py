"""security.basic_auth, with curl as the browser."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode

import bcrypt
from argon2 import PasswordHasher
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.threads import Threads
from dcrouter.proxy.http.auth.passwords import Passwords, matches
from tests.support.features import FeatureTest, resolved, written


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", "$2y$")


class BasicTests(FeatureTest):
    def setUp(self) -> None:
        super().setUp()
        argon2 = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("geheim")
        self.users = written(self.directory, "users", f"ann:{hashed('secret')}\nbéa:{argon2}\n")

    def guarded(self) -> int:
        target = self.echo().port
        return self.serve(f"""
            - name: web
              match: {{ports: PORT, domains: [a.example]}}
              security: {{basic_auth: {{users_file: users, realm: 'the "ops"'}}}}
              action:
                type: forward
                target: {{host: 127.0.0.1, port: {target}}}
                headers: {{request: {{set: {{x-user: "{{user}}"}}, remove: [authorization]}}}}
        """)

    def status(self, port: int, *options: str) -> int:
        return self.curl(f"http://a.example:{port}/", *resolved(port), *options).status

    def test_a_user_with_the_right_password_is_let_through(self) -> None:
        """By bcrypt and argon2id; the target hears who it is, and not the password."""
        port = self.guarded()
        for user, name in (("ann:secret", b"ann"), ("béa:geheim", b"b%C3%A9a")):
            seen = self.at_target(port, "-u", user)
            self.assertEqual((seen.get(b"x-user"), seen.get(b"authorization")), (name, None))
            self.assertEqual(self.request().user, user.partition(":")[0])

    def test_everybody_else_is_asked(self) -> None:
        """Wrong passwords, names that nobody has, what is no login; the target hears nothing."""
        port = self.guarded()
        answer = self.curl(f"http://a.example:{port}/", *resolved(port))
        self.assertEqual(
            (answer.status, answer.get("www-authenticate")), (401, 'Basic realm="the \\"ops\\"", charset="UTF-8"')
        )
        for options in (
            ("-u", "ann:wrong"),
            ("-u", "ann:wrong"),
            ("-u", "ann:"),
            ("-u", "Ann:secret"),
            ("-u", "nobody:secret"),
            ("-H", "Authorization: Basic !!!"),
            ("-H", "Authorization: Basic " + b64encode(b"ann").decode()),
            ("-H", "Authorization: Basic " + b64encode(b"ann:\xff").decode()),
            ("-H", "Authorization: Basic " + b64encode(b"ann:" + b"x" * 4000).decode()),
            ("-H", "Authorization: Bearer x"),
            ("-u", "ann:secret", "-H", "Authorization: Basic x"),
        ):
            self.assertEqual(self.status(port, *options), 401, options)
        self.assertEqual(self.seen, [])
        self.assertNotIn("secret", "".join(map(str, self.requests)))

    def test_a_changed_file_counts_at_once(self) -> None:
        """Who has another password, or is gone, is not remembered as logged in."""
        port = self.guarded()
        self.assertEqual(self.status(port, "-u", "ann:secret"), 200)
        for text, password, status in (
            (f"ann:{hashed('other')}\n", "secret", 401),
            (f"ann:{hashed('other')}\n", "other", 200),
            (f"bob:{hashed('other')}\n", "other", 401),
            ("# nobody\n", "other", 401),
        ):
            self.edge.believe({str(self.users.absolute()): text.encode()})
            self.assertEqual(self.status(port, "-u", f"ann:{password}"), status)

    def test_passwords_that_wait_hold_nobody_up(self) -> None:
        """A request without a login is answered while a slow hash is made."""
        self.users.write_text(f"ann:{hashed('secret', 13)}\n")
        port = self.guarded()
        go, order = threading.Event(), []

        def slow() -> None:
            order.append(("slow", self._ask(port, go)))

        thread = threading.Thread(target=slow, daemon=True)
        thread.start()
        self.loop.until(go.is_set)
        quick = self.ask(port, b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        order.append(("quick", int(quick.split(b" ")[1])))
        self.loop.until(lambda: not thread.is_alive())
        self.assertEqual(order, [("quick", 401), ("slow", 200)])

    def _ask(self, port: int, go: threading.Event) -> int:
        with socket.create_connection(("127.0.0.1", port), 30) as sock:
            login = b64encode(b"ann:secret")
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Basic " + login + b"\r\n\r\n")
            (threads,) = [one for one in self.edge.state._kept.values() if isinstance(one, Threads)]
            while not threads.waiting:
                pass
            go.set()
            return int(sock.recv(65536).split(b" ")[1])

    def test_too_many_passwords_of_one_client_are_not_tried(self) -> None:
        """It is told to come again; other clients are served."""
        port = self.guarded()
        (passwords,) = [one for one in self.edge.state._kept.values() if isinstance(one, Passwords)]
        passwords._pending["127.0.0.1"] = 8
        self.assertEqual(self.status(port, "-u", "ann:secret"), 503)
        self.assertEqual(self.status(port, "-u", "ann:secret", "--interface", "127.0.0.2"), 200)
        self.assertEqual(passwords._pending, {"127.0.0.1": 8})


class PasswordTests(SynchronousTestCase):
    def test_odd_passwords(self) -> None:
        """Longer than bcrypt looks at, with a NUL, or not of the hash."""
        long = "x" * 100
        made = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
        self.assertTrue(matches(made, long))
        self.assertFalse(matches(made, "x" * 71))
        self.assertFalse(matches(hashed("a"), "a\0b"))
        self.assertFalse(matches("$argon2id$nonsense", "a"))
