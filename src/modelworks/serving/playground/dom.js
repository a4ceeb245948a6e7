// Elements in one line, every text by its key: h("button", { t: "ask", onclick: ask })
// A text of people or models goes in as a text node, never as HTML.

import { t } from "./words.js";

export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "t") say(element, value);
    else if (name === "tLabel" || name === "tPlaceholder") {
      element.dataset[name] = value;
      element.setAttribute(ATTRIBUTES[name], t(value));
    } else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const ATTRIBUTES = { tLabel: "aria-label", tPlaceholder: "placeholder" };

// A text that changes with the language: `key`, or [key, {name: value}].
export function say(element, key) {
  const [name, given] = Array.isArray(key) ? key : [key, {}];
  element.dataset.t = name;
  element.dataset.tGiven = JSON.stringify(given);
  element.textContent = t(name, given);
}

// Every text below `root`, in the language now chosen.
export function retell(root = document.body) {
  for (const element of root.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t, JSON.parse(element.dataset.tGiven || "{}"));
  }
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    const key = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    for (const element of root.querySelectorAll(`[data-${key}]`)) {
      element.setAttribute(attribute, t(element.dataset[name]));
    }
  }
}

// What a screen reader should hear at once.
export function announce(key, given = {}) {
  say(document.getElementById("status"), [key, given]);
}

export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
