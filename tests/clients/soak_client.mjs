// A client that goes on whatever happens: opens a tab, stores something in localStorage and in a cookie, reads it back,
// closes the tab, says so, and begins again. After an error it connects anew.
//
// usage: node soak_client.mjs playwright|cdp CDP_URL TOKEN SITE_URL FIRST PAUSE_MS
// writes `w<n>` for n = FIRST, FIRST + 1, … in localStorage, and the cookie `last` = n
// prints one JSON object a line: { n, began, done } in milliseconds since the epoch, or { error }
import { setTimeout as sleep } from 'node:timers/promises';

import CDP from 'chrome-remote-interface';
import { chromium } from 'playwright-core';

const [kind, cdpUrl, token, siteUrl, first, pause] = process.argv.slice(2);

// Well below the patience of whoever watches.
const LIMIT = 15_000;

const work = n => `localStorage.setItem('w${n}', '${n}');
  document.cookie = 'last=${n}; max-age=86400; path=/';
  [localStorage.getItem('w${n}'), document.cookie].join(' ')`;

async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${LIMIT} ms`)), LIMIT);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function connectPlaywright() {
  const headers = { Authorization: `Bearer ${token}` };
  const browser = await chromium.connectOverCDP(cdpUrl, { headers, timeout: LIMIT });
  return {
    async store(n) {
      const page = await browser.contexts()[0].newPage();
      try {
        await page.goto(`${siteUrl}/home`);
        return await page.evaluate(work(n));
      } finally {
        await page.close();
      }
    },
    disconnect: () => browser.close(),
  };
}

async function connectCdp() {
  const target = `${cdpUrl.replace('http:', 'ws:')}/?token=${token}`;
  const client = await CDP({ target, local: true });
  const { Target, Page, Runtime } = client;
  // Commands fail with the connection, but an event that is waited for just never comes.
  const gone = new Promise((_, reject) => client.once('disconnect', () => reject(new Error('disconnected'))));
  gone.catch(() => {});
  return {
    async store(n) {
      const { targetId } = await Target.createTarget({ url: 'about:blank' });
      try {
        const { sessionId } = await Target.attachToTarget({ targetId, flatten: true });
        await Page.enable(sessionId);
        const loaded = Page.loadEventFired(sessionId);
        await Page.navigate({ url: `${siteUrl}/home` }, sessionId);
        await Promise.race([loaded, gone]);
        return (await Runtime.evaluate({ expression: work(n) }, sessionId)).result.value;
      } finally {
        await Target.closeTarget({ targetId });
      }
    },
    disconnect: () => client.close(),
  };
}

const connect = { playwright: connectPlaywright, cdp: connectCdp }[kind];

for (let n = Number(first), connection; ; n += 1) {
  const began = Date.now();
  try {
    connection ??= await within(connect(), 'connecting');
    const read = await within(connection.store(n), 'a round');
    if (read !== `${n} last=${n}`) throw new Error(`wrote ${n} and read ${read}`);
    console.log(JSON.stringify({ n, began, done: Date.now() }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.message ?? error).split('\n')[0] }));
    const broken = connection;
    connection = undefined;
    await within(Promise.resolve(broken?.disconnect()), 'disconnecting').catch(() => {});
    await sleep(250);
  }
  await sleep(Number(pause));
}
