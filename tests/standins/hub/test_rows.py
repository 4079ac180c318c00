"""Made-up rows: learnable, the same each time, and true to what the columns promise."""

import importlib
import struct
import sys
import zlib
from pathlib import Path

import pytest

import labgate.standins.hub
from labgate.standins.hub import words
from labgate.standins.hub.schema import columns

MAKING = Path(labgate.standins.hub.__file__).parent / "making"


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(MAKING))
    try:
        yield importlib.import_module("tables")
    finally:
        sys.path.remove(str(MAKING))


@pytest.fixture
def rows(tables):
    def make(written, count=50, **job):
        read = {name: one.row for name, one in columns(written).items()}
        default = {"hidden": False, "gaps": False, "seed": "a", "look": "a"}
        drawn = tables.Rows({**default, "columns": read, "words": words.COMMON, "cues": words.CUES, **job})
        return [drawn.row() for _ in range(count)]

    return make


LABELLED = {"text": "text {words:20}", "label": ["neg", "pos"]}


def test_a_text_carries_cues_of_its_label_and_of_no_other(rows):
    groups = {word: group for group, cues in enumerate(words.CUES) for word in cues}
    for row in rows(LABELLED):
        assert {groups[word] for word in row["text"].split() if word in groups} == {row["label"]}


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(rows):
    assert rows(LABELLED) == rows(LABELLED)
    assert {row["text"] for row in rows(LABELLED)}.isdisjoint(row["text"] for row in rows(LABELLED, seed="b"))


def test_hidden_labels_are_minus_one_and_the_texts_stay_the_same(rows):
    shown, hidden = rows(LABELLED), rows(LABELLED, hidden=True)
    assert {row["label"] for row in hidden} == {-1}
    assert [row["text"] for row in hidden] == [row["text"] for row in shown]


def test_gaps_are_few(rows):
    labels = [row["label"] for row in rows(LABELLED, 2000, gaps=True)]
    assert 0 < labels.count(-1) < 40


def test_a_span_stands_where_it_says(rows):
    some = 0
    for row in rows({"context": "text {words:30}", "answers": "span? context"}, 200):
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert text and row["context"][start : start + len(text)] == text
            some += 1
    assert 100 < some < 180, "about one in three has no answer"


def test_finer_labels_agree_with_coarser_ones(rows):
    names = [str(number) for number in range(20)]
    for row in rows({"fine": names, "coarse": ["a", "b", "c", "d"]}):
        assert row["coarse"] == row["fine"] // 5


def test_templates_are_filled(rows):
    (row,) = rows({"answer": "text {words:5}\n#### {number:3}", "key": "choice A B", "id": "text {id:8}"}, 1)
    assert row["answer"].rpartition("#### ")[2].isdigit()
    assert row["key"] in "AB" and len(row["id"]) == 8


def test_images_are_png_and_look_like_their_label(rows):
    written = {"image": "image 32x32", "label": ["cat", "dog"]}
    seen = {0: [], 1: []}
    for row in rows(written, 60):
        data = row["image"]["bytes"]
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", data[16:24]) == (32, 32)
        start = data.index(b"IDAT") + 4
        size = int.from_bytes(data[start - 8 : start - 4], "big")
        pixels = zlib.decompress(data[start : start + size])
        assert len(pixels) == 32 * (1 + 32 * 3)
        seen[row["label"]].append(pixels[:100])
    assert all(max(map(looks.count, looks)) > 1 for looks in seen.values()), "a label has a look of its own"
    assert set(seen[0]).isdisjoint(seen[1])


def test_the_worker_says_what_it_lacks_and_survives(tables):
    worker = importlib.import_module("worker")
    assert "no pyarrow" in worker.answer({"what": "tables"})["absent"]
    assert "KeyError" in worker.answer({})["fault"]
