"""Criterion 8, figures: which are drawn, where they go, what they are called and what is on them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._asked import part_of
from labgate.criteria._outputs import HOLE, Written, comparison_folder, figures, run_folder
from labgate.criteria._tracing import caller, cut, evaluation_walk, reached, run_ids
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Use, Walk, evidence
from labgate.flow.flow import RESULTS
from labgate.flow.values import Known

PLOTTING = ("matplotlib", "seaborn", "plotly", "bokeh", "altair", "plotnine")
SAVES = ("savefig", "write_image", "imsave")


def _drawn(
    bundle: Bundle, contract: Contract, flow: Flow
) -> tuple[Walk, list[Written], list[Written], list[Written]]:
    """All figures of the evaluation, those of a run and those in comparison/."""
    walk = evaluation_walk(flow)
    every = figures(bundle, walk)
    folders = [run_folder(contract, run_id) for run_id in run_ids(walk)]
    together = comparison_folder(contract)
    below = [f for f in every if f.path.startswith(f"{RESULTS}/")]
    compared = [f for f in below if f.lies_in(together)]
    compared += [f for f in below if f.lies_in(together) is None and f.name.startswith("comparison_")]
    single = [
        f for f in below if f not in compared and any(f.lies_in(folder) is not False for folder in folders)
    ]
    return walk, every, single, compared


@check("evaluation.per-run-figures", "evaluation.per-run-folders", impact=Impact.BREACHES)
def each_run_has_its_figures(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Each run's figures, its learning curves among them, go into the run's own folder.

    Bad:
        plt.savefig(results_dir / f"{run_id}_learning_curve.pdf")
    Good:
        plt.savefig(results_dir / run_id / f"{run_id}_learning_curve.pdf")
    """
    walk, every, single, _ = _drawn(bundle, contract, flow)
    if single:
        yield passed(
            f"a run's figures go to {single[0].shown}", evidence(bundle, single[0].call.place, "saved here")
        )
    else:
        yield from _absent(bundle, walk, every, f"{RESULTS}/<run_id>/", "of a single run")


@check("evaluation.comparison-figures", impact=Impact.BREACHES)
def runs_are_compared_in_figures(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Figures that compare runs go into comparison/.

    Bad:
        plt.savefig(results_dir / "accuracy.pdf")
    Good:
        plt.savefig(results_dir / "comparison" / "comparison_accuracy_bar_chart.pdf")
    """
    walk, every, _, compared = _drawn(bundle, contract, flow)
    if compared:
        shown = compared[0]
        yield passed(f"runs are compared in {shown.shown}", evidence(bundle, shown.call.place, "saved here"))
    else:
        yield from _absent(bundle, walk, every, f"{comparison_folder(contract)}/", "that compares runs")


def _absent(bundle: Bundle, walk: Walk, every: list[Written], folder: str, kind: str) -> Answers:
    unsaid = [f for f in every if HOLE in f.path.rpartition("/")[0] or not f.path.strip(HOLE)]
    if cut(walk) or unsaid or not any(c.path.endswith(("Api().run", "Api().runs")) for c in walk.of(Call)):
        places = [evidence(bundle, f.call.place, f"saves {f.shown}") for f in (unsaid or every)[:1]]
        yield cannot_tell(f"whether a figure {kind} is saved in {folder} could not be followed", *places)
        return
    source = bundle.module(walk.module)
    places = [evidence(bundle, f.call.place, f"saves {f.shown}") for f in every[:3]]
    yield failed(
        f"no figure {kind} is saved in {folder}",
        *(places or ([bundle.place(source.path, 0, "saves no figure")] if source is not None else [])),
        do=f"save it below {folder}",
    )


@check("evaluation.per-run-names", impact=Impact.BREACHES)
def run_figures_bear_the_run_id(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The file name of a run's figure begins with the run's id, and ends in .pdf.

    The figures of all runs are gathered in one place later. Ten files called learning_curve.pdf become one.

    Bad:
        plt.savefig(run_dir / "learning_curve.pdf")
    Good:
        plt.savefig(run_dir / f"{run_id}_learning_curve.pdf")
    """
    walk, _, single, _ = _drawn(bundle, contract, flow)
    ids = run_ids(walk)
    yield from _named(bundle, walk, single, ids, "a run's figure", "{run_id}_{topic}.pdf")


@check("evaluation.comparison-names", impact=Impact.BREACHES)
def comparison_figures_are_called_so(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The file name of a figure that compares runs begins with `comparison_`, and ends in .pdf.

    Bad:
        plt.savefig(comparison_dir / "accuracy.pdf")
    Good:
        plt.savefig(comparison_dir / "comparison_accuracy_bar_chart.pdf")
    """
    walk, _, _, compared = _drawn(bundle, contract, flow)
    yield from _named(
        bundle, walk, compared, ["comparison"], "a comparison's figure", "comparison_{topic}.pdf"
    )


def _named(
    bundle: Bundle, walk: Walk, drawn: list[Written], starts: list[str], kind: str, template: str
) -> Answers:
    if not drawn:
        yield cannot_tell(f"no figure was seen whose name could be {template}")
        return
    wrong: dict[tuple[str, int, str], Written] = {}
    unsure = []
    for figure in drawn:
        came = _well_named(figure.name, starts)
        if came is False:
            wrong.setdefault(
                (figure.call.place.path, figure.call.place.line, _anonymous(figure.name, starts)), figure
            )
        elif came is None:
            unsure.append(figure)
    for figure in list(wrong.values())[:6]:
        yield failed(
            f"{kind} is called {figure.name.replace(HOLE, '…')}, not {template}",
            *_places(bundle, figure),
            do=f"name it {template}",
        )
    twice = _overwritten(drawn)
    if twice is not None:
        first, second = twice
        yield failed(
            f"two figures are saved as {first.shown}, and the second overwrites the first",
            *_places(bundle, first),
            *_places(bundle, second),
            do="give each a topic of its own",
        )
    if unsure and not wrong:
        yield cannot_tell(
            f"{kind} has a name that is not known", evidence(bundle, unsure[0].call.place, "saved here")
        )
    elif not wrong and twice is None:
        yield passed(
            f"{kind} is called {drawn[0].name.replace(HOLE, '…')}",
            evidence(bundle, drawn[0].call.place, "saved here"),
        )


def _places(bundle: Bundle, figure: Written) -> list[Evidence]:
    """Where the figure is saved, and where the function that saves it is called from."""
    return [evidence(bundle, figure.call.place, f"saves {figure.shown}"), *caller(bundle, figure.call)]


def _anonymous(name: str, starts: list[str]) -> str:
    for start in starts:
        name = name.replace(start, "ID")
    return name


def _well_named(name: str, starts: Iterable[str]) -> bool | None:
    """Whether a file is called `START_….pdf`; None when that is not known."""
    last = name.rpartition(HOLE)[2]
    if not name.endswith(".pdf") and not (HOLE in name and (last == "" or ".pdf".endswith(last))):
        return False
    if not name.endswith(".pdf"):
        return None
    if HOLE not in name:
        return any(name.startswith(f"{start}_") for start in starts)
    head = name.partition(HOLE)[0]
    if any(head.startswith(f"{start}_") for start in starts):
        return True
    if any(f"{start}_".startswith(head) for start in starts):
        return True if head == "" and name[1:2] in ("_", HOLE) and starts else None
    return False


def _overwritten(drawn: list[Written]) -> tuple[Written, Written] | None:
    met: dict[str, Written] = {}
    for figure in drawn:
        if not figure.known or not figure.call.certain:
            continue
        first = met.setdefault(figure.path, figure)
        same = (first.call.place, first.call.stack) == (figure.call.place, figure.call.stack)
        if first is not figure and not same:
            return first, figure
    return None


_BARS = re.compile(r"(^|\.)(bar|barh|barplot|countplot|Bar|bar_polar)$")
_BOXES = re.compile(r"(^|\.)(boxplot|boxenplot|violinplot|box|Box|violin|Violin|bxp)$")


@check("evaluation.cross-run-charts", impact=Impact.BREACHES)
def bars_and_boxes_compare_runs(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Runs stand side by side in bar charts and in box plots.

    A bar shows one number. Whether two runs differ by more than they scatter is what the box shows.

    Bad:
        axes.bar(names, accuracies)
    Good:
        axes.bar(names, accuracies)
        axes.boxplot(fold_accuracies, tick_labels=names)
    """
    walk = evaluation_walk(flow)
    bars = [c for c in walk.of(Call) if _charts(c, _BARS, "bar") and reached(bundle, c)]
    boxes = [c for c in walk.of(Call) if _charts(c, _BOXES, "box") and reached(bundle, c)]
    if bars and boxes:
        yield passed(
            "bar charts and box plots are drawn",
            evidence(bundle, bars[0].place, "bars"),
            evidence(bundle, boxes[0].place, "boxes"),
        )
        return
    if cut(walk):
        yield cannot_tell(f"the evaluation was not followed to its end: {cut(walk)}")
        return
    missing = " and ".join(name for name, found in (("bar chart", bars), ("box plot", boxes)) if not found)
    have = bars or boxes
    saved = figures(bundle, walk)
    places = [
        e
        for c in have[:1]
        for e in (evidence(bundle, c.place, "the runs are in this kind of chart alone"), *caller(bundle, c))
    ]
    places = places or [evidence(bundle, f.call.place, f"saves {f.shown}") for f in saved[-2:]]
    source = bundle.module(walk.module)
    yield failed(
        f"no {missing} compares the runs",
        *(places or ([bundle.place(source.path, 0, "draws none")] if source is not None else [])),
        do="draw both, one figure per metric, into comparison/",
    )


def _charts(call: Call, pattern: re.Pattern[str], kind: str) -> bool:
    if pattern.search(call.path) and "progress" not in call.path and "rich" not in call.path:
        return True
    given = call.kwargs.get("kind")
    return isinstance(given, Known) and str(given.value) in (
        kind,
        f"{kind}h",
        "violin" if kind == "box" else kind,
    )


@check("evaluation.figure-quality", impact=Impact.BREACHES)
def figures_can_be_read(bundle: Bundle, flow: Flow) -> Answers:
    """Figures have legends, annotations and a tight layout.

    Bad:
        plt.plot(history["loss"])
        plt.savefig(path)
    Good:
        plt.plot(history["loss"], label="training loss")
        plt.annotate(f"{best:.3f}", (epoch, best))
        plt.legend()
        plt.tight_layout()
        plt.savefig(path)
    """
    walk = evaluation_walk(flow)
    saved = figures(bundle, walk)
    calls = [call for call in walk.of(Call) if reached(bundle, call)]
    if not saved:
        yield cannot_tell("no figure was seen to be saved")
        return
    found = {
        "legend": next((c for c in calls if _has_legend(c)), None),
        "annotation": next((c for c in calls if _annotates(c)), None),
        "tight layout": next((c for c in calls if _is_tight(c)), None),
    }
    missing = [name for name, call in found.items() if call is None]
    places = [evidence(bundle, call.place, name) for name, call in found.items() if call is not None]
    if not missing:
        yield passed("figures have legends, annotations and a tight layout", *places)
    elif cut(walk):
        yield cannot_tell(f"the evaluation was not followed to its end: {cut(walk)}", *places)
    else:
        listed = " and no ".join(missing)
        met = {(f.call.place.path, f.call.place.line): f for f in saved}
        shown = [evidence(bundle, f.call.place, f"saved with no {listed}") for f in list(met.values())[:4]]
        do = "label what is drawn and call legend(); annotate the values; call tight_layout() before saving"
        yield failed(
            f"no figure has a {missing[0]}" if len(missing) == 1 else f"figures have no {listed}",
            *shown,
            do=do,
        )


def _has_legend(call: Call) -> bool:
    tail = call.path.rpartition(".")[2]
    if tail in ("legend", "add_legend", "figlegend"):
        return True
    if call.path.startswith("seaborn.") and ("hue" in call.kwargs or "label" in call.kwargs):
        return True  # seaborn draws the legend by itself
    frame = call.path.startswith("pandas.") or part_of(call.of) is not None
    return (frame and tail == "plot") or (call.path.startswith("plotly") and "color" in call.kwargs)


def _annotates(call: Call) -> bool:
    tail = call.path.rpartition(".")[2]
    if tail in ("annotate", "text", "bar_label", "figtext", "add_annotation"):
        return call.path != "typing.text"
    annotated = call.kwargs.get("annot")
    return annotated is not None and not (isinstance(annotated, Known) and not annotated.value)


def _is_tight(call: Call) -> bool:
    tail = call.path.rpartition(".")[2]
    if tail in (
        "tight_layout",
        "set_tight_layout",
        "set_constrained_layout",
        "set_layout_engine",
        "autolayout",
    ):
        return True
    for name in ("constrained_layout", "tight_layout"):
        value = call.kwargs.get(name)
        if value is not None and not (isinstance(value, Known) and not value.value):
            return True
    for name in ("layout", "bbox_inches"):
        value = call.kwargs.get(name)
        if isinstance(value, Known) and value.value in ("constrained", "tight", "compressed"):
            return True
    return False


@check("evaluation.no-figures-elsewhere", impact=Impact.BREACHES)
def training_draws_nothing(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Training and main draw no figures; the evaluation does, from what W&B holds.

    Bad:
        plt.plot(losses)  # train.py
        plt.savefig("loss.png")
    Good:
        wandb.log({"loss": loss})  # train.py
    """
    own = bundle.module(contract.evaluate_module)
    drawn: dict[tuple[str, int], Call] = {}
    charts: dict[tuple[str, int], Call] = {}
    uses: dict[tuple[str, int], Use] = {}
    sure: set[tuple[str, int]] = set()
    for walk in flow.training:
        for event in walk.events:
            if not isinstance(event, Call | Use) or (own is not None and event.place.path == own.path):
                continue
            key = (event.place.path, event.place.line)
            if (
                event.certain or not walk.mended
            ):  # which branch a config takes that nobody composed is not known
                sure.add(key)
            if isinstance(event, Use):
                if event.path.startswith(PLOTTING):
                    uses.setdefault(key, event)
            elif event.path.rpartition(".")[2] in SAVES:
                drawn.setdefault(key, event)
            elif event.path.startswith("wandb.plot."):
                charts.setdefault(key, event)
            elif event.path == "wandb.Image" and any(_is_figure(value) for value in event.args):
                drawn.setdefault(key, event)
    surely = [call for key, call in drawn.items() if key in sure]
    if drawn and not surely:
        places = [evidence(bundle, call.place, "draws here") for call in list(drawn.values())[:4]]
        yield cannot_tell(
            "whether the training draws figures depends on a config that does not compose", *places
        )
        return
    if drawn:
        yield failed(
            "the training draws figures",
            *(evidence(bundle, call.place, "draws here") for call in surely[:4]),
            do="log the numbers to W&B, and draw in the evaluation",
        )
        return
    if not flow.training:
        yield cannot_tell("no walk of the training could be followed")
        return
    source = bundle.module(contract.train_module) or bundle.module(contract.main_module)
    places = [evidence(bundle, use.place, "used, and nothing is saved") for use in list(uses.values())[:1]]
    places = places or (
        [bundle.place(source.path, 0, "uses no plotting library")] if source is not None else []
    )
    yield passed("training and main draw no figures", *places)
    if charts:
        yield remarked(
            "the training has W&B draw a chart",
            *(evidence(bundle, call.place, "a chart of W&B's own") for call in list(charts.values())[:2]),
            do="log the numbers, and draw in the evaluation",
        )


def _is_figure(value: object) -> bool:
    path = getattr(value, "path", "")
    return isinstance(path, str) and path.startswith(PLOTTING)
