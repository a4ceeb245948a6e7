// Table: a CSV file of many rows, or many files, asked piece by piece, and its answers as a CSV file to keep.

import { wrong } from "./answers.js";
import { announce, download, h, say } from "./dom.js";
import { drop, sent } from "./inputs.js";
import { Trouble, predict } from "./server.js";

const PIECE = 200; // rows a request
const FILES = 8; // pictures or sounds a request
const SHOWN = 8;
const PATIENCE = 20; // a busy server is asked again so often

export function table(model) {
  const names = model.inputs.map((input) => input.name);
  const [first] = model.inputs;
  const takesFiles = names.length === 1 && ["image", "audio"].includes(first.kind);
  const out = h("div", { class: "answer", "aria-live": "polite" });
  const id = `table-${encodeURIComponent(model.name)}`;
  const { field, place } = takesFiles ? drop(id, `${first.kind}/*`, "dropFiles", take) : drop(id, ".csv,text/csv", "dropTable", take);
  field.multiple = takesFiles;
  let running = null;

  async function take(file, files) {
    running?.abort();
    const mine = (running = new AbortController());
    try {
      const asked = takesFiles ? ofFiles(first, files) : await ofTable(names, file);
      await score(model, asked, out, mine);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Trouble)) throw error;
      out.replaceChildren(wrong([error.key, error.given]));
    }
  }

  field.setAttribute("aria-describedby", `${id}-help`);
  const help = takesFiles ? "filesHelp" : ["batchHelp", { columns: names.join(", ") }];
  return h("details", { class: "card batch" }, h("summary", { t: "batch" }), h("p", { class: "soft", id: `${id}-help`, t: help }), place, out);
}

// What is asked: { name, header, rows of cells, piece, question(cells, number) → a row as /predict takes it }
async function ofTable(names, file) {
  const rows = parse(await file.text());
  const header = rows.shift() || [];
  const known = names.filter((name) => header.includes(name));
  if (!rows.length) throw new Trouble("noRows");
  if (!known.length) throw new Trouble("noColumn", { columns: names.join(", "), found: header.slice(0, 8).join(", ") });
  const question = (cells) => Object.fromEntries(known.map((one) => [one, cells[header.indexOf(one)] || null]));
  return { name: file.name, header, rows, piece: PIECE, question };
}

function ofFiles(input, files) {
  const question = async (_, number) => ({ [input.name]: await sent(input, files[number]) });
  return { name: "files", header: ["file"], rows: files.map((file) => [file.name]), piece: FILES, question };
}

async function score(model, { name, header, rows, piece, question }, out, control) {
  const progress = h("progress", { max: rows.length, value: 0, tLabel: "answer" });
  const line = h("p", { t: ["rowsDone", { done: 0, rows: rows.length }] });
  const stop = h("button", { type: "button", t: "stop", onclick: () => control.abort() });
  out.replaceChildren(line, progress, stop);
  const answers = [];
  for (let start = 0; start < rows.length && !control.signal.aborted; start += piece) {
    const asked = await Promise.all(rows.slice(start, start + piece).map((cells, index) => question(cells, start + index)));
    try {
      answers.push(...(await patient(model.name, asked, control.signal)));
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
    progress.value = answers.length;
    say(line, ["rowsDone", { done: answers.length, rows: rows.length }]);
  }
  if (!answers.length) return out.replaceChildren();
  const [columns, cells] = joined(header, rows.slice(0, answers.length), answers);
  const failed = answers.filter((one) => one.error).length;
  const file = `${name.replace(/\.csv$/i, "")}.answers.csv`;
  const text = [columns, ...cells].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  const save = h("button", { type: "button", class: "primary", t: "download", onclick: () => download(file, text, "text/csv;charset=utf-8") });
  announce("rowsDone", { done: answers.length, rows: rows.length });
  out.replaceChildren(line, ...(failed ? [h("p", { class: "wrong", t: ["rowsFailed", { failed }] })] : []), save, preview(columns, cells));
}

async function patient(model, asked, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return (await predict(model, asked, signal)).answer;
    } catch (error) {
      if (error.key !== "busy" || tries >= PATIENCE) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.min(5, Number(error.given.seconds) || 1)); });
    }
  }
}

// The file's columns, then the answers': as `modelworks predict` writes them.
function joined(header, rows, answers) {
  const labels = Object.keys(answers.find((one) => one.probabilities)?.probabilities || {});
  const plain = [...new Set(answers.flatMap((one) => Object.keys(one)))].filter((key) => !["probabilities", "error"].includes(key));
  const added = [...plain, ...labels.map((label) => `probability_${label}`), ...(answers.some((one) => one.error) ? ["error"] : [])];
  const columns = [...header.map((name) => (added.includes(name) ? `input_${name}` : name)), ...added];
  const cells = rows.map((row, index) => {
    const one = answers[index];
    return [
      ...header.map((_, column) => row[column] ?? ""), ...plain.map((key) => written(one[key])),
      ...labels.map((label) => written(one.probabilities?.[label])), ...(added.includes("error") ? [one.error || ""] : []),
    ];
  });
  return [columns, cells];
}

const written = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

function preview(columns, cells) {
  const short = (text) => (/^-?\d+\.\d{5,}$/.test(text) ? Number(text).toFixed(4) : text.length > 60 ? `${text.slice(0, 57)}…` : text);
  return h("div", { class: "scrolls", tabIndex: 0 }, h("table", {},
    h("caption", { t: ["firstRows", { count: Math.min(SHOWN, cells.length) }] }),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, cells.slice(0, SHOWN).map((row) => h("tr", {}, row.map((cell) => h("td", {}, short(cell))))))));
}

// Comma-separated values (RFC 4180) → rows of cells; empty lines are left out.
export function parse(text) {
  const rows = [];
  let row = [], cell = "", inside = false, at = text.startsWith("\ufeff") ? 1 : 0;
  const end = () => { row.push(cell); cell = ""; };
  const close = () => { end(); if (row.length > 1 || row[0] !== "") rows.push(row); row = []; };
  for (; at < text.length; at += 1) {
    const letter = text[at];
    if (inside) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') { cell += '"'; at += 1; } else inside = false;
    } else if (letter === '"' && cell === "") inside = true;
    else if (letter === ",") end();
    else if (letter === "\n") close();
    else if (letter !== "\r" || text[at + 1] !== "\n") cell += letter;
  }
  if (inside) throw new Trouble("quote");
  if (cell !== "" || row.length) close();
  return rows;
}
