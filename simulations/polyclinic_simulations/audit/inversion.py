"""How well genotypes can be guessed from a released model, and what its dose error is, by epsilon.

The attack is made on patients whom the model was trained on and on patients whom it never saw. What
can be guessed of the latter is knowledge about people in general; only the difference between the
two is what the model gives away about its own patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.values import as_number
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.models.predict import Prediction
from polyclinic_common.privacy import gdp
from polyclinic_common.study.manifest import Study
from polyclinic_simulations.audit.genotypes import (
    CANDIDATES,
    GENES,
    MISSING,
    Codes,
    Floats,
    of_gene,
    posterior,
)
from polyclinic_simulations.audit.inversion_result import (
    Attack,
    DoseError,
    InversionResult,
    Leak,
    Success,
)
from polyclinic_simulations.audit.released_model import released_model
from polyclinic_simulations.audit.targets import (
    ModelDoses,
    Rows,
    Targets,
    formula_doses,
    label_doses,
)
from polyclinic_simulations.federation.federation import PUBLISHED, build_federation
from polyclinic_simulations.sweep.simulation import make_settings
from polyclinic_simulations.sweep.watcher import Silent, Watcher

ANCESTRY = "ancestry alone"
LEAFLET = "ancestry, dose, drug label"
FORMULA = "ancestry, dose, clinic data, published formula"


@dataclass
class Tally:
    """What one attacker guessed, seed by seed."""

    truth: dict[str, list[Floats]] = field(default_factory=lambda: {gene: [] for gene in GENES})
    train: dict[str, list[Success]] = field(default_factory=lambda: {gene: [] for gene in GENES})
    test: dict[str, list[Success]] = field(default_factory=lambda: {gene: [] for gene in GENES})

    def add(self, targets: Targets, doses: Floats, test: Rows) -> None:
        """Attack all patients with a rule's doses, and score training and test patients apart."""
        joint = posterior(targets.prior, doses, targets.dose)
        for gene, codes in targets.codes.items():
            chances = of_gene(gene, joint)
            self.truth[gene].append(chance_of_truth(chances, codes))
            known = codes != MISSING
            self.train[gene].append(success(chances, codes, known & ~test))
            self.test[gene].append(success(chances, codes, known & test))

    def attack(self, name: str, targets: Targets, tests: Sequence[Rows]) -> Attack:
        """Return the figures, and what the models tell about the patients they were trained on."""
        held = np.array(tests)
        leaks = {
            gene: leak(np.array(chances), held, targets.codes[gene] != MISSING)
            for gene, chances in self.truth.items()
        }
        return Attack(name=name, train=self.train, test=self.test, leak=leaks)


def success(chances: Floats, codes: Codes, rows: Rows) -> Success:
    """Score guesses of one gene on these patients.

    The area under the ROC curve is that of the probability of carrying any variant allele.
    """
    right = chances[rows].argmax(axis=1) == codes[rows]
    carrier = (codes[rows] > 0).astype(np.float64)
    seen, said = Observed(carrier, np.ones_like(carrier)), Prediction(1.0 - chances[rows, 0])
    return Success(accuracy=float(right.mean()), auc=METRICS["auc"].exact(seen, said))


def chance_of_truth(chances: Floats, codes: Codes) -> Floats:
    """Return the probability that each patient's true genotype was given, shape (n,).

    0 for a genotype that is missing or that the attacker does not think of.
    """
    thought_of = (codes >= 0) & (codes < chances.shape[1])
    given = np.take_along_axis(chances, np.where(thought_of, codes, 0)[:, None], axis=1)[:, 0]
    return np.where(thought_of, given, 0.0)


def leak(truth: Floats, test: Rows, known: Rows) -> Leak:
    """Return how much more likely the truth is to models that were trained on the patient.

    Every patient is compared with himself: the mean over the seeds that trained on him, less the
    mean over those that held him out. For an attacker who draws his guess from his probabilities
    it is the difference in his rate of right guesses.

    Parameters
    ----------
    truth : array of shape (seeds, n)
        Probability given to the true genotype.
    test : array of shape (seeds, n)
        Whether the patient was held out.
    known : array of shape (n,)
        Patients whose genotype is known.
    """
    rows = known & test.any(axis=0) & ~test.all(axis=0)
    if rows.sum() < 2:
        return Leak(mean=None, error=None, patients=int(rows.sum()))
    chances, held = truth[:, rows], test[:, rows]
    inside = (chances * ~held).sum(axis=0) / (~held).sum(axis=0)
    outside = (chances * held).sum(axis=0) / held.sum(axis=0)
    gain = inside - outside
    error = gain.std(ddof=1) / np.sqrt(gain.size)
    return Leak(mean=float(gain.mean()), error=float(error), patients=int(gain.size))


def dose_error(predicted: Floats, dose: Floats) -> DoseError:
    """Score predicted weekly doses."""
    ratio = predicted / dose
    return DoseError(
        mae=float(np.abs(predicted - dose).mean()),
        within_20=float((np.abs(ratio - 1.0) <= 0.2).mean()),
        far_above=float((ratio > 1.5).mean()),
        far_below=float((ratio < 0.5).mean()),
    )


def invert(
    study: Study,
    frame: pd.DataFrame,
    epsilons: Sequence[float],
    seeds: int,
    watcher: Watcher | None = None,
) -> InversionResult:
    """Attack the models of a warfarin study, with secure sums of every epsilon and without privacy.

    Parameters
    ----------
    study, frame : Study and DataFrame
        `iwpc` or `warfarin`, as :func:`polyclinic_simulations.studies.resolve` gives them.
    epsilons : sequence of float
        Budgets.
    seeds : int
        Each is a split into training and test patients; noise is fresh and never seeded.

    Returns
    -------
    InversionResult
        Attackers without the model, attackers with it, dose errors; seed by seed.
    """
    watcher = watcher or Silent()
    settings = make_settings(study, ("secure-sum", "none"), epsilons, (), (), ())
    gdp.check_delta(study.privacy.delta, len(frame))
    targets = Targets.of(study, frame)
    doses = ModelDoses.of(study, targets)
    tests = [held_out(study, frame, seed)[targets.rows] for seed in range(seeds)]
    watcher.begin(len(settings) * seeds)
    attacks, errors = _without_model(targets, tests)
    for setting in settings:
        tally, found = Tally(), []
        applied = setting.apply(study)
        for seed, test in enumerate(tests):
            weights = released_model(build_federation(applied, frame, seed), setting)
            tally.add(targets, doses.for_candidates(weights), test)
            found.append(dose_error(doses.for_patients(weights)[test], targets.dose[test]))
            watcher.advance(1.0)
        name = model_name(setting.epsilon)
        attacks.append(tally.attack(name, targets, tests))
        errors[name] = found
    return InversionResult(
        study=study.id,
        synthetic=study.synthetic,
        study_hash=study.hash(),
        delta=study.privacy.delta,
        epsilons=[setting.epsilon for setting in settings if setting.epsilon is not None],
        seeds=seeds,
        patients=len(targets.table),
        genotyped={gene: int((codes != MISSING).sum()) for gene, codes in targets.codes.items()},
        attacks=attacks,
        dose_errors=errors,
    )


def model_name(epsilon: float | None) -> str:
    """Return how the model of this budget is named in results."""
    return "released model, no privacy" if epsilon is None else f"released model, ε = {epsilon:g}"


def _without_model(
    targets: Targets, tests: Sequence[Rows]
) -> tuple[list[Attack], dict[str, list[DoseError]]]:
    """Return attackers and dosing rules that need no released model."""
    silent = np.full((len(targets.table), len(CANDIDATES)), np.nan)
    known = {ANCESTRY: silent, LEAFLET: label_doses(targets), FORMULA: formula_doses(targets)}
    attacks = []
    for name, doses in known.items():
        tally = Tally()
        for test in tests:
            tally.add(targets, doses, test)
        attacks.append(tally.attack(name, targets, tests))
    errors = {
        column.removeprefix(PUBLISHED): [
            dose_error(as_number(targets.table[column])[test], targets.dose[test]) for test in tests
        ]
        for column in map(str, targets.table.columns)
        if column.startswith(PUBLISHED)
    }
    return attacks, errors
