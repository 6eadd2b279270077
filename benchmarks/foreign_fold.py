"""Fold one network that somebody else wrote, and judge the result without asking the fold."""

from __future__ import annotations

import copy
import importlib
import statistics
import time
import traceback
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

import repfold
from executed import executed
from foreign_table import SLOWER
from leaves import Incomparable, distance
from repfold.errors import RepFoldError
from zoos import ZOOS

EQUAL = 1e-4  # of the largest output, in float32; beyond it float64 decides
EQUAL_FLOAT64 = 1e-8
LEAST_SECONDS = 0.02  # one timing repeats a quick network until it takes this long


def measure(zoo: str, family: str, rounds: int) -> dict[str, Any]:
    """Everything about one family; where it ends early, the last keys say how."""
    result: dict[str, Any] = {"family": family}
    try:
        name, network, x = importlib.import_module(ZOOS[zoo]).build(family)
        result |= {"network": name, "input": list(x.shape), "before": asdict(executed(network, x))}
        result["dull"] = dull(network, x)
    except Exception as error:
        return result | {"unbuilt": said(error)}
    state = {key: value.clone() for key, value in network.state_dict().items()}
    start = time.perf_counter()
    try:
        plain, certificate = repfold.fold(network, x)
    except RepFoldError as error:
        return result | {"refused": said(error), "fold_seconds": time.perf_counter() - start}
    except Exception as error:
        return result | {"raw_error": said(error), "where": traceback.format_exc(limit=-3)}
    result["fold_seconds"] = time.perf_counter() - start
    result |= {
        "regions": len(certificate.regions),
        "left": grouped([item.reason for item in certificate.left]),
        "caveats": list(getattr(certificate, "caveats", ())),
        "error": certificate.error,
        "touched": touched(network, state),
        "parameters": [sum(p.numel() for p in net.parameters()) for net in (network, plain)],
    }
    try:
        result["after"] = asdict(executed(plain, x))
        result |= compare(network, plain, x)
    except Incomparable as error:
        return result | {"wrong": str(error)[:300]}
    except RepFoldError as error:  # of the float64 twin, where float32 did not decide
        return result | {"refused": f"its float64 twin: {said(error)}"}
    except Exception as error:
        return result | {"wrong": said(error)}
    result["milliseconds"] = milliseconds(network, plain, x, rounds)
    if ratio(result["milliseconds"]) < SLOWER and rounds > 1:  # noise, or true? both have another chance
        result["milliseconds"] = milliseconds(network, plain, x, 3 * rounds)
    return result


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def dull(network: nn.Module, x: Tensor) -> bool:
    """Whether another input gives the same outputs, so that comparing them says nothing."""
    with torch.no_grad():
        return distance(network(torch.randn_like(x)), network(x.clone())) < 1e-3


def touched(network: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether folding changed the network that it was given."""
    now = network.state_dict()
    same = now.keys() == state.keys() and all(torch.equal(now[key], state[key]) for key in state)
    return not same or any(module.training for module in network.modules())


def grouped(reasons: list[str]) -> dict[str, int]:
    """How often each reason was given, without what is special to the place."""
    count: dict[str, int] = {}
    for reason in reasons:
        key = reason.split(":")[0].split(" (")[0]
        count[key] = count.get(key, 0) + 1
    return count


def other_inputs(network: nn.Module, x: Tensor) -> list[tuple[str, Tensor]]:
    """Random inputs of the same size, of another batch size and of other image sizes, where the network takes them."""
    torch.manual_seed(1)
    channels, height, width = x.shape[1:]
    shapes = {
        "same size": x.shape,
        "batch 3": (3, *x.shape[1:]),
        "larger": (1, channels, height + 64, width + 32),
        "smaller": (1, channels, max(height - 64, height // 2), max(width - 32, width // 2)),
        "odd": (1, channels, height - 3, width + 5),
    }
    found = []
    for kind, shape in shapes.items():
        other = torch.randn(shape)
        try:
            with torch.no_grad():
                network(other.clone())
        except Exception:  # the network itself is bound to its size
            continue
        found.append((kind, other))
    return found


def compare(network: nn.Module, plain: nn.Module, x: Tensor) -> dict[str, Any]:
    """Every output leaf on every input: what was tried, and the largest relative difference.

    Raises: Incomparable when they are not the same function. A difference beyond float32's usual rounding, or labels
    that rounding may have moved, are judged by folding the network's float64 twin: there nothing is left to rounding.
    """
    inputs = other_inputs(network, x)
    worst, beyond, refused = 0.0, "", []
    for kind, other in inputs:
        with torch.no_grad():
            expected = network(other.clone())
            try:
                found = plain(other.clone())
            except RepFoldError:  # which says that it was folded for other sizes
                refused.append(kind)
                continue
            except Exception as error:
                raise Incomparable(f"{kind}: the folded network does not run: {said(error)}") from error
        try:
            worst = max(worst, distance(found, expected))
        except Incomparable as error:
            beyond = f"{kind}: {error}"
    if worst > EQUAL or beyond:
        exact = _distance_in_float64(network, x)
        if not exact <= EQUAL_FLOAT64:
            raise Incomparable(f"{beyond or f'{worst:.1e}'} in float32; {exact:.1e} in float64")
    checked = [kind for kind, _ in inputs if kind not in refused]
    return {
        "checked": checked,
        "refuses": refused,
        "difference": worst,
        "in_float64": worst > EQUAL or bool(beyond),
    }


def _distance_in_float64(network: nn.Module, x: Tensor) -> float:
    doubled = copy.deepcopy(network).double()
    plain, _ = repfold.fold(doubled, x.double())
    other = torch.randn_like(x).double()
    with torch.no_grad():
        return distance(plain(other.clone()), doubled(other.clone()))


def milliseconds(network: nn.Module, plain: nn.Module, x: Tensor, rounds: int) -> list[float]:
    """Medians before and after, interleaved and in turns first, so that the machine's drift meets both alike.

    With one thread it is the processor's time of this process, which other processes disturb less than the clock's.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    pair = (network, plain)
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        start = clock()
        for net in pair:
            net(x)
        repeats = max(1, round(2 * LEAST_SECONDS / max(clock() - start, 1e-4)))
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                start = clock()
                for _ in range(repeats):
                    pair[which](x)
                times[which].append((clock() - start) * 1e3 / repeats)
    return [statistics.median(values) for values in times]


def ratio(milliseconds: list[float]) -> float:
    return milliseconds[0] / milliseconds[1]
