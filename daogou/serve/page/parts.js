// Pieces that several views are made of: products on a shelf, and every state but success.

import { Problem, api } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { picture } from "./picture.js";
import { key } from "./state.js";
import { format, t } from "./words.js";

/** Say something aloud and show it for a while. */
export function say(text) {
  const toast = document.querySelector(".toast");
  fill(toast, text);
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 4500);
}

/** A shelf, or lines, that are still on their way. */
export function quiet(n = 8, kind = "shelf") {
  return el(
    "div",
    { class: `waiting waiting-${kind}`, role: "status" },
    el("span", { class: "hidden" }, t("loading")),
    Array.from({ length: n }, () => el("div", { class: "bone", "aria-hidden": "true" })),
  );
}

/** Nothing to show, and what to do about it. */
export function empty({ title, note, level = "h2" }, ...actions) {
  return el("section", { class: "empty" },
    el(level, {}, title), el("p", {}, note), actions.length ? el("div", { class: "row" }, actions) : null);
}

/** What went wrong, what to do, and a way to do it. */
export function problem(error, again) {
  const known = error instanceof Problem ? error : new Problem(500, [String(error.message ?? error)]);
  const wantsKey = known.kind === "key" || known.kind === "scope";
  return el("section", { class: "empty problem", role: "alert" },
    el("h1", {}, known.title),
    el("p", {}, known.hint),
    wantsKey ? keyForm(again) : el("div", { class: "row" },
      el("button", { class: "button", type: "button", on: { click: again } }, t("retry"))),
    known.reasons.length && known.kind === "refused"
      ? el("details", {}, el("summary", {}, t("problem.details")),
          el("ul", {}, known.reasons.map((reason) => el("li", {}, reason))))
      : null);
}

function keyForm(again) {
  const input = el("input", { id: "key", type: "password", autocomplete: "off", required: true });
  return el("form", {
    class: "own",
    on: {
      submit: (event) => {
        event.preventDefault();
        key.set(input.value.trim());
        again();
      },
    },
  },
    el("label", { for: "key" }, t("key.label")),
    el("div", { class: "field" }, input,
      el("button", { class: "button", type: "submit" }, icon("key"), t("key.enter"))));
}

/** Tell the shop what somebody did to a product. */
export async function act({ kind, deed }, product, shown = {}) {
  const told = await api.event({ kind, item: product.item, ...shown });
  const [row] = told.rows;
  if (row.status === "rejected") throw new Problem(422, [row.reason]);
  if (deed !== "look") say(t(`acted.${deed}`, { kind, name: product.title }));
}

/** The buttons of a product; `after` runs when the shop knows. */
export function deeds(shop, product, { shown = () => ({}), after = () => {} } = {}) {
  return shop.deeds
    .filter(({ deed }) => deed !== "look")
    .slice(-2)
    .map(({ kind, deed }, place, all) => {
      const words = el("span", {});
      const ready = () => fill(words,
        el("span", { class: "long" }, t(`act.${deed}`, { kind })),
        el("span", { class: "short" }, t(`act.${deed}.short`, { kind })));
      ready();
      const button = el("button", {
        class: place === all.length - 1 ? "button small" : "button small plain",
        type: "button", "data-kind": kind,
        on: {
          click: async () => {
            if (button.ariaDisabled) return;
            button.ariaDisabled = "true"; // one that is disabled would lose the focus
            try {
              await act({ kind, deed }, product, shown());
              fill(words, t(`acted.${deed}.short`));
              button.classList.add("done");
              setTimeout(() => {
                ready();
                button.classList.remove("done");
              }, 3000);
              await after();
            } catch (error) {
              say(`${error.title ?? t("problem.fault")}. ${error.hint ?? t("problem.fault.hint")}`);
            } finally {
              button.ariaDisabled = null;
            }
          },
        },
      }, words, el("span", { class: "hidden" }, `: ${product.title}`));
      return button;
    });
}

/** A drawing of a product. */
export function drawn(product) {
  return picture({
    id: product.item,
    category: product.category,
    words: [product.colour, product.title, ...Object.values(product.columns)].filter(
      (each) => typeof each === "string",
    ),
  });
}

export const price = (product) =>
  product.price === null ? t("price.none") : format.price(product.price);

/** Products by rank. Shown again, it says what is new and what has moved, and moves it. */
export class Shelf {
  constructor(shop, { after = () => {} } = {}) {
    this.shop = shop;
    this.after = after;
    this.cards = new Map();
    this.items = [];
    this.request = null;
    this.list = el("ol", { class: "shelf" });
  }

  /** Show these lines of an answer; `before` are the products that stood here earlier. */
  show(lines, products, request, before = null) {
    this.request = request;
    this.items = lines.map((line) => line.item);
    const moved = before ? changes(before, this.items) : null;
    const were = new Map([...this.cards].map(([item, card]) => [item, card.getBoundingClientRect()]));
    const cards = lines.map((line) => {
      const card = this.cards.get(line.item) ?? this.card(products.get(line.item) ?? bare(line.item));
      fill(card.querySelector(".reason"), because(line));
      card.querySelector(".badge")?.remove();
      const mark = moved?.marks.get(line.item);
      if (mark) card.querySelector(".card-link").append(el("span", { class: `badge ${mark.kind}` }, mark.text));
      return card;
    });
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    this.cards = new Map(cards.map((card) => [card.dataset.item, card]));
    fill(this.list, cards);
    glide(this.cards, were);
    if (focused)
      (focused.isConnected ? focused : this.list.querySelector("a"))?.focus({ preventScroll: true });
    return moved;
  }

  card(product) {
    const shown = () => ({
      request_id: this.request ?? undefined, position: this.items.indexOf(product.item),
    });
    const look = this.shop.deeds.find(({ deed }) => deed === "look");
    return el("li", { class: "card", "data-item": product.item },
      el("a", {
        class: "card-link", href: `#/product/${encodeURIComponent(product.item)}`,
        on: { click: () => look && act(look, product, shown()).catch(() => {}) },
      }, drawn(product), el("span", { class: "card-title" }, product.title)),
      el("p", { class: "price" }, price(product)),
      el("p", { class: "reason" }),
      el("div", { class: "deeds" }, deeds(this.shop, product, { shown, after: this.after })));
  }
}

/** Why a product is shown, where the answer says. */
function because(line) {
  const text = (line.reason ?? line.reasons?.[0])?.text;
  return text ? [el("span", { class: "hidden" }, `${t("reason")}: `), text] : [];
}

/** A product that the catalogue says nothing of. */
export const bare = (item) => ({
  item, title: item, price: null, category: null, colour: null, columns: {}, known: false,
});

/** What became of a list: how many are new, how many moved, and a mark for each. */
export function changes(before, after) {
  const was = new Map(before.map((item, place) => [item, place]));
  const marks = new Map();
  let [fresh, moved] = [0, 0];
  after.forEach((item, place) => {
    const earlier = was.get(item);
    if (earlier === undefined) {
      fresh += 1;
      marks.set(item, { kind: "new", text: t("shelf.new") });
    } else if (earlier !== place) {
      moved += 1;
      if (earlier > place) marks.set(item, { kind: "up", text: t("shelf.up", { n: earlier - place }) });
    }
  });
  return { fresh, moved, marks };
}

/** Let cards move from where they were, unless somebody asked for less motion. */
function glide(cards, were) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const [item, card] of cards) {
    const from = were.get(item);
    const to = card.getBoundingClientRect();
    if (!from?.width) continue;
    const [x, y] = [from.left - to.left, from.top - to.top];
    if (!x && !y) continue;
    card.animate(
      [{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }],
      { duration: 420, easing: "cubic-bezier(.2, .7, .2, 1)" },
    );
  }
}

/** What an answer says of itself: that it is a simpler one, or that nobody is known. */
export function notices(answer) {
  return [
    answer.degraded ? el("p", { class: "notice warn", role: "status" }, t("shelf.degraded")) : null,
    answer.known === false ? el("p", { class: "notice" }, t("shelf.unknown")) : null,
  ];
}
