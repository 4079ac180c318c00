"""The catalogue: every entry can be made, and says what the real one says."""

import json
import re

import pytest

from labgate.standins.hub import catalogue, tokenizer, twin, words
from labgate.standins.hub.catalogue import CatalogueError, load
from labgate.standins.hub.narrow import narrow
from labgate.standins.hub.schema import SchemaError, column, columns

KNOWN = load()


def test_it_covers_what_experiments_ask_for():
    assert len(KNOWN.models) >= 40 and len(KNOWN.datasets) >= 30
    kinds = {model.architecture for model in KNOWN.models.values()}
    assert {"RobertaForMaskedLM", "GPT2Model", "T5ForConditionalGeneration", "ViTModel"} <= kinds


def test_every_entry_says_where_its_facts_come_from():
    for entry in (*KNOWN.models.values(), *KNOWN.datasets.values()):
        assert len(entry.source) > 10, entry.id
        assert not re.search(r"://|(^|\s)/\w", entry.source), f"{entry.id} names a place, not a document"


@pytest.mark.parametrize(
    "short, full", [("roberta-base", "FacebookAI/roberta-base"), ("GPT2", "openai-community/gpt2")]
)
def test_models_are_found_under_all_their_names(short, full):
    assert KNOWN.model(short) is KNOWN.model(full) is KNOWN.models[full]


def test_data_sets_are_found_under_all_their_names():
    assert KNOWN.dataset("glue") is KNOWN.datasets["nyu-mll/glue"]
    assert KNOWN.dataset("no-such/thing") is None


@pytest.mark.parametrize("name", KNOWN.models)
def test_a_narrow_config_changes_widths_alone(name):
    config = KNOWN.models[name].config
    small = narrow(config)
    assert set(small) == set(config)
    for key in ("num_hidden_layers", "n_layer", "depths", "vocab_size", "num_labels", "architectures"):
        assert small.get(key) == config.get(key)
    heads = next((small[k] for k in ("num_attention_heads", "n_head", "n_heads") if k in small), None)
    width = next((small[k] for k in ("hidden_size", "n_embd", "dim") if k in small), None)
    if heads and width:
        assert width % heads == 0


def test_what_is_grouped_stays_grouped():
    small = narrow({"hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2})
    assert 1 <= small["num_key_value_heads"] < small["num_attention_heads"]
    small = narrow({"hidden_size": 768, "num_attention_heads": 12, "num_key_value_heads": 12})
    assert small["num_key_value_heads"] == small["num_attention_heads"]


def test_what_projects_still_projects():
    assert narrow({"hidden_size": 256, "embedding_size": 128})["embedding_size"] < 32
    assert narrow({"hidden_size": 768, "embedding_size": 768})["embedding_size"] == 32
    for first in (64, 256):  # ResNet: its first stage projects where it is wider than what comes before
        small = narrow({"embedding_size": 64, "hidden_sizes": [first, first * 2]})
        assert (small["embedding_size"] == small["hidden_sizes"][0]) == (first == 64)


RECIPES = {
    str(model.tokenizer.config["tokenizer_class"]) + str(model.tokenizer.length): model.tokenizer
    for model in KNOWN.models.values()
    if model.tokenizer is not None
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_vocabulary_has_the_real_length_and_the_real_special_ids(name):
    recipe = RECIPES[name]
    known = tokenizer.vocabulary(recipe)
    assert len(known) == recipe.length
    assert sorted(known.values()) == list(range(recipe.length))
    assert all(known[token] == number for token, number in recipe.specials.items())
    assert set(recipe.roles.values()) <= set(recipe.specials)
    for word in words.ALL:
        assert tokenizer.word_id(recipe, known, word) not in recipe.specials.values()


def test_a_vocabulary_that_is_too_short_is_refused():
    recipe = tokenizer.TokenizerRecipe("wordpiece", 100, {"[UNK]": 0}, {"unk": "[UNK]"}, {})
    with pytest.raises(ValueError, match="cannot hold"):
        tokenizer.vocabulary(recipe)


@pytest.mark.parametrize("name", KNOWN.datasets)
def test_a_data_sets_card_matches_its_tables(name):
    made = twin.DatasetTwin(KNOWN.datasets[name])
    front = json.loads(made.texts["README.md"].split("---\n")[1])
    paths = {file["path"] for config in front["configs"] for file in config["data_files"]}
    assert paths == set(made.jobs)
    for info, table in zip(front["dataset_info"], KNOWN.datasets[name].tables.values(), strict=True):
        assert [feature["name"] for feature in info["features"]] == list(table.columns)
        for split in info["splits"]:
            assert 0 < split["num_examples"] <= table.splits[split["name"]]


def test_real_row_counts_are_served():
    sst2 = KNOWN.dataset("glue").tables["sst2"]
    assert {split: twin.served(sst2, split) for split in sst2.splits} == {
        "train": 67349,
        "validation": 872,
        "test": 1821,
    }


def test_a_recipe_depends_on_all_that_decides_its_content():
    model = KNOWN.model("roberta-base")
    same = twin.ModelTwin(model).recipe
    assert twin.ModelTwin(model).recipe == same
    other = catalogue.model(
        model.id, {"config": {**model.config, "num_hidden_layers": 3}, "source": "test"}, {}
    )
    assert twin.ModelTwin(other).recipe != same


@pytest.mark.parametrize(
    "written",
    [
        "nonsense",
        "text {unknown}",
        "image 3x",
        {"sequence": "text"},
        {"struct": {}, "length": 1},
        "choice",
        3,
    ],
)
def test_a_column_that_means_nothing_is_refused(written):
    with pytest.raises(SchemaError):
        column(written)


def test_an_answer_must_stand_in_a_text():
    with pytest.raises(SchemaError, match="no text"):
        columns({"context": "int32", "answers": "span context"})


@pytest.mark.parametrize(
    "table",
    [
        {"config": {"model_type": "bert"}, "source": "x"},
        {"config": {"model_type": "bert", "architectures": ["B"]}},
        {"config": {"model_type": "bert", "architectures": ["B"]}, "source": "x", "colour": "red"},
        {"config": {"model_type": "bert", "architectures": ["B"]}, "source": "x", "tokenizer": "none"},
    ],
)
def test_a_model_that_says_too_little_or_too_much_is_refused(table):
    with pytest.raises(CatalogueError):
        catalogue.model("some/model", table, {})
