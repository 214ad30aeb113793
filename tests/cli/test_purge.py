"""`secmem purge` and `secmem archive`: one call of the store's method each, told for people and for programs."""

from __future__ import annotations

import fcntl
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.cli import schedules

Run = Callable[..., Any]
DAY = 86_400_000_000
POLICY = """\
apiVersion: secmem/v1
kind: Policy
metadata: {name: desk, version: 3}
extends: [baseline]
retention:
  rules:
    - id: chats
      basis: {law: "GDPR 5(1)(e)", mark: choice}
      select: {kind: [message]}
      trigger: item.created
      max: P30D
    - id: tickets
      select: {tool: [create_ticket]}
      trigger: item.created
      max: P30D
      action: archive
"""


@pytest.fixture
def due(desk: Path, talk: Callable[..., None], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The desk, forty days later, under a policy by which chats go and tickets are archived after thirty."""
    file = tmp_path / "desk.yaml"
    file.write_text(POLICY)
    done = run("policy", "apply", str(file), "--confirm-shorten")
    assert 0 == done.code, done.err
    started, now = time.time_ns() // 1000, clock.now

    def later() -> int:
        return now() + 40 * DAY

    monkeypatch.setattr(clock, "now", later)
    talk("user_456", {"role": "user", "content": "hello"}, subject="ben")
    assert started
    return desk


def test_a_plan_is_a_table(due: Path, run: Run) -> None:
    """Each line says what happens to how many items, by which rule and law; the last one counts, and nothing is changed."""
    done = run("purge", "--max-clock-jump", "any")
    assert (0, "") == (done.code, done.err)
    head, *lines, last = done.out.splitlines()
    assert head.startswith("policy desk v3 sha256:")
    told = [" ".join(line.split()) for line in lines]
    assert "- delete 2 items 1 session chats GDPR 5(1)(e)" == told[0]
    assert "> archive 1 item 1 session tickets 1 to keep call/output pairs" == told[1]
    assert "! unmatched 1 item 1 session kind=tool_output" == told[2]
    assert 1 == len({line.index("session") for line in lines})  # in columns
    assert last.startswith("2 delete, 1 archive, 1 unmatched; 3 overdue before this run")
    assert 4 == len(json.loads(run("session", "show", "user_123", "--tenant", "acme", "--json").out))


def test_it_is_applied(due: Path, run: Run) -> None:
    """With --apply it is done, and told; what was archived can be checked and read back."""
    done = run("purge", "--apply", "--max-clock-jump", "any")
    assert 0 == done.code
    assert "done: 2 deleted, 1 archived, in 1 session" in done.out
    (file,) = (due / "archives").iterdir()
    assert f"archive {file}" in done.out
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    checked = run("archive", "verify", str(file))
    assert (0, True) == (checked.code, checked.out.startswith("ok: 1 item of 1 session, sha256:"))
    (line,) = run("archive", "read", str(file)).out.splitlines()
    told = json.loads(line)
    assert ("acme", "user_123", "ana", "create_ticket") == (
        told["tenant"], told["session"], told["subject"], told["item"]["name"],
    )  # fmt: skip
    assert "nothing was due" in run("purge", "--apply").out
    assert 0 == run("audit", "verify").code


def test_a_plan_is_kept_and_applied(due: Path, run: Run, tmp_path: Path) -> None:
    """What was kept with --out is done by --apply --plan, once; an edited one is refused with exit code 5."""
    file = tmp_path / "plan.json"
    assert 0 == run("purge", "--out", str(file), "--max-clock-jump", "any").code
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    edited = tmp_path / "edited.json"
    edited.write_text(file.read_text().replace('"acme"', '"acne"'))
    refused = run("purge", "--apply", "--plan", str(edited))
    assert 5 == refused.code
    assert "the plan was edited" in refused.err
    done = json.loads(run("purge", "--apply", "--plan", str(file), "--json").out)
    assert (2, 1) == (done["done"]["deleted"], done["done"]["archived"])
    again = json.loads(run("purge", "--apply", "--plan", str(file), "--json").out)
    assert (0, 1) == (again["done"]["deleted"], again["done"]["passed_over"])
    assert 2 == run("purge", "--plan", str(file)).code


def test_a_limit_is_exit_code_5(due: Path, run: Run) -> None:
    """More than --max-delete stops it, and cron is told by the exit code; so is a clock that jumped."""
    done = run("purge", "--apply", "--max-delete", "5%", "--max-clock-jump", "any")
    assert (5, "") == (done.code, done.out)
    assert "tenant 'acme': 3 of 5 items would go, more than 0" in done.err
    assert 2 == run("purge", "--max-delete", "most").code


def test_json(due: Path, run: Run) -> None:
    """A program is told the same, with times as texts."""
    told = json.loads(run("purge", "--json", "--max-clock-jump", "any").out)
    (acme,) = [one for one in told["tenants"] if one["tenant"] == "acme"]  # and the store's own ledger
    assert ("desk", 3, 5, "acme", None) == (told["policy"], told["overdue"], acme["items"], acme["tenant"], told["done"])
    assert {"state": "delete", "by": "chats", "items": 2}.items() <= acme["lines"][0].items()
    assert "units" not in acme


def test_a_limit_without_apply(desk: Path, run: Run) -> None:
    """A cron job that has a limit and forgot --apply would delete nothing, for ever: it is told so."""
    done = run("purge", "--max-delete", "5%")
    assert (2, True) == (done.code, "hint: add --apply, or leave --max-delete away" in done.err)


@pytest.mark.parametrize("kind", sorted(schedules.SCHEDULES))
def test_schedules(run: Run, kind: str, tmp_path: Path) -> None:
    """Each schedule names the store and a limit, and is printed without opening anything."""
    done = run("purge", "--print-schedule", kind, "--store", str(tmp_path / "my %store"))
    assert (0, "") == (done.code, done.err)
    assert "--apply" in done.out
    assert "SECMEM_ANCHOR" in done.out  # else each night's container would begin its anchors anew
    assert "--reason" in done.out
    assert {"cron": "5\\%", "systemd": "5%%", "k8s": '"5%"'}[kind] in done.out
    assert {"cron": "my \\%store'", "systemd": 'my %%store"', "k8s": 'my %store"'}[kind] in done.out
    assert "{" not in done.out.replace("{name", "").replace("{secretName", "").replace("{claimName", "")


def test_a_kubernetes_schedule_is_yaml(run: Run) -> None:
    """The CronJob parses, never runs twice at once, and never tries again."""
    from ruamel.yaml import YAML

    job = YAML(typ="safe").load(run("purge", "--print-schedule", "k8s").out)
    spec = job["spec"]
    assert ("CronJob", "Forbid", 0) == (job["kind"], spec["concurrencyPolicy"], spec["jobTemplate"]["spec"]["backoffLimit"])
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert ["secmem", "purge"] == pod["containers"][0]["args"][:2]


def test_an_archive_that_is_none(desk: Path, run: Run, tmp_path: Path) -> None:
    """What is no archive, or no longer one, says so."""
    file = tmp_path / "file"
    file.write_text("hello")
    assert (1, True) == ((done := run("archive", "verify", str(file))).code, "is no archive" in done.err)
    assert (1, True) == ((done := run("archive", "read", str(tmp_path / "no"))).code, "can't be opened" in done.err)


def test_another_purge_is_exit_code_7(due: Path, process: Run) -> None:
    """Of two processes that purge one vault, the second one is told, and may try again later."""
    (vault,) = [file for file in (due / "vaults").glob("*.db") if file.stat().st_size]
    with vault.with_suffix(".purging").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        busy = process("purge", "--apply", "--max-clock-jump", "any")
        assert (7, True) == (busy.code, "another purge is at it" in busy.err)
    assert 0 == process("purge", "--apply", "--max-clock-jump", "any").code
