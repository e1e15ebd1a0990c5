from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.report import duration, queue_lines, status_lines


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
                "mail: waiting, started again 1 times",
                "  does not answer",
                "listening on [::]:443 (web)",
                "4 access log lines were dropped",
            ],
        )

    def test_an_empty_queue_says_so(self) -> None:
        """And a full one is one line for each, with nothing of the sender's moving the terminal."""
        self.assertEqual(list(queue_lines([])), ["the queue is empty"])
        self.assertEqual(list(queue_lines([{"id": 1, "sender": "a\x1b@b", "reply": None}])), ["id=1  sender=a?@b"])
