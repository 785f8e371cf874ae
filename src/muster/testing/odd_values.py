"""What a card may have in the place of what belongs there: values, and the parts of locations."""

from __future__ import annotations

__all__ = [
    "HOSTS",
    "NUMBERS",
    "ODD",
    "PATHS",
    "SCHEMES",
    "SEGMENTS",
    "SEPARATORS",
    "TEXTS",
    "WORDS",
]

NUMBERS = (
    *("0", "-0", "1", "-1", "2", "0.5", "1.0", "-0.0", "1e3", "1E-7", "0.1", "1e-5", "1e16"),
    *("255", "256", "65535", "65536", "4294967295", "4294967296", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "123456789012345680000", "1e308"),
    *("1e309", "1e-400", "0e999999999999", "3.4028236e38", "16777217", "0.30000001192092896"),
)
"""JSON numbers at the edges of types, and odd ones."""
TEXTS = (
    *("", "x", "a/b", "A", "é", "模型", "😀", "\x00", "\x7f", "\u2028", "a.b", "..", ".", "/", "-"),
    *("Chat", "Text", "prefill", "Prefill", "auto", "on", "off", "k_v", "none", "fcfs", "hard"),
    *("0x1", "Chat|Rerank", " Chat ", "Chat |", "|", "0x1000", "0x10000", "Chat\xa0|Images"),
    *("blake3:" + "a" * 64, "blake3:" + "A" * 64, "sha256:" + "a" * 64, "a:b:c", "a" * 64),
    *("k" * 128, "é" * 65, "v" * 1025, "n" * 70000, " x ", "x\ny", "/etc/passwd"),
    *("true", " ON ", "yes", "1", "0", "\x1cChat", "%s"),
    *("public-xxh3-v1", "keyed-xxh3-v1", "isl_or_load", "aggregated", "Int32", "strict"),
)
"""Texts that some field may take, or nearly."""
WORDS = ("null", "true", "false", "[]", "{}", "[[]]", '{"a":1}', '{"x":null}', '["a","b","c"]')
"""Other JSON values."""
ODD = (
    *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\u0041"', '"\\/"', '{"\\ud800":1}'),
    *("NaN", "Infinity", "01", "1.", ".5", "+1", "-", "1e", "'x'", "tru", '"\t"', '"\\x"', ""),
    *("[1,]", "[,1]", '{"a":1,}', "{a:1}", "[" * 130 + "]" * 130, "[" * 124 + "]" * 124),
    *('{"a":1,"b":2,"a":3}', '{"Text":null}', '{"prefill":null}', "[1 2]", "/*c*/1", '"\\u12"'),
)
"""What is no JSON, or JSON that readers differ about."""
SCHEMES = ("http", "HTTPS", "file", "hf", "mx", "s3", "c", "ws", "data", "a+b", "1a", "")
"""Beginnings of locations."""
SEPARATORS = ("://", ":", ":/", ":///", "/", "//", ":\\", "")
"""What may stand between a scheme and a host."""
HOSTS = (
    *("h", "H.example", "HÖST", "xn--nxa", "127.0.0.1", "0x7f.1", "[::1]", "[FD00::2]", "h:80"),
    *("h:443", "h:0", "h:99999", "u:p@h", "u@h", "a b", "h%41", "", "1.2.3", "256.1.1.1", "日本"),
    *("a_b", "h<", "h^", "u^:p^@h", "ß.de", "localhost", "C:", "h.", "xn--", "a..b"),
    *("xn--a", "xn--hst-sna", "xn--u-ccb", "xn--tda-x", "1.xn--4db", "xn--4db.a", "a1\u05d0"),
    *(":@", "@", ":@h", "u\\:p@h:1\\a", "%41", "xn--1ug", "\u05d0.\u65e5"),
)
"""Hosts with user, port and mistakes."""
PATHS = (
    *("", "/", "/a.json", "/a b.json", "/é.json", "/..", "/x/../..", "/%2e%2e/x", "/a//", "/a/"),
    *("\\a\\b", "/a\\b", "/..%2fetc", "/a?q=é#f", "/a#f/g", '/"<>`{}|', "/a^b", "/%5E^", "/%zz"),
    *("/a\tb", "/a\n", "/C:/x", "/c|/y", "/~;,=:@&'()*!$+", "/\x7f", "/a%00", "?a/b", "#a/b"),
    *("/[x]", "/./a", "/a/.", "/a;b", "//x//y", "/a?", "/a#", "/a?^#^", "\u3000/z"),
)
"""Paths, queries and fragments."""
SEGMENTS = (
    *("a", "C:", "C|", "..", "..", "..", ".", "%2e%2E", ".%2e", "%2e", "", "", "C:\\a", "a\\b"),
    *("C|\\a\\b", "\\..", "x^y", "CC:", "C:^", "%43:", "é", " ", "\t..", "\ue000"),
)
"""Parts of paths."""
