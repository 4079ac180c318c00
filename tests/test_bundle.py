"""Reading an experiment: every form gives the same bundle, and broken input gives one clear line."""

import ast
import json
import os
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from labgate.bundle import BrokenFileError, Bundle, UnreadableError, find_bundles, is_bundle, read

RUN = "run_id: proposed-tiny\nmethod: proposed\ntraining:\n  epochs: 3\n  lr: 1e-3\n"
BASELINE = "run_id: comparative-1-tiny\nmethod: plain\ntraining:\n  epochs: 3\n  lr: 1e-3\n"
CODE = {
    "train_py": "import torch\n\n\ndef main():\n    print('<train> & \"go\"')\n",
    "evaluate_py": "import json\n",
    "preprocess_py": "import datasets\n",
    "model_py": "import torch.nn as nn\n",
    "main_py": "import hydra\n",
    "pyproject_toml": '[project]\nname = "tiny"\nversion = "0.1"\ndependencies = ["torch"]\n',
    "config_yaml": "run: null\nmode: full\nwandb:\n  entity: someone\n",
}
PATHS = {
    "src/train.py": "train_py",
    "src/evaluate.py": "evaluate_py",
    "src/preprocess.py": "preprocess_py",
    "src/model.py": "model_py",
    "src/main.py": "main_py",
    "pyproject.toml": "pyproject_toml",
    "config/config.yaml": "config_yaml",
}
CONFIGS = {"proposed-tiny": RUN, "comparative-1-tiny": BASELINE}
FILES = {path: CODE[key] for path, key in PATHS.items()} | {
    f"config/runs/{run_id}.yaml": text for run_id, text in CONFIGS.items()
}

LOG = """
LLM Name: some-model
Input:
Look at this experiment; its run configs lie in `config/runs/*.yaml`.

# Hypothesis
open_problems='Ranks are wasted, don\\'t ask' method="Weigh them" expected_result='It helps'

# Current Research Method
Weigh each rank.

# Not a heading of the template, but of the method

# Experimental Design
- Strategy: Train twice.
- one with weights
- one without
- Proposed Method: Weighted ranks
- Evaluation Metrics: ['Accuracy', 'F1']

# Experiment Runs
{runs}

# Generated Experiment Code (To be validated)
{code}

Now answer.
Output:
{{"is_code_ready": true, "code_issue": ""}}
"""


def logged() -> str:
    runs = "\n".join(
        f"- Run ID: {run_id}\n  Method: {run_id.rsplit('-', 1)[0]}\n  Model: None\n  Dataset: toy (small)\n"
        f"  \n  Config Content:\n  ```yaml\n  {text}\n  ```\n  \n"
        for run_id, text in CONFIGS.items()
    )
    code = json.dumps(CODE).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return LOG.format(runs=runs, code=code)


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    stamped = {**os.environ, "GIT_COMMITTER_DATE": "2025-11-06T12:00:00+00:00"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=stamped).stdout.strip()


def committed(root: Path, files: dict[str, str]) -> Path:
    write(root, files)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    return root


def texts(bundle: Bundle) -> dict[str, str | None]:
    return {path: file.text for path, file in bundle.files.items()}


def unreadable(spec: str | Path, **more: object) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(spec, **more)
    line = str(caught.value)
    assert line and "\n" not in line
    return line


def test_every_form_of_the_same_content_gives_the_same_bundle(tmp_path):
    write(tmp_path / "folder", FILES)
    committed(tmp_path / "repo", FILES)
    forms = {
        "log.txt": logged(),
        "configs.json": json.dumps({**CODE, "run_configs": CONFIGS}),
        "runs.json": json.dumps(
            {
                "experiment_code": CODE,
                "experiment_runs": [
                    {"run_id": run_id, "method_name": "m", "run_config": text}
                    for run_id, text in CONFIGS.items()
                ],
            }
        ),
        "files.json": json.dumps({"files": FILES}),
        "kept.json": json.dumps(
            {"research_session": {"iterations": [{"x": {"files": {"src/train.py": ""}}}]}}
        ),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
    read_all = [read(tmp_path / "folder"), read(f"{tmp_path}/repo@HEAD")]
    read_all += [read(tmp_path / name) for name in list(forms)[:4]]
    for bundle in read_all:
        assert texts(bundle) == FILES, bundle
        assert bundle.with_promise(None).digest == read_all[0].digest
    assert read(tmp_path / "kept.json").text("src/train.py") == ""


def test_a_logged_call_brings_the_promise(tmp_path):
    (tmp_path / "log.txt").write_text(logged())
    promise = read(tmp_path / "log.txt").promise
    assert promise is not None
    assert promise.hypothesis.startswith("open_problems: Ranks are wasted, don't ask\n\nmethod: Weigh them")
    assert promise.method.startswith("Weigh each rank.") and "Not a heading" in promise.method
    assert promise.design == "Train twice.\n- one with weights\n- one without"
    assert promise.metrics == ("Accuracy", "F1")
    assert [(run.run_id, run.method, run.model, run.dataset, run.role) for run in promise.runs] == [
        ("proposed-tiny", "proposed", "", "toy (small)", "proposed"),
        ("comparative-1-tiny", "comparative-1", "", "toy (small)", "baseline"),
    ]
    assert promise.run("proposed-tiny").config == RUN


def test_run_configs_go_where_the_form_says_that_they_lie(tmp_path):
    (tmp_path / "log.txt").write_text(logged().replace("`config/runs/*.yaml`", "`config/run/*.yaml`"))
    assert set(read(tmp_path / "log.txt").run_configs("config/run")) == set(CONFIGS)
    main = "open('config/run/x.yaml')\n"
    (tmp_path / "code.json").write_text(json.dumps({**CODE, "main_py": main, "run_configs": CONFIGS}))
    assert set(read(tmp_path / "code.json").run_configs("config/run")) == set(CONFIGS)


def test_a_revision_is_read_from_a_work_tree_a_subfolder_and_a_bare_repository(tmp_path):
    root = committed(tmp_path / "odd@name", {f"study/{path}": text for path, text in FILES.items()})
    first = git(root, "rev-parse", "HEAD")
    (root / "study/src/train.py").write_text("changed = True\n")
    git(root, "commit", "-aqm", "two")
    (root / "study/src/train.py").write_text("neither = True\n")
    bundle = read(f"{root}/study@{first[:10]}")
    assert texts(bundle) == FILES
    assert bundle.date == date(2025, 11, 6)
    assert read(f"{root}/study@HEAD").text("src/train.py") == "changed = True\n"
    assert read(f"{root}/study").text("src/train.py") == "neither = True\n"
    git(root, "clone", "-q", "--bare", str(root), str(tmp_path / "bare.git"))
    assert read(f"{tmp_path}/bare.git@{first}").text("study/src/train.py") == CODE["train_py"]


def test_a_revision_that_is_not_there_is_one_clear_line(tmp_path):
    root = committed(tmp_path / "repo", FILES)
    assert "no revision 'nowhere'" in unreadable(f"{root}@nowhere")
    assert "no revision '--all'" in unreadable(f"{root}@--all")
    assert "no git repository" in unreadable(f"{tmp_path}@HEAD")
    assert "holds no experiment" in unreadable(f"{committed(tmp_path / 'notes', {'README.md': ''})}@HEAD")


def test_links_in_a_revision_are_followed_inside_the_tree_only(tmp_path):
    write(tmp_path / "repo", FILES)
    (tmp_path / "repo/src/same.py").symlink_to("train.py")
    (tmp_path / "repo/src/out.py").symlink_to("../../secret.py")
    (tmp_path / "repo/src/abs.py").symlink_to("/etc/passwd")
    (tmp_path / "secret.py").write_text("secret = 1\n")
    bundle = read(f"{committed(tmp_path / 'repo', {})}@HEAD")
    assert bundle.text("src/same.py") == CODE["train_py"]
    for path in ("src/out.py", "src/abs.py"):
        assert bundle.files[path].problem == "is a link out of the tree"
        assert bundle.text(path) is None


def test_what_is_no_plain_file_in_a_folder_is_named_and_never_waited_for(tmp_path, monkeypatch):
    root = write(tmp_path / "b", FILES)
    (tmp_path / "secret.py").write_text("secret = 1\n")
    (root / "src/out.py").symlink_to(tmp_path / "secret.py")
    (root / "src/loop.py").symlink_to("loop.py")
    (root / "loop").symlink_to("loop")
    write(tmp_path / "elsewhere", {"research_history.json": "{}"})
    (root / ".research").symlink_to(tmp_path / "elsewhere")
    (root / "src/lost.py").symlink_to("nowhere.py")
    (root / "src/same.py").symlink_to("train.py")
    (root / "src/up").symlink_to("..")
    os.mkfifo(root / "src/pipe.py")
    (root / "src/huge.yaml").write_bytes(b"x" * (5 * 1024 * 1024))
    (root / "src/latin.py").write_bytes(b"x = '\xe9'\n")
    (root / "src/declared.py").write_bytes(b"# coding: latin-1\nx = '\xe9'\n")
    (root / "src/nul.py").write_bytes(b"x = 1\0\n")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("b/src/sock.py")
    listener.close()
    files = read(root).files
    problems = {path: file.problem for path, file in files.items() if file.problem}
    assert problems == {
        ".research": "is a link out of the tree",
        "loop": problems["src/loop.py"],
        "src/huge.yaml": "is larger than 4 MiB",
        "src/latin.py": "is not UTF-8",
        "src/loop.py": problems["src/loop.py"],
        "src/lost.py": "is a link that leads nowhere",
        "src/nul.py": "contains NUL bytes",
        "src/out.py": "is a link out of the tree",
        "src/pipe.py": "is no regular file but a pipe, a socket or a device",
        "src/sock.py": "is no regular file but a pipe, a socket or a device",
        "src/up": "is a link to a folder, which is not followed",
    }
    assert "loop" in problems["src/loop.py"] or "links" in problems["src/loop.py"]
    assert files["src/same.py"].text == CODE["train_py"]
    assert "é" in (files["src/declared.py"].text or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_problem_of_the_file(tmp_path):
    root = write(tmp_path, FILES)
    (root / "src/train.py").chmod(0)
    assert read(root).files["src/train.py"].problem == "cannot be read: Permission denied"


def test_what_tools_leave_behind_is_skipped_and_other_files_are_listed(tmp_path):
    extra = {
        ".venv/lib/x.py": "1",
        "env/pyvenv.cfg": "",
        "env/lib/y.py": "",
        "src/__pycache__/train.pyc": "",
        "results/run/metrics.json": "{}",
        ".cache/hub/m.py": "",
        "src/results/keep.py": "kept = True\n",
        "data/train.csv": "a,b\n",
        "README.md": "words\n",
        "tools/more.py": "x = 1\n",
    }
    bundle = read(write(tmp_path, FILES | extra))
    added = set(bundle.files) - set(FILES)
    assert added == {"src/results/keep.py", "data/train.csv", "README.md", "tools/more.py"}
    assert {path for path in added if bundle.files[path].listed} == {"data/train.csv", "README.md"}
    assert bundle.files["data/train.csv"].data == b"" and bundle.text("data/train.csv") is None
    assert "tools/more.py" in bundle.sources


def test_a_folder_full_of_files_is_cut_and_loses_nothing_that_matters(tmp_path):
    root = write(tmp_path, FILES)
    (root / "aaa").mkdir()
    for number in range(5100):
        (root / "aaa" / f"{number}.txt").touch()
    bundle = read(root)
    assert bundle.cut and len(bundle.files) == 5000
    assert {path: bundle.text(path) for path in FILES} == FILES


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.json", '{"train_py": "x', "cut.json:1: does not parse"),
        ("other.json", '{"a": [1, 2]}', "no experiment in this JSON"),
        ("list.json", "[]", "no experiment in this JSON"),
        ("deep.json", '{"a":' * 5000, "nested too deep"),
        ("number.json", '{"files": {"src/a.py": 3}}', "src/a.py is no text"),
        ("escape.json", '{"files": {"../a.py": ""}}', "cannot lie in a bundle: '../a.py'"),
        ("absolute.json", '{"files": {"/etc/a.py": ""}}', "cannot lie in a bundle"),
        ("both.json", '{"files": {"src": "", "src/a.py": ""}}', "src is both a file and a folder"),
        ("run.json", '{"train_py": "", "run_configs": {"../../../x": "a: 1"}}', "cannot lie in a bundle"),
        ("notes.txt", "just words", "neither AIRAS's JSON nor a logged reviewer call"),
        ("log.txt", "LLM Name: x\nInput:\nhello\n", "neither AIRAS's JSON nor a logged reviewer call"),
        ("image.bin", b"\xff\xfe\x00\x01", "is not UTF-8 text"),
        ("empty.txt", "", "neither AIRAS's JSON nor a logged reviewer call"),
    ],
)
def test_a_file_that_holds_no_experiment_is_one_clear_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in unreadable(tmp_path / name)


def test_a_log_that_is_cut_anywhere_is_read_or_refused(tmp_path):
    whole = logged()
    for end in range(0, len(whole), 97):
        (tmp_path / "log.txt").write_text(whole[:end])
        try:
            read(tmp_path / "log.txt")
        except UnreadableError as error:
            assert "\n" not in str(error)


def test_a_path_that_leads_nowhere_is_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "words", {"README.md": "hello"})
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a file" in unreadable(tmp_path / "missing")
    assert "neither a folder nor a file" in unreadable("a\0b")
    assert "is empty" in unreadable(tmp_path / "empty")
    assert "holds no experiment" in unreadable(tmp_path / "words")
    assert "no regular file" in unreadable(tmp_path / "pipe")
    assert "no regular file" in unreadable("/dev/zero")
    unreadable("x" * 5000)
    unreadable("")
    unreadable("@")
    unreadable("@HEAD~1000000")


def test_a_folder_of_bundles_is_found(tmp_path):
    write(tmp_path / "b", FILES)
    write(tmp_path / "a", {"pyproject.toml": ""})
    write(tmp_path / "notes", {"x.txt": ""})
    write(tmp_path / ".hidden", FILES)
    assert not is_bundle(tmp_path)
    assert [path.name for path in find_bundles(tmp_path)] == ["a", "b"]
    with pytest.raises(UnreadableError):
        find_bundles(tmp_path / "missing")


def test_an_edit_gives_a_new_bundle_and_another_digest():
    bundle = Bundle.from_files(FILES)
    changed = bundle.edit("src/main.py", "import hydra", "import os").without("src/model.py")
    assert changed.text("src/main.py") == "import os\n" and "src/model.py" not in changed.files
    assert bundle.text("src/main.py") == "import hydra\n"
    assert changed.digest != bundle.digest == Bundle.from_files(FILES, name="other").digest
    with pytest.raises(ValueError, match="0 times"):
        bundle.edit("src/main.py", "import json", "")


def test_a_source_that_does_not_parse_says_where():
    bundle = Bundle.from_files(
        {"src/a.py": "x = 1\ny = (\n", "src/__init__.py": "", "src/b.py": "z = '\\d'\n"}
    )
    broken = bundle.module("src.a")
    assert broken.tree is None and broken.error.startswith("does not parse: ") and broken.error_line == 2
    assert bundle.module("src").module == "src" and bundle.module("src.c") is None
    assert bundle.module("src.b").error is None


def test_nodes_are_those_of_a_walk():
    source = Bundle.from_files({"a.py": Path(__file__).read_text()}).sources["a.py"]
    assert source.nodes == tuple(ast.walk(source.tree))


def test_lines_are_counted_as_python_counts_them():
    text = "a = 1\n\x0c\nb = '\u2028\x85'\r\nc = 3  # here\r"
    bundle = Bundle.from_files({"src/a.py": text})
    assert bundle.module("src.a").tree.body[2].lineno == 4
    assert bundle.place("src/a.py", 4, "set here").shows == "c = 3  # here"
    assert bundle.place("src/a.py", 99).shows == "" and bundle.place("missing.py", 1).shows == ""
    assert len(Bundle.from_files({"a.py": "x" * 10_000}).place("a.py", 1).shows) == 300


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "(" * 1000,
        "-" * 50_000 + "1",
        "a" + ".b" * 5000,
        "a" + ".b" * 400,
        "f" + "()" * 5000,
        "1" + "+1" * 5000,
        "import " + "a." * 200_000 + "b",
        "import \\\n" + "a.\\\n" * 20_000 + "b",
        "x = 1\0",
        "if x:\n pass\n" + "elif x:\n pass\n" * 2000,
        "1" * 10_000,
        "\ud800",
    ],
    ids=lambda text: f"{text[:9]!r}*{len(text)}",
)
def test_python_that_would_choke_a_parser_is_a_problem_of_that_file(text):
    source = Bundle.from_files({"src/a.py": text}).sources["src/a.py"]
    assert source.tree is None and source.nodes == () and source.error


def test_a_warning_of_the_parser_stays_quiet():
    script = (
        "from labgate.bundle import Bundle\n"
        "assert Bundle.from_files({'a.py': 'x = \"\\\\d\" is 3'}).sources['a.py'].tree\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_scalars_are_read_as_omegaconf_reads_them():
    from omegaconf import OmegaConf

    text = (
        "a: 1e-4\nb: 2025-11-06\nc: on\nd: 0o7\ne: 1_000\nf: .5\ng: 1.\nh: ~\ni: '1'\nj: 1:30\nk: -.inf\n"
        "l: +1e3\nm: 0x1F\nn: .e5\no: 1e+5\np: ${a}\nbase: &base {q: 1}\nr:\n  <<: *base\n  s: 2\n"
    )
    ours = Bundle.from_files({"c.yaml": text}).yaml("c.yaml")
    assert ours == OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    assert isinstance(ours["a"], float) and ours["b"] == "2025-11-06"


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        (bomb(), "amounts to more than 100,000 nodes", 8),
        ("a: 1\nb: &b [*b]\n", "inside its own anchor", 2),
        ("- " * 5000, "nested more than 100 levels", 1),
        ("[" * 100_000, "nested more than 100 levels", 1),
        ("a: 1\nb: 2\na: 3\n", "has the key 'a' twice, first on line 1", 3),
        ("a: 1\n---\nb: 2\n", "more than one document", 2),
        ("a: [1\n", "does not parse", 2),
        ("a: \x01\n", "U+0001", 0),
        ("a: !!python/object/apply:os.system [ls]\n", "does not parse", 1),
        ("a: !!timestamp x\n", "a value does not fit its tag", 0),
        ("a: !!int x\n", "does not parse", 0),
        ("a: " + "1:1" * 100_000, "too large", 1),
        ("a: 0x" + "f" * 100_000, "too large", 1),
        ("a: b\n" * 300_000, "too large", 0),
        ("a: 1\0", "contains NUL bytes", 0),
        ("a: *nowhere\n", "does not parse", 1),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_yaml_that_does_not_parse_or_is_a_bomb_says_so_at_its_line(text, says, line):
    bundle = Bundle.from_files({"config/config.yaml": text})
    for _ in range(2):
        with pytest.raises(BrokenFileError) as caught:
            bundle.yaml("config/config.yaml")
        assert says in caught.value.says and caught.value.line == line
    assert bundle.key_line("config/config.yaml", "a") in (0, 1, 3)


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("[project]\nname = \n", "does not parse: Invalid value", 2),
        ("a = 1\na = 2\n", "does not parse: Cannot overwrite a value", 2),
        ("a = " + "[" * 5000, "nested too deep", 0),
        ("a." * 20_000 + "b = 1\n", "too many parts", 0),
        ("a = 0x" + "f" * 100_000, "too large", 0),
        ("a = " + "1" * 10_000, "does not parse", 0),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_toml_that_does_not_parse_says_so_at_its_line(text, says, line):
    bundle = Bundle.from_files({"pyproject.toml": text})
    with pytest.raises(BrokenFileError) as caught:
        bundle.toml("pyproject.toml")
    assert says in caught.value.says and caught.value.line == line


def test_a_file_that_is_not_there_is_a_broken_file():
    with pytest.raises(BrokenFileError, match=r"x\.yaml does not exist"):
        Bundle.from_files({}).yaml("x.yaml")


def test_keys_are_found_at_their_lines():
    pyproject = (
        '[project]\nname = "x"\ndependencies = [\n  "torch",\n]\n\n[tool."a.b".c]\nd.e = 1\n'
        "[[tool.uv.index]]\nname = 1\n[[tool.uv.index]]\nname = 2\n[project.dependencies]\n"
    )
    bundle = Bundle.from_files({"pyproject.toml": pyproject, "c.yaml": "a:\n  b:\n    - x\n    - c: 1\n"})
    assert bundle.key_line("pyproject.toml", "project", "dependencies") == 3
    assert bundle.key_line("pyproject.toml", "tool", "a.b", "c", "d", "e") == 8
    assert bundle.key_line("pyproject.toml", "tool", "uv", "index", 1, "name") == 12
    assert bundle.key_line("c.yaml", "a", "b", 1, "c") == 4
    assert bundle.key_line("c.yaml", "a", "missing", "more") == 1
    assert bundle.key_line("c.yaml", "missing") == 0 == bundle.key_line("none.yaml", "a")


def seed() -> Path:
    folder = os.environ.get("LABGATE_SEED")
    if not folder:
        pytest.skip("LABGATE_SEED names no folder")
    return Path(folder)


def test_the_seed_is_the_same_as_log_and_as_folder_and_is_read_quickly(tmp_path):
    from time import perf_counter

    log = next(seed().glob("*.txt"))
    subprocess.run([seed() / "unpack", tmp_path / "seed"], check=True)
    folder, call = read(tmp_path / "seed"), read(log)
    assert texts(folder) == texts(call) and len(folder.files) == 9
    assert [run.role for run in call.promise.runs] == ["proposed", "baseline"]
    assert call.promise.metrics == ("Accuracy", "Matthews Correlation", "Wall-clock Training Time")
    assert (
        call.promise.hypothesis.startswith("open_problems: ") and call.promise.method and call.promise.design
    )
    for spec in (tmp_path / "seed", log):
        times = []
        for _ in range(5):
            start = perf_counter()
            read(spec)
            times.append(perf_counter() - start)
        assert min(times) < 0.015, spec
