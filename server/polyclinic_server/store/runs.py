"""Runs in the store, the models they released, and rows kept for hospitals."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import func, select

from polyclinic_common.errors import Code, ConsortiumError, RunError
from polyclinic_server.store.database import Database
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
            started=self.now(),
            changed=self.now(),
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
            found.changed = self.now()

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

    def keep_rows(
        self, site: str, rows: Sequence[tuple[int, bytes]], most_rows: int, most_bytes: int
    ) -> None:
        """Keep rows of a hospital's ledger for its recovery; what is kept is never replaced.

        Raises
        ------
        ConsortiumError
            C030 if that would be more than so many rows or bytes of this hospital; none is kept.
        """
        with self._session() as session:
            new = [
                KeptRow(site=site, sequence=sequence, content=content)
                for sequence, content in dict(rows).items()
                if session.get(KeptRow, (site, sequence)) is None
            ]
            query = select(func.count(), func.coalesce(func.sum(func.length(KeptRow.content)), 0))
            count, size = session.execute(query.where(KeptRow.site == site)).one()
            size += sum(len(row.content) for row in new)
            if new and (count + len(new) > most_rows or size > most_bytes):
                raise _full()
            session.add_all(new)

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


def _run(found: Run | None, run: str) -> Run:
    if found is None:
        raise _no_run(f"There is no run {run!r}.")
    return found


def _full() -> ConsortiumError:
    return ConsortiumError(
        Code.ROWS_FULL,
        "The consortium keeps no more rows of this hospital's ledger; nothing else changes.",
        "Keep copies of the site's folder yourself, and tell the operator.",
    )


def _no_run(what: str) -> RunError:
    return RunError(
        Code.RUN_UNKNOWN, what, "See: polyclinic client status, or polyclinic server run list"
    )
