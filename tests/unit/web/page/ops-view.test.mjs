// What the dashboard says of what it was told, run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  actionText,
  chart,
  incidentText,
  liveness,
  merge,
  notKnown,
  servedBy,
  shownText,
  sortedIncidents,
  sortedRooms,
  summary,
  timeSpan,
} from "../../../../voiceops/web/page/ops-view.mjs";

const HOST = {
  services_read: true,
  services_error: "",
  has_rooms: true,
  rooms_read: true,
  rooms_error: "",
  call_count: 0,
  knows_agents: true,
};

function told(...messages) {
  const sections = new Map();
  for (const one of messages) merge(sections, one);
  return sections;
}

test("messages add, change and remove rows, and a reset forgets what was there", () => {
  const sections = told(
    { reset: true, sections: { rooms: { rows: { a: { name: "one" }, b: { name: "two" } } } } },
    { sections: { rooms: { rows: { b: { name: "three" } }, gone: ["a"] } } },
  );
  assert.deepEqual([...sections.get("rooms")], [["b", { name: "three" }]]);
  assert.deepEqual([...merge(sections, { reset: true, sections: { calls: { rows: {} } } })].sort(), ["calls", "rooms"]);
  assert.equal(sections.has("rooms"), false);
});

test("what is not known is not called nothing", () => {
  const unread = { ...HOST, services_read: false, rooms_read: false };
  const reading = told({ sections: { hosts: { rows: { here: unread } } } });
  assert.equal(summary(reading).text, "Reading the stack");
  const failed = { ...HOST, rooms_read: false, rooms_error: "LiveKit does not answer", call_count: null };
  const sections = told({ sections: { hosts: { rows: { here: failed } } } });
  assert.match(summary(sections).text, /calls unknown, rooms unknown/);
  assert.equal(notKnown(sections, "rooms"), "here: rooms unknown: LiveKit does not answer");
  const waiting = { agent: null, people: 1, created_at: 0 };
  assert.equal(servedBy(waiting, { ...HOST, knows_agents: false }, 100).text, "unknown");
  assert.equal(servedBy(waiting, HOST, 5).text, "none yet");
  assert.deepEqual(servedBy(waiting, HOST, 100), { text: "none", tone: "problem" });
});

test("the head is green only while all is ready and nothing is open", () => {
  const service = { state: "ready" };
  const incident = { ended_at: null };
  const good = told({ sections: { hosts: { rows: { here: HOST } }, services: { rows: { a: service } } } });
  assert.deepEqual(summary(good), { text: "1 of 1 service ready, 0 calls, 0 rooms", tone: "live" });
  merge(good, { sections: { incidents: { rows: { i: incident } } } });
  assert.equal(summary(good).tone, "problem");
});

test("rooms in which somebody waits come first, incidents that go on before those that are over", () => {
  const room = (name, people, agent, created_at) => ({ host: "here", name, people, agent, created_at });
  const rooms = [room("empty", 0, null, 1), room("call", 1, "agent", 2), room("waits", 1, null, 3)];
  const sections = told({ sections: { hosts: { rows: { here: HOST } } } });
  assert.deepEqual(sortedRooms(rooms, sections, 100).map((one) => one.name), ["waits", "call", "empty"]);
  const incidents = [
    { id: "new", began_at: 9, ended_at: 10 },
    { id: "open", began_at: 1, ended_at: null },
    { id: "old", began_at: 2, ended_at: 3 },
  ];
  assert.deepEqual(sortedIncidents(incidents).map((one) => one.id), ["open", "new", "old"]);
  assert.match(incidentText({ ...incidents[1], cause: "down", subject: "agent", sentence: "" }, 61), /open for 60 s: agent: down/);
});

test("a connection that is lost or silent says so", () => {
  assert.equal(liveness({ connected: true, heardAt: 99 }, 100, "").tone, "live");
  assert.match(liveness({ connected: false, heardAt: 99 }, 100, "").text, /Connection lost/);
  assert.match(liveness({ connected: true, heardAt: 80 }, 100, "").text, /Nothing heard for 20 s/);
  assert.match(liveness({ connected: true, heardAt: 99 }, 100, "no inventory").text, /no inventory/);
});

test("the chart has a full bar for a call that nobody answered", () => {
  const call = (started_at, answer_s, outcome = "answered") => ({ started_at, answer_s, outcome, detail: "" });
  const { bars, text } = chart([call(2, null, "unanswered"), call(1, 0.5)], 10);
  assert.deepEqual(bars.map((one) => [one.height, one.good]), [[0.5, true], [1, false]]);
  assert.equal(text, "1 of 2 calls good, p50 0.50 s, p95 0.50 s; a full bar is 1.0 s.");
  assert.equal(chart([], 10).text, "No calls in the last 24 h.");
});

test("an action whose end nobody saw is not called done", () => {
  const action = { at: 0, by: "this machine", action: "restart", service: "agent", ended_at: null, exit_code: null };
  assert.match(actionText({ ...action, running: true }, 1), /restart agent: running/);
  assert.match(actionText(action, 1), /nobody saw it end/);
  assert.match(actionText({ ...action, ended_at: 1, exit_code: 1, said: "locked" }, 1), /exit code 1: locked/);
});

test("text that would reorder or hide other text is written out", () => {
  assert.equal(shownText("a\u202eb\u0007\n"), "a\\u202eb\\u0007\\u000a");
  assert.equal(timeSpan(null), "unknown");
  assert.equal(timeSpan(3 * 86_400 + 3600), "3 d 1 h");
});
