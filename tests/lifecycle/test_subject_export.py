"""Subject access: all of one person's data, nobody else's, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import stat
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from agents.usage import Usage

from secure_memory.actor import Actor, acting_as
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    KeyDestroyedError,
    StorageError,
)
from secure_memory.lifecycle.backup import backup_set
from secure_memory.store import SecureStore


def add(store: SecureStore, session: str, *texts: str, subject: str = "ana", tenant: str = "acme") -> None:
    with store.session(session, tenant=tenant, subject=subject) as one:
        asyncio.run(one.add_items([{"role": "user", "content": text} for text in texts]))


@pytest.fixture
def told(store: SecureStore) -> SecureStore:
    """A store in which ana has two sessions, one of them with two branches, tags and usage, and bob has one."""
    add(store, "first", "my number is 1", "what else?")
    add(store, "second", "it is me again: Müller")
    add(store, "bobs", "bob's secret", subject="bob")

    async def more() -> None:
        with store.session("first", tenant="acme") as session:
            await session.create_branch_from_turn(2, "retry")
            await session.add_items([{"role": "user", "content": "on another branch"}])
            await session.set_tags(record="complaint")

    asyncio.run(more())
    return store


def read(place: Path, name: str) -> Any:
    return json.loads((place / name).read_text())


def spoken(place: Path, name: str = "conversations/0001.json") -> dict[str, list[str]]:
    return {
        branch["branch"]: [one["item"]["content"] for one in branch["items"]] for branch in read(place, name)["branches"]
    }


def test_everything_of_the_subject(told: SecureStore, tmp_path: Path) -> None:
    """Every session of the subject is there with every branch and tag, and nothing of anyone else."""
    report = told.subject_export("ana", tmp_path / "out", tenant="acme")
    assert (2, 5) == (report.sessions, report.items)
    main = ["my number is 1", "what else?"]
    assert {"main": main, "retry": [*main[:1], "on another branch"]} == spoken(tmp_path / "out")
    subject = read(tmp_path / "out", "subject.json")
    assert ["first", "second"] == [session["session"] for session in subject["sessions"]]
    assert {"record": "complaint"} == subject["sessions"][0]["tags"]
    assert not any("bob" in path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_a_person_can_read_it(told: SecureStore, tmp_path: Path) -> None:
    """A text says what the files are; letters stand as they are written, and files are for their owner alone."""
    told.subject_export("ana", tmp_path / "out", tenant="acme")
    assert 'kept about "ana"' in (tmp_path / "out" / "README.txt").read_text()
    assert "Müller" in (tmp_path / "out" / "conversations" / "0002.json").read_text()
    every = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {0o700, 0o600} == {stat.S_IMODE(path.stat().st_mode) for path in every}


def test_the_manifest_covers_every_file(told: SecureStore, tmp_path: Path) -> None:
    """Counts, the policy in force, and a digest of each file: so that whoever gets it can tell that it is whole."""
    report = told.subject_export("ana", tmp_path / "out", tenant="acme")
    data = (tmp_path / "out" / "manifest.json").read_bytes()
    manifest = json.loads(data)
    assert report.manifest == sha256(data).hexdigest()
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    del found["manifest.json"]
    assert {name: sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == {
        name: said["sha256"] for name, said in manifest["files"].items()
    }
    assert told._shared.policy.digest == manifest["policy"]["sha256"]
    assert {"sessions": 2, "items": 5, "usage": report.usage, "accesses": report.accesses} == manifest["counts"]


def test_who_had_access(told: SecureStore, tmp_path: Path) -> None:
    """Whoever read it is named, with role, purpose and reason; so is the export itself, and nothing about others."""
    with acting_as(Actor("user:maria", ("supervisor",), "quality", "ticket 7")):
        told.review("first", tenant="acme", purpose="quality")
        told.review("bobs", tenant="acme", purpose="gossip")
    report = told.subject_export("ana", tmp_path / "out", tenant="acme")
    accesses = read(tmp_path / "out", "access.json")
    assert report.accesses == len(accesses)
    (review,) = [one for one in accesses if one["action"] == "session.review"]
    assert ("user:maria", ["supervisor"], "quality", "ticket 7", "first") == tuple(
        review[name] for name in ("actor", "roles", "purpose", "reason", "session")
    )
    assert 3 == sum(one["action"] == "subject.export" for one in accesses)
    assert "gossip" not in (tmp_path / "out" / "access.json").read_text()


def test_the_subject_is_called_so(store: SecureStore, tmp_path: Path) -> None:
    """What the subject did is told as such, and the ledger names the subject who asks by uid only."""
    with acting_as("ana"):
        add(store, "first", "hello")
        store.subject_export("ana", tmp_path / "out", tenant="acme")
    assert {"the subject"} == {one["actor"] for one in read(tmp_path / "out", "access.json")}
    exports = store.audit_log(tenant="acme", action="subject.export")
    assert 2 == len(exports)
    assert all(record.entry.actor.startswith("subject:") for record in exports)


def test_usage(store: SecureStore, tmp_path: Path) -> None:
    """What the subject's runs have spent is there, by session and turn."""

    class Wrapper:
        context = None
        usage = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)

    async def run() -> None:
        with store.session("first", tenant="acme", subject="ana") as session:
            await session.add_items([{"role": "user", "content": "hi"}], wrapper=Wrapper())  # type: ignore[arg-type]

    asyncio.run(run())
    report = store.subject_export("ana", tmp_path / "out", tenant="acme")
    (row,) = read(tmp_path / "out", "usage.json")
    assert (1, "first", 15) == (report.usage, row["session"], row["total_tokens"])


def test_what_is_withheld_is_there(told: SecureStore, tmp_path: Path) -> None:
    """What a hold keeps from the agent is kept about the person, so it is in the export, and called withheld."""
    told.hold_place("M-1", tenant="acme", session="second")
    with told.session("second", tenant="acme") as session:
        asyncio.run(session.clear_session())
    told.subject_export("ana", tmp_path / "out", tenant="acme")
    assert {"(withheld)": ["it is me again: Müller"]} == spoken(tmp_path / "out", "conversations/0002.json")


def test_others_are_masked(store: SecureStore, tmp_path: Path) -> None:
    """An address in a conversation is shown as reviewers see it, and as it is kept where that is asked for; both say so."""
    add(store, "first", "write to carl@example.com")
    report = store.subject_export("ana", tmp_path / "out", tenant="acme")
    exact = store.subject_export("ana", tmp_path / "exact", tenant="acme", exact=True)
    assert (True, False) == (report.masked, exact.masked)
    assert "carl" not in (tmp_path / "out" / "conversations" / "0001.json").read_text()
    assert {"main": ["write to carl@example.com"]} == spoken(tmp_path / "exact")
    assert [True, False] == [read(tmp_path / name, "manifest.json")["masked"] for name in ("out", "exact")]
    assert [True, False] == ["masked" in (tmp_path / name / "README.txt").read_text() for name in ("out", "exact")]


def test_one_file(told: SecureStore, tmp_path: Path) -> None:
    """Named .zip, it is one file with the same parts, for its owner alone, and takes the place of an older one whole."""
    told.subject_export("ana", tmp_path / "out", tenant="acme")
    (tmp_path / "ana.zip").write_text("older")
    told.subject_export("ana", tmp_path / "ana.zip", tenant="acme")
    with zipfile.ZipFile(tmp_path / "ana.zip") as archive:
        assert archive.testzip() is None
        assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(
            archive.namelist()
        )
    assert 0o600 == stat.S_IMODE((tmp_path / "ana.zip").stat().st_mode)


def test_it_is_recorded_before_it_is_written(told: SecureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written the ledger says nevertheless that it was asked for, and nothing is left."""

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_set, "write", refuse)
    with pytest.raises(StorageError, match="no space"):
        told.subject_export("ana", tmp_path / "out", tenant="acme")
    assert {"store", "anchors"} == {path.name for path in tmp_path.iterdir()}
    assert told.audit_log(tenant="acme", action="subject.export")


def test_progress(told: SecureStore, tmp_path: Path) -> None:
    """Whoever waits is told of each session."""
    seen: list[tuple[int, int]] = []
    told.subject_export("ana", tmp_path / "out", tenant="acme", progress=lambda *said: seen.append(said))
    assert [(1, 2), (2, 2)] == seen


def test_who_there_is_not(told: SecureStore, tmp_path: Path) -> None:
    """An unknown subject, an unknown tenant, an erased subject and a place that is taken each get their own sentence."""
    with pytest.raises(ConfigurationError, match="no such subject"):
        told.subject_export("carl", tmp_path / "out", tenant="acme")
    with pytest.raises(ConfigurationError, match="no tenant"):
        told.subject_export("ana", tmp_path / "out", tenant="nobody")
    told.subject_erase("bob", tenant="acme")
    with pytest.raises(KeyDestroyedError, match="was erased"):
        told.subject_export("bob", tmp_path / "out", tenant="acme")
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigurationError, match="already"):
        told.subject_export("ana", tmp_path / "out", tenant="acme")


def test_nobody_gets_nothing(place: Path, tmp_path: Path) -> None:
    """Where somebody has to ask, nobody gets an export."""
    with SecureStore.create(place) as store:
        add(store, "first", "hello")
    with SecureStore.open(place, require_actor=True) as store, pytest.raises(AccessDeniedError):
        store.subject_export("ana", tmp_path / "out", tenant="acme")
    assert not (tmp_path / "out").exists()


def test_tampered_memory_is_not_exported(told: SecureStore, tmp_path: Path, insider: Any) -> None:
    """A conversation that was edited is not written as if it were hers; nothing is left."""
    insider("acme").sql("UPDATE items SET sealed = (SELECT sealed FROM items ORDER BY id DESC LIMIT 1)")
    with pytest.raises(IntegrityError):
        told.subject_export("ana", tmp_path / "out", tenant="acme")
    assert not (tmp_path / "out").exists()
