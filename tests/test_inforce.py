"""`inforce.py`: one policy governs a store, every vault of it, every process; and what it does not allow, nobody does."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agents import RunContextWrapper, SQLiteSession, Usage

from secure_memory import SecureSession, audit, inforce, service, shared
from secure_memory.actor import Actor, acting_as
from secure_memory.errors import AccessDeniedError, RollbackError, StoreVersionError, TamperedError
from secure_memory.inforce import InForce, StalePolicyError
from secure_memory.lifecycle.purge.archive import ArchiveWriter
from secure_memory.policy.model import Policy
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher
from secure_memory.vault.control import Control
from secure_memory.vault.transaction import Transaction

OWNER: dict[str, Any] = {"roles": {"owner": {"allow": ["*"]}}, "members": {"user:owner": ["owner"]}}
EVERYONE: dict[str, Any] = {**OWNER, "members": {"*": ["owner"]}}


def policy(access: dict[str, Any] = EVERYONE, **parts: Any) -> Policy:
    """A policy with these parts, which lets everybody do everything if nothing else is said."""
    return Policy.model_validate({"metadata": {"name": "house"}, "access": access, **parts})


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def denials(store: SecureStore) -> list[tuple[str, str]]:
    """Who was denied what, in every ledger of the store."""
    found = store.audit_log(action="access.denied")
    assert {"denied"} >= {record.entry.outcome for record in found}
    return [(record.entry.actor, record.entry.detail["during"]) for record in found]


# ---- a policy that is in force


def test_a_policy_stands_as_it_was_put_in_force() -> None:
    """What a control state says of a policy gives that policy back, with its number, whole in the system vault only."""
    one = InForce(policy(audit={"durability": "full"}), 7)
    found = inforce.of_system(Control.of(one.control(whole=True)))
    assert found is not None
    assert (one.policy, 7, one.digest, one.stamp, True) == (
        found.policy,
        found.number,
        found.digest,
        found.stamp,
        found.durable_reads,
    )
    assert one.policy.digest == one.digest
    assert {"policy": one.stamp} == one.control(whole=False)
    assert inforce.of_system(Control.of(one.control(whole=False))) is None
    assert "<InForce house 7>" == repr(one)


@pytest.mark.parametrize("row", ["policy", "policy_text"])
def test_another_policy_than_was_applied_is_tampering(row: str) -> None:
    """A text whose SHA-256 is another one, or that is no policy, is not taken for the policy in force."""
    rows = InForce(policy(), 1).control(whole=True)
    others = InForce(policy(OWNER), 1).control(whole=True)
    for value in (others[row], b"{}"):
        with pytest.raises(TamperedError, match="not the one that was applied"):
            inforce.of_system(Control.of({**rows, row: value}))


def test_a_policy_of_a_later_version_is_no_tampering() -> None:
    """A policy that says what this version does not know was applied by a later one: to be upgraded, and no incident."""
    later = InForce(policy(), 1, policy().canonical()[:-1] + b',"zones":{}}')
    with pytest.raises(StoreVersionError, match="written by a newer secure-memory"):
        inforce.of_system(Control.of(later.control(whole=True)))


class Vault:
    """A vault's control state, as `govern` writes it."""

    def __init__(self, known: InForce | None) -> None:
        self.control = Control.of({} if known is None else known.control(whole=False))
        self.said: list[Any] = []

    def set_control(self, name: str, value: bytes) -> None:
        self.control = self.control.with_row(name, value)

    def record(self, fields: Any) -> None:
        self.said.append(fields)


@pytest.mark.parametrize(("has", "ours"), [(None, 0), (None, 3), (0, 1), (2, 5)])
def test_a_later_policy_is_brought_to_the_vault_once(has: int | None, ours: int) -> None:
    """An operation that knows a later policy than its vault brings it there, with an entry, and the next one finds it."""
    vault: Any = Vault(None if has is None else InForce(policy(OWNER), has))
    later = InForce(policy(), ours)
    inforce.govern(vault, later)
    inforce.govern(vault, later)
    assert later.control(whole=False) == vault.control.rows
    assert [("policy.apply", "secure-memory", later.detail())] == [
        (e["action"], e["actor"], e["detail"]) for e in vault.said
    ]


def test_an_operation_does_not_go_back_to_an_earlier_policy() -> None:
    """An operation that was built by an earlier policy than the vault has is built again."""
    vault: Any = Vault(InForce(policy(), 4))
    with pytest.raises(StalePolicyError) as raised:
        inforce.govern(vault, InForce(policy(OWNER), 3))
    assert 4 == raised.value.number


def test_two_policies_of_one_number_are_tampering() -> None:
    """There is one policy of each number in a store."""
    vault: Any = Vault(InForce(policy(), 4))
    with pytest.raises(TamperedError, match="another policy of the same number"):
        inforce.govern(vault, InForce(policy(OWNER), 4))


def test_what_has_floors_says_so_by_tenant() -> None:
    """Whether a tenant's items can have a floor is known without looking at any."""
    rules = [{"id": "floor", "min": "P1D", "select": {"tenant": ["eu-*"]}}]
    governing = InForce(policy(retention={"rules": rules}), 1)
    assert [True, False, True] == [governing.has_floors(tenant) for tenant in ("eu-1", "us-1", "eu-1")]


# ---- across a store's vaults, and processes


def test_every_vault_is_told(store: SecureStore) -> None:
    """A policy is in force in each tenant when applying returns; each ledger has its entry; the next read is by it."""
    with store.session("s", tenant="acme") as one, store.session("s", tenant="globex") as other:
        for session in (one, other):
            session.blocking.add_items([user("hello")])
        applied = store.policy_apply(policy(audit={"durability": "full"}))
        assert (1, 2, True) == (applied.number, applied.tenants, applied.changed)
        for tenant in ("acme", "globex"):
            assert store._shared.policy.stamp == store._shared.tenant(tenant).vault.database.control.rows["policy"]
            entry = store.audit_log(tenant=tenant, action="policy.apply")[-1].entry
            assert ("secure-memory", applied.sha256, 1) == (entry.actor, entry.detail["sha256"], entry.detail["number"])


APPLY = """
import sys
from secure_memory import SecureStore
from secure_memory.policy.model import Policy
place, = sys.argv[1:]
with SecureStore.open(place, actor="user:owner") as store:
    owner = {"roles": {"owner": {"allow": ["*"]}}, "members": {"user:owner": ["owner"]}}
    store.policy_apply(Policy.model_validate({"metadata": {"name": "house"}, "access": owner}))
"""


def test_a_policy_that_another_process_applied_is_in_force_at_once(
    store: SecureStore, place: Path, elsewhere: Callable[..., str]
) -> None:
    """A session that is in the middle of its work in one process is denied, from when another has applied a policy that
    does not allow it: reads that are remembered, and writes that were built before, too."""
    with store.session("s") as session:
        session.blocking.add_items([user("hello")])
        session.blocking.get_items()
        elsewhere(APPLY, place)
        for ask in (session.blocking.get_items, lambda: session.blocking.add_items([user("no")])):
            with pytest.raises(AccessDeniedError, match=r"may not session\.(read|append)"):
                ask()
        assert [user("hello")] == session.blocking.get_items(actor="user:owner")


def test_who_follows_the_log_stops_where_a_later_policy_stops_it(
    store: SecureStore, place: Path, elsewhere: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is followed is looked at again and again, each time by the policy that is in force then."""
    monkeypatch.setattr(audit.time, "sleep", lambda _: elsewhere(APPLY, place))
    store.session("s").blocking.add_items([user("hello")])
    with pytest.raises(AccessDeniedError, match=r"may not audit\.read"):
        next(store.audit_follow(action="session.pop"))


def test_a_system_vault_that_went_back_is_noticed(place: Path) -> None:
    """Where system.db alone is an older copy, a vault is governed by a policy that it does not know: nothing is done by
    the policy before, and the store's own ledger says so. Without anchors: they would have noticed before."""
    kept = place.parent / "kept"
    anchors = place.parent / "anchors"
    with SecureStore.create(place, actor="user:owner") as store, store.session("s") as session:
        session.blocking.add_items([user("hello")])
    shutil.copytree(place, kept)
    with SecureStore.open(place, actor="user:owner") as store:
        store.policy_apply(policy(OWNER))
    for file in kept.glob("system.db*"):
        shutil.copy(file, place)
    shutil.rmtree(anchors)
    with SecureStore.open(place, actor="user:owner") as store, store.session("s") as session:
        for ask in (session.blocking.get_items, session.blocking.pop_item, session.blocking.clear_session):
            with pytest.raises(RollbackError, match="a policy that the system vault does not know"):
                ask()
        with pytest.raises(RollbackError, match="a policy that the system vault does not know"):
            store.audit_verify(tenant="default")
        said = store.audit_log(tenant="(system)", action="session.tampered")
        assert {("failed", "RollbackError")} == {(r.entry.outcome, r.entry.detail["error"]) for r in said}


@pytest.fixture
def earlier(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store as it was made before there were policies and holds: no table of theirs, and nothing said of a policy."""
    with monkeypatch.context() as then:
        newest = sqlcipher.migrate
        only: Any = lambda connection, scripts=sqlcipher.MIGRATIONS[:1]: newest(connection, scripts)  # noqa: E731
        then.setattr(sqlcipher, "migrate", only)
        then.setattr(InForce, "control", lambda *_, **__: {})
        for module in (service, shared):
            then.setattr(module, "govern", lambda *_: None)
        then.setattr(inforce, "begin", lambda _: inforce.first())
        with SecureStore.create(place) as store, store.session("s", tenant="acme") as session:
            session.blocking.add_items([user("hello")])
    return place


def test_a_store_made_before_there_were_policies_is_governed_by_the_baseline(earlier: Path) -> None:
    """Opened by this version, it has what it had; the baseline is put in force in the system vault, whole, and in each
    vault, with an entry, once."""
    for _ in range(2):
        with SecureStore.open(earlier) as store, store.session("s", tenant="acme") as session:
            assert [user("hello")] == session.blocking.get_items()
            for tenant in ("(system)", "acme"):
                assert [0] == [r.entry.detail["number"] for r in store.audit_log(tenant=tenant, action="policy.apply")]
            store.audit_verify()
            assert "baseline" == store.policy_in_force().metadata.name


def test_the_baseline_of_a_store_is_the_one_that_it_began_with(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version of the package, with another baseline, finds the one in force, in a store made earlier too."""
    with SecureStore.open(earlier) as store, store.session("s", tenant="acme") as session:
        session.blocking.get_items()
        before = store.policy_in_force()
    monkeypatch.setattr(inforce, "first", lambda: InForce(policy(), 0))
    with SecureStore.open(earlier) as store, store.session("s", tenant="acme") as session:
        assert [user("hello")] == session.blocking.get_items()
        assert before == store.policy_in_force()


# ---- who may


@pytest.fixture
def house(place: Path) -> Iterator[SecureStore]:
    """A store with a conversation, a branch, tags, a paused run and a hold, under a policy that lets its owner do
    everything, and nobody else anything; opened by the owner."""
    with SecureStore.create(place, actor="user:owner") as store:
        with store.session("s", subject="ana") as session:
            mine = session.blocking
            mine.add_items([user("one"), user("two")])
            mine.create_branch_from_turn(2, "other")
            mine.switch_to_branch("main")
            mine.set_tags(record="phi")
            mine.save_run_state({"$schemaVersion": "1.0"})
        store.hold_place("M-1", session="s")
        store.policy_apply(policy(OWNER))
        theirs = SQLiteSession("theirs", place.parent / "some-path")
        asyncio.run(theirs.add_items([user("brought")]))
        theirs.close()
        archive_key = store._shared.keyring.store_key("archive")
        header = {"store": store._shared.manifest.uid.hex(), "tenant": "default"}
        ArchiveWriter(place.parent / "some-file", archive_key, header).finish()
        yield store


GIVEN: dict[str, Any] = {
    "session_id": "s",
    "session": "s",
    "subject": "ana",
    "new_subject": "ben",
    "name": "globex",
    "matter": "M-2",
    "number": 1,
    "purpose": "quality",
    "source": policy(),
    "items": [user("three")],
    "turn_number": 1,
    "search_term": "one",
    "branch_id": "other",
    "state": None,
    "token": "TOKEN",
    "result": SimpleNamespace(
        context_wrapper=RunContextWrapper(None, usage=Usage(requests=1, input_tokens=5, total_tokens=5)),
        new_items=[],
        last_agent=None,
    ),
}
"""What a method is asked with, by the names of its arguments; `path`, `file`, `out`, `directory` are places of the test."""
OPEN = {
    # these tell who may do what, so that whoever was denied can find out why; there is nothing in them of what is kept
    "access_check",
    "policy_in_force",
    # these are about the machine and the handle: `doctor` asks them
    "audit_anchor",
    "close",
    "on_reserve",
    "log_processor",
    # these make the handle that the others are asked of, or work on files that are no store, whose keys one has to have
    "open",
    "create",
    "in_memory",
    "in_store",
    "session",
    "backup_verify",
    "certificate_verify",
    "restore",
}
"""Public methods that no role has to allow, and why."""


def guarded(kind: type) -> list[str]:
    """The public methods that a role has to allow."""
    names = [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]
    return [name for name in names if name not in OPEN]


def asked(method: Callable[..., Any], place: Path) -> Any:
    """What the method returns, asked with what it cannot do without. KeyError: say in GIVEN what a new argument is."""
    places = {name: place.parent / f"some-{name}" for name in ("path", "file", "out", "directory")}
    required = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind < p.VAR_KEYWORD]
    given = {p.name: {**GIVEN, **places}[p.name] for p in required if p.kind is not p.VAR_POSITIONAL}
    positional = [given.pop(p.name) for p in required if p.kind is p.POSITIONAL_ONLY]
    found = method(*positional, **given)
    if inspect.iscoroutine(found):
        return asyncio.run(found)
    return next(found) if inspect.isgenerator(found) else found


@pytest.mark.parametrize("name", guarded(SecureStore))
def test_who_has_no_role_gets_nothing_of_a_store(house: SecureStore, place: Path, name: str) -> None:
    """Whatever method of a store is called by somebody whom the policy gives no role: it raises, and an entry says who was
    denied what. Nothing is left of it but the entry."""
    files = sorted(place.parent.rglob("*"))
    with SecureStore.open(place, actor="user:eve") as store, pytest.raises(AccessDeniedError) as raised:
        asked(getattr(store, name), place)
    assert ("user:eve", raised.value.action) in denials(house)
    assert {"user:eve"} == {who for who, _ in denials(house)}
    assert files == sorted(place.parent.rglob("*"))


@pytest.mark.parametrize("name", guarded(SecureSession))
def test_who_has_no_role_gets_nothing_of_a_session(house: SecureStore, place: Path, name: str) -> None:
    """Whatever method of a session is called by somebody whom the policy gives no role: it raises, and an entry says who
    was denied what. The conversation is what it was."""

    def everything() -> Any:
        with house.session("s") as session:
            mine = session.blocking
            return mine.get_items(), mine.list_branches(), mine.get_tags(), mine.load_run_state()

    before = everything()
    with house.session("s", actor="user:eve") as session, pytest.raises(AccessDeniedError) as raised:
        asked(getattr(session, name), place)
    assert [("user:eve", raised.value.action)] == denials(house)
    assert before == everything()


def test_who_may_not_make_a_tenant_is_not_told_which_there_are(house: SecureStore, place: Path) -> None:
    """A name that is taken and one that is free are denied alike, by whatever would make the tenant, and leave no keys."""
    with SecureStore.open(place, actor="user:eve") as store:
        for name in ("default", "globex"):
            with pytest.raises(AccessDeniedError, match=r"may not tenant\.create"):
                store.tenant_create(name)
        with store.session("s", tenant="initech") as session, pytest.raises(AccessDeniedError):
            session.blocking.get_items()
    assert ["default"] == [info.name for info in house.tenant_list()]
    assert [("user:eve", "tenant.create")] * 3 == denials(house)


def test_everyone_else_goes_on(house: SecureStore) -> None:
    """A denial is one operation's, also where it is carried out together with others'."""

    async def both() -> list[Any]:
        with house.session("s") as ours, house.session("s", actor="user:eve") as theirs:
            asks = [ours.add_items([user(str(n))]) if n % 2 else theirs.add_items([user("no")]) for n in range(8)]
            return await asyncio.gather(*asks, return_exceptions=True)

    assert [AccessDeniedError, type(None)] * 4 == [type(outcome) for outcome in asyncio.run(both())]
    with house.session("s") as session:
        assert ["one", "two", "1", "3", "5", "7"] == [item["content"] for item in session.blocking.get_items()]
    assert [("user:eve", "session.append")] * 4 == denials(house)


def test_what_is_denied_is_named_where_an_operation_is_several_actions(house: SecureStore) -> None:
    """Who may append and not pop may not put a shorter history in the place of the old one, and it was the pop."""
    agent = {**OWNER["roles"], "agent": {"allow": ["session.read", "session.append"]}}
    house.policy_apply(policy({"roles": agent, "members": {**OWNER["members"], "user:ann": ["agent"]}}))
    with house.session("s", actor="user:ann") as session:
        with pytest.raises(AccessDeniedError, match=r"may not session\.pop"):
            asyncio.run(session._atomic_replace_items([user("short")]))
        assert 2 == len(session.blocking.get_items())
    assert [("user:ann", "session.pop")] == denials(house)


def test_a_role_that_requires_a_reason_allows_nothing_without(house: SecureStore) -> None:
    """Purpose and reason are demanded where the role says so; what was given stands in the entry."""
    roles = {**OWNER["roles"], "privacy": {"allow": ["hold.*", "session.review"], "require": ["purpose", "reason"]}}
    house.policy_apply(policy({"roles": roles, "members": {**OWNER["members"], "user:dpo": ["privacy"]}}))
    for given in ({}, {"purpose": "claim"}, {"reason": "letter"}):
        with acting_as(Actor("user:dpo", **given)), pytest.raises(AccessDeniedError, match="requires a"):
            house.hold_place("M-3")
    with acting_as(Actor("user:dpo", purpose="claim", reason="letter of 3 March")):
        assert "letter of 3 March" == house.hold_place("M-3").reason
    entry = house.audit_log(action="hold.place")[-1].entry
    assert ("user:dpo", "claim", "letter of 3 March") == (entry.actor, entry.purpose, entry.reason)


def test_a_masked_role_is_told_to_be_masked(house: SecureStore) -> None:
    """The decision says how what is read is to be seen: masked where every role that allows it is."""
    roles = {**OWNER["roles"], "supervisor": {"allow": ["session.review"], "view": "masked"}}
    house.policy_apply(policy({"roles": roles, "members": {**OWNER["members"], "user:sue": ["supervisor"]}}))
    views = {who: house.access_check(who, "session.review").view for who in ("user:sue", "user:owner")}
    assert {"user:sue": "masked", "user:owner": "clear"} == views
    in_force = InForce(house.policy_in_force(), 9)
    assert "masked" == in_force.authorise(Actor("user:sue"), "session.review", "here").view


# ---- reads that a power cut can't lose


@pytest.mark.parametrize(("durability", "mode"), [("normal", "NORMAL"), ("full", "FULL")])
def test_reads_are_as_durable_as_the_policy_says(store: SecureStore, durability: str, mode: str) -> None:
    """With `durability: full` the entry of every read, in a session that was open before too, is synced to disk, and is
    where the anchor's durable head is."""
    with store.session("s") as session:
        mine = session.blocking
        mine.add_items([user("one")])
        mine.get_items()
        store.policy_apply(policy(audit={"durability": durability}))
        database = store._shared.tenant("default").vault.database
        reads: list[Callable[[], Any]] = [mine.get_items, mine.get_conversation_turns, mine.get_tags, mine.list_branches]
        for read in reads:
            database.set_synchronous("NORMAL" if mode == "FULL" else "FULL")
            read()
            assert mode == database.synchronous
            assert database.anchor is not None
            state = database.anchor.read()
            assert state is not None
            assert (mode == "FULL") == (state.durable.size == database.tail.size)


def test_a_policy_that_was_brought_by_an_operation_that_failed_is_brought_by_the_next(store: SecureStore) -> None:
    """Where the operation that brings the policy to a vault fails, it was not brought, and the next one brings it."""
    tenant = store._shared.tenant("acme")
    later = InForce(policy(), 5)

    def run(work: Callable[[Transaction], Any]) -> Any:
        operation = shared.Operation(work, lambda done: done, True, {"action": "session.read", "actor": "test"})
        return shared.perform_blocking(tenant.vault, operation)

    def brings_and_fails(tx: Transaction) -> None:
        inforce.govern(tx, later)
        raise ValueError("later")

    before = run(lambda tx: tx.control.rows["policy"])
    with pytest.raises(ValueError, match="later"):
        run(brings_and_fails)
    assert before == run(lambda tx: tx.control.rows["policy"])
    run(lambda tx: inforce.govern(tx, later))
    assert later.stamp == run(lambda tx: tx.control.rows["policy"])
