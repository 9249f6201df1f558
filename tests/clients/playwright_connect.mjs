// Playwright for Node against a shared Chromium, as a user would write it: no knowledge of what is in between.
//
// usage: node playwright_connect.mjs CDP_URL sign-in|look SITE_URL
// prints one JSON object: { client, browser, contexts, who, theme }
import { chromium } from 'playwright-core';

const [cdpUrl, action, siteUrl] = process.argv.slice(2);

const browser = await chromium.connectOverCDP(cdpUrl, { timeout: 60_000 });
const context = browser.contexts()[0];
const page = await context.newPage();
page.setDefaultTimeout(45_000);

if (action === 'sign-in') {
  await page.goto(`${siteUrl}/login`);
  await page.fill('input[name=user]', 'ada');
  await page.selectOption('select[name=theme]', 'dark');
  await page.click('button[type=submit]');
  await page.waitForURL('**/home');
} else if (action === 'look') {
  await page.goto(`${siteUrl}/home`);
} else {
  throw new Error(`unknown action: ${action}`);
}

const seen = {
  client: 'playwright (node)',
  browser: browser.version(),
  contexts: browser.contexts().length,
  who: await page.textContent('#who'),
  theme: await page.textContent('#theme'),
};
await page.close();
await browser.close(); // of a connection over CDP: disconnects, the browser stays
console.log(JSON.stringify(seen));
