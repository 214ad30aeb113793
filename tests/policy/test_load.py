"""`policy/load.py`: a file becomes a policy, or one clear sentence with file, line and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secure_memory.errors import ConfigurationError, PolicyError
from secure_memory.policy import load as loading
from secure_memory.policy.load import MAX_BYTES, load

BROKEN = Path(__file__).parent / "broken"
NOW = 1_780_000_000_000_000  # 2026-05-28
HEAD = "metadata: {name: a}\n"


def written(folder: Path, text: str | bytes, name: str = "policy.yaml") -> Path:
    """A policy file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", sorted(path.name for path in BROKEN.glob("*.yaml")))
def test_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each broken file is refused with the sentence and the hint that its first two lines expect."""
    monkeypatch.chdir(BROKEN)
    told, hint = (line.removeprefix("# ") for line in Path(name).read_bytes().decode("latin-1").splitlines()[:2])
    with pytest.raises(PolicyError) as refused:
        load(name, now=NOW)
    assert (told, hint) == (str(refused.value), f"hint: {refused.value.hint}")
    assert refused.value.line is not None
    assert f"{refused.value.file}:{refused.value.line}: {refused.value.key or ''}" == told[: told.index(": ") + 2] + (
        refused.value.key or ""
    )


def test_there_are_enough_of_them() -> None:
    """The corpus is not empty by accident, and no sentence is there twice for one file's sake."""
    assert len(list(BROKEN.glob("*.yaml"))) >= 60


def test_everything_that_is_wrong_is_told(tmp_path: Path) -> None:
    """Whoever gets three things wrong hears of three, the first one first."""
    path = written(tmp_path, "metadata: {name: a, version: x}\naudit: {durability: slow}\nretentions: {}\n")
    with pytest.raises(ConfigurationError) as refused:
        load(path)
    assert isinstance(refused.value, PolicyError)
    assert [("metadata.version", 1), ("audit.durability", 2), ("retentions", 3)] == [
        (error.key, error.line) for error in (refused.value, *refused.value.others)
    ]


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("'true'", "true"),
        ('"010"', "010"),
        ("=", "="),
    ],
)
def test_a_text_stays_a_text(tmp_path: Path, text: str, given: str) -> None:
    """What YAML 1.1 took for a truth, a time, a date or a number is the text that it looks like."""
    path = written(tmp_path, f"{HEAD}redaction:\n  allow: [{text}]\n")
    assert (given,) == load(path).policy.redaction.allow


def test_a_mark_of_byte_order(tmp_path: Path) -> None:
    """A file that an editor began with a byte order mark is read as it is meant; one in UTF-16 is refused."""
    assert "a" == load(written(tmp_path, b"\xef\xbb\xbf" + HEAD.encode())).policy.metadata.name
    with pytest.raises(PolicyError, match="not text in UTF-8"):
        load(written(tmp_path, HEAD.encode("utf-16")))


def test_a_huge_file(tmp_path: Path) -> None:
    """A file that is too large is refused before it is parsed; the largest that isn't is parsed."""
    assert load(written(tmp_path, HEAD + "#" * (MAX_BYTES - len(HEAD))))
    with pytest.raises(PolicyError, match="larger than 262,144 bytes"):
        load(written(tmp_path, HEAD + "#" * MAX_BYTES))


def test_no_file(tmp_path: Path) -> None:
    """A file that isn't there, a directory, a pipe that would wait for ever, and a misspelt pack are told apart."""
    os.mkfifo(tmp_path / "pipe")
    for name, told in (("nothing.yaml", "no such file"), (".", "is no file"), ("pipe", "is no file")):
        with pytest.raises(PolicyError, match=told):
            load(tmp_path / name)
    with pytest.raises(PolicyError) as refused:
        load("gdrp")
    assert "did you mean the pack `gdpr`?" == refused.value.hint


def test_unreadable(tmp_path: Path) -> None:
    """A file that may not be read says so."""
    path = written(tmp_path, HEAD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("whoever runs this may read everything")
    with pytest.raises(PolicyError, match="permission denied"):
        load(path)


def test_what_nobody_wrote_is_the_baselines(tmp_path: Path) -> None:
    """A section that is not written is the baseline's, one that is written is not."""
    base = loading.baseline()
    whole = load(written(tmp_path, HEAD + "retention: {timezone: Europe/Berlin}\n")).policy
    assert (base.redaction, base.access, base.audit) == (whole.redaction, whole.access, whole.audit)
    assert () == whole.retention.rules


def test_extending_a_file_beside_it(tmp_path: Path) -> None:
    """A relative name is relative to the file that has it, wherever the program runs."""
    (tmp_path / "shared").mkdir()
    written(tmp_path, "metadata: {name: b}\nextends: [./c.yaml]\n", "shared/b.yaml")
    written(tmp_path, "metadata: {name: c}\naudit: {durability: full}\n", "shared/c.yaml")
    loaded = load(written(tmp_path, HEAD + "extends: [shared/b.yaml]\n"))
    assert "full" == loaded.policy.audit.durability
    assert [str(tmp_path / name) for name in ("policy.yaml", "shared/b.yaml", "shared/c.yaml")] == list(loaded.files)


def test_extending_too_deep(tmp_path: Path) -> None:
    """A long chain of files is refused, not followed to the end of the stack."""
    for number in range(20):
        written(tmp_path, f"metadata: {{name: a}}\nextends: [./{number + 1}.yaml]\n", f"{number}.yaml")
    written(tmp_path, HEAD, "20.yaml")
    assert load(tmp_path / "15.yaml")
    with pytest.raises(PolicyError, match="goes deeper than 8 files"):
        load(tmp_path / "0.yaml")


def test_a_pack_is_known_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a pack's name in the working directory does not take its place."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "metadata: {name: evil}\n", "gdpr")
    assert "gdpr" == load("gdpr").policy.metadata.name


def test_the_baseline_is_read_once() -> None:
    """Who needs the baseline twice gets the same object."""
    assert loading.baseline() is loading.baseline()


def test_patterns_are_checked_by_whoever_knows(tmp_path: Path) -> None:
    """`check_pattern` decides about patterns, and its words are told with the pattern's place."""

    def refuse(pattern: str) -> None:
        raise ValueError(f"can run without end: {pattern}")

    text = "redaction:\n  patterns:\n    - entity: STAFF\n      pattern: '(a+)+'\n"
    with pytest.raises(PolicyError) as refused:
        load(written(tmp_path, HEAD + text), check_pattern=refuse)
    assert ("redaction.patterns[STAFF].pattern", 5, "(a+)+") == (
        refused.value.key,
        refused.value.line,
        refused.value.hint,
    )
