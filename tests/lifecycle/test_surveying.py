"""`lifecycle/purge/surveying.py`: what SQL finds is what the resolver says of each item, and pairs stay pairs."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from agents.run_internal.items import drop_orphan_function_calls

from secure_memory.lifecycle.purge.fates import Known
from secure_memory.lifecycle.purge.surveying import Survey
from secure_memory.policy import durations, retention
from secure_memory.policy.matching import Facts
from secure_memory.policy.model import Basis, Retention, RetentionRule, Select
from secure_memory.policy.retention import Outcome
from secure_memory.store import SecureStore
from secure_memory.vault import activity, holds, sessions
from secure_memory.vault.holds import Hold

DAY = 86_400_000_000
NOON = 1_795_000_000_000_000
PERIODS = ["PT0S", "P1D", "P28D", "P30D", "P31D", "P1M", "P2M", "P6M", "P1Y"]
ROLES = ["user", "assistant", "system"]


def drawn_rules(dice: Random) -> tuple[RetentionRule, ...]:
    """Draw some rules, about everything or a part of it."""
    return tuple(
        RetentionRule(
            id=f"rule-{number}",
            basis=dice.choice([None, Basis(binding="law", law="Art. 1")]),
            select=dice.choice(
                [Select(), Select(), Select(role=(dice.choice(ROLES),)), Select(tenant=("def*",)), Select(kind=("message",))]
            ),
            trigger=dice.choice(["item.created"] * 3 + ["session.created", "session.last_activity", "session.ended"]),
            min=dice.choice([None, None, *PERIODS]),
            max=dice.choice([None, *PERIODS, *PERIODS]),
            idle=dice.choice(["P1D", "P30D"]),
            action=dice.choice(["delete", "delete", "redact", "archive"]),
        )
        for number in range(dice.randrange(1, 5))
    )


def drawn_times(dice: Random, rules: tuple[RetentionRule, ...], count: int) -> list[int]:
    """Draw times, most of them just when something comes to be due as of noon, in order."""
    found = []
    for _ in range(count):
        period = durations.parse(dice.choice([p for rule in rules for p in (rule.min, rule.max) if p] or ["P1D"]))
        near = NOON - dice.choice([period.shortest, period.longest]) - dice.choice([0, 0, 1]) * DAY
        found.append(near + dice.choice([-2 * DAY, -DAY, -1, 0, 1, DAY, 2 * DAY]))
    return sorted(min(time, NOON) for time in found)


def told(outcome: Outcome, now: int) -> tuple[Any, ...]:
    """What a plan says of an item: of what is only kept, nothing."""
    if outcome.state in ("kept", "open"):
        return (outcome.state,)
    overdue = outcome.state == "due" and outcome.at is not None and outcome.at <= now - DAY
    return outcome.state, outcome.action, outcome.rules, outcome.matters, overdue


def naive(store: SecureStore, survey: Survey, held: list[Hold]) -> Counter[Any]:
    """What the resolver says, item by item, with nothing of the survey."""
    tenant = store._shared.tenant("default")
    found: Counter[Any] = Counter()
    with tenant.vault.database.snapshot() as execute:
        for row in list(sessions.rows(execute)):
            names = Known(tenant, row).names
            newest = activity.last_append(execute, tenant.vault.ledger, row.id)
            about = [hold for hold in held if hold.covers_session(row.uid.hex(), row.subject.hex(), names.tags)]
            query = (
                "SELECT DISTINCT i.uid, kind, role, tool, i.created FROM items i JOIN branches b ON i.id / 2147483648 = b.id"
            )
            for _, kind, role, tool, created in execute(f"{query} WHERE b.session = ?", (row.id,)).fetchall():
                facts = Facts(
                    kind=kind, role=role, tool=tool, tenant="default", tags=names.tags, created=created,
                    session_created=row.created, last_activity=newest, ended=names.ended,
                    holds=tuple(hold.matter for hold in about if hold.covers_time(created)),
                )  # fmt: skip
                outcome = retention.resolve(survey.policy.retention, facts, survey.now)
                role = role if any(rule.select.role for rule in survey.policy.retention.rules) else ""
                found[(kind, role, *told(outcome, survey.now))] += 1
    return found


def surveyed(store: SecureStore, survey: Survey, held: list[Hold], *, exact: bool) -> Counter[Any]:
    """What the survey says."""
    tenant = store._shared.tenant("default")
    found: Counter[Any] = Counter()
    with tenant.vault.database.snapshot() as execute:
        for row in list(sessions.rows(execute)):
            for fate in survey.unit(execute, Known(tenant, row), held, exact=exact).fates:
                role = fate.found.role if any(rule.select.role for rule in survey.policy.retention.rules) else ""
                found[(fate.found.kind, role, *told(fate.outcome, survey.now))] += fate.found.size
    return found


@pytest.mark.parametrize("seed", range(80))
def test_sql_agrees_with_the_resolver(noon: Any, seed: int) -> None:
    """For any rules, times, ends and holds, the counts of the survey are those of the naive resolver, in both its ways."""
    dice = Random(seed)
    rules = drawn_rules(dice)
    zone = dice.choice(["UTC", "UTC", "Europe/Berlin"])
    with SecureStore.in_memory() as store:
        for name in "abc":
            times = drawn_times(dice, rules, dice.randrange(1, 9))
            session = store.session(name).blocking
            for time in times:
                noon.now = time
                session.add_items([{"role": dice.choice(ROLES), "content": "x"} for _ in range(dice.randrange(1, 3))])
            if dice.random() < 0.3:
                session.add_items([{"role": "user", "content": "y"}])
                session.create_branch_from_turn(dice.choice(session.get_conversation_turns())["turn"])
            if dice.random() < 0.3:
                session.end(reason="done")
            if dice.random() < 0.3:
                store.hold_place("M", session=name, since=dice.choice([None, times[0] + 1]))
        noon.now = NOON
        policy = store.policy_in_force().model_copy(update={"retention": Retention(rules=rules, timezone=zone)})
        tenant = store._shared.tenant("default")
        database = tenant.vault.database
        with database.snapshot() as execute:
            held = holds.active(execute, database.control, tenant.keys.ledger, tenant.keys.uid)
        survey = Survey(tenant, policy, NOON, {})
        expected = naive(store, survey, held)
        assert expected == surveyed(store, survey, held, exact=False)
        assert expected == surveyed(store, survey, held, exact=True)


CALLS = [
    ("function_call", "function_call_output"),
    ("custom_tool_call", "custom_tool_call_output"),
    ("shell_call", "shell_call_output"),
    ("computer_call", "computer_call_output"),
    ("local_shell_call", "local_shell_call_output"),
    ("apply_patch_call", "apply_patch_call_output"),
    ("tool_search_call", "tool_search_output"),
]


def conversation(dice: Random) -> list[list[dict[str, Any]]]:
    """Draw a conversation with calls of every kind, and outputs that come late; in the parts in which it is appended."""
    items: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for number in range(dice.randrange(4, 14)):
        what = dice.random()
        if what < 0.3:
            items.append({"role": dice.choice(["user", "assistant"]), "content": f"text {number}"})
        elif what < 0.75:
            call, output = dice.choice(CALLS)
            called = {"call_id": f"call_{number}"} if call != "tool_search_call" or dice.random() < 0.5 else {}
            if dice.random() < 0.5:
                items.append({"type": "reasoning", "id": f"rs_{number}", "summary": []})
            said = {"type": call, "id": f"id_{number}", **called}
            items.append({**said, "name": "t", "arguments": "{}"} if call == "function_call" else said)
            waiting.append({"type": output, "output": "secret", **called})
        else:
            items.append({"type": "mcp_approval_request", "id": f"ar_{number}", "name": "t", "server_label": "s"})
            waiting.append({"type": "mcp_approval_response", "approval_request_id": f"ar_{number}", "approve": True})
        while waiting and dice.random() < 0.5:
            items.append(waiting.pop(0))
    items += waiting
    cuts = sorted(dice.sample(range(1, len(items)), dice.randrange(0, min(4, len(items)))))
    return [items[start:end] for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True)]


@pytest.mark.parametrize("seed", range(40))
def test_histories_stay_closed_both_ways(noon: Any, seed: int) -> None:
    """Whatever is due in a conversation, the SDK's own filter of orphans drops nothing of it afterwards; approvals and
    reasoning keep what they belong to; and nothing that had to stay is gone."""
    dice = Random(seed)
    with SecureStore.in_memory() as store:
        session = store.session("s").blocking
        parts = conversation(dice)
        for part in parts:
            session.add_items(part)
            noon.now += 10 * DAY
        before = session.get_items()
        expected = drop_orphan_function_calls(list(before), output_pruning_indexes=set(range(len(before))))
        rules = dice.choice(
            [
                (RetentionRule(id="old", max=f"P{10 * dice.randrange(1, len(parts) + 1)}D"),),
                (RetentionRule(id="outputs", max="P1D", select=Select(kind=("tool_output",))),),
                (RetentionRule(id="calls", max="P1D", select=Select(kind=("tool_call", "approval"))),),
                (RetentionRule(id="blank", max="P1D", select=Select(kind=("tool_output",)), action="redact"),),
            ]
        )
        policy = store.policy_in_force().model_copy(update={"retention": Retention(rules=rules)})
        store.policy_apply(policy, confirm_shorten=True)
        store.purge(apply=True, max_clock_jump="any")
        after = session.get_items()
        assert expected == before  # as it was made
        assert after == drop_orphan_function_calls(list(after), output_pruning_indexes=set(range(len(after))))
        asked = {item["id"] for item in after if item.get("type") == "mcp_approval_request"}
        assert asked == {item["approval_request_id"] for item in after if item.get("type") == "mcp_approval_response"}
        follows = {
            item["id"]: before[n + 1].get("id") for n, item in enumerate(before[:-1]) if item.get("type") == "reasoning"
        }
        for number, item in enumerate(after):
            if item.get("type") == "reasoning":
                assert follows[item["id"]] == after[number + 1].get("id")
        store.audit_verify()
        assert 0 == store.purge(apply=True, max_clock_jump="any").done.deleted
