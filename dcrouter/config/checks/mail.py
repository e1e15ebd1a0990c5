"""What must hold within one value of `email`, whatever stands around it; run while the file is read, as checks/values.

A password leaves this host only over TLS with a peer that has proved its name: `auth` beside a target makes TLS there
`required`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from attrs import evolve

from dcrouter.config.accounts import AuthFailures, User
from dcrouter.config.authentication import AuthenticationResults
from dcrouter.config.checks.http import warn_in_clear
from dcrouter.config.checks.values import Within, check_socket
from dcrouter.config.directory import Ldap, OAuth2
from dcrouter.config.guards import Greylist, MailLimit
from dcrouter.config.mail import Email
from dcrouter.config.nodes import Mapping as MappingNode
from dcrouter.config.patterns import mail_address, recipient
from dcrouter.config.place import Place
from dcrouter.config.queue import Retry
from dcrouter.config.rules import Deliver, MailForward, Reject, Rule, RuleMatch, SmartHostAuth
from dcrouter.config.units import shown

MAIL_PORT = 25


def _user(user: User, place: Place) -> User:
    if user.may_send_as is not None or place.says("may_send_as"):
        return user
    try:
        own = recipient(mail_address(user.name))
    except ValueError:
        place.tell(f"'may_send_as' is missing: {shown(user.name)} is not a mail address, which it would be else")
        return user
    return evolve(user, may_send_as=(own,))


def _ldap(ldap: Ldap, place: Place) -> Ldap:
    if find_spec("ldaptor") is None:
        place.tell("needs ldaptor, which is not installed: pip install 'dcrouter[ldap]'")
    if (ldap.bind_dn is None) != (ldap.bind_password is None):
        place.tell("'bind_dn' and 'bind_password' go together")
    if ldap.bind_password is not None and not ldap.bind_password:
        place.at("bind_password").tell("is empty: a directory would take it for nobody's (RFC 4513 5.1.2)")
    return ldap


def _oauth2(oauth2: OAuth2, place: Place) -> OAuth2:
    given = [word for word in ("jwks_url", "introspection_url") if place.says(word)]
    if len(given) != 1:
        place.tell("needs either 'jwks_url' or 'introspection_url'" + (", not both" if given else ""))
        return oauth2
    if oauth2.jwks_url is not None:
        warn_in_clear(oauth2.jwks_url, place.at("jwks_url"))
        if not oauth2.audience:
            place.warn("tokens that the issuer gave for other services log in here, too: say audience")
    if oauth2.introspection_url is not None:
        warn_in_clear(oauth2.introspection_url.url, place.at("introspection_url"))
    return oauth2


def _failures(failures: AuthFailures, place: Place) -> AuthFailures:
    place.at("within").must_last(failures.within, "nothing fails in no time")
    place.at("ban").must_last(failures.ban, "nobody would be banned (a high `max` lets people try more)")
    return failures


def _forward(forward: MailForward, place: Place) -> MailForward:
    for at, target in enumerate(forward.targets):
        where = place.at("targets", at)
        if target.unix is not None:
            where.at("unix").tell("mail is forwarded to a host and a port")
        if target.port is None and where.says("port"):
            where.at("port").tell("preserve is for routes: mail is forwarded to port 25 unless told")
    if forward.health is not None and forward.health.type not in (None, "smtp", "tcp"):
        place.at("health", "type").tell(f"mail servers are asked by smtp or tcp, not by {forward.health.type}")
    tls = forward.tls
    if forward.auth is not None and tls != "required":
        if tls == "none":
            place.at("tls").tell("a password is sent over TLS only: say tls: required, or leave `auth` out")
        elif place.says("tls"):
            place.at("tls").warn("is taken as required: a password goes only to a target that has proved its name")
        tls = "required"
    targets = (evolve(target, port=target.port or MAIL_PORT) for target in forward.targets)
    return evolve(forward, targets=tuple(targets), tls=tls)


def _smart_host_auth(auth: SmartHostAuth, place: Place) -> SmartHostAuth:
    for word, text in (("user", auth.user), ("password", auth.password)):
        if not text or "\0" in text:
            place.at(word).tell("is empty" if not text else "holds a NUL, which AUTH cannot send (RFC 4616)")
    return auth


def _deliver(deliver: Deliver, place: Place) -> Deliver:
    if place.says("maildir") and place.says("lmtp"):
        place.at("lmtp").tell("needs either 'maildir' or 'lmtp', not both")
    elif deliver.maildir is None and deliver.lmtp is None and not place.findings.touch(place.path):
        place.tell("'maildir' or 'lmtp' is missing")
    if isinstance(deliver.lmtp, Path):
        check_socket(deliver.lmtp, place.at("lmtp"))
    return deliver


def _rule_match(match: RuleMatch, place: Place) -> RuleMatch:
    if isinstance(place.node, MappingNode) and not place.node.entries:
        place.fail("the mapping is empty: leave it out to match every recipient")
    return match


def _rule(rule: Rule, place: Place) -> Rule:
    if isinstance(rule.action, Reject):
        for word in ("limits", "recipients_file", "verify"):
            if place.says(word):
                place.at(word).tell("the rule rejects all that it matches: leave it out")
        return rule
    if rule.verify is not None and not isinstance(rule.action, MailForward):
        place.at("verify").tell(f"only a rule that forwards has a target to ask: {rule.action.type} has none")
    elif rule.verify is not None and place.says("recipients_file"):
        place.at("verify").tell("stands instead of 'recipients_file': keep one of them")
    return rule


def _reject(reject: Reject, place: Place) -> Reject:
    if reject.code == 421:
        place.at("code").fail("421 announces the end of the connection: it refuses no recipient")
    if reject.message[0] != str(reject.code)[0]:
        where = place.at("message" if place.says("message") else "code")
        where.fail(f"code {reject.code} does not go with status code {reject.message.split()[0]}")
    return reject


def _greylist(greylist: Greylist, place: Place) -> Greylist:
    if not 0 < greylist.delay <= 86400:
        place.at("delay").tell("more than 0s, and a day at most: senders give up (RFC 6647 5)")
    return greylist


def _authentication(checks: AuthenticationResults, place: Place) -> AuthenticationResults:
    """DMARC says what SPF and DKIM found: without one of them it would refuse mail that the other vouches for."""
    if checks.dmarc == "enforce" and not (checks.spf and checks.dkim):
        place.at("dmarc").tell("enforce needs `spf` and `dkim`: it would refuse mail that they vouch for")
    elif checks.dmarc == "monitor" and not (checks.spf or checks.dkim) and place.says("dmarc"):
        place.at("dmarc").warn("finds nothing without `spf` and `dkim`")
    return checks


def _email(email: Email, place: Place) -> Email:
    most = sum(max(one.score, 0) for one in email.dnsbl)
    if email.dnsbl and most < email.dnsbl_reject_at:
        place.at("dnsbl").warn(
            f"refuses nobody: all scores add up to {most}, dnsbl_reject_at is {email.dnsbl_reject_at}"
        )
    elif not email.dnsbl and place.says("dnsbl_reject_at"):
        place.at("dnsbl_reject_at").warn("says nothing without lists (dnsbl)")
    return email


def _limit(limit: MailLimit, place: Place) -> MailLimit:
    if limit.rate is None and limit.quota is None and not place.findings.touch(place.path):
        place.tell("'rate' or 'quota' is missing")
    return limit


def _retry(retry: Retry, place: Place) -> Retry:
    if retry.base <= 0:
        place.at("base").fail("no wait at all would be an endless loop")
    if retry.max < retry.base:
        place.at("max").fail("is shorter than base")
    if retry.max_age <= 0:
        place.at("max_age").fail("no message would ever be tried again")
    if retry.delay_notice >= retry.max_age and place.says("delay_notice"):
        place.at("delay_notice").warn("nobody is told: messages are given up before (max_age)")
    return retry


MAIL: Mapping[type, Within] = {
    AuthenticationResults: _authentication,
    AuthFailures: _failures,
    Deliver: _deliver,
    Email: _email,
    Greylist: _greylist,
    Ldap: _ldap,
    MailForward: _forward,
    MailLimit: _limit,
    OAuth2: _oauth2,
    Reject: _reject,
    Retry: _retry,
    Rule: _rule,
    RuleMatch: _rule_match,
    SmartHostAuth: _smart_host_auth,
    User: _user,
}
"""What must hold within a value of a class."""
