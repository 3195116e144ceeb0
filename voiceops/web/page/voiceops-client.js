// @ts-check
/**
 * A call to an agent that never waits for ever: `call-machine.mjs` bound to livekit-client and to the server's API.
 *
 *     import { VoiceCall } from "https://voice.example.com/voiceops-client.js";
 *     import * as livekit from "livekit-client";
 *
 *     const call = new VoiceCall({ livekit, server: "https://voice.example.com" });
 *     call.addEventListener("state", () => render(call.state));
 *     button.onclick = () => call.call();
 *
 * Events: `state` (see `state`), `transcript` (detail: `{id, who, text, final}`), `audio-blocked` (the browser wants a
 * click before it plays sound: call `resumeAudio()` in one), `causes` (detail: findings of the server).
 */

import { initialState, isActive, step } from "./call-machine.mjs";

/** @typedef {import("./call-machine.mjs").CallState} CallState */
/** @typedef {import("./call-machine.mjs").CallEvent} CallEvent */
/** @typedef {import("./call-machine.mjs").Effect} Effect */

/**
 * @typedef {object} VoiceCallOptions
 * @property {any} livekit     The module livekit-client (2.x).
 * @property {string} [server] Where the service of kind web is; default: the page's own origin.
 * @property {string} [microphone]  Device id; default: the browser's choice.
 * @property {MediaTrackConstraints} [audio]  For getUserMedia: echo cancellation and the like.
 */

/**
 * @typedef {object} Attempt
 * @property {number} number
 * @property {any} room
 * @property {string} token
 * @property {string} ticket  By it the room is ended when the page goes before it has the token.
 * @property {ReturnType<typeof setInterval> | undefined} renewal
 * @property {boolean} left
 * @property {Map<any, HTMLMediaElement>} playing
 */

const READY_ATTRIBUTE = "voiceops.ready";
const READY_TOPIC = "voiceops.ready";
const ALIVE_TOPIC = "voiceops.alive";
const CLEANUP_TOPIC = "room_cleanup";
const STATE_ATTRIBUTE = "lk.agent.state";
const LISTENING = new Set(["listening", "thinking", "speaking"]);
const AGENT_KIND = 4;
const ROOM_DELETED = 5;
const AUDIBLE_RMS = 0.003;
const POLL_MS = 250;
const FAREWELL_MS = 400;

export class VoiceCall extends EventTarget {
  /** @param {VoiceCallOptions} options */
  constructor({ livekit, server = "", microphone = "", audio = {} }) {
    super();
    this.livekit = livekit;
    this.server = server.replace(/\/$/, "");
    this.microphone = microphone;
    this.audio = audio;
    /** @type {CallState} */
    this.state = initialState();
    this.muted = false;
    /** @type {Attempt | null} */
    this.attempt = null;
    /** @type {Promise<MediaStreamTrack> | null} */
    this.track = null;
    /** @type {AudioContext | null} */
    this.context = null;
    /** @type {Record<"you" | "agent", AnalyserNode | null>} */
    this.meters = { you: null, agent: null };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.poll = setInterval(() => this.#listen(), POLL_MS);
    this.onOnline = () => this.#take({ type: "online" });
    addEventListener("online", this.onOnline);
    this.onPageHide = () => this.#take({ type: "page-closing" });
    // Twice: of the listeners of a tab that is closed, Firefox now and then leaves one out.
    for (const capture of [true, false]) addEventListener("pagehide", this.onPageHide, { capture });
  }

  /** Begin a call; does nothing while one goes on. Call it in a click: browsers want one for microphone and sound. */
  async call() {
    if (isActive(this.state)) return;
    this.context ??= new AudioContext();
    void this.context.resume();
    this.#take({ type: "call", microphone: await permission() });
  }

  /** End the call; safe at any time. */
  hangUp() {
    this.#take({ type: "hang-up" });
  }

  /** Stop sending what the microphone hears, or send it again. @param {boolean} muted */
  async setMuted(muted) {
    this.muted = muted;
    const track = await this.track?.catch(() => null);
    if (track) track.enabled = !muted;
    this.dispatchEvent(new Event("state"));
  }

  /** Use another microphone, also within a call; rejects where it can't be used, and the old one goes on. @param {string} deviceId */
  async setMicrophone(deviceId) {
    const before = this.microphone;
    this.microphone = deviceId;
    const old = await this.track?.catch(() => null);
    if (!old) return;
    try {
      const fresh = await this.#grabMicrophone();
      const [publication] = this.attempt?.room?.localParticipant.audioTrackPublications.values() ?? [];
      await publication?.track?.replaceTrack(fresh, true);
      this.track = Promise.resolve(fresh);
      old.stop();
    } catch (error) {
      this.microphone = before;
      throw error;
    }
  }

  /** Play the agent's sound after the browser has blocked it; call it in a click. */
  async resumeAudio() {
    await this.context?.resume();
    await this.attempt?.room.startAudio();
  }

  /** How loud both sides are now, as root mean square of samples, 0 to 1. */
  levels() {
    return { you: rms(this.meters.you), agent: rms(this.meters.agent) };
  }

  /** End the call and give everything back. */
  close() {
    this.hangUp();
    clearInterval(this.poll);
    removeEventListener("online", this.onOnline);
    for (const capture of [true, false]) removeEventListener("pagehide", this.onPageHide, { capture });
    void this.context?.close();
    this.context = null;
  }

  /** @param {CallEvent} event */
  #take(event) {
    const before = this.state;
    const { state, effects } = step(before, event, performance.now());
    this.state = state;
    clearTimeout(this.timer);
    if (state.deadline !== null) {
      this.timer = setTimeout(() => this.#take({ type: "tick" }), Math.max(0, state.deadline - performance.now()) + 1);
    }
    for (const effect of effects) this.#carryOut(effect);
    if (before.phase !== state.phase || before.failures !== state.failures || before.attempt !== state.attempt || before.reason !== state.reason) {
      this.dispatchEvent(new Event("state"));
    }
  }

  /** @param {Effect} effect */
  #carryOut(effect) {
    switch (effect.type) {
      case "microphone":
        this.track = this.#openMicrophone();
        this.track.catch(() => {}); // the state says it
        break;
      case "start":
        void this.#start(effect.attempt);
        break;
      case "leave":
        if (this.attempt?.number === effect.attempt) void this.#leave(this.attempt, effect.unanswered, effect.cleanup);
        break;
      case "beacon":
        if (this.attempt) this.#beacon(this.attempt);
        break;
      case "release-microphone":
        void this.track?.then((track) => track.stop()).catch(() => {});
        this.track = null;
        this.meters.you = null;
        break;
      case "explain":
        void this.#explain();
        break;
    }
  }

  /** @returns {Promise<MediaStreamTrack>} */
  async #openMicrophone() {
    try {
      const track = await this.#grabMicrophone();
      this.#take({ type: "microphone-ready" });
      return track;
    } catch (error) {
      this.#take({ type: "microphone-failed", problem: microphoneProblem(error) });
      throw error;
    }
  }

  /** @returns {Promise<MediaStreamTrack>} */
  async #grabMicrophone() {
    if (!navigator.mediaDevices) throw new DOMException("no secure context", "SecurityError");
    const wanted = this.microphone ? { deviceId: { exact: this.microphone } } : {};
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { ...this.audio, ...wanted } });
    const [track] = stream.getAudioTracks();
    track.enabled = !this.muted;
    this.meters.you = this.#meter(track);
    return track;
  }

  /** @param {number} number */
  async #start(number) {
    /** @type {Attempt} */
    const attempt = { number, room: null, token: "", ticket: randomTicket(), renewal: undefined, left: false, playing: new Map() };
    this.attempt = attempt;
    try {
      const session = await this.#post("/api/session", { ticket: attempt.ticket }, { keepalive: false });
      attempt.token = session.token;
      if (attempt.left) return void this.#end(attempt, false);
      attempt.renewal = setInterval(() => void this.#renew(attempt), (session.expires_s * 1000) / 2);
      // Its own way of leaving begins with `beforeunload`, which a link to a mail address fires too; `pagehide` is ours.
      const room = new this.livekit.Room({ disconnectOnPageLeave: false });
      attempt.room = room;
      this.#follow(room, attempt);
      await room.connect(session.url, session.token);
      if (attempt.left) return void room.disconnect();
      this.#take({ type: "connected", attempt: number });
      this.#look(attempt);
      const track = await this.track;
      if (track && !attempt.left) {
        const source = this.livekit.Track.Source.Microphone;
        // Ours: it outlives this room, when the next attempt needs it.
        await room.localParticipant.publishTrack(track, { source, stopMicTrackOnMute: false });
      }
    } catch (error) {
      if (!attempt.left) this.#take({ type: "attempt-failed", attempt: number, reason: reasonOf(error) });
    }
  }

  /** @param {any} room @param {Attempt} attempt */
  #follow(room, attempt) {
    const { RoomEvent } = this.livekit;
    const number = attempt.number;
    const look = () => this.#look(attempt);
    for (const event of [RoomEvent.ParticipantConnected, RoomEvent.ParticipantAttributesChanged, RoomEvent.TrackPublished]) {
      room.on(event, look);
    }
    room.on(RoomEvent.ParticipantActive, look);
    room.on(RoomEvent.ParticipantDisconnected, (/** @type {any} */ who) => {
      if (isAgent(who) && !agents(room).some(isReady)) this.#take({ type: "agent-left", attempt: number });
    });
    room.on(RoomEvent.Reconnecting, () => this.#take({ type: "reconnecting", attempt: number }));
    room.on(RoomEvent.SignalReconnecting, () => this.#take({ type: "reconnecting", attempt: number }));
    room.on(RoomEvent.Reconnected, () => this.#take({ type: "reconnected", attempt: number }));
    room.on(RoomEvent.Disconnected, (/** @type {number | undefined} */ reason) => {
      const cause = reason === ROOM_DELETED ? "room-deleted" : "lost";
      if (!attempt.left) this.#take({ type: "disconnected", attempt: number, cause });
    });
    room.on(RoomEvent.DataReceived, (/** @type {Uint8Array} */ _data, /** @type {any} */ who, /** @type {any} */ _kind, /** @type {string} */ topic) => {
      if (topic === READY_TOPIC && isAgent(who)) this.#take({ type: "ready", attempt: number });
      if (topic === ALIVE_TOPIC && isAgent(who)) this.#take({ type: "heartbeat", attempt: number });
    });
    room.on(RoomEvent.TrackSubscribed, (/** @type {any} */ track) => this.#play(track, attempt));
    room.on(RoomEvent.TrackUnsubscribed, (/** @type {any} */ track) => silence(track, attempt));
    room.on(RoomEvent.AudioPlaybackStatusChanged, () => {
      if (!room.canPlaybackAudio) this.dispatchEvent(new Event("audio-blocked"));
    });
    room.on(RoomEvent.TranscriptionReceived, (/** @type {any[]} */ segments, /** @type {any} */ who) => {
      for (const { id, text, final } of segments) {
        const detail = { id, text, final, who: who?.identity === room.localParticipant.identity ? "you" : "agent" };
        this.dispatchEvent(new CustomEvent("transcript", { detail }));
      }
    });
  }

  /** @param {Attempt} attempt */
  #look(attempt) {
    if (!attempt.left && agents(attempt.room).some(isReady)) this.#take({ type: "ready", attempt: attempt.number });
  }

  /** @param {any} track @param {Attempt} attempt */
  #play(track, attempt) {
    if (track.kind !== "audio") return;
    const element = track.attach();
    element.hidden = true;
    document.body.append(element);
    attempt.playing.set(track, element);
    this.meters.agent = this.#meter(track.mediaStreamTrack);
  }

  /** @param {MediaStreamTrack} track @returns {AnalyserNode | null} */
  #meter(track) {
    if (!this.context) return null;
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 2048;
    this.context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    return analyser;
  }

  /** What is heard is a sign of life. */
  #listen() {
    if (this.attempt && rms(this.meters.agent) > AUDIBLE_RMS) {
      this.#take({ type: "audible", attempt: this.attempt.number });
    }
  }

  /** @param {Attempt} attempt @param {boolean} unanswered @param {boolean} cleanup */
  async #leave(attempt, unanswered, cleanup) {
    attempt.left = true;
    clearInterval(attempt.renewal);
    this.meters.agent = null;
    for (const track of attempt.playing.keys()) silence(track, attempt);
    const { room } = attempt;
    if (room && cleanup) await bidFarewell(room);
    if (attempt.token) this.#end(attempt, unanswered);
    await room?.disconnect(false);
  }

  /** @param {Attempt} attempt */
  #beacon(attempt) {
    const { token, ticket, room } = attempt;
    attempt.left = true;
    clearInterval(attempt.renewal);
    navigator.sendBeacon(`${this.server}/api/end`, JSON.stringify(token ? { token } : { ticket }));
    void room?.disconnect(false);
  }

  /** @param {Attempt} attempt @param {boolean} unanswered */
  #end(attempt, unanswered) {
    this.#post("/api/end", { token: attempt.token, unanswered }).catch(() => {});
  }

  /** @param {Attempt} attempt */
  async #renew(attempt) {
    try {
      attempt.token = (await this.#post("/api/token", { token: attempt.token })).token;
    } catch {
      // The call goes on without it: only the room's end is then left to the server.
    }
  }

  async #explain() {
    try {
      const { findings, report } = await (await fetch(`${this.server}/api/why`)).json();
      this.dispatchEvent(new CustomEvent("causes", { detail: findings }));
      if (!report) return;
      // For operators there is more, which takes some seconds.
      const whole = await (await fetch(`${this.server}/api/why?report=1`)).json();
      this.dispatchEvent(new CustomEvent("causes", { detail: whole.findings }));
    } catch {
      const finding = { code: "page-offline", text: "This page's own server can't be reached.", detail: "" };
      this.dispatchEvent(new CustomEvent("causes", { detail: [finding] }));
    }
  }

  /** @param {string} path @param {object} [body] @param {{keepalive: boolean}} [how] @returns {Promise<any>} */
  async #post(path, body, { keepalive } = { keepalive: true }) {
    // A plain string is sent as text/plain, which other origins may send without asking first.
    const init = { method: "POST", keepalive, body: body ? JSON.stringify(body) : undefined };
    const answer = await fetch(this.server + path, init);
    if (!answer.ok) throw Object.assign(new Error(`${path} answered ${answer.status}`), { status: answer.status });
    return answer.status === 202 ? null : answer.json();
  }
}

/** Ask the agent to end the call and its room, and give the message time to leave. @param {any} room */
async function bidFarewell(room) {
  if (room.state !== "connected") return;
  const gone = new Promise((resolve) => room.once("disconnected", resolve));
  try {
    await room.localParticipant.publishData(new TextEncoder().encode("{}"), { reliable: true, topic: CLEANUP_TOPIC });
  } catch {
    return; // the server deletes the room
  }
  await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, FAREWELL_MS))]);
}

/** @param {any} track @param {Attempt} attempt */
function silence(track, attempt) {
  const element = attempt.playing.get(track);
  if (!element) return;
  track.detach(element);
  element.remove();
  attempt.playing.delete(track);
}

/** @param {any} participant */
function isAgent(participant) {
  return participant?.kind === AGENT_KIND || participant?.isAgent === true;
}

/** @param {any} room @returns {any[]} */
function agents(room) {
  return room ? [...room.remoteParticipants.values()].filter(isAgent) : [];
}

/** Whether an agent listens: its own word first, then the state of its session, then its sound. @param {any} agent */
export function isReady(agent) {
  const said = agent.attributes?.[READY_ATTRIBUTE];
  if (said !== undefined) return said === "1";
  const state = agent.attributes?.[STATE_ATTRIBUTE];
  if (state !== undefined) return LISTENING.has(state);
  return agent.audioTrackPublications.size > 0;
}

/** @param {any} error @returns {"denied" | "missing" | "taken" | "insecure"} */
export function microphoneProblem(error) {
  switch (error?.name) {
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "taken";
    case "SecurityError":
      return "insecure";
    default:
      return "denied";
  }
}

function randomTicket() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

/** @param {any} error @returns {import("./call-machine.mjs").Reason} */
function reasonOf(error) {
  if (error?.status) return error.status === 429 ? "too-many" : "no-session";
  if (navigator.onLine === false) return "offline";
  return error instanceof TypeError ? "no-session" : "no-connection";
}

/** @returns {Promise<"granted" | "unknown">} */
async function permission() {
  try {
    const status = await navigator.permissions.query({ name: /** @type {any} */ ("microphone") });
    return status.state === "granted" ? "granted" : "unknown";
  } catch {
    return "unknown"; // a browser that can't say
  }
}

/** @param {AnalyserNode | null} analyser */
function rms(analyser) {
  if (!analyser) return 0;
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  return Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
}
