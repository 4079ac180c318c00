"""An ASGI application on uvicorn, in a thread of this process, on 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HOST = "127.0.0.1"
START = 20.0
"""Seconds that a server may take to start on a busy machine."""


class Protocol(H11Protocol):
    """HTTP/1.1 that acknowledges at once, and tells the application of what is no HTTP.

    Clients that keep Nagle's algorithm on (urllib3 towards a proxy does) wait for the acknowledgement of a
    request's head before they send its body; delayed, it costs 40 ms a request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._socket is not None and hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # the kernel forgets it
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        refused = getattr(self.app, "not_http", None)
        if refused is not None:
            refused(msg)
        super().send_400_response(msg)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class Serving:
    """`app`, served from construction until `close`. Raises OSError when the port is taken."""

    def __init__(self, app: Any, port: int) -> None:
        self._socket = socket.create_server((HOST, port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
        # Outside the main thread uvicorn leaves signals alone.
        self._thread = threading.Thread(target=self._run, name=f"stand-in on port {self.port}", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START):
            self.close()
            raise OSError(f"no server on port {self.port} after {START:g} s")

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """End what is under way, at most two seconds' worth, and free the port."""
        self._server.should_exit = True
        self._thread.join(START)
        self._socket.close()
