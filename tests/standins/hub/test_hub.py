"""The hub over plain HTTP: what clients ask, and what is told to the ledger. No torch is needed here."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from asking import ask

from labgate.standins.hub import Hub
from labgate.standins.hub.builder import AbsentError, Builder, BuilderError
from labgate.standins.hub.catalogue import load
from labgate.standins.hub.store import Store
from labgate.standins.hub.twin import MARK, DatasetTwin, ModelTwin

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A folder such as a person has of a real model."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "config.json").write_text('{"model_type": "own"}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "x.txt").write_text("x")
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def hub(real, tmp_path_factory):
    maps = {"me/mine": real, "datasets/me/rows": real}
    with Hub(tmp_path_factory.mktemp("store"), [sys.executable], maps=maps) as standing:
        yield standing


def test_a_file_is_described_and_sent(hub):
    status, head, body, _ = ask(hub, "HEAD", "/me/mine/resolve/main/model.safetensors")
    assert (status, body, head["Content-Length"]) == (200, b"", str(len(WEIGHTS)))
    assert head["ETag"].strip('"') and len(head["X-Repo-Commit"]) == 40
    assert head["Accept-Ranges"] == "bytes"
    assert not [name for name in head if name.lower().startswith("x-xet")]
    status, got, body, exchange = ask(hub, "GET", "/me/mine/resolve/main/model.safetensors")
    assert (status, body, got["ETag"]) == (200, WEIGHTS, head["ETag"])
    assert exchange.answered and exchange.asked == "model.safetensors of me/mine"


def test_a_range_of_a_file_is_sent(hub):
    status, head, body, _ = ask(hub, "GET", "/me/mine/resolve/main/model.safetensors", Range="bytes=256-511")
    assert (status, body) == (206, bytes(range(256)))
    assert head["Content-Range"] == f"bytes 256-511/{len(WEIGHTS)}"


@pytest.mark.parametrize(
    "path",
    ["../secret.txt", "%2e%2e/secret.txt", "deep/../../secret.txt", "%2Fetc%2Fpasswd", "a%00b", "deep"],
)
def test_nothing_outside_a_repository_is_sent(hub, path):
    status, head, body, _ = ask(hub, "GET", f"/me/mine/resolve/main/{path}")
    assert status == 404 and b"root:" not in body and b"secret\n" not in body[:7]
    assert head["X-Error-Code"] == "EntryNotFound"


def test_a_config_of_a_twin_is_marked(hub):
    status, head, body, _ = ask(hub, "GET", "/roberta-base/resolve/main/config.json")
    config = json.loads(body)
    assert status == 200 and head["X-Repo-Commit"].startswith(MARK)
    assert config["twin_of"] == "FacebookAI/roberta-base"
    assert (config["num_hidden_layers"], config["vocab_size"], config["hidden_size"]) == (12, 50265, 32)


def test_short_and_full_ids_are_the_same_repository(hub):
    answers = [
        json.loads(ask(hub, "GET", f"/api/models/{name}")[2]) for name in ("gpt2", "openai-community/gpt2")
    ]
    assert answers[0] == answers[1] and answers[0]["id"] == "openai-community/gpt2"
    assert {"rfilename": "tokenizer.json"} in answers[0]["siblings"]


def test_what_the_experiments_libraries_lack_is_said_and_is_an_answer(hub):
    status, head, _, exchange = ask(hub, "GET", "/gpt2/resolve/main/model.safetensors")
    assert (status, head["X-Error-Code"]) == (404, "EntryNotFound")
    assert exchange.answered and "model.safetensors: the experiment's environment has no" in exchange.note


def test_an_unknown_id_is_not_verified(hub):
    status, head, _, exchange = ask(hub, "GET", "/someone/something/resolve/main/config.json")
    assert (status, head["X-Error-Code"]) == (404, "RepoNotFound")
    assert (
        not exchange.answered
        and exchange.note == "not verified: model someone/something is not in the catalogue"
    )
    assert not ask(hub, "GET", "/api/datasets/someone/rows")[3].answered


def test_a_file_that_no_twin_has_is_not_verified_unless_clients_ask_for_it_anyway(hub):
    status, head, _, exchange = ask(hub, "GET", "/gpt2/resolve/main/onnx/model.onnx")
    assert (status, head["X-Error-Code"]) == (404, "EntryNotFound") and head["X-Repo-Commit"].startswith(MARK)
    assert not exchange.answered and "not verified" in exchange.note
    for asked in ("adapter_config.json", "chat_template.jinja", "gpt2.py"):
        assert ask(hub, "HEAD", f"/gpt2/resolve/main/{asked}")[3].answered


def test_a_tree_lists_folders_and_files_with_their_sizes(hub):
    flat = json.loads(ask(hub, "GET", "/api/models/me/mine/tree/main")[2])
    assert {(entry["path"], entry["type"]) for entry in flat} == {
        ("config.json", "file"),
        ("deep", "directory"),
        ("model.safetensors", "file"),
    }
    deep = json.loads(ask(hub, "GET", "/api/models/me/mine/tree/main?recursive=True")[2])
    assert [entry["path"] for entry in deep if entry["type"] == "directory"] == ["deep", "deep/er"]
    assert {entry["path"]: entry["size"] for entry in deep}["model.safetensors"] == len(WEIGHTS)
    below = json.loads(ask(hub, "GET", "/api/models/me/mine/tree/main/deep?recursive=true")[2])
    assert [entry["path"] for entry in below] == ["deep/er", "deep/er/x.txt"]
    assert ask(hub, "GET", "/api/models/me/mine/tree/main/nowhere")[1]["X-Error-Code"] == "EntryNotFound"


def test_paths_are_described(hub):
    body = "paths=config.json&paths=deep%2Fer&paths=none&expand=False"
    form = "application/x-www-form-urlencoded"
    status, _, answer, _ = ask(hub, "POST", "/api/datasets/me/rows/paths-info/main", body, Content_Type=form)
    assert status == 200
    assert [(entry["path"], entry["type"]) for entry in json.loads(answer)] == [
        ("config.json", "file"),
        ("deep/er", "directory"),
    ]


def test_a_fixed_revision_is_served_as_the_only_one_and_noted(hub):
    exchange = ask(hub, "GET", "/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/config.json")[3]
    assert exchange.status == 200 and "is served as the twin's only one" in exchange.note
    revision = json.loads(ask(hub, "GET", "/api/models/gpt2/revision/main")[2])["sha"]
    assert not ask(hub, "GET", f"/gpt2/resolve/{revision}/config.json")[3].note


@pytest.mark.parametrize("revision", ["refs%2Fpr%2F1", "refs/convert/parquet"])
def test_a_pull_request_is_not_invented(hub, revision):
    status, head, _, exchange = ask(hub, "GET", f"/gpt2/resolve/{revision}/config.json")
    assert (status, head["X-Error-Code"], exchange.answered) == (404, "RevisionNotFound", False)


def test_a_data_set_has_a_card_that_the_library_reads(hub):
    status, _, body, _ = ask(hub, "GET", "/datasets/glue/resolve/main/README.md")
    front = json.loads(body.decode().split("---\n")[1])
    (sst2,) = (info for info in front["dataset_info"] if info["config_name"] == "sst2")
    names = sst2["features"][1]["dtype"]["class_label"]["names"]
    assert status == 200 and names == {"0": "negative", "1": "positive"}


def test_a_metric_is_a_module_and_an_unknown_one_is_not_verified(hub):
    for version in ("main", "v0.4.3"):
        path = f"/spaces/evaluate-metric/accuracy/resolve/{version}/accuracy.py"
        status, _, body, _ = ask(hub, "GET", path)
        assert status == 200 and b"import accuracy_score" in body
        compile(body, "accuracy.py", "exec")
    exchange = ask(hub, "GET", "/spaces/evaluate-metric/vibes/resolve/main/vibes.py")[3]
    assert (exchange.status, exchange.answered) == (404, False) and "metric vibes" in exchange.note
    assert ask(hub, "GET", "/spaces/evaluate-metric/..%2Fhub/resolve/main/..%2Fhub.py")[0] == 404


@pytest.mark.parametrize(
    "method, path",
    [("POST", "/api/repos/create"), ("PUT", "/x"), ("POST", "/api/models/me/mine/commit/main")],
)
def test_writes_are_refused_in_words(hub, method, path):
    status, head, _body, exchange = ask(hub, method, path, b"{}")
    assert status == 403 and "read-only" in head["X-Error-Message"] and "a write was refused" in exchange.note


def test_a_token_has_an_owner_and_never_reaches_the_ledger(hub):
    token = "hf_" + "a" * 34
    status, _, body, exchange = ask(hub, "GET", "/api/whoami-v2", Authorization=f"Bearer {token}")
    assert status == 200 and json.loads(body)["name"] == "labgate"
    assert ask(hub, "GET", "/api/whoami-v2")[0] == 401
    assert token not in str(exchange) + exchange.answer + exchange.request


def test_what_wants_accepted_terms_is_served_with_a_note_or_refused(hub, tmp_path):
    path = "/meta-llama/Llama-3.2-1B/resolve/main/config.json"
    exchange = ask(hub, "GET", path)[3]
    assert exchange.status == 200 and "accepted terms and a token; no token was sent" in exchange.note
    with Hub(tmp_path, gate=True) as gate:
        status, head, _, exchange = ask(gate, "GET", path)
        assert (status, head["X-Error-Code"], exchange.answered) == (401, "GatedRepo", True)
        assert ask(gate, "GET", path, Authorization="Bearer x")[0] == 200


def test_an_address_that_we_do_not_know_is_unanswered(hub):
    assert not ask(hub, "GET", "/api/daily_papers")[3].answered
    assert not ask(hub, "GET", "/api/spaces/me/mine")[3].answered
    assert ask(hub, "GET", "/api/agent-harnesses")[3].answered


def test_outside_hosts_are_refused_at_once_and_by_name(hub):
    status, _, body, exchange = ask(hub, "GET", "http://example.org/weights.bin")
    assert status == 403 and b"no network" in body
    assert exchange.note == "outside host example.org:80 refused" and not exchange.answered
    viewer = ask(hub, "GET", f"http://datasets-server.localhost:{hub.port}/info?dataset=glue")[3]
    assert viewer.status == 404 and viewer.answered


def test_other_services_of_this_machine_are_reached(hub):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(207)
            self.send_header("X-Own", self.path)
            self.end_headers()
            self.wfile.write(body[::-1])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}/a%20b?c=d"
        status, head, body, exchange = ask(hub, "POST", url, b"hello")
        server.shutdown()
    assert (status, body, head["X-Own"]) == (207, b"olleh", "/a%20b?c=d")
    assert "passed on to localhost" in exchange.note
    assert ask(hub, "POST", url, b"hello")[0] == 502


def test_the_environment_leads_every_client_here(hub):
    env = hub.env()
    assert env["HF_ENDPOINT"] == f"http://localhost:{hub.port}"
    assert env["https_proxy"] == env["HTTP_PROXY"] == hub.url and env["NO_PROXY"] == "127.0.0.1"
    assert int(env["HF_HUB_ETAG_TIMEOUT"]) > 10


class Drawing:
    """Stands for a builder: writes a file for each job, and counts them."""

    def __init__(self):
        self.jobs = []

    def versions(self):
        return {"torch": "1"}

    def make(self, job):
        self.jobs.append(job["path"])
        Path(job["path"]).write_text(str(job["seed"]))
        return {}


def test_a_twin_is_made_once_whoever_asks(tmp_path):
    twin, builders = DatasetTwin(load().dataset("imdb")), [Drawing(), Drawing()]
    stores = [Store(tmp_path, builder) for builder in builders for _ in range(4)]
    found = []
    threads = [threading.Thread(target=lambda s=s: found.append(s.repository(twin))) for s in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16 and len({one.revision for one in found}) == 1
    assert len({one.file("plain_text/train-00000-of-00001.parquet").digest for one in found}) == 1
    assert not list(tmp_path.rglob(".making-*"))
    again = Drawing()
    Store(tmp_path, again).repository(twin)
    assert not again.jobs


def test_other_versions_make_another_revision(tmp_path):
    twin, other = ModelTwin(load().model("gpt2")), Drawing()
    other.versions = lambda: {"torch": "2"}
    first, second = (Store(tmp_path, builder).repository(twin) for builder in (Drawing(), other))
    assert first.revision != second.revision and first.folder != second.folder
    assert first.revision.startswith(MARK) and len(first.revision) == 40


def test_a_failure_in_making_leaves_nothing_behind(tmp_path):
    class Failing(Drawing):
        def make(self, job):
            raise BuilderError("no")

    twin = ModelTwin(load().model("gpt2"))
    with pytest.raises(BuilderError):
        Store(tmp_path, Failing()).repository(twin)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert Store(tmp_path, Drawing()).repository(twin).names()


def test_our_failure_is_ours_and_not_a_missing_file(tmp_path):
    with Hub(tmp_path, ["/no/such/python"]) as hub:
        status, _, _, exchange = ask(hub, "GET", "/gpt2/resolve/main/config.json")
        assert status == 500 and not exchange.answered and "labgate's own failure" in exchange.note


def test_the_builder_restarts_after_a_death():
    builder = Builder([sys.executable])
    first = builder.versions()
    assert first["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    builder._process.kill()
    with pytest.raises(BuilderError, match="ended with status"):
        builder.make({"what": "tables"})
    with pytest.raises(AbsentError, match="pyarrow"):
        builder.make({"what": "tables"})
    with pytest.raises(BuilderError, match="ModuleNotFoundError"):
        builder.make({"what": "nonsense"})
    builder.close()


def test_a_warm_hub_has_the_libraries_imported_before_anybody_asks(tmp_path):
    heard, python = tmp_path / "heard", tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntee "{heard}" | "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    with Hub(tmp_path / "store", [str(python)], warm=True):
        for _ in range(200):
            if heard.exists() and heard.read_text():
                break
            time.sleep(0.05)
    assert "torch" in json.loads(heard.read_text().splitlines()[0])["import"]


def test_a_cold_hub_starts_no_process_until_it_must(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntouch "{tmp_path / "started"}"\n')
    python.chmod(0o755)
    with Hub(tmp_path / "store", [str(python)]):
        time.sleep(0.2)
    assert not (tmp_path / "started").exists()
