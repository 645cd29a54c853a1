"""The vote audited: two held-out cohorts that differ by one patient, and disagree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.opinion import FEWEST_PATIENTS, BetterHere
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.run.approved_study import ApprovedStudy
from polyclinic_client.run.assembly import make_voter
from polyclinic_client.run.vote_responder import VoteResponder
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import EVENT, MEMBERS, OUTCOME
from polyclinic_common.identity.roster import Roster
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.release_id import VOTE, ReleaseId, broadcast_hash
from polyclinic_common.releases.shares import vote_of
from polyclinic_common.study import Study
from polyclinic_simulations.audit.bounds import Guesses
from polyclinic_simulations.audit.findings import FALLBACK, Finding

START = 0  # public seed of the model that is compared with
VOTES = 5000  # with the canary, and as many without
RARE = 1e-6  # error of the bound at most: here one rate alone decides, and two need not both err
MOST = 400  # patients among whom a vote is hoped to turn


@dataclass(frozen=True)
class AuditedVote:
    """A hospital whose vote is audited."""

    study: Study

    @cached_property
    def encoding(self) -> Encoding:
        """The study's encoding."""
        return Encoding(self.study)

    @property
    def charge(self) -> Vote:
        """What a vote costs."""
        charge = vote_of(self.study)
        if charge is None:
            raise ValueError("the study asks for no vote")
        return charge

    @cached_property
    def incumbent(self) -> Vector:
        """The model that a candidate is compared with."""
        return initial_weights(self.study, self.encoding, START)

    @cached_property
    def candidate(self) -> Vector:
        """A model about as good as the incumbent."""
        moved = np.random.default_rng(0).normal(0.0, 0.5, self.incumbent.size)
        return self.incumbent + moved

    def voters(self, folder: SiteFolder) -> tuple[VoteResponder, VoteResponder]:
        """Return two whose patients are the same but for one, the canary, and who disagree."""
        everybody = made_up_patients(self.encoding, MOST)
        opinions = [self._opinion(everybody, size) for size in range(FEWEST_PATIENTS, MOST)]
        said = [opinion(self.candidate) for opinion in opinions]
        turns = next(place for place in range(1, len(said)) if said[place] is not said[place - 1])
        without, inside = (self._voter(opinions[turns + step], folder) for step in (-1, 0))
        return inside, without

    def findings(self, error: float) -> list[Finding]:
        """Return what a reader of votes proves."""
        with TemporaryDirectory() as place:
            folder = SiteFolder.create(
                Path(place, "site"), delta=self.study.privacy.delta, epsilon_cap=1.0
            )
            with folder:
                inside, without = (self._yes(voter) for voter in self.voters(folder))
        if inside < without:  # "is in" is guessed from a no
            inside, without = VOTES - inside, VOTES - without
        guesses = Guesses(inside, VOTES, without, VOTES)
        finding = Finding(
            VOTE,
            FALLBACK,
            canaries=1,
            copies=1,
            claimed=self.charge.epsilon,
            at_least=guesses.epsilon_at_least(min(error, RARE)),
            guesses=guesses,
            correlation_chance=None,
        )
        return [finding]

    def _yes(self, voter: VoteResponder) -> int:
        """Return how many of many votes are in favour."""
        broadcast = broadcast_hash(self.candidate)
        moments = [Moment(ReleaseId("audit", n, VOTE), broadcast) for n in range(VOTES)]
        return sum(int(voter.draw(self.candidate, moment)[0]) for moment in moments)

    def _opinion(self, everybody: Cohort, size: int) -> BetterHere:
        return BetterHere(self.encoding, everybody.take(np.arange(size)), self.incumbent)

    def _voter(self, opinion: BetterHere, folder: SiteFolder) -> VoteResponder:
        """Return the voter of a hospital with an opinion's patients, made as a node makes it."""
        own, held_out, name = folder.identity.public, opinion.held_out, self.study.roster.sites[0]
        declared = {name: len(held_out)}
        approved = ApprovedStudy(
            self.study,
            Roster.of({name: own}),
            frozenset({own}),
            declared,
            name,
            len(held_out),
            lambda: (held_out, held_out),
        )
        voter = make_voter(approved, folder, START)
        if voter is None:
            raise ValueError("the study asks for no vote")
        return voter


def made_up_patients(encoding: Encoding, count: int) -> Cohort:
    """Return held-out patients, none of them real."""
    random, outcome = np.random.default_rng(1), encoding.study.outcome
    x = random.normal(0.0, 0.5, (count, encoding.width))
    x[:, -1] = encoding.intercept
    truth = np.zeros((count, MEMBERS))
    truth[:, EVENT] = random.random(count) < 0.5
    if outcome.kind == "binary":
        truth[:, OUTCOME] = random.random(count) < 0.5
    else:
        low, high = outcome.range if outcome.kind == "continuous" else (0.0, outcome.grid[-1])
        truth[:, OUTCOME] = random.uniform(low, high, count)
    return Cohort(x, truth, np.ones((count, 1)))
