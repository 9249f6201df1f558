"""A server of gRPC whose messages are plain bytes. Prints its port; runs until it is ended."""

import signal
import threading
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", metadata.get("x-asked", "nothing")),))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-bytes-bin", b"\x00\xff")))
    return request


def gather(requests, context):
    return b",".join(requests)


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


def refuse(request, context):
    context.set_trailing_metadata((("x-trailing", "refused"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: ä %")


def break_off(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")


def remaining(request, context):
    left = context.time_remaining()
    return b"none" if left is None else str(left).encode()


def wait(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    yield b"begun"
    ended.wait()
    cancelled.release()


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=20) else b"no"


def main():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Gather": grpc.stream_unary_rpc_method_handler(gather),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "BreakOff": grpc.unary_stream_rpc_method_handler(break_off),
        "Remaining": grpc.unary_unary_rpc_method_handler(remaining),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
        "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening {port}", flush=True)
    signal.sigwait({signal.SIGTERM})
    server.stop(0)


# Before there is a thread that the signal could go to.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
main()
