// Answers: what a model said of one row, as a person reads it. shown(model, answer, row) → element

import { announce, h, say } from "./dom.js";
import { language } from "./words.js";

const BARS = 8; // bars at first; the rest on demand

export function shown(model, answer, row) {
  if (answer.error) return wrong(["failed", { message: answer.error }]);
  const prediction = answer.prediction;
  const parts = [];
  if (model.task === "tag" && Array.isArray(prediction)) parts.push(entities(prediction, row));
  else if (answer.gaps) parts.push(passage("prediction", prediction), ...answer.gaps.map((gap, index) => bars(gap, Object.keys(gap)[0], ["gap", { number: index + 1 }])));
  else if (model.task === "translate") parts.push(passage("translation", prediction));
  else if (model.task === "multilabel" && Array.isArray(prediction)) parts.push(labels(prediction));
  else if (typeof prediction === "number") parts.push(headline(number(prediction), model.target));
  else if (vector(prediction)) parts.push(numbers(prediction));
  else if (prediction !== null && typeof prediction === "object") parts.push(passage("prediction", JSON.stringify(prediction)));
  else if (String(prediction).length > 80) parts.push(passage("prediction", String(prediction)));
  else parts.push(headline(String(prediction), model.target));
  if (answer.probabilities) parts.push(bars(answer.probabilities, prediction));
  const quantiles = Object.entries(answer).filter(([name]) => name.startsWith("quantile_"));
  if (quantiles.length) parts.push(shares(quantiles));
  return h("div", {}, parts);
}

export const wrong = (key) => h("p", { class: "wrong", role: "alert", t: key });

export const latency = (ms) => h("p", { class: "took", t: ["took", { ms: ms < 10 ? ms.toFixed(1) : Math.round(ms) }] });

export function number(value) {
  return Number.isFinite(value) ? new Intl.NumberFormat(language(), { maximumSignificantDigits: 6 }).format(value) : String(value);
}

// One bar a label, from none to all: the likeliest first.
export function bars(probabilities, prediction, title = "probability") {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const chosen = new Set(Array.isArray(prediction) ? prediction.map(String) : [String(prediction)]);
  const list = h("ul", { class: "bars" }, sorted.slice(0, BARS).map(bar));
  function bar([label, share]) {
    const fill = h("span", { class: "fill" });
    fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return h("li", { class: chosen.has(label) ? "chosen" : "" },
      h("span", { class: "label", title: label }, label), h("span", { class: "track" }, fill), h("span", { class: "share" }, percent(share)));
  }
  const all = sorted.length <= BARS ? null : h("button", { type: "button", class: "quiet", t: ["more", { count: sorted.length }], onclick: () => {
    list.append(...sorted.slice(BARS).map(bar));
    all.remove();
  } });
  return h("section", {}, h("h3", { t: title }), list, all);
}

const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;

const vector = (value) => Array.isArray(value) && value.length > 1 && value.every((one) => typeof one === "number");

const headline = (text, target) => h("section", {}, h("h3", {}, target || h("span", { t: "prediction" })), h("p", { class: "headline" }, text));

function passage(key, text) {
  const copy = h("button", { type: "button", class: "quiet", t: "copy", onclick: async () => {
    await navigator.clipboard.writeText(text);
    say(copy, "copied");
    announce("copied");
  } });
  return h("section", {}, h("h3", { t: key }), h("p", { class: "passage" }, text), copy);
}

function labels(found) {
  const chips = found.map((one) => h("li", { class: "chip" }, String(one)));
  return h("section", {}, h("h3", { t: "labels" }), chips.length ? h("ul", { class: "chips" }, chips) : h("p", { class: "headline soft", t: "noLabel" }));
}

function numbers(found) {
  const first = found.slice(0, 6).map((one) => one.toFixed(3)).join(", ");
  return h("section", {}, h("h3", { t: ["vector", { size: found.length }] }), h("p", { class: "passage code" }, `[${first}${found.length > 6 ? ", …" : ""}]`));
}

function shares(quantiles) {
  const rows = quantiles.map(([name, value]) => h("tr", {},
    h("th", { scope: "row", t: ["quantile", { share: number(100 * Number(name.slice(9))) }] }), h("td", {}, number(value))));
  return h("section", {}, h("h3", { t: "quantiles" }), h("table", { class: "plain" }, h("tbody", {}, rows)));
}

// The text again with what was found in it marked; steps are those of the words that were sent.
function entities(found, row) {
  const steps = Object.values(row).find(Array.isArray) || [...String(Object.values(row).find((one) => typeof one === "string") || "")];
  const tight = steps.every((one) => [...one].length === 1);
  const text = h("p", { class: "passage marked" });
  const types = [...new Set(found.map((one) => one.type))].sort();
  let at = 0;
  const before = (step) => (tight || step === 0 || /^[.,;:!?)\]}]/.test(steps[step]) ? "" : " ");
  const words = (from, to) => steps.slice(from, to).map((one, index) => (index ? before(from + index) : "") + one).join("");
  for (const one of [...found].sort((a, b) => a.start - b.start)) {
    if (one.start > at) text.append(before(at), words(at, one.start));
    text.append(before(one.start));
    const colour = `kind-${types.indexOf(one.type) % 6}`;
    text.append(h("mark", { class: colour }, words(one.start, one.end), " ", h("span", { class: "type" }, one.type)));
    at = one.end;
  }
  if (at < steps.length) text.append(before(at), words(at, steps.length));
  return h("section", {}, h("h3", { t: "entities" }), text, found.length ? null : h("p", { class: "soft", t: "noEntity" }));
}
