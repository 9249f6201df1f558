"""What loads a proxy: wrk for requests, and a small WebSocket origin and client."""
import base64
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time

from proxies import HOST, LOAD_CPU, TOKEN, prepare

KEY = base64.b64encode(b"0123456789abcdef").decode()


def wrk(port, path, connections, seconds, headers=()):
    """Requests that were answered. Any that failed ends the run: a number with failures in it means nothing."""
    command = [shutil.which("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    for header in headers:
        command += ["-H", header]
    command.append(f"http://127.0.0.1:{port}{path}")
    out = subprocess.run(command, capture_output=True, text=True, preexec_fn=prepare(LOAD_CPU), check=True).stdout
    failed = re.search(r"(Non-2xx.*|Socket errors:.*)", out)
    # wrk counts connections that are still open at its end as timeouts of nothing; other errors are errors.
    if failed and not re.search(r"connect 0, read 0, write 0, timeout \d+", failed[1]):
        raise SystemExit(f"wrk: {failed[1]}")
    return int(re.search(r"(\d+) requests in", out)[1])


def request(port, path, headers=()):
    """The status of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        head = [f"GET {path} HTTP/1.1", f"Host: {HOST}", "Connection: close", *headers]
        s.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        return int((s.recv(64).split(b" ") + [b"0", b"0"])[1])


def authorized():
    return f"Authorization: Bearer {TOKEN}"


def read_head(s):
    """To the empty line; what follows must not be there yet."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = s.recv(4096)
        if not piece:
            raise ConnectionError("the connection ended instead of an answer")
        head += piece
    return head


def upgrade(port):
    """An open WebSocket through the proxy."""
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall((f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n").encode())
    head = read_head(s)
    if b" 101 " not in head:
        raise SystemExit(f"no upgrade: {head!r}")
    return s


def keep_alive(port):
    """A connection on which one request was answered."""
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    s.recv(4096)
    return s


def frame(payload):
    """A client's frame, masked with zeros."""
    if len(payload) < 126:
        return bytes([0x82, 0x80 | len(payload)]) + bytes(4) + payload
    return bytes([0x82, 0xFF]) + len(payload).to_bytes(8, "big") + bytes(4) + payload


def echo(port, connections, size, seconds):
    """Round trips of messages of this size, one under way on each connection. The origin sends every byte back."""
    message = frame(b"x" * size)
    sockets = [upgrade(port) for _ in range(connections)]
    with selectors.DefaultSelector() as ready:
        left = {s: len(message) for s in sockets}
        for s in sockets:
            s.setblocking(True)
            ready.register(s, selectors.EVENT_READ)
            s.sendall(message)
        trips, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in ready.select(1):
                s = key.fileobj
                left[s] -= len(s.recv(1 << 20))
                if left[s] == 0:
                    trips += 1
                    left[s] = len(message)
                    s.sendall(message)
    for s in sockets:
        s.close()
    return trips


def serve_echo(port):
    """The origin of the WebSockets: it agrees to any upgrade and sends back what comes, byte for byte."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    waiting = {}

    def send(s, data):
        try:
            rest = data[s.send(data):]
        except BlockingIOError:
            rest = data
        if rest:
            waiting[s] = rest
            ready.modify(s, selectors.EVENT_WRITE)
        elif waiting.pop(s, None) is not None:
            ready.modify(s, selectors.EVENT_READ)

    def accept():
        s, _ = listener.accept()
        s.setblocking(True)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            read_head(s)
        except ConnectionError:
            return s.close()
        s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Accept: BACScCJPNqyz+UBoqMH89VmURoA=\r\n\r\n")
        s.setblocking(False)
        ready.register(s, selectors.EVENT_READ)

    while True:
        for key, _ in ready.select():
            s = key.fileobj
            if s is listener:
                accept()
                continue
            try:
                data = waiting.get(s) or s.recv(1 << 18)
                if data:
                    send(s, data)
            except ConnectionError:
                data = b""
            if not data:
                waiting.pop(s, None)
                ready.unregister(s)
                s.close()


def steady(port, rate, seconds, at, event):
    """`rate` requests a second, each due at its own moment, whatever became of those before; `event` happens `at` seconds
    after the start. Returns failures, and the latencies in ms from when a request was due."""
    failures, latencies = 0, []
    connections, count = 16, int(rate * seconds)
    lock, start = threading.Lock(), time.monotonic() + 0.1

    def client(number):
        nonlocal failures
        s = None
        for n in range(number, count, connections):
            due = start + n / rate
            time.sleep(max(0.0, due - time.monotonic()))
            answered = False
            # A server may close a connection that is idle: that is no failure, and the request goes by a new one.
            for _ in range(2):
                try:
                    s = s or socket.create_connection(("127.0.0.1", port), 5)
                    s.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{authorized()}\r\n\r\n".encode())
                    data = s.recv(4096)
                except OSError:
                    data = b""
                if data.startswith(b"HTTP/1.1 200"):
                    answered = True
                    break
                s = s.close() if s else None
                if data:
                    break
            with lock:
                failures += not answered
                latencies.append((time.monotonic() - due) * 1e3)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, start + at - time.monotonic()))
    event()
    for thread in threads:
        thread.join()
    return failures, sorted(latencies)


if __name__ == "__main__":
    # Started as a program of its own, so that its work is not that of the client.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    serve_echo(int(sys.argv[1]))
