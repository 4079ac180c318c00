"""Requests to other services of this machine, which clients send here because their proxy settings say so."""

from __future__ import annotations

import http.client

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from labgate.standins.standin import body_of

HOP_BY_HOP = ("connection", "proxy-connection", "proxy-authorization", "keep-alive", "transfer-encoding")
PATIENCE = 60.0
"""Seconds that the other service may take."""


def is_loopback(host: str) -> bool:
    """Whether a name with a port means this machine."""
    name = host.rpartition(":")[0]
    return name in ("localhost", "::1", "[::1]") or name.endswith(".localhost") or name.startswith("127.")


def forwarded(request: Request, host: str) -> Response:
    """The answer of `host`, a name with a port, to this request."""
    return _Forwarded(request, host)


class _Forwarded(Response):
    def __init__(self, request: Request, host: str) -> None:
        super().__init__()
        self._request, self._host = request, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(self._request)
        self._request.state.notes.append(f"passed on to {self._host}")
        try:
            answer = await run_in_threadpool(self._ask, body)
        except (OSError, http.client.HTTPException) as error:
            answer = PlainTextResponse(f"labgate: {self._host} does not answer: {error}\n", 502)
        await answer(scope, receive, send)

    def _ask(self, body: bytes) -> Response:
        name, _, port = self._host.rpartition(":")
        target = "/" + self._request.scope["raw_path"].decode("latin-1").split("://", 1)[-1].partition("/")[2]
        query = self._request.scope["query_string"].decode("latin-1")
        headers = {
            key: value
            for key, value in self._request.headers.items()
            if key not in (*HOP_BY_HOP, "content-length", "content-encoding")
        }
        connection = http.client.HTTPConnection(name.strip("[]"), int(port), timeout=PATIENCE)
        try:
            connection.request(
                self._request.method, f"{target}?{query}" if query else target, body or None, headers
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        kept = {key: value for key, value in answer.getheaders() if key.lower() not in HOP_BY_HOP}
        return Response(content, answer.status, kept)
