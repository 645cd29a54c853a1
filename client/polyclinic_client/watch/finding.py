"""What a look found, in words and with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["fine", "look", "recalibrate", "withdraw"]
ORDER: tuple[Verdict, ...] = ("fine", "look", "recalibrate", "withdraw")


@dataclass(frozen=True)
class Finding:
    """A reason not to call the model fine.

    Attributes
    ----------
    about : str
        The column, ``calibration`` or ``ranking``.
    verdict : str
        What it leads to by itself.
    reason : str
        What was found, in one or two sentences.
    then : str
        What to do next.
    spoils : bool
        Whether predictions are made from values that are not what they should be: what is found of
        performance may then be caused by it.
    """

    about: str
    verdict: Verdict
    reason: str
    then: str
    spoils: bool = False


MEND = "First mend the values named above, then look again."


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings, wrong values first; while there are any, nobody is led to a refit."""
    spoilt = any(each.spoils for each in findings)
    told = [
        replace(each, then=MEND) if spoilt and each.verdict == "recalibrate" else each
        for each in findings
    ]
    return tuple(sorted(told, key=lambda each: not each.spoils))


def verdict_of(findings: tuple[Finding, ...]) -> Verdict:
    """Return the verdict of all findings together: the worst of them.

    Where values are not what they should be, nobody is led to fit the model to them: it is `look`
    that comes first then.
    """
    worst = max((ORDER.index(each.verdict) for each in findings), default=0)
    spoilt = any(each.spoils for each in findings)
    return "look" if spoilt and ORDER[worst] == "recalibrate" else ORDER[worst]
