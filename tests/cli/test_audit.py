"""`secmem audit`: the log that an auditor asks for, the whole check, and the anchors."""

from __future__ import annotations

import json
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock

Run = Callable[..., Any]
Talk = Callable[..., None]

DAY = 86400 * 1_000_000


def logged(run: Run, *filters: str) -> list[dict[str, Any]]:
    """The entries that match."""
    done = run("audit", "log", "--json", *filters)
    assert (0, "") == (done.code, done.err)
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_table(run: Run, desk: Path) -> None:
    """A row says when, whose ledger, who, what, to which session of whom, how many items, and how it ended."""
    header, *rows = (line.split("\t") for line in run("audit", "log", "--tenant", "acme").out.splitlines())
    assert ["time", "tenant", "actor", "action", "session", "subject", "items", "outcome"] == [c.strip() for c in header]
    (appended,) = ([cell.strip() for cell in row] for row in rows if "session.append" in row[3])
    assert ["acme", "user:maria", "session.append", "user_123", "ana", "4", "ok"] == appended[1:]
    assert appended[0].endswith("Z")


def test_the_subject_itself(run: Run, desk: Path, talk: Talk) -> None:
    """An actor who is the data subject is in the ledger by uid, and is shown by name while that can be known."""
    talk("bea", {"role": "user", "content": "hello"}, actor="bea")
    assert "bea (the subject)" in run("audit", "log", "--action", "session.append").out
    assert logged(run, "--session", "bea", "--action", "session.append")[0]["actor"].startswith("subject:")


@pytest.mark.parametrize(
    ("filters", "actions"),
    [
        (("--tenant", "acme", "--action", "session.append"), ["session.append"]),
        (("--action", "session.*"), ["session.create", "session.append"]),
        (("--session", "user_123"), ["session.create", "session.append"]),
        (("--subject", "ana", "--action", "session.create"), ["session.create"]),
        (("--who", "user:maria"), ["tenant.create", "tenant.create", "session.create", "session.append"]),
        (("--who", "user:maria", "--limit", "1"), ["session.append"]),
        (("--who", "user:maria", "-n", "0"), ["tenant.create", "tenant.create", "session.create", "session.append"]),
        (("--outcome", "denied"), []),
        (("--session", "nobody"), []),
        (("--who", "user:maria", "--until", "2020-01-01"), []),
        (
            ("--who", "user:maria", "--since", "2020-01-01T00:00:00Z"),
            ["tenant.create", "tenant.create", "session.create", "session.append"],
        ),
    ],
)
def test_filters(run: Run, desk: Path, filters: tuple[str, ...], actions: list[str]) -> None:
    """Only entries that match everything given are shown, in order of time."""
    assert actions == [entry["action"] for entry in logged(run, *filters)]


def test_times(run: Run, place: Path, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """--since and --until take a date, RFC 3339 with any offset, and how long ago."""
    today = clock.parse("2026-11-22T12:00:00Z")
    monkeypatch.setattr(clock, "now", lambda: today - 3 * DAY)
    run("init")
    talk("old", {"role": "user", "content": "hello"})
    monkeypatch.setattr(clock, "now", lambda: today)
    talk("new", {"role": "user", "content": "hello"})
    appends = ("--action", "session.append")
    for filters, sessions in (
        (("--since", "24h"), ["new"]),
        (("--since", "1w"), ["old", "new"]),
        (("--until", "2d"), ["old"]),
        (("--since", "2026-11-20"), ["new"]),
        (("--since", "2026-11-19T13:00:00+01:00"), ["old", "new"]),
        (("--since", "2026-11-19T12:00:01Z"), ["new"]),
        (("--since", "2026-11-19", "--until", "2026-11-22"), ["old"]),
    ):
        assert sessions == [entry["session_name"] for entry in logged(run, *appends, *filters)], filters


@pytest.mark.parametrize("text", ["yesterday", "", "7", "7y", "2026-13-01", "9999999999d", "-1h"])
def test_what_is_no_time(run: Run, desk: Path, text: str) -> None:
    """What is no time is a usage error that shows what one is."""
    done = run("audit", "log", "--since", text)
    assert (2, "") == (done.code, done.out)
    assert "2026-11-22T03:00:00Z" in done.err


def test_follow_goes_forward_only(run: Run, desk: Path) -> None:
    """--follow shows what is to come, so that what was is not asked for with it."""
    for option in (("--since", "1h"), ("--until", "1h"), ("--limit", "5")):
        assert 2 == run("audit", "log", "--follow", *option).code


@contextmanager
def following(*options: str) -> Iterator[subprocess.Popen[str]]:
    """`secmem audit log --follow` in a process of its own."""
    secmem = Path(sys.executable).with_name("secmem")
    command = [secmem, "audit", "log", "--follow", *options]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_follow(desk: Path, talk: Talk) -> None:
    """Entries of other processes are shown as they come, one JSON object a line; Ctrl-C ends it well."""
    with following("--json", "--action", "session.append") as child:
        assert child.stdout is not None
        deadline = time.monotonic() + 30
        # The log is followed from some moment on that can't be seen from here: so more is written until one is shown.
        while not select.select([child.stdout], [], [], 0.1)[0]:
            assert time.monotonic() < deadline
            talk("other", {"role": "user", "content": "hello"}, actor="user:maria")
        entry = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
        assert ("session.append", "other", "user:maria") == (entry["action"], entry["session_name"], entry["actor"])
        assert (0, "") == (child.returncode, errors)


def test_verify(run: Run, desk: Path) -> None:
    """Every vault is named with what was checked, and the end says in words what that means."""
    header, *rows, end = run("audit", "verify").out.splitlines()
    assert ["tenant", "entries", "sessions", "items", "root", "anchor"] == header.split()
    assert [["(system)", "0", "0", "ok"], ["acme", "1", "4", "ok"]] == [
        [row.split()[n] for n in (0, 2, 3, 5)] for row in rows
    ]
    assert end.startswith("everything verifies: ")
    assert "1 session and 4 items in 2 vaults are exactly what was written" in end


def test_verify_one(run: Run, desk: Path) -> None:
    """One tenant can be verified alone; as JSON with the whole root."""
    (report,) = json.loads(run("audit", "verify", "--tenant", "acme", "--json").out)
    assert ("acme", 64, "ok") == (report["tenant"], len(report["root"]), report["anchor"])


def test_verify_without_an_anchor(run: Run, desk: Path) -> None:
    """Where an anchor can't be read, the end says what could not be said."""
    assert "but" not in run("audit", "verify").out
    (acme,) = (report for report in json.loads(run("audit", "anchor", "--json").out) if report["tenant"] == "acme")
    Path(acme["path"]).unlink()
    Path(acme["path"]).mkdir()
    done = run("audit", "verify")
    assert 0 == done.code
    assert "but 1 vault had no anchor to compare with" in done.out


def test_verify_shows_progress_on_a_terminal_only(terminal: Run, process: Run, desk: Path) -> None:
    """Progress is for who looks: a terminal sees it, and it leaves nothing behind; a pipe doesn't."""
    assert "verifying" in terminal("audit", "verify").out
    assert "" == process("audit", "verify").err


def test_anchor(run: Run, desk: Path, tmp_path: Path) -> None:
    """What the anchors know is shown, with the file of each."""
    system, acme = json.loads(run("audit", "anchor", "--json").out)
    assert ("(system)", "acme", "ok") == (system["tenant"], acme["tenant"], acme["state"])
    assert acme["path"].startswith(str(tmp_path / "anchors"))
    assert acme["entries"] == acme["seen"]


def test_anchor_init(run: Run, desk: Path, tmp_path: Path) -> None:
    """Anchors that were lost are begun anew, which is itself an entry, with the reason given."""
    shutil.rmtree(tmp_path / "anchors")
    done = run("audit", "anchor", "--init", "--reason", "the volume was replaced")
    assert 0 == done.code
    assert "begun anew: 2 anchors" in done.out
    gaps = [gap for gap in logged(run, "--action", "audit.gap") if gap.get("reason")]
    assert [("(system)", "the volume was replaced"), ("acme", "the volume was replaced")] == [
        (gap["tenant_name"], gap["reason"]) for gap in gaps
    ]
