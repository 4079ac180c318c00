"""What all stand-ins have in common: start, route, record, stop."""

from __future__ import annotations

import base64
import binascii
import signal
import threading
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from labgate.standins.ledger import TEXT, Ledger
from labgate.standins.serving import HOST, Serving

BODY = 256 << 20
"""Bytes of a request body that are taken, after decompression."""
KEPT = 4 * TEXT
"""Bytes of each body that are held for the ledger."""


class BodyError(ValueError):
    """A request body that is not taken: too large (`status` 413), or not what its headers say (400)."""

    def __init__(self, says: str, status: int = 400) -> None:
        super().__init__(says)
        self.status = status


class StandIn:
    """A server on 127.0.0.1 that answers as an outside service would; a context manager.

    A subclass gives `name`, `routes()`, `env()` and, where its clients expect something else, `fault()` and
    `outside()`; it opens what it needs in `opened()` and closes that in `closed()`. Each exchange is recorded
    in `ledger`. A handler tells the ledger more by way of `request.state`: `asked` (str) is what was wanted,
    `request` (str) the body as it should be kept, `notes` (list of str) what is worth saying, and `answered`
    is set to False where labgate has no answer.
    """

    name: ClassVar[str]
    or_any_port = False
    """Whether another port will do when the one asked for is taken."""

    def __init__(self, *, port: int = 0, ledger: Ledger | None = None) -> None:
        self.ledger = Ledger() if ledger is None else ledger
        self._port = port
        self._serving: Serving | None = None
        self._router: Router | None = None

    def routes(self) -> Sequence[BaseRoute]:
        """Which address is answered by what."""
        raise NotImplementedError

    def env(self) -> dict[str, str]:
        """The environment variables that lead a client here: all that it is told."""
        raise NotImplementedError

    def fault(self, request: Request, error: Exception) -> Response:
        """How labgate's own failure is answered."""
        return JSONResponse({"error": f"labgate's own failure: {type(error).__name__}: {error}"}, 500)

    def outside(self, request: Request, host: str) -> Response:
        """What a client hears that takes this server for a proxy to `host`, a name with a port."""
        request.state.answered = False
        request.state.notes.append(f"outside host {host} refused")
        return PlainTextResponse(f"labgate: there is no network here, and no way to {host}\n", 403)

    def opened(self) -> None:
        """Called before the first request."""

    def closed(self) -> None:
        """Called after the last request."""

    def start(self) -> None:
        """Serve, until `stop`. Raises OSError when the port is taken."""
        if self._serving is None:
            self._router = Router(self.routes(), redirect_slashes=False)
            self.opened()
            try:
                self._serving = self._served()
            except BaseException:
                self.closed()
                raise

    def _served(self) -> Serving:
        try:
            return Serving(self, self._port)
        except OSError:
            if not self.or_any_port:
                raise
            return Serving(self, 0)

    def stop(self) -> None:
        """End what is under way and free the port."""
        if self._serving is not None:
            self._serving.close()
            self._serving = None
            self.closed()

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._serving.port if self._serving is not None else self._port

    @property
    def url(self) -> str:
        """Where it is found, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def not_http(self, message: str) -> None:
        """Record bytes on a connection that are no HTTP; they were answered with status 400."""
        self.ledger.record(self.name, "?", "", status=400, note=message)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application: every exchange passes here, and is recorded here."""
        if scope["type"] != "http":
            return
        seen = _Seen(scope, receive, send, self._record)
        scope["state"] = {"asked": "", "request": "", "notes": [], "answered": True}
        request = Request(scope, seen.receive, seen.send)
        try:
            response = await self._respond(request, seen)
            if response is not None:
                await response(scope, seen.receive, seen.send)
        except ClientDisconnect:
            request.state.notes.append("the client went away")
        except Exception as error:
            await self._failed(request, seen, error)
        finally:
            seen.over()

    async def _respond(self, request: Request, seen: _Seen) -> Response | None:
        """An answer that does not come from a route, or None after the route has answered."""
        assert self._router is not None
        scope, host = request.scope, seen.host
        own = (f"{HOST}:{self.port}", f"localhost:{self.port}")
        if scope["method"] == "CONNECT" or host not in ("", *own):
            return self.outside(request, host)
        if host:  # a client that asks us for ourselves as it would ask a proxy
            scope["path"] = "/" + scope["path"].split("://", 1)[1].partition("/")[2]
            scope["raw_path"] = b"/" + scope["raw_path"].split(b"://", 1)[1].partition(b"/")[2]
        try:
            await self._router(scope, seen.receive, seen.send)
        except BodyError as error:
            request.state.notes.append(str(error))
            return PlainTextResponse(f"{error}\n", error.status)
        return None

    async def _failed(self, request: Request, seen: _Seen, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        request.state.notes.append(f"labgate's own failure: {type(error).__name__}: {error} ({place})")
        request.state.answered = False
        if seen.status:
            raise error  # half an answer is out: the connection has to end
        await self.fault(request, error)(request.scope, seen.receive, seen.send)

    def _record(self, scope: Scope, seen: _Seen) -> None:
        state, headers = scope["state"], Headers(scope=scope)
        routed = seen.status != 405 and (seen.status != 404 or "endpoint" in scope)
        self.ledger.record(
            self.name,
            scope["method"],
            seen.target,
            at=seen.at,
            client=headers.get("user-agent", ""),
            asked=state["asked"],
            request=state["request"] or _text(seen.request, headers),
            status=seen.status,
            answer=_text(seen.answer, seen.headers),
            answered=state["answered"] and routed,
            note="; ".join(state["notes"]),
            secrets=tuple(_secrets(headers)),
        )


async def chunks_of(request: Request, limit: int = BODY) -> AsyncIterator[bytes]:
    """A request's body, piece by piece, decompressed.

    Raises BodyError beyond `limit` bytes, and for what is not as its Content-Encoding says.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise BodyError(f"bodies are not taken as {encoding}")
    unpack = None if encoding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    size = 0
    async for chunk in request.stream():
        while chunk:
            if unpack is None:
                piece, chunk = chunk, b""
            else:
                try:
                    piece = unpack.decompress(chunk, 1 << 20)
                except zlib.error as error:
                    raise BodyError(f"the body is not {encoding}: {error}") from error
                chunk = unpack.unconsumed_tail
                if unpack.eof and unpack.unused_data:
                    raise BodyError(f"something stands behind the {encoding} body")
            size += len(piece)
            if size > limit:
                raise BodyError(f"a request body of more than {limit} bytes", 413)
            yield piece
    if unpack is not None and size and not unpack.eof:
        raise BodyError(f"the {encoding} body is cut short")


async def body_of(request: Request, limit: int = BODY) -> bytes:
    """A request's whole body, decompressed. Raises as `chunks_of` does."""
    return b"".join([chunk async for chunk in chunks_of(request, limit)])


def stand(standins: Sequence[StandIn], started: Callable[[], None] = lambda: None) -> None:
    """Start these, call `started`, and stop them at SIGINT or SIGTERM. For the main thread of a process."""
    end = threading.Event()

    def ended(_number: int, _frame: FrameType | None) -> None:
        end.set()

    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for standin in standins:
            standin.start()
        started()
        end.wait()
    finally:
        for standin in standins:
            standin.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Seen:
    """What passes by of one exchange, its first bytes kept.

    It is recorded once, before the end of the answer leaves: what a client knows, the ledger knows.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, record: Callable[[Scope, _Seen], None]
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._record: Callable[[Scope, _Seen], None] | None = record
        self.at = time.time()
        self.request = self.answer = b""
        self.status = 0
        self.headers = Headers()
        path = scope.get("raw_path", b"").decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        self.target = f"{path}?{query}" if query else path
        self.host = _host(scope["method"], path)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and len(self.request) < KEPT:
            self.request += message.get("body", b"")[:KEPT]
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], Headers(raw=list(message.get("headers", ())))
        elif message["type"] == "http.response.body" and len(self.answer) < KEPT:
            self.answer += bytes(message.get("body", b"")[:KEPT])
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.over()
        await self._send(message)

    def over(self) -> None:
        """The exchange has ended, one way or the other."""
        if self._record is not None:
            record, self._record = self._record, None
            record(self._scope, self)


def _host(method: str, target: str) -> str:
    """Host and port that a proxy's client wants to reach; empty for a server's client."""
    if method == "CONNECT":
        return target
    if target.startswith("/") or "://" not in target:
        return ""
    try:
        parts = urlsplit(target)
        return f"{parts.hostname or '?'}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError:
        return target


def _text(body: bytes, headers: Headers) -> str:
    """A body as the ledger keeps it: text as it is, other things by their kind."""
    encoding = headers.get("content-encoding", "")
    if encoding in ("gzip", "x-gzip", "deflate"):
        try:
            body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, KEPT)
        except zlib.error:
            return f"({encoding})"
    if b"\0" in body:
        return f"({headers.get('content-type', 'bytes')})"
    return body.decode("utf-8", "replace")


def _secrets(headers: Headers) -> Iterable[str]:
    """What a request proves its identity with."""
    for name in ("authorization", "proxy-authorization", "x-api-key", "cookie"):
        value: Any = headers.get(name, "")
        kind, _, credentials = value.partition(" ")
        yield credentials or value
        if kind.lower() == "basic":
            try:
                yield base64.b64decode(credentials).decode("utf-8", "replace").partition(":")[2]
            except (binascii.Error, ValueError):
                continue
