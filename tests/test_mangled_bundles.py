"""Mangled experiments: whatever happens to the files, reading and checking them never raises."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labgate.bundle import BrokenFileError, Bundle, UnreadableError, read

try:
    from labgate import contract, facts
    from labgate.compose import Child, Composer, Compositions
    from labgate.examine import examine
except ImportError:
    examine = None

# Small, and of every construct that checks care for, so that mangling reaches the code that reads them.
EXPERIMENT = {
    "pyproject.toml": (
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        '[project]\nname = "decay"\nversion = "0.1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["torch>=2.2", "hydra-core", "wandb", "optuna", "datasets"]\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["src"]\n'
    ),
    "config/config.yaml": (
        "defaults:\n  - _self_\nrun: null\nresults_dir: ./out\nmode: full\n"
        "wandb: &w\n  entity: lab\n  project: decay\n  mode: online\nkept: *w\n"
    ),
    "config/runs/proposed-decay.yaml": (
        "run_id: proposed-decay\nmethod: proposed\nmodel: {name: mlp, width: 64}\n"
        "dataset:\n  name: mnist\n  split: train\ntraining:\n  epochs: 3\n  lr: 1e-3\n"
        "optuna:\n  n_trials: 4\n  search_space:\n    lr: {type: loguniform, low: 1e-4, high: 1e-2}\n"
    ),
    "config/runs/comparative-1-decay.yaml": (
        "run_id: comparative-1-decay\nmethod: plain\nmodel: {name: mlp, width: 64}\n"
        "dataset: {name: mnist, split: train}\ntraining: {epochs: 3, lr: 0.001}\noptuna: {n_trials: 0}\n"
    ),
    "src/main.py": (
        "import subprocess\nimport sys\n\nimport hydra\nfrom omegaconf import DictConfig, OmegaConf\n\n\n"
        '@hydra.main(version_base=None, config_path="../config", config_name="config")\n'
        "def main(cfg: DictConfig) -> None:\n    OmegaConf.set_struct(cfg, False)\n"
        '    run = OmegaConf.load(f"config/runs/{cfg.run}.yaml")\n    cfg = OmegaConf.merge(cfg, run)\n'
        '    if cfg.mode == "trial":\n        cfg.wandb.mode = "disabled"\n        cfg.training.epochs = 1\n'
        '    words = [sys.executable, "-m", "src.train", f"run={cfg.run}", f"mode={cfg.mode}"]\n'
        '    subprocess.run(words, check=True)\n\n\nif __name__ == "__main__":\n    main()\n'
    ),
    "src/train.py": (
        "import hydra\nimport optuna\nimport torch\nimport wandb\n"
        "from omegaconf import OmegaConf, open_dict\n\n"
        "from src.model import build\nfrom src.preprocess import loaders\n\n\n"
        "def objective(trial, cfg):\n    for key, space in cfg.optuna.search_space.items():\n"
        '        cfg.training[key] = trial.suggest_float(key, space["low"], space.get("high", 1.0))\n'
        "    return fit(cfg, log=False)\n\n\n"
        "def fit(cfg, log=True):\n    model = build(cfg.model)\n    train, test = loaders(cfg.dataset)\n"
        "    for epoch in range(cfg.training.epochs):\n        for step, (x, y) in enumerate(train):\n"
        '            if cfg.mode == "trial" and step > 1:\n                break\n'
        "            loss = torch.nn.functional.cross_entropy(model(x), y)\n            loss.backward()\n"
        "            if log:\n                wandb.log("
        '{"train/loss": loss.item(), f"epoch_{epoch}": step})\n'
        '    return getattr(model, "best", 0.0)\n\n\n'
        '@hydra.main(version_base=None, config_path="../config", config_name="config")\n'
        "def main(cfg):\n    with open_dict(cfg):\n        cfg.seed = cfg.get('seed', 1)\n"
        "    if cfg.optuna.n_trials:\n        study = optuna.create_study()\n"
        "        study.optimize(lambda trial: objective(trial, cfg), n_trials=cfg.optuna.n_trials)\n"
        "    wandb.init(project=cfg.wandb.project, id=cfg.run, config=OmegaConf.to_container(cfg))\n"
        '    wandb.summary["best"] = fit(cfg)\n\n\nif __name__ == "__main__":\n    main()\n'
    ),
    "src/model.py": (
        "import torch.nn as nn\n\n\nclass Decay(nn.Module):\n    def __init__(self, width: int) -> None:\n"
        "        super().__init__()\n        self.net = nn.Linear(784, width)\n\n"
        "    def forward(self, x):\n        return self.net(x.flatten(1))\n\n\n"
        "def build(cfg):\n    return Decay(cfg.width)\n"
    ),
    "src/preprocess.py": (
        "from datasets import load_dataset\n\n\ndef loaders(cfg):\n"
        "    try:\n        data = load_dataset(cfg.name, cache_dir='.cache/')\n"
        "    except Exception as error:\n        raise RuntimeError(cfg.name) from error\n"
        "    return data[cfg.split], data['test']\n"
    ),
    "src/evaluate.py": (
        "import json\nimport sys\nfrom pathlib import Path\n\nimport matplotlib.pyplot as plt\n"
        "import wandb\n\n\ndef main():\n    args = dict(word.split('=', 1) for word in sys.argv[1:])\n"
        "    for run_id in json.loads(args['run_ids']):\n"
        "        run = wandb.Api().run(f'lab/decay/{run_id}')\n        history = run.history()\n"
        "        plt.plot(history['train/loss'])\n        out = Path(args['results_dir']) / run_id\n"
        "        plt.savefig(out / f'{run_id}_loss.pdf')\n"
        "        (out / 'metrics.json').write_text(json.dumps(run.summary._json_dict))\n\n\nmain()\n"
    ),
    ".research/research_history.json": json.dumps(
        {
            "research_session": {
                "hypothesis": {"method": "decay"},
                "iterations": [{"method": "decay", "experiment_runs": [{"run_id": "proposed-decay"}]}],
            }
        }
    ),
}

ODD = [
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\ufeff".encode(),
    "\u2028\x0c\x85".encode(),
    "ｘ = ＂".encode(),
    "\U0001f9ea\u202e".encode(),
    b"\r",
    b"\t",
    b"(" * 300,
    b"[" * 3000,
    b"- " * 500,
    b"-" * 5000,
    b"a" + b".b" * 500,
    b"x" * 100_000,
    b"&a [*a]",
    b"<<: *w",
    b"${run}",
    b"${oc.env:HOME}",
    b"!!python/object:x {}",
    b"\\",
    b'"""',
    b"f'{x!r:{y}}'",
    b"async def f(): yield",
    b"match x:\n    case {**rest}: pass\n",
    b"global x; nonlocal y; return; del f()",
    b"from . import *\nfrom src.train import *\n",
    b"def main(*, a, b=lambda: main()): return main(*a, **b)\n",
    b"1" * 5000,
    b"0x" + b"f" * 5000,
    b"1e999999",
    b"=" * 20,
]


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, bytes]:
    """The experiment after one to four misfortunes; in most, the configs come to no harm."""
    files = {path: text.encode() for path, text in EXPERIMENT.items()}
    spared = draw(st.sampled_from(("config/", "config/", "config/", "src/", "nothing")))
    for _ in range(draw(st.integers(1, 4))):
        within = sorted(path for path in files if not path.startswith(spared))
        if not within:
            break
        path = draw(st.sampled_from(within))
        data = files[path]
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 200)))
        match draw(
            st.sampled_from(("flip", "cut", "twice", "lose", "insert", "swap", "lines", "words", "move"))
        ):
            case "flip":
                files[path] = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
            case "cut":
                files[path] = data[:at]
            case "twice":
                files[path] = data[:to] + data[at:to] * draw(st.integers(1, 60)) + data[to:]
            case "lose":
                del files[path]
            case "insert":
                piece = draw(
                    st.sampled_from(ODD) | st.text(max_size=20).map(lambda t: t.encode("utf-8", "replace"))
                )
                files[path] = data[:at] + piece + data[at:]
            case "swap":
                other = draw(st.sampled_from(within))
                files[path], files[other] = files[other], data
            case "lines":
                lines = data.splitlines(keepends=True)
                files[path] = b"".join(draw(st.permutations(lines[:12]))) + b"".join(lines[12:])
            case "words":
                words = data.split(b" ")
                drop = draw(st.integers(0, max(0, len(words) - 1)))
                files[path] = b" ".join(words[:drop] + words[drop + draw(st.integers(1, 5)) :])
            case "move":
                name = draw(
                    st.sampled_from(("src/__init__.py", "config/run/x.yaml", "src/a b.py", "setup.py", "x"))
                )
                files[name] = files.pop(path)
    return files


@pytest.fixture(scope="module")
def one_child():
    """Composing is what takes the time: one child does it for all, and once for the same configs."""
    if examine is None:
        yield
        return
    kept: dict[frozenset[tuple[str, bytes]], Composer] = {}

    def forget() -> None:
        for composer in kept.values():
            composer.close()
        kept.clear()

    with Child() as child, pytest.MonkeyPatch.context() as patch, ExitStack() as leaving:
        leaving.callback(forget)

        def compositions(asked: facts.Facts) -> Compositions:
            made = Compositions(asked.bundle, asked.contract, child)
            # The child sees YAML files, and by their folders that others exist.
            seen = frozenset(
                (path, file.data if path.endswith((".yaml", ".yml")) else b"")
                for path, file in made.bundle.files.items()
            )
            if len(kept) > 50 and seen not in kept:
                forget()
            made.composer = kept.setdefault(seen, made.composer)
            return made

        patch.setitem(facts._MAKERS, "compositions", compositions)
        yield


def examine_quietly(bundle: Bundle) -> None:
    """Everything that labgate does with a bundle by reading; findings of any kind are fine."""
    assert bundle.digest
    for path in bundle.files:
        for parse in (bundle.yaml, bundle.toml):
            try:
                parse(path)
            except BrokenFileError as error:
                assert error.says and "\n" not in error.says and error.line >= 0
        bundle.key_line(path, "project", "name")
        bundle.place(path, 3)
    for source in bundle.sources.values():
        assert (source.tree is None) == bool(source.error)
        for node in source.nodes:
            source.segment(node) if len(source.text) < 2000 and hasattr(node, "lineno") else None
    assert bundle.promise is None or bundle.promise.origin
    if examine is not None:
        found = examine(bundle, contract.load(contract.DEFAULT), resolve=False)
        broken = [f for f in found.findings if f.outcome == "error"]
        assert not broken, "\n".join(f"{f.check}: {f.says} {' '.join(map(str, f.evidence))}" for f in broken)


@given(files=mangled())
@pytest.mark.usefixtures("one_child")
def test_a_mangled_experiment_is_examined_without_a_crash(files):
    examine_quietly(Bundle.from_files(files))


@given(mangled())
def test_a_mangled_folder_is_read_as_its_files_are(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("mangled")
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    try:
        bundle = read(root)
    except UnreadableError as error:
        assert "\n" not in str(error)
        return
    for path, data in files.items():
        if path not in ("x",):
            assert bundle.files[path].data == data


@given(mangled(), st.data())
def test_mangled_json_and_logs_are_read_or_refused(tmp_path_factory, files, data):
    """The same misfortunes as JSON and as a log, and then some more to the document itself."""
    texts = {path: content.decode("utf-8", "surrogateescape") for path, content in files.items()}
    body = json.dumps({"files": texts}).encode()
    if data.draw(st.booleans()):
        body = b"Input:\n# Experiment Runs\n- Run ID: a\n  ```yaml\n  x: 1\n  ```\n" + body + b"\nOutput:\n{}"
    at = data.draw(st.integers(0, len(body)))
    body = (
        body[:at] + data.draw(st.sampled_from([b"", b"}", *ODD])) + body[at + data.draw(st.integers(0, 3)) :]
    )
    document: Path = tmp_path_factory.mktemp("mangled") / "document"
    document.write_bytes(body)
    try:
        read(document)
    except UnreadableError as error:
        assert "\n" not in str(error)


def test_reading_a_mangled_experiment_says_nothing_on_stderr(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("x = '\\d' is 3\nassert (1, 'always')\n" + "y = (\n")
    script = f"from labgate.bundle import read\nread({str(tmp_path)!r}).sources['src/train.py'].tree"
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_experiment_that_is_mangled_reads_well_when_it_is_not():
    bundle = Bundle.from_files(EXPERIMENT)
    assert not [file.path for file in bundle.files.values() if file.problem]
    assert not [source.path for source in bundle.sources.values() if source.error]
    assert bundle.promise is not None and set(bundle.run_configs()) == {
        "proposed-decay",
        "comparative-1-decay",
    }
