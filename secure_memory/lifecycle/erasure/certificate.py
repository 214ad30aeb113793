"""The certificate of an erasure: what was destroyed, how, and what was kept; signed, for whoever asks.

- It says uids, key ids and counts, never a name: it can be given away and kept when everything else is gone. Whose uid it
  is, the person who asked knows from the letter that it comes with.
- It is canonical JSON (RFC 8785) under an Ed25519 signature (RFC 8032) by the store's signing key, whose public half is in
  it. With the file alone one sees that nothing was changed since it was signed; with the store, also that this store signed
  it.
- It does not say when backups forget: no key provider here attests that a key was destroyed. It says what that hangs on.

`text` is for a person: what a patient's lawyer reads.
"""

from __future__ import annotations

import base64
import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secure_memory import clock
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.keys.provider import wrapped_by
from secure_memory.keys.tombstones import Tombstone
from secure_memory.ledger.entry import canonical
from secure_memory.shared import SharedStore
from secure_memory.tenancy import Tenant
from secure_memory.vault.erasures import Erasure

FORMAT = "secure-memory/erasure/v1"
METHOD = (
    "Each session's items were sealed with AES-256-GCM under a random key of that session, wrapped under a random key of the"
    " subject. These keys were destroyed: deleted from the key database and its write-ahead log. Then the sealed items and"
    " names were deleted and overwritten in the tenant's database, and its write-ahead log was truncated."
)
TENANT_METHOD = (
    "The ledger was archived under the store's archive key, and the archive read back and compared with the ledger's root."
    " Then the tenant's root key and every key below it were destroyed: deleted from the key database and its write-ahead"
    " log. Then the tenant's database was removed: it was encrypted as a whole under one of these keys."
)
WIDTH = 78


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate: what it states, the signature (64 bytes) and the public key (32 bytes)."""

    statement: Mapping[str, Any]
    signature: bytes
    public_key: bytes

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Certificate:
        """The certificate of that file, whose signature is right. Whose key signed it is not asked: see
        `SecureStore.certificate_verify`. Raises ConfigurationError where it is none, TamperedError."""
        try:
            found = parse(Path(path).read_text())
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            raise ConfigurationError(f"the certificate {path} can't be read: {why}") from None
        found.check()
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of what is signed, in hex: the ledger has it."""
        return sha256(_signed(self.statement)).hexdigest()

    def to_json(self) -> str:
        """The file."""
        keys = {"public_key": _text(self.public_key), "signature": _text(self.signature)}
        return json.dumps({"statement": dict(self.statement), **keys}, indent=2, sort_keys=True)

    def check(self, public_key: bytes | None = None) -> None:
        """Check the signature, and that it is by that key where one is given. Raises TamperedError."""
        if public_key is not None and public_key != self.public_key:
            raise TamperedError("the certificate is signed by another key than this store's", hint=_HINT)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, _signed(self.statement))
        except (InvalidSignature, ValueError):
            raise TamperedError("the certificate is not what was signed", hint=_HINT) from None

    def text(self) -> str:
        """What it says, for a person."""
        return "\n".join(_lines(self.statement, _text(self.public_key)))


_HINT = "ask for the certificate again: `secmem subject erase` answers with the one that was issued"


def key_of(stone: Tombstone) -> dict[str, Any]:
    """What a certificate says of a key that was destroyed."""
    return {
        "owner": stone.owner.hex(),
        "purpose": stone.purpose,
        "version": stone.version,
        "destroyed": clock.rfc3339(stone.destroyed),
    }


def issue(shared: SharedStore, statement: Mapping[str, Any]) -> Certificate:
    """Sign a statement with the store's key."""
    key = _signing_key(shared)
    return Certificate(statement, key.sign(_signed(statement)), _public(key))


def of_erasure(shared: SharedStore, tenant: Tenant, erasure: Erasure) -> Certificate:
    """The certificate of the erasure of a subject or a session, signed."""
    return issue(
        shared,
        {
            **_head(shared, erasure.kind, tenant.keys.uid.hex(), erasure.begun, erasure.actor, erasure.reason),
            "subject": erasure.subject,
            "sessions": list(erasure.sessions),
            "method": METHOD,
            "keys": [dict(key) for key in erasure.keys],
            "items": dict(erasure.items),
            "tokens": erasure.tokens,
            "withheld": [dict(one) for one in erasure.withheld],
            "archives": list(erasure.archives),
            "searched": {**erasure.searched, "found": 0},
            "tombstones": erasure.listed,
        },
    )


def of_tenant(shared: SharedStore, erasure: Erasure) -> Certificate:
    """The certificate of the erasure of a tenant, signed. Of its keys it names those that all others were below."""
    return issue(
        shared,
        {
            **_head(shared, "tenant", erasure.subject, erasure.begun, erasure.actor, erasure.reason),
            "method": TENANT_METHOD,
            "keys": [dict(key) for key in erasure.keys],
            "items": dict(erasure.items),
            "session_count": erasure.figures["count"],
            "usage": dict(erasure.figures["usage"]),
            "archived": dict(erasure.figures["archived"]),
            "withheld": [],
            "searched": {**erasure.searched, "found": 0},
            "tombstones": erasure.listed,
        },
    )


def _head(shared: SharedStore, kind: str, tenant: str, begun: int, actor: str, reason: str | None) -> dict[str, Any]:
    kek = wrapped_by(shared.manifest.wrapped_root) if shared.path is not None else "in memory"
    return {
        "format": FORMAT,
        "kind": kind,
        "store": shared.manifest.uid.hex(),
        "tenant": tenant,
        "asked_by": actor,
        "reason": reason or "",
        "begun": clock.rfc3339(begun),
        "done": clock.rfc3339(clock.now()),
        "backups": {"provider": shared.provider.kind, "kek": kek, "attested": False},
    }


def parse(text: str) -> Certificate:
    """The certificate of a file, not yet checked. Raises ConfigurationError where it is none."""
    try:
        found = json.loads(text)
        statement = found["statement"]
        if statement["format"] != FORMAT:
            raise ValueError("another format")
        return Certificate(statement, _bytes(found["signature"]), _bytes(found["public_key"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError("this is no certificate of an erasure", hint="name the JSON file that was issued") from None


def public_key(shared: SharedStore) -> bytes:
    """The store's public key (32 bytes)."""
    return _public(_signing_key(shared))


def _signing_key(shared: SharedStore) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(shared.keyring.store_key("signing").bytes)


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _signed(statement: Mapping[str, Any]) -> bytes:
    return f"{FORMAT}\n".encode() + canonical(statement)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# ---- for a person ---------------------------------------------------------------------------------------------------


def _lines(said: Mapping[str, Any], public_key: str) -> list[str]:
    items, tokens = sum(said["items"].values()), said.get("tokens", 0)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(said["items"].items()) if count)
    lines = ["CERTIFICATE OF ERASURE", "", *_facts(said), "", "WHAT WAS ERASED", ""]
    if items or not said["withheld"]:
        lines += _said(
            f"{_counted(items, 'item')} of conversation{f' ({kinds})' if kinds else ''}, {_counted(tokens, 'token')}."
        )
    else:
        lines += _said("Nothing could be deleted yet: all of it has to be kept, as said below. The old keys were destroyed.")
    if "archived" in said:
        entries, root = _counted(said["archived"]["entries"], "entry"), said["archived"]["root"]
        lines += _said(f"The ledger, {entries} with the root {root}, is in the archive {said['archived']['file']}.")
    lines += ["", "HOW", "", *_said(said["method"]), ""]
    for key in said["keys"]:
        lines.append(f"  {key['purpose']} key of {key['owner']}, version {key['version']}, {key['destroyed']}")
    searched = said["searched"]
    lines += ["", *_said(_search(searched)), "", "WHAT WAS KEPT", ""]
    if said["withheld"]:
        lines += _said(
            "The following is kept because it has to be. It was sealed under new keys, is hidden from every agent and"
            " operator, and is deleted by the first purge after the reason has ended:"
        )
        lines += [line for one in said["withheld"] for line in _said(f"- {_kept(one)}")]
    elif not said.get("archives"):
        lines += _said("Nothing of it was kept.")
    if said.get("archives"):
        lines += _said(
            "What a retention rule had moved into archive files before is not reached by this erasure. They are encrypted"
            " under the store's archive key, and each has to be deleted when its time is over:"
        )
        lines += [line for file in said["archives"] for line in _said(f"- {file}")]
    lines += _said(
        "What is always kept: the access log, which names the person by a random number only, has no content, and shows"
        " that the data existed, who read it, and that it was erased; and how many tokens of a language model were paid for."
    )
    lines += ["", "BACKUPS", "", *_said(_backups(said["backups"])), "", "SIGNED", ""]
    lines += _said(
        f"Ed25519, public key {public_key}. `secmem certificate FILE` checks the signature, and with the store also that"
        " the store issued it."
    )
    return lines


def _facts(said: Mapping[str, Any]) -> list[str]:
    facts = [
        ("Erased", said["kind"]),
        ("Subject", said.get("subject")),
        ("Sessions", len(said["sessions"]) if "sessions" in said else said["session_count"]),
        ("Tenant", said["tenant"]),
        ("Store", said["store"]),
        ("Asked for by", said["asked_by"]),
        ("Reason", said["reason"]),
        ("Begun", said["begun"]),
        ("Done", said["done"]),
    ]
    return [f"{name + ':':<14}{value}" for name, value in facts if value not in (None, "")]


def _search(searched: Mapping[str, int]) -> str:
    if not searched.get("pages"):
        return "The store was in memory: there are no files to search."
    return (
        f"Afterwards the files were searched: {_counted(searched['pages'], 'page')} of databases and logs, decrypted, free"
        f" ones too, for {_counted(searched['traces'], 'piece')} of sealed items and wrapped keys. None was found."
    )


def _kept(one: Mapping[str, Any]) -> str:
    why = ", ".join([*(f"legal hold {matter}" for matter in one["matters"]), *one["rules"]]) or one["why"]
    if one["why"] == "conflict":
        why += " (a law of another jurisdiction: a person has to decide)"
    until = one["until"] or "the hold is released" if one["why"] == "held" else one["until"]
    return f"{_counted(one['items'], 'item')} of session {one['session']}: {why}; until {until or 'the session ends'}"


def _counted(number: int, noun: str) -> str:
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def _backups(said: Mapping[str, Any]) -> str:
    return (
        "Backups of the conversations alone can't be read any more: their keys are not in them. Backups of the key"
        " database from before the erasure hold the destroyed keys, wrapped; a restore destroys them again, by the list of"
        f" erased keys. They can't be opened at all once every copy of KEK version {said['kek']} (provider:"
        f" {said['provider']}) and of those before it is destroyed, or once the last of them is deleted. No date is given,"
        " since the provider does not attest when a key was destroyed."
    )


def _said(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "")
