"""`secmem key rotate`: which key, what it said, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def filed(desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The desk's key, in a key file."""
    import os

    file = tmp_path / "key"
    file.write_text(os.environ["SECMEM_KEY"] + "\n")
    file.chmod(0o600)
    monkeypatch.delenv("SECMEM_KEY")
    monkeypatch.setenv("SECMEM_KEY_FILE", str(file))
    return file


def test_the_kek(desk: Path, filed: Path, run: Callable[..., Any]) -> None:
    """A new key is made and wraps; the old one is destroyed when that is asked for; the store opens."""
    done = run("key", "rotate", "--new-key", "--reason", "yearly")
    assert 0 == done.code, done.err
    assert "the store root is wrapped by key " in done.out
    assert 2 == sum(not line.startswith("#") and bool(line.strip()) for line in filed.read_text().splitlines())
    assert "destroyed key " in run("key", "rotate", "--destroy-old").out
    assert 0 == run("session", "show", "user_123", "--tenant", "acme").code


def test_an_epoch(desk: Path, filed: Path, run: Callable[..., Any]) -> None:
    """The root is new, and the key before it is destroyed."""
    said = json.loads(run("key", "rotate", "--epoch", "--new-key", "--json").out)
    assert ("epoch", 1) == (said["what"], len(said["destroyed"]))
    assert 0 == run("audit", "verify").code


def test_an_epoch_with_the_key_in_the_environment(
    desk: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be destroyed from here is said to be left for whoever keeps it."""
    import base64
    import os

    monkeypatch.setenv("SECMEM_KEY", f"{base64.b64encode(bytes(range(1, 33))).decode()} {os.environ['SECMEM_KEY']}")
    done = run("key", "rotate", "--epoch")
    assert 0 == done.code, done.err
    assert "can't be destroyed from here" in done.out


def test_a_vault_and_a_person(desk: Path, run: Callable[..., Any]) -> None:
    """Each says the version of the new key, and how much was sealed anew."""
    assert "the file of tenant acme is under version 2 of its key" in run("key", "rotate", "--vault", "acme").out
    done = run("key", "rotate", "--subject", "ana", "--tenant", "acme")
    assert "sealed anew: 1 session with 4 items, under version 2" in done.out
    assert 0 == run("audit", "verify").code


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--epoch", "--vault", "acme"), 2, "one key is rotated at a time"),
        (("--vault", "acme", "--new-key"), 2, "about the KEK"),
        (("--vault", "nobody"), 1, "there is no tenant 'nobody'"),
        (("--subject", "nobody", "--tenant", "acme"), 1, "no such subject"),
        ((), 1, "wraps the store root already"),
        (("--epoch",), 1, "wraps the store root already"),
        (("--new-key",), 1, "no key can be made there"),
    ],
)
def test_what_is_refused(desk: Path, run: Callable[..., Any], arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each refusal says what is wrong, and changes nothing."""
    done = run("key", "rotate", *arguments)
    assert (code, True) == (done.code, said in done.err), done.err
    assert 0 == run("session", "show", "user_123", "--tenant", "acme").code
