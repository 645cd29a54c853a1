"""From an approved study to a run: who takes part, and what the coordinator is told."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import Code, PolyclinicError, RunError, StudyError
from polyclinic_server.config import ServerFolder
from polyclinic_server.store.store import Store
from polyclinic_server.superlink import operate
from polyclinic_server.superlink.runs import RunDescription, RunFolder, RunSite

SHORTEST_PREFIX = 6


def start_run(folder: ServerFolder, word: str, min_sites: int | None = None) -> RunFolder:
    """Start a run of a study over the hospitals that have approved it.

    Parameters
    ----------
    word : str
        The study's id, or at least six digits of its hash.
    min_sites : int or None
        Fewest participants of a round; the study's m if that is more.

    Raises
    ------
    StudyError
        S004 if no or several studies match.
    RunError
        R001 if fewer hospitals than that have approved it.
    ServerError
        V001 if the server is not up.
    """
    store = folder.open_store()
    try:
        signed = _find(folder, store, word)
        study = signed.read(folder.operator.public)
        fewest = max(study.m, min_sites or 0)
        sites = _participants(store, signed.hash)
        if len(sites) < fewest:
            raise RunError(
                Code.RUN_TOO_FEW_SITES,
                f"{len(sites)} hospitals have approved {study.id}; a round needs {fewest}.",
                "See who is missing: polyclinic server study list",
            )
        run = store.begin_run(signed.hash, study.training.rounds)
        description = RunDescription(
            run=run.id,
            study=study.model_dump_json(),
            sites=sites,
            largest=max(part.declared for part in store.parts(signed.hash)),
            fewest=fewest,
        )
        try:
            return operate.start_run(folder.path, description)
        except PolyclinicError as error:
            store.record_run(run.id, state="failed", note=error.what)
            raise
    finally:
        store.close()


def _find(folder: ServerFolder, store: Store, word: str) -> SignedStudy:
    offered = [SignedStudy(each.manifest, each.signature) for each in store.studies()]
    matching = [
        signed
        for signed in offered
        if signed.read(folder.operator.public).id == word
        or (len(word) >= SHORTEST_PREFIX and signed.hash.hex().startswith(word))
    ]
    if len(matching) != 1:
        which = "several studies" if matching else "no study"
        raise StudyError(
            Code.STUDY_UNKNOWN,
            f"There is {which} {word!r}.",
            "Name one by its hash, as `polyclinic server study list` shows it.",
        )
    return matching[0]


def _participants(store: Store, study_hash: bytes) -> dict[str, RunSite]:
    declared = {part.site: part.declared for part in store.parts(study_hash)}
    return {
        site.name: RunSite(node_key=_node_key(site.certificate), declared=declared[site.name])
        for site in store.approved_sites(study_hash)
        if site.certificate is not None
    }


def _node_key(certificate: str) -> str:
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
