// Form: a model that answers rows. One row by hand, two texts side by side for vectors, or a table of many.

import { latency, number, shown, wrong } from "./answers.js";
import { announce, h, say } from "./dom.js";
import { control } from "./inputs.js";
import { Trouble, predict } from "./server.js";
import { table } from "./table.js";

export function form(model) {
  const compares = model.task === "embed" && model.inputs.length === 1;
  return h("div", {}, compares ? pair(model) : single(model), table(model));
}

// The two cards of every form: what goes in, and a place for what comes out.
function cards(model, controls, key, ask) {
  const answer = h("div", { class: "answer", role: "region", "aria-live": "polite", tLabel: "answer" }, h("p", { class: "soft", t: "nothing" }));
  const button = h("button", { type: "submit", class: "primary", t: key });
  const examples = controls.filter(({ input }) => !["image", "audio"].includes(input.kind) && input.example !== null);
  const body = h("form", { class: "card", noValidate: true },
    h("h2", { t: "input" }),
    h("div", { class: "fields" }, controls.map(({ element }) => element)),
    h("div", { class: "line" }, button,
      examples.length ? h("button", { type: "button", t: "example", onclick: () => examples.forEach((one) => one.fill(one.input.example)) }) : null,
      h("button", { type: "button", class: "quiet", t: "clear", onclick: () => controls.forEach((one) => one.clear()) })));
  let running = null;
  body.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    const mine = (running = new AbortController());
    say(button, "asking");
    answer.setAttribute("aria-busy", "true");
    try {
      const found = await ask(mine.signal);
      answer.replaceChildren(...found);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Trouble)) throw error;
      answer.replaceChildren(wrong([error.key, error.given]));
    } finally {
      if (mine === running) {
        running = null;
        say(button, key);
        answer.setAttribute("aria-busy", "false");
      }
    }
  });
  // A picture that is pasted anywhere goes to the first place for one.
  const takes = controls.find((one) => one.pasted);
  if (takes) body.dataset.pastes = "yes";
  body.pasted = takes?.pasted;
  return h("div", { class: "cards" }, body, h("section", { class: "card" }, h("h2", { t: "answer" }), answer));
}

function single(model) {
  const controls = model.inputs.map(control);
  return cards(model, controls, model.task === "translate" ? "doTranslate" : "ask", async (signal) => {
    const row = await given(controls);
    const { answer, ms } = await predict(model.name, row, signal);
    return [shown(model, answer, row), latency(ms)];
  });
}

// Values of a row; what must be there and is not gets the focus.
async function given(controls) {
  const row = {};
  for (const one of controls) {
    if (one.field.validity.badInput) {
      one.focus();
      throw new Trouble("noNumber", { name: one.input.name });
    }
    row[one.input.name] = await one.value();
    if (row[one.input.name] === null && !one.input.missing_allowed) {
      one.focus();
      throw new Trouble("required", { name: one.input.name });
    }
  }
  if (Object.values(row).every((value) => value === null)) {
    controls[0].focus();
    throw new Trouble("required", { name: controls[0].input.name });
  }
  return row;
}

function pair(model) {
  const [input] = model.inputs;
  const controls = [control(input), control(input)];
  ["firstText", "secondText"].forEach((key, index) => say(controls[index].element.querySelector("label"), key));
  return cards(model, controls, "compare", async (signal) => {
    const rows = [await given([controls[0]]), await given([controls[1]])];
    const { answer, ms } = await predict(model.name, rows, signal);
    const failed = answer.find((one) => one.error);
    if (failed) return [wrong(["failed", { message: failed.error }])];
    const [a, b] = answer.map((one) => one.prediction);
    const value = cosine(a, b);
    const meter = h("div", { class: "meter", role: "img", "aria-label": number(value) }, h("span", { class: "needle" }));
    meter.firstChild.style.left = `${50 + 50 * Math.max(-1, Math.min(1, value))}%`;
    announce("similarity");
    return [
      h("section", {}, h("h3", { t: "similarity" }), h("p", { class: "headline" }, value.toFixed(3)), meter, h("p", { class: "soft", t: "similar" })),
      shown(model, answer[0], rows[0]), latency(ms),
    ];
  });
}

function cosine(a, b) {
  const product = (one, other) => one.reduce((sum, value, index) => sum + value * other[index], 0);
  return product(a, b) / (Math.sqrt(product(a, a) * product(b, b)) || 1);
}

