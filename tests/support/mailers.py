"""Whole mail servers: Postfix, Exim and OpenSMTPD, each in a cell, all told to do the same.

Mail for inbox.test is theirs: `nobody` does not exist (550), `later` may come again (450), anybody else has a Maildir
under `base`/mail. They offer STARTTLS with a certificate for localhost. Mail for everybody else goes to their `Next`.
"""

from __future__ import annotations

import shutil
import smtplib
import ssl
import tempfile
from pathlib import Path

from attrs import frozen

from tests.support.cell import Cell, need_cells, packages_of
from tests.support.certificates import Authority, write
from tests.support.peers import require

BOXES = ("joe", "ann", "root")
NEXT = "mail.example.test"
"""What the smart host is called; it is on loopback."""
USER = 4025
"""Whose the Maildirs are, in the cell."""


@frozen(kw_only=True)
class Next:
    """A smart host. `ca`: a PEM file; its certificate is verified and `user` logs in, over TLS from the first byte or
    by STARTTLS. None: neither TLS nor a login.
    """

    port: int
    user: str = ""
    password: str = ""
    ca: Path | None = None
    implicit: bool = False


class Mailer(Cell):
    """It takes anything from this machine on port `at`, with the identity in that directory, and sends on to `to`.

    `package`: Debian's name; `comes_again`: whether it knows `later`.
    """

    package: str
    comes_again = True

    def __init__(
        self, name: str, script: str, files: dict[str, str], packages: list[Path], to: Next, at: int, identity: Path
    ) -> None:
        base = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        base.chmod(0o755)
        (base / "mail").mkdir(mode=0o777)
        (base / "mail").chmod(0o777)
        for name in ("site.pem", "site.key"):
            shutil.copy(identity / name, base)
        if to.ca is not None:
            shutil.copyfile(to.ca, base / "next.pem")  # its directory is ours alone
        for path, text in files.items():
            (base / path).parent.mkdir(exist_ok=True)
            (base / path).write_text(text.replace("{base}", str(base)).replace("{port}", str(at)))
        script = script.replace("{base}", str(base))
        system = f"echo box:x:{USER}:{USER}::/:/bin/sh >>/etc/passwd\necho 127.0.0.1 {NEXT} >>/etc/hosts\n"
        super().__init__(system + script, base, at, packages)

    def speaks_tls(self) -> bool:
        """Whether a handshake with it succeeds."""
        context = ssl.create_default_context(cafile=str(self.base / "site.pem"))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with smtplib.SMTP("127.0.0.1", self.port, timeout=240) as client:
            client._host = "localhost"  # type: ignore[attr-defined]
            client.ehlo("client.test")
            try:
                client.starttls(context=context)
                return client.ehlo("client.test")[0] == 250
            except (ssl.SSLError, smtplib.SMTPException, OSError):
                return False

    @staticmethod
    def certify(directory: Path) -> None:
        """Its identity, as localhost: site.pem, site.key, and ca.pem for those who verify it."""
        authority = Authority()
        write(authority.credential(["localhost"]), directory, "site")
        (directory / "ca.pem").write_bytes(authority.root_pem)

    def mails(self, user: str) -> list[bytes]:
        """What has arrived for user@inbox.test."""
        return [path.read_bytes() for path in sorted((self.base / "mail" / user).glob("new/*"))]

    def words(self) -> str:
        """All its logs."""
        return "".join(path.read_text("utf-8", "replace") for path in self.base.glob("*log") if path.is_file())


POSTFIX = """compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
maillog_file = {base}/maillog
maillog_file_prefixes = {base}
myhostname = postfix.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = inbox.test
virtual_transport = virtual
virtual_mailbox_base = {base}/mail
virtual_mailbox_maps = inline:@BOXES@
virtual_uid_maps = static:@USER@
virtual_gid_maps = static:@USER@
smtpd_recipient_restrictions =
  check_recipient_access inline:{{nobody@inbox.test=550 5.1.1 no such user},{later@inbox.test=450 4.2.1 come again}},
  permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_chain_files = {base}/site.key, {base}/site.pem
"""
POSTFIX_NEXT = """relayhost = [mail.example.test]:@PORT@
smtp_host_lookup = native
minimal_backoff_time = 1s
queue_run_delay = 1s
"""
POSTFIX_SECURE = """smtp_tls_security_level = secure
smtp_tls_CAfile = {base}/next.pem
smtp_tls_secure_cert_match = hostname
smtp_tls_wrappermode = @WRAPPER@
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = static:@ACCOUNT@
"""


class Postfix(Mailer):
    package = "postfix"

    def __init__(self, to: Next, at: int, identity: Path, more: str = "") -> None:
        """`more`: lines of main.cf."""
        require("postfix")
        need_cells()
        main = _filled(POSTFIX, USER=USER, BOXES="{" + ",".join(f"{who}@inbox.test={who}/" for who in BOXES) + "}")
        main += _filled(POSTFIX_NEXT, PORT=to.port)
        if to.ca is not None:
            wrapper = "yes" if to.implicit else "no"
            main += _filled(POSTFIX_SECURE, WRAPPER=wrapper, ACCOUNT=f"{to.user}:{to.password}")
        else:
            main += "smtp_tls_security_level = none\n"
        main += more
        script = """
            mkdir {base}/spool {base}/data
            chown postfix {base}/data
            sed -E -e 's/^smtp +inet .*/127.0.0.1:'"$(cat {base}/conf/port)"' inet n - n - - smtpd/' \\
                -e 's/^([^ #]+ +unix[^ ]* +[^ ]+ +[^ ]+ +)y /\\1n /' /etc/postfix/master.cf >{base}/conf/master.cf
            echo 'postlog unix-dgram n - n - 1 postlogd' >>{base}/conf/master.cf
            exec postfix -c {base}/conf start-fg
        """
        super().__init__("postfix", script, {"conf/main.cf": main, "conf/port": "{port}"}, [], to, at, identity)


EXIM = r"""primary_hostname = exim.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
spool_directory = {base}/spool
log_file_path = {base}/%slog
pid_file_path = {base}/pid
keep_environment =
tls_advertise_hosts = *
dsn_advertise_hosts = *
tls_certificate = {base}/site.pem
tls_privatekey = {base}/site.key
acl_smtp_rcpt = recipients
acl_smtp_data = accept
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
begin acl
recipients:
  deny recipients = nobody@inbox.test
    message = 550 5.1.1 no such user
  defer recipients = later@inbox.test
    message = 450 4.2.1 come again
  accept
begin routers
inbox:
  driver = accept
  domains = inbox.test
  local_parts = @LOCAL@
  transport = inbox
next:
  driver = manualroute
  route_list = * mail.example.test
  self = send
  transport = next
begin transports
inbox:
  driver = appendfile
  directory = {base}/mail/$local_part_data
  maildir_format
  user = box
  group = nogroup
next:
  driver = smtp
@NEXT@
begin retry
* * F,1h,1s
begin authenticators
@AUTH@
"""
EXIM_CLEAR = """  port = @PORT@
  hosts_avoid_tls = *
"""
EXIM_SECURE = """  port = @PORT@
  protocol = @PROTOCOL@
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {base}/next.pem
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
  tls_sni = mail.example.test
"""
EXIM_AUTH = """plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^@USER@^@PASSWORD@
"""


class Exim(Mailer):
    package = "exim4-daemon-light"

    def __init__(self, to: Next, at: int, identity: Path) -> None:
        packages = packages_of(self.package, "exim4")
        need_cells()
        protocol = "smtps" if to.implicit else "smtp"
        after = _filled(EXIM_SECURE if to.ca else EXIM_CLEAR, PORT=to.port, PROTOCOL=protocol)
        auth = _filled(EXIM_AUTH, USER=to.user, PASSWORD=to.password)
        script = """
            grep -q ^Debian-exim: /etc/passwd || echo Debian-exim:x:4026:4026::/:/bin/sh >>/etc/passwd
            grep -q ^Debian-exim: /etc/group || echo Debian-exim:x:4026: >>/etc/group
            mkdir {base}/spool
            chown Debian-exim:Debian-exim {base}/spool
            chgrp Debian-exim {base} {base}/site.key
            chmod g+w {base}
            chmod g+r {base}/site.key
            mkdir -p /etc/exim4
            cp {base}/exim.conf /etc/exim4/exim4.conf
            exec exim4 -bdf -q1s
        """
        super().__init__(
            "exim",
            script,
            {"exim.conf": _filled(EXIM, NEXT=after, AUTH=auth, LOCAL=" : ".join(BOXES))},
            packages,
            to,
            at,
            identity,
        )


OPENSMTPD = """smtp max-message-size 40M
queue ttl 1h
pki here cert "/etc/site.pem"
pki here key "/etc/site.key"
table secrets { router = "@ACCOUNT@" }
table boxes { "@" = "box" }
listen on 127.0.0.1 port {port} tls pki here hostname opensmtpd.test
action inbox maildir "{base}/mail/%{rcpt.user:strip}" virtual <boxes>
action next relay host "@NEXT@"@AUTH@
match from any for rcpt-to "nobody@inbox.test" reject
match from any for domain inbox.test action inbox
match from any for any action next
"""


class OpenSmtpd(Mailer):
    """It has no word for a recipient who may come again. Debian 12's cannot be a server of TLS: it is older than the
    OpenSSL that it is built with (OpenSMTPD issue 1171).
    """

    package = "opensmtpd"
    comes_again = False

    def __init__(self, to: Next, at: int, identity: Path) -> None:
        packages = packages_of(self.package, "smtpctl")
        need_cells()
        words = {"ACCOUNT": f"{to.user}:{to.password}", "NEXT": f"smtp+notls://{NEXT}:{to.port}", "AUTH": ""}
        if to.ca is not None:
            scheme = "smtps" if to.implicit else "smtp+tls"
            words.update(NEXT=f"{scheme}://router@{NEXT}:{to.port}", AUTH=" auth <secrets>")
        script = """
            number=4030
            for user in opensmtpd opensmtpq; do
                grep -q ^$user: /etc/passwd && continue
                number=$((number + 1))
                echo $user:x:$number:$number::/:/bin/sh >>/etc/passwd
                echo $user:x:$number: >>/etc/group
            done
            echo localhost >/etc/mailname
            mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
            chmod 711 /var/spool/smtpd
            cp {base}/site.pem {base}/site.key /etc/
            chmod 600 /etc/site.key
            cp {base}/smtpd.conf /etc/smtpd.conf
        """
        if to.ca is not None:
            script += "cp {base}/next.pem /etc/ssl/certs/ca-certificates.crt\n"
        script += "exec smtpd -d -f /etc/smtpd.conf\n"
        super().__init__("opensmtpd", script, {"smtpd.conf": _filled(OPENSMTPD, **words)}, packages, to, at, identity)

    @staticmethod
    def certify(directory: Path) -> None:
        """With RSA: it has no way to use a key on a curve with OpenSSL."""
        authority = Authority()
        write(authority.credential(["localhost"], rsa_key=True), directory, "site")
        (directory / "ca.pem").write_bytes(authority.root_pem)


def _filled(text: str, **words: object) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


Kind = type[Postfix] | type[Exim] | type[OpenSmtpd]
"""One is made with (to, at, identity)."""
