"""What a released model has cost every patient: mechanisms, counts, and the epsilon that follows.

The certificate lists what a hospital that answered everything has released, by mechanism, never
epsilons alone: whoever reads it can work the epsilons out again, and `Certificate.check` does. The
fields are those in which NIST SP 800-226 (Guidelines for Evaluating Differential Privacy
Guarantees, 2025) asks for a claim: unit, neighbouring data sets, parameters, who is trusted,
mechanisms and accounting, and what is outside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from polyclinic_common.bundle.noise_audit import NoiseAudit
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.privacy.account import ALLOWANCE, MOST_EPSILON, discreteness
from polyclinic_common.privacy.charges import Charge, GaussianSum, SampledSteps
from polyclinic_common.releases.kinds import kinds_of
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import plain

Side = Literal["headline", "fallback"]

GAUSSIAN = "(epsilon, delta), converted from Gaussian DP of the parameter mu"
SAMPLED = "(epsilon, delta), converted from Renyi DP of the sampled steps"
QUERY_MODEL = "What is released, when and with how much noise was fixed by the signed study."
SIDE_CHANNELS = (
    "Noise is drawn exactly, on integers, from the operating system's randomness; answers leave on "
    "public ticks; errors carry codes and nothing of a patient. Declared, rounded sizes and the "
    "number of hospitals are public without noise."
)
DATA_COLLECTION = (
    "Nothing is collected for the study beyond its columns; records stay at the hospital, where "
    "nothing here protects them."
)
MOST_TIMES = 10**6
AGREED = 1e-6  # relative: what other libraries' last digits may change


class Record(BaseModel):
    """Something that a bundle states."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mechanism(Record):
    """Releases of one kind.

    Attributes
    ----------
    kind, what : str
        Name of the kind, and what one release is.
    times : int
        How many one hospital made, at most.
    headline, fallback : Charge
        What one cost under either assumption of the certificate.
    """

    kind: str
    what: str
    times: int = Field(ge=1, le=MOST_TIMES)
    headline: Charge
    fallback: Charge


class Certificate(Record):
    """The privacy certificate of one released model.

    Attributes
    ----------
    mode : str
        Privacy mode of the study.
    unit, adjacency : str
        Who is protected, and which cohorts are neighbours.
    delta : float or None
        Of the account; None without privacy.
    epsilon, fallback_epsilon : float or None
        Of the whole run at headline and at fallback.
    variant : str
        What kind of claim it is, and what it was converted from.
    mu : float or None
        The original parameter at headline, of Gaussian DP; None where steps were sampled.
    headline_assumes, fallback_assumes, trust : str
        What either figure stands on, and who is trusted with what.
    mechanisms : tuple of Mechanism
        Everything that a hospital released in the run.
    accountant : str
        How they are added up.
    query_model, side_channels, data_collection : str
        Who chose what is released; what else could tell; what is read of a patient at all.
    not_promised : tuple of str
        What the figures do not cover.
    audit : NoiseAudit or None
        Where one was attached.
    """

    mode: Literal["secure-sum", "local", "none"]
    unit: str = gdp.UNIT
    adjacency: str = gdp.ADJACENCY
    delta: float | None = None
    epsilon: float | None = None
    fallback_epsilon: float | None = None
    variant: str = "none"
    mu: float | None = None
    headline_assumes: str
    fallback_assumes: str
    trust: str
    mechanisms: tuple[Mechanism, ...] = ()
    accountant: str
    query_model: str = QUERY_MODEL
    side_channels: str = SIDE_CHANNELS
    data_collection: str = DATA_COLLECTION
    not_promised: tuple[str, ...]
    audit: NoiseAudit | None = None

    @classmethod
    def of(cls, study: Study, declared: Mapping[str, int], audit: NoiseAudit | None = None) -> Self:
        """Return the certificate of a whole run.

        Parameters
        ----------
        declared : mapping
            Declared patients that count as trained on, by hospital.
        """
        words = _WORDS[study.privacy.mode]
        stated = {
            "mode": study.privacy.mode,
            "headline_assumes": words[0].format(m=study.m, c=study.c),
            "fallback_assumes": words[1],
            "trust": words[2],
            "not_promised": NOT_PROMISED,
            "audit": audit,
        }
        if study.privacy.mode == "none":
            return cls(accountant="none", **stated)
        mechanisms = max(
            (_mechanisms(study, declared, name) for name in declared),
            key=lambda made: _epsilon(made, "headline", study.privacy.delta),
        )
        return cls(
            delta=study.privacy.delta,
            epsilon=_epsilon(mechanisms, "headline", study.privacy.delta),
            fallback_epsilon=_epsilon(mechanisms, "fallback", study.privacy.delta),
            mechanisms=mechanisms,
            accountant=_accountant(mechanisms),
            mu=_mu(mechanisms),
            variant=SAMPLED if _is_sampled(mechanisms) else GAUSSIAN,
            **stated,
        )

    def check(self, study: Study) -> None:
        """Refuse a certificate whose figures do not follow from its mechanisms, nor these from it.

        The mechanisms are the kinds of release that the signed study makes, each as often as it
        makes them; their noise follows from declared sizes too, and is not looked at.

        Raises
        ------
        BundleError
            B005.
        """
        made = {each.kind: each.times for each in self.mechanisms}
        if made != _asked(study) or self.mode != study.privacy.mode or not self._follows():
            raise BundleError(
                Code.BUNDLE_CERTIFICATE,
                "The epsilon that this model's certificate states does not follow from the "
                "mechanisms that it lists, or these are not what its study releases.",
                "Do not use the model; tell the operator.",
            )

    def _follows(self) -> bool:
        if self.accountant != _accountant(self.mechanisms):
            return False
        if self.delta is None:
            return (self.epsilon, self.fallback_epsilon, self.mechanisms) == (None, None, ())
        sides: tuple[Side, ...] = ("headline", "fallback")
        claims = dict(zip(sides, (self.epsilon, self.fallback_epsilon), strict=True))
        return all(
            claimed is not None and _is_epsilon(claimed, self.mechanisms, side, self.delta)
            for side, claimed in claims.items()
        )

    @property
    def sentence(self) -> str:
        """The promise in one sentence, safe to print."""
        return plain(self._sentence())

    def _sentence(self) -> str:
        if self.epsilon is None or self.fallback_epsilon is None:
            return "Trained without privacy: nothing protects the patients in it."
        said = f"epsilon {self.epsilon:.3g} at delta {self.delta:g} for every {self.unit}"
        if self.fallback_epsilon == self.epsilon:
            return f"{said}; neighbours: {self.adjacency}."
        return (
            f"{said}, {self.headline_assumes}; {self.fallback_epsilon:.3g} "
            f"{self.fallback_assumes}; neighbours: {self.adjacency}."
        )


def _mechanisms(study: Study, declared: Mapping[str, int], name: str) -> tuple[Mechanism, ...]:
    from polyclinic_common.releases.schedule import Schedule, declared_for  # noqa: PLC0415  (heavy)

    schedule = Schedule.of(study, declared_for(study, declared, name))
    return tuple(
        Mechanism(
            kind=each.name,
            what=each.kind.what or each.name,
            times=each.times,
            headline=each.headline,
            fallback=each.fallback,
        )
        for each in schedule.releases
        if each.headline is not None and each.fallback is not None
    )


def _asked(study: Study) -> dict[str, int]:
    """Return the kinds of release that a study charges for, and how often it makes each."""
    if study.privacy.mode == "none":
        return {}
    return {kind.name: kind.times(study) for kind in kinds_of(study)}


def _is_epsilon(
    claimed: float, mechanisms: tuple[Mechanism, ...], side: Side, delta: float
) -> bool:
    """Say whether an epsilon is that of the mechanisms.

    With Gaussian DP it is put into Balle and Wang's formula, which is quicker than to solve it.
    """
    charges = [(getattr(each, side), each.times) for each in mechanisms]
    if _is_sampled(mechanisms):
        return math.isclose(claimed, _epsilon(mechanisms, side, delta), rel_tol=AGREED)
    mu = math.sqrt(math.fsum(times * charge.mu**2 for charge, times in charges))
    sums = [(charge, times) for charge, times in charges if isinstance(charge, GaussianSum)]
    spare = sum(times * discreteness(charge) for charge, times in sums) <= ALLOWANCE
    room = claimed - ALLOWANCE
    if not (mechanisms and spare and 0.0 < room <= MOST_EPSILON):
        return False
    upper, lower = room / mu - mu / 2.0, room / mu + mu / 2.0
    found = (
        math.erfc(upper / math.sqrt(2)) / 2 - math.exp(room) * math.erfc(lower / math.sqrt(2)) / 2
    )
    return math.isclose(found, delta * math.exp(-ALLOWANCE), rel_tol=AGREED)


def _epsilon(mechanisms: tuple[Mechanism, ...], side: Side, delta: float) -> float:
    from polyclinic_common.privacy.account import spent_epsilon  # noqa: PLC0415  (heavy)

    charges = Counter[Charge]()
    for each in mechanisms:
        charges[each.headline if side == "headline" else each.fallback] += each.times
    return spent_epsilon(charges, delta)


def _accountant(mechanisms: tuple[Mechanism, ...]) -> str:
    if not mechanisms:
        return "none"
    return rdp.ACCOUNTANT if _is_sampled(mechanisms) else gdp.ACCOUNTANT


def _is_sampled(mechanisms: tuple[Mechanism, ...]) -> bool:
    return any(isinstance(each.headline, SampledSteps) for each in mechanisms)


def _mu(mechanisms: tuple[Mechanism, ...]) -> float | None:
    if _is_sampled(mechanisms):
        return None
    squares = (
        each.times * each.headline.mu**2
        for each in mechanisms
        if not isinstance(each.headline, SampledSteps)
    )
    return math.sqrt(math.fsum(squares))


_WORDS: Mapping[str, tuple[str, str, str]] = {
    "secure-sum": (
        "if at most {c} hospitals collude with the server and at least {m} took part in every sum "
        "that this hospital answered",
        "if all other hospitals collude with the server",
        "The server is not trusted with any hospital's own sum; a hospital trusts its own machine.",
    ),
    "local": (
        "whoever colludes",
        "whoever colludes",
        "Neither the server nor another hospital is trusted; a hospital trusts its own machine.",
    ),
    "none": ("nothing is promised", "nothing is promised", "Everybody is trusted with everything."),
}
NOT_PROMISED = (
    "Other releases of a hospital: its ledger adds them to these; only the ledger knows its whole "
    "account.",
    "Rounds out of which a hospital was left count at fallback in its ledger.",
    "A patient whom several hospitals hold is protected at each of them, not in the sum of all.",
    "What holds for a hospital as a whole: that it took part, and what sums imply about it.",
    "What is true of patients in general: a model that tells a risk tells it of everybody.",
)
