// Playwright that attaches to a shared Chromium and stays attached until it is killed.
//
// usage: node playwright_hold.mjs CDP_URL
// prints "attached"
import { chromium } from 'playwright-core';

const [cdpUrl] = process.argv.slice(2);

const browser = await chromium.connectOverCDP(cdpUrl, { timeout: 60_000 });
await browser.contexts()[0].newPage();
console.log('attached');
