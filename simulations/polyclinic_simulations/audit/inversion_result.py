"""What the inversion audit found: the typed form of ``inversion.json``."""

from __future__ import annotations

from typing import Literal

from polyclinic_simulations.results.results import Record, mean_and_error

Patients = Literal["train", "test"]
Measure = Literal["accuracy", "auc"]
Figures = tuple[float | None, float | None]


class Success(Record):
    """How well one gene was guessed under one seed.

    `accuracy` is the share of right genotypes, `auc` that of pairs of a carrier and a non-carrier
    of a variant allele in the right order; null where all or none carry one.
    """

    accuracy: float
    auc: float | None


class Leak(Record):
    """How much more a model tells about patients it was trained on than about others.

    In probability of the true genotype: `mean` and standard `error` over `patients` who were
    trained on under some seeds and held out under others; null with fewer than two of them.
    """

    mean: float | None
    error: float | None
    patients: int


class Attack(Record):
    """One attacker; `train` and `test` hold a success a seed, by gene."""

    name: str
    train: dict[str, list[Success]]
    test: dict[str, list[Success]]
    leak: dict[str, Leak]

    def figures(self, patients: Patients, gene: str, measure: Measure) -> Figures:
        """Return mean and standard error over the seeds."""
        found = (self.train if patients == "train" else self.test)[gene]
        return mean_and_error([getattr(each, measure) for each in found])


class DoseError(Record):
    """Predicted against true weekly dose of test patients under one seed.

    `mae` in mg a week; shares of patients `within_20` percent of the truth, and more than half of
    the true dose above (`far_above`) or below it (`far_below`).
    """

    mae: float
    within_20: float
    far_above: float
    far_below: float


class InversionResult(Record):
    """The whole audit; `patients` are under attack, `genotyped` of them by gene."""

    study: str
    synthetic: bool
    study_hash: str
    delta: float
    epsilons: list[float]
    seeds: int
    patients: int
    genotyped: dict[str, int]
    attacks: list[Attack]
    dose_errors: dict[str, list[DoseError]]

    def attack(self, name: str) -> Attack:
        """Return the attacker of this name."""
        return next(attack for attack in self.attacks if attack.name == name)

    def dose_figures(self, name: str, measure: str) -> Figures:
        """Return mean and standard error of a dosing rule's figures over the seeds."""
        return mean_and_error([getattr(each, measure) for each in self.dose_errors[name]])
