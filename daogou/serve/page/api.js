// The server's API: JSON out and in, and what went wrong in words that a person can act on.

import { key, state } from "./state.js";
import { t } from "./words.js";

/** A refusal or a silence; `title` says what happened, `hint` what to do. */
export class Problem extends Error {
  constructor(status, reasons = []) {
    super(reasons.join("; ") || `HTTP ${status}`);
    this.status = status;
    this.reasons = reasons;
    const kind = { 0: "offline", 401: "key", 403: "scope", 404: "missing", 429: "busy", 503: "away" };
    this.kind = kind[status] ?? (status < 500 ? "refused" : "fault");
    this.title = t(`problem.${this.kind}`);
    this.hint = t(`problem.${this.kind}.hint`);
  }
}

async function ask(method, path, { body, signal, text = false } = {}) {
  const headers = { Accept: text ? "text/plain" : "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0);
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Problem(answer.status, told.reasons ?? []);
  }
  return text ? answer.text() : answer.json();
}

const path = (strings, ...values) =>
  strings.reduce((all, part, i) => all + encodeURIComponent(values[i - 1]) + part);

const about = () => ({ user: state.shopper, lang: state.lang });

export const api = {
  shop: (options) => ask("GET", path`/v1/shop?lang=${state.lang}`, options),
  recommend: (wishes, options) =>
    ask("POST", "/v1/recommend", { ...options, body: { ...about(), ...wishes } }),
  guide: (turn, options) =>
    ask("POST", "/v1/guide", { ...options, body: { ...about(), ...turn } }),
  search: (wishes, options) =>
    ask("POST", "/v1/search", { ...options, body: { ...about(), ...wishes } }),
  explain: (item, options) =>
    ask("POST", "/v1/explain", { ...options, body: { ...about(), item } }),
  extract: (texts, options) => ask("POST", "/v1/attributes:extract", { ...options, body: { texts } }),
  similar: (item, k, options) =>
    ask("POST", path`/v1/items/${item}/similar`, { ...options, body: { k } }),
  products: async (items, options) => {
    if (!items.length) return new Map();
    const found = await ask("POST", "/v1/products", { ...options, body: { items } });
    return new Map(found.products.map((each) => [each.item, each]));
  },
  event: (event) =>
    ask("POST", "/v1/events", {
      body: { events: [{ event_id: newId(), user: state.shopper, ...event }] },
    }),
  profile: (options) =>
    ask("GET", path`/v1/users/${state.shopper}/profile?lang=${state.lang}`, options),
  edit: (edits) => ask("PATCH", path`/v1/users/${state.shopper}/profile`, { body: edits }),
  events: (options) => ask("GET", path`/v1/users/${state.shopper}/events?last=20`, options),
  forget: () => ask("DELETE", path`/v1/users/${state.shopper}`),
  models: (options) => ask("GET", "/v1/models", options),
  documents: (options) => ask("GET", path`/v1/models/documents?lang=${state.lang}`, options),
  metrics: (options) => ask("GET", "/metrics", { ...options, text: true }),
};

/** A name that nothing else has; `crypto.randomUUID` is missing on plain http. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
