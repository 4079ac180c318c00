"""A model and a data set small enough for a test, in folders that the study's commands take for the hub's."""

import json
import random
from pathlib import Path

import pandas as pd
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM, set_seed

GOOD, BAD, REST = ["fine", "bright", "warm"], ["dull", "poor", "cold"], [f"w{i}" for i in range(40)]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def make_model(folder: Path, layers: int = 2, width: int = 16) -> Path:
    """RoBERTa of real module names, with weights of a fixed seed."""
    words = [*SPECIAL, *GOOD, *BAD, *REST]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        cls_token="<s>",
        sep_token="</s>",
    ).save_pretrained(folder)
    set_seed(1)
    RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=40,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            type_vocab_size=1,
            initializer_range=0.3,  # else all sentences look alike, and nothing is learnt
        )
    ).save_pretrained(folder)
    return folder


def make_data(folder: Path, train: int = 96, validation: int = 48, column: str = "sentence") -> Path:
    """Both of GLUE's configs, alike: the label says whether the sentence holds a good word or a bad one."""
    random_ = random.Random(3)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("validation", validation)):
        labels = [i % 2 for i in range(count)]
        texts = []
        for label in labels:
            words = random_.choices(REST, k=random_.randint(2, 6))
            words.insert(random_.randrange(len(words)), random_.choice((BAD, GOOD)[label]))
            texts.append(" ".join(words))
        pd.DataFrame({column: texts, "label": labels, "idx": range(count)}).to_parquet(
            folder / f"{split}.parquet"
        )
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": f"{split}.parquet"} for split in ("train", "validation")],
        }
        for name in ("sst2", "cola")
    ]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    return folder
