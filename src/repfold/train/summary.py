"""What a run is about to do, for people."""

from __future__ import annotations

from repfold.train.assemble import Assembly


def summary(run: Assembly) -> dict[str, str]:
    """Return label -> text: data, network, parameters, updates, machine."""
    source, recipe, machine = run.source, run.settings.recipe, run.machine
    processes = f", {run.ranks.world} processes" if run.ranks.world > 1 else ""
    return {
        "data": f"{source.name}: {len(source.train):,} training and {len(source.val):,} validation images of "
        f"{len(source.classes)} classes, {source.image_size} px, crop {source.crop.kind}",
        "network": f"{recipe.model}, {run.parameters:,} parameters",
        "parameters": "; ".join(run.groups),
        "updates": f"{recipe.epochs} epochs of {run.steps_per_epoch} steps of {recipe.batch} images; "
        f"{recipe.optimizer}, {run.settings.learning_rate}{_extras(run)}",
        "machine": f"{machine.device}, {machine.precision} ({machine.reasons['precision']}), "
        f"evaluated in {_EVALUATED[recipe.val_precision].format(machine.precision)}, "
        f"{'channels-last' if machine.channels_last else 'NCHW'}, "
        f"{'fused' if machine.fused else 'plain'} optimizer, {machine.threads} threads{processes}",
    }


_EVALUATED = {"auto": "{}", "last-fp32": "{}, after the last epoch in fp32", "fp32": "fp32"}


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
    }
    return "".join(f"; {text}" for text, on in extras.items() if on)


def _rules(run: Assembly) -> str:
    if run.reparameterized is None:
        return ""
    rules = run.reparameterized.rules
    spans = [span for rule in rules if (span := rule.span())]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return f"gradients of {len(rules)} layers re-parameterized, by factors of {low:.3g} to {high:.3g}"
