// Playwright against a browser that asks for a token, as a user would write it.
//
// usage: node playwright_access.mjs CDP_URL [TOKEN]
// with TOKEN, sends it as a header; without, whatever the URL holds is all there is
// prints one JSON object: { connected, title } or { connected: false, error }
import { chromium } from 'playwright-core';

const [cdpUrl, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : undefined;

let seen;
try {
  const browser = await chromium.connectOverCDP(cdpUrl, { headers, timeout: 60_000 });
  const page = await browser.contexts()[0].newPage();
  await page.goto('data:text/html,<title>in</title>');
  seen = { connected: true, title: await page.title() };
  await page.close();
  await browser.close(); // of a connection over CDP: disconnects, the browser stays
} catch (error) {
  seen = { connected: false, error: String(error.message) };
}
console.log(JSON.stringify(seen));
