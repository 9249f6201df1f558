"""A component of wasi:http/incoming-handler@0.2, made by componentize-py."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields.from_list([("x-engine", b"cpython")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            path = request.path_with_query() or "/"
            stream.blocking_write_and_flush(f"hello from python at {path}\n".encode())
        OutgoingBody.finish(body, None)
