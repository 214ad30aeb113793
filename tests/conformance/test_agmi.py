"""The nine edits of agmi, each rejected where it is read."""

from __future__ import annotations

import pytest
from agmi import check
from agmi.attacks.at_rest import TamperAttack
from agmi_adapter import CarefulAttacker, PlainAttacker

pytestmark = pytest.mark.xdist_group("agmi")  # the verdicts are made once
EDITS = [attack().name for attack in check.ALL_AT_REST_ATTACKS]


@pytest.fixture(scope="module", params=[PlainAttacker, CarefulAttacker], ids=["plain", "careful"])
def verdicts(request: pytest.FixtureRequest) -> dict[str, tuple[str, str]]:
    """What agmi says of each edit by this attacker, and why."""
    return {row["attack"]: (row["verdict"], row["detail"]) for row in check.run(request.param())}


def test_there_are_nine_edits() -> None:
    """The suite makes the edits that we know, T1 to T9."""
    assert set(check.LABELS) == set(EDITS)
    assert 9 == len(EDITS)


@pytest.mark.parametrize("edit", EDITS)
def test_the_edit_is_rejected(verdicts: dict[str, tuple[str, str]], edit: str) -> None:
    """Opening or reading raises what is meant for tampering, or for a rollback, and not anything else."""
    verdict, why = verdicts[edit]
    assert "REJECTED" == verdict, why
    assert ("RollbackError" if edit == "snapshot_rollback" else "TamperedError") in why


def test_an_edit_that_does_not_land_is_no_verdict() -> None:
    """REJECTED can't be had by an attacker that does nothing."""

    class Idle(PlainAttacker):
        def _put(self, seq: int, values: dict[str, object]) -> None:
            pass

    adapter = Idle()
    assert "ERROR" == check.verdict(TamperAttack().run(adapter), adapter)
