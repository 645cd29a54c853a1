"""Runs in the store, the models they released, and rows kept for hospitals."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select

from polyclinic_common.errors import Code, RunError
from polyclinic_server.store.database import Database, now
from polyclinic_server.store.tables import KeptRow, ReleasedModel, Run, RunState


class Runs(Database):
    """How far runs are, what they released, and what hospitals left here for their recovery."""

    def begin_run(self, study_hash: bytes, rounds: int) -> Run:
        """Write down a new run and return it; its id is ours, not Flower's."""
        run = Run(
            id=uuid.uuid4().hex,
            study=study_hash.hex(),
            state="running",
            round=0,
            rounds=rounds,
            note="",
            started=now(),
            changed=now(),
            flower_runs=[],
        )
        with self._session() as session:
            session.add(run)
        return run

    def record_run(
        self,
        run: str,
        *,
        state: RunState | None = None,
        round_number: int | None = None,
        note: str | None = None,
        flower_run: int | None = None,
    ) -> None:
        """Write down how far a run is; None leaves a value as it is.

        Raises
        ------
        RunError
            R004 if there is no such run.
        """
        with self._session() as session:
            found = _run(session.get(Run, run), run)
            found.state = state or found.state
            found.round = found.round if round_number is None else round_number
            found.note = found.note if note is None else note
            if flower_run is not None:
                found.flower_runs = [*found.flower_runs, flower_run]
            found.changed = now()

    def runs(self) -> Sequence[Run]:
        """Return all runs, the latest first."""
        with self._session() as session:
            return session.scalars(select(Run).order_by(Run.started.desc(), Run.id)).all()

    def run(self, run: str) -> Run:
        """Return one run.

        Raises
        ------
        RunError
            R004 if there is no such run.
        """
        with self._session() as session:
            return _run(session.get(Run, run), run)

    def release_model(self, run: str, digest: bytes, signature: bytes, content: bytes) -> None:
        """Offer a run's model to the hospitals; a run releases one."""
        with self._session() as session:
            session.merge(
                ReleasedModel(run=run, digest=digest, signature=signature, content=content)
            )

    def model(self, run: str) -> ReleasedModel:
        """Return a run's model.

        Raises
        ------
        RunError
            R004 if it has released none.
        """
        with self._session() as session:
            found = session.get(ReleasedModel, run)
            if found is None:
                raise _no_run(f"The run {run} has released no model.")
            return found

    def keep_rows(self, site: str, rows: Sequence[tuple[int, bytes]]) -> None:
        """Keep rows of a hospital's ledger for its recovery; what is kept is never replaced."""
        with self._session() as session:
            for sequence, content in rows:
                if session.get(KeptRow, (site, sequence)) is None:
                    session.add(KeptRow(site=site, sequence=sequence, content=content))

    def rows(self, site: str, after: int, most: int) -> Sequence[KeptRow]:
        """Return at most `most` kept rows of a hospital with a number above `after`, in order."""
        with self._session() as session:
            query = (
                select(KeptRow)
                .where(KeptRow.site == site, KeptRow.sequence > after)
                .order_by(KeptRow.sequence)
                .limit(most)
            )
            return session.scalars(query).all()

    def count_rows(self, site: str) -> int:
        """Return how many rows of a hospital are kept."""
        with self._session() as session:
            counted = select(func.count()).select_from(KeptRow).filter_by(site=site)
            return session.scalar(counted) or 0


def _run(found: Run | None, run: str) -> Run:
    if found is None:
        raise _no_run(f"There is no run {run!r}.")
    return found


def _no_run(what: str) -> RunError:
    return RunError(Code.RUN_UNKNOWN, what, "See: polyclinic client status")
