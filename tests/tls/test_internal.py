from __future__ import annotations

import contextlib
import itertools
import os
import stat
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.tls import TlsProfile
from dcrouter.errors import TlsError
from dcrouter.tls.internal import LEAF_LIFETIME, RENEW_AT, ROOT_LIFETIME, InternalCa
from dcrouter.tls.profile import server_context
from tests.support.disk import Change, Disk
from tests.support.fuse import Mounted
from tests.support.handshake import Server
from tests.support.peers import require

START = 1_800_000_000.0
DAY = 86400.0


class InternalCaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.state.mkdir(parents=True)
        self.now = START

    def ca(self) -> InternalCa:
        return InternalCa(self.state, lambda: self.now)

    def test_a_leaf_stands_for_the_names_that_were_asked_for(self) -> None:
        """DNS names and addresses, `**.` as the one label that a certificate can say; for servers, and no CA."""
        credential = self.ca().issue(["A.test", "*.a.test", "**.b.test", "127.0.0.1", "::1"])
        self.assertEqual(credential.names, ("a.test", "*.a.test", "*.b.test", "127.0.0.1", "::1"))
        self.assertEqual((credential.source, credential.file), ("internal", None))
        leaf = credential.certificates()[0]
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertFalse(leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        self.assertEqual(credential.not_after, START + LEAF_LIFETIME)

    def test_the_root_is_one_of_its_own(self) -> None:
        """Its name tells it from those of other hosts; it may sign leaves and no further CA."""
        ca = self.ca()
        ca.issue(["a.test"])
        root = x509.load_pem_x509_certificate(ca.root_path.read_bytes())
        self.assertRegex(root.subject.rfc4514_string(), r"^CN=dcrouter internal CA [0-9a-f]{8}$")
        self.assertEqual(root.not_valid_after_utc.timestamp(), START + ROOT_LIFETIME)
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        self.assertEqual((constraints.ca, constraints.path_length), (True, 0))

    def test_keys_are_for_their_owner_alone(self) -> None:
        """Directories 0700, files with a key 0600, whatever the umask; nothing temporary is left."""
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.ca().issue(["a.test"])
        directory = self.state / "internal-ca"
        modes = {
            str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode)
            for path in (directory, *directory.rglob("*"))
        }
        leaf = next(name for name in modes if name.startswith("leaves/"))
        self.assertEqual(modes, {".": 0o700, "leaves": 0o700, "ca.key": 0o600, "ca.pem": 0o644, leaf: 0o600})

    def test_a_leaf_is_kept_across_a_restart(self) -> None:
        """The same names, in any order, are the same credential."""
        self.assertEqual(self.ca().issue(["a.test", "b.test"]).id, self.ca().issue(["b.test", "a.test"]).id)

    def test_other_names_are_another_leaf(self) -> None:
        """Under the same root."""
        ca = self.ca()
        one, two = ca.issue(["a.test"]), ca.issue(["a.test", "b.test"])
        self.assertNotEqual(one.id, two.id)
        self.assertEqual(one.certificates()[0].issuer, two.certificates()[0].issuer)

    def test_a_leaf_is_renewed_when_two_thirds_of_its_life_are_over(self) -> None:
        """Not before; by the next `issue` after `due` says so."""
        ca = self.ca()
        first = ca.issue(["a.test"])
        self.now = START + LEAF_LIFETIME * RENEW_AT - 1
        self.assertFalse(ca.due(first))
        self.assertEqual(ca.issue(["a.test"]).id, first.id)
        self.now += 2
        self.assertTrue(ca.due(first))
        renewed = ca.issue(["a.test"])
        self.assertNotEqual(renewed.id, first.id)
        self.assertFalse(ca.due(renewed))

    def test_a_clock_that_was_set_back_renews_too(self) -> None:
        """A leaf from the future convinces nobody."""
        first = self.ca().issue(["a.test"])
        self.now = START - 365 * DAY
        ca = self.ca()
        self.assertTrue(ca.due(first))
        self.assertNotEqual(ca.issue(["a.test"]).id, first.id)

    def test_a_root_that_nears_its_end_is_replaced(self) -> None:
        """A leaf never outlives its root."""
        first = self.ca().issue(["a.test"])
        self.now = START + ROOT_LIFETIME - LEAF_LIFETIME + 1
        ca = self.ca()
        second = ca.issue(["a.test"])
        root = x509.load_pem_x509_certificate(ca.root_path.read_bytes())
        second.certificates()[0].verify_directly_issued_by(root)
        self.assertNotEqual(second.certificates()[0].issuer, first.certificates()[0].issuer)

    def test_a_damaged_leaf_is_issued_anew(self) -> None:
        """A power cut costs no start; the log says so."""
        ca = self.ca()
        first = ca.issue(["a.test"])
        (path,) = (self.state / "internal-ca" / "leaves").iterdir()
        for left in (path.read_bytes()[:100], b""):
            path.write_bytes(left)
            self.assertNotEqual(self.ca().issue(["a.test"]).id, first.id)

    def test_a_lost_root_certificate_is_made_anew_from_its_key(self) -> None:
        """Clients that trust the lost one trust what is issued from then on: same name, same key."""
        self.ca().issue(["a.test"])
        ca = self.ca()
        before = x509.load_pem_x509_certificate(ca.root_path.read_bytes())
        ca.root_path.unlink()
        second = ca.issue(["b.test"])
        second.certificates()[0].verify_directly_issued_by(before)

    def test_a_leaf_of_another_root_is_issued_anew(self) -> None:
        """Who removes the root and its key gets a whole new CA."""
        first = self.ca().issue(["a.test"])
        ca = self.ca()
        ca.root_path.unlink()
        (self.state / "internal-ca" / "ca.key").unlink()
        second = ca.issue(["a.test"])
        self.assertNotEqual(first.certificates()[0].issuer, second.certificates()[0].issuer)

    def test_a_root_without_its_key_is_an_error(self) -> None:
        """Clients trust that root: it is not replaced behind the operator's back."""
        self.ca().issue(["a.test"])
        key = self.state / "internal-ca" / "ca.key"
        key.unlink()
        self.assertIn(f"key file {key} does not exist", str(self.assertRaises(TlsError, self.ca().issue, ["a.test"])))

    def test_a_root_that_is_spoilt_is_an_error_with_a_way_out(self) -> None:
        """Be it the certificate, which its key makes anew, or the key, without which there is another CA."""
        first = self.ca().issue(["a.test"])
        root, key = self.ca().root_path, self.state / "internal-ca" / "ca.key"
        root.write_bytes(root.read_bytes()[:100])
        said = str(self.assertRaises(TlsError, self.ca().issue, ["a.test"]))
        self.assertIn(f"{root} is cut off", said)
        self.assertIn("or remove it: it is made anew with the key beside it", said)
        root.unlink()
        self.assertEqual(self.ca().issue(["a.test"]).certificates()[0].issuer, first.certificates()[0].issuer)
        key.write_bytes(b"")
        said = str(self.assertRaises(TlsError, self.ca().issue, ["a.test"]))
        self.assertIn(f"restore it, or remove it and {root} for a new CA", said)
        key.unlink()
        root.unlink()
        self.assertNotEqual(self.ca().issue(["a.test"]).certificates()[0].issuer, first.certificates()[0].issuer)

    def test_leaves_of_names_long_gone_are_swept(self) -> None:
        """A host that changes its name every day does not fill the disk. They are looked for once a day, as thousands
        may be made in a row.
        """
        self.ca().issue(["old.test"])
        (old,) = (self.state / "internal-ca" / "leaves").iterdir()
        content = old.read_bytes()
        os.utime(old, (START - LEAF_LIFETIME - 1,) * 2)
        ca = self.ca()
        ca.issue(["new.test"])
        self.assertFalse(old.exists())
        old.write_bytes(content)
        os.utime(old, (START - LEAF_LIFETIME - 1,) * 2)
        ca.issue(["newer.test"])
        self.assertTrue(old.exists())
        self.now += 86400
        ca.issue(["newest.test"])
        self.assertFalse(old.exists())

    def test_a_name_that_no_certificate_can_hold_is_an_error(self) -> None:
        """IDNs come as A-labels."""
        self.assertIn("bücher.test", str(self.assertRaises(TlsError, self.ca().issue, ["bücher.test"])))

    def test_a_long_first_name_is_no_common_name(self) -> None:
        """RFC 5280 allows 64 characters there; the subject stays empty, the names are critical."""
        name = ".".join(["a" * 40, "b" * 40, "test"])
        leaf = self.ca().issue([name]).certificates()[0]
        self.assertEqual(list(leaf.subject), [])
        self.assertTrue(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical)

    def test_curl_trusts_the_root_file(self) -> None:
        """`curl --cacert state/internal-ca/ca.pem` is all that a user needs; without it curl refuses."""
        curl = require("curl")
        self.now = time.time()
        ca = self.ca()
        port = Server(self, server_context([ca.issue(["localhost"])], TlsProfile())).port
        connect = [
            "--connect-to",
            f"localhost:443:127.0.0.1:{port}",
            "https://localhost/",
            "-sS",
            "-m",
            "30",
            "--http0.9",
        ]
        trusting = subprocess.run([curl, "--cacert", str(ca.root_path), *connect], capture_output=True, check=False)
        self.assertEqual((trusting.returncode, trusting.stdout), (0, b"G"))
        self.assertEqual(subprocess.run([curl, *connect], capture_output=True, check=False).returncode, 60)

    def test_a_power_loss_at_any_moment_does_not_stop_the_next_start(self) -> None:
        """Before each change of the disk, and then with any part of what was not synced: a leaf is issued again."""
        at = self.state / "mounted"
        at.mkdir()
        for moment in range(1, 30):
            disk = Disk()
            changes = itertools.count(1)

            def loses_power(change: Change, disk: Disk = disk, moment: int = moment, changes: Any = changes) -> None:
                if next(changes) == moment:
                    disk.off()

            disk.before = loses_power
            with Mounted(disk, at):
                with contextlib.suppress(TlsError):
                    InternalCa(at, lambda: self.now).issue(["a.test"])
                disk.off()
            disk.before = None
            disk.lose(Random(moment))
            with Mounted(disk, at):
                InternalCa(at, lambda: self.now).issue(["a.test"])
        self.assertLess(next(changes), moment)
