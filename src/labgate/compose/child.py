"""The program that composes configs for `Composer`, apart from everything else so that it can be killed.

Run as `python -I child.py MEMORY SECONDS`. It says hello in one JSON line, then answers each request line
with one JSON line. A request's `root` holds a bundle's YAML files and nothing else. It imports nothing of
labgate and none of the bundle's code.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

OUT_OF_MEMORY = 77
"""Exit status that tells the parent what happened."""
DEPTH = 4
"""So many folders above a root are ours as well."""
LARGEST_REPLY = 32 * 1024 * 1024


def limit(memory: int) -> None:
    """Bound this process; a machine without POSIX limits still has the parent's clock."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def grant(seconds: int) -> None:
    """Allow so many more seconds of CPU time, in case the parent that watches the clock is gone."""
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def answer(request: dict[str, Any], root: Path) -> dict[str, Any]:
    """Compose one request as `python -m src.main` would, up to the call of the decorated function."""
    from hydra.core.global_hydra import GlobalHydra

    read: list[str] = []
    try:
        reply = _compose(request, root, read)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        reply = {"error": {"kind": type(error).__name__, "message": _said(error)}}
    finally:
        GlobalHydra.instance().clear()
    return {**reply, "sources": list(dict.fromkeys(read))}


def _compose(request: dict[str, Any], root: Path, read: list[str]) -> dict[str, Any]:
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import validate_config_path
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict, read_write

    base = request["version_base"]
    if base == "unset":
        version.setbase(version._UNSPECIFIED_)
    else:
        version.setbase(base)
    folder = request["config_dir"]
    validate_config_path(folder)
    _watch(read)
    path = None if folder is None else os.path.normpath(root / folder)
    hydra = Hydra.create_main_hydra2(request["job"], create_config_search_path(path))
    config = hydra.compose_config(
        config_name=request["config_name"],
        overrides=request["overrides"],
        run_mode=RunMode.RUN,
        from_shell=request["via"] == "main",
        with_log_configuration=False,
    )
    whole: Any = HydraConfig.instance()
    whole.cfg = config  # set_config() would copy it, which is slow
    job: dict[str, Any] = {"name": config.hydra.job.name}
    if request["via"] == "main":
        # run_job() resolves the run's folder before it calls the task: what fails there fails the run.
        folder_of_run = str(OmegaConf.select(config, "hydra.run.dir"))
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(root / folder_of_run)
        chdir = config.hydra.job.chdir
        job |= {
            "run_dir": folder_of_run,
            "says_chdir": chdir,
            "chdir": (not version.base_at_least("1.2")) if chdir is None else chdir,
            "mode": config.hydra.mode.name if config.hydra.mode else None,
            "run_dir_expression": str(config.hydra.run._get_node("dir")._value()),
        }
    expressions: dict[str, Any] = {}
    tree = _plain(config, (), expressions)
    if expressions:
        # `${hydra:…}` still finds Hydra's own node, `${hydra.…}` no longer does: the task's config lacks it.
        whole.set_config(config)
        with read_write(config), open_dict(config):
            del config["hydra"]
    interpolations = {
        path: {"expression": node._value(), **_resolved(node)} for path, node in expressions.items()
    }
    return {"tree": tree, "interpolations": interpolations, "job": job}


def _watch(read: list[str]) -> None:
    """Note which files are loaded."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    source: Any = FileConfigSource
    load = getattr(source, "unwatched", source.load_config)

    def watched(self: Any, config_path: str) -> Any:
        file = Path(self.path) / self._normalize_file_name(config_path)
        if file.is_file():
            read.append(str(file))
        return load(self, config_path)

    source.unwatched, source.load_config = load, watched


def _plain(node: Any, path: tuple[str, ...], interpolations: dict[str, Any]) -> Any:
    """The unresolved value of an OmegaConf node; nodes that interpolate are added by their dotted path."""
    from omegaconf import DictConfig, ListConfig

    if node is None:
        return None
    if node._is_interpolation():
        interpolations[".".join(path)] = node
        return node._value()
    if node._is_missing():
        return "???"
    if isinstance(node, DictConfig | ListConfig) and node._is_none():
        return None
    inner: Any = getattr(node, "_content", None)
    if isinstance(node, DictConfig):
        keys = [key for key in inner if path or key != "hydra"]  # the task does not get Hydra's own node
        pairs = [[key, _plain(inner[key], (*path, str(key)), interpolations)] for key in keys]
        if all(isinstance(key, str) for key, _ in pairs):
            return dict(pairs)
        return {"\0pairs": pairs}
    if isinstance(node, ListConfig):
        return [_plain(item, (*path, str(n)), interpolations) for n, item in enumerate(inner)]
    return _scalar(node._value())


def _resolved(node: Any) -> dict[str, Any]:
    from omegaconf import Container, OmegaConf

    try:
        target = node._dereference_node()
        if isinstance(target, Container):
            return {"value": _keyed(OmegaConf.to_container(target, resolve=True))}
        return {"value": _scalar(target._value())}
    except MemoryError:
        raise
    except Exception as error:
        return {"error": f"{type(error).__name__}: {_said(error)}"}


def _keyed(value: Any) -> Any:
    """JSON has only string keys; a mapping with others travels as pairs."""
    if isinstance(value, dict):
        pairs = [[key, _keyed(inner)] for key, inner in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key, _ in pairs) else {"\0pairs": pairs}
    if isinstance(value, list):
        return [_keyed(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _said(error: BaseException) -> str:
    """What Hydra prints of it: its own words and, where OmegaConf was the cause, those too."""
    from omegaconf.errors import OmegaConfBaseException

    words = [str(error)]
    if isinstance(error.__cause__, OmegaConfBaseException):
        words.append(str(error.__cause__))
    return "\n".join(word for word in words if word).strip()


def _relative(text: str, root: Path) -> str:
    """Paths as the bundle knows them, not those of the temporary folder."""
    text = text.replace(f"{root}/", "").replace(str(root), ".")
    for up, outside in enumerate(root.parents[:DEPTH], start=1):
        text = text.replace(str(outside), "/".join([".."] * up))
    return text


def main() -> int:
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    limit(memory)
    warnings.simplefilter("ignore")
    import hydra
    import omegaconf
    from hydra.core.plugins import Plugins

    Plugins.instance()  # loads the modules of the config sources anew, so before _watch() looks for them
    gc.freeze()
    gc.set_threshold(50_000)
    print(json.dumps({"hydra": hydra.__version__, "omegaconf": omegaconf.__version__}), file=out, flush=True)
    for line in sys.stdin:
        grant(seconds)
        request = json.loads(line)
        root = Path(request["root"])
        os.chdir(root)
        try:
            text = json.dumps(answer(request, root), default=str)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        if len(text) > LARGEST_REPLY:
            os._exit(OUT_OF_MEMORY)
        # The escapes of a JSON string leave POSIX paths as they are.
        print(_relative(text, root), file=out, flush=True)
        os.chdir("/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
