"""Criterion 4, proper PyTorch: precision, frozen weights, gradients that exist and are cleared."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._training import course_of
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Call, ConfigRead, External, Flow, Known, Value, Walk, options
from labgate.flow.events import Event, Put, evidence

AUTOCAST = (
    "torch.autocast",
    "torch.amp.autocast",
    "torch.cuda.amp.autocast",
    "torch.amp.autocast_mode.autocast",
)
SCALER = ("torch.cuda.amp.GradScaler", "torch.amp.GradScaler", "torch.cuda.amp.grad_scaler.GradScaler")
_PRECISION = re.compile(
    r"(^|[._])(mixed_precision|precision|amp_dtype|autocast_dtype|torch_dtype|dtype|amp)$"
)
_EVERY = re.compile(
    r"get_peft_model\(\)(\.(base_model|model|module))*\.(named_)?parameters\(\)(\[\])+\.requires_grad$"
)
_BF16 = {"bf16", "bfloat16", "torch.bfloat16", "bf16-mixed"}


@check("model.proper-pytorch", "integrity.precision-as-configured", impact=Impact.MISLEADS)
def precision_is_the_configured_one(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Where the config says bf16, autocast is told bfloat16, and no gradient scaler is in between.

    Without a `dtype` autocast means float16 on a GPU, with its narrow range; a scaler is made for float16 and
    multiplies every gradient that is read before it is taken off again.

    Bad:
        scaler = torch.amp.GradScaler(enabled=cfg.training.precision in ("fp16", "bf16"))
        with torch.autocast("cuda"):
            loss = model(batch)
    Good:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(batch)
    """
    wrong: dict[tuple[str, int], Evidence] = {}
    told: dict[tuple[str, int], Evidence] = {}
    right: dict[tuple[str, int], Evidence] = {}
    doubt: list[Evidence] = []
    scaled = False
    for walk in flow.training:
        said = _configured(walk)
        for call in walk.of(Call):
            if not call.certain:
                continue
            key = (call.place.path, call.place.line)
            if _holds_bf16(call):
                right[key] = evidence(bundle, call.place, "computes in bfloat16")
            if call.path not in AUTOCAST + SCALER:
                continue
            kind = _float_kind(call)
            if kind == "off" or (said is None and kind != "bfloat16"):
                continue
            if said is None or kind == "bfloat16":
                right[key] = evidence(bundle, call.place, "told bfloat16")
            elif kind == "unknown":
                doubt.append(evidence(bundle, call.place, "its dtype is not known"))
            else:
                scaled = scaled or kind == "scaler"
                label = "scales gradients as float16 needs" if kind == "scaler" else f"means {kind} on a GPU"
                wrong[key] = evidence(bundle, call.place, label)
                for place in _where(bundle, contract, walk, said):
                    told[place.where, place.line] = place
    if wrong:
        do = "say dtype=torch.bfloat16" + (", and enable GradScaler for fp16 alone" if scaled else "")
        yield failed(
            "the config says bf16 and the code computes in float16"
            if any("GPU" in place.label for place in wrong.values())
            else "the config says bf16 and gradients are scaled as for float16",
            *sorted(wrong.values())[:6],
            *list(told.values())[:3],
            do=do,
        )
    elif doubt:
        yield cannot_tell("the precision of autocast cannot be told", *doubt[:2])
    elif right:
        yield passed("autocast is told bfloat16", *list(right.values())[:3])
    elif any(walk.truncated for walk in flow.training) or not flow.training:
        yield cannot_tell("the training was not followed to its end")
    else:
        yield from _nothing_special(bundle, flow)


def _nothing_special(bundle: Bundle, flow: Flow) -> Answers:
    """No bf16 in any config, or no autocast that would have to know of it."""
    for walk in flow.training:
        said = _configured(walk)
        if said is not None:
            yield cannot_tell(
                f"the config says {said.key}: bf16, and no autocast or dtype was seen that follows it",
                evidence(bundle, said.place, "read here"),
            )
            return
    steps = [step for walk in flow.training for step in course_of(walk, bundle).final.steps]
    if steps:
        yield passed(
            "no config asks for bf16, and none is used", evidence(bundle, steps[0].place, "trains here")
        )
    else:
        yield cannot_tell("no training step was met")


def _holds_bf16(call: Call) -> bool:
    """Whether a model or a trainer is told to compute in bfloat16, so that no autocast is needed."""
    tail = call.path.rpartition(".")[2]
    if tail in ("from_pretrained", "to", "bfloat16"):
        given = [call.argument(None, "torch_dtype", "dtype"), *(call.args if tail == "to" else ())]
        paths = {v.path for v in given if isinstance(v, External)}
        return tail == "bfloat16" or "torch.bfloat16" in paths or Known("bfloat16") in given
    if tail == "Accelerator":
        return call.argument(None, "mixed_precision") == Known("bf16")
    return tail.endswith("TrainingArguments") and call.argument(None, "bf16") == Known(True)


def _configured(walk: Walk) -> ConfigRead | None:
    """The read of a setting that says bf16: one that speaks of precision before one of a dtype."""
    found: list[ConfigRead] = []
    for read in walk.of(ConfigRead):
        value = read.value
        if not isinstance(value, Known):
            continue
        named = _PRECISION.search(read.key) and str(value.value).lower() in _BF16
        if named or (read.key.rpartition(".")[2] in ("bf16", "use_bf16") and value.value is True):
            found.append(read)
    return min(found, key=lambda read: "dtype" in read.key, default=None)


def _float_kind(call: Call) -> str:
    """What an autocast computes in on a GPU, "scaler" for a scaler; "off" or "unknown"."""
    enabled = call.argument(0 if call.path == "torch.cuda.amp.autocast" else 2, "enabled")
    if call.path in SCALER:
        enabled = call.argument(None, "enabled")
    on = _is_on(enabled)
    if on is False:
        return "off"
    if call.path in SCALER:
        return "scaler" if on else "off"
    device = None if call.path == "torch.cuda.amp.autocast" else call.argument(0, "device_type")
    if isinstance(device, Known) and device.value == "cpu":
        return "off"
    dtype = call.argument(1, "dtype")
    if dtype is None:
        return "float16" if on or enabled is None or _waits_for_gpu(enabled) else "unknown"
    names = {option.path if isinstance(option, External) else "" for option in options(dtype)}
    if names == {"torch.bfloat16"}:
        return "bfloat16"
    return "float16" if names <= {"torch.float16", "torch.half"} and names else "unknown"


def _is_on(enabled: Value | None) -> bool | None:
    """Whether `enabled=` is set; a scaler's own `is_enabled()` is what it was made with."""
    if enabled is None:
        return True
    if isinstance(enabled, Known):
        return bool(enabled.value)
    if isinstance(enabled, External) and enabled.path.endswith("GradScaler().is_enabled()"):
        base = enabled.base
        while isinstance(base, External):
            if base.call is not None and base.call.path in SCALER:
                return _is_on(base.call.argument(None, "enabled"))
            base = base.base
    return None


def _waits_for_gpu(enabled: Value) -> bool:
    return isinstance(enabled, External) and enabled.path == "torch.cuda.is_available()"


def _where(bundle: Bundle, contract: Contract, walk: Walk, read: ConfigRead) -> list[Evidence]:
    path = f"{contract.run_folder}/{walk.run_id}.yaml"
    line = bundle.key_line(path, *read.key.split(".")) if path in bundle.files else 0
    return (
        [bundle.place(path, line, "asks for bf16")]
        if line
        else [evidence(bundle, read.place, "asks for bf16")]
    )


@check("model.proper-pytorch", impact=Impact.MISLEADS)
def frozen_weights_stay_frozen(bundle: Bundle, flow: Flow) -> Answers:
    """What an adapter froze is not set to train again.

    `get_peft_model` freezes the pretrained weights. With `requires_grad = True` for every parameter the whole
    backward pass is paid for, in time and memory, and what is reported as trainable is the whole model.

    Bad:
        model = get_peft_model(base, lora)
        for parameter in model.parameters():
            parameter.requires_grad = True
    Good:
        model = get_peft_model(base, lora)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lora_" in name
    """
    thawed: dict[tuple[str, int], tuple[Event, list[Walk]]] = {}
    adapted: dict[tuple[str, int], Evidence] = {}
    for walk in flow.training:
        for event in walk.of(Call, Put):
            if isinstance(event, Call) and event.path == "peft.get_peft_model" and event.certain:
                adapted[event.place.path, event.place.line] = evidence(
                    bundle, event.place, "freezes the rest"
                )
            elif event.certain and _thaws(event):
                thawed.setdefault((event.place.path, event.place.line), (event, []))[1].append(walk)
    for event, walks in thawed.values():
        runs = ", ".join(dict.fromkeys(walk.run_id for walk in walks))
        yield failed(
            f"every parameter is set to train again after the adapter froze them ({runs})",
            evidence(bundle, event.place, "for all parameters, without a test"),
            *list(adapted.values())[:2],
            do="leave requires_grad as get_peft_model sets it, or test the name",
        )
    if not thawed:
        if adapted:
            yield passed("nothing that an adapter froze is set to train again", *list(adapted.values())[:2])
        else:
            yield cannot_tell("no adapter is put on a model")


def _thaws(event: Call | Put) -> bool:
    path = event.path
    if "peft.get_peft_model()" not in path:
        return False
    if isinstance(event, Put):
        return bool(_EVERY.search(path)) and event.attribute and event.value == Known(True)
    tail = path.rpartition(".")[2]
    if tail == "requires_grad_":
        given = event.argument(0, "requires_grad")
        whole = re.search(r"get_peft_model\(\)(\.(named_)?parameters\(\)(\[\])+)?\.requires_grad_$", path)
        return bool(whole) and (given is None or given == Known(True))
    return False


@check("model.proper-pytorch", "model.complete-architectures", impact=Impact.BLOCKS)
def the_loss_leads_back_to_the_weights(bundle: Bundle, flow: Flow) -> Answers:
    """What `backward()` is called on is a tensor that was computed with gradients on.

    `.item()` gives a plain number, which has no `backward`; a loss computed under `no_grad` has nothing to go
    back through. Either ends the run at its first step.

    Bad:
        loss = criterion(model(x), y).item()
        loss.backward()
    Good:
        loss = criterion(model(x), y)
        loss.backward()
    """
    fine: dict[tuple[str, int], Evidence] = {}
    broken: dict[tuple[str, int], tuple[str, Evidence]] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            if not call.path.endswith(".backward"):
                continue
            key = (call.place.path, call.place.line)
            before = call.path.removesuffix(".backward")
            cut = next((m for m in ("item", "tolist", "numpy", "detach") if before.endswith(f".{m}()")), None)
            if cut and call.certain and not call.guarded:
                broken[key] = (
                    f"backward() is called on what .{cut}() gave",
                    evidence(bundle, call.place, "no way back"),
                )
            elif call.certain:
                fine[key] = evidence(bundle, call.place, "goes back from a loss")
    for source in bundle.sources.values():
        for name, called in _ungraded(source):
            broken[source.path, called] = (
                f"{name} is computed under no_grad, and backward() is called on it",
                bundle.place(source.path, called, "no way back"),
            )
            fine.pop((source.path, called), None)
    for says, place in broken.values():
        yield failed(says, place, do="call backward() on the loss itself, computed with gradients on")
    if not broken:
        if fine:
            yield passed("backward() is called on a loss", *list(fine.values())[:3])
        elif written := list(_written(bundle)):
            yield passed("backward() is called on what was computed with gradients on", *written[:3])
        else:
            yield cannot_tell("no call of backward() was met")


def _written(bundle: Bundle) -> Iterator[Evidence]:
    """The calls of `backward()` in the code, whether or not a walk tells what they are called on."""
    for source in bundle.sources.values():
        for node in every(source.tree, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
                yield bundle.place(source.path, node.lineno, "goes back from a loss")


def _ungraded(source: Source) -> Iterator[tuple[str, int]]:
    """Losses both computed and gone back from under one `no_grad`: (name, line of the call).

    `no_grad` stands in a `with`, or decorates a function.
    """
    for node in every(source.tree, ast.With, ast.FunctionDef):
        if isinstance(node, ast.With):
            quiet = any(_is_no_grad(item.context_expr) for item in node.items)
        else:
            quiet = any(_is_no_grad(decorator) for decorator in node.decorator_list)
        inside = [part for statement in node.body for part in walked(statement)] if quiet else []
        if any(
            isinstance(p, ast.Attribute) and p.attr in ("enable_grad", "set_grad_enabled") for p in inside
        ):
            continue
        made = {
            target.id
            for part in inside
            if isinstance(part, ast.Assign)
            and any(isinstance(inner, ast.Call) for inner in walked(part.value))
            for target in part.targets
            if isinstance(target, ast.Name)
        }
        for part in inside:
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                held = part.func.value
                if part.func.attr == "backward" and isinstance(held, ast.Name) and held.id in made:
                    yield held.id, part.lineno


def _is_no_grad(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return isinstance(called, ast.Attribute) and called.attr in ("no_grad", "inference_mode")


@check("model.proper-pytorch", impact=Impact.MISLEADS)
def gradients_are_cleared_between_steps(bundle: Bundle, flow: Flow) -> Answers:
    """Somewhere between two steps of an optimizer its gradients are cleared.

    `backward()` adds to what is there. Without `zero_grad()` each step follows the sum of all gradients since
    the run began.

    Bad:
        loss.backward()
        optimizer.step()
    Good:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """
    steps: dict[tuple[str, int], Evidence] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            if re.fullmatch(r"torch\.optim\.\w+\(\)\.step", call.path) and call.certain:
                steps[call.place.path, call.place.line] = evidence(bundle, call.place, "steps")
    cleared = [
        bundle.place(source.path, node.lineno, "clears them")
        for source in bundle.sources.values()
        for node in every(source.tree, ast.Attribute)
        if node.attr in ("zero_grad", "zero_", "grad", "autograd", "clear_grad")
        and (node.attr != "grad" or isinstance(node.ctx, ast.Store))
    ]
    if steps and not cleared:
        yield failed(
            "an optimizer steps and nothing clears its gradients: each step follows the sum of all so far",
            *list(steps.values())[:3],
            do="call optimizer.zero_grad() once for each step",
        )
    elif steps:
        yield passed("gradients are cleared between steps", *list(steps.values())[:1], *cleared[:2])
    else:
        yield cannot_tell("no step of an optimizer of torch is certain")


@check("model.proper-pytorch", impact=Impact.REMARKS)
def the_model_is_told_when_it_is_measured(bundle: Bundle, flow: Flow) -> Answers:
    """The model is put into evaluation mode before it is scored, and back into training mode.

    Dropout and batch normalisation behave otherwise while training; scores taken in that mode are noisier.

    Bad:
        with torch.no_grad():
            logits = model(x)
    Good:
        model.eval()
        with torch.no_grad():
            logits = model(x)
    """
    scored = [
        bundle.place(source.path, node.lineno, "scored here")
        for source in bundle.sources.values()
        for node in every(source.tree, ast.With)
        if any(_is_no_grad(item.context_expr) for item in node.items)
    ]
    told = [
        bundle.place(source.path, node.lineno, "evaluation mode")
        for source in bundle.sources.values()
        for node in every(source.tree, ast.Call)
        if isinstance(node.func, ast.Attribute) and not node.args and node.func.attr == "eval"
    ]
    trains = any(course_of(walk, bundle).final.steps for walk in flow.training)
    if scored and trains and not told:
        yield remarked(
            "the model is scored without eval()", *scored[:2], do="call model.eval() before scoring"
        )
    elif told:
        yield passed("the model is put into evaluation mode", *told[:2])
    else:
        yield cannot_tell("no scoring of a model was met")
