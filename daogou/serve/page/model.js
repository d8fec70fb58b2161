// The model for its engineer: how good it is, whether sharing helps, and what it answers now.

import { api } from "./api.js";
import { curves, heat, intervals, reliability, spark } from "./chart.js";
import { el, fill } from "./dom.js";
import { quiet } from "./parts.js";
import { key, state } from "./state.js";
import { format, t } from "./words.js";

const EVERY_MS = 5000;
const LEADING = ["auc", "recall@50", "macro_f1", "f1", "gini"]; // the first that a task has
const CHANCE = { auc: 0.5 };

export async function show({ root, shop, signal }) {
  fill(root, quiet(4, "lines"));
  const [{ models }, documents] = await Promise.all([
    api.models({ signal }), api.documents({ signal }),
  ]);
  const [model] = models;
  const live = el("section", { class: "panel", "aria-labelledby": "traffic" });
  fill(root,
    el("section", { class: "hero" },
      el("h1", { class: "display" }, t("model.title")),
      el("p", { class: "lead" }, t("model.lead", {
        shop: shop.name, tasks: model.tasks.length, when: format.date(model.log_ends),
        parameters: format.count(documents.parameters ?? 0), items: format.count(model.items),
        users: format.count(model.users),
      })),
      el("p", { class: "row" },
        key.get() ? null : el("a", { class: "button plain small", href: `/v1/models/report?lang=${state.lang}`, target: "_blank", rel: "noopener" },
          t("model.report")),
        key.get() ? null : el("span", { class: "soft" }, t("model.report.note")))), // a link carries no key
    live, quality(documents), receipt(documents), calibration(documents), learning(documents),
    affinity(documents), gates(documents), absent(shop));
  await traffic(live, signal);
}

const panel = (title, note, ...children) =>
  el("section", { class: "panel" }, el("h2", {}, title), note ? el("p", { class: "soft" }, note) : null, children);

function table(heads, rows) {
  return el("details", {}, el("summary", {}, t("model.table")),
    el("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": t("model.table") },
      el("table", {},
        el("thead", {}, el("tr", {}, heads.map((head, i) =>
          el("th", { scope: "col", class: i ? "number" : null }, head)))),
        el("tbody", {}, rows.map(([first, ...rest]) =>
          el("tr", {}, el("th", { scope: "row" }, first),
            rest.map((each) => el("td", { class: "number" }, each))))))));
}

function quality({ evaluation, validation }) {
  if (!evaluation) return untested(validation);
  const lines = Object.entries(evaluation.tasks).map(([name, task]) => {
    const metric = LEADING.find((each) => each in task) ?? Object.keys(task)[0];
    const [low, high] = task[`${metric}_interval`] ?? [null, null];
    return { name, metric, value: task[metric], low, high, n: task.n };
  });
  return panel(t("model.quality"), t("model.quality.note", { split: t(`split.${evaluation.split}`) }),
    intervals(lines.map((line) => ({
      ...line, note: line.metric, at: CHANCE[line.metric], said: format.decimal(line.value),
    })), { from: 0, to: 1 }),
    table([t("model.task"), t("model.metric"), t("model.value"), t("model.interval"), t("model.n")],
      lines.map(({ name, metric, value, low, high, n }) => [
        name, metric, format.decimal(value, 4), between(low, high), n === undefined ? "–" : format.count(n),
      ])));
}

/** Before it is judged: its validation losses, where 1 is the best constant answer. */
function untested(validation) {
  const lines = Object.entries(validation ?? {})
    .map(([name, { loss, constant }]) => ({ name, value: loss / constant }))
    .filter(({ value }) => Number.isFinite(value));
  if (!lines.length) return panel(t("model.quality"), t("model.quality.none"));
  const to = Math.max(1.1, ...lines.map(({ value }) => value));
  return panel(t("model.quality"), t("model.quality.validation"),
    intervals(lines.map((line) => ({ ...line, at: 1, said: format.decimal(line.value) })), { from: 0, to }));
}

const between = (low, high) =>
  low === null || low === undefined ? "–" : `${format.decimal(low, 4)} … ${format.decimal(high, 4)}`;

function receipt({ receipt }) {
  const tasks = Object.entries(receipt?.tasks ?? {});
  if (!tasks.length) return panel(t("model.receipt"), t("model.receipt.none"));
  const ends = tasks.flatMap(([, task]) => [task.difference, ...(task.interval ?? [])]).filter(Number.isFinite);
  const most = Math.max(...ends.map(Math.abs), 1e-6) * 1.1;
  return panel(t("model.receipt"), t("model.receipt.note"),
    intervals(tasks.map(([name, task]) => ({
      name, note: t(`verdict.${task.verdict}`), value: task.difference, at: 0,
      low: task.interval?.[0], high: task.interval?.[1], said: signed(task.difference),
    })), { from: -most, to: most }),
    table(["task", "metric", "verdict", "alone", "together", "difference", "interval"].map((name) => t(`model.${name}`)),
      tasks.map(([name, task]) => [
        name, task.metric ?? "–", t(`verdict.${task.verdict}`), format.decimal(task.single, 4),
        format.decimal(task.multi, 4), signed(task.difference), between(...(task.interval ?? [null])),
      ])));
}

const signed = (value) =>
  Number.isFinite(value) ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${format.decimal(Math.abs(value), 4)}` : "–";

function calibration({ evaluation }) {
  const tasks = Object.entries(evaluation?.tasks ?? {}).filter(([, task]) => task.reliability?.length);
  if (!tasks.length) return null;
  return panel(t("model.calibration"), t("model.calibration.note"),
    el("div", { class: "plots" }, tasks.map(([name, task]) =>
      reliability(name, task.reliability, {
        said: t("model.said"), came: t("model.came"), words: `ECE ${format.decimal(task.ece)}`,
      }))));
}

function learning({ epochs, best_epoch: best }) {
  if (!epochs?.length) return null;
  const relative = (values) => values.map((value) => value / values[0]);
  const kept = epochs.findIndex(({ epoch }) => epoch === best);
  return panel(t("model.curves"), t("model.curves.note"),
    el("div", { class: "plots" }, Object.keys(epochs[0].validation).map((task) => {
      const held = relative(epochs.map(({ validation }) => validation[task]?.loss));
      const taught = relative(epochs.map(({ train }) => train[task]));
      return curves(task, [held, taught], {
        kept: kept < 0 ? null : kept, words: format.decimal(held[kept < 0 ? held.length - 1 : kept], 2),
      });
    })));
}

/** Which task's steps help which other task, where the run was probed. */
function affinity({ affinity }) {
  if (!affinity) return panel(t("model.affinity"), t("model.affinity.none"));
  const { tasks, share } = affinity;
  const others = share.flatMap((row, i) => row.filter((value, j) => i !== j && Number.isFinite(value)));
  return panel(t("model.affinity"), t("model.affinity.note"),
    heat({
      title: t("model.affinity"), rows: tasks, columns: tasks, corner: t("model.affinity.corner"),
      cells: share.map((row) => row.map((value) => (Number.isFinite(value) ? value * 1e4 : null))),
      full: 1e4 * Math.max(...others.map(Math.abs), 1e-9),
      said: (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${format.decimal(Math.abs(value), 1)}`,
    }));
}

/** What each task's gate takes of each expert. */
function gates({ gates }) {
  if (!gates?.length) return null;
  return panel(t("model.gates"), t("model.gates.note"), gates.map(({ name, gates: rows, shares }) =>
    heat({
      title: name, caption: name, rows, columns: shares[0].map((_, i) => t("model.expert", { n: i + 1 })),
      cells: shares, full: 1, said: format.percent,
    })));
}

function absent(shop) {
  const lines = Object.entries(shop.absent);
  if (!lines.length) return null;
  return panel(t("model.absent"), null,
    el("dl", { class: "facts" }, lines.map(([task, why]) => el("div", {}, el("dt", {}, task), el("dd", {}, why)))));
}

/** What the server counts, asked for again and again while the view is open. */
async function traffic(root, signal) {
  const rates = [];
  let before = null;
  const tick = async () => {
    const now = { at: performance.now(), counts: read(await api.metrics({ signal })) };
    const requests = sum(now.counts, "daogou_request_seconds_count");
    if (before)
      rates.push(((requests - sum(before.counts, "daogou_request_seconds_count")) * 1000) / (now.at - before.at));
    before = now;
    drawTraffic(root, now.counts, rates.slice(-40));
  };
  await tick();
  const timer = setInterval(() => {
    if (document.hidden) return;
    tick().catch(() => {}); // the numbers stay until the server is back
  }, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

function drawTraffic(root, counts, rates) {
  const events = (outcome) => sum(counts, "daogou_events_total", { outcome });
  const up = sum(counts, "daogou_store_up");
  fill(root, el("h2", { id: "traffic" }, t("model.traffic")), el("p", { class: "soft" }, t("model.traffic.note")),
    el("dl", { class: "tiles" },
      tile(t("model.requests"), format.count(sum(counts, "daogou_request_seconds_count")),
        `${format.decimal(rates.at(-1) ?? 0, 1)} ${t("model.rate")}`, spark(rates)),
      tile(t("model.answers"), format.count(sum(counts, "daogou_answer_seconds_count")),
        `${t("model.median")} ≤ ${format.seconds(quantile(counts, 0.5))} · ${t("model.p99")} ≤ ${format.seconds(quantile(counts, 0.99))}`),
      tile(t("model.events"), format.count(events("accepted")),
        t("model.rejected", { n: format.count(events("rejected")), m: format.count(events("duplicate")) })),
      tile(t("model.degraded"), format.count(sum(counts, "daogou_degraded_total")), ""),
      tile(t("model.store"), t(up ? "model.store.up" : "model.store.down"),
        t("model.rows", { n: format.count(sum(counts, "daogou_store_rows", { table: "events" })) }))));
}

const tile = (name, value, note, ...more) =>
  el("div", { class: "tile" }, el("dt", {}, name),
    el("dd", {}, el("span", { class: "big" }, value), el("span", { class: "soft" }, note), more));

/** Prometheus' text to `[{name, labels, value}]`. */
export function read(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = line.match(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/);
    if (!parts) continue;
    const labels = Object.fromEntries(
      [...(parts[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value]),
    );
    found.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  return found;
}

const among = (counts, name, labels) =>
  counts.filter((each) =>
    each.name === name && Object.entries(labels).every(([label, value]) => each.labels[label] === value));

const sum = (counts, name, labels = {}) =>
  among(counts, name, labels).reduce((total, { value }) => total + value, 0);

/** The upper end of the bucket in which a share of the model's answers lies, in seconds. */
function quantile(counts, share) {
  const buckets = new Map();
  for (const { labels, value } of among(counts, "daogou_answer_seconds_bucket", {})) {
    const end = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(end, (buckets.get(end) ?? 0) + value);
  }
  const ends = [...buckets.keys()].sort((a, b) => a - b);
  const total = buckets.get(Infinity) ?? 0;
  if (!total) return null;
  const found = ends.find((end) => buckets.get(end) >= share * total);
  return Number.isFinite(found) ? found : ends.at(-2);
}
