"""Writes the page on the catalogue: `python -m labgate.standins.hub.catalogue > docs/catalogue.md`."""

from __future__ import annotations

from collections.abc import Iterator

from labgate.standins.hub.catalogue import Catalogue, Kind, load
from labgate.standins.hub.twin import served

HEAD = """# The ids that have twins

Generated from `src/labgate/standins/hub/catalogue/` by `make docs`. What a twin is: [twins.md](twins.md).
"""


def page(catalogue: Catalogue) -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_models(catalogue), "", *_datasets(catalogue), ""])


def _models(catalogue: Catalogue) -> Iterator[str]:
    yield f"## Models ({len(catalogue.models)})\n"
    yield "| id | also | class | conditioned | facts from |\n|---|---|---|:-:|---|"
    for model in catalogue.models.values():
        yield (
            f"| `{model.id}` | {_also(catalogue, 'models', model.id)} | {model.config['architectures'][0]} "
            f"| {'yes' if model.encoder else ''} | {model.source} |"
        )


def _datasets(catalogue: Catalogue) -> Iterator[str]:
    yield f"## Data sets ({len(catalogue.datasets)})\n"
    yield "Rows served, by split; with `of`, the real number where fewer are served.\n"
    yield "| id | also | configuration | rows | facts from |\n|---|---|---|---|---|"
    for dataset in catalogue.datasets.values():
        for name, table in dataset.tables.items():
            rows = ", ".join(
                f"{split} {served(table, split):,}"
                + (f" of {count:,}" if served(table, split) < count else "")
                for split, count in table.splits.items()
            )
            also = _also(catalogue, "datasets", dataset.id)
            yield f"| `{dataset.id}` | {also} | {name} | {rows} | {dataset.source} |"


def _also(catalogue: Catalogue, kind: Kind, id: str) -> str:
    names = [name for name, full in catalogue.names[kind].items() if full == id and name != id.lower()]
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(page(load()), end="")
