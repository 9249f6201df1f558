"""Calls the methods of `grpc_server.py`, or looks at how single calls fail, and prints what came of it as JSON.

usage: grpc_client.py calls ADDRESS [CA]
       grpc_client.py failures ADDRESS METHOD…
"""

import json
import queue
import sys

import grpc

# Longer than anything takes on a busy machine; only ever spent by a test that fails.
BOUND = 60


def channel(address, ca=None):
    options = [("grpc.enable_http_proxy", 0)]
    if ca is None:
        return grpc.insecure_channel(address, options)
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, options)


def failed(error):
    trailing = dict(error.trailing_metadata() or ())
    return {"code": error.code().name, "details": error.details(), "trailing": trailing.get("x-trailing")}


def chat(method):
    """Each message is sent when the answer to the one before it is there."""
    to_send = queue.SimpleQueue()
    answers = method(iter(to_send.get, None), timeout=BOUND)
    talked = []
    for message in (b"a", b"b", b"c"):
        to_send.put(message)
        talked.append(next(answers).decode())
    to_send.put(None)
    ended = next(answers, None)
    return {"talked": talked, "ended": ended is None, "code": answers.code().name}


def break_off(method):
    answers = method(b"", timeout=BOUND)
    got = [next(answers).decode()]
    try:
        next(answers)
    except grpc.RpcError as error:
        return {"got": got, **failed(error)}


def calls(address, ca=None):
    said = {}
    with channel(address, ca) as connection:
        of = lambda kind, name: getattr(connection, kind)(f"/test.Calls/{name}")
        unary = of("unary_unary", "Unary")
        answer, call = unary.with_call(b"hello", timeout=BOUND, metadata=(("x-asked", "this"),))
        said["unary"] = {
            "answer": answer.decode(),
            "initial": dict(call.initial_metadata())["x-initial"],
            "trailing": dict(call.trailing_metadata())["x-trailing"],
            "bytes": list(dict(call.trailing_metadata())["x-bytes-bin"]),
        }
        large = bytes(range(256)) * 12_000
        said["large"] = unary(large, timeout=BOUND) == large
        said["empty"] = unary(b"", timeout=BOUND) == b""
        said["gather"] = of("stream_unary", "Gather")(iter([b"a", b"b", b"c"]), timeout=BOUND).decode()
        said["count"] = sum(1 for _ in of("unary_stream", "Count")(b"1000", timeout=BOUND))
        said["chat"] = chat(of("stream_stream", "Chat"))
        try:
            of("unary_unary", "Refuse")(b"", timeout=BOUND)
        except grpc.RpcError as error:
            said["refuse"] = failed(error)
        said["break_off"] = break_off(of("unary_stream", "BreakOff"))
        remaining = of("unary_unary", "Remaining")
        left = remaining(b"", timeout=BOUND).decode()
        # It is rounded on the way, up to a part of it.
        said["deadline"] = left != "none" and 0 < float(left) < BOUND * 1.1
        waiting = of("unary_stream", "Wait")(b"", timeout=BOUND)
        next(waiting)
        waiting.cancel()
        was_cancelled = of("unary_unary", "WasCancelled")
        said["cancelled"] = was_cancelled(b"", timeout=BOUND).decode()
        try:
            list(of("unary_stream", "Wait")(b"", timeout=0.2))
        except grpc.RpcError as error:
            said["late"] = error.code().name
    return said


def failures(address, *methods):
    said = {}
    with channel(address) as connection:
        for method in methods:
            try:
                connection.unary_unary(method)(b"hello", timeout=BOUND)
            except grpc.RpcError as error:
                said[method] = failed(error)
    return said


kind, *arguments = sys.argv[1:]
print(json.dumps({"calls": calls, "failures": failures}[kind](*arguments)))
