"""A request that ends before its body does was never made."""

import contextlib
import socket
from urllib.parse import urlsplit

import pytest


@pytest.mark.parametrize("sent", ["", "name=Lumen"])
def test_a_client_that_is_killed_while_it_sends_has_asked_for_nothing(address, api, sent):
    half = (
        "POST /v1/customers HTTP/1.1\r\nHost: stripe\r\nAuthorization: Bearer sk_test_x\r\n"
        "Idempotency-Key: once\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: 100\r\n\r\n{sent}"
    )
    host = urlsplit(address)
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        connection.sendall(half.encode())
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert api.v1.customers.list().data == []

    made = api.v1.customers.create({"name": "Lumen Legal"}, {"idempotency_key": "once"})
    assert made.name == "Lumen Legal"
