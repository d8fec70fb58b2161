// One product: its title as the shop reads it, what is known of it, and why it fits or not.

import { api } from "./api.js";
import { diverging } from "./chart.js";
import { el, fill, icon } from "./dom.js";
import { Shelf, bare, deeds, drawn, empty, price, quiet } from "./parts.js";
import { deedOf, format, t, valueName } from "./words.js";

const SIMILAR = 6;

export async function show({ root, shop, parts, signal }) {
  const [item] = parts;
  fill(root, quiet(1, "product"));
  const products = await api.products([item], { signal });
  const product = products.get(item) ?? bare(item);
  if (!product.known) {
    fill(root, empty({ title: t("product.none"), note: t("product.none.note"), level: "h1" },
      el("a", { class: "button", href: "#/guide" }, t("back"))));
    return;
  }
  const title = el("h1", { class: "product-title" }, product.title);
  const read = el("div", { class: "read" });
  const why = el("section", { class: "panel why" }, quiet(5, "lines"));
  const like = el("section", { class: "stand" });
  const explain = () => explained(why, shop, item, signal);
  fill(root,
    el("a", { class: "back", href: "#/guide" }, icon("back"), t("back")),
    el("div", { class: "product" },
      el("div", { class: "frame" }, drawn(product)),
      el("div", { class: "product-body" },
        product.category ? el("p", { class: "label" }, product.category) : null,
        title,
        el("p", { class: "price large" }, price(product)),
        el("div", { class: "deeds large" }, deeds(shop, product, { after: explain })),
        read, facts(shop, product))),
    why, like);
  await Promise.all([
    shop.absent.extract || !product.text
      ? null
      : highlight({ title, read }, product, shop, signal).catch(forgive(signal)),
    shop.absent.funnel ? why.remove() : explain().catch(() => why.remove()),
    similar(like, shop, item, signal).catch(() => like.remove()),
  ]);
}

/** A part that fails leaves the rest of the page as it is. */
const forgive = (signal) => (error) => {
  if (!signal.aborted && error.title === undefined) throw error;
};

function facts(shop, product) {
  const known = Object.entries(product.columns).filter(
    ([name, value]) => value !== null && name !== shop.title && name !== shop.price,
  );
  if (!known.length) return null;
  return el("section", { "aria-label": t("product.facts") },
    el("dl", { class: "facts" }, known.map(([name, value]) =>
      el("div", {}, el("dt", {}, shop.names[name] ?? name),
        el("dd", {}, typeof value === "number" ? format.price(value) : String(value))))));
}

/** The title again, with the values that the model read in it marked. */
async function highlight({ title, read }, product, shop, signal) {
  const { texts } = await api.extract([product.text], { signal });
  const letters = Array.from(product.text); // spans count code points
  const spans = apart(texts[0].spans ?? []);
  if (!spans.length) return;
  const attributes = [...new Set(spans.map(([, , attribute]) => attribute))];
  const colour = (attribute) => `mark-${attributes.indexOf(attribute) % 5}`;
  const pieces = [];
  let at = 0;
  for (const [start, end, attribute] of spans) {
    pieces.push(letters.slice(at, start).join(""));
    const name = shop.names[attribute] ?? attribute;
    pieces.push(el("mark", { class: colour(attribute), title: name }, letters.slice(start, end).join("")));
    at = end;
  }
  pieces.push(letters.slice(at).join(""));
  fill(title, pieces);
  fill(read,
    el("h2", { class: "label" }, t("product.read")),
    el("ul", { class: "values" }, spans.map(([start, end, attribute, sure]) =>
      el("li", {},
        el("span", { class: `dot ${colour(attribute)}`, "aria-hidden": "true" }),
        el("span", { class: "soft" }, shop.names[attribute] ?? attribute), " ",
        el("strong", {}, letters.slice(start, end).join("")), " ",
        el("span", { class: "soft number" }, format.percent(sure))))));
}

/** Spans that do not overlap, in order; of two that do, the surer one. */
function apart(spans) {
  const kept = [];
  for (const span of [...spans].sort((a, b) => b[3] - a[3]))
    if (kept.every(([start, end]) => span[1] <= start || span[0] >= end)) kept.push(span);
  return kept.sort((a, b) => a[0] - b[0]);
}

async function explained(why, shop, item, signal) {
  const answer = await api.explain(item, { signal });
  const last = shop.deeds.filter(({ kind }) => kind in answer.p).at(-1);
  const lines = answer.contributions.filter(({ weight }) => Math.abs(weight) >= 0.005).slice(0, 8);
  fill(why,
    el("div", { class: "headline" }, el("h2", {}, t("product.fit")),
      last
        ? el("p", { class: "chance" },
            el("span", { class: "soft" },
              t("product.chance", { deed: t(`deed.${deedOf(last.kind)}`, { kind: last.kind }) })), " ",
            el("strong", { class: "number" }, format.percent(answer.p[last.kind])))
        : null),
    el("p", { class: "soft" }, t("product.fit.note")),
    diverging(lines.map(({ feature, value, weight }) => ({
      name: featureName(feature, shop), value: weight,
      said: value === null || isPlain(feature, shop) ? "" : valueName(value),
    })), { up: t("product.for"), down: t("product.against") }));
}

const OWN = {
  "item.id": "feature.item", "item.heard": "feature.heard",
  "user.id": "feature.user", "user.history": "feature.history",
};

/** Whether a feature says enough without its value. */
const isPlain = (feature, shop) => feature in OWN || feature === `item.${shop.title}`;

function featureName(feature, shop) {
  if (OWN[feature]) return t(OWN[feature]);
  const [owner, column] = feature.includes(".") ? feature.split(/\.(.*)/) : ["", feature];
  const name = shop.names[column] ?? column;
  return owner === "user" ? t("feature.yours", { name }) : name;
}

async function similar(like, shop, item, signal) {
  const answer = await api.similar(item, SIMILAR, { signal });
  const lines = answer.items.filter((line) => line.item !== item);
  if (!lines.length) {
    like.remove();
    return;
  }
  const products = await api.products(lines.map((line) => line.item), { signal });
  const shelf = new Shelf(shop);
  shelf.show(lines, products, answer.request_id);
  fill(like, el("h2", {}, t("product.similar")), shelf.list);
}
