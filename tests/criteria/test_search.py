"""Criterion 7, the search: what Optuna is asked for, and whether the training heeds it."""

import inspect

import pytest

from labgate.bundle import Bundle
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import search
from labgate.finding import Outcome
from labgate.flow import Flow

CONTRACT = load("airas-2025-11")
MAIN = """\
import hydra
import optuna
from omegaconf import OmegaConf


def train(cfg):
    return cfg.training.lr * cfg.pruning.share * cfg.training.epochs


def propose(trial, cfg):
    space = cfg.optuna.search_space
    cfg.training.lr = trial.suggest_float("lr", space.lr.low, space.lr.high, log=True)
    cfg.pruning.share = trial.suggest_categorical("share", list(space.share.choices))
    cfg.training.epochs = trial.suggest_int("epochs", 1, space.epochs.high)
    return train(cfg)


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    OmegaConf.set_struct(cfg, False)
    cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))
    if cfg.mode == "full":
        study = optuna.create_study(direction="maximize")
        study.optimize(lambda trial: propose(trial, cfg), n_trials=cfg.optuna.n_trials)
        for name, value in study.best_params.items():
            print(name, value)
    train(cfg)


if __name__ == "__main__":
    main()
"""
RUN = """\
run_id: magnitude
training: {epochs: 2, lr: 0.1}
pruning: {share: 0.5}
optuna:
  n_trials: 3
  search_space:
    lr: {type: loguniform, low: 0.001, high: 0.1}
    share: {type: categorical, choices: [0.3, 0.5]}
    epochs: {type: int, low: 1, high: 4}
"""
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "config/config.yaml": "defaults: [_self_]\nrun: null\nmode: full\nresults_dir: results\n",
        "config/runs/magnitude.yaml": RUN,
    }
)
CHILD = Child()
KEPT = {}
"""Composers by what stands in the configs: most bundles here differ in their sources alone."""


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield
        for composer in KEPT.values():
            composer.close()


def asked(question, bundle):
    compositions = Compositions(bundle, CONTRACT, CHILD)
    # Here the run's own file is never composed by Hydra, so composing depends on config.yaml alone.
    compositions.composer = KEPT.setdefault(bundle.text("config/config.yaml"), compositions.composer)
    facts = {"contract": CONTRACT, "compositions": compositions, "flow": Flow(bundle, CONTRACT, compositions)}
    return list(question(**{name: facts[name] for name in inspect.signature(question).parameters}))


def the_failure(question, bundle):
    (answer,) = [answer for answer in asked(question, bundle) if answer.outcome is not Outcome.PASS]
    assert answer.outcome is Outcome.FAIL, answer
    return answer


def outcomes(question, bundle):
    return {answer.outcome for answer in asked(question, bundle)}


def places(answer):
    return [str(place) for place in answer.evidence]


taking = search.suggestions_are_what_optuna_takes
heeding = search.what_is_searched_takes_effect
NO_SEARCH = READY.edit("src/main.py", 'cfg.mode == "full"', 'cfg.mode == "search"')
LR = 'trial.suggest_float("lr", space.lr.low, space.lr.high, log=True)'


@pytest.mark.parametrize("question", [taking, heeding])
def test_a_sound_search_passes_and_so_does_none(question):
    (sound,) = asked(question, READY)
    (none,) = asked(question, NO_SEARCH)
    assert (sound.outcome, none.outcome) == (Outcome.PASS, Outcome.PASS)
    assert sound.says.startswith("3 ") and none.says in ("Optuna is not used", "nothing is searched")


# Suggestions


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('trial.suggest_float("lr", **space.lr)', "unexpected keyword argument 'type'"),
        ('trial.suggest_float("lr", 0.001, 0.1, base=10)', "unexpected keyword argument 'base'"),
        ('trial.suggest_float("lr", space.lr.high, space.lr.low)', "low (0.1) is above high (0.001)"),
        ('trial.suggest_float("lr", 0, space.lr.high, log=True)', "low must be above 0 on a log scale"),
        ('trial.suggest_float("lr", str(space.lr.low), 0.1)', "low is the string '0.001'"),
        ('trial.suggest_float("lr", space.lr.get("least"), 0.1)', "low is None"),
        ('trial.suggest_int("lr", low=1, high=space.lr.get("most"))', "high is None"),
    ],
)
def test_each_suggestion_that_optuna_refuses_fails_at_its_line(written, says):
    answer = the_failure(taking, READY.edit("src/main.py", LR, written))
    assert says in answer.says and "magnitude, mode full" in answer.says
    assert places(answer) == ["src/main.py:12"] and written in answer.evidence[0].shows
    assert "low, high" in answer.do


def test_a_range_that_the_config_writes_the_wrong_way_round_fails_where_it_is_suggested():
    answer = the_failure(taking, READY.edit("config/runs/magnitude.yaml", "high: 4", "high: 0"))
    assert answer.says.startswith("ValueError: low (1) is above high (0)")
    assert places(answer) == ["src/main.py:14"]


def test_two_that_are_refused_fail_each_for_itself():
    bundle = READY.edit("src/main.py", LR, 'trial.suggest_float("lr", **space.lr)')
    bundle = bundle.edit("config/runs/magnitude.yaml", "high: 4", "high: 0")
    failures = [answer for answer in asked(taking, bundle) if answer.outcome is Outcome.FAIL]
    assert [places(answer) for answer in failures] == [["src/main.py:12"], ["src/main.py:14"]]


@pytest.mark.parametrize(
    "written",
    [
        'trial.suggest_float("lr", space.lr.low, space.lr.high, log=space.lr.type == "loguniform")',
        'trial.suggest_float("lr", **{k: v for k, v in space.lr.items() if k != "type"})',
        'trial.suggest_loguniform("lr", space.lr.low, space.lr.high)',
        'trial.suggest_float("lr", 0, 1)',
        'trial.suggest_float("lr", float(input()), float(input()))',
    ],
)
def test_each_suggestion_that_optuna_takes_passes(written):
    assert outcomes(taking, READY.edit("src/main.py", LR, written)) == {Outcome.PASS}


def test_one_that_may_never_be_suggested_is_not_told():
    bundle = READY.edit("src/main.py", LR, '0.1 if input() else trial.suggest_float("lr", **space.lr)')
    assert outcomes(taking, bundle) == {Outcome.SKIP, Outcome.PASS}


def test_one_whose_refusal_is_caught_is_not_told():
    lines = f"try:\n        cfg.training.lr = {LR}\n    except TypeError:\n        cfg.training.lr = 0.1"
    bundle = READY.edit("src/main.py", f"cfg.training.lr = {LR}", lines)
    bundle = bundle.edit("src/main.py", LR, 'trial.suggest_float("lr", **space.lr)')
    assert Outcome.FAIL not in outcomes(taking, bundle)


# What comes of them


def test_a_value_put_at_the_root_where_nothing_reads_it_fails_and_shows_where_it_is_searched():
    bundle = READY.edit("src/main.py", "cfg.training.lr = trial", "cfg['lr'] = trial")
    answer = the_failure(heeding, bundle)
    assert answer.says == "the search sets lr, which is read by nothing: no run has such a key"
    assert places(answer) == ["src/main.py:12", "config/runs/magnitude.yaml:7"]
    assert [e.label for e in answer.evidence] == ["the sampled value goes here", "searched"]


def test_every_place_that_puts_it_there_is_shown():
    bundle = READY.edit("src/main.py", "cfg.training.lr = trial", "cfg['lr'] = cfg.lr = trial")
    bundle = bundle.edit(
        "src/main.py", "    return train", "    cfg.lr = trial.suggest_float('lr', 0, 1)\n    return train"
    )
    assert {"src/main.py:12", "src/main.py:15"} <= {*places(the_failure(heeding, bundle))}


def test_a_section_that_is_misspelt_fails():
    bundle = READY.edit("src/main.py", "cfg.pruning.share = trial", "cfg.pruning.fraction = trial")
    assert "the search sets pruning.fraction" in the_failure(heeding, bundle).says


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cfg.training.lr = trial", "cfg['training']['lr'] = trial"),
        (f"cfg.training.lr = {LR}", f"OmegaConf.update(cfg, 'training.lr', {LR})"),
        ("return cfg.training.lr *", "return cfg.get('lr', 1) * cfg.training.lr *"),
        (f"cfg.training.lr = {LR}", f"rate = {LR}\n    cfg.training.update(lr=rate)"),
    ],
)
def test_a_value_that_reaches_what_trains_passes(old, new):
    bundle = READY.edit("src/main.py", old, new)
    if "cfg.get('lr'" in new:
        bundle = bundle.edit("src/main.py", "cfg.training.lr = trial", "cfg.lr = trial")
    assert outcomes(heeding, bundle) == {Outcome.PASS}


def test_a_value_put_under_a_name_that_is_not_known_is_no_failure():
    bundle = READY.edit("src/main.py", "cfg.training.lr = trial", "cfg[input()] = trial")
    assert Outcome.FAIL not in outcomes(heeding, bundle)
    maybe = READY.edit(
        "src/main.py", "    cfg.training.lr = trial", "    if input():\n        cfg.lr = trial"
    )
    assert Outcome.FAIL not in outcomes(heeding, maybe)


def test_code_that_is_too_long_to_be_followed_to_its_end_is_not_told(monkeypatch):
    monkeypatch.setattr("labgate.flow.machine.STEPS", 60)
    assert outcomes(heeding, READY) == {Outcome.SKIP, Outcome.PASS}
