"""`verification.py` and `vault/verify.py`: the whole check finds each thing that can be wrong, and nothing in what is not.

Edits are those of someone who has the vault's key; where the ledger itself is edited, of someone who has its key too. What
even that person can't do unseen is to change what the anchor has seen.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import (
    ConfigurationError,
    IntegrityError,
    KeyDestroyedError,
    KeyNotFoundError,
    RollbackError,
    StorageError,
    TamperedError,
)
from secure_memory.ledger.entry import fields_of
from secure_memory.store import SecureStore

SPAN = 2**31


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def do(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def whole(store: SecureStore) -> SecureStore:
    """Two sessions in one tenant, with items, a pop and a clear behind them."""
    for name in ("maria", "otto"):
        with store.session(name) as session:
            do(session.add_items([user(0)]))
            do(session.clear_session())
            do(session.add_items([user(1), user(2), user(3)]))
            do(session.pop_item())
            do(session.get_items())
    return store


def reopened(store: SecureStore) -> SecureStore:
    """The store as a process has it that knows nothing of before."""
    assert store.path is not None
    store.close()
    return SecureStore.open(store.path)


# ---- what is whole


def test_a_healthy_store(whole: SecureStore) -> None:
    """Every vault is counted, and its anchor agrees; and that it was checked is an entry of each."""
    system, default = whole.audit_verify()
    assert ("(system)", 0, 0, "ok") == (system.tenant, system.sessions, system.items, system.anchor)
    assert ("default", 2, 4, "ok") == (default.tenant, default.sessions, default.items, default.anchor)
    checks = whole.audit_log(action="audit.verify")
    assert {"(system)", "default"} == {record.tenant_name for record in checks}
    (mine,) = [record.entry for record in checks if record.tenant_name == "default"]
    assert {"entries": default.entries, "items": 4} == mine.detail
    assert 64 == len(default.root)


def test_one_tenant_alone(whole: SecureStore) -> None:
    """Where a tenant is named only that one is checked; the system vault may be."""
    whole.tenant_create("acme")
    assert ["acme"] == [report.tenant for report in whole.audit_verify(tenant="acme")]
    assert ["(system)"] == [report.tenant for report in whole.audit_verify(tenant="(system)")]
    assert ["(system)", "acme", "default"] == [report.tenant for report in whole.audit_verify()]


def test_a_store_in_memory() -> None:
    """A store in memory is checked as well; it has no anchor."""
    with SecureStore.in_memory() as store:
        with store.session("u") as session:
            do(session.add_items([user(1)]))
        assert [("(system)", 0, "off"), ("default", 1, "off")] == [
            (r.tenant, r.items, r.anchor) for r in store.audit_verify()
        ]


def test_a_check_holds_up_nobody(whole: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a vault is checked it is written, and progress is told by tenant."""
    monkeypatch.setattr("secure_memory.ledger.verify._PROGRESS_EVERY", 5)
    told: list[tuple[str, int]] = []

    def progress(tenant: str, entries: int) -> None:
        if tenant == "default":
            with whole.session("during") as session:
                do(session.add_items([user(1)]))
        told.append((tenant, entries))

    (report,) = whole.audit_verify(tenant="default", progress=progress)
    assert [("default", n) for n in range(5, report.entries + 1, 5)] == told
    assert 4 == report.items
    assert 4 + len(told) == whole.audit_verify(tenant="default")[0].items


def test_it_can_be_checked_again_and_again(whole: SecureStore) -> None:
    """A check leaves a store that is whole."""
    for _ in range(3):
        whole.audit_verify()
    with reopened(whole) as again:
        again.audit_verify()


# ---- (1) the ledger; (2) the control state

MAIN = "(SELECT branch FROM sessions ORDER BY id LIMIT 1)"
LAST = "(SELECT max(seq) FROM ledger)"

ATTACKS = {
    # (1)
    "a ledger row is gone": "DELETE FROM ledger WHERE seq = 4",
    "a ledger row was edited": "UPDATE ledger SET session = 7 WHERE seq = 4",
    "a ledger row was forged": (
        f"INSERT INTO ledger SELECT seq + 1, branch, session, entry, nodes, root, mac FROM ledger WHERE seq = {LAST}"
    ),
    # (2)
    "the control state was edited": "UPDATE control SET value = x'00' WHERE name = 'policy'",
    "the control state is gone": "DELETE FROM control",
    "the control state is another vault's": "UPDATE control SET value = zeroblob(16) WHERE name = 'vault'",
    # (3)
    "a session's row was edited": "UPDATE sessions SET created = 0 WHERE id = 1",
    "a session's row has a number that none has": "UPDATE sessions SET created = -1 WHERE id = 1",
    "a session's row is gone": "DELETE FROM sessions WHERE id = 1",
    "a session is not known": (
        "INSERT INTO sessions SELECT 9, uid, x'00', subject, branch, 1, 0, sealed, mac FROM sessions LIMIT 1"
    ),
    "a branch's row is gone": f"DELETE FROM branches WHERE id = {MAIN}",
    "a branch's row was edited": f"UPDATE branches SET uid = zeroblob(16) WHERE id = {MAIN}",
    "a branch's name was edited": f"UPDATE branches SET name = x'00' WHERE id = {MAIN}",
    "a branch is another session's": f"UPDATE branches SET session = 2, name = x'00' WHERE id = {MAIN}",
    "a branch is not known": (
        "INSERT INTO branches SELECT 99, session, uid, x'00', sealed, created, mac FROM branches LIMIT 1"
    ),
    # (4)
    "an item is gone": f"DELETE FROM items WHERE id = {SPAN} + 2",
    "the newest item is gone": f"DELETE FROM items WHERE id = {SPAN} + 3",
    "all items are gone": "DELETE FROM items",
    "an item too many": (
        "INSERT INTO items SELECT id + 1, turn, uid, link, kind, role, tool, created, sealed FROM items"
        f" WHERE id = {SPAN} + 3"
    ),
    "a cleared item is back": (
        f"INSERT INTO items SELECT {SPAN} + 1, turn, uid, link, kind, role, tool, created, sealed FROM items LIMIT 1"
    ),
    "an item's turn was edited": f"UPDATE items SET turn = 7 WHERE id = {SPAN} + 2",
    "an item's link was edited": f"UPDATE items SET link = zeroblob(32) WHERE id = {SPAN} + 2",
    # (5)
    "an item was edited": f"UPDATE items SET sealed = zeroblob(99) WHERE id = {SPAN} + 2",
    "an item's kind was edited": f"UPDATE items SET kind = 'reasoning' WHERE id = {SPAN} + 2",
    "an item's role was edited": f"UPDATE items SET role = 'system' WHERE id = {SPAN} + 2",
    "an item's time was edited": f"UPDATE items SET created = -1 WHERE id = {SPAN} + 2",
    "an item's label is no text": f"UPDATE items SET tool = CAST(x'ff' AS TEXT) WHERE id = {SPAN} + 2",
    # (6)
    "items of no branch": (
        f"INSERT INTO items SELECT 77 * {SPAN} + 1, turn, uid, link, kind, role, tool, created, sealed FROM items LIMIT 1"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_wrong_is_found(whole: SecureStore, insider: Callable[..., Any], attack: str) -> None:
    """Each edit is found, in a store that is in use and in one that is opened anew, and is said to be in that tenant."""
    insider().sql(ATTACKS[attack])
    for store in (whole, None):
        with store or reopened(whole) as checked, pytest.raises(IntegrityError, match="tenant 'default'") as raised:
            checked.audit_verify()
        assert raised.value.hint


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("a ledger row is gone", "ledger entry 4 is missing"),
        ("a ledger row was edited", "ledger entry 4 was not written by this vault"),
        ("the control state was edited", "the control state is not what the newest entry says"),
        ("the control state is another vault's", "the control state is another vault's"),
        ("a session's row was edited", "a session's row was edited or moved"),
        ("a branch's row is gone", "the rows of session [0-9a-f]{32} are gone or edited"),
        ("a branch is not known", "there are branches that the ledger does not know"),
        ("an item is gone", "session [0-9a-f]{32}: the item at position 2"),
        ("an item was edited", "session [0-9a-f]{32}: the item at position 2"),
        ("items of no branch", "there are 1 items that the ledger does not know"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(
    whole: SecureStore, insider: Callable[..., Any], attack: str, message: str
) -> None:
    """The message says what and where."""
    insider().sql(ATTACKS[attack])
    with pytest.raises(TamperedError, match=f"^tenant 'default': {message}"):
        whole.audit_verify()


# ---- with the ledger key


def test_a_check_that_failed_is_recorded(whole: SecureStore, insider: Callable[..., Any]) -> None:
    """What was found wrong is an entry of the store's own ledger: the tenant's can't be trusted now."""
    insider().sql("DELETE FROM items WHERE id IN (SELECT max(id) FROM items)")
    with pytest.raises(TamperedError):
        whole.audit_verify()
    failed = [record.entry for record in whole.audit_log(tenant="(system)", action="audit.verify", outcome="failed")]
    assert ["TamperedError"] == [entry.detail["error"] for entry in failed]


def test_a_head_that_was_rewritten(whole: SecureStore, insider: Callable[..., Any]) -> None:
    """A head that someone with every key put into the ledger is compared with the items; its tree, with the anchor."""
    attacker = insider()
    seq = attacker.sql("SELECT max(seq) FROM ledger WHERE branch IS NOT NULL")[0][0]
    head = fields_of(attacker.row(seq).entry)["head"]
    attacker.edit(seq, head={**head, "position": head["position"] - 1})
    with reopened(whole) as again, pytest.raises(IntegrityError):
        again.audit_verify()


def test_a_write_that_is_hidden(whole: SecureStore, insider: Callable[..., Any]) -> None:
    """Neither tree nor anchor know which rows are writes, so a write that hides is looked for: its item goes with it."""
    attacker = insider()
    seq = attacker.sql("SELECT max(seq) FROM ledger WHERE branch = 1")[0][0]
    row = attacker.row(seq)
    attacker.put(row._replace(branch=None))
    with reopened(whole) as again, pytest.raises(TamperedError, match="its row does not say so"):
        again.audit_verify()


def test_an_access_that_is_denied_to_have_been(whole: SecureStore, insider: Callable[..., Any]) -> None:
    """Someone with every key can rewrite who read what, tree and all; the anchor remembers the root."""
    attacker = insider()
    reads = [row[0] for row in attacker.sql("SELECT seq FROM ledger WHERE branch IS NULL ORDER BY seq")]
    attacker.edit(reads[-1], actor="somebody else")
    with reopened(whole) as again, pytest.raises(RollbackError, match="another history"):
        again.audit_verify()


def test_an_end_that_was_cut_off(whole: SecureStore, insider: Callable[..., Any]) -> None:
    """The newest entries, taken away, leave a ledger that is whole in itself; the anchor remembers that it was longer."""
    insider().sql(f"DELETE FROM ledger WHERE seq = {LAST}")
    with pytest.raises(RollbackError):
        whole.audit_verify()
    with reopened(whole) as again, pytest.raises(RollbackError):
        again.audit_verify()


def test_an_end_that_this_process_never_saw(
    whole: SecureStore, insider: Callable[..., Any], place: Path, elsewhere: Callable[..., str]
) -> None:
    """What another process wrote and somebody cut off again is missed by nothing in this one, but by the anchor."""
    attacker = insider()
    size = attacker.newest().seq + 1
    read = "import asyncio, sys; from secure_memory import SecureSession as S; s = S('maria', sys.argv[1])"
    elsewhere(f"{read}; asyncio.run(s.get_items())", place)
    assert size < attacker.newest().seq + 1
    attacker.sql("DELETE FROM ledger WHERE seq >= ?", size)
    with pytest.raises(RollbackError, match="were seen"):
        whole.audit_verify(tenant="default")


# ---- files and keys


@pytest.mark.parametrize("file", ["keys.db", "system.db", "vault"])
def test_every_page_is_checked(whole: SecureStore, place: Path, file: str) -> None:
    """A changed byte in any page is found, by the check or already by opening the store."""
    with whole.session("long") as session:
        do(session.add_items([user("x" * 200_000)]))
        do(session.clear_session())  # which leaves pages that nothing reads
    path = next((place / "vaults").glob("*.db")) if file == "vault" else place / file
    whole.close()
    size = path.stat().st_size
    for page in range(1, size // 4096, max(1, size // 4096 // 5)):
        before = path.read_bytes()
        changed = bytearray(before)
        changed[page * 4096 + 1000] ^= 1
        path.write_bytes(changed)
        with pytest.raises(TamperedError), SecureStore.open(place) as store:
            store.audit_verify()
        for rest in (f"{path}-wal", f"{path}-shm"):
            Path(rest).unlink(missing_ok=True)
        path.write_bytes(before)
        shutil.rmtree(place.parent / "anchors", ignore_errors=True)  # what the failed attempts saw is undone too


def test_keys_that_are_missing_are_no_tampering(whole: SecureStore) -> None:
    """Items whose key was destroyed can't be checked, and that is said as what it is."""
    tenant = whole._shared.tenant("default")
    keys = whole._shared.keyring.session(tenant.keys, tenant.keys.name_mac("session", "maria"))
    assert keys is not None
    whole._shared.keyring.destroy(keys.subject, "subject")
    with pytest.raises(KeyDestroyedError, match="tenant 'default'"):
        whole.audit_verify()
    whole._shared.keyring.destroy(keys.uid, "session")
    with pytest.raises(KeyNotFoundError, match="tenant 'default'"):
        whole.audit_verify()


# ---- anchors


def states(store: SecureStore) -> list[tuple[str, str]]:
    return [(report.tenant, report.state) for report in store.audit_anchor()]


def test_what_the_anchors_say(whole: SecureStore) -> None:
    """For each vault: how far it is known, how many entries there are, and where it is kept."""
    for report in whole.audit_anchor():
        assert ("ok", report.entries) == (report.state, report.seen)
        assert report.durable is not None
        assert report.durable <= report.entries
        assert Path(str(report.path)).is_file()
    with SecureStore.in_memory() as memory:
        assert [("off", None, None, None)] == [(r.state, r.durable, r.seen, r.path) for r in memory.audit_anchor()]


def test_anchors_that_are_missing(whole: SecureStore, place: Path, tmp_path: Path) -> None:
    """A store without its anchors is opened with a warning and a gap in each ledger, which the check says too."""
    whole.close()
    shutil.rmtree(tmp_path / "anchors")
    with SecureStore.open(place) as store:
        assert ["begun anew: anchor missing"] * 2 == [report.anchor for report in store.audit_verify()]
        gaps = [(r.tenant_name, r.entry.detail["why"]) for r in store.audit_log(action="audit.gap")]
        assert [("(system)", "anchor missing"), ("default", "anchor missing")] == sorted(gaps)
    with SecureStore.open(place) as store:
        assert ["ok", "ok"] == [report.anchor for report in store.audit_verify()]


def test_anchors_that_are_required(whole: SecureStore, place: Path, tmp_path: Path) -> None:
    """Where they are required, a store without them is not opened; begun anew by hand, it is, and that is an entry."""
    whole.close()
    shutil.rmtree(tmp_path / "anchors")
    for _ in range(2):
        with pytest.raises(StorageError, match="one is required") as raised:
            SecureStore.open(place, anchor_required=True)
        assert "secmem audit anchor --init" in str(raised.value.hint)
    with SecureStore.open(place) as store:
        store.audit_anchor(begin=True)
        gaps = [r.entry.detail["why"] for r in store.audit_log(tenant="default", action="audit.gap")]
        assert "anchor begun anew" == gaps[-1]
    with SecureStore.open(place, anchor_required=True) as store:
        assert ["ok", "ok"] == [report.anchor for report in store.audit_verify()]


def test_an_anchor_that_was_damaged(whole: SecureStore, place: Path, tmp_path: Path) -> None:
    """A damaged anchor of an open store is told apart from a missing one; an opening takes it for an incident."""
    for file in (tmp_path / "anchors").rglob("*.anchor"):
        file.write_bytes(b"x" * file.stat().st_size)
    assert "unreadable" in {report.anchor for report in whole.audit_verify()} | {state for _, state in states(whole)}
    whole.close()
    for file in (tmp_path / "anchors").rglob("*.anchor"):
        file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(TamperedError, match="damaged"):
        SecureStore.open(place)


def test_a_store_in_memory_can_t_begin_one() -> None:
    """What has no file has no anchor to begin."""
    with SecureStore.in_memory() as store, pytest.raises(ConfigurationError, match="in memory has no anchor"):
        store.audit_anchor(begin=True)


def test_an_older_copy_of_the_whole_store(whole: SecureStore, place: Path, tmp_path: Path) -> None:
    """A backup of everything in the store, put back, is a rollback: the anchors are not in it."""
    whole.close()
    shutil.copytree(place, tmp_path / "backup")
    with SecureStore.open(place) as store, store.session("maria") as session:
        do(session.add_items([user(4)]))
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "backup", place)
    with pytest.raises(RollbackError) as raised:
        SecureStore.open(place)
    assert "secmem restore" in str(raised.value.hint)


def test_an_older_copy_of_one_vault(whole: SecureStore, place: Path, tmp_path: Path) -> None:
    """One tenant's vault, put back alone, is found when it is opened; other tenants go on."""
    whole.tenant_create("acme")
    path = whole._shared.tenant("default").vault.identity.path
    assert path is not None
    whole.close()
    shutil.copy(path, tmp_path)
    with SecureStore.open(place) as store, store.session("maria") as session:
        do(session.get_items())
    shutil.copy(tmp_path / path.name, path)
    with SecureStore.open(place) as store:
        with store.session("maria") as session, pytest.raises(RollbackError, match=r"were (on disk|seen)"):
            do(session.get_items())
        store.audit_verify(tenant="acme")


def test_a_copy_somewhere_else(whole: SecureStore, place: Path) -> None:
    """A copied store is no rollback of anything: it goes its own way, with a gap where its anchors begin."""
    whole.close()
    shutil.copytree(place, place.parent / "copy")
    with SecureStore.open(place) as store, store.session("maria") as session:
        do(session.add_items([user(4)]))
    with SecureStore.open(place.parent / "copy") as copy:
        assert ["begun anew: anchor missing"] * 2 == [report.anchor for report in copy.audit_verify()]
        with copy.session("maria") as session:
            assert [user(1), user(2)] == do(session.get_items())
