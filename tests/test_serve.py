"""`labgate serve`: W&B for a person, and runs taken out of it."""

import csv
import json
import signal
import socket
import subprocess
import sys

import pytest
from speaking import Speaker

from labgate import cli
from labgate.standins.wandb import Wandb


def start(*arguments):
    command = [sys.executable, "-m", "labgate", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until_served(process):
    """What it prints before it serves, and the environment in it."""
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    lines = [line.removeprefix("export ").strip() for line in printed if line.startswith("export ")]
    return "".join(printed), dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(tmp_path, ending):
    process = start("--store", tmp_path / "mine.db", "--port", 0, "--ledger", tmp_path / "ledger.jsonl")
    printed, env = until_served(process)
    url = env["WANDB_BASE_URL"]
    assert url.startswith("http://127.0.0.1:") and len(env["WANDB_API_KEY"]) == 40
    assert env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] == env["WANDB__FILE_STREAM_TRANSMIT_INTERVAL"] == "1"
    assert str(tmp_path / "mine.db") in printed
    speaker = Speaker(int(url.rpartition(":")[2]))
    speaker.begin("r1")
    speaker.graphql("{ artifact { id } }")
    process.send_signal(ending)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "2 exchanges, 1 of them unanswered" in out and "artifact" in out and "Traceback" not in out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["ledger.jsonl", "mine.db"]
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2


def test_a_port_that_is_taken_is_said_and_another_found(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--store", tmp_path / "mine.db", "--port", port)
        printed, env = until_served(process)
        process.terminate()
        process.communicate(timeout=20)
    assert f"port {port} is taken" in printed and not env["WANDB_BASE_URL"].endswith(f":{port}")


@pytest.fixture
def store(tmp_path):
    """Two runs of one name in two projects, and one of its own."""
    with Wandb(tmp_path / "mine.db") as wandb:
        for project, run in (("demo", "r1"), ("other", "r1"), ("demo", "own")):
            speaker = Speaker(wandb.port, project=project)
            config = {"lr": {"value": 0.1}, "opt": {"value": {"name": "adam"}}, "_wandb": {"value": {}}}
            speaker.begin(run, config=json.dumps(config), summaryMetrics='{"best": 0.30000000000000004}')
            speaker.log(
                run, [{"_step": 0, "loss": 0.1 + 0.2, "text": "ü,\n"}, {"_step": 1, "x": [1], "none": None}]
            )
            speaker.log(run, ['{"_step": 2, "loss": NaN, "big": 9007199254740993, "flag": true}'], offset=2)
    return tmp_path / "mine.db"


def test_a_run_is_exported_as_csv_and_json(store, tmp_path, capsys):
    out = tmp_path / "out" / "deep"
    assert cli.main(["serve", "--store", str(store), "--export", "demo/r1", "--output", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / "r1.json"), str(out / "r1.csv")]
    said = json.loads((out / "r1.json").read_text(encoding="utf-8"))
    assert said["config"] == {"lr": 0.1, "opt": {"name": "adam"}} and said["summary"] == {"best": 0.1 + 0.2}
    assert [row["_step"] for row in said["history"]] == [0, 1, 2] and said["history"][2]["loss"] == "NaN"
    assert (said["entity"], said["project"], said["run"]) == ("team", "demo", "r1")
    with (out / "r1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["_step", "loss", "text", "x", "none", "big", "flag"],
        ["0", "0.30000000000000004", "ü,\n", "", "", "", ""],
        ["1", "", "", "[1]", "", "", ""],
        ["2", "NaN", "", "", "", "9007199254740993", "true"],
    ]
    assert cli.main(["serve", "--store", str(store), "--export", "own", "--output", str(out)]) == 0


@pytest.mark.parametrize(
    ("run", "says"),
    [("r1", "several runs are called 'r1': team/other/r1, team/demo/r1"), ("r9", "there is no run 'r9'")],
)
def test_a_run_that_is_not_one_is_refused(store, run, says, capsys):
    assert cli.main(["serve", "--store", str(store), "--export", run]) == 2
    assert says in capsys.readouterr().err


def test_a_store_that_is_none_is_refused(tmp_path, capsys):
    missing = tmp_path / "no.db"
    assert cli.main(["serve", "--store", str(missing), "--export", "r1"]) == 2
    assert "there are no runs" in capsys.readouterr().err and not missing.exists()
    missing.write_text("something else entirely " * 100)
    assert cli.main(["serve", "--store", str(missing), "--export", "r1"]) == 2
    assert cli.main(["serve", "--store", str(missing)]) == 2
    assert capsys.readouterr().err.count("is no store of runs") == 2


def test_the_default_store_is_the_users(monkeypatch):
    from labgate import serve

    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    if sys.platform == "linux":
        assert serve.default_store().as_posix() == "/somewhere/labgate/runs.db"
    assert serve.default_store().is_absolute()
