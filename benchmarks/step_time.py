"""What one training step of each method costs, beside plain LoRA's: `python benchmarks/step_time.py --help`.

A model of roberta-base's size with random weights (they do not change the time), rank 8 on its 60 query, key,
value and feed-forward matrices. All methods take turns in one process, in a random order each round, so that
whatever else the machine does falls on all of them; plain LoRA is there twice, and the two differ by noise
alone. On a CPU the clock is this process's CPU time. Run it in the study's environment; it imports
`study/src/model.py`.
"""

import argparse
import copy
import platform
import random
import statistics
import sys
import time
from pathlib import Path

import peft
import torch
import transformers
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification, RobertaConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "study"))

from src.model import AdaLora, FisherPenalty, FisherWeightedLora, Lora

TARGETS = r".*layer\.\d+\.(attention\.self\.(query|key|value)|intermediate\.dense|output\.dense)"
NEVER = 10**9
RUNS = {"SST-2": (500, 6315), "CoLA": (500, 804)}
"""Warm-up steps and all steps of the runs at batch 32 for 3 epochs."""


class ForeachAdaLora(Lora):
    """AdaLoRA's work with batched kernels and no wait for the device: what it costs when it is written well.

    Equation by equation PEFT's: orthogonality of P and Q, smoothed sensitivity and its uncertainty for each
    entry, a score for each triplet, all but the best `target` of them masked.
    """

    def __init__(self, model: nn.Module, config: AdaLoraConfig) -> None:
        super().__init__(model)
        self.config = config
        layers = list(self.layers.values())
        self.p = [layer.lora_B["default"] for layer in layers]
        self.e = [layer.lora_E["default"] for layer in layers]
        self.q = [layer.lora_A["default"] for layer in layers]
        self.all = [*self.p, *self.e, *self.q]
        self.smooth, self.unsure = ([torch.zeros_like(x) for x in self.all] for _ in range(2))
        self.shapes: dict[tuple, list[torch.Tensor]] = {}
        for matrix in (*(x.mT for x in self.p), *self.q):
            self.shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        self.eye = torch.eye(config.init_r, device=self.no_penalty.device)

    def orthogonality(self) -> torch.Tensor:
        norms = []
        for matrices in self.shapes.values():
            stacked = torch.stack(matrices)
            norms.append(torch.linalg.matrix_norm(torch.bmm(stacked, stacked.mT) - self.eye))
        return self.config.orth_reg_weight * torch.cat(norms).mean()

    @torch.no_grad()
    def finish_step(self, learning_rate: float) -> None:
        b1, b2 = self.config.beta1, self.config.beta2
        sensitivity = torch._foreach_abs(torch._foreach_mul(self.all, [x.grad for x in self.all]))
        torch._foreach_lerp_(self.smooth, sensitivity, 1 - b1)
        deviation = torch._foreach_abs(torch._foreach_sub(sensitivity, self.smooth))
        torch._foreach_lerp_(self.unsure, deviation, 1 - b2)
        scores = torch._foreach_mul(self.smooth, self.unsure)
        count = len(self.p)
        of_p, of_e, of_q = scores[:count], scores[count : 2 * count], scores[2 * count :]
        triplets = torch.cat([x.flatten() for x in of_e])
        triplets += torch.cat([x.mean(dim=0) for x in of_p]) + torch.cat([x.mean(dim=1) for x in of_q])
        target = self.config.target_r * count
        threshold = triplets.kthvalue(len(triplets) - target).values
        masks = (triplets > threshold).float().view(count, -1, 1).unbind()
        torch._foreach_mul_(self.e, list(masks))
        self.step += 1


class Arm:
    """A method with its own adapters on shared frozen weights."""

    def __init__(self, name: str, base: nn.Module, args: argparse.Namespace, device: torch.device) -> None:
        self.name, self.device, self.bf16 = name, device, args.bf16
        # The frozen numbers are shared; the parameters are not, for hooks and gradients belong to one arm.
        memo = {id(p): nn.Parameter(p.data, requires_grad=False) for p in base.encoder_parameters}
        model = copy.deepcopy(base, memo)
        self.orthogonality = None
        if name.startswith("AdaLoRA"):
            config = AdaLoraConfig(
                task_type="SEQ_CLS",
                init_r=12,
                target_r=8,
                total_step=NEVER,
                lora_alpha=24,
                target_modules=TARGETS,
            )
            self.model = get_peft_model(model, config).to(device)
            if "foreach" in name:
                self.method = ForeachAdaLora(self.model, config)
                self.orthogonality = self.method.orthogonality
            else:
                self.method = AdaLora(self.model)
        else:
            config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=TARGETS)
            self.model = get_peft_model(model, config).to(device)
            settings = {
                "FW-LoRA, warm-up, exact Fisher each step": FisherPenalty(warmup_steps=NEVER),
                "FW-LoRA, warm-up, sampled Fisher": FisherPenalty(
                    warmup_steps=NEVER, fisher_every=args.every
                ),
                "FW-LoRA, penalty in closed form": FisherPenalty(warmup_steps=1),
                "FW-LoRA, penalty decoupled": FisherPenalty(warmup_steps=1, decoupled=True),
            }
            self.method = (
                FisherWeightedLora(self.model, settings[name]) if name in settings else Lora(self.model)
            )
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        # Below PEFT's own forward, which would add AdaLoRA's orthogonality term matrix by matrix.
        forward = self.model.base_model.model if self.orthogonality else self.model
        self.forward = torch.compile(forward) if args.compile else forward

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        self.method.start_step()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.forward(**batch).loss
        if self.orthogonality:
            loss = loss + self.orthogonality()
        loss.backward()
        self.method.finish_backward()
        self.optimizer.step()
        self.method.finish_step(1e-4)
        self.optimizer.zero_grad()


ARMS = (
    "LoRA",
    "LoRA, again",
    "FW-LoRA, warm-up, exact Fisher each step",
    "FW-LoRA, warm-up, sampled Fisher",
    "FW-LoRA, penalty in closed form",
    "FW-LoRA, penalty decoupled",
    "AdaLoRA, PEFT",
    "AdaLoRA, foreach",
)


class Launches(TorchDispatchMode):
    """Counts operations that move data, as a stand-in for kernel launches; a foreach call counts as one."""

    VIEWS = (
        "view",
        "unbind",
        "select",
        "transpose",
        "t",
        "detach",
        "expand",
        "_unsafe_view",
        "alias",
        "slice",
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in self.VIEWS
        return func(*args, **(kwargs or {}))


def measure(
    arms: list[Arm], batch: dict[str, torch.Tensor], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds per step of each arm, one number for each round."""
    cuda = batch["input_ids"].is_cuda
    clock = time.perf_counter if cuda else time.process_time
    times: dict[str, list[float]] = {arm.name: [] for arm in arms}
    generator = random.Random(0)
    for _ in range(args.rounds):
        for arm in generator.sample(arms, len(arms)):
            if cuda:
                torch.cuda.synchronize()
            started = clock()
            for _ in range(args.block):
                arm.step(batch)
            if cuda:
                torch.cuda.synchronize()
            times[arm.name].append((clock() - started) / args.block)
    return times


def table(times: dict[str, list[float]], launches: dict[str, int]) -> str:
    """Markdown. Medians, but for the sampled Fisher, most of whose steps measure nothing: its mean."""
    middle = {name: statistics.median(found) for name, found in times.items()}
    base = middle["LoRA"]
    ratio = {name: value / base for name, value in middle.items()}
    sampled = "FW-LoRA, warm-up, sampled Fisher"
    ratio[sampled] = statistics.mean(times[sampled]) / statistics.mean(times["LoRA"])
    lines = ["| step | ms | ratio to LoRA | operations |", "|---|---:|---:|---:|"]
    lines += [f"| {n} | {1000 * middle[n]:.1f} | {ratio[n]:.3f} | {launches[n]} |" for n in times]
    lines += ["", "| whole run, computed from these ratios | SST-2 | CoLA |", "|---|---:|---:|"]
    after = ratio["FW-LoRA, penalty in closed form"]
    for name, first in (("exact Fisher each step", ARMS[2]), ("sampled Fisher", ARMS[3])):
        whole = [(k * ratio[first] + (t - k) * after) / t for k, t in RUNS.values()]
        lines.append(f"| FW-LoRA, {name} | {whole[0]:.3f} | {whole[1]:.3f} |")
    return "\n".join(lines)


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32 if cuda else 4)
    parser.add_argument("--length", type=int, default=128 if cuda else 64)
    parser.add_argument("--rounds", type=int, default=40 if cuda else 10)
    parser.add_argument("--block", type=int, default=10 if cuda else 1, help="steps of an arm in a turn")
    parser.add_argument("--warm-up", type=int, default=20 if cuda else 2, help="steps of each arm before")
    parser.add_argument("--every", type=int, default=10, help="steps between two sampled Fisher steps")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=cuda)
    parser.add_argument("--compile", action="store_true", help="torch.compile every model")
    parser.add_argument("--out", type=Path, help="also write the page there")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if cuda else "cpu")
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    base = AutoModelForSequenceClassification.from_config(config).to(device)
    base.encoder_parameters = list(base.roberta.parameters())
    ids = torch.randint(5, 50_000, (args.batch, args.length), device=device)
    batch = {"input_ids": ids, "labels": torch.randint(0, 2, (args.batch,), device=device)}

    arms = [Arm(name, base, args, device) for name in ARMS]
    launches = {}
    for arm in arms:
        for _ in range(args.warm_up):
            arm.step(batch)
        with Launches() as counted:
            arm.step(batch)
        launches[arm.name] = counted.count
    times = measure(arms, batch, args)

    where = (
        torch.cuda.get_device_name()
        if cuda
        else f"{platform.machine()} CPU, {torch.get_num_threads()} thread"
    )
    settings = f"batch {args.batch} x {args.length}, {'bf16' if args.bf16 else 'float32'}"
    settings += f", {'compiled' if args.compile else 'eager'}, {args.rounds} rounds of {args.block}"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    page = f"{where}; {versions}; {settings}.\n\n{table(times, launches)}\n"
    print(page)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(page)


if __name__ == "__main__":
    main()
