"""Unmodified transformers, datasets, evaluate, huggingface_hub and PEFT against the hub, new and old."""

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from clients import GENERATIONS, hub

from labgate.standins.hub import Hub
from labgate.standins.hub.builder import Builder
from labgate.standins.hub.catalogue import load
from labgate.standins.hub.store import Store
from labgate.standins.hub.twin import MARK, DatasetTwin, ModelTwin

pytestmark = pytest.mark.clients
SCRIPTS = Path(__file__).parent / "clients"
KNOWN = load()


@pytest.fixture(scope="module", params=GENERATIONS)
def lab(request, tmp_path_factory):
    """A hub, and a way to run a script of ours in an environment of that generation against it."""
    return Lab(request.param, tmp_path_factory.mktemp(request.param))


class Lab:
    def __init__(self, generation, folder):
        self.generation, self.folder = generation, folder
        self.python = hub(generation)
        self.store = folder / "store"

    def run(self, script, *arguments, stdin=""):
        """What the script printed as results, and the exchanges that it took."""
        with Hub(self.store, [str(self.python)]) as hub:
            home = self.folder / f"home-{len(list(self.folder.iterdir()))}"
            home.mkdir()
            done = subprocess.run(
                [self.python, SCRIPTS / f"{script}.py", *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=500,
                cwd=home,
                env={"PATH": os.environ["PATH"], "HOME": str(home), "HF_HOME": str(home / "hf"), **hub.env()},
            )
            assert done.returncode == 0, done.stderr[-3000:]
            lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            return [json.loads(line) for line in lines], list(hub.ledger)


TEXT = ("roberta-base", "bert-base-uncased", "distilbert-base-uncased", "microsoft/deberta-v3-small")
CAUSAL = ("gpt2", "Qwen/Qwen2.5-0.5B", "facebook/opt-350m", "EleutherAI/pythia-70m")
CAUSAL += ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "meta-llama/Llama-3.2-1B")
SEQ2SEQ = ("t5-small", "google/flan-t5-large", "facebook/bart-base")
IMAGE = ("google/vit-base-patch16-224", "microsoft/resnet-50", "microsoft/resnet-18")
IMAGE += ("facebook/convnext-tiny-224", "microsoft/swin-tiny-patch4-window7-224")
DATA = ("nyu-mll/glue|sst2", "nyu-mll/glue|cola", "nyu-mll/glue|mrpc", "aps/super_glue|record")
DATA += (
    "stanfordnlp/imdb|",
    "openai/gsm8k|main",
    "uoft-cs/cifar10|",
    "Salesforce/wikitext|wikitext-2-raw-v1",
)
DATA += (
    "rajpurkar/squad|",
    "allenai/ai2_arc|ARC-Easy",
    "wmt/wmt16|ro-en",
    "ufldl-stanford/svhn|full_numbers",
)
BARE = ("glue|sst2", "imdb|", "gsm8k|main", "cifar10|", "wikitext|wikitext-2-raw-v1")


def test_models_and_tokenizers_load(lab):
    """Under short and full ids, in the class and with the length and the special ids of the real one."""
    tokenized = [*TEXT, *CAUSAL, *SEQ2SEQ, "albert-base-v2", "xlm-roberta-base", "FacebookAI/roberta-base"]
    asked = [f"tokenizer|{name}" for name in tokenized]
    for task, names in (("classify", TEXT), ("causal", CAUSAL), ("seq2seq", SEQ2SEQ), ("image", IMAGE)):
        asked += [f"model|{name}|{task}" for name in names]
    results, ledger = lab.run("load", *asked)
    assert [result[0] for result in results] == asked
    assert not [(name, answer["error"]) for name, answer in results if "error" in answer]
    for name, answer in results:
        kind, id, *_ = name.split("|")
        real = KNOWN.model(id)
        if kind == "model":
            assert answer["twin_of"] == real.id
            continue
        assert answer["length"] == real.tokenizer.length and answer["back"] == "the good dog balax", answer
        kind = answer["class"].removesuffix("Fast")
        # Since its version 5 transformers reads BART's vocabulary with RoBERTa's class, whose it is.
        assert real.tokenizer.config["tokenizer_class"] in (kind, "BartTokenizer", "PreTrainedTokenizerFast")
        roles = {real.tokenizer.specials[token] for token in real.tokenizer.roles.values()}
        assert roles <= set(answer["specials"].values()), id
    assert not [str(exchange) for exchange in ledger if not exchange.answered]


def test_data_sets_load(lab):
    """All rows, label names and types of the real ones; bare ids where that release knows them."""
    names = [*DATA, *(BARE if lab.generation != "newest" else ())]
    results, ledger = lab.run("load", *(f"dataset|{name}" for name in names), "stream|rajpurkar/squad|")
    assert not [(name, answer["error"]) for name, answer in results if "error" in answer]
    found = {name.removeprefix("dataset|"): answer for name, answer in results}
    assert found["nyu-mll/glue|sst2"]["rows"] == {"train": 67349, "validation": 872, "test": 1821}
    assert found["nyu-mll/glue|cola"]["names"] == {"label": ["unacceptable", "acceptable"]}
    assert found["uoft-cs/cifar10|"]["row"] == {"img": "PngImageFile", "label": "int"}
    assert found["uoft-cs/cifar10|"]["rows"] == {"train": 50000, "test": 10000}
    assert found["openai/gsm8k|main"]["row"] == {"question": "str", "answer": "str"}
    assert found["wmt/wmt16|ro-en"]["row"] == {"translation": "dict"}
    assert found["stream|rajpurkar/squad|"]["columns"] == ["answers", "context", "id", "question", "title"]
    if lab.generation != "newest":
        assert found["glue|sst2"] == found["nyu-mll/glue|sst2"]
    assert not [str(exchange) for exchange in ledger if not exchange.answered]


def test_metrics_load_and_compute(lab):
    names = ("accuracy|", "matthews_correlation|", "glue|sst2", "glue|cola", "glue|mrpc", "f1|", "precision|")
    names += ("recall|", "mse|", "pearsonr|", "confusion_matrix|")
    results, ledger = lab.run("load", *(f"metric|{name}" for name in names), "metric|vibes|")
    found = {name.removeprefix("metric|"): answer for name, answer in results}
    assert found["accuracy|"] == found["glue|sst2"] == {"accuracy": 0.8}
    correlation = pytest.approx(2 / 3)
    assert found["matthews_correlation|"]["matthews_correlation"] == correlation
    assert found["glue|cola"]["matthews_correlation"] == correlation
    assert found["f1|"]["f1"] == pytest.approx(0.8) == found["glue|mrpc"]["f1"]
    assert (found["precision|"]["precision"], found["recall|"]["recall"]) == (pytest.approx(2 / 3), 1.0)
    assert found["mse|"]["mse"] == pytest.approx(0.2)
    assert "error" in found["vibes|"]
    (unknown,) = {exchange.note for exchange in ledger if not exchange.answered}
    assert "metric vibes" in unknown


def test_a_snapshot_carries_the_mark(lab):
    ((_, answer),), _ = lab.run("load", "snapshot|gpt2|*.json")
    assert answer["revision"].startswith(MARK)


LORA = {
    "roberta-base": ["query", "value"],
    "distilbert-base-uncased": ["q_lin", "v_lin"],
    "bert-base-uncased": ["query", "key", "value"],
    "gpt2": ["c_attn"],
    "Qwen/Qwen2.5-0.5B": ["q_proj", "v_proj", "gate_proj"],
    "facebook/opt-350m": ["q_proj", "v_proj"],
    "t5-small": ["q", "v"],
    "google/vit-base-patch16-224": "all-linear",  # its modules changed their names in transformers 5
    "microsoft/resnet-50": ["convolution"],
}


def test_lora_finds_the_same_modules_as_on_the_real_architecture(lab):
    asked = []
    for name, targets in LORA.items():
        real = KNOWN.model(name)
        asked.append([name, real.config["architectures"][0], dict(real.config), targets])
    results, _ = lab.run("names", stdin=json.dumps(asked))
    assert [name for name, _ in results] == list(LORA)
    for name, answer in results:
        assert not answer["differ"] and not answer["parameters differ"], (name, answer)
        assert answer["same"] and answer["adapted"] > 0 and answer["smaller"], (name, answer)
    if lab.generation == "newest":
        assert dict(results)["roberta-base"]["adapted"] == 12 * 2 * 2


@pytest.mark.parametrize(
    "model, data, column, rate",
    [
        ("distilbert-base-uncased", ("nyu-mll/glue", "sst2"), "sentence", "5e-5"),
        ("roberta-base", ("fancyzhx/ag_news", ""), "text", "1e-4"),
    ],
)
def test_48_steps_learn_and_without_the_optimizers_step_they_do_not(lab, model, data, column, rate):
    (*free, frozen), _ = lab.run("learn", model, *data, column, rate, "1", "2", "3")
    drops = [run["first"] - run["last"] for run in free]
    assert min(drops) > 0.015, free
    assert sum(run["after"] - run["before"] for run in free) / 3 > 0.15, free
    assert frozen["after"] == frozen["before"] == free[0]["before"]
    assert abs(frozen["first"] - frozen["last"]) < min(drops) / 2, frozen


def test_a_twin_is_made_of_the_same_bytes_again(lab, tmp_path):
    """In another store, by another process: same id, same bytes."""
    names = ("distilbert-base-uncased", "gpt2", "microsoft/resnet-18")
    twins = [*(ModelTwin(KNOWN.model(name)) for name in names), DatasetTwin(KNOWN.dataset("rotten_tomatoes"))]
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        with closing(Builder([str(lab.python)])) as builder:
            store = Store(folder, builder)
            made = [store.repository(twin) for twin in twins]
            digests.append({(one.id, name): one.file(name).digest for one in made for name in one.names()})
    assert digests[0] == digests[1] and any("safetensors" in name for _, name in digests[0])
