"""Hospitals that are out of reach for a while: before they hear, before they are heard, or anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flwr.app import Context, RecordDict

from polyclinic_client.run.flower_app import Answers
from polyclinic_client.run.refusals import SilenceError
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.data.holdout import uniform
from polyclinic_common.wire import SumRequest, TrainRequest, decode_request

Stage = Literal["request", "reply", "restart"]
STAGES: tuple[Stage, ...] = ("request", "reply", "restart")
MESSAGES_LOST = 2


class Sites(Protocol):
    """Makes a run's sites."""

    def site(self, index: int) -> Answers:
        """Return the site number `index`."""
        ...

    def restart(self, index: int) -> None:
        """Forget what the site's node had in memory."""
        ...


@dataclass(frozen=True)
class Outages:
    """Gives a run's sites, some of them out of reach in some rounds.

    A hospital is out of reach in a round with probability `drop`, fixed by a hash of seed, hospital
    and round: the request is lost, or the reply is, or the node starts again. After two messages it
    is back.
    """

    sites: Sites
    drop: float
    seed: int
    messages: Counter[tuple[int, int]] = field(default_factory=Counter)

    def __call__(self, context: Context) -> Answers:
        """Return the site of a Flower context."""
        index = int(context.node_config["partition-id"])
        if self.drop == 0:
            return self.sites.site(index)
        return _Disturbed(self, index)

    def stage(self, index: int, round_number: int) -> Stage | None:
        """Return where the next message to a site in a round is lost, if it is."""
        name = f"{self.seed}|{index}|{round_number}"
        self.messages[index, round_number] += 1
        count = self.messages[index, round_number]
        if uniform(f"drop|{name}") >= self.drop or count > MESSAGES_LOST:
            return None
        stage = STAGES[int(uniform(f"stage|{name}") * len(STAGES))]
        return None if stage == "restart" and count > 1 else stage


@dataclass(frozen=True)
class _Disturbed:
    outages: Outages
    index: int

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Answer like the site itself, unless it is out of reach."""
        request = decode_request(content)
        sites = self.outages.sites
        stage = None
        if isinstance(request, TrainRequest | SumRequest):
            stage = self.outages.stage(self.index, request.round_number)
        if stage == "restart":
            sites.restart(self.index)
        if stage == "reply":
            sites.site(self.index).answer(content, memory)
        if stage is not None:
            raise SilenceError
        return sites.site(self.index).answer(content, memory)
