// The dashboard. Everything comes from this listener: /events once a second, and what only one page needs when it is shown.
// Text from outside is only ever put in as text.

const $ = (id) => document.getElementById(id);
const WINDOW = 10; // seconds that rates and latencies are taken over
const HISTORY = 60;
const MOST = 300; // exchanges that stay in the page

const samples = []; // the last figures, the newest at the end
const traffic = []; // requests a second
let tail = [];
let paused = false;
let token = sessionStorage.getItem("witgate-token") ?? "";

/* ---- elements ---- */

function el(tag, attributes = {}, ...children) {
  const made = tag === "svg" || SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}
const SVG = new Set(["polyline", "rect", "line", "title"]);

const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };

/// Keeps one child for each item, in their order, so that focus and what is open stay when figures change.
function list(parent, items, key, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = before.get(name);
    if (child) before.delete(name);
    else { child = make(item); child.dataset.key = name; }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    update?.(child, item);
  }
  for (const gone of before.values()) gone.remove();
}

function facts(node, entries) {
  const shown = entries.filter(([, value]) => value != null && value !== "");
  node.replaceChildren(...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/* ---- numbers ---- */

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const total = (counts) => sum(Object.values(counts));
const rate = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n > 0 ? n.toFixed(2).replace(/\.?0+$/, "") : "0");

function time(seconds) {
  if (seconds == null) return "–";
  if (seconds === 0) return "0";
  const [size, unit] = seconds >= 1 ? [1, "s"] : seconds >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
  return `${(seconds * size).toPrecision(3).replace(/\.0+$/, "")}\u00a0${unit}`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${at && n < 10 ? n.toFixed(1) : n.toFixed(0)} ${units[at]}`;
}

function ago(seconds, now) {
  const past = Math.max(0, now - seconds);
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = steps.find(([size]) => past >= size) ?? [1, "s"];
  return `${Math.floor(past / size)} ${unit}`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

/// The samples that rates are taken between, and the seconds between them.
function span() {
  const [first, last] = [samples[0], samples.at(-1)];
  return { first, last, seconds: Math.max(1, last.status.now - first.status.now) };
}

/// A quantile of what came into a histogram between two samples; of all there ever was when nothing did.
function quantile(now, before, q) {
  const then = before?.buckets ?? [];
  let counts = now.buckets.map((bucket, at) => bucket.count - (then[at]?.count ?? 0));
  if (sum(counts) <= 0) counts = now.buckets.map((bucket) => bucket.count);
  const all = sum(counts);
  if (all === 0) return null;
  let below = 0;
  for (const [at, count] of counts.entries()) {
    if (count > 0 && below + count >= q * all) {
      const lower = at ? now.buckets[at - 1].up_to : 0;
      const upper = now.buckets[at].up_to ?? lower;
      return lower + (upper - lower) * Math.min(1, (q * all - below) / count);
    }
    below += count;
  }
  return null;
}

const sameRoute = (route) => (other) => other.name === route.name && other.listener === route.listener;
const named = (name) => (other) => other.name === name;

/// What went through a route or upstream lately.
function flow(now, before, histogram, seconds) {
  const more = (kind) => Math.max(0, now.requests[kind] - (before?.requests[kind] ?? 0)) / seconds;
  return {
    rate: Object.keys(now.requests).reduce((all, kind) => all + more(kind), 0),
    errors: more("5xx"),
    p50: quantile(now[histogram], before?.[histogram], 0.5),
    p99: quantile(now[histogram], before?.[histogram], 0.99),
  };
}

function flowText(node, f) {
  const errors = f.errors > 0 ? [el("span", { class: "red" }, `${rate(f.errors)}/s errors`), " · "] : [];
  const words = `${rate(f.rate)}/s · ${f.p50 == null ? "nothing timed yet" : `median ${time(f.p50)} · 99\u00a0% ${time(f.p99)}`}`;
  if (node.dataset.words === words + f.errors) return;
  node.dataset.words = words + f.errors;
  node.replaceChildren(...errors, words);
}

/* ---- overview ---- */

function overview() {
  const { first, last, seconds } = span();
  tiles(first, last, seconds);
  list($("flow"), last.connections, (it) => it.name, makeListener, (node, listener) => {
    const [small, more] = node.querySelectorAll(":scope > .node small");
    text(small, listener.address);
    text(more, `${listener.open} of ${listener.limit} connections${listener.upgraded ? `, ${listener.upgraded} upgraded` : ""}`);
    const routes = last.routes.filter((route) => route.listener === listener.name);
    list(node.lastChild, routes, (it) => it.name, makeRoute, (row, route) => updateRoute(row, route, first, last, seconds));
  });
  list($("plugins"), last.plugins, (it) => it.name, makePlugin, (row, plugin) => updatePlugin(row, plugin, first, seconds));
  list($("upstreams"), last.upstreams, (it) => it.name, makeUpstream, (card, upstream) => {
    const before = first.upstreams.find(named(upstream.name));
    flowText(card.querySelector("small"), flow(upstream, before, "response", seconds));
    list(card.querySelector("ul"), upstream.endpoints, (it) => it.address, () => el("li", {}, el("code"), " ", el("span", { class: "pill" })), (item, endpoint) => {
      text(item.firstChild, endpoint.address);
      const words = endpoint.ejected ? "left alone" : !endpoint.healthy ? "unhealthy" : upstream.health_check ? "healthy" : "not checked";
      text(item.lastChild, words);
      item.lastChild.className = `pill ${!isWell(endpoint) ? "bad" : upstream.health_check ? "good" : ""}`;
    });
  });
  chromium(last.status);
}

function tiles(first, last, seconds) {
  const count = (routes, kinds) => sum(routes.flatMap((route) => kinds.map((kind) => route.requests[kind])));
  const kinds = Object.keys(last.routes[0]?.requests ?? {});
  const per = (kinds) => Math.max(0, count(last.routes, kinds) - count(first.routes, kinds)) / seconds;
  const entries = [
    ["Requests", `${rate(per(kinds))}/s`, traffic],
    ["Errors (5xx)", `${rate(per(["5xx"]))}/s`],
    ["Connections", String(sum(last.connections.map((it) => it.open)))],
    ["Upgraded", String(sum(last.connections.map((it) => it.upgraded)))],
    ["Plugin memory", bytes(sum(last.plugins.map((it) => it.memory_bytes)))],
  ];
  list($("tiles"), entries, ([name]) => name, ([name, , line]) => el("div", { class: "tile" }, el("span", { class: "quiet" }, name), el("b"),
    line && el("svg", { viewBox: `0 0 ${HISTORY} 20`, preserveAspectRatio: "none", "aria-hidden": "true" }, el("polyline"))),
  (tile, [, value, line]) => {
    text(tile.querySelector("b"), value);
    if (!line) return;
    const most = Math.max(1, ...line);
    const points = line.map((n, at) => `${HISTORY - line.length + at},${19 - (18 * n) / most}`);
    tile.querySelector("polyline").setAttribute("points", points.join(" "));
  });
}

const makeListener = (listener) => el("div", { class: "listener" },
  el("div", { class: "node" }, el("b", {}, listener.name), el("small"), el("small")), el("div"));

const arrow = () => el("span", { class: "arrow", "aria-hidden": "true" }, "→");

function makeRoute(route) {
  const match = [route.methods.join(", "), route.hosts.join(", "), route.path].filter(Boolean).join(" ");
  const row = el("div", { class: "route", role: "group", "aria-label": `route ${route.name}` },
    el("div", { class: "node" }, el("b", {}, route.name), " ", el("code", {}, match), el("small", { "data-part": "route" })));
  for (const plugin of route.plugins) {
    row.append(arrow(), el("div", { class: "node" }, el("a", { href: pluginLink(plugin) }, plugin), el("small", { "data-plugin": plugin })));
  }
  const { kind, name } = route.destination;
  if (kind !== "plugins") {
    const label = kind === "component" ? el("a", { href: pluginLink(name) }, name) : el("b", {}, name);
    row.append(arrow(), el("div", { class: "node" }, label, el("small", { "data-part": "end" }, kind)));
  }
  row.dataset.chain = JSON.stringify([route.plugins, route.destination, match]);
  return row;
}

function updateRoute(row, route, first, last, seconds) {
  const f = flow(route, first.routes.find(sameRoute(route)), "duration", seconds);
  flowText(row.querySelector("[data-part=route]"), f);
  row.firstChild.classList.toggle("hot", f.errors > 0);
  const { kind, name } = route.destination;
  const upstream = kind === "upstream" ? last.upstreams.find(named(name)) : null;
  if (upstream) {
    const well = upstream.endpoints.filter(isWell).length;
    const small = row.querySelector("[data-part=end]");
    text(small, well === upstream.endpoints.length ? "upstream" : `${well} of ${upstream.endpoints.length} healthy`);
    small.classList.toggle("red", well === 0);
  }
  for (const small of row.querySelectorAll("[data-plugin]")) {
    const plugin = last.plugins.find(named(small.dataset.plugin));
    const times = plugin?.times["on-request"] ?? plugin?.times["on-response"];
    const failing = plugin?.quarantined;
    text(small, failing ? "in quarantine" : times ? time(times.p50) : "not called yet");
    small.classList.toggle("red", Boolean(failing));
  }
}

const pluginLink = (name) => `#/plugin/${encodeURIComponent(name)}`;

const makePlugin = (plugin) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: pluginLink(plugin.name) }, plugin.name)),
  ...Array.from({ length: 3 }, () => el("td", { class: "n" })),
  el("td", {}, el("meter", { min: 0, max: 1, "aria-label": `share of ${plugin.name}` }), " ", el("span")),
  ...Array.from({ length: 3 }, () => el("td", { class: "n" })));

function updatePlugin(row, plugin, first, seconds) {
  const before = first.plugins.find(named(plugin.name));
  const calls = (total(plugin.calls) - (before ? total(before.calls) : 0)) / seconds;
  const hooks = Object.entries(plugin.times).sort((one, other) => other[1].count - one[1].count);
  const [hook, times] = hooks[0] ?? [];
  const q = (share) => (times ? quantile(times, before?.times[hook], share) : null);
  const cells = [...row.children];
  const failures = total(plugin.failures);
  text(cells[1], rate(Math.max(0, calls)));
  text(cells[2], time(q(0.5)));
  text(cells[3], time(q(0.99)));
  cells[4].firstChild.value = plugin.share ?? 0;
  text(cells[4].lastChild, plugin.share == null ? "–" : `${(plugin.share * 100).toPrecision(2)} %`);
  text(cells[5], plugin.quarantined ? `${failures}, in quarantine` : String(failures));
  cells[5].classList.toggle("red", failures > 0);
  text(cells[6], String(plugin.instances));
  text(cells[7], bytes(plugin.memory_bytes));
}

const isWell = (endpoint) => endpoint.healthy && !endpoint.ejected;

const makeUpstream = (upstream) => el("div", { class: "card" }, el("b", {}, upstream.name), el("small", { class: "quiet" }), el("ul"));

function chromium({ chrome, now }) {
  $("chrome").hidden = !chrome;
  if (!chrome) return;
  const harvest = chrome.snapshot;
  $("harvest").hidden = !harvest;
  facts($("chrome-facts"), [
    ["State", chrome.reason ? `${chrome.state}: ${chrome.reason}` : chrome.state],
    ["Browser", chrome.browser],
    ["Up for", chrome.up_since && ago(chrome.up_since, now)],
    ["Restarts", String(chrome.restarts)],
    ["Probes", `${chrome.probes}, ${chrome.probe_failures} failed`],
    ["Last harvest", harvest?.last_success && `${ago(harvest.last_success, now)} ago: ${harvest.cookies} cookies, ${harvest.origins} origins`],
    ["Harvests that failed since", harvest?.failures_in_a_row ? `${harvest.failures_in_a_row}: ${harvest.error ?? ""}` : null],
  ]);
}

/* ---- a plugin ---- */

let shownPlugin = null;

async function plugin(name) {
  if (shownPlugin !== name) {
    shownPlugin = name;
    for (const id of ["plugin-facts", "times", "failures", "imports"]) $(id).replaceChildren();
  }
  text($("plugin-name"), name);
  const answer = await ask(`/plugins/${encodeURIComponent(name)}`).catch(() => null);
  if (!answer || shownPlugin !== name) return;
  const it = await answer.json();
  if (!answer.ok) return facts($("plugin-facts"), [["Error", it.error]]);
  const counts = (of) => Object.entries(of).filter(([, n]) => n > 0).map(([label, n]) => `${label} ${n}`).join(", ") || "none";
  facts($("plugin-facts"), [
    ["Component", it.component], ["Digest", el("code", {}, it.digest)], ["Hooks", it.hooks.join(", ")], ["Routes", it.routes.join(", ") || "none"],
    ["Isolation", it.isolation], ["On failure", it.on_failure], ["Deadline", time(it.limits.deadline_seconds)],
    ["Instances", String(it.instances)], ["Memory", `${bytes(it.memory_bytes)}, at most ${bytes(it.limits.memory_bytes)} each`],
    ["Share of its routes' time", it.share == null ? "–" : `${(it.share * 100).toPrecision(2)} %`],
    ["Calls", counts(it.calls)], ["Verdicts besides next", counts(it.verdicts)], ["Failures", counts(it.failures)],
    ["Quarantined", it.quarantined ? "yes" : "no"],
  ]);
  list($("times"), Object.entries(it.times), ([hook]) => hook, ([hook]) => el("figure", {}, el("figcaption"), el("svg", { class: "histogram", role: "img" }), el("p", { class: "quiet" }, el("span"), el("span"))), histogram);
  if (!Object.keys(it.times).length) $("times").replaceChildren(el("p", { class: "quiet" }, "It was not called yet."));
  const failures = it.recent_failures.map((failure, at) => ({ ...failure, at_key: `${failure.at}-${at}` }));
  list($("failures"), failures, (one) => one.at_key, (one) => el("details", { class: "card" },
    el("summary", {}, `${clock(one.at)} ${one.kind} in ${one.call}`), el("pre", { tabindex: 0, "aria-label": "What the log says" }, one.message)));
  if (!failures.length) $("failures").replaceChildren(el("p", { class: "quiet" }, "None."));
  const standing = { free: "needs no grant", granted: "granted", missing: "not granted", refused: "never granted" };
  list($("imports"), it.imports, (one) => one.name, (one) => el("tr", {}, el("td", {}, el("code", {}, one.name)),
    el("td", {}, one.grant ? `${standing[one.standing]} (grant.${one.grant})` : standing[one.standing])));
}

function histogram(figure, [hook, times]) {
  const words = `${hook}: ${times.count} timed, median ${time(times.p50)}, 90 % ${time(times.p90)}, 99 % ${time(times.p99)}`;
  text(figure.firstChild, words);
  const svg = figure.children[1];
  if (svg.getAttribute("aria-label") === words) return;
  const filled = times.buckets.map((bucket, at) => (bucket.count ? at : -1)).filter((at) => at >= 0);
  const start = Math.max(0, filled[0] - 2);
  const buckets = times.buckets.slice(start, filled.at(-1) + 3);
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const width = 600 / buckets.length;
  const ends = [start ? times.buckets[start - 1].up_to : 0, buckets.at(-1).up_to];
  text(figure.lastChild.firstChild, time(ends[0]));
  text(figure.lastChild.lastChild, ends[1] == null ? "more" : time(ends[1]));
  svg.setAttribute("viewBox", "0 0 600 120");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-label", words);
  svg.replaceChildren(el("line", { x1: 0, x2: 600, y1: 119, y2: 119 }), ...buckets.map((bucket, at) => {
    const height = (112 * bucket.count) / most;
    const label = `${bucket.up_to == null ? "more" : `up to ${time(bucket.up_to)}`}: ${bucket.count}`;
    return el("rect", { x: at * width + 2, width: width - 4, y: 118 - height, height }, el("title", {}, label));
  }));
}

/* ---- exchanges ---- */

function exchanges() {
  const routes = samples.at(-1)?.routes ?? [];
  list($("f-route"), [{ name: "" }, ...routes], (it) => it.name, (it) => el("option", { value: it.name }, it.name || "all"));
  const words = $("f-text").value.toLowerCase();
  const [route, status, failed] = [$("f-route").value, $("f-status").value, $("f-failed").checked];
  const shown = tail.filter((it) => (!route || it.route === route) && (!status || String(it.status ?? "")[0] === status[0])
    && (!failed || it.outcome === "failed" || it.status >= 500)
    && (!words || [it.path, it.host, it.client, it.request_id, it.method].some((part) => part.toLowerCase().includes(words))));
  text($("count"), `${shown.length} of the last ${tail.length} shown${paused ? ", paused" : ""}`);
  list($("tail"), shown, (it) => it.key, makeExchange);
}

function makeExchange(it) {
  const bad = it.outcome === "failed" || it.status >= 500;
  const summary = el("summary", {}, el("span", { class: "time" }, clock(it.ended)), el("b", { class: bad ? "red" : "" }, String(it.status ?? "–")),
    el("span", {}, it.method), el("code", { title: it.host + it.path }, it.path || "–"), el("span", { class: "quiet route-name" }, it.route || "no route"), el("span", { class: "n" }, time(it.duration_seconds)));
  const detail = el("details", {}, summary);
  detail.addEventListener("toggle", () => { if (detail.open && !detail.children[1]) detail.append(exchangeDetail(it)); });
  return el("li", {}, detail);
}

function exchangeDetail(it) {
  const about = el("dl");
  facts(about, [
    ["Id", el("code", {}, it.request_id)], ["Client", it.client], ["Host", it.host], ["Listener", it.listener], ["Upstream", it.upstream],
    ["Upstream's head after", it.upstream_seconds && time(it.upstream_seconds)], ["Received, sent", `${bytes(it.received_bytes)}, ${bytes(it.sent_bytes)}`],
    ["Outcome", it.reason ? `${it.outcome} (${it.fault}): ${it.reason}` : it.outcome],
    ...Object.entries(it.notes).map(([name, value]) => [name, value]),
  ]);
  const steps = it.steps.map((step) => {
    const bar = el("i");
    const part = (seconds) => `${Math.min(100, (100 * seconds) / Math.max(it.duration_seconds, 1e-6))}%`;
    bar.style.left = part(step.after_seconds);
    bar.style.width = part(step.took_seconds);
    return el("li", {}, el("span", {}, el("a", { href: pluginLink(step.plugin) }, step.plugin), ` ${step.hook}: ${step.verdict}`),
      el("span", { class: "track", "aria-hidden": "true" }, bar), el("span", { class: "n" }, time(step.took_seconds)));
  });
  return el("div", { class: "detail" }, about, steps.length ? el("ol", { class: "steps", "aria-label": "Hooks that it went through" }, ...steps) : null);
}

/* ---- the whole page ---- */

function frame() {
  const status = samples.at(-1)?.status;
  if (!status) return;
  const ready = status.readiness?.ready;
  pill(ready ? "ready" : `not ready: ${(status.readiness?.reasons ?? []).map((it) => it.reason ?? it.part).join("; ")}`, ready ? "good" : "bad");
  text($("facts"), `${status.version} · generation ${status.generation} · ${status.workers} worker${status.workers === 1 ? "" : "s"} · up ${ago(status.started, status.now)}`);
  const failed = status.reload && !status.reload.done;
  $("problems").hidden = !failed;
  if (failed) {
    text($("problems-cause"), `${clock(status.reload.at)}, ${status.reload.cause}: ${status.reload.report.errors} to mend in ${status.reload.report.file}`);
    text($("problems-text"), status.reload.report.text);
  }
  const notes = status.readiness?.notes ?? [];
  $("notes").hidden = !notes.length;
  list($("notes"), notes, (note) => note, (note) => el("li", {}, note));
}

function pill(words, kind) {
  text($("state"), words);
  $("state").className = `pill ${kind}`;
}

function show() {
  const [, page, name] = location.hash.split("/");
  const at = page === "plugin" || page === "exchanges" ? page : "overview";
  const waits = !samples.length;
  for (const id of ["overview", "plugin", "exchanges"]) $(id).hidden = waits || id !== at;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === at) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (waits) return;
  frame();
  if (at === "overview") overview();
  if (at === "exchanges" && !paused) exchanges();
  if (at === "plugin") plugin(decodeURIComponent(name));
}

/* ---- the listener ---- */

function ask(path, options = {}) {
  const headers = { "x-witgate-admin": "1", ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  return fetch(path, { ...options, headers });
}

function take(name, data) {
  if (name === "figures") {
    const before = samples.at(-1);
    samples.push(data);
    while (samples.length > WINDOW + 1) samples.shift();
    const requests = (it) => sum(it.routes.map((route) => total(route.requests)));
    if (before) traffic.push(Math.max(0, requests(data) - requests(before)));
    while (traffic.length > HISTORY) traffic.shift();
    return show();
  }
  const known = new Set(tail.map((it) => it.key));
  const fresh = data.exchanges.map((it) => ({ ...it, key: `${it.request_id} ${it.ended}` })).filter((it) => !known.has(it.key));
  tail = [...fresh.reverse(), ...tail].slice(0, MOST);
  if (!$("exchanges").hidden && !paused) exchanges();
}

async function listen() {
  const answer = await ask("/events");
  $("sign-in").hidden = answer.ok;
  if (!answer.ok) {
    const { error } = await answer.json();
    pill(answer.status === 401 ? "token needed" : "refused", "warn");
    $("sign-in").hidden = answer.status !== 401 && answer.status !== 403;
    text($("refusal"), answer.status === 401 && !token ? "" : error);
    return answer.status >= 500;
  }
  ask("/log-level").then((level) => level.json()).then(({ filter }) => { $("filter").value ||= filter ?? ""; }, () => {});
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return true;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(event) ?? [];
      if (name) take(name, JSON.parse(data));
    }
  }
}

async function stay() {
  for (;;) {
    const again = await listen().catch(() => true);
    if (!again) return;
    pill("disconnected, trying again", "warn");
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function operate(button, words, request) {
  button.disabled = true;
  text($("done"), `${words} …`);
  try {
    const answer = await request();
    const document = await answer.json();
    text($("done"), answer.ok ? `${words}: done.` : `${words}: ${document.error ?? "failed, see above"}.`);
  } catch (error) {
    text($("done"), `${words}: ${error.message}`);
  }
  button.disabled = false;
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("witgate-token", token);
  stay();
});
$("reload").addEventListener("click", (event) => operate(event.target, "Reload", () => ask("/reload", { method: "POST" })));
$("harvest").addEventListener("click", (event) => operate(event.target, "Harvest", () => ask("/harvest", { method: "POST" })));
$("log-level").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = JSON.stringify({ filter: $("filter").value });
  operate(event.submitter, "Log filter", () => ask("/log-level", { method: "PUT", body }));
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", exchanges);
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  exchanges();
});
addEventListener("hashchange", () => { show(); $("main").focus(); });
show();
stay();
