"""How a hospital's site in one run is put together: by its node and by a simulation alike.

What the two take from different places is given: gradients, noise, clock, seed of the start.
"""

from __future__ import annotations

from collections.abc import Callable

from polyclinic_client.compute.calibration_sums import calibration_source
from polyclinic_client.compute.metric_sums import metrics_source
from polyclinic_client.compute.opinion import BetterHere
from polyclinic_client.compute.training import Gradients, local_mechanisms, sum_sources
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.gate import Clock, Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.pace import pace_of
from polyclinic_client.run.approved_study import Approved
from polyclinic_client.run.responder import Site
from polyclinic_client.run.sum_responder import Member
from polyclinic_client.run.terms import Terms
from polyclinic_client.run.update_responder import Updates
from polyclinic_client.run.vote_responder import Voter, system_coin
from polyclinic_common.evaluation.layout import Floats
from polyclinic_common.models.score_head import initial_weights, length_of
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.releases.kinds import CALIBRATION, METRICS
from polyclinic_common.releases.plans import rounds_of, secure_sum_plans
from polyclinic_common.releases.shares import vote_of


def make_ladder(approved: Approved, reached: dict[bytes, int]) -> Ladder:
    """Return the ladder of a study: from public numbers alone, no patient is read.

    Parameters
    ----------
    reached : dict
        The step that every study has reached, by hash: of `steps_reached`, changed by climbing.
    """
    study = approved.study
    pace = pace_of(study, approved.size, approved.declared[approved.name])
    return Ladder(bytes.fromhex(study.hash()), pace, reached)


def steps_reached(folder: SiteFolder) -> dict[bytes, int]:
    """Return the step that every study has reached, as the journal says; all of it is read."""
    return {study: climb.step for study, climb in folder.journal.climbs().items()}


def make_gate(ladder: Ladder, folder: SiteFolder, clock: Clock) -> Gate:
    """Return the gate of a study, or, with an empty ladder, one for refusals."""
    return Gate(folder.identity.public, folder.ledger, folder.journal, ladder, clock)


def make_site(
    approved: Approved,
    run: str,
    folder: SiteFolder,
    gate: Gate,
    gradients: Gradients,
    noise: NoiseSource,
    start: int,
    formulas: tuple[Floats, ...] = (),
) -> Site:
    """Return the site of a run of an approved study.

    Parameters
    ----------
    gate : Gate
        Of `make_gate`, made before: here the patients are read.
    gradients, noise
        What is computed of patients, and what is added to it.
    start : int
        Public seed of the model that training starts from, with which the vote compares.
    formulas : tuple of array of shape (n,)
        With which it compares besides, as in `BetterHere`.
    """
    study = approved.study
    answers: Member | Updates
    if study.privacy.mode == "secure-sum":
        answers = _member(approved, run, folder, gate, gradients, noise)
    else:
        answers = _updates(approved, folder, gate, gradients, noise)
    voter = make_voter(approved, folder, start, formulas, gate.begin)
    return Site(study.hash(), run, answers, gate, folder.journal, voter)


def _member(
    approved: Approved,
    run: str,
    folder: SiteFolder,
    gate: Gate,
    gradients: Gradients,
    noise: NoiseSource,
) -> Member:
    study = approved.study
    plans = secure_sum_plans(study, gradients.path, approved.declared.values())
    sources = sum_sources(gradients, approved.cohort, plans, noise)
    if CALIBRATION in plans:
        plan = plans[CALIBRATION]
        sources[CALIBRATION] = calibration_source(approved.encoding, approved.cohort, plan, noise)
    if METRICS in plans:
        held_out = approved.held_out
        sources[METRICS] = metrics_source(approved.encoding, held_out, plans[METRICS], noise)
    terms = Terms(
        study_hash=bytes.fromhex(study.hash()),
        run=run,
        roster=approved.roster,
        verified=approved.verified,
        m=study.m,
        c=study.c,
        rounds=study.rounds,
        plans=plans,
        rounds_of=rounds_of(study),
    )
    return Member(
        terms,
        folder.identity,
        folder.ledger,
        sources,
        lambda: folder.ledger.now() / 1e3,
        folder.journal,
        gate.begin,
    )


def _updates(
    approved: Approved, folder: SiteFolder, gate: Gate, gradients: Gradients, noise: NoiseSource
) -> Updates:
    study = approved.study
    return Updates(
        bytes.fromhex(study.hash()),
        length_of(study),
        study.rounds,
        personal=study.training.personalisation == "mr-mtl",
        ledger=folder.ledger,
        mechanisms=local_mechanisms(
            approved.encoding,
            gradients,
            approved.cohort,
            approved.held_out,
            approved.declared[approved.name],
            noise,
        ),
        rounds_of=rounds_of(study),
        begin=gate.begin,
    )


def make_voter(
    approved: Approved,
    folder: SiteFolder,
    start: int,
    formulas: tuple[Floats, ...] = (),
    begin: Callable[[], None] = lambda: None,
) -> Voter | None:
    """Return what votes, against the study's public base rate; None where there is no vote."""
    study, charge = approved.study, vote_of(approved.study)
    if charge is None:
        return None
    incumbent = initial_weights(study, approved.encoding, start)
    return Voter(
        bytes.fromhex(study.hash()),
        length_of(study),
        study.rounds,
        charge=charge,
        opinion=BetterHere(approved.encoding, approved.held_out, incumbent, formulas),
        ledger=folder.ledger,
        coin=system_coin(folder.ledger.secret),
        begin=begin,
    )
