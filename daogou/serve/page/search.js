// What somebody typed to products, with filters that say how many they leave.

import { api } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { Shelf, empty, notices, problem, quiet } from "./parts.js";
import { format, priceBand, t, valueName } from "./words.js";

const PAGE = 24;

/** The box that every shelf has above it. */
export function searchBox(query = "") {
  const input = el("input", {
    type: "search", id: "query", name: "q", value: query, placeholder: t("search.placeholder"),
    autocomplete: "off", maxlength: 200, enterkeyhint: "search",
  });
  return el("form", {
    class: "search", role: "search",
    on: {
      submit: (event) => {
        event.preventDefault();
        const text = input.value.trim();
        location.hash = text ? `#/search?q=${encodeURIComponent(text)}` : "#/guide";
      },
    },
  },
    el("label", { class: "hidden", for: "query" }, t("search.label")),
    icon("search"), input,
    el("button", { class: "button", type: "submit" }, t("search.go")));
}

export async function show({ root, shop, wishes, signal }) {
  const query = wishes.get("q") ?? "";
  const where = {};
  for (const [name, value] of wishes)
    if (name.startsWith("in.")) (where[name.slice(3)] ??= []).push(value);
  const [least = "", most = ""] = (wishes.get("price") ?? "").split("~");
  const band = {
    ...(least ? { price_min: Number(least) } : {}), ...(most ? { price_max: Number(most) } : {}),
  };
  const heading = el("h1", { class: "display" }, query);
  const shelf = new Shelf(shop);
  const side = el("aside", { class: "filters", "aria-label": t("search.filters") });
  const body = el("div", { class: "results" }, quiet());
  fill(root,
    searchBox(query),
    el("div", { class: "headline" }, heading,
      el("a", { class: "button plain small", href: "#/guide" }, icon("close"), t("search.clear"))),
    el("div", { class: "split" }, side, body));
  const lines = [];
  let products = new Map();

  const load = async () => {
    const answer = await api.search({ query, where, ...band, k: PAGE, offset: lines.length }, { signal });
    const found = await api.products(answer.items.map((line) => line.item), { signal });
    products = new Map([...products, ...found]);
    lines.push(...answer.items);
    return answer;
  };
  const draw = (answer) => {
    const n = format.count(answer.total);
    fill(heading, query ? t("search.found", { n, query }) : t("search.found.all", { n }));
    fill(side, filters(answer.facets, wishes));
    if (!lines.length) {
      fill(body, empty({ title: t("search.none", { query }), note: t("search.none.note") },
        el("a", { class: "button", href: "#/guide" }, t("guide.title"))));
      return;
    }
    shelf.show(lines, products, answer.request_id);
    const more = el("button", {
      class: "button plain wide", type: "button",
      on: {
        click: async () => {
          more.disabled = true;
          try {
            draw(await load());
          } catch (error) {
            if (!signal.aborted) fill(body, problem(error, () => show({ root, shop, wishes, signal })));
          }
        },
      },
    }, t("search.more"));
    fill(body, told(answer), notices(answer), shelf.list, lines.length < answer.total ? more : null);
  };
  draw(await load());
}

/** What was read otherwise than it was typed. */
function told({ relaxed, corrected }) {
  const words = Object.values(corrected ?? {});
  return [
    words.length ? el("p", { class: "notice" }, t("search.corrected", { words: words.join(" ") })) : null,
    relaxed ? el("p", { class: "notice" }, t("search.relaxed")) : null,
  ];
}

function filters(facets, wishes) {
  const groups = facets.filter(({ values }) => values.length > 1);
  const isWide = matchMedia("(min-width: 60rem)").matches;
  const drawn = groups.map(({ column, name, values }, place) =>
    el("details", { open: isWide && place < 2 },
      el("summary", {}, name),
      el("ul", {}, values.slice(0, 10).map((each) => {
        const isBand = "from" in each;
        const [wish, value, words] = isBand
          ? ["price", `${each.from ?? ""}~${each.to ?? ""}`, priceBand(each)]
          : [`in.${column}`, each.value, valueName(each.value)];
        const isOn = wishes.getAll(wish).includes(value);
        return el("li", {}, el("label", { class: "tick" },
          el("input", {
            type: "checkbox", checked: isOn,
            on: { change: () => toggle(wishes, wish, value, { isOn: !isOn, alone: isBand }) },
          }),
          el("span", {}, words), el("span", { class: "count" }, format.count(each.count))));
      }))));
  // On a telephone they would stand before the products.
  return isWide || !drawn.length
    ? drawn
    : el("details", { class: "all" }, el("summary", {}, t("search.filters")), drawn);
}

function toggle(wishes, name, value, { isOn, alone }) {
  const next = new URLSearchParams(
    [...wishes].filter(([n, v]) => n !== name || (!alone && v !== value)),
  );
  if (isOn) next.append(name, value);
  location.hash = `#/search?${next}`;
}
