"""A study in plain words, with what only this hospital can know: cost, peers, its own state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.membership import read_peers
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.budget import caps_needed
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.study_book.price import lost_rounds, plan_approval, schedule_at
from polyclinic_client.study_book.roster import CheckedRoster
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import PolyclinicError, StudyError
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.releases.plain_words import LEAVING, describe, leaving
from polyclinic_common.study.columns import declared_columns
from polyclinic_common.study.features import Diplotype, Hla, Snp
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import Section


@dataclass(frozen=True)
class Offer:
    """A study on offer.

    Attributes
    ----------
    here : str
        How far this hospital is: ``approved``, ``data added``, ``named``, ``held out`` or
        ``not named``; ``needs 0.3.0`` if this version cannot read the study.
    sites : int or None
        Hospitals that train; None if this version cannot read the study.
    """

    id: str
    version: str
    title: str
    hash: str
    expires: str
    sites: int | None
    declared: int
    approved: int
    here: str


@dataclass(frozen=True)
class Shown:
    """A study in plain words."""

    title: str
    hash: str
    sections: tuple[Section, ...]


def offers(site: SiteFolder, client: ConsortiumClient) -> list[Offer]:
    """Return all studies on offer, their signatures checked.

    Raises
    ------
    ConsortiumError
        C014 if one is not signed by the operator.
    """
    found = []
    for each in client.studies():
        heading = each.signed.heading(client.membership.operator_key)
        try:
            study = each.signed.read(client.membership.operator_key)
            sites = len(study.training_sites)
            here = _here(site, client.membership.name, study)
        except StudyError:  # it needs a newer version
            sites, here = None, f"needs {heading.needs}"
        found.append(
            Offer(
                heading.id,
                heading.version,
                heading.title,
                each.signed.hash.hex(),
                heading.expires,
                sites,
                each.declared,
                each.approved,
                here,
            )
        )
    return found


def show_study(site: SiteFolder, client: ConsortiumClient, signed: SignedStudy) -> Shown:
    """Return a study in plain words, for this hospital."""
    study = signed.read(client.membership.operator_key)
    checked = _checked(site, client, study)
    sections = (
        *(each for each in describe(study) if each.title != LEAVING),
        Section("Columns that could tell something about this hospital", tuple(_telling(study))),
        _leaves(client.membership.name, study, checked),
        Section("What all of it costs this hospital", tuple(_costs(site, client, study, checked))),
        Section("Who asks, and who else takes part", tuple(_who(site, client, study))),
    )
    return Shown(study.title, study.hash(), sections)


def _telling(study: Study) -> Iterator[str]:
    """Name columns whose sums can be one hospital's: DP protects patients, not hospitals."""
    if study.cohort.site_indicator:
        yield f"{study.cohort.site}: the model has a weight for every hospital."
    named = [declared for declared in declared_columns(study) if declared.role != "site"]
    genes = Snp | Diplotype | Hla
    coded = [each.name for each in named if each.words or isinstance(each.feature, genes)]
    if coded:
        yield (
            f"{', '.join(coded)}: where only one hospital has a certain value, the noisy sum for "
            "it is that hospital's."
        )
    yield "Comparing rounds in which a hospital took part with others tells of its mean gradient."


def _leaves(name: str, study: Study, checked: CheckedRoster | PolyclinicError) -> Section:
    """Say what leaves, with exact prices where everybody's declared size is known."""
    title = "What leaves this hospital, and what it costs"
    if name not in study.training_sites:
        return Section(title, ("Nothing: this hospital is held out, or not named.",))
    if isinstance(checked, PolyclinicError):
        return Section(title, leaving(study))
    return Section(title, leaving(study, schedule_at(study, checked.declared, name)))


def _checked(
    site: SiteFolder, client: ConsortiumClient, study: Study
) -> CheckedRoster | PolyclinicError:
    """Return everybody's declared sizes, or why they are not known yet."""
    try:
        book, entries = StudyBook.open(site), client.roster(bytes.fromhex(study.hash()))
        return book.check(study, tuple(entry.declaration for entry in entries))
    except PolyclinicError as error:
        return error


def _costs(
    site: SiteFolder,
    client: ConsortiumClient,
    study: Study,
    checked: CheckedRoster | PolyclinicError,
) -> Iterator[str]:
    """Give the price if everybody's declared size is known, else the headline alone."""
    budget, name = site.ledger.budget(), client.membership.name
    if name not in study.training_sites:
        yield "Nothing: it takes no part."
        return
    yield f"Headline: epsilon {study.privacy.epsilon:g} at delta {study.privacy.delta:g}."
    if isinstance(checked, PolyclinicError):
        yield f"The exact price is not known yet. {checked.what}"
    else:
        approval = plan_approval(study, checked.declared, name, lost_rounds(study))
        epsilon, fallback = caps_needed(approval, site.ledger.delta)
        yield (
            f"At most epsilon {epsilon:.3f} of the account, with {approval.lost_rounds} rounds "
            f"that may be lost to exclusion; fallback {fallback:.3f} if all others colluded."
        )
    yield (
        f"The account: {budget.promised:.3f} spent or promised of {budget.epsilon_cap:g}; "
        f"a further study may have {budget.next_epsilon:.3f}."
    )


def _who(site: SiteFolder, client: ConsortiumClient, study: Study) -> Iterator[str]:
    pinned, name = read_peers(site.path), client.membership.name
    others = [other for other in study.training_sites if other != name]
    verified = [other for other in others if other in pinned]
    yield (
        f"The operator of {client.membership.consortium}, whose key is pinned: "
        f"{fingerprint(client.membership.operator_key)}."
    )
    yield (
        f"{len(verified)} of {len(others)} other hospitals verified by this one: "
        f"{', '.join(verified) or 'none'}. A round needs m = {study.m} hospitals known for sure."
    )


def _here(site: SiteFolder, name: str, study: Study) -> str:
    study_hash = bytes.fromhex(study.hash())
    if site.ledger.approval(study_hash) is not None:
        return "approved"
    if StudyBook.open(site).holds(study_hash):
        return "data added"
    if name in study.training_sites:
        return "named"
    return "held out" if name in study.roster.sites else "not named"
