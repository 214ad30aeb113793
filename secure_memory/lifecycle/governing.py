"""The policy of a store: put in force, shown, asked. `SecureStore` has its methods from `Governing`.

Putting one in force is one transaction of the system vault, with its `policy.apply` entry; then each tenant's vault is told, with an
entry of its own. A process that dies in between leaves vaults that the next operation on them tells (`inforce.govern`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from secure_memory import audit
from secure_memory.actor import Actor, as_actor
from secure_memory.errors import ConfigurationError
from secure_memory.inforce import InForce, of_system, put_in_force
from secure_memory.policy.access import Decision, decide
from secure_memory.policy.durations import Duration
from secure_memory.policy.model import ACTIONS, Policy
from secure_memory.policy.weakening import surely_not_shorter
from secure_memory.shared import SYSTEM_TENANT, SharedStore, transact
from secure_memory.vault.transaction import Transaction


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


class Governing:
    """The methods of a store that are about its policy. `SecureStore` has the rest."""

    def _open(self) -> SharedStore:
        raise AssertionError("a store says whether it is open")  # pragma: no cover

    def _who(self) -> Actor | None:
        raise AssertionError("a store says who asks")  # pragma: no cover

    def policy_in_force(self) -> Policy:
        """The policy in force. Raises IntegrityError."""
        shared = self._open()
        shared.reload_policy(0)
        return shared.policy.policy

    def policy_apply(self, source: str | os.PathLike[str] | Policy, *, confirm_shorten: bool = False) -> PolicyApplied:
        """Put a policy in force, in every tenant at once: a file, a pack's name, or one that is loaded. It is a `policy.apply`
        entry of the store's own ledger and of each tenant's.

        Raises PolicyError where it is none, ConfigurationError where it keeps something shorter than the one in force and
        `confirm_shorten` does not say that this is meant, AccessDeniedError, IntegrityError, StorageError.
        """
        shared, who = self._open(), self._who()
        policy, warnings = _loaded(source)

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
        told = [one for one in audit.tenants(shared, None) if one.keys.name != SYSTEM_TENANT]
        for one in told:
            transact(one, lambda tx: None, "store.open", who)  # nobody's to forbid: what governs the vault is brought to it
        name = policy.metadata.name
        return PolicyApplied(name, policy.metadata.version, now.digest, now.number, shortened, warnings, len(told), changed)

    def access_check(
        self, actor: Actor | str, action: str, *, purpose: str | None = None, reason: str | None = None
    ) -> Decision:
        """Whether the policy in force lets the actor do that, by which role, and else what it needs. Nothing is done.

        Raises ValueError where there is no such action, IntegrityError.
        """
        if action not in ACTIONS:
            raise ValueError(f"there is no action {action!r}: {', '.join(sorted(ACTIONS))}")
        who = as_actor(actor)
        access = self.policy_in_force().access
        return decide(access, who.id, who.roles, purpose or who.purpose, reason or who.reason, action)


def _loaded(source: str | os.PathLike[str] | Policy) -> tuple[Policy, tuple[str, ...]]:
    if isinstance(source, Policy):
        return source, ()
    from secure_memory.policy.load import load  # here: it brings a YAML reader along
    from secure_memory.redaction.patterns import check_pattern

    found = load(source, check_pattern=check_pattern)
    return found.policy, tuple(map(str, found.warnings))


def shorter(old: Policy, new: Policy) -> Iterator[str]:
    """In which respects the new policy keeps shorter than the old one, in words. A rule that is new is none of them: what it is
    about was kept by none."""
    rules = {rule.id: rule for rule in new.retention.rules}
    for rule in old.retention.rules:
        now = rules.get(rule.id)
        if rule.floor is not None and (now is None or now.floor is None):
            yield f"{rule.id} no longer keeps for at least {rule.min}"
        elif now is not None:
            for name, before, after in (("min", rule.floor, now.floor), ("max", rule.ceiling, now.ceiling)):
                if _shorter(before, after):
                    yield f"{rule.id} has {name} {getattr(now, name)}, had {getattr(rule, name)}"


def _shorter(before: Duration | None, after: Duration | None) -> bool:
    return before is not None and after is not None and not surely_not_shorter(after, before)
