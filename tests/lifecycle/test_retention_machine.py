"""A state machine over all that keeps and all that deletes: adding, popping, clearing, ending, holds and their release,
time, purges with and without a kept plan, erasures, processes that are killed in a purge or an erasure, backups, restores,
opening anew.

The model knows nothing of branches, seals or SQL: an item is a text with a time, in the agent's sight or withheld. After
each step the agent sees what the model says; at the end the vault has what it says and no item more, and the store
verifies, as it does after each crash and each restore. Which test holds which invariant of a retention engine stands in
README.md."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secure_memory import clock
from secure_memory.lifecycle.erasure.erase import SessionErasure
from secure_memory.lifecycle.purge import purging
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
    person: int = 0

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
        self.saved: dict[str, Talk] | None = None
        self.erased: set[int] = set()

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
        self.talks.setdefault(name, Talk(person=self.count)).seen.extend(new)

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
        report = self.store.subject_erase(f"subject {name}")
        assert len(items) - len(kept) == sum(report.items.values())
        assert len(kept) == sum(one["items"] for one in report.withheld)
        self.gone_on_with(name, kept, talk)

    def gone_on_with(self, name: str, kept: list[Said], talk: Talk) -> None:
        """What is kept of an erased conversation has nobody's name any more; the name may come back, as another one's."""
        del self.talks[name]
        self.erased.add(talk.person)
        if kept:
            self.count += 1
            self.talks[f"erased {self.count}"] = Talk([], kept, talk.held, self.count)

    @rule()
    def close_and_open(self) -> None:
        """Whoever opens the store next finds it as it was left."""
        self.store.close()
        self.store = self.open()

    @rule(step=st.integers(1, 6))
    def crash_of_a_purge(self, step: int) -> None:
        """A process that is killed while it purges, and a purge afterwards, are one purge."""
        self.killed(purging, "dispose", step, lambda store: store.purge(apply=True, max_clock_jump="any"))
        self.store.purge(apply=True, max_clock_jump="any")
        for talk in self.talks.values():
            talk.purge(self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), stage=st.sampled_from(["withheld", "keys", "rows", "files", "done"]), purge=st.booleans())
    def crash_of_an_erasure(self, data: st.DataObject, stage: str, purge: bool) -> None:
        """A process that is killed while it erases, and an erasure afterwards, are one erasure."""
        name = data.draw(st.sampled_from(self.live))
        talk = self.talks[name]
        kept = [item for item in (*talk.seen, *talk.withheld) if talk.held is not None or item.keeps(self.now)]
        self.killed(SessionErasure, stage, 1, lambda store: store.subject_erase(f"subject {name}"))
        if purge:  # what nobody can open any more is in nobody's way
            self.store.purge(apply=True, max_clock_jump="any")
        self.store.subject_erase(f"subject {name}")
        self.gone_on_with(name, kept, talk)
        if purge:
            for one in self.talks.values():
                one.purge(self.now)

    def killed(self, where: Any, name: str, step: int, what: Callable[[SecureStore], object]) -> None:
        """Do it in another process, which is killed when it calls `where.name` for the `step`th time, if it does."""
        self.store.close()
        child = os.fork()
        if child == 0:
            left, real = [step], getattr(where, name)

            def call(*given: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), 9)
                return real(*given, **named)

            setattr(where, name, call)
            try:
                what(self.open())
                os._exit(0)
            except BaseException:  # the parent is told by the code; nothing of the test may go on in the child
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        assert status in (0, 9)
        self.store = self.open()
        self.store.audit_verify()

    @rule()
    def back_up(self) -> None:
        self.now += 1  # a backup tells by the time which keys were destroyed since it began
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        self.store.backup(self.folder / "backup")
        self.saved = copy.deepcopy(self.talks)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        """What comes back is what was there, without whoever was erased since; nobody erased comes back ever."""
        assert self.saved is not None
        self.store.close()
        SecureStore.restore(
            self.folder / "backup",
            self.folder / "store",
            keys=self.folder / "key",
            anchor=self.folder / "anchors",
            accept_rollback=True,
            reason="drill",
            keep_replaced=False,
        )
        self.store = self.open()
        self.talks = {name: talk for name, talk in copy.deepcopy(self.saved).items() if talk.person not in self.erased}
        self.store.audit_verify()

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
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
