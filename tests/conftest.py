"""What every test stands on: no key, anchor or setting of the person who runs it, and hypothesis as CI runs it."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# `ci` gives the same answer each time, on a machine of any speed; `long` searches further, anew each time.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty home and no `SECMEM_` variables."""
    for name in [name for name in os.environ if name.startswith(("SECMEM_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
