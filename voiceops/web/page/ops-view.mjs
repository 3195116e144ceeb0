// @ts-check
/** What the dashboard says of what it was told. Pure: tested without a browser. */

/** @typedef {Record<string, any>} Row */
/** @typedef {Map<string, Row>} Rows */
/** @typedef {Map<string, Rows>} Sections */
/** @typedef {"calm" | "busy" | "live" | "problem"} Tone */

export const WAITING_AFTER_S = 10;
/** A service that runs as it should, a task that has ended as it should. */
const GOOD = new Set(["ready", "completed"]);
const STALE_AFTER_S = 8;
/** Control characters and marks of direction, as `model/quoting.py` has them. */
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Take in one message; returns the names of the sections that changed.
 *
 * @param {Sections} sections
 * @param {{reset?: boolean, sections?: Record<string, {rows?: Record<string, Row>, gone?: string[]}>}} message
 * @returns {Set<string>}
 */
export function merge(sections, message) {
  const changed = new Set(message.reset ? sections.keys() : []);
  if (message.reset) sections.clear();
  for (const [name, { rows = {}, gone = [] }] of Object.entries(message.sections ?? {})) {
    const known = sections.get(name) ?? new Map();
    sections.set(name, known);
    for (const [key, row] of Object.entries(rows)) known.set(key, row);
    for (const key of gone) known.delete(key);
    changed.add(name);
  }
  return changed;
}

/** @param {Sections} sections @param {string} name @returns {Row[]} */
export function rowsOf(sections, name) {
  return [...(sections.get(name)?.values() ?? [])];
}

/**
 * Text as it is shown: what would reorder or hide other text is written out.
 *
 * @param {string} text
 */
export function shownText(text) {
  return text.replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** @param {number | null | undefined} seconds */
export function timeSpan(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** @param {number | null | undefined} at @param {number} now */
export function since(at, now) {
  return at === null || at === undefined ? "unknown" : timeSpan(now - at);
}

/** @param {number} count @param {string} word */
export function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** @param {number | null | undefined} count  Null is what nobody could count: not 0. */
export function countOrUnknown(count) {
  return count === null || count === undefined ? "unknown" : String(count);
}

/** @param {string} state @returns {Tone} */
export function toneOfState(state) {
  if (GOOD.has(state)) return "live";
  if (state === "starting" || state === "draining") return "busy";
  return state === "stopped" ? "calm" : "problem";
}

/**
 * Who serves a room, as far as that is known.
 *
 * @param {Row} room @param {Row | undefined} host @param {number} now
 * @returns {{text: string, tone: Tone}}
 */
export function servedBy(room, host, now) {
  if (room.agent !== null && room.agent !== undefined) return { text: room.agent, tone: "live" };
  if (!room.people) return { text: "nobody there", tone: "calm" };
  if (!host?.knows_agents) return { text: "unknown", tone: "busy" };
  const age = room.created_at === null ? Infinity : now - room.created_at;
  return age < WAITING_AFTER_S ? { text: "none yet", tone: "busy" } : { text: "none", tone: "problem" };
}

/** Rooms in which somebody waits come first, then calls, the rest behind; each the oldest first. @param {Row[]} rooms @param {Sections} sections @param {number} now */
export function sortedRooms(rooms, sections, now) {
  const hosts = sections.get("hosts");
  /** @param {Row} room */
  const rank = (room) => {
    const { tone } = servedBy(room, hosts?.get(room.host), now);
    return tone === "problem" ? 0 : room.people ? 1 : room.agent ? 2 : 3;
  };
  const ranked = rooms.map((room) => /** @type {[number, Row]} */ ([rank(room), room]));
  ranked.sort(([a, one], [b, other]) => a - b || (one.created_at ?? 0) - (other.created_at ?? 0));
  return ranked.map(([, room]) => room);
}

/** Incidents that go on come first, then the newest. @param {Row[]} incidents */
export function sortedIncidents(incidents) {
  return [...incidents].sort(
    (a, b) => Number(a.ended_at !== null) - Number(b.ended_at !== null) || b.began_at - a.began_at,
  );
}

/** @param {Row} incident @param {number} now */
export function incidentText(incident, now) {
  const what = incident.sentence || [incident.subject, incident.cause].filter(Boolean).join(": ");
  if (incident.ended_at === null) return `open for ${since(incident.began_at, now)}: ${what}`;
  return `${clock(incident.began_at, now)}, lasted ${timeSpan(incident.ended_at - incident.began_at)}: ${what}`;
}

/** @param {Row} repair @param {number} now */
export function repairText(repair, now) {
  const what = [repair.action, repair.subject].filter(Boolean).join(" ");
  const ended = repair.ok ? `done in ${repair.took_s.toFixed(1)} s` : `failed (attempt ${repair.attempt})`;
  return `${clock(repair.at, now)}: ${what} ${ended}: ${repair.error || repair.reason}`;
}

const ACTIONS = { "cleanup-rooms": "clean up rooms", fix: "apply the fixes", restart: "restart" };

/** @param {Row} action @param {number} now */
export function actionText(action, now) {
  const words = ACTIONS[/** @type {keyof typeof ACTIONS} */ (action.action)] ?? action.action;
  const where = action.hosts?.length ? `on ${action.hosts.join(", ")}` : "";
  const what = [words, action.service, where].filter(Boolean).join(" ");
  const how = `${clock(action.at, now)}, ${action.by}: ${what}${action.drop_calls ? ", calls dropped" : ""}`;
  if (action.running) return `${how}: running`;
  if (action.ended_at === null) return `${how}: nobody saw it end`;
  const result = action.exit_code === 0 ? "done" : `exit code ${action.exit_code}`;
  return `${how}: ${action.said ? `${result}: ${action.said}` : result}`;
}

/** @param {Row} action @returns {Tone} */
export function toneOfAction(action) {
  if (action.running || action.ended_at === null) return "busy";
  return action.exit_code === 0 ? "calm" : "problem";
}

/** @param {number} at @param {number} now */
export function clock(at, now) {
  const moment = new Date(at * 1000);
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return now - at < 43_200 ? time : `${moment.toLocaleDateString()} ${time}`;
}

/** One line for the head of the page. @param {Sections} sections @returns {{text: string, tone: Tone}} */
export function summary(sections) {
  const hosts = rowsOf(sections, "hosts");
  if (!hosts.some((one) => one.services_read || one.services_error)) return { text: "Reading the stack", tone: "busy" };
  const services = rowsOf(sections, "services");
  const unread = hosts.filter((one) => one.services_error).length;
  const ready = services.filter((one) => GOOD.has(one.state)).length;
  const open = rowsOf(sections, "incidents").filter((one) => one.ended_at === null).length;
  const calls = hosts.map((one) => one.call_count);
  const callCount = calls.includes(null) ? null : calls.reduce((sum, one) => sum + one, 0);
  const words = [`${ready} of ${counted(services.length, "service")} ready`];
  if (unread) words.push(`${counted(unread, "host")} not read`);
  if (open) words.push(counted(open, "open incident"));
  words.push(callCount === null ? "calls unknown" : counted(callCount, "call"));
  const roomsRead = hosts.every((one) => !one.has_rooms || one.rooms_read);
  words.push(roomsRead ? counted(sections.get("rooms")?.size ?? 0, "room") : "rooms unknown");
  const good = ready === services.length && !unread && !open;
  return { text: words.join(", "), tone: good ? "live" : "problem" };
}

/** What is not known of one kind of thing, as a sentence; empty where all is. @param {Sections} sections @param {"services" | "rooms"} what */
export function notKnown(sections, what) {
  const words = [];
  for (const [name, host] of sections.get("hosts") ?? []) {
    if (host[`${what}_error`]) words.push(`${name}: ${what} unknown: ${host[`${what}_error`]}`);
    else if (!host[`${what}_read`] && (what === "services" || host.has_rooms)) words.push(`${name}: reading`);
  }
  return words.join("; ");
}

/** Whether what is shown is still true. @param {{connected: boolean, heardAt: number}} link @param {number} now @param {string} problem @returns {{text: string, tone: Tone}} */
export function liveness({ connected, heardAt }, now, problem) {
  if (problem) return { text: `Not live: ${problem}`, tone: "problem" };
  if (!connected) return { text: "Connection lost: what you see may be old", tone: "problem" };
  if (now - heardAt > STALE_AFTER_S) return { text: `Nothing heard for ${timeSpan(now - heardAt)}`, tone: "problem" };
  return { text: "Live", tone: "live" };
}

/**
 * Bars of the chart, the oldest call first: place and height from 0 to 1, and whether it was a good call.
 *
 * @param {Row[]} calls @param {number} most
 */
export function chart(calls, most) {
  const shown = [...calls].sort((a, b) => a.started_at - b.started_at).slice(-most);
  const times = shown.map((one) => one.answer_s).filter((one) => one !== null);
  const scale = Math.max(1, ...times);
  const bars = shown.map((one) => ({
    height: one.answer_s === null ? 1 : Math.max(0.02, one.answer_s / scale),
    good: one.answer_s !== null && (one.outcome === null || one.outcome === "answered"),
    text: one.answer_s === null ? `not answered: ${one.detail || one.outcome}` : `${one.answer_s.toFixed(2)} s`,
  }));
  return { bars, scale, text: chartText(bars, times, scale) };
}

/** @param {{good: boolean}[]} bars @param {number[]} times @param {number} scale */
function chartText(bars, times, scale) {
  if (!bars.length) return "No calls in the last 24 h.";
  const good = bars.filter((one) => one.good).length;
  const words = [`${good} of ${counted(bars.length, "call")} good`];
  const sorted = [...times].sort((a, b) => a - b);
  if (sorted.length) {
    words.push(`p50 ${percentile(sorted, 50).toFixed(2)} s`, `p95 ${percentile(sorted, 95).toFixed(2)} s`);
  }
  return `${words.join(", ")}; a full bar is ${scale.toFixed(1)} s.`;
}

/** Linear between the values, as the history has it. @param {number[]} sorted @param {number} percent */
export function percentile(sorted, percent) {
  const place = ((sorted.length - 1) * percent) / 100;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}
