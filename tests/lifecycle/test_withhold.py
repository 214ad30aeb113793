"""What an erasure may not delete yet: kept under other keys, read by one role, named in the certificate."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.actor import acting_as
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    KeyDestroyedError,
)
from secure_memory.policy.durations import parse
from secure_memory.store import SecureStore

HELD = {"role": "user", "content": "said before the claim"}
FREE = {"role": "user", "content": "said after the claim"}
FLOOR = """
apiVersion: secmem/v1
kind: Policy
metadata: {name: broker, version: 1}
retention:
  rules:
    - id: broker-communications
      basis: {law: "17 CFR 240.17a-4(b)(4)", binding: law, mark: floor}
      select: {role: [assistant]}
      trigger: item.created
      min: P3Y
      max: P4Y
      action: delete
"""


def add(store: SecureStore, session: str, *items: dict[str, Any], subject: str = "ana") -> None:
    """Append to a conversation."""
    asyncio.run(store.session(session, subject=subject).add_items(list(items)))  # type: ignore[arg-type]


@pytest.fixture
def claimed(store: SecureStore, noon: Any) -> SecureStore:
    """Two conversations of ana's; what was said in one of them before a claim is held."""
    add(store, "one", HELD)
    noon.now += 1000
    store.hold_place("M-14", subject="ana", until=noon.now)
    add(store, "one", FREE)
    add(store, "two", FREE)
    return store


def test_what_is_held_is_kept_and_the_rest_erased(claimed: SecureStore) -> None:
    """The certificate says what is kept and for which matter; everything else is gone, and the store is whole."""
    report = claimed.subject_erase("ana")
    (kept,) = report.withheld
    assert ("held", ["M-14"], 1) == (kept["why"], list(kept["matters"]), kept["items"])
    assert {"message": 2} == report.items
    assert "legal hold M-14; until the hold is released" in " ".join(report.certificate.text().split())
    assert 1 == claimed.audit_verify(tenant="default")[0].items


def test_who_may_export_reads_what_is_withheld_and_nobody_else(claimed: SecureStore) -> None:
    """It is found by nobody's session id, and read by uid under `subject.export`."""
    (kept,) = claimed.subject_erase("ana").withheld
    with pytest.raises(ConfigurationError, match="no such session"):
        claimed.session_show("one")
    assert [HELD] == claimed.subject_withheld(kept["session"])
    assert ["withheld " + kept["session"][:8]] == [info.name for info in claimed.sessions()]
    assert {"(erased)"} == {info.subject for info in claimed.sessions()}
    with pytest.raises(ConfigurationError, match="withholds nothing"):
        claimed.subject_withheld("00" * 16)


def test_the_hold_still_holds(claimed: SecureStore) -> None:
    """The session keeps the uid of its subject, by which the hold is about it."""
    (kept,) = claimed.subject_erase("ana").withheld
    (hold,) = claimed.hold_list()
    rows = [info for info in claimed.sessions() if info.uid == kept["session"]]
    assert 1 == len(rows)
    row = claimed._shared.tenant("default").vault.database
    with row.snapshot() as execute:
        (subject,) = execute("SELECT hex(subject) FROM sessions WHERE uid = ?", (bytes.fromhex(kept["session"]),)).fetchone()
    assert hold.matter == "M-14"
    assert claimed.subject_erase("ana").certificate.statement["subject"] == subject.lower()


def test_the_old_keys_are_destroyed(claimed: SecureStore) -> None:
    """What is kept lives under a new version, below another subject; the old versions are listed as destroyed."""
    (kept,) = (report := claimed.subject_erase("ana")).withheld
    destroyed = {(key["owner"], key["version"]) for key in report.certificate.statement["keys"]}
    assert (kept["session"], 1) in destroyed
    assert (kept["session"], 2) not in destroyed
    held = claimed._shared.keyring.held(session=bytes.fromhex(kept["session"]))
    assert [2] == [key.version for key in held]


@pytest.mark.parametrize("kind", ["subject", "session"])
def test_where_all_of_it_is_held_all_is_withheld(store: SecureStore, kind: str) -> None:
    """A request that a hold defers whole counts: the agent sees nothing of it, the privacy role all of it, the certificate
    says which matter keeps it, and once the hold is released the purge deletes it without being asked again."""
    add(store, "one", HELD, FREE)
    store.hold_place("M-14", subject="ana")
    report = store.subject_erase("ana") if kind == "subject" else store.session_erase("one")
    assert (True, {}) == (report.all_withheld, dict(report.items))
    (kept,) = report.withheld
    assert ("held", ["M-14"], None, 2) == (kept["why"], kept["matters"], kept["until"], kept["items"])
    assert [] == asyncio.run(store.session("one", subject="ana").get_items())
    assert [HELD, FREE] == store.subject_withheld(kept["session"])
    for part in ("Nothing could be deleted yet", "2 items of session", "legal hold M-14; until the hold is released"):
        assert part in " ".join(report.certificate.text().split())
    assert (0, 2) == ((planned := store.purge(max_clock_jump="any")).count("delete"), planned.count("held"))
    store.hold_release(1)
    assert 2 == store.purge(apply=True, max_clock_jump="any").done.deleted  # type: ignore[union-attr]
    again = store.subject_erase("ana") if kind == "subject" else store.session_erase("one")
    assert (True, 0, False) == (again.already, again.left, again.all_withheld)
    assert [0] == [one.withheld for one in store.subject_erased(tenant="default")]
    store.audit_verify()


def test_it_is_said_once_for_many_items(store: SecureStore, tmp_path: Path, noon: Any) -> None:
    """Items whose floors end at different times are one line of the certificate, with the day of the last of them."""
    (tmp_path / "broker.yaml").write_text(FLOOR)
    store.policy_apply(tmp_path / "broker.yaml")
    for _ in range(3):
        noon.now += 86_400_000_000
        add(store, "one", {"role": "assistant", "content": "buy"})
    (kept,) = store.subject_erase("ana").withheld
    assert (3, clock.rfc3339(parse("P3Y").after(noon()))) == (kept["items"], kept["until"])


def test_a_foreign_law_is_said_with_its_day(store: SecureStore, tmp_path: Path) -> None:
    """A law of another jurisdiction keeps it until a person decides: the certificate says so, and when that law ends."""
    (tmp_path / "broker.yaml").write_text(FLOOR.replace("binding: law", "binding: law, jurisdiction: US"))
    store.policy_apply(tmp_path / "broker.yaml")
    add(store, "one", {"role": "assistant", "content": "buy"})
    report = store.subject_erase("ana")
    (kept,) = report.withheld
    assert ("conflict", True) == (kept["why"], kept["until"] is not None)
    assert "a law of another jurisdiction: a person has to decide" in " ".join(report.certificate.text().split())


def test_a_law_defers_an_erasure(store: SecureStore, tmp_path: Path) -> None:
    """A floor that is law keeps what it is about, until the day it says; the rest is erased."""
    (tmp_path / "broker.yaml").write_text(FLOOR)
    store.policy_apply(tmp_path / "broker.yaml")
    add(store, "one", {"role": "assistant", "content": "buy"}, FREE)
    (kept,) = store.subject_erase("ana").withheld
    assert ("deferred", ["broker-communications: 17 CFR 240.17a-4(b)(4)"], 1) == (
        kept["why"],
        list(kept["rules"]),
        kept["items"],
    )
    assert kept["until"].endswith("Z")


def test_one_session_is_withheld_alone(claimed: SecureStore) -> None:
    """The erasure of one session keeps what is held of it, and leaves her other one."""
    report = claimed.session_erase("one")
    assert ({"message": 1}, 1) == (report.items, report.withheld[0]["items"])
    assert [HELD] == claimed.subject_withheld(report.withheld[0]["session"])
    assert [FREE] == claimed.session_show("two")
    claimed.audit_verify(tenant="default")


def test_who_talks_on_is_refused(claimed: SecureStore, place: Path, elsewhere: Callable[..., str]) -> None:
    """The agent that holds a withheld session's old keys can't go on with it."""
    talk = claimed.session("one")
    asyncio.run(talk.get_items())
    elsewhere("import sys; from secure_memory import SecureStore; SecureStore.open(sys.argv[1]).subject_erase('ana')", place)
    with pytest.raises(KeyDestroyedError):
        asyncio.run(talk.add_items([FREE]))  # type: ignore[list-item]


def test_it_is_for_those_who_may_export(claimed: SecureStore, tmp_path: Path, place: Path) -> None:
    """Whoever has a role without `subject.export` is refused."""
    (kept,) = claimed.subject_erase("ana").withheld
    (tmp_path / "roles.yaml").write_text(
        "apiVersion: secmem/v1\nkind: Policy\nmetadata: {name: roles, version: 1}\n"
        "access: {roles: {agent: {allow: [session.read]}, owner: {allow: [policy.apply, subject.export]}},"
        ' members: {"user:maria": [agent], "service:*": [owner]}}\n'
    )
    claimed.policy_apply(tmp_path / "roles.yaml")
    with SecureStore.open(place, actor="user:maria") as other, pytest.raises(AccessDeniedError):
        other.subject_withheld(kept["session"])


KILLED = """
import os, signal, sys
from secure_memory import SecureStore
from secure_memory.lifecycle.erasure import withhold
from secure_memory.lifecycle.erasure.erase import SessionErasure

path, where = sys.argv[1:]
real = withhold.move

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def move(*arguments):
    real(*arguments)
    die()

if where == "keys":
    SessionErasure.keys = die
else:
    withhold.move = move if where == "inside" else die
with SecureStore.open(path) as store:
    store.subject_erase("ana")
"""


@pytest.mark.parametrize("where", ["before", "inside", "keys"])
def test_killed_while_it_withholds_it_ends_the_same(claimed: SecureStore, place: Path, where: str) -> None:
    """Before the move, in its transaction and after it: what is held is kept once, and once only."""
    claimed.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), where], capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(place) as store:
        report = store.subject_erase("ana")
        (kept,) = report.withheld
        assert ({"message": 2}, 1) == (report.items, kept["items"])
        assert [HELD] == store.subject_withheld(kept["session"])
        assert 1 == store.audit_verify(tenant="default")[0].items


@pytest.mark.parametrize("first", [None, "one"])
def test_what_tokens_stand_for_is_kept_with_them(store: SecureStore, insider: Callable[..., Any], first: str | None) -> None:
    """A card number in what a hold keeps is part of it: whoever may reveal it still can, also when her session was erased
    before she was; what tokens in erased items stood for is gone; and it all goes with the last item."""
    add(store, "one", {"role": "user", "content": "my card is 4111 1111 1111 1111"})
    add(store, "two", {"role": "user", "content": "my card is 5500 0000 0000 0004"})
    (token,) = re.findall("CARD_NUMBER_[a-z2-7]{16}", str(store.session_show("one")))
    (gone,) = re.findall("CARD_NUMBER_[a-z2-7]{16}", str(store.session_show("two")))
    store.hold_place("M-14", session="one")
    if first is not None:
        store.session_erase(first)
    assert 1 == store.subject_erase("ana").certificate.statement["tokens"]
    for _ in range(2):
        store.purge(apply=True, max_clock_jump="any")
        with acting_as("user:maria", reason="court order"):
            assert "4111 1111 1111 1111" == store.reveal(token)
            with pytest.raises(ValueError, match="token"):
                store.reveal(gone)
    store.hold_release(1)
    store.purge(apply=True, max_clock_jump="any")
    assert [(0,)] == insider().sql("SELECT count(*) FROM tokens")
    store.audit_verify()
