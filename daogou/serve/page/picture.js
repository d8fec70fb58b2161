// A product to a drawing of it: its form from the category, its colours from the words about it.
// The same product is drawn the same way every time.

import { svg } from "./dom.js";

const COLOURS = [
  [/jet black|black|纯黑|黑/i, "#2f3336"],
  [/ivory|象牙白/i, "#f3ecd9"],
  [/white|白/i, "#f4f4f1"],
  [/slate|石板灰/i, "#69757d"],
  [/silver|银/i, "#c3c8cc"],
  [/gr[ea]y|灰/i, "#9aa0a4"],
  [/navy|藏青/i, "#2c3e5c"],
  [/haze blue|雾霾蓝/i, "#8da6b8"],
  [/blue|蓝/i, "#4277b0"],
  [/apple green|苹果绿/i, "#8fb35b"],
  [/green|绿/i, "#4f8a62"],
  [/crimson|正红/i, "#a82638"],
  [/\bred\b|红色|大红|酒红/i, "#c24440"],
  [/\brose\b|玫瑰/i, "#d58a99"],
  [/pink|粉/i, "#e5a5b1"],
  [/tangerine|橘/i, "#e58542"],
  [/orange|橙/i, "#e08a3c"],
  [/mustard|姜黄/i, "#c79b34"],
  [/gold|金/i, "#cba75a"],
  [/yellow|黄/i, "#e3bd4e"],
  [/coffee|咖啡/i, "#6b4c3b"],
  [/brown|棕|褐/i, "#85603f"],
  [/oat|燕麦/i, "#d9cbb2"],
  [/beige|khaki|cream|米色|卡其|杏色/i, "#dccbae"],
  [/purple|violet|紫/i, "#80689f"],
  [/teal|cyan|青/i, "#3f8d8a"],
  [/红/, "#c24440"],
];

// Each form: the outline that takes the colour, then lines drawn on it.
const FORMS = {
  sweater: [
    "M72 50Q100 68 128 50L158 64Q172 96 178 132L152 140 145 106V160Q100 168 55 160V106L48 140 22 132Q28 96 42 64Z",
    "M72 50Q100 76 128 50M56 150Q100 158 144 150M25 122L50 130M175 122L150 130",
  ],
  shirt: [
    "M74 46L100 58 126 46 158 62 176 104 150 116 144 98V164H56V98L50 116 24 104 42 62Z",
    "M74 46L88 74 100 58 112 74 126 46M100 60V164M114 92H132V112H114ZM100 84h.1M100 106h.1M100 128h.1M100 150h.1",
  ],
  trousers: [
    "M66 38H134L144 168H112L100 88 88 168H56Z",
    "M65 50H135M100 50V88M72 52Q74 68 64 76M128 52Q126 68 136 76",
  ],
  dress: [
    "M80 36Q100 56 120 36L134 44 124 90Q146 128 156 162 100 180 44 162 54 128 76 90L66 44Z",
    "M76 90Q100 97 124 90M80 36Q100 62 120 36M84 98L72 164M100 98V170M116 98L128 164",
  ],
  coat: [
    "M76 38H124L156 54 174 126 150 132 144 104 150 172H50L56 104 50 132 26 126 44 54Z",
    "M76 38L90 88 100 72 110 88 124 38M100 72V172M64 128H84M116 128H136M108 106h.1M108 130h.1M108 152h.1",
  ],
  shoes: [
    "M30 138C28 120 32 104 38 96 54 106 66 96 74 84L106 100C120 118 150 116 168 130 174 136 174 144 172 150H32Z",
    "M30 150H174M82 98L92 90M92 104L102 96M102 110L112 103M38 96C50 116 60 118 70 118",
  ],
  bag: [
    "M48 82H152L164 166Q100 174 36 166Z",
    "M74 96C70 34 130 34 126 96M46 100H154M92 116H108V126H92Z",
  ],
  scarf: [
    "M58 66C58 36 142 36 142 66 142 84 128 92 114 95L122 164H90L86 95C70 92 58 82 58 66Z",
    "M74 66C78 54 122 54 126 66 122 78 78 78 74 66ZM90 150H121M92 164V172M100 164V172M108 164V172M116 164V172",
  ],
  hat: [
    "M56 118C54 70 78 52 100 52S146 70 144 118C164 122 178 130 178 136 160 150 40 150 22 136 22 130 36 122 56 118Z",
    "M56 118Q100 132 144 118M57 106Q100 120 143 106",
  ],
  watch: [
    "M82 34H118L122 66A40 40 0 0 1 122 134L118 166H82L78 134A40 40 0 0 1 78 66Z",
    "M100 72A28 28 0 1 0 100 128 28 28 0 0 0 100 72ZM100 84V100L112 108",
  ],
  phone: [
    "M70 34H130Q138 34 138 42V158Q138 166 130 166H70Q62 166 62 158V42Q62 34 70 34Z",
    "M72 48H128V146H72ZM94 156H106",
  ],
  book: ["M48 46H144Q152 46 152 54V162H56Q48 162 48 154Z", "M62 46V162M80 74H132M80 90H116M56 154H152"],
  bottle: [
    "M88 34H112V62C132 70 138 84 138 98V158Q138 168 128 168H72Q62 168 62 158V98C62 84 68 70 88 62Z",
    "M86 48H114M62 106H138M62 144H138M80 124H120",
  ],
  food: [
    "M44 92H156C156 132 132 156 118 160V166H82V160C68 156 44 132 44 92Z",
    "M38 92H162M80 78C76 66 86 62 82 50M100 78C96 66 106 62 102 50M120 78C116 66 126 62 122 50",
  ],
  sofa: [
    "M46 84Q46 62 66 62H134Q154 62 154 84V94Q176 94 176 112V150H24V112Q24 94 46 94Z",
    "M46 94Q52 104 52 122H148Q148 104 154 94M100 64V122M34 150V162M166 150V162",
  ],
  toy: [
    "M72 58A16 16 0 1 1 88 48Q100 44 112 48A16 16 0 1 1 128 58Q136 74 124 88 150 98 146 134 138 168 100 168 62 168 54 134 50 98 76 88 64 74 72 58Z",
    "M90 66h.1M110 66h.1M94 80Q100 86 106 80M78 122Q100 142 122 122",
  ],
  parcel: ["M40 70L100 46 160 70V142L100 168 40 142Z", "M40 70L100 94 160 70M100 94V168M70 58L130 82V100"],
};

const CATEGORIES = [
  [/coat|jacket|parka|blazer|大衣|外套|夹克|羽绒/i, "coat"],
  [/sweater|jumper|knit|hoodie|cardigan|毛衣|针织|卫衣/i, "sweater"],
  [/dress|frock|skirt|裙/i, "dress"],
  [/trouser|pants|jeans|shorts|legging|裤/i, "trousers"],
  [/shirt|blouse|\btop\b|\btee|polo|衬衫|衬衣|T恤|上衣/i, "shirt"],
  [/shoe|sneaker|boot|sandal|heel|鞋|靴/i, "shoes"],
  [/bag|tote|backpack|purse|wallet|luggage|包|箱/i, "bag"],
  [/scarf|shawl|tie\b|glove|围巾|披肩|手套/i, "scarf"],
  [/hat|cap\b|beanie|帽/i, "hat"],
  [/watch|jewel|ring|necklace|手表|腕表|首饰|项链/i, "watch"],
  [/phone|tablet|laptop|computer|electronic|camera|tv\b|手机|平板|电脑|数码|相机/i, "phone"],
  [/book|magazine|stationery|office|书|文具/i, "book"],
  [/beauty|cosmetic|cream|shampoo|drink|wine|water|oil|juice|care|lip|美妆|护肤|饮料|酒|洗/i, "bottle"],
  [/food|grocer|meat|fruit|veg|snack|bread|cheese|soup|frozen|dairy|tea|coffee|食品|零食|水果|茶|餐/i, "food"],
  [/furniture|sofa|home|chair|bed|lamp|kitchen|家具|家居|沙发|床|灯/i, "sofa"],
  [/toy|baby|kids|game|pet|玩具|母婴|宠物/i, "toy"],
];

/** A product as an SVG; `words` are what is written about it, colour column first. */
export function picture({ id, category, words }) {
  const seed = hash(id);
  const form = formOf([category, ...words]);
  const colour = colourOf(words) ?? pale(seed);
  const [outline, lines] = FORMS[form];
  const ink = luminance(colour) > 0.25 ? mix(colour, "#1a1412", 0.38) : mix(colour, "#ffffff", 0.34);
  const turn = (seed % 7) - 3;
  const drop = { shoes: 22, sofa: 10, food: 8 }[form] ?? 0; // down to the ground
  return svg(
    "svg",
    { class: `picture ground-${seed % 4}`, viewBox: "0 0 200 200", "aria-hidden": "true", focusable: "false" },
    svg("circle", { class: "halo", cx: 100 + ((seed >> 3) % 21) - 10, cy: 98, r: 74 + ((seed >> 7) % 9) }),
    svg("ellipse", { class: "shadow", cx: 100, cy: 176, rx: 56, ry: 5 }),
    svg(
      "g",
      { transform: `rotate(${turn} 100 108) translate(100 ${104 + drop}) scale(.9) translate(-100 -104)` },
      svg("path", { d: outline, fill: colour, stroke: ink, "stroke-width": 2, "stroke-linejoin": "round" }),
      pattern(form, outline, seed, ink),
      svg("path", {
        d: lines, fill: "none", stroke: ink, "stroke-width": 2.4, "stroke-linecap": "round",
        "stroke-linejoin": "round", "stroke-opacity": 0.75,
      }),
    ),
  );
}

const WOVEN = new Set(["sweater", "shirt", "dress", "scarf", "bag", "hat"]);
let drawn = 0; // names of clips are unique on the page

/** Stripes or dots on some of the woven things, so that a shelf is not all plain. */
function pattern(form, outline, seed, ink) {
  const kind = (seed >> 11) % 5;
  if (!WOVEN.has(form) || kind > 1) return null;
  const name = `cut-${++drawn}`;
  const marks = [];
  if (kind === 0) {
    for (let y = 52; y < 170; y += 16) marks.push(`M10 ${y}H190`);
  } else {
    for (let y = 56; y < 170; y += 18)
      for (let x = (y % 36 ? 22 : 31); x < 190; x += 18) marks.push(`M${x} ${y}h.1`);
  }
  return svg(
    "g",
    {},
    svg("clipPath", { id: name }, svg("path", { d: outline })),
    svg("path", {
      d: marks.join(""), "clip-path": `url(#${name})`, fill: "none", stroke: ink,
      "stroke-width": kind ? 5 : 6, "stroke-linecap": "round", "stroke-opacity": 0.22,
    }),
  );
}

function formOf(words) {
  for (const text of words) {
    const found = text && CATEGORIES.find(([pattern]) => pattern.test(text));
    if (found) return found[1];
  }
  return "parcel";
}

function colourOf(words) {
  for (const text of words) {
    const found = text && COLOURS.find(([pattern]) => pattern.test(text));
    if (found) return found[1];
  }
  return null;
}

const PALE = ["#b9a48c", "#8fa39b", "#a7adc0", "#c3a5a0", "#a9b48d", "#b7a9b9"];
const pale = (seed) => PALE[(seed >> 5) % PALE.length];

/** FNV-1a over a name's code units. */
function hash(name) {
  let found = 0x811c9dc5;
  for (const letter of String(name)) found = Math.imul(found ^ letter.codePointAt(0), 0x01000193);
  return found >>> 0;
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function mix(one, other, share) {
  const [a, b] = [channels(one), channels(other)];
  const mixed = a.map((value, i) => Math.round(value + (b[i] - value) * share));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

const luminance = (hex) => {
  const [r, g, b] = channels(hex).map((value) => value / 255);
  return 0.2126 * r ** 2.2 + 0.7152 * g ** 2.2 + 0.0722 * b ** 2.2;
};
