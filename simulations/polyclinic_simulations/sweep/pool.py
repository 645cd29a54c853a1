"""Do the pieces of a simulation, in this process or in one process a core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.queues import SimpleQueue
from typing import ClassVar

from polyclinic_simulations.sweep.cells import run_piece
from polyclinic_simulations.sweep.store import Job, Piece
from polyclinic_simulations.sweep.watcher import Watcher

POLL_S = 0.2
PARENT_POLL_S = 1.0


def run_pieces(job: Job, pieces: Sequence[Piece], workers: int, watcher: Watcher) -> None:
    """Do all pieces; what is finished is kept even if a later one fails or is interrupted."""
    watcher.begin(sum(piece.units(job.study) for piece in pieces))
    if workers == 1 or len(pieces) <= 1:
        for piece in pieces:
            run_piece(job, piece, watcher.advance)
        return
    _import_once(job, pieces)
    context = multiprocessing.get_context("fork")
    progress: SimpleQueue[float] = context.SimpleQueue()
    executor = ProcessPoolExecutor(
        min(workers, len(pieces)),
        context,
        initializer=_start_worker,
        initargs=(job, pieces, progress),
    )
    try:
        waiting: set[Future[None]] = {executor.submit(_work, piece) for piece in pieces}
        while waiting:
            done, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            while not progress.empty():
                watcher.advance(progress.get())
            for future in done:
                future.result()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break the ending
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _import_once(job: Job, pieces: Sequence[Piece]) -> None:
    """Import what several pieces of this job need, before workers are forked."""
    if _needs_torch(job, pieces):
        import torch  # noqa: F401, PLC0415  (seconds)
    if job.study.outcome.kind == "survival":
        import lifelines  # noqa: F401, PLC0415  (a second)


def _start_worker(job: Job, pieces: Sequence[Piece], progress: SimpleQueue[float]) -> None:
    """Prepare a worker: Ctrl-C is the parent's business, one core is enough."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_core(job, pieces)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _Worker.job, _Worker.advance = job, staticmethod(progress.put)


def _needs_torch(job: Job, pieces: Sequence[Piece]) -> bool:
    """Say whether torch has a part: in closed form only the converged baseline needs it."""
    return job.gradients == "opacus" or any(piece.baselines for piece in pieces)


def use_one_core(job: Job, pieces: Sequence[Piece]) -> None:
    """Keep the libraries of this process, which does some of these pieces, to one core."""
    if _needs_torch(job, pieces):
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    """End this worker if its parent was killed: nobody else would."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os._exit(1)


class _Worker:
    """What a worker process was started with."""

    job: ClassVar[Job]
    advance: ClassVar[Callable[[float], None]]


def _work(piece: Piece) -> None:
    run_piece(_Worker.job, piece, _Worker.advance)
