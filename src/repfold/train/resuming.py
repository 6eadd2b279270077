"""Going on from a checkpoint: what must be as it was, and what is told when it is not."""

from __future__ import annotations

from repfold.errors import RepFoldError
from repfold.train import checkpoint, surroundings
from repfold.train.assemble import Assembly
from repfold.train.checkpoint import State
from repfold.train.events import Listener, Note
from repfold.train.last_checkpoints import Found


def restore(found: Found, run: Assembly, override: bool, emit: Listener) -> State:
    """Put a checkpoint into a run that was assembled; return where it was.

    Raises: RepFoldError when it is of another network or optimizer, or (unless ``override``) of other data.
    """
    if found.why:
        emit(Note(found.why, severe=True))
    before = surroundings.from_dict(found.content.get("surroundings"))
    changed = _compare(found, before, surroundings.of(run), override, emit) if before else False
    parts = run.parts
    state = checkpoint.restore(found.path, found.content, parts.network, parts.optimizer, parts.scaler, parts.average)
    if changed and state.step:
        emit(Note(f"Epoch {state.epoch + 1} begins anew, since its steps were of the other data."))
        state.step, state.loss_sum, state.hit_sum = 0, 0.0, 0.0
        state.train_seconds = state.waited_seconds = 0.0
    return state


def _compare(
    found: Found,
    before: surroundings.Surroundings,
    now: surroundings.Surroundings,
    override: bool,
    emit: Listener,
) -> bool:
    """Tell, or refuse, what has changed; return whether the data have."""
    for sentence in surroundings.no_longer_equal(before, now):
        emit(Note(sentence))
    changed = surroundings.changed_data(before, now)
    if changed and not override:
        raise RepFoldError(
            f"The data are not those that {found.path} was trained on: {changed}. Bring those back, or accept the "
            "change with --override."
        )
    if changed:
        emit(Note(f"The data have changed since the checkpoint: {changed}."))
    if surroundings.touched_data(before, now):
        emit(
            Note(
                "Files of the data were written since the checkpoint, but are of the same names and sizes; should "
                "their content be another, the run will not end as it would have."
            )
        )
    return changed is not None
