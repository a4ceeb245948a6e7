// App: reads what the server has, and shows the chosen model's form. The address ends in #MODEL.

import { number, wrong } from "./answers.js";
import { language as writes } from "./chat.js";
import { h, retell } from "./dom.js";
import { form } from "./form.js";
import { Trouble, models } from "./server.js";
import { choose, knows, language, preferred } from "./words.js";

const main = document.getElementById("main");
const list = document.getElementById("models");
const views = new Map(); // what was typed stays while one looks at another model

choose(preferred());
retell();
const other = document.getElementById("language");
const tellOther = () => {
  other.textContent = language() === "en" ? "中文" : "English";
  other.lang = language() === "en" ? "zh" : "en";
};
tellOther();
other.addEventListener("click", () => {
  choose(language() === "en" ? "zh" : "en");
  views.forEach((view) => retell(view));
  retell();
  tellOther();
});

let known = [];
try {
  known = await models();
  if (!known.length) throw new Trouble("noModels");
  list.replaceChildren(...known.map((model) => h("a", { href: `#${encodeURIComponent(model.name)}` }, model.name)));
  addEventListener("hashchange", open);
  open();
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  main.replaceChildren(wrong([error.key, error.given]));
}
main.dataset.ready = "yes";

function open() {
  let name = "";
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { /* no name of ours */ }
  const model = known.find((one) => one.name === name) || known[0];
  for (const link of list.children) {
    const here = link.textContent === model.name;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) link.scrollIntoView({ block: "nearest", inline: "center" });
  }
  document.title = `${model.name} · modelworks`;
  if (!views.has(model.name)) views.set(model.name, view(model));
  main.replaceChildren(views.get(model.name));
  retell(main);
}

function view(model) {
  const metric = model.metric || {};
  const value = typeof metric.value === "number" ? number(Number(metric.value.toPrecision(4))) : null;
  const span = typeof metric.low === "number" && typeof metric.high === "number";
  const told = { name: metric.name, value, low: number(Number((metric.low ?? 0).toPrecision(4))), high: number(Number((metric.high ?? 0).toPrecision(4))) };
  return h("article", {},
    h("div", { class: "about" }, h("h1", {}, model.name), h("p", { class: "soft" },
      h("span", {}, `${model.task}`), knows(model.task) ? [" · ", h("span", { t: model.task })] : null,
      value === null ? null : [" · ", h("span", { t: [span ? "metricRange" : "metric", told] }), h("span", { t: ["onTest", { split: metric.split || "test" }] })])),
    model.kind === "language" ? writes(model) : form(model));
}

// A picture pasted anywhere but into a text goes to the form's first place for one.
document.addEventListener("paste", (event) => {
  if (event.defaultPrevented || event.target.closest?.("textarea, input[type=text]")) return;
  main.querySelector("form[data-pastes]")?.pasted?.(event);
});

