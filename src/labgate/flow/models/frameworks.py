"""Libraries that call back: when a function that is handed out is sure to be called, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labgate.flow.attributes import bind
from labgate.flow.events import Call
from labgate.flow.registry import models
from labgate.flow.values import (
    NONE,
    UNKNOWN,
    External,
    Function,
    Instance,
    Known,
    Seq,
    Value,
)

if TYPE_CHECKING:
    from labgate.flow.walker import Walker


@models("*.optimize")
def _optimize(walker: Walker, call: Call) -> Value | None:
    """`study.optimize(objective, n_trials=N)` calls the objective with a trial, unless N is 0."""
    func = call.argument(1, "func")
    if not isinstance(func, Function):
        return None
    trials = call.argument(2, "n_trials")
    trial = External(f"{call.path}().trial", None, call)
    if isinstance(trials, Known) and trials.value == 0:
        return NONE
    walker.looping += 1
    try:
        call.gave.append(walker.call(func, [trial], {}, None))
    finally:
        walker.looping -= 1
    return NONE


@models("*.map", "*.filter")
def _map(walker: Walker, call: Call) -> Value | None:
    """`dataset.map(function)`: called with rows of that data set."""
    func = call.argument(1, "function")
    holder = call.args[0]
    if isinstance(func, Function):
        rows = External(f"{call.path}().rows", holder, call)
        call.gave.append(walker.try_out(func, rows))
    return None


@models("*.add_batch", "*.add")
def _add(walker: Walker, call: Call) -> Value | None:
    """A metric keeps what it is given until it computes."""
    metric = call.args[0]
    while isinstance(metric, External) and metric.call is None and metric.base is not None:
        metric = metric.base
    if isinstance(metric, External) and metric.path in ("evaluate.load()", "datasets.load_metric()"):
        if metric.call is not None:
            metric.call.gave.extend((*call.args[1:], *call.kwargs.values()))
    return None


@models("*.apply", "*.with_transform", "*.set_transform")
def _apply(walker: Walker, call: Call) -> Value | None:
    func = call.argument(1, "func", "transform")
    if isinstance(func, Function):
        walker.try_out(func, External(f"{call.path}().rows", call.args[0], call))
    return None


@models("torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader")
def _loader(walker: Walker, call: Call) -> Value | None:
    """A loader asks its data set for items and hands lists of them to `collate_fn`."""
    data = call.argument(0, "dataset")
    item: Value = UNKNOWN
    if isinstance(data, Instance):
        length, get = data.cls.find("__len__"), data.cls.find("__getitem__")
        if isinstance(length, Function):
            walker.call(bind(length, data), [], {}, None)
        if isinstance(get, Function):
            item = walker.call(bind(get, data), [UNKNOWN], {}, None)
    elif isinstance(data, External):
        item = External(f"{data.path}[]", data)
    collate = call.argument(None, "collate_fn")
    if isinstance(collate, Function | Instance):
        call.gave.append(walker.call(collate, [Seq([item], "list", True)], {}, None))
    elif item is not UNKNOWN:
        call.gave.append(item)
    for name in ("worker_init_fn", "batch_sampler", "sampler"):
        func = call.kwargs.get(name)
        if isinstance(func, Function):
            walker.callbacks([func], {})
    return None


@models("torch.no_grad", "torch.inference_mode", "torch.enable_grad")
def _decorator(walker: Walker, call: Call) -> Value | None:
    given = call.args[0] if call.args else None
    return given if isinstance(given, Function) else None
