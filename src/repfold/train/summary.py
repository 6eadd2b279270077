"""What a run is about to do, for people."""

from __future__ import annotations

from repfold import schedule
from repfold.counted import counted
from repfold.train.assemble import Assembly


def summary(run: Assembly) -> dict[str, str]:
    """Return label -> text: data, network, decay, updates, schedule, machine."""
    source, recipe, machine = run.source, run.settings.recipe, run.machine
    expanded = f" expanded by {recipe.expand}" if recipe.expand else ""
    processes = f", {run.ranks.world} processes" if run.ranks.world > 1 else ""
    return {
        "data": f"{source.name}: {len(source.train):,} training and {len(source.val):,} validation images of "
        f"{counted(len(source.classes), 'class', 'classes')}, {source.image_size} px, crop {source.crop.kind}",
        "network": f"{recipe.model}{expanded}, {run.parameters:,} parameters",
        "decay": _decay(run),
        "updates": f"{counted(recipe.epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')} of "
        f"{counted(recipe.batch, 'image')}; "
        f"{recipe.optimizer}{_extras(run)}",
        "schedule": _schedule(run),
        "machine": f"{machine.device}, {machine.precision} ({machine.reasons['precision']}), "
        f"evaluated in {_EVALUATED[recipe.val_precision].format(machine.precision)}, "
        f"{'channels-last' if machine.channels_last else 'NCHW'}, "
        f"{'fused' if machine.fused else 'plain'} optimizer, {counted(machine.threads, 'thread')}{processes}",
    }


_EVALUATED = {"auto": "{}", "last-fp32": "{}, after the last epoch in fp32", "fp32": "fp32"}


def _decay(run: Assembly) -> str:
    decayed, exempt = run.groups.values
    return f"{run.settings.recipe.weight_decay:g} on {decayed:,} weights; no decay on {exempt:,} of norms and biases"


def _schedule(run: Assembly) -> str:
    """The learning rate over the run, in the words of the recipe."""
    recipe = run.settings.recipe
    text = f"lr {run.settings.learning_rate.base:g}, {recipe.schedule}"
    length = schedule.length(recipe.warmup)
    if not length.value:
        return text if "warmup" in recipe.schedule else f"{text}, no warm-up"
    joined = {"prefix": "after", "overlap": "under"}[recipe.warmup_mode]
    return f"{text} {joined} {_in_words(length)} of {recipe.warmup_shape} warm-up"


_UNITS = {"ep": "epoch", "it": "step"}


def _in_words(length: schedule.Length) -> str:
    value = int(length.value) if length.value.is_integer() else length.value
    return f"{length.value:g} % of the run" if length.unit == "%" else counted(value, _UNITS[length.unit])


def _extras(run: Assembly) -> str:
    recipe = run.settings.recipe
    extras = {
        f"lr {recipe.lr:g} of batch {recipe.lr_batch} scaled to {recipe.batch}": recipe.lr_batch,
        f"lookahead {recipe.lookahead}": recipe.lookahead,
        recipe.average: run.settings.averaging,
        _rules(run): run.reparameterized,
        "branches folded at every step": recipe.online_fold,
        "L2 on equivalent kernels": recipe.custom_l2,
        f"filters no longer than {recipe.max_norm:g}": recipe.max_norm,
        f"taught by {recipe.teacher}": recipe.teacher,
        run.rates.summary: run.rates.summary,
        f"the classifier alone for {recipe.head_first}": run.parts.head_first,
        "as many images of each class": recipe.sampling == "balanced",
        "classes of equal weight": recipe.class_weights == "balanced",
        f"ended by {counted(recipe.patience, 'epoch')} without a better one": recipe.patience,
    }
    return "".join(f"; {text}" for text, on in extras.items() if on)


def _rules(run: Assembly) -> str:
    if run.reparameterized is None:
        return ""
    rules = run.reparameterized.rules
    spans = [span for rule in rules if (span := rule.span())]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return f"gradients of {counted(len(rules), 'layer')} re-parameterized, by factors of {low:.3g} to {high:.3g}"
