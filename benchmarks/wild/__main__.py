"""How many real defects does reading find? Run as `uv run python benchmarks/wild --repos DIR`.

DIR holds one git repository for each of those named in defects.toml, as `owner+name`, `owner+name/repo` or
`owner/name`, with or without a work tree. Each bundle is read at its own commit, with the packages of its own
day. A defect counts as found when a failing finding of a check of its class points at its file, and at its
lines or at its construct.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
import tomllib
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLASSES: dict[str, tuple[str, ...]] = {
    "PYPROJECT_PEP621": ("packaging/",),
    "PYPROJECT_BUILD": ("packaging/",),
    "MISSING_DEP": ("packaging/", "imports/", "soft_dependencies/"),
    "HYDRA_STRUCT": ("configs/", "hydra/", "working_directory/", "search/", "code/"),
    "HYDRA_GROUP": ("hydra/", "configs/", "code/", "run_configs/"),
    "HYDRA_MAIN": ("hydra/", "run_configs/", "configs/"),
    "CWD_IMPORT": ("working_directory/", "code/", "hydra/"),
    "OPTUNA_SPACE": ("search/", "configs/"),
    "CFG_KEY": ("configs/", "code/", "tracking/", "evaluation/"),
    "BAD_API": ("apis/", "code/", "model/"),
    "LANG": ("complete/", "hydra/", "files/", "code/"),
    "DANGLING": ("code/", "imports/", "files/"),
    "HUB_ID": ("hub/", "data/", "model/"),
    "AUTOGRAD": ("pytorch/", "integrity_gradients/"),
    "EVAL_CLI": ("evaluation/", "command_line/"),
}
"""Families of checks that speak of a class of defects."""
SLACK = 2
"""Lines by which a finding may miss the place that the reader of the repair pointed at."""


Alarm = tuple[tuple[str, str], dict[str, Any], str]
"""A state that ran, a finding that says it would not, and the command that it ran by if not the contract's."""


def find(folder: Path, repo: str) -> Path | None:
    """The git directory of a repository below `folder`."""
    owner, _, name = repo.partition("/")
    for place in (f"{owner}+{name}/repo", f"{owner}+{name}", f"{owner}/{name}", name):
        for git in (folder / place / ".git", folder / place):
            if (git / "HEAD").exists():
                return git
    return None


def examined(job: tuple[str, str, str, bool]) -> dict[str, Any]:
    """One bundle's findings as plain data, or why it could not be read."""
    from labgate import contract
    from labgate.bundle import UnreadableError, read
    from labgate.examine import examine

    repo, git, commit, resolve = job
    start = time.perf_counter()
    try:
        bundle = read(f"{git}@{commit}")
    except UnreadableError as error:
        return {"repo": repo, "commit": commit, "unreadable": str(error)}
    chosen = contract.propose(bundle)
    day = bundle.date + timedelta(days=1) if bundle.date else None
    result = examine(bundle, chosen, as_of=day, resolve=resolve)
    findings = [
        {
            "check": f.check,
            "outcome": str(f.outcome),
            "impact": str(f.impact),
            "says": f.says,
            "evidence": [(e.where, e.line, e.shows, e.label) for e in f.evidence],
        }
        for f in result.findings
    ]
    return {
        "repo": repo,
        "commit": commit,
        "decision": str(result.verdict.decision),
        "contract": chosen.name,
        "findings": findings,
        "seconds": time.perf_counter() - start,
    }


def hit(defect: dict[str, Any], findings: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The finding that finds `defect`: its class, its file, and its lines or its construct."""
    spots = [(defect["file"], defect["lines"][0] - SLACK, defect["lines"][1] + SLACK)]
    for other in defect.get("also", ()):
        path, _, lines = other.partition(":")
        first, _, last = lines.partition("-")
        spots.append((path, int(first or 0) - SLACK, int(last or first or 10**6) + SLACK))
    words = [word for word in _words(defect["construct"]) if len(word) > 2]
    for finding in findings:
        if finding["outcome"] != "fail" or finding["impact"] == "remarks":
            continue
        if not finding["check"].startswith(CLASSES.get(defect["class"], ("",))):
            continue
        told = " ".join([finding["says"], *(f"{s} {label}" for _, _, s, label in finding["evidence"])])
        for where, line, *_ in finding["evidence"]:
            if any(where == path and first <= line <= last for path, first, last in spots):
                return finding
            named = bool(words) and all(word in told for word in words)
            if named and any(where == path for path, _, _ in spots):
                return finding
    return None


def _words(construct: str) -> list[str]:
    return construct.replace("(", " ").replace(")", " ").replace("=", " ").replace(",", " ").split()


def table(defects: list[dict[str, Any]], results: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The markdown table of docs/benchmark.md, and the defects that were missed."""
    by_class: dict[str, list[bool]] = defaultdict(list)
    missed = []
    for defect in defects:
        result = results.get((defect["repo"], defect["bundle"]))
        if result is None:
            continue
        found = hit(defect, result.get("findings", []))
        by_class[defect["class"]].append(found is not None)
        if found is None:
            missed.append(defect)
    rows = ["| class | defects | found by reading |", "| --- | ---: | ---: |"]
    for name, found_all in sorted(by_class.items(), key=lambda item: -len(item[1])):
        rows.append(f"| {name} | {len(found_all)} | {sum(found_all)} |")
    total = [found for found_all in by_class.values() for found in found_all]
    share = 100 * sum(total) / len(total) if total else 0
    rows.append(f"| **all** | **{len(total)}** | **{sum(total)}** ({share:.0f} %) |")
    if missed:
        rows += ["", "Not found:", ""]
        rows += [
            f"- {d['class']}, {d['repo']}@{d['bundle'][:8]}, {d['file']}:{d['lines'][0]}: {d['why']}"
            for d in missed
        ]
    return "\n".join(rows)


def sample(results: dict[tuple[str, str], dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """Failing findings above remarks, drawn without replacement by a fixed seed."""
    pool = [
        {"repo": r["repo"], "commit": r["commit"], **finding}
        for _, r in sorted(results.items())
        for finding in r.get("findings", ())
        if finding["outcome"] == "fail" and finding["impact"] != "remarks"
    ]
    return random.Random(seed).sample(pool, min(size, len(pool)))


def run(wanted: set[tuple[str, str]], arguments: argparse.Namespace) -> dict[tuple[str, str], dict[str, Any]]:
    """Examine the bundles that are there, by repository and first twelve letters of the commit."""
    jobs = []
    for repo, commit in sorted(wanted):
        if arguments.only not in repo:
            continue
        git = find(arguments.repos, repo)
        if git is None:
            print(f"not there, left out: {repo}")
        else:
            jobs.append((repo, str(git), commit, not arguments.no_resolve))
    results: dict[tuple[str, str], dict[str, Any]] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for number, result in enumerate(pool.map(examined, jobs), 1):
            print(f"\r{number} of {len(jobs)} bundles", end="", file=sys.stderr, flush=True)
            results[result["repo"], result["commit"][:12]] = result
    print(file=sys.stderr)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repos", type=Path, required=True, help="where the repositories lie")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-resolve", action="store_true", help="leave out what needs the package registry")
    parser.add_argument(
        "--passed", action="store_true", help="the repaired states that ran, for false alarms"
    )
    parser.add_argument("--docs", type=Path, help="write the page docs/benchmark.md here, from both sets")
    parser.add_argument("--sample", type=int, metavar="N", help="print N findings drawn by the fixed seed")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--json", type=Path, help="write all findings to this file")
    parser.add_argument("--only", default="", help="repositories whose name holds this")
    arguments = parser.parse_args()
    defects = tomllib.loads((HERE / "defects.toml").read_text())["defect"]
    passed = [p for p in tomllib.loads((HERE / "passed.toml").read_text())["passed"] if not p.get("trivial")]
    bundles = tomllib.loads((HERE / "bundles.toml").read_text())["bundle"]
    generated = {(b["repo"], b["commit"]) for b in bundles}
    repaired = {(p["repo"], p["commit"]) for p in passed}
    results = run(repaired if arguments.passed else generated, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(list(results.values()), indent=1))
    if arguments.docs:
        arguments.docs.write_text(page(defects, passed, results, run(repaired, arguments)))
    if arguments.sample or not arguments.docs:
        report(arguments, defects, passed, results)
    return 0


def page(
    defects: list[dict[str, Any]],
    passed: list[dict[str, Any]],
    results: dict[tuple[str, str], dict[str, Any]],
    ran: dict[tuple[str, str], dict[str, Any]],
) -> str:
    """docs/benchmark.md."""
    counted = [d for d in defects if d["decides"] == "reading"]
    errors = sum(f["outcome"] == "error" for r in results.values() for f in r.get("findings", ()))
    decisions = Counter(r.get("decision", "unreadable") for r in results.values())
    alarms = alarms_of(passed, ran)
    struck = len({key for key, _, _ in alarms})
    wrongly = len({key for key, _, ran_as in alarms if not ran_as})
    labels = tomllib.loads((HERE / "judged.toml").read_text())
    every, rest = labels["finding"], labels["rest"]
    judged = [finding for finding in every if finding["round"] == max(f["round"] for f in every)]
    true = sum(finding["true"] for finding in judged)
    wrong = [finding for finding in judged if not finding["true"]] + rest["wrong"]
    return "\n".join(
        [
            "# How often labgate is right, by reading",
            "",
            "Written by `uv run python benchmarks/wild --repos DIR --docs docs/benchmark.md`; DIR holds the public",
            "repositories that `benchmarks/wild/bundles.toml` names. Each bundle is read at its own commit, with the",
            "packages of its own day. Labels were made by one reader from the commits that mended each defect.",
            "",
            "## Defects that were mended later",
            "",
            f"{len(results)} bundles, {errors} ERROR findings; verdicts: "
            + ", ".join(f"{count} {name}" for name, count in sorted(decisions.items()))
            + ".",
            "Counted are defects that stood in the generated commit, were mended later and can be decided by reading.",
            "Found means: a failure above `remarks`, of a check of that class, at that file, and at its lines or its",
            "construct.",
            "",
            table(counted, results),
            "",
            "## Alarms on states that ran",
            "",
            f"Of {len(ran)} repaired states in which a stage of a run ended well, {struck} have a `blocks` finding "
            "for that run",
            f"and stage; {struck - wrongly} of these ran by another command than the contract's, which they do not "
            "take.",
            *(["", *map(_told, alarms)] if alarms else []),
            "",
            "## Precision",
            "",
            f"{len(judged)} failing findings drawn by a fixed seed from all bundles and judged one by one against the",
            f"code: **{true} of {len(judged)} are true ({100 * true / len(judged):.0f} %)**. Earlier rounds had found "
            "56 of 60 true, twice, and 180 of 193;",
            "what was false was mended, on these same bundles, and "
            f"{sum(not f['new'] for f in judged)} of the {len(judged)} had been judged before. Of the",
            f"{rest['judged']} findings that no round had drawn, {rest['judged'] - len(rest['wrong'])} are true "
            f"({100 - 100 * len(rest['wrong']) / rest['judged']:.0f} %). What that says of other bundles is for others",
            "to measure.",
            *(["", "Found false last, of which the first two are mended:", ""] if wrong else []),
            *[f"- {f['check']}, {f['repo']}@{f['commit']}, {f['place']}: {f['why']}" for f in wrong],
            "",
        ]
    )


def alarms_of(passed: list[dict[str, Any]], results: dict[tuple[str, str], dict[str, Any]]) -> list[Alarm]:
    """Blocking findings that strike the very run and stage that ran, with the command if it was another one."""
    states = {(p["repo"], p["commit"][:12]): p for p in passed}
    return [
        (key, finding, states[key].get("ran_as", ""))
        for key, result in results.items()
        for finding in result.get("findings", ())
        if _alarm(finding, states[key])
    ]


def _told(alarm: Alarm) -> str:
    (repo, commit), finding, ran_as = alarm
    place = "{}:{}".format(*finding["evidence"][0][:2]) if finding["evidence"] else ""
    why = f" (it ran as `{ran_as}`)" if ran_as else ""
    return f"- {repo}@{commit[:8]} {place}: {finding['check']}: {finding['says'][:160]}{why}"


def report(
    arguments: argparse.Namespace,
    defects: list[dict[str, Any]],
    passed: list[dict[str, Any]],
    results: dict[tuple[str, str], dict[str, Any]],
) -> None:
    if arguments.sample:
        for number, drawn in enumerate(sample(results, arguments.sample, arguments.seed), 1):
            print(f"{number}. {drawn['repo']}@{drawn['commit'][:8]} {drawn['impact']} {drawn['check']}")
            print(f"   {drawn['says']}")
            for where, line, shows, label in drawn["evidence"]:
                print(f"   {where}:{line}  {shows[:100]}  ({label})")
        return
    errors = [
        (r["repo"], f) for r in results.values() for f in r.get("findings", ()) if f["outcome"] == "error"
    ]
    unreadable = [r for r in results.values() if "unreadable" in r]
    print(f"{len(results)} bundles, {len(unreadable)} unreadable, {len(errors)} ERROR findings")
    for repo, finding in errors[:20]:
        print(f"  {repo}: {finding['check']}: {finding['says'][:160]} {finding['evidence'][:1]}")
    print("verdicts:", dict(Counter(r.get("decision", "unreadable") for r in results.values())))
    if arguments.passed:
        alarms = alarms_of(passed, results)
        print(
            f"{len({key for key, _, _ in alarms})} of {len(results)} states that ran have a blocking finding for "
            "the run and stage that ran:"
        )
        print("\n".join(map(_told, alarms)))
        return
    counted = [d for d in defects if d["decides"] == "reading" and arguments.only in d["repo"]]
    print("\nDefects that stood in the generated commit, were mended later, and can be decided by reading:\n")
    print(table(counted, results))


def _alarm(finding: dict[str, Any], state: dict[str, Any]) -> bool:
    """A blocking finding that, by its own words, strikes the run and stage that really ran."""
    if finding["outcome"] != "fail" or finding["impact"] != "blocks":
        return False
    says = finding["says"]
    if "(evaluate)" in says or (finding["evidence"] and finding["evidence"][0][0].endswith("evaluate.py")):
        return False
    stage = state.get("stage")
    if "mode " in says and stage and f"mode {stage}" not in says:
        return False
    run = state.get("run_id")
    named = re.findall(r"(?:proposed|comparative)-[\w.\-]+", says)
    if run and named and run not in named:
        return False
    return not (run and "mode " in says and f"{run}, mode {stage}" not in says and " more)" not in says)


if __name__ == "__main__":
    sys.exit(main())
