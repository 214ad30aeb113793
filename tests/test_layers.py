"""Who may import whom, as the architecture says it: downward only, and each foreign library in one place.

The rules are the tables at the top. Each is checked on the source, by its syntax tree, so that an import inside a
function or for type checking counts too; and each is shown to find what it is for, in a source made to break it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Everyone may use these.
COMMON = {"errors", "actions", "actor", "clock", "items", "log", "fork", "disk"}

# What a room may import besides itself: everything below it.
VAULT = COMMON | {"ledger", "keys.key"}  # of keys the values only, Key and context(): no provider, no keyring
INFORCE = COMMON | {"vault", "ledger", "redaction", "policy", "keys"}
TENANCY = SCRUBBING = INFORCE | {"inforce"}
SERVICE = TENANCY | {"tenancy"}
WITHHOLDING = SERVICE | {"service"}
CLEANING = WITHHOLDING | {"withholding"}
CONVERSATION = CLEANING | {"cleaning"}
REPLACEMENT = CONVERSATION | {"conversation"}
BRANCHING = REPLACEMENT | {"replacement"}
DIRECTORY = COMMON | {"vault", "keys"}  # the store's directory and its store.json
KEYS_DB = DIRECTORY | {"directory"}  # how a keyring reaches keys.db
ACCOUNTING = BRANCHING | {"branching"}
PARTICULARS = ACCOUNTING | {"accounting"}
PAUSING = PARTICULARS | {"particulars"}
REVEALING = PAUSING | {"pausing"}
SHARED = REVEALING | {"revealing", "directory", "keys_db", "scrubbing"}  # a store that is open in this process
REGISTRY = SHARED | {"shared"}  # which stores are
AGENTS_SDK = REGISTRY | {"registry"}
AUDIT = FACET = SHARED | {"shared"}
LIFECYCLE = AUDIT | {"audit", "facet", "registry", "verification"}
VERIFICATION = BILLING = CATALOGUE = AUDIT | {"audit", "facet", "prices"}
STORE = AGENTS_SDK | {"lifecycle", "audit", "verification", "billing", "catalogue"} | {"agents_sdk"}  # for `store.session()`
ABOVE = STORE | {"store"}

ROOMS: dict[str, set[str]] = {
    **dict.fromkeys(COMMON, COMMON),
    **dict.fromkeys(("ledger", "keys", "redaction"), COMMON),
    "policy": COMMON | {"policies"},  # where the packs are
    "vault": VAULT,
    "inforce": INFORCE,
    "scrubbing": SCRUBBING,
    "preview": SCRUBBING,
    "tenancy": TENANCY,
    "service": SERVICE,
    "withholding": WITHHOLDING,
    "cleaning": CLEANING,
    "conversation": CONVERSATION,
    "replacement": REPLACEMENT,
    "branching": BRANCHING,
    "accounting": ACCOUNTING,
    "particulars": PARTICULARS,
    "pausing": PAUSING,
    "revealing": REVEALING,
    "directory": DIRECTORY,
    "keys_db": KEYS_DB,
    "shared": SHARED,
    "registry": REGISTRY,
    "facet": FACET,
    "audit": AUDIT,
    "verification": VERIFICATION,
    "prices": COMMON,
    "rulebook": SCRUBBING | {"preview"},  # policies, without a store
    "billing": BILLING,
    "catalogue": CATALOGUE,
    "lifecycle": LIFECYCLE,
    "store": STORE,
    "aio": ABOVE,
    "doctor": ABOVE,
    "agents_sdk": AGENTS_SDK,
    "errors": set(),
    "policies": set(),
    "cli": {
        "clock",
        "doctor",
        "examples",
        "preview",
        "rulebook",
    },  # besides the public names: `from secure_memory import ...`
    "examples": set(),  # likewise
}

# Foreign libraries, and the only modules that may import them.
ONLY_IN = {
    "agents": ["agents_sdk.*", "cli.demo*", "examples.*"],
    "click": ["cli.*"],
    "rich": ["cli.*"],
    "ruamel": ["prices", "policy.strict"],
    "sqlcipher3": ["vault.sqlcipher"],
    "sqlite3": ["lifecycle.transfer.foreign"],  # which reads the databases of the SDK
}

# Modules that do no I/O and take time and randomness as arguments.
PURE = {
    "items",
    "vault.seal",
    "vault.chain",
    "ledger.entry",
    "ledger.merkle",
    "ledger.checkpoint",
    "ledger.export",
    "redaction.walk",
    "redaction.literals",
    "redaction.parts",
    "redaction.operators",
    "redaction.normalise",
    *(f"redaction.{name}" for name in ("candidate", "cards", "accounts", "contact", "phones", "identity", "national")),
    *(f"redaction.{name}" for name in ("credentials", "entities", "detect", "patterns")),
    "policy.checking",
    "policy.conflicts",
    "policy.difference",
    "policy.entities",
    "policy.examples",
    "policy.matching",
    "policy.merging",
    "policy.model",
    "policy.parts",
    "policy.weakening",
    "policy.wording",
    "policy.written",
    "policy.retention",
    "policy.durations",
    "policy.access",
}
IMPURE_MODULES = {
    *("asyncio", "concurrent", "fcntl", "http", "io", "logging", "multiprocessing", "os", "pathlib", "platformdirs"),
    *("random", "secrets", "shutil", "signal", "socket", "sqlcipher3", "sqlite3", "ssl", "structlog", "subprocess"),
    *("tempfile", "threading", "time", "urllib", "uuid"),
    # Of the clock only the time itself: how a time is written is as pure as can be.
    *("secure_memory.clock.now", "secure_memory.fork", "secure_memory.log"),
}
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today", "generate_key"}

MAX_LINES = 300


class Module(NamedTuple):
    """A source file and the name it has under `secure_memory`: "keys.local", or "keys" for a package's own file."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def modules(root: Path) -> Iterator[Module]:
    """Yield each module of the package; cli/, examples/ and policies/ under the names that they are installed by."""
    for folder, prefix in (("secure_memory", ()), *((name, (name,)) for name in ("cli", "examples", "policies"))):
        for path in sorted((root / folder).rglob("*.py")):
            parts = [*prefix, *path.relative_to(root / folder).with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield Module(name, path, ast.parse(path.read_text("utf-8")))


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each thing that a module imports, such as "secure_memory.keys.key.Key"."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = f"secure_memory.{module.package}".rstrip(".").split(".")
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def within(name: str, place: str) -> bool:
    """Whether a name is that place or lies in it."""
    return name == place or name.startswith(f"{place}.")


def upward(root: Path) -> Iterator[str]:
    """Yield each import of ours that goes where the module may not go."""
    for module in modules(root):
        room = module.name.partition(".")[0]
        if module.name == "":
            continue  # secure_memory/__init__.py is the front door: it names them all
        if room not in ROOMS:
            yield f"{module.path}: {room} has no place in ROOMS"
            continue
        allowed = ROOMS[room] | {room}
        for line, name in imports(module):
            if not within(name, "secure_memory"):
                continue
            target = name.partition(".")[2]
            public = target.partition(".")[0] not in ROOMS
            if not (any(within(target, place) for place in allowed) or (room in ("cli", "examples") and public)):
                yield f"{module.path}:{line}: {module.name} imports {name}"


def misplaced(root: Path) -> Iterator[str]:
    """Yield each import of a foreign library outside its place."""
    for module in modules(root):
        for line, name in imports(module):
            places = ONLY_IN.get(name.partition(".")[0], ["*"])
            if not any(fnmatch(module.name, place) or fnmatch(f"{module.name}.", place) for place in places):
                yield f"{module.path}:{line}: {module.name} imports {name}"


def impure(root: Path) -> Iterator[str]:
    """Yield each import or call by which a pure module could do I/O, or find out the time or a random number."""
    for module in modules(root):
        if module.name not in PURE:
            continue
        for line, name in imports(module):
            if any(within(name, forbidden) for forbidden in IMPURE_MODULES):
                yield f"{module.path}:{line}: {module.name} imports {name}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in IMPURE_CALLS:
                    yield f"{module.path}:{node.lineno}: {module.name} calls {called}()"


def too_long(root: Path) -> Iterator[str]:
    """Yield each module that wants to be two."""
    for module in modules(root):
        lines = len(module.path.read_text("utf-8").splitlines())
        if lines > MAX_LINES:
            yield f"{module.path}: {lines} lines"


def test_imports_go_downward() -> None:
    """No module of ours imports what is beside or above it."""
    assert [] == list(upward(ROOT))


def test_libraries_stay_in_their_place() -> None:
    """`agents`, `click`, `rich` and the database driver are each imported in one place only."""
    assert [] == list(misplaced(ROOT))


def test_pure_modules_are_pure() -> None:
    """Modules that the architecture calls pure do no I/O, and are given time and randomness."""
    assert [] == list(impure(ROOT))


def test_modules_are_short() -> None:
    """No module has more than 300 lines."""
    assert [] == list(too_long(ROOT))


def test_the_source_is_seen() -> None:
    """The checks above look at modules of each folder, so an empty answer means something."""
    assert {"errors", "keys.local", "policies", "cli.main"} <= {module.name for module in modules(ROOT)}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("secure_memory/keys/new.py", "from secure_memory.vault.vault import Vault"),
        ("secure_memory/keys/new.py", "from secure_memory.vault import vault"),
        ("secure_memory/keys/new.py", "from secure_memory import vault"),
        ("secure_memory/keys/new.py", "import secure_memory.vault.vault"),
        ("secure_memory/keys/new.py", "from ..vault import vault"),
        ("secure_memory/keys/new.py", "def later():\n    from secure_memory.ledger import entry"),
        ("secure_memory/keys/new.py", "if TYPE_CHECKING:\n    from secure_memory.store import SecureStore"),
        ("secure_memory/keys/new.py", "from secure_memory import SecureStore"),
        ("secure_memory/keys/__init__.py", "from ..policy import model"),
        ("secure_memory/vault/new.py", "from secure_memory.keys.keyring import Keyring"),
        ("secure_memory/vault/new.py", "from secure_memory import service"),
        ("secure_memory/store.py", "from secure_memory.aio import AsyncSecureStore"),
        ("secure_memory/clock.py", "from secure_memory.vault import vault"),
        ("secure_memory/errors.py", "from secure_memory import clock"),
        ("secure_memory/attic/old.py", "import json"),
        ("cli/main.py", "from secure_memory.store import SecureStore"),
        ("cli/main.py", "from ..keys import local"),
        ("examples/desk.py", "from secure_memory.store import SecureStore"),
        ("secure_memory/store.py", "from secure_memory.examples import support_desk"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, path: str, source: str) -> None:
    """However it is written, an import that goes the wrong way is found."""
    assert 1 == len(list(upward(plant(tmp_path, path, source))))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("secure_memory/keys/new.py", "from secure_memory import clock\nfrom secure_memory.errors import StorageError"),
        ("secure_memory/keys/new.py", "from secure_memory.keys import key\nfrom . import local\nfrom .key import Key"),
        ("secure_memory/vault/new.py", "from secure_memory.keys.key import Key\nfrom ..ledger import merkle"),
        ("secure_memory/actor.py", "from secure_memory.errors import AccessDeniedError"),
        ("secure_memory/__init__.py", "from secure_memory.store import SecureStore"),
        ("cli/audit.py", "from secure_memory import SecureStore, __version__\nfrom secure_memory.cli import main"),
        ("cli/audit.py", "import secure_memory\nfrom .main import main"),
        ("cli/demo_desk.py", "from secure_memory.examples.support_desk import SupportDesk"),
        ("examples/desk.py", "from secure_memory import SecureSession\nfrom secure_memory.examples import local_model"),
    ],
)
def test_a_downward_import_is_none_of_our_business(tmp_path: Path, path: str, source: str) -> None:
    """What the architecture allows is allowed."""
    assert [] == list(upward(plant(tmp_path, path, source)))


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("secure_memory/service.py", "import agents", 1),
        ("secure_memory/store.py", "def later():\n    from agents.memory import Session", 1),
        ("cli/main.py", "from agents import Runner", 1),
        ("cli/demo.py", "from agents import Runner", 0),
        ("cli/demo_desk.py", "from agents import Runner", 0),
        ("examples/desk.py", "from agents import Runner", 0),
        ("examples/desk.py", "import rich", 1),
        ("secure_memory/agents_sdk/__init__.py", "import agents", 0),
        ("secure_memory/agents_sdk/session.py", "import agents", 0),
        ("secure_memory/store.py", "import click, rich.table", 2),
        ("cli/main.py", "import click, rich.table", 0),
        ("secure_memory/vault/vault.py", "from sqlcipher3 import dbapi2", 1),
        ("secure_memory/vault/sqlcipher.py", "from sqlcipher3 import dbapi2", 0),
    ],
)
def test_a_misplaced_library_is_found(tmp_path: Path, path: str, source: str, found: int) -> None:
    """A library outside its place is found, and is left alone inside it."""
    assert found == len(list(misplaced(plant(tmp_path, path, source))))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os", 1),
        ("from os import urandom", 1),
        ("import os.path", 1),
        ("from secure_memory import clock\nclock.now()", 1),
        ("from secure_memory.clock import now", 1),
        ("from datetime import datetime\ndatetime.now()", 1),
        ("open('x').read()", 1),
        ("import hashlib, osmosis", 0),
        ("from secure_memory import clock\nclock.rfc3339(0)", 0),
        ("from datetime import datetime\ndatetime.fromisoformat('x')", 0),
    ],
)
def test_an_impure_module_is_found(tmp_path: Path, source: str, found: int) -> None:
    """I/O, the time and randomness are found in a pure module, by import or by call."""
    assert found == len(list(impure(plant(tmp_path, "secure_memory/vault/chain.py", source))))


def test_a_long_module_is_found(tmp_path: Path) -> None:
    """A module of 300 lines is let be, and one of 301 is not."""
    assert [] == list(too_long(plant(tmp_path, "cli/main.py", "\n" * 300)))
    assert 1 == len(list(too_long(plant(tmp_path, "cli/main.py", "\n" * 301))))


def plant(root: Path, path: str, source: str) -> Path:
    """Write one source file into an otherwise empty project, and return the project."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source)
    return root
