"""SECRET."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

Found = Callable[..., list[tuple[str, str]]]

# Put together here, so that nobody's scanner takes this file for a leak.
TOKENS = [
    "AKIA" + "IOSFODNN7EXAMPLE",  # AWS, "Programmatic access"
    "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",  # GitHub, "Authenticating to the REST API"
    "github_pat_" + "11ABCDEFG0" * 4,
    "glpat-" + "abcDEF123456ghiJKL78",
    "xoxb-" + "17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
    "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",  # Stripe, "API keys"
    "sk-" + "proj-abcdefGHIJKL1234567890mnopqr",
    "sk-" + "ant-api03-abcdefGHIJKL1234567890-_mn",
    "AIza" + "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
    "SG." + "ngeVfQFYQlKU0ufo8x5d1A" + "." + "TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
    "hf_" + "abcdefghijklmnopqrstuvwxyz01234567",
    "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "hvs." + "CAESIJ1234567890abcdefghijklmnop",
    # RFC 7519 3.1
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODB9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
]


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_are_found_by_their_prefix(found: Found, token: str) -> None:
    """A token that its issuer marked is found whole, wherever it stands."""
    assert [("SECRET", token)] == found(f"it was {token}, I think")
    assert [("SECRET", token)] == found(token, "output", tool=True)
    assert [] == found("x" + token) or not token.startswith(("eyJ", "SG."))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter2", "hunter2"),
        ("password = hunter2;", "hunter2"),
        ('DB_PASSWORD="correct horse"', "correct"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("api_key: 7f3d9a1c0b2e", "7f3d9a1c0b2e"),
        ("--password=swordfish --host=x", "swordfish"),
        ("my password is Tr0ub4dor&3.", "Tr0ub4dor&3"),
        ("Mein Passwort ist Geheim!123", "Geheim!123"),
        ("Authorization: Bearer abcdef0123456789ABCDEF", "abcdef0123456789ABCDEF"),
        ("https://example.com/cb?token=abcdef0123456789abcd&x=1", "abcdef0123456789abcd"),
        ("token=abcdef0123456789abcd", "abcdef0123456789abcd"),
    ],
)
def test_secrets_are_found_by_their_name(found: Found, text: str, secret: str) -> None:
    """What a word calls a password, key or token is found, and its name stays."""
    assert ("SECRET", secret) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Forgot your password? click here",
            "Forgot your password: click here",
            "the password is wrong",
            "password: required",
        ),
        *(
            "password: [SECRET]",
            "password=SECRET_aaaabbbbccccdddd",
            "password: ********",
            "password=${DB_PASSWORD}",
            "pwd=<password>",
        ),
        *("password = getpass()", "password=os.environ['X']", "max_tokens: 4096", "next_page_token=abcdef0123456789abcd"),
        *(
            "token: the smallest piece of a text",
            "the key: patience",
            "secret: none",
            "a bearer of good news",
            "basic research is good",
        ),
        *(
            "d41d8cd98f00b204e9800998ecf8427e",
            "3fe6faf1c2b4a5968778695a4b3c2d1e0f9a8b7c",
            "sk-learn is a library",
            "task-list-of-the-week",
        ),
        "api_key = config['key']",
    ],
)
def test_what_is_no_secret_is_left(found: Found, text: str) -> None:
    """Sentences about passwords, placeholders, variables, counts, page tokens, hashes and commits are no secrets."""
    assert [] == found(text)


@pytest.mark.parametrize(
    "key", ["password", "dbPassword", "client_secret", "apiKey", "access-token", "aws_secret_access_key"]
)
def test_a_key_names_a_secret(found: Found, key: str) -> None:
    """A whole leaf is a secret where the last key says so, letters alone too."""
    assert [("SECRET", "swordfish")] == found("swordfish", "user", key, tool=True)


@pytest.mark.parametrize(
    "key", ["password_hint", "secretary", "token_count", "key", "passwordChangedAt", "next_page_token", "author"]
)
def test_other_keys_name_no_secret(found: Found, key: str) -> None:
    """Keys that only begin with such a word name something else."""
    assert [] == found("swordfish", key, tool=True)


def test_a_private_key_is_found_from_begin_to_end(found: Found) -> None:
    """A PEM private key is one finding; a public key is none; a key that is cut short is found as far as it goes."""
    body = "MIIEowIBAAKCAQEA7v2K\nq8Zl3mN0pQrStUvWxYz\n"
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----"
    assert [("SECRET", key)] == found(f"here: {key} ok")
    assert [] == found(f"-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----")
    assert [("SECRET", f"-----BEGIN PRIVATE KEY-----\n{body}")] == found(f"-----BEGIN PRIVATE KEY-----\n{body}")


@given(st.text("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=36, max_size=36))
def test_any_github_token_is_found(found: Found, tail: str) -> None:
    """Whatever its letters are, a token with a prefix is found, if it has a digit among them."""
    expected = [("SECRET", f"ghp_{tail}")] if any(map(str.isdigit, tail)) else []
    assert expected == found(f"see ghp_{tail} there")


def test_long_runs_take_linear_time(found: Found) -> None:
    """A megabyte of what begins like a token, a key or a password is looked at once, and nothing is found in it."""
    for piece in ("eyJ", "password ", "sk-", "AKIA", "://a:", "-----BEGIN ", "key=", "1 ", "@", "a@"):
        assert [] == found(piece * (300_000 // len(piece)))
