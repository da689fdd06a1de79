"""Which character sets are decoded: those that texts come in, each at a cost that grows with the length alone.

Python has more: some are no character sets (`hex`), some take time that grows with the square of the length (`punycode`
0.4 s for 64 kB), and to look up any other name that a stranger thinks of imports code and fills a cache.
"""

from encodings import normalize_encoding
from encodings.aliases import aliases

_ALLOWED = """
ascii utf_8 utf_16 utf_16_le utf_16_be utf_32 utf_32_le utf_32_be latin_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5
iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16
cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp850 cp852 cp866 cp874
koi8_r koi8_u mac_roman shift_jis cp932 euc_jp gb2312 gbk gb18030 big5 euc_kr cp949
"""
_CODECS = frozenset(_ALLOWED.split())


def codec_of(charset: str) -> str | None:
    """Return the name of Python's codec for a charset, or None if it is not decoded here."""
    if len(charset) > 40 or not charset.isascii():
        return None
    name = normalize_encoding(charset).lower()
    name = {"utf_8_sig": "utf_8"}.get(name, aliases.get(name, name))
    return name if name in _CODECS else None
