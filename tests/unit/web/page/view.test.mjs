// What a person reads, and how loud is shown, run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { initialState } from "../../../../voiceops/web/page/call-machine.mjs";
import { describe, meterLevel } from "../../../../voiceops/web/page/view.mjs";

const words = (changes) => describe({ ...initialState(), ...changes });

test("each phase has words of its own", () => {
  const phases = ["idle", "asking", "connecting", "waiting", "in-call", "reconnecting", "retrying", "ended", "failed"];
  const titles = phases.map((phase) => words({ phase }).title);
  assert.equal(new Set(titles).size, phases.length);
  assert.ok(phases.every((phase) => words({ phase }).hint.length > 10));
});

test("each problem with a microphone names the way out", () => {
  for (const problem of ["denied", "missing", "taken", "insecure", "unanswered"]) {
    const { title, hint } = words({ phase: "failed", reason: `microphone-${problem}` });
    assert.match(title, /microphone/i);
    assert.match(hint, /call again|https/i);
  }
});

test("a retry says which attempt it is, a lost call that it is dialled again", () => {
  assert.match(words({ phase: "connecting", failures: 2 }).hint, /Attempt 3 of 4/);
  assert.match(words({ phase: "connecting", redial: true }).hint, /Dialling again/);
});

test("a device without network is told so, and not that nobody answers", () => {
  assert.equal(words({ phase: "retrying", reason: "offline" }).title, "You are offline");
  assert.match(words({ phase: "failed", reason: "offline" }).hint, /call again/);
});

test("a meter is empty in silence and full at -10 dB", () => {
  assert.equal(meterLevel(0), 0);
  assert.equal(meterLevel(0.001), 0);
  assert.equal(meterLevel(0.1), 0.8);
  assert.equal(meterLevel(1), 1);
});
