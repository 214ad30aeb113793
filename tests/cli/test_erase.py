"""`secmem subject erase`, `session erase`, `tenant erase`, `certificate`: asked first, said plainly, proven later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore

NOUNS = [("subject", "ana", ("--tenant", "acme")), ("session", "user_123", ("--tenant", "acme")), ("tenant", "acme", ())]


@pytest.mark.parametrize(("noun", "name", "more"), NOUNS)
def test_what_is_erased_is_certified(
    desk: Path, run: Callable[..., Any], noun: str, name: str, more: tuple[str, ...]
) -> None:
    """The certificate is printed for a person, and written for whoever checks it."""
    file = desk.parent / "c.json"
    done = run(noun, "erase", name, *more, "--yes", "--reason", "request 17", "--certificate", str(file))
    assert 0 == done.code, done.err
    assert done.out.startswith("CERTIFICATE OF ERASURE")
    assert "request 17" in done.out
    assert f"the certificate is in {file}" in done.err
    assert (noun, 4) == ((said := json.loads(file.read_text())["statement"])["kind"], sum(said["items"].values()))
    gone = run("session", "show", "user_123", "--tenant", "acme")
    assert (1, True) == (gone.code, "was erased" in gone.err or "no such session" in gone.err)


@pytest.mark.parametrize(("noun", "name", "more"), NOUNS)
def test_nobody_to_ask_is_a_usage_error(
    desk: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, noun: str, name: str, more: tuple[str, ...]
) -> None:
    """Where no person sits at a terminal, --yes has to be said; nothing is erased without it."""
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    done = run(noun, "erase", name, *more)
    assert 2 == done.code
    assert "hint: say --yes, if it is meant" in done.err
    assert 0 == run("session", "show", "user_123", "--tenant", "acme").code


@pytest.mark.parametrize(("typed", "code"), [("ana\n", 0), ("anna\n", 130)])
def test_a_person_types_the_name(
    desk: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    """On a terminal the name has to be typed; another one ends it, and nothing is erased."""
    import io

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    done = run("subject", "erase", "ana", "--tenant", "acme")
    assert code == done.code
    assert "This erases 'ana' of tenant 'acme'" in done.err
    if code:
        assert "nothing was erased" in done.err
    assert bool(code) == (0 == run("session", "show", "user_123", "--tenant", "acme").code)


def test_a_second_time_says_so(desk: Path, run: Callable[..., Any]) -> None:
    """It answers with the certificate from then, and says that it is from then."""
    first = run("subject", "erase", "ana", "--tenant", "acme", "--yes")
    second = run("subject", "erase", "ana", "--tenant", "acme", "--yes")
    assert (0, 0) == (first.code, second.code)
    assert first.out == second.out
    assert "erased before" in second.err


def test_json_has_everything(desk: Path, run: Callable[..., Any]) -> None:
    """The report and the certificate are one document."""
    done = run("subject", "erase", "ana", "--tenant", "acme", "--yes", "--json")
    said = json.loads(done.out)
    assert ("acme", "subject", False, 1) == (said["tenant"], said["kind"], said["already"], said["sessions"])
    assert {"statement", "signature", "public_key"} == set(said["certificate"])


def test_someone_unknown(desk: Path, run: Callable[..., Any]) -> None:
    """A name that nobody has is an error with a next step."""
    done = run("subject", "erase", "nobody", "--tenant", "acme", "--yes")
    assert 1 == done.code
    assert "secmem: tenant 'acme' has no such subject, and none of that name was erased" in done.err


def test_a_certificate_is_never_written_over(desk: Path, run: Callable[..., Any]) -> None:
    """A file that is there could be another erasure's: it is refused before anything is erased."""
    file = desk.parent / "c.json"
    file.write_text("another one")
    done = run("subject", "erase", "ana", "--tenant", "acme", "--yes", "--certificate", str(file))
    assert (2, "another one") == (done.code, file.read_text())
    assert 0 == run("session", "show", "user_123", "--tenant", "acme").code


def test_a_certificate_is_checked(
    desk: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the file alone, and with the store that signed it; another store's is refused, and so is a changed one."""
    file = tmp_path / "c.json"
    run("subject", "erase", "ana", "--tenant", "acme", "--yes", "--certificate", str(file))
    with_store = run("certificate", str(file))
    assert (0, True) == (with_store.code, "this store signed it" in with_store.out)
    SecureStore.create(tmp_path / "other").close()
    assert 3 == run("certificate", str(file), "--store", str(tmp_path / "other")).code
    monkeypatch.delenv("SECMEM_STORE")
    alone = run("certificate", str(file))
    assert (0, True) == (alone.code, "name the --store" in alone.out)
    assert json.loads(run("certificate", str(file), "--json").out)["valid"]
    file.write_text(file.read_text().replace('"tokens": 0', '"tokens": 1'))
    assert 3 == run("certificate", str(file)).code
    file.write_text("{}")
    assert 1 == run("certificate", str(file)).code


def test_in_a_terminal_it_reads_well(desk: Path, terminal: Callable[..., Any]) -> None:
    """Nothing of the certificate is cut on a terminal of 80 columns."""
    shown = terminal("subject", "erase", "ana", "--tenant", "acme", "--yes", columns=80)
    assert 0 == shown.code
    assert "WHAT WAS KEPT" in shown.out


def test_erasures_are_listed(desk: Path, run: Callable[..., Any], talk: Callable[..., None]) -> None:
    """What was erased stands there without a name, with what is withheld, and in JSON with its certificate."""
    talk("two", {"role": "user", "content": "held"}, subject="ana")
    assert 0 == run("hold", "place", "M-14", "--tenant", "acme", "--session", "two").code
    run("subject", "erase", "ana", "--tenant", "acme", "--yes", "--reason", "request 17")
    run("tenant", "create", "globex")
    run("tenant", "erase", "globex", "--yes")
    lines = [line.split() for line in run("subject", "erased").out.splitlines()]
    assert [("(system)", "tenant"), ("acme", "subject")] == [(line[0], line[2]) for line in lines[1:]]
    said = json.loads(run("subject", "erased", "--tenant", "acme", "--json").out)
    assert [("done", 4, 1, "request 17")] == [(one["stage"], one["items"], one["withheld"], one["reason"]) for one in said]
    assert "ana" not in json.dumps(said[0]["certificate"])


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_where_all_of_it_is_kept(desk: Path, run: Callable[..., Any], how: tuple[str, ...]) -> None:
    """A request that a hold defers whole is taken: the certificate is shown, and the exit code says that nothing is gone
    yet, the second time too."""
    assert 0 == run("hold", "place", "M-14", "--tenant", "acme").code
    for _ in range(2):
        done = run("subject", "erase", "ana", "--tenant", "acme", "--yes", *how)
        assert 8 == done.code
        if how:
            assert (True, {}) == ((said := json.loads(done.out))["all_withheld"], said["items"])
        else:
            assert "4 items of session" in done.out
            assert "nothing could be deleted yet" in done.err
    assert 8 == (tenant := run("tenant", "erase", "acme", "--yes")).code
    assert "4 items held for matter M-14" in tenant.err
    assert 1 == run("session", "show", "user_123", "--tenant", "acme").code


def test_what_is_withheld_is_shown(desk: Path, run: Callable[..., Any]) -> None:
    """By the uid that the certificate says, for a person and as it was said; an entry tells who looked."""
    assert 0 == run("hold", "place", "M-14", "--tenant", "acme").code
    done = run("subject", "erase", "ana", "--tenant", "acme", "--yes", "--json")
    uid = json.loads(done.out)["withheld"][0]["session"]
    shown = run("subject", "withheld", uid, "--tenant", "acme", "--reason", "court order")
    assert (0, True) == (shown.code, shown.out.startswith("user\n"))
    assert 4 == len(json.loads(run("subject", "withheld", uid, "--tenant", "acme", "--json").out))
    assert "court order" in run("audit", "log", "--tenant", "acme", "--action", "subject.export", "--json").out
    for wrong in ("00" * 16, "no uid"):
        assert (1, True) == (
            (no := run("subject", "withheld", wrong, "--tenant", "acme")).code,
            "withholds nothing" in no.err,
        )
