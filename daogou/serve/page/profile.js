// How the shop sees a shopper: guesses with evidence, and a way to correct each.

import { api } from "./api.js";
import { bars } from "./chart.js";
import { el, fill, icon } from "./dom.js";
import { empty, notices, quiet, say } from "./parts.js";
import { remember, state } from "./state.js";
import { deedOf, format, t, valueName } from "./words.js";

export async function show({ root, shop, signal }) {
  if (shop.absent.profile) {
    fill(root, empty({ title: t("profile.none"), note: t("profile.none.note"), level: "h1" }));
    return;
  }
  fill(root, quiet(6, "lines"));
  await draw({ root, shop, signal });
}

async function draw({ root, shop, signal }) {
  const [profile, held] = await Promise.all([
    api.profile({ signal }),
    api.events({ signal }).catch(() => ({ events: [] })),
  ]);
  const products = await api
    .products([...new Set(held.events.map(({ item }) => item))], { signal })
    .catch(() => new Map());
  if (signal.aborted) return;
  const edits = { set: profile.edits?.set ?? {}, forbid: profile.edits?.forbid ?? {} };
  const change = async (changes, focus) => {
    try {
      await api.edit(changes);
      await draw({ root, shop, signal });
      root.querySelector(`[data-edit="${CSS.escape(focus)}"]`)?.focus();
      say(t("profile.saved"));
    } catch (error) {
      if (!signal.aborted) say(`${error.title ?? t("problem.fault")}. ${error.hint ?? ""}`);
    }
  };
  fill(root,
    el("section", { class: "hero" },
      el("p", { class: "label" }, t(`lifecycle.${profile.lifecycle}`)),
      el("h1", { class: "display" }, t("profile.title")),
      el("p", { class: "lead" }, profile.text),
      profile.degraded ? notices({ degraded: true }) : null,
      profile.known ? null : el("p", { class: "notice" }, t("profile.unknown"))),
    section(t("profile.about"), t("profile.about.note"),
      el("div", { class: "grid" }, Object.entries(profile.columns).map(([column, shares]) =>
        guess(shop, column, shares, edits, change)))),
    section(t("profile.likes"), t("profile.likes.note"),
      Object.keys(profile.preferences).length
        ? el("div", { class: "grid" }, Object.entries(profile.preferences).map(([column, shares]) =>
            liking(shop, column, shares, profile.preferred_by?.[column] ?? [], edits, change)))
        : el("p", { class: "quiet" }, t("profile.likes.none"))),
    section(t("profile.evidence"), t("profile.evidence.note"),
      profile.evidence.length
        ? el("ul", { class: "lines" }, profile.evidence.map((line) => evidence(shop, line)))
        : el("p", { class: "quiet" }, t("profile.evidence.none"))),
    section(t("profile.events"), t("profile.events.note"),
      held.events.length
        ? el("ul", { class: "lines" }, [...held.events].reverse().map((event) => el("li", {},
            el("a", { href: `#/product/${encodeURIComponent(event.item)}` },
              products.get(event.item)?.title ?? event.item),
            el("span", { class: "soft" }, did(event.kind, event.time)))))
        : el("p", { class: "quiet" }, t("profile.events.none")),
      el("div", { class: "forget" },
        el("p", { class: "soft" }, t("profile.forget.note")),
        el("button", { class: "button plain danger", type: "button", on: { click: () => forget() } },
          t("profile.forget")))));
}

const section = (title, note, ...children) =>
  el("section", { class: "panel" }, el("h2", {}, title), el("p", { class: "soft" }, note), children);

const did = (kind, time) =>
  t("profile.evidence.line", {
    deed: t(`did.${deedOf(kind)}`, { kind }), when: format.date(time),
  });

/** One guessed column: how likely each value is, and "that's me". */
function guess(shop, column, shares, edits, change) {
  const name = shop.names[column] ?? column;
  const said = edits.set[column];
  const lines = Object.entries(shares).slice(0, 6).map(([value, share]) => ({
    name: valueName(value), value: share, raw: value, strong: String(said) === value,
  }));
  return el("article", { class: "fact" }, el("h3", {}, name),
    bars(lines, (line) => {
      const edit = `${column}=${line.raw}`;
      return line.strong
        ? el("button", {
            class: "edit on", type: "button", "data-edit": edit, "aria-pressed": "true",
            title: t("profile.unset"),
            on: { click: () => change({ set: { [column]: null } }, edit) },
          }, icon("check"), t("profile.isset"))
        : el("button", {
            class: "edit", type: "button", "data-edit": edit, "aria-pressed": "false",
            "aria-label": t("profile.set.of", { column: name, value: line.name }),
            on: { click: () => change({ set: { [column]: line.raw } }, edit) },
          }, t("profile.set"));
    }));
}

/** One column of products: what is chosen most, which products say so, and "show me less". */
function liking(shop, column, shares, because, edits, change) {
  const name = shop.names[column] ?? column;
  const forbidden = (edits.forbid[column] ?? []).map(String);
  const kept = Object.entries(shares).filter(([value]) => !forbidden.includes(value));
  const lines = [
    ...kept.map(([value, share]) => ({ name: valueName(value), value: share, raw: value })),
    ...forbidden.map((value) => ({ name: valueName(value), value: shares[value] ?? 0, raw: value, out: true })),
  ];
  return el("article", { class: "fact" }, el("h3", {}, name),
    bars(lines, (line) => {
      const edit = `${column}!${line.raw}`;
      const next = line.out
        ? forbidden.filter((value) => value !== line.raw)
        : [...forbidden, line.raw];
      return el("button", {
        class: line.out ? "edit on" : "edit", type: "button", "data-edit": edit,
        "aria-pressed": String(Boolean(line.out)),
        "aria-label": t(line.out ? "profile.allow.of" : "profile.forbid.of", {
          column: name, value: line.name,
        }),
        on: { click: () => change({ forbid: { [column]: next.length ? next : null } }, edit) },
      }, line.out ? t("profile.isforbidden") : t("profile.forbid"));
    }),
    because.length
      ? el("p", { class: "soft" }, t("profile.likes.because"),
          because.flatMap((line, place) => [
            place ? " · " : "",
            el("a", { href: `#/product/${encodeURIComponent(line.item)}` }, line.name),
          ]))
      : null);
}

function evidence(shop, line) {
  const column = shop.names[line.column] ?? line.column;
  return el("li", {},
    el("a", { href: `#/product/${encodeURIComponent(line.item)}` }, line.name),
    el("span", { class: "soft" }, did(line.action, line.time)),
    el("span", { class: line.weight > 0 ? "moved up" : "moved down" },
      `${column} ${valueName(line.value)}: `,
      el("strong", { class: "number" },
        t(line.weight > 0 ? "profile.more" : "profile.less", {
          n: format.decimal(100 * Math.abs(line.weight), 1),
        }))));
}

function forget() {
  const dialog = el("dialog", { class: "sheet small", "aria-labelledby": "forget-title" },
    el("h2", { id: "forget-title" }, t("profile.forget.sure", { name: state.shopper })),
    el("p", {}, t("profile.forget.note")),
    el("div", { class: "row" },
      el("button", { class: "button plain", type: "button", on: { click: () => dialog.close() } }, t("cancel")),
      el("button", {
        class: "button danger", type: "button",
        on: {
          click: async () => {
            try {
              const told = await api.forget();
              const n = Object.values(told.removed).reduce((sum, each) => sum + each, 0);
              dialog.close();
              remember({ shopper: null });
              say(`${t("profile.forget.done", { n: format.count(n) })} ${told.in_run ? t("profile.forget.run") : ""}`);
            } catch (error) {
              dialog.close();
              say(`${error.title ?? t("problem.fault")}. ${error.hint ?? ""}`);
            }
          },
        },
      }, t("profile.forget"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
