"""The hospitals' verdict on a trained model, from one randomised vote each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from polyclinic_common.privacy.votes import estimated_in_favour, is_accepted
from polyclinic_common.study.sections import Acceptance
from polyclinic_common.wire import CastVote, Release, Request, VoteRequest
from polyclinic_server.rounds.state import Verdict

Ask = Callable[[Request, Sequence[str]], Mapping[str, Release]]


def ask_for_verdict(
    ask: Ask, request: VoteRequest, sites: Sequence[str], acceptance: Acceptance, fewest: int
) -> Verdict:
    """Ask all hospitals for their votes; with fewer than `fewest` nothing is accepted."""
    cast = [
        said.in_favour
        for said in ask(request, sites).values()
        if isinstance(said, CastVote)
        and (said.study_hash, said.run_id) == (request.study_hash, request.run_id)
        and said.round_number == request.round_number
    ]
    yes, votes, epsilon = sum(cast), len(cast), acceptance.epsilon
    enough = votes >= fewest and is_accepted(yes, votes, epsilon, acceptance.quorum)
    return Verdict(votes, yes, estimated_in_favour(yes, votes, epsilon), enough)
