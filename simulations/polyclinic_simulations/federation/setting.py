"""One setting of a simulation: what is varied between runs, apart from the seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from polyclinic_common.study import Study, parse_study

# With one hospital there is nothing to combine: these train it exactly as fedavg does.
LIKE_FEDAVG_ALONE = frozenset({"fedmedian", "fedtrimmedavg", "krum"})
FIXED_SPLITS = frozenset({"column", "sites"})


@dataclass(frozen=True)
class Setting:
    """What a run does differently from its study.

    Attributes
    ----------
    mode : str
        `local` or `none`.
    epsilon : float or None
        Budget, in private modes.
    strategy : str
        How releases are combined.
    sites : int or None
        Number of made-up hospitals; None keeps the study's.
    drop : float
        Probability of a hospital to miss a round.
    """

    mode: str
    epsilon: float | None
    strategy: str
    sites: int | None = None
    drop: float = 0.0

    @property
    def key(self) -> list[object]:
        """Everything that names the setting, for hashes."""
        return list(asdict(self).values())

    @property
    def alone(self) -> Setting:
        """Setting of the baselines beside this one: its training on one cohort, no privacy."""
        return Setting("none", None, alone_strategy(self.strategy), self.sites)

    def seeds(self, study: Study, count: int) -> range:
        """Return the seeds that are run: one where all of them would give the same."""
        return range(1 if runs_once(study, self.mode, self.drop) else count)

    def apply(self, study: Study) -> Study:
        """Return the study that this setting trains; its hash is what sites check.

        Dropout is no part of a study: it happens to one.
        """
        data = study.model_dump(mode="json", exclude_none=True)
        data["training"]["strategy"] = self.strategy
        data["privacy"]["mode"] = self.mode
        if self.epsilon is not None:
            data["privacy"]["epsilon"] = self.epsilon
        if self.sites is not None:
            data["roster"] = {"sites": [made_up_hospital(index) for index in range(self.sites)]}
            data["privacy"] = {k: v for k, v in data["privacy"].items() if k not in {"m", "c"}}
        return parse_study(data, study.id)


def runs_once(study: Study, mode: str | None, drop: float = 0.0) -> bool:
    """Say whether every seed would give the same: no split, start, batch, outage or noise is drawn.

    `mode` is None where nothing is trained at single hospitals.
    """
    return (
        mode in {None, "none"}
        and drop == 0.0
        and study.evaluation.holdout.kind in FIXED_SPLITS
        and study.model.kind == "linear"
        and study.training.schedule == "full"
    )


def alone_strategy(strategy: str) -> str:
    """Return the strategy whose training on one cohort is the same, the simplest there is."""
    return "fedavg" if strategy in LIKE_FEDAVG_ALONE else strategy


def made_up_hospital(index: int) -> str:
    """Return the name of the made-up hospital number `index`, from 0."""
    return f"hospital {index + 1:02d}"
