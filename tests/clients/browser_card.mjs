// A person who looks at the card of Chromium on the dashboard and presses its button.
//
// usage: node browser_card.mjs CHROMIUM ADMIN_URL SCREENSHOTS
// prints one JSON object: { facts }
import path from 'node:path';
import { chromium } from 'playwright-core';

const [executablePath, admin, screenshots] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, chromiumSandbox: false });
const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
page.setDefaultTimeout(120_000);
await page.goto(`${admin}/`);
await page.getByRole('button', { name: 'Harvest now' }).click();
await page.getByText('Harvest: done').waitFor();
const card = page.getByRole('region', { name: 'Chromium' });
await card.getByText('Last harvest').waitFor();
const facts = await card.innerText();
await page.screenshot({ path: path.join(screenshots, 'chromium.png'), fullPage: true });
await browser.close();
console.log(JSON.stringify({ facts }));
