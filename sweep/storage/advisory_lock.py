"""One writer a study on a PostgreSQL server: a lock that lives in the very connection that writes.

Whoever is killed, or cut off, loses connection and lock together. A connection that is made again takes the lock again,
unless somebody else has it, or has had it in between: what is known here of the study would be out of date then.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from sweep.errors import StorageError
from sweep.storage.attributes import WRITER
from sweep.storage.patience import StillHeldError

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Engine

LONGEST_NAME = 63
"""Bytes that PostgreSQL keeps of an application's name."""
HELD = (
    "SELECT a.application_name, a.client_addr::text, l.pid, l.pid = pg_backend_pid() "
    "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted "
    "AND ((l.classid::bigint << 32) | l.objid::bigint) = %s "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""Who holds a lock, if anybody does, and whether it is this very connection."""
TAKE = "SELECT pg_try_advisory_lock(%s), pg_backend_pid()"
WRITER_OF = (
    "SELECT a.value_json FROM study_user_attributes a JOIN studies s ON s.study_id = a.study_id "
    "WHERE s.study_name = %s AND a.key = %s"
)


def this_process() -> str:
    """What the server is told of who connects."""
    return f"process {os.getpid()} on {socket.gethostname()}"[:LONGEST_NAME]


class AdvisoryLock:
    """A study's lock, taken by each connection that an engine makes."""

    def __init__(self, study: str) -> None:
        self._study = study
        digest = hashlib.sha256(f"rank-sweep {study}".encode()).digest()
        # PostgreSQL knows such locks by signed 64-bit numbers.
        self._key = int.from_bytes(digest[:8], signed=True)
        self._writer: str | None = None

    def attach(self, engine: Engine) -> None:
        """From here on, the engine's connections are the lock's."""
        from sqlalchemy import event

        engine.dispose()  # what it has connected before has taken none
        event.listen(engine, "connect", self._take)
        event.listen(engine, "checkout", self._check)

    def release(self, engine: Engine) -> None:
        """Gives it back. The engine goes on without."""
        from sqlalchemy import event

        event.remove(engine, "connect", self._take)
        event.remove(engine, "checkout", self._check)
        engine.dispose()

    def claim(self, study: optuna.Study) -> None:
        """Leaves our name in the study, so that we notice where somebody else has been in between."""
        # With the time, as process ids come again.
        writer = f"{this_process()}, {time.time_ns()}"
        study.set_user_attr(WRITER, writer)
        self._writer = writer

    def _take(self, connection: Any, record: Any) -> None:
        """Takes the lock for a new connection.

        Raises:
            StorageError: where another process has it, or has had it in between.
        """
        try:
            with connection.cursor() as cursor:
                held = cursor.execute(HELD, (self._key,)).fetchone()
                # It is new to us and holds our lock already: a pool has lent it to us before.
                if held is not None and held[-1]:
                    raise self._pooled()
                taken, pid = cursor.execute(TAKE, (self._key,)).fetchone()
                if not taken:
                    raise self._refused(cursor.execute(HELD, (self._key,)).fetchone())
                # Only once the lock is ours: from here on nobody else can change it.
                if self._writer is not None:
                    row = cursor.execute(WRITER_OF, (self._study, WRITER)).fetchone()
                    if row is None or json.loads(row[0]) != self._writer:
                        raise StorageError(self._overtaken(row and json.loads(row[0])))
            connection.commit()
        except BaseException:
            # The lock lasts as long as the connection: one that lingers would keep everybody out.
            connection.close()
            raise
        record.info["backend"] = pid

    def _check(self, connection: Any, record: Any, _proxy: Any) -> None:
        """Whether a connection still is the one that took the lock; one that is gone is made again.

        Raises:
            StorageError: where something between us and the server has exchanged it.
        """
        from sqlalchemy.exc import DisconnectionError

        try:
            with connection.cursor() as cursor:
                [pid] = cursor.execute("SELECT pg_backend_pid()").fetchone()
            connection.rollback()
        except connection.Error as error:
            # SQLAlchemy makes a new connection where a checkout raises this.
            raise DisconnectionError(str(error)) from error
        if pid != record.info["backend"]:
            raise self._pooled()

    def _refused(self, holder: tuple[str | None, str | None, int, bool] | None) -> Exception:
        name, address, pid, _ = holder or ("", "", 0, False)
        if name == this_process():
            return StillHeldError("the server has not missed our last connection yet")
        who = name or (f"the connection of server process {pid}" if pid else "another process")
        where = f" (connected from {address.partition('/')[0]})" if address else ""
        if self._writer is not None:
            return StorageError(self._overtaken(f"{who}{where}"))
        return StorageError(f"study {self._study} is being run by {who}{where}; wait for it or stop it")

    def _overtaken(self, by: str | None) -> str:
        who = "another process" if by is None else by.rpartition(", ")[0] or by
        return (
            f"study {self._study} was taken over by {who} while the connection was lost; what ran here was queued again"
        )

    def _pooled(self) -> StorageError:
        return StorageError(
            f"study {self._study}: the storage's connections are exchanged between statements, as pgbouncer's "
            "transaction mode does; allowed: the server itself, or a pool in session mode"
        )
