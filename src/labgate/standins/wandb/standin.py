"""The server that `wandb` clients talk to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from labgate.standins.ledger import Ledger
from labgate.standins.standin import StandIn, body_of, chunks_of
from labgate.standins.wandb import execution, file_stream, files
from labgate.standins.wandb.answers import Query
from labgate.standins.wandb.changes import Mutation
from labgate.standins.wandb.store import SILENT, Run, Store
from labgate.standins.wandb.values import NotJsonError, decoded, dump, parse_object, storable

KEY = "1abca7e" * 5 + "1abca"
"""Newer clients insist on forty characters."""
BODY = 64 << 20
"""Bytes of a posted body; clients cut theirs at about 10 MB."""
UPLOAD = 64 << 30
"""Bytes of an uploaded file."""


class Wandb(StandIn):
    """W&B on 127.0.0.1, with everything that is logged in the file `store`.

    Without a file, it is kept as long as the stand-in stands. `silent` is after how many seconds without a
    sign of life a run counts as crashed.
    """

    name = "wandb"

    def __init__(
        self,
        store: Path | None = None,
        *,
        port: int = 0,
        ledger: Ledger | None = None,
        silent: float = SILENT,
    ) -> None:
        super().__init__(port=port, ledger=ledger)
        self._path, self._silent = store, silent
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """What was logged; while the stand-in stands."""
        assert self._store is not None, "not started"
        return self._store

    def opened(self) -> None:
        path = self._path
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="labgate-wandb-")
            path = Path(self._temporary.name) / "runs.db"
        self._store = Store(path, self._silent)

    def closed(self) -> None:
        self.store.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def env(self) -> dict[str, str]:
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            # Every second, not every fifteen: that much a killed run loses. The spelling changed with
            # versions.
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
        }

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/graphql", self.graphql, methods=["POST"]),
            Route("/files/{entity}/{project}/{run}/file_stream", self.stream, methods=["POST"]),
            Route("/files/{entity}/{project}/{run}/{name:path}", self.upload, methods=["PUT"]),
            Route("/files/{entity}/{project}/{run}/{name:path}", self.download, methods=["GET"]),
        ]

    def fault(self, request: Request, error: Exception) -> Response:
        """A client that hears of a server's error asks again for the better part of a minute.

        Only what was to be kept, and is not, has to be called one.
        """
        message = {"message": f"labgate's own failure: {type(error).__name__}: {error}"}
        return _json({"data": None, "errors": [message]}, 200 if request.url.path == "/graphql" else 500)

    async def graphql(self, request: Request) -> Response:
        """Every question but for the streams and files of runs."""
        try:
            body = storable(parse_object(decoded(await body_of(request, BODY))))
            text, name, variables = body.get("query"), body.get("operationName"), body.get("variables") or {}
            if (
                not isinstance(text, str)
                or not isinstance(name, str | None)
                or not isinstance(variables, dict)
            ):
                raise NotJsonError("not a GraphQL request")
            request.state.asked = name or ""
            request.state.request = dump(variables)
            outcome = await run_in_threadpool(self._execute, text, name, variables)
        except (NotJsonError, execution.NotGraphQLError) as error:
            request.state.notes.append(str(error))
            return _json({"errors": [{"message": str(error)}]}, 400)
        request.state.asked = outcome.operation or f"{{{', '.join(outcome.fields)}}}"
        request.state.answered = not (outcome.unanswered or outcome.faults)
        request.state.notes += [f"no answer to {each}" for each in outcome.unanswered]
        request.state.notes += [f"labgate's own failure: {each}" for each in outcome.faults]
        request.state.notes += outcome.notes
        return _json(outcome.response)

    def _execute(self, text: str, name: str | None, variables: Mapping[str, Any]) -> execution.Outcome:
        document = execution.parsed(text)
        query = Query(self.store, self.url)
        mutation = Mutation(self.store, query)
        if not execution.is_mutation(document, name):
            return execution.execute(document, name, variables, query, mutation)
        try:
            with self.store.transaction():
                outcome = execution.execute(document, name, variables, query, mutation)
                if "errors" in outcome.response:
                    raise _UndoneError
        except _UndoneError:
            pass
        return outcome

    async def stream(self, request: Request) -> Response:
        """New lines of a run, and its life and end."""
        request.state.asked = request.path_params["run"]
        try:
            body = storable(parse_object(decoded(await body_of(request, BODY))))
            run = await run_in_threadpool(self._run, request)
            if run is None:
                return _json({"error": "no such run"}, 404)
            writer = request.headers.get("x-wandb-async-client-id", "")
            request.state.notes += await run_in_threadpool(file_stream.take, self.store, run, body, writer)
        except NotJsonError as error:
            request.state.notes.append(str(error))
            return _json({"error": str(error)}, 400)
        return _json({"exitcode": None, "limits": {}})

    async def upload(self, request: Request) -> Response:
        """A file of a run, in the place of what was there."""
        run = await run_in_threadpool(self._run, request)
        if run is None:
            return _json({"error": "no such run"}, 404)
        name = storable(request.path_params["name"])
        file = await files.save(self.store, run.id, name, chunks_of(request, UPLOAD))
        request.state.request = f"({file.size} bytes)"
        return Response(status_code=200, headers={"ETag": f'"{file.content}"'})

    async def download(self, request: Request) -> Response:
        """A file of a run."""
        run = await run_in_threadpool(self._run, request)
        found = files.of_run(self.store, run.id, [request.path_params["name"]]) if run else []
        if not found:
            return _json({"error": "no such file"}, 404)
        return FileResponse(files.path_of(self.store, found[0]), media_type=found[0].mimetype)

    def _run(self, request: Request) -> Run | None:
        names = storable(request.path_params)
        project = self.store.project(names["entity"], names["project"])
        return self.store.run(project.id, names["run"]) if project else None


class _UndoneError(Exception):
    """Rolls a mutation back that came to an error."""


def _json(value: Any, status: int = 200) -> Response:
    return Response(dump(value), status, media_type="application/json")
