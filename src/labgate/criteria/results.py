"""Criterion 8, results: the numbers that the evaluation writes, per run and for all runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._arithmetic import comparisons
from labgate.criteria._asked import Asked, Part, part_of, questions
from labgate.criteria._metric_names import family, recorded_as
from labgate.criteria._outputs import TABLE_WRITERS, Written, comparison_folder, figures, files, run_folder
from labgate.criteria._tracing import caller, cut, evaluation_walk, parts_of, reached, run_ids
from labgate.criteria._wandb import told, whole
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, Use, Walk, evidence
from labgate.flow.flow import RESULTS
from labgate.flow.values import External, Known, Map, OneOf, Value, sources


@check("evaluation.per-run-metrics", "evaluation.per-run-folders", impact=Impact.BREACHES)
def each_run_has_its_metrics(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Each run's metrics are written to metrics.json in a folder of the run's own.

    Whoever takes the results further looks there. One file for all, or a name that two runs share, and the
    second run has overwritten the first.

    Bad:
        json.dump(summary, open(f"{results_dir}/{run_id}_metrics.json", "w"))
    Good:
        json.dump(summary, open(f"{results_dir}/{run_id}/metrics.json", "w"))
    """
    walk = evaluation_walk(flow)
    written = files(bundle, walk)
    ids = run_ids(walk) or ["run-1"]
    name = contract.outputs.get("run_metrics", "").rpartition("/")[2] or "metrics.json"
    wanted = [f"{run_folder(contract, run_id)}/{name}" for run_id in ids]
    hits = [
        w for w in written if w.placed and any(w.may_be(path) for path in wanted) and w.path.endswith(name)
    ]
    if hits:
        yield passed(
            f"each run's metrics go to {hits[0].shown}",
            evidence(bundle, hits[0].call.place, "written here"),
        )
    elif any(w.may_be(path) for w in written for path in wanted):
        place = next(w.call.place for w in written if any(w.may_be(path) for path in wanted))
        yield cannot_tell(
            "where a run's metrics are written is not known", evidence(bundle, place, "perhaps here")
        )
    else:
        yield from _not_written(bundle, walk, written, f"{RESULTS}/<run_id>/{name}")


def _not_written(bundle: Bundle, walk: Walk, written: list[Written], wanted: str) -> Answers:
    """Nothing is written where it should be."""
    lost = [call for call in walk.of(Call) if _may_write(call) and reached(bundle, call)]
    unnamed = [w for w in written if not w.name.strip("\\0")] or (not written and lost)
    if cut(walk) or unnamed or not any(c.path.endswith(("Api().run", "Api().runs")) for c in walk.of(Call)):
        yield cannot_tell(f"what the evaluation writes could not be followed to {wanted}")
        return
    near = [w for w in written if w.path.endswith(".json")][:3]
    source = bundle.module(walk.module)
    places = [evidence(bundle, w.call.place, f"writes {w.shown}") for w in near]
    yield failed(
        f"the evaluation never writes {wanted}",
        *(places or ([bundle.place(source.path, 0, "writes no JSON")] if source is not None else [])),
        do=f"write it with json.dump to {wanted}",
    )


def _may_write(call: Call) -> bool:
    return call.path.rpartition(".")[2] in ("dump", "write_text", "write", "save", *TABLE_WRITERS)


@check("evaluation.per-run-metrics", "evaluation.data-exported", impact=Impact.BREACHES)
def history_is_exported(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What is fetched of a run's history is written down, beside its summary and config.

    W&B is the only other place where the curves are. An export of the final numbers alone cannot be plotted
    again, nor checked.

    Bad:
        save_json({"summary": summary, "config": config}, run_dir / "metrics.json")
    Good:
        rows = history.to_dict(orient="records")
        save_json({"summary": summary, "config": config, "history": rows}, run_dir / "metrics.json")
    """
    walk = evaluation_walk(flow)
    written = files(bundle, walk)
    fetched = next((c for c in walk.of(Call) if c.path.endswith(("run().history", "scan_history"))), None)
    if fetched is None:
        yield cannot_tell("the evaluation was not seen to fetch a history")
        return
    kept = next((w for w in written if w.content is not None and _from_history(w.content)), None)
    if kept is not None:
        yield passed(
            f"the history is written to {kept.shown}",
            evidence(bundle, fetched.place, "fetched here"),
            evidence(bundle, kept.call.place, "written here"),
        )
        return
    name = contract.outputs.get("run_metrics", "").rpartition("/")[2] or "metrics.json"
    exports = [w for w in written if w.name == name and w.content is not None]
    visible = [w for w in exports if w.content is not None and _visible(w.content)]
    if not visible or len(visible) < len(exports) or cut(walk):
        yield cannot_tell(
            "what is written of a run could not be followed", evidence(bundle, fetched.place, "fetched")
        )
        return
    first = visible[0]
    yield failed(
        f"{first.name} holds {_contents(first.content)}, and nothing of the history",
        evidence(bundle, first.call.place, "writes them"),
        evidence(bundle, fetched.place, "the history is fetched here"),
        do='add "history": history.to_dict(orient="records")',
    )


def _from_history(value: Value) -> bool:
    return any(
        source.path.endswith((".history()", "scan_history()"))
        for part in parts_of(value)
        for source in sources(part)
    )


def _visible(value: Value) -> bool:
    """Whether all that is dumped is in sight, down to where it comes from."""
    if isinstance(value, OneOf):
        return all(_visible(option) for option in value.options)
    if isinstance(value, External):
        return True
    if isinstance(value, Map):
        return (
            not value.open
            and bool(value.items)
            and all(_visible(item) or isinstance(item, Known) for item in value.items.values())
        )
    return isinstance(value, Known)


def _contents(value: Value | None) -> str:
    if isinstance(value, Map):
        return ", ".join(repr(str(key)) for key in list(value.items)[:6])
    source = next((s for s in sources(value) if ".summary" in s.path), None) if value is not None else None
    return "the summary" if source is not None else "some values"


@check("evaluation.aggregated-metrics", impact=Impact.BREACHES)
def all_runs_have_aggregated_metrics(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The metrics of all runs are written to comparison/aggregated_metrics.json.

    Bad:
        json.dump(table, open(f"{results_dir}/aggregated_metrics.json", "w"))
    Good:
        json.dump(table, open(f"{results_dir}/comparison/aggregated_metrics.json", "w"))
    """
    walk = evaluation_walk(flow)
    written = files(bundle, walk)
    name = contract.outputs.get("comparison_metrics", "").rpartition("/")[2] or "aggregated_metrics.json"
    wanted = f"{comparison_folder(contract)}/{name}"
    hits = [w for w in written if w.may_be(wanted)]
    named = [w for w in hits if w.placed and w.path.endswith(name)]
    if named:
        yield passed(
            f"the metrics of all runs go to {named[0].shown}",
            evidence(bundle, named[0].call.place, "written here"),
        )
    elif hits:
        yield cannot_tell(
            "where the aggregated metrics go is not known", evidence(bundle, hits[0].call.place, "perhaps")
        )
    else:
        yield from _not_written(bundle, walk, written, wanted)


@check("evaluation.derived-metrics", impact=Impact.BREACHES)
def derived_metrics_are_computed(bundle: Bundle, flow: Flow) -> Answers:
    """Differences or ratios between runs, such as the improvement over the baseline, are computed.

    The claim is about a difference. Left to the reader, each takes another baseline and another base.

    Bad:
        report = {"proposed": accuracy["proposed"], "baseline": accuracy["baseline"]}
    Good:
        improvement = (accuracy["proposed"] - accuracy["baseline"]) / accuracy["baseline"]
    """
    walk = evaluation_walk(flow)
    sources_met = _evaluating(bundle, walk)
    found = [(source, *hit) for source in sources_met for hit in comparisons(source)]
    clear = [hit for hit in found if hit[2]]
    if clear:
        source, line, word = clear[0]
        yield passed(f"{word} is computed", bundle.place(source.path, line, "computed here"))
    elif found:
        source, line, _ = found[0]
        place = bundle.place(source.path, line, "a difference or a ratio")
        yield cannot_tell("whether what is computed here compares runs is not known", place)
    elif cut(walk) or not sources_met:
        yield cannot_tell("the evaluation could not be followed")
    else:
        last = _last_json(bundle, flow, walk)
        yield failed(
            "no difference and no ratio between runs is computed",
            *(last or [bundle.place(sources_met[0].path, 0, "computes none")]),
            do="write, for each metric, (proposed - baseline) / baseline into the aggregated metrics",
        )


def _last_json(bundle: Bundle, flow: Flow, walk: Walk) -> list[Evidence]:
    folder = comparison_folder(flow.contract)
    written = [w for w in files(bundle, walk) if w.lies_in(folder) is not False and w.path.endswith(".json")]
    chosen = next((w for w in written if "aggregat" in w.path), written[-1] if written else None)
    if chosen is None:
        return []
    return [
        evidence(bundle, chosen.call.place, "writes what there is about all runs"),
        *caller(bundle, chosen.call),
    ]


def _evaluating(bundle: Bundle, walk: Walk) -> list[Source]:
    """The evaluation's source, and those of the bundle that it comes by."""
    own = bundle.module(walk.module)
    met = {event.place.path for event in walk.events if isinstance(event, Call | Use)}
    found = [
        bundle.sources[path]
        for path in sorted(met)
        if path in bundle.sources and bundle.sources[path] is not own
    ]
    return ([own] if own is not None and own.tree is not None else []) + [
        s for s in found if s.tree is not None
    ]


_TESTS = re.compile(
    r"""scipy\.stats\.(ttest_\w+|wilcoxon|mannwhitneyu|ranksums|binom_?test|permutation_test|bootstrap|kruskal|
    friedmanchisquare|f_oneway|chi2_contingency|chisquare|fisher_exact|ks_2samp|brunnermunzel|mood|median_test|
    alexandergovern|tukey_hsd|boschloo_exact|barnard_exact|cramervonmises_2samp|epps_singleton_2samp|anderson_ksamp|
    norm\.(sf|cdf)|t\.(sf|cdf)|chi2\.(sf|cdf)|binom\.\w+|monte_carlo_test|poisson_means_test|dunnett|power)|
    statsmodels\..*|pingouin\..*|mlxtend\.evaluate\..*|baycomp\..*|deepsig\..*|autorank\..*|permute\..*|arch\..*""",
    re.VERBOSE,
)
_OWN_TEST = re.compile(
    r"bootstrap|permut|mcnemar|wilcoxon|t_?test|significan|p_?val|sign_test|hypothesis_test", re.IGNORECASE
)


@check("evaluation.significance", impact=Impact.BREACHES)
def differences_are_tested(bundle: Bundle, flow: Flow) -> Answers:
    """Differences between runs are put to a statistical test.

    Two runs always differ. Without a test, a seed's luck is reported as the method's merit.

    Bad:
        better = accuracy["proposed"] > accuracy["baseline"]
    Good:
        p_value = scipy.stats.binomtest(only_proposed_right, discordant).pvalue
    """
    walk = evaluation_walk(flow)
    calls = [call for call in walk.of(Call) if _TESTS.fullmatch(call.path) and reached(bundle, call)]
    if calls:
        name = calls[0].path.rpartition(".")[2]
        yield passed(f"differences are tested with {name}", evidence(bundle, calls[0].place, "tested here"))
        return
    from labgate.flow.events import Entered

    own = [e for e in walk.of(Entered) if _OWN_TEST.search(e.name) and reached(bundle, e)]
    drawn = [
        c
        for c in walk.of(Call)
        if re.search(r"random|rng|permutation|shuffle|erf|comb\b", c.path) and reached(bundle, c)
    ]
    if own and drawn:
        yield passed(
            f"differences are tested with a test of its own, {own[0].name}",
            evidence(bundle, own[0].place, "tested here"),
            evidence(bundle, drawn[0].place, "draws its samples here"),
        )
        return
    dead = [call for call in walk.of(Call) if _TESTS.fullmatch(call.path)]
    imports = [use for use in walk.of(Use) if use.imported and _TESTS.fullmatch(use.path)]
    if own or cut(walk):
        places = [evidence(bundle, e.place, "named like a test") for e in own[:1]]
        yield cannot_tell("whether differences are tested could not be followed", *places)
        return
    source = bundle.module(walk.module)
    places = [evidence(bundle, c.place, "stands in code that nothing calls") for c in dead[:1]]
    places += [evidence(bundle, u.place, "imported, and never called") for u in imports[:1] if not dead]
    yield failed(
        "no difference is put to a statistical test",
        *(places or ([bundle.place(source.path, 0, "calls no test")] if source is not None else [])),
        do="compare per-example results with scipy.stats, and write the p-values down",
    )


_TABLES = re.compile(r"(^|\.)(table|to_markdown|to_latex|to_html|to_excel|tabulate|Table|DictWriter|writer)$")


@check("evaluation.tables", impact=Impact.BREACHES)
def a_table_shows_the_metrics(bundle: Bundle, flow: Flow) -> Answers:
    """A table of the runs' metrics is drawn or written.

    Bad:
        axes.bar(names, values)
    Good:
        pandas.DataFrame(metrics).to_csv(folder / "comparison_metrics.csv")
    """
    walk = evaluation_walk(flow)
    calls = [call for call in walk.of(Call) if reached(bundle, call)]
    drawn = [c for c in calls if _TABLES.search(c.path) and not c.path.startswith("logging")]
    written = [w for w in files(bundle, walk) if _is_table(w)]
    named = [f for f in figures(bundle, walk) if re.search(r"table", f.name, re.IGNORECASE)]
    hidden = [c for c in calls if c.path.endswith((".to_csv",)) and not _of_history(c)]
    if drawn:
        yield passed("a table is made", evidence(bundle, drawn[0].place, "made here"))
    elif written or named:
        first = (written or named)[0]
        yield passed(f"a table goes to {first.shown}", evidence(bundle, first.call.place, "written here"))
    elif hidden:
        yield passed("a table is written", evidence(bundle, hidden[0].place, "written here"))
    elif cut(walk):
        yield cannot_tell(f"the evaluation was not followed to its end: {cut(walk)}")
    else:
        source = bundle.module(walk.module)
        spoken = _line_with(source, r"\\begin\{tabular\}|\|\s*-{3}|<table")
        if source is not None and spoken:
            yield cannot_tell("a table seems to be written by hand", bundle.place(source.path, spoken))
            return
        last = _last_json(bundle, flow, walk)
        yield failed(
            "no table of the runs' metrics is drawn or written",
            *(last or ([bundle.place(source.path, 0, "makes no table")] if source is not None else [])),
            do="write the metrics of all runs as a table into comparison/, as CSV, LaTeX or a figure",
        )


def _is_table(written: Written) -> bool:
    if written.name.endswith(".json"):
        return False
    tabular = written.name.endswith((".csv", ".tsv", ".md", ".tex", ".html", ".xlsx"))
    return tabular and not (written.content is not None and part_of(written.content) is Part.HISTORY)


def _of_history(call: Call) -> bool:
    return part_of(call.of) is Part.HISTORY


def _line_with(source: Source | None, pattern: str) -> int:
    for number, line in enumerate((source.text or "").splitlines() if source is not None else (), 1):
        if re.search(pattern, line):
            return number
    return 0


@check("evaluation.aggregated-metrics", "integrity.promise-measured", impact=Impact.BREACHES)
def promised_metrics_are_compared(bundle: Bundle, flow: Flow) -> Answers:
    """Every metric that was promised reaches the comparison.

    A metric that is logged and never compared was measured for nothing, and the paper has a gap where its
    column should be.

    Bad:
        promised, compared = ["accuracy", "macro F1"], ["best_accuracy"]
    Good:
        promised, compared = ["accuracy", "macro F1"], ["best_accuracy", "best_macro_f1"]
    """
    walk = evaluation_walk(flow)
    promise = bundle.promise
    metrics = [m for m in promise.metrics if family(m)] if promise is not None else []
    if promise is None or not metrics:
        yield cannot_tell("no promise names a metric that labgate knows by name")
        return
    asked = questions(bundle, walk)
    names = {item.key for item in asked.asked} | set(_strings(bundle, walk))
    given = {key for w in whole(flow) for key in (*told(w).history, *told(w).summary)}
    lacking = [metric for metric in metrics if not recorded_as(metric, names)]
    if not lacking:
        place = next((item.event.place for item in asked.asked if recorded_as(metrics[0], [item.key])), None)
        source = bundle.module(walk.module)
        where = [evidence(bundle, place, "asked for here")] if place else []
        where = where or ([bundle.place(source.path, 0, "names them")] if source is not None else [])
        yield passed(f"the evaluation takes up {', '.join(metrics)}", *where)
        return
    if asked.unnamed or cut(walk):
        place = asked.unnamed[0][1].place if asked.unnamed else None
        where = [evidence(bundle, place, "takes whatever is there")] if place else []
        yield cannot_tell(
            f"whether {', '.join(map(repr, lacking))} is compared depends on what the runs hold", *where
        )
        return
    for metric in lacking:
        logged = recorded_as(metric, given)
        places = [
            evidence(bundle, item.event.place, f"asks for {item.key!r}") for item in _first_asked(asked.asked)
        ]
        origin = next(
            (
                event
                for w in whole(flow)
                for key, event in (*told(w).history.items(), *told(w).summary.items())
                if key in logged
            ),
            None,
        )
        if origin is not None:
            places.append(evidence(bundle, origin.place, f"gives {logged[0]!r}"))
        fate = f"is logged as {logged[0]!r}, and never compared" if logged else "is never compared"
        yield failed(
            f"the promised metric {metric!r} {fate}",
            *(places or [bundle.place(walk.module.replace(".", "/") + ".py", 0, "never names it")]),
            do="put it into the aggregated metrics and the figures that compare runs",
        )


def _first_asked(asked: list[Asked]) -> list[Asked]:
    found: dict[tuple[str, int], Asked] = {}
    for item in asked:
        found.setdefault((item.event.place.path, item.event.place.line), item)
    return list(found.values())[:4]


def _strings(bundle: Bundle, walk: Walk) -> Iterator[str]:
    """Every string that the evaluation's code holds, docstrings left out."""
    for source in _evaluating(bundle, walk):
        assert source.tree is not None
        docs = {
            id(node.body[0].value)
            for node in walked(source.tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in walked(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield node.value
