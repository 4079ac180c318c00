"""Criterion 3: what is fetched, what may fail, and what is batched."""

import pytest
from adapting import (
    MODEL_PY,
    PREPROCESS_PY,
    READY,
    RUNS,
    TRAIN_PY,
    asked,
    at,
    in_all_runs,
    lines,
    one_child,
    outcomes,
    passes,
    the_failure,
    versions,
)

from labgate.criteria import data
from labgate.finding import Impact, Outcome

CACHED = data.everything_fetched_is_cached_where_it_belongs
MET = data.failing_data_operations_are_met
TEXT = data.no_text_reaches_a_padding_collator
NAMED = data.data_set_ids_are_accepted
LOAD = "load_dataset(cfg.dataset.name, cache_dir="


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


@pytest.mark.parametrize("question", [CACHED, MET, TEXT, NAMED])
def test_an_experiment_in_order_passes_and_shows_where(question):
    assert passes(question, READY)


# The cache folder


def test_a_model_without_a_cache_folder_breaches_at_its_call():
    bundle = READY.edit(
        MODEL_PY, 'from_pretrained(cfg.model.name, cache_dir=".cache")', "from_pretrained(cfg.model.name)"
    )
    answer = the_failure(CACHED, bundle)
    assert answer.impact is Impact.BREACHES
    assert "`cache_dir`" in answer.says
    assert lines(answer) == [at(bundle, MODEL_PY, "from_pretrained")]


@pytest.mark.parametrize(
    "folder",
    ['"data"', '"~/.cache"', '"/tmp/.cache"', '".cached"', 'cfg.get("cache_dir")', 'f"data/{cfg.run}"'],
)
def test_another_folder_breaches(folder):
    bundle = READY.edit(PREPROCESS_PY, f'{LOAD}".cache/")', f"{LOAD}{folder})")
    assert the_failure(CACHED, bundle).impact is Impact.BREACHES


@pytest.mark.parametrize(
    "folder",
    [
        '".cache"',
        '"./.cache/data"',
        'str(Path(".cache") / "data")',
        'Path(__file__).resolve().parent.parent / ".cache"',
        'os.path.join(".cache", cfg.dataset.name)',
        'cfg.get("cache_dir", ".cache")',
    ],
)
def test_the_cache_folder_however_it_is_written_passes(folder):
    bundle = READY.edit(PREPROCESS_PY, f'{LOAD}".cache/")', f"{LOAD}{folder})")
    bundle = bundle.edit(
        PREPROCESS_PY, "from datasets", "import os\nfrom pathlib import Path\n\nfrom datasets"
    )
    assert passes(CACHED, bundle)


def test_a_folder_that_depends_on_the_machine_cannot_be_told():
    bundle = READY.edit(PREPROCESS_PY, f'{LOAD}".cache/")', f'{LOAD}os.environ["SCRATCH"])')
    bundle = bundle.edit(PREPROCESS_PY, "from datasets", "import os\n\nfrom datasets")
    assert outcomes(CACHED, bundle) == {Outcome.SKIP}


BARE = READY.edit(PREPROCESS_PY, f'{LOAD}".cache/")', "load_dataset(cfg.dataset.name)")


@pytest.mark.parametrize(
    "setting",
    [
        'os.environ["HF_HOME"] = ".cache"',
        'os.environ.setdefault("HF_DATASETS_CACHE", ".cache/data")',
        'os.environ.update(HF_HOME=".cache")',
    ],
)
def test_a_variable_that_is_set_before_the_library_is_imported_counts(setting):
    bundle = BARE.edit(TRAIN_PY, "import copy\n", f"import os\n\n{setting}\nimport copy\n")
    assert passes(CACHED, bundle)


def test_a_variable_that_main_sets_reaches_the_training():
    bundle = BARE.edit(
        "src/main.py", "    subprocess.run(", '    os.environ["HF_HOME"] = ".cache"\n    subprocess.run('
    ).edit("src/main.py", "import subprocess", "import os\nimport subprocess")
    assert passes(CACHED, bundle)


def test_a_variable_that_is_set_after_the_import_is_shown_to_be_too_late():
    late = '    os.environ["HF_HOME"] = ".cache"\n    loader, held_out = load_reviews(cfg)'
    bundle = BARE.edit(TRAIN_PY, "    loader, held_out = load_reviews(cfg)", late)
    bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\nimport os\n")
    answer = the_failure(CACHED, bundle)
    assert lines(answer) == [at(bundle, PREPROCESS_PY, "load_dataset(cfg"), at(bundle, TRAIN_PY, "HF_HOME")]


def test_a_model_from_a_folder_of_its_own_run_is_not_fetched():
    bundle = READY.edit(
        MODEL_PY, "    return model\n", "    return model\n\n\ndef again(path):\n    return None\n"
    )
    again = '    base.from_pretrained("./results/best")\n    return model\n'
    assert passes(CACHED, bundle.edit(MODEL_PY, "    return model\n\n\ndef again", f"{again}\n\ndef again"))


def test_a_metric_is_a_remark():
    bundle = READY.edit(TRAIN_PY, "    right, seen = 0, 0", '    evaluate.load("f1")\n    right, seen = 0, 0')
    bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\n\nimport evaluate\n")
    assert the_failure(CACHED, bundle).impact is Impact.REMARKS


def test_vision_data_are_asked_for_their_root():
    bundle = READY.edit(
        PREPROCESS_PY, "    collate = ", '    FashionMNIST("data", download=True)\n    collate = '
    ).edit(
        PREPROCESS_PY, "from torch.utils", "from torchvision.datasets import FashionMNIST\nfrom torch.utils"
    )
    assert "in data, not in .cache/" in the_failure(CACHED, bundle).says


def test_weights_that_are_not_asked_for_are_not_fetched():
    bundle = READY.edit(MODEL_PY, "    return model\n", "    resnet18(weights=None)\n    return model\n")
    assert passes(
        CACHED,
        bundle.edit(MODEL_PY, "import torch\n", "import torch\nfrom torchvision.models import resnet18\n"),
    )


# Errors


def test_no_handling_at_all_breaches_where_data_are_loaded():
    text = READY.text(PREPROCESS_PY)
    start, end = text.index("    try:"), text.index("    def encode")
    plain = f'    data = {LOAD}".cache/")\n\n'
    bundle = READY.with_file(PREPROCESS_PY, text[:start] + plain + text[end:])
    answer = the_failure(MET, bundle)
    assert answer.impact is Impact.BREACHES
    assert lines(answer) == [at(bundle, PREPROCESS_PY, "load_dataset(cfg")]
    for line in (
        '    assert "train" in data\n',
        '    if len(data) == 0:\n        raise ValueError("empty")\n',
    ):
        assert passes(MET, bundle.edit(PREPROCESS_PY, plain, plain + line))


def test_a_caller_that_catches_counts():
    text = READY.text(PREPROCESS_PY)
    start, end = text.index("    try:"), text.index("    def encode")
    bundle = READY.with_file(PREPROCESS_PY, f'{text[:start]}    data = {LOAD}".cache/")\n{text[end:]}')
    caught = (
        "    try:\n        loader, held_out = load_reviews(cfg)\n"
        '    except OSError as error:\n        raise SystemExit("no data") from error\n'
    )
    assert passes(MET, bundle.edit(TRAIN_PY, "    loader, held_out = load_reviews(cfg)\n", caught))


# Text for the collator

KEPT = READY.edit(PREPROCESS_PY, ', remove_columns=["text"])', ")")


def test_a_text_column_that_is_kept_blocks_and_tells_its_story():
    answer = the_failure(TEXT, KEPT)
    assert answer.impact is Impact.BLOCKS
    assert "'text'" in answer.says
    assert lines(answer) == [
        at(KEPT, PREPROCESS_PY, "data.map("),
        at(KEPT, PREPROCESS_PY, 'rows["text"]'),
        at(KEPT, PREPROCESS_PY, 'DataLoader(data["train"]'),
        at(KEPT, PREPROCESS_PY, 'DataLoader(data["validation"]'),
    ]


def test_a_filter_that_keeps_the_text_is_shown_first():
    bundle = READY.edit(
        PREPROCESS_PY,
        '    data = data.map(encode, batched=True, remove_columns=["text"])',
        '    useless = [c for c in data.column_names if c not in ("text", "label")]\n'
        "    data = data.map(encode, batched=True, remove_columns=useless)",
    )
    answer = the_failure(TEXT, bundle)
    assert lines(answer)[0] == at(bundle, PREPROCESS_PY, "useless = ")


@pytest.mark.parametrize(
    "after",
    [
        'data = data.remove_columns(["text"])',
        'data = data.select_columns(["input_ids", "attention_mask", "label"])',
        'data.set_format("torch", columns=["input_ids", "attention_mask", "label"])',
        'data = data.with_format("torch", columns=["input_ids", "label"])',
        'data = data.rename_column("label", "labels").remove_columns("text")',
    ],
)
def test_a_text_column_that_is_dropped_later_passes(after):
    assert passes(TEXT, KEPT.edit(PREPROCESS_PY, "    collate =", f"    {after}\n    collate ="))


def test_set_format_without_columns_drops_nothing():
    bundle = KEPT.edit(PREPROCESS_PY, "    collate =", '    data.set_format("torch")\n    collate =')
    assert the_failure(TEXT, bundle)


def test_the_default_collator_leaves_text_out():
    bundle = KEPT.edit(
        PREPROCESS_PY, "collate = DataCollatorWithPadding(tokenizer)", "collate = default_data_collator"
    )
    bundle = bundle.edit(
        PREPROCESS_PY, "AutoTokenizer, DataCollatorWithPadding", "AutoTokenizer, default_data_collator"
    )
    assert Outcome.FAIL not in outcomes(TEXT, bundle)


def test_columns_that_are_not_known_cannot_be_told():
    bundle = READY.edit(PREPROCESS_PY, 'remove_columns=["text"]', "remove_columns=chosen(data)")
    bundle = bundle.edit(
        PREPROCESS_PY, "def load_reviews", "from columns import chosen\n\n\ndef load_reviews"
    )
    assert outcomes(TEXT, bundle) == {Outcome.SKIP}


# Names of data sets

IMDB = in_all_runs("cornell-movie-review-data/rotten_tomatoes", "imdb")


def test_a_bare_name_blocks_where_the_resolved_hub_refuses_it():
    answer = the_failure(NAMED, IMDB, packages=versions(huggingface_hub="1.16.0"))
    assert answer.impact is Impact.BLOCKS
    assert lines(answer) == [
        at(IMDB, PREPROCESS_PY, "load_dataset(cfg"),
        *(at(IMDB, run, "imdb") for run in RUNS),
    ]


def test_a_bare_name_is_a_remark_where_the_resolved_hub_takes_it():
    assert the_failure(NAMED, IMDB, packages=versions(huggingface_hub="0.36.0")).impact is Impact.REMARKS


def test_a_bare_name_cannot_be_told_without_versions():
    (answer,) = asked(NAMED, IMDB)
    assert answer.outcome is Outcome.SKIP


def test_a_bare_name_of_a_model_is_none_of_this():
    bundle = in_all_runs("google-bert/bert-base-uncased", "bert-base-uncased")
    assert passes(NAMED, bundle, packages=versions(huggingface_hub="2.4.0"))
