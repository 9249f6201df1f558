// puppeteer-core against a shared Chromium, closing it when it is done, as programs do that know it as their own.
//
// usage: node puppeteer_close.mjs CDP_URL
// prints one JSON object: { client, connected }
import puppeteer from 'puppeteer-core';

const [browserURL] = process.argv.slice(2);

const browser = await puppeteer.connect({ browserURL, defaultViewport: null, protocolTimeout: 20_000 });
const page = await browser.newPage();
await page.goto('about:blank');
await page.close();
await browser.close();
console.log(JSON.stringify({ client: 'puppeteer-core', connected: browser.connected }));
