"""Whatever is sent to the W&B stand-in, it answers, says that it is not its own failure, and goes on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speaking import RUN, RUNS, UPSERT, Speaker

from labgate.standins.ledger import Ledger
from labgate.standins.wandb import Wandb

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "{}", '{"a": NaN}', "[1e999]", "\ud800", "Run:1", "$and", "config.x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$and", "$gt", "config.x", "keys", "a"]) | st.text(max_size=8), inner
        )
    ),
    max_leaves=12,
)
DOCUMENTS = st.sampled_from(
    [
        UPSERT,
        RUN,
        RUNS,
        "query Q($a: [X!]!, $name: Int) { project(name: $name) { run(name: $a) { history(samples: $a) } } }",
        "mutation M($input: CreateRunFilesInput!) { createRunFiles(input: $input) { files { name } } }",
        'query S($s: [JSONString!]!) { project(name: "demo", entityName: "team") { run(name: "r1") {'
        ' sampledHistory(specs: $s) logLines(last: -1, after: "x") { edges { node { line } } } } } }',
        "{ ...F } fragment F on Query { ...F viewer { id } }",
        "subscription { x }",
        "{ viewer { teams { edges { node { name { x } } } } } __schema { types { name } } }",
    ]
)
REQUESTS = st.fixed_dictionaries(
    {"query": DOCUMENTS | st.text(alphabet='{}()$:@!"query viewr\n', max_size=40) | JSON},
    optional={
        "variables": JSON
        | st.dictionaries(
            st.sampled_from(["name", "project", "entity", "config", "filters", "input", "s", "a"]), JSON
        ),
        "operationName": st.none() | st.sampled_from(["", "Q", "Run"]) | JSON,
    },
)
CHUNKS = st.fixed_dictionaries(
    {}, optional={"offset": st.integers(-1, 5) | JSON, "content": st.lists(st.text(max_size=20)) | JSON}
)
STREAMS = st.fixed_dictionaries(
    {},
    optional={
        "files": JSON
        | st.dictionaries(
            st.sampled_from(
                ["wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log", "other"]
            ),
            CHUNKS | JSON,
        ),
        "complete": JSON,
        "exitcode": JSON,
        "preempting": JSON,
    },
)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl", keep=10)
    with Wandb(tmp_path_factory.mktemp("store") / "runs.db", ledger=ledger) as wandb:
        speaker = Speaker(wandb.port)
        speaker.ledger = ledger
        speaker.begin("r1")
        yield speaker


def in_order(speaker, status, *allowed):
    """The last exchange was answered as it should be, and the server still answers."""
    exchange = list(speaker.ledger)[-1]
    assert status in allowed, exchange
    assert "labgate's own failure" not in exchange.note, exchange.note
    assert speaker.data("{ viewer { id } }")


@given(body=st.binary(max_size=200), headers=st.sampled_from([{}, {"Content-Encoding": "gzip"}]))
def test_bytes(speaker, body, headers):
    in_order(speaker, speaker.ask("POST", "/graphql", body, headers)[0], 400)
    in_order(speaker, speaker.ask("POST", speaker.path("r1", "file_stream"), body, headers)[0], 400)


@given(value=JSON)
def test_json_that_is_no_request(speaker, value):
    in_order(speaker, speaker.ask("POST", "/graphql", json.dumps(value))[0], 400)
    in_order(speaker, speaker.stream("r1", json.dumps(value)), 200, 400)


@given(request=REQUESTS)
def test_requests(speaker, request):
    status, answer = speaker.ask("POST", "/graphql", json.dumps(request))
    in_order(speaker, status, 200, 400)
    assert status == 200 or "errors" in json.loads(answer)


@given(body=STREAMS)
def test_streams(speaker, body):
    in_order(speaker, speaker.stream("r1", body), 200, 400)
    assert speaker.run("r1")["history"] is not None


@given(
    path=st.text(alphabet="/.%20ab?#\\:;=&~é☃\0\n", max_size=30),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "BREW"]),
)
def test_addresses(speaker, path, method):
    from urllib.parse import quote

    status, _ = speaker.ask(method, "/files/" + quote(path, safe="/%?&="), b"x")
    in_order(speaker, status, 200, 400, 404, 405)


@pytest.mark.parametrize("depth", [50, 5_000, 200_000])
def test_deep_nests(speaker, depth):
    nests = ["[" * depth, '{"a":' * depth, "[" * depth + "]" * depth]
    for nest in nests:
        in_order(speaker, speaker.ask("POST", "/graphql", nest)[0], 400)
        body = {"files": {"wandb-history.jsonl": {"offset": 10**6, "content": [nest, '{"_step":1}']}}}
        in_order(speaker, speaker.stream("r1", body), 200)
        document = json.dumps({"query": "{" + "viewer {" * depth})
        in_order(speaker, speaker.ask("POST", "/graphql", document)[0], 400)
    speaker.run("r1")


def test_numbers_beyond_all_bounds(speaker):
    row = f'{{"_step": {"9" * 30}, "big": {"9" * 5000}, "e": 1e99999}}'
    body = {"files": {"wandb-history.jsonl": {"offset": 2 * 10**6, "content": [row]}}}
    in_order(speaker, speaker.stream("r1", body), 200)
    body = {"files": {"wandb-history.jsonl": {"offset": 10**30, "content": []}}}
    in_order(speaker, speaker.stream("r1", body), 400)
