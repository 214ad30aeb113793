"""`lifecycle/governing.py`: a policy comes into force once, for everybody, and keeps no shorter unless that is meant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import AccessDeniedError, ConfigurationError, PolicyError, RollbackError
from secure_memory.lifecycle.governing import shorter
from secure_memory.policy.model import Policy
from secure_memory.store import SecureStore

OWNER: dict[str, Any] = {"roles": {"owner": {"allow": ["*"]}}, "members": {"user:owner": ["owner"]}}
EVERYONE: dict[str, Any] = {**OWNER, "members": {"*": ["owner"]}}


def policy(*rules: dict[str, Any], access: dict[str, Any] = EVERYONE, name: str = "house", version: int = 1) -> Policy:
    """A policy with these retention rules, which lets everybody do everything if nothing else is said."""
    parts = {"access": access, "retention": {"rules": list(rules)}}
    return Policy.model_validate({"metadata": {"name": name, "version": version}, **parts})


def applications(store: SecureStore, tenant: str) -> list[tuple[int, str]]:
    """Number and name of each policy that was put in force, by a ledger."""
    found = [record.entry.detail for record in store.audit_log(tenant=tenant, action="policy.apply")]
    return [(detail["number"], detail["policy"]) for detail in found if detail.get("changed", True)]


def governed_by(store: SecureStore, tenant: str) -> int:
    """The number of the policy that a vault was told of, by its control state: asking the log would tell it."""
    stamp = store._shared.tenant(tenant).vault.database.control.rows["policy"]
    return int.from_bytes(stamp[:8], "big")


# ---- applying


def test_a_policy_comes_into_force(store: SecureStore) -> None:
    """What came into force is said, numbered, and in the store's own ledger with what was in force before."""
    store.tenant_create("acme")
    before = store.policy_in_force()
    done = store.policy_apply(policy(version=3))
    assert ("house", 3, policy(version=3).digest, 1, (), 1, True) == (
        done.name,
        done.version,
        done.sha256,
        done.number,
        done.shortened,
        done.tenants,
        done.changed,
    )
    assert policy(version=3) == store.policy_in_force()
    entry = store.audit_log(tenant="(system)", action="policy.apply")[-1].entry
    said = {"policy": "house", "version": 3, "sha256": done.sha256, "number": 1, "before": before.digest, "shortened": 0}
    assert said == entry.detail
    assert 1 == governed_by(store, "acme")
    assert [(1, "house")] == applications(store, "acme")[-1:]


def test_the_same_policy_again_is_no_other_one(store: SecureStore) -> None:
    """Applied again, a policy is in force already: same number, no change; an earlier one applied again is a new one."""
    store.policy_apply(policy())
    again = store.policy_apply(policy())
    assert (1, False) == (again.number, again.changed)
    store.policy_apply(policy(name="other"))
    assert 3 == store.policy_apply(policy()).number


def test_a_tenant_that_is_made_later_begins_with_the_policy_in_force(store: SecureStore) -> None:
    """A new vault's control state has the policy in force from its first entry on."""
    store.policy_apply(policy())
    store.session("s", tenant="late").blocking.add_items([{"role": "user", "content": "hello"}])
    assert [] == applications(store, "late")
    assert 1 == governed_by(store, "late")


def test_a_policy_comes_from_a_pack_or_a_file(store: SecureStore, tmp_path: Path) -> None:
    """A pack's name or a file's path will do; one that is no policy is a PolicyError, and the one in force stays."""
    assert "gdpr" == store.policy_apply("gdpr").name
    broken = tmp_path / "broken.yaml"
    broken.write_text("apiVersion: secmem/v1\nkind: Policy\nmetadata: {name: house}\nretentoin: {}\n")
    for source in (broken, str(broken), "no-such-pack"):
        with pytest.raises(PolicyError):
            store.policy_apply(source)
    assert "gdpr" == store.policy_in_force().metadata.name


def test_a_policy_that_nobody_could_replace_is_refused(store: SecureStore) -> None:
    """Where no role allows `policy.apply`, the store could never be governed otherwise."""
    agents = {"roles": {"agent": {"allow": ["session.*"]}}, "members": {"*": ["agent"]}}
    before = store.policy_in_force()
    with pytest.raises(ConfigurationError, match="lets nobody apply a later one"):
        store.policy_apply(policy(access=agents))
    assert before == store.policy_in_force()


def test_who_may_not_changes_nothing(place: Path) -> None:
    """Whether a policy comes into force is for the policy before to say."""
    with SecureStore.create(place, actor="user:owner") as store:
        store.policy_apply(policy(access=OWNER))
        with SecureStore.open(place, actor="user:eve") as theirs, pytest.raises(AccessDeniedError):
            theirs.policy_apply(policy())
        assert policy(access=OWNER) == store.policy_in_force()
        assert ["user:eve"] == [record.entry.actor for record in store.audit_log(action="access.denied")]


# ---- other processes

OTHER = """
import os, sys
from secure_memory import SecureStore
from secure_memory.lifecycle import governing
from secure_memory.policy.model import Policy
place, name, who, dies = sys.argv[1:]
if dies == "dies":
    governing._tell = lambda *_: os._exit(0)
access = {"roles": {"owner": {"allow": ["*"]}}, "members": {who: ["owner"]}}
with SecureStore.open(place, actor="user:owner") as store:
    print(store.policy_apply(Policy.model_validate({"metadata": {"name": name}, "access": access})).number)
"""


def test_killed_before_the_tenants_are_told(place: Path, elsewhere: Callable[..., str]) -> None:
    """Where who applies a policy dies after it is in force and before the tenants are told: a process that was open goes on
    by the one before, in each vault until somebody tells it. Who opens the store since, tells those that it uses; applying
    the same policy again tells all."""
    with SecureStore.create(place, actor="user:eve") as store:
        sessions = [store.session("s", tenant=tenant).blocking for tenant in ("acme", "globex")]
        for session in sessions:
            session.add_items([{"role": "user", "content": "hello"}])
        elsewhere(OTHER, place, "house", "user:owner", "dies")
        assert [1, 1] == [len(session.get_items()) for session in sessions]
        elsewhere(
            "import sys; from secure_memory import SecureStore\n"
            "with SecureStore.open(sys.argv[1], actor='user:owner') as store: store.session_show('s', tenant='acme')",
            place,
        )
        with pytest.raises(AccessDeniedError):
            sessions[0].get_items()
        elsewhere(OTHER, place, "house", "user:owner", "lives")
        with pytest.raises(AccessDeniedError):
            sessions[1].get_items()
    with SecureStore.open(place, actor="user:owner") as store:
        store.audit_verify()
        assert [(0, "baseline"), (1, "house")] == [(0, "baseline"), *applications(store, "(system)")]


def test_two_who_apply_at_once(place: Path, elsewhere: Callable[..., str]) -> None:
    """Of two who apply at once each gets a number of its own, and every vault ends with the later one."""
    SecureStore.create(place, actor="user:owner").close()
    with SecureStore.open(place, actor="user:owner") as store:
        for tenant in ("acme", "globex"):
            store.tenant_create(tenant)
    numbers: list[int] = []

    def apply(name: str) -> None:
        numbers.append(int(elsewhere(OTHER, place, name, "user:owner", "lives")))

    threads = [threading.Thread(target=apply, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [1, 2] == sorted(numbers)
    with SecureStore.open(place, actor="user:owner") as store:
        assert [2, 2] == [governed_by(store, tenant) for tenant in ("acme", "globex")]
        last = applications(store, "(system)")[-1]
        for tenant in ("acme", "globex"):
            assert last == applications(store, tenant)[-1]
        store.audit_verify()


def test_one_vault_that_can_not_be_told_does_not_keep_it_from_the_others(store: SecureStore, place: Path) -> None:
    """Where a tenant's vault is missing, the others are told, and then it is said."""
    for tenant in ("acme", "globex", "zeta"):
        store.session("s", tenant=tenant).blocking.add_items([{"role": "user", "content": "hello"}])
    missing = store._shared.tenant("globex").vault.identity.path
    assert missing is not None
    store.close()
    missing.rename(place.parent / "elsewhere.db")
    with SecureStore.open(place) as store:
        with pytest.raises(RollbackError, match="'globex': its vault is missing"):
            store.policy_apply(policy())
        assert [1, 1] == [governed_by(store, tenant) for tenant in ("acme", "zeta")]


# ---- keeping shorter

RULE: dict[str, Any] = {"id": "r", "min": "P1Y", "max": "P3Y"}
SHORTER: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str | None]] = {
    "the same": (RULE, RULE, None),
    "longer": (RULE, {**RULE, "min": "P2Y", "max": "P4Y"}, None),
    "a shorter floor": (RULE, {**RULE, "min": "P6M"}, "min may be shorter"),
    "a floor that may be shorter": ({**RULE, "min": "P1M"}, {**RULE, "min": "P30D"}, "min may be shorter"),
    "no floor": (RULE, {**RULE, "min": None}, "no longer keeps for at least P1Y"),
    "no rule": (RULE, None, "no longer keeps for at least P1Y"),
    "no ceiling": (RULE, {**RULE, "max": None}, None),
    "a rule without a floor is gone": ({**RULE, "min": None}, None, None),
    "a shorter ceiling": (RULE, {**RULE, "max": "P2Y"}, "has max P2Y, had P3Y"),
    "a ceiling where there was none": ({**RULE, "max": None}, RULE, "has max P3Y, had None"),
    "a floor about less": (RULE, {**RULE, "select": {"kind": ["message"]}}, "select.kind leaves out"),
    "a ceiling about more": (
        {**RULE, "min": None, "select": {"tag": {"record": "phi"}}},
        {**RULE, "min": None},
        "is about more",
    ),
    "a floor that begins earlier": (RULE, {**RULE, "trigger": "session.created"}, "trigger is session.created"),
    "a ceiling that begins earlier": (
        {**RULE, "min": None, "trigger": "session.last_activity"},
        {**RULE, "min": None},
        "counts from earlier on",
    ),
    "a new rule": (None, RULE, None),
}


@pytest.mark.parametrize("case", SHORTER)
def test_what_keeps_shorter(case: str) -> None:
    """A floor that ends earlier or is about less, and a ceiling that comes earlier or is about more, keep shorter."""
    old, new, why = SHORTER[case]
    said = list(shorter(*(policy(*([] if rule is None else [rule])) for rule in (old, new))))
    assert (why is None) == (said == []), said
    assert why is None or why in said[0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"max": "P1D"}, True),
        ({"max": "P5Y"}, False),
        ({"max": "P1D", "select": {"kind": ["tool_call"]}}, False),
        ({"min": "P1D"}, False),
    ],
)
def test_a_new_rule_keeps_shorter_where_another_one_kept_longer(other: dict[str, Any], said: bool) -> None:
    """A new ceiling below that of an old rule about the same kind of item would delete earlier what it is about."""
    old = {"id": "messages", "max": "P3Y", "select": {"kind": ["message"]}}
    found = list(shorter(policy(old), policy(old, {"id": "new", **other})))
    assert said == bool(found)
    assert not found or "can be about what messages is about" in found[0]


def test_keeping_shorter_has_to_be_meant(store: SecureStore) -> None:
    """Unless it is said to be meant, a policy that keeps shorter does not come into force; else it does, and says so."""
    store.policy_apply(policy({**RULE, "id": "a"}, {**RULE, "id": "b"}))
    with pytest.raises(
        ConfigurationError, match=r"keeps shorter than the one in force: a no longer .* and 1 more"
    ) as raised:
        store.policy_apply(policy(version=2))
    assert "--confirm-shorten" in str(raised.value.hint)
    assert 1 == store.policy_in_force().metadata.version
    done = store.policy_apply(policy(version=2), confirm_shorten=True)
    assert (2, 2) == (done.number, len(done.shortened))
    assert 2 == store.audit_log(tenant="(system)", action="policy.apply")[-1].entry.detail["shortened"]


# ---- asking


def test_access_is_explained(store: SecureStore) -> None:
    """Who may what, by which role, and what is missing; nothing is done, and an action that there is not is a ValueError."""
    roles = {**OWNER["roles"], "privacy": {"allow": ["subject.erase"], "require": ["reason"]}}
    store.policy_apply(policy(access={"roles": roles, "members": {"*": ["owner"], "user:dpo": ["privacy"]}}))
    store.policy_apply(
        policy(access={"roles": roles, "members": {"user:owner": ["owner"], "user:dpo": ["privacy"]}}, name="closed")
    )
    assert not store.access_check("user:eve", "session.read").allowed
    asked = store.access_check("user:dpo", "subject.erase")
    assert (False, "a reason") == (asked.allowed, asked.needed)
    asked = store.access_check("user:dpo", "subject.erase", reason="Art. 17")
    assert (True, "privacy", "clear") == (asked.allowed, asked.role, asked.view)
    with pytest.raises(ValueError, match=r"there is no action 'session\.look'"):
        store.access_check("user:dpo", "session.look")
