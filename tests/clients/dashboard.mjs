// A person with the dashboard, with the keyboard and with axe: what is on it, that it follows what happens, that a bad
// reload shows until it is mended, and that it asks nobody but its own listener.
//
// usage: node dashboard.mjs CHROMIUM ADMIN_URL MAIN_URL TOKEN CONFIG_FILE SCREENSHOTS
// prints one JSON object: { foreign, errors, violations, seen }
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

const [executablePath, admin, main, token, configFile, screenshots] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await chromium.launch({ executablePath, chromiumSandbox: false });
const [foreign, errors, violations, seen] = [[], [], [], {}];

async function open(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on('request', (request) => request.url().startsWith(admin) || request.url().startsWith('data:') || foreign.push(request.url()));
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && !message.text().includes('401') && !message.text().includes('422') && errors.push(message.text()));
  await page.goto(`${admin}/`);
  await page.getByLabel(/asks for its token/).fill(token);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Traffic' }).waitFor();
  return page;
}

async function look(page, name) {
  await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
  await page.evaluate(axe); // past the page's policy, which lets no script in
  const { violations: found } = await page.evaluate(() => axe.run());
  violations.push(...found.map((one) => `${name}: ${one.id} ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`));
}

const light = await open({ colorScheme: 'light' });
const dark = await open({ colorScheme: 'dark' });

// What goes through is on it, while it goes through.
const headers = { authorization: `Bearer ${token}` };
for (const name of ['first', 'second', 'missing']) await (await fetch(`${main}/${name}`, { headers })).text();
await (await fetch(`${main}/unknown`)).text();
const route = light.getByRole('group', { name: 'route all' });
await route.getByRole('link', { name: 'token' }).waitFor();
await route.getByText('median').waitFor();
seen.route = await route.innerText();
await look(light, 'overview-light');
await look(dark, 'overview-dark');

// By keyboard to the exchanges, and into one.
await light.keyboard.press('Tab');
await light.getByRole('link', { name: 'Exchanges' }).focus();
await light.keyboard.press('Enter');
await light.getByText('/second').waitFor();
await light.getByLabel('Text').fill('unknown');
await light.getByText(/^1 of the last/).waitFor();
await light.locator('#tail summary').focus();
await light.keyboard.press('Enter');
await light.getByRole('list', { name: 'Hooks' }).waitFor();
seen.steps = await light.getByRole('list', { name: 'Hooks' }).innerText();
await look(light, 'exchanges');

// A page for a plugin.
await light.getByRole('list', { name: 'Hooks' }).getByRole('link', { name: 'token' }).click();
await light.getByRole('img', { name: /on-request/ }).waitFor();
seen.plugin = await light.locator('#plugin-facts').innerText();
await look(light, 'plugin');

// A bad edit shows in both tabs until it is mended.
const good = fs.readFileSync(configFile, 'utf8');
const reload = async () => {
  await dark.getByRole('button', { name: 'Reload the configuration' }).click();
};
fs.writeFileSync(configFile, `${good}\nbnid = "127.0.0.1:1"\n`);
await reload();
for (const page of [light, dark]) await page.getByText('did you mean').waitFor();
seen.problem = await light.locator('#problems-text').innerText();
await look(dark, 'bad-reload');
fs.writeFileSync(configFile, good);
await reload();
for (const page of [light, dark]) await page.locator('#problems').waitFor({ state: 'hidden' });

await dark.getByLabel('Log filter').fill('warn');
await dark.keyboard.press('Enter');
await dark.getByText('Log filter: done').waitFor();

await dark.setViewportSize({ width: 390, height: 800 });
await look(dark, 'narrow');
await browser.close();
console.log(JSON.stringify({ foreign, errors, violations, seen }));
