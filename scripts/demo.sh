#!/usr/bin/env bash
# Runs examples/chrome-service and says how to use it; ends with Ctrl-C. Without Chromium it runs `witgate demo` instead.
#
# usage: scripts/demo.sh (after scripts/setup.sh demo and cargo build -p witgate)
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
witgate=$target/debug/witgate
config=examples/chrome-service/witgate.toml
log=$target/demo.log

[ -x "$witgate" ] || { echo "demo: $witgate is missing: run cargo build -p witgate" >&2; exit 1; }

browser=
for name in chromium chromium-browser google-chrome-stable google-chrome; do
    browser=$(command -v "$name") && break
done
if [ -z "$browser" ]; then
    echo "demo: no Chromium found (Debian's package is called chromium), so this is the demo that needs nothing else:"
    exec "$witgate" demo
fi

if [ -z "${WITGATE_SNAPSHOT_TOKEN:-}" ]; then
    WITGATE_SNAPSHOT_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
fi
export WITGATE_SNAPSHOT_TOKEN
if [ "$(id -u)" = 0 ]; then
    echo "demo: Chromium has no sandbox as root, so it runs without; better run the demo as another user"
    export WITGATE_CHROMIUM_SANDBOX=false
fi

echo "demo: starting witgate and $browser; the log goes to $log"
"$witgate" run --config "$config" >"$log" 2>&1 &
service=$!
stop() {
    trap - INT TERM EXIT
    kill -TERM "$service" 2>/dev/null || true
    wait "$service" || true
}
trap 'stop; exit 0' INT TERM
trap stop EXIT

# Whether an answer came with status 200.
answers() { curl --silent --fail --noproxy '*' --max-time 5 --output /dev/null "$@"; }

for attempt in $(seq 1 120); do
    if ! kill -0 "$service" 2>/dev/null; then
        echo "demo: witgate ended. What it said:" >&2
        tail -n 40 "$log" >&2
        exit 1
    fi
    if answers http://127.0.0.1:9222/json/version &&
        answers -H "Authorization: Bearer $WITGATE_SNAPSHOT_TOKEN" http://127.0.0.1:8088/api/snapshot; then
        break
    fi
    if [ "$attempt" = 120 ]; then
        echo "demo: Chromium does not answer through the proxy after two minutes. The end of the log:" >&2
        tail -n 40 "$log" >&2
        exit 1
    fi
    sleep 1
done

host=$(hostname)
cat <<END

A persistent Chromium is running behind witgate.

  DevTools protocol   http://$host:9222
  snapshot            http://$host:8088/api/snapshot
  health              http://$host:8088/healthz
  token               $WITGATE_SNAPSHOT_TOKEN

Its signed-in state, as Playwright's storageState:

  curl -i -H "Authorization: Bearer $WITGATE_SNAPSHOT_TOKEN" http://$host:8088/api/snapshot

Drive it with Playwright (npm install playwright-core), from this machine or another:

  import { chromium } from 'playwright-core';
  const browser = await chromium.connectOverCDP('http://$host:9222');
  const page = await browser.contexts()[0].newPage();
  await page.goto('https://example.com/');
  console.log(await page.title());
  await page.close();
  await browser.close(); // disconnects; Chromium stays

Kill Chromium if you like: it comes back with its state. Ctrl-C here stops everything.
Configuration: $config    Log: $log
END

wait "$service"
