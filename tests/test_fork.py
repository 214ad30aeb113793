"""`fork.py`: in which order locks are taken before a fork. What a fork does to a store is in `faults/test_fork.py`."""

from __future__ import annotations

import os
import threading

from secure_memory import fork
from secure_memory.store import SecureStore


class Guarded:
    """Something with a lock, which notes when it is asked to get ready for a fork."""

    def __init__(self, name: str, noted: list[str], *, fork_last: bool = False) -> None:
        self.lock = threading.Lock()
        self.name = name
        self.noted = noted
        self.fork_last = fork_last
        fork.guard(self)

    def before_fork(self) -> None:
        self.noted.append(self.name)

    def forked(self) -> None:
        """Nothing is inherited."""


def test_what_others_wait_for_is_taken_last() -> None:
    """A vault's operation waits for the keyring with its own lock held: so the keyring's is taken after every vault's."""
    noted: list[str] = []
    things = [Guarded("keyring", noted, fork_last=True), *(Guarded(f"vault {n}", noted) for n in range(8))]
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert 0 == os.waitpid(child, 0)[1]
    assert len(things) == len(noted)
    assert "keyring" == noted[-1]


def test_the_keyring_is_what_others_wait_for(store: SecureStore) -> None:
    """A store's keyring is taken last, and nothing else of it is."""
    shared = store._shared
    assert shared.keyring._database.fork_last
    assert not hasattr(shared.system.vault.database, "fork_last")
