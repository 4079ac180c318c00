"""Criteria 2 and 7: keys that the code reads and writes against those that the configs have."""

import inspect

import pytest

from labgate.bundle import Bundle
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import code, configs
from labgate.finding import Impact, Outcome
from labgate.flow import Flow

CONTRACT = load("airas-2025-11")
MAIN = """\
import subprocess
import sys

import hydra
from omegaconf import OmegaConf, open_dict


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    words = [f"run={cfg.run}", f"mode={cfg.mode}", f"results_dir={cfg.results_dir}"]
    subprocess.run([sys.executable, "-m", "src.train", *words], check=True)


if __name__ == "__main__":
    main()
"""
TRAIN = """\
import hydra
import torch
from omegaconf import OmegaConf, open_dict


def rotate(cfg, image):
    return image


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    OmegaConf.set_struct(cfg, False)
    cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))
    if cfg.mode == "trial":
        cfg.training.epochs = 1
        cfg.tracking.mode = "disabled"
    image = torch.zeros(cfg.model.size)
    for epoch in range(cfg.training.epochs):
        loss = rotate(cfg, image) * cfg.training.lr
    print(cfg.tracking.mode, cfg.results_dir, loss)


if __name__ == "__main__":
    main()
"""
BASE = (
    "defaults: [_self_]\nrun: null\nmode: full\nresults_dir: results\ntracking: {mode: online, group: day}\n"
)
RUN = "run_id: {}\nmodel: {{size: 8}}\ntraining: {{epochs: 2, lr: 0.1}}\n"
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": TRAIN,
        "config/config.yaml": BASE,
        "config/runs/rotated.yaml": RUN.format("rotated") + "rotation: {degrees: 15}\n",
        "config/runs/upright.yaml": RUN.format("upright"),
    }
).edit("src/train.py", "    return image", "    return image + cfg.get('rotation', {}).get('degrees', 0)")
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
    files = frozenset((path, file.text) for path, file in bundle.files.items() if path.endswith(".yaml"))
    compositions.composer = KEPT.setdefault(files, compositions.composer)
    facts = {
        "bundle": bundle,
        "contract": CONTRACT,
        "compositions": compositions,
        "flow": Flow(bundle, CONTRACT, compositions),
    }
    return list(question(**{name: facts[name] for name in inspect.signature(question).parameters}))


def the_failure(question, bundle):
    (answer,) = [answer for answer in asked(question, bundle) if answer.outcome is not Outcome.PASS]
    assert answer.outcome is Outcome.FAIL, answer
    return answer


def outcomes(question, bundle):
    return {answer.outcome for answer in asked(question, bundle)}


def places(answer):
    return [str(place) for place in answer.evidence]


QUESTIONS = [
    configs.keys_read_exist,
    configs.writes_respect_struct_mode,
    configs.children_compose_what_they_are_given,
    configs.keys_are_read,
    configs.what_main_sets_reaches_the_training,
    configs.config_files_that_are_opened_exist,
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_ready_experiment_passes(question):
    assert outcomes(question, READY) == {Outcome.PASS}


@pytest.mark.parametrize("question", QUESTIONS)
def test_code_that_cannot_be_followed_never_fails(question):
    hidden = READY.edit("src/train.py", "    image = ", "    exec(open('recipe').read())\n    image = ")
    hidden = hidden.edit("src/train.py", "cfg.training.lr", "getattr(cfg, input())")
    answers = [a for a in asked(question, hidden) if a.outcome is Outcome.FAIL]
    assert [a.impact for a in answers if a.impact is not Impact.REMARKS] == []


# Keys that are read

reading = configs.keys_read_exist
GUARDED = "cfg.get('rotation', {}).get('degrees', 0)"
BARE = READY.edit("src/train.py", GUARDED, "cfg.rotation.degrees")


def test_a_section_of_the_proposed_run_alone_fails_for_the_baseline_with_its_file():
    answer = the_failure(reading, BARE)
    assert answer.says.startswith("ConfigAttributeError: Missing key rotation")
    assert "upright, mode" in answer.says and "rotated, mode" not in answer.says
    assert places(answer) == ["src/train.py:7", "src/main.py:11", "config/runs/upright.yaml"]
    assert [e.label for e in answer.evidence] == ["read here", "reached from here", "has no rotation"]


def test_a_key_that_is_missing_at_two_places_fails_once_and_shows_both():
    answer = the_failure(reading, BARE.edit("src/train.py", "print(cfg.tr", "print(cfg.rotation, cfg.tr"))
    assert {"src/train.py:7", "src/train.py:20", "config/runs/upright.yaml"} <= {*places(answer)}


def test_a_key_that_stands_in_the_file_and_not_in_the_config_says_so():
    unmerged = READY.edit(
        "src/train.py", '    cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))\n', ""
    )
    told = {e.label for a in asked(reading, unmerged) for e in a.evidence if str(e).startswith("config/")}
    assert "training stands here, and does not get there" in told
    partly = READY.edit("src/train.py", "cfg.training.lr", "cfg.training.momentum")
    assert the_failure(reading, partly).evidence[-1].label == "has no training.momentum"


def test_two_keys_that_are_missing_fail_each_for_itself():
    bundle = BARE.edit("src/train.py", "cfg.training.lr", "cfg.training.momentum")
    keys = {answer.evidence[0].shows for answer in asked(reading, bundle) if answer.outcome is Outcome.FAIL}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("cfg['rotation']", "ConfigKeyError"),
        ("getattr(cfg, 'rotation')", "ConfigAttributeError"),
        ("OmegaConf.select(cfg, 'rotation', throw_on_missing=True).degrees", "AttributeError"),
        ("OmegaConf.to_container(cfg)['rotation']", "KeyError"),
    ],
)
def test_a_missing_key_is_met_however_it_is_asked_for(written, kind):
    bundle = READY.edit("src/train.py", GUARDED, written)
    answers = asked(reading, bundle) + asked(code.values_are_used_as_what_they_are, bundle)
    (failure,) = [answer for answer in answers if answer.outcome is Outcome.FAIL]
    assert failure.says.startswith(f"{kind}: ") and places(failure)[0] == "src/train.py:7"


def test_a_key_that_only_a_late_branch_of_one_mode_reads_fails_for_that_mode():
    bundle = READY.edit(
        "src/train.py", "    print(", "    if cfg.mode == 'full':\n        cfg.sweep\n    print("
    )
    answer = the_failure(reading, bundle)
    assert "mode full" in answer.says and "mode trial" not in answer.says


def test_an_interpolation_that_leads_nowhere_fails_where_it_is_read():
    bundle = READY.edit("config/runs/rotated.yaml", "degrees: 15", 'degrees: "${angles.small}"')
    answer = the_failure(reading, bundle)
    assert answer.says.startswith("InterpolationKeyError: Interpolation key 'angles.small' not found")
    assert places(answer)[0] == "src/train.py:7"


def test_a_mandatory_value_that_nobody_sets_fails_where_it_is_read():
    bundle = READY.edit("config/runs/upright.yaml", "lr: 0.1", 'lr: "???"')
    answer = the_failure(reading, bundle)
    assert answer.says.startswith("MissingMandatoryValue") and places(answer)[0] == "src/train.py:19"


@pytest.mark.parametrize(
    "written",
    [
        "(cfg.rotation.degrees if 'rotation' in cfg else 0)",
        "(cfg.rotation.degrees if cfg.get('rotation') else 0)",
        "(cfg.rotation.degrees if cfg.run.startswith('rotated') else 0)",
        "OmegaConf.select(cfg, 'rotation.degrees', default=0)",
        "getattr(cfg, 'rotation', {}).get('degrees', 0)",
        "OmegaConf.to_container(cfg).get('rotation', {}).get('degrees', 0)",
        "sum(node.degrees for name, node in cfg.items() if name == 'rotation')",
    ],
)
def test_a_key_that_is_asked_for_with_care_passes(written):
    assert outcomes(reading, READY.edit("src/train.py", GUARDED, written)) == {Outcome.PASS}


def test_a_key_behind_an_unknown_test_or_of_an_unknown_name_is_not_told():
    maybe = READY.edit("src/train.py", GUARDED, "(cfg.rotation.degrees if torch.rand(1) > 0.5 else 0)")
    assert outcomes(reading, maybe) == {Outcome.SKIP, Outcome.PASS}
    unknown = READY.edit("src/train.py", GUARDED, "cfg[input()].degrees")
    assert Outcome.FAIL not in outcomes(reading, unknown)


# Keys that are written

writing = configs.writes_respect_struct_mode


def test_a_merge_onto_a_struct_config_fails_where_it_is_merged():
    answer = the_failure(writing, READY.edit("src/train.py", "    OmegaConf.set_struct(cfg, False)\n", ""))
    assert "Key 'run_id' is not in struct" in answer.says
    assert places(answer) == ["src/train.py:12", "src/main.py:11"]
    assert "set_struct(cfg, False)" in answer.do


@pytest.mark.parametrize(
    "written",
    [
        "cfg.seed = 7",
        "cfg['seed'] = 7",
        "cfg.tracking.host = 'night'",
        "OmegaConf.update(cfg, 'tracking.host', 'night')",
        "setattr(cfg, 'seed', 7)",
        "cfg.pop('tracking')",
        "del cfg['tracking']",
        "cfg.setdefault('seed', 7)",
        "cfg.update({'seed': 7})",
    ],
)
def test_each_way_to_write_what_struct_mode_refuses_fails_in_both_modes(written):
    bundle = READY.edit("src/main.py", "    words = ", f"    {written}\n    words = ")
    answer = the_failure(writing, bundle)
    assert places(answer) == ["src/main.py:10"] and answer.evidence[0].shows == written
    assert "mode trial" in answer.says and "mode full" in answer.says


@pytest.mark.parametrize(
    "written",
    [
        "cfg.mode = cfg.mode.lower()",
        "cfg.tracking.mode = 'offline'",
        "OmegaConf.set_struct(cfg, False)\n    cfg.seed = 7",
        "OmegaConf.update(cfg, 'seed', 7, force_add=True)",
        "with open_dict(cfg):\n        cfg.seed = 7",
        "cfg = OmegaConf.create(OmegaConf.to_container(cfg))\n    cfg.seed = 7",
        "plain = dict(cfg)\n    plain['seed'] = 7",
        "try:\n        cfg.seed = 7\n    except Exception:\n        pass",
        "if 'optimizer' in cfg:\n        cfg.optimizer.seed = 7",
    ],
)
def test_each_write_that_is_allowed_passes(written):
    lines = f"    {written}\n    words = "
    assert outcomes(writing, READY.edit("src/main.py", "    words = ", lines)) == {Outcome.PASS}


def test_a_write_behind_an_unknown_test_is_not_told():
    bundle = READY.edit("src/main.py", "    words = ", "    if input():\n        cfg.seed = 7\n    words = ")
    assert outcomes(writing, bundle) == {Outcome.SKIP, Outcome.PASS}


def test_a_readonly_config_that_is_written_to_fails():
    bundle = READY.edit("src/main.py", "    words = ", "    OmegaConf.set_readonly(cfg, True)\n    words = ")
    bundle = bundle.edit("src/main.py", "    words = ", "    cfg.mode = 'full'\n    words = ")
    assert the_failure(writing, bundle).says.startswith("ReadonlyConfigError")


# Children

starting = configs.children_compose_what_they_are_given


def test_an_override_that_the_childs_config_does_not_know_fails_and_shows_both_ends():
    answer = the_failure(starting, READY.edit("src/main.py", "*words]", '*words, "training.epochs=1"]'))
    assert "Could not override 'training.epochs'" in answer.says
    assert places(answer) == ["src/main.py:11", "src/train.py:10"]
    assert [e.label for e in answer.evidence] == ["started from here", "composed here"]


def test_what_stands_behind_a_config_that_is_not_named_is_told_as_well():
    unnamed = READY.edit("src/main.py", "*words]", '*words, "training.epochs=1"]')
    unnamed = unnamed.edit("src/train.py", ', config_name="config"', "")
    first, second = [a.says for a in asked(starting, unnamed) if a.outcome is Outcome.FAIL]
    assert "Could not override 'run'" in first
    assert "once Hydra is given config/config.yaml: Could not override 'training.epochs'" in second
    harmless = READY.edit("src/train.py", ', config_name="config"', "")
    assert [a for a in asked(starting, harmless) if "once" in a.says] == []


def test_words_that_hydra_cannot_parse_fail():
    answer = the_failure(starting, READY.edit("src/main.py", "*words]", '*words, "--trial"]'))
    assert "src/main.py:11" in places(answer)


@pytest.mark.parametrize(
    "words",
    [
        '*words, "+training.epochs=1"',
        '*words, "tracking.mode=disabled"',
        "*sys.argv[1:]",
        '*words, f"tracking.mode={input()}"',
    ],
)
def test_a_child_whose_words_its_config_knows_passes(words):
    assert outcomes(starting, READY.edit("src/main.py", "*words", words)) == {Outcome.PASS}


def test_a_child_that_is_started_on_one_path_only_is_not_told():
    bundle = READY.edit("src/main.py", "*words]", "*words, 'training.epochs=1']")
    bundle = bundle.edit("src/main.py", "    subprocess", "    if input():\n        subprocess")
    assert outcomes(starting, bundle) == {Outcome.SKIP, Outcome.PASS}


# Keys that nobody reads

read = configs.keys_are_read


def test_a_setting_that_nothing_reads_is_a_remark_at_every_run_that_sets_it():
    bundle = READY.edit("config/runs/rotated.yaml", "lr: 0.1", "lr: 0.1, patience: 3")
    bundle = bundle.edit("config/runs/upright.yaml", "lr: 0.1", "lr: 0.1, patience: 5")
    answer = the_failure(read, bundle)
    assert answer.impact is Impact.REMARKS and answer.says == "training.patience is read by nothing"
    assert places(answer) == ["config/runs/rotated.yaml:3", "config/runs/upright.yaml:3"]


def test_a_section_of_which_nothing_is_read_is_one_remark():
    text = READY.text("config/runs/rotated.yaml") + "schedule:\n  kind: cosine\n  warm: {steps: 5, from: 0}\n"
    answer = the_failure(read, READY.with_file("config/runs/rotated.yaml", text))
    assert answer.says == "nothing of schedule is read, which holds 3 settings"
    assert len(places(answer)) == 3


@pytest.mark.parametrize(
    "written",
    [
        "print(cfg.training.get('patience', 3))",
        "print(OmegaConf.select(cfg, 'training.patience'))",
        "torch.optim.SGD([image], **{k: v for k, v in cfg.training.items()})",
        "torch.optim.SGD([image], **cfg.training)",
        "hydra.utils.instantiate(cfg.training)",
    ],
)
def test_each_way_to_read_a_setting_counts(written):
    bundle = READY.edit("config/runs/rotated.yaml", "lr: 0.1", "lr: 0.1, patience: 3")
    assert outcomes(read, bundle.edit("src/train.py", "    print(", f"    {written}\n    print(")) == {
        Outcome.PASS
    }


def test_logging_the_whole_config_reads_no_setting():
    bundle = READY.edit("config/runs/rotated.yaml", "lr: 0.1", "lr: 0.1, patience: 3")
    bundle = bundle.edit("src/train.py", "    print(", "    print(OmegaConf.to_container(cfg))\n    print(")
    assert the_failure(read, bundle).impact is Impact.REMARKS


# What main sets, and who reads it

reaching = configs.what_main_sets_reaches_the_training


def test_what_main_sets_for_a_child_that_composes_its_own_is_a_remark_at_each_line():
    lines = "    cfg.tracking.mode = 'disabled'\n    cfg.tracking.group = 'night'\n    words = "
    answer = the_failure(reaching, READY.edit("src/main.py", "    words = ", lines))
    assert answer.impact is Impact.REMARKS and answer.says.startswith("tracking.mode, tracking.group: set in")
    assert places(answer) == ["src/main.py:10", "src/main.py:11"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    words = ", "    cfg.results_dir = 'elsewhere'\n    words = "),
        (
            "    words = [",
            "    cfg.tracking.mode = 'disabled'\n    words = [f'tracking.mode={cfg.tracking.mode}', ",
        ),
        (
            "    words = [",
            "    cfg.tracking.mode = 'disabled'\n    print(cfg.tracking.mode)\n    words = [",
        ),
    ],
)
def test_what_is_handed_on_or_read_passes(old, new):
    assert outcomes(reaching, READY.edit("src/main.py", old, new)) == {Outcome.PASS}


# Config files that the code opens

opening = configs.config_files_that_are_opened_exist


def test_a_run_config_looked_for_in_another_folder_fails_where_it_is_opened():
    answer = the_failure(opening, READY.edit("src/train.py", "config/runs/", "config/run/"))
    assert answer.says.startswith("FileNotFoundError: ") and "config/run/rotated.yaml" in answer.says
    assert places(answer)[0] == "src/train.py:13"


@pytest.mark.parametrize(
    "written",
    [
        'OmegaConf.load(f"config/runs/{cfg.run}.yaml")',
        'OmegaConf.load(hydra.utils.to_absolute_path(f"config/runs/{cfg.run}.yaml"))',
        'OmegaConf.load(Path(__file__).resolve().parent.parent / "config" / "runs" / f"{cfg.run}.yaml")',
        'OmegaConf.load(os.path.join(hydra.utils.get_original_cwd(), "config/runs", cfg.run + ".yaml"))',
        'OmegaConf.create(yaml.safe_load(open(f"config/runs/{cfg.run}.yaml")))',
    ],
)
def test_each_way_to_open_the_right_file_passes(written):
    bundle = READY.edit("src/train.py", 'OmegaConf.load(f"config/runs/{cfg.run}.yaml")', written)
    bundle = bundle.edit(
        "src/train.py", "import hydra\n", "import os\nfrom pathlib import Path\n\nimport hydra\nimport yaml\n"
    )
    assert outcomes(opening, bundle) == {Outcome.PASS}


def test_a_file_that_is_looked_for_first_or_that_may_be_missing_is_no_failure():
    careful = READY.edit(
        "src/train.py",
        "    if cfg.mode",
        "    own = 'config/own.yaml'\n    if os.path.exists(own):\n        OmegaConf.load(own)\n"
        "    if cfg.mode",
    ).edit("src/train.py", "import hydra\n", "import os\n\nimport hydra\n")
    assert Outcome.FAIL not in outcomes(opening, careful)
    unknown = READY.edit("src/train.py", "config/runs/{cfg.run}", "config/runs/{input()}")
    assert Outcome.FAIL not in outcomes(opening, unknown)
