// The state machine of a call, run by `node --test`: no browser, no clock.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ASKING_MS,
  initialState,
  isActive,
  OFFLINE_MS,
  READY_WITHIN_MS,
  REDIAL_READY_WITHIN_MS,
  RECONNECT_WITHIN_MS,
  RETRY_DELAYS_MS,
  SILENT_AFTER_MS,
  step,
} from "../../../../voiceops/web/page/call-machine.mjs";

const OF_NO_ROOM = ["call", "microphone-ready", "microphone-failed", "online", "hang-up", "page-closing", "tick"];

/** The event as one of this room, where it is about a room. */
function of(attempt, event) {
  const named = typeof event === "string" ? { type: event } : event;
  return OF_NO_ROOM.includes(named.type) ? named : { attempt, ...named };
}

/** Take events one after another; numbers let time pass. */
function run(...events) {
  let state = initialState();
  let now = 0;
  let effects = [];
  for (const event of events) {
    if (typeof event === "number") {
      now += event;
      ({ state, effects } = step(state, { type: "tick" }, now));
    } else {
      ({ state, effects } = step(state, of(state.attempt, event), now));
    }
  }
  return { state, effects, now };
}

const CALL = { type: "call", microphone: "granted" };
const IN_CALL = [CALL, "connected", "ready"];
const types = ({ effects }) => effects.map((one) => one.type);

test("the waits are those that are documented", () => {
  assert.equal(READY_WITHIN_MS, 15_000);
  assert.deepEqual([...RETRY_DELAYS_MS], [1_000, 2_000, 3_000]);
  assert.equal(SILENT_AFTER_MS, 7_000);
});

test("a call asks for the microphone first unless it is granted already", () => {
  const asking = run({ type: "call", microphone: "unknown" });
  assert.equal(asking.state.phase, "asking");
  assert.deepEqual(types(asking), ["microphone"]);
  assert.deepEqual(types(run({ type: "call", microphone: "unknown" }, "microphone-ready")), ["start"]);
  assert.deepEqual(types(run(CALL)), ["microphone", "start"]);
  assert.equal(run({ type: "call", microphone: "unknown" }, ASKING_MS).state.reason, "microphone-unanswered");
});

test("the ready signal ends the wait, the connection does not", () => {
  assert.equal(run(CALL, "connected").state.phase, "waiting");
  assert.equal(run(CALL, "connected", READY_WITHIN_MS - 1).state.phase, "waiting");
  assert.equal(run(...IN_CALL).state.phase, "in-call");
  assert.equal(run(...IN_CALL, 3_600_000).state.phase, "in-call");
});

test("an attempt without a ready agent is left after 15 s, and three more follow in fresh rooms after 1, 2 and 3 s", () => {
  const events = [CALL];
  for (const [index, delay] of RETRY_DELAYS_MS.entries()) {
    const late = run(...events, READY_WITHIN_MS);
    assert.equal(late.state.phase, "retrying");
    assert.deepEqual(late.effects, [{ type: "leave", attempt: index + 1, unanswered: true, cleanup: false }]);
    assert.equal(run(...events, READY_WITHIN_MS, delay - 1).state.phase, "retrying");
    events.push(READY_WITHIN_MS, delay);
    assert.deepEqual(run(...events).effects, [{ type: "start", attempt: index + 2 }]);
  }
  const failed = run(...events, READY_WITHIN_MS);
  assert.equal(failed.state.phase, "failed");
  assert.deepEqual(types(failed), ["leave", "release-microphone", "explain"]);
  assert.equal(run(...events, READY_WITHIN_MS, CALL).state.phase, "connecting");
});

test("what refuses at once is tried again too, and success resets the count", () => {
  const once = run(CALL, { type: "attempt-failed", reason: "no-session" });
  assert.equal(once.state.phase, "retrying");
  const answered = run(CALL, { type: "attempt-failed", reason: "no-session" }, 1_000, "connected", "ready");
  assert.deepEqual([answered.state.phase, answered.state.failures], ["in-call", 0]);
});

test("an agent that falls silent is dialled again in place", () => {
  const silent = run(...IN_CALL, "heartbeat", SILENT_AFTER_MS);
  assert.deepEqual([silent.state.phase, silent.state.redial, silent.state.failures], ["connecting", true, 0]);
  assert.deepEqual(silent.effects, [
    { type: "leave", attempt: 1, unanswered: false, cleanup: false },
    { type: "start", attempt: 2 },
  ]);
  const alive = run(...IN_CALL, "heartbeat", SILENT_AFTER_MS - 1, "heartbeat", SILENT_AFTER_MS - 1, "audible", 6_000);
  assert.equal(alive.state.phase, "in-call");
});

test("an agent without signs of life is not taken for dead because of its silence", () => {
  assert.equal(run(...IN_CALL, "audible", 3_600_000).state.phase, "in-call");
});

test("an agent that leaves, and a connection that is lost, are dialled again; a room that the agent ends is the end", () => {
  assert.equal(run(...IN_CALL, "agent-left").state.phase, "connecting");
  assert.equal(run(...IN_CALL, { type: "disconnected", cause: "lost" }).state.phase, "connecting");
  const ended = run(...IN_CALL, { type: "disconnected", cause: "room-deleted" });
  assert.deepEqual([ended.state.phase, ended.state.reason], ["ended", "agent-ended"]);
  assert.equal(run(CALL, "connected", { type: "disconnected", cause: "room-deleted" }).state.phase, "retrying");
});

test("a connection that comes back goes on, one that does not is dialled again", () => {
  assert.equal(run(...IN_CALL, "reconnecting", "reconnected").state.phase, "in-call");
  assert.equal(run(...IN_CALL, "reconnecting", RECONNECT_WITHIN_MS).state.phase, "connecting");
  assert.equal(run(...IN_CALL, "heartbeat", "reconnecting", SILENT_AFTER_MS).state.phase, "connecting");
  assert.equal(run(CALL, "connected", "reconnecting", "ready").state.phase, "in-call");
});

test("hanging up cleans the room up, closing the page sends a beacon", () => {
  const hungUp = run(...IN_CALL, "hang-up");
  assert.equal(hungUp.state.reason, "hung-up");
  assert.deepEqual(hungUp.effects[0], { type: "leave", attempt: 1, unanswered: false, cleanup: true });
  assert.deepEqual(types(run(...IN_CALL, "page-closing")), ["beacon", "release-microphone"]);
  assert.deepEqual(types(run("page-closing")), []);
});

test("a microphone that can't be used is a matter for the caller: there is no retry", () => {
  for (const problem of ["denied", "missing", "taken", "insecure"]) {
    const failed = run(CALL, { type: "microphone-failed", problem });
    assert.deepEqual([failed.state.phase, failed.state.reason], ["failed", `microphone-${problem}`]);
  }
});

test("what an older attempt reports changes nothing", () => {
  const second = run(CALL, READY_WITHIN_MS, 1_000);
  for (const type of ["connected", "ready", "heartbeat", "agent-left", "reconnecting"]) {
    assert.deepEqual(step(second.state, { type, attempt: 1 }, second.now).state, second.state);
  }
});

/** Numbers that are the same in each run (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

test("the first attempt after a lost call is given up sooner, as the agents may not be back", () => {
  const lost = [...IN_CALL, { type: "disconnected", cause: "lost" }, "connected"];
  assert.equal(run(...lost, REDIAL_READY_WITHIN_MS - 1).state.phase, "waiting");
  const again = run(...lost, REDIAL_READY_WITHIN_MS, RETRY_DELAYS_MS[0], "connected");
  assert.deepEqual([again.state.phase, again.state.attempt, again.state.failures], ["waiting", 3, 1]);
  assert.equal(again.state.deadline - again.now, READY_WITHIN_MS, "later ones have their full time");
});

test("a device without network uses up no attempt, is dialled again once it has one, and is waited for a minute at most", () => {
  const offline = { type: "attempt-failed", reason: "offline" };
  const waiting = run(CALL, offline, OFFLINE_MS / 2);
  assert.deepEqual([waiting.state.phase, waiting.state.failures], ["retrying", 0]);
  const again = run(CALL, offline, OFFLINE_MS / 2, "online");
  assert.deepEqual([again.state.phase, again.state.attempt, ...types(again)], ["connecting", 2, "start"]);
  const interrupted = run(...IN_CALL, { type: "disconnected", cause: "lost" }, offline, "online", "connected", "ready");
  assert.deepEqual([interrupted.state.phase, interrupted.state.attempt], ["in-call", 3]);
  const over = run(CALL, offline, OFFLINE_MS);
  assert.deepEqual([over.state.phase, over.state.reason, ...types(over)], ["failed", "offline", "release-microphone"]);
  assert.deepEqual(types(run(...IN_CALL, "online")), [], "a call that is up goes on");
});

const EVENTS = [
  CALL,
  { type: "call", microphone: "unknown" },
  { type: "microphone-ready" },
  { type: "microphone-failed", problem: "taken" },
  ...["connected", "ready", "heartbeat", "audible", "agent-left", "reconnecting", "reconnected"].map((type) => ({ type })),
  { type: "disconnected", cause: "lost" },
  { type: "disconnected", cause: "room-deleted" },
  { type: "attempt-failed", reason: "no-connection" },
  { type: "attempt-failed", reason: "offline" },
  { type: "online" },
  { type: "hang-up" },
  { type: "page-closing" },
  { type: "tick" },
];
const LONGEST_MS = ASKING_MS;

test("after any of 10,000 random sequences of events, no state waits for ever and at most one room is open", () => {
  const next = random(20261122);
  const pick = (list) => list[Math.floor(next() * list.length)];
  const reached = new Set();
  for (let sequence = 0; sequence < 10_000; sequence += 1) {
    let state = initialState();
    let now = 0;
    let open = 0;
    const take = (event) => {
      const stepped = step(state, event, now);
      state = stepped.state;
      reached.add(state.phase);
      const problem = (text) => assert.fail(`${text} in ${state.phase} after ${event.type}, sequence ${sequence}`);
      for (const effect of stepped.effects) {
        if (effect.type === "start") open += 1;
        if (effect.type === "leave" || effect.type === "beacon") open -= 1;
        if (open !== 0 && open !== 1) problem(`${open} rooms`);
      }
      if (isActive(state) && state.phase !== "in-call" && state.deadline === null) problem("no deadline");
      if (state.deadline !== null && state.deadline - now > LONGEST_MS) problem("a late deadline");
      if (!isActive(state) && (open || state.deadline !== null)) problem("something left");
    };
    for (let length = Math.floor(next() * 40); length > 0; length -= 1) {
      now += Math.floor(next() * 4_000);
      const event = pick(EVENTS);
      const attempt = next() < 0.9 ? state.attempt : state.attempt - 1;
      take(of(attempt, event));
    }
    // From here on nothing happens any more but time.
    for (let ticks = 0; state.deadline !== null; ticks += 1) {
      if (ticks > 20) assert.fail(`${state.phase} goes on for ever`);
      now = state.deadline;
      take({ type: "tick" });
    }
    assert.ok(["idle", "in-call", "ended", "failed"].includes(state.phase), state.phase);
  }
  assert.equal(reached.size, 9);
});
