// Who is shopping: somebody the shop knows, or somebody new.

import { newId } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { state } from "./state.js";
import { t } from "./words.js";

export const isChosen = () => Boolean(state.shopper);

/** Let a person choose, on the page (`root`) or in a dialog; a dialog that is closed gives null. */
export function choose(shop, root = null) {
  return new Promise((resolve) => {
    const dialog = root ? null : el("dialog", { class: "sheet", "aria-labelledby": "who-title" });
    const done = (shopper) => {
      dialog?.close();
      resolve(shopper);
    };
    const form = choices(shop, done, root ? "h1" : "h2");
    if (root) {
      fill(root, el("section", { class: "welcome" }, form));
      document.title = `${t("shopper.pick")} · ${shop.name}`;
      return;
    }
    dialog.append(
      el("button", {
        class: "tool close", type: "button", "aria-label": t("close"),
        on: { click: () => done(null) },
      }, icon("close")),
      ...form,
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function choices(shop, done, heading) {
  const own = el("input", {
    id: "own", name: "own", autocomplete: "off", maxlength: 256, spellcheck: "false", required: true,
  });
  return [
    el(heading, { id: "who-title", class: "display" }, t("shopper.pick")),
    el("p", { class: "lead" }, t("shopper.note")),
    el("button", {
      class: "newcomer", type: "button", on: { click: () => done(`guest-${newId().slice(0, 8)}`) },
    },
      el("span", { class: "avatar", "aria-hidden": "true" }, "＋"),
      el("span", {}, el("strong", {}, t("shopper.new")), el("small", {}, t("shopper.new.note")))),
    shop.users.length
      ? [
          el(heading === "h1" ? "h2" : "h3", { class: "label" }, t("shopper.known")),
          el("ul", { class: "people" }, shop.users.map((user) =>
            el("li", {}, el("button", {
              class: "person", type: "button", "aria-pressed": String(user === state.shopper),
              on: { click: () => done(user) },
            }, user)))),
          el("form", {
            class: "own",
            on: {
              submit: (event) => {
                event.preventDefault();
                if (own.value.trim()) done(own.value.trim());
              },
            },
          },
            el("label", { for: "own" }, t("shopper.own")),
            el("div", { class: "field" }, own,
              el("button", { class: "button", type: "submit" }, t("shopper.go")))),
        ]
      : null,
  ].flat();
}
