"""Ids outside the catalogue, looked up at a server that plays the real hub."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from asking import ask

from labgate.standins.hub import Hub, tokenizer
from labgate.standins.hub.catalogue import load
from labgate.standins.hub.lookup import Lookup, tokenizer_recipe

KNOWN = load()
BERT = KNOWN.model("bert-base-uncased")
CARD = """---
license: mit
dataset_info:
- config_name: easy
  features:
  - name: question
    dtype: string
  - name: options
    sequence: string
  - name: answer
    dtype:
      class_label:
        names:
          '0': a
          '1': b
  - name: picture
    dtype: image
  - name: score
    dtype: float64
  - name: meta
    struct:
    - name: page
      dtype: int64
  splits:
  - name: train
    num_bytes: 1
    num_examples: 77
---
# Real
"""


@pytest.fixture
def upstream():
    """A hub with one of each, and a list of what was asked of it."""
    asked = []
    files = {
        "/me/encoder/resolve/main/config.json": json.dumps({**BERT.config, "auto_map": {"AutoModel": "x.Y"}}),
        "/me/encoder/resolve/main/preprocessor_config.json": '{"size": 3}',
        "/me/code/resolve/main/config.json": '{"architectures": [], "model_type": "?"}',
        "/me/broken/resolve/main/config.json": "not json",
        "/datasets/me/quiz/resolve/main/README.md": CARD,
        "/datasets/me/sound/resolve/main/README.md": CARD.replace("image", "audio"),
        "/datasets/me/bare/resolve/main/README.md": "# nothing is said",
    }
    for name, text in tokenizer.files(BERT.tokenizer, {}).items():
        files[f"/me/encoder/resolve/main/{name}"] = text

    class Real(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = files.get(self.path)
            self.send_response(200 if found is not None else 404)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Real) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_model_is_looked_up_and_shrunk(upstream, tmp_path):
    address, asked = upstream
    with Hub(tmp_path, [sys.executable], upstream=address) as hub:
        status, _head, body, exchange = ask(hub, "GET", "/me/encoder/resolve/main/config.json")
        config = json.loads(body)
        assert status == 200 and exchange.answered
        assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 12)
        assert config["twin_of"] == "me/encoder" and "auto_map" not in config
        assert (
            ask(hub, "GET", "/me/encoder/resolve/main/preprocessor_config.json")[2] == b'{\n  "size": 3\n}\n'
        )
        assert ask(hub, "GET", "/me/encoder/resolve/main/tokenizer.json")[0] == 200
    assert not [path for path in asked if "safetensors" in path or ".bin" in path or "parquet" in path]
    before = len(asked)
    assert Lookup(address, tmp_path / "looked-up").model("me/encoder").config == dict(BERT.config.items())
    assert len(asked) == before, "what was looked up once is kept"


@pytest.mark.parametrize("name", ["me/nothing", "me/code", "me/broken", "../me", "me/encoder/x"])
def test_what_has_no_twin_is_not_verified(upstream, tmp_path, name):
    with Hub(tmp_path, [sys.executable], upstream=upstream[0]) as hub:
        status, _, _, exchange = ask(hub, "GET", f"/{name}/resolve/main/config.json")
        assert status == 404 and not exchange.answered and "not verified" in exchange.note


def test_a_data_set_is_looked_up_and_made_up(upstream, tmp_path):
    found = Lookup(upstream[0], tmp_path).dataset("me/quiz")
    table = found.tables["easy"]
    assert table.splits == {"train": 77}
    assert {name: one.row["is"] for name, one in table.columns.items()} == {
        "question": "text",
        "options": "list",
        "answer": "label",
        "picture": "image",
        "score": "grade",
        "meta": "struct",
    }
    assert Lookup(upstream[0], tmp_path).dataset("me/sound") is None
    assert Lookup(upstream[0], tmp_path).dataset("me/bare") is None


def test_an_upstream_that_is_away_is_no_failure(tmp_path):
    assert Lookup("http://127.0.0.1:9", tmp_path).model("me/encoder") is None


@pytest.mark.parametrize("name", ["roberta-base", "bert-base-cased", "gpt2", "t5-small", "Qwen/Qwen2.5-0.5B"])
def test_a_tokenizer_is_understood_from_its_files(name):
    """What we write of a recipe, read back, is that recipe: as far as the files tell."""
    recipe = KNOWN.model(name).tokenizer
    files = tokenizer.files(recipe, {})
    read = tokenizer_recipe(json.loads(files["tokenizer.json"]), json.loads(files["tokenizer_config.json"]))
    for what in ("kind", "length", "specials", "roles", "single", "pair", "lower", "rstrip"):
        assert getattr(read, what) == getattr(recipe, what), what
    assert set(read.plain) == set(recipe.plain)
