"""`secmem demo`: what it claims is so, each claim can fail, and it leaves nothing behind and calls nobody.

One run is looked at by most tests: the installed command in a home of its own, with an audit hook in each of its processes
that writes down what they do with sockets (https://docs.python.org/3/library/audit_events.html).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore
from secure_memory.cli import demo as told
from secure_memory.cli.demo_checks import search
from secure_memory.cli.demo_page import Page
from secure_memory.cli.demo_story import WORDS, Day, Place, Turn, play

ROOT = Path(__file__).parents[2]
Run = Callable[..., Any]

# All runs of the demo in one process, so that the one that is shared is made once.
pytestmark = pytest.mark.xdist_group("demo")

GUARD = """
import os, sys

def note(line):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(line + "\\n")

def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        note(f"{event} {arguments[1:]!r}")

note("started")
sys.addaudithook(hook)
"""

CLAIMS = [
    r"the agent called a tool, and gave Anna the number that it drew at random: T-\d{6}",
    r"process \d+ has ended: the next one has nothing but the store's files",
    r"the model was given CARD_NUMBER_[a-z2-7]{16} in its place",
    r"the number is in no file of the store",
    r"Maria, who gave her reason, was told it, and the ledger says so",
    r"process \d+ is a new one, and the memory gave its model 4 items of day one",
    r"T-\d{6} was in them, Anna didn't mention it, and the agent answered with it",
    r"the memory gave the model nothing for Ben: no item, no word of Anna's, no ticket of hers",
    r"in the plaintext database each of them is found",
    r"in the 7 files of the store and its anchors, [\d,]+ bytes, none of them is",
    r"for each of the 3 turns the ledger says that the agent read and wrote, and for which purpose",
    r"no entry holds a word of what was said; names are looked up for the reader, who has the key",
    r"all \d+ entries and 11 items are what was written, up to the newest",
    r"the certificate is signed, and names nobody",
    r"his conversation can't be read any more, by anybody",
    r"everything else still verifies",
    r"before, the copy passes",
    r"after, the check fails with a TamperedError",
    r"to read the conversations fails, too: what is not proven is not served",
]


@dataclass(frozen=True)
class Seen:
    """One run of the demo: what it printed, what its processes did with the network, and what was there afterwards."""

    code: int
    out: str
    err: str
    network: list[str]
    left: list[Path]


def environ_in(place: Path) -> dict[str, str]:
    """An environment with nothing of ours in it, a home that is empty, and the guard in each process of Python."""
    ours = ("SECMEM_", "XDG_", "OPENAI_", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHON")  # pytest-xdist sets COLUMNS
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    for name in ("home", "tmp", "here", "guard"):
        (place / name).mkdir()
    (place / "guard" / "sitecustomize.py").write_text(GUARD)
    places = {"HOME": "home", "TMPDIR": "tmp", "PYTHONPATH": "guard", "NETWORK_LOG": "network"}
    return kept | {name: str(place / path) for name, path in places.items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Run the installed `secmem demo`, its output in pipes."""
    place = tmp_path_factory.mktemp("demo")
    command = [Path(sys.executable).with_name("secmem"), "demo"]
    environ = environ_in(place)
    done = subprocess.run(command, cwd=place / "here", env=environ, capture_output=True, text=True, timeout=100, check=False)
    left = [path for name in ("home", "tmp", "here") for path in (place / name).rglob("*")]
    return Seen(done.returncode, done.stdout, done.stderr, (place / "network").read_text().splitlines(), left)


def test_it_ends_well(seen: Seen) -> None:
    """The demo exits with 0, and has nothing to say on standard error."""
    assert (0, "") == (seen.code, seen.err)
    assert f"All {len(CLAIMS)} claims were checked, and hold." in seen.out


@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_is_made_and_holds(seen: Seen, claim: str) -> None:
    """Each claim stands there once, with the mark of one that was checked."""
    assert 1 == len(re.findall(rf"^   ✓ {claim}$", seen.out, re.MULTILINE))


def test_no_other_claim_is_made(seen: Seen) -> None:
    """There is a pattern above for each claim, and none of them failed."""
    assert len(CLAIMS) == seen.out.count("✓")
    assert "✗" not in seen.out


def test_the_ticket_is_not_written_down_anywhere(seen: Seen) -> None:
    """One number goes through the whole story, and the source has none."""
    assert 1 == len(set(re.findall(r"T-\d{6}", seen.out)))
    story = [*(ROOT / "cli").glob("demo*.py"), ROOT / "examples/support_desk.py", ROOT / "examples/local_model.py"]
    source = [path.read_text() for path in story]
    assert len(source) > 4
    assert [] == re.findall(r"T-\d{6}", "".join(source))


def test_it_reads_well_in_a_pipe(seen: Seen) -> None:
    """In a pipe there is no color, and no line is longer than 100 columns."""
    assert "\x1b" not in seen.out
    assert [] == [line for line in seen.out.splitlines() if len(line.expandtabs(1)) > 100]


def test_it_leaves_nothing_behind(seen: Seen) -> None:
    """No file is left in the home, in the directory for temporary files, or where the demo was called."""
    assert [] == seen.left


def test_it_calls_nobody(seen: Seen) -> None:
    """The command and its two days ran under the guard, and none of them touched the network."""
    assert {"started"} == set(seen.network)
    assert len(seen.network) >= 3


def test_the_guard_sees_a_call(tmp_path: Path) -> None:
    """A process that does call somebody is found by what `test_it_calls_nobody` looks at."""
    call = "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", call], env=environ_in(tmp_path), check=True)
    assert "socket.connect (('127.0.0.1', 9),)" in (tmp_path / "network").read_text().splitlines()


def test_it_reads_well_on_a_terminal(terminal: Run, place: Path, tmp_path: Path) -> None:
    """On a terminal of 100 columns no line is wider, NO_COLOR is respected, and a store that the environment names is left
    alone. With `--keep` the files are kept, and what is printed at the end opens them."""
    done = terminal("demo", "--keep", str(tmp_path / "kept"), columns=100, NO_COLOR="1")
    assert 0 == done.code
    assert "\x1b[3" not in done.out  # 30 to 37 are the colors
    shown = re.sub(r"\x1b\[\d*m", "", done.out).splitlines()
    assert [] == [line for line in shown if len(line) > 100 and "export" not in line]
    assert not place.exists()
    printed = dict(re.findall(r"export (\w+)=(\S+)", done.out))
    with SecureStore.open(
        printed["SECMEM_STORE"], keys=printed["SECMEM_KEY_FILE"], anchor=printed["SECMEM_ANCHOR"]
    ) as store:
        assert 6 == len(store.session_show("support-anna", tenant="acme"))


def test_loading_it_is_cheap() -> None:
    """To load the command is not to load the SDK: `secmem demo --help` doesn't wait for it."""
    source = "import sys, secure_memory.cli.demo; sys.exit('agents' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", source], check=False).returncode


# ---- each claim can fail --------------------------------------------------------------------------------------------

TICKET = "T-123456"
DAY_ONE = Turn("anna", "It was charged twice", f"It is {TICKET}", [("create_ticket", f"ticket {TICKET}")], [[{}]])
ANNA = Turn("anna", "Any news?", f"{TICKET} is open", [], [[{"content": f"ticket {TICKET}"}, {"content": "Any news?"}]])
BEN = Turn("ben", "What of mine?", "Nothing", [("list_tickets", "no tickets")], [[{"content": "What of mine?"}]])


@pytest.fixture
def page() -> Page:
    """A page on which nothing stands yet."""
    return Page()


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    ("turn", "failed"),
    [
        (DAY_ONE, 0),
        (replace(DAY_ONE, calls=[]), 1),  # it called no tool
        (replace(DAY_ONE, answer="It is T-654321"), 1),  # it made the number up
    ],
)
def test_day_one_can_fail(page: Page, ended: int, turn: Turn, failed: int) -> None:
    """A ticket counts only if the tool drew its number and the agent told it."""
    told.reported(page, Day(ended, [turn]))
    assert failed == page.failed


def test_a_process_that_goes_on_is_found(page: Page) -> None:
    """The claim that day one's process has ended fails while it runs."""
    told.reported(page, Day(os.getpid(), [DAY_ONE]))
    assert 1 == page.failed


@pytest.mark.parametrize(
    ("turn", "process", "failed"),
    [
        (ANNA, 2, 0),
        (ANNA, 1, 1),  # the process of day one
        (replace(ANNA, given=[[{"content": "Any news?"}]]), 2, 2),  # the memory brought nothing
        (replace(ANNA, message=f"Any news of {TICKET}?"), 2, 1),  # no need to remember
        (replace(ANNA, answer="What ticket?"), 2, 1),
    ],
)
def test_day_two_can_fail(page: Page, turn: Turn, process: int, failed: int) -> None:
    """The agent remembers only if another process answers with what the memory brought, and nothing else did."""
    told.remembered(page, Day(1, [DAY_ONE]), Day(process, [turn]), TICKET)
    assert failed == page.failed


@pytest.mark.parametrize(
    ("turn", "failed"),
    [
        (BEN, 0),
        (replace(BEN, answer=f"Do you mean {TICKET}?"), 1),
        (replace(BEN, calls=[("list_tickets", f"{TICKET}: {WORDS[1]}")]), 1),
        (replace(BEN, given=[[{"content": "an item from before"}, {"content": "What of mine?"}]]), 1),
    ],
)
def test_staying_apart_can_fail(page: Page, turn: Turn, failed: int) -> None:
    """Anything of Anna's in Ben's turn is found, and so is any memory of what Ben never said."""
    told.stayed_apart(page, turn, TICKET)
    assert failed == page.failed


@pytest.mark.parametrize("leak", ["charged twice", "CHARGED TWICE", "charged twice".encode("utf-16-le")])
def test_a_readable_word_is_found(page: Page, tmp_path: Path, leak: str | bytes) -> None:
    """A word that can be read in one file of the store makes the claim fail."""
    files = Place(tmp_path)
    for directory, text in ((files.plaintext, "a charged twice b"), (files.store, "nothing"), (files.anchors, "nothing")):
        directory.mkdir()
        (directory / "file").write_text(text)
    told.unreadable(page, files, ("charged twice",))
    assert 0 == page.failed
    (files.store / "vaults").mkdir()
    (files.store / "vaults" / "leak").write_bytes(b"\x00" * 5000 + (leak if isinstance(leak, bytes) else leak.encode()))
    told.unreadable(page, files, ("charged twice",))
    assert 1 == page.failed


def test_a_search_that_finds_nothing_anywhere_is_found(page: Page, tmp_path: Path) -> None:
    """Nothing is proven by searching nothing: both claims fail where there are no files."""
    told.unreadable(page, Place(tmp_path), ("charged twice",))
    assert 2 == page.failed


def test_the_name_of_a_file_is_searched(tmp_path: Path) -> None:
    """A conversation's name must not be the name of a file either."""
    (tmp_path / "support-anna.db").write_text("nothing")
    assert {"support-anna": 1} == search([tmp_path], ["support-anna"]).found


def test_the_ledger_can_fail(page: Page, desk: Path) -> None:
    """Reads and writes that are not the agent's don't count, and a word in an entry is found."""
    with SecureStore.open(desk) as store:
        told.recorded(page, store, [DAY_ONE], ("user:maria",))
    assert 2 == page.failed


def test_an_unflipped_byte_makes_the_demo_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the changed byte isn't changed, the check finds nothing wrong: the demo says so, and exits with 1."""
    flip = told.flip_byte

    def there_and_back(store: Path) -> object:
        flip(store)
        return flip(store)

    monkeypatch.setattr(told, "flip_byte", there_and_back)
    monkeypatch.setenv("COLUMNS", "100")
    done = run("demo")
    assert 1 == done.code
    assert "✗ after, the check fails with a TamperedError" in done.out
    assert f"2 of {len(CLAIMS)} claims did NOT hold." in done.out


def test_a_day_that_fails_makes_the_demo_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day's process that breaks is told of, with its last words, and the demo exits with 1."""
    monkeypatch.setattr(told, "play", lambda day, place, live: play("never", place, live=live))
    done = run("demo")
    assert 1 == done.code
    assert "DayFailedError: KeyError: 'never'" in done.out
    assert "✗ everything went as it should" in done.out


# ---- usage ----------------------------------------------------------------------------------------------------------


def test_live_needs_a_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key for the model `--live` is a usage error that says what to set."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = run("demo", "--live")
    assert (2, "") == (done.code, done.out)
    assert "set OPENAI_API_KEY" in done.err


def test_what_is_there_is_not_written_over(run: Run, tmp_path: Path) -> None:
    """`--keep` takes a directory that is empty or new, and touches no other."""
    (tmp_path / "precious").write_text("mine")
    done = run("demo", "--keep", str(tmp_path))
    assert (2, "") == (done.code, done.out)
    assert ["precious"] == [path.name for path in tmp_path.iterdir()]
