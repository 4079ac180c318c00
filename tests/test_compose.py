"""Composing: the trees and the complaints of a real start, and nothing that a config does gets out."""

import math
import os
import subprocess
import sys
import time

import pytest

from labgate.bundle import Bundle, Promise, PromisedRun
from labgate.compose import UNSET, Child, Composer, ComposerError, Compositions, Request, entry_points
from labgate.contract import load

CONTRACT = load("airas-2025-11")
MAIN = """\
import hydra


@hydra.main({})
def main(cfg):
    pass


if __name__ == "__main__":
    main()
"""
GIVEN = 'config_path="../config", config_name="config", version_base="1.3"'
CONFIG = "run: null\nresults_dir: out\nmode: full\nwandb:\n  mode: online\n"
RUN = "run_id: ours\nmethod: new\nmodel: {}\ndataset: {}\ntraining: {epochs: 3}\noptuna: {}\n"


CHILD = Child()


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield


def project(config=CONFIG, main=GIVEN, **files):
    paths = {"src/main.py": MAIN.format(main), "config/config.yaml": config, "config/runs/ours.yaml": RUN}
    return Bundle.from_files(
        {**paths, **{path.replace("__", "/") + ".yaml": text for path, text in files.items()}}
    )


def composed(bundle, *overrides, mode="full"):
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        if not overrides:
            return compositions.of("src.main", "ours", mode)
        return compositions.composer.compose(compositions.request("src.main", overrides))


NO_VERSION = 'config_path="../config", config_name="config"'
REAL = {
    "fine": project(),
    "no config_name": project(main='config_path="../config", version_base="1.3"'),
    "no folder": project(main='config_path="conf", config_name="config", version_base="1.3"'),
    "no such config": project(main='config_path="../config", config_name="base", version_base="1.3"'),
    "no group": project("defaults:\n  - run: ???\n  - _self_\nmode: full\nresults_dir: out\n"),
    "no option": project("defaults:\n  - run: theirs\nmode: full\nresults_dir: out\n"),
    "interpolated": project(
        "defaults:\n  - _self_\n  - runs: ${run}\nrun: null\nmode: full\nresults_dir: out\n"
    ),
    "no mode": project("run: null\nresults_dir: out\n"),
    "not in the list": project("mode: full\nresults_dir: out\n", config__run__ours=RUN),
    "a key twice": project(CONFIG + "run: 3\n"),
    "hydra block": project(CONFIG + "hydra:\n  jobs:\n    chdir: true\n"),
    "run folder": project(CONFIG + "hydra:\n  run:\n    dir: out/${run_id}\n"),
    "no config at all": project(main='config_path=None, version_base="1.3"'),
    "version unset": project(main=NO_VERSION),
    "version 1.1": project(main=f'{NO_VERSION}, version_base="1.1"'),
    "version None": project(main=f"{NO_VERSION}, version_base=None"),
    "chdir forbidden": project(CONFIG + "hydra: {job: {chdir: false}}\n", NO_VERSION),
    "chdir wanted": project(CONFIG + "hydra: {job: {chdir: true}}\n"),
    "old version": project(main='config_path="../config", config_name="config", version_base="1.0"'),
}


START = """
import hydra, os, runpy, sys, traceback
for folder in sys.argv[1:]:
    if os.fork() == 0:
        os.chdir(folder)
        os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT), 2)
        sys.path[0] = folder
        sys.argv = ["src.main", "run=ours", "results_dir=results", "mode=full"]
        try:
            runpy.run_module("src.main", run_name="__main__", alter_sys=True)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(0)
    os.wait()
"""
"""Starts each project as `python -m src.main …` does, each in a process of its own; Hydra loads only once."""


@pytest.fixture(scope="module")
def real_starts(tmp_path_factory):
    """What each project printed as an error, and whether its function ran and found itself elsewhere."""
    root = tmp_path_factory.mktemp("real")
    seen = "    open(__file__ + '.ran', 'w').write(__import__('os').getcwd())"
    for name, bundle in REAL.items():
        for path, file in bundle.edit("src/main.py", "    pass", seen).files.items():
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_bytes(file.data)
    folders = [str(root / name) for name in REAL]
    environment = {**os.environ, "HYDRA_FULL_ERROR": "1"}
    subprocess.run([sys.executable, "-c", START, *folders], check=True, env=environment, timeout=120)
    found = {}
    for name in REAL:
        ran = root / name / "src/main.py.ran"
        printed = (root / name / "stderr").read_text().replace(f"{os.path.realpath(root / name)}/", "")
        moved = ran.read_text() != os.path.realpath(root / name) if ran.exists() else None
        found[name] = printed, moved
    return found


@pytest.mark.parametrize("name", REAL)
def test_a_real_start_fails_and_changes_the_directory_where_composing_says_so(name, real_starts):
    printed, moved = real_starts[name]
    composition = composed(REAL[name])
    assert (composition.error is None) == (moved is not None), printed
    if composition.error is None:
        assert composition.job.chdir is moved
    else:
        for line in filter(str.strip, composition.error.message.splitlines()):
            assert line in printed


def test_the_tree_is_what_the_function_would_get_unresolved():
    config = (
        CONFIG
        + "labels: {0: no, 1: yes}\nalso: ${wandb.mode}\nkey: ???\nrate: 1e-4\nbig: .inf\nn: [1, '${mode}']\n"
    )
    composition = composed(project(config))
    assert composition.tree == {
        "run": "ours",
        "results_dir": "results",
        "mode": "full",
        "wandb": {"mode": "online"},
        "labels": {0: False, 1: True},
        "also": "${wandb.mode}",
        "key": "???",
        "rate": 1e-4,
        "big": math.inf,
        "n": [1, "${mode}"],
    }
    assert composition.interpolations["also"].value == "online"
    assert composition.interpolations["n.1"].value == "full"
    assert composition.sources == ("config/config.yaml",)


def test_a_resolver_or_a_variable_that_is_not_there_is_said_of_its_own_key_only():
    composition = composed(project(CONFIG + "a: ${optuna:lr}\nb: ${oc.env:HOME}\nc: ${oc.env:HOME,there}\n"))
    assert composition.error is None
    assert composition.interpolations["a"].error == (
        "UnsupportedInterpolationType: Unsupported interpolation type optuna"
    )
    assert "'HOME' not found" in composition.interpolations["b"].error
    assert composition.interpolations["c"].value == "there"


def test_hydras_own_node_is_found_by_its_resolver_and_not_by_its_path():
    composition = composed(project(CONFIG + "a: ${hydra:job.name}\nb: ${hydra.job.name}\n"))
    assert composition.interpolations["a"].value == "main"
    assert "InterpolationKeyError" in composition.interpolations["b"].error


def test_the_groups_file_takes_part_and_is_named():
    bundle = project(
        "defaults:\n  - run: ???\n  - _self_\nmode: full\nresults_dir: out\n", config__run__ours=RUN
    )
    composition = composed(bundle)
    assert composition.tree["run"]["training"] == {"epochs": 3}
    assert set(composition.sources) == {"config/config.yaml", "config/run/ours.yaml"}


def test_a_yaml_bomb_ends_the_child_and_the_next_request_has_a_fresh_one():
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    bundle = project(config__bomb="\n".join(lines))
    with Composer(bundle, Child(timeout=1.0)) as composer:
        start = time.monotonic()
        bomb = composer.compose(Request("config", "bomb"))
        assert bomb.error.kind in ("Timeout", "Memory")
        assert time.monotonic() - start < 20
        assert composer.compose(Request("config", "config")).error is None


def test_a_config_that_needs_more_memory_than_there_is_says_so():
    bundle = project(config__large=f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 350)}]\n")
    with Composer(bundle, Child(timeout=60, memory=200 << 20)) as composer:
        assert composer.compose(Request("config", "large")).error.kind == "Memory"
        assert composer.compose(Request("config", "config")).error is None


def test_the_child_sees_no_environment_and_no_folder_beside_the_bundle(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    bundle = project(CONFIG + "key: ${oc.env:WANDB_API_KEY,none}\n")
    with Composer(bundle, CHILD) as composer:
        composition = composer.compose(Request("config", "config"))
        assert composition.interpolations["key"].value == "none"
        outside = composer.compose(Request("../../config", "config"))
        assert "'../../config' exists and readable" in outside.error.message


def test_a_child_that_cannot_start_is_our_failure(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Composer(project()) as composer, pytest.raises(ComposerError, match="did not start"):
        composer.compose(Request("config", "config"))


def test_one_request_is_composed_once_and_train_shares_it_with_main():
    with Composer(project(), CHILD) as composer:
        main = composer.compose(Request("config", "config", ("mode=full",), job="main"))
        train = composer.compose(Request("config", "config", ("mode=full",), job="train"))
        assert train.tree is main.tree
        assert train.request.job == "train"


def test_what_is_composed_ahead_is_there_when_it_is_asked_for(monkeypatch):
    requests = [Request("config", "config", (f"mode={mode}",)) for mode in ("full", "trial")]
    with Composer(project(), CHILD) as composer:
        composer.ahead(requests)
        composer._aside.join()
        monkeypatch.setattr(composer, "_ask", None)
        assert [composer.compose(request).error for request in requests] == [None, None]


def test_closing_ends_what_is_composed_ahead_and_a_later_request_starts_afresh():
    requests = [Request("config", "config", (f"key{number}=1",)) for number in range(50)]
    composer = Composer(project())
    composer.ahead(requests)
    composer.close()
    assert composer.child._process is None
    assert len(composer._known) < len(requests)
    with composer:
        assert composer.compose(Request("config", "config", ("mode=full",))).error is None


def main_of(text):
    found = entry_points(Bundle.from_files({"src/main.py": text, "config/config.yaml": ""}))
    return found["src.main"]


@pytest.mark.parametrize(
    ("text", "config_dir", "name", "base"),
    [
        (
            "import hydra\n@hydra.main('../config', 'config')\ndef main(cfg): ...\nmain()",
            "config",
            "config",
            UNSET,
        ),
        (
            "import hydra as h\n@h.main(config_path=None, version_base=None)\ndef main(cfg): ...\nmain()",
            None,
            None,
            None,
        ),
        ("from hydra import main as go\n@go(version_base='1.2')\ndef f(cfg): ...\nf()", None, None, "1.2"),
        ("import hydra\n@hydra.main()\ndef main(cfg): ...\nmain()", "src", None, UNSET),
        (
            "import hydra\nWHERE = '../config'\nNAME = 'con' + 'fig'\n"
            "@hydra.main(WHERE, NAME, None)\ndef main(cfg): ...\nmain()",
            "config",
            "config",
            None,
        ),
        (
            "import hydra\nfrom pathlib import Path\nROOT = Path(__file__).resolve().parents[1]\n"
            "@hydra.main(config_path=str(ROOT / 'config'), config_name='c', version_base='1.3')\n"
            "def main(cfg): ...\nmain()",
            "config",
            "c",
            "1.3",
        ),
        (
            "import hydra, os\nHERE = os.path.dirname(os.path.abspath(__file__))\n"
            "def main(cfg): ...\nhydra.main(os.path.join(HERE, '..', 'config'), 'c')(main)()",
            "config",
            "c",
            UNSET,
        ),
    ],
)
def test_the_decorator_is_read_in_all_its_spellings(text, config_dir, name, base):
    main = main_of(text)
    assert (main.config_dir, main.config_name, main.version_base) == (config_dir, name, base)
    assert not main.dynamic
    assert main.started


def test_what_only_running_tells_makes_the_entry_point_dynamic():
    text = "import hydra, os\n@hydra.main(config_path=os.environ['CONF'])\ndef main(cfg): ...\nmain()\n"
    assert main_of(text).doubts == ("config_path is os.environ['CONF'], known only when the code runs",)
    text = "import hydra, sys\nsys.argv.append('a=1')\n@hydra.main('../config')\ndef main(cfg): ...\nmain()\n"
    assert main_of(text).doubts == ("line 2 changes sys.argv before Hydra reads it",)
    text = "import hydra\n@hydra.main('/etc')\ndef main(cfg): ...\nmain()\n"
    assert main_of(text).dynamic


def test_a_decorated_function_that_nothing_calls_is_not_started():
    assert not main_of("import hydra\n@hydra.main('../config')\ndef main(cfg): ...\n").started


def test_the_table_holds_every_run_in_every_mode_of_main_and_train():
    bundle = project(config__runs__theirs=RUN).with_file("src/train.py", MAIN.format(GIVEN))
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        cells = [(cell.module, cell.run_id, cell.mode) for cell in compositions]
        assert len(cells) == 8
        assert ("src.train", "theirs", "trial") in cells
        assert compositions.of("src.main", "theirs", "trial").tree["mode"] == "trial"
        assert compositions.reason is None


def test_without_hydra_the_table_is_empty_and_says_why():
    bundle = project().with_file("src/main.py", "print('hello')\n")
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        assert list(compositions) == []
        assert compositions.reason == "no function of src/main.py is decorated with hydra.main"


def test_runs_come_from_the_promise_where_the_configs_are_handed_over_apart():
    promise = Promise(runs=(PromisedRun("later", config=RUN), PromisedRun("../odd", config=RUN)))
    bundle = (
        project("defaults:\n  - runs: ours\n" + CONFIG).without("config/runs/ours.yaml").with_promise(promise)
    )
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        assert compositions.run_ids == ("later", "../odd")
        assert compositions.run_config("later")["training"] == {"epochs": 3}
        assert compositions.run_config("../odd") is None
        assert "promised" in compositions.note


def test_runs_in_the_other_folder_are_taken_with_a_note():
    bundle = project(config__run__theirs=RUN).without("config/runs/ours.yaml")
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        assert compositions.run_paths == {"theirs": "config/run/theirs.yaml"}
        assert "config/run " in compositions.note


def mended(bundle):
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        return compositions.mended("src.main", "ours", "trial")


def test_nothing_is_mended_where_hydra_composes():
    assert mended(project()) is None


def test_a_forgotten_config_name_is_mended_by_the_real_hydra():
    found = mended(project(main='config_path="../config"'))
    assert found.how == "as if Hydra were given config/config.yaml"
    assert found.tree["mode"] == "trial"


GROUP = "defaults:\n  - run: ???\n  - _self_\nmode: full\nresults_dir: out\nwandb: {mode: online}\n"


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("def train(cfg): return cfg.run.training.epochs", ("run", "training", "epochs")),
        ("def train(cfg):\n    r = cfg['run']\n    return r['training']", ("run", "training", "epochs")),
        ("def train(cfg): return cfg.training.epochs", ("training", "epochs")),
        ("def train(cfg): return cfg.training.epochs, cfg.run.split('-')", ("training", "epochs")),
        ("import wandb\ndef train(cfg): return wandb.run.summary, cfg.training", ("training", "epochs")),
    ],
)
def test_the_runs_file_is_mended_in_where_the_code_looks_for_it(code, where):
    found = mended(project(GROUP).with_file("src/train.py", code))
    value = found.tree
    for key in where:
        value = value[key]
    assert value == 3
    assert found.tree["wandb"] == {"mode": "online"}
    assert "config/runs/ours.yaml" in found.how


@pytest.mark.parametrize(
    ("header", "where"),
    [
        ("# @package _global_\n", ()),
        ("# the proposed run\n# @package _global_\n", ()),
        ("# @package study.run\n", ("study", "run")),
    ],
)
def test_a_run_file_goes_where_its_package_header_says(header, where):
    code = "def train(cfg): return cfg.run.training.epochs"
    bundle = project(GROUP, config__runs__ours=header + RUN).with_file("src/train.py", code)
    value = mended(bundle).tree
    for key in (*where, "training", "epochs"):
        value = value[key]
    assert value == 3


def test_the_words_of_a_process_win_over_the_files_of_its_mended_config():
    bundle = project(GROUP).with_file("src/train.py", "def train(cfg): return cfg.training.epochs")
    words = ("run=ours", "mode=trial", "training.epochs=1", "wandb.mode=disabled", "new.key=x")
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        tree = compositions.mended("src.main", "ours", "trial", words).tree
    assert tree["training"]["epochs"] == 1 and tree["wandb"]["mode"] == "disabled"
    assert tree["new"] == {"key": "x"}


def test_a_run_file_that_the_code_loads_itself_is_not_mended_in():
    code = (
        "from omegaconf import OmegaConf\ndef load(cfg): return OmegaConf.load(f'config/runs/{cfg.run}.yaml')"
    )
    found = mended(project(GROUP).with_file("src/train.py", code))
    assert found.tree["run"] == "ours"
    assert "training" not in found.tree
    assert "loads by itself" in found.how
