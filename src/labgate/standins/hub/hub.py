"""The model-and-data hub: what transformers, datasets and evaluate ask of it, answered with twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from labgate.standins.hub import twin as twins
from labgate.standins.hub.builder import Builder
from labgate.standins.hub.catalogue import Catalogue, load
from labgate.standins.hub.forward import forwarded, is_loopback
from labgate.standins.hub.lookup import Lookup
from labgate.standins.hub.store import Kind, Repository, Store, mapped
from labgate.standins.ledger import Ledger
from labgate.standins.serving import HOST
from labgate.standins.standin import StandIn, body_of

PATIENCE = "300"
"""Seconds that a client waits for a head or a body: a twin may have to be made first."""
WHEN = "2024-01-01T00:00:00.000Z"

ASKED_IN_VAIN = (
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "modules.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "custom_generate/generate.py",
    "dataset_infos.json",
    ".huggingface.yaml",
    "generation_config.json",
    "model.safetensors.index.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
"""Files that clients ask of every repository and can do without."""


class Hub(StandIn):
    """Serves twins under the real ids.

    `store` is the folder in which twins are kept. `python` is the command that starts the experiment's own
    interpreter, which makes weights and rows; without it both are missing. `maps` serves real folders under
    real ids, "datasets/" before those of data sets. `upstream` is a real hub at which ids that are not in
    the catalogue are looked up: their configs and schemas, never weights or data. With `gate`, what asks for
    accepted terms is refused where no token is sent, as a real hub would; else it is served, with a note.
    With `warm`, the interpreter imports its libraries as soon as the hub stands, while the experiment's own
    still does: the first twin then waits for neither.
    """

    name = "hub"

    def __init__(
        self,
        store: Path,
        python: Sequence[str] | None = None,
        *,
        maps: Mapping[str, Path] | None = None,
        upstream: str | None = None,
        gate: bool = False,
        warm: bool = False,
        catalogue: Catalogue | None = None,
        port: int = 0,
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(port=port, ledger=ledger)
        self._catalogue = catalogue if catalogue is not None else load()
        self._builder = Builder(python) if python else None
        self._store = Store(store, self._builder)
        self._lookup = Lookup(upstream, store / "looked-up") if upstream else None
        self._gate = gate
        self._warm = warm
        self._twins: dict[tuple[Kind, str], twins.Twin] = {}
        self._mapped: dict[tuple[Kind, str], Repository] = {}
        for name, folder in (maps or {}).items():
            kind: Kind = "datasets" if name.startswith("datasets/") else "models"
            id = name.removeprefix("datasets/")
            self._mapped[kind, id.lower()] = mapped(kind, id, folder)

    def env(self) -> dict[str, str]:
        # By name and through the proxy: `datasets` asks a host `datasets-server.` + ours, which has no
        # address, and waits and tries again unless a proxy answers at once.
        proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.url)
        return {
            "HF_ENDPOINT": f"http://localhost:{self.port}",
            **proxy,
            "NO_PROXY": HOST,
            "no_proxy": HOST,
            "HF_HUB_ETAG_TIMEOUT": PATIENCE,
            "HF_HUB_DOWNLOAD_TIMEOUT": PATIENCE,
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # `datasets` counts at another host
            "OMP_NUM_THREADS": "1",  # eight times quicker for models so small
        }

    def routes(self) -> Sequence[BaseRoute]:
        files = ["GET", "HEAD"]
        return [
            Route("/api/whoami-v2", self.whoami),
            Route("/api/agent-harnesses", self.nothing),  # a list that huggingface_hub can do without
            Route("/api/telemetry/{topic:path}", self.telemetry, methods=[*files, "POST"]),
            Route("/spaces/evaluate-{sort}/{metric}/resolve/{place:path}", self.metric, methods=files),
            Route("/datasets/{repo:path}/resolve/{place:path}", self.resolve, methods=files),
            Route("/{repo:path}/resolve/{place:path}", self.resolve, methods=files),
            Route("/api/{kind}/{repo:path}/revision/{revision:path}", self.info),
            Route("/api/{kind}/{repo:path}/tree/{place:path}", self.tree),
            Route("/api/{kind}/{repo:path}/paths-info/{revision:path}", self.paths, methods=["POST"]),
            Route("/api/{kind}/{repo:path}/refs", self.refs),
            Route("/api/{kind}/{repo:path}", self.info),
            Route("/{rest:path}", self.write, methods=["POST", "PUT", "PATCH", "DELETE"]),
            Route("/{rest:path}", self.unknown),
        ]

    def opened(self) -> None:
        if self._warm and self._builder is not None:
            self._builder.warm()

    def closed(self) -> None:
        if self._builder is not None:
            self._builder.close()

    def outside(self, request: Request, host: str) -> Response:
        if host == f"datasets-server.localhost:{self.port}":
            request.scope["endpoint"] = self.outside  # meant to be so: not an address without an answer
            return self._error(404, "", "the data set viewer knows no twins")
        if request.method != "CONNECT" and is_loopback(host):
            return forwarded(request, host)
        return super().outside(request, host)

    def whoami(self, request: Request) -> Response:
        """Whose token it is; any will do."""
        if "authorization" not in request.headers:
            return self._error(401, "", "no token was sent")
        token = {"role": "read", "displayName": "labgate", "type": "access_token"}
        user = {"type": "user", "id": "0", "name": "labgate", "fullname": "labgate", "orgs": []}
        return JSONResponse({**user, "isPro": False, "auth": {"type": "access_token", "accessToken": token}})

    def telemetry(self, request: Request) -> Response:
        """Thanks."""
        return Response(status_code=200)

    def nothing(self, request: Request) -> Response:
        """What is not here and need not be."""
        return self._error(404, "", "labgate has no such list")

    def unknown(self, request: Request) -> Response:
        """An address that we do not know: nothing can be concluded from this answer."""
        request.state.answered = False
        return self._error(404, "", "labgate does not know this address")

    def write(self, request: Request) -> Response:
        request.state.notes.append("a write was refused")
        return self._error(403, "", "labgate: this hub is read-only; nothing was written")

    def metric(self, request: Request) -> Response:
        """A metric's module, of our own writing."""
        name, (_, file) = request.path_params["metric"], _place(request.path_params["place"])
        sort = request.path_params["sort"]
        request.state.asked = f"{sort} {name}"
        source = resources.files(__package__) / "metrics" / f"{name}.py"
        if sort != "metric" or not name.isidentifier() or not source.is_file():
            if sort == "metric":
                self._not_verified(request, f"metric {name}")
            return self._error(404, "RepoNotFound", f"labgate has no {sort} {name}")
        if file != f"{name}.py":
            return self._error(404, "EntryNotFound", f"{name} has no file {file}")
        with resources.as_file(source) as path:
            return self._file(Repository("models", name, path.parent, twins.MARK + "0" * 32), path.name)

    def resolve(self, request: Request) -> Response:
        """A file of a repository."""
        kind: Kind = "datasets" if request.url.path.startswith("/datasets/") else "models"
        revision, file = _place(request.path_params["place"])
        request.state.asked = f"{file} of {request.path_params['repo']}"
        found = self._find(request, kind, request.path_params["repo"], revision)
        if isinstance(found, Response):
            return found
        return self._file(found, file, request)

    def info(self, request: Request) -> Response:
        """What a repository is."""
        found = self._asked(request, request.path_params.get("revision", "main"))
        if isinstance(found, Response):
            return found
        about = {
            "_id": found.revision[:24],
            "id": found.id,
            "author": found.id.rpartition("/")[0],
            "sha": found.revision,
            "lastModified": WHEN,
            "createdAt": WHEN,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in found.names()],
        }
        return JSONResponse({**about, "modelId": found.id} if found.kind == "models" else about)

    def tree(self, request: Request) -> Response:
        """What a folder of a repository holds."""
        revision, folder = _place(request.path_params["place"])
        found = self._asked(request, revision)
        if isinstance(found, Response):
            return found
        entries = _entries(
            found, folder.strip("/"), request.query_params.get("recursive", "").lower() == "true"
        )
        if not entries and folder:
            return self._error(404, "EntryNotFound", f"{found.id} has no folder {folder}", found)
        return JSONResponse(entries)

    async def paths(self, request: Request) -> Response:
        """What some paths of a repository are."""
        body = await body_of(request)
        found = self._asked(request, request.path_params["revision"])
        if isinstance(found, Response):
            return found
        asked = parse_qs(body.decode("utf-8", "replace")).get("paths", [])
        every = {entry["path"]: entry for entry in _entries(found, "", recursive=True)}
        return JSONResponse([every[path.strip("/")] for path in asked if path.strip("/") in every])

    def refs(self, request: Request) -> Response:
        """Branches and tags: one branch."""
        found = self._asked(request, "main")
        if isinstance(found, Response):
            return found
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.revision}
        return JSONResponse({"branches": [main], "tags": [], "converts": []})

    def _asked(self, request: Request, revision: str) -> Repository | Response:
        kind, repo = request.path_params["kind"], request.path_params["repo"]
        request.state.asked = f"{kind} {repo}"
        if kind not in ("models", "datasets"):
            request.state.answered = False
            return self._error(404, "RepoNotFound", f"labgate has no {kind}")
        return self._find(request, kind, repo, revision)

    def _find(self, request: Request, kind: Kind, name: str, revision: str) -> Repository | Response:
        """The repository of that name, or why there is none."""
        notes = request.state.notes
        if revision.startswith("refs/"):
            self._not_verified(request, f"{name} at {revision}")
            return self._error(404, "RevisionNotFound", f"labgate has no {revision} of {name}")
        found = self._mapped.get((kind, name.lower()))
        if found is None:
            known = self._known(kind, name)
            if known is None:
                self._not_verified(request, f"{kind.removesuffix('s')} {name}")
                return self._error(404, "RepoNotFound", f"labgate knows no {kind.removesuffix('s')} {name}")
            found = self._store.repository(known)
        if revision not in ("main", found.revision):
            notes.append(f"revision {revision} is served as the twin's only one")
        if found.gated:
            token = "authorization" in request.headers
            sent = "a" if token else "no"
            notes.append(f"gated: the real run needs accepted terms and a token; {sent} token was sent")
            if self._gate and not token:
                return self._error(401, "GatedRepo", f"{found.id} wants accepted terms and a token", found)
        return found

    def _known(self, kind: Kind, name: str) -> twins.Twin | None:
        """The twin of that name, from the catalogue or, with a network, looked up."""
        key = (kind, name.lower())
        if key not in self._twins:
            found: twins.Twin | None = None
            if kind == "models":
                model = self._catalogue.model(name) or (self._lookup and self._lookup.model(name))
                found = twins.ModelTwin(model) if model else None
            else:
                dataset = self._catalogue.dataset(name) or (self._lookup and self._lookup.dataset(name))
                found = twins.DatasetTwin(dataset) if dataset else None
            if found is None:
                return None
            self._twins[key] = found
        return self._twins[key]

    def _file(self, found: Repository, name: str, request: Request | None = None) -> Response:
        file = found.file(name)
        if file is not None:
            headers = {
                "ETag": f'"{file.digest}"',
                "X-Repo-Commit": found.revision,
                "Content-Disposition": f'inline; filename="{file.path.name}"',
                "Access-Control-Expose-Headers": "X-Repo-Commit,ETag",
            }
            return FileResponse(file.path, headers=headers, media_type="application/octet-stream")
        says = f"{found.id} has no file {name}"
        if request is not None:
            why = [missing for missing in found.missing if missing.startswith(f"{name}: ")]
            request.state.notes.extend(why)
            if not why and not _in_vain(name, found):
                request.state.answered = False
                request.state.notes.append(f"not verified: whether the real {found.id} has {name}")
        return self._error(404, "EntryNotFound", says, found)

    def _not_verified(self, request: Request, what: str) -> None:
        request.state.answered = False
        request.state.notes.append(f"not verified: {what} is not in the catalogue")

    def _error(self, status: int, code: str, says: str, found: Repository | None = None) -> Response:
        # What was asked for comes back in it: no line may end there, and nothing else be smuggled in.
        headers = {"X-Error-Message": "".join(c if " " <= c <= "~" else "?" for c in says)}
        if code:
            headers["X-Error-Code"] = code
        if found is not None:
            headers["X-Repo-Commit"] = found.revision
        return PlainTextResponse(f"{says}\n", status, headers=headers)


def _place(place: str) -> tuple[str, str]:
    """Revision and file of what follows "resolve/" or "tree/"; `refs/pr/1` is one revision."""
    parts = place.split("/")
    size = 3 if parts[0] == "refs" else 1
    return "/".join(parts[:size]), "/".join(parts[size:])


def _in_vain(name: str, found: Repository) -> bool:
    """Whether clients ask for that file wherever they can do without."""
    base = found.id.rpartition("/")[2]
    return name in (*ASKED_IN_VAIN, f"{base}.py") or name.startswith("additional_chat_templates")


def _entries(found: Repository, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The tree below `folder`, folders before what they hold."""
    entries: dict[str, dict[str, Any]] = {}
    for name in found.names():
        if folder and not name.startswith(f"{folder}/"):
            continue
        below = name[len(folder) + 1 :] if folder else name
        parts = below.split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            path = "/".join([*folder.split("/"), *parts[:depth]] if folder else parts[:depth])
            oid = found.revision
            entries.setdefault(path, {"type": "directory", "oid": oid, "size": 0, "path": path})
        if recursive or len(parts) == 1:
            file = found.file(name)
            if file is not None:
                entries[name] = {"type": "file", "oid": file.digest, "size": file.size, "path": name}
    return list(entries.values())
