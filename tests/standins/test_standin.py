"""The server that all stand-ins share: what reaches it, what it survives, what it keeps."""

import base64
import gzip
import http.client
import json
import socket
import subprocess
import sys
import time

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from labgate.standins.ledger import Ledger, bounded, read, without_secrets
from labgate.standins.standin import StandIn, body_of


class Echo(StandIn):
    name = "echo"

    def routes(self):
        return [
            Route("/echo/{word}", self.echo, methods=["GET", "POST"]),
            Route("/small", self.small, methods=["POST"]),
            Route("/fail", self.fail),
        ]

    def env(self):
        return {"ECHO_URL": self.url}

    async def echo(self, request):
        body = await body_of(request)
        request.state.asked = "Echo"
        return JSONResponse({"word": request.path_params["word"], "body": body.decode("latin-1")})

    async def small(self, request):
        return PlainTextResponse(str(len(await body_of(request, limit=1000))))

    async def fail(self, request):
        raise KeyError("oh")


@pytest.fixture
def echo():
    with Echo() as standin:
        yield standin


def ask(standin, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=10)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def raw(standin, data):
    """What comes back for these bytes until the server has nothing more to say."""
    with socket.create_connection(("127.0.0.1", standin.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_an_exchange_is_answered_and_recorded(echo):
    assert ask(echo, "POST", "/echo/a%20b?x=1", b"hello", {"User-Agent": "test/1"}) == (
        200,
        b'{"word":"a b","body":"hello"}',
    )
    (exchange,) = echo.ledger
    assert str(exchange) == "#1 POST /echo/a%20b?x=1 Echo -> 200"
    assert (exchange.standin, exchange.client, exchange.request) == ("echo", "test/1", "hello")
    assert json.loads(exchange.answer) == {"word": "a b", "body": "hello"}
    assert abs(exchange.time - time.time()) < 10


def test_it_listens_on_loopback_only(echo):
    own = socket.gethostbyname(socket.gethostname())
    assert echo.url.startswith("http://127.0.0.1:")
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((own, echo.port), timeout=2)


def test_bodies_come_gzipped_and_in_chunks(echo):
    packed = gzip.compress(b"hello " * 100)
    pieces = (packed[i : i + 7] for i in range(0, len(packed), 7))
    status, answer = ask(echo, "POST", "/echo/x", pieces, {"Content-Encoding": "gzip"})
    assert status == 200 and json.loads(answer)["body"] == "hello " * 100
    assert next(iter(echo.ledger)).request.startswith("hello hello")


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"x" * 99)[:-4], gzip.compress(b"x") + b"y"])
def test_a_body_that_is_not_gzip_is_refused(echo, body):
    assert ask(echo, "POST", "/echo/x", body, {"Content-Encoding": "gzip"})[0] == 400
    assert ask(echo, "POST", "/echo/x", b"y")[0] == 200


def test_a_body_has_a_bound_after_decompression(echo):
    assert ask(echo, "POST", "/small", b"x" * 1000) == (200, b"1000")
    assert ask(echo, "POST", "/small", b"x" * 1001)[0] == 413
    assert (
        ask(echo, "POST", "/small", gzip.compress(b"x" * 10_000_000), {"Content-Encoding": "gzip"})[0] == 413
    )


def test_a_failure_of_ours_is_recorded_as_such_and_kills_nothing(echo):
    assert ask(echo, "GET", "/fail")[0] == 500
    assert ask(echo, "GET", "/echo/x")[0] == 200
    (exchange,) = echo.ledger.unanswered()
    assert "labgate's own failure: KeyError: 'oh' (test_standin.py:" in exchange.note


def test_an_address_without_a_route_is_unanswered(echo):
    assert ask(echo, "GET", "/nowhere")[0] == 404
    assert ask(echo, "PUT", "/echo/x")[0] == 405
    assert [exchange.status for exchange in echo.ledger.unanswered()] == [404, 405]
    assert str(echo.ledger.unanswered()[0]) == "#1 GET /nowhere -> 404, unanswered"


def test_a_proxys_client_is_refused_by_name(echo):
    answer = raw(echo, b"CONNECT huggingface.co:443 HTTP/1.1\r\nHost: huggingface.co:443\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    answer = raw(echo, b"GET http://example.org/a?b=c HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    first, second = echo.ledger.unanswered()
    assert (first.method, first.target) == ("CONNECT", "huggingface.co:443")
    assert (second.target, second.note) == (
        "http://example.org/a?b=c",
        "outside host example.org:80 refused",
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxys_client_that_wants_ourselves_is_answered(echo, host):
    line = f"GET http://{host}:{echo.port}/echo/x%20y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert b'"word":"x y"' in raw(echo, line.encode())
    assert not echo.ledger.unanswered()
    assert ask(echo, "GET", "/echo/http://x")[0] == 404, "a path that holds an address is a path"


def test_what_is_no_http_is_answered_and_recorded(echo):
    assert raw(echo, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    (exchange,) = echo.ledger
    assert (exchange.method, exchange.status) == ("?", 400)


def test_small_writes_are_acknowledged_at_once(echo):
    """A client with Nagle's algorithm on sends the body only after the head was acknowledged."""
    head = b"POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    with socket.create_connection(("127.0.0.1", echo.port)) as connection:
        start = time.monotonic()
        for _ in range(25):
            connection.send(head)
            connection.send(b"hello")
            while not connection.recv(65536).endswith(b"}"):
                pass
        assert time.monotonic() - start < 25 * 0.03


def test_keys_never_reach_the_ledger(echo):
    key = "0123456789abcdef0123456789abcdef01234567"
    body = json.dumps({"variables": {"apiKey": "s3cret!", "host": key, "hub": "hf_" + "a" * 30}})
    basic = base64.b64encode(f"api:{key}".encode()).decode()
    ask(echo, "POST", "/echo/x", body, {"Authorization": f"Basic {basic}"})
    (exchange,) = echo.ledger
    for secret in (key, "s3cret!", "a" * 30):
        assert secret not in exchange.request and secret not in exchange.answer
    assert "variables" in exchange.request


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:pw@host/x", "https://***@host/x"),
        ("Authorization: Bearer abc.def", "Authorization: *** ***"),
        ('"WANDB_API_KEY": "x y", "lr": 1', '"WANDB_API_KEY": ***, "lr": 1'),
        ('{\\"password\\": \\"x\\"}', '{\\"password\\": ***}'),
        ('"max_tokens": 5, "tokenizer": "t"', '"max_tokens": 5, "tokenizer": "t"'),
    ],
)
def test_what_looks_like_a_secret_is_blacked_out(text, clean):
    assert without_secrets(text) == clean


def test_long_texts_are_cut_and_say_so():
    assert bounded("x" * 10, 4) == "xxxx… (+6 characters)"


def test_a_ledger_can_be_read_back_from_its_file(tmp_path):
    file = tmp_path / "deep" / "ledger.jsonl"
    ledger = Ledger(file, keep=2)
    for number in range(3):
        ledger.record("echo", "GET", f"/{number}\u2028", status=404, answered=bool(number))
    ledger.close()
    assert len(ledger) == 3 and [exchange.number for exchange in ledger] == [2, 3]
    assert [exchange.number for exchange in ledger.unanswered()] == [1]
    with file.open("a") as more:
        more.write('{"number": 4, "ti')
    assert [exchange.target for exchange in read(file)] == ["/0\u2028", "/1\u2028", "/2\u2028"]


def test_a_port_that_is_taken_is_said_so(echo):
    with pytest.raises(OSError):
        Echo(port=echo.port).start()


def test_a_port_is_free_again_after_the_end():
    with Echo() as first:
        ask(first, "GET", "/echo/x")
    with Echo(port=first.port) as second:
        assert ask(second, "GET", "/echo/x")[0] == 200


def test_a_process_stands_until_it_is_told_to_end(tmp_path):
    (tmp_path / "standing.py").write_text(
        "from labgate.standins.standin import StandIn, stand\n"
        "class Quiet(StandIn):\n"
        "    name = 'quiet'\n"
        "    def routes(self): return []\n"
        "    def closed(self): print('flushed', flush=True)\n"
        "quiet = Quiet()\n"
        "stand([quiet], lambda: print(quiet.port, flush=True))\n"
        "print('done')\n"
    )
    process = subprocess.Popen([sys.executable, tmp_path / "standing.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip().isdigit()
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "flushed\ndone\n")
