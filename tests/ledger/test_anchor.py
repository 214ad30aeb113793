"""The anchor: what it remembers, what it refuses to forget, and what it says when a vault is opened."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import RollbackError, StorageError, StoreBusyError, TamperedError
from secure_memory.ledger import anchor as module
from secure_memory.ledger.anchor import Anchor, State, boot_id, check, default_directory
from secure_memory.ledger.merkle import EMPTY_ROOT, Head

STORE, VAULT = bytes(range(16)), bytes(range(16, 32))
EARLIER_BOOT = b"an earlier boot!"
NOTHING = Head(0, EMPTY_ROOT)
SLOTS = (0, 4096)
BODY, SLOT = 108, 140  # bytes, of which the last 32 are the checksum


def head(size: int) -> Head:
    return Head(size, root_at(size))


def root_at(size: int) -> bytes:
    """The one history of these tests: each size has its root."""
    return sha256(b"%d" % size).digest() if size else EMPTY_ROOT


def other_root_at(size: int) -> bytes:
    return sha256(b"another history" + root_at(size)).digest()


def now(durable: int, seen: int) -> State:
    return State(head(durable), head(seen), boot_id())


@pytest.fixture
def open_anchor(tmp_path: Path) -> Iterator[Callable[[], Anchor]]:
    """Open the same anchor as often as asked, as other processes would."""
    opened: list[Anchor] = []

    def open_anchor() -> Anchor:
        opened.append(Anchor(tmp_path / "anchors", STORE, tmp_path / "store", VAULT))
        return opened[-1]

    yield open_anchor
    for one in opened:
        one.close()


@pytest.fixture
def anchor(open_anchor: Callable[[], Anchor]) -> Anchor:
    return open_anchor()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def rewrite(path: Path, at: int, value: bytes) -> None:
    """Put value into the first slot, and make the slot whole again."""
    body = bytearray(path.read_bytes()[:BODY])
    body[at : at + len(value)] = value
    path.write_bytes(body + sha256(body).digest())


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere, so for a while we are not root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def in_child(work: Callable[[], None]) -> int:
    """Run work in a fork of this process; return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(20)  # a deadlock must fail the test, not hang it
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# What it remembers.


def test_there_is_no_anchor_at_first(anchor: Anchor, tmp_path: Path) -> None:
    """Neither opening an anchor nor reading it makes one."""
    assert anchor.read() is None
    assert list(tmp_path.iterdir()) == []


def test_a_seen_head_moves_seen_alone(anchor: Anchor) -> None:
    """A head that a power cut may take back is seen, and not durable."""
    anchor.advance(head(3), durable=False)
    assert State(NOTHING, head(3), boot_id()) == anchor.read()


def test_a_durable_head_moves_both(anchor: Anchor) -> None:
    """A durable head has been seen as well."""
    anchor.advance(head(3), durable=False)
    anchor.advance(head(4), durable=True)
    assert now(4, 4) == anchor.read()


def test_a_seen_head_can_become_durable(anchor: Anchor) -> None:
    """A durable commit covers what was only seen before, even at the same size."""
    anchor.advance(head(4), durable=False)
    anchor.advance(head(4), durable=True)
    assert now(4, 4) == anchor.read()


def test_a_durable_head_behind_seen_moves_durable_alone(anchor: Anchor) -> None:
    """Each of the two moves by itself: a process that reports late doesn't pull the other back."""
    anchor.advance(head(9), durable=False)
    anchor.advance(head(5), durable=True)
    assert now(5, 9) == anchor.read()


@given(moves=st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=20))
def test_it_only_moves_forward(moves: list[tuple[int, bool]]) -> None:
    """Whatever the order, it ends at the largest of each, and at no step does either go back."""
    with tempfile.TemporaryDirectory() as directory:
        anchor = Anchor(Path(directory), STORE, Path(directory), VAULT)
        durable = seen = 0
        for size, is_durable in moves:
            anchor.advance(head(size), durable=is_durable)
            durable, seen = max(durable, size if is_durable else 0), max(seen, size)
            assert now(durable, seen) == anchor.read()
        anchor.close()


def test_a_head_it_knows_is_not_written_again(anchor: Anchor) -> None:
    """Equal or smaller is a no-op, down to the bytes."""
    anchor.advance(head(7), durable=True)
    before = anchor.path.read_bytes()
    anchor.advance(head(7), durable=True)
    anchor.advance(head(7), durable=False)
    anchor.advance(head(2), durable=True)
    assert before == anchor.path.read_bytes()


def test_a_reset_goes_back(anchor: Anchor) -> None:
    """What is declared sets both heads to exactly the head it names, and the anchor goes on from there."""
    anchor.advance(head(9), durable=True)
    anchor.reset(head(4))
    assert now(4, 4) == anchor.read()
    anchor.advance(head(5), durable=False)
    assert now(4, 5) == anchor.read()


def test_a_reset_makes_an_anchor(anchor: Anchor) -> None:
    """`secmem audit anchor --init` works where there is none."""
    anchor.reset(head(4))
    assert now(4, 4) == anchor.read()


def test_a_reboot_frees_what_was_only_seen(anchor: Anchor, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut the ledger grows another way, so the head that was lost gives way, and durable does not."""
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "boot_id", lambda: EARLIER_BOOT)
        anchor.advance(head(5), durable=True)
        anchor.advance(head(9), durable=False)
        assert State(head(5), head(9), EARLIER_BOOT) == anchor.read()
    anchor.advance(head(6), durable=False)
    assert now(5, 6) == anchor.read()
    anchor.advance(head(3), durable=True)
    assert now(5, 6) == anchor.read()


def test_a_reboot_keeps_the_durable_head_as_seen(anchor: Anchor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen never falls behind durable, not even when the first head of a boot is an old one."""
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "boot_id", lambda: EARLIER_BOOT)
        anchor.advance(head(5), durable=True)
    anchor.advance(head(2), durable=False)
    assert now(5, 5) == anchor.read()


def test_it_survives_closing(anchor: Anchor) -> None:
    """Closing drops the file, not the anchor."""
    anchor.advance(head(3), durable=True)
    anchor.close()
    anchor.advance(head(4), durable=True)
    assert now(4, 4) == anchor.read()


def test_the_layout_of_a_slot(anchor: Anchor) -> None:
    """The format is a promise: magic and version, counter, durable, seen, boot id, checksum; one slot a page."""
    anchor.advance(head(1), durable=True)
    anchor.advance(head(2), durable=False)
    first = b"SMA\x01" + (1).to_bytes(8, "big") + ((1).to_bytes(8, "big") + root_at(1)) * 2 + boot_id()
    second = first[:11] + b"\x02" + first[12:52] + (2).to_bytes(8, "big") + root_at(2) + boot_id()
    expected = (first + sha256(first).digest()).ljust(4096, b"\0") + second + sha256(second).digest()
    assert expected == anchor.path.read_bytes()


# Where it is.


def test_an_anchor_for_each_store_place_and_vault(tmp_path: Path) -> None:
    """Another store, another place of the same store, or another vault has another file."""
    other = bytes(16)
    paths = {
        Anchor(tmp_path, STORE, tmp_path / "store", VAULT).path,
        Anchor(tmp_path, other, tmp_path / "store", VAULT).path,
        Anchor(tmp_path, STORE, tmp_path / "copy", VAULT).path,
        Anchor(tmp_path, STORE, tmp_path / "store", other).path,
    }
    assert len(paths) == 4


def test_the_name_of_the_file(tmp_path: Path) -> None:
    """Store uid and place name the directory, the vault's uid the file."""
    place = sha256(os.fsencode(tmp_path.resolve() / "store")).digest()[:8].hex()
    expected = tmp_path / f"{STORE.hex()}-{place}" / f"{VAULT.hex()}.anchor"
    assert expected == Anchor(tmp_path, STORE, tmp_path / "store", VAULT).path


def test_a_link_to_a_store_has_the_anchor_of_the_store(tmp_path: Path) -> None:
    """A store opened by another name is the same store."""
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    named = Anchor(tmp_path, STORE, tmp_path / "store", VAULT).path
    assert named == Anchor(tmp_path, STORE, tmp_path / "link", VAULT).path


def test_nobody_else_may_look(anchor: Anchor, tmp_path: Path) -> None:
    """The file is 0600 and the directories that we make are 0700."""
    anchor.advance(head(1), durable=True)
    made = [tmp_path / "anchors", anchor.path.parent, anchor.path]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700, 0o700, 0o600]


def test_the_variable_names_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$SECMEM_ANCHOR comes before the platform's directory."""
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path))
    assert tmp_path == default_directory()


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else it is `anchors` in the platform's directory for state."""
    monkeypatch.delenv("SECMEM_ANCHOR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    found = default_directory()
    assert found.parts[-2:] == ("secure-memory", "anchors")
    assert found.is_relative_to(tmp_path)


def no_home(*_: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("answer", [no_home, lambda _: Path("~/.local/state/secure-memory")], ids=["new", "old"])
def test_without_a_home_the_default_directory_is_absolute(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Path]
) -> None:
    """Whatever platformdirs answers without a home, the anchor never goes to the working directory."""
    monkeypatch.setattr(platformdirs, "user_state_path", answer)
    assert Path("/var/lib/secure-memory/anchors") == default_directory()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that doesn't exist")
def test_a_user_without_a_home_has_a_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that no one has, HOME unset: as OpenShift runs containers."""
    monkeypatch.delenv("HOME")

    def work() -> None:
        os.setuid(54321)
        assert Path("/var/lib/secure-memory/anchors") == default_directory()

    assert in_child(work) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_boot_id_is_the_kernels() -> None:
    """On Linux it is the kernel's own, as 16 bytes."""
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "") == boot_id().hex()


# Damage.


@pytest.mark.parametrize("at", range(SLOT))
def test_a_torn_slot_is_ignored(anchor: Anchor, at: int) -> None:
    """Any damaged byte of the newer slot brings the older one back; the next write mends it."""
    anchor.advance(head(1), durable=True)
    anchor.advance(head(2), durable=True)
    flip(anchor.path, SLOTS[1] + at)
    assert now(1, 1) == anchor.read()
    anchor.advance(head(3), durable=True)
    flip(anchor.path, SLOTS[0] + at)
    assert now(3, 3) == anchor.read()


def test_damage_to_the_older_slot_changes_nothing(anchor: Anchor) -> None:
    """The newer slot says all there is to say."""
    anchor.advance(head(1), durable=True)
    anchor.advance(head(2), durable=True)
    flip(anchor.path, SLOTS[0] + 20)
    assert now(2, 2) == anchor.read()


def test_a_slot_of_another_version_is_not_read(anchor: Anchor) -> None:
    """A whole slot with another version byte is no slot of ours."""
    anchor.advance(head(1), durable=True)
    rewrite(anchor.path, 0, b"SMA\x01")
    assert now(1, 1) == anchor.read()
    rewrite(anchor.path, 0, b"SMA\x02")
    with pytest.raises(TamperedError, match="both slots"):
        anchor.read()


def test_two_damaged_slots_are_tampering(anchor: Anchor) -> None:
    """With nothing whole left, reading raises, and says what to do."""
    anchor.advance(head(1), durable=True)
    anchor.advance(head(2), durable=True)
    flip(anchor.path, SLOTS[0] + 20)
    flip(anchor.path, SLOTS[1] + 20)
    with pytest.raises(TamperedError, match="both slots") as raised:
        anchor.read()
    assert raised.value.hint is not None
    assert "secmem audit anchor --init" in raised.value.hint


def test_advancing_keeps_the_evidence(anchor: Anchor) -> None:
    """A damaged anchor is not mended by going on: advancing raises OSError and writes nothing. A reset mends it."""
    anchor.advance(head(1), durable=True)
    flip(anchor.path, 20)
    before = anchor.path.read_bytes()
    with pytest.raises(OSError, match="damaged"):
        anchor.advance(head(2), durable=True)
    assert before == anchor.path.read_bytes()
    anchor.reset(head(2))
    assert now(2, 2) == anchor.read()


@pytest.mark.parametrize("size", [0, SLOT, 4096 + SLOT])
def test_a_file_that_nothing_reached_is_no_anchor(anchor: Anchor, size: int) -> None:
    """A power cut can leave a new file empty or full of zeros: that is as if it were missing, and no tampering."""
    anchor.advance(head(1), durable=True)
    anchor.path.write_bytes(bytes(size))
    assert anchor.read() is None
    anchor.advance(head(2), durable=True)
    assert now(2, 2) == anchor.read()


def test_the_newer_slot_wins_by_however_much(anchor: Anchor) -> None:
    """A power cut can keep a slot from the disk for long, so that the other is many writes ahead."""
    anchor.advance(head(1), durable=True)
    old = anchor.path.read_bytes()[:SLOT]
    for size in range(2, 9):
        anchor.advance(head(size), durable=True)
    anchor.path.write_bytes(old + anchor.path.read_bytes()[SLOT:])
    assert now(8, 8) == anchor.read()


def test_the_counter_may_wrap(anchor: Anchor) -> None:
    """The newer of two slots is known even where the counter starts again."""
    anchor.advance(head(1), durable=True)
    rewrite(anchor.path, 4, b"\xff" * 8)
    for size in (2, 3, 4):
        anchor.advance(head(size), durable=True)
        assert now(size, size) == anchor.read()


# Failures.


def test_a_directory_that_is_not_ours_is_an_os_error() -> None:
    """Advancing where we may not write raises OSError, for the caller to decide; reading finds nothing there."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)
        anchor = Anchor(Path(name), STORE, Path(name), VAULT)
        with as_nobody():
            with pytest.raises(PermissionError):
                anchor.advance(head(1), durable=True)
            with pytest.raises(PermissionError):
                anchor.reset(head(1))
            assert anchor.read() is None


def test_a_file_that_is_not_ours_is_a_storage_error() -> None:
    """Reading an anchor that may not be read says so: it is not taken for missing."""
    with tempfile.TemporaryDirectory() as name:
        anchor = Anchor(Path(name), STORE, Path(name), VAULT)
        anchor.advance(head(1), durable=True)
        os.chmod(name, 0o755)
        anchor.path.parent.chmod(0o755)
        anchor.path.chmod(0o000)
        with as_nobody(), pytest.raises(StorageError, match="can't be read: Permission denied"):
            anchor.read()
        anchor.close()


def test_a_link_is_not_followed(anchor: Anchor, tmp_path: Path) -> None:
    """A link in place of the anchor would have us write elsewhere."""
    anchor.path.parent.mkdir(parents=True)
    anchor.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        anchor.advance(head(1), durable=True)
    with pytest.raises(StorageError):
        anchor.read()
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_in_part_is_an_os_error(anchor: Anchor) -> None:
    """A disk that takes half a slot fails the call and leaves the slot before it."""
    anchor.advance(head(1), durable=True)

    def work() -> None:
        anchor.after_fork()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 50, 4096 + 50))
        with pytest.raises(OSError, match="only in part"):
            anchor.advance(head(2), durable=True)
        assert now(1, 1) == anchor.read()

    assert in_child(work) == 0
    assert anchor.path.stat().st_size == 4096 + 50
    assert now(1, 1) == anchor.read()


@pytest.mark.parametrize("gone", ["deleted", "replaced", "directory deleted"])
def test_a_file_that_is_gone_is_made_again(anchor: Anchor, tmp_path: Path, gone: str) -> None:
    """What is written goes where the next opening looks for it."""
    anchor.advance(head(1), durable=True)
    if gone == "replaced":
        new = tmp_path / "new"
        new.write_bytes(anchor.path.read_bytes())
        new.replace(anchor.path)
    else:
        anchor.path.unlink()
    if gone == "directory deleted":
        anchor.path.parent.rmdir()
        (tmp_path / "anchors").rmdir()
    anchor.advance(head(2), durable=True)
    assert now(2, 2) == anchor.read()


def test_a_stopped_process_does_not_stop_the_others(anchor: Anchor, monkeypatch: pytest.MonkeyPatch) -> None:
    """We wait a while for the lock, and then it is an OSError to write and a StoreBusyError to read."""
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.01)
    anchor.advance(head(1), durable=True)
    with anchor.path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            anchor.advance(head(2), durable=True)
        with pytest.raises(StoreBusyError):
            anchor.read()
    anchor.advance(head(3), durable=True)
    assert now(3, 3) == anchor.read()


# Several processes and threads.

ADVANCE = """
import sys
from pathlib import Path
from hashlib import sha256
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.merkle import Head
directory, store, first, last, step = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
anchor = Anchor(directory, bytes(range(16)), store, bytes(range(16, 32)))
for size in range(first, last + 1, step):
    anchor.advance(Head(size, sha256(b"%d" % size).digest()), durable=size % 3 == 0)
"""


def start(tmp_path: Path, first: int, last: int, step: int) -> subprocess.Popen[bytes]:
    arguments = [str(tmp_path / "anchors"), str(tmp_path / "store"), *map(str, (first, last, step))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", ADVANCE, *arguments], env=environment)


def test_two_processes_never_pull_each_other_back(anchor: Anchor, tmp_path: Path) -> None:
    """While two processes advance it at once, no reading is older than one before, and none is torn."""
    others = [start(tmp_path, 1, 30001, 2), start(tmp_path, 2, 30000, 2)]
    states = []
    while any(process.poll() is None for process in others):
        if state := anchor.read():
            states.append((state.durable.size, state.seen.size))
            assert now(*states[-1]) == state
    assert [process.returncode for process in others] == [0, 0]
    for durable_or_seen in zip(*states, strict=True):
        assert sorted(durable_or_seen) == list(durable_or_seen)
    assert now(30000, 30001) == anchor.read()


def test_a_killed_process_leaves_a_whole_anchor(anchor: Anchor, tmp_path: Path) -> None:
    """Killed in the midst of advancing, a process leaves no lock and no damage, and what it had reached still holds."""
    process = start(tmp_path, 1, 10**9, 1)
    while not (reached := anchor.read()) or reached.seen.size < 100:
        assert process.poll() is None
    process.kill()
    process.wait()
    left = anchor.read()
    assert left is not None
    assert left.seen.size >= reached.seen.size
    assert root_at(left.seen.size) == left.seen.root
    anchor.advance(head(10**9), durable=True)
    assert now(10**9, 10**9) == anchor.read()


def test_threads_wait_for_each_other(anchor: Anchor) -> None:
    """Threads share one open file, so that its flock keeps none of them out: a mutex does."""
    for work in (
        lambda: anchor.advance(head(1), durable=True),
        lambda: anchor.reset(head(2)),
        lambda: anchor.read(),
        anchor.close,
    ):
        thread = threading.Thread(target=work)
        with anchor._mutex:
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
        thread.join()
    assert now(2, 2) == anchor.read()


def test_a_child_has_a_lock_of_its_own(anchor: Anchor) -> None:
    """After a fork, the parent's lock keeps the child out, and the child's closing doesn't release it."""
    anchor.advance(head(1), durable=True)

    def work() -> None:
        module.LOCK_SECONDS = 0.01
        anchor.after_fork()
        with pytest.raises(TimeoutError):
            anchor.advance(head(2), durable=True)

    with anchor._open_locked():
        assert in_child(work) == 0
        with anchor.path.open() as third, pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_child_is_not_stuck_on_a_thread_it_does_not_have(anchor: Anchor) -> None:
    """A fork while another thread is inside leaves the child an anchor that works, beside the parent's."""
    anchor.advance(head(1), durable=True)

    def work() -> None:
        anchor.after_fork()
        anchor.advance(head(2), durable=True)
        anchor.close()

    with anchor._mutex:
        assert in_child(work) == 0
    assert now(2, 2) == anchor.read()
    anchor.advance(head(3), durable=True)
    assert now(3, 3) == anchor.read()


# What it says at opening.


def test_a_ledger_where_the_anchor_saw_it_is_ok() -> None:
    """Standing exactly there, or further on with the same history, is as it should be."""
    assert check(now(5, 8), 8, root_at) == "ok"
    assert check(now(5, 8), 20, root_at) == "ok"
    assert check(State(NOTHING, NOTHING, EARLIER_BOOT), 0, root_at) == "ok"


@pytest.mark.parametrize("boot", [boot_id(), EARLIER_BOOT, bytes(16)])
def test_behind_durable_is_a_rollback(boot: bytes) -> None:
    """Not even a power cut takes back what was durable."""
    with pytest.raises(RollbackError, match="the ledger has 4 entries, and 5 were on disk before") as raised:
        check(State(head(5), head(8), boot), 4, root_at)
    assert raised.value.hint is not None
    assert "secmem restore --accept-rollback" in raised.value.hint


def test_behind_seen_in_the_same_boot_is_a_rollback() -> None:
    """Only a power cut takes back what was seen, and there was none."""
    with pytest.raises(RollbackError, match="the ledger has 7 entries, and 8 were seen since this host booted"):
        check(now(5, 8), 7, root_at)


@pytest.mark.parametrize("size", [5, 7])
def test_behind_seen_after_a_reboot_is_a_gap(size: int) -> None:
    """A power cut may have taken it back: no alarm, but a gap to record."""
    assert check(State(head(5), head(8), EARLIER_BOOT), size, root_at) == "gap"


def test_behind_seen_where_boots_are_not_known_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we can't tell whether the host booted, we don't cry rollback."""
    monkeypatch.setattr(module, "boot_id", lambda: bytes(16))
    assert check(State(head(5), head(8), bytes(16)), 7, root_at) == "gap"


def forked_after(common: int) -> Callable[[int], bytes]:
    """Another history that has its first entries in common with ours."""
    return lambda size: root_at(size) if size <= common else other_root_at(size)


@pytest.mark.parametrize("boot", [boot_id(), EARLIER_BOOT])
@pytest.mark.parametrize("size", [5, 6, 8, 20])
def test_another_durable_root_is_a_rollback(boot: bytes, size: int) -> None:
    """Whatever the boot and however long it is, a ledger that lost durable entries is not the same ledger."""
    with pytest.raises(RollbackError, match="another history at 5 entries"):
        check(State(head(5), head(8), boot), size, forked_after(4))


@pytest.mark.parametrize("size", [8, 20])
def test_another_seen_root_in_the_same_boot_is_a_rollback(size: int) -> None:
    """A ledger that grew again, another way, was behind what was seen."""
    with pytest.raises(RollbackError, match="another history at 8 entries"):
        check(now(5, 8), size, forked_after(7))


@pytest.mark.parametrize("size", [8, 20])
def test_another_seen_root_after_a_reboot_is_a_gap(size: int) -> None:
    """After a power cut the ledger grows another way, and a second one may take back that the anchor was told so."""
    assert check(State(head(5), head(8), EARLIER_BOOT), size, forked_after(5)) == "gap"


def test_the_root_is_never_asked_for_beyond_the_ledger() -> None:
    """`root_at` is called for sizes that the ledger has."""

    def strict(n: int) -> bytes:
        assert n <= 6
        return root_at(n)

    assert check(State(head(5), head(8), EARLIER_BOOT), 6, strict) == "gap"
