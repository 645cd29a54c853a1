"""What keeps a figure honest: the same test patients, judged by simpler or luckier models."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.models.predict import Prediction, predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.outcomes import Binary, Survival
from polyclinic_simulations.baselines.alone import train_alone, train_converged
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.results import Scores, SharedBaselines

Floats = NDArray[np.float64]
COX_RIDGE = 1e-3


def scores_of(federation: Federation, weights: Vector) -> Scores:
    """Score one model on all test patients."""
    return scores_by_site(federation, {site.name: weights for site in federation.sites})


def scores_by_site(federation: Federation, weights: dict[str, Vector]) -> Scores:
    """Score every site's test patients by that site's model."""
    return federation.score(_predictions(federation, weights))


def _predictions(federation: Federation, weights: dict[str, Vector]) -> dict[str, Prediction]:
    study, encoding = federation.study, federation.encoding
    return {
        site.name: predict(study, encoding, weights[site.name], site.test.x)
        for site in federation.sites
    }


def on_formula(federation: Federation, weights: dict[str, Vector]) -> dict[str, Scores]:
    """Score every site's model on the patients of every formula that cannot judge all of them."""
    predicted = _predictions(federation, weights)
    counts, everybody = patients_with_formula(federation), known_patients(federation)
    return {
        name: federation.score(
            {
                site.name: _where(~np.isnan(site.published[name]), predicted[site.name])
                for site in federation.sites
            }
        )
        for name, count in counts.items()
        if 0 < count < everybody
    }


def _where(rows: NDArray[np.bool_], predicted: Prediction) -> Prediction:
    """Return predictions of which those of other rows are unknown."""
    return Prediction(np.where(rows, predicted.value, np.nan), predicted.survival)


def nobody(federation: Federation) -> Scores | None:
    """Answer no for everybody; null unless the outcome is yes or no."""
    if not isinstance(federation.study.outcome, Binary):
        return None
    zeros = {site.name: Prediction(np.zeros(len(site.test))) for site in federation.sites}
    return federation.score(zeros)


def trivial(federation: Federation) -> Scores:
    """Predict the mean training outcome for everybody.

    Survival: one risk for all, and the Kaplan-Meier curve of the training patients.
    """
    observed, outcome = federation.observed_train, federation.study.outcome
    mean, curve = float(np.nanmean(observed.value)), None
    if isinstance(outcome, Survival):
        from lifelines import KaplanMeierFitter  # noqa: PLC0415  (seconds)

        known = observed.take(~np.isnan(observed.value))
        fitted = KaplanMeierFitter().fit(known.value, known.event)
        curve = fitted.survival_function_at_times(list(outcome.grid)).to_numpy()
    return federation.score(
        {
            site.name: Prediction(
                np.full(len(site.test), mean),
                None if curve is None else np.tile(curve, (len(site.test), 1)),
            )
            for site in federation.sites
        }
    )


def local_only(federation: Federation, setting: Setting, trainer: Trainer) -> Scores | None:
    """Let every hospital train alone; null where whole sites are held out."""
    if len(federation.training_sites) < len(federation.sites):
        return None
    return scores_by_site(
        federation,
        {
            s.name: train_alone(federation, s.train, s.declared, setting, trainer)
            for s in federation.sites
        },
    )


def cox(federation: Federation) -> Scores | None:
    """Cox's proportional hazards model on the pooled encoded columns; null if not survival.

    Cox, Regression models and life-tables (1972), fitted by lifelines with a negligible ridge.
    """
    outcome = federation.study.outcome
    if not isinstance(outcome, Survival):
        return None
    import pandas as pd  # noqa: PLC0415
    from lifelines import CoxPHFitter  # noqa: PLC0415  (seconds, for outcomes without a time)
    from lifelines.exceptions import ConvergenceWarning  # noqa: PLC0415

    observed, x = federation.observed_train, federation.pooled.x
    varying = independent_columns(x)
    known = ~np.isnan(observed.value)
    frame = pd.DataFrame(x[:, varying]).assign(time=observed.value, event=observed.event)[known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rare indicators: the ridge copes
        model = CoxPHFitter(penalizer=COX_RIDGE).fit(frame, "time", "event")
    tested = federation.x_test[:, varying]
    curves = model.predict_survival_function(pd.DataFrame(tested), times=list(outcome.grid))
    cuts = np.cumsum([len(site.test) for site in federation.sites])[:-1]
    risks = np.split(tested @ model.params_.to_numpy(), cuts)
    survival = np.split(curves.to_numpy().T, cuts)
    names = (site.name for site in federation.sites)
    return federation.score(dict(zip(names, map(Prediction, risks, survival), strict=True)))


def independent_columns(x: Floats) -> NDArray[np.int64]:
    """Return columns that are not combinations of others (indicators of one variable sum to one).

    Pivoted QR of the centred columns: Golub and Van Loan, Matrix Computations (2013), section 5.4.
    """
    from scipy.linalg import qr  # noqa: PLC0415  (heavy)

    triangle, order = qr(x - x.mean(axis=0), mode="r", pivoting=True)
    size = np.abs(np.diag(triangle))
    return np.sort(order[: int((size > 1e-9 * size[0]).sum())]).astype(np.int64)


def published(federation: Federation) -> dict[str, Scores]:
    """Score the published formulas that the table brings, by name; it may be none."""
    names = federation.sites[0].published
    return {
        name: federation.score(
            {site.name: Prediction(site.published[name]) for site in federation.sites}
        )
        for name in names
    }


def patients_with_formula(federation: Federation) -> dict[str, int]:
    """Count the test patients on whom each published formula is scored."""
    known = ~np.isnan(federation.observed.value)
    return {
        name: int(
            (known & ~np.isnan(np.concatenate([s.published[name] for s in federation.sites]))).sum()
        )
        for name in federation.sites[0].published
    }


def known_patients(federation: Federation) -> int:
    """Count the test patients whose outcome is known."""
    return int((~np.isnan(federation.observed.value)).sum())


def shared_baselines(federation: Federation, setting: Setting, trainer: Trainer) -> SharedBaselines:
    """Return the baselines that do not depend on epsilon; `setting` is without privacy."""
    declared = sum(federation.declared.values())
    pooled = train_alone(federation, federation.pooled, declared, setting, trainer)
    converged = train_converged(federation, federation.pooled)
    formulas = published(federation)
    return SharedBaselines(
        trivial=trivial(federation),
        nobody=nobody(federation),
        local_only_non_private=local_only(federation, setting, trainer),
        pooled_same_trainer=scores_of(federation, pooled),
        pooled_converged=scores_of(federation, converged),
        cox=cox(federation),
        published=next(iter(formulas.values()), None),
        published_formulas=formulas,
        published_patients=patients_with_formula(federation),
        test_patients=known_patients(federation),
    )
