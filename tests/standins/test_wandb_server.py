"""The W&B stand-in, spoken to by hand."""

import base64
import gzip
import hashlib
import json
import time

import pytest
from speaking import RUNS, UPSERT, Speaker

from labgate.standins.wandb import Wandb


@pytest.fixture
def wandb(tmp_path):
    with Wandb(tmp_path / "runs.db") as standin:
        yield standin


@pytest.fixture
def speaker(wandb):
    return Speaker(wandb.port)


def test_a_run_is_written_and_read_back(speaker):
    row = {
        "loss": 0.1 + 0.2,
        "big": 2**53 + 1,
        "none": None,
        "text": "höhe ☃",
        "in": {"a": [1, 2.5]},
        "_step": 0,
    }
    config = {"lr": {"value": 1e-5}, "nested": {"value": {"a": {"b": None}}}}
    made = speaker.begin("r1", config=json.dumps(config), tags=["a", "b"], displayName="first")
    assert made["inserted"] and made["bucket"]["project"] == {
        "id": "Project:1",
        "name": "demo",
        "entity": {"name": "team"},
    }
    speaker.log("r1", [row, {"loss": -0.0, "_step": 1}])
    files = {"wandb-summary.json": {"offset": 0, "content": ['{"loss": 5e-324}', '{"loss": 1.0, "n": 7}']}}
    assert speaker.stream("r1", {"files": files, "complete": True, "exitcode": 0}) == 200
    run = speaker.run("r1")
    assert run["history"] == [row, {"loss": -0.0, "_step": 1}]
    assert str(run["history"][1]["loss"]) == "-0.0"
    assert run["config"] == config and run["summary"] == {"loss": 1.0, "n": 7}
    assert (run["state"], run["displayName"], run["tags"]) == ("finished", "first", ["a", "b"])
    assert run["historyKeys"]["lastStep"] == 1
    assert run["historyKeys"]["keys"]["loss"]["typeCounts"] == [{"type": "number", "count": 2}]
    assert "in.a" in run["historyKeys"]["keys"]


def test_what_is_no_number_survives(speaker):
    speaker.begin("r1", config='{"x": {"value": NaN}}')
    speaker.log("r1", ['{"_step": 0, "a": NaN, "b": Infinity, "c": [-Infinity], "d": 1e999}'])
    speaker.stream("r1", {"files": {"wandb-summary.json": {"offset": 0, "content": ['{"a": NaN}']}}})
    run = speaker.run("r1")
    assert run["history"] == [{"_step": 0, "a": "NaN", "b": "Infinity", "c": ["-Infinity"], "d": "Infinity"}]
    assert (run["config"], run["summary"]) == ({"x": {"value": "NaN"}}, {"a": "NaN"})
    assert run["historyKeys"]["keys"]["a"]["typeCounts"] == [{"type": "number", "count": 1}]


def test_a_retry_changes_nothing(speaker):
    speaker.begin("r1")
    rows = [{"_step": step, "_timestamp": step / 7} for step in range(5)]
    speaker.log("r1", rows[:3])
    speaker.log("r1", rows[:3])
    speaker.log("r1", rows[2:], offset=2)
    speaker.log("r1", rows[:3])
    run = speaker.run("r1")
    assert run["history"] == rows and run["historyLineCount"] == 5
    assert run["historyKeys"]["keys"]["_step"]["typeCounts"] == [{"type": "number", "count": 5}]


def test_a_resumed_run_goes_on_and_one_started_anew_begins_again(speaker):
    speaker.begin("r1")
    speaker.log("r1", [{"_step": step, "a": 1} for step in range(3)])
    again = speaker.begin("r1")
    assert not again["inserted"] and again["bucket"]["historyLineCount"] == 3
    speaker.log("r1", [{"_step": 3, "b": 2}], offset=3)
    assert [row["_step"] for row in speaker.run("r1")["history"]] == [0, 1, 2, 3]
    speaker.begin("r1")
    speaker.log("r1", [{"_step": 0, "c": 3}])
    run = speaker.run("r1")
    assert run["history"] == [{"_step": 0, "c": 3}] and list(run["historyKeys"]["keys"]) == ["_step", "c"]


def test_several_writers_of_one_run_lose_nothing(speaker):
    speaker.begin("r1")
    for writer in ("one", "two"):
        header = {"X-Wandb-Async-Client-Id": writer}
        speaker.log("r1", [{"_step": step, "by": writer} for step in range(3)], **header)
        files = {"wandb-summary.json": {"offset": 0, "content": [json.dumps({writer: 1})]}}
        speaker.stream("r1", {"files": files}, **header)
    run = speaker.run("r1")
    assert [(row["_step"], row["by"]) for row in run["history"]] == [
        (step, writer) for step in range(3) for writer in ("one", "two")
    ]
    assert run["summary"] == {"one": 1, "two": 1}


def test_pages_of_steps_are_whole_and_samples_are_thinned(speaker):
    speaker.begin("r1")
    rows = [{"_step": step, "a": step} if step % 2 else {"_step": step} for step in range(100)]
    speaker.log("r1", rows)
    query = """query ($project: String, $entity: String, $specs: [JSONString!]!) {
      project(name: $project, entityName: $entity) { run(name: "r1") {
        few: history(samples: 5) page: history(minStep: 10, maxStep: 60, samples: 3)
        sampledHistory(specs: $specs) } } }"""
    specs = [
        {"keys": ["_step", "a"], "samples": 3},
        {"keys": ["a"], "minStep": 0, "maxStep": 50, "samples": 3},
        {"keys": ["a"], "minStep": 40, "maxStep": 49, "samples": 10},
        {"keys": ["a"], "minStep": 40, "maxStep": 49, "samples": 9},
    ]
    run = speaker.data(query, specs=[json.dumps(spec) for spec in specs])["project"]["run"]
    assert [json.loads(row)["_step"] for row in run["few"]] == [0, 24, 49, 74, 99]
    assert [json.loads(row)["_step"] for row in run["page"]] == list(range(10, 60))
    assert run["sampledHistory"][0] == [{"_step": 1, "a": 1}, {"_step": 49, "a": 49}, {"_step": 99, "a": 99}]
    assert run["sampledHistory"][1] == [{"a": step} for step in range(1, 50, 2)]
    assert run["sampledHistory"][2][-1] == {"a": 49}, "newer clients mean the last step as well"
    assert run["sampledHistory"][3][-1] == {"a": 47}, "older ones ask for it in their next page"


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({}, "running"),
        ({"complete": True, "exitcode": 0}, "finished"),
        ({"complete": True, "exitcode": 3}, "failed"),
        ({"preempting": True}, "preempting"),
    ],
)
def test_the_state_is_what_the_client_said_last(speaker, body, state):
    speaker.begin("r1")
    assert speaker.stream("r1", body) == 200
    assert speaker.run("r1")["state"] == state
    assert speaker.runs({"state": state}) == ["r1"]


def test_a_run_that_has_become_silent_has_crashed(tmp_path):
    with Wandb(tmp_path / "runs.db", silent=0.3) as standin:
        speaker = Speaker(standin.port)
        speaker.begin("r1")
        speaker.begin("r2")
        speaker.stream("r2", {"complete": True, "exitcode": 0})
        assert speaker.run("r1")["state"] == "running"
        time.sleep(0.4)
        assert (speaker.run("r1")["state"], speaker.run("r2")["state"]) == ("crashed", "finished")
        assert speaker.runs({"state": "crashed"}) == ["r1"]
        speaker.stream("r1", {})
        assert speaker.run("r1")["state"] == "running"


def test_runs_are_found_and_ordered(speaker):
    for number, loss in enumerate([0.3, 0.1, 0.2]):
        config = {"lr": {"value": 10.0**-number}, "opt": {"value": {"name": "adam", "betas": [0.9]}}}
        summary = {"loss": loss} if number else {"loss": loss, "only": 1}
        speaker.begin(
            f"r{number}",
            config=json.dumps(config),
            summaryMetrics=json.dumps(summary),
            tags=["even"] if number % 2 == 0 else [],
            groupName="g" if number else None,
        )
    assert speaker.runs(order="+summary_metrics.loss") == ["r1", "r2", "r0"]
    assert speaker.runs(order="-config.lr.value") == ["r0", "r1", "r2"]
    assert speaker.runs(order="-created_at") == ["r0", "r1", "r2"], "the same second: as they were made"
    assert speaker.runs({"config.lr": {"$lt": 0.5}, "tags": "even"}) == ["r2"]
    assert speaker.runs({"$or": [{"config.lr": 1.0}, {"summary_metrics.loss": {"$lte": 0.1}}]}) == [
        "r0",
        "r1",
    ]


def test_runs_come_in_pages(speaker):
    for number in range(5):
        speaker.begin(f"r{number}")
    seen, cursor = [], None
    while True:
        runs = speaker.data(RUNS, cursor=cursor, first=2, order="+created_at")["project"]["runs"]
        seen += [edge["node"]["name"] for edge in runs["edges"]]
        cursor = runs["pageInfo"]["endCursor"]
        if not runs["pageInfo"]["hasNextPage"]:
            break
    assert seen == [f"r{number}" for number in range(5)]


def test_a_filter_that_is_not_understood_is_an_error_and_unanswered(wandb, speaker):
    speaker.data(
        'mutation ($entity: String) { upsertModel(input: {name: "demo", entityName: $entity}) { inserted } }'
    )
    answer = speaker.graphql(RUNS, filters='{"config.lr": {"$near": 1}}')
    assert "the operator $near is not supported" in answer["errors"][0]["message"], "even without any run"
    (exchange,) = wandb.ledger.unanswered()
    assert exchange.asked == "Runs" and "$near" in exchange.note and exchange.status == 200


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("mutation CreateSweep { upsertSweep(input: {}) { sweep { name } } }", "upsertSweep"),
        ('query ArtifactByID { artifact(id: "x") { id } }', "artifact"),
        ('query Q { project(name: "demo", entityName: "team") { sweep(sweepName: "s") { id } } }', "sweep"),
        (
            'query Q { project(name: "demo", entityName: "team") { artifact(name: "s") { id } } }',
            "artifact",
        ),
    ],
)
def test_an_operation_that_labgate_has_not_is_unanswered_by_name(wandb, speaker, query, name):
    speaker.begin("r1")
    assert f"{name} is not answered by labgate" in speaker.graphql(query)["errors"][0]["message"]
    (exchange,) = wandb.ledger.unanswered()
    assert "no answer to" in exchange.note and name in exchange.note


def test_whether_an_artifacts_name_is_taken_is_answered(wandb, speaker):
    speaker.begin("r1")
    query = '{ project(name: "demo", entityName: "team") { artifact(name: "x") { artifactType { name } } } }'
    assert speaker.data(query) == {"project": {"artifact": None}}
    assert not wandb.ledger.unanswered()


def test_what_our_schema_has_not_is_left_out_and_noted(wandb, speaker):
    speaker.begin("r1")
    query = """query Newer($o: NewInput!, $project: String, $entity: String) {
      project(name: $project, entityName: $entity, newer: $o) {
        newField { a } run(name: "r1") { name another ...Part } } }
      fragment Part on Run { state third }"""
    answer = speaker.data(query, o={"x": 1})
    assert answer == {"project": {"run": {"name": "r1", "state": "running"}}}
    exchange = list(wandb.ledger)[-1]
    assert exchange.answered and "newField" in exchange.note and "NewInput" in exchange.note


def test_unknown_fields_of_inputs_are_dropped(speaker):
    query = """mutation M($input: UpsertModelInput!) { upsertModel(input: $input) { model { name } } }"""
    answer = speaker.data(query, input={"name": "x", "entityName": "team", "newer": {"y": 1}})
    assert answer == {"upsertModel": {"model": {"name": "x"}}}


def test_a_mutation_is_done_wholly_or_not_at_all(speaker):
    query = """mutation M {
      a: upsertBucket(input: {name: "r1", modelName: "demo"}) { inserted }
      b: upsertBucket(input: {name: "r2", modelName: "demo", config: "{"}) { inserted } }"""
    assert "not JSON" in speaker.graphql(query)["errors"][0]["message"]
    assert speaker.graphql('{ models(entityName: "labgate") { edges { node { name } } } }')["data"][
        "models"
    ] == {"edges": []}


@pytest.mark.parametrize("name", ["a/b", "a?b", "", " ", "x" * 300])
def test_a_name_that_cannot_stand_in_an_address_is_refused(wandb, speaker, name):
    answer = speaker.graphql(UPSERT, name=name)
    if name == "":
        assert answer["data"]["upsertBucket"]["inserted"], "no name at all: one is given"
    else:
        assert "not a name for a run" in answer["errors"][0]["message"]
    assert not wandb.ledger.unanswered(), "a real server refuses it as well"


def test_a_failure_of_ours_is_an_error_with_status_200(wandb, speaker, monkeypatch):
    speaker.begin("r1")
    monkeypatch.setattr("labgate.standins.wandb.lines.count", lambda *_: 1 // 0)
    answer = speaker.graphql(
        '{ project(name: "demo", entityName: "team") { run(name: "r1") { logLineCount } } }'
    )
    assert "division" in answer["errors"][0]["message"]
    assert "labgate's own failure: ZeroDivisionError" in wandb.ledger.unanswered()[0].note
    monkeypatch.setattr("labgate.standins.wandb.execution.parsed", lambda *_: 1 // 0)
    assert "own failure" in speaker.graphql("{ viewer { id } }")["errors"][0]["message"]


def test_lines_that_were_not_kept_are_not_acknowledged(wandb, speaker, monkeypatch):
    speaker.begin("r1")
    with monkeypatch.context() as patch:
        patch.setattr("labgate.standins.wandb.lines.append", lambda *_: 1 // 0)
        assert (
            speaker.stream("r1", {"files": {"wandb-history.jsonl": {"offset": 0, "content": ["{}"]}}}) == 500
        )
    speaker.log("r1", ["{}"])
    assert speaker.run("r1")["history"] == [{}]


def test_files_go_up_and_down(wandb, speaker):
    speaker.begin("r1")
    query = """mutation F($entity: String, $project: String, $files: [String!]!) {
      createRunFiles(input: {entityName: $entity, projectName: $project, runName: "r1", files: $files}) {
        runID uploadHeaders files { name uploadUrl } } }"""
    name = "media/a b/☃.txt"
    upload = speaker.data(query, files=[name])["createRunFiles"]
    assert upload["uploadHeaders"] == [] and upload["runID"] == "Run:1"
    url = upload["files"][0]["uploadUrl"]
    assert url.startswith(wandb.url)
    path = url.removeprefix(wandb.url)
    assert speaker.ask("PUT", path, b"first")[0] == 200
    assert speaker.ask("PUT", path, gzip.compress(b"hello\0"), {"Content-Encoding": "gzip"})[0] == 200
    assert speaker.ask("GET", path) == (200, b"hello\0")
    assert speaker.ask("GET", path, headers={"Range": "bytes=1-2"}) == (206, b"el")
    assert speaker.ask("GET", path + "x")[0] == 404
    query = """query ($project: String, $entity: String, $pattern: String, $names: [String]) {
      project(name: $project, entityName: $entity) { run(name: "r1") { fileCount
        files(pattern: $pattern, names: $names) {
          edges { node { id name sizeBytes md5 directUrl } } } } } }"""
    node = {
        "id": "File:1",
        "name": name,
        "sizeBytes": 6,
        "md5": base64.b64encode(hashlib.md5(b"hello\0").digest()).decode(),
        "directUrl": url,
    }
    run = speaker.data(query, pattern="media/%.TXT")["project"]["run"]
    assert run == {"fileCount": 1, "files": {"edges": [{"node": node}]}}
    assert speaker.data(query, pattern="%.json")["project"]["run"]["files"] == {"edges": []}
    done = speaker.data('mutation { deleteFiles(input: {files: ["File:1"]}) { success } }')
    assert done == {"deleteFiles": {"success": True}}
    assert speaker.ask("GET", path)[0] == 404


def test_a_run_can_be_changed_stopped_and_deleted(speaker):
    id = speaker.begin("r1")["bucket"]["id"]
    speaker.stream("r1", {"complete": True, "exitcode": 0})
    change = 'mutation ($id: String) { upsertBucket(input: {id: $id, notes: "n", tags: ["t"]}) { inserted } }'
    assert speaker.data(change, id=id) == {"upsertBucket": {"inserted": False}}
    run = speaker.run("r1")
    assert (run["state"], run["tags"], run["stopped"]) == ("finished", ["t"], False)
    speaker.data("mutation ($id: ID!) { stopRun(input: {id: $id}) { success } }", id=id)
    assert speaker.run("r1")["stopped"]
    speaker.data("mutation ($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=id)
    assert speaker.run("r1") is None
    answer = speaker.graphql("mutation ($id: ID!) { stopRun(input: {id: $id}) { success } }", id=id)
    assert "there is no run 'Run:1'" in answer["errors"][0]["message"]


def test_what_clients_look_for_before_they_resume(speaker):
    config = {"_wandb": {"value": {"t": {"1": [1]}, "cli": "x"}}, "lr": {"value": 1}}
    speaker.begin("r1", config=json.dumps(config))
    speaker.log("r1", [{"_step": 0}, {"_step": 1, "a": 2}])
    query = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
      model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) {
        historyTail eventsTail historyLineCount logLineCount wandbConfig(keys: ["t"]) } } }"""
    bucket = speaker.data(query, name="r1")["model"]["bucket"]
    assert json.loads(bucket["wandbConfig"]) == {"t": {"1": [1]}}
    assert [json.loads(row) for row in json.loads(bucket["historyTail"])] == [{"_step": 1, "a": 2}]
    assert (json.loads(bucket["eventsTail"]), bucket["historyLineCount"]) == ([], 2)
    assert speaker.data(query, name="none")["model"]["bucket"] is None


def test_a_name_that_is_empty_counts_as_none(speaker):
    assert speaker.graphql("query V { viewer { username } }", "")["data"] == {
        "viewer": {"username": "labgate"}
    }


def test_the_store_holds_what_was_acknowledged(tmp_path):
    with Wandb(tmp_path / "runs.db") as first:
        speaker = Speaker(first.port)
        speaker.begin("r1")
        speaker.log("r1", [{"_step": 0}])
        speaker.ask("PUT", speaker.path("r1", "a.txt"), b"a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.db", "runs.db.files"]
    with Wandb(tmp_path / "runs.db") as second:
        speaker = Speaker(second.port)
        assert speaker.run("r1")["history"] == [{"_step": 0}]
        assert speaker.ask("GET", speaker.path("r1", "a.txt")) == (200, b"a")


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at" * 50)
    with pytest.raises(OSError, match="no store of runs"):
        Wandb(tmp_path / "notes.txt").start()


def test_without_a_file_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Wandb() as standin:
        Speaker(standin.port).begin("r1")
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_key_never_reaches_the_ledger(wandb, speaker):
    key = wandb.env()["WANDB_API_KEY"]
    assert len(key) == 40 and set(key) <= set("0123456789abcdef")
    basic = base64.b64encode(f"api:{key}".encode()).decode()
    body = json.dumps({"query": "{ viewer { id } }", "variables": {"x": key, "api_key": "other"}})
    speaker.ask("POST", "/graphql", body, {"Authorization": f"Basic {basic}"})
    (exchange,) = wandb.ledger
    assert key not in str(exchange.__dict__) and "other" not in exchange.request
    assert str(exchange) == "#1 POST /graphql {viewer} -> 200"
