"""The public suite for RFC 7208 (openspf.org, release 2014.04), every case of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.spf.check import check_host
from tests.support.answers import FAILS, run
from tests.support.publicdata import documents, print_counts


def zone_of(data: dict[str, list[Any]]) -> dict[tuple[str, str], list[str] | str]:
    """The suite's zone: TIMEOUT is silence for what is not told; SPF records stand for TXT unless TXT is told."""
    zone: dict[tuple[str, str], list[str] | str] = {}
    for name, records in data.items():
        kinds: set[str] = set()
        place = name.lower().removesuffix(".")
        told = [one for one in records if isinstance(one, dict)]
        for record in told:
            for kind, value in record.items():
                kinds.add(kind)
                if value == "TIMEOUT":
                    zone[place, kind] = FAILS
                elif value != "NONE":
                    known = zone.setdefault((place, kind), [])
                    assert isinstance(known, list)
                    known.append(text_of(kind, value))
        if "SPF" in kinds and "TXT" not in kinds:
            zone[place, "TXT"] = zone[place, "SPF"]
        if "TIMEOUT" in records:
            for kind in ("A", "AAAA", "MX", "TXT", "PTR"):
                zone.setdefault((place, kind), FAILS)
    for place, kind in list(zone):
        if kind == "CNAME":
            targets = zone[place, "CNAME"]
            assert isinstance(targets, list)
            (target,) = targets
            for other in ("A", "AAAA", "MX", "TXT"):
                if (target.lower(), other) in zone:
                    zone[place, other] = zone[target.lower(), other]
    return zone


def text_of(kind: str, value: Any) -> str:
    if kind == "MX":
        return str(value[1])
    if isinstance(value, list):
        value = "".join(value)
    text: str = value.encode().decode("latin-1")
    return text if kind in ("SPF", "TXT") else text.removesuffix(".")


def cases() -> Iterator[tuple[str, dict[str, Any], dict[tuple[str, str], list[str] | str]]]:
    for scenario in documents("spf/rfc7208-tests.yml"):
        zone = zone_of(scenario["zonedata"])
        for name, case in scenario["tests"].items():
            yield f"{scenario['description']}: {name}", case, zone


class SuiteTests(SynchronousTestCase):
    def test_every_case_of_the_public_suite(self) -> None:
        """Result and explanation are one of those that the suite allows."""
        failed = []
        count = 0
        for name, case, zone in cases():
            count += 1
            sender, helo = case["mailfrom"], case["helo"]
            domain = sender.rpartition("@")[2] if sender else helo
            got = run(
                check_host(case["host"], domain, sender or f"postmaster@{helo}", helo, hostname="receiver.test"), zone
            )
            allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
            words = case.get("explanation")
            if got.result not in allowed:
                failed.append(f"{name}: {got}, not {allowed}")
            elif (
                words is not None and got.result == "fail" and got.explanation != ("" if words == "DEFAULT" else words)
            ):
                failed.append(f"{name}: explains {got.explanation!r}, not {words!r}")
        print_counts("SPF", count, len(failed))
        self.assertEqual(failed, [])
        self.assertGreater(count, 200)
