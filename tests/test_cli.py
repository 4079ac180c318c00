"""The command line: exit codes, one clear line for what is wrong, and a quiet end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labgate import cli
from labgate.checks import Check
from labgate.finding import Basis, Impact, cannot_tell, failed, passed

RUN = [sys.executable, "-m", "labgate"]


@pytest.fixture(autouse=True)
def no_terminal_of_the_user(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def a_check(answer):
    def looks(bundle):
        yield passed("fine") if "fine" in bundle.name else answer(bundle)

    return Check("files/looks-right", looks, ("files.train-py",), Impact.BREACHES, ("bundle",), Basis.READ)


def breaks(bundle):
    return failed("it is broken", bundle.place("src/train.py", 1, "here"), do="mend it")


@pytest.fixture
def checks(monkeypatch):
    """One check instead of all: it fails unless the bundle's name holds "fine"."""
    monkeypatch.setattr("labgate.examine.all_checks", lambda: (a_check(breaks),))


@pytest.fixture
def experiment(tmp_path):
    def make(name):
        folder = tmp_path / "bundles" / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "train.py").write_text("print('hello')\n")
        return str(folder)

    return make


def test_not_ready_exits_with_1_and_shows_the_place(checks, experiment, capsys):
    assert cli.main(["check", experiment("one")]) == 1
    assert "src/train.py:1  here" in capsys.readouterr().out


def test_undecided_exits_with_3(checks, experiment, capsys):
    assert cli.main(["check", experiment("fine")]) == 3
    assert "UNDECIDED" in capsys.readouterr().out


def test_quiet_prints_one_line(checks, experiment, capsys):
    cli.main(["check", "-q", experiment("one")])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_several_paths_give_a_line_each_and_the_worst_code(checks, experiment, capsys):
    assert cli.main(["check", experiment("fine"), experiment("two")]) == 1
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "UNDECIDED",
        "NOT READY",
    ]


def test_a_folder_of_bundles_is_checked_bundle_by_bundle(checks, experiment, capsys):
    folder = Path(experiment("fine-1")).parent
    experiment("fine-2")
    assert cli.main(["check", str(folder)]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_one_unreadable_path_does_not_keep_the_others_from_being_read(checks, experiment, capsys):
    assert cli.main(["check", "/nowhere/at/all", experiment("one")]) == 2
    told = capsys.readouterr()
    assert "NOT READY" in told.out
    assert told.err.startswith("labgate: ") and len(told.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["check"], "PATH"),
        (["check", "x", "--format", "xml"], "xml"),
        (["check", "x", "--as-of", "yesterday"], "yesterday"),
        (["check", "x", "--nonsense"], "--nonsense"),
        (["check", "/nowhere/at/all"], "/nowhere/at/all"),
        (["check", ".", "--contract", "airas-1999"], "airas-2025-11"),
        (["check", ".", "--promise", "/nowhere/at/all"], "/nowhere/at/all"),
        (["check", "nul\0byte"], "nul"),
        (["check", ""], "empty"),
        (["frobnicate"], "frobnicate"),
        (["explain", "tracking/nonsense"], "nonsense"),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_clear_line(argv, word, checks, capsys):
    assert cli.main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert word in told.err and len(told.err.splitlines()) == 1
    assert "Traceback" not in told.err


def test_json_and_airas_are_data_and_nothing_else(checks, experiment, capsys):
    path = experiment("one")
    assert cli.main(["check", path, "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["bundle"]["name"] == "one"
    assert cli.main(["check", path, "--format", "airas"]) == 1
    assert json.loads(capsys.readouterr().out)["is_code_ready"] is False
    assert cli.main(["check", path, experiment("two"), "--format", "json"]) == 1
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_output_goes_to_the_file_and_one_line_is_printed(checks, experiment, tmp_path, capsys):
    file = tmp_path / "report.txt"
    assert cli.main(["check", experiment("one"), "--output", str(file)]) == 1
    assert "src/train.py:1" in file.read_text()
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert cli.main(["check", experiment("two"), "--output", str(tmp_path / "no" / "report")]) == 2


def test_the_contract_can_be_named(checks, experiment, capsys):
    cli.main(["check", experiment("one"), "--contract", "airas-2025-10-16"])
    assert "contract airas-2025-10-16" in " ".join(capsys.readouterr().out.split())


def test_contracts_are_listed_with_their_dates(capsys):
    assert cli.main(["contracts"]) == 0
    assert "airas-2025-11  since 2025-11-06" in capsys.readouterr().out


def test_explain_tells_how_a_sub_bullet_is_settled(capsys):
    assert cli.main(["explain", "hydra.cli-full"]) == 0
    told = capsys.readouterr().out
    assert "settled by  running (to come)" in told


def test_explain_without_a_name_lists_every_sub_bullet(capsys):
    assert cli.main(["explain"]) == 0
    assert "evaluation.significance" in capsys.readouterr().out


def test_explain_offers_what_comes_close(capsys):
    assert cli.main(["explain", "hydra.cli-ful"]) == 2
    assert "hydra.cli-full" in capsys.readouterr().err


def test_version_and_help_exit_with_0(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("labgate 0.")
    assert cli.main([]) == cli.main(["--help"]) == cli.main(["check", "--help"]) == 0


def test_a_failure_of_ours_is_one_line_and_undecided(monkeypatch, experiment, capsys):
    def explode(*_, **__):
        raise RuntimeError("ours")

    monkeypatch.setattr("labgate.examine.examine", explode)
    assert cli.main(["check", experiment("one")]) == 3
    assert capsys.readouterr().err.startswith("labgate: its own failure: RuntimeError: ours (")


def test_interruption_exits_with_130_and_says_nothing(monkeypatch, experiment, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("labgate.examine.examine", interrupt)
    assert cli.main(["check", experiment("one")]) == 130
    assert capsys.readouterr() == ("", "")


def test_what_is_cannot_be_told_counts_neither_way(monkeypatch, experiment, capsys):
    check = a_check(lambda bundle: cannot_tell("too dynamic"))
    monkeypatch.setattr("labgate.examine.all_checks", lambda: (check,))
    assert cli.main(["check", experiment("one"), "-v"]) == 3
    assert "too dynamic" in capsys.readouterr().out


def test_a_broken_pipe_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run([*RUN, "explain"], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert child.stderr == b""
    assert child.returncode == 141


def test_output_that_the_terminal_cannot_spell_is_no_crash(experiment):
    program = "import sys, labgate.cli as c, labgate.examine as e; e.all_checks = lambda: ();"
    program += f"sys.exit(c.main(['check', {experiment('one')!r}]))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    child = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, timeout=60)
    assert (child.returncode, child.stderr) == (3, b"")
    assert b" ? contract" in child.stdout


def test_ctrl_c_ends_quietly(tmp_path):
    """From outside: the signal arrives while a bundle is being read."""
    fifo = tmp_path / "src"
    fifo.mkdir()
    program = (
        "import time, labgate.cli as c, labgate.examine as e; e.examine = lambda *a, **k: time.sleep(60);"
    )
    program += f"print('ready', flush=True); import sys; sys.exit(c.main(['check', {str(tmp_path)!r}]))"
    (fifo / "train.py").write_text("")
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a test run in the background ignores the signal, and a child would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout and child.stdout.readline() == b"ready\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("module", ["rich", "pydantic", "hydra", "yaml", "griffe"])
def test_starting_up_loads_nothing_heavy(module):
    code = f"import sys, labgate.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
