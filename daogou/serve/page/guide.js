// The guide: one question at a time, and a shelf that narrows with every answer.

import { api } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { Shelf, empty, notices, problem, quiet } from "./parts.js";
import { searchBox } from "./search.js";
import { state } from "./state.js";
import { format, priceBand, t, valueName } from "./words.js";

const K = 12;
// What was answered and shown, so that coming back from a product goes on from there.
let visit = { shopper: null, answers: [], items: null };

export async function show({ root, shop, signal }) {
  if (visit.shopper !== state.shopper) visit = { shopper: state.shopper, answers: [], items: null };
  if (shop.absent.funnel) {
    fill(root, searchBox(), empty({ title: t("shelf.none"), note: t("shelf.none.note"), level: "h1" }));
    return;
  }
  const panel = el("section", { class: "ask", "aria-labelledby": "question" }, quiet(1, "ask"));
  const notes = el("div", { class: "notes" });
  const news = el("p", { class: "news", role: "status", "aria-live": "polite" });
  const title = el("h2", { tabindex: -1 }, t("shelf.title"));
  const count = el("p", { class: "count" });
  const body = el("div", {}, quiet());
  const shelf = new Shelf(shop, { after: () => refresh({ tell: true }) });

  const refresh = async ({ tell = false, focus = false } = {}) => {
    const answer = await api.guide({ answers: visit.answers, k: K }, { signal });
    const products = await api.products(answer.items.map((line) => line.item), { signal });
    if (signal.aborted) return;
    visit.answers = answer.state.answers; // without those that could not be met
    ask(answer, focus);
    fill(notes, notices(answer));
    fill(title, answer.fallback || !answer.items.some(({ score }) => score !== null)
      ? t("shelf.popular") : t("shelf.title"));
    fill(count, stock(answer));
    if (!answer.items.length) {
      fill(body, empty({ title: t("shelf.empty"), note: t("shelf.empty.note") }, again()));
      return;
    }
    const moved = shelf.show(answer.items, products, answer.request_id, tell ? visit.items : null);
    if (!shelf.list.isConnected) fill(body, shelf.list);
    if (tell && visit.items) {
      fill(news, moved.fresh || moved.moved
        ? t("shelf.changed", { new: moved.fresh, moved: moved.moved })
        : t("shelf.same"));
    }
    visit.items = answer.items.map((line) => line.item);
  };

  const answered = async (answers) => {
    visit.answers = answers;
    fill(news);
    root.setAttribute("aria-busy", "true");
    try {
      await refresh({ focus: true });
    } catch (error) {
      if (!signal.aborted) fill(root, problem(error, () => show({ root, shop, signal })));
    } finally {
      root.removeAttribute("aria-busy");
    }
  };

  const again = () => el("button", {
    class: "button plain small", type: "button", on: { click: () => answered([]) },
  }, t("guide.restart"));

  const ask = (answer, focus) => {
    const { question, relaxed = [] } = answer;
    const heading = el("h1", { id: "question", class: "display", tabindex: -1 },
      question ? wording(question, shop) : t(answer.done ? "guide.done" : "guide.hello"));
    fill(panel,
      el("p", { class: "step" }, question
        ? t("guide.step", { n: visit.answers.length + 1 })
        : stock(answer)),
      heading,
      question ? chips(question) : null,
      answer.done ? el("p", { class: "lead" }, t("guide.done.note")) : null,
      relaxed.length
        ? el("p", { class: "notice warn" },
            t("guide.relaxed", { answers: relaxed.map((each) => said(each, shop)).join(state.lang === "zh" ? "、" : ", ") }))
        : null,
      visit.answers.length ? path() : null);
    if (focus) heading.focus({ preventScroll: true });
  };

  const chips = (question) => el("ul", { class: "chips" }, question.chips.map((chip) => {
    const isAny = Boolean(chip.answer.any);
    return el("li", {}, el("button", {
      class: isAny ? "chip any" : "chip", type: "button",
      on: { click: () => answered([...visit.answers, chip.answer]) },
    }, el("span", {}, chipText(chip)), " ",
    isAny ? null : el("span", { class: "n" }, format.count(chip.count),
      el("span", { class: "hidden" }, ` ${t("guide.products")}`))));
  }));

  const path = () => el("div", { class: "path" },
    el("ul", { "aria-label": t("guide.answers") }, visit.answers.map((each, place) =>
      el("li", {}, el("button", {
        class: "tag", type: "button", "aria-label": t("guide.remove", { answer: said(each, shop) }),
        on: { click: () => answered(visit.answers.filter((_, i) => i !== place)) },
      }, said(each, shop), icon("close"))))),
    again());

  fill(root, searchBox(), panel, notes,
    el("section", { class: "stand" }, el("div", { class: "headline" }, title, count), news, body));
  await refresh({ tell: visit.items !== null });
}

/** How many products there are, or are left after answers. */
function stock({ left, state: { answers } }) {
  if (left === null) return "";
  if (left === 1) return t("guide.left.one");
  return t(answers.length ? "guide.left" : "guide.all", { n: format.count(left) });
}

function chipText({ text, answer }) {
  if (answer.any) return t("guide.any");
  if ("from" in answer || "to" in answer) return priceBand(answer);
  return "value" in answer ? valueName(text) : text;
}

/** An answer in words, in the language of now. */
function said(answer, shop) {
  const name = shop.names[answer.column] ?? answer.column;
  if (answer.any) return t("answer.any", { name });
  if ("value" in answer) return [answer.value].flat().map(valueName).join(" / ");
  if ("not" in answer) return t("answer.not", { name });
  return priceBand(answer);
}

function wording(question, shop) {
  if (question.column === shop.category) return t("guide.question.category");
  if (question.column === shop.price) return t("guide.question.price");
  if (/brand|品牌/i.test(question.column)) return t("guide.question.brand");
  return question.text ?? t("guide.question", { column: shop.names[question.column] ?? question.column });
}
