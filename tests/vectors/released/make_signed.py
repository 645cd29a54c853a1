"""``python -m tests.vectors.released.make_signed VERSION``: what this version signs and stores.

To be run once, with the code of a version as it is released; what it wrote is never written again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Asked, Failed, Left, Refused
from polyclinic_client.study_book.price import lost_rounds, plan_approval
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import ANY_RUN, Declaration, StudyApproval
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study import Study, parse_study
from tests.kits.ledger import DELTA, FALLBACK, ME, STUDY, approval, attempt, digest, reserve
from tests.kits.small import study_data

KINDS = ("continuous", "binary", "survival")
MODES = ("secure-sum", "local", "none")
DECLARED = 120  # patients of every hospital
SPLIT = {"holdout": {"kind": "column", "column": "split", "test": "yes"}}
METRICS = {"private": {"share": 0.1, "every": 3}, "acceptance": {"epsilon": 0.1}}
MENU = {"rounds": 6, "menu": [{"learning_rate": 0.5}, {"momentum": 0.5}]}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "menu": (
        "continuous",
        {"training": MENU, "evaluation": {"private": {"metrics": ["mae"]}}},
    ),
    "metrics and vote": ("binary", {"evaluation": METRICS}),
    "sampled": ("binary", {"training": {"rounds": 6, "schedule": "sampled"}}),
    "hidden layers": ("survival", {"model": {"kind": "mlp", "hidden": [8]}}),
    "statistics": ("continuous", {"training": {"rounds": 6, "start": "statistics"}}),
    "split column": ("binary", {"evaluation": SPLIT}),
    "calibration and ridge": (
        "binary",
        {"training": {"rounds": 6, "ridge": "release", "calibration": {}}},
    ),
}


def main() -> None:
    """Write ``VERSION/signed.json`` and ``VERSION/site`` beside this file."""
    folder = Path(__file__).parent / sys.argv[1]
    folder.mkdir()
    (folder / "signed.json").write_text(json.dumps(made(sys.argv[1]), indent=1), encoding="utf-8")
    store(folder / "site")


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield studies by name, as plain data."""
    for kind, mode in product(KINDS, MODES):
        yield f"{kind}, {mode}", study_data(kind, privacy={"mode": mode})
    for name, (kind, changes) in OTHERS.items():
        yield name, study_data(kind, **changes)


def made(version: str) -> dict[str, Any]:
    """Return everything that is signed, as plain data."""
    operator = Identity.generate()
    own = {f"site {index}": Identity.generate() for index in range(3)}
    roster = Roster.of({name: identity.public for name, identity in own.items()})
    studies = [_study(name, parse_study(data, name), operator) for name, data in cases()]
    me, about = own["site 0"], bytes.fromhex(studies[0]["hash"])
    declaration = Declaration(
        identity=me.public, study_hash=about, run=ANY_RUN, name="site 0", declared=DECLARED
    )
    approved = StudyApproval(
        identity=me.public, study_hash=about, run=ANY_RUN, roster_hash=roster.hash(),
        declared=DECLARED, lost_rounds=1, epsilon_cap=2.0, fallback_cap=3.0,
    )  # fmt: skip
    return {
        "version": version,
        "operator": operator.public.hex(),
        "studies": studies,
        "roster": {
            "members": {name: identity.public.hex() for name, identity in own.items()},
            "hash": roster.hash().hex(),
        },
        "declaration": declaration.signed(me).hex(),
        "approval": approved.signed(me).hex(),
    }


def _study(name: str, study: Study, operator: Identity) -> dict[str, Any]:
    signed, sites = SignedStudy.sign(study, operator), study.roster.sites
    planned = None
    if study.privacy.mode != "none":
        declared = dict.fromkeys(sites, DECLARED)
        planned = plan_approval(study, declared, sites[0], lost_rounds(study))
    return {
        "name": name,
        "manifest": signed.manifest.decode(),
        "signature": signed.signature.hex(),
        "hash": signed.hash.hex(),
        "approval": planned and planned.model_dump(mode="json"),
    }


def store(folder: Path) -> None:
    """Write a site's folder: two releases, one attempt, and what was asked and refused."""
    with SiteFolder.create(folder, delta=DELTA, epsilon_cap=3.0, identity=ME) as site:
        site.ledger.approve(approval(6, lost_rounds=1))
        for number in (1, 2):
            reserve(site.ledger, number)
        attempt(site.ledger, 1)
        run, release = {"run": "run", "round_number": 1}, digest("payload")
        site.journal.write(
            Asked(who="the server", what="sum", study_hash=STUDY, **run),
            Left(
                kind="gradient", size=32, sha256=release, attempt=1, cost=FALLBACK, tick=1000, **run
            ),
        )
        site.journal.write(Refused(reason="not-approved", what="sum", run="other"))
        site.journal.write(Failed(code="F001"))


if __name__ == "__main__":
    main()
