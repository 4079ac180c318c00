"""Criteria 2 and 7: what stands in the run configs, how they are named, and which there are."""

import pytest

from labgate.bundle import Bundle, Promise, PromisedRun
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import run_configs
from labgate.finding import Impact, Outcome

CONTRACT = load("airas-2025-11")
RUN = "run_id: {}\nmethod: pruned\nmodel: {{}}\ndataset: {{}}\ntraining: {{epochs: 2}}\noptuna: {{}}\n"
PATH = "config/runs/pruned-mlp.yaml"
READY = Bundle.from_files(
    {
        "config/config.yaml": "run: null\nresults_dir: out\nmode: full\n",
        PATH: RUN.format("pruned-mlp"),
        "config/runs/dense-mlp.yaml": RUN.format("dense-mlp"),
    }
)


CHILD = Child()


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield


def asked(question, bundle):
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        return list(question(bundle, CONTRACT, compositions))


def failures(question, bundle):
    return [answer for answer in asked(question, bundle) if answer.outcome is Outcome.FAIL]


QUESTIONS = [
    run_configs.run_ids_survive_the_command_line,
    run_configs.run_configs_have_their_sections,
    run_configs.run_ids_equal_their_files,
    run_configs.every_resolver_is_registered,
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_ready_bundle_passes_with_evidence(question):
    (answer,) = asked(question, READY)
    assert answer.outcome is Outcome.PASS
    assert answer.evidence


@pytest.mark.parametrize("question", QUESTIONS[:3])
def test_without_run_configs_nothing_is_told(question):
    (answer,) = asked(question, READY.without(PATH).without("config/runs/dense-mlp.yaml"))
    assert answer.outcome is Outcome.SKIP


@pytest.mark.parametrize(
    ("run_id", "trouble"),
    [
        ("ours (7B)", "holds ' ', which the shell takes"),
        ("ours(7B)", "holds '(', which the shell takes"),
        ("it's", 'holds "\'", which the shell takes'),
        ("a,b", "is refused by Hydra's grammar"),
        ("a=b", "is refused by Hydra's grammar"),
        ("1e-4", "reaches the code as 0.0001"),
        ("null", "reaches the code as None"),
        ("true", "reaches the code as True"),
    ],
)
def test_a_run_id_that_the_command_line_changes_fails_with_what_becomes_of_it(run_id, trouble):
    bundle = READY.without("config/runs/dense-mlp.yaml").with_file(
        f"config/runs/{run_id}.yaml", RUN.format("x")
    )
    (answer,) = failures(run_configs.run_ids_survive_the_command_line, bundle)
    assert trouble in answer.says
    assert str(answer.evidence[0]) == f"config/runs/{run_id}.yaml"


@pytest.mark.parametrize(
    "run_id", ["proposed-bert_base.v2", "7B-ours", "a@b", "a%b", "a+b", "ours:1", "007", "12"]
)
def test_a_run_id_that_arrives_whole_passes(run_id):
    bundle = READY.with_file(f"config/runs/{run_id}.yaml", RUN.format("x"))
    assert not failures(run_configs.run_ids_survive_the_command_line, bundle)


def test_a_missing_section_fails_once_for_all_files_and_shows_the_key_that_may_be_meant():
    bundle = READY.edit(PATH, "training:", "train:").edit("config/runs/dense-mlp.yaml", "training:", "train:")
    (answer,) = failures(run_configs.run_configs_have_their_sections, bundle)
    assert answer.says.startswith(
        "training missing from config/runs/dense-mlp.yaml, config/runs/pruned-mlp.yaml"
    )
    assert (str(answer.evidence[-1]), answer.evidence[-1].label) == (
        "config/runs/dense-mlp.yaml:5",
        "meant as training?",
    )


def test_a_section_that_the_shared_config_or_the_run_key_holds_is_there():
    bundle = READY.edit(PATH, "optuna: {}\n", "").edit(
        "config/config.yaml", "mode: full\n", "optuna: {n_trials: 3}\n"
    )
    assert not failures(run_configs.run_configs_have_their_sections, bundle)
    inner = "".join(f"  {line}\n" for line in RUN.format("pruned-mlp").splitlines())
    assert not failures(run_configs.run_configs_have_their_sections, READY.with_file(PATH, f"run:\n{inner}"))


def test_a_run_config_that_is_no_mapping_or_does_not_parse_fails():
    (answer,) = failures(run_configs.run_configs_have_their_sections, READY.with_file(PATH, "- a\n"))
    assert "holds a list, not a mapping" in answer.says
    (answer,) = failures(run_configs.run_configs_have_their_sections, READY.with_file(PATH, "a: [\n"))
    assert answer.impact is Impact.BLOCKS


def test_a_run_id_other_than_the_files_name_fails_at_its_line():
    (answer,) = failures(run_configs.run_ids_equal_their_files, READY.edit(PATH, "pruned-mlp", "pruned_mlp"))
    assert str(answer.evidence[0]) == f"{PATH}:1"
    assert answer.do == "write `run_id: pruned-mlp`, or rename the file"
    assert not failures(run_configs.run_ids_equal_their_files, READY.edit(PATH, "pruned-mlp", "${run}"))


def promising(*runs):
    return READY.with_promise(Promise(runs=tuple(map(PromisedRun, runs)), origin="promise.json"))


def test_promised_runs_and_configs_are_held_against_each_other():
    question = run_configs.run_configs_are_the_promised_runs
    (answer,) = asked(question, READY)
    assert answer.outcome is Outcome.SKIP
    (answer,) = asked(question, promising("pruned-mlp", "dense-mlp"))
    assert answer.outcome is Outcome.PASS
    (answer,) = failures(question, promising("pruned-mlp", "dense-mlp", "lottery-ticket"))
    assert answer.says == "the promised run 'lottery-ticket' has no config"
    (answer,) = failures(question, promising("pruned-mlp", "dense-mlp-1"))
    assert [str(place) for place in answer.evidence] == ["promise.json", "config/runs/dense-mlp.yaml"]
    extra = [answer for answer in asked(question, promising("pruned-mlp")) if answer.impact is Impact.REMARKS]
    assert extra[0].says == "config/runs/dense-mlp.yaml belongs to no promised run"


def test_an_unknown_resolver_fails_at_each_line_unless_the_code_registers_it():
    question = run_configs.every_resolver_is_registered
    bundle = READY.edit(
        PATH, "epochs: 2", "epochs: '${tune:epochs}', rate: '${oc.env:RATE,1}' # ${note:this}"
    )
    bundle = bundle.edit(PATH, "training: {", "training: {").with_file(
        PATH, bundle.text(PATH).replace("# ${note:this}}", "}")
    )
    (answer,) = failures(question, bundle)
    assert answer.says.startswith("no resolver is called 'tune'")
    assert str(answer.evidence[0]) == f"{PATH}:5"
    known = "from omegaconf import OmegaConf\nOmegaConf.register_new_resolver('tune', print)\n"
    assert not failures(question, bundle.with_file("src/train.py", known))
    dynamic = known.replace("'tune'", "NAME")
    (answer,) = asked(question, bundle.with_file("src/train.py", dynamic))
    assert answer.outcome is Outcome.SKIP
