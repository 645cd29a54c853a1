"""Taking part in a study: find it, add data, approve, withdraw. The commands call these."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from polyclinic_client.accounts.account import note_spending, require_account
from polyclinic_client.accounts.tables import admit_table, keep_table
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.budget import caps_needed
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.records.journal import Rule, TableEvent
from polyclinic_client.study_book.book import StudyBook, check_study
from polyclinic_client.study_book.price import lost_rounds, plan_approval
from polyclinic_client.study_book.roster import CheckedRoster, refused_roster, require_verified
from polyclinic_common.consortium.signed import SignedStudy, find_signed
from polyclinic_common.consortium.statements import (
    ANY_RUN,
    Declaration,
    StudyApproval,
    Withdrawal,
    rounded,
)
from polyclinic_common.data.check import report_table
from polyclinic_common.data.files import read_table
from polyclinic_common.data.mapping import load_mapping, translate
from polyclinic_common.data.report import CheckReport
from polyclinic_common.data.rules import Mapping
from polyclinic_common.data.settled import SettledRule
from polyclinic_common.errors import Code, ConsortiumError, PrivacyError
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.study.manifest import Study


@dataclass(frozen=True)
class Proposal:
    """A study that could be approved now, and what that would cost this hospital.

    Attributes
    ----------
    epsilon : float
        The most that the account can count for it at any moment, rounds that may be lost included.
    fallback : float
        If every release counted at fallback.
    settled : tuple of SettledRule
        What the mapping settled of the frozen table, for this hospital alone.
    """

    study: Study
    checked: CheckedRoster
    approval: Approval
    epsilon: float
    fallback: float
    settled: tuple[SettledRule, ...]


def find_study(client: ConsortiumClient, word: str) -> SignedStudy:
    """Return the study on offer that a person means: its id, or at least six digits of its hash.

    Raises
    ------
    StudyError
        S004 if none or several match.
    ConsortiumError
        C014 if one is not signed by the operator.
    """
    offered = [each.signed for each in client.studies()]
    return find_signed(offered, client.membership.operator_key, word)


def add_data(
    site: SiteFolder,
    client: ConsortiumClient,
    signed: SignedStudy,
    source: Path,
    mapping: Path | None,
    declared: int | None = None,
    agree: Callable[[CheckReport, Declaration], None] | None = None,
) -> tuple[CheckReport, int]:
    """Check a table against a study, freeze it, and declare its rounded size to the consortium.

    Parameters
    ----------
    agree : callable or None
        Shown what the check found and what is about to be signed and sent; if it raises, nothing is
        kept or sent.

    Returns
    -------
    report : CheckReport
        What the check found; if it is not usable, nothing was kept or sent.
    declared : int
        The declared patients.

    Raises
    ------
    DataError, ConsortiumError, StudyError
        As `read_table`, `translate`, `check_study`, `admit_table`, `StudyBook.add`.
    PrivacyError
        P001 if there are more patients than the declared size allows, or than a sum holds.
    """
    book, name = StudyBook.open(site), client.membership.name
    study = signed.read(client.membership.operator_key)
    check_study(study, name, site.ledger.today())
    book.require_open(signed.hash)
    rules, content = Mapping(), b""
    if mapping is not None:
        rules, content = load_mapping(mapping), mapping.read_bytes()
    translated = translate(rules, read_table(source, rules.table), study)
    frame = translated.frame
    report = report_table(study, translated, rules)
    if not report.usable:
        return report, 0
    declared = rounded(len(frame)) if declared is None else declared
    declaration = Declaration(
        identity=site.identity.public,
        study_hash=signed.hash,
        run=ANY_RUN,
        name=name,
        declared=declared,
    )
    declaration.require_size()
    if len(frame) > most_patients(declared):
        raise PrivacyError(
            Code.PRIVACY_PARAMETER,
            "The table has more patients than the declared size allows.",
            "Declare a size of at least half the patients, or leave it out.",
        )
    if agree is not None:
        agree(report, declaration)
    admit_table(site, signed.hash, frame[study.cohort.patient_id])
    statement = declaration.signed(site.identity)
    client.declare(statement)
    book.add(signed, frame, content, statement, report.settled)
    keep_table(site, signed.hash)
    _note_table(site, "added", signed.hash, report.settled)
    return report, declared


def _note_table(
    site: SiteFolder,
    what: Literal["added", "approved"],
    study_hash: bytes,
    settled: tuple[SettledRule, ...],
) -> None:
    """Write what a mapping settled to the journal, which stays here."""
    rules = tuple(Rule(**asdict(each)) for each in settled)
    site.journal.write(TableEvent(what=what, study_hash=study_hash, settled=rules))


def propose(
    site: SiteFolder, client: ConsortiumClient, study_hash: bytes, lost: int | None = None
) -> Proposal:
    """Return what an approval would mean, after every check that can be made here.

    Raises
    ------
    ConsortiumError
        C014 to C021: what is wrong with study, roster, peers or data.
    PrivacyError
        P001 if a hospital declares more patients than a sum holds; P002 if the account's delta is
        not below 1 / (declared patients).
    """
    book = StudyBook.open(site)
    study, own = book.study(study_hash), book.signed_declaration(study_hash)
    check_study(study, client.membership.name, site.ledger.today())
    book.table(study_hash)
    entries = client.roster(study_hash)
    if not any(entry.declaration == own for entry in entries):
        _require_bare(book.declaration(study_hash))
        client.declare(own)
        entries = client.roster(study_hash)
    checked = book.check(study, tuple(entry.declaration for entry in entries))
    if own not in checked.statements:
        raise refused_roster("it holds another declaration of this hospital than its present one")
    require_verified(study, checked)
    name = client.membership.name
    _require_small_delta(site.ledger.delta, checked.declared[name])
    wanted = lost_rounds(study) if lost is None else lost
    approval = plan_approval(study, checked.declared, name, wanted)
    epsilon, fallback = caps_needed(approval, site.ledger.delta)
    return Proposal(study, checked, approval, epsilon, fallback, book.settled(study_hash))


def _require_bare(declaration: Declaration) -> None:
    """Refuse to send what an earlier version signed: a count of patients beside the size."""
    if declaration.held_out != 0:
        raise ConsortiumError(
            Code.SNAPSHOT_ABSENT,
            "What this hospital declared for the study with an earlier version holds a count of "
            "patients; it is not sent again.",
            "Add the data again: `polyclinic client data add`.",
        )


def _require_small_delta(delta: float, declared: int) -> None:
    """Refuse an account in which one patient of those declared may go unprotected, on average."""
    if delta * declared >= 1.0:
        raise PrivacyError(
            Code.PRIVACY_DELTA,
            f"Delta {delta:g} of this hospital's account is not below 1 / {declared}, its declared "
            "patients.",
            "An account keeps its delta; move its folder away and join anew with --declare-reset "
            "and a smaller --delta, as 1e-6: what was spent stays counted.",
        )


def approve(site: SiteFolder, client: ConsortiumClient, proposal: Proposal) -> None:
    """Write the approval to the ledger, sign it, keep it and hand it in.

    Cut off anywhere, it can be called again.

    Raises
    ------
    LedgerError
        L004 if the account could not carry it to its end.
    ConsortiumError
        As `account_of`.
    """
    book, study_hash = StudyBook.open(site), proposal.approval.study_hash
    require_account(site)
    site.ledger.approve(proposal.approval)
    note_spending(site)  # before the node finds the approval and can spend under it
    budget = site.ledger.budget()
    statement = StudyApproval(
        identity=site.identity.public,
        study_hash=study_hash,
        run=ANY_RUN,
        roster_hash=proposal.checked.roster.hash(),
        declared=proposal.checked.declared[client.membership.name],
        lost_rounds=proposal.approval.lost_rounds,
        epsilon_cap=budget.epsilon_cap,
        fallback_cap=budget.fallback_cap or 0.0,
    ).signed(site.identity)
    book.keep_approval(study_hash, proposal.checked, statement)
    _note_table(site, "approved", study_hash, proposal.settled)
    client.approve(statement)


def withdraw(site: SiteFolder, client: ConsortiumClient, study_hash: bytes) -> bool:
    """End the approval of a study for good, in the ledger first, then tell the consortium.

    It can be called again, and no server is needed for it to hold.

    Returns
    -------
    bool
        Whether the consortium was told.

    Raises
    ------
    LedgerError
        L008 if it was never approved.
    """
    site.ledger.withdraw(study_hash)
    withdrawal = Withdrawal(identity=site.identity.public, study_hash=study_hash, run=ANY_RUN)
    try:
        client.withdraw(withdrawal.signed(site.identity))
    except ConsortiumError:
        return False
    return True


def finite(epsilon: float) -> float | None:
    """Return an epsilon for JSON: None where there is no bound."""
    return None if math.isinf(epsilon) else epsilon
