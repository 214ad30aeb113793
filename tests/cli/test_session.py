"""`secmem session`: conversations, shown and recorded as shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secure_memory import SecureStore

Run = Callable[..., Any]
Talk = Callable[..., None]


def test_list(run: Run, desk: Path, talk: Talk) -> None:
    """Sessions are listed newest first, with subject, items and turns."""
    talk("later", {"role": "user", "content": "hello"})
    header, *rows = run("session", "list", "--tenant", "acme").out.splitlines()
    assert ["session", "subject", "items", "turns", "created"] == header.split()[:5]
    assert [["later", "later", "1", "1"], ["user_123", "ana", "4", "1"]] == [row.split()[:4] for row in rows]
    assert ["later"] == [
        row.split()[0] for row in run("session", "list", "--tenant", "acme", "-n", "1").out.splitlines()[1:]
    ]


def test_list_as_json(run: Run, desk: Path) -> None:
    """As JSON a session has its uid and its times."""
    (session,) = json.loads(run("session", "list", "--tenant", "acme", "--json").out)
    about = {"tags", "metadata", "ended", "reason"}
    assert {"uid", "name", "subject", "created", "last_activity", "items", "turns", *about} == set(session)
    assert session["created"].endswith("Z")


def test_list_what_matches(run: Run, desk: Path, talk: Talk) -> None:
    """Sessions are found by subject, by tag and by time; a tag has a name and a value."""
    talk("other", {"role": "user", "content": "hello"})
    with SecureStore.open(desk) as store:
        store.session("user_123", tenant="acme").blocking.set_tags(record="phi", region="eu")

    def names(*options: str) -> list[str]:
        listed = run("session", "list", "--tenant", "acme", *options).out.splitlines()[1:]
        return [line.split()[0] for line in listed]

    assert ["user_123"] == names("--subject", "ana") == names("--tag", "record=phi", "--tag", "region=eu")
    assert ["other", "user_123"] == names("--since", "1h")
    assert [] == names("--until", "1h") == names("--tag", "record=other") == names("--subject", "nobody")
    assert "record=phi, region=eu" in run("session", "list", "--tenant", "acme", "--subject", "ana").out
    assert 2 == run("session", "list", "--tag", "record").code


def test_review(run: Run, desk: Path) -> None:
    """A supervisor reads as in `show`, has to say what for, and is in the ledger as one who reviewed."""
    review = ("session", "review", "user_123", "--tenant", "acme", "--actor", "user:eve")
    shown = run("session", "show", "user_123", "--tenant", "acme").out
    assert shown == run(*review, "--purpose", "quality").out
    (line,) = run("audit", "log", "--action", "session.review", "--json").out.splitlines()
    assert ("user:eve", "quality", 4) == tuple(json.loads(line)[name] for name in ("actor", "purpose", "items"))
    without = run(*review)
    assert (2, "") == (without.code, without.out)
    assert "--purpose" in without.err


def test_show(run: Run, desk: Path) -> None:
    """A conversation is shown as what was said, by whom, and with which tools."""
    assert (
        "user\n  I was charged twice\n"
        'function_call create_ticket\n  {"subject":"charge"}\n'
        "function_call_output\n  T-1\n"
        "assistant\n  Ticket T-1.\n  Bye\n"
    ) == run("session", "show", "user_123", "--tenant", "acme").out


def test_show_the_newest(run: Run, desk: Path) -> None:
    """--limit shows the newest items alone; 0 is all of them."""
    show = ("session", "show", "user_123", "--tenant", "acme", "--json", "--limit")
    assert ["function_call_output", "message"] == [item["type"] for item in json.loads(run(*show, "2").out)]
    assert 4 == len(json.loads(run(*show, "0").out))


def test_showing_is_recorded(run: Run, desk: Path) -> None:
    """Whoever looks at a conversation is in the ledger."""
    run("session", "show", "user_123", "--tenant", "acme", "--actor", "user:eve")
    (line,) = run("audit", "log", "--who", "user:eve", "--action", "session.read", "--json").out.splitlines()
    entry = json.loads(line)
    assert (4, "user_123", "ana") == (entry["items"], entry["session_name"], entry["subject_name"])


def test_nothing_stored_is_obeyed(terminal: Run, run: Run, desk: Path, talk: Talk) -> None:
    """Escape sequences and markup in an item, its tool's name and its role are shown, on a terminal too."""
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202e [bold]x[/]"
    talk("evil", {"role": "user", "content": evil}, {"type": "function_call", "name": evil, "arguments": evil})
    talk("evil", {"role": evil, "content": [{"type": "input_text", "text": evil}, {"type": "image\x1b[2J"}]})
    shown = "\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\r\\u202e [bold]x[/]"
    for output in (
        run("session", "show", "evil", "--tenant", "acme").out,
        terminal("session", "show", "evil", "--tenant", "acme", NO_COLOR="1").out,
    ):
        assert 5 == output.count(shown)
        assert not set("\x1b\x07\x9b\r\u202e") & set(output)


def test_an_item_cannot_pass_for_another(run: Run, desk: Path, talk: Talk) -> None:
    """Text that looks like the head of another item is indented, as all text is."""
    talk("fake", {"role": "user", "content": "hello\nassistant\n  I grant you a refund"})
    lines = run("session", "show", "fake", "--tenant", "acme").out.splitlines()
    assert ["user"] == [line for line in lines if not line.startswith("  ")]


def test_json_is_exact(run: Run, desk: Path, talk: Talk) -> None:
    """As JSON the items are what was stored, and the text is ASCII, which no terminal obeys."""
    item = {"role": "user", "content": "\x1b[31m\u202e ✓", "n": 2**70, "nested": [{"a": None}]}
    talk("exact", item)
    printed = run("session", "show", "exact", "--tenant", "acme", "--json").out
    assert [item] == json.loads(printed)
    assert printed.isascii()
    assert "\x1b" not in printed


def test_no_such_session(run: Run, desk: Path) -> None:
    """A session that isn't there is an error, and so is a tenant."""
    assert (1, "") == (run("session", "show", "x", "--tenant", "acme").code, run("session", "show", "x").out)
    assert "there is no tenant 'default'" in run("session", "list").err
