"""`secmem demo`: a support desk that remembers, encrypted and audited, and every word of it checked.

The story is in `demo_story`, and each of its days runs in a process of its own (`demo_day`); the desk is
`secure_memory.examples.support_desk`. Here it is told: each section does something, and says what that proves as claims.
A claim is printed with the outcome of checking it, and one that does not hold makes the command fail.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import click

from secure_memory import SecureMemoryError, SecureStore, TamperedError, acting_as
from secure_memory.cli.demo_checks import copy_store, fault_in_copy, flip_byte, read, search, verify
from secure_memory.cli.demo_page import Page
from secure_memory.cli.demo_privacy import erased, kept_out
from secure_memory.cli.demo_story import AGENT, CARD, PURPOSE, TENANT, WORDS, Day, DayFailedError, Place, Turn, play
from secure_memory.cli.options import BadUsage, Settings
from secure_memory.cli.output import table


@click.command()
@click.option("--live", is_flag=True, help="Use your OpenAI model (OPENAI_API_KEY) instead of a local stand-in.")
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the files, in a directory that is empty or new."
)
def demo(*, live: bool, keep: Path | None) -> None:
    """See it work: a support desk that remembers, encrypted and audited.

    It takes some seconds, needs no key and no network, and leaves nothing behind. Exit code 0 means that every claim it
    makes was checked and holds.

    \b
    Examples:
      secmem demo
      secmem demo --keep /tmp/desk
    """
    if live and not os.environ.get("OPENAI_API_KEY"):
        raise BadUsage("--live needs an OpenAI model", "set OPENAI_API_KEY, or leave --live away")
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise BadUsage(f"there is something at {keep} already", "name a directory that is empty or new")
    if keep is not None:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)

    page, started = Page(), time.monotonic()
    kept: AbstractContextManager[str] = nullcontext(str(keep))
    if keep is None:
        kept = tempfile.TemporaryDirectory(prefix="secmem-demo-")
    with kept as directory, acting_as(Settings().who()):
        place = Place(Path(directory).absolute())
        try:
            tell(page, place, live=live)
        except (DayFailedError, SecureMemoryError) as error:
            page.spoken("error", f"{type(error).__name__}: {error}")
            page.claim("everything went as it should", holds=False)
        if not page.failed:
            what_next(page)
        if keep is not None:
            where_kept(page, place)
    page.gap()
    seconds = time.monotonic() - started
    if page.failed:
        page.paragraph(f"{page.failed} of {page.checked} claims did NOT hold. That took {seconds:.1f} seconds.")
        raise SystemExit(1)
    page.paragraph(f"All {page.checked} claims were checked, and hold. That took {seconds:.1f} seconds.")


def tell(page: Page, place: Place, *, live: bool) -> None:
    """Tell the story, section by section. Raises DayFailedError, SecureMemoryError."""
    page.title("secmem demo: a support desk that remembers, and can prove what it kept")
    page.paragraph(
        "A real agent of the OpenAI Agents SDK, with real tools, talks to two customers. Its memory is a SecureSession, in "
        "the place of the SDK's SQLiteSession; nothing else about it is special."
    )
    page.paragraph(
        "The model is yours. The SDK's tracing is off: it would send a copy of each conversation to OpenAI's dashboard."
        if live
        else "Only the model is a stand-in that follows rules, so that nothing leaves this machine."
    )
    page.heading("1. Day one: Anna reports a duplicate charge")
    one = play("one", place, live=live)
    ticket = reported(page, one)
    page.heading("2. Her card number got no further than the door")
    kept_out(page, place, one.turns[0])
    page.heading("3. Day two: a new process, and the agent remembers")
    two = play("two", place, live=live)
    remembered(page, one, two, ticket)
    page.heading("4. Ben asks too, and gets to know nothing of Anna")
    stayed_apart(page, two.turns[1], ticket)
    page.heading("5. What was said is nowhere in the files")
    unreadable(page, place, (*WORDS, ticket))
    with SecureStore.open(place.store, keys=place.key, anchor=place.anchors) as store:
        page.heading("6. Who did what is in the ledger")
        recorded(page, store, [*one.turns, *two.turns], (*WORDS, ticket, CARD))
        page.heading("7. A check of everything passes")
        verified(page, store)
        page.heading("8. Ben wants to be forgotten")
        erased(page, store)
    page.heading("9. One byte is changed, and the check fails")
    tampered(page, place)


def reported(page: Page, day: Day) -> str:
    """Day one. Returns the number of the ticket."""
    (turn,) = day.turns
    dialogue(page, turn)
    ticket = turn.ticket or "(no ticket)"
    page.claim(
        f"the agent called a tool, and gave Anna the number that it drew at random: {ticket}", holds=ticket in turn.answer
    )
    page.claim(
        f"process {day.process} has ended: the next one has nothing but the store's files", holds=not runs(day.process)
    )
    return ticket


def remembered(page: Page, one: Day, two: Day, ticket: str) -> None:
    """Day two, Anna."""
    turn = two.turns[0]
    dialogue(page, turn)
    count = len(turn.remembered)
    page.claim(
        f"process {two.process} is a new one, and the memory gave its model {count} items of day one",
        holds=two.process != one.process and count > 0,
    )
    page.claim(
        f"{ticket} was in them, Anna didn't mention it, and the agent answered with it",
        holds=ticket in json.dumps(turn.remembered) and ticket not in turn.message and ticket in turn.answer,
    )


def stayed_apart(page: Page, turn: Turn, ticket: str) -> None:
    """Day two, Ben."""
    dialogue(page, turn)
    known = json.dumps([turn.given, turn.calls, turn.answer])
    page.claim(
        "the memory gave the model nothing for Ben: no item, no word of Anna's, no ticket of hers",
        holds=not turn.remembered and not any(word in known for word in (*WORDS, ticket)),
    )


def unreadable(page: Page, place: Place, words: tuple[str, ...]) -> None:
    """What was said can be read in the SDK's database, and not in the store."""
    page.paragraph(
        "Every file is searched from its first byte to its last for what Anna said, for her ticket, and for the name of "
        "her conversation. To show that the search works, the same conversation was also written by the SDK's SQLiteSession."
    )
    page.gap()
    plain, secure = search([place.plaintext], words), search([place.store, place.anchors], words)
    table(
        ("searched for", "SQLiteSession", "SecureSession"),
        [
            *((f'"{word}"', times(plain.found[word]), times(secure.found[word])) for word in words),
            ("bytes searched", f"{plain.size:,}", f"{secure.size:,}"),
        ],
    )
    page.gap()
    page.claim("in the plaintext database each of them is found", holds=all(plain.found.values()))
    page.claim(
        f"in the {secure.files} files of the store and its anchors, {secure.size:,} bytes, none of them is",
        holds=secure.size > 0 and not any(secure.found.values()),
    )


def recorded(page: Page, store: SecureStore, turns: list[Turn], words: tuple[str, ...]) -> None:
    """Every access is in the ledger, and nothing of what was said."""
    page.paragraph(
        "No read and no write happens without its entry: both are one transaction. The demo's own read, for the plaintext "
        "copy, is there as well, and so is the reading of this ledger: the last two."
    )
    page.gap()
    records = store.audit_log(tenant=TENANT)
    table(
        ("time (UTC)", "who", "for", "did", "conversation", "items"),
        [
            (
                record.to_json()["time"][11:23],
                record.entry.actor,
                record.entry.purpose,
                record.entry.action,
                record.session_name or ("(none yet)" if record.entry.action == "session.read" else None),
                record.entry.items,
            )
            for record in records
        ],
    )
    page.gap()
    agent = [record.entry for record in records if (record.entry.actor, record.entry.purpose) == (AGENT, PURPOSE)]
    did = Counter(entry.action for entry in agent)
    page.claim(
        f"for each of the {len(turns)} turns the ledger says that the agent read and wrote, and for which purpose",
        holds=did["session.read"] >= len(turns) and did["session.append"] >= len(turns),
    )
    entries = json.dumps([asdict(record.entry) for record in records], default=bytes.hex)
    page.claim(
        "no entry holds a word of what was said; names are looked up for the reader, who has the key",
        holds=not any(word in entries for word in words),
    )


def verified(page: Page, store: SecureStore) -> None:
    """The whole check passes."""
    page.paragraph(
        "Every hash is computed anew, every item opened. The anchor is kept outside the store and knows the newest state, "
        "so that an older copy in its place is noticed, too. (system) is the ledger of the store itself."
    )
    page.gap()
    reports = store.audit_verify()
    table(
        ("ledger of", "entries", "conversations", "items", "anchor"),
        [(report.tenant, report.entries, report.sessions, report.items, report.anchor) for report in reports],
    )
    page.gap()
    page.claim(
        f"all {sum(report.entries for report in reports)} entries and {sum(report.items for report in reports)} items are "
        "what was written, up to the newest",
        holds=all(report.anchor == "ok" and report.entries for report in reports),
    )


def tampered(page: Page, place: Place) -> None:
    """The whole check fails on a copy with one flipped byte, and so does a read."""
    copy_store(place)
    untouched = fault_in_copy(place, verify)
    flip = flip_byte(place.copy)
    page.paragraph(
        f"In a copy of the store, byte {flip.offset:,} of {flip.size:,} in Acme's vault is changed from {flip.before:#04x} "
        f"to {flip.after:#04x}. The check is run before and after."
    )
    found, refused = fault_in_copy(place, verify), fault_in_copy(place, read)
    page.gap()
    page.spoken("error", f"{type(found).__name__}: {found}")
    page.spoken("hint", f"{getattr(found, 'hint', None)}")
    page.gap()
    page.claim("before, the copy passes", holds=untouched is None)
    page.claim("after, the check fails with a TamperedError", holds=isinstance(found, TamperedError))
    page.claim("to read the conversations fails, too: what is not proven is not served", holds=refused is not None)


def what_next(page: Page) -> None:
    """What to do next."""
    page.heading("What to do next")
    page.paragraph("In an agent of your own, import SecureSession from secure_memory, and change one line:")
    page.line('    - session = SQLiteSession("user_123", "support.db")')
    page.line('    + session = SecureSession("user_123", "support.secmem")')
    page.paragraph("Try the desk that you just saw:  python -m secure_memory.examples.support_desk")
    page.paragraph("See what else there is:          secmem --help")


def where_kept(page: Page, place: Place) -> None:
    """How to look at what was kept."""
    page.gap()
    page.paragraph("The files were kept. To look around in them:")
    for name, path in (("STORE", place.store), ("KEY_FILE", place.key), ("ANCHOR", place.anchors)):
        page.line(f"    export SECMEM_{name}={quote(str(path))}")
    page.line("    secmem audit log")


def dialogue(page: Page, turn: Turn) -> None:
    """Tell what was said in a turn, and which tools were called."""
    page.spoken(turn.customer, turn.message)
    for tool, output in turn.calls:
        page.spoken("tool", f"{tool} -> {output}")
    page.spoken("agent", turn.answer)
    page.gap()


def runs(process: int) -> bool:
    """Whether there is a process of that id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def times(count: int) -> str:
    """How often something was found, in words."""
    return {0: "nowhere", 1: "once"}.get(count, f"{count} times")
