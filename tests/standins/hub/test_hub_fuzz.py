"""Whatever is asked of it, the hub answers, keeps standing and sends nothing that it should not."""

import http.client
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labgate.standins.hub import Hub

WORDS = st.sampled_from(
    (
        *("api", "models", "datasets", "spaces", "gpt2", "glue", "me", "mine", "resolve", "main", "tree"),
        *("revision", "paths-info", "config.json", "..", "%2e%2e", "%00", "%0d%0a", "%2F", "%ff", "é"),
        *("evaluate-metric", "accuracy", "refs"),
    )
)
PATHS = st.lists(WORDS | st.text(max_size=5), max_size=8).map("/".join)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "config.json").write_text("{}")
    with Hub(tmp_path_factory.mktemp("store"), [sys.executable], maps={"me/mine": folder}) as standing:
        yield standing


def stands(hub):
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    connection.request("GET", "/me/mine/resolve/main/config.json")
    content = connection.getresponse().read()
    connection.close()
    return content == b"{}"


def send(hub, data, whole=True):
    """The answer to these bytes; a request that may not be `whole` is ended by ending the connection."""
    with socket.create_connection(("127.0.0.1", hub.port), timeout=30) as connection:
        connection.sendall(data)
        if not whole:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS"]),
    PATHS,
    st.text(max_size=10),
    st.binary(max_size=50),
    st.sampled_from(["", "bytes=0-0", "bytes=9-", "bytes=-", "bytes=5-1", "lines=1"]),
)
def test_any_request_is_answered(hub, method, path, query, body, ranged):
    target = f"/{path}?{query}".encode("utf-8", "surrogatepass")
    target = bytes(byte for byte in target if byte > 32 and byte != 127)
    head = f"Host: x\r\nConnection: close\r\nRange: {ranged}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = send(hub, method.encode() + b" " + target + b" HTTP/1.1\r\n" + head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert b"root:x:" not in answer


@given(st.binary(max_size=200))
def test_any_bytes_leave_it_standing(hub, data):
    send(hub, data, whole=False)
    assert stands(hub)
