"""`secmem init`, `doctor` and `tenant`: each is one call of the store's method, printed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_init(run: Run, place: Path, tmp_path: Path) -> None:
    """`init` says where the store, its key and its anchors are, and that losing the key loses everything."""
    done = run("init")
    assert (0, "") == (done.code, done.err)
    for told in (str(place), "environment variable SECMEM_KEY", str(tmp_path / "anchors"), "losing it loses everything"):
        assert told in done.out
    assert 0 == run("tenant", "list").code


def test_init_makes_a_key(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no key one is made, for its owner alone, and its place is told; its bytes are not."""
    monkeypatch.delenv("SECMEM_KEY")
    key = tmp_path / "secrets" / "key"
    made = json.loads(run("init", "--key-file", str(key), "--json").out)
    assert {"store", "key", "key_made", "anchors"} == set(made)
    assert (True, f"key file {key}") == (made["key_made"], made["key"])
    assert 0o600 == stat.S_IMODE(key.stat().st_mode)
    assert "made just now" in run("init", "--store", str(tmp_path / "b"), "--key-file", str(tmp_path / "k2")).out
    secret = key.read_text().splitlines()[-1]
    assert secret not in json.dumps(made)


def test_init_twice(run: Run, desk: Path) -> None:
    """A store is never made over another one."""
    done = run("init")
    assert (1, "") == (done.code, done.out)
    assert "there is a store at" in done.err


def test_tenant_create(run: Run, desk: Path) -> None:
    """A tenant is made once."""
    assert "made tenant globex\n" == run("tenant", "create", "globex").out
    assert 1 == run("tenant", "create", "globex").code
    made = json.loads(run("tenant", "create", "initech", "--json").out)
    assert ("initech", "active", "Z") == (made["name"], made["state"], made["created"][-1])


def test_tenant_list(run: Run, desk: Path) -> None:
    """The tenants are listed by name, for people and for programs."""
    run("tenant", "create", "Globex")
    header, *rows = run("tenant", "list").out.splitlines()
    assert ["tenant", "state", "created", "uid"] == header.split()
    assert {"Globex", "acme"} == {row.split()[0] for row in rows}
    assert {"Globex", "acme"} == {tenant["name"] for tenant in json.loads(run("tenant", "list", "--json").out)}


def test_doctor_without_a_store(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no store named, the machine is looked at."""
    monkeypatch.delenv("SECMEM_STORE")
    done = run("doctor")
    assert 0 == done.code
    assert "SQLCipher" in done.out
    assert "nothing has to be mended" in done.out


def test_doctor(run: Run, desk: Path) -> None:
    """Of a store that is well every check is ok, as JSON too."""
    told = json.loads(run("doctor", "--json").out)
    assert (True, {"ok"}) == (told["ok"], {check["state"] for check in told["checks"]})
    assert {"store", "key", "schema", "anchor of acme"} <= {check["name"] for check in told["checks"]}


def test_doctor_finds_something(run: Run, desk: Path) -> None:
    """What fails is told with what mends it, and the exit code is 1."""
    (desk / "store.json").unlink()
    done = run("doctor")
    assert 1 == done.code
    assert "restore store.json from a backup" in done.out
    assert (1, False) == (run("doctor", "--json").code, json.loads(run("doctor", "--json").out)["ok"])
