"""`secmem policy`: policies read, checked, explained, compared, tried and put in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

POLICY = """\
metadata: {name: desk, version: 2}
extends: [gdpr]
retention:
  rules:
    - {id: chat-storage-limit, trigger: session.last_activity, max: P7D}
examples:
  - {name: a week, given: {created: 2026-01-01, now: 2026-01-08}, expect: {state: due}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy of one's own."""
    path = tmp_path / "desk.yaml"
    path.write_text(POLICY)
    return path


def test_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packs are listed with the laws that they cite, without a store."""
    monkeypatch.delenv("SECMEM_STORE")
    header, *rows = run("policy", "list").out.splitlines()
    assert ["pack", "version", "extends", "cites"] == header.split()
    assert ["baseline", "eu-ai-act", "gdpr", "hipaa", "pci-dss", "sec-17a-4"] == [row.split()[0] for row in rows]
    assert "45 CFR 164.316(b)(2)(i)" in json.loads(run("policy", "list", "--json").out)[3]["laws"]


def test_show(run: Run, file: Path) -> None:
    """A policy is shown whole: its own rules, those of what it extends, roles and who has them."""
    shown = run("policy", "show", str(file)).out
    for told in ("policy desk v2 sha256:", "max: P7D", "CARD_NUMBER", "supervisor", "durability full"):
        assert told in shown
    document = json.loads(run("policy", "show", str(file), "--json").out)
    assert ("desk", ["gdpr"]) == (document["policy"]["metadata"]["name"], document["policy"]["extends"])


def test_show_what_is_in_force(run: Run, desk: Path) -> None:
    """Without a source, the store's own is shown."""
    assert "policy baseline v1" in run("policy", "show").out


def test_check(run: Run, file: Path) -> None:
    """A policy that is well says so with its digest, and exits with 0."""
    done = run("policy", "check", str(file), "gdpr")
    assert 0 == done.code
    assert [f"{file}: policy desk v2 is well", "gdpr: policy gdpr v1 is well"] == [
        line.partition(", sha256")[0] for line in done.out.splitlines()
    ]


def test_check_three_problems(run: Run, file: Path) -> None:
    """Whoever got three things wrong is told of three, each with its place and what to write, and the exit code is 1."""
    file.write_text(POLICY.replace("P7D", "7 days").replace("version: 2", "version: two").replace("extends", "extend"))
    done = run("policy", "check", str(file))
    assert 1 == done.code
    assert [
        f"{file}:1: metadata.version must be a whole number",
        "  hint: write a number without quotes, such as 3",
        f"{file}:2: extend is not known here",
        "  hint: did you mean `extends`?",
        f"{file}:5: retention.rules[chat-storage-limit].max is '7 days', which is not a duration",
        "  hint: did you mean `P7D`?",
        f"{file}: 3 problems",
    ] == done.out.splitlines()
    (report,) = json.loads(run("policy", "check", str(file), "--json").out)
    assert (False, [1, 2, 5]) == (report["ok"], [problem["line"] for problem in report["problems"]])


def test_check_warns(run: Run, file: Path) -> None:
    """What is probably not meant is told, and is no failure."""
    file.write_text("metadata: {name: a, review_by: 2020-01-01}\n")
    done = run("policy", "check", str(file))
    assert 0 == done.code
    assert f"warning: {file}:1: metadata.review_by was 2020-01-01" in done.out


def test_check_nothing(run: Run) -> None:
    """Without a file it is a usage error."""
    assert 2 == run("policy", "check").code


def test_diff(run: Run, file: Path, desk: Path) -> None:
    """What changes is told part by part, and what of it is weaker; with one source, what would change in the store."""
    done = run("policy", "diff", "gdpr", str(file))
    assert "~ retention.rules[chat-storage-limit].max: P30D → P7D" in done.out.splitlines()
    assert "+ retention.rules[chat-storage-limit]" in run("policy", "diff", str(file)).out
    assert "no difference\n" == run("policy", "diff", "baseline").out
    changes = json.loads(run("policy", "diff", str(file), "gdpr", "--json").out)
    assert ("P7D", "P30D", "weaker") == next(
        (change["before"], change["after"], change["effect"]) for change in changes if change["part"].endswith(".max")
    )


def test_explain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When, why, by which rule and law, in words and as JSON."""
    monkeypatch.delenv("SECMEM_STORE")
    item = ("--tag", "record=securities-communication", "--created", "2026-01-01", "--as-of", "2027-01-01")
    told = run("policy", "explain", "sec-17a-4", *item).out
    assert told.startswith(
        "kept until 2029-07-01T00:00:00.000000Z, then archive by broker-communications (17 CFR 240.17a-4(b)(4))"
    )
    document = json.loads(run("policy", "explain", "sec-17a-4", *item, "--json").out)
    assert ("2029-07-01T00:00:00.000000Z", "archive") == (document["outcome"]["at"], document["outcome"]["action"])
    assert ["2029-01-01T00:00:00.000000Z"] == [rule["keep_until"] for rule in document["rules"]]


def test_explain_asks_for_tags(run: Run) -> None:
    """A tag that is none is a usage error."""
    done = run("policy", "explain", "gdpr", "--tag", "phi")
    assert (2, True) == (done.code, "write NAME=VALUE" in done.err)


def test_test(run: Run, file: Path) -> None:
    """Examples come out as expected, or it is told how they came out, and the exit code is 1."""
    assert (0, "ok   a week\n1 example, 0 failed\n") == (
        run("policy", "test", str(file)).code,
        run("policy", "test", str(file)).out,
    )
    file.write_text(POLICY.replace("state: due", "state: kept"))
    done = run("policy", "test", str(file))
    assert (1, "FAIL a week\n     state is due, expected kept\n1 example, 1 failed\n") == (done.code, done.out)
    assert [False] == [one["passed"] for one in json.loads(run("policy", "test", str(file), "--json").out)]


def test_apply(run: Run, file: Path, desk: Path) -> None:
    """What is applied shows what it changes, is in force then, and is an entry of the ledger."""
    done = run("policy", "apply", str(file))
    assert (0, "") == (done.code, done.err)
    assert "+ retention.rules[chat-storage-limit]: trigger: session.last_activity, max: P7D" in done.out
    assert "policy desk v2 is in force in 1 tenant, sha256:" in done.out
    assert "policy desk v2" in run("policy", "show").out
    assert "no difference\n" == run("policy", "diff", str(file)).out
    assert "policy.apply" in run("audit", "log", "--tenant", "(system)", "--action", "policy.apply").out
    assert "was in force already" in run("policy", "apply", str(file)).out


def test_apply_something_shorter(run: Run, file: Path, desk: Path) -> None:
    """What keeps something shorter than now has to be confirmed; until then the old policy is in force."""
    assert 0 == run("policy", "apply", "gdpr").code
    refused = run("policy", "apply", str(file))
    assert 1 == refused.code
    assert "chat-storage-limit has max P7D, had P30D" in refused.err
    assert "--confirm-shorten" in refused.err
    assert "policy gdpr v1" in run("policy", "show").out
    assert 0 == run("policy", "apply", str(file), "--confirm-shorten").code
    assert "policy desk v2" in run("policy", "show").out


def test_apply_something_broken(run: Run, file: Path, desk: Path) -> None:
    """What can't be is not applied, and says why in one sentence."""
    file.write_text("metadata: {name: a}\naudit: {durability: slow}\n")
    done = run("policy", "apply", str(file))
    assert (1, "") == (done.code, done.out)
    assert f"secmem: {file}:2: audit.durability is 'slow', which is not known" in done.err


def test_explain_a_conversation(run: Run, file: Path, desk: Path) -> None:
    """Of a conversation in the store, each kind of its items is told, by the policy in force."""
    run("policy", "apply", str(file))
    header, *rows, by = run("policy", "explain", "--tenant", "acme", "--session", "user_123").out.splitlines()
    assert ["kind", "items", "since", "state", "action", "at", "now", "why"] == header.split()
    assert {"message", "tool_call", "tool_output"} == {row.split()[0] for row in rows}
    assert by.startswith("by policy desk sha256:")
    document = json.loads(run("policy", "explain", "--tenant", "acme", "--session", "user_123", "--json").out)
    assert 4 == sum(each["items"] for each in document["items"])
    assert {"chat-storage-limit"} == {rule[0] for each in document["items"] for rule in each["rules"]}
    assert all(each["at"].endswith("Z") for each in document["items"])
    assert 2 == run("policy", "explain", "gdpr", "--session", "user_123").code
    assert 1 == run("policy", "explain", "--tenant", "acme", "--session", "nobody").code


def test_what_can_not_be_applied_says_how_much_is_wrong(desk: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    """Applying a policy with several problems tells the first, how many there are besides, and what tells them all."""
    (tmp_path / "broken.yaml").write_text("metadata: {name: a}\nextends: [gdrp]\naudit: {durability: ful}\n")
    done = run("policy", "apply", str(tmp_path / "broken.yaml"))
    assert (1, True) == (done.code, "(and 1 problem more, which `secmem policy check` tells)" in done.err)
