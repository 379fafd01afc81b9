#!/usr/bin/env python3
"""Talks to a control plane as clients that share no code with it: httpx, websockets, and bare sockets that break rules.

Usage: api-clients.py URL TOKEN. Each check prints a line; the last line is `N passed, N failed`.
"""

import asyncio
import json
import socket
import sys
import time

import httpx
import websockets

url, token = sys.argv[1:3]
host, port = url.removeprefix("http://").split(":")
bearer = {"Authorization": f"Bearer {token}"}
results = []


def check(what, holds, found=""):
    results.append(bool(holds))
    print(f"{'ok     ' if holds else 'FAILED '} {what}{'' if holds else f': {found}'}")


def documented():
    """The calls of the reference, as its examples make them."""
    with httpx.Client(base_url=url, headers=bearer, timeout=40) as client:
        made = client.post("/api/containers", json={
            "image": "alpine:latest", "name": "from-python", "memory_mb": 512, "cpu_shares": 500,
            "shell": {"enhanced": True, "use_tmux": True}})
        body = made.json()
        check("create is 202 with async", made.status_code == 202 and body["async"] is True, made.text)
        listed = client.get("/api/containers").json()
        check("the list is newest first and counts", listed["count"] == len(listed["containers"]) and
              listed["containers"][0]["db_id"] == body["db_id"], listed)
        one = client.get(f"/api/containers/{body['db_id'][:12]}")
        check("a prefix of twelve finds it", one.status_code == 200 and one.json()["name"] == "from-python", one.text)
        check("keep-alive: one connection serves them all",
              len(client._transport._pool.connections) == 1, client._transport._pool.connections)
        gone = client.delete(f"/api/containers/{body['db_id']}")
        check("delete says what it deleted", gone.json()["message"] == "container deleted", gone.text)
        missing = client.get(f"/api/containers/{body['db_id']}")
        check("gone is 404 with the documented words",
              (missing.status_code, missing.json()) == (404, {"error": "container not found"}), missing.text)


async def events():
    """A token by header, by query and by subprotocol; ping; a sequence that goes on."""
    socket_url = url.replace("http", "ws") + "/ws/events"

    async def first(address, **options):
        async with websockets.connect(address, **options) as connection:
            await connection.send(json.dumps({"type": "ping"}))
            seen = [json.loads(await asyncio.wait_for(connection.recv(), 10)) for _ in range(2)]
            return seen, connection.subprotocol

    for how, address, options in [
        ("header", socket_url, {"additional_headers": bearer}),
        ("query", f"{socket_url}?token={token}", {}),
        ("subprotocol", socket_url, {"subprotocols": ["rexec.v1", f"rexec.token.{token}"]}),
        ("alias", url.replace("http", "ws") + "/api/containers/events", {"additional_headers": bearer}),
    ]:
        seen, chosen = await first(address, **options)
        kinds = sorted(event["type"] for event in seen)
        check(f"events by {how}: a list, and pong", kinds == ["list", "pong"], seen)
        if how == "subprotocol":
            check("the subprotocol that is no token is agreed on", chosen == "rexec.v1", chosen)

    async with websockets.connect(socket_url, additional_headers=bearer) as connection:
        await connection.recv()
        async with httpx.AsyncClient(base_url=url, headers=bearer, timeout=40) as client:
            made = (await client.post("/api/containers", json={"image": "alpine"})).json()
            created = json.loads(await asyncio.wait_for(connection.recv(), 10))
            check("container_created carries data, seq and timestamp",
                  created["type"] == "container_created" and created["data"]["db_id"] == made["db_id"]
                  and isinstance(created["seq"], int) and "timestamp" in created, created)
            await client.delete(f"/api/containers/{made['db_id']}")
            last = 0
            while True:
                event = json.loads(await asyncio.wait_for(connection.recv(), 10))
                if event["seq"] <= last:
                    break
                last = event["seq"]
                if event["type"] == "container_deleted":
                    break
            check("seq goes up until container_deleted", event["type"] == "container_deleted", event)
    try:
        await first(socket_url, additional_headers={"Authorization": "Bearer wrong"})
        check("a wrong token is refused before the upgrade", False)
    except websockets.exceptions.InvalidStatus as refusal:
        check("a wrong token is refused before the upgrade", refusal.response.status_code == 401, refusal)


def raw(data, seconds=10):
    """What comes back, until the server closes or nothing comes any more."""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def smuggling():
    """Shapes that two servers read differently are answered once, by 400, and nothing after them is read."""
    line = f"POST /api/containers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    inner = f"GET /api/profile HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    for what, head in [
        ("length and chunks", f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        ("two lengths", f"Content-Length: 0\r\nContent-Length: {len(inner)}\r\n\r\n{inner}"),
        ("a length that is none", f"Content-Length: +0\r\n\r\n{inner}"),
        ("a length with a comma", f"Content-Length: 0, 0\r\n\r\n{inner}"),
        ("chunks of a wrong size", f"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n{inner}"),
        ("an encoding twice", f"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        ("a blank before the colon", f"Content-Length : 0\r\n\r\n{inner}"),
        ("a folded header", f"X-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n{inner}"),
    ]:
        answer = raw((line + head).encode(), 3)
        statuses = [part[1:4].decode() for part in answer.split(b"HTTP/1.1")[1:]]
        # Closed without a word is as good as 400.
        check(f"smuggling: {what}", statuses in ([], ["400"]), answer[:300])
    for what, data in [
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n"),
        ("a head without end", b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000),
        ("a header with a zero", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
        ("HTTP/9.9", b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n"),
    ]:
        answer = raw(data, 3)
        check(f"garbage: {what}", b" 200 " not in answer[:20] and b" 5" not in answer[8:12], answer[:200])
    late = raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n", 5)
    check("garbage behind a request is a 400 in JSON, and the end",
          late.count(b" 200 ") == 1 and b" 400 " in late and late.endswith(b'{"error":"malformed request"}'), late)
    check("and it lives", httpx.get(url + "/health").status_code == 200)


def proxied():
    """A connection becomes a WebSocket with its first request or never, so a proxy is let keep none."""
    upgrade = (f"GET /ws/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n"
               "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    plain = "GET /health HTTP/1.1\r\nHost: x\r\n"
    for mark in ["X-Forwarded-For: 203.0.113.5", "Via: 1.1 proxy", "Forwarded: for=203.0.113.5"]:
        start = time.monotonic()
        answer = raw(f"{plain}{mark}\r\n\r\n".encode())
        check(f"a request with {mark.split(':')[0]} is its connection's last",
              b" 200 " in answer[:20] and b"connection: close" in answer.lower() and time.monotonic() - start < 5, answer)
    behind = raw(f"{plain}Via: 1.1 proxy\r\n\r\n{plain}\r\n".encode())
    check("what comes behind it is not carried out", behind.count(b"HTTP/1.1") == 1, behind)
    large = ("POST /api/containers HTTP/1.1\r\nHost: x\r\nVia: 1.1 proxy\r\nContent-Type: application/json\r\n"
             f"Authorization: Bearer {token}\r\nContent-Length: 3000000\r\n\r\n").encode() + b" " * 3_000_000
    for what, answer, status in [("its body is too large", raw(large), b" 413 "),
                                 ("its token is wrong", raw(large.replace(token.encode(), b"wrong")), b" 401 ")]:
        check(f"a refusal is not lost where {what}", status in answer[:20] and answer.endswith(b"}"), answer[:200])
    kept = raw(f"{plain}\r\n{plain}Connection: close\r\n\r\n".encode())
    check("others keep theirs", kept.count(b" 200 ") == 2, kept)
    start = time.monotonic()
    late = raw(f"{plain}\r\n{upgrade}".encode())
    check("an upgrade that comes later is a 426, and the connection ends with it",
          late.count(b" 426 ") == 1 and time.monotonic() - start < 5, late)
    check("an upgrade that comes first is one, behind a proxy too",
          b" 101 " in raw(upgrade.replace("Host: x", "Host: x\r\nX-Forwarded-For: 203.0.113.5").encode(), 1)[:20])


def handshakes():
    """A WebSocket that is refused is told why in the words of every other refusal."""
    upgrade = ("GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    with httpx.Client(base_url=url, headers=bearer, timeout=40) as client:
        writer = client.post("/api/tokens", json={"scopes": ["write"]}).json()["token"]
    for what, path, text, status, words, header in [
        ("no token of ours", "/ws/events", "wrong", "401", {"error": "unauthorized"}, b"www-authenticate: bearer"),
        ("no scope for it", "/ws/events", writer, "403",
         {"error": "insufficient permissions", "message": "the token lacks the scope \"read\""}, b""),
        ("no such agent", "/ws/agent/nobody", token, "404", {"error": "agent not found"}, b""),
    ]:
        head, _, body = raw(upgrade.format(path, text).encode()).partition(b"\r\n\r\n")
        check(f"a handshake with {what} is a {status} as any other", head.startswith(f"HTTP/1.1 {status}".encode())
              and json.loads(body or b"{}") == words and header in head.lower(), (head, body))


def methods():
    """What a path does not take is a 405 that says what it takes."""
    with httpx.Client(base_url=url, headers=bearer, timeout=40) as client:
        for method, path, allowed in [
            ("PUT", "/api/containers", "GET, HEAD, OPTIONS, POST"), ("DELETE", "/health", "GET, HEAD, OPTIONS"),
            ("GET", "/api/containers/x/start", "OPTIONS, POST"), ("POST", "/ws/events", "GET, HEAD, OPTIONS"),
        ]:
            answer = client.request(method, path)
            check(f"{method} {path} is a 405", answer.status_code == 405 and answer.headers["allow"] == allowed
                  and answer.json()["error"] == "method not allowed", f"{answer.status_code} {answer.headers} {answer.text}")
        options = client.options("/api/containers/x")
        check("OPTIONS names them", options.status_code == 204
              and options.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH", options.headers)
        for path in ["/health", "/api/containers", "/openapi.json"]:
            head, whole = client.head(path), client.get(path)
            check(f"HEAD {path} is GET without a body", head.status_code == 200 and head.content == b""
                  and head.headers["content-length"] == whole.headers["content-length"], head.headers)
        check("what is nowhere is a 404", client.put("/api/nothing").status_code == 404)


def slow(what, bearer_token, status):
    """A body that drips is given up on, also where nobody waits for it."""
    start = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall((f"POST /api/containers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer_token}\r\n"
                            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{").encode())
        connection.settimeout(2)
        answer, closed = b"", False
        while time.monotonic() - start < 50 and not closed:
            try:
                connection.sendall(b" ")
                part = connection.recv(65536)
                answer += part
                closed = part == b""
            except TimeoutError:
                pass
            except (ConnectionResetError, BrokenPipeError):
                closed = True
    took = time.monotonic() - start
    check(f"a body that drips {what} is answered by {status} and the connection closed",
          answer.startswith(b"HTTP/1.1 " + status.encode()) and closed and 15 < took < 45, (answer[:200], closed, took))


documented()
asyncio.run(events())
smuggling()
proxied()
handshakes()
methods()
slow("to a route", token, "408")
slow("behind a refusal", "wrong", "401")
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
