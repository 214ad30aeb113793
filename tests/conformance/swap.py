"""The pytest plugin that puts SecureSession in the place of the SDK's sessions: ``pytest -p swap``."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import agents
import agents.extensions.memory
import agents.extensions.memory.advanced_sqlite_session
import agents.extensions.memory.encrypt_session
import agents.memory
import agents.memory.sqlite_session
import pytest

from secure_memory import SecureSession
from secure_memory.tenancy import Asker
import os, tempfile, base64
_home = tempfile.mkdtemp(prefix="conf-")
os.environ["SECMEM_KEY"] = base64.b64encode(bytes(32)).decode()
os.environ["SECMEM_ANCHOR"] = _home + "/anchors"
_count = itertools.count()


class ListSession(SecureSession):
    def __init__(self, session_id: str = "test", history: list[Any] | None = None) -> None:
        super().__init__(f"{session_id} {next(_count)}", _home + "/store")
        self.session_id = session_id
        self._ignore_ids_for_matching = False
        if history:
            self._run(self.add_items, history)

    def _run(self, operation, *args):
        thread = threading.Thread(target=lambda: asyncio.run(SecureSession.add_items(self, *args)))
        thread.start()
        thread.join()

    @property
    def saved_items(self) -> list[Any]:
        return self._conversation.read_blocking(None, Asker(None))


def pytest_configure(config: pytest.Config) -> None:
    for module in (agents, agents.memory, agents.memory.sqlite_session):
        module.SQLiteSession = SecureSession
    for module in (agents.extensions.memory, agents.extensions.memory.advanced_sqlite_session):
        module.AdvancedSQLiteSession = SecureSession
    import ast, sys, types
    from pathlib import Path
    path = Path("tests/utils/simple_session.py")
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) != "SimpleListSession"]
    module = types.ModuleType("tests.utils.simple_session")
    module.SimpleListSession = ListSession
    import tests.utils
    sys.modules[module.__name__] = tests.utils.simple_session = module
    exec(compile(tree, str(path), "exec"), vars(module))
