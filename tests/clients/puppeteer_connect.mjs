// puppeteer-core against a shared Chromium: finds the WebSocket through browserURL, or is given it, as its users do.
//
// usage: node puppeteer_connect.mjs CDP_URL sign-in|look SITE_URL
// prints one JSON object: { client, browser, contexts, who, theme }
import puppeteer from 'puppeteer-core';

const [cdpUrl, action, siteUrl] = process.argv.slice(2);

const endpoint = cdpUrl.startsWith('ws') ? { browserWSEndpoint: cdpUrl } : { browserURL: cdpUrl };
const browser = await puppeteer.connect({ ...endpoint, defaultViewport: null, protocolTimeout: 60_000 });
const page = await browser.newPage();
page.setDefaultTimeout(45_000);

if (action === 'sign-in') {
  await page.goto(`${siteUrl}/login`);
  await page.type('input[name=user]', 'ada');
  await page.select('select[name=theme]', 'dark');
  await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
} else if (action === 'look') {
  await page.goto(`${siteUrl}/home`);
} else {
  throw new Error(`unknown action: ${action}`);
}

const text = selector => page.$eval(selector, element => element.textContent);
const seen = {
  client: 'puppeteer-core',
  browser: await browser.version(),
  contexts: browser.browserContexts().length,
  who: await text('#who'),
  theme: await text('#theme'),
};
await page.close();
await browser.disconnect();
console.log(JSON.stringify(seen));
