"""Every config that the contract's commands would compose: each run, each mode, one real composition."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.compose.composer import ComposeError, Composer, Composition, Request
from labgate.compose.mains import ApiCall, HydraMain, api_calls, entry_points
from labgate.compose.mended import Mended, mended
from labgate.compose.process import Child
from labgate.contract import Contract

RESULTS = "results"
"""What the commands say for `results_dir` where nothing runs."""


@dataclass(frozen=True)
class Composed:
    """One cell of the table: the module that is started, the run, the mode, and what Hydra made of it."""

    module: str
    run_id: str
    mode: str
    composition: Composition


class Compositions:
    """The fact `compositions`. Compositions are made when they are asked for, and kept.

    `child` may be shared with other bundles. `reason` says why there are no compositions; `note` where the
    run ids come from when it is not the contract's folder.
    """

    def __init__(self, bundle: Bundle, contract: Contract, child: Child | None = None) -> None:
        self.contract = contract
        self.run_paths, self.note = _runs(bundle, contract)
        self.bundle = _with_promised_configs(bundle, contract, self.run_paths)
        self.composer = Composer(self.bundle, child)

    def __enter__(self) -> Compositions:
        return self

    def __exit__(self, *_: object) -> None:
        self.composer.close()

    @cached_property
    def mains(self) -> Mapping[str, HydraMain]:
        """Every Hydra program of the bundle, by module."""
        return entry_points(self.bundle)

    @cached_property
    def api_calls(self) -> tuple[ApiCall, ...]:
        return api_calls(self.bundle)

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(self.run_paths)

    @cached_property
    def reason(self) -> str | None:
        """Why nothing is composed for the contract's main module; None when something is."""
        name = self.contract.main_module
        source = self.bundle.module(name)
        path = name.replace(".", "/") + ".py"
        if source is None:
            return f"{path} does not exist"
        if source.tree is None:
            return f"{path} cannot be parsed: {source.error}"
        if name not in self.mains:
            return f"no function of {path} is decorated with hydra.main"
        if not self.run_paths:
            return f"there is no run config in {self.contract.run_folder} and no promised run"
        return None

    def doubts(self, module: str) -> tuple[str, ...]:
        """What keeps the compositions of `module` from being what would really happen."""
        main = self.mains.get(module)
        if main is None:
            return ()
        found = list(main.doubts)
        folder = main.config_dir
        if folder is not None:
            found += [
                f"{file.path} was not read: {file.problem or 'it lies outside the folders that are read'}"
                for file in self.bundle.files.values()
                if file.path.startswith(f"{folder}/")
                and file.path.endswith((".yaml", ".yml"))
                and (file.listed or (file.problem is not None and not file.data))
            ]
        return tuple(found)

    def request(self, module: str, overrides: tuple[str, ...]) -> Request | None:
        """What `python -m module OVERRIDES` asks of Hydra; None when the module has no Hydra program."""
        main = self.mains.get(module)
        if main is None or any("lies outside the bundle" in doubt for doubt in main.doubts):
            return None
        return Request(
            main.config_dir, main.config_name, overrides, main.version_base, module.rpartition(".")[2]
        )

    def once_named(self, request: Request) -> Request | None:
        """The same request of the contract's config file; None when it asks for that one or there is none."""
        folder, _, name = self.contract.config_file.rpartition("/")
        named = replace(request, config_dir=folder, config_name=name.removesuffix(".yaml"))
        asked = replace(request, config_name=(request.config_name or "").removesuffix(".yaml"))
        return None if named == asked or self.contract.config_file not in self.bundle.files else named

    def of(self, module: str, run_id: str, mode_name: str) -> Composition | None:
        """The composition for the contract's exact command; None when `module` has no Hydra program."""
        mode = self.contract.mode(mode_name)
        try:
            overrides = tuple(self.contract.train_argv(run_id, mode, RESULTS))
        except ValueError as error:
            request = self.request(module, (f"{self.contract.run_key}={run_id}",))
            if request is None:
                return None
            return Composition(request, error=ComposeError("Shell", f"the shell says: {error}"))
        request = self.request(module, overrides)
        return None if request is None else self.composer.compose(request)

    def ahead(self) -> None:
        """Start the child, and have it compose the contract's commands in the background."""
        self.composer.warm()
        commands = [(run, mode) for run in self.run_paths for mode in self.contract.modes]
        requests = []
        for run_id, mode in commands if self.reason is None else ():
            with suppress(ValueError):  # words that no shell takes: see `of`
                overrides = tuple(self.contract.train_argv(run_id, mode, RESULTS))
                requests.append(self.request(self.contract.main_module, overrides))
        self.composer.ahead(request for request in requests if request is not None)

    def each(self, module: str) -> Iterator[Composed]:
        """Every run and mode of one module."""
        for run_id in self.run_paths:
            for mode in self.contract.modes:
                composition = self.of(module, run_id, mode.name)
                if composition is not None:
                    yield Composed(module, run_id, mode.name, composition)

    def __iter__(self) -> Iterator[Composed]:
        for module in (self.contract.main_module, self.contract.train_module):
            yield from self.each(module)

    def mended(
        self, module: str, run_id: str, mode_name: str, words: tuple[str, ...] | None = None
    ) -> Mended | None:
        """The config most plausibly meant where none comes of the composition; None where one does.

        `words` are those that the process is started with, the contract's command's by default.
        """
        if words is None:
            try:
                words = tuple(self.contract.train_argv(run_id, self.contract.mode(mode_name), RESULTS))
            except ValueError:
                return None
        request = self.request(module, words)
        if request is not None:
            if self.composer.compose(request).tree is not None:
                return None
            named = self.once_named(request)
            tree = self.composer.compose(named).tree if named is not None else None
            if tree is not None:
                return Mended(tree, f"as if Hydra were given {self.contract.config_file}")
        main = self.mains.get(module)
        return mended(self.bundle, self.contract, main, run_id, self.run_paths.get(run_id), words)

    def run_config(self, run_id: str) -> Mapping[Any, Any] | None:
        """The mapping in the run's own file; None when there is no file or it holds no mapping."""
        path = self.run_paths.get(run_id)
        if path is None:
            return None
        try:
            value = self.bundle.yaml(path)
        except BrokenFileError:
            return None
        return value if isinstance(value, Mapping) else None


def _runs(bundle: Bundle, contract: Contract) -> tuple[dict[str, str | None], str | None]:
    """The path of each run's config, and a note on where they were found when not where they should be."""
    here = bundle.run_configs(contract.run_folder)
    if here:
        return dict(here), None
    promised = bundle.promise.runs if bundle.promise else ()
    other = _other_folder(contract.run_folder)
    there = bundle.run_configs(other)
    if promised:
        paths: dict[str, str | None] = {run.run_id: there.get(run.run_id) for run in promised}
        note = f"{contract.run_folder} holds no run config; the runs are those promised"
        return paths, note
    if there:
        return dict(there), f"{contract.run_folder} holds no run config; those of {other} are taken"
    return {}, None


def _other_folder(folder: str) -> str:
    return folder[:-1] if folder.endswith("s") else f"{folder}s"


def _with_promised_configs(bundle: Bundle, contract: Contract, paths: dict[str, str | None]) -> Bundle:
    """Run configs are handed over apart from the code: put those of the promise where they will lie."""
    for run in bundle.promise.runs if bundle.promise else ():
        if run.run_id in paths and paths[run.run_id] is None and run.config:
            path = f"{contract.run_folder}/{run.run_id}.yaml"
            if posixpath.normpath(path) != path or path in bundle.files:
                continue
            bundle = bundle.with_file(path, run.config)
            paths[run.run_id] = path
    return bundle
