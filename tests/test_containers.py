"""In a container as a cautious cluster runs it: nothing can be written but one volume, and another for the anchors.

- The root file system is read-only, `/tmp` and `/dev/shm` too; HOME is not set, or cannot be written.
- The store is a volume that was just formatted: a mount point with a `lost+found` that is somebody else's.
- The key is a secret file of Kubernetes, mode 0440, root's, behind two links; or it is in the environment.
- The process is not root, and gets at volumes and secret by a group.

Where this runs as root, or where the kernel lets a user have mounts of its own, these are real mounts, in a process of its
own; the service runs in children of that process, one for each start of the container. Where neither is so, modes
stand in for the mounts. This file is also that process's program.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KEY = base64.b64encode(bytes(range(32))).decode()
USER, GROUP = 10001, 10002
"""Who the service is, and the group (`fsGroup`) that may use its volumes."""


# ---- the container's side ---------------------------------------------------------------------------------------------


def container(directory: Path, services: list[str]) -> None:
    """Set up the container's file systems, then run each service in a start of its own; tell how it was made."""
    root = os.geteuid() == 0
    talk = _zygote().Talk()
    volumes = [directory / "data", directory / "anchors"]
    try:
        talk.own_mounts()
        for volume in volumes:
            talk.small_disk(str(volume), 16 << 20)
        for mount in ("/", *_writable_mounts()):
            if not any(str(volume) == mount for volume in volumes):
                talk.read_only_mount(mount)
        made = "mounts"
    except PermissionError:
        for place in (directory, directory / "work", directory / "home"):
            place.chmod(0o500)
        made = "modes"
    for volume in volumes:
        if made == "mounts" and root:
            os.chown(volume, 0, GROUP)
            volume.chmod(0o2775)
    (volumes[0] / "lost+found").mkdir(mode=0o700)
    print(made, flush=True)
    os.chdir(directory / "work")

    # From here on as in the container: also what is imported is imported there.
    for service in services:
        import secure_memory.agents_sdk.session
        import secure_memory.store  # noqa: F401

        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if root and made == "mounts":
                    asyncio.run(_warm())  # what is loaded late is loaded here: this user may not read where Python is
                    os.setgroups([GROUP])
                    os.setgid(USER)
                    os.setuid(USER)
                else:
                    talk.drop_privileges()
                _nothing_else_can_be_written(directory)
                globals()[service](directory)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit(f"{service} failed")


def _zygote() -> ModuleType:
    """What can make mounts: see tests/faults/zygote.py."""
    spec = importlib.util.spec_from_file_location("zygote", Path(__file__).with_name("faults") / "zygote.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _writable_mounts() -> list[str]:
    """The mount points that are writable, but for the kernel's own file systems."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind in ("tmpfs", "ext4", "xfs", "btrfs", "overlay") and "rw" in options.split(",") and place != "/":
            found.append(place)
    return found


async def _warm() -> None:
    from secure_memory.agents_sdk.session import SecureSession

    with SecureSession("warm") as session:
        await session.add_items([{"role": "user", "content": "x"}])
        await session.get_items()


def _nothing_else_can_be_written(directory: Path) -> None:
    """The container is as tight as it says."""
    for place in (directory, directory / "work", directory / "home", Path("/tmp"), Path("/dev/shm"), Path("/var/tmp")):
        try:
            (place / "written").touch()
        except OSError:
            continue
        (place / "written").unlink()
        # Where modes stand in for mounts, /tmp stays what it is.
        if os.statvfs("/").f_flag & os.ST_RDONLY or place.is_relative_to(directory):
            raise AssertionError(f"{place} can be written")


def _say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def creates(directory: Path) -> None:
    """The first start: the store is made where the volume is, and used."""
    from secure_memory import SecureSession

    async def main() -> None:
        session = SecureSession("user_123", directory / "data", tenant="acme", anchor_required=True)
        await session.add_items([{"role": "user", "content": "first start"}])
        _say(items=await session.get_items())
        session.close()

    asyncio.run(main())


def restarts(directory: Path) -> None:
    """The next start: what was said is there, and goes on."""
    from secure_memory import SecureSession

    async def main() -> None:
        session = SecureSession("user_123", directory / "data", tenant="acme", anchor_required=True)
        await session.add_items([{"role": "user", "content": "next start"}])
        _say(items=await session.get_items())
        session.close()

    asyncio.run(main())


def is_killed(directory: Path) -> None:
    """A start that the cluster ends without a word."""
    from secure_memory import SecureSession

    session = SecureSession("user_123", directory / "data", tenant="acme")
    asyncio.run(session.add_items([{"role": "user", "content": "killed"}]))
    os._exit(0)


def verifies(directory: Path) -> None:
    """The whole check, and what the store looks like."""
    from secure_memory.store import SecureStore

    with SecureStore.open(directory / "data", anchor_required=True) as store:
        _say(
            anchors=sorted({report.anchor for report in store.audit_verify()}),
            actions=sorted({record.entry.action for record in store.audit_log()}),
            key=store.key_place,
        )
    _say(modes=sorted({oct(file.stat().st_mode & 0o777) for file in _files(directory / "data")}))


def _files(place: Path) -> list[Path]:
    return [Path(above, name) for above, _, names in os.walk(place) for name in names]


def has_no_key(directory: Path) -> None:
    """Without a key the store is not made, and the error says which ways there are to give one."""
    from secure_memory import SecureSession
    from secure_memory.errors import KeyNotFoundError

    for name in ("SECMEM_KEY", "SECMEM_KEY_FILE"):
        os.environ.pop(name, None)
    try:
        SecureSession("user_123", directory / "data")
    except KeyNotFoundError as error:
        _say(hint=error.hint, left=sorted(os.listdir(directory / "data")))


def has_no_anchor_place(directory: Path) -> None:
    """Without a place for anchors the store works, degraded; required, they are missed."""
    from secure_memory import SecureSession
    from secure_memory.errors import StorageError
    from secure_memory.store import SecureStore

    del os.environ["SECMEM_ANCHOR"]
    with SecureSession("user_123", directory / "data") as session:
        asyncio.run(session.add_items([{"role": "user", "content": "no anchor"}]))
        _say(items=asyncio.run(session.get_items()))
    try:
        SecureStore.open(directory / "data", anchor_required=True)
    except StorageError as error:
        _say(refused=str(error))


# ---- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def inside() -> Iterator[Path]:
    """The directory that the container sees. Not below pytest's own, which are this user's alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def run(inside: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run services in a container, one start each, and return what they said."""
    for place in (inside / "data", inside / "anchors", inside / "work", inside / "home", inside / "secret"):
        place.mkdir()

    # As a kubelet lays out a secret, so that it can be changed in one step.
    real = inside / "secret" / "..2026_11_22_03_00_00.123456789"
    real.mkdir()
    (real / "key").write_text(KEY + "\n")
    (inside / "secret" / "..data").symlink_to(real.name)
    (inside / "secret" / "key").symlink_to("..data/key")
    (real / "key").chmod(0o440)
    if os.geteuid() == 0:
        os.chown(real / "key", 0, GROUP)

    def run(*services: Callable[[Path], None], key: str, home: str | None) -> list[dict[str, Any]]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": "/nonexistent", "SECMEM_ANCHOR": str(inside / "anchors")}
        if key == "file":
            environment["SECMEM_KEY_FILE"] = str(inside / "secret" / "key")
        else:
            environment["SECMEM_KEY"] = KEY
        if home is not None:
            environment["HOME"] = str(inside / home)
        names = [service.__name__ for service in services]
        done = subprocess.run(
            [sys.executable, "-B", __file__, str(inside), *names],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for place in (inside, inside / "work", inside / "home"):
            place.chmod(0o755)  # where modes stood in for mounts
        assert 0 == done.returncode, done.stderr
        made, *said = done.stdout.splitlines()
        assert made == "mounts" or os.geteuid() != 0
        return [json.loads(line) for line in said]

    return run


FIRST = {"role": "user", "content": "first start"}
NEXT = {"role": "user", "content": "next start"}
KILLED = {"role": "user", "content": "killed"}


@pytest.mark.parametrize("home", [None, "home", "nonexistent"], ids=["HOME unset", "HOME read-only", "HOME missing"])
@pytest.mark.parametrize("key", ["file", "environment"])
def test_container(run: Callable[..., list[dict[str, Any]]], key: str, home: str | None) -> None:
    """In a read-only container a store is made in its volume, used, found again after a restart and a kill, and whole."""
    first, second, third, report, files = run(creates, restarts, is_killed, restarts, verifies, key=key, home=home)
    assert [FIRST] == first["items"]
    assert [FIRST, NEXT] == second["items"]
    assert [FIRST, NEXT, KILLED, NEXT] == third["items"]
    assert ["ok"] == report["anchors"]
    assert not {"session.tampered", "audit.gap"} & set(report["actions"])
    assert ("key file" if key == "file" else "SECMEM_KEY") in report["key"]
    assert ["0o600"] == files["modes"]


def test_no_key(run: Callable[..., list[dict[str, Any]]]) -> None:
    """In a container without a key nothing is made, and the error says how to give one."""
    # Without HOME a user of a namespace is sent to the home of root, which it may not even look into.
    (said,) = run(has_no_key, key="environment", home=None if os.geteuid() == 0 else "home")
    assert "SECMEM_KEY" in said["hint"]
    assert ["lost+found"] == said["left"]


def test_no_place_for_anchors(run: Callable[..., list[dict[str, Any]]]) -> None:
    """In a container without a place for anchors the store works without them, unless they are required."""
    used, refused = run(has_no_anchor_place, key="file", home=None)
    assert [{"role": "user", "content": "no anchor"}] == used["items"]
    assert "anchor" in refused["refused"]


if __name__ == "__main__":
    container(Path(sys.argv[1]), sys.argv[2:])
