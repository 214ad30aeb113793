"""The policy of a store: put in force, shown, asked. `SecureStore` has its methods from `Governing`.

Putting one in force is one transaction of the system vault, with its `policy.apply` entry; then each tenant's vault is told,
with an entry of its own. Where that dies in between, a vault is told by the next operation on it of a process that knows
(`inforce.govern`): one that was opened since, or that applies the same policy again. Until then a process that was open
before works on that vault by the policy before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from secure_memory import clock
from secure_memory.actions import GRANTED
from secure_memory.actor import Actor, as_actor
from secure_memory.errors import ConfigurationError, PolicyError, SecureMemoryError
from secure_memory.inforce import InForce, of_system, put_in_force
from secure_memory.lifecycle.explaining import Explaining
from secure_memory.policy.access import Decision, allows, decide
from secure_memory.policy.matching import KINDS
from secure_memory.policy.model import Policy, RetentionRule
from secure_memory.policy.weakening import surely_not_shorter, weakenings
from secure_memory.shared import SYSTEM_TENANT, SharedStore, transact
from secure_memory.vault.transaction import Transaction

_KEY = ("retention", "rules")


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """What came into force: its name, version and SHA-256, its number in this store, in which respects it keeps shorter than
    the one before, and in how many tenants it is in force. Not `changed` where it was in force already."""

    name: str
    version: int
    sha256: str
    number: int
    shortened: tuple[str, ...]
    warnings: tuple[str, ...]
    tenants: int
    changed: bool


class Governing(Explaining):
    """The methods of a store that are about its policy. `SecureStore` has the rest."""

    def policy_in_force(self) -> Policy:
        """The policy in force. Raises IntegrityError."""
        shared = self._open()
        shared.reload_policy(0)
        return shared.policy.policy

    def policy_apply(self, source: str | os.PathLike[str] | Policy, *, confirm_shorten: bool = False) -> PolicyApplied:
        """Put a policy in force, in every tenant at once: a file, a pack's name, or one that is loaded. It is a
        `policy.apply` entry of the store's own ledger and of each tenant's. Applied again, it tells the tenants again.

        Raises PolicyError where it is none, ConfigurationError where it keeps something shorter than the one in force and
        `confirm_shorten` does not say that this is meant, or no role of it allows `policy.apply`; AccessDeniedError,
        IntegrityError, StorageError.
        """
        shared, who = self._open(), self._who()
        policy, warnings = loaded(source)
        if not any(allows(role, "policy.apply") for role in policy.access.roles.values()):
            raise ConfigurationError(
                "the policy lets nobody apply a later one: no role allows policy.apply",
                hint="give a role that somebody has `allow: [policy.apply]`",
            )

        def work(tx: Transaction) -> tuple[InForce, tuple[str, ...], bool]:
            now = of_system(tx.control) or shared.policy
            # What was never declared is no promise: the baseline may be left.
            shortened = tuple(shorter(now.policy, policy)) if now.number else ()
            new = InForce(policy, now.number + 1)
            if new.digest == now.digest:
                tx.record({"detail": {**now.detail(), "changed": False}})
                return now, (), False
            if shortened and not confirm_shorten:
                raise ConfigurationError(
                    f"the policy keeps shorter than the one in force: {shortened[0]}"
                    + (f", and {len(shortened) - 1} more" if len(shortened) > 1 else ""),
                    hint="see `secmem policy diff`; if it is meant, say --confirm-shorten",
                )
            put_in_force(tx, new)
            tx.record({"detail": {**new.detail(), "before": now.digest, "shortened": len(shortened)}})
            return new, shortened, True

        now, shortened, changed = transact(shared.system, work, "policy.apply", who)
        shared.reload_policy(now.number)
        told = _tell(shared, who)
        name = policy.metadata.name
        return PolicyApplied(name, policy.metadata.version, now.digest, now.number, shortened, warnings, told, changed)

    def access_check(
        self, actor: Actor | str, action: str, *, purpose: str | None = None, reason: str | None = None
    ) -> Decision:
        """Whether the policy in force lets the actor do that, by which role, and else what it needs. Nothing is done.

        Raises ValueError where there is no such action, IntegrityError.
        """
        if action not in GRANTED:
            raise ValueError(f"there is no action {action!r}: {', '.join(sorted(GRANTED))}")
        who = as_actor(actor)
        access = self.policy_in_force().access
        return decide(access, who.id, who.roles, purpose or who.purpose, reason or who.reason, action)


def _tell(shared: SharedStore, who: Actor | None) -> int:
    """Bring the policy in force to every tenant's vault; returns how many they are. Where one can't be told, the others are,
    and then its error is raised: its next operation meets the same trouble, or is told."""
    tenants, trouble = shared.keyring.tenants(), None
    names = [name for _, name, state, _ in tenants if name != SYSTEM_TENANT and state == "active"]
    for name in names:
        try:
            transact(shared.tenant(name), lambda tx: None, "store.open", who)  # nobody's to forbid
        except SecureMemoryError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return len(names)


def loaded(source: str | os.PathLike[str] | Policy) -> tuple[Policy, tuple[str, ...]]:
    """The policy of a pack, a file, or itself, and the warnings about it. Raises PolicyError."""
    from secure_memory.redaction.patterns import check_pattern

    if isinstance(source, Policy):
        return source, _checked(source, check_pattern)
    from secure_memory.policy.load import load  # here: it brings a YAML reader along

    found = load(source, check_pattern=check_pattern)
    return found.policy, tuple(map(str, found.warnings))


def _checked(policy: Policy, check_pattern: Callable[[str], None]) -> tuple[str, ...]:
    """The warnings about a policy that a program made: no file was read, whose every part would have been checked. Raises
    PolicyError, which has no line."""
    from secure_memory.policy.checking import findings

    today = datetime.fromtimestamp(clock.now() // 1_000_000, timezone.utc).date()
    warnings = []
    for found in findings(policy, check_pattern, today):
        key = ".".join(map(str, (*found.key, *found.inside)))
        if not found.warning:
            raise PolicyError(f"{key} {found.problem}", key=key, hint=found.hint)
        warnings.append(f"{key} {found.problem}")
    return tuple(warnings)


def shorter(old: Policy, new: Policy) -> Iterator[str]:
    """In which respects the new policy keeps shorter than the old one, in words. A rule that is new is one of them only
    where it deletes earlier what an old rule is about: what none was about was kept by none."""
    rules = {rule.id: rule for rule in new.retention.rules}
    for rule in old.retention.rules:
        now = rules.get(rule.id)
        if rule.floor is not None:
            if now is None or now.floor is None:
                yield f"{rule.id} no longer keeps for at least {rule.min}"
            elif weaker := weakenings(_KEY, _only(rule, "min"), _only(now, "min")):
                yield f"{rule.id}: {weaker[0]}"
        if now is not None and now.ceiling is not None and _deletes_earlier(now, rule):
            had = f"had {rule.max}" if rule.max != now.max else "and counts from earlier on, or is about more"
            yield f"{rule.id} has max {now.max}, {had}"
    known = {rule.id for rule in old.retention.rules}
    for rule in new.retention.rules:
        if rule.id not in known and rule.ceiling is not None:
            for other in old.retention.rules:
                if _meet(rule, other) and (other.ceiling is None or not surely_not_shorter(rule.ceiling, other.ceiling)):
                    yield f"{rule.id} has max {rule.max}, and can be about what {other.id} is about"
                    break


def _deletes_earlier(new: RetentionRule, old: RetentionRule) -> bool:
    """Whether the old rule's ceiling would be a weaker one than the new rule's."""
    return old.ceiling is None or bool(weakenings(_KEY, _only(new, "max"), _only(old, "max")))


def _only(rule: RetentionRule, end: str) -> RetentionRule:
    """The rule with nothing but its `min`, or its `max`."""
    nothing = {"min": None, "max": None, "action": "delete", "basis": None}
    return rule.model_copy(update={**nothing, end: getattr(rule, end)})


def _meet(one: RetentionRule, other: RetentionRule) -> bool:
    """Whether both can be about one item, as far as their kinds say."""
    return bool(set(one.select.kind or KINDS) & set(other.select.kind or KINDS))
