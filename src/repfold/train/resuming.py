"""Going on from a checkpoint: what must be as it was, and what is emitted when it is not."""

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
    before, now = surroundings.from_dict(found.content.get("surroundings")), surroundings.of(run)
    changed = surroundings.changed_data(before, now) if before else None
    for sentence in surroundings.consequences(before, now) if before else ():
        emit(Note(sentence))
    if changed and not override:
        raise RepFoldError(
            f"The data are not those that {found.path} was trained on: {changed}. Bring those back, or accept the "
            "change with --override."
        )
    if changed:
        emit(Note(f"The data have changed since the checkpoint: {changed}."))
    parts = run.parts
    state = checkpoint.restore(found.path, found.content, parts.network, parts.optimizer, parts.scaler, parts.average)
    if changed and state.step:
        emit(Note(f"Epoch {state.epoch + 1} begins anew, since its steps were of the other data."))
        state.begin_epoch(state.epoch)
    return state
