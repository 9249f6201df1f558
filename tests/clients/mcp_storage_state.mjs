// An agent's dev box: @playwright/mcp in an isolated browser of its own that starts from a downloaded snapshot.
//
// usage: node mcp_storage_state.mjs STATE_FILE PAGE_URL CHROMIUM
// prints one JSON object: { client, tools, snapshot }, where snapshot is what browser_snapshot says of the page
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

const [stateFile, pageUrl, chromium] = process.argv.slice(2);

// The package names its entry point only under "bin".
const require = createRequire(import.meta.url);
const packageFile = require.resolve('@playwright/mcp/package.json');
const entry = join(dirname(packageFile), Object.values(require(packageFile).bin)[0]);

const server = spawn(process.execPath, [
  entry, '--isolated', '--headless', '--no-sandbox', '--executable-path', chromium, '--storage-state', stateFile,
], { stdio: ['pipe', 'pipe', 'inherit'] });

const waiting = new Map();
createInterface({ input: server.stdout }).on('line', line => {
  const message = JSON.parse(line);
  waiting.get(message.id)?.(message);
});
server.on('exit', code => {
  for (const settle of waiting.values()) settle({ error: { message: `the server ended with ${code}` } });
});

let lastId = 0;
const send = message => server.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const call = async (method, params) => {
  const id = ++lastId;
  const answer = new Promise(resolve => waiting.set(id, resolve));
  send({ id, method, params });
  const { result, error } = await answer;
  waiting.delete(id);
  if (error) throw new Error(`${method}: ${error.message}`);
  if (result.isError) throw new Error(`${method}: ${JSON.stringify(result.content)}`);
  return result;
};
const tool = async (name, args) => {
  const result = await call('tools/call', { name, arguments: args });
  return result.content.map(part => part.text ?? '').join('\n');
};

try {
  await call('initialize', {
    protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'witgate-tests', version: '0' },
  });
  send({ method: 'notifications/initialized' });
  const { tools } = await call('tools/list', {});
  await tool('browser_navigate', { url: pageUrl });
  const snapshot = await tool('browser_snapshot', {});
  await tool('browser_close', {});
  console.log(JSON.stringify({ client: '@playwright/mcp', tools: tools.length, snapshot }));
} finally {
  const gone = new Promise(resolve => server.once('exit', resolve));
  server.stdin.end(); // the server closes its browser and leaves
  await gone;
}
