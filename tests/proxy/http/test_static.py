"""static: what curl gets of a directory, and what nobody gets."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.engine import Task
from dcrouter.net.files import walk
from dcrouter.net.threads import Threads
from dcrouter.proxy.http.static import way_of
from tests.support.edge import read_anyhow
from tests.support.features import FeatureTest, written

LARGE = os.urandom(1 << 20) * 5 + b"end"


def lost_from_memory(path: Path) -> None:
    """The page cache has nothing of it any more."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


class StaticCase(FeatureTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.directory / "www"
        written(self.root, "index.html", "<p>home")
        written(self.root, "large.bin", LARGE)
        written(self.root, "docs/a b.txt", "text")

    def site(self, more: str = "", tls: str = "") -> int:
        self.at = self.serve(f"""
            - name: site
              match: {{ports: PORT, domains: [localhost]}}
              {tls}
              action: {{type: static, root: www{more}}}
        """)
        return self.at

    def url(self, path: str) -> str:
        return f"http://localhost:{self.at}{path}"

    def interrupted(self, meanwhile: Callable[[], object]) -> bytes:
        """What a slow reader of large.bin gets where this happens once the answer has begun."""

        def run() -> bytes:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", self.at))
                sock.sendall(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
                first = sock.recv(1000)
                meanwhile()
                return first + read_anyhow(sock)

        return self.client(run)

    def threads(self) -> Threads:
        """Those of the edge."""
        (threads,) = [value for value in self.edge.state._kept.values() if isinstance(value, Threads)]
        return threads

    def raw(self, path: str) -> int:
        """The status of a request that curl would not make."""

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", self.at), 30) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))
                return read_anyhow(sock)

        return int(self.client(run).split(b" ")[1])


class FileTests(StaticCase):
    def test_a_file_has_its_type_its_size_and_validators(self) -> None:
        """And a HEAD has the same without the content."""
        self.site()
        for path, kind, body in (
            ("/index.html", "text/html; charset=utf-8", b"<p>home"),
            ("/docs/a%20b.txt?x=1", "text/plain; charset=utf-8", b"text"),
            ("//docs/./a%20b.txt", "text/plain; charset=utf-8", b"text"),
            ("/large.bin", "application/octet-stream", LARGE),
        ):
            answer = self.curl(self.url(path), "--path-as-is")
            self.assertEqual((answer.status, answer.get("content-type")), (200, kind))
            self.assertEqual(answer.body, body)
            head = self.curl(self.url(path), "-I", "--path-as-is")
            for name in ("etag", "last-modified", "content-length", "content-type", "accept-ranges"):
                self.assertEqual(head.get(name), answer.get(name))
                self.assertIsNotNone(head.get(name), name)
            self.assertEqual((head.status, head.get("x-content-type-options")), (200, "nosniff"))

    def test_a_connection_stays(self) -> None:
        """Small, large, not there: one connection."""
        self.site()
        urls = [self.url(path) for path in ("/", "/large.bin", "/gone", "/docs/", "/index.html")]
        answer = self.curl(urls[0], *urls[1:], *(part for _ in urls[1:] for part in ("-o", "/dev/null")))
        self.assertEqual(answer.status, 200)
        done = [self.request() for _ in urls]
        self.assertEqual(len({one.session for one in done}), 1)
        self.assertEqual([one.status for one in done], [200, 404, 404, 200, 200])
        self.assertEqual(done[1].reason, "there is no such file")

    def test_in_tls(self) -> None:
        """Where the kernel cannot send a file by itself."""
        self.site(tls="tls: {mode: terminate}")
        answer = self.curl(f"https://localhost:{self.at}/large.bin", tls=True)
        self.assertEqual(answer.body, LARGE)

    def test_what_is_not_in_memory_is_fetched(self) -> None:
        """A file that the page cache has lost comes as it is, small or large."""
        self.site()
        for name in ("large.bin", "index.html"):
            lost_from_memory(self.root / name)
            self.assertEqual(self.curl(self.url(f"/{name}")).body, (self.root / name).read_bytes())

    def test_an_empty_file(self) -> None:
        """Is a file."""
        written(self.root, "empty", b"")
        self.site()
        answer = self.curl(self.url("/empty"))
        self.assertEqual((answer.status, answer.get("content-length"), answer.body), (200, "0", b""))
        self.assertEqual(self.curl(self.url("/empty"), "-r", "0-").status, 416)

    def test_only_get_and_head(self) -> None:
        """Others are told which there are."""
        self.site()
        answer = self.curl(self.url("/"), "-d", "x")
        self.assertEqual((answer.status, answer.get("allow")), (405, "GET, HEAD"))

    def test_headers_and_paths_can_be_changed(self) -> None:
        """As on routes that forward."""
        self.site(
            ", path_rewrite: {strip_prefix: /static}, headers: {response: {set: {cache-control: max-age=60}}}",
        )
        answer = self.curl(self.url("/static/docs/a%20b.txt"))
        self.assertEqual((answer.body, answer.get("cache-control")), (b"text", "max-age=60"))


class DirectoryTests(StaticCase):
    def test_a_directory_is_its_index(self) -> None:
        """The first that is there; without any there is nothing, and never a list."""
        written(self.root, "docs/home.htm", "docs")
        self.site(", index: [main.html, home.htm, index.html]")
        self.assertEqual(self.curl(self.url("/")).body, b"<p>home")
        answer = self.curl(self.url("/docs/"))
        self.assertEqual((answer.body, answer.get("content-type")), (b"docs", "text/html; charset=utf-8"))
        (self.root / "docs" / "home.htm").unlink()
        self.assertEqual(self.curl(self.url("/docs/")).status, 404)
        self.assertEqual(self.curl(self.url("/index.html/")).status, 404)

    def test_a_slash_is_added(self) -> None:
        """With the query as it was, and never to another host."""
        self.site()
        for path, location in (("/docs", "/docs/"), ("/docs?a=b", "/docs/?a=b"), ("//docs", "/docs/")):
            answer = self.curl(self.url(path), "--path-as-is")
            self.assertEqual((answer.status, answer.get("location")), (301, location))

    def test_the_root_may_be_exchanged(self) -> None:
        """A link that leads to another release is followed from the next request on."""
        for name in ("one", "two"):
            written(self.directory / name, "index.html", name)
        link = self.directory / "current"
        link.symlink_to("one")
        port = self.serve("- {name: s, match: {ports: PORT}, action: {type: static, root: current}}")
        self.assertEqual(self.curl(f"http://localhost:{port}/").body, b"one")
        (self.directory / "next").symlink_to("two")
        (self.directory / "next").rename(link)
        self.assertEqual(self.curl(f"http://localhost:{port}/").body, b"two")


class PartTests(StaticCase):
    def test_a_part_of_a_file(self) -> None:
        """From the beginning, the middle, the end; one that is not there; several are answered by the whole."""
        self.site()
        size = len(LARGE)
        for text, status, body in (
            ("0-0", 206, LARGE[:1]),
            ("100-1000099", 206, LARGE[100:1000100]),
            (f"{size - 3}-", 206, b"end"),
            ("-3", 206, b"end"),
            (f"{size - 1}-{size + 5}", 206, b"d"),
            ("0-1,5-6", 200, LARGE),
            ("5-1", 200, LARGE),
        ):
            answer = self.curl(self.url("/large.bin"), "-H", f"Range: bytes={text}")
            self.assertEqual((answer.status, answer.body == body), (status, True), text)
        self.assertEqual(self.curl(self.url("/large.bin"), "-r", "7-8").get("content-range"), f"bytes 7-8/{size}")
        answer = self.curl(self.url("/large.bin"), "-r", f"{size}-")
        self.assertEqual((answer.status, answer.get("content-range")), (416, f"bytes */{size}"))

    def test_a_download_is_resumed_only_of_the_same_file(self) -> None:
        """If-Range tells."""
        self.site()
        etag = self.curl(self.url("/large.bin"), "-I").get("etag")
        for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200), ("x", 200)):
            answer = self.curl(self.url("/large.bin"), "-r", "5-", "-H", f"If-Range: {condition}")
            self.assertEqual(answer.status, status, condition)


class ConditionTests(StaticCase):
    def test_what_the_client_has_is_not_sent_again(self) -> None:
        """By its tag, which counts more, or by its date."""
        self.site()
        first = self.curl(self.url("/"))
        etag, modified = first.get("etag"), first.get("last-modified")
        for lines, status in (
            ([f"If-None-Match: {etag}"], 304),
            ([f'If-None-Match: "x", W/{etag}'], 304),
            (["If-None-Match: *"], 304),
            (['If-None-Match: "x"', f"If-Modified-Since: {modified}"], 200),
            ([f"If-Modified-Since: {modified}"], 304),
            (["If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], 200),
            (["If-Modified-Since: nonsense"], 200),
            ([f"If-Match: {etag}"], 200),
            (['If-Match: "x"'], 412),
            ([f"If-Match: W/{etag}"], 412),
            (["If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"], 412),
        ):
            answer = self.curl(self.url("/"), *(part for line in lines for part in ("-H", line)))
            self.assertEqual(answer.status, status, lines)
            if status == 304:
                self.assertEqual((answer.body, answer.get("etag")), (b"", etag))


class OutsideTests(StaticCase):
    def test_no_way_leads_out(self) -> None:
        """Neither by dots, in any spelling, nor by links, nor by what is no file."""
        written(self.directory, "secret", "secret")
        (self.root / "out").symlink_to("../secret")
        (self.root / "away").symlink_to(self.directory.absolute())
        (self.root / "in").symlink_to("docs")
        (self.root / "self").symlink_to("self")
        os.mkfifo(self.root / "pipe")
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        here = os.getcwd()
        os.chdir(self.root)
        sock.bind("sock")
        os.chdir(here)
        written(self.root, ".htpasswd", "x")
        written(self.root, ".git/config", "x")
        written(self.root, ".well-known/a", "x")
        written(self.root, "docs/.well-known/a", "x")
        self.site()
        for path in (
            "/../secret",
            "/%2e%2e/secret",
            "/docs/../../secret",
            "/docs/%2e%2E/index.html",
            "/..%2fsecret",
            "/docs%2fa%20b.txt",
            "/%00",
            "/index.html%00.txt",
            "/out",
            "/away/secret",
            "/self",
            "/pipe",
            "/sock",
            "/.htpasswd",
            "/%2ehtpasswd",
            "/.git/config",
            "/docs/.well-known/a",
            "/" + "a" * 300,
            "/a" * 4000,
            "/index.html/x",
        ):
            self.assertEqual(self.raw(path), 404, path)
        for path in ("/in/a%20b.txt", "/.well-known/a"):
            self.assertEqual(self.raw(path), 200, path)

    def test_without_openat2_links_are_not_followed(self) -> None:
        """The way is walked part by part."""
        (self.root / "in").symlink_to("docs")
        (self.root / "link").symlink_to("index.html")
        root = str(self.root)
        fd = walk(root, "docs/a b.txt")
        self.assertEqual(os.read(fd, 10), b"text")
        os.close(fd)
        for way in ("in/a b.txt", "link", "docs/none", "../secret"):
            with self.assertRaises(OSError) as caught:
                os.close(walk(root, "docs/" + way if way.startswith("..") else way))
            self.assertIn(caught.exception.errno, (errno.ELOOP, errno.ENOTDIR, errno.ENOENT), way)

    def test_a_file_that_shrinks_meanwhile_is_broken_off(self) -> None:
        """The client was promised more, and sees that it is missing."""
        self.site()
        data = self.interrupted(lambda: os.truncate(self.root / "large.bin", 1000))
        self.assertTrue(data.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertLess(len(data), len(LARGE))
        done = self.request()
        self.assertEqual((done.termination, done.reason), ("router:response", "the file has become shorter"))


class WayTests(SynchronousTestCase):
    @given(st.text("/.%2Fef\\a\0", max_size=20))
    def test_a_way_has_plain_parts_only(self, path: str) -> None:
        """Whatever is asked for."""
        way = way_of("/" + path)
        for part in way.split("/") if way else ():
            self.assertNotIn(part, ("", ".", ".."))
            self.assertFalse(part.startswith(".") or "\0" in part or "/" in part)


class ThreadTests(StaticCase):
    def test_an_answer_that_has_begun_is_broken_off_where_too_many_calls_wait(self) -> None:
        """Nothing else can be said in the midst of a file."""
        self.patch(os, "RWF_NOWAIT", 1 << 30)  # the kernel knows no such flag: each piece is for a thread
        self.site()
        threads = self.threads()
        self.addCleanup(setattr, threads, "most", threads.most)
        head, _, body = self.interrupted(lambda: setattr(threads, "most", 0)).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertLess(len(body), len(LARGE))
        self.assertEqual(body, LARGE[: len(body)])
        done = self.request()
        self.assertEqual((done.status, done.termination), (200, "router:response"))

    def test_who_waits_for_too_many_calls_is_told(self) -> None:
        """503 and when to come again; nothing piles up."""
        self.site()
        threads = self.threads()
        threads.most = 0
        self.addCleanup(setattr, threads, "most", 64)
        lost_from_memory(self.root / "large.bin")
        answer = self.curl(self.url("/large.bin"))
        self.assertEqual((answer.status, answer.get("retry-after")), (503, "1"))

    def test_they_end_with_the_last_route_that_needs_them(self) -> None:
        """A reload without files leaves no thread behind."""
        before = set(threading.enumerate())
        self.site()
        (threads,) = [value for value in self.edge.state._kept.values() if isinstance(value, Threads)]
        done: list[int] = []

        async def ask(task: Task, threads: Threads) -> None:
            done.append(await threads.call(task, os.getpid))

        self.edge.engine.spawn(partial(ask, threads=threads))
        self.loop.until(lambda: done)
        self.assertEqual(done, [os.getpid()])
        mine = [one for one in threading.enumerate() if one.name.startswith("call-") and one not in before]
        self.assertTrue(mine)
        del threads
        config = self.config(f"- {{name: s, match: {{ports: {self.at}}}, action: {{type: respond}}}}")
        self.edge.reload(self.planned(config), self.edge.chooser, self._observed)
        self.loop.until(lambda: self.loop.reactor.advance(0.1) or not any(one.is_alive() for one in mine))
