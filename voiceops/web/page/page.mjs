// @ts-check
/** The page: shows what `VoiceCall` does, and passes on what a person wants. */

import { isActive } from "./call-machine.mjs";
import { describe, meterLevel } from "./view.mjs";
import { VoiceCall } from "./voiceops-client.js";

const MICROPHONE_KEY = "voiceops.microphone";

/** @template {HTMLElement} T @param {string} id @returns {T} */
function element(id) {
  return /** @type {T} */ (document.getElementById(id));
}

const ui = {
  card: element("card"),
  title: element("title"),
  hint: element("hint"),
  call: /** @type {HTMLButtonElement} */ (element("call")),
  mute: /** @type {HTMLButtonElement} */ (element("mute")),
  microphone: /** @type {HTMLSelectElement} */ (element("microphone")),
  you: /** @type {HTMLMeterElement} */ (element("you")),
  agent: /** @type {HTMLMeterElement} */ (element("agent")),
  sound: /** @type {HTMLButtonElement} */ (element("sound")),
  details: /** @type {HTMLDetailsElement} */ (element("details")),
  findings: element("findings"),
  transcript: element("transcript"),
};

const call = new VoiceCall({
  livekit: /** @type {any} */ (globalThis).LivekitClient,
  microphone: remembered(),
});

// For the console, and for tests.
Object.assign(globalThis, { voiceCall: call });

/** Storage may be blocked; the choice is then forgotten, and nothing else happens. */
function remembered() {
  try {
    return localStorage.getItem(MICROPHONE_KEY) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} deviceId */
function remember(deviceId) {
  try {
    localStorage.setItem(MICROPHONE_KEY, deviceId);
  } catch {
    // See above.
  }
}

function render() {
  const { tone, title, hint } = describe(call.state);
  const active = isActive(call.state);
  document.documentElement.dataset.phase = call.state.phase;
  ui.card.dataset.tone = tone;
  say(ui.title, title);
  say(ui.hint, hint);
  say(ui.call, active ? "Hang up" : call.state.phase === "idle" ? "Call" : "Call again");
  ui.call.dataset.does = active ? "hang-up" : "call";
  ui.mute.disabled = !active;
  ui.mute.setAttribute("aria-pressed", String(call.muted));
  say(ui.mute, call.muted ? "Unmute" : "Mute");
  if (call.state.phase !== "failed") ui.details.hidden = true;
  if (!active) ui.sound.hidden = true;
}

/** A live region is read aloud again whenever it is written, also with the same text. @param {HTMLElement} where @param {string} text */
function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  const inputs = devices.filter((one) => one.kind === "audioinput" && one.deviceId);
  const options = [new Option("The browser's choice", "")];
  inputs.forEach((one, index) => options.push(new Option(one.label || `Microphone ${index + 1}`, one.deviceId)));
  ui.microphone.replaceChildren(...options);
  ui.microphone.value = inputs.some((one) => one.deviceId === call.microphone) ? call.microphone : "";
  call.microphone = ui.microphone.value;
}

function showLevels() {
  const { you, agent } = call.levels();
  ui.you.value = call.muted ? 0 : meterLevel(you);
  ui.agent.value = meterLevel(agent);
}

/** @param {{id: string, who: string, text: string, final: boolean}} line */
function showTranscript({ id, who, text, final }) {
  const known = [...ui.transcript.children].find((one) => /** @type {HTMLElement} */ (one).dataset.segment === id);
  const item = /** @type {HTMLElement} */ (known ?? ui.transcript.appendChild(document.createElement("li")));
  item.dataset.segment = id;
  item.dataset.who = who;
  item.setAttribute("aria-busy", String(!final));
  item.textContent = `${who === "you" ? "You" : "Agent"}: ${text}`;
  element("conversation").hidden = false;
  item.scrollIntoView({ block: "nearest" });
}

/** @param {{text: string, detail: string}[]} findings */
function showFindings(findings) {
  const lines = findings.map(({ text, detail }) => {
    const item = document.createElement("li");
    item.textContent = detail ? `${text} ${detail}` : text;
    return item;
  });
  ui.findings.replaceChildren(...lines);
  ui.details.hidden = !lines.length;
}

call.addEventListener("state", () => {
  render();
  if (call.state.phase === "in-call") void listMicrophones(); // names come with the permission
});
call.addEventListener("audio-blocked", () => {
  ui.sound.hidden = false;
});
call.addEventListener("transcript", (event) => showTranscript(/** @type {CustomEvent} */ (event).detail));
call.addEventListener("causes", (event) => showFindings(/** @type {CustomEvent} */ (event).detail));

ui.call.addEventListener("click", () => {
  if (isActive(call.state)) return call.hangUp();
  ui.transcript.replaceChildren();
  element("conversation").hidden = true;
  void call.call();
});
ui.mute.addEventListener("click", () => void call.setMuted(!call.muted));
ui.sound.addEventListener("click", () => {
  ui.sound.hidden = true;
  void call.resumeAudio();
});
ui.microphone.addEventListener("change", () => {
  remember(ui.microphone.value);
  call.setMicrophone(ui.microphone.value).catch(() => void listMicrophones());
});
navigator.mediaDevices?.addEventListener("devicechange", () => void listMicrophones());

setInterval(showLevels, matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 66);
void listMicrophones();
render();
