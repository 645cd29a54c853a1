"""A menu in simulation: what each of its settings reached, and the choice of mode none."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic_common.evaluation.reading import RoundReadings
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_server.rounds.menu import Choose
from polyclinic_server.rounds.metric_sums import first_best, merit
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.results.exact_metrics import score
from polyclinic_simulations.results.results import Tried


def exact_choice(federation: Federation) -> Choose:
    """Return what chooses by exact metrics of the test patients: mode none releases no others."""
    metric = federation.study.deciding_metric

    def choose(state: State) -> int:
        return first_best([merit(metric, _exact(federation, each)) for each in state.candidates])

    return choose


def tried_settings(
    federation: Federation,
    candidates: Sequence[Vector],
    released: Sequence[RoundReadings],
    chosen: int | None,
) -> list[Tried]:
    """Return what became of every setting of the menu; nothing without one.

    Parameters
    ----------
    candidates : sequence of array of shape (d,)
        The models, a setting each.
    released : sequence of RoundReadings
        Their private metrics; empty in mode none.
    chosen : int or None
        Number of the one that was kept.
    """
    study = federation.study
    metric = study.deciding_metric
    readings = [said.groups[0].metrics.get(metric) for said in released]
    return [
        Tried(
            learning_rate=each.learning_rate,
            momentum=each.training.momentum,
            average_from=each.training.average_from,
            metric=metric,
            private=readings[index] if readings else None,
            exact=_exact(federation, model),
            chosen=index == chosen,
        )
        for index, (each, model) in enumerate(zip(study.settings, candidates, strict=False))
    ]


def _exact(federation: Federation, weights: Vector) -> float | None:
    study, encoding = federation.study, federation.encoding
    prediction = predict(study, encoding, weights, federation.x_test)
    return score(study, federation.observed, prediction)[study.deciding_metric]
