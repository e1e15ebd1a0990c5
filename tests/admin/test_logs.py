from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin import logfile
from dcrouter.admin.logfile import LogFile
from dcrouter.admin.logs import Format, LogWriter, as_json, as_text, escape
from dcrouter.control.records import WAITING, ChannelObserver, Record, publish, to_record
from dcrouter.errors import StartError
from tests.support.logged import logged


def record(text: str = "hello", **fields: Any) -> Record:
    return {"time": 0.0, "level": "info", "namespace": "n", "text": text, "fields": fields, "traceback": None}


class TestLines(SynchronousTestCase):
    def test_json_has_the_sentence_and_the_fields(self) -> None:
        """One object per line; the ids of connection and message are its own keys."""
        line = json.loads(as_json(record("hi", session="s1", message="m1", bytes=5), "edge"))
        self.assertEqual(
            line,
            {
                "time": "1970-01-01T00:00:00.000Z",
                "level": "info",
                "role": "edge",
                "namespace": "n",
                "text": "hi",
                "session": "s1",
                "message": "m1",
                "bytes": 5,
            },
        )

    def test_a_field_cannot_take_the_place_of_the_lines_own(self) -> None:
        """A field named like one of the line's own keys stands beside it."""
        line = json.loads(as_json(record(level="evil", time=5), "edge"))
        self.assertEqual((line["level"], line["level_"], line["time_"]), ("info", "evil", 5))

    def test_text_is_one_line_in_columns(self) -> None:
        """Time, level, process, sentence, and the ids that the sentence does not have."""
        self.assertEqual(
            as_text(record("session s1 ended", session="s1", message="m2"), "edge"),
            "1970-01-01T00:00:00.000Z info  edge   session s1 ended  message=m2",
        )

    def test_a_traceback_is_indented(self) -> None:
        """So that no line of it can be taken for a line of the log."""
        traced = {**record("broken"), "traceback": "a\nb\x1b[0m"}
        self.assertEqual(as_text(traced, "mail").splitlines()[1:], ["    | a", "    | b\\x1b[0m"])

    @given(st.text(), st.text())
    def test_nobody_forges_a_line(self, said: str, session: str) -> None:
        """Whatever text a peer sends, it stays in its line, in both formats, and moves no terminal."""
        traced = record(said, session=session)
        for line in (as_text(traced, "edge"), as_json(traced, "edge")):
            self.assertEqual(len(line.encode("utf-8").splitlines()), 1)
            self.assertEqual(len(line.splitlines()), 1)
            self.assertEqual(escape(line), line)

    def test_forged_lines_are_shown_escaped(self) -> None:
        """The classic: a carriage return, a line feed, a colour, and text that runs backwards."""
        text = as_text(record("user\r\n1970 info root logged in\x1b[31m\u202e"), "edge")
        self.assertIn("user\\x0d\\x0a1970 info root logged in\\x1b[31m\\u202e", text)


class TestLogWriter(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.base)
        self.path = self.base / "logs" / "dcrouter.log"

    def writer(self, format: Format = "json", level: str = "info") -> LogWriter:
        file = LogFile(self.path)
        self.addCleanup(file.close)
        return LogWriter(file, format, level)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def test_events_below_the_level_are_left_out(self) -> None:
        """`level: warn` keeps warn and error, and critical counts as error."""
        log = Logger(observer=self.writer(level="warn"), namespace="n")
        for say in (log.debug, log.info, log.warn, log.error, log.critical):
            say("{word}", word="x")
        self.assertEqual([line["level"] for line in self.lines()], ["warn", "error", "error"])

    def test_the_level_can_change_while_it_runs(self) -> None:
        """The next event meets the new level."""
        writer = self.writer(level="error")
        writer.level = "debug"
        Logger(observer=writer).debug("now")
        self.assertEqual(self.lines()[0]["text"], "now")

    def test_twisteds_housekeeping_is_left_out(self) -> None:
        """Factories that start and stop are no outcome; their warnings and errors are kept."""

        class Factory:
            noisy = True
            log = Logger(observer=self.writer())

        factory = Factory()
        factory.log.info("Starting factory {factory!r}", factory=factory)
        factory.log.warn("trouble")
        self.assertEqual([line["text"] for line in self.lines()], ["trouble"])

    def test_a_failure_has_its_traceback(self) -> None:
        """The error is there in full, in its own key."""
        try:
            raise ValueError("secretless")
        except ValueError:
            Logger(observer=self.writer()).failure("went wrong", Failure())
        self.assertIn("ValueError: secretless", self.lines()[0]["traceback"])

    def test_a_childs_record_is_written_as_the_childs(self) -> None:
        """Its time, level and namespace are its own, and the role says whose it is; braces in it mean nothing."""
        writer = self.writer()
        globalLogPublisher.addObserver(writer)
        self.addCleanup(globalLogPublisher.removeObserver, writer)
        publish("edge", {**record("from {afar}", session="s1"), "traceback": "Trace"})
        line = self.lines()[0]
        self.assertEqual((line["role"], line["text"], line["session"]), ("edge", "from {afar}", "s1"))
        self.assertEqual((line["time"], line["traceback"]), ("1970-01-01T00:00:00.000Z", "Trace"))

    def test_a_childs_lines_are_written_together(self) -> None:
        """Records go into the file in their order, as said by the child, without another look at them."""
        self.writer().write("mail", [record("one {x}", session="s1"), record("two")])
        self.assertEqual(
            [(line["role"], line["text"], line.get("session")) for line in self.lines()],
            [("mail", "one {x}", "s1"), ("mail", "two", None)],
        )

    def test_a_value_that_cannot_be_shown_does_not_stop_the_log(self) -> None:
        """A broken __str__ is a remark in the line."""

        class Broken:
            def __str__(self) -> str:
                raise RuntimeError("no")

        Logger(observer=self.writer()).info("said", value=Broken())
        self.assertIn("cannot be shown", self.lines()[0]["value"])

    def test_after_a_reopen_lines_go_to_the_new_file(self) -> None:
        """As logrotate does it: the file is moved, then opened anew."""
        writer = self.writer()
        log = Logger(observer=writer)
        log.info("one")
        self.path.rename(self.path.with_suffix(".1"))
        log.info("two")
        self.assertIsNone(writer.file.reopen())
        log.info("three")
        self.assertEqual([line["text"] for line in self.lines()], ["three"])
        self.assertEqual(len(self.path.with_suffix(".1").read_text().splitlines()), 2)

    def test_a_reopen_that_fails_keeps_the_old_file(self) -> None:
        """The log goes on where it was, and the reason is told."""
        writer = self.writer()
        Logger(observer=writer).info("one")
        self.path.rename(self.path.with_suffix(".1"))
        self.path.mkdir()
        problem = writer.file.reopen()
        assert problem is not None
        self.assertIn("the old one stays in use", problem)
        Logger(observer=writer).info("two")
        self.assertEqual(len(self.path.with_suffix(".1").read_text().splitlines()), 2)

    def test_a_file_that_cannot_be_opened_is_one_line(self) -> None:
        """The start ends with the path and the reason."""
        self.path.mkdir(parents=True)
        with self.assertRaises(StartError) as caught:
            LogFile(self.path).open()
        self.assertEqual(str(caught.exception), f"log file {self.path} cannot be opened: Is a directory")

    def test_a_pipe_that_nobody_reads_is_not_waited_for(self) -> None:
        """The start would stand still. With a reader it is a log as any other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self.path)
        file = LogFile(self.path)
        with self.assertRaises(StartError) as caught:
            file.open()
        reason = "it is a pipe that nobody reads"
        self.assertEqual(str(caught.exception), f"log file {self.path} cannot be opened: {reason}")
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.addCleanup(file.close)
        file.write(b"one\n")
        self.assertEqual(os.read(reader, 10), b"one\n")

    def test_a_directory_that_cannot_be_made_is_told_beside_the_file(self) -> None:
        """The path of the configuration, and what stands in its way."""
        path = Path("/proc/nowhere/dcrouter/router.log")
        with self.assertRaises(StartError) as caught:
            LogFile(path).open()
        reason = "No such file or directory (/proc/nowhere)"
        self.assertEqual(str(caught.exception), f"log file {path} cannot be opened: {reason}")

    def test_lines_that_a_full_disk_does_not_take_are_counted(self) -> None:
        """A write that fails loses its lines and says how many."""
        file = LogFile(Path("/dev/full"))
        self.addCleanup(file.close)
        file.write(b"one\ntwo\n")
        self.assertEqual(file.lost, 2)

    def test_a_pipe_that_is_not_read_any_more_stops_nobody(self) -> None:
        """A pager that waits, a terminal after Ctrl-S: what does not fit is counted, and every line stays one."""
        self.patch(logfile, "PATIENCE", 0.01)
        path = self.base / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        file = LogFile(path)
        file.open()
        self.addCleanup(file.close)
        lines = [b"%d " % number + b"x" * 700 + b"\n" for number in range(300)]
        for number in range(0, 200, 10):
            file.write(b"".join(lines[number : number + 10]))
        self.assertGreater(file.lost, 0)
        read = os.read(reader, 1 << 20)
        for line in lines[200:220]:
            file.write(line)
        read += os.read(reader, 1 << 20)
        whole = [line for line in read.splitlines(keepends=True) if line in lines]
        self.assertEqual(len(whole) + file.lost, 220)
        self.assertEqual(whole[-20:], lines[200:220])


class Sent:
    """A stand-in for the other end: takes messages until told that it does not read any more."""

    def __init__(self) -> None:
        self.waiting = 0
        self.messages: list[dict[str, Any]] = []

    def send(self, kind: str, fields: Any = None) -> None:
        self.messages.append({"kind": kind, **fields})


class TestChannelObserver(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent = Sent()
        self.observer = ChannelObserver(self.clock, self.sent)
        self.log = Logger(observer=self.observer, namespace="child")

    def test_lines_go_in_batches(self) -> None:
        """Many events, one message, JSON-ready."""
        for number in range(3):
            self.log.info("line {number}", number=number, session="s")
        self.log.debug("not this")
        self.clock.advance(1)
        self.assertEqual(len(self.sent.messages), 1)
        lines = json.loads(json.dumps(self.sent.messages[0]["lines"]))
        self.assertEqual([line["text"] for line in lines], ["line 0", "line 1", "line 2"])

    def test_when_the_parent_does_not_read_lines_are_dropped_and_counted(self) -> None:
        """Memory stays bounded, and the log says how much is missing."""
        self.sent.waiting = 1
        for _ in range(WAITING + 7):
            self.log.info("x")
        self.clock.advance(1)
        self.assertEqual(self.sent.messages, [])
        self.sent.waiting = 0
        self.clock.advance(1)
        lines = [line for message in self.sent.messages for line in message["lines"]]
        self.assertEqual(len(lines), WAITING + 1)
        self.assertIn("7 log lines were dropped", " ".join(line["text"] for line in lines))

    def test_sentences_are_those_of_twisted(self) -> None:
        """A plain format, one with calls and conversions, a field that is missing, a brace, none: as formatEvent."""
        events = logged(self)
        log = Logger()
        for form in ("{a} and {b}", "{a!r} {f()}", "{a:>4} {c[0]}", "{missing}", "}{", "{{a}}", "{}", ""):
            log.info(form, a="x", b=5, c=[1], f=lambda: "called", broken=object())
        log.info(None, a=1)
        self.assertEqual([to_record(event)["text"] for event in events], [formatEvent(event) for event in events])

    def test_last_words_are_sent_at_once(self) -> None:
        """A process that ends loses nothing that it said."""
        self.log.error("the end")
        self.observer.flush()
        self.assertEqual(self.sent.messages[0]["lines"][0]["text"], "the end")

    def test_legacy_messages_lose_twisteds_own_words(self) -> None:
        """What comes through twisted.python.log is a sentence and nothing else."""
        from twisted.python import log as legacy

        heard = logged(self)
        legacy.msg("old style")
        self.assertEqual((to_record(heard[0])["text"], to_record(heard[0])["fields"]), ("old style", {}))


class TestOwner(SynchronousTestCase):
    def test_the_log_file_of_root_goes_to_the_user(self) -> None:
        """So that it can be opened again after the step down."""
        if os.geteuid() != 0:
            self.skipTest("needs root")
        base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, base)
        file = LogFile(base / "x.log", owner=(65534, 65534))
        file.open()
        self.addCleanup(file.close)
        self.assertEqual((base / "x.log").stat().st_uid, 65534)

    def test_root_follows_no_link_that_others_have_laid(self) -> None:
        """In a directory of the user's, a link to a file of root's is worth what the user may do with that file."""
        if os.geteuid() != 0:
            self.skipTest("needs root")
        base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, base)
        base.chmod(0o711)
        secret, theirs = base / "secret", base / "state"
        secret.write_text("")
        secret.chmod(0o600)
        theirs.mkdir()
        os.symlink(secret, theirs / "x.log")
        os.symlink(base, theirs / "logs")
        for place in (theirs, theirs / "x.log", theirs / "logs"):
            os.chown(place, 65534, 65534, follow_symlinks=False)
        for name in ("x.log", "logs/new.log", "logs/deep/new.log"):
            with self.assertRaises(StartError):
                LogFile(theirs / name, owner=(65534, 65534)).open()
        self.assertEqual((secret.stat().st_uid, os.geteuid(), os.getegid()), (0, 0, 0))
        self.assertEqual(sorted(os.listdir(base)), ["secret", "state"])
        file = LogFile(theirs / "own.log", owner=(65534, 65534))
        file.open()
        self.addCleanup(file.close)
        self.assertEqual((theirs / "own.log").stat().st_uid, 65534)
