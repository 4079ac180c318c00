"""The promise: whatever recorded it, and however that record has changed, the same things are found in it."""

import json

import pytest

from labgate.bundle import Bundle, PromisedRun, UnreadableError, read, read_promise
from labgate.bundle.promise import HISTORY, Promise, promise_from, role_of

DESIGN = {
    "experiment_summary": "Train it twice.",
    "evaluation_metrics": ["Accuracy", "F1"],
    "proposed_method": "Weigh the ranks.",
    "comparative_methods": ["Plain ranks"],
    "models_to_use": ["tiny (1M)"],
    "datasets_to_use": ["toy"],
}
RUNS = [
    {
        "run_id": "proposed-iter1-tiny",
        "method_name": "proposed",
        "model_name": "tiny (1M)",
        "dataset_name": "toy",
        "run_config": "a: 1\n",
    },
    {"run_id": "comparative-1-iter1-tiny", "method_name": "comparative-1", "dataset_name": "toy"},
]
PROMISED = (
    PromisedRun("proposed-iter1-tiny", "proposed", "tiny (1M)", "toy", "proposed", "a: 1\n"),
    PromisedRun("comparative-1-iter1-tiny", "comparative-1", "", "toy", "baseline"),
)
HYPOTHESIS = {"open_problems": "Ranks are wasted.", "method": "Weigh them.", "expected_result": None}

SESSION = {
    "evaluated_hypothesis_history": [{"hypothesis": {"method": "another"}}],
    "research_session": {
        "hypothesis": HYPOTHESIS,
        "iterations": [
            {"iteration_id": 1, "method": "Weigh.", "experimental_design": DESIGN, "experiment_runs": RUNS}
        ],
    },
}
NEW_METHOD = {
    "new_method": {"method": "Weigh.", "experimental_design": DESIGN, "experiment_runs": RUNS},
    "idea_info_history": [{"idea": {"method": "another"}}],
}
OBJECTS = {
    "research_hypothesis": HYPOTHESIS,
    "experimental_design": {
        **DESIGN,
        "evaluation_metrics": [{"name": "Accuracy", "description": "d"}, {"name": "F1", "description": ""}],
        "proposed_method": {
            "method_name": "Weighted",
            "description": "Weigh the ranks.",
            "optuna_config": {},
        },
        "comparative_methods": [{"method_name": "Plain ranks", "description": "none"}],
    },
    "experiment_code": {"train_py": "", "run_configs": {"proposed-a": "x: 1\n", "comparative-1-a": "x: 2\n"}},
}
PLAIN = {
    "hypothesis": "Ranks are wasted.",
    "method": "Weigh.",
    "design": "Train it twice.",
    "metrics": ["Accuracy", "F1"],
    "runs": [
        {"run_id": "weighted", "method": "Weighted", "role": "proposed", "config": "a: 1\n"},
        {"run_id": "plain", "method": "Plain", "role": "baseline"},
    ],
}


def recorded(record: object) -> Promise | None:
    return Bundle.from_files({HISTORY: json.dumps(record)}).promise


@pytest.mark.parametrize("record", [SESSION, NEW_METHOD], ids=["session", "new_method"])
def test_a_recorded_iteration_gives_design_metrics_and_runs(record):
    promise = recorded(record)
    assert promise.runs == PROMISED
    assert promise.method == "Weigh."
    assert promise.design == "Train it twice."
    assert promise.metrics == ("Accuracy", "F1")
    assert promise.proposed_method == "Weigh the ranks."
    assert promise.comparative_methods == ("Plain ranks",)
    assert (promise.models, promise.datasets) == (("tiny (1M)",), ("toy",))
    assert promise.origin == HISTORY


def test_methods_and_metrics_may_be_objects_and_the_run_configs_name_the_runs():
    promise = recorded(OBJECTS)
    assert promise.hypothesis == "open_problems: Ranks are wasted.\n\nmethod: Weigh them."
    assert promise.method == "Weigh them."
    assert promise.metrics == ("Accuracy", "F1")
    assert promise.proposed_method == "Weighted: Weigh the ranks."
    assert promise.comparative_methods == ("Plain ranks",)
    assert [(run.run_id, run.role, run.config) for run in promise.runs] == [
        ("proposed-a", "proposed", "x: 1\n"),
        ("comparative-1-a", "baseline", "x: 2\n"),
    ]


def test_files_by_path_name_the_runs_too():
    files = {"config/run/proposed-b.yaml": "x: 1\n", "config/config.yaml": "", "src/main.py": ""}
    promise = recorded({"research_hypothesis": HYPOTHESIS, "experiment_code": {"files": files}})
    assert [run.run_id for run in promise.runs] == ["proposed-b"]


def test_of_several_iterations_the_one_with_the_bundles_run_configs_counts():
    later = [{**run, "run_id": run["run_id"].replace("iter1", "iter2")} for run in RUNS]
    iterations = [
        {"method": "first", "experiment_runs": RUNS},
        {"method": "second", "experiment_runs": later},
    ]
    history = json.dumps({"research_session": {"iterations": iterations}})
    assert Bundle.from_files({HISTORY: history}).promise.method == "second"
    mine = {HISTORY: history, "config/runs/proposed-iter1-tiny.yaml": ""}
    assert Bundle.from_files(mine).promise.method == "first"


@pytest.mark.parametrize(
    ("label", "role"),
    [
        ("proposed", "proposed"),
        ("proposed-roberta", "proposed"),
        ("Proposed_x", "proposed"),
        ("comparative-1-roberta", "baseline"),
        ("baseline_lora", "baseline"),
        ("proposedly", None),
        ("baselines", None),
        ("run-1", None),
        ("", None),
    ],
)
def test_the_role_of_a_run_shows_in_its_name(label, role):
    assert role_of(label) == role


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
def test_a_promise_file_may_be_json_yaml_or_toml(tmp_path, suffix):
    path = tmp_path / f"promise.{suffix}"
    if suffix == "toml":
        runs = "".join(
            "[[runs]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in run.items())
            for run in PLAIN["runs"]
        )
        heads = {key: value for key, value in PLAIN.items() if key != "runs"}
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in heads.items()) + runs)
    elif suffix == "json":
        path.write_text(json.dumps(PLAIN))
    else:
        path.write_text("# a promise\n" + json.dumps(PLAIN, indent=1))
    promise = read_promise(path)
    assert (promise.hypothesis, promise.method) == ("Ranks are wasted.", "Weigh.")
    assert [(run.run_id, run.method, run.role, run.config) for run in promise.runs] == [
        ("weighted", "Weighted", "proposed", "a: 1\n"),
        ("plain", "Plain", "baseline", None),
    ]
    assert promise.origin == str(path)


def test_a_promise_that_is_given_wins_over_the_recorded_one(tmp_path):
    (tmp_path / "b/.research").mkdir(parents=True)
    (tmp_path / "b/pyproject.toml").write_text("")
    (tmp_path / "b" / HISTORY).write_text(json.dumps(SESSION))
    (tmp_path / "p.yaml").write_text("runs: [proposed-x, {id: base, role: baseline}]\n")
    assert read(tmp_path / "b").promise.runs == PROMISED
    given = read(tmp_path / "b", promise=tmp_path / "p.yaml")
    assert [(run.run_id, run.role) for run in given.promise.runs] == [
        ("proposed-x", "proposed"),
        ("base", "baseline"),
    ]
    assert given.digest != read(tmp_path / "b").digest
    assert read(tmp_path / "b", promise=Promise(method="m")).promise.method == "m"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.json", '{"hypothesis": ', "p.json:1: does not parse"),
        ("p.yaml", "a: [", "does not parse"),
        ("p.toml", "a = 1\nb = \nc = 2\n", "p.toml:2: does not parse"),
        ("p.yaml", "colour: red\n", "no promise in it"),
        ("p.yaml", "", "no promise in it"),
        ("p.yaml", "- 1\n", "no promise in it"),
        ("missing.yaml", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_promise_is_one_clear_line(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableError, match=says) as caught:
        read_promise(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_history_that_is_cut_or_empty_leaves_the_bundle_without_a_promise():
    cut = Bundle.from_files({HISTORY: json.dumps(SESSION)[:-5]})
    assert cut.promise is None and cut.promise_problem.startswith("does not parse")
    binary = Bundle.from_files({HISTORY: b"\xff\xfe"})
    assert binary.promise is None and binary.promise_problem == "is not UTF-8"
    for text in ("", "\n", "{}", "[]", "null", "3"):
        bundle = Bundle.from_files({HISTORY: text})
        assert bundle.promise is None and bundle.promise_problem is None


def test_configs_alone_promise_nothing_that_they_could_break(tmp_path):
    (tmp_path / "code.json").write_text(json.dumps({"train_py": "", "run_configs": {"proposed-a": "x: 1\n"}}))
    bundle = read(tmp_path / "code.json")
    assert bundle.promise is None and set(bundle.run_configs()) == {"proposed-a"}


@pytest.mark.parametrize("value", [None, 3, "x", [], [None, 3], {}, {"a": None}, [[]], True, {"x": [1]}])
def test_any_value_at_any_known_key_is_borne(value):
    keys = ["research_session", "new_method", "experimental_design", "hypothesis", "method", "runs"]
    keys += ["iterations", "experiment_runs", "experiment_code", "metrics", "proposed_method"]
    for key in [*keys, "comparative_methods", "evaluation_metrics", "files", "run_configs", "role"]:
        for record in ({key: value}, {"research_session": {key: value, "iterations": [{key: value}, value]}}):
            promise_from(record, "x")
            promise_from({"experimental_design": {key: value}, "experiment_code": {key: value}}, "x")
            promise_from({"runs": [{key: value, "run_id": value}, value]}, "x")
