"""Learning rates layer by layer, as fine-tuning wants them: low near the images, high at the classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from repfold.errors import RepFoldError

# What only lists modules: the layers are those within.
_LISTS = (nn.Sequential, nn.ModuleList)


def classifier_of(network: nn.Module, classes: int) -> frozenset[nn.Parameter]:
    """Return the parameters of the layers that give the classes' logits, auxiliary classifiers included.

    These are the linear layers with as many outputs, or, if there is none, the last convolution that has them.

    Raises: RepFoldError when the network has neither.
    """
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear) and layer.out_features == classes]
    convolutions = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.out_channels == classes
    ]
    found = linear or convolutions[-1:]
    if not found:
        raise RepFoldError(
            f"No layer of {type(network).__name__} has {classes} outputs, so there is no telling which is its "
            "classifier: leave layer_decay, head_rate and head_first as they are."
        )
    return frozenset(parameter for layer in found for parameter in layer.parameters())


def rate_scales(
    network: nn.Module, classifier: frozenset[nn.Parameter], *, layer_decay: float = 1.0, head_rate: float = 1.0
) -> dict[nn.Parameter, float]:
    """Return what the learning rate of each parameter is multiplied by.

    ``head_rate`` for the classifier, 1 for the layer before it, and a factor of ``layer_decay`` more for each layer
    further down. A layer here is a child of the network, or of a list of modules in it: a block with all its branches
    is one. Norms and other layers without a kernel go with the one before.
    """
    layers = [layer for layer in _layers(network) if any(True for _ in layer.parameters())]
    below = [layer for layer in layers if not classifier.issuperset(layer.parameters())]
    depths: list[int] = []
    for layer in below:
        kernel = any(parameter.ndim > 1 for parameter in layer.parameters())
        depths.append((depths[-1] if depths else 0) + (kernel and bool(depths)))
    scales: dict[nn.Parameter, float] = {}
    for layer, depth in zip(below, depths, strict=True):
        for parameter in layer.parameters():
            scales.setdefault(parameter, layer_decay ** (depths[-1] - depth))
    return {**dict.fromkeys(network.parameters(), 1.0), **scales, **dict.fromkeys(classifier, head_rate)}


def summary(scales: Mapping[nn.Parameter, float], classifier: frozenset[nn.Parameter]) -> str:
    """Return in a line what the rate is multiplied by, from the first layer to the classifier."""
    below = [scale for parameter, scale in scales.items() if parameter not in classifier]
    head = next(iter({scales[parameter] for parameter in classifier}), 1.0)
    span = f"{min(below, default=1.0):.3g} to {max(below, default=1.0):.3g}" if len(set(below)) > 1 else "1"
    return f"rate times {span}, and {head:g} for the classifier"


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from _layers(child)
        else:
            yield child
