// The frame around every view: the bar, the address, and who is shopping.

import { api } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { choose, isChosen } from "./shopper.js";
import { onChange, remember, state } from "./state.js";
import { deedOf, t } from "./words.js";
import { problem, quiet } from "./parts.js";
import * as guide from "./guide.js";
import * as model from "./model.js";
import * as product from "./product.js";
import * as profile from "./profile.js";
import * as search from "./search.js";

// What stands behind each address, and which part of the bar it belongs to.
const VIEWS = {
  guide: { view: guide, part: "guide", needsShopper: true },
  search: { view: search, part: "guide", needsShopper: true },
  product: { view: product, part: "guide", needsShopper: true },
  profile: { view: profile, part: "profile", needsShopper: true },
  model: { view: model, part: "model", needsShopper: false },
};

const bar = document.querySelector(".bar");
const main = document.querySelector("main");
let shop = null;
let shown = new AbortController();
let first = true;

/** `#/product/3?from=guide` to its view, its parts and its wishes. */
function place() {
  const [path, wishes] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").map(decodeURIComponent);
  return { name: VIEWS[name] ? name : "guide", parts, wishes: new URLSearchParams(wishes) };
}

function dressed() {
  document.documentElement.lang = state.lang === "zh" ? "zh-Hans" : "en";
  const theme = state.theme;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  fill(document.querySelector(".skip"), t("skip"));
  drawBar();
}

function isDark() {
  return state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function drawBar() {
  const { part } = VIEWS[place().name];
  const dark = isDark();
  fill(
    bar,
    el("a", { class: "brand", href: "#/guide" },
      el("span", { class: "mark", "aria-hidden": "true" }, icon("guide")),
      el("span", { class: "brand-name" }, t("brand")),
      shop ? el("span", { class: "brand-shop" }, shop.name) : null),
    el("nav", { "aria-label": t("nav") },
      ["guide", "profile", "model"].map((name) =>
        el("a", { href: `#/${name}`, "aria-current": name === part ? "page" : null },
          icon(name), el("span", {}, t(`nav.${name}`))))),
    el("div", { class: "tools" },
      state.shopper
        ? el("button", {
            class: "who", type: "button", title: t("shopper.change"), on: { click: pick },
          },
            el("span", { class: "avatar" }, icon("profile")),
            el("span", { class: "hidden" }, `${t("shopper.is")} `),
            el("span", { class: "who-name" }, shopperName()),
            el("span", { class: "hidden" }, `, ${t("shopper.change")}`))
        : null,
      el("button", {
        class: "tool", type: "button", lang: state.lang === "zh" ? "en" : "zh-Hans",
        title: t("lang.switch"),
        on: { click: () => remember({ lang: state.lang === "zh" ? "en" : "zh" }) },
      }, state.lang === "zh" ? "EN" : "中", el("span", { class: "hidden" }, `: ${t("lang.switch")}`)),
      el("button", {
        class: "tool", type: "button", "aria-label": t(dark ? "theme.light" : "theme.dark"),
        title: t(dark ? "theme.light" : "theme.dark"),
        on: { click: () => remember({ theme: dark ? "light" : "dark" }) },
      }, icon(dark ? "sun" : "moon"))),
  );
}

const isGuest = () => state.shopper?.startsWith("guest-");
const shopperName = () => (isGuest() ? t("shopper.guest") : state.shopper);

async function pick() {
  const chosen = await choose(shop);
  if (chosen) remember({ shopper: chosen });
}

/** Show what the address names. */
async function show() {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const { name, parts, wishes } = place();
  const { view, needsShopper } = VIEWS[name];
  drawBar();
  const root = el("div", { class: `view view-${name}` });
  fill(main, root);
  try {
    if (!shop || shop.lang !== state.lang) {
      fill(root, quiet());
      shop = { ...(await api.shop({ signal })), lang: state.lang };
      // What is only shown to somebody is no deed of theirs.
      shop.deeds = shop.stages
        .map((kind, place) => ({ kind, deed: deedOf(kind), place }))
        .filter(({ deed, place }) => place || deed === "look");
      drawBar();
    }
    if (needsShopper && !isChosen()) {
      choose(shop, root).then((chosen) => remember({ shopper: chosen }));
      if (!first) main.focus({ preventScroll: true });
      first = false;
      return;
    }
    await view.show({ root, shop, parts, wishes, signal });
  } catch (error) {
    if (signal.aborted) return;
    if (error.title === undefined) console.error(error);
    fill(root, problem(error, show));
  }
  if (signal.aborted) return;
  const heading = root.querySelector("h1");
  document.title = [heading?.textContent, shop?.name ?? t("brand")].filter(Boolean).join(" · ");
  if (!first) main.focus({ preventScroll: true });
  first = false;
}

onChange((changes) => {
  dressed();
  if ("lang" in changes || "shopper" in changes) show();
});
addEventListener("hashchange", () => {
  scrollTo(0, 0);
  show();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawBar);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a view
  main.focus();
});
dressed();
show();
