"""`keys/erasing.py`, `keys/store_keys.py`: what an erasure destroys and lists, and a restore again; the store's own keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secure_memory import keys_db
from secure_memory.errors import KeyDestroyedError, KeyNotFoundError, StorageError
from secure_memory.keys.key import Key
from secure_memory.keys.keyring import Keyring
from secure_memory.keys.opened import TenantKeys
from secure_memory.keys.store_keys import PURPOSES, SYSTEM_TENANT
from secure_memory.keys.tombstones import Tombstone

STORE, ROOT = bytes(range(16)), bytes(range(32))
NAME, OTHER_NAME, SUBJECT, OTHER_SUBJECT = (bytes([n]) * 32 for n in range(4))


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[[], Keyring]]:
    """Open one keyring, with its list of tombstones, as often as asked."""
    opened: list[Keyring] = []

    def reopen() -> Keyring:
        opened.append(Keyring(keys_db.driver(tmp_path / "keys.db"), Key(ROOT), STORE, tmp_path / "anchors" / "tombstones"))
        return opened[-1]

    yield reopen
    for one in opened:
        one.close()


@pytest.fixture
def keyring(reopen: Callable[[], Keyring]) -> Keyring:
    return reopen()


@pytest.fixture
def acme(keyring: Keyring) -> TenantKeys:
    """A tenant with two subjects: one has two sessions, the other one."""
    acme = keyring.create_tenant("acme")
    keyring.create_session(acme, NAME, SUBJECT)
    keyring.create_session(acme, OTHER_NAME, SUBJECT)
    keyring.create_session(acme, bytes([5]) * 32, OTHER_SUBJECT)
    return acme


def listed(keyring: Keyring) -> list[Tombstone]:
    assert keyring.tombstones is not None
    return keyring.tombstones.read()


def test_a_subject_goes_with_every_session(keyring: Keyring, acme: TenantKeys) -> None:
    """Her key and her sessions' are destroyed and listed; another subject's are not."""
    ana = keyring.subject(acme, SUBJECT)
    assert ana is not None
    done = keyring.erase(subject=ana)
    assert (3, 3) == (len(done.tombstones), done.listed)
    assert done.tombstones == listed(keyring)
    assert [] == keyring.held(subject=ana)
    assert None is keyring.session(acme, NAME)
    assert keyring.session(acme, bytes([5]) * 32) is not None
    assert sorted(done.tombstones) == sorted(keyring.buried([stone.owner for stone in done.tombstones]))


def test_a_session_goes_alone_or_its_older_versions_do(keyring: Keyring, acme: TenantKeys) -> None:
    """Of a session that was sealed anew the versions before the new one are destroyed, where that is asked for."""
    keys = keyring.session(acme, NAME)
    assert keys is not None
    made = keyring.prepare_session(acme, keys.uid, OTHER_SUBJECT, bytes([7]) * 32)
    assert [1] == [stone.version for stone in keyring.erase(session=keys.uid, below=made.version).tombstones]
    assert not keyring.stands(keys.uid, "session", 1)
    assert keyring.stands(keys.uid, "session", made.version)
    found = keyring.session(acme, bytes([7]) * 32)
    assert found is not None
    assert made.key.bytes == found.key.bytes
    assert [2] == [stone.version for stone in keyring.erase(session=keys.uid).tombstones]


def test_a_tenant_goes_with_everything(keyring: Keyring, acme: TenantKeys) -> None:
    """Every key of it is destroyed, and its name says so."""
    assert 4 + 2 + 3 == len(keyring.erase(tenant=acme.uid).tombstones)
    with pytest.raises(KeyDestroyedError, match="was erased"):
        keyring.tenant("acme")


def test_where_the_list_cannot_be_written_nothing_is_destroyed(keyring: Keyring, acme: TenantKeys, tmp_path: Path) -> None:
    """The list comes first: a key that is gone is never unlisted."""
    (tmp_path / "anchors").write_text("in the way")
    ana = keyring.subject(acme, SUBJECT)
    assert ana is not None
    with pytest.raises(StorageError):
        keyring.erase(subject=ana)
    assert 3 == len(keyring.held(subject=ana))


def test_erasing_twice_lists_once(keyring: Keyring, acme: TenantKeys) -> None:
    """The second time there is nothing to destroy."""
    ana = keyring.subject(acme, SUBJECT)
    assert ana is not None
    keyring.erase(subject=ana)
    assert ([], 3) == keyring.erase(subject=ana)


def test_a_replay_destroys_what_a_restore_brought_back(keyring: Keyring, acme: TenantKeys) -> None:
    """Each listed version goes, whatever is not listed stays, and a listed tenant is erased; again, nothing happens."""
    ana = keyring.subject(acme, SUBJECT)
    assert ana is not None
    stones = [Tombstone(key.owner, key.purpose, key.version, 1) for key in keyring.held(subject=ana)]
    assert 3 == keyring.replay(stones)
    assert 0 == keyring.replay(stones)
    assert None is keyring.subject(acme, SUBJECT)
    assert keyring.session(acme, bytes([5]) * 32) is not None
    assert 1 == keyring.replay([Tombstone(acme.uid, "tenant", 1, 1)])
    with pytest.raises(KeyDestroyedError):
        keyring.tenant("acme")


# ---- the store's own keys


def test_a_store_key_is_made_once(reopen: Callable[[], Keyring]) -> None:
    """Every process gets the same key for a purpose, and another one for another."""
    one, other = reopen(), reopen()
    one.create_tenant(SYSTEM_TENANT)
    keys = {purpose: one.store_key(purpose).bytes for purpose in PURPOSES}
    assert len(PURPOSES) == len(set(keys.values()))
    assert keys == {purpose: other.store_key(purpose).bytes for purpose in PURPOSES}


def test_a_purpose_that_no_store_has_is_refused(keyring: Keyring) -> None:
    """A misspelt purpose makes no key."""
    keyring.create_tenant(SYSTEM_TENANT)
    with pytest.raises(ValueError, match="no 'singing' key"):
        keyring.store_key("singing")


def test_without_a_system_vault_there_are_none(keyring: Keyring) -> None:
    """A keyring that does not know the system vault is an older copy, or none of ours."""
    with pytest.raises(KeyNotFoundError, match="system vault"):
        keyring.store_key("signing")
