// A handler of wasi:http@0.3, with the QuickJS engine inside: it answers while it still reads.
import { Fields, Request, Response } from "wasi:http/types@0.3.2";

export const handler = {
  async handle(request) {
    const path = request.getPathWithQuery();
    const headers = new Fields();
    headers.append("x-engine", ascii("quickjs"));
    const body = path === "/upper" ? upper(request) : text(`hello from javascript at ${path}\n`);
    const trailers = wit.Future.from({ tag: "ok", val: undefined }, wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
    const [response] = Response.new(headers, body, trailers.readable);
    return response;
  },
};

async function* text(text) {
  yield ascii(text);
}

async function* upper(request) {
  const taken = wit.Future.from({ tag: "ok", val: undefined }, wit.Future.RESULT_VOID_ERROR_CODE);
  const [body] = Request.consumeBody(request, taken.readable);
  for await (const piece of body) {
    yield piece.map((byte) => (byte >= 97 && byte <= 122 ? byte - 32 : byte));
  }
}

// The engine brings no TextEncoder.
function ascii(text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
