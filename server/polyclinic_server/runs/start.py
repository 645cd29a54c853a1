"""From an approved study to a run: who takes part, and what the coordinator is told."""

from __future__ import annotations

from polyclinic_common.errors import Code, PolyclinicError, RunError
from polyclinic_server.consortium.publish import participants
from polyclinic_server.folder import ServerFolder
from polyclinic_server.runs import operate
from polyclinic_server.runs.folder import RunDescription, RunFolder, RunSite


def start_run(folder: ServerFolder, word: str, min_sites: int | None = None) -> RunFolder:
    """Start a run of a study over the hospitals that have approved it.

    Parameters
    ----------
    word : str
        The study's id, or the start of its hash.
    min_sites : int or None
        Fewest participants of a round; the study's m if that is more.

    Raises
    ------
    StudyError
        S004 if no or several studies match, S005 if it has expired.
    RunError
        R001 if fewer hospitals than that have approved it.
    ServerError
        V001 if the server is not up.
    """
    study, sites = participants(folder, word)
    fewest = max(study.m, min_sites or 0)
    if len(sites) < fewest:
        raise RunError(
            Code.RUN_TOO_FEW_SITES,
            f"{len(sites)} hospitals have approved the study; {fewest} are asked for.",
            "Wait for more approvals (`polyclinic server study list`), or lower --min-sites.",
        )
    study_hash = bytes.fromhex(study.hash())
    store = folder.open_store()
    try:
        run = store.begin_run(study_hash, study.rounds)
        description = RunDescription(
            run=run.id,
            study=study.model_dump_json(),
            sites={
                site.name: RunSite(
                    node_key=site.node_key,
                    declared=site.declared,
                    identity=site.identity.hex(),
                )
                for site in sites
            },
            largest=max(
                part.declared
                for part in store.parts(study_hash)
                if part.site in study.training_sites
            ),
            fewest=fewest,
        )
        try:
            return operate.start_run(folder.path, description)
        except PolyclinicError as error:
            store.record_run(run.id, state="failed", note=error.what)
            raise
    finally:
        store.close()
