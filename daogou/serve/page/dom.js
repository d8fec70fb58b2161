// Elements from data. Data is always text here: nothing parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `on` holds listeners, `vars` CSS variables, null and false attributes are left out. */
export function el(name, attributes = {}, ...children) {
  return made(document.createElement(name), attributes, children);
}

/** An element of a drawing. */
export function svg(name, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

function made(element, { on = {}, vars = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, value] of Object.entries(vars)) element.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined));
  return element;
}

/** Give an element other children. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((each) => each !== null && each !== undefined),
  );
}

const ICONS = {
  guide: "M12 3a9 9 0 1 0 9 9M15.5 8.5l-2 5-5 2 2-5zM21 3v5h-5",
  profile: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c1.2-3.6 4-5.5 7.5-5.5s6.3 1.9 7.5 5.5",
  model: "M4 20V10m5.3 10V4m5.4 16v-7M20 20V7",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM20 20l-4.8-4.8",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14.5 5.5L8 12l6.5 6.5",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  cart: "M3 4h2.5l2.2 11h10.1L20 7.5H6.3M9.5 19.5h.01M16.5 19.5h.01",
  check: "M5 12.5l4.5 4.5L19 7.5",
  key: "M14.5 13.5a4.5 4.5 0 1 0-4.4-3.6L4 16v4h4v-2.5h2.5V15l1.3-1.3a4.5 4.5 0 0 0 2.7-.2zM15.5 8.5h.01",
};

/** A drawn sign beside words, which a screen reader passes over. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }),
  );
}
