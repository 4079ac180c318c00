"""The official clients, unmodified, write a run in one process and read it in another."""

import json
import math
import os
import random
import signal
import struct
import subprocess
import time
from pathlib import Path

import clients
import pytest

from labgate.standins.wandb import Wandb

pytestmark = pytest.mark.clients

VERSIONS = ["0.16.6", "0.18.7", "0.20.1", "0.22.3", "0.25.1", "newest"]
OLDEST_AND_NEWEST = ["0.16.6", "newest"]
SCRIPTS = Path(__file__).parent / "scripts"


def of_versions(*versions):
    ids = [f"oldest-{each}" if each == VERSIONS[0] else each for each in versions]
    return pytest.mark.parametrize("version", versions, ids=ids)


class Client:
    """Scripts run by a Python that has one version of wandb, with a stand-in as their only world."""

    def __init__(self, version, wandb, folder):
        self.python, self.folder = clients.wandb(version), folder
        self.env = clients.environment(folder, wandb.env())

    def start(self, script, *arguments):
        return subprocess.Popen(
            [self.python, SCRIPTS / script, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, script, *arguments, status=0):
        process = self.start(script, *arguments)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == status, output
        return output

    def writes(self, name, **given):
        """What a script is given to log, as a file."""
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(given), encoding="utf-8")
        return file

    def write(self, name, *, status=0, **given):
        """Log it. Returns what the script saw."""
        file = self.writes(name, **given)
        self.run("wandb_write.py", file, status=status)
        return json.loads(file.with_suffix(".seen").read_text(encoding="utf-8"))

    def read(self, path, *filters):
        """All that `wandb.Api()` says of a run."""
        out = self.folder / "read.json"
        self.run("wandb_read.py", path, json.dumps(filters), out)
        return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture
def wandb(tmp_path):
    with Wandb(tmp_path / "runs.db", silent=3) as standin:
        yield standin


@pytest.fixture
def client(version, wandb, tmp_path):
    return Client(version, wandb, tmp_path)


def floats(count):
    """Finite floats of every size, the same each time."""
    random.seed(20260816)
    numbers = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1e22, 123456789.123456789, 2**53 + 1.0]
    while len(numbers) < count:
        (number,) = struct.unpack("d", random.randbytes(8))
        if math.isfinite(number):
            numbers.append(number)
    return numbers


CONFIG = {
    "lr": 1e-05,
    "big": 2**53 + 1,
    "none": None,
    "flag": True,
    "text": 'héé ☃ \U0001f600 "quoted"\n',
    "nested": {"a": {"b": [1, 2.5, None, {"c": "d"}]}},
    "list": [1, "two", [3]],
    "n": 1,
}
ROWS = [
    {"loss": number, "count": step, "big": 2**53 + 1 + step, "deep": {"er": step / 3}, "text": "ü"}
    for step, number in enumerate(floats(123))
]


def same(row, wanted):
    """A row without what the client adds, exactly."""
    assert isinstance(row["_step"], int)
    return {key: value for key, value in row.items() if not key.startswith("_")} == wanted


@of_versions(*VERSIONS)
def test_a_run_in_two_parts_is_read_back_exactly(client, wandb):
    init = {"project": "demo", "entity": "team", "id": "r1", "resume": "allow", "mode": "online"}
    init |= {"config": CONFIG, "tags": ["a", "b"], "group": "g"}
    first = client.write("first", init=init, rows=ROWS[:60], summary={"best": 0.1 + 0.2})
    assert not first["resumed"] and first["url"] == f"{wandb.url}/team/demo/runs/r1"
    second = client.write("second", init=init, rows=ROWS[60:], summary={"text": "ü", "big": 2**53 + 1})
    assert second["resumed"]
    other = {"project": "demo", "entity": "team", "id": "r2", "config": {"n": 2}}
    client.write("other", init=other, rows=[{"x": 1}])
    filters = [{"config.n": 1}, {"$and": [{"config.n": {"$gt": 1}}, {"state": "finished"}]}, {"tags": "a"}]
    read = client.read("team/demo/r1", *filters, {"summary_metrics.best": {"$gt": 0.3}}, {"name": "r3"})

    assert read["state"] == "finished" and read["url"] == first["url"]
    assert (read["id"], read["name"], read["tags"], read["group"]) == ("r1", "r1", ["a", "b"], "g")
    assert read["config"] == CONFIG and isinstance(read["config"]["flag"], bool)
    rows = read["scan"]
    assert [row["_step"] for row in rows] == list(range(123)) and read["last step"] == 122
    assert all(same(row, wanted) for row, wanted in zip(rows, ROWS, strict=True))
    assert read["history"] == rows
    assert [row["_step"] for row in read["history of 10"]][::9] == [0, 122] and len(
        read["history of 10"]
    ) == 10
    assert [(row["_step"], row["loss"]) for row in read["history of keys"]] == [
        (step, row["loss"]) for step, row in enumerate(ROWS)
    ]
    assert [row["deep.er"] for row in read["history of keys"]] == [row["deep"]["er"] for row in ROWS]
    assert read["scan of keys"] == [{"_step": step, "loss": row["loss"]} for step, row in enumerate(ROWS)]
    assert read["scan of steps"] == rows[10:40]
    assert [row["_step"] for row in read["scan of steps and keys"]] == list(range(10, 40))
    assert {"loss", "count", "big", "deep.er", "text", "_step"} <= set(read["keys"])
    summary = {key: value for key, value in read["summary"].items() if not key.startswith("_")}
    assert summary == {**ROWS[-1], "best": 0.1 + 0.2, "text": "ü", "big": 2**53 + 1}
    assert read["summary"]["_step"] == 122 and read["best"] == 0.1 + 0.2
    assert {"config.yaml", "output.log", "wandb-metadata.json", "wandb-summary.json"} <= set(read["files"])
    assert read["metadata"]["python"]
    assert read["runs"] == [["r1"], ["r2"], ["r1"], ["r1"], []]
    assert read["ordered"] == [["r1", "r2"], ["r2", "r1"]]
    assert read["config in runs"] == [CONFIG, {"n": 2}]
    assert read["projects"] == ["demo"]
    assert "$near is not supported" in read["unsupported"]
    assert "missing" in read["missing"] and "rror" in read["missing"]
    assert "is not answered by labgate" in read["artifact"]
    notes = [exchange.note for exchange in wandb.ledger.unanswered()]
    assert len(notes) == 2 and "$near" in notes[0] and "artifact" in notes[1], notes


@of_versions(*VERSIONS)
def test_what_is_no_number_survives(client):
    odd = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "list": [math.nan, 1.0]}
    kept = {"nan": "NaN", "inf": "Infinity", "minus": "-Infinity", "list": ["NaN", 1.0]}
    init = {"project": "demo", "entity": "team", "id": "r1", "config": {"n": 1}}
    client.write("odd", init=init, rows=[odd, {"nan": 1.0}])
    read = client.read("team/demo/r1")
    assert same(read["scan"][0], kept)
    assert read["history"][0]["minus"] == "-Infinity" and read["summary"]["inf"] == "Infinity"


@of_versions(*OLDEST_AND_NEWEST)
@pytest.mark.parametrize("end", [3, "raised"])
def test_a_run_that_fails_has_failed(client, end):
    init = {"project": "demo", "entity": "team", "id": "r1", "config": {"n": 1}}
    client.write("failing", init=init, rows=[{"a": 1}], end=end, status=3 if end == 3 else 1)
    read = client.read("team/demo/r1")
    assert read["state"] == "failed" and len(read["scan"]) == 1


@of_versions(*OLDEST_AND_NEWEST)
def test_a_client_that_is_killed_keeps_all_but_the_last_rows(client):
    init = {"project": "demo", "entity": "team", "id": "r1", "config": {"n": 1}}
    file = client.writes("killed", init=init, rows=[{"a": number} for number in range(2000)], pause=0.05)
    process = client.start("wandb_write.py", file)
    times = file.with_suffix(".times")
    until(times.exists)
    time.sleep(5)
    killed = time.time()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    logged = [line.split() for line in times.read_text(encoding="utf-8").splitlines()]
    old = [int(number) for number, at in logged if float(at) < killed - 2]
    assert len(old) > 30
    read = client.read("team/demo/r1")
    assert [row["a"] for row in read["scan"]][: len(old)] == old
    time.sleep(3.5)
    assert client.read("team/demo/r1")["state"] == "crashed"


@of_versions(*OLDEST_AND_NEWEST)
def test_eight_at_once_lose_no_row(client):
    files = [
        client.writes(
            f"writer{number}",
            init={"project": "demo", "entity": "team", "id": f"r{number}", "config": {"n": number}},
            rows=[{"a": row, "by": number} for row in range(300)],
            pause=0.005,
        )
        for number in range(8)
    ]
    processes = [client.start("wandb_write.py", file) for file in files]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    for number in range(8):
        read = client.read(f"team/demo/r{number}")
        assert [(row["a"], row["by"]) for row in read["scan"]] == [(row, number) for row in range(300)]


@of_versions("newest")
def test_eight_write_one_run_and_lose_no_row(client):
    files = [
        client.writes(
            f"writer{number}",
            init={
                "project": "demo",
                "entity": "team",
                "id": "r1",
                "config": {"n": 1},
                "settings": {"mode": "shared", "x_primary": number == 0, "x_label": f"w{number}"},
            },
            rows=[{"a": row, "by": number} for row in range(50)],
            summary={f"best{number}": number},
            pause=0.01,
        )
        for number in range(8)
    ]
    processes = [client.start("wandb_write.py", file) for file in files]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    read = client.read("team/demo/r1")
    assert sorted((row["by"], row["a"]) for row in read["scan"]) == [
        (number, row) for number in range(8) for row in range(50)
    ]
    assert all(read["summary"][f"best{number}"] == number for number in range(8))


@of_versions(*OLDEST_AND_NEWEST)
def test_a_server_that_is_killed_in_between_costs_no_row(version, tmp_path):
    from servers import Process

    server = Process(tmp_path / "runs.db")
    client = Client(version, server, tmp_path)
    init = {"project": "demo", "entity": "team", "id": "r1", "config": {"n": 1}}
    file = client.writes("long", init=init, rows=[{"a": number} for number in range(150)], pause=0.05)
    process = client.start("wandb_write.py", file)
    until(file.with_suffix(".times").exists)
    time.sleep(3)
    server.kill()
    time.sleep(1.5)
    server.restart()
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    read = client.read("team/demo/r1")
    assert [row["a"] for row in read["scan"]] == list(range(150)) and read["state"] == "finished"
    server.kill()


def until(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
