// @ts-check
/** What a person reads in each state of a call. Pure: tested without a browser. */

/** @typedef {import("./call-machine.mjs").CallState} CallState */

/** @typedef {{tone: "calm" | "busy" | "live" | "problem", title: string, hint: string}} Words */

/** @type {Record<string, [string, string]>} */
const ENDED = {
  "hung-up": ["Call ended", "You have hung up."],
  "agent-ended": ["Call ended", "The agent has ended the call."],
  "page-closed": ["Call ended", "The page was closed."],
};

/** @type {Record<string, [string, string]>} */
const FAILED = {
  "microphone-denied": [
    "The microphone is blocked",
    "This page may not use your microphone. Click the icon left of the address, allow the microphone, then call again.",
  ],
  "microphone-missing": ["There is no microphone", "Connect a microphone or a headset, then call again."],
  "microphone-taken": [
    "The microphone is in use",
    "Another program or page holds it. Close that one, or choose another microphone below, then call again.",
  ],
  "microphone-insecure": [
    "The microphone can't be used here",
    "Browsers allow the microphone only on pages with https. Open this page by its https address.",
  ],
  "microphone-unanswered": [
    "The microphone was not allowed",
    "The browser asks whether this page may use the microphone. Call again, then choose Allow.",
  ],
  offline: ["You are offline", "This device has no network. Connect it, then call again."],
  "too-many": ["Too many calls", "Many calls came from your network. Wait a minute, then call again."],
};

/**
 * @param {CallState} state
 * @returns {Words}
 */
export function describe(state) {
  switch (state.phase) {
    case "idle":
      return { tone: "calm", title: "Ready", hint: "Press Call to talk to the agent." };
    case "asking":
      return { tone: "busy", title: "Allow the microphone", hint: "Your browser asks for it: the agent has to hear you." };
    case "connecting":
      return state.redial
        ? { tone: "busy", title: "The call was interrupted", hint: "Dialling again. You need not do anything." }
        : { tone: "busy", title: "Connecting", hint: again(state) };
    case "waiting":
      return { tone: "busy", title: "Waiting for the agent", hint: again(state) };
    case "in-call":
      return { tone: "live", title: "In call", hint: "The agent hears you." };
    case "reconnecting":
      return { tone: "busy", title: "Reconnecting", hint: "The connection is weak. You need not do anything." };
    case "retrying":
      if (state.reason === "offline") {
        return { tone: "busy", title: "You are offline", hint: "The call goes on by itself once this device has a network." };
      }
      return { tone: "busy", title: "No answer yet", hint: `Trying again in a moment (${state.failures} of 3).` };
    case "ended": {
      const [title, hint] = ENDED[state.reason] ?? ENDED["hung-up"];
      return { tone: "calm", title, hint };
    }
    case "failed": {
      const [title, hint] = FAILED[state.reason] ?? [
        "Nobody answers",
        "The agent could not be reached. Check your connection, then call again. If it stays so, tell whoever runs this page.",
      ];
      return { tone: "problem", title, hint };
    }
  }
}

/** @param {CallState} state */
function again(state) {
  return state.failures ? `Attempt ${state.failures + 1} of 4.` : "This takes a second or two.";
}

/**
 * A level of 0 to 1 for a meter from the root mean square of samples: decibels from -60 to -10.
 *
 * @param {number} rms
 */
export function meterLevel(rms) {
  if (!(rms > 0)) return 0;
  return Math.min(1, Math.max(0, (20 * Math.log10(rms) + 60) / 50));
}
