"""The wheel, as a user gets it: whole, under one top-level name, and working where nothing else is installed.

`cli/`, `examples/` and `policies/` stand beside the package in the source and inside it in the wheel, by setuptools'
`package-dir`; so what is tested here is not what the other tests import.
"""

from __future__ import annotations

import os
import shutil
import sys
import venv
import zipfile
from pathlib import Path, PurePosixPath
from subprocess import PIPE, STDOUT, run

import pytest

import secure_memory

# One process builds and installs once. Its time is mostly pip's, which fetches what the package depends on.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
PLACES = {"secure_memory": "secure_memory"} | {name: f"secure_memory/{name}" for name in ("cli", "examples", "policies")}
INSTALLED_SUFFIXES = {".py", ".typed", ".sql", ".yaml", ".json"}

IMPORT_ALL = """
import pkgutil, secure_memory
for module in pkgutil.walk_packages(secure_memory.__path__, "secure_memory."):
    __import__(module.name)
    print(module.name)
for name in secure_memory.__all__:
    getattr(secure_memory, name)
"""


def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints. It sees nothing of this process's Python, and has to end well."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = run(command, cwd=cwd, env=environ, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    assert 0 == done.returncode, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution, so that this has to be whole too."""
    # From a copy: setuptools builds in place, and would find there what an earlier build has left.
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PLACES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    dist = tmp_path_factory.mktemp("dist")
    output(sys.executable, "-m", "build", "--outdir", dist, source, cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of a new environment that holds the wheel and what it depends on."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, with_pip=True)
    output(place / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=place)
    return place / "bin"


def test_one_top_level_name(wheel: Path) -> None:
    """The wheel claims `secure_memory` and its own metadata, and no other name: no `cli`, no `policies`, no `tests`."""
    tops = {PurePosixPath(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"secure_memory", f"secure_memory-{secure_memory.__version__}.dist-info"} == tops


def test_every_file_is_in_the_wheel(wheel: Path) -> None:
    """Each module and data file of the source is in the wheel, in its place, and nothing else is."""
    expected = {
        str(PurePosixPath(place, path.relative_to(ROOT / folder).as_posix()))
        for folder, place in PLACES.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in INSTALLED_SUFFIXES
    }
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("secure_memory/")}
    assert expected == inside
    assert {
        "secure_memory/py.typed",
        "secure_memory/vault/schema.sql",
        "secure_memory/cli/main.py",
        "secure_memory/examples/support_desk.py",
        "secure_memory/policies/__init__.py",
    } <= inside


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    """The text of the licence goes with the code."""
    (licence,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/LICENSE"))
    assert (ROOT / "LICENSE").read_bytes() == zipfile.ZipFile(wheel).read(licence)


def test_the_dependencies_are_enough(programs: Path, tmp_path: Path) -> None:
    """Every module and every public name can be imported with nothing installed but the declared dependencies."""
    imported = output(programs / "python", "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert {"secure_memory.cli.main", "secure_memory.policies", "secure_memory.vault.sqlcipher"} <= set(imported)
    assert "No broken requirements found.\n" == output(programs / "python", "-m", "pip", "check", cwd=tmp_path)


def test_the_version(programs: Path, tmp_path: Path) -> None:
    """`secmem --version` is the version that the package has."""
    assert secure_memory.__version__ in output(programs / "secmem", "--version", cwd=tmp_path)


def test_the_demo(programs: Path, tmp_path: Path) -> None:
    """`secmem demo` runs from the wheel to its end, with no key, no network and no setting."""
    assert output(programs / "secmem", "demo", cwd=tmp_path)
