"""Erasing a person or a conversation: gone from rows, files, memory and backups; certified; finished after any crash."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import doctor
from secure_memory.accounting import Charge, Run
from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import (
    ConfigurationError,
    KeyDestroyedError,
    KeyManagementError,
    KeyNotFoundError,
    StorageError,
    StoreBusyError,
    TamperedError,
)
from secure_memory.keys.tombstones import FILE
from secure_memory.lifecycle.erasure import searching, traces
from secure_memory.lifecycle.erasure.certificate import Certificate
from secure_memory.lifecycle.erasure.erase import SessionErasure
from secure_memory.store import SecureStore
from secure_memory.tenancy import Asker
from secure_memory.vault import pages, sqlcipher
from secure_memory.vault.usage import Spent

Items = list[dict[str, Any]]
Store = SecureStore


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def say(store: Store, session: str, *texts: str, subject: str | None = "ana") -> SecureSession:
    """Append to a conversation, and return it."""
    one = store.session(session, subject=subject)
    asyncio.run(one.add_items([user(text) for text in texts]))
    return one


def read(session: SecureSession) -> Items:
    return asyncio.run(session.get_items())  # type: ignore[return-value]


@pytest.fixture
def told(store: Store) -> Store:
    """A store in which ana has two conversations, one of them with a branch, and bob has one."""
    talk = say(store, "one", "ana says one", "ana says two " + "x" * 6000)
    asyncio.run(talk.create_branch_from_turn(2, "other"))
    asyncio.run(talk.add_items([user("ana on a branch")]))
    say(store, "two", "ana says three")
    say(store, "three", "bob says one", subject="bob")
    return store


def entries(store: Store, action: str) -> list[dict[str, Any]]:
    return [dict(record.entry.detail) for record in store.audit_log(tenant="default", action=action)]


# ---- a subject ------------------------------------------------------------------------------------------------------


def test_an_erased_person_is_gone(told: Store) -> None:
    """Sessions, items and names are gone; what others have is not; the store is whole."""
    report = told.subject_erase("ana", reason="she asked")
    assert ({"message": 4}, 2, False) == (report.items, report.sessions, report.already)
    assert ["three"] == [info.name for info in told.sessions()]
    assert [user("bob says one")] == told.session_show("three")
    with pytest.raises(ConfigurationError, match="no such session"):
        told.session_show("one")
    assert 1 == told.audit_verify(tenant="default")[0].items


def test_rows_keep_nothing_that_says_who(told: Store, insider: Callable[..., Any]) -> None:
    """Of the sessions stay stubs, under names that are no HMAC of theirs, with nothing sealed."""
    keys = insider().keys
    names = {keys.name_mac("session", name) for name in ("one", "two")}
    told.subject_erase("ana")
    rows = insider().sql("SELECT name, key_version, sealed FROM sessions WHERE key_version = 0")
    assert 2 == len(rows)
    assert not names & {name for name, _, _ in rows}
    assert {(0, b"")} == {row[1:] for row in rows}
    left = insider().sql("SELECT branches.sealed FROM branches JOIN sessions s ON s.id = session WHERE s.key_version = 0")
    assert {(b"",)} == set(left)


def test_each_step_is_an_entry(told: Store) -> None:
    """The ledger says when it was begun, that keys were destroyed, and the digest of the certificate; and why."""
    report = told.subject_erase("ana", reason="request 17")
    stages = [detail["stage"] for detail in entries(told, "subject.erase") if "stage" in detail]
    assert ["begun", "rows", "files", "done"] == stages
    assert [(3, 3)] == [(detail["keys"], detail["listed"]) for detail in entries(told, "key.destroy")]
    assert report.certificate.digest == entries(told, "subject.erase")[-1]["certificate"]
    reasons = {record.entry.reason for record in told.audit_log(tenant="default", action="subject.erase")}
    assert {"request 17"} == reasons


def test_the_list_beside_the_anchors_has_every_key(told: Store, tmp_path: Path) -> None:
    """Each destroyed key is listed where a restore finds it."""
    report = told.subject_erase("ana")
    (place,) = tmp_path.glob(f"anchors/*/{FILE}")
    listed = told._shared.keyring.tombstones_at(place).read()
    stated = {(key["owner"], key["purpose"], key["version"]) for key in report.certificate.statement["keys"]}
    assert stated == {(stone.owner.hex(), stone.purpose, stone.version) for stone in listed}
    assert 3 == len(stated)


def test_no_byte_of_it_is_left_in_any_page(told: Store, insider: Callable[..., Any]) -> None:
    """Neither sealed items nor wrapped keys stand in a used or a free page of the files, nor in their WALs."""
    sealed = [row[0] for row in insider().sql("SELECT sealed FROM items")]
    keyring, path = told._shared.keyring, insider().path
    ana = keyring.subject(insider().keys, insider().keys.name_mac("subject", "ana"))
    wrapped = [key.wrapped for key in keyring.held(subject=ana)]
    pieces = [piece[3:27] for piece in sealed] + [piece[1:25] for piece in wrapped]
    files = [(path, insider().keys.vault_key.bytes), (told._shared.path_of_keys, keyring.file_key())]
    before = searching.search(files, pieces)
    assert len(pieces) == len(before.found)  # so the check below can fail
    told.subject_erase("ana")
    after = searching.search(files, pieces)
    bobs = [piece for number, piece in enumerate(pieces) if number in after.found]
    assert 1 == len(bobs)


def test_an_erasure_that_finds_a_trace_says_so(told: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a byte of it still stands in the files, no certificate is given."""
    kept: list[bytes] = []
    real = traces.gather

    def gather(tx: Any, rows: Any, held: Any) -> list[bytes]:
        kept.extend(real(tx, rows, held))
        (bobs,) = tx.execute("SELECT substr(sealed, 4, 24) FROM items ORDER BY id DESC LIMIT 1").fetchone()
        return [*kept, bobs]  # which nobody erases

    monkeypatch.setattr(traces, "gather", gather)
    with pytest.raises(TamperedError, match=r"1 of \d+ erased pieces still stand"):
        told.subject_erase("ana")


# ---- who comes back, who is unknown, who was erased before ----------------------------------------------------------


def test_a_person_who_returns_is_someone_else(told: Store) -> None:
    """Under the same names there are new uids and new keys, and nothing of before."""
    before = told.subject_erase("ana")
    talk = say(told, "one", "ana is back")
    assert [user("ana is back")] == read(talk)
    after = told.subject_erase("ana")
    assert not after.already
    assert before.certificate.statement["subject"] != after.certificate.statement["subject"]
    assert not set(before.certificate.statement["sessions"]) & set(after.certificate.statement["sessions"])


def test_erasing_twice_gives_the_same_certificate(told: Store) -> None:
    """The second time says that it was done, and shows what was said then."""
    first = told.subject_erase("ana", reason="request 17")
    second = told.subject_erase("ana", reason="again")
    assert (False, True) == (first.already, second.already)
    assert first.certificate == second.certificate


@pytest.mark.parametrize("kind", ["subject", "session"])
def test_someone_unknown_is_an_error(told: Store, kind: str) -> None:
    """A name that nobody has or had is said to be unknown, and nothing is recorded as erased."""
    with pytest.raises(ConfigurationError, match=f"no such {kind}"):
        getattr(told, f"{kind}_erase")("nobody")
    assert [] == entries(told, "key.destroy")


def test_a_name_is_needed(store: Store) -> None:
    """An empty name is a bad argument."""
    with pytest.raises(ValueError, match="has a name"):
        store.subject_erase("")


# ---- one session ----------------------------------------------------------------------------------------------------


def test_one_session_is_erased_alone(told: Store) -> None:
    """Her other conversation stays, and so does her key."""
    report = told.session_erase("one")
    assert ({"message": 3}, 1) == (report.items, report.sessions)
    assert [user("ana says three")] == told.session_show("two")
    assert {"session"} == {key["purpose"] for key in report.certificate.statement["keys"]}
    assert ["three", "two"] == [info.name for info in told.sessions()]
    assert 2 == told.audit_verify(tenant="default")[0].items
    assert told.session_erase("one").already


def test_a_session_that_moved_to_another_is_not_erased_with_the_first(told: Store) -> None:
    """Whose it is now counts: her erasure leaves alone what was assigned to bob, and his takes it."""
    talk = told.session("two", subject="ana")
    asyncio.run(talk.assign_subject("bob"))
    told.subject_erase("ana")
    assert [user("ana says three")] == told.session_show("two")
    assert 2 == told.subject_erase("bob").sessions


# ---- usage ----------------------------------------------------------------------------------------------------------


def test_usage_still_adds_up(store: Store) -> None:
    """What an erased person has spent stays in the totals, under nobody's name."""
    for session, subject, tokens in (("one", "ana", 30), ("two", "ana", 4), ("three", "bob", 5)):
        with store.session(session, subject=subject) as talk:
            spent = Spent(1, tokens, 0, tokens, None, None)
            asyncio.run(talk._conversation.append_charged([user("x")], Charge(Run(), spent, [spent], "m"), Asker(None)))
    store.subject_erase("ana")
    store.session_erase("three")
    say(store, "three", "bob is back", subject="bob")
    totals = {total.subject: total.total_tokens for total in store.usage(by="subject")}
    assert {"(erased)": 39} == totals
    assert {("(erased)", "m"): 39} == {
        (one.session, one.model): one.total_tokens for one in store.usage(by=("session", "model"))
    }
    assert 39 == store.usage()[0].total_tokens
    assert "ok" == store.audit_verify(tenant="default")[0].anchor


# ---- other processes ------------------------------------------------------------------------------------------------

ERASE = "import sys; from secure_memory import SecureStore\nwith SecureStore.open(sys.argv[1]) as s: s.{0}"


def test_who_still_holds_the_key_is_refused(told: Store, place: Path, elsewhere: Callable[..., str]) -> None:
    """Another process erases: the next operation here raises, what was remembered is gone, and the one after begins anew."""
    talk = told.session("one")
    assert 2 == len(read(talk))
    elsewhere(ERASE.format("subject_erase('ana')"), place)
    with pytest.raises(KeyDestroyedError, match="was erased"):
        read(talk)
    assert [] == read(talk)
    asyncio.run(talk.add_items([user("new")]))
    assert [user("new")] == read(talk)


def test_a_write_after_the_erasure_is_refused(told: Store, place: Path, elsewhere: Callable[..., str]) -> None:
    """Nothing is ever sealed with a destroyed key."""
    talk = told.session("one")
    read(talk)
    elsewhere(ERASE.format("session_erase('one')"), place)
    with pytest.raises(KeyDestroyedError):
        asyncio.run(talk.add_items([user("too late")]))
    told.audit_verify(tenant="default")


def test_a_session_that_begins_while_its_subject_is_erased_is_refused(told: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were made just before the erasure, of a session that the vault does not know yet, are not used after it."""
    door = told.session("new", subject="ana")
    keyring = told._shared.keyring
    real = keyring.create_session

    def create(*arguments: Any) -> Any:
        made = real(*arguments)
        told.subject_erase("ana")
        return made

    monkeypatch.setattr(keyring, "create_session", create)
    with pytest.raises(KeyDestroyedError):
        asyncio.run(door.add_items([user("between")]))
    told.audit_verify(tenant="default")


# ---- crashes --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from secure_memory import SecureStore
from secure_memory.lifecycle.erasure.erase import SessionErasure

path, step, when = sys.argv[1:]
real = getattr(SessionErasure, step)

def dying(self, *arguments, **named):
    if when == "after":
        real(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(SessionErasure, step, dying)
with SecureStore.open(path) as store:
    store.subject_erase("ana", reason="request 17")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["intent", "withheld", "keys", "_empty_next", "rows", "files", "done"])
def test_killed_at_any_step_and_run_again_it_ends_the_same(told: Store, place: Path, step: str, when: str) -> None:
    """However far it came, the second run erases what is left and certifies the whole."""
    told.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), step, when], capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(place) as store:
        report = store.subject_erase("ana", reason="request 17")
        said = report.certificate.statement
        assert ({"message": 4}, 2, 3) == (said["items"], len(said["sessions"]), len(said["keys"]))
        assert (4 + 3, 0) == (said["searched"]["traces"], said["searched"]["found"])
        assert ["three"] == [info.name for info in store.sessions()]
        assert 1 == store.audit_verify(tenant="default")[0].items
        assert report.certificate == store.subject_erase("ana").certificate


def test_doctor_tells_of_an_interrupted_erasure(told: Store, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks after the store sees that one was begun and not finished, and nothing when it is."""

    def found() -> list[str]:
        return [check.state for check in doctor.examine(place).checks if check.name == "erasure"]

    def stop(*_: Any) -> None:
        raise StorageError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(SessionErasure, "files", stop)
        with pytest.raises(StorageError, match="stopped here"):
            told.subject_erase("ana")
    assert ["warn"] == found()
    told.subject_erase("ana")
    assert [] == found()


# ---- trouble --------------------------------------------------------------------------------------------------------


def test_nothing_is_destroyed_where_it_could_not_be_listed(told: Store, tmp_path: Path) -> None:
    """Where the list beside the anchors can't be written, no key goes; when it can, the erasure is finished."""
    (place,) = tmp_path.glob("anchors/*/")
    (place / FILE).mkdir()
    with pytest.raises(StorageError, match="tombstones"):
        told.subject_erase("ana")
    assert [user("ana says three")] == told.session_show("two")
    (place / FILE).rmdir()
    assert {"message": 4} == told.subject_erase("ana").items


def test_a_reader_of_the_wal_is_waited_for(
    told: Store, insider: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process reads the WAL for too long the erasure is not certified; afterwards it is finished."""
    monkeypatch.setattr("secure_memory.vault.wal.TRUNCATE_SECONDS", 0.05)
    reader = sqlcipher.connect(insider().path, insider().keys.vault_key.bytes + insider().keys.vault)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        with pytest.raises(StoreBusyError, match="still reads the WAL"):
            told.subject_erase("ana")
    finally:
        reader.close()
    assert not told.subject_erase("ana").already


def test_an_edited_row_of_an_erasure_is_noticed(told: Store, insider: Callable[..., Any]) -> None:
    """Whoever edits what an erasure says is found when it is asked."""
    told.subject_erase("ana")
    insider().sql("UPDATE erasures SET said = replace(said, 'begun', 'begum')")
    with pytest.raises(TamperedError, match="erasure 1 was edited"):
        told.subject_erase("ana")


def test_items_put_back_into_an_erased_session_are_found(told: Store, insider: Callable[..., Any]) -> None:
    """A row that is put back below a stub is one that the ledger does not know."""
    (row,) = insider().sql("SELECT * FROM items ORDER BY id LIMIT 1")
    told.subject_erase("ana")
    insider().sql("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
    with pytest.raises(TamperedError):
        told.audit_verify(tenant="default")


@pytest.mark.parametrize("how", ["end dropped", "edited"])
def test_a_list_that_lost_its_end_is_noticed(told: Store, tmp_path: Path, how: str) -> None:
    """The whole check compares the list beside the anchors with what the vaults say of its length."""
    told.subject_erase("ana")
    told.audit_verify()
    (place,) = tmp_path.glob(f"anchors/*/{FILE}")
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join(lines[:-1] if how == "end dropped" else [lines[0].replace(b" 1 ", b" 2 "), *lines[1:]]))
    with pytest.raises(TamperedError):
        told.audit_verify()


def test_two_who_erase_the_same_do_not_undo_each_other(told: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second while another goes on is told so, and the erasure is finished once."""
    real = SessionErasure.rows

    def rows(self: SessionErasure, erasure: Any) -> Any:
        monkeypatch.setattr(SessionErasure, "rows", real)
        assert {"message": 4} == told.subject_erase("ana").items  # the other one, meanwhile
        return real(self, erasure)

    monkeypatch.setattr(SessionErasure, "rows", rows)
    with pytest.raises(StoreBusyError, match="somebody else is erasing"):
        told.subject_erase("ana")
    assert {"message": 4} == told.subject_erase("ana").items


# ---- backups --------------------------------------------------------------------------------------------------------


def test_a_copy_from_before_with_a_later_keyring_cannot_be_read(told: Store, place: Path, tmp_path: Path) -> None:
    """A vault's backup from before the erasure is dark under the keyring's backup from after it, whoever's data is left is
    not; and no wrapped key of hers is in that keyring."""
    with told._shared.tenant("default").vault.database.snapshot() as execute:
        assert 6 == execute("SELECT count(*) FROM items").fetchone()[0]
    told.close()
    shutil.copytree(place, tmp_path / "before")
    with SecureStore.open(place) as store:
        store.subject_erase("ana")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "before", copy)
    for file in ("keys.db", "store.json"):
        shutil.copy(place / file, copy / file)
    with SecureStore.open(copy, anchor=tmp_path / "other") as old:
        assert [user("bob says one")] == old.session_show("three")
        for name in ("one", "two"):
            with pytest.raises((KeyManagementError, ConfigurationError)):
                old.session_show(name)
        with pytest.raises(KeyNotFoundError):
            old.audit_verify(tenant="default")
        uid = old._shared.tenant("default").keys
        assert None is old._shared.keyring.subject(uid, uid.name_mac("subject", "ana"))


def test_in_memory_there_are_no_files_to_search() -> None:
    """A store in memory erases too, and its certificate says that no file was searched."""
    with SecureStore.in_memory() as store:
        say(store, "one", "x")
        report = store.subject_erase("ana")
        assert 0 == report.certificate.statement["searched"]["pages"]
        assert "there are no files to search" in report.certificate.text()


# ---- searching ------------------------------------------------------------------------------------------------------


def test_pages_by_hand_are_what_sql_says(told: Store, insider: Callable[..., Any]) -> None:
    """The search reads what stands in the file, page by page: what SQL returns is there."""
    told._shared.tenant("default").vault.database.checkpoint()
    found = pages.found_in(insider().path, insider().keys.vault_key.bytes, [b"CREATE TABLE sessions", b"no such bytes"])
    assert {0} == found[1]
    assert found[0] >= os.stat(insider().path).st_size // 4096


def test_a_search_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Where a file can't be read, nobody is told that nothing was found."""
    with pytest.raises(StorageError, match="could not be searched"):
        searching.search([(tmp_path / "missing.db", bytes(32))], [b"x"])


# ---- the certificate ------------------------------------------------------------------------------------------------


def test_a_certificate_is_checked_with_the_file_alone_and_with_the_store(told: Store, tmp_path: Path) -> None:
    """The file tells that nothing was changed; the store, that it is its own."""
    file = tmp_path / "ana.json"
    file.write_text(told.subject_erase("ana").certificate.to_json())
    assert Certificate.read(file) == told.certificate_verify(file)
    with SecureStore.in_memory() as other, pytest.raises(TamperedError, match="another key"):
        other.certificate_verify(file)


@pytest.mark.parametrize(("old", "new"), [('"message": 4', '"message": 3'), ("request 17", "request 18")])
def test_a_changed_certificate_is_refused(told: Store, tmp_path: Path, old: str, new: str) -> None:
    """A number or a word that was changed after signing is noticed."""
    file = tmp_path / "ana.json"
    text = told.subject_erase("ana", reason="request 17").certificate.to_json()
    file.write_text(text.replace(old, new))
    with pytest.raises(TamperedError, match="not what was signed"):
        Certificate.read(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"statement": {"format": "x"}}', '{"statement": []}'])
def test_what_is_no_certificate_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    """Any other file is refused in words."""
    (tmp_path / "x").write_text(text)
    with pytest.raises(ConfigurationError, match="no certificate"):
        Certificate.read(tmp_path / "x")


def test_a_certificate_says_no_name(told: Store) -> None:
    """Neither the person's name nor a session's stands in it: it may be given away."""
    certificate = told.subject_erase("ana").certificate
    for text in (certificate.to_json(), certificate.text()):
        assert "ana" not in text.replace("another", "")
        assert "one" not in text.split()
        assert "says" not in text


def test_what_a_person_reads_says_what_matters(told: Store) -> None:
    """The text says what was erased, how, what was kept and what backups still hold, in lines that fit a page."""
    text = told.subject_erase("ana").certificate.text()
    for part in ("WHAT WAS ERASED", "4 items", "HOW", "AES-256-GCM", "WHAT WAS KEPT", "Nothing of it was kept", "BACKUPS"):
        assert part in text
    assert "No date is given" in " ".join(text.split())
    assert 95 >= max(map(len, text.splitlines()))


ARCHIVED = """
apiVersion: secmem/v1
kind: Policy
metadata: {name: archived, version: 1}
retention: {rules: [{id: records, select: {kind: [message]}, max: P1D, action: archive}]}
"""


def test_an_interrupted_erasure_is_no_tampering(told: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its keys and its rows a store is whole and can be verified and purged: what no key opens is proven in its
    place, and the erasure, run again, deletes it."""

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SessionErasure, "rows", dies)
        with pytest.raises(KeyboardInterrupt):
            told.subject_erase("ana")
    assert [6] == [report.items for report in told.audit_verify(tenant="default")]
    told.purge(apply=True)
    told.subject_erase("ana")
    assert [1] == [report.items for report in told.audit_verify(tenant="default")]


def test_archives_are_named(told: Store, tmp_path: Path, noon: Any) -> None:
    """What was archived before is not erased: the certificate names the files, and does not say that nothing is kept; it
    names none that is only about others, and for one session only that session's. So does what she gets of her data."""
    (tmp_path / "policy.yaml").write_text(ARCHIVED)
    told.policy_apply(tmp_path / "policy.yaml")
    noon.now += 400 * 86_400_000_000
    (file,) = told.purge(apply=True, max_clock_jump="any").done.archives  # type: ignore[union-attr]
    say(told, "four", "carl says one", subject="carl")
    told.subject_export("ana", tmp_path / "ana")
    assert [Path(file).name] == json.loads((tmp_path / "ana" / "subject.json").read_text())["archives"]
    for report in (told.session_erase("one"), told.subject_erase("ana")):
        assert [Path(file).name] == report.certificate.statement["archives"]
        text = report.certificate.text()
        assert Path(file).name in text
        assert "Nothing of it was kept" not in text
    assert [] == told.subject_erase("carl").certificate.statement["archives"]
