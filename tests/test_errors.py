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
from secure_memory.errors import AccessDeniedError, SecureMemoryError

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
    StorageError
      StoreBusyError
      DiskFullError
      SerializationError
    IntegrityError
      TamperedError
      RollbackError
      AuditGapError
"""

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


@pytest.mark.parametrize("error", [error for error in OURS if error is not AccessDeniedError])
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


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copied", "pickled"])
def test_an_error_travels(kind: type[SecureMemoryError], travel: Callable[[object], SecureMemoryError]) -> None:
    """An error that comes back from another process says what it said there, whatever it was made of."""
    more = {"actor": "eve", "action": "session.read", "needed": "a role"} if kind is AccessDeniedError else {}
    error = kind("what", hint="what next", **more)
    again = travel(error)
    assert (kind, "what", vars(error)) == (type(again), str(again), vars(again))
