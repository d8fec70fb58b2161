// What the page remembers between visits: language, theme, who shops, and the key to the API.

const NAME = "daogou";
const listeners = new Set();

function stored() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {}; // storage is closed or holds something else
  }
}

const preferred = navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en";

export const state = { lang: preferred, theme: null, shopper: null, ...stored() };
if (!["en", "zh"].includes(state.lang)) state.lang = preferred;

/** Change what is remembered, and tell whoever listens. */
export function remember(changes) {
  Object.assign(state, changes);
  try {
    localStorage.setItem(NAME, JSON.stringify(state));
  } catch {
    // it lasts until the page is closed
  }
  for (const listener of listeners) listener(changes);
}

export function onChange(listener) {
  listeners.add(listener);
}

/** The key lives as long as the tab: it opens more than a theme does. */
export const key = {
  get: () => sessionStorage.getItem(`${NAME}-key`) ?? "",
  set: (value) => sessionStorage.setItem(`${NAME}-key`, value),
};
