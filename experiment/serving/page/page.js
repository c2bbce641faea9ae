"use strict";
// Everything that comes from a text, a question or the server goes into the page by textContent.

const at = (id) => document.getElementById(id);
const make = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let language = "en";
let about = null;
let demos = [];
let asked = null; // {characters, answer, ms}: what is shown

const say = (word, values = {}) =>
  WORDS[language][word].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

// Places count code points; a character of JavaScript's may be half of one.
const shown = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069\u200e\u200f]/g, (c) =>
  `[U+${c.charCodeAt(0).toString(16).toUpperCase()}]`);

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  at("language").value = language;
  if (about) at("about").textContent = say("about", about);
  measure();
  if (asked) show();
  else status("");
}

function status(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function measure() {
  at("size").textContent = say("size", { n: Array.from(at("context").value).length });
}

// A task asks by some of these; what it does not read is not there to be typed.
const reads = (name) => (about ? about.inputs : ["question", "context"]).includes(name);

function fields() {
  for (const name of ["question", "options"]) {
    at(`${name}_field`).hidden = !reads(name);
    at(name).required = reads(name);
  }
}

function chooseDemo() {
  const demo = demos[Number(at("demo").value)];
  at("questions").replaceChildren();
  if (at("demo").value === "" || !demo) return;
  at("context").value = demo.context;
  at("question").value = demo.questions[0];
  for (const question of demo.questions) {
    const option = make("option");
    option.value = question;
    at("questions").append(option);
  }
  measure();
}

function headers() {
  const key = at("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function ask(event) {
  event.preventDefault();
  const context = at("context").value, question = reads("question") ? at("question").value : "";
  const options = reads("options") ? at("options").value.split("\n").filter((line) => line.trim()) : [];
  const missing = [!context.trim(), reads("question") && !question.trim(), reads("options") && !options.length];
  if (missing.some((each) => each)) return status(say("all"), true);
  const body = {
    question, context, options, n_best: Number(at("n_best").value) || 5,
    min_confidence: Math.min(1, Math.max(0, Number(at("min_confidence").value) || 0)),
  };
  at("ask").disabled = true;
  status(say("asking"));
  const began = performance.now();
  try {
    const reply = await fetch("/v1/answer", { method: "POST", headers: headers(), body: JSON.stringify(body) });
    const value = await reply.json().catch(() => ({})); // what a proxy says is not JSON
    if (!reply.ok) {
      at("key_field").hidden = at("key_field").hidden && reply.status !== 401;
      throw new Error(say("failed", { error: value.error || reply.status }));
    }
    asked = { characters: Array.from(context), answer: value.answers[0], ms: Math.round(performance.now() - began) };
    show();
    at("result").focus();
  } catch (error) {
    asked = null;
    at("result").hidden = true;
    status(error instanceof TypeError ? say("unreachable") : error.message, true);
  } finally {
    at("ask").disabled = false;
  }
}

function show() {
  const { answer, ms } = asked;
  const unsure = !answer.answered && answer.kind !== "unknown" && answer.n_best.some((each) => each.text);
  const state = answer.answered ? "answered" : unsure ? "unsure" : "none";
  status(say(state) + (answer.question_cut ? ` ${say("cut")}` : ""));
  at("answer").textContent = answer.answered ? shown(answer.text) : say(state);
  const share = percent(answer.confidence);
  at("facts").textContent = answer.char_start >= 0
    ? say("facts", { share, start: answer.char_start, end: answer.char_end, ms })
    : say("facts_other", { share, kind: answer.kind, ms });
  at("value").hidden = answer.value === null;
  const lines = Array.isArray(answer.value) ? answer.value.map((each) => JSON.stringify(each)) : [JSON.stringify(answer.value, null, 1)];
  at("value").textContent = shown(lines.join("\n"));
  const places = answer.n_best.map((each, place) => ({ ...each, place }));
  const chosen = Math.max(0, places.findIndex((each) => each.text === answer.text && each.char_start === answer.char_start));
  at("alternatives").replaceChildren(...places.map((each) => alternative(each, each.place === chosen)));
  choose(answer.answered ? places[chosen] : null);
  at("result").hidden = false;
}

function alternative(each, pressed) {
  const item = make("li"), button = make("button");
  button.type = "button";
  button.setAttribute("aria-pressed", String(pressed));
  const meter = make("meter");
  meter.value = each.confidence;
  meter.setAttribute("aria-hidden", "true");
  button.append(make("span", "text", each.text ? shown(each.text) : say("empty")), meter, make("span", "share", percent(each.confidence)));
  button.addEventListener("click", () => {
    for (const other of at("alternatives").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    choose(each);
  });
  item.append(button);
  return item;
}

// Marks an answer in the text, and other answers that do not overlap it.
function choose(best) {
  const { characters, answer } = asked;
  const marks = best && best.char_start >= 0 ? [{ ...best, name: "best" }] : [];
  for (const each of answer.n_best) {
    const free = (mark) => each.char_end <= mark.char_start || each.char_start >= mark.char_end;
    if (each.char_start >= 0 && marks.every(free)) marks.push({ ...each, name: "" });
  }
  marks.sort((a, b) => a.char_start - b.char_start);
  const parts = [];
  let place = 0;
  const text = (start, end) => shown(characters.slice(start, end).join(""));
  for (const mark of marks) {
    parts.push(document.createTextNode(text(place, mark.char_start)));
    parts.push(make("mark", mark.name, text(mark.char_start, mark.char_end)));
    place = mark.char_end;
  }
  parts.push(document.createTextNode(text(place, characters.length)));
  at("shown").replaceChildren(...parts);
  const first = at("shown").querySelector("mark.best");
  if (first) at("shown").scrollTop = first.offsetTop - at("shown").offsetTop - 80;
  strips(best);
}

function strips(best) {
  const { characters, answer } = asked;
  at("windows_about").textContent = say("windows_about", { n: answer.windows.length, length: about ? about.max_seq_length : "?" });
  at("windows").replaceChildren(...answer.windows.map((window, number) => {
    const strip = make("div", "strip");
    const holds = best && best.char_start >= window.char_start && best.char_end <= window.char_end && best.char_start >= 0;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${Math.max(1, characters.length)} 1`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(bar(window.char_start, window.char_end, holds ? "holds" : ""));
    if (holds) svg.append(bar(best.char_start, Math.max(best.char_end, best.char_start + characters.length / 200), "answer"));
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", say("window", { number: number + 1, start: window.char_start, end: window.char_end }));
    strip.title = strip.getAttribute("aria-label");
    strip.append(svg);
    return strip;
  }));
}

function bar(start, end, name) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [attribute, value] of Object.entries({ x: start, y: 0, width: Math.max(0, end - start), height: 1, class: name }))
    rect.setAttribute(attribute, String(value));
  return rect;
}

async function read(address) {
  const reply = await fetch(address, { headers: headers() });
  return reply.ok ? reply.json() : null;
}

async function start() {
  const settings = (await read("/settings.json")) || { language: "auto", key: false };
  const preferred = (navigator.languages || []).some((name, place) => place === 0 && name.toLowerCase().startsWith("zh"));
  language = settings.language === "auto" ? (preferred ? "zh" : "en") : settings.language;
  at("key_field").hidden = !settings.key;
  demos = (await read("/demo.json")) || [];
  demos.forEach((demo, place) => {
    const option = make("option", "", demo.title);
    option.value = String(place);
    at("demo").append(option);
  });
  about = settings.key ? null : await read("/v1/about");
  fields();
  translate();
}

at("form").addEventListener("submit", ask);
at("demo").addEventListener("change", chooseDemo);
at("context").addEventListener("input", () => { at("demo").value = ""; measure(); });
at("context").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});
at("key").addEventListener("change", async () => { about = await read("/v1/about"); fields(); translate(); });
at("language").addEventListener("change", () => { language = at("language").value; translate(); });
start().catch(() => status(say("unreachable"), true));
