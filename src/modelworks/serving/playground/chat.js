// Chat: a language model. A conversation where the model was tuned on them, or a text that it goes on with.

import { wrong } from "./answers.js";
import { announce, h, say } from "./dom.js";
import { Trouble, events } from "./server.js";

export function language(model) {
  const settings = sampling(model);
  const chats = Boolean(model.chat);
  if (!chats) return h("div", {}, completion(model, settings));
  const views = { chat: conversation(model, settings), complete: completion(model, settings) };
  const place = h("div");
  const tabs = Object.keys(views).map((key) => h("button", { type: "button", t: key, onclick: () => open(key) }));
  const open = (key) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.t === key)));
    place.replaceChildren(views[key]);
    views[key].querySelector(".card").append(settings.element); // both have the same
  };
  open("chat");
  return h("div", {}, h("div", { class: "tabs" }, tabs), place);
}

function sampling() {
  const setting = (key, given) => {
    const field = h("input", { id: `setting-${key}`, type: "number", autocomplete: "off", ...given });
    const help = `${key}Help`;
    const hint = ["temperature", "topP", "seed"].includes(key) ? h("span", { class: "hint", id: `${field.id}-hint`, t: help }) : null;
    if (hint) field.setAttribute("aria-describedby", hint.id);
    return [key, field, h("div", { class: "field" }, h("label", { class: "name", htmlFor: field.id, t: key }), field, hint)];
  };
  const all = [
    setting("maxTokens", { min: 1, max: 100000, step: 1, value: 128 }),
    setting("temperature", { min: 0, max: 2, step: 0.05, value: 0.8 }),
    setting("topP", { min: 0.01, max: 1, step: 0.01, value: 0.95 }),
    setting("seed", { min: 0, step: 1, value: "" }),
  ];
  const fields = Object.fromEntries(all.map(([key, field]) => [key, field]));
  const read = (key) => (fields[key].value === "" ? undefined : Number(fields[key].value));
  return {
    element: h("details", { class: "settings" }, h("summary", { t: "settings" }), h("div", { class: "fields" }, all.map(([, , element]) => element))),
    asked: () => ({ max_tokens: read("maxTokens"), temperature: read("temperature"), top_p: read("topP"), seed: read("seed") }),
  };
}

// Write what comes into `place` as it comes. Gives { text, stopped }; what it cost is told in `foot`.
async function written(path, asked, pieces, place, foot, signal) {
  const started = performance.now();
  let first = 0, text = "", tokens = 0, ending = "", stopped = false;
  try {
    for await (const event of events(path, { ...asked, stream_options: { include_usage: true } }, signal)) {
      if (event.usage) tokens = event.usage.completion_tokens;
      const choice = event.choices?.[0];
      if (!choice) continue;
      const piece = pieces(choice) || "";
      if (piece && !first) first = performance.now() - started;
      if (piece && !event.usage) tokens += 1;
      text += piece;
      place.textContent = text;
      ending = choice.finish_reason || ending;
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    stopped = true;
  }
  const seconds = Math.max((performance.now() - started - first) / 1000, 0.001);
  say(foot, ["speed", { tokens, first: Math.round(first), rate: (Math.max(tokens - 1, 0) / seconds).toFixed(1) }]);
  if (stopped || ending === "length") foot.append(" · ", h("span", { t: stopped ? "stopped" : "cut" }));
  return text;
}

// A button that sends and, while an answer comes, stops.
function sender(key, send) {
  let running = null;
  const button = h("button", { type: "submit", class: "primary", t: key });
  const stop = h("button", { type: "button", t: "stop", hidden: true, onclick: () => running?.abort() });
  const go = async () => {
    if (running) return;
    running = new AbortController();
    button.disabled = true;
    stop.hidden = false;
    try {
      await send(running.signal);
    } finally {
      running = null;
      button.disabled = false;
      stop.hidden = true;
    }
  };
  return { button, stop, go };
}

function completion(model, settings) {
  const text = h("textarea", { id: "prompt", rows: 4, spellcheck: false, placeholder: model.example || "" });
  const out = h("div", { class: "answer", role: "region", tLabel: "answer", "aria-live": "polite" }, h("p", { class: "soft", t: "nothing" }));
  const { button, stop, go } = sender("complete", async (signal) => {
    const more = h("span", { class: "written" });
    const foot = h("p", { class: "took" });
    out.replaceChildren(h("p", { class: "passage" }, h("span", { class: "soft" }, text.value), more), foot);
    out.setAttribute("aria-busy", "true");
    try {
      await written("/v1/completions", { model: model.name, prompt: text.value, ...settings.asked() }, (choice) => choice.text, more, foot, signal);
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      out.append(wrong([error.key, error.given]));
    } finally {
      out.setAttribute("aria-busy", "false");
    }
  });
  const body = h("form", { class: "card", noValidate: true, onsubmit: (event) => { event.preventDefault(); go(); } },
    h("h2", { t: "complete" }),
    h("div", { class: "field wide" }, h("label", { class: "name", htmlFor: "prompt", t: "prompt" }), text),
    h("div", { class: "line" }, button, stop), settings.element);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) body.requestSubmit();
  });
  return h("div", { class: "cards" }, body, h("section", { class: "card" }, h("h2", { t: "answer" }), out));
}

function conversation(model, settings) {
  const messages = [];
  const log = h("ol", { class: "log", role: "log", tLabel: "chat", tabIndex: 0 });
  const text = h("textarea", { id: "message", rows: 2, tLabel: "message", tPlaceholder: "message" });
  const turn = (who, given) => {
    const said = h("p", { class: "said" }, given);
    const foot = h("p", { class: "took" });
    log.append(h("li", { class: who }, h("span", { class: "who", t: who }), said, foot));
    log.scrollTop = log.scrollHeight;
    return { said, foot };
  };
  const { button, stop, go } = sender("send", async (signal) => {
    const asked = text.value.trim();
    if (!asked) return;
    messages.push({ role: "user", content: asked });
    turn("you", asked);
    text.value = "";
    const { said, foot } = turn("model", "");
    const follow = new MutationObserver(() => { log.scrollTop = log.scrollHeight; });
    follow.observe(said, { childList: true, characterData: true, subtree: true });
    log.setAttribute("aria-busy", "true");
    try {
      const content = await written("/v1/chat/completions", { model: model.name, messages, ...settings.asked() }, (choice) => choice.delta?.content, said, foot, signal);
      messages.push({ role: "assistant", content });
    } catch (error) {
      messages.pop();
      if (!(error instanceof Trouble)) throw error;
      said.parentElement.append(wrong([error.key, error.given]));
      text.value ||= asked;
    } finally {
      follow.disconnect();
      log.scrollTop = log.scrollHeight;
      log.setAttribute("aria-busy", "false");
      text.focus();
    }
  });
  text.addEventListener("keydown", (event) => {
    // While an input method composes, Enter chooses a word.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); go(); }
  });
  const anew = h("button", { type: "button", class: "quiet", t: "newChat", onclick: () => {
    stop.click();
    messages.length = 0;
    log.replaceChildren();
    announce("newChat");
    text.focus();
  } });
  return h("div", {}, h("form", { class: "card chat", noValidate: true, onsubmit: (event) => { event.preventDefault(); go(); } },
    log, text, h("div", { class: "line" }, button, stop, anew), settings.element));
}
