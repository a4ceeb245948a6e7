// Inputs: a control for each kind of field. control(input) → { element, value(), fill(example), clear(), focus() }
// where value() gives what /predict takes in that column, null for nothing.

import { h, say } from "./dom.js";
import { Trouble } from "./server.js";
import { readable, record } from "./sound.js";

const LISTED = 60; // choices that fit a list that opens; beyond, one types and is shown what fits
const WORD = /[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*|[^\s\p{L}\p{N}_]/gu;
let numbers = 0;

export function control(input) {
  const id = `input-${(numbers += 1)}`;
  const made = (KINDS[input.kind] || plain)(input, id);
  const label = h("label", { class: "name", htmlFor: id }, input.name);
  const hint = made.hint ? h("span", { class: "hint", id: `${id}-hint`, t: made.hint }) : null;
  if (hint) made.field.setAttribute("aria-describedby", hint.id);
  if (!input.missing_allowed) made.field.setAttribute("aria-required", "true");
  const wide = made.wide ? "field wide" : "field";
  return { ...made, input, element: h("div", { class: wide }, label, made.body || made.field, hint), focus: () => made.field.focus() };
}

// The words of a text as the model's fields cut it, so that what is found can be shown in place.
export const cut = (text, how) => (how === "char" ? [...text].filter((one) => one.trim()) : text.match(WORD) || []);

function plain(input, id, given = {}) {
  const field = h("input", { id, type: "text", placeholder: shown(input.example), autocomplete: "off", ...given });
  return { field, value: () => field.value.trim() || null, fill: (value) => { field.value = shown(value); }, clear: () => { field.value = ""; } };
}

function number(input, id) {
  const made = plain(input, id, { type: "number", step: "any", inputMode: "decimal" });
  const low = input.minimum, high = input.maximum;
  const hint = low === undefined ? null : ["range", { low: short(low), high: short(high) }];
  return { ...made, hint, value: () => (made.field.value === "" ? null : Number(made.field.value)) };
}

function date(input, id) {
  const example = shown(input.example);
  const type = /^\d{4}-\d\d-\d\d$/.test(example) ? "date" : /^\d{4}-\d\d-\d\dT/.test(example) ? "datetime-local" : "text";
  return plain(input, id, { type });
}

function category(input, id) {
  const choices = input.choices || [];
  if (!choices.length || choices.length > LISTED) {
    const made = plain(input, id, { autocomplete: "off" });
    const known = h("datalist", { id: `${id}-known` }, choices.slice(0, 1000).map((one) => h("option", { value: shown(one) })));
    made.field.setAttribute("list", known.id);
    return { ...made, body: h("div", {}, made.field, known) };
  }
  const field = h("select", { id }, h("option", { value: "", t: "unknown" }),
    choices.map((one, index) => h("option", { value: String(index) }, shown(one))));
  return {
    field,
    value: () => (field.value === "" ? null : choices[Number(field.value)]),
    fill: (value) => { field.value = String(choices.indexOf(value)); },
    clear: () => { field.value = ""; },
  };
}

function text(input, id) {
  const field = h("textarea", { id, rows: 4, placeholder: shown(input.example).slice(0, 300), spellcheck: false });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) field.form?.requestSubmit();
  });
  const hint = input.mask ? ["masked", { mask: input.mask }] : null;
  return { field, hint, wide: true, value: () => (field.value.trim() ? field.value : null), fill: (value) => { field.value = shown(value); }, clear: () => { field.value = ""; } };
}

function words(input, id) {
  const made = text(input, id);
  const between = input.cut === "char" ? "" : " ";
  const joined = (value) => (Array.isArray(value) ? value : shown(value).split("|")).join(between); // an audit's examples have bars
  made.field.placeholder = joined(input.example).slice(0, 300);
  return {
    ...made,
    value: () => { const found = cut(made.field.value, input.cut); return found.length ? found : null; },
    fill: (value) => { made.field.value = joined(value); },
  };
}

function tags(input, id) {
  return { ...plain(input, id), hint: ["tags", {}] };
}

// A place where a file can be dropped, or chosen: the whole of it is the label of a file input.
export function drop(id, accept, key, take) {
  const field = h("input", { id, type: "file", accept, class: "covered" });
  const place = h("label", { class: "drop", htmlFor: id }, field, h("span", { t: key }));
  field.addEventListener("change", () => { if (field.files[0]) take(field.files[0], [...field.files]); field.value = ""; });
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0], [...event.dataTransfer.files]);
  });
  return { field, place };
}

function image(input, id) {
  let file = null, address = "";
  const picture = h("img", { class: "preview", alt: "", hidden: true });
  const remove = h("button", { type: "button", class: "quiet", hidden: true, t: "remove", onclick: () => { clear(); field.focus(); } });
  const { field, place } = drop(id, "image/*", "drop", take);
  place.prepend(picture);
  place.addEventListener("paste", pasted);

  function take(given) {
    file = given;
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(given);
    picture.src = address;
    picture.alt = given.name || "";
    picture.hidden = remove.hidden = false;
    place.classList.add("full");
    // Small pictures are made of few pixels: enlarged they should show them.
    picture.onload = () => picture.classList.toggle("pixels", picture.naturalWidth < 100);
  }

  function clear() {
    file = null;
    picture.hidden = remove.hidden = true;
    place.classList.remove("full");
  }

  function pasted(event) {
    const found = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
    if (found) { event.preventDefault(); take(found); }
    return Boolean(found);
  }

  return {
    field, wide: true, body: h("div", { class: "with-file" }, place, remove), pasted, clear,
    value: async () => (file ? sent(input, file) : null),
    fill: (value) => take(blob(value, "image/png")),
  };
}

function audio(input, id) {
  let file = null, address = "", stop = null, timer = 0;
  const player = h("audio", { controls: true, hidden: true, tLabel: "listen" });
  const remove = h("button", { type: "button", class: "quiet", hidden: true, t: "remove", onclick: () => { clear(); field.focus(); } });
  const button = h("button", { type: "button", class: "record", onclick: toggle }, h("span", { class: "dot" }), h("span", { t: "record" }));
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const { field, place } = drop(id, "audio/*", "dropSound", take);

  function take(given) {
    file = given;
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(given);
    player.src = address;
    player.hidden = remove.hidden = false;
    wrong.hidden = true;
  }

  function clear() {
    file = null;
    player.hidden = remove.hidden = true;
  }

  async function toggle() {
    if (stop) {
      clearInterval(timer);
      const ending = stop;
      stop = null;
      say(button.lastChild, "record");
      button.classList.remove("on");
      take(await readable(await ending(), input.rate)); // as it will be asked, and with a length that players know
      return;
    }
    try {
      stop = await record();
    } catch (error) {
      wrong.hidden = false;
      say(wrong, [error.key, error.given]);
      return;
    }
    let seconds = 0;
    const tell = () => say(button.lastChild, ["stopRecording", { seconds }]);
    tell();
    button.classList.add("on");
    timer = setInterval(() => { seconds += 1; tell(); }, 1000);
  }

  return {
    field, wide: true, clear,
    body: h("div", { class: "with-file" }, place, h("div", { class: "line" }, button, player, remove), wrong),
    value: async () => {
      if (stop) await toggle();
      return file ? sent(input, file) : null;
    },
    fill: (value) => take(blob(value, "audio/wav")),
  };
}

const KINDS = { number, date, category, text, words, corpus: text, tags, image, audio };

const shown = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
const short = (value) => String(Number(Number(value).toPrecision(4)));

function blob(text, type) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type });
}

// What a file input's column is sent as.
export const sent = async (input, file) => base64(input.kind === "audio" ? await readable(file, input.rate) : file);

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Trouble("failed", { message: String(reader.error) })));
    reader.readAsDataURL(file);
  });
}
