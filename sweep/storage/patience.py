"""A database server that is away for a while: what was asked of it is asked again, and nothing is done twice.

A fault may come after the server has done what it was asked and before it could say so. What replaces a value is simply
asked again; what makes or ends a trial first looks whether it has been done. Both are safe because whoever writes a
study is alone (`sweep.storage.advisory_lock`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from sweep.errors import StorageError
from sweep.storage.address import first_line, hide_password
from sweep.storage.attributes import REASON, REDONE
from sweep.storage.bulk import BulkStorage, Read, select_trials
from sweep.storage.optuna_internals import tables, trial_id

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Connection

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""Between two tries; each wait is twice the one before."""

log = logging.getLogger(__name__)


class StillHeldError(Exception):
    """The study's lock is held by a connection of this very process that the server has not missed yet."""


def is_fault(error: BaseException | None) -> bool:
    """Whether an error is one of the connection or the server, which may be gone at the next try."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    while error is not None:
        if isinstance(error, InterfaceError | OperationalError | StillHeldError):
            return True
        error = error.__cause__
    return False


def _patient(
    method: Callable[Concatenate[Any, Given], Answer],
) -> Callable[Concatenate[Any, Given], Answer]:
    """A method that may be called again: it reads, or replaces a value by another."""

    def call(self: Any, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        answer: Answer = self.patiently(lambda: method(self, *args, **kwargs))
        return answer

    return call


class PatientStorage(BulkStorage):
    """A server's storage that outlasts faults of so many seconds."""

    _newest: int | None = None
    _given_up = False
    """Whether it has been waited for in vain: what is to be tidied up then does not wait once more."""

    def patiently(self, call: Callable[[], Answer], *, again: Callable[[], Answer] | None = None) -> Answer:
        """What a call comes to.

        Args:
            call: Asks the server.
            again: What to call instead after a fault; default: the same.

        Raises:
            StorageError: where the server stays away.
        """
        deadline, wait_s, asked = None, FIRST_WAIT_S, call
        while True:
            try:
                answer = asked()
            except Exception as error:
                if not is_fault(error):
                    raise
                said, asked = first_line(_cause(error), self.url), again or call
                if deadline is None:
                    deadline = time.monotonic() + (0 if self._given_up else self.patience_s)
                    if not self._given_up:
                        log.warning("the storage does not answer, trying again for %g s: %s", self.patience_s, said)
                # Until an answer comes: an interrupt of the wait is an end of it too.
                self._given_up = True
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    message = f"{hide_password(self.url)} has not answered for {self.patience_s:g} s: {said}"
                    raise StorageError(message) from error
                time.sleep(min(wait_s, left_s))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if deadline is not None:
                    log.warning("the storage answers again")
                self._given_up = False
                return answer

    def read(self, query: Callable[[Connection], Read]) -> Read:
        """What a query of the tables comes to."""
        # In a function within a method, super() finds no `self` by itself.
        return self.patiently(lambda: super(PatientStorage, self).read(query))

    def set_trial_state_values(
        self, trial_id: int, state: optuna.trial.TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """See `RDBStorage`. A trial that is in that state after a fault was put there by us."""

        def tell() -> bool:
            return bool(super(PatientStorage, self).set_trial_state_values(trial_id, state, values))

        def tell_again() -> bool:
            stored = RDBStorage.get_trial(self, trial_id)
            same = stored.state == state and (values is None or stored.values == list(values))
            return True if same else tell()

        return self.patiently(tell, again=tell_again)

    def _create_new_trial(
        self, study_id: int, template_trial: optuna.trial.FrozenTrial | None = None
    ) -> optuna.trial.FrozenTrial:
        """See `RDBStorage`. Trials like it that are there after a fault, and not before, are ours: one is enough."""
        before = self._newest if self._newest is not None else self._newest_trial()

        def make() -> optuna.trial.FrozenTrial:
            return super(PatientStorage, self)._create_new_trial(study_id, template_trial)

        def make_again() -> optuna.trial.FrozenTrial:
            made = self._made_since(study_id, before, template_trial)
            return made[-1] if made else make()

        trial = self.patiently(make, again=make_again)
        # Optuna 5.0 tries up to five times by itself, and does not look.
        for other in self._made_since(study_id, before, template_trial):
            if trial_id(other) != trial_id(trial):
                self._discard(other)
        self._newest = max(before, trial_id(trial))
        return trial

    def _newest_trial(self) -> int:
        from sqlalchemy import func, select

        newest = select(func.max(tables().TrialModel.trial_id))
        return self.read(lambda connection: connection.execute(newest).scalar()) or 0

    def _made_since(
        self, study_id: int, trial_id: int, template: optuna.trial.FrozenTrial | None
    ) -> list[optuna.trial.FrozenTrial]:
        """Trials that this process may have made: of the template's kind, and with all that it has.

        Others may add points meanwhile: theirs wait and are marked, where ours run, or wait without a mark.
        """
        from optuna.trial import TrialState

        state = TrialState.RUNNING if template is None else template.state
        own = ({}, {}) if template is None else (template.user_attrs, template.system_attrs)
        found = self.read(
            lambda connection: select_trials(connection, study_id, tables().TrialModel.trial_id > trial_id)
        )
        return [trial for trial in found if trial.state == state and (trial.user_attrs, trial.system_attrs) == own]

    def _discard(self, trial: optuna.trial.FrozenTrial) -> None:
        from optuna.trial import TrialState

        self.set_trial_user_attr(trial_id(trial), REASON, "stored twice: the storage did not answer in between")
        self.set_trial_user_attr(trial_id(trial), REDONE, True)
        self.set_trial_state_values(trial_id(trial), TrialState.FAIL)

    create_new_study = _patient(RDBStorage.create_new_study)
    set_study_user_attr = _patient(RDBStorage.set_study_user_attr)
    set_study_system_attr = _patient(RDBStorage.set_study_system_attr)
    set_trial_user_attr = _patient(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = _patient(RDBStorage.set_trial_system_attr)
    set_trial_intermediate_value = _patient(RDBStorage.set_trial_intermediate_value)
    # A second one with the name of the first is turned away by the table, and Optuna takes no notice.
    _set_trial_param = _patient(RDBStorage._set_trial_param)
    get_study_id_from_name = _patient(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = _patient(RDBStorage.get_study_name_from_id)
    get_study_directions = _patient(RDBStorage.get_study_directions)
    get_study_user_attrs = _patient(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = _patient(RDBStorage.get_study_system_attrs)
    get_all_studies = _patient(RDBStorage.get_all_studies)
    get_trial = _patient(RDBStorage.get_trial)
    get_trial_id_from_study_id_trial_number = _patient(RDBStorage.get_trial_id_from_study_id_trial_number)
    _get_best_trial_id = _patient(RDBStorage._get_best_trial_id)


def _cause(error: BaseException) -> BaseException:
    """What lies behind Optuna's own words for it."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
