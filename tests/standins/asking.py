"""The hub asked by hand: one request, without a client of its own."""

import http.client


def ask(hub, method, path, body=None, **headers):
    """Status, headers and body of one answer, and its exchange."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content, list(hub.ledger)[-1]
