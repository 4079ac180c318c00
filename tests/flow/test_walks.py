"""Small programs followed: what is met on the way, what only may be, and what cannot be told."""

import textwrap

import pytest

from labgate.bundle import Bundle
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.flow import Ask, Call, ConfigRead, Fault, Flow, Known, Put, Started, Text, Use, plain

CONTRACT = load("airas-2025-11")
CONFIG = """\
defaults:
  - _self_
run: null
results_dir: out
mode: full
wandb: {mode: online, entity: lab, project: p}
optuna: {n_trials: 0}
"""
PROPOSED = "run_id: ours\ntraining: {epochs: 3, lr: 1e-3}\nsharpness: {rho: 0.05}\noptuna: {n_trials: 2}\n"
BASELINE = "run_id: base\ntraining: {epochs: 3, lr: 1e-3}\noptuna: {n_trials: 2}\n"
HEAD = """\
import hydra
from omegaconf import OmegaConf, open_dict

@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
{body}

if __name__ == "__main__":
    main()
"""
MERGE = """\
OmegaConf.set_struct(cfg, False)
cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))
"""
CHILD = Child()


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


def follow(body, merge=True, **files):
    """The walks of a main.py whose function has this body: one for each run and mode, and evaluation's."""
    code = textwrap.indent((MERGE if merge else "") + textwrap.dedent(body), "    ")
    paths = {
        "src/main.py": HEAD.format(body=code),
        "config/config.yaml": CONFIG,
        "config/runs/ours.yaml": PROPOSED,
        "config/runs/base.yaml": BASELINE,
        **{name.replace("__", "/") + ".py": textwrap.dedent(text) for name, text in files.items()},
    }
    bundle = Bundle.from_files(paths)
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        flow = Flow(bundle, CONTRACT, compositions)
        flow.walks  # noqa: B018 - follow while the child lives
        return {f"{walk.run_id} {walk.mode}".strip() or "evaluate": walk for walk in flow.walks}


def faults(walk, certain=True):
    return [(f.kind, f.says) for f in walk.of(Fault) if f.certain is certain and not f.guarded]


def calls(walk, path):
    return [call for call in walk.of(Call) if call.path == path]


def test_a_section_that_only_the_proposed_run_has_is_missing_for_the_baseline_alone():
    walks = follow("print(cfg.sharpness.rho)")
    assert faults(walks["ours full"]) == []
    assert faults(walks["base full"]) == [("ConfigAttributeError", "Missing key sharpness")]


@pytest.mark.parametrize(
    "guard",
    [
        'if "sharpness" in cfg:\n    print(cfg.sharpness.rho)',
        'if hasattr(cfg, "sharpness"):\n    print(cfg.sharpness.rho)',
        'if cfg.get("sharpness") is not None:\n    print(cfg.sharpness.rho)',
        'print(cfg.get("sharpness", {}).get("rho", 0.0))',
        'print(getattr(cfg, "sharpness", None))',
        'print(OmegaConf.select(cfg, "sharpness.rho", default=0.0))',
        'if cfg.run_id == "ours":\n    print(cfg.sharpness.rho)',
        'if "sharpness" in cfg and cfg.sharpness.rho > 0:\n    print("on")',
        "try:\n    rho = cfg.sharpness.rho\nexcept AttributeError:\n    rho = 0.0\nprint(rho + 1)",
        'name = "sharp" + "ness"\nrho = cfg[name].rho if name in cfg else 0.0',
        'found = {k: v for k, v in cfg.items() if k == "sharpness"}\nfor s in found.values():\n    s.rho',
        'match cfg.run_id:\n    case "ours":\n        print(cfg.sharpness.rho)\n    case _:\n        pass',
    ],
)
def test_each_way_to_ask_first_is_understood(guard):
    walks = follow(guard)
    assert [f for walk in walks.values() for f in walk.of(Fault) if not f.guarded] == []


def test_the_mode_decides_which_branch_is_followed():
    walks = follow(
        """
        if cfg.mode == "trial":
            cfg.training.epochs = 1
        elif cfg.mode == "full":
            print(cfg.full_only)
        """
    )
    assert faults(walks["ours trial"]) == []
    assert faults(walks["ours full"]) == [("ConfigAttributeError", "Missing key full_only")]


def test_an_unknown_test_takes_both_branches_and_neither_is_sure():
    walk = follow("import torch\nif torch.cuda.is_available():\n    print(cfg.nothing)")["ours full"]
    assert faults(walk) == []
    assert faults(walk, certain=False) == [("ConfigAttributeError", "Missing key nothing")]


def test_the_parser_of_a_child_whose_words_are_not_all_known_refuses_nothing():
    start = """
        import subprocess, sys
        words = ["--run-id", {}, "--out", "there"]
        subprocess.Popen([sys.executable, "-m", "src.part", *words])
        """
    parse = """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--run-id", required=True)
        parser.add_argument("--out", required=True)
        print(parser.parse_args().run_id.lower())
        """
    assert faults(follow(start.format("cfg.run_id"), src__part=parse)["ours full"]) == []
    assert faults(follow(start.format("input()"), src__part=parse)["ours full"]) == []
    lacking = follow(start.format("cfg.run_id").replace('"--out", "there"', ""), src__part=parse)["ours full"]
    assert [kind for kind, _ in faults(lacking)] == ["SystemExit"]


def test_a_function_that_one_line_calls_often_is_still_followed_from_others():
    walk = follow(
        f"""
        def told(word):
            print(word)

        def chapter(title):
            told(title + "1")
            told(title + "2")

        for title in {[f"title {number}" for number in range(50)]!r}:
            chapter(title)
        told("the end")
        """
    )["ours full"]
    printed = [
        plain(call.args[0]) for call in calls(walk, "builtins.print") if isinstance(call.args[0], Known)
    ]
    assert "the end" in printed


@pytest.mark.parametrize("function", ["missing_keys", "get_type", "is_readonly"])
def test_what_an_omegaconf_function_gives_that_is_not_followed_is_not_taken_for_a_config(function):
    walk = follow(f"found = OmegaConf.{function}(cfg)\nprint(found.union([1]))")["ours full"]
    assert faults(walk) == [] and faults(walk, certain=False) == []


EITHER_WAY = """
def main(cfg):
    print(cfg.nothing)
"""


def test_a_way_round_an_import_is_not_taken_where_the_import_is_of_the_experiments_own_file():
    tried = "try:\n    from src.part import main\nexcept ImportError:\n    from part import main\nmain(cfg)"
    walk = follow(tried, src__part=EITHER_WAY)["ours full"]
    assert faults(walk) == [("ConfigAttributeError", "Missing key nothing")]
    assert faults(walk, certain=False) == []


def test_a_way_round_an_import_is_taken_where_the_import_fails_or_is_of_another_package():
    tried = "try:\n    from src.part import other\nexcept ImportError:\n    other = print\nother(1)"
    walk = follow(tried, src__part=EITHER_WAY)["ours full"]
    assert faults(walk) == [] and plain(calls(walk, "builtins.print")[0].args[0]) == 1
    tried = "try:\n    import apex\nexcept ImportError:\n    print(cfg.nothing)"
    assert faults(follow(tried)["ours full"], certain=False) == [
        ("ConfigAttributeError", "Missing key nothing")
    ]


def test_what_both_branches_leave_is_joined():
    walk = follow(
        """
        import torch
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "cpu"
        print(name)
        """
    )["ours full"]
    printed = calls(walk, "builtins.print")[0].args[0]
    assert {option.value for option in printed.options} == {"cuda", "cpu"}


def test_a_branch_that_raises_leaves_the_rest_sure():
    walk = follow(
        """
        import os
        if not os.path.exists(os.environ["DATA"]):
            raise FileNotFoundError("no data")
        print(cfg.nothing)
        """
    )["ours full"]
    assert faults(walk) == [("ConfigAttributeError", "Missing key nothing")]


def test_an_early_return_on_an_unknown_test_makes_the_rest_doubtful():
    walk = follow("import torch\nif torch.cuda.is_available():\n    return\nprint(cfg.nothing)")["ours full"]
    assert faults(walk) == []
    assert len(faults(walk, certain=False)) == 1


def test_struct_mode_holds_until_it_is_lifted():
    refused = follow("cfg.training = {}", merge=False)["ours full"]
    assert faults(refused) == [("ConfigAttributeError", "Key 'training' is not in struct")]
    for allowed in (
        "OmegaConf.set_struct(cfg, False)\ncfg.training = {}",
        "with open_dict(cfg):\n    cfg.training = {}",
        'OmegaConf.update(cfg, "training.epochs", 1, force_add=True)',
        "cfg = OmegaConf.create(OmegaConf.to_container(cfg))\ncfg.training = {}",
    ):
        assert faults(follow(allowed, merge=False)["ours full"]) == [], allowed
    after = follow("with open_dict(cfg):\n    cfg.a = 1\ncfg.b = 1", merge=False)["ours full"]
    assert faults(after) == [("ConfigAttributeError", "Key 'b' is not in struct")]


def test_a_merge_onto_the_struct_config_is_refused_and_the_rest_goes_on_as_if_mended():
    walk = follow(
        'cfg = OmegaConf.merge(cfg, OmegaConf.load("config/runs/ours.yaml"))\nprint(cfg.nothing)', merge=False
    )["ours full"]
    assert faults(walk) == [
        ("ConfigKeyError", "Key 'run_id' is not in struct"),
        ("ConfigAttributeError", "Missing key nothing"),
    ]


def test_the_child_that_main_starts_is_followed_with_its_own_arguments():
    walks = follow(
        """
        import subprocess, sys
        words = [sys.executable, "-u", "-m", "src.train", f"run={cfg.run}", f"mode={cfg.mode}"]
        subprocess.run(words, check=True)
        """,
        src__train=HEAD.format(body="    print(cfg.run, cfg.mode)"),
    )
    walk = walks["base trial"]
    assert [event.module for event in walk.of(Started)] == ["src.main", "src.train"]
    assert plain(calls(walk, "builtins.print")[0].args[0]) == "base"
    assert plain(calls(walk, "builtins.print")[0].args[1]) == "trial"


def test_an_optuna_objective_is_entered_when_there_are_trials_and_its_names_come_back_as_best_params():
    body = """
    import optuna
    if cfg.mode == "trial":
        cfg.optuna.n_trials = 0
    def objective(trial):
        lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        print(cfg.searched)
        return lr
    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=cfg.optuna.n_trials)
    for name, value in study.best_params.items():
        cfg.best[name] = value
    """
    walks = follow(body)
    assert ("ConfigAttributeError", "Missing key searched") in faults(walks["ours full"])
    assert not any("searched" in says for _, says in faults(walks["ours trial"]))


def test_keys_logged_are_known_through_constants_and_format_strings():
    walk = follow(
        """
        import wandb
        PREFIX = "val"
        run = wandb.init(project=cfg.wandb.project)
        metrics = {f"{PREFIX}/acc": 0.5}
        metrics["loss"] = 1.0
        metrics.update(epoch=1)
        wandb.log(metrics)
        run.summary["best_epoch"] = 3
        """
    )["ours full"]
    logged = calls(walk, "wandb.log")[0].args[0]
    assert set(logged.items) == {"val/acc", "loss", "epoch"}
    assert [(put.path, put.key) for put in walk.of(Put)] == [("wandb.init().summary", Known("best_epoch"))]


def test_evaluation_is_given_the_contracts_line_and_argparse_is_asked_for_real():
    refuses = """
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--results_dir", required=True)
    parser.add_argument("--run_ids", required=True)
    args = parser.parse_args()
    """
    walk = follow("pass", src__evaluate=refuses)["evaluate"]
    assert [kind for kind, _ in faults(walk)] == ["SystemExit"]
    positional = """
    import argparse, json
    parser = argparse.ArgumentParser()
    parser.add_argument("results_dir")
    parser.add_argument("run_ids")
    args = parser.parse_args()
    ids = json.loads(args.run_ids)
    """
    assert [kind for kind, _ in faults(follow("pass", src__evaluate=positional)["evaluate"])] == [
        "JSONDecodeError"
    ]


def test_a_hand_made_key_value_parser_yields_the_run_ids():
    evaluate = """
    import json, sys
    import wandb
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    for run_id in json.loads(given["run_ids"]):
        run = wandb.Api().run(f"lab/p/{run_id}")
        history = run.history()
        print(history["loss"], f"{given['results_dir']}/{run_id}/metrics.json")
    """
    walk = follow("pass", src__evaluate=evaluate)["evaluate"]
    assert faults(walk) == []
    assert [plain(call.args[0]) for call in calls(walk, "wandb.Api().run")] == ["lab/p/base", "lab/p/ours"]
    assert {(ask.path, plain(ask.key)) for ask in walk.of(Ask)} == {("wandb.Api().run().history()", "loss")}
    assert plain(calls(walk, "builtins.print")[0].args[1]) == "results/base/metrics.json"


def test_a_name_of_which_a_part_is_unknown_keeps_the_part_that_is_known():
    walk = follow('import time\nprint(f"run_{time.time()}_loss.pdf")')["ours full"]
    text = calls(walk, "builtins.print")[0].args[0]
    assert isinstance(text, Text)
    assert text.matches("run_1.5_loss.pdf") and not text.matches("walk_1.5_loss.pdf")


def test_imports_of_its_own_modules_are_followed_and_what_is_missing_is_met():
    walks = follow(
        "from src.model import build, forget\nimport src.losses\nbuild(cfg)\n",
        src__model="def build(cfg):\n    return cfg.nothing\n",
    )
    assert [kind for kind, _ in faults(walks["ours full"])] == [
        "ImportError",
        "ModuleNotFoundError",
        "ConfigAttributeError",
    ]


def test_outside_names_are_canonical_whatever_they_are_called_here():
    walk = follow(
        "import torch.nn as nn\nfrom torch.optim import AdamW as Opt\nOpt(nn.Linear(2, 2).parameters())"
    )["ours full"]
    assert {use.path for use in walk.of(Use)} >= {"torch.nn", "torch.nn.Linear", "torch.optim.AdamW"}
    assert calls(walk, "torch.optim.AdamW")


def test_a_scalar_that_is_used_as_a_section_raises_what_python_raises():
    walk = follow("print(cfg.run.run_id)")["ours full"]
    assert faults(walk) == [("AttributeError", "'str' object has no attribute 'run_id'")]


def test_a_call_that_does_not_fit_its_own_function_is_met():
    walk = follow("def train(cfg, loader):\n    return 1\ntrain(cfg, 1, 2)\ntrain(cfg)\ntrain(cfg, other=1)")[
        "ours full"
    ]
    assert [kind for kind, _ in faults(walk)] == ["TypeError"] * 4


def test_methods_attributes_and_inheritance_are_followed():
    walk = follow(
        """
        class Base:
            def __init__(self, cfg):
                self.cfg = cfg
            def step(self):
                return self.rate()
        class Trainer(Base):
            def rate(self):
                return self.cfg.training.nothing
        trainer = Trainer(cfg)
        trainer.step()
        trainer.missing()
        """
    )["ours full"]
    assert faults(walk) == [
        ("ConfigAttributeError", "Missing key nothing"),
        ("AttributeError", "'Trainer' object has no attribute 'missing'"),
    ]


def test_every_read_of_the_config_is_seen_with_its_dotted_key():
    walk = follow('lr = cfg.training["lr"]\nfor key in cfg.training:\n    print(cfg.training[key])')[
        "ours full"
    ]
    keys = {read.key for read in walk.of(ConfigRead)}
    assert {"run", "training", "training.lr", "training.epochs"} <= keys


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n    pass",
        "def f(n):\n    return f(n - 1)\nf(10**9)",
        "x = 'a' * 10**12\ny = 2 ** 10**9\nz = [0] * 10**12",
        "for i in range(10**12):\n    print(i)",
        "d = {}\nd['d'] = d\nprint(d)",
        "f = lambda g: g(g)\nf(f)",
        "import sys\nsys.exit(f\"{'x':>{10**9}}\")",
    ],
)
def test_programs_that_never_end_or_grow_without_bound_are_followed_in_bounded_time(body):
    walks = follow(body)
    assert set(walks) == {"ours full", "ours trial", "base full", "base trial"}


def test_a_progress_bar_is_gone_over_as_what_it_shows_and_stays_a_bar():
    walk = follow(
        """
        from tqdm import tqdm
        bar = tqdm(["a", "b"])
        for name in bar:
            print(name)
            bar.set_postfix(name=name)
        """
    )["ours full"]
    assert [plain(call.args[0]) for call in calls(walk, "builtins.print")] == ["a", "b"]
    assert calls(walk, "tqdm.tqdm().set_postfix")


def test_a_template_that_is_given_too_little_raises():
    walk = follow("text = '{\"answer\": {x}}'.format(x=1)")["ours full"]
    assert [kind for kind, _ in faults(walk)] == ["KeyError"]


def test_an_exception_that_the_config_is_sure_to_bring_about_is_met():
    body = 'if cfg.mode not in ("trial", "complete"):\n    raise ValueError(f"unknown mode {cfg.mode}")'
    walks = follow(body)
    assert faults(walks["ours trial"]) == []
    assert faults(walks["ours full"]) == [("ValueError", "raised by the code itself: unknown mode full")]


def test_a_section_that_lies_one_level_too_deep_is_said_to_stand_there_and_read_from_there():
    lift = "OmegaConf.set_struct(cfg, False)\ncfg.run = OmegaConf.load('config/runs/ours.yaml')\n"
    walk = follow(lift + "print(cfg.training.epochs)", merge=False)["ours full"]
    missing = list(walk.of(Fault))
    assert [(fault.key, fault.stands_at) for fault in missing] == [("training", "run.training")]
    assert plain(calls(walk, "builtins.print")[0].args[0]) == 3
