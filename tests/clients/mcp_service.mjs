// An agent of a dev box: speaks to a @playwright/mcp that runs as a service, over HTTP.
//
// usage: node mcp_service.mjs SERVICE_URL PAGE_URL
// prints one JSON object: { client, tools, snapshot }, where snapshot is what browser_snapshot says of the page
const [service, pageUrl] = process.argv.slice(2);

let session;
let lastId = 0;

async function post(message) {
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  if (session) headers['mcp-session-id'] = session;
  const body = JSON.stringify({ jsonrpc: '2.0', ...message });
  const response = await fetch(service, { method: 'POST', headers, body });
  if (!response.ok) throw new Error(`${message.method}: ${response.status} ${await response.text()}`);
  session ??= response.headers.get('mcp-session-id');
  return response;
}

async function call(method, params) {
  const id = ++lastId;
  const response = await post({ id, method, params });
  const text = await response.text();
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  const documents = isStream
    ? text.split('\n').filter(line => line.startsWith('data: ')).map(line => line.slice('data: '.length))
    : [text];
  const answer = documents.map(document => JSON.parse(document)).find(message => message.id === id);
  const { result, error } = answer ?? { error: { message: 'no answer' } };
  if (error || result.isError) throw new Error(`${method}: ${JSON.stringify(error ?? result.content)}`);
  return result;
}

const tool = async (name, args) => {
  const result = await call('tools/call', { name, arguments: args });
  return result.content.map(part => part.text ?? '').join('\n');
};

await call('initialize', {
  protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'witgate-tests', version: '0' },
});
await post({ method: 'notifications/initialized' });
const { tools } = await call('tools/list', {});
await tool('browser_navigate', { url: pageUrl });
const snapshot = await tool('browser_snapshot', {});
await tool('browser_close', {});
console.log(JSON.stringify({ client: '@playwright/mcp', tools: tools.length, snapshot }));
process.exit(0);
