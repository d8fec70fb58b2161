// Numbers to small charts. Each repeats in words or in a table what it draws.

import { el, svg } from "./dom.js";
import { format } from "./words.js";

/** Shares in [0, 1] as bars, largest first; `act` gives buttons for a line. */
export function bars(lines, act = () => null) {
  return el("ul", { class: "bars" }, lines.map((line) =>
    el("li", { class: line.strong ? "strong" : null },
      el("span", { class: "bar-name" }, line.name),
      el("span", { class: "number" }, format.percent(line.value)),
      el("span", { class: "track", "aria-hidden": "true" },
        el("span", { vars: { "--part": `${Math.max(line.value, 0.004) * 100}%` } })),
      act(line))));
}

/** Weights above and below 0 as bars to both sides; `sides` are the words for them. */
export function diverging(lines, { up, down }) {
  const most = Math.max(...lines.map(({ value }) => Math.abs(value)), 1e-9);
  const sides = el("li", { class: "sides", "aria-hidden": "true" },
    el("span", {}, el("span", {}, `← ${down}`), el("span", {}, `${up} →`)));
  return el("ul", { class: "diverging" }, sides, lines.map(({ name, said, value }) =>
    el("li", { class: value > 0 ? "up" : "down" },
      el("span", { class: "bar-name" }, name, said ? el("span", { class: "soft" }, ` ${said}`) : null),
      el("span", { class: "hidden" }, value > 0 ? up : down),
      el("span", { class: "axis", "aria-hidden": "true" },
        el("span", { vars: { "--part": `${(Math.abs(value) / most) * 50}%` } })))));
}

/** Points with intervals on one axis. `lines`: {name, value, low, high, said, at}. */
export function intervals(lines, { from, to }) {
  const place = (value) => `${(100 * (Math.min(Math.max(value, from), to) - from)) / (to - from)}%`;
  return el("ul", { class: "intervals" }, lines.map((line) =>
    el("li", {},
      el("span", { class: "bar-name" }, line.name,
        line.note ? el("span", { class: "soft" }, ` ${line.note}`) : null),
      el("span", { class: "axis", "aria-hidden": "true" },
        line.at === undefined ? null : el("span", { class: "at", vars: { "--x": place(line.at) } }),
        line.low === undefined || line.low === null
          ? null
          : el("span", { class: "range", vars: { "--x": place(line.low), "--to": place(line.high) } }),
        Number.isFinite(line.value)
          ? el("span", { class: "point", vars: { "--x": place(line.value) } })
          : null),
      el("span", { class: "number" }, line.said))),
    el("li", { class: "scale", "aria-hidden": "true" },
      el("span", {}, [from, (from + to) / 2, to].map((each) =>
        el("span", {}, format.decimal(each, Math.abs(to) < 0.2 ? 3 : 1))))));
}

/** A table of numbers whose cells are as dark as they are large; `full` is the darkest. */
export function heat({ title, caption, rows, columns, cells, full, said, corner = "" }) {
  return el("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": title },
    el("table", { class: "heat" }, caption ? el("caption", {}, caption) : null,
      el("thead", {}, el("tr", {}, el("td", { class: "soft" }, corner),
        columns.map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, rows.map((name, i) =>
        el("tr", {}, el("th", { scope: "row" }, name), cells[i].map((value) =>
          Number.isFinite(value)
            ? el("td", {
              class: value < 0 ? "number below" : "number",
              vars: { "--part": `${Math.min(Math.abs(value) / (full || 1), 1) * 60}%` },
            }, said(value))
            : el("td", { class: "number soft" }, "–")))))));
}

const [W, H, EDGE] = [220, 120, 6];

/** Curves over a common axis, the first solid and the others dashed. */
export function curves(title, series, { kept = null, words = "" } = {}) {
  const all = series.flat().filter(Number.isFinite);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const n = Math.max(...series.map((each) => each.length));
  const x = (i) => EDGE + (n < 2 ? (W - 2 * EDGE) / 2 : (i * (W - 2 * EDGE)) / (n - 1));
  const y = (value) =>
    H - EDGE - (most > least ? (value - least) / (most - least) : 0.5) * (H - 2 * EDGE);
  return figure(title, words, svg("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" },
    svg("path", { class: "frame", d: `M${EDGE} ${H - EDGE}H${W - EDGE}` }),
    series.map((values, place) =>
      svg("path", {
        class: place ? "curve dashed" : "curve",
        d: values
          .map((value, i) => (Number.isFinite(value) ? `${x(i).toFixed(1)} ${y(value).toFixed(1)}` : null))
          .filter(Boolean)
          .map((point, i) => `${i ? "L" : "M"}${point}`)
          .join(""),
      })),
    kept !== null && Number.isFinite(series[0][kept])
      ? svg("circle", { class: "spot", cx: x(kept), cy: y(series[0][kept]), r: 4 })
      : null));
}

/** What was said against what came true, `[[said, came, n]]`. */
export function reliability(title, points, { said, came, words = "" }) {
  const most = Math.max(...points.flatMap(([a, b]) => [a, b]), 1e-6) * 1.05;
  const [left, size] = [26, 170];
  const x = (value) => left + (value / most) * size;
  const y = (value) => size + 8 - (value / most) * size;
  return figure(title, words, svg("svg", {
    class: "plot square", viewBox: `0 0 ${left + size + 8} ${size + 34}`, "aria-hidden": "true",
  },
    svg("path", { class: "frame", d: `M${left} 8V${size + 8}H${left + size}` }),
    svg("path", { class: "diagonal", d: `M${x(0)} ${y(0)}L${x(most)} ${y(most)}` }),
    points.map(([a, b]) => svg("circle", { class: "spot", cx: x(a), cy: y(b), r: 4 })),
    svg("text", { x: left + size, y: size + 28, "text-anchor": "end" }, `${said} →`),
    svg("text", { x: 0, y: 0, transform: `translate(14 8) rotate(-90)`, "text-anchor": "end" }, `${came} →`)));
}

/** A line of the last values, newest right. */
export function spark(values) {
  const most = Math.max(...values, 1);
  const points = values.map((value, i) =>
    `${((i / Math.max(values.length - 1, 1)) * 100).toFixed(1)} ${(26 - (value / most) * 24).toFixed(1)}`);
  return svg("svg", {
    class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true",
  }, svg("path", { d: points.length > 1 ? `M${points.join("L")}` : "" }));
}

function figure(title, words, drawing) {
  return el("figure", {}, el("figcaption", {}, title, words ? el("span", { class: "soft" }, ` ${words}`) : null), drawing);
}
