"""A hospital's vote says yes as often as its price allows, whatever the hospital means."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scipy.special import expit
from scipy.stats import binom

from polyclinic_client.compute.integers import Moment
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.release_id import ReleaseId
from tests.kits.hospital import Hospital
from tests.kits.small import small_study

FALSE_ALARM = 1e-6
COUNT = 10_000
VOTE: dict[str, Any] = {"acceptance": {"epsilon": 0.8}}
VOTING = [(mode, truth) for mode in ("secure-sum", "local") for truth in (True, False, None)]


@pytest.mark.parametrize(("mode", "truth"), VOTING)
def test_a_vote_says_yes_as_often_as_its_price_allows(
    mode: str, truth: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yes with p = e^eps / (1 + e^eps) where it is meant, 1 - p where no is, 1/2 to abstain.

    False alarm 1e-6 over all six. Power: told with p + 0.1, or with 1/2 + 0.1 to abstain, it is
    seen with probability 1 - 1e-9.
    """
    study = small_study(privacy={"mode": mode, "epsilon": 8.0}, evaluation=VOTE)
    hospital = Hospital(study, tmp_path / "site")
    charge = hospital.planned["vote"].fallback
    assert isinstance(charge, Vote)
    voter, count = hospital.voter, COUNT
    assert voter._opinion(hospital.weights) is None, "nobody is held out, and it does not abstain"
    monkeypatch.setattr(voter, "_opinion", lambda _: truth)
    moments = [Moment(ReleaseId("run", number, "vote"), b"") for number in range(count)]
    said = Counter(int(voter.draw(hospital.weights, moment)[0]) for moment in moments)
    assert set(said) == {0, 1}
    told = float(expit(charge.epsilon))
    yes = {True: told, False: 1.0 - told, None: 0.5}[truth]
    rare = FALSE_ALARM / len(VOTING) / 2
    low, high = (float(binom.ppf(tail, count, yes)) for tail in (rare, 1.0 - rare))
    assert low <= said[1] <= high
    assert binom.cdf(high, count, yes + 0.1) < 1e-9
