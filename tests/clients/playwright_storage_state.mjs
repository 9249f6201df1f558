// Playwright for Node with a browser of its own: loads storage states as a user would, and tells what it then has.
//
// usage: node playwright_storage_state.mjs CHROMIUM STATE_FILE...
// writes STATE_FILE.loaded for each file: what Playwright then reads back, IndexedDB and OPFS included
// prints one JSON object: { client, errors }, where errors has for each file Playwright's words of refusal, or null
import { readFileSync, writeFileSync } from 'node:fs';

import { chromium } from 'playwright-core';

const [executablePath, ...files] = process.argv.slice(2);

const browser = await chromium.launch({ executablePath, chromiumSandbox: false });
const errors = [];
for (const file of files) {
  try {
    const context = await browser.newContext({ storageState: file });
    // Playwright's own reading fails on origins that have no private file system.
    const opfs = !!JSON.parse(readFileSync(file)).origins?.some(origin => origin.opfs);
    const state = await context.storageState({ indexedDB: true, opfs });
    writeFileSync(`${file}.loaded`, JSON.stringify(state));
    await context.close();
    errors.push(null);
  } catch (error) {
    errors.push(error.message);
  }
}
await browser.close();
console.log(JSON.stringify({ client: 'playwright (node)', errors }));
