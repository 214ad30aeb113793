"""No plaintext: nothing that was said, nobody's name and no key is readable where it should not be.

Canaries, words that occur nowhere else, are put into everything that a store is given, and are then searched for in every
form that a file or a log could have them in. The search is shown to find them where they are.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from secure_memory import Actor, errors
from secure_memory.agents_sdk.session import SecureSession
from secure_memory.keys.key import Key
from secure_memory.keys.local import EnvKeyProvider
from secure_memory.policy.model import Policy
from secure_memory.redaction.detect import BuiltinDetector
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher
from secure_memory.vault.vault import Vault

CONTENT = "Kanarienvögelchen-7419"
ARGUMENT = "finch-argument-2290"
SESSION = "session-of-goldammer-5521"
SUBJECT = "subject-zaunkoenig-9034"
TENANT = "tenant-rotkehlchen-3316"
REASON = "reason-of-the-wren-8127"
WORDS = (CONTENT, ARGUMENT, SESSION, SUBJECT)
KEK = bytes(range(100, 132))
OTHER_KEK = bytes(range(150, 182))
GIVEN = bytes(range(200, 232))
"""A key that the program gives where no key belongs: it is in the program's own variables, and must be in no message."""

ITEMS: list[Any] = [
    {"role": "user", "content": CONTENT},
    {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": json.dumps({"who": ARGUMENT})},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": CONTENT * 50}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": f"about {CONTENT}", "annotations": []}]},
]


# ---- the search -------------------------------------------------------------------------------------------------------


def forms(secret: bytes) -> set[bytes]:
    """What the secret looks like: as it is, in UTF-16, escaped, in hex, in base64 wherever it begins, in a `repr`."""
    text = secret.decode("utf-8", "replace")
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    if "\ufffd" not in text:
        found |= {text.encode("utf-16-le"), text.encode("utf-16-be"), json.dumps(text)[1:-1].encode()}
    for before in range(3):
        # Of the base64 of a longer text only what the neighbours of the secret have no part in.
        whole = base64.b64encode(b"\0" * before + secret + b"\0" * 3)
        part = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        found |= {part, part.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def readable(data: bytes, secrets: dict[str, bytes]) -> list[str]:
    """The names of the secrets that can be read in `data`."""
    return [name for name, secret in secrets.items() if any(form in data for form in forms(secret))]


def files(*places: Path) -> Iterator[tuple[str, bytes]]:
    """The path and the content of every file below, read by another process.

    This one must not open the files of a vault that it has open: closing them would take SQLite's locks away.
    """
    for place in places:
        for directory, _, names in os.walk(place):
            for name in names:
                path = Path(directory, name)
                yield str(path.relative_to(place)), subprocess.run(["cat", path], check=True, capture_output=True).stdout


def check_files(secrets: dict[str, bytes], *places: Path) -> set[str]:
    """Fail where a secret can be read in a file or in a file's name; the names of the files."""
    names = set()
    for name, data in files(*places):
        assert [] == readable(data, secrets), name
        assert [] == readable(name.encode(), secrets)
        names.add(name)
    return names


def words() -> dict[str, bytes]:
    return {word: word.encode() for word in (*WORDS, TENANT)}


def keys_of(store: SecureStore) -> dict[str, bytes]:
    """Every key of an open store."""
    shared = store._shared
    keyring = shared.keyring
    found = {"kek": KEK, "root": keyring._root.bytes, "keys.db": keyring._database._key.bytes}
    for tenant in (shared.system.keys, shared.tenant(TENANT).keys):
        for part in ("root", "vault_key", "ledger", "pseudonym"):
            found[f"{tenant.name} {part}"] = getattr(tenant, part).bytes
    for number, session in enumerate(keyring._sessions.values()):
        found |= {f"session {number}": session.key.bytes, f"subject {number}": session.subject_key.bytes}
    return found


@pytest.mark.parametrize("word", [*WORDS, TENANT])
def test_search_finds(tmp_path: Path, word: str) -> None:
    """The search finds a word where it is: in a session of the SDK, in JSON, hex, base64 and UTF-16."""
    secrets = {word: word.encode()}
    session = SQLiteSession(word, tmp_path / "plain.db")
    asyncio.run(session.add_items([{"role": "user", "content": word}]))
    session.close()
    assert [word] in [readable(data, secrets) for _, data in files(tmp_path)]
    encoded = f"xx{word}yyy".encode()
    for data in (
        json.dumps({"a": word}).encode(),
        encoded.hex().encode(),
        *(base64.b64encode(b"z" * n + encoded) for n in range(3)),
        base64.urlsafe_b64encode(encoded),
        repr(encoded).encode(),
        word.encode("utf-16"),
    ):
        assert [word] == readable(data, secrets)
    assert [] == readable(b"something else", secrets)


# ---- a store in use ---------------------------------------------------------------------------------------------------


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a place for temporary files, and the key in the environment; the directory that all of it is in."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("SECMEM_KEY", base64.b64encode(KEK).decode())
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Log(logging.Handler):
    """Everything that is logged at any level, with all its fields, as text."""

    def __init__(self) -> None:
        super().__init__(0)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.text += f"{record.getMessage()} {record.__dict__!r} {error and told(error)}\n"


@pytest.fixture
def log() -> Iterator[Log]:
    """The log of the whole process at DEBUG, asyncio's own included."""
    root, log = logging.getLogger(), Log()
    level = root.level
    root.addHandler(log)
    root.setLevel(0)
    yield log
    root.removeHandler(log)
    root.setLevel(level)


def use(store: SecureStore) -> None:
    """All that a session and a store can do, with canaries in all of it."""

    async def main() -> None:
        with store.session(SESSION, tenant=TENANT, subject=SUBJECT, actor="user:someone") as session:
            for _ in range(3):
                await session.add_items(ITEMS)
            await session.get_items()
            await session.get_items(limit=2)
            await session.pop_item()
            await session.create_branch_from_turn(2)
            await session.add_items(ITEMS)
            await session.get_items()
        with store.session(f"{SESSION}-cleared", tenant=TENANT, subject=SUBJECT, cache=False) as session:
            await session.add_items(ITEMS * 30)
            await session.get_items()
            await session.clear_session()
            await session.add_items(ITEMS)

    asyncio.run(main(), debug=True)
    store.sessions(tenant=TENANT, subject=SUBJECT)
    store.review(SESSION, tenant=TENANT, purpose="looking")
    store.session_show(SESSION, tenant=TENANT)
    store.tenant_list()
    store.audit_log()
    store.audit_log(session=SESSION, subject=SUBJECT, tenant=TENANT)
    store.audit_verify()
    store.audit_anchor()


def test_files(surroundings: Path, log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    """No word and no key is in any file, WAL and -shm included, while a store is in use and after; nor in logs or output."""
    with SecureStore.create(surroundings / "store") as store:
        use(store)
        secrets = {**words(), **keys_of(store)}
        names = check_files(secrets, surroundings)
        for ending in (".db", ".db-wal", ".db-shm", ".anchor"):
            assert any(name.endswith(ending) for name in names), ending
    check_files(secrets, surroundings)
    assert [] == [name for name in names if name.startswith(("home/", "tmp/"))]
    assert [] == readable(log.text.encode(), secrets)
    said = capfd.readouterr()
    assert [] == readable((said.out + said.err).encode(), secrets)


def test_reprs(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No object of ours shows a word or a key in its `repr`, `str` or `format`, in use or done with."""
    seen: list[object] = []
    for name in ("submit", "run_now"):
        inner = getattr(Vault, name)
        spy: Callable[..., Any] = lambda self, operation, inner=inner: (seen.append(operation), inner(self, operation))[1]  # noqa: E731
        monkeypatch.setattr(Vault, name, spy)
    with (
        SecureStore.create(surroundings / "store") as store,
        store.session(SESSION, tenant=TENANT, subject=SUBJECT) as session,
    ):
        asyncio.run(session.add_items(ITEMS))
        asyncio.run(session.get_items())
        secrets = {**{word: word.encode() for word in WORDS}, **keys_of(store)}
        ours = [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("secure_memory")]
        kinds = {type(thing).__name__ for thing in ours}
        assert {"SecureSession", "SecureStore", "SharedStore", "Keyring", "TenantKeys", "Vault", "Database"} <= kinds
        assert {"Operation"} == {type(thing).__name__ for thing in seen}
        for thing in (*ours, *seen):
            shown = f"{thing!r} {thing!s} {thing}".encode()
            assert [] == readable(shown, secrets), type(thing)


# ---- errors -----------------------------------------------------------------------------------------------------------


def told(error: BaseException) -> str:
    """All that can be printed of an error: its traceback, and every error behind it, suppressed ones too."""
    parts = ["".join(traceback.format_exception(error))]
    waiting, known = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        parts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(parts)


def with_locals(error: BaseException) -> str:
    """What error reporters send home: the traceback with the variables of every frame of ours."""
    found = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    parts = []
    waiting = [found]
    while waiting:
        one = waiting.pop()
        for frame in one.stack:
            if "secure_memory" in frame.filename:
                shown = ", ".join(f"{name} = {value}" for name, value in (frame.locals or {}).items())
                parts.append(f"{frame.filename}:{frame.lineno} {shown}")
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(parts)


def errors_of(store: SecureStore, surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseException]:
    """One after another, every kind of error that a store can be brought to raise."""
    path = surroundings / "store"

    def caught(act: Callable[[], object]) -> BaseException:
        with pytest.raises(Exception) as info:  # noqa: PT011 - whatever it is, it is looked at
            act()
        return info.value

    def used(**options: Any) -> None:
        with store.session(SESSION, tenant=TENANT, **options) as session:
            asyncio.run(session.add_items(ITEMS))
            asyncio.run(session.get_items())

    def added(item: Any) -> BaseException:
        with store.session(SESSION, tenant=TENANT) as session:
            return caught(lambda: asyncio.run(session.add_items([item])))

    circular: Any = {"content": CONTENT}
    circular["self"] = circular
    yield added({"role": "user", "content": {CONTENT}})
    yield added(circular)
    yield added([CONTENT])
    yield added(CONTENT)
    yield added({"role": "user", "content": "\ud800" + CONTENT, "more": {ARGUMENT}})
    yield added({(CONTENT,): ARGUMENT})
    yield caught(lambda: used(subject=f"another than {SUBJECT}"))
    yield caught(lambda: store.session("", tenant=TENANT, subject=SUBJECT))
    yield caught(lambda: SecureSession(SESSION, path, tenant=TENANT, encryption_key=given()))
    yield caught(lambda: SecureSession(SESSION, path, tenant=TENANT, **{"unknown": CONTENT}))
    yield caught(lambda: store.session_show(f"{SESSION}-unknown", tenant=TENANT))
    with SecureSession(SESSION, path, tenant=TENANT, require_actor=True) as session:
        yield caught(lambda: asyncio.run(session.add_items(ITEMS)))
    yield caught(lambda: asyncio.run(session.add_items(ITEMS)))  # closed

    # Keys.
    yield caught(lambda: SecureStore.open(path, keys=EnvKeyProvider("OTHER", environ={"OTHER": other_kek()})))
    yield caught(lambda: EnvKeyProvider("BROKEN", environ={"BROKEN": base64.b64encode(KEK).decode()[:-5]}))
    yield caught(lambda: SecureStore.open(path, keys=given()))
    (surroundings / "key").write_text(f"{KEK.hex()}\n")
    (surroundings / "key").chmod(0o600)
    yield caught(lambda: SecureStore.open(path, keys=surroundings / "key"))
    (surroundings / "key").write_bytes(base64.b64encode(KEK))
    (surroundings / "key").chmod(0o644)
    yield caught(lambda: SecureStore.open(path, keys=surroundings / "key"))
    (surroundings / "key").unlink()

    # The vault, and the process beside it.
    shared = store._shared
    tenant = shared.tenant(TENANT)
    vault_path = tenant.vault.identity.path
    assert vault_path is not None
    raw = tenant.keys.vault_key.bytes + tenant.keys.vault
    beside = sqlcipher.connect(vault_path, raw)
    for function in (sqlcipher.begin, sqlcipher.wait_for):
        monkeypatch.setattr(function, "__defaults__", (0.05,))
    beside.execute("BEGIN IMMEDIATE")
    yield caught(used)
    beside.execute("ROLLBACK")
    beside.execute("UPDATE items SET sealed = zeroblob(60)")
    with store.session(SESSION, tenant=TENANT, cache=False) as session:
        yield caught(lambda: asyncio.run(session.get_items()))
        yield caught(lambda: asyncio.run(session.pop_item()))
    yield caught(store.audit_verify)
    beside.execute("UPDATE sessions SET mac = zeroblob(32)")
    with store.session(SESSION, tenant=TENANT, cache=False) as session:
        yield caught(lambda: asyncio.run(session.get_items()))
    beside.execute("PRAGMA user_version = 99")
    tenant.vault.database.shut()
    yield caught(used)
    beside.execute("PRAGMA user_version = 1")
    beside.close()
    vault_path.rename(surroundings / "away")
    yield caught(used)
    (surroundings / "away").rename(vault_path)
    subprocess.run(["dd", "if=/dev/urandom", f"of={vault_path}", "bs=4096", "count=1", "conv=notrunc"], check=True)
    tenant.vault.database.shut()
    yield caught(used)
    subprocess.run(["cp", SQLiteSession.__name__, vault_path], check=False, capture_output=True)
    plain = SQLiteSession(SESSION, surroundings / "plain.db")
    plain.close()
    yield caught(lambda: SecureStore.open(surroundings / "plain.db"))
    (surroundings / "plain.db").rename(vault_path)
    yield caught(used)

    # The keyring and the manifest.
    with shared.keyring._database.transaction(write=True) as db:
        db.execute("UPDATE keys SET wrapped = zeroblob(61) WHERE purpose IN ('subject', 'ledger')")
    yield caught(lambda: shared.keyring.tenant(TENANT))
    with shared.keyring._database.transaction(write=True) as db:
        db.execute("DELETE FROM keys WHERE purpose = 'ledger'")
    yield caught(lambda: shared.keyring.tenant(TENANT))
    shared.keyring.destroy(tenant.keys.uid, "vault")
    yield caught(lambda: shared.keyring.tenant(TENANT))
    with suppress(errors.SecureMemoryError):
        store.close()
    (path / "keys.db").rename(surroundings / "away")
    yield caught(lambda: SecureStore.open(path))
    (surroundings / "away").rename(path / "keys.db")
    subprocess.run(["dd", "if=/dev/urandom", f"of={path / 'keys.db'}", "bs=4096", "count=1", "conv=notrunc"], check=True)
    yield caught(lambda: SecureStore.open(path))
    manifest = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**manifest, "format": 99}))
    yield caught(lambda: SecureStore.open(path))
    (path / "store.json").write_text(json.dumps({**manifest, "root": "AAAA"}))
    yield caught(lambda: SecureStore.open(path))
    (path / "store.json").write_text("not JSON")
    yield caught(lambda: SecureStore.open(path))


def given() -> str:
    return base64.b64encode(GIVEN).decode()


def other_kek() -> str:
    return base64.b64encode(OTHER_KEK).decode()


KINDS = {
    *("SerializationError", "ConfigurationError", "AccessDeniedError", "WrongKeyError", "StoreBusyError", "TamperedError"),
    *("StoreVersionError", "RollbackError", "NotAStoreError", "KeyDestroyedError", "KeyNotFoundError", "ValueError"),
    *("RuntimeError", "TypeError", "StorageError"),
}


def test_errors(surroundings: Path, log: Log, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """No error of any kind shows a word or a key: not in its traceback, nor in any error behind it, nor in the logs."""
    store = SecureStore.create(surroundings / "store")
    use(store)
    secrets = {**{word: word.encode() for word in WORDS}, **keys_of(store), "other kek": OTHER_KEK, "given": GIVEN}
    keys = {name: secret for name, secret in secrets.items() if name not in (*WORDS, "given")}
    kinds = set()
    for error in errors_of(store, surroundings, monkeypatch):
        kinds.add(type(error).__name__)
        assert [] == readable(told(error).encode(), secrets), told(error)
        assert [] == readable(with_locals(error).encode(), keys), with_locals(error)
    assert KINDS <= kinds
    assert [] == readable(log.text.encode(), secrets)
    said = capfd.readouterr()
    assert [] == readable((said.out + said.err).encode(), secrets)


def test_locals_are_seen() -> None:
    """What error reporters would send home is looked at: a key in a variable of ours is found there."""
    secret = bytes(range(32))
    with pytest.raises(ValueError, match="48 bytes") as caught:
        sqlcipher.connect(None, b"x")
    assert "in_memory" not in with_locals(caught.value)
    with pytest.raises(ValueError, match="a key is") as caught:
        Key(secret + b"x")
    assert ["key"] == readable(with_locals(caught.value).encode(), {"key": secret})


def test_keys_refuse(surroundings: Path) -> None:
    """A key shows nothing of itself, and no copy of it can be made by pickling."""
    key = Key(KEK)
    assert "<Key>" == repr(key) == str(key)
    with pytest.raises(TypeError):
        key.__reduce_ex__(2)
    assert [] == readable(repr(key.aead).encode(), {"kek": KEK})


def test_interpreter(surroundings: Path) -> None:
    """A program that fails prints, to standard error, nothing that was said and no key."""
    program = f"""
import asyncio
from secure_memory import SecureSession
session = SecureSession({SESSION!r}, "store", tenant="t", subject={SUBJECT!r})
asyncio.run(session.add_items([{{"role": "user", "content": "x"}}]))
import sys
said = {{"content": sys.stdin.readline()}}
asyncio.run(session.add_items([said, {{"more": {{1, 2}}}}]))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-"], input=program, capture_output=True, text=True, cwd=surroundings, check=False
    )
    assert 1 == done.returncode
    assert "SerializationError" in done.stderr
    assert [] == readable((done.stdout + done.stderr).encode(), {SUBJECT: SUBJECT.encode(), "kek": KEK})


# ---- personal data ----------------------------------------------------------------------------------------------------

CARD, SECRET = "5425 2334 3010 9903", "sk-proj-" + "Z9y8X7w6V5" * 5
PERSONAL = {"card": CARD.encode(), "its digits": CARD.replace(" ", "").encode(), "secret": SECRET.encode()}
TOLD: list[Any] = [
    {"role": "user", "content": f"my card is {CARD}, cvv 321, and the key {SECRET}"},
    {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": json.dumps({"card": CARD.replace(" ", "")})},
    {"type": "function_call_output", "call_id": "c1", "output": json.dumps({"paid": CARD, "with": SECRET})},
]
PAGES = """
import sys
from pathlib import Path
from secure_memory.vault.pages import plain_pages
for page in plain_pages(Path(sys.argv[1]), bytes.fromhex(sys.argv[2])):
    sys.stdout.buffer.write(page)
"""


def tell(store: SecureStore) -> str:
    """All that is done with personal data, from saying it to revealing it; the token that stands for the card."""

    async def main() -> str:
        with store.session(SESSION, tenant=TENANT, subject=SUBJECT) as session:
            await session._conversation.redact(TOLD, "store")  # as a run does, before it appends
            await session.add_items(TOLD)
            await session.create_branch_from_turn(1)
            await session.add_items(TOLD)
            content: Any = (await session.get_items())[0]
            token = next(word.strip(",") for word in content["content"].split() if word.startswith("CARD_NUMBER_"))
            who = Actor("user:someone", reason=REASON)
            assert CARD == await session.reveal(token, actor=who)
            return str(token)

    token = asyncio.run(main(), debug=True)
    store.review(SESSION, tenant=TENANT, purpose="looking")
    store.redact_scan(tenant=TENANT)
    store.redact_apply(tenant=TENANT)
    store.export_sessions(io.BytesIO(), tenant=TENANT, exact=True)
    return token


def test_personal_data_in_files(surroundings: Path, log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    """A card number, a secret and what a token stands for are in no file, log or output; nor in a page of the vault or its
    WAL for who has the vault's key; nor in any item or entry for who has all keys."""
    with SecureStore.create(surroundings / "store") as store:
        tell(store)
        check_files(PERSONAL, surroundings)
        vault = store._shared.tenant(TENANT)
        command = [sys.executable, "-c", PAGES, str(vault.vault.identity.path), vault.keys.vault_key.bytes.hex()]
        pages = subprocess.run(command, check=True, capture_output=True).stdout
        assert b"CREATE TABLE" in pages  # they are decrypted
        assert [] == readable(pages, PERSONAL)
        items = json.dumps([store.session_show(SESSION, tenant=TENANT)])
        entries = "".join(str(record.entry) for record in store.audit_log())
        assert "CARD_NUMBER_" in items
        assert [] == readable((items + entries).encode(), PERSONAL)
    check_files(PERSONAL, surroundings)
    assert [] == readable(log.text.encode(), PERSONAL)
    said = capfd.readouterr()
    assert [] == readable((said.out + said.err).encode(), PERSONAL)


def held(things: list[object]) -> list[str]:
    """Which personal data these objects hold, in whatever they refer to that is no module, class or function."""
    found: set[str] = set()
    waiting, known = list(things), set()
    while waiting:
        one = waiting.pop()
        if id(one) in known or isinstance(one, type | type(sys) | type(held)) or one is PERSONAL or one is TOLD:
            continue
        known.add(id(one))
        if isinstance(one, str | bytes):
            data = one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
            found |= {name for name, secret in PERSONAL.items() if secret in data}
        elif isinstance(one, dict | list | tuple | set) or str(type(one).__module__).startswith("secure_memory"):
            waiting += gc.get_referents(one)
    return sorted(found)


def ours() -> list[object]:
    """All objects of ours that there are."""
    return [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("secure_memory")]


def test_personal_data_in_memory(surroundings: Path) -> None:
    """Once it is stored or revealed, no object of ours holds it; until then those that do show nothing of it."""
    with (
        SecureStore.create(surroundings / "store") as store,
        store.session(SESSION, tenant=TENANT, subject=SUBJECT) as session,
    ):
        asyncio.run(session._conversation.redact(TOLD, "store"))
        assert ["card"] == held(ours())  # what a token stands for waits for the append
        assert [] == [type(thing) for thing in ours() if readable(f"{thing!r} {thing!s}".encode(), PERSONAL)]
        asyncio.run(session.add_items(TOLD))
        tell(store)
        gc.collect()
        assert {"SecureSession", "SecureStore", "Redactor", "Vault"} <= {type(thing).__name__ for thing in ours()}
        assert [] == held(ours())


def test_personal_data_in_errors(surroundings: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error of redaction tells what it was about, nor do the errors behind it."""
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    rules = [{"id": "card", "entity": "CARD_NUMBER", "store": "block"}, {"id": "s", "entity": "SECRET", "store": "block"}]
    policy = {"metadata": {"name": "canary"}, "redaction": {"rules": rules}, "access": everyone}
    deep: Any = CARD
    for _ in range(300):
        deep = {"card": deep}

    def broken(*_: Any) -> Any:
        raise ValueError(CARD, SECRET)

    with SecureStore.create(surroundings / "store") as store, store.session(SESSION, tenant=TENANT) as session:
        store.policy_apply(Policy.model_validate(policy))
        told_of: list[BaseException] = []
        for item in (*TOLD, {"type": "new", "output": deep}):
            with pytest.raises(errors.RedactionError) as refused:
                asyncio.run(session.add_items([item]))
            told_of.append(refused.value)
        monkeypatch.setattr(BuiltinDetector, "detect", broken)
        with pytest.raises(errors.RedactionError) as failed:
            asyncio.run(session.add_items(TOLD))
        monkeypatch.undo()
        with pytest.raises(ValueError, match="no token") as forged:
            asyncio.run(session.reveal(f"{CARD} {SECRET}\n", actor=Actor("user:someone", reason=REASON)))
        assert [] == readable(str(forged.value).encode(), PERSONAL)
        for error in (*told_of, failed.value):
            assert [] == readable(told(error).encode(), PERSONAL), told(error)
    assert [] == readable(log.text.encode(), PERSONAL)
