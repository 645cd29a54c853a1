"""How a hospital's site in one run is put together: by its node and by a simulation alike.

What the two take from different places is given: gradients, noise, clock, seed of the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from polyclinic_client.compute.opinion import BetterHere
from polyclinic_client.compute.sums import AtHand, local_mechanisms, secure_sums
from polyclinic_client.compute.training import Gradients
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.pace import pace_of
from polyclinic_client.gate.permitted import Permitted
from polyclinic_client.gate.tick import Clock
from polyclinic_client.run.approved_study import ApprovedStudy
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.sum_responder import SumResponder
from polyclinic_client.run.terms import Terms
from polyclinic_client.run.update_responder import UpdateResponder
from polyclinic_client.run.vote_responder import VoteResponder, system_coin
from polyclinic_common.evaluation.layout import Floats
from polyclinic_common.models.head import initial_weights, length_of
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.releases.kinds import kinds_of
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.releases.shares import vote_of
from polyclinic_common.study.manifest import Study


def make_ladder(approved: ApprovedStudy, reached: dict[bytes, int]) -> Ladder:
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


def make_gate(study: Study | None, ladder: Ladder, folder: SiteFolder, clock: Clock) -> Gate:
    """Return the gate of a study; None, with an empty ladder, gives one for refusals."""
    allowed = {} if study is None else {each.name: each.rounds(study) for each in kinds_of(study)}
    permitted = Permitted(folder.identity.public, folder.ledger, allowed)
    return Gate(permitted, folder.journal, ladder, clock)


def make_site(
    approved: ApprovedStudy,
    run: str,
    folder: SiteFolder,
    gate: Gate,
    gradients: Gradients,
    noise: NoiseSource,
    start: int,
    formulas: tuple[Floats, ...] = (),
) -> Responder:
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
    answers: SumResponder | UpdateResponder
    if study.privacy.mode == "secure-sum":
        answers = _member(approved, run, folder, gate, gradients, noise)
    else:
        answers = _updates(approved, folder, gate, gradients, noise)
    voter = make_voter(approved, folder, start, formulas, gate.begin)
    return Responder(study.hash(), run, answers, gate, folder.journal, voter)


def _member(
    approved: ApprovedStudy,
    run: str,
    folder: SiteFolder,
    gate: Gate,
    gradients: Gradients,
    noise: NoiseSource,
) -> SumResponder:
    study = approved.study
    schedule = schedule_of(approved, gradients)
    terms = Terms(
        study_hash=bytes.fromhex(study.hash()),
        run=run,
        roster=approved.roster,
        verified=approved.verified,
        m=study.m,
        c=study.c,
        rounds=study.rounds,
        plans=schedule.secure_sums,
        rounds_of=rounds_of(schedule),
    )
    return SumResponder(
        terms,
        folder.identity,
        folder.ledger,
        secure_sums(schedule, at_hand(approved, gradients), noise),
        lambda: folder.ledger.now() / 1e3,
        folder.journal,
        gate.begin,
    )


def _updates(
    approved: ApprovedStudy,
    folder: SiteFolder,
    gate: Gate,
    gradients: Gradients,
    noise: NoiseSource,
) -> UpdateResponder:
    study, schedule = approved.study, schedule_of(approved, gradients)
    return UpdateResponder(
        bytes.fromhex(study.hash()),
        length_of(study),
        study.rounds,
        personal=study.training.personalisation == "mr-mtl",
        ledger=folder.ledger,
        mechanisms=local_mechanisms(
            schedule, at_hand(approved, gradients), approved.declared[approved.name], noise
        ),
        rounds_of=rounds_of(schedule),
        begin=gate.begin,
    )


def schedule_of(approved: ApprovedStudy, gradients: Gradients) -> Schedule:
    """Return the schedule of a hospital that approved a study."""
    declared = declared_for(approved.study, approved.declared, approved.name)
    return Schedule.of(approved.study, declared, gradients.path)


def at_hand(approved: ApprovedStudy, gradients: Gradients) -> AtHand:
    """Return what a hospital computes with; its patients are read here."""
    return AtHand(approved.encoding, gradients, approved.cohort, approved.held_out)


def rounds_of(schedule: Schedule) -> dict[str, Collection[int]]:
    """Return in which rounds every kind may be asked for."""
    return {each.name: each.rounds for each in schedule.releases}


def make_voter(
    approved: ApprovedStudy,
    folder: SiteFolder,
    start: int,
    formulas: tuple[Floats, ...] = (),
    begin: Callable[[], None] = lambda: None,
) -> VoteResponder | None:
    """Return what votes, against the study's public base rate; None where there is no vote."""
    study, charge = approved.study, vote_of(approved.study)
    if charge is None:
        return None
    incumbent = initial_weights(study, approved.encoding, start)
    return VoteResponder(
        bytes.fromhex(study.hash()),
        length_of(study),
        study.rounds,
        charge=charge,
        opinion=BetterHere(approved.encoding, approved.held_out, incumbent, formulas),
        ledger=folder.ledger,
        coin=system_coin(folder.ledger.secret),
        begin=begin,
    )
