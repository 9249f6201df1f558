// Playwright for Node that reads what soak_client.mjs left.
//
// usage: node soak_read.mjs CDP_URL TOKEN SITE_URL...
// prints one JSON object: { sites: [{ stored: [n, …], last: n or null }, …] }
import { chromium } from 'playwright-core';

const [cdpUrl, token, ...sites] = process.argv.slice(2);

const browser = await chromium.connectOverCDP(cdpUrl, { headers: { Authorization: `Bearer ${token}` }, timeout: 40_000 });
const found = [];
for (const site of sites) {
  const page = await browser.contexts()[0].newPage();
  await page.goto(`${site}/home`);
  found.push(await page.evaluate(() => ({
    stored: Object.keys(localStorage).filter(key => key.startsWith('w')).map(key => Number(key.slice(1))),
    last: Number(/last=(\d+)/.exec(document.cookie)?.[1] ?? NaN),
  })));
  await page.close();
}
await browser.close();
console.log(JSON.stringify({ sites: found }));
