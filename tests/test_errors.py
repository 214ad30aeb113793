"""`errors.py`: the tree of errors is a promise; who catches one class relies on what is below it."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
from collections.abc import Callable

import pytest

import secure_memory
from secure_memory import errors
from secure_memory.errors import AccessDeniedError, BlockedContentError, SecureMemoryError

TREE = """\
Exception
  SecureMemoryError
    ConfigurationError
      PolicyError
      CipherUnavailableError
      StoreVersionError
      NotAStoreError
    KeyManagementError
      KeyNotFoundError
      WrongKeyError
      KeyDestroyedError
    AccessDeniedError
    RedactionError
      BlockedContentError
    RetentionError
      LegalHoldError
      StalePlanError
      SafetyLimitError
    StorageError
      StoreBusyError
      DiskFullError
      SerializationError
    IntegrityError
      TamperedError
      RollbackError
      AuditGapError
"""

# What some errors are raised with besides their message.
WITH_MORE: dict[type[BaseException], dict[str, object]] = {
    AccessDeniedError: {"actor": "eve", "action": "session.read", "needed": "a role"},
    BlockedContentError: {"entity": "SECRET", "item": 2, "rule": "secrets"},
}
OURS = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]


def drawn(kind: type[BaseException], depth: int = 0) -> str:
    """The tree of our errors below a class."""
    below = [error for error in OURS if error.__bases__ == (kind,)]
    return "  " * depth + kind.__name__ + "\n" + "".join(drawn(error, depth + 1) for error in below)


def test_the_tree() -> None:
    """Each error has one parent, and stands where it is documented."""
    assert drawn(Exception) == TREE
    assert all(len(error.__bases__) == 1 for error in OURS)


def test_errors_imports_nothing() -> None:
    """The error tree can be imported from anywhere, at no cost: it imports nothing itself."""
    imported = [n for n in ast.walk(ast.parse(inspect.getsource(errors))) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert ["__future__"] == [node.module if isinstance(node, ast.ImportFrom) else ast.dump(node) for node in imported]


def test_every_error_is_public() -> None:
    """Each error is a name of the package, ready to be caught."""
    assert {error.__name__ for error in OURS} <= set(secure_memory.__all__)
    assert OURS == [getattr(secure_memory, error.__name__) for error in OURS]


def test_every_error_says_who_it_is_for() -> None:
    """Each error has a docstring."""
    assert [] == [error.__name__ for error in OURS if not error.__doc__]


@pytest.mark.parametrize("error", [error for error in OURS if error not in WITH_MORE])
def test_a_message_and_a_hint(error: type[SecureMemoryError]) -> None:
    """The message is what `str` shows; the hint is beside it, and may be missing."""
    assert ("what happened", "what to do") == (
        str(error("what happened", hint="what to do")),
        error("", hint="what to do").hint,
    )
    assert error("what happened").hint is None


def test_a_denial_says_what_was_denied() -> None:
    """A denial carries actor, action and what would have been enough, for the program that catches it."""
    denial = AccessDeniedError("no", actor="eve", action="session.read", needed="role auditor", hint="ask")
    assert ("eve", "session.read", "role auditor", "ask") == (denial.actor, denial.action, denial.needed, denial.hint)


def test_blocked_content_says_what_it_was_and_not_what_it_said() -> None:
    """What was blocked is named by its kind, its item and its rule."""
    blocked = BlockedContentError("no", entity="SECRET", item=2, rule="secrets")
    assert ("SECRET", 2, "secrets") == (blocked.entity, blocked.item, blocked.rule)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copied", "pickled"])
def test_an_error_travels(kind: type[SecureMemoryError], travel: Callable[[object], SecureMemoryError]) -> None:
    """An error that comes back from another process says what it said there, whatever it was made of."""
    error = kind("what", hint="what next", **WITH_MORE.get(kind, {}))
    again = travel(error)
    assert (kind, "what", vars(error)) == (type(again), str(again), vars(again))
