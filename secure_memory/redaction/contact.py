"""Where a person or a machine is reached: EMAIL, PHONE, IP, MAC, URL_WITH_CREDENTIALS, CRYPTO_ADDRESS. Pure.

A phone number is one that a numbering plan knows (phonenumbers, Google's libphonenumber): with a country code anywhere, in
national form beside a word or key that says phone, in the region given, or written as North American numbers are.
phonenumbers and stdnum are imported when the first candidate needs them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from secure_memory.redaction.candidate import Candidate, Check, Hit, Shape, digits_of, phrases
from secure_memory.redaction.credentials import NO_SECRET, USERINFO

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`~.\-]+\Z", re.ASCII)
# Braces and bars are allowed too (RFC 5322 3.2.3), and stand in templates rather than in addresses.
_WIDE_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`~.\-]+\Z")
_DOMAIN = re.compile(r"@(?:\w(?:[\w\-]{0,61}\w)?\.){1,8}(?:[^\W\d_]{2,24}|xn--[\w\-]{2,59})(?!\w)")
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
    name = local.group().lstrip(".'`*/=|{}&?!-~^#$")
    name = name.rpartition("=")[2].rpartition("/")[2] or name  # ?to=ann@example.com
    if not name or name.endswith(".") or ".." in name:
        return
    if seen.after(end, 1) == ":" and name == "git":  # git@host:path is an address of a repository
        return
    yield Hit(at - len(name), end, 0.98, "RFC 5321 form", None)


# ---- phones ----------------------------------------------------------------------------------------------------------

PHONE_WORDS = phrases(
    *(
        "phone",
        "phones",
        "phone number",
        "telephone",
        "tel",
        "mobile",
        "cell",
        "cellphone",
        "fax",
        "call",
        "calling",
        "called",
    ),
    *(
        "text",
        "sms",
        "whatsapp",
        "signal",
        "dial",
        "ring",
        "office",
        "desk",
        "answering",
        "message",
        "messages",
        "registered",
    ),
    *(
        "reach",
        "reached",
        "contact",
        "hotline",
        "voicemail",
        "landline",
        "number is",
        "my number",
        "his number",
        "her number",
    ),
    *(
        "their number",
        "telefon",
        "telefonnummer",
        "handy",
        "mobil",
        "téléphone",
        "portable",
        "teléfono",
        "telefono",
        "móvil",
    ),
    *("cellulare", "telefone", "celular", "telefoon", "puhelin"),
)
_GROUPED_NANP = re.compile(
    r"(?:\+?1[ .\-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d([ .\-]))[2-9]\d\d[ .\-]\d{4}(?:(?: ?x| ?ext\.? ?)\d{1,6})?"
)
_NO_PHONE = re.compile(
    r"(?:(?:19|20)\d\d[ ./\-]\d\d?[ ./\-]\d\d?|\d\d?[./\-]\d\d?[./\-](?:19|20)?\d\d)(?![./\-]?\d)"  # a date
    r"|\d{3}-\d\d-\d{4}\Z"  # a social security number
    r"|\d{1,3}(?:\.\d{1,3}){3}\Z"  # an IP address
)
_TRUNK_ZERO = ("GB", "FR", "NL", "BE", "CH", "SE", "AU", "NZ", "IE", "ZA", "IN", "JP")
"""Where numbers in national form begin with a zero: one that is grouped and that one of them knows is a telephone's."""
_SAID_AFTER = re.compile(r"[ \-(]{1,2}(?:phone|office|mobile|cell|fax|home|work|tel|desk|direct)\b", re.IGNORECASE)
_EXTENSION = re.compile(r"(?: ?[xX]| ?[eE]xt\.? ?)\d{1,6}(?!\w)")


@lru_cache(maxsize=4096)
def known(number: str, region: str | None) -> str | None:
    """E.164 where a numbering plan has such a number; None where none does."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    valid = phonenumbers.is_valid_number(parsed)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) if valid else None


def e164(text: str) -> str:
    """The number in E.164 where it has a country code or is North American; else its digits."""
    number, _, _ = text.lower().partition("x")
    international = number.startswith("+") or number.startswith("00")
    full = known("+" + number.lstrip("+").removeprefix("00") if international else number, "US")
    return full or ("+" if international else "") + digits_of(number).removeprefix("00")


@lru_cache(maxsize=4096)
def possible(number: str, region: str | None) -> bool:
    """Whether the number has a length that its country has."""
    import phonenumbers

    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def phone_in(region: str | None) -> Check:
    """The check for PHONE, which takes numbers without a country code for ones of `region`, where it is given."""

    def check(seen: Candidate) -> Iterator[Hit]:
        text = seen.match.group()
        start, end = seen.match.start(), seen.match.end() - len(text) + len(text.rstrip(" .()/-\t\n"))
        if "\n" in text:
            end = start + len(text.partition("\n")[0].rstrip(" .()/-\t"))
        hit = _phone(seen, start, end, region)
        if hit:
            yield hit

    return check


def _phone(seen: Candidate, start: int, end: int, region: str | None) -> Hit | None:
    number = seen.whole[start:end]
    digits = digits_of(number)
    international = number[0] == "+" or (number.startswith("00") and number[2:3] != "0" and len(digits) > 9)
    if not 6 <= len(digits) <= (18 if international else 13) or _NO_PHONE.match(number):
        return None
    extension = _EXTENSION.match(seen.whole, end, seen.last)
    stop = extension.end() if extension else end
    apart = seen.apart(start, stop) or (seen.alone(start, stop) and _SAID_AFTER.match(seen.whole, stop, seen.last))
    if not apart or seen.before(start, 1) in ("+", "$", "€", "£"):
        return None
    named, other = seen.context(start, end, PHONE_WORDS), seen.numbered(start)
    if other and not named:
        return None
    if international:
        full = number if number[0] == "+" else "+" + number[2:].lstrip(" -.")
        if known(full, None) or known(full.replace("(0)", ""), None):
            return Hit(start, stop, 0.95, "numbering plan", named)
        sure = named or number[0] == "+"
        return Hit(start, stop, 0.6, None, named) if sure and possible(full.replace("(0)", ""), None) else None
    if seen.segment.tool and not named and "(" not in number:
        return None
    score, plan = _national(seen, start, end, named, region)
    return Hit(start, stop, score, plan, named) if score else None


def _national(seen: Candidate, start: int, end: int, named: str | None, region: str | None) -> tuple[float, str | None]:
    """How sure it is that a number without a country code is a telephone's, and by what; 0 where it isn't."""
    number = seen.whole[start:end]
    digits = digits_of(number)
    grouped = bool(_GROUPED_NANP.fullmatch(number))
    trunk = digits[0] == "0" and len(digits) < len(number) and len(digits) >= 9
    regions = (region, *(("US",) if grouped or named else ()), *(_TRUNK_ZERO if trunk else ()))
    if any(place and known(number, place) for place in regions):
        return 0.9, "numbering plan"
    if grouped or (trunk and number[0] == "("):
        return 0.6, None
    # Numbers of other countries: a word close by says what it is, and its shape that it may be.
    near = 30 if len(digits) > 6 else 12
    close = named and (seen.said_before(start, PHONE_WORDS, near) or _SAID_AFTER.match(seen.whole, end, seen.last))
    shaped = len(digits) < len(number) or digits[0] == "0" or len(digits) == 10
    return (0.6, None) if close and shaped else (0.0, None)


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
PHONE = r"[+(]?\d[\d \t().\-/]{4,22}\d"
"""What may be a phone number; its check, `phone_in`, depends on the region."""
