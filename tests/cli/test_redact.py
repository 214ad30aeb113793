"""`cli/redact.py`: a policy tried on a text, what is stored counted, and redacted in place."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import EncryptedSession

from secure_memory import SecureStore
from secure_memory.policy.model import Policy

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@example.com"
EVERYONE = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
CHAT = (Path(__file__).parent / "support_chat.txt").read_text()
PACKS = ("baseline", "gdpr", "hipaa", "pci-dss", "sec-17a-4", "eu-ai-act")


@pytest.fixture(autouse=True)
def _no_store(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store is named, until there is one."""
    monkeypatch.delenv("SECMEM_STORE")


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """What comes from standard input."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def loose(place: Path, talk: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that took nothing out while ana's card and address were said, and is governed by rules since."""
    monkeypatch.setenv("SECMEM_STORE", str(place))
    SecureStore.create(place).close()
    govern(place)
    talk("user_123", {"role": "user", "content": f"card {CARD}"}, {"role": "user", "content": f"mail {MAIL}"}, subject="ana")
    talk("user_124", {"role": "user", "content": "hello"})
    govern(place, {"id": "card", "entity": "CARD_NUMBER", "store": "tokenise"})
    return place


def govern(place: Path, *rules: dict[str, str]) -> None:
    with SecureStore.open(place) as store:
        policy = {"metadata": {"name": "test"}, "access": EVERYONE, "redaction": {"rules": rules}}
        store.policy_apply(Policy.model_validate(policy))


def database(path: Path, *texts: str, key: str | None = None) -> Path:
    """A database of the SDK with a session of these texts."""
    session: Any = SQLiteSession("old", path)
    kept = session if key is None else EncryptedSession("old", session, key)
    asyncio.run(kept.add_items([{"role": "user", "content": text} for text in texts]))
    session.close()
    return path


# ---- test ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", PACKS)
def test_a_support_chat_under_each_pack(run: Any, tmp_path: Path, pack: str) -> None:
    """Card, code, key, three telephone numbers, account and address are found; order and tracking numbers are left alone."""
    (tmp_path / "chat.txt").write_text(CHAT)
    done = run("redact", "test", str(tmp_path / "chat.txt"), "--policy", pack, "--json")
    found = json.loads(done.out)
    entities = [one["entity"] for one in found["noticed"]]
    assert ["CARD_NUMBER", "CARD_CVV", "PHONE", "PHONE", "PHONE", "IBAN", "EMAIL", "SECRET"] == entities
    assert (pack, CHAT) == (found["policy"], found["before"])
    for text in filter(None, found["after"].values()):
        assert all(word in text for word in ("ord_8837261945", "1Z999AA10123456784", "Order number 8837261945", "149.90"))
    assert all(one["validator"] or one["context"] for one in found["noticed"])
    assert "4111" not in (found["after"]["store"] or "")


def test_a_person_reads_it(terminal: Any) -> None:
    """In 80 columns and in color: before, after on each surface, and of each finding why, what is done, rule and law."""
    done = terminal("redact", "test", f"my card is {CARD}, mail {MAIL}", columns=80)
    assert 0 == done.code
    assert f"\x1b[1;4;35m{CARD}\x1b[0m" in done.out
    for words in (
        "policy baseline",
        "the model sees: as before",
        "my card is ************1111, mail j***@***.com",
        "Luhn and issuer range, near “card”, score 0.99",
        "rule card-number, PCI DSS 4.0.1",
        "presidio extra",
    ):
        assert words in done.out, done.out
    plain = terminal("redact", "test", CARD, columns=80, NO_COLOR="1")
    assert "\x1b[3" not in plain.out


def test_a_pipe_gets_columns(process: Any) -> None:
    """Without a terminal there are no colors, no line is folded, and findings are columns with tabs between."""
    text = f"{'word ' * 40}mail {MAIL}"
    done = process("redact", "test", text)
    assert "\x1b" not in done.out
    assert f"  {text}\n" in done.out
    (line,) = [line for line in done.out.splitlines() if line.startswith(MAIL)]
    assert [MAIL, "EMAIL", "RFC 5321 form, score 0.98", "keep", "keep", "mask", "email", "-"] == [
        cell.strip() for cell in line.split("\t")
    ]


def test_a_text_comes_from_a_file_standard_input_or_the_line(run: Any, stdin: Any, tmp_path: Path) -> None:
    """All three give the same; long texts and such with line breaks are never taken for files."""
    (tmp_path / "f").write_text(f"mail {MAIL} é", encoding="utf-8")
    stdin(f"mail {MAIL} é".encode())
    told = [run("redact", "test", text, "--json") for text in (f"mail {MAIL} é", str(tmp_path / "f"), "-")]
    assert [0, 0, 0] == [one.code for one in told]
    assert 1 == len({one.out for one in told})
    for text in ("a" * 300, "a" * 300 + "/b", "x" * 5000, "a\nb"):
        assert text == json.loads(run("redact", "test", text, "--json").out)["before"]


def test_a_file_that_is_not_there_is_told_of(run: Any) -> None:
    """What looks like the name of a file and is none is said to have been taken for the text."""
    done = run("redact", "test", "chat.txt")
    assert (0, True) == (done.code, "no file of that name" in done.err)
    assert "" == run("redact", "test", MAIL).err


def test_bad_input_to_a_test(run: Any, stdin: Any, tmp_path: Path) -> None:
    """What is no text and what is no policy are told, without a traceback."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    stdin(b"\xff\xfe")
    for arguments in ((str(tmp_path / "bytes"),), ("-",)):
        done = run("redact", "test", *arguments)
        assert (2, True) == (done.code, "not UTF-8" in done.err)
    assert 1 == run("redact", "test", "x", "--policy", "no-such-pack").code
    (tmp_path / "bad.yaml").write_text("kind: Policy\nredaction: {rules: [{id: x, entity: NOT_ONE_OF_OURS, store: redact}]}")
    assert 1 == run("redact", "test", "x", "--policy", str(tmp_path / "bad.yaml")).code


def test_nothing_is_said_of_nothing(run: Any) -> None:
    """A text in which nothing is, and one that is empty."""
    for text in ("order 12345678", ""):
        done = run("redact", "test", text)
        assert (0, True) == (done.code, "nothing was found" in done.out)


def test_json_is_looked_at_leaf_by_leaf(run: Any, stdin: Any) -> None:
    """A tool's answer stays JSON, and each finding says where in it it stands."""
    stdin(json.dumps({"customer": {"mail": MAIL, "id": "4711"}}).encode())
    done = run("redact", "test", "-", "--json")
    found = json.loads(done.out)
    assert {"customer": {"mail": "j***@***.com", "id": "4711"}} == json.loads(found["after"]["view"])
    assert ["/customer/mail"] == [one["path"] for one in found["noticed"]]
    assert f"{MAIL} at /customer/mail" in run("redact", "test", json.dumps({"customer": {"mail": MAIL}})).out


def test_what_is_blocked_is_told(run: Any, tmp_path: Path) -> None:
    """A text that the policy refuses is no failure of the test: it is said that it would be refused."""
    rule = "{id: m, entity: EMAIL, store: block}"
    (tmp_path / "p.yaml").write_text(
        f"apiVersion: secmem/v1\nkind: Policy\nmetadata: {{name: strict, version: 1}}\nredaction: {{rules: [{rule}]}}\n"
    )
    done = run("redact", "test", MAIL, "--policy", str(tmp_path / "p.yaml"))
    assert (0, True) == (done.code, "stored:\n  refused: nothing is stored" in done.out)


def test_the_stores_policy_is_the_default(run: Any, loose: Path) -> None:
    """Where a store is named, its policy is tried; a pack that is named wins."""
    assert "test" == json.loads(run("redact", "test", "x", "--json").out)["policy"]
    assert "gdpr" == json.loads(run("redact", "test", "x", "--policy", "gdpr", "--json").out)["policy"]


def test_control_characters_do_nothing(run: Any) -> None:
    """What a terminal would obey is escaped in the texts and in the findings."""
    done = run("redact", "test", f"\x1b]0;pwned\x07 {MAIL}\u202e")
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert "\\x1b]0;pwned\\x07" in done.out


# ---- scan ------------------------------------------------------------------------------------------------------------


def test_a_scan_of_a_tenant(run: Any, loose: Path) -> None:
    """Counts by entity, or by session; what the policy would store of it; no value."""
    done = run("redact", "scan", "--tenant", "acme")
    assert done.out.startswith("tenant acme: 2 sessions, 3 items\n")
    rows = [[cell.strip() for cell in line.split("\t")] for line in done.out.splitlines()[1:]]
    assert ["entity", "findings", "items", "sessions", "stored as"] == rows[0]
    assert [["CARD_NUMBER", "1", "1", "1", "tokenise"], ["EMAIL", "1", "1", "1", "keep"]] == rows[1:]
    one_by_one = run("redact", "scan", "--tenant", "acme", "--by-session").out
    assert ["user_123", "CARD_NUMBER", "1", "1", "tokenise"] == [
        cell.strip() for cell in one_by_one.splitlines()[2].split("\t")
    ]
    assert CARD not in done.out + one_by_one


def test_a_scan_as_json(run: Any, loose: Path) -> None:
    """`--json` has the whole report."""
    report = json.loads(run("redact", "scan", "--tenant", "acme", "--json").out)
    assert {"session": "user_123", "entity": "CARD_NUMBER", "findings": 1, "items": 1} == report["found"][0]
    assert (2, 3, {"CARD_NUMBER": "tokenise", "EMAIL": "keep"}) == (
        report["sessions"],
        report["items"],
        report["stored_as"],
    )


def test_a_database_of_the_sdk_needs_no_store(run: Any, tmp_path: Path) -> None:
    """Whoever has not begun with us yet can see what is in theirs; nothing is made on disk."""
    old = database(tmp_path / "old.db", f"card {CARD}")
    before = set(tmp_path.rglob("*"))
    done = run("redact", "scan", str(old), "--by-session")
    assert (0, True) == (done.code, "old    \tCARD_NUMBER" in done.out)
    assert before == set(tmp_path.rglob("*"))
    assert "nothing was found" in run("redact", "scan", str(database(tmp_path / "empty.db", "hello"))).out


def test_an_encrypted_database_wants_its_key(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key its items are counted; without, they are told as rows that could not be read; a key file that is not
    there is no key."""
    key = base64.urlsafe_b64encode(b"k" * 32).decode()
    old = database(tmp_path / "old.db", f"card {CARD}", key=key)
    (tmp_path / "key").write_text(f"{key}\n")
    monkeypatch.setenv("THEIR_KEY", key)
    for how in (("--encryption-key-file", str(tmp_path / "key")), ("--encryption-key-env", "THEIR_KEY")):
        assert "CARD_NUMBER" in run("redact", "scan", str(old), *how).out
    done = run("redact", "scan", str(old))
    assert (0, True) == (done.code, "no item could be read of 1 row" in done.err)
    gone = run("redact", "scan", str(old), "--encryption-key-file", str(tmp_path / "nowhere"))
    assert (2, True) == (gone.code, "could not read the encryption key" in gone.err)
    assert 2 == run("redact", "scan", "--encryption-key-env", "THEIR_KEY").code


def test_bad_input_to_a_scan(run: Any, loose: Path, tmp_path: Path) -> None:
    """A file that is no database, and a tenant that is not there, are told."""
    (tmp_path / "notes").write_text("nothing")
    assert [1, 1, 1] == [
        run("redact", "scan", *how).code
        for how in ((str(tmp_path / "notes"),), (str(tmp_path / "no.db"),), ("--tenant", "nobody"))
    ]


# ---- apply -----------------------------------------------------------------------------------------------------------


def test_apply_redacts_and_says_what(run: Any, loose: Path) -> None:
    """Items, sessions and findings are counted; run again, there is nothing left; the ledger has who and why."""
    done = run("redact", "apply", "--tenant", "acme", "--yes", "--reason", "policy 4", "--actor", "user:maria")
    assert done.out.startswith("redacted 1 item in 1 of 2 sessions\n")
    assert CARD not in run("session", "show", "user_123", "--tenant", "acme").out
    again = json.loads(run("redact", "apply", "--tenant", "acme", "--yes", "--json").out)
    assert (0, 0, {}) == (again["items"], again["changed"], again["entities"])
    with SecureStore.open(loose) as store:
        entry = store.audit_log(tenant="acme", action="session.redact")[0].entry
    assert ("user:maria", "policy 4") == (entry.actor, entry.reason)


def test_what_is_kept_is_told(run: Any, loose: Path) -> None:
    """Under a hold nothing changes, and it is said how many items stay."""
    with SecureStore.open(loose) as store:
        store.hold_place("M-14", tenant="acme")
    done = run("redact", "apply", "--tenant", "acme", "--yes")
    assert (0, True) == (done.code, "left as it is, for a hold or a floor: 1 item" in done.err)


def test_apply_asks(run: Any, loose: Path, terminal: Any) -> None:
    """Nobody there to be asked is a usage error, and nothing changes; one session that is not there is an error."""
    done = run("redact", "apply", "--tenant", "acme")
    assert (2, True) == (done.code, "--yes" in done.err)
    assert CARD in run("session", "show", "user_123", "--tenant", "acme").out
    assert 1 == run("redact", "apply", "nobody", "--tenant", "acme", "--yes").code


def test_who_may_not_is_denied(run: Any, loose: Path) -> None:
    """A denied apply exits with 6, and nothing changes."""
    roles = {"owner": {"allow": ["*"]}, "agent": {"allow": ["session.read"]}}
    access = {"roles": roles, "members": {"user:root": ["owner"], "service:*": ["owner"], "user:eve": ["agent"]}}
    with SecureStore.open(loose) as store:
        store.policy_apply(store.policy_in_force().model_validate({"metadata": {"name": "t"}, "access": access}))
    assert 6 == run("redact", "apply", "--tenant", "acme", "--yes", "--actor", "user:eve").code


def test_a_token_is_revealed_with_a_reason(run: Any, loose: Path) -> None:
    """`session reveal` tells what a token of `apply` stands for, to who gives a reason; a forged one stands for nothing."""
    run("redact", "apply", "--tenant", "acme", "--yes")
    shown = run("session", "show", "user_123", "--tenant", "acme").out
    token = next(word for word in shown.split() if word.startswith("CARD_NUMBER_"))
    told = run("session", "reveal", token, "--tenant", "acme", "--reason", "refund 4711")
    assert f"{CARD}\n" == told.out
    assert 6 == run("session", "reveal", token, "--tenant", "acme").code
    forged = run("session", "reveal", "CARD_NUMBER_" + "a" * 16, "--tenant", "acme", "--reason", "x")
    assert (2, "") == (forged.code, forged.out)
