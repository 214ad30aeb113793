"""`shared.py`: the tenants of an open store, each made once and found again, and the store's own ledger."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.actor import Actor, acting_as
from secure_memory.errors import ConfigurationError, RollbackError, SecureMemoryError, StorageError
from secure_memory.shared import SYSTEM_TENANT, SharedStore, asking, check_tenant_name
from secure_memory.store import SecureStore


@pytest.fixture
def shared(store: SecureStore) -> SharedStore:
    return store._shared


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


# ---- names


@pytest.mark.parametrize("name", ["a", "acme", "x" * 200, "żółw", "a b", "acme (eu)", "@", "0", ".", "😀"])
def test_a_tenant_s_name(name: str) -> None:
    """Printable text is a name."""
    assert name == check_tenant_name(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "(system)", "(", "a\n", "\x00", "a\x7f", "x" * 201, "\ud800", "a\u2028b", "\u200b", None, 7, b"a"],
)
def test_what_is_no_tenant_s_name(shared: SharedStore, name: Any) -> None:
    """What can't be seen, or would pass for the system vault, is refused before a key is made for it."""
    with pytest.raises(ValueError, match="a tenant's name is"):
        check_tenant_name(name)
    if name != SYSTEM_TENANT:  # which is open, and a session's to refuse
        with pytest.raises(ValueError, match="a tenant's name is"):
            shared.tenant(name)
    assert [SYSTEM_TENANT] == [name for _, name, _, _ in shared.keyring.tenants()]


# ---- tenants


def test_a_tenant_is_made_when_it_is_first_used(store: SecureStore, shared: SharedStore) -> None:
    """Its vault's first entry and the system's say so, once, and from then on it is active."""
    tenant = shared.tenant("acme", Actor("user:maria"))
    assert tenant is shared.tenant("acme") is shared.known_tenant("acme")
    (mine,) = store.audit_log(tenant="acme", action="tenant.create")
    (system,) = store.audit_log(tenant=SYSTEM_TENANT, action="tenant.create")
    assert ("user:maria", "user:maria") == (mine.entry.actor, system.entry.actor)
    assert {"tenant": tenant.keys.uid.hex()} == system.entry.detail
    assert ["active"] == [info.state for info in store.tenant_list()]


def test_a_tenant_has_a_vault_of_its_own(shared: SharedStore) -> None:
    """Two tenants share no file, no key and no uid; and the vault's file doesn't say whose it is."""
    one, other = shared.tenant("acme"), shared.tenant("globex")
    assert one.vault.identity.path != other.vault.identity.path
    assert "acme" not in str(one.vault.identity.path)
    assert one.keys.ledger.bytes != other.keys.ledger.bytes


def test_an_existing_tenant(shared: SharedStore) -> None:
    """Where a tenant must be there already, none is made."""
    with pytest.raises(ConfigurationError, match="there is no tenant 'acme'"):
        shared.existing_tenant("acme")
    assert shared.tenant("acme") is shared.existing_tenant("acme")


def test_threads_that_make_one_tenant(store: SecureStore) -> None:
    """Several threads that use a new tenant first, on disk or in memory, use the same one, and nothing of it is lost."""
    for here in (store, SecureStore.in_memory()):
        made: list[Any] = []
        barrier = threading.Barrier(4)

        def work(here: SecureStore = here, made: list[Any] = made, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with here.session("u", tenant="acme") as session:
                asyncio.run(session.add_items([user(threading.get_ident())]))
            made.append(here._shared.tenant("acme"))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 4 == len(made)
        assert 1 == len({id(tenant) for tenant in made})
        assert 4 == len(here.session_show("u", tenant="acme"))
        here.audit_verify()
        here.close()


def test_a_killed_creation_of_a_tenant_is_begun_again(store: SecureStore, shared: SharedStore, place: Path) -> None:
    """Keys without a vault, as a killed creation leaves them, are no rollback: the vault is made with the next use."""
    keys = shared.keyring.create_tenant("acme")
    assert "creating" == keys.state
    store.close()
    with SecureStore.open(place) as again, again.session("u", tenant="acme") as session:
        asyncio.run(session.add_items([user(1)]))
        assert keys.uid.hex() == again.tenant_list()[0].uid
        again.audit_verify()


def test_a_creation_that_failed_can_be_tried_again(shared: SharedStore, place: Path) -> None:
    """A tenant whose vault could not be made is not taken for one whose vault is missing."""
    shutil.move(place / "vaults", place / "moved")
    for _ in range(2):
        with pytest.raises(StorageError):
            shared.tenant("acme")
    shutil.move(place / "moved", place / "vaults")
    assert shared.tenant("acme") is shared.known_tenant("acme")


def test_a_vault_that_is_missing(store: SecureStore, shared: SharedStore, place: Path) -> None:
    """An active tenant's vault is never made anew, by whatever way it is asked for."""
    shared.tenant("acme")
    store.close()
    for file in (place / "vaults").iterdir():
        file.unlink()
    with SecureStore.open(place) as again:
        for ask in (
            lambda: again._shared.tenant("acme"),
            lambda: again.audit_verify(),
            lambda: again.audit_log(tenant="acme"),
            lambda: again.sessions(tenant="acme"),
        ):
            with pytest.raises(RollbackError, match="vault is missing"):
                ask()
        assert [] == list((place / "vaults").iterdir())


def test_a_vault_of_another_tenant_in_its_place(store: SecureStore, shared: SharedStore, place: Path) -> None:
    """Two vaults that changed places are opened by neither tenant's key."""
    files = [shared.tenant(name).vault.identity.path for name in ("acme", "globex")]
    store.close()
    shutil.move(files[0], place / "third")
    shutil.move(files[1], files[0])
    shutil.move(place / "third", files[1])
    with SecureStore.open(place) as again, pytest.raises(SecureMemoryError):
        again._shared.tenant("acme")


# ---- the system ledger


def test_an_entry_says_who_asked() -> None:
    """An actor, or the one of the block, or the program, with all that is known of them."""
    who = Actor("user:maria", ("admin",), "audit", "ticket 7", "user:otto")
    expected = {"actor": "user:maria", "roles": ["admin"], "purpose": "audit", "reason": "ticket 7"}
    assert expected.items() <= asking(who).items()
    assert {"on_behalf_of": "user:otto"} == asking(who)["detail"]
    with acting_as("user:eve"):
        assert "user:eve" == asking(None)["actor"]
    assert asking(None)["actor"].startswith("service:")


def test_a_closed_store(store: SecureStore, shared: SharedStore) -> None:
    """Whatever is asked of a closed store raises RuntimeError."""
    shared.tenant("acme")
    store.close()
    asks: list[Callable[[], object]] = [
        lambda: shared.tenant("acme"),
        lambda: shared.known_tenant("acme"),
        lambda: shared.system,
        lambda: shared.keyring.tenants(),
        lambda: shared.record({"action": "store.open"}),
    ]
    for ask in asks:
        with pytest.raises(RuntimeError, match="the store is closed"):
            ask()


def test_closing_overwrites_the_keys(store: SecureStore, shared: SharedStore) -> None:
    """No key that was open in the store can be used after it is closed."""
    tenant = shared.tenant("acme")
    with store.session("u", tenant="acme") as session:
        asyncio.run(session.add_items([user(1)]))
        keys = shared.keyring.cached_session(tenant.keys.uid, tenant.keys.name_mac("session", "u"))
    store.close()
    assert keys is not None
    for key in (tenant.keys.root, tenant.keys.vault_key, tenant.keys.ledger, tenant.keys.pseudonym, keys.key):
        with pytest.raises(RuntimeError, match="zeroed"):
            _ = key.bytes


def test_a_close_that_can_t_be_recorded(store: SecureStore, shared: SharedStore, insider: Callable[..., Any]) -> None:
    """Where the system ledger went back, closing frees what it can all the same."""
    connection = shared.system.vault.database.connection
    connection.execute("DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)")
    store.close()
    assert shared.closed
