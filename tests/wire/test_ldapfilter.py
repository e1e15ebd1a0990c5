"""Filters of LDAP with a place for a name, which stays a value whatever it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.ldapfilter import Compare, Extensible, Group, Present, Substrings, filled, names_user, parse


class FilterTests(SynchronousTestCase):
    def test_every_kind(self) -> None:
        """RFC 4515 section 3, with its escapes."""
        for text, expected in (
            ("(mail={user})", Compare("mail", "=", (None,))),
            (" (cn~=x) ", Compare("cn", "~=", (b"x",))),
            ("(uidNumber>=1000)", Compare("uidNumber", ">=", (b"1000",))),
            ("(cn=a{user}b)", Compare("cn", "=", (b"a", None, b"b"))),
            ("(o=Parens R Us \\28for all\\29)", Compare("o", "=", (b"Parens R Us (for all)",))),
            ("(cn=Lu\\c4\\8di\\c4\\87)", Compare("cn", "=", ("Lu\u010di\u0107".encode(),))),
            ("(mail=*)", Present("mail")),
            ("(cn=*x*{user})", Substrings("cn", ((), (b"x",), (None,)))),
            ("(cn;lang-de=x)", Compare("cn;lang-de", "=", (b"x",))),
            ("(1.2.3=x)", Compare("1.2.3", "=", (b"x",))),
            ("(!(a=b))", Group("!", (Compare("a", "=", (b"b",)),))),
            ("(&(a=b)(|(c=*)(d={user})))", Group("&", (
                Compare("a", "=", (b"b",)), Group("|", (Present("c"), Compare("d", "=", (None,)))),
            ))),
            ("(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y)",
             Extensible("memberOf", "1.2.840.113556.1.4.1941", False, (b"cn=x,dc=y",))),
            ("(:dn:2.4.6.8.10:=x)", Extensible(None, "2.4.6.8.10", True, (b"x",))),
        ):  # fmt: skip
            self.assertEqual(parse(text), expected)

    def test_slips(self) -> None:
        """Each with a sentence."""
        for text in (
            "", "mail={user}", "(mail={user}", "(mail={user}))", "(mail)", "()", "(&)", "(!(a=b)(c=d))", "(=x)",
            "(a>=b*)", "(a=\\2)", "(a=\\zz)", "((a=b))", "(:=x)", "(&a=b)", "(a=b)x", "(" * 50 + "a=b" + ")" * 50,
            "(!" * 50 + "(a=b)" + ")" * 50,
        ):  # fmt: skip
            self.assertRaises(ValueError, parse, text)

    def test_where_the_name_stands(self) -> None:
        """Somewhere in a value, or nobody is meant."""
        for text, said in (
            ("(a={user})", True),
            ("(&(a=b)(!(c=*{user}*)))", True),
            ("(a:=x{user})", True),
            ("(a=*)", False),
            ("(a=b)", False),
        ):
            self.assertEqual(names_user(parse(text)), said)

    @given(st.binary(max_size=20))
    def test_a_name_is_a_value(self, name: bytes) -> None:
        """RFC 4515 3 would have it escaped: here it never is text of a filter."""
        found = parse("(mail={user})")
        assert isinstance(found, Compare)
        self.assertEqual(filled(found.value, name), name)

    @given(st.text(alphabet="()&|!=*\\:a1{}<>~ ", max_size=20))
    def test_no_text_breaks_it(self, text: str) -> None:
        """A filter, or ValueError."""
        try:
            parse(text)
        except ValueError as error:
            self.assertTrue(str(error))
