"""`secmem hold`: placed, listed and released by somebody who says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Talk = Callable[..., None]
PLACE = ("hold", "place", "M-14", "--tenant", "acme")


def test_place_list_release(run: Run, desk: Path) -> None:
    """A hold is placed on what was said, listed as long as it holds, and with `--all` afterwards too, with who and why."""
    placed = run(*PLACE, "--subject", "ana", "--actor", "user:maria", "--reason", "claim of 3 March")
    assert (0, "placed hold 1 for matter M-14 on subject ana of tenant acme\n") == (placed.code, placed.out)
    header, row = run("hold", "list").out.splitlines()
    assert ["tenant", "hold", "matter", "on", "placed", "by", "reason"] == header.split()[:7]
    assert ["acme", "1", "M-14", "subject", "ana"] == row.split()[:5]
    assert "user:maria" in row
    assert "claim of 3 March" in row
    released = run("hold", "release", "1", "--tenant", "acme", "--reason", "settled")
    assert "released hold 1 of matter M-14\n" == released.out
    assert 1 == len(run("hold", "list").out.splitlines())
    assert 2 == len(run("hold", "list", "--all", "--tenant", "acme").out.splitlines())
    (line,) = run("audit", "log", "--action", "hold.release", "--json").out.splitlines()
    assert "settled" == json.loads(line)["reason"]


@pytest.mark.parametrize(
    ("options", "on"),
    [
        ((), "everything"),
        (("--session", "user_123"), "session user_123"),
        (("--tag", "record=phi", "--tag", "desk=2"), "desk=2, record=phi"),
        (("--since", "2026-01-01", "--until", "2026-02-01"), "since 2026-01-01"),
        (("--session", "user_123", "--subject", "ana", "--tag", "a=b"), "session user_123, subject ana, a=b"),
    ],
)
def test_the_scope_is_said_back(run: Run, desk: Path, options: tuple[str, ...], on: str) -> None:
    """What is held is said back in words when it is placed, and when holds are listed."""
    assert f" on {on}" in run(*PLACE, *options).out
    assert on in run("hold", "list").out


def test_as_json(run: Run, desk: Path) -> None:
    """As JSON a hold has every field, its times as text; a list is a list."""
    placed = json.loads(run(*PLACE, "--since", "2026-01-01", "--json").out)
    assert ("acme", 1, "M-14", None, "2026-01-01T00:00:00.000000Z") == tuple(
        placed[name] for name in ("tenant", "id", "matter", "session", "since")
    )
    assert [placed] == json.loads(run("hold", "list", "--json").out)
    released = json.loads(run("hold", "release", "1", "--tenant", "acme", "--json").out)
    assert released["released"].endswith("Z")
    assert [] == json.loads(run("hold", "list", "--json").out)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hold", "place"), 2, "missing"),
        (("hold", "release", "0"), 2, "0"),
        (("hold", "release", "one"), 2, "one"),
        ((*PLACE, "--tag", "record"), 2, "is no tag"),
        ((*PLACE, "--since", "sometime"), 2, "sometime"),
        ((*PLACE, "--session", "nobody"), 1, "no such session"),
        ((*PLACE, "--subject", "nobody"), 1, "no such subject"),
        (("hold", "place", "M", "--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
        (("hold", "release", "7", "--tenant", "acme"), 1, "there is no hold 7"),
    ],
)
def test_what_can_not_be(run: Run, desk: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """What can't be held or released ends with the exit code of its kind and one sentence, and holds nothing."""
    done = run(*arguments)
    assert (code, "") == (done.code, done.out)
    assert said in done.err
    assert [] == json.loads(run("hold", "list", "--all", "--json").out)


def test_what_is_held_is_gone_for_the_agent_and_kept(run: Run, desk: Path) -> None:
    """Nobody gets a tag off a conversation that is held by it: exit code 8 is for what a hold blocks."""
    from secure_memory import LegalHoldError, SecureStore
    from secure_memory.cli.failure import failure_of

    run(*PLACE, "--subject", "ana")
    with SecureStore.open(desk) as store, store.session("user_123", tenant="acme") as session:
        with pytest.raises(LegalHoldError) as raised:
            session.blocking.assign_subject("ben")
        session.blocking.clear_session()
    assert 8 == failure_of(raised.value).exit_code
    assert "" == run("session", "show", "user_123", "--tenant", "acme").out.strip()
    assert 0 == run("audit", "verify").code
    (line,) = run("audit", "log", "--action", "session.withhold", "--json").out.splitlines()
    assert 4 == json.loads(line)["items"]
