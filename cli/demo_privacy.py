"""What `secmem demo` tells of personal data: a card number that never gets in, and a customer who is erased."""

from __future__ import annotations

import json
import re

from secure_memory import Actor, ConfigurationError, KeyDestroyedError, SecureStore, acting_as
from secure_memory.cli.demo_checks import search
from secure_memory.cli.demo_page import Page
from secure_memory.cli.demo_story import CARD, TENANT, Place, Turn

TOKEN = re.compile(r"CARD_NUMBER_[a-z2-7]{16}")
BEN = "support-ben"


def kept_out(page: Page, place: Place, turn: Turn) -> None:
    """The card number is in no file and was in no input of the model; whoever may can have it, and is recorded."""
    page.paragraph(
        "Nobody wrote a policy. The baseline, which is in force then, replaces card numbers by tokens before anything is "
        "kept or sent. The number itself is sealed under Anna's own key, for who gives a reason."
    )
    page.gap()
    given = json.dumps(turn.given)
    token = next(iter(TOKEN.findall(given)), "(no token)")
    page.claim(f"the model was given {token} in its place", holds=CARD not in given and bool(TOKEN.fullmatch(token)))
    files = search([place.store, place.anchors], (CARD, CARD.replace(" ", "")))
    page.claim("the number is in no file of the store", holds=files.size > 0 and not any(files.found.values()))
    with (
        acting_as(Actor("user:maria", reason="refund of the second charge")),
        SecureStore.open(place.store, keys=place.key, anchor=place.anchors) as store,
    ):
        told = store.reveal(token, tenant=TENANT)
        known = store.audit_log(tenant=TENANT, action="session.reveal")
    page.claim(
        "Maria, who gave her reason, was told it, and the ledger says so",
        holds=told == CARD
        and [(r.entry.actor, r.entry.reason) for r in known] == [("user:maria", "refund of the second charge")],
    )


def erased(page: Page, store: SecureStore) -> None:
    """A customer's keys are destroyed, and with them what they sealed; a certificate says so; all else still verifies."""
    page.paragraph(
        "His keys are destroyed first, then the rows are deleted, then the files are searched for what was there."
    )
    page.gap()
    with acting_as(Actor("user:petra", reason="erasure request 18")):
        done = store.subject_erase("ben", tenant=TENANT)
    text = done.certificate.text()
    for line in text[text.index("WHAT WAS ERASED") : text.index("WHAT WAS KEPT")].rstrip().splitlines():
        if line:
            page.line(f"    {line}")
        else:
            page.gap()
    page.gap()
    done.certificate.check()
    page.claim("the certificate is signed, and names nobody", holds="ben" not in re.findall(r"[a-z]+", text.lower()))
    page.claim("his conversation can't be read any more, by anybody", holds=_unreadable(store))
    page.claim("everything else still verifies", holds=all(report.entries for report in store.audit_verify()))


def _unreadable(store: SecureStore) -> bool:
    try:
        return not store.session_show(BEN, tenant=TENANT)
    except (KeyDestroyedError, ConfigurationError):
        return True
