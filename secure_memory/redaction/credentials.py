"""SECRET: what lets whoever has it in. API keys, private keys, JSON web tokens, passwords. Pure.

Found by the prefix that its issuer gives it, by the word or JSON key that names it, or by its place in a URL or header. A
random string that nothing names is not found: it may as well be a hash or an id, and an agent needs those.

Prefixes are from the issuers' documentation: GitHub "token formats", AWS "unique identifiers", Stripe "API keys", Slack
"token types", GitLab "token overview", Google Cloud "API keys", OpenAI, Anthropic, Hugging Face, npm, PyPI, SendGrid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from secure_memory.redaction.candidate import Candidate, Hit, Shape, keywords

_TAILS = {
    "AKIA ASIA ABIA ACCA": r"[A-Z2-7]{16}",  # AWS access key ids
    "AIza": r"[A-Za-z0-9_\-]{35}",  # Google Cloud
    "ya29.": r"[A-Za-z0-9_\-]{20,2000}",
    "GOCSPX-": r"[A-Za-z0-9_\-]{28}",
    "ghp_ gho_ ghu_ ghs_ ghr_": r"[A-Za-z0-9]{36,255}",
    "github_pat_": r"[A-Za-z0-9_]{22,255}",
    "glpat- gldt- glrt- glptt- glcbt-": r"[A-Za-z0-9_\-.]{20,300}",
    "sk-": r"(?:ant-|proj-|svcacct-|admin-|or-v1-|lf-)?[A-Za-z0-9_\-]{20,300}",  # OpenAI, Anthropic, OpenRouter
    "sk_live_ sk_test_ rk_live_ rk_test_ whsec_": r"[A-Za-z0-9]{16,255}",  # Stripe
    "xoxb- xoxp- xoxa- xoxr- xoxs- xapp- xoxe-": r"[A-Za-z0-9\-]{10,400}",  # Slack
    "SG.": r"[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}",
    "hf_": r"[A-Za-z0-9]{30,60}",
    "npm_": r"[A-Za-z0-9]{36}",
    "pypi-": r"[A-Za-z0-9_\-]{50,2000}",
    "shpat_ shpca_ shppa_ shpss_": r"[a-fA-F0-9]{32}",
    "dop_v1_ doo_v1_ dor_v1_": r"[a-f0-9]{64}",
    "dckr_pat_": r"[A-Za-z0-9_\-]{20,100}",
    "lin_api_ gsk_ r8_ pplx- xai-": r"[A-Za-z0-9]{32,100}",
    "hvs. hvb.": r"[A-Za-z0-9_\-]{24,300}",  # HashiCorp Vault
    "AGE-SECRET-KEY-1": r"[A-Z0-9]{58}",
    "EAACEdEose0cBA": r"[A-Za-z0-9]{10,300}",
    "eyJ": r"[A-Za-z0-9_\-]{5,4000}\.eyJ[A-Za-z0-9_\-]{5,8000}\.[A-Za-z0-9_\-]{0,2000}",  # RFC 7519
}
_TOKENS = {prefix: re.compile(tail, re.ASCII) for prefixes, tail in _TAILS.items() for prefix in prefixes.split()}
_INSIDE = re.compile(r"[A-Za-z0-9_]")


def _token(seen: Candidate) -> Iterator[Hit]:
    """The pattern is the prefix; what follows is read once, from a prefix at the beginning of a word only."""
    start, head = seen.match.span()
    if start > seen.first and _INSIDE.match(seen.whole[start - 1]):
        return
    tail = _TOKENS[seen.match.group()].match(seen.whole, head, seen.last)
    if tail and not (tail.end() < seen.last and _INSIDE.match(seen.whole[tail.end()])):
        name = "JSON web token" if seen.match.group() == "eyJ" else "issuer's prefix"
        if any(map(str.isdigit, tail.group())) or name != "issuer's prefix" or len(tail.group()) == 16:
            yield Hit(start, tail.end(), 1.0, name)


_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_KEY_BODY = re.compile(r"[A-Za-z0-9+/=\\ \t\r\n:,\-]{0,16000}", re.ASCII)


def _private_key(seen: Candidate) -> Iterator[Hit]:
    """From BEGIN to END (RFC 7468), or as far as it goes where its end is missing."""
    start, end = seen.match.span()
    stop = _KEY_END.search(seen.whole, end, min(seen.last, end + 20_000))
    if stop:
        yield Hit(start, stop.end(), 1.0, "PEM")
        return
    body = _KEY_BODY.match(seen.whole, end, seen.last)
    yield Hit(start, body.end() if body else end, 1.0, "PEM")


# ---- named by a word ------------------------------------------------------------------------------------------------

_WORD = "password|passwd|passphrase|passcode|pwd|kennwort|passwort|mot de passe|contraseña|contrasena|senha|wachtwoord"
_LOCKS = "api|access|private|encryption|signing|account|auth|master"
_STRONG = rf"{_WORD}|secret(?:[_\- ]?(?:access[_\- ]?)?key)?|(?:{_LOCKS})[_\- ]?key"
_WEAK = r"token|authorization|credentials?"
_VALUE = r"[^ \t\n\r\f\v\x00\"'`<>,;]{4,}"
NO_SECRET = re.compile(
    r"""(?ix) \[[A-Z][A-Z0-9_]*\] | [A-Z][A-Z0-9_]*_[a-z2-7]{16} | [*•x.\-_?#]+ | \$ .* | \{.* | <.* | %\w+%
    | .*\(.*\)? | .*\[.*
    | (?:none|null|nil|true|false|yes|no|undefined|required|optional|string|str|text|secret|password|token|example
    | expired|invalid|incorrect|wrong|missing|reset|changed|forgotten|updated|empty|hidden|redacted|masked|unknown
    | here|below|above|bearer|basic
    | process\..* | os\..* | env\..* | self\..* | config\..* | settings\..* | https?://.* | your[_\-].* | my[_\-].*)"""
)
"""What stands where a secret would, and is none: a placeholder of ours, a mask, a variable, code, the next word."""
_COUNTS = re.compile(
    r"(?i)(?:next|page|continuation|sync|csrf|xsrf|pagination|max|min|prompt|completion|total|input|output|cancel)[_\- ]?\Z"
)
_DIGIT_OR_SIGN = re.compile(r"[^A-Za-z]")


def _assigned(seen: Candidate) -> Iterator[Hit]:
    """`password=...`, `"api_key": "..."`, `token: ...`: the value alone is the secret."""
    start, end = _trimmed(seen, *seen.match.span("value"))
    value = seen.whole[start:end]
    name = seen.match.group("name").lower()
    if len(value) < 4 or NO_SECRET.fullmatch(value) or seen.whole[end : min(end + 1, seen.last)] == "(":
        return
    if not _passwordlike(seen, name, value, end) or _COUNTS.search(seen.before(seen.match.start(), 14)):
        return
    yield Hit(start, end, 0.9, None, " ".join(re.split(r"[_\- ]+", name)))


def _passwordlike(seen: Candidate, name: str, value: str, end: int) -> bool:
    """Whether a value after ":" or "=" is more than the next word of a sentence."""
    if re.fullmatch(_WEAK, name, re.IGNORECASE):
        return len(value) >= 16 and bool(re.search(r"\d", value)) and bool(re.search(r"[A-Za-z]", value))
    if _DIGIT_OR_SIGN.search(value) or seen.match.group("sign") == "=" or seen.match.group("quote"):
        return True
    return seen.after(end, 2).strip() == "" or "\n" in seen.after(end, 2)  # a plain word counts where the line ends with it


def _spoken(seen: Candidate) -> Iterator[Hit]:
    """`my password is Tr0ub4dor&3`: only where the word looks like nothing but a password."""
    start, end = _trimmed(seen, *seen.match.span("value"))
    value = seen.whole[start:end]
    if len(value) >= 6 and re.search(r"[\d!@#$%^&*_+]", value) and not NO_SECRET.fullmatch(value):
        yield Hit(start, end, 0.8, None, "password")


_NEXT = re.compile(r"&[\w\-]{1,40}=")


def _trimmed(seen: Candidate, start: int, end: int) -> tuple[int, int]:
    """Without the full stop or the bracket that closes the sentence, and without a URL's next parameter."""
    parameter = _NEXT.search(seen.whole, start, end)
    end = parameter.start() if parameter else end
    text = seen.whole[start:end]
    end -= len(text) - len(text.rstrip(".:?)}"))
    if text.startswith("[") and text.rstrip(".:?)}").endswith("]"):
        return start, end
    return start, end - (1 if seen.whole[start:end].endswith("]") else 0)


def _bearer(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span("value")
    value = seen.whole[start:end]
    if seen.alone(seen.match.start(), end) and re.search(r"\d", value) and not NO_SECRET.fullmatch(value):
        yield Hit(start, end, 0.95, "RFC 6750", "bearer")


def _parameter(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span("value")
    if re.search(r"\d", seen.match.group("value")) and not NO_SECRET.fullmatch(seen.match.group("value")):
        yield Hit(start, end, 0.85, None, "URL parameter")


USERINFO = r"[^\s/?#@:\"'<>\x00]{0,200}:(?P<value>[^\s/?#@\"'<>\x00]{1,200})@(?=[\w\[])"
_USERINFO = re.compile(USERINFO)


def _in_url(seen: Candidate) -> Iterator[Hit]:
    found = _USERINFO.match(seen.whole, seen.match.end(), seen.last)
    if found and not NO_SECRET.fullmatch(found.group("value")):
        yield Hit(*found.span("value"), 0.95, "RFC 3986 userinfo")


# ---- named by a JSON key ---------------------------------------------------------------------------------------------

_KEYED = re.compile(
    r" (?:password|passwd|passphrase|passcode|pwd|passwort|kennwort|secret|secret key|secret access key|api key|apikey"
    r"|access key|private key|encryption key|signing key|auth token|access token|refresh token|id token|bearer token"
    r"|session token|api token|credential|credentials|authorization|client secret|db pass|pass|pin code|otp seed"
    r"|contraseña|senha) \Z"
)


def _keyed(seen: Candidate) -> Iterator[Hit]:
    """A whole leaf under a key such as `password` or `clientSecret`."""
    if seen.match.start() != seen.first or not seen.segment.keys:
        return
    named = _KEYED.search(keywords(seen.segment.keys[-1:]))
    text = seen.segment.text
    if named and 4 <= len(text) <= 4000 and not (NO_SECRET.fullmatch(text) or text.count(" ") > 3):
        yield Hit(seen.first, seen.last, 0.95, None, named.group().strip())


_KEYS = ("password", "passwd", "passphrase", "passcode", "pwd", "passwort", "kennwort", "mot de passe", "contrase", "senha")
_NAMED = (*_KEYS, "wachtwoord", "secret", "key", "token", "authorization", "credential")
_SIGN = r"[\"'\]]{0,2}[ \t]{0,3}(?P<sign>:=|=>|:|=)[ \t]{0,3}(?P<quote>[\"'`]{0,1})"
_IS = r"(?: for [a-z]{1,20})?(?: is| was| ist| est| es|'s| to| are| é| è| =)[ \t]{1,2}[\"'`]{0,1}"
_PARAMETERS = "key|sig|signature|token|auth|access_token|x-amz-signature"

SHAPES = (
    Shape("SECRET", "|".join(map(re.escape, _TOKENS)), _token, tuple(prefix.lower() for prefix in _TOKENS), unspaced=20),
    Shape("SECRET", r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----", _private_key, ("private key",)),
    Shape("SECRET", rf"(?i)(?P<name>{_STRONG}|{_WEAK}){_SIGN}(?P<value>{_VALUE})", _assigned, _NAMED),
    Shape("SECRET", rf"(?i)(?:{_WORD}){_IS}(?P<value>{_VALUE})", _spoken, (*_KEYS, "wachtwoord")),
    Shape(
        "SECRET",
        r"(?i)(?:bearer|basic)[ \t]{1,3}(?P<value>[A-Za-z0-9\-._~+/]{16,}={0,2})",
        _bearer,
        ("bearer ", "basic "),
        unspaced=16,
    ),
    Shape(
        "SECRET",
        rf"(?i)[?&](?:{_PARAMETERS})=(?P<value>[A-Za-z0-9%_\-.~+/]{{16,}})",
        _parameter,
        ("key=", "sig", "token=", "auth="),
        unspaced=16,
    ),
    Shape("SECRET", r"://", _in_url, ("://",)),
    Shape("SECRET", r"[^\x00]{4,}", _keyed, (*_NAMED, "pass", "pin code", "otp seed")),
)
