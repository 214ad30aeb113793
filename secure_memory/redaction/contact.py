"""E-mail, machines and coins: EMAIL, IP, MAC, URL_WITH_CREDENTIALS, CRYPTO_ADDRESS. Pure.

What the field's own definitions say has a form or a checksum; stdnum is imported when the first candidate needs it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from secure_memory.redaction.candidate import Candidate, Hit, Shape, digits_of, phrases
from secure_memory.redaction.credentials import NO_SECRET, USERINFO

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`~.\-]+\Z", re.ASCII)
# Braces and bars are allowed too (RFC 5322 3.2.3), and stand in templates rather than in addresses.
_WIDE_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`~.\-]+\Z")
_DOMAIN = re.compile(r"@(?:\w(?:[\w\-]{0,61}\w)?\.){1,8}(?:[^\W\d_]{2,24}|xn--[\w\-]{2,59})(?!\w)")
_NO_START = ".'`*/=|{}&?!-~^#$"
"""What may stand before an address, as around a name or a value, and could be of its local part, and never is."""
_MAX_LOCAL = 64
"""Characters before the @: RFC 5321 4.5.3.1.1."""


def _email(seen: Candidate) -> Iterator[Hit]:
    """The pattern is the @: the local part is read backwards from it, the domain forwards."""
    at = seen.match.start()
    domain = _DOMAIN.match(seen.whole, at, seen.last)
    if not domain:
        return
    end = domain.end()
    local = (_LOCAL if seen.whole.isascii() else _WIDE_LOCAL).search(seen.before(at, _MAX_LOCAL))
    if not local:
        return
    name = local.group().lstrip(_NO_START)
    name = (
        name.rpartition("=")[2].rpartition("/")[2].lstrip(_NO_START) or name
    )  # ?to=ann@example.com, mail='ann@example.com'
    if not name or name.endswith(".") or ".." in name:
        return
    if seen.after(end, 1) == ":" and name == "git":  # git@host:path is an address of a repository
        return
    yield Hit(at - len(name), end, 0.98, "RFC 5321 form", None)


# ---- networks --------------------------------------------------------------------------------------------------------

_NO_ADDRESS = phrases(
    "version",
    "v",
    "ver",
    "release",
    "build",
    "firmware",
    "chrome",
    "oid",
    "section",
    "semver",
    "upgrade",
    "package",
)
IP_WORDS = phrases(
    "ip",
    "ipv4",
    "ipv6",
    "address",
    "host",
    "server",
    "client",
    "from",
    "login",
    "logged",
    "remote",
    "dns",
    "gateway",
)


def _ipv4(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    before, after = seen.before(start, 1), seen.after(end, 2)
    port = after[:1] == ":" and after[1:].isdigit()
    if not (seen.alone(start, end) and before not in ("-", ".") and not (after[:1] in ".-" and after[1:].isalnum())):
        return
    parts = seen.match.group().split(".")
    if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts):
        return
    address = ipaddress.IPv4Address(seen.match.group())
    if address.is_loopback or address.is_unspecified or address.is_multicast or parts[0] in ("0", "255"):
        return
    context = seen.context(start, end, IP_WORDS)
    if seen.said_before(start, _NO_ADDRESS, 20) and not (context in ("ip", "ipv4") or port):
        return
    yield Hit(start, end, 0.9, "address range", context)


def _ipv6(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    text = seen.match.group()
    while text.endswith(":") and not text.endswith("::"):
        text, end = text[:-1], end - 1
    if not seen.alone(start, end) or text.count(":") < 2 or len(text) < 6 or not any(map(str.isdigit, text)):
        return
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return
    if not (address.is_loopback or address.is_unspecified):
        yield Hit(start, end, 0.95, "address form", seen.context(start, end, IP_WORDS))


def _mac(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    text = seen.match.group()
    separators = {character for character in text if character in ":-"}
    beside = seen.before(start, 1) in ("-", ":") or (seen.after(end, 1) in ("-", ":") and seen.after(end, 2)[1:].isalnum())
    if len(separators) == 1 and seen.alone(start, end) and not beside and digits_of(text).strip("0"):
        yield Hit(start, end, 0.9, "address form", None)


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,30}\Z")
_REST = re.compile(USERINFO + r"[^\s\"'<>\x00]{1,2000}")


def _url(seen: Candidate) -> Iterator[Hit]:
    """The pattern is ://, the scheme is read backwards from it."""
    scheme = _SCHEME.search(seen.before(seen.match.start(), 31))
    rest = _REST.match(seen.whole, seen.match.end(), seen.last)
    if scheme and rest and not NO_SECRET.fullmatch(rest.group("value")):
        end = rest.end() - len(rest.group()) + len(rest.group().rstrip(".,;:!?)]}"))
        yield Hit(seen.match.start() - len(scheme.group()), end, 1.0, "RFC 3986 userinfo")


# ---- coins -----------------------------------------------------------------------------------------------------------


def _bitcoin(seen: Candidate) -> Iterator[Hit]:
    from stdnum import bitcoin

    start, end = seen.match.span()
    if seen.alone(start, end) and bitcoin.is_valid(seen.match.group()):
        yield Hit(start, end, 1.0, "Base58Check or Bech32")


_HASH_WORDS = phrases("commit", "sha", "sha1", "hash", "checksum", "digest")


def _ether(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    if seen.alone(start, end) and not seen.said_before(start, _HASH_WORDS):
        yield Hit(start, end, 0.9, None)


SHAPES = (
    Shape("EMAIL", r"@", _email, ("@",)),
    Shape("IP", r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", _ipv4, (".",), 4),
    Shape("IP", r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,36}:[0-9A-Fa-f:.]{0,40}", _ipv6, (":",), 1),
    Shape("MAC", r"[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5}", _mac, (":", "-"), 1),
    Shape("URL_WITH_CREDENTIALS", r"://", _url, ("://",)),
    Shape("CRYPTO_ADDRESS", r"[13][1-9A-HJ-NP-Za-km-z]{25,34}", _bitcoin),
    Shape("CRYPTO_ADDRESS", r"(?:bc1|BC1)[02-9ac-hj-np-zAC-HJ-NP-Z]{11,71}", _bitcoin, ("bc1",), unspaced=14),
    Shape("CRYPTO_ADDRESS", r"0x[0-9A-Fa-f]{40}", _ether, ("0x",), unspaced=42),
)
