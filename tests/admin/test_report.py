from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.report import duration, status_lines


class TestReport(SynchronousTestCase):
    def test_durations_have_two_units(self) -> None:
        """Nobody wants the seconds of a day."""
        self.assertEqual([duration(s) for s in (0, 59, 61, 3600, 93784)], ["0 s", "59 s", "1 m 1 s", "1 h", "1 d 2 h"])

    def test_status_in_words(self) -> None:
        """Who runs since when, what listens, what was lost."""
        edge: dict[str, Any] = {
            "state": "ready",
            "pid": 7,
            "uptime": 61,
            "restarts": 2,
            "counters": {"accepted": 3, "routes": {"web": {"connections": 3, "active": 1}}, "failed": {}},
        }
        mail: dict[str, Any] = {"state": "waiting", "pid": None, "uptime": 0, "restarts": 1, "counters": None}
        status = {
            "version": "1",
            "state": "ready",
            "pid": 5,
            "uptime": 62,
            "config": "/r.yaml",
            "state_dir": "/s",
            "children": {"edge": edge, "mail": mail},
            "listeners": [{"address": "::", "port": 443, "routes": ["web"]}],
            "log": {"dropped": 0},
            "access_log": {"dropped": 4},
        }
        self.assertEqual(
            list(status_lines(status)),
            [
                "dcrouter 1, ready, pid 5, up 1 m 2 s",
                "configuration /r.yaml, state in /s",
                "edge: ready, pid 7, up 1 m 1 s, started again 2 times",
                "  accepted: 3",
                "  routes:",
                "    web: connections 3, active 1",
                "mail: waiting, started again 1 time",
                "  does not answer",
                "listening on [::]:443 (web)",
                "4 access log lines were dropped",
            ],
        )

    def test_targets_say_how_they_are(self) -> None:
        """Up, down and ejected, since when or for how long, and why; the words of others move no terminal."""
        states: dict[str, dict[str, Any]] = {
            "a:1": {"health": "up", "for": 61.2, "active": 2, "connections": 9, "failed": 0},
            "b:1": {
                "health": "down",
                "for": 5.0,
                "reason": "answered 503 \x1b[2J",
                "active": 0,
                "connections": 1,
                "failed": 2,
            },
            "c:1": {"health": "ejected", "left": 29.0, "reason": "refused", "active": 0, "connections": 0, "failed": 5},
            "d:1": {"health": "unknown", "active": 0, "connections": 0, "failed": 0},
            "e:1": {"health": "unchecked", "reason": "refused", "active": 1, "connections": 3, "failed": 1},
            "f:1": {"health": "up", "for": 3.0, "reason": "check timeout", "active": 0, "connections": 0, "failed": 0},
        }
        status = {
            "version": "1",
            "state": "ready",
            "pid": 5,
            "uptime": 62,
            "config": "/r.yaml",
            "state_dir": "/s",
            "children": {
                "edge": {
                    "state": "ready",
                    "pid": 7,
                    "uptime": 1,
                    "restarts": 0,
                    "counters": {"accepted": 3, "targets": {"web": states}},
                }
            },
            "listeners": [],
            "log": {"dropped": 0},
            "access_log": None,
        }
        self.assertEqual(
            list(status_lines(status))[3:],
            [
                "  accepted: 3",
                "  targets of web:",
                "    a:1: up for 1 m 1 s; 2 active, 9 connections, 0 failed",
                "    b:1: down for 5 s: answered 503 ?[2J; 0 active, 1 connections, 2 failed",
                "    c:1: ejected for another 29 s: refused; 0 active, 0 connections, 5 failed",
                "    d:1: not checked yet; 0 active, 0 connections, 0 failed",
                "    e:1: last failure: refused; 1 active, 3 connections, 1 failed",
                "    f:1: up for 3 s; last failure: check timeout; 0 active, 0 connections, 0 failed",
            ],
        )

    def test_a_range_of_ports_is_one_line(self) -> None:
        """For each address; ports of other routes stay apart, in whatever order they were bound."""
        listeners = [
            {"address": address, "port": port, "routes": ["web"] if port != 22 else ["ssh"]}
            for port in (20, 21, 22, 23, 25)
            for address in ("0.0.0.0", "::")
        ]
        status = {
            "version": "1",
            "state": "ready",
            "pid": 5,
            "uptime": 1,
            "config": "/r.yaml",
            "state_dir": "/s",
            "children": {},
            "listeners": listeners,
            "log": {"dropped": 0},
            "access_log": None,
        }
        self.assertEqual(
            sorted(line.removeprefix("listening on ") for line in list(status_lines(status))[2:]),
            [
                "0.0.0.0:20-21 (web)",
                "0.0.0.0:22 (ssh)",
                "0.0.0.0:23 (web)",
                "0.0.0.0:25 (web)",
                "[::]:20-21 (web)",
                "[::]:22 (ssh)",
                "[::]:23 (web)",
                "[::]:25 (web)",
            ],
        )
