// @ts-check
/**
 * The dashboard: draws what the server sends, and asks for what an operator wants.
 *
 * All text is set as text: rooms, identities and log lines are anybody's words. Rows stay the same elements while they
 * change, so that the focus stays where it is.
 */

import {
  actionText,
  chart,
  clock,
  countOrUnknown,
  counted,
  incidentText,
  liveness,
  merge,
  notKnown,
  repairText,
  rowsOf,
  servedBy,
  shownText,
  since,
  sortedIncidents,
  sortedRooms,
  toneOfAction,
  summary,
  toneOfState,
} from "./ops-view.mjs";

/** @typedef {import("./ops-view.mjs").Row} Row */

const MORE = 50;
const MOST_BARS = 120;
const SVG = "http://www.w3.org/2000/svg";

/** @type {import("./ops-view.mjs").Sections} */
const sections = new Map();
/** @type {Set<string>} */
const stale = new Set();
const shown = { rooms: MORE, incidents: 10 };
const link = { connected: false, heardAt: 0 };
/** The action that this page asked for last. */
let asked = "";
let drawing = false;

/** @template {HTMLElement} T @param {string} id @returns {T} */
function element(id) {
  return /** @type {T} */ (document.getElementById(id));
}

const dialog = /** @type {HTMLDialogElement} */ (element("confirm"));
const filter = /** @type {HTMLInputElement} */ (element("filter"));

const now = () => Date.now() / 1000 + skew;
/** The server's clock against this one. */
let skew = 0;

/** @param {Element} where @param {string} text */
function say(where, text) {
  const shown = shownText(text);
  if (where.textContent !== shown) where.textContent = shown;
}

/** @param {HTMLElement} where @param {{text: string, tone: string}} words */
function tell(where, { text, tone }) {
  say(where, text);
  if (where.dataset.tone !== tone) where.dataset.tone = tone;
}

/**
 * Make the children of `where` those of `rows`, in their order; children that are there are kept.
 *
 * @param {HTMLElement} where @param {Row[]} rows @param {(row: Row) => string} keyOf
 * @param {() => HTMLElement} make @param {(child: HTMLElement, row: Row) => void} fill
 */
function list(where, rows, keyOf, make, fill) {
  const known = new Map([...where.children].map((one) => [/** @type {HTMLElement} */ (one).dataset.key, one]));
  let place = where.firstElementChild;
  for (const row of rows) {
    const key = keyOf(row);
    const child = /** @type {HTMLElement} */ (known.get(key) ?? make());
    known.delete(key);
    child.dataset.key = key;
    fill(child, row);
    if (child === place) place = place.nextElementSibling;
    else where.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

/** @param {string[]} classes  One cell each. */
function tableRow(classes) {
  const row = document.createElement("tr");
  classes.forEach((name, index) => {
    const cell = document.createElement(index ? "td" : "th");
    if (!index) cell.setAttribute("scope", "row");
    if (name) cell.className = name;
    row.append(cell);
  });
  return row;
}

function listItem() {
  const item = document.createElement("li");
  item.append(document.createElement("span"), document.createElement("code"));
  return item;
}

/** @param {HTMLElement} item @param {string} text @param {string} tone @param {string} [command] */
function fillItem(item, text, tone, command = "") {
  if (item.dataset.tone !== tone) item.dataset.tone = tone;
  say(item.children[0], text);
  say(item.children[1], command);
  /** @type {HTMLElement} */ (item.children[1]).hidden = !command;
}

function serviceRow() {
  const row = tableRow(["", "short", "short wide", "number", "number wide", "number wide", "number wide", ""]);
  row.cells[0].append(document.createElement("span"), document.createElement("small"));
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.action = "restart";
  button.textContent = "Restart";
  row.cells[7].append(button);
  return row;
}

function drawServices() {
  const services = rowsOf(sections, "services");
  const several = new Set(services.map((one) => one.host)).size > 1;
  const unknown = notKnown(sections, "services");
  say(element("services-note"), unknown);
  list(element("services"), services, (one) => `${one.host}/${one.name}`, serviceRow, (row, one) => {
    const cells = /** @type {HTMLTableRowElement} */ (row).cells;
    say(cells[0].children[0], several ? `${one.host}: ${one.name}` : one.name);
    say(cells[0].children[1], [one.detail, one.draining.length ? "an older one drains" : ""].filter(Boolean).join("; "));
    tell(cells[1], { text: one.state, tone: toneOfState(one.state) });
    say(cells[2], one.pids.length ? since(one.started_at, now()) : "");
    say(cells[3], countOrUnknown(one.call_count));
    say(cells[4], one.cpu_share === null ? "" : `${Math.round(one.cpu_share * 100)} %`);
    say(cells[5], one.memory_bytes === null ? "" : `${Math.round(one.memory_bytes / 1e6)} MB`);
    say(cells[6], String(one.restart_count));
    const button = /** @type {HTMLButtonElement} */ (cells[7].children[0]);
    button.dataset.service = one.name;
    button.dataset.host = one.host;
    button.setAttribute("aria-label", several ? `Restart ${one.name} on ${one.host}` : `Restart ${one.name}`);
  });
}

function drawRooms() {
  const all = rowsOf(sections, "rooms");
  const wanted = filter.value.toLowerCase();
  const found = wanted ? all.filter((one) => one.name.toLowerCase().includes(wanted)) : all;
  const moment = now();
  const rooms = sortedRooms(found, sections, moment).slice(0, shown.rooms);
  const hosts = sections.get("hosts");
  const unknown = notKnown(sections, "rooms");
  const count = found.length === all.length ? counted(all.length, "room") : `${found.length} of ${counted(all.length, "room")}`;
  const seen = rooms.length < found.length ? `${count}, ${rooms.length} shown` : count;
  say(element("rooms-note"), unknown ? `${unknown}. ${all.length ? seen : ""}` : `${seen}.`);
  element("rooms-more").hidden = rooms.length >= found.length;
  list(element("rooms"), rooms, (one) => `${one.host}/${one.created_at}/${one.name}`, () => tableRow(["", "short", "number", "short"]), (row, one) => {
    const cells = /** @type {HTMLTableRowElement} */ (row).cells;
    say(cells[0], one.name);
    say(cells[1], since(one.created_at, moment));
    say(cells[2], countOrUnknown(one.people));
    tell(cells[3], servedBy(one, hosts?.get(one.host), moment));
  });
}

function drawIncidents() {
  const all = sortedIncidents(rowsOf(sections, "incidents"));
  const open = all.filter((one) => one.ended_at === null).length;
  const rows = all.slice(0, Math.max(shown.incidents, open));
  const stack = sections.get("stack")?.get("stack");
  const words = [open ? `${open} open` : "None open"];
  if (stack?.history_error) words.push(`the history can't be read: ${stack.history_error}`);
  else if (!stack?.history_read) words[0] = "Reading";
  else if (rows.length < all.length) words.push(`${rows.length} of the newest ${all.length} shown`);
  say(element("incidents-note"), `${words.join("; ")}.`);
  element("incidents-more").hidden = rows.length >= all.length;
  list(element("incidents"), rows, (one) => one.id, listItem, (item, one) => {
    const isOpen = one.ended_at === null;
    fillItem(item, incidentText(one, now()), isOpen ? "problem" : "calm", isOpen ? one.fix : "");
  });
}

function drawFindings() {
  const state = sections.get("diagnosis")?.get("why");
  const findings = rowsOf(sections, "findings");
  const words = [];
  if (!state || state.running) words.push("Looking");
  else words.push(findings.length ? counted(findings.length, "finding") : state.problem ? "Not all could be seen" : "No fault found");
  if (state?.at) words.push(`as of ${clock(state.at, now())}`);
  if (state?.problem) words.push(`not seen: ${state.problem}`);
  say(element("findings-note"), `${words.join(", ")}.`);
  /** @type {HTMLButtonElement} */ (element("diagnose")).disabled = !state || state.running;
  /** @type {HTMLButtonElement} */ (element("fix")).disabled = !findings.some((one) => one.fix);
  list(element("findings"), findings, (one) => `${one.rule} ${one.host} ${one.room} ${one.cause}`, listItem, (item, one) => {
    const evidence = one.evidence.length ? ` (${one.evidence.join("; ")})` : "";
    fillItem(item, `${one.severity}: ${one.cause}${evidence}`, one.severity === "error" ? "problem" : "busy", one.fix);
  });
}

function drawCalls() {
  const { bars, text } = chart(rowsOf(sections, "calls"), MOST_BARS);
  const stack = sections.get("stack")?.get("stack");
  const unread = stack?.history_error ? `Unknown: ${stack.history_error}.` : "Reading.";
  say(element("calls-note"), stack?.history_read ? text : unread);
  const wide = 600 / MOST_BARS;
  const drawn = bars.map(({ height, good, text: title }, index) => {
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("x", String(index * wide));
    bar.setAttribute("y", String(120 - height * 120));
    bar.setAttribute("width", String(wide * 0.7));
    bar.setAttribute("height", String(height * 120));
    bar.setAttribute("class", good ? "good" : "bad");
    const name = document.createElementNS(SVG, "title");
    name.textContent = shownText(title);
    bar.append(name);
    return bar;
  });
  element("chart").replaceChildren(...drawn);
}

function drawRepairs() {
  const repairs = rowsOf(sections, "repairs").sort((a, b) => b.at - a.at).slice(0, 20);
  const stack = sections.get("stack")?.get("stack");
  say(element("repairs-note"), repairs.length ? "" : stack?.history_read ? "None in the last 24 h." : "Not known yet.");
  list(element("repairs"), repairs, (one) => one.id, listItem, (item, one) =>
    fillItem(item, repairText(one, now()), one.ok ? "calm" : "problem"),
  );
}

function drawActions() {
  const actions = rowsOf(sections, "actions").sort((a, b) => b.at - a.at);
  say(element("actions-note"), actions.length ? "" : "None yet.");
  list(element("actions"), actions, (one) => one.id, listItem, (item, one) =>
    fillItem(item, actionText(one, now()), toneOfAction(one)),
  );
  const mine = sections.get("actions")?.get(asked);
  if (!mine || mine.running) return;
  asked = "";
  say(element("spoken"), actionText(mine, now()));
  if (mine.may_drop) confirmAction(mine.action, mine.service, mine.hosts?.[0], mine.said);
}

const DRAW = {
  services: drawServices,
  rooms: drawRooms,
  incidents: drawIncidents,
  findings: drawFindings,
  diagnosis: drawFindings,
  calls: drawCalls,
  repairs: drawRepairs,
  actions: drawActions,
};

function draw() {
  drawing = false;
  if (stale.has("hosts") || stale.has("stack")) Object.keys(DRAW).forEach((name) => stale.add(name));
  const work = new Set([...stale].map((name) => DRAW[/** @type {keyof typeof DRAW} */ (name)]).filter(Boolean));
  stale.clear();
  for (const one of work) one();
  drawHead();
}

function drawHead() {
  const project = sections.get("stack")?.get("stack")?.project;
  if (project) {
    const name = [project, Object.keys(actsOn()).join(", ")].filter(Boolean).join(" on ");
    say(element("project"), name);
    document.title = `${shownText(name)}: dashboard`;
  }
  tell(element("summary"), summary(sections));
  tell(element("live"), liveness(link, now(), sections.get("feed")?.get("feed")?.error ?? ""));
}

/** @param {string[]} names */
function redraw(...names) {
  names.forEach((name) => stale.add(name));
  if (drawing) return;
  drawing = true;
  // A tab in the background gets no frame: it draws when it is looked at.
  requestAnimationFrame(draw);
}

const ASK = {
  "cleanup-rooms": ["Clean up rooms?", "Rooms that nobody uses are deleted. Nobody is cut off.", "Clean up", "inv cleanup-rooms"],
  fix: ["Apply the fixes?", "What the findings propose is done, the most likely cause first. Calls are not dropped.", "Apply", "inv why --fix"],
  restart: ["Restart", "An agent with calls is replaced by a new one and finishes them. Calls are not dropped.", "Restart", "inv restart --only"],
};

/** The hosts that commands have to name, and how; none: this machine is meant. @returns {Record<string, string>} */
const actsOn = () => sections.get("stack")?.get("stack")?.acts_on ?? {};

/** @param {string} action @param {string} [service] @param {string} [host]  Of the service. @param {string} [refusal]  Why it was refused without dropping calls. */
function confirmAction(action, service = "", host = "", refusal = "") {
  const [title, text, yes, command] = ASK[/** @type {keyof typeof ASK} */ (action)];
  const hosts = actsOn();
  const own = Object.keys(hosts).length && service ? [hosts[host]] : Object.values(hosts);
  say(element("confirm-title"), [title, service ? `${service}${own.length ? ` on ${host}` : ""}?` : ""].filter(Boolean).join(" "));
  say(element("confirm-text"), refusal ? `It was refused: ${refusal}. Calls may be cut off if you go on.` : text);
  say(element("confirm-command"), [command, service, own.length ? `--host ${own.join(",")}` : "", refusal ? "--yes" : ""].filter(Boolean).join(" "));
  const button = element("confirm-yes");
  say(button, refusal ? `${yes} and drop calls` : yes);
  button.onclick = () => {
    dialog.close();
    void act({ action, service, host: service && own.length ? host : "", drop_calls: Boolean(refusal) });
  };
  if (!dialog.open) dialog.showModal();
  element("confirm-no").focus();
}

/** @param {{action: string, service: string, host: string, drop_calls: boolean}} wanted */
async function act(wanted) {
  const answer = await post("/ops/actions", wanted);
  if (answer.id) {
    asked = answer.id;
    say(element("spoken"), "Begun.");
    redraw("actions");
  } else say(element("spoken"), answer.message ?? "The server did not answer: nothing is known of it.");
  tell(element("actions-note"), { text: answer.id ? "" : (element("spoken").textContent ?? ""), tone: "problem" });
}

/** @param {string} url @param {object} body @returns {Promise<Row>} */
async function post(url, body) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : {};
  } catch {
    return {};
  }
}

function watch() {
  const source = new EventSource("/ops/events");
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    link.connected = true;
    skew = message.at - Date.now() / 1000;
    link.heardAt = now();
    element("main").hidden = false;
    element("login").hidden = true;
    redraw(...merge(sections, message));
  };
  source.onerror = () => {
    link.connected = false;
    drawHead();
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    source.close();
    void refused();
  };
}

/** The server refuses events: log in, or try again later. */
async function refused() {
  const answer = await fetch("/ops/session").then((one) => one.json()).catch(() => ({ operator: true }));
  if (answer.operator) return setTimeout(watch, 2000);
  element("main").hidden = true;
  element("login").hidden = false;
  tell(element("summary"), { text: answer.can_log_in ? "For operators" : "Only from the machine itself", tone: "busy" });
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = /** @type {HTMLInputElement} */ (element("token"));
  void post("/ops/session", { token: token.value }).then(({ message }) => {
    say(element("login-problem"), message ?? "");
    if (message) return;
    token.value = "";
    watch();
  });
});
document.addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest("button[data-action]");
  if (button instanceof HTMLButtonElement) confirmAction(button.dataset.action ?? "", button.dataset.service, button.dataset.host);
});
element("confirm-no").addEventListener("click", () => dialog.close());
element("diagnose").addEventListener("click", () => void post("/ops/diagnosis", {}));
filter.addEventListener("input", () => {
  shown.rooms = MORE;
  redraw("rooms");
});
element("rooms-more").addEventListener("click", () => {
  shown.rooms += 10 * MORE;
  redraw("rooms");
});
element("incidents-more").addEventListener("click", () => {
  shown.incidents += 5 * MORE;
  redraw("incidents");
});

// Ages go on.
setInterval(() => redraw("services", "rooms", "incidents"), 1000);
watch();
