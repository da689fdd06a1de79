"""A Hypothesis strategy for texts made of names and of everything that the rules look at, in every order."""

from hypothesis import strategies as st

__all__ = ["hostile_texts"]

WHITESPACE = list(" \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2002\u2028\u2029\u202f\u205f\u3000")
FRAGMENTS = [
    "example.com", "mail.example.co.uk", "münchen.de", "пример.рф", "xn--mnchen-3ya.de", "main.py",
    "self.name", "www.foo.py", "a.b", "user.name", "example[.]com", "example(dot)com", "xn--p1ai", ".com._", "__",
    "食狮。公司。cn",
    "访问example.com吧", "com", "de", "a", "x-", "-", "_", ".", "..", "[.]", "[.", "(dot", ")", "[", "]", "@",
    "[at]", "://", "//", "/", ":", ":80", ":pw@", "+tag@", "%2F", "%", "\\", "\\n", "2f", "(", "。", "\uff0e",
    "\u200b", "\u0301", "\ufeff", "\xad", "\x00", "\x7f", "\ud800", "😀", "é", "ß", "中", "ไ", "=", ",", '"', "<", ">",
]  # fmt: skip
hostile_texts = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(FRAGMENTS),
        st.sampled_from(WHITESPACE),
        st.characters(),
    ),
    max_size=60,
).map("".join)
