"use strict";
(() => {
  const PAGE = 50;
  const byId = (id) => document.getElementById(id);
  const collator = new Intl.Collator("zh", { numeric: true });

  /* What can't be seen, or turns the direction of writing, is shown by its code. */
  const hidden = /[\p{Cf}\p{Cs}\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/gu;
  const shown = (text) =>
    text.replace(hidden, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

  /* Elements are made of names and texts; no text is ever read as HTML. */
  function make(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    for (const child of children) element.append(typeof child === "string" ? shown(child) : child);
    return element;
  }
  const text = (value) => make("bdi", {}, value);

  function sortBy(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const key = (row) => row.cells[column].dataset.key;
    const numeric = rows.some((row) => key(row) !== "");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    rows.sort((one, other) => {
      if (!numeric) return sign * collator.compare(one.cells[column].textContent, other.cells[column].textContent);
      const [x, y] = [key(one), key(other)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (Number(x) - Number(y));
    });
    body.append(...rows);
  }
  for (const table of document.querySelectorAll("table.sortable"))
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sortBy(button);
    });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  const data = JSON.parse(byId("data").textContent);
  if (!data.sets.length) return;

  const controls = Object.fromEntries(
    ["set", "a", "b", "mistake", "outcome", "order", "text"].map((id) => [id, byId(id)]));
  const OUTCOMES = {
    all: "all", wrong: "A is wrong", right: "A is right", differ: "A and B answer differently",
    better: "A is right, B is wrong", worse: "A is wrong, B is right", both: "both are wrong",
  };
  const ORDERS = {
    given: "as in the file", sure: "A's confidence, highest first", unsure: "A's confidence, lowest first",
    gain: "A's score minus B's, highest first", loss: "A's score minus B's, lowest first",
  };
  let set, points, found = [], page = 0, open = -1;

  function fill(select, entries, keep) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, label]) => make("option", { value }, label)));
    if (keep && entries.some(([value]) => String(value) === before)) select.value = before;
  }

  const nameOf = (system) => `${system.model}, seed ${system.seed}`;
  const answerOf = (control, i) => controls[control].value === "" ? null : set.systems[controls[control].value].answers[i];
  const isRight = (answer) => data.mistakes[answer[0]][0] === "right";
  const score = (answer) => (answer[1].length ? answer[1].reduce((x, y) => x + y) : 0);

  /* Places count code points; JavaScript's strings count what may be halves of them. */
  function contextOf(i) {
    const number = set.questions[i][2];
    if (!points.has(number)) points.set(number, Array.from(set.contexts[number]));
    return points.get(number);
  }
  const slice = (i, start, end) => contextOf(i).slice(start, end).join("");
  const isPlace = (value) => Array.isArray(value);
  const textOf = (i, value) => value === null ? null : isPlace(value) ? slice(i, ...value) : value;

  function chooseSet() {
    set = data.sets[controls.set.value];
    points = new Map();
    const systems = set.systems.map((system, i) => [i, nameOf(system)]);
    fill(controls.a, systems, false);
    fill(controls.b, [["", "none"], ...systems], false);
    chooseSystems();
  }

  function chooseSystems() {
    const counts = new Map();
    for (const answer of set.systems[controls.a.value].answers) counts.set(answer[0], (counts.get(answer[0]) || 0) + 1);
    fill(controls.mistake, [["", "any"], ...data.mistakes
      .map(([key, words], i) => [key, `${words} (${counts.get(i) || 0})`, counts.get(i)])
      .filter(([, , n]) => n)], true);
    const two = controls.b.value !== "";
    const of = (names) => Object.entries(names).filter(([key]) => two || !/^(differ|better|worse|both|gain|loss)$/.test(key));
    fill(controls.outcome, of(OUTCOMES), true);
    fill(controls.order, of(ORDERS), true);
    choose();
  }

  function choose() {
    const wanted = controls.text.value.trim().toLowerCase();
    const outcome = controls.outcome.value, mistake = controls.mistake.value;
    const tests = {
      all: () => true, wrong: (a) => !isRight(a), right: (a) => isRight(a),
      differ: (a, b, i) => textOf(i, a[3]) !== textOf(i, b[3]),
      better: (a, b) => isRight(a) && !isRight(b), worse: (a, b) => !isRight(a) && isRight(b),
      both: (a, b) => !isRight(a) && !isRight(b),
    };
    found = [];
    for (let i = 0; i < set.questions.length; i++) {
      const a = answerOf("a", i), b = answerOf("b", i);
      if (mistake && data.mistakes[a[0]][0] !== mistake) continue;
      if (!tests[outcome](a, b, i)) continue;
      if (wanted) {
        const [id, question, , gold] = set.questions[i];
        const texts = [id, question, textOf(i, a[3]), b && textOf(i, b[3]), ...gold.map(([answer]) => answer)];
        if (!texts.some((part) => part && part.toLowerCase().includes(wanted))) continue;
      }
      found.push(i);
    }
    const sure = (i) => answerOf("a", i)[2] ?? -1, gain = (i) => score(answerOf("a", i)) - score(answerOf("b", i));
    const keys = { given: null, sure: (i) => -sure(i), unsure: sure, gain: (i) => -gain(i), loss: gain };
    const key = keys[controls.order.value];
    if (key) found.sort((one, other) => key(one) - key(other) || one - other);
    page = 0;
    list();
  }

  const percent = (value) => value === null ? "–" : `${(100 * value).toFixed(1)} %`;

  function list() {
    const two = controls.b.value !== "";
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const head = ["question", "A", ...(two ? ["B"] : [])].map((title) => make("th", { scope: "col" }, title));
    byId("questions").tHead.rows[0].replaceChildren(...head);
    const rows = found.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
      const button = make("button", { type: "button", "data-question": i }, text(set.questions[i][1] || "(no question)"));
      const cell = (answer) => make("td", {}, `${data.mistakes[answer[0]][1]}${answer[2] === null ? "" : ` (${percent(answer[2])})`}`);
      const row = make("tr", {}, make("th", { scope: "row" }, button), cell(answerOf("a", i)), ...(two ? [cell(answerOf("b", i))] : []));
      if (i === open) row.setAttribute("aria-current", "true");
      return row;
    });
    byId("questions").tBodies[0].replaceChildren(...rows);
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page >= pages - 1;
    let said = `${found.length} of ${set.questions.length} questions`;
    if (two) {
      let [both, a, b, none] = [0, 0, 0, 0];
      for (let i = 0; i < set.questions.length; i++) {
        const [one, other] = [isRight(answerOf("a", i)), isRight(answerOf("b", i))];
        if (one && other) both++; else if (one) a++; else if (other) b++; else none++;
      }
      said += `. Of all: both right ${both}, only A ${a}, only B ${b}, neither ${none}`;
    }
    byId("count").textContent = said;
  }

  /* The context, cut where an annotated or predicted span begins or ends. */
  function marked(i, spans) {
    const length = contextOf(i).length;
    const cuts = [...new Set([0, length, ...spans.flatMap(([start, end]) => [start, end])])].sort((x, y) => x - y);
    const paragraph = make("p", { class: "context" });
    cuts.slice(0, -1).forEach((start, n) => {
      const part = slice(i, start, cuts[n + 1]);
      const over = [...new Set(spans.filter(([from, to]) => from <= start && cuts[n + 1] <= to).map(([, , name]) => name))];
      paragraph.append(over.length ? make("mark", { class: over.join(" "), title: over.join(", ") }, part) : shown(part));
    });
    return paragraph;
  }

  function describe(i, control, letter) {
    const answer = answerOf(control, i);
    const system = set.systems[controls[control].value];
    const said = textOf(i, answer[3]);
    const list = make("dl", {},
      make("dt", {}, "answer"), make("dd", {}, said === null ? "(none)" : said === "" ? "(empty)" : text(said)),
      make("dt", {}, "type"), make("dd", {}, data.mistakes[answer[0]][1]),
      ...set.metrics.flatMap((metric, n) => [make("dt", {}, metric), make("dd", {}, percent(answer[1][n]))]),
      make("dt", {}, "confidence"), make("dd", {}, percent(answer[2])));
    const parts = [make("h4", {}, `${letter}: ${nameOf(system)}`), list];
    if (answer[4].length) {
      const rows = answer[4].map((candidate) => {
        const value = candidate.length === 3 ? slice(i, candidate[0], candidate[1]) : candidate[0];
        return make("tr", {}, make("th", { scope: "row" }, value === "" ? "(empty)" : text(value)),
          make("td", {}, percent(candidate[candidate.length - 1])));
      });
      parts.push(make("table", {}, make("caption", {}, "n-best"), make("thead", {}, make("tr", {},
        make("th", { scope: "col" }, "answer"), make("th", { scope: "col" }, "probability"))), make("tbody", {}, ...rows)));
    }
    return parts;
  }

  function show(i) {
    open = i;
    const [id, question, , gold] = set.questions[i];
    const spans = gold.filter((answer) => answer.length === 4).map(([, , start, end]) => [start, end, "gold"]);
    for (const control of ["a", "b"]) {
      const answer = answerOf(control, i);
      if (answer && isPlace(answer[3])) spans.push([...answer[3], control]);
    }
    const golds = gold.length ? gold.map(([answer, kind]) => make("li", {}, answer === "" ? `(${kind})` : text(answer))) : [make("li", {}, "(unanswerable)")];
    const article = byId("question");
    article.replaceChildren(
      make("h3", {}, text(question)), make("p", { class: "quiet" }, text(id)),
      make("p", { class: "quiet" }, make("mark", { class: "gold" }, "annotated"), " ", make("mark", { class: "a" }, "A"),
        ...(controls.b.value === "" ? [] : [" ", make("mark", { class: "b" }, "B")])),
      marked(i, spans), make("h4", {}, "Annotated"), make("ul", {}, ...golds), ...describe(i, "a", "A"),
      ...(controls.b.value === "" ? [] : describe(i, "b", "B")));
    for (const row of byId("questions").tBodies[0].rows) {
      const current = Number(row.querySelector("button").dataset.question) === i;
      if (current) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
    }
  }

  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  controls.set.addEventListener("change", chooseSet);
  for (const name of ["a", "b"]) controls[name].addEventListener("change", () => { chooseSystems(); if (open >= 0) show(open); });
  for (const name of ["mistake", "outcome", "order"]) controls[name].addEventListener("change", choose);
  let waiting;
  controls.text.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 150); });
  byId("previous").addEventListener("click", () => { page--; list(); });
  byId("next").addEventListener("click", () => { page++; list(); });
  byId("questions").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    show(Number(button.dataset.question));
    if (matchMedia("(max-width: 60rem)").matches) byId("question").focus();
  });
  byId("questions").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...byId("questions").querySelectorAll("button")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (step && next) { event.preventDefault(); next.focus(); }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.show");
    if (!button) return;
    if (controls.set.value !== button.dataset.set) { controls.set.value = button.dataset.set; chooseSet(); }
    controls.a.value = button.dataset.system;
    controls.text.value = "";
    chooseSystems();
    controls.outcome.value = "all";
    controls.mistake.value = button.dataset.mistake;
    choose();
    byId("browser").scrollIntoView();
    const first = byId("questions").querySelector("button");
    if (first) { first.focus({ preventScroll: true }); show(Number(first.dataset.question)); }
  });

  fill(controls.set, data.sets.map((one, i) => [i, one.title]), false);
  chooseSet();
})();
