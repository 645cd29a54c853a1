"""The node: asks the server for messages, has them answered by the worker, sends what comes back.

It holds no patient data and imports nothing that computes on them. Whatever fails here or in the
worker ends in silence and a line in the journal; the node goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from polyclinic_client.node.fleet import BEAT_S, Fleet, Received, UnreachableError
from polyclinic_client.node.rest import Rest
from polyclinic_client.node.status import StatusFile
from polyclinic_client.node.warm_worker import LostWorkerError, WarmWorker
from polyclinic_client.records.journal import Bundle, Event, Failed, Journal
from polyclinic_common.errors import LedgerError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
HELD_S = 1.0  # a server that takes longer to say "nothing" is holding the request
log = logging.getLogger(__name__)


@dataclass
class Node:
    """One hospital's node.

    Parameters
    ----------
    fleet : Fleet
        The connection.
    worker : WarmWorker
        What answers.
    journal : Journal
        Where failures and named bundles are written down.
    status : StatusFile
        Where it says how it is.
    rest : Rest
        Knows whether a message is being answered.
    """

    fleet: Fleet
    worker: WarmWorker
    journal: Journal
    status: StatusFile
    rest: Rest = field(default_factory=Rest)
    stopping: threading.Event = field(default_factory=threading.Event)
    runs: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Work until `stopping` is set; connect again and again for as long as it takes."""
        threading.Thread(target=self._beat, daemon=True).start()
        pause = idle = FIRST_PAUSE_S
        while not self.stopping.is_set():
            try:
                self.fleet.activate()
                self.status.update(connected=True, trouble="")
                log.info("connected")
                while not self.stopping.is_set():
                    idle = self._serve(idle)
                    pause = FIRST_PAUSE_S
            except UnreachableError as error:
                log.warning("the server is out of reach (%s); again in %.1f s", error, pause)
                self.status.update(connected=False, trouble=str(error))
                self.stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        self.leave()

    def leave(self) -> None:
        """Stop the worker and say goodbye."""
        self.worker.stop()
        self.fleet.close()

    def _serve(self, idle_s: float) -> float:
        """Handle the next message; return how long to wait after the next hasty "nothing"."""
        asked = time.monotonic()
        received = self.fleet.pull()
        self.worker.rest()
        self.status.update(worker=self.worker.pid)
        if received is not None:
            with self.rest.broken():
                self._handle(received)
        elif time.monotonic() - asked < HELD_S:
            self.stopping.wait(idle_s)
            return min(2 * idle_s, LONGEST_PAUSE_S)
        return FIRST_PAUSE_S

    def _handle(self, received: Received) -> None:
        """Have one message answered, and send the answer if there is one."""
        self.status.update(last_message=time.time())
        if received.run not in self.runs:
            digest = self.fleet.bundle_of(received.run)
            self._write(Bundle(sha256=digest, flower_run=received.run))
            self.runs.add(received.run)
        try:
            answer = self.worker.ask(received.run, received.content)
        except LostWorkerError as error:
            log.error("%s", error)
            self._write(Failed(code=error.code.value), *filter(None, [error.climbed]))
            return
        if answer is not None:
            self.fleet.reply(received, answer)

    def _write(self, *events: Event) -> None:
        try:
            self.journal.write(*events)
        except LedgerError as error:
            log.error("%s", error)

    def _beat(self) -> None:
        """Tell the server every few seconds that this node is there."""
        while not self.stopping.wait(BEAT_S):
            try:
                self.fleet.beat()
            except UnreachableError as error:
                log.info("no heartbeat (%s)", error)
