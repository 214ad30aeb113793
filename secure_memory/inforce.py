"""The policy in force, as operations use it: who may do what, what has to be kept, what is taken out.

- One policy governs a store. It stands in the system vault's control state, as canonical JSON and numbered; each other
  vault's control state has its number and its SHA-256, so that every entry's digest says which policy governed it.
- An operation is built with one policy and checks inside its transaction that it is the vault's (`govern`). Where the vault
  has a later one, another process put it in force: the operation is built again (`StalePolicyError`). Where the vault has
  an earlier one, the operation carries the policy there, with an entry, before it does anything else.

Called by `service` and `shared`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from typing import Literal

from secure_memory.actor import Actor, program
from secure_memory.errors import AccessDeniedError, RollbackError, StoreVersionError, TamperedError
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.policy import baseline, model, retention
from secure_memory.policy.access import Decision, Gate
from secure_memory.policy.model import Policy
from secure_memory.redaction.detect import BuiltinDetector, Detector, Finding
from secure_memory.redaction.pipeline import Redactor, Rule
from secure_memory.redaction.walk import Segment
from secure_memory.vault.control import Control
from secure_memory.vault.transaction import Transaction

Surface = Literal["store", "model", "view"]
"""Where personal data may show: in what is written, in what the model sees, in what a reviewer sees."""
SURFACES: tuple[Surface, ...] = ("store", "model", "view")
Blocked = Literal["refuse", "redact"]
"""What becomes of what the policy blocks: an error, or, for who says in another way that it was blocked, it is taken out."""

_STAMP, _TEXT = "policy", "policy_text"


class StalePolicyError(Exception):
    """The vault is governed by a later policy, whose number this is. Never leaves the package."""

    def __init__(self, number: int) -> None:
        super().__init__("the vault is governed by a later policy")
        self.number = number


class InForce:
    """A policy with its number in the store; immutable, and shared by all operations."""

    def __init__(self, policy: Policy, number: int, text: bytes | None = None) -> None:
        """`text` is what was put in force, where it was: a later version, which knows more fields, would write another."""
        self.policy = policy
        self.number = number
        self.text = policy.canonical() if text is None else text
        self.digest = sha256(self.text).hexdigest()
        self.stamp = number.to_bytes(8, "big") + bytes.fromhex(self.digest)
        self.durable_reads = policy.audit.durability == "full"
        self.slow_redaction = "presidio" in policy.redaction.detectors
        self._gate = Gate(policy.access)
        self._floors: dict[str, bool] = {}
        self._redactors: dict[Blocked, Redactor] = {}
        # policy.md, resolving 6: such rules act on write, so that they never meet a hold.
        at_once = [rule for rule in policy.retention.rules if rule.ceiling is not None and rule.ceiling.zero]
        self.at_once = policy.retention.model_copy(update={"rules": tuple(at_once)}) if at_once else None

    def __repr__(self) -> str:
        return f"<InForce {self.policy.metadata.name} {self.number}>"

    def control(self, *, whole: bool) -> dict[str, bytes]:
        """What a vault's control state says of the policy; the `whole` of it is in the system vault's."""
        return {_STAMP: self.stamp, _TEXT: self.text} if whole else {_STAMP: self.stamp}

    def detail(self) -> dict[str, str | int]:
        """What an entry says of it."""
        name, version = self.policy.metadata.name, self.policy.metadata.version
        return {"policy": name, "version": version, "sha256": self.digest, "number": self.number}

    def authorise(self, actor: Actor | None, action: str, where: str) -> Decision:
        """The decision that the actor may, and how what it reads is seen. Raises AccessDeniedError."""
        who = actor or program()
        decision = self._gate.decide(who.id, who.roles, who.purpose, who.reason, action)
        if not decision.allowed:
            raise AccessDeniedError(
                f"{where}: {who.id} may not {action}: {decision.why}",
                actor=who.id,
                action=action,
                needed=decision.needed or "a role",
                hint="`secmem access check` explains; roles and members are in the policy",
            )
        return decision

    def has_floors(self, tenant: str) -> bool:
        """Whether a rule can forbid to delete anything of that tenant's yet."""
        known = self._floors.get(tenant)
        if known is None:
            known = self._floors[tenant] = retention.has_floors(self.policy.retention, tenant)
        return known

    def redactor(self, blocked: Blocked = "refuse") -> Redactor:
        """What takes personal data out, made at first use. Raises ConfigurationError where a detector is not installed."""
        known = self._redactors.get(blocked)
        if known is None:
            known = self._redactors[blocked] = _redactor(self.policy, blocked)
        return known


def _redactor(policy: Policy, blocked: Blocked) -> Redactor:
    told = policy.redaction
    instead = "block" if blocked == "refuse" else "redact"
    surfaces: dict[str, list[Rule]] = {surface: [] for surface in SURFACES}
    for rule in told.rules:
        for surface in SURFACES:
            operator = getattr(rule, surface)
            surfaces[surface].append(Rule(rule.id, rule.entity, instead if operator == "block" else operator))
    return Redactor(surfaces, inline(policy), slow(policy), allow=told.allow)


class _Inline:
    """The builtin detector and a policy's own patterns, as one: both take time that is linear in the text."""

    name = "builtin"

    def __init__(self, policy: Policy, entities: Collection[str]) -> None:
        from secure_memory.redaction.patterns import PatternDetector  # here: few policies have any

        told = policy.redaction
        own = [(one.entity, one.pattern, one.context) for one in told.patterns if one.entity in entities]
        self._both: tuple[Detector, ...] = BuiltinDetector(entities, region=told.region), PatternDetector(own)

    def detect(self, segments: Sequence[Segment]) -> list[list[Finding]]:
        """The findings of each segment."""
        return [[*ours, *theirs] for ours, theirs in zip(*(one.detect(segments) for one in self._both), strict=True)]


def inline(policy: Policy) -> Callable[[frozenset[str]], Detector]:
    """What makes the detector that runs where it is called, of the entities that it is to look for."""
    told = policy.redaction
    return partial(_Inline, policy) if told.patterns else partial(BuiltinDetector, region=told.region)


def slow(policy: Policy) -> list[Detector]:
    """The policy's other detectors. Raises ConfigurationError where one is not installed."""
    if "presidio" not in policy.redaction.detectors:
        return []
    from secure_memory.redaction.presidio import PresidioDetector

    return [PresidioDetector()]


def first() -> InForce:
    """What governs a store that was never told anything: the baseline pack."""
    text = baseline.text()
    return InForce(model.from_canonical(text), 0, text)


def of_system(control: Control) -> InForce | None:
    """The policy that the system vault's control state says is in force; None in a store that was made before there were
    any. Raises TamperedError; StoreVersionError where a later version wrote it, which knows more than this one."""
    stamp, text = control.rows.get(_STAMP), control.rows.get(_TEXT)
    if stamp is None or text is None:
        return None
    if stamp[8:] != sha256(text).digest():
        raise TamperedError("the policy in force is not the one that was applied", hint=VERIFY_HINT)
    return _parsed(stamp, text)


@lru_cache(maxsize=8)
def _parsed(stamp: bytes, text: bytes) -> InForce:
    try:
        return InForce(model.from_canonical(text), int.from_bytes(stamp[:8], "big"), text)
    except ValueError:
        raise StoreVersionError(
            "the policy in force was written by a newer secure-memory than this one",
            hint="upgrade the package secure-memory on this machine",
        ) from None


def govern(tx: Transaction, policy: InForce) -> None:
    """See to it that the vault is governed by this policy. Raises StalePolicyError, TamperedError."""
    stamp = tx.control.rows.get(_STAMP)
    if stamp == policy.stamp:
        return
    number = -1 if stamp is None else int.from_bytes(stamp[:8], "big")
    if number > policy.number:
        raise StalePolicyError(number)
    if number == policy.number:
        raise TamperedError("the vault is governed by another policy of the same number", hint=VERIFY_HINT)
    tx.set_control(_STAMP, policy.stamp)
    nobody = dict.fromkeys(("roles", "purpose", "reason", "session", "subject", "run"))
    tx.record({"action": "policy.apply", "actor": "secure-memory", **nobody, "detail": policy.detail()})


def begin(tx: Transaction) -> InForce:
    """Put the baseline in force in a store that was made before there were policies, with its entry: a later version of the
    package brings another baseline."""
    found = of_system(tx.control)
    if found is None:
        found = first()
        put_in_force(tx, found)
        tx.record({"detail": found.detail()})
    return found


def known(tx: Transaction, number: int) -> InForce:
    """The policy in force, by the system vault: it has this number or a later one. Raises RollbackError, TamperedError."""
    found = of_system(tx.control)
    if found is None or found.number < number:
        raise RollbackError(
            "a vault is governed by a policy that the system vault does not know",
            hint="is system.db an older copy than the vaults? restore its newest backup",
        )
    return found


def put_in_force(tx: Transaction, policy: InForce) -> None:
    """Let the store be governed by this policy, inside a transaction of the system vault; an entry has to follow."""
    for name, value in policy.control(whole=True).items():
        tx.set_control(name, value)
