from __future__ import annotations

import stat
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.tls.credential import Credential, PrivateKey
from dcrouter.tls.internal import InternalCa
from dcrouter.tls.keys import ASSUMED, KeyRing, digest, fresh_key

HOST = "mail.a.test"
DAY = 86400.0


class KeyRingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.now = 1.8e9
        self.ca = InternalCa(self.directory, lambda: self.now)

    def ring(self, *hosts: str) -> KeyRing:
        """As after a restart: all that it knows is on disk."""
        return KeyRing(self.directory, hosts or (HOST,), lambda: self.now)

    def certificate(self, key: PrivateKey | None = None) -> Credential:
        return self.ca.issue([HOST], lambda: key or fresh_key(), anew=True)

    def renew(self) -> str:
        """A renewal: the digest of the key that is in use then."""
        credential = self.certificate(self.ring().key_for([HOST]))
        self.ring().used(HOST, credential)
        return digest(credential.private_key())

    def looked(self, *digests: str, ttl: float = 3600.0) -> None:
        self.ring().looked(HOST, {25: (digests, ttl), 587: ((), 0.0)})

    def test_other_names_have_a_fresh_key_each_time(self) -> None:
        """Of the type that was asked for."""
        ring = self.ring()
        kinds = [(key_type, ring.key_for(["www.a.test"], key_type)) for key_type in ("ecdsa-p384", "rsa-2048")]
        self.assertEqual([key.key_size for _, key in kinds if not isinstance(key, str)], [384, 2048])  # type: ignore[union-attr]
        self.assertNotEqual(digest(ring.key_for(["www.a.test"])), digest(ring.key_for(["www.a.test"])))

    def test_renewals_keep_the_key(self) -> None:
        """Whatever covers the host, a wildcard too; while the next key's record is not published, for ever."""
        first = self.renew()
        following = self.ring().next_of(HOST).key
        for names in ([HOST], ["*.a.test"], ["a.test", HOST]):
            self.assertEqual(digest(self.ring().key_for(names)), first)
        for _ in range(20):
            self.looked(first)
            self.now += 30 * DAY
        self.assertEqual(self.renew(), first)
        self.assertEqual(self.ring().next_of(HOST).key, following)

    def test_the_next_key_is_used_when_the_old_record_is_forgotten(self) -> None:
        """Its record has stood beside the old one for as long as the old one alone was remembered."""
        first = self.renew()
        following = self.ring().next_of(HOST).key
        self.looked(first, ttl=7200)
        self.looked(first, following, ttl=60)
        self.now += 7199
        self.assertEqual(self.renew(), first)
        self.now += 1
        self.assertEqual(self.renew(), following)
        self.assertNotIn(self.ring().next_of(HOST).key, (first, following))

    def test_an_order_that_fails_changes_nothing(self) -> None:
        """The next key is the current one when it is shown, and not when it is asked for."""
        first = self.renew()
        following = self.ring().next_of(HOST).key
        self.looked(first, following)
        self.now += ASSUMED
        self.assertEqual(digest(self.ring().key_for([HOST])), following)
        self.assertEqual(self.ring().current_of(HOST), first)
        self.assertEqual(digest(self.ring().key_for([HOST])), following)

    def test_a_ttl_that_was_never_seen_is_taken_for_a_day(self) -> None:
        """Both records came at once, before anybody looked."""
        first = self.renew()
        self.looked(first, self.ring().next_of(HOST).key, ttl=60)
        self.now += ASSUMED - 1
        self.assertEqual(self.renew(), first)
        self.now += 1
        self.assertNotEqual(self.renew(), first)

    def test_a_record_that_goes_again_does_not_count(self) -> None:
        """A zone that was restored, a secondary that lags: the time begins anew."""
        first = self.renew()
        following = self.ring().next_of(HOST).key
        self.looked(first, following)
        self.now += DAY
        self.looked(first)
        self.now += DAY
        self.assertEqual(self.renew(), first)
        self.looked(first, following)
        self.now += 3600
        self.assertEqual(self.renew(), following)

    def test_every_port_that_has_records_must_have_the_next(self) -> None:
        """A port without any has nobody to mislead."""
        first = self.renew()
        following = self.ring().next_of(HOST).key
        self.ring().looked(HOST, {25: ((first, following), 60.0), 465: ((first,), 60.0)})
        self.assertIsNone(self.ring().next_of(HOST).ripe_at())

    def test_without_any_records_nobody_is_misled(self) -> None:
        """A day after it was first known that there are none."""
        first = self.renew()
        self.now += 9 * DAY
        self.assertEqual(self.renew(), first)
        self.looked()
        self.now += ASSUMED
        self.assertNotEqual(self.renew(), first)

    def test_the_key_that_was_there_before_stays(self) -> None:
        """Its record may be published: to ask for rollovers changes no key."""
        before = self.certificate()
        self.ring().used(HOST, before)
        self.assertEqual(self.renew(), digest(before.private_key()))

    def test_what_stands_in_for_a_while_changes_no_key(self) -> None:
        """A certificate of the internal CA with a key from before: the record that is published is of the other."""
        first = self.renew()
        self.ring().used(HOST, self.certificate())
        self.assertEqual(self.ring().current_of(HOST), first)
        brought = evolve(self.certificate(), source="acme")
        self.ring().used(HOST, brought)
        self.assertEqual(self.ring().current_of(HOST), digest(brought.private_key()))

    def test_keys_are_for_nobody_else(self) -> None:
        """0600 in a directory that is 0700."""
        self.renew()
        directory = self.directory / "dane" / HOST
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
        self.assertEqual(modes, {HOST: 0o700, "current.key": 0o600, "next.key": 0o600, "next.json": 0o600})
