// A service as it is written for engines that speak the Service Worker API. jco makes a component of
// wasi:http/incoming-handler@0.2 of it, with the StarlingMonkey engine inside.
addEventListener("fetch", (event) => event.respondWith(respond(event.request)));

async function respond(request) {
  const { pathname } = new URL(request.url);
  if (request.method === "POST") {
    return new Response(`javascript read ${(await request.text()).length} characters\n`);
  }
  return new Response(`hello from javascript at ${pathname}\n`, { headers: { "x-engine": "starlingmonkey" } });
}
