"""`keys/local.py` and `keys/key_file.py`: where a key is found, and which key files are trusted."""

from __future__ import annotations

import base64
import os
import resource
import shlex
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import pytest

from secure_memory.errors import ConfigurationError, KeyNotFoundError, SecureMemoryError
from secure_memory.keys.key import Key
from secure_memory.keys.local import (
    EnvKeyProvider,
    FileKeyProvider,
    MemoryKeyProvider,
    check_not_inside,
    create_key_file,
    default_key_path,
    find_provider,
)
from secure_memory.keys.provider import kek_id

FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))
MADE_AT = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z


def b64(secret: bytes) -> str:
    return base64.b64encode(secret).decode()


def ids(*secrets: bytes) -> tuple[str, ...]:
    return tuple(kek_id(Key(secret)) for secret in secrets)


def key_file(path: Path, content: str | bytes, *, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def as_root() -> bool:
    return os.geteuid() == 0


# ---- reading a key file


@pytest.mark.parametrize(
    "content",
    [
        f"{b64(FIRST)}\n{b64(SECOND)}\n",
        f"{b64(FIRST)}\n{b64(SECOND)}",
        f"# newest\r\n{b64(FIRST)}\r\n\r\n# before\r\n{b64(SECOND)}\r\n",
        f"\n  {b64(FIRST)}\t\n\n   # été\n{b64(SECOND)}\n\n\n",
    ],
)
def test_what_a_key_file_may_hold(tmp_path: Path, content: str) -> None:
    """Keys stand one a line, newest first, among comments and blank lines, whatever ends the lines."""
    assert ids(FIRST, SECOND) == FileKeyProvider(key_file(tmp_path / "key", content)).versions()


@pytest.mark.parametrize(
    ("line", "content"),
    [
        (1, "not a key"),
        (2, f"# comment\n{b64(FIRST)[:-1]}\n"),
        (3, f"{b64(FIRST)}\n\n{b64(FIRST[:31])}\n"),
        (1, b64(FIRST + b"\1")),
        (1, base64.urlsafe_b64encode(b"\xfb\xff" * 16)),
        (1, f"{b64(FIRST)} # a comment behind a key"),
        (1, f"{b64(FIRST)} {b64(SECOND)}"),
        (1, f"{b64(FIRST)[:20]} {b64(FIRST)[20:]}"),
        (1, FIRST),
        (2, b"# \xff\n\xff\xfe\n"),
    ],
)
def test_a_malformed_key_file_names_its_line(tmp_path: Path, line: int, content: str | bytes) -> None:
    """Anything but strict base64 of 32 bytes is refused, by line number."""
    with pytest.raises(ConfigurationError, match=rf"(?m)line {line}: not base64 of 32 bytes$") as raised:
        FileKeyProvider(key_file(tmp_path / "key", content))
    assert raised.value.hint


@pytest.mark.parametrize("content", ["", "\n\n", "# all gone\n"])
def test_a_key_file_without_a_key(tmp_path: Path, content: str) -> None:
    """A file that is there but holds no key is broken; it isn't the same as no file."""
    with pytest.raises(ConfigurationError, match="holds no key"):
        FileKeyProvider(key_file(tmp_path / "key", content))


def test_no_key_file(tmp_path: Path) -> None:
    """A missing file is said to be missing, and where."""
    with pytest.raises(KeyNotFoundError, match=f"no key file at {tmp_path}/key"):
        FileKeyProvider(tmp_path / "key")


def test_a_relative_path_is_reported_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of a key is told as an absolute path, whatever the program was started in."""
    monkeypatch.chdir(key_file(tmp_path / "key", b64(FIRST)).parent)
    assert f"key file {tmp_path}/key" == FileKeyProvider("key").describe()
    assert tmp_path / "key" == FileKeyProvider("key").path


# ---- whom a key file may belong to, and who may read it

ALLOWED = {(True, mode) for mode in (0o400, 0o600, 0o440, 0o640)} | {(False, mode) for mode in (0o400, 0o600)}


@pytest.mark.parametrize(
    "mode", [0o400, 0o600, 0o440, 0o640, 0o404, 0o444, 0o644, 0o604, 0o660, 0o620, 0o602, 0o606, 0o700, 0o200, 0o4600]
)
def test_modes_of_ones_own_file(tmp_path: Path, mode: int) -> None:
    """One's own file must be private to oneself; only root's own may be readable to its group."""
    path = key_file(tmp_path / "a key", b64(FIRST), mode=mode)
    if (as_root(), mode) in ALLOWED:
        assert ids(FIRST) == FileKeyProvider(path).versions()
        return
    with pytest.raises(ConfigurationError) as raised:
        FileKeyProvider(path)
    if mode == 0o200 and not as_root():
        assert f"can't read key file {path}: permission denied" == str(raised.value)
    else:
        assert f"key file {path} has mode {mode:04o}, not 0600 or 0400" == str(raised.value)
        assert f"chmod 600 {shlex.quote(str(path))}" == raised.value.hint


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user can reach, which pytest's own are not."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


READ_AS = """
import os, sys
from secure_memory.errors import SecureMemoryError
from secure_memory.keys.local import FileKeyProvider
os.setgroups([]); os.setgid(4242); os.setuid(4242)
try:
    print(*FileKeyProvider(sys.argv[1]).versions())
except SecureMemoryError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("owner", "mode", "allowed"),
    [
        (0, 0o440, True),
        (0, 0o640, True),
        (0, 0o444, False),
        (0, 0o660, False),
        (4242, 0o400, True),
        (4242, 0o600, True),
        (4242, 0o440, False),
        (4242, 0o640, False),
        (4343, 0o640, False),
    ],
)
def test_another_users_key_file(open_path: Path, owner: int, mode: int, allowed: bool) -> None:
    """A user who isn't root may use root's file by its group, as a pod does a secret; never a third user's."""
    if not as_root():
        # We can't give a file away, but there is one that is not ours: root's, which everyone may read.
        with pytest.raises(ConfigurationError, match="has mode 0644, not 0600 or 0400"):
            FileKeyProvider("/etc/passwd")
        return
    path = key_file(open_path / "key", b64(FIRST), mode=mode)
    os.chown(path, owner, 4242)
    read = run([sys.executable, "-c", READ_AS, path], capture_output=True, text=True, check=False)
    if allowed:
        assert ids(FIRST)[0] == read.stdout.strip(), read.stderr
    elif owner == 4343:
        assert f"key file {path} belongs to another user (uid 4343), who can change it" == read.stdout.strip()
    else:
        assert f"key file {path} has mode {mode:04o}, not 0600 or 0400" == read.stdout.strip()


def test_root_trusts_nobody_elses_file(tmp_path: Path) -> None:
    """Root can read every file, but a key that another user can change isn't root's key."""
    path = key_file(tmp_path / "key", b64(FIRST))
    if as_root():
        os.chown(path, 4242, 4242)
        with pytest.raises(ConfigurationError, match=r"belongs to another user \(uid 4242\)") as raised:
            FileKeyProvider(path)
        assert f"chown 0 {path} && chmod 600 {path}, or run as that user" == raised.value.hint
    else:
        assert ids(FIRST) == FileKeyProvider(path).versions()


def test_a_kubernetes_secret_is_a_link(tmp_path: Path) -> None:
    """It is the file behind the links that must be private; the links, as Kubernetes makes them, are open to all."""
    (tmp_path / "..2026_11_22").mkdir()
    real = key_file(tmp_path / "..2026_11_22" / "key", b64(FIRST), mode=0o400)
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "key").symlink_to("..data/key")
    assert ids(FIRST) == FileKeyProvider(tmp_path / "key").versions()
    real.chmod(0o644)
    with pytest.raises(ConfigurationError, match="has mode 0644"):
        FileKeyProvider(tmp_path / "key")


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, and a pipe that nobody writes to, are refused at once."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigurationError, match="isn't a regular file"):
            FileKeyProvider(path)


def test_a_key_file_has_a_limit(tmp_path: Path) -> None:
    """A file far too long to be a key file isn't read."""
    with pytest.raises(ConfigurationError, match="over 65536 bytes"):
        FileKeyProvider(key_file(tmp_path / "key", f"{b64(FIRST)}\n" + "#" * 65536))


def test_an_unreadable_path(tmp_path: Path) -> None:
    """What the system says against reading is passed on as ours, with the file's name."""
    with pytest.raises(ConfigurationError, match=r"can't read key file .*: not a directory"):
        FileKeyProvider(key_file(tmp_path / "key", b64(FIRST)) / "key")


# ---- making one


def test_a_new_key_file(tmp_path: Path) -> None:
    """A new key file is private and so is its directory; it says what it is and since when, and holds one key."""
    path = tmp_path / "config" / "secure-memory" / "key"
    provider = create_key_file(path, made_at=MADE_AT)
    assert [0o600, 0o700, 0o700] == [stat.S_IMODE(place.stat().st_mode) for place in (path, *path.parents[:2])]
    first, second, *keys = path.read_text().splitlines()
    assert first.startswith("# The key of a secure-memory store, made 2026-11-18T11:06:40.000000Z")
    assert "losing it loses everything" in second
    assert ids(*map(base64.b64decode, keys)) == provider.versions() == FileKeyProvider(path).versions()
    assert 1 == len(keys)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_new_key_file_and_the_umask(tmp_path: Path, umask: int) -> None:
    """The mode of a new key file is 0600 under every umask, so that it can be read back."""
    before = os.umask(umask)
    try:
        provider = create_key_file(tmp_path / "key", made_at=MADE_AT)
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE((tmp_path / "key").stat().st_mode)
    assert 1 == len(provider.versions())


@pytest.mark.parametrize("make", [lambda p: key_file(p, ""), Path.mkdir, lambda p: p.symlink_to("nowhere")])
def test_a_key_file_is_never_overwritten(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Whatever stands at the path stays: even an empty file, even a link to nothing."""
    make(tmp_path / "key")
    before = (tmp_path / "key").lstat()
    with pytest.raises(ConfigurationError, match="exists already"):
        create_key_file(tmp_path / "key", made_at=MADE_AT)
    assert before == (tmp_path / "key").lstat()
    assert ["key"] == os.listdir(tmp_path)


def test_a_full_disk_leaves_no_key_file(tmp_path: Path) -> None:
    """If the file can't be written whole, none is left, and the error shows no key even with its local variables."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"can't create key file .*: file too large") as raised:
            create_key_file(tmp_path / "key", made_at=MADE_AT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [] == os.listdir(tmp_path)
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert "The key of a secure-memory store" not in shown
    assert "<memory at" in shown


# ---- destroying a version


def test_destroying_a_version(tmp_path: Path) -> None:
    """The file loses that line and nothing else, keeps its mode, and the provider forgets the key."""
    path = key_file(tmp_path / "key", f"# new\n{b64(FIRST)}\n# old\n{b64(SECOND)}\n{b64(THIRD)}", mode=0o400)
    provider = FileKeyProvider(path)
    wrapped = FileKeyProvider(key_file(tmp_path / "copy", b64(SECOND))).wrap(FIRST, b"")
    assert FIRST == provider.unwrap(wrapped, b"")
    key = provider._keks[ids(SECOND)[0]]

    provider.destroy(ids(SECOND)[0])

    assert f"# new\n{b64(FIRST)}\n# old\n{b64(THIRD)}" == path.read_text()
    assert 0o400 == stat.S_IMODE(path.stat().st_mode)
    assert ids(FIRST, THIRD) == provider.versions() == FileKeyProvider(path).versions()
    with pytest.raises(SecureMemoryError, match="isn't in key file"):
        provider.unwrap(wrapped, b"")
    with pytest.raises(RuntimeError, match="zeroed"):
        _ = key.bytes
    assert ["copy", "key"] == sorted(os.listdir(tmp_path))


def test_destroying_keeps_the_owner(tmp_path: Path) -> None:
    """A rotation by root doesn't take the file from the group that reads it."""
    path = key_file(tmp_path / "key", f"{b64(FIRST)}\n{b64(SECOND)}\n")
    if as_root():
        os.chown(path, 0, 4242)
        path.chmod(0o640)
    before = path.stat()
    FileKeyProvider(path).destroy(ids(FIRST)[0])
    after = path.stat()
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


def test_destroying_through_a_link(tmp_path: Path) -> None:
    """What a link points to is replaced, and the link stays."""
    (tmp_path / "there").mkdir()
    real = key_file(tmp_path / "there" / "key", f"{b64(FIRST)}\n{b64(SECOND)}\n")
    (tmp_path / "key").symlink_to(real)
    FileKeyProvider(tmp_path / "key").destroy(ids(FIRST)[0])
    assert f"{b64(SECOND)}\n" == real.read_text()
    assert (tmp_path / "key").is_symlink()


def test_destroying_what_was_added_since(tmp_path: Path) -> None:
    """The file is read anew: a key that another process put in front stays in it, and can itself be destroyed."""
    path = key_file(tmp_path / "key", f"{b64(SECOND)}\n{b64(THIRD)}\n")
    provider = FileKeyProvider(path)
    key_file(path, f"{b64(FIRST)}\n{b64(SECOND)}\n{b64(THIRD)}\n")
    provider.destroy(ids(THIRD)[0])
    assert f"{b64(FIRST)}\n{b64(SECOND)}\n" == path.read_text()
    provider.destroy(ids(FIRST)[0])
    assert f"{b64(SECOND)}\n" == path.read_text()


@pytest.mark.parametrize("repeated", [1, 2])
def test_the_last_version_is_not_destroyed(tmp_path: Path, repeated: int) -> None:
    """A key file is never left without a key, even if its one key stands there twice."""
    path = key_file(tmp_path / "key", f"{b64(FIRST)}\n" * repeated)
    with pytest.raises(ConfigurationError, match="is the only one in") as raised:
        FileKeyProvider(path).destroy(ids(FIRST)[0])
    assert raised.value.hint
    assert f"{b64(FIRST)}\n" * repeated == path.read_text()


def test_a_full_disk_destroys_nothing(tmp_path: Path) -> None:
    """If the new file can't be written, the old one stands as it was, and no half of a new one is left."""
    content = f"{b64(FIRST)}\n{b64(SECOND)}\n{b64(THIRD)}\n"
    provider = FileKeyProvider(key_file(tmp_path / "key", content))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="can't rewrite key file") as raised:
            provider.destroy(ids(FIRST)[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content == (tmp_path / "key").read_text()
    assert ["key"] == os.listdir(tmp_path)
    assert ids(FIRST, SECOND, THIRD) == provider.versions()
    assert_hidden(raised.value, tmp_path)


DESTROY = """
import sys
from secure_memory.keys.local import FileKeyProvider
FileKeyProvider(sys.argv[1]).destroy(sys.argv[2])
"""


def test_processes_destroy_at_once(tmp_path: Path) -> None:
    """Of several processes that each destroy a version, none brings back what another destroyed."""
    secrets = [bytes([n]) * 32 for n in range(1, 8)]
    path = key_file(tmp_path / "key", "".join(f"{b64(secret)}\n" for secret in secrets))
    script = " & ".join(shlex.join([sys.executable, "-c", DESTROY, str(path), version]) for version in ids(*secrets)[1:])
    run(["sh", "-c", f"{script} & wait"], check=True)
    assert f"{b64(secrets[0])}\n" == path.read_text()


def test_env_keys_are_not_destroyed() -> None:
    """A program can't unset what sets it: the error says who can."""
    provider = EnvKeyProvider(environ={"SECMEM_KEY": f"{b64(FIRST)} {b64(SECOND)}"})
    with pytest.raises(ConfigurationError, match="can't be destroyed from here: it is in environment variable SECMEM_"):
        provider.destroy(ids(SECOND)[0])
    assert ids(FIRST, SECOND) == provider.versions()


def test_a_memory_key_ends() -> None:
    """Destroying the key in memory leaves a provider that wraps and opens nothing."""
    provider = MemoryKeyProvider()
    wrapped = provider.wrap(FIRST, b"")
    provider.destroy(provider.versions()[0])
    assert () == provider.versions()
    with pytest.raises(KeyNotFoundError, match="no key left"):
        provider.wrap(FIRST, b"")
    with pytest.raises(SecureMemoryError, match="isn't in memory, until the process ends: none"):
        provider.unwrap(wrapped, b"")


# ---- the environment variable


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n", "\n,\t "])
def test_several_keys_in_a_variable(between: str) -> None:
    """Keys are separated by commas or white space, newest first."""
    provider = EnvKeyProvider("KEYS", environ={"KEYS": f" {b64(FIRST)}{between}{b64(SECOND)}\n"})
    assert ids(FIRST, SECOND) == provider.versions()
    assert "environment variable KEYS" == provider.describe()


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (1, "not-a-key"),
        (2, f"{b64(FIRST)} {b64(SECOND)[:-1]}"),
        (1, FIRST.hex()),
        (1, f"#{b64(FIRST)}"),
        (1, "\udcff"),
    ],
)
def test_a_malformed_variable(number: int, value: str) -> None:
    """A key that isn't strict base64 of 32 bytes is refused by the variable's name and its own number."""
    with pytest.raises(ConfigurationError) as raised:
        EnvKeyProvider(environ={"SECMEM_KEY": value})
    assert f"SECMEM_KEY: key {number} isn't base64 of 32 bytes" == str(raised.value)
    assert raised.value.hint


def test_a_variable_that_is_not_set() -> None:
    """Not set is no key at all."""
    with pytest.raises(KeyNotFoundError, match="the environment variable SECMEM_KEY isn't set"):
        EnvKeyProvider(environ={})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, it is the environment of the process that counts, as it is at the time."""
    monkeypatch.setenv("SECMEM_KEY", b64(FIRST))
    assert ids(FIRST) == EnvKeyProvider().versions() == find_provider(None).versions()


# ---- which key is found


def test_the_order_of_places(tmp_path: Path) -> None:
    """The argument comes first, then SECMEM_KEY, then SECMEM_KEY_FILE, then the default key file."""
    create_key_file(default_key_path(), made_at=MADE_AT)
    environ = {"SECMEM_KEY": b64(FIRST), "SECMEM_KEY_FILE": str(key_file(tmp_path / "second", b64(SECOND)))}
    third = key_file(tmp_path / "third", b64(THIRD))
    mine = MemoryKeyProvider()

    assert mine is find_provider(mine, environ=environ)
    assert ids(THIRD) == find_provider(third, environ=environ).versions()
    assert ids(THIRD) == find_provider(str(third), environ=environ).versions()
    assert ids(FIRST) == find_provider(None, environ=environ).versions()
    del environ["SECMEM_KEY"]
    assert ids(SECOND) == find_provider(None, environ=environ).versions()
    del environ["SECMEM_KEY_FILE"]
    assert f"key file {Path.home()}" == find_provider(None, environ=environ).describe()[: 9 + len(str(Path.home()))]


@pytest.mark.parametrize("first", ["SECMEM_KEY", "SECMEM_KEY_FILE"])
@pytest.mark.parametrize("value", ["", " \n", "nonsense"])
def test_a_broken_place_is_not_passed_over(first: str, value: str) -> None:
    """If the first place named is empty or broken, that is an error, though there is a key in a later one."""
    create_key_file(default_key_path(), made_at=MADE_AT)
    with pytest.raises((ConfigurationError, KeyNotFoundError), match=f"{first} is set but empty|{first}:|no key file"):
        find_provider(None, environ={first: value})


def test_no_key_anywhere() -> None:
    """Without any key, the hint names the three ways to give one."""
    with pytest.raises(KeyNotFoundError) as raised:
        find_provider(None, environ={})
    assert raised.value.hint is not None
    for way in ("SECMEM_KEY ", "SECMEM_KEY_FILE ", str(default_key_path())):
        assert way in raised.value.hint


@pytest.mark.parametrize("answer", [RuntimeError("no home"), Path("~/.config/secure-memory")])
def test_no_home(monkeypatch: pytest.MonkeyPatch, answer: RuntimeError | Path) -> None:
    """Without a home there is no default place, whichever way platformdirs says it; least of all one beside us."""

    def user_config_path(name: str) -> Path:
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    monkeypatch.setattr("platformdirs.user_config_path", user_config_path)
    with pytest.raises(KeyNotFoundError, match="no home directory") as raised:
        find_provider(None, environ={})
    assert "SECMEM_KEY_FILE" in str(raised.value.hint)


def test_a_key_in_place_of_a_path_is_not_repeated(tmp_path: Path) -> None:
    """A key given where a path belongs is recognised, and doesn't end up in the message about a missing file."""
    gifts: list[Callable[[str], object]] = [
        lambda key: find_provider(key, environ={}),
        lambda key: find_provider(None, environ={"SECMEM_KEY_FILE": key}),
        lambda key: create_key_file(key, made_at=MADE_AT),
    ]
    for give in gifts:
        with pytest.raises(ConfigurationError, match="a key was given where the path") as raised:
            give(b64(FIRST))
        assert b64(FIRST) not in "".join(traceback.format_exception(raised.value))


def test_keys_of_no_known_kind() -> None:
    """Bytes are neither a path nor a provider: a bad argument, and not shown."""
    with pytest.raises(ValueError, match="must be a key provider or the path of a key file, not bytes"):
        find_provider(FIRST)  # type: ignore[arg-type]


# ---- not inside the store


def test_a_key_inside_the_store(tmp_path: Path) -> None:
    """A key file in the store's directory is refused, also by way of links in either direction."""
    store = tmp_path / "support.secmem"
    (store / "vaults").mkdir(parents=True)
    (tmp_path / "elsewhere").symlink_to(store)
    outside = key_file(tmp_path / "key", b64(FIRST))
    (store / "link").symlink_to(outside)
    (tmp_path / "in").symlink_to(store / "key")
    for path in (store / "key", store / "vaults/key", tmp_path / "elsewhere/key", store / "link", tmp_path / "in"):
        with pytest.raises(ConfigurationError, match="is inside the store") as raised:
            check_not_inside(path, store)
        assert raised.value.hint


def test_a_key_beside_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file beside the store is right, even if its name begins as the store's does; relative paths count too."""
    monkeypatch.chdir(tmp_path)
    for path in ("key", "support.secmem.key", "support.secmem/../key"):
        check_not_inside(path, "support.secmem")
    with pytest.raises(ConfigurationError):
        check_not_inside("support.secmem/key", tmp_path / "support.secmem")


# ---- nothing shows a key


def assert_hidden(error: BaseException, *shown: object) -> None:
    """Assert that no part of a key is in the error, its traceback with our local variables, or what else is shown."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in report.stack:
        if frame.filename == __file__:
            frame.locals = {}  # a test knows its keys
    if report.__context__ is not None:
        assert_hidden(error.__context__ or error)
        report.__context__ = report.__cause__ = None
    text = "\n".join([str(error), repr(error), *report.format(), *map(str, shown)])
    for secret in (FIRST, SECOND, THIRD):
        for form in (b64(secret)[:12], secret.hex()[:12], repr(secret[:6])[2:-1]):
            assert form not in text


def test_no_error_shows_a_key(tmp_path: Path) -> None:
    """Each way to give a wrong key raises without showing a part of one, even with our local variables printed."""
    broken = f"{b64(FIRST)}\n{b64(SECOND)[:-2]}\n"
    path = key_file(tmp_path / "broken", broken)
    public = key_file(tmp_path / "public", b64(FIRST), mode=0o644)
    good = FileKeyProvider(key_file(tmp_path / "good", f"{b64(FIRST)}\n{b64(SECOND)}\n"))
    other = EnvKeyProvider(environ={"SECMEM_KEY": b64(THIRD)})
    wrapped = good.wrap(FIRST, b"here")

    class Environ(dict[str, str]):
        def __repr__(self) -> str:  # os.environ's would show it, in frames that aren't ours to clear
            return "environ"

    attempts: list[Callable[[], object]] = [
        lambda: FileKeyProvider(path),
        lambda: FileKeyProvider(public),
        lambda: EnvKeyProvider(environ=Environ(SECMEM_KEY=broken)),
        lambda: find_provider(None, environ=Environ(SECMEM_KEY=broken)),
        lambda: good.unwrap(wrapped, b"there"),
        lambda: other.unwrap(wrapped, b"here"),
        lambda: good.destroy("0011223344556677"),
        lambda: other.destroy(other.versions()[0]),
    ]
    for attempt in attempts:
        with pytest.raises(SecureMemoryError) as raised:
            attempt()
        assert_hidden(raised.value, raised.value.hint, good, repr(good), vars(good), other, vars(other), good.describe())
