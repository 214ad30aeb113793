"""A state machine over all that keeps and all that deletes: adding, popping, clearing, ending, holds and their release,
time, purges with and without a kept plan, erasures, opening anew.

The model knows nothing of branches, seals or SQL: an item is a text with a time, in the agent's sight or withheld. After
each step the agent sees what the model says; at the end the vault has what it says and no item more, and the store
verifies."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secure_memory import clock
from secure_memory.errors import LegalHoldError, RetentionError
from secure_memory.policy.model import Basis, Retention, RetentionRule, Select
from secure_memory.store import SecureStore

DAY = 86_400_000_000
NOON = 1_795_000_000_000_000
NAMES = st.sampled_from(["a", "b", "c"])
FLOOR, CEILING = 10 * DAY, 30 * DAY
RULES = (
    RetentionRule(id="floor", basis=Basis(law="Art. 1", binding="law"), min="P10D", select=Select(role=("assistant",))),
    RetentionRule(id="chats", max="P30D"),
)


@dataclass
class Said:
    """An item of the model."""

    text: str
    role: str
    created: int

    def keeps(self, now: int) -> bool:
        """Whether its floor has not passed."""
        return self.role == "assistant" and self.created + FLOOR > now


@dataclass
class Talk:
    """A conversation of the model."""

    seen: list[Said] = field(default_factory=list)
    withheld: list[Said] = field(default_factory=list)
    held: int | None = None

    def take(self, items: list[Said], now: int) -> None:
        """What the agent deletes is withheld where a hold or a floor keeps it."""
        self.withheld += [item for item in items if self.held is not None or item.keeps(now)]

    def purge(self, now: int) -> int:
        """What is due goes; how many items that are."""
        before = len(self.seen) + len(self.withheld)
        if self.held is None:
            self.seen = [item for item in self.seen if item.created + CEILING > now or item.keeps(now)]
            self.withheld = [item for item in self.withheld if item.keeps(now)]
        return before - len(self.seen) - len(self.withheld)


class Retaining(RuleBasedStateMachine):
    """The store, and the model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.real, self.now = clock.now, NOON
        clock.now = lambda: self.now  # type: ignore[assignment]
        self.store = self.open(create=True)
        self.talks: dict[str, Talk] = {}
        self.count = 0

    def open(self, *, create: bool = False) -> SecureStore:
        start = SecureStore.create if create else SecureStore.open
        return start(self.folder / "store", keys=self.folder / "key", anchor=self.folder / "anchors")

    def session(self, name: str) -> Any:
        return self.store.session(name, subject=f"subject {name}").blocking

    @property
    def live(self) -> list[str]:
        """The conversations that have their name still."""
        return sorted(name for name in self.talks if not name.startswith("erased"))

    @initialize()
    def govern(self) -> None:
        policy = self.store.policy_in_force().model_copy(update={"retention": Retention(rules=RULES)})
        self.store.policy_apply(policy, confirm_shorten=True)

    @rule(name=NAMES, roles=st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=4))
    def add(self, name: str, roles: list[str]) -> None:
        new = []
        for role in roles:
            self.count += 1
            new.append(Said(f"text {self.count}", role, self.now))
        self.session(name).add_items([{"role": item.role, "content": item.text} for item in new])
        self.talks.setdefault(name, Talk()).seen.extend(new)

    @rule(name=NAMES)
    def pop(self, name: str) -> None:
        talk = self.talks.get(name)
        popped = self.session(name).pop_item()
        if talk is None or not talk.seen:
            assert popped is None
        else:
            item = talk.seen.pop()
            assert item.text == popped["content"]
            talk.take([item], self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.live))
        self.session(name).clear_session()
        talk = self.talks[name]
        talk.take(talk.seen, self.now)
        talk.seen = []

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.session(data.draw(st.sampled_from(self.live))).end(reason="done")

    @precondition(lambda self: any(self.talks[name].held is None for name in self.live))
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in self.live if self.talks[name].held is None]))
        self.talks[name].held = self.store.hold_place("M-1", session=name).id

    @precondition(lambda self: any(talk.held is not None for talk in self.talks.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, talk in self.talks.items() if talk.held is not None)))
        hold = self.talks[name].held
        assert hold is not None
        self.store.hold_release(hold)
        self.talks[name].held = None

    @rule(days=st.sampled_from([1, 9, 10, 11, 20, 31]))
    def tick(self, days: int) -> None:
        self.now += days * DAY

    @rule(keep=st.booleans())
    def purge(self, keep: bool) -> None:
        """Planned, kept or not, and done: the plan's count is the model's, and what is done is what was planned."""
        file = self.folder / "plan"
        planned = self.store.purge(max_clock_jump="any", out=file if keep else None)
        expected = sum(talk.purge(self.now) for talk in self.talks.values())
        assert expected == planned.count("delete")
        how: Any = {"plan": file} if keep else {}
        done = self.store.purge(apply=True, max_clock_jump="any", **how).done
        assert done is not None
        assert (expected, 0) == (done.deleted, done.passed_over)
        assert 0 == self.store.purge(max_clock_jump="any").count("delete", "redact", "archive")

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        """Who asks to be erased is, but for what a hold or the law's floor keeps."""
        name = data.draw(st.sampled_from(self.live))
        talk = self.talks[name]
        items = [*talk.seen, *talk.withheld]
        kept = [item for item in items if talk.held is not None or item.keeps(self.now)]
        if kept and len(kept) == len(items):
            with pytest.raises(LegalHoldError if talk.held is not None else RetentionError):
                self.store.subject_erase(f"subject {name}")
            return
        self.store.subject_erase(f"subject {name}")
        self.gone_on_with(name, kept, talk)

    def gone_on_with(self, name: str, kept: list[Said], talk: Talk) -> None:
        """What is kept of an erased conversation has nobody's name any more; the name may come back, as another one's."""
        del self.talks[name]
        if kept:
            self.count += 1
            self.talks[f"erased {self.count}"] = Talk([], kept, talk.held)

    @rule()
    def close_and_open(self) -> None:
        """Whoever opens the store next finds it as it was left. (Processes that are killed: `test_purge`.)"""
        self.store.close()
        self.store = self.open()

    @invariant()
    def the_agent_sees_what_the_model_says(self) -> None:
        for name in self.live:
            seen = [item.text for item in self.talks[name].seen]
            assert seen == [item["content"] for item in self.session(name).get_items()]

    def teardown(self) -> None:
        try:
            with self.store._shared.tenant("default").vault.database.snapshot() as execute:
                stored = execute("SELECT count(DISTINCT uid) FROM items").fetchone()[0]
            assert sum(len(talk.seen) + len(talk.withheld) for talk in self.talks.values()) == stored
            self.store.audit_verify()
            self.store.close()
        finally:
            clock.now = self.real
            shutil.rmtree(self.folder)


TestRetaining = Retaining.TestCase
TestRetaining.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
