// Playwright for Node against a shared Chromium: a site stores data in IndexedDB, as a web application would.
//
// usage: node playwright_store.mjs CDP_URL SITE_URL KIB
// prints one JSON object: { client, stored }
import { chromium } from 'playwright-core';

const [cdpUrl, siteUrl, kib] = process.argv.slice(2);

const browser = await chromium.connectOverCDP(cdpUrl, { timeout: 60_000 });
const page = await browser.contexts()[0].newPage();
page.setDefaultTimeout(45_000);
await page.goto(`${siteUrl}/home`);
const stored = await page.evaluate(size => new Promise((resolve, reject) => {
  const request = indexedDB.open('cache', 1);
  request.onupgradeneeded = () => request.result.createObjectStore('pages').put('x'.repeat(size), 'page');
  request.onsuccess = () => { request.result.close(); resolve(size); };
  request.onerror = () => reject(request.error);
}), Number(kib) * 1024);
await page.close();
await browser.close(); // of a connection over CDP: disconnects, the browser stays
console.log(JSON.stringify({ client: 'playwright (node)', stored }));
