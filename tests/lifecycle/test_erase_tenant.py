"""Erasing a tenant: keys and file gone, its ledger in an archive that reads back, certified, finished after any crash."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import (
    ConfigurationError,
    KeyDestroyedError,
    LegalHoldError,
    RetentionError,
    SecureMemoryError,
    TamperedError,
)
from secure_memory.keys.tombstones import FILE
from secure_memory.ledger.entry import parse
from secure_memory.lifecycle.erasure.certificate import Certificate
from secure_memory.lifecycle.purge import archive
from secure_memory.store import SecureStore


def say(store: SecureStore, tenant: str, session: str, text: str) -> Any:
    """Append to a conversation of the tenant, and return it."""
    talk = store.session(session, tenant=tenant, subject="ana")
    asyncio.run(talk.add_items([{"role": "user", "content": text}]))
    return talk


@pytest.fixture
def two(store: SecureStore) -> SecureStore:
    """A store with two tenants."""
    say(store, "acme", "one", "of acme")
    say(store, "acme", "two", "of acme, too")
    say(store, "globex", "one", "of globex")
    return store


def ledger_of(store: SecureStore, place: Path) -> list[Any]:
    """The entries in the archive of an erased tenant's ledger."""
    (file,) = place.glob("archives/ledger-*")
    lines = archive.read(file, store._shared.keyring.store_key("archive"))
    return [parse(line["json"].encode()) for kind, line in lines if kind == "item"]


def test_an_erased_tenant_is_gone(two: SecureStore, place: Path) -> None:
    """Its file and keys are gone, its name stays taken, the other tenant is what it was, and the store is whole."""
    before = len(list(place.glob("vaults/*.db")))
    report = two.tenant_erase("acme", reason="contract ended")
    assert ("tenant", 2, {"message": 2}) == (report.kind, report.sessions, report.items)
    assert before - 1 == len(list(place.glob("vaults/*.db")))
    assert {"acme": "erased", "globex": "active"} == {info.name: info.state for info in two.tenant_list()}
    for ask in (lambda: two.session_show("one", tenant="acme"), lambda: say(two, "acme", "one", "again")):
        with pytest.raises(KeyDestroyedError, match="was erased"):
            ask()
    assert [{"role": "user", "content": "of globex"}] == two.session_show("one", tenant="globex")
    assert ["(system)", "globex"] == [one.tenant for one in two.audit_verify()]


def test_its_ledger_is_in_an_archive(two: SecureStore, place: Path) -> None:
    """Whoever has the archive key reads who did what in it, to the last entry, and finds the root that is certified."""
    report = two.tenant_erase("acme", reason="contract ended")
    entries = ledger_of(two, place)
    assert ["tenant.create", "session.create", "session.append"] == [entry.action for entry in entries[:3]]
    assert ("tenant.erase", "contract ended") == (entries[-1].action, entries[-1].reason)
    said = report.certificate.statement["archived"]
    assert len(entries) == said["entries"]
    assert said["file"] in report.certificate.text()
    with pytest.raises(TamperedError):
        list(archive.read(next(place.glob("archives/ledger-*")), two._shared.keyring.store_key("plan")))


def test_every_key_is_listed_beside_the_anchors(two: SecureStore, tmp_path: Path) -> None:
    """Of the tenant, its vault, its ledger, its subject and both sessions."""
    report = two.tenant_erase("acme")
    (place,) = tmp_path.glob(f"anchors/*/{FILE}")
    listed = two._shared.keyring.tombstones_at(place).read()
    assert 4 + 1 + 2 == len(listed) == report.certificate.statement["tombstones"]
    tops = {key["purpose"] for key in report.certificate.statement["keys"]}
    assert {"tenant", "vault", "ledger", "pseudonym"} == tops


def test_the_certificate_is_the_stores_own(two: SecureStore, tmp_path: Path) -> None:
    """It is signed, checks with the file alone and with the store, and says how much there was."""
    report = two.tenant_erase("acme")
    (tmp_path / "acme.json").write_text(report.certificate.to_json())
    assert Certificate.read(tmp_path / "acme.json") == two.certificate_verify(tmp_path / "acme.json")
    assert "2 items of conversation" in report.certificate.text()
    again = two.tenant_erase("acme")
    assert (True, report.certificate) == (again.already, again.certificate)


def test_a_tenant_that_is_not_there_is_an_error(two: SecureStore) -> None:
    """An unknown name is said to be unknown; the system vault is no tenant."""
    with pytest.raises(ConfigurationError, match="there is no tenant 'nobody'"):
        two.tenant_erase("nobody")
    with pytest.raises(ValueError, match="name"):
        two.tenant_erase("(system)")


def test_a_hold_refuses_it(two: SecureStore) -> None:
    """A tenant goes whole or not at all: a hold on one of its sessions keeps everything."""
    two.hold_place("M-14", tenant="acme", session="one")
    with pytest.raises(LegalHoldError, match="M-14"):
        two.tenant_erase("acme")
    assert 1 == len(two.session_show("one", tenant="acme"))
    two.hold_release(1, tenant="acme")
    assert 2 == two.tenant_erase("acme").sessions


def test_a_law_refuses_it(two: SecureStore, tmp_path: Path) -> None:
    """So does a floor that is law."""
    (tmp_path / "law.yaml").write_text(
        "apiVersion: secmem/v1\nkind: Policy\nmetadata: {name: law, version: 1}\nretention:\n  rules:\n"
        '    - {id: keep, basis: {law: "X 1", binding: law, mark: floor}, trigger: item.created, min: P1Y, max: P2Y,'
        " action: delete}\n"
    )
    two.policy_apply(tmp_path / "law.yaml")
    with pytest.raises(RetentionError, match="keep"):
        two.tenant_erase("acme")


def test_another_process_is_told(two: SecureStore, place: Path, elsewhere: Callable[..., str]) -> None:
    """A process that has the tenant open is refused at its next operation, a read where it is asked among them."""
    talk = two.session("one", tenant="acme")
    asyncio.run(talk.get_items())
    asyncio.run(talk.get_items())
    elsewhere("import sys; from secure_memory import SecureStore; SecureStore.open(sys.argv[1]).tenant_erase('acme')", place)
    for _ in range(2):
        with pytest.raises(KeyDestroyedError):
            asyncio.run(talk.get_items())
    with pytest.raises(KeyDestroyedError):
        asyncio.run(talk.add_items([{"role": "user", "content": "x"}]))
    assert [{"role": "user", "content": "of globex"}] == two.session_show("one", tenant="globex")


def test_a_conversation_of_this_process_is_told(two: SecureStore) -> None:
    """One that was open here, too."""
    talk = say(two, "acme", "one", "more")
    asyncio.run(talk.get_items())
    two.tenant_erase("acme")
    with pytest.raises(KeyDestroyedError):
        asyncio.run(talk.get_items())


def test_a_copy_of_the_vault_is_dark(two: SecureStore, place: Path, tmp_path: Path) -> None:
    """A copy of the whole store from before, with today's keyring, does not open the tenant."""
    two.close()
    shutil.copytree(place, tmp_path / "copy")
    with SecureStore.open(place) as store:
        store.tenant_erase("acme")
    shutil.copy(place / "keys.db", tmp_path / "copy" / "keys.db")
    with SecureStore.open(tmp_path / "copy", anchor=tmp_path / "elsewhere") as old:
        with pytest.raises(KeyDestroyedError):
            old.session_show("one", tenant="acme")
        assert 1 == len(old.session_show("one", tenant="globex"))


KILLED = """
import os, signal, sys
from secure_memory import SecureStore
from secure_memory.keys.keyring import Keyring
from secure_memory.lifecycle.erasure.erase_tenant import TenantErasure

path, step, when = sys.argv[1:]
place = TenantErasure if hasattr(TenantErasure, step) else Keyring
real = getattr(place, step)

def dying(*arguments, **named):
    if when == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(place, step, dying)
with SecureStore.open(path) as store:
    store.tenant_erase("acme", reason="contract ended")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["intent", "_archive_and_destroy", "erase", "keys", "rows", "files", "done"])
def test_killed_at_any_step_and_run_again_it_ends_the_same(two: SecureStore, place: Path, step: str, when: str) -> None:
    """However far it came, the second run ends with the archive, no file, and the certificate of the whole."""
    two.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), step, when], capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(place) as store:
        report = store.tenant_erase("acme", reason="contract ended")
        said = report.certificate.statement
        assert ({"message": 2}, 2, 4, 7) == (said["items"], report.sessions, len(said["keys"]), said["tombstones"])
        assert said["archived"]["entries"] == len(ledger_of(store, place))
        assert "tenant.erase" in {entry.action for entry in ledger_of(store, place)}
        assert 1 == len(list(place.glob("vaults/*.db")))
        assert 2 == len(store.audit_verify())


def test_an_archive_that_cannot_be_written_keeps_the_tenant(two: SecureStore, place: Path) -> None:
    """Where the ledger can't be archived nothing is destroyed."""
    (place / "archives").write_text("in the way")
    with pytest.raises(SecureMemoryError, match="archive"):
        two.tenant_erase("acme")
    assert 1 == len(two.session_show("one", tenant="acme"))
    (place / "archives").unlink()
    assert 2 == two.tenant_erase("acme").sessions


def test_usage_that_was_spent_is_certified(two: SecureStore) -> None:
    """What the tenant has spent is in the certificate: its rows are gone with the file."""
    assert {"requests": 0, "input": 0, "output": 0} == two.tenant_erase("acme").certificate.statement["usage"]


def test_in_memory_a_tenant_is_erased_too() -> None:
    """Without files there is nothing to archive or remove, and its keys are gone."""
    with SecureStore.in_memory() as store:
        say(store, "acme", "one", "hello there")
        assert 1 == store.tenant_erase("acme").sessions
        with pytest.raises(KeyDestroyedError):
            store.session_show("one", tenant="acme")
