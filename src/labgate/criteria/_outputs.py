"""Files and figures that the evaluation writes, and where each belongs by the contract."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.bundle import Bundle
from labgate.contract import Contract
from labgate.criteria._tracing import reached, texts
from labgate.flow.events import Call, Walk
from labgate.flow.flow import RESULTS
from labgate.flow.values import External, Known, Text, Value

FIGURE_SAVERS = ("savefig", "write_image", "figure.savefig")
TABLE_WRITERS = (
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_html",
    "to_excel",
    "to_json",
    "to_parquet",
    "to_pickle",
)
HOLE = "\0"


@dataclass(frozen=True)
class Written:
    """A file that the evaluation writes. `path` starts at the bundle's root; HOLE is what is not known."""

    path: str
    call: Call
    content: Value | None

    @property
    def known(self) -> bool:
        return HOLE not in self.path

    @property
    def shown(self) -> str:
        """For a person."""
        return self.path.replace(HOLE, "…")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def placed(self) -> bool:
        """Whether it is known to lie in the results folder."""
        return self.path.startswith(f"{RESULTS}/")

    def may_be(self, wanted: str) -> bool:
        """Whether the path could turn out to be `wanted`."""
        return Text([*_alternate(self.path)]).matches(wanted)

    def lies_in(self, folder: str) -> bool | None:
        """Whether it lies in `folder`; None when that is not known."""
        parent = self.path.rpartition("/")[0]
        if HOLE not in parent:
            return parent == folder or parent.startswith(f"{folder}/")
        return None if Text([*_alternate(parent)]).matches(folder) else False


def _alternate(path: str) -> Iterator[str | None]:
    for index, part in enumerate(path.split(HOLE)):
        if index:
            yield None
        yield part


def figures(bundle: Bundle, walk: Walk) -> list[Written]:
    """Every figure saved, in code that the evaluation comes by."""
    found = []
    for call in walk.of(Call):
        if call.path.rpartition(".")[2] in FIGURE_SAVERS and reached(bundle, call):
            given = call.argument(0, "fname", "file", "filename")
            found += [Written(path, call, None) for path in paths(given)]
    return found


def files(bundle: Bundle, walk: Walk) -> list[Written]:
    """Every JSON or table file written, in code that the evaluation comes by."""
    found = []
    for call in walk.of(Call):
        if reached(bundle, call):
            found += [Written(path, call, content) for path, content in _written(call)]
    return found


def _written(call: Call) -> Iterator[tuple[str, Value | None]]:
    tail = call.path.rpartition(".")[2]
    if call.path == "json.dump" and len(call.args) > 1:
        to = call.argument(1, "fp")
        for path in _file_paths(to):
            yield path, call.args[0]
    elif tail == "write_text" and call.args:
        content = call.args[1] if len(call.args) > 1 else None
        for path in paths(call.args[0]):
            yield path, content
    elif tail == "write" and isinstance(call.of, External):
        for path in _file_paths(call.of):
            yield path, call.args[0] if call.args else None
    elif tail in TABLE_WRITERS and call.of is not None:
        for path in paths(call.argument(0, "path_or_buf", "buf", "path", "excel_writer")):
            yield path, call.of
    elif call.path.endswith("OmegaConf.save") and len(call.args) > 1:
        for path in paths(call.args[1]):
            yield path, call.args[0]


def _file_paths(value: Value | None) -> Iterator[str]:
    """The paths behind a file object that `open` gave."""
    while isinstance(value, External):
        if value.call is not None and value.call.path in ("builtins.open", "io.open", "codecs.open"):
            yield from paths(value.call.argument(0, "file"))
            return
        value = value.base


def paths(value: Value | None) -> Iterator[str]:
    """What a path may be: relative to the bundle, normal, the results folder named as on the command line."""
    for text in texts(value):
        raw = (
            str(text.value)
            if isinstance(text, Known)
            else "".join(HOLE if p is None else p for p in text.parts)
        )
        path = posixpath.normpath(raw) if raw else raw
        path = path.removeprefix("/experiment/")
        yield path.removeprefix("results_dir=")


def run_folder(contract: Contract, run_id: str) -> str:
    template = contract.outputs.get("run_folder", "{results_dir}/{run_id}")
    return template.format(results_dir=RESULTS, run_id=run_id)


def comparison_folder(contract: Contract) -> str:
    template = contract.outputs.get("comparison_folder", "{results_dir}/comparison")
    return template.format(results_dir=RESULTS)
