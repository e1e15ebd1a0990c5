from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import TlsError
from dcrouter.tls.credential import Credential, read
from tests.support.certificates import Authority, encrypted, traditional, write


class CredentialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority()
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)

    def refused(self, cert: Path, key: Path) -> str:
        return str(self.assertRaises(TlsError, read, cert, key))

    def test_a_pair_of_files_becomes_a_credential(self) -> None:
        """Names are lower case, wildcards and addresses among them; the path is the configuration's."""
        names = ["WWW.Example.com", "*.example.com", "192.0.2.1", "2001:db8::1"]
        files = self.authority.files(self.directory, names)
        credential = read(files.cert, files.key)
        self.assertEqual(credential.names, ("www.example.com", "*.example.com", "192.0.2.1", "2001:db8::1"))
        self.assertEqual((credential.source, credential.key_type), ("file", "ecdsa"))
        self.assertEqual(credential.file, str(files.cert))
        self.assertEqual(len(credential.certificates()), 2)
        self.assertEqual(credential.not_after, credential.certificates()[0].not_valid_after_utc.timestamp())

    def test_it_crosses_a_process_border_as_json(self) -> None:
        """What is read on the other side equals what was sent."""
        credential = self.authority.credential(["a.test"], file="/etc/a.pem", shared=False)
        self.assertEqual(Credential.from_plain(json.loads(json.dumps(credential.to_plain()))), credential)

    def test_its_key_is_not_in_its_repr(self) -> None:
        """Whatever logs a credential logs no secret."""
        shown = repr(self.authority.credential(["a.test"]))
        self.assertNotIn("PRIVATE", shown)
        self.assertNotIn("BEGIN", shown)

    def test_a_renewed_certificate_has_another_id(self) -> None:
        """The id is the chain's."""
        first, second = (self.authority.credential(["a.test"]) for _ in range(2))
        self.assertNotEqual(first.id, second.id)

    def test_key_and_chain_may_be_one_file(self) -> None:
        """As HAProxy's users have it; the key does not end up in the chain."""
        credential = self.authority.credential(["a.test"])
        path = self.directory / "both.pem"
        for content in (credential.key + credential.chain, b"commentary\n" + credential.chain + credential.key):
            path.write_bytes(content)
            self.assertNotIn(b"PRIVATE", read(path, path).chain)
            self.assertEqual(read(path, path).chain, credential.chain)

    def test_a_key_after_its_parameters_is_read(self) -> None:
        """`openssl ecparam -genkey` writes the curve first."""
        credential = self.authority.credential(["a.test"])
        files = write(credential, self.directory, "site")
        files.key.write_bytes(traditional(credential.key))
        self.assertEqual(read(files.cert, files.key).key, credential.key)

    def test_an_rsa_key_is_read(self) -> None:
        """Old clients need one."""
        files = write(self.authority.credential(["a.test"], rsa_key=True), self.directory, "site")
        self.assertEqual(read(files.cert, files.key).key_type, "rsa")

    def test_an_rsa_key_that_does_not_work_is_refused(self) -> None:
        """Its numbers are damaged, though it is the right one to look at."""
        credential = self.authority.credential(["a.test"], rsa_key=True)
        key = credential.private_key()
        assert isinstance(key, RSAPrivateKey)
        good = key.private_numbers()
        bad = RSAPrivateNumbers(
            good.p, good.q, good.d + 2, good.dmp1 + 2, good.dmq1, good.iqmp, good.public_numbers
        ).private_key(unsafe_skip_rsa_key_validation=True)
        files = write(credential, self.directory, "site")
        files.key.write_bytes(bad.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.assertIn("cannot be parsed", self.refused(files.cert, files.key))

    def test_an_expired_certificate_is_read(self) -> None:
        """It is worth a warning, not a service that does not start."""
        files = self.authority.files(self.directory, ["a.test"], days=-1)
        self.assertEqual(read(files.cert, files.key).names, ("a.test",))

    def test_a_missing_file_is_named(self) -> None:
        """The sentence says which of the two."""
        files = self.authority.files(self.directory, ["a.test"])
        nowhere = self.directory / "nowhere"
        self.assertEqual(self.refused(nowhere, files.key), f"certificate file {nowhere} does not exist")
        self.assertEqual(self.refused(files.cert, nowhere), f"key file {nowhere} does not exist")

    def test_an_unreadable_file_is_named(self) -> None:
        """With the kernel's reason."""
        files = self.authority.files(self.directory, ["a.test"])
        self.assertEqual(
            self.refused(files.cert, self.directory), f"key file {self.directory} cannot be read: Is a directory"
        )

    def test_a_pipe_is_named(self) -> None:
        """Nobody waits until somebody writes into it: the whole parent would."""
        files = self.authority.files(self.directory, ["a.test"])
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        self.assertEqual(self.refused(files.cert, pipe), f"key file {pipe} is not a file")

    def test_what_is_not_pem_is_named(self) -> None:
        """Text, DER, and the two files in each other's place."""
        files = self.authority.files(self.directory, ["a.test"])
        self.assertIn("holds no PEM certificate", self.refused(files.key, files.key))
        self.assertIn("holds no PEM private key", self.refused(files.cert, files.cert))
        files.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.assertIn(f"certificate file {files.cert}", self.refused(files.cert, files.key))
        files.cert.write_bytes(bytes(2 * 1024 * 1024))
        self.assertIn("larger than 1 MB", self.refused(files.cert, files.key))

    def test_a_file_that_is_cut_off_is_named(self) -> None:
        """Within the leaf, and within an issuer: what is there already would do for OpenSSL, and not for clients."""
        files = self.authority.files(self.directory, ["a.test"])
        whole = files.cert.read_bytes()
        for length in (300, whole.index(b"-----BEGIN", 10) + 100, len(whole) - 10):
            files.cert.write_bytes(whole[:length])
            self.assertIn(f"certificate file {files.cert} is cut off", self.refused(files.cert, files.key))
        files.cert.write_bytes(whole)
        files.key.write_bytes(files.key.read_bytes()[:100])
        self.assertIn(f"key file {files.key} is cut off", self.refused(files.cert, files.key))

    def test_a_key_that_does_not_match_is_named(self) -> None:
        """Both files are, because either may be the wrong one."""
        one = self.authority.files(self.directory, ["a.test"], stem="one")
        two = self.authority.files(self.directory, ["a.test"], stem="two")
        self.assertEqual(
            self.refused(one.cert, two.key), f"key file {two.key} does not match certificate file {one.cert}"
        )

    def test_a_chain_in_the_wrong_order_says_so(self) -> None:
        """The commonest mistake after concatenating files."""
        files = self.authority.files(self.directory, ["a.test"])
        leaf, issuer = files.cert.read_bytes().split(b"-----END CERTIFICATE-----\n")[:2]
        end = b"-----END CERTIFICATE-----\n"
        files.cert.write_bytes(issuer + end + leaf + end)
        self.assertIn("must begin with the certificate of key file", self.refused(files.cert, files.key))

    def test_an_encrypted_key_says_so(self) -> None:
        """A service has nobody to ask for a passphrase; the passphrase's absence is the sentence."""
        files = self.authority.files(self.directory, ["a.test"])
        files.key.write_bytes(encrypted(files.key.read_bytes(), b"secret"))
        self.assertIn("is encrypted", self.refused(files.cert, files.key))
