// @ts-check
/**
 * The states of a call from a browser, without DOM, network or clock: `step` takes a state, an event and the time, and
 * returns the next state and what is to be done. Every state that waits for something has a deadline.
 *
 * An attempt is one room. Agent-ready ends the wait: an agent that is merely present may hang. An attempt that has no
 * ready agent in time is left, and the next one gets a fresh room, since LiveKit never repeats a lost job.
 */

/** From the start of an attempt to a ready agent. */
export const READY_WITHIN_MS = 15_000;
/** The same for the first attempt after a lost call: where LiveKit has just been started, its agents are not back yet, and a job
 * that nobody takes then is lost, however long one waits in its room. */
export const REDIAL_READY_WITHIN_MS = 5_000;
/** Before each further attempt; when these have failed too, the caller gets a message. */
export const RETRY_DELAYS_MS = Object.freeze([1_000, 2_000, 3_000]);
/** Without sign of life, an agent that used to give them is dead: LiveKit tells only after 20 s. */
export const SILENT_AFTER_MS = 7_000;
/** How long the connection itself may be away. */
export const RECONNECT_WITHIN_MS = 30_000;
/** How long a device without network is waited for; that uses up no attempt. */
export const OFFLINE_MS = 60_000;
/** How long the question for the microphone may stay open. */
export const ASKING_MS = 120_000;

/**
 * @typedef {"idle" | "asking" | "connecting" | "waiting" | "in-call" | "reconnecting" | "retrying" | "ended" | "failed"} Phase
 *
 * @typedef {object} CallState
 * @property {Phase} phase
 * @property {number} attempt    Number of the current room; events of older ones are ignored.
 * @property {number} failures   Failed attempts in a row.
 * @property {number | null} deadline  When `tick` will do something; null: nothing is waited for.
 * @property {boolean} answered  Whether this attempt's agent was ready.
 * @property {boolean} beats     Whether this attempt's agent gives signs of life.
 * @property {boolean} redial    Whether the current attempts replace a call that was lost.
 * @property {string} reason     Of `ended`, `failed` and `retrying`: see `Reason`.
 *
 * @typedef {"" | "hung-up" | "agent-ended" | "page-closed" | "timeout" | "no-session" | "no-connection" | "too-many" | "offline" |
 *   "lost" | "silent" | "agent-left" | "microphone-denied" | "microphone-missing" | "microphone-taken" |
 *   "microphone-insecure" | "microphone-unanswered"} Reason
 *
 * @typedef {{type: "call", microphone: "granted" | "unknown"}
 *   | {type: "microphone-ready"}
 *   | {type: "microphone-failed", problem: "denied" | "missing" | "taken" | "insecure"}
 *   | {type: "connected", attempt: number}
 *   | {type: "ready", attempt: number}
 *   | {type: "heartbeat", attempt: number}
 *   | {type: "audible", attempt: number}
 *   | {type: "agent-left", attempt: number}
 *   | {type: "reconnecting", attempt: number}
 *   | {type: "reconnected", attempt: number}
 *   | {type: "disconnected", attempt: number, cause: "room-deleted" | "lost"}
 *   | {type: "attempt-failed", attempt: number, reason: Reason}
 *   | {type: "online"}
 *   | {type: "hang-up"}
 *   | {type: "page-closing"}
 *   | {type: "tick"}} CallEvent
 *
 * @typedef {{type: "microphone"}
 *   | {type: "start", attempt: number}
 *   | {type: "leave", attempt: number, unanswered: boolean, cleanup: boolean}
 *   | {type: "beacon", attempt: number}
 *   | {type: "release-microphone"}
 *   | {type: "explain"}} Effect
 *
 * @typedef {{state: CallState, effects: Effect[]}} Step
 */

/** @returns {CallState} */
export function initialState() {
  return { phase: "idle", attempt: 0, failures: 0, deadline: null, answered: false, beats: false, redial: false, reason: "" };
}

/** Whether a call is going on, or on its way. @param {CallState} state */
export function isActive(state) {
  return !["idle", "ended", "failed"].includes(state.phase);
}

/** Whether there is a room to leave. @param {CallState} state */
function hasRoom(state) {
  return ["connecting", "waiting", "in-call", "reconnecting"].includes(state.phase);
}

/**
 * What follows from an event at the time `now` (ms of any clock that never goes back).
 *
 * @param {CallState} state
 * @param {CallEvent} event
 * @param {number} now
 * @returns {Step}
 */
export function step(state, event, now) {
  if ("attempt" in event && (event.attempt !== state.attempt || !hasRoom(state))) return stay(state);
  switch (event.type) {
    case "call":
      return isActive(state) ? stay(state) : call(state, event.microphone === "granted", now);
    case "microphone-ready":
      return state.phase === "asking" ? begin(state, now) : stay(state);
    case "microphone-failed":
      return isActive(state) ? stop(state, "failed", /** @type {Reason} */ (`microphone-${event.problem}`)) : stay(state);
    case "connected":
      return state.phase === "connecting" ? to({ ...state, phase: "waiting" }) : stay(state);
    case "ready":
      return ready(state);
    case "heartbeat":
      return to({ ...state, beats: true, deadline: state.phase === "in-call" ? now + SILENT_AFTER_MS : silentOr(state, now) });
    case "audible":
      return state.beats && state.answered ? to({ ...state, deadline: now + SILENT_AFTER_MS }) : stay(state);
    case "agent-left":
      return state.answered ? redial(state, "agent-left", now) : stay(state);
    case "reconnecting":
      return reconnecting(state, now);
    case "reconnected":
      return reconnected(state, now);
    case "disconnected":
      if (event.cause === "room-deleted" && state.answered) return stop(state, "ended", "agent-ended");
      return state.answered ? redial(state, "lost", now) : fail(state, "lost", now);
    case "attempt-failed":
      return state.answered ? redial(state, event.reason, now) : fail(state, event.reason, now);
    case "online":
      return state.phase === "retrying" && state.reason === "offline" ? begin(state, now) : stay(state);
    case "hang-up":
      return isActive(state) ? stop(state, "ended", "hung-up") : stay(state);
    case "page-closing":
      return pageClosing(state);
    case "tick":
      return state.deadline !== null && now >= state.deadline ? late(state, now) : stay(state);
  }
}

/** @param {CallState} state @returns {Step} */
function stay(state) {
  return { state, effects: [] };
}

/** @param {CallState} state @param {Effect[]} effects @returns {Step} */
function to(state, ...effects) {
  return { state, effects };
}

/** @param {CallState} state @param {boolean} granted @param {number} now @returns {Step} */
function call(state, granted, now) {
  const fresh = { ...initialState(), attempt: state.attempt };
  if (!granted) return to({ ...fresh, phase: "asking", deadline: now + ASKING_MS }, { type: "microphone" });
  const { state: begun, effects } = begin(fresh, now);
  return to(begun, { type: "microphone" }, ...effects);
}

/** @param {CallState} state @param {number} now @returns {Step} */
function begin(state, now) {
  const attempt = state.attempt + 1;
  const within = state.redial && state.failures === 0 ? REDIAL_READY_WITHIN_MS : READY_WITHIN_MS;
  return to(
    { ...state, phase: "connecting", attempt, deadline: now + within, answered: false, beats: false },
    { type: "start", attempt },
  );
}

/** @param {CallState} state @returns {Step} */
function ready(state) {
  if (state.answered) return stay(state);
  return to({ ...state, phase: "in-call", answered: true, failures: 0, redial: false, deadline: null, reason: "" });
}

/** While the connection is away a sign of life still counts. @param {CallState} state @param {number} now */
function silentOr(state, now) {
  return state.answered ? now + SILENT_AFTER_MS : state.deadline;
}

/** @param {CallState} state @param {number} now @returns {Step} */
function reconnecting(state, now) {
  if (state.phase === "reconnecting") return stay(state);
  // An attempt without an agent keeps its deadline, and so does an agent whose signs of life have stopped.
  return to({ ...state, phase: "reconnecting", deadline: state.deadline ?? now + RECONNECT_WITHIN_MS });
}

/** @param {CallState} state @param {number} now @returns {Step} */
function reconnected(state, now) {
  if (state.phase !== "reconnecting") return stay(state);
  if (!state.answered) return to({ ...state, phase: "waiting" });
  return to({ ...state, phase: "in-call", deadline: state.beats ? now + SILENT_AFTER_MS : null });
}

/** Leave and dial again at once: the call was up. @param {CallState} state @param {Reason} reason @param {number} now @returns {Step} */
function redial(state, reason, now) {
  const leave = leaving(state, { unanswered: false, cleanup: false });
  const { state: begun, effects } = begin({ ...state, failures: 0, redial: true, reason }, now);
  return to(begun, ...leave, ...effects);
}

/** @param {CallState} state @param {Reason} reason @param {number} now @returns {Step} */
function fail(state, reason, now) {
  const leave = leaving(state, { unanswered: true, cleanup: false });
  if (reason === "offline") return to({ ...state, phase: "retrying", reason, deadline: now + OFFLINE_MS }, ...leave);
  const failures = state.failures + 1;
  if (failures > RETRY_DELAYS_MS.length) {
    const ended = { ...state, phase: /** @type {Phase} */ ("failed"), failures, deadline: null, reason };
    return to(ended, ...leave, { type: "release-microphone" }, { type: "explain" });
  }
  return to({ ...state, phase: "retrying", failures, reason, deadline: now + RETRY_DELAYS_MS[failures - 1] }, ...leave);
}

/** @param {CallState} state @param {"ended" | "failed"} phase @param {Reason} reason @returns {Step} */
function stop(state, phase, reason) {
  const cleanup = reason === "hung-up";
  const leave = leaving(state, { unanswered: false, cleanup });
  return to({ ...state, phase, reason, deadline: null }, ...leave, { type: "release-microphone" });
}

/** @param {CallState} state @returns {Step} */
function pageClosing(state) {
  if (!isActive(state)) return stay(state);
  /** @type {Effect[]} */
  const beacon = hasRoom(state) ? [{ type: "beacon", attempt: state.attempt }] : [];
  return to({ ...state, phase: "ended", reason: "page-closed", deadline: null }, ...beacon, { type: "release-microphone" });
}

/** @param {CallState} state @param {number} now @returns {Step} */
function late(state, now) {
  switch (state.phase) {
    case "asking":
      return stop(state, "failed", "microphone-unanswered");
    case "retrying":
      return state.reason === "offline" ? stop(state, "failed", "offline") : begin(state, now);
    case "in-call":
      return redial(state, "silent", now);
    default:
      return state.answered ? redial(state, "lost", now) : fail(state, "timeout", now);
  }
}

/** @param {CallState} state @param {{unanswered: boolean, cleanup: boolean}} how @returns {Effect[]} */
function leaving(state, how) {
  return hasRoom(state) ? [{ type: "leave", attempt: state.attempt, ...how }] : [];
}
