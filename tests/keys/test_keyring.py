"""`keys/keyring.py`: keys are made once, open in their place only, and once destroyed are nowhere."""

from __future__ import annotations

import copy
import hmac
import pickle
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_memory.errors import (
    KeyDestroyedError,
    KeyNotFoundError,
    StorageError,
    StoreBusyError,
    TamperedError,
)
from secure_memory.keys import keyring as module
from secure_memory.keys.database import SCHEMA, Driver
from secure_memory.keys.key import Key, context
from secure_memory.keys.keyring import Keyring
from secure_memory.keys.opened import SessionKeys, TenantKeys
from secure_memory.vault import file_key, integrity, sqlcipher
from secure_memory.vault.copying import copy_keys

STORE, ROOT = bytes(range(16)), bytes(range(32))
NAME, OTHER_NAME, SUBJECT = (bytes([n]) * 32 for n in range(3))


def driver(path: Path) -> Driver:
    def connect(key: bytes, salt: bytes) -> Any:
        connection = sqlcipher.connect(path, key + salt, create=True)
        sqlcipher.migrate(connection, (SCHEMA,))
        return connection

    def rekey(old: Sequence[Key], new: Key, salt: bytes) -> None:
        file_key.rekey(path, salt, old, new)

    return Driver(
        connect,
        sqlcipher.begin,
        integrity.check,
        copy_keys,
        rekey,
        sqlcipher.translate,
        sqlcipher.DriverError,
        in_memory=False,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture
def open_keyring(path: Path) -> Iterator[Callable[[], Keyring]]:
    """Open one keys.db as often as asked, as other processes would."""
    opened: list[Keyring] = []

    def open_keyring() -> Keyring:
        opened.append(Keyring(driver(path), Key(ROOT), STORE))
        return opened[-1]

    yield open_keyring
    for one in opened:
        one.close()


@pytest.fixture
def keyring(open_keyring: Callable[[], Keyring]) -> Keyring:
    return open_keyring()


@pytest.fixture
def acme(keyring: Keyring) -> TenantKeys:
    """A tenant of the keyring."""
    return keyring.create_tenant("acme")


def raw_key() -> bytes:
    """The key of keys.db, as whoever holds the store root finds it."""
    return hmac.digest(ROOT, context("secmem/keys.db/v1", STORE), "sha256")


def sql(path: Path, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement as someone who holds the store root."""
    connection = sqlcipher.connect(path, raw_key() + STORE)
    try:
        rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
        return rows
    finally:
        connection.close()


def pages(path: Path) -> bytes:
    """Everything in the database file, decrypted by hand: AES-256-CBC, a page's IV 80 bytes before its end."""
    data, plain = path.read_bytes(), b""
    for at in range(0, len(data), 4096):
        page = data[at : at + 4096]
        decryptor = Cipher(algorithms.AES(raw_key()), modes.CBC(page[-80:-64])).decryptor()
        plain += decryptor.update(page[16 if at == 0 else 0 : -80]) + decryptor.finalize()
    return plain


def same(one: SessionKeys, other: SessionKeys) -> bool:
    """Whether two are the same keys of the same session."""
    return (one.uid, one.subject, one.key.bytes, one.subject_key.bytes) == (
        other.uid,
        other.subject,
        other.key.bytes,
        other.subject_key.bytes,
    )


# ---- another key for a session


def test_a_prepared_key_stands_when_it_is_settled(keyring: Keyring, acme: TenantKeys) -> None:
    """Until then the old key is the session's; afterwards the new one is, and the old one is nowhere."""
    old, _ = keyring.create_session(acme, NAME, SUBJECT)
    made = keyring.prepare_session(acme, old.uid, OTHER_NAME)
    assert (2, old.uid, OTHER_NAME) == (made.version, made.uid, made.subject_name)
    assert made.subject != old.subject
    found = keyring.session(acme, NAME)
    assert found is not None
    assert same(old, found)
    for _ in range(2):  # twice is once
        keyring.settle(old.uid, made.version)
        found = keyring.session(acme, NAME)
        assert found is not None
        assert same(made, found)
        assert (2, OTHER_NAME) == (found.version, found.subject_name)


def test_whoever_asks_for_the_new_version_settles_it(
    keyring: Keyring, open_keyring: Callable[[], Keyring], acme: TenantKeys, path: Path
) -> None:
    """Where the one who prepared a key died, another process that was told its version lets it stand."""
    old, _ = keyring.create_session(acme, NAME, SUBJECT)
    made = keyring.prepare_session(acme, old.uid, SUBJECT)
    assert made.subject == old.subject
    other = open_keyring()
    tenant = other.tenant("acme")
    assert tenant is not None
    for _ in range(2):
        found = other.session(tenant, NAME, made.version)
        assert found is not None
        assert same(made, found)
    assert [(2,)] == sql(path, "SELECT version FROM keys WHERE purpose = 'session'")
    assert [(1,)] == sql(path, "SELECT version FROM tombstones")
    with pytest.raises(KeyDestroyedError, match="resealed"):
        other.session(tenant, NAME, 1)


def test_settling_leaves_later_ones_alone(keyring: Keyring, acme: TenantKeys, path: Path) -> None:
    """A key that someone else prepared later is theirs to settle; one that was prepared before is destroyed."""
    old, _ = keyring.create_session(acme, NAME, SUBJECT)
    second, third, fourth = (keyring.prepare_session(acme, old.uid, SUBJECT) for _ in range(3))
    keyring.settle(old.uid, third.version)
    assert [(3, 1), (4, 0)] == sql(
        path, "SELECT version, name IS NOT NULL FROM keys WHERE purpose = 'session' ORDER BY version"
    )
    with pytest.raises(KeyDestroyedError):
        keyring.settle(old.uid, second.version)
    keyring.settle(old.uid, fourth.version)
    found = keyring.session(acme, NAME)
    assert found is not None
    assert same(fourth, found)


def test_erasing_takes_what_was_prepared_too(keyring: Keyring, acme: TenantKeys) -> None:
    """Destroying a session's key destroys the versions that don't stand yet."""
    old, _ = keyring.create_session(acme, NAME, SUBJECT)
    made = keyring.prepare_session(acme, old.uid, SUBJECT)
    assert 2 == keyring.destroy(old.uid, "session")
    assert keyring.session(acme, NAME) is None
    with pytest.raises(KeyDestroyedError):
        keyring.settle(old.uid, made.version)


# ---- making and opening


def test_a_tenant_has_four_keys_of_its_own(keyring: Keyring, acme: TenantKeys) -> None:
    """A new tenant gets random keys, each another, and uids of its own."""
    other = keyring.create_tenant("globex")
    keys = [key.bytes for one in (acme, other) for key in (one.root, one.vault_key, one.ledger, one.pseudonym)]
    assert 8 == len(set(keys))
    assert 4 == len({acme.uid, acme.vault, other.uid, other.vault})
    assert "creating" == acme.state


def test_a_tenant_is_made_once(keyring: Keyring, open_keyring: Callable[[], Keyring], acme: TenantKeys) -> None:
    """Made again or found, here or by another process, it is the same tenant."""
    for found in (keyring.create_tenant("acme"), open_keyring().tenant("acme"), open_keyring().create_tenant("acme")):
        assert found is not None
        assert (acme.uid, acme.vault_key.bytes) == (found.uid, found.vault_key.bytes)
    assert keyring.tenant("globex") is None


def test_a_tenant_becomes_active(keyring: Keyring, acme: TenantKeys) -> None:
    """From when its vault exists, a tenant says so."""
    keyring.activate_tenant(acme.uid)
    keyring.create_tenant("aaa")
    assert [("aaa", "creating"), ("acme", "active")] == [(name, state) for _, name, state, _ in keyring.tenants()]


def test_an_erased_tenant(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """A tenant that was erased is not found, made again or mistaken for one that never was."""
    sql(path, "UPDATE tenants SET state = 'erased'")
    for look in (keyring.tenant, keyring.create_tenant):
        with pytest.raises(KeyDestroyedError, match="was erased"):
            look("acme")


def test_a_session_is_made_once(keyring: Keyring, open_keyring: Callable[[], Keyring], acme: TenantKeys) -> None:
    """The first to begin a session makes its keys, and everyone else gets those."""
    made, new = keyring.create_session(acme, NAME, SUBJECT)
    assert new
    again, new = open_keyring().create_session(acme, NAME, SUBJECT)
    assert (True, False) == (same(made, again), new)
    found = open_keyring().session(acme, NAME)
    assert found is not None
    assert same(made, found)
    assert SUBJECT == found.subject_name


def test_sessions_of_one_subject_share_its_key(keyring: Keyring, acme: TenantKeys) -> None:
    """A subject has one key, under which each of its sessions has one of its own."""
    one, _ = keyring.create_session(acme, NAME, SUBJECT)
    other, _ = keyring.create_session(acme, OTHER_NAME, SUBJECT)
    assert (one.subject, one.subject_key.bytes) == (other.subject, other.subject_key.bytes)
    assert (one.uid, one.key.bytes) != (other.uid, other.key.bytes)
    assert one.subject == keyring.subject(acme, SUBJECT)
    assert keyring.subject(acme, NAME) is None


def test_a_name_is_a_tenant_s_own(keyring: Keyring, acme: TenantKeys) -> None:
    """Two tenants' sessions of one name are two sessions, of two subjects."""
    other = keyring.create_tenant("globex")
    mine, _ = keyring.create_session(acme, NAME, SUBJECT)
    theirs, new = keyring.create_session(other, NAME, SUBJECT)
    assert new
    assert (mine.uid, mine.subject) != (theirs.uid, theirs.subject)


def test_nothing_is_made_by_looking(keyring: Keyring, acme: TenantKeys, path: Path) -> None:
    """Asking for a session that isn't there leaves no row."""
    before = sql(path, "SELECT count(*) FROM keys")
    assert keyring.session(acme, NAME) is None
    assert keyring.cached_session(acme.uid, NAME) is None
    assert before == sql(path, "SELECT count(*) FROM keys")


def test_threads_that_begin_one_session_agree(open_keyring: Callable[[], Keyring], acme: TenantKeys) -> None:
    """Several threads with several connections make one key between them."""
    keyrings, made = [open_keyring() for _ in range(4)], []

    def begin(one: Keyring) -> None:
        for n in range(5):
            made.append((n, *one.create_session(acme, bytes([n]) * 32, SUBJECT)))

    threads = [threading.Thread(target=begin, args=(one,)) for one in keyrings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 20 == len(made)
    for n in range(5):
        (new,) = [keys for number, keys, new in made if number == n and new]
        assert all(same(new, keys) for number, keys, _ in made if number == n)


RACING = """
import sys
from secure_memory.store import SecureStore
with SecureStore.open(sys.argv[1]) as store:
    keyring = store._shared.keyring
    print("ready", flush=True)
    sys.stdin.readline()
    keys = keyring.create_tenant("acme")
    for n in range(5):
        made, new = keyring.create_session(keys, bytes([n]) * 32, bytes(32))
        print(keys.uid.hex(), made.uid.hex(), made.subject.hex(), made.key.bytes.hex(), int(new))
"""


def test_processes_that_begin_one_session_agree(store: Any, place: Path) -> None:
    """Several processes make one tenant, one subject and one key a session between them."""
    racing = [Popen([executable, "-c", RACING, str(place)], stdin=-1, stdout=-1, text=True) for _ in range(3)]
    for one in racing:
        assert one.stdout is not None
        assert "ready\n" == one.stdout.readline()
    for one in racing:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    lines = [line.split() for one in racing for line in one.communicate(timeout=30)[0].splitlines()]
    assert 15 == len(lines)
    assert 5 == len({tuple(line[:4]) for line in lines})
    assert 5 == sum(int(line[4]) for line in lines)


# ---- the cache


def test_keys_are_remembered(keyring: Keyring, acme: TenantKeys) -> None:
    """Keys that were opened once are had without a lock and without disk."""
    made, _ = keyring.create_session(acme, NAME, SUBJECT)
    with keyring._database.lock:
        assert made is keyring.cached_session(acme.uid, NAME)


def test_memory_for_keys_is_bounded(keyring: Keyring, acme: TenantKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many sessions a few keys are remembered, and the others opened again."""
    monkeypatch.setattr(module, "CACHED_SESSIONS", 3)
    for n in range(6):
        keyring.create_session(acme, bytes([n]) * 32, SUBJECT)
    assert 3 == len(keyring._sessions)
    assert keyring.session(acme, bytes(32)) is not None


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow past `size` bytes: a disk that is full, for as long as the block lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_key_that_was_not_kept_is_not_used(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """Where the disk was full when a session's key was made, nothing is sealed under that key: it would be lost."""
    for n in range(10, 20):
        keyring.create_session(acme, bytes([n]) * 32, SUBJECT)
    with file_size_limit(path.with_name("keys.db-wal").stat().st_size), pytest.raises(StorageError):
        keyring.create_session(acme, NAME, SUBJECT)
    assert keyring.cached_session(acme.uid, NAME) is None
    assert keyring.session(acme, NAME) is None
    assert keyring.create_session(acme, NAME, SUBJECT)[1]


# ---- out of place


@pytest.mark.parametrize("purpose", ["tenant", "vault", "ledger", "pseudonym", "subject", "session"])
def test_a_wrapped_key_opens_in_its_place_only(keyring: Keyring, path: Path, acme: TenantKeys, purpose: str) -> None:
    """A wrapped key that was moved to another row of its purpose doesn't open there."""
    other = keyring.create_tenant("globex")
    for tenant in (acme, other):
        keyring.create_session(tenant, NAME, SUBJECT)
    theirs = sql(path, "SELECT wrapped FROM keys WHERE tenant = ? AND purpose = ?", other.uid, purpose)[0][0]
    sql(path, "UPDATE keys SET wrapped = ? WHERE tenant = ? AND purpose = ?", theirs, acme.uid, purpose)
    find = (lambda: keyring.session(acme, NAME)) if purpose in ("subject", "session") else lambda: keyring.tenant("acme")
    with pytest.raises(TamperedError, match="in its place in the keyring") as raised:
        find()
    assert "keys.db" in str(raised.value.hint)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE keys SET purpose = 'x' WHERE purpose = 'vault'; UPDATE keys SET purpose = 'vault' WHERE purpose = 'ledger';"
        " UPDATE keys SET purpose = 'ledger' WHERE purpose = 'x'",
        "UPDATE keys SET version = 2",
        "UPDATE keys SET wrapped = substr(wrapped, 1, 60)",
        "UPDATE keys SET wrapped = zeroblob(61)",
        "UPDATE keys SET wrapped = x''",
    ],
)
def test_a_row_that_was_edited(keyring: Keyring, path: Path, acme: TenantKeys, attack: str) -> None:
    """Another purpose, another version, other bytes: the key doesn't open, and that is an incident."""
    for statement in attack.split("; "):
        sql(path, statement)
    with pytest.raises(TamperedError):
        keyring.tenant("acme")


def test_a_session_s_key_is_its_subject_s(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """A session can't be given to another subject."""
    keyring.create_session(acme, NAME, SUBJECT)
    other, _ = keyring.create_session(acme, OTHER_NAME, OTHER_NAME)
    sql(path, "UPDATE keys SET subject = ? WHERE purpose = 'session' AND name = ?", other.subject, NAME)
    with pytest.raises(TamperedError):
        keyring.session(acme, NAME)


@pytest.mark.parametrize("purpose", ["tenant", "vault", "ledger", "pseudonym"])
def test_a_row_that_is_missing(keyring: Keyring, path: Path, acme: TenantKeys, purpose: str) -> None:
    """A key that is gone without a tombstone is a keyring to restore."""
    sql(path, "DELETE FROM keys WHERE purpose = ?", purpose)
    with pytest.raises(KeyNotFoundError, match=f"no {purpose} key") as raised:
        keyring.tenant("acme")
    assert "backup" in str(raised.value.hint)


def test_another_root_opens_nothing(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """Under another store root keys.db is no database."""
    with pytest.raises(TamperedError):
        Keyring(driver(path), Key(bytes(32)), STORE)


# ---- destroying


def test_a_destroyed_key_is_nowhere(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """Its wrapped bytes are in no page of the database, used or free, and nothing is left in the WAL."""
    for n in range(30):  # so that the row lies among others
        keyring.create_session(acme, bytes([n]) * 32, SUBJECT)
    keys = keyring.session(acme, bytes([7]) * 32)
    assert keys is not None
    wrapped = sql(path, "SELECT wrapped FROM keys WHERE owner = ?", keys.uid)[0][0]
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert wrapped in pages(path)  # so the check below can fail
    assert 1 == keyring.destroy(keys.uid, "session")
    assert wrapped not in pages(path)
    assert 0 == path.with_name("keys.db-wal").stat().st_size


def test_a_reader_that_keeps_a_destroyed_key_in_the_wal(
    keyring: Keyring, path: Path, acme: TenantKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process still reads the WAL the key isn't gone from it: that is said, and destroying again ends it."""
    keys, _ = keyring.create_session(acme, NAME, SUBJECT)
    reader = sqlcipher.connect(path, raw_key() + STORE)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM keys").fetchall()
    monkeypatch.setattr("secure_memory.keys.database.TRUNCATE_SECONDS", 0.05)
    with pytest.raises(StoreBusyError, match="WAL") as raised:
        keyring.destroy(keys.uid, "session")
    assert "again" in str(raised.value.hint)
    reader.close()
    assert 0 == keyring.destroy(keys.uid, "session")
    assert 0 == path.with_name("keys.db-wal").stat().st_size


def test_a_destroyed_subject_takes_its_sessions_along(
    keyring: Keyring, open_keyring: Callable[[], Keyring], acme: TenantKeys
) -> None:
    """Without the subject's key its sessions don't open, here and in every process that has not opened them yet."""
    keys, _ = keyring.create_session(acme, NAME, SUBJECT)
    keyring.destroy(keys.subject, "subject")
    assert keyring.cached_session(acme.uid, NAME) is None
    for one in (keyring, open_keyring()):
        with pytest.raises(KeyDestroyedError, match="subject key was destroyed") as raised:
            one.session(acme, NAME)
        assert "on purpose" in str(raised.value.hint)


def test_a_destroyed_session_s_name_may_come_back(keyring: Keyring, acme: TenantKeys) -> None:
    """A returning session has another uid and another key, and its subject's is as it was."""
    before, _ = keyring.create_session(acme, NAME, SUBJECT)
    keyring.destroy(before.uid, "session")
    assert keyring.session(acme, NAME) is None
    after, new = keyring.create_session(acme, NAME, SUBJECT)
    assert new
    assert (before.uid, before.key.bytes) != (after.uid, after.key.bytes)
    assert before.subject == after.subject


@pytest.mark.parametrize("purpose", ["tenant", "vault", "ledger", "pseudonym"])
def test_a_destroyed_tenant_key(keyring: Keyring, acme: TenantKeys, purpose: str) -> None:
    """What needed the key says that it was destroyed, and not that it is missing."""
    assert 1 == keyring.destroy(acme.uid, purpose)
    with pytest.raises(KeyDestroyedError, match=f"the {purpose} key was destroyed"):
        keyring.tenant("acme")


def test_destroying_leaves_a_tombstone(keyring: Keyring, path: Path, acme: TenantKeys, noon: Any) -> None:
    """Which key was destroyed, and when, is kept; destroying it again changes nothing."""
    keys, _ = keyring.create_session(acme, NAME, SUBJECT)
    for expected in (1, 0):
        assert expected == keyring.destroy(keys.uid, "session")
        assert [(keys.uid, "session", 1, noon.now)] == sql(path, "SELECT * FROM tombstones")


def test_what_never_was_can_t_be_destroyed(keyring: Keyring, acme: TenantKeys) -> None:
    """A key that nobody made is not reported as destroyed."""
    for owner, purpose in ((bytes(16), "session"), (acme.uid, "session")):
        with pytest.raises(KeyNotFoundError, match="to destroy"):
            keyring.destroy(owner, purpose)


# ---- saying nothing


def test_names_are_not_in_the_file(store: Any, place: Path) -> None:
    """Not even decrypted does keys.db say what a session or a subject is called."""
    shared = store._shared
    acme = shared.keyring.create_tenant("acme")
    session, subject = (acme.name_mac(kind, f"the {kind} maria") for kind in ("session", "subject"))
    shared.keyring.create_session(acme, session, subject)
    (dump,) = [repr(row) for row in [shared.keyring._database._connection.execute("SELECT * FROM keys").fetchall()]]
    assert "maria" not in dump
    for file in place.iterdir():
        assert file.is_dir() or b"acme" not in file.read_bytes()


def test_a_name_is_found_by_its_kind_and_tenant(keyring: Keyring, acme: TenantKeys) -> None:
    """One name gives another HMAC as a session's, as a subject's, and in another tenant."""
    other = keyring.create_tenant("globex")
    macs = {keys.name_mac(kind, "maria") for keys in (acme, other) for kind in ("session", "subject")}
    assert 4 == len(macs)
    assert acme.name_mac("session", "maria") == keyring.create_tenant("acme").name_mac("session", "maria")


def test_opened_keys_show_nothing(keyring: Keyring, acme: TenantKeys) -> None:
    """Neither a tenant's keys nor a session's show a key, and neither can be pickled or copied deeply."""
    keys, _ = keyring.create_session(acme, NAME, SUBJECT)
    for one, secret in ((acme, acme.root), (keys, keys.key)):
        assert secret.bytes.hex() not in repr(one)
        assert repr(secret.bytes) not in repr(one)
        assert "<Key>" in repr(one)
        for copied_by in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="can't be pickled or copied"):
                copied_by(one)


def test_closing_overwrites_the_keys(open_keyring: Callable[[], Keyring]) -> None:
    """After a close no key of the keyring's can be used, and it answers with RuntimeError; closing again is harmless."""
    keyring = open_keyring()
    acme = keyring.create_tenant("acme")
    keys, _ = keyring.create_session(acme, NAME, SUBJECT)
    keyring.close()
    keyring.close()
    for key in (keys.key, keys.subject_key):
        with pytest.raises(RuntimeError, match="zeroed"):
            _ = key.bytes
    with pytest.raises(RuntimeError, match="closed"):
        keyring.tenant("acme")


def test_a_page_that_was_changed_is_found(keyring: Keyring, path: Path, acme: TenantKeys) -> None:
    """The check of the keyring reads every page, those that nothing reads among them."""
    for n in range(200):
        keyring.create_session(acme, n.to_bytes(32, "big"), SUBJECT)
    keyring.check()
    keyring.close()
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    damaged = Keyring(driver(path), Key(ROOT), STORE)
    with pytest.raises(TamperedError):
        damaged.check()
    damaged.close()
