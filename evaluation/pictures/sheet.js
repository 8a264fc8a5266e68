const sheet = find("#sheet");

// The sheet of all test images -------------------------------------------------------------------------------------

const setting = (name) => find(`#${name}`)?.value ?? "";
let entries = [];
const entryOf = new WeakMap();
const observer = new IntersectionObserver(
  (changes) => {
    for (const { isIntersecting, target } of changes) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      fillRow(target);
    }
  },
  { root: sheet, rootMargin: "500px" },
);

function fillChoices() {
  const groups = Object.values(data.groups).map(scored).filter((metrics) => metrics.length);
  find("#metric").append(...groups.flat().map((metric) => html("option", { value: metric }, optionLabel(metric))));
  const hasScores = (system) => data.subjects.some((name) => data.tests[name].scores[system]);
  const systems = Object.keys(data.systems).filter(hasScores);
  find("#system").append(...systems.map((system) => html("option", { value: system }, label(system))));
}

// Which systems the sheet shows: one box each, and one for all of a kind.
const hiddenSystems = new Set();
const inSheet = () => pictured().filter((system) => !hiddenSystems.has(system));

function showChoiceOfSystems() {
  const all = pictured();
  const kinds = Object.entries(data.kinds)
    .map(([kind, title]) => [title, all.filter((system) => data.systems[system].kind === kind)])
    .filter(([, systems]) => systems.length);
  const groups = kinds.map(([title, systems]) => {
    const whole = systemBox(title, systems);
    const boxes = systems.map((system) => systemBox(label(system), [system]));
    return html("fieldset", {}, html("legend", {}, whole), boxes);
  });
  find("#systems div").replaceChildren(...groups);
  markSystems();
}

function systemBox(text, systems) {
  const box = html("input", { type: "checkbox", "data-systems": JSON.stringify(systems) });
  box.addEventListener("input", () => {
    for (const system of systems) box.checked ? hiddenSystems.delete(system) : hiddenSystems.add(system);
    markSystems();
    showSheet();
  });
  return html("label", {}, box, ` ${text}`);
}

function markSystems() {
  for (const box of findAll("#systems input")) {
    const systems = JSON.parse(box.dataset.systems);
    const nHidden = systems.filter((system) => hiddenSystems.has(system)).length;
    box.checked = nHidden < systems.length;
    box.indeterminate = nHidden > 0 && nHidden < systems.length;
  }
  find("#systems summary").textContent = `Systems shown: ${inSheet().length} of ${pictured().length}`;
}

function optionLabel(metric) {
  const dialect = { brain_diffuser: " (Brain-Diffuser)", mindeye: " (MindEye)" }[metric.split("/")[0]] ?? "";
  return data.metrics[metric].label + dialect;
}

function choice() {
  const category = setting("category"), typed = setting("find").trim();
  const wanted = /^\d+$/.test(typed) ? String(Number(typed)) : typed;
  const all = shownSubjects().flatMap((name) => data.tests[name].ids.map((id, row) => ({ subject: name, id, row })));
  const chosen = all.filter(
    ({ id }) => (!category || data.stimuli[id].categories.includes(category)) && String(id).startsWith(wanted),
  );
  return { all, chosen: ordered(chosen) };
}

function ordered(chosen) {
  const order = setting("order"), metric = setting("metric"), system = setting("system");
  const byId = (a, b) => a.id - b.id || a.subject.localeCompare(b.subject);
  if (order === "id") return chosen.sort(byId);
  const sign = (order === "best") === data.metrics[metric].higher ? -1 : 1;
  const value = (entry) => scoreOf(entry, system, metric);
  return chosen.sort((a, b) => byValue(value(a), value(b), sign) || byId(a, b));
}

function showSheet() {
  const { all, chosen } = choice();
  entries = chosen;
  find("#count").value = `${chosen.length} of ${all.length} images`;
  find("#system").closest("label").classList.toggle("unused", setting("order") === "id");
  observer.disconnect();
  const systems = inSheet();
  sheet.style.setProperty("--columns", systems.length + 1);
  const heads = ["stimulus", ...systems.map(label)].map((text) => html("span", {}, text));
  const rows = chosen.map((entry) => {
    const row = html("article", { class: "row" });
    entryOf.set(row, entry);
    return row;
  });
  const nothing = html("p", { class: "nothing" }, "Nothing matches. Clear the NSD id, or choose another category.");
  const head = html("div", { class: "heads", "aria-hidden": "true" }, html("span"), heads);
  sheet.replaceChildren(head, ...(rows.length ? rows : [nothing]));
  sheet.scrollTop = 0;
  layOut();
  for (const row of rows) observer.observe(row);
  showConstants();
}

// In columns where the window is wide; those that do not fit are scrolled to, beside the stimulus. Else in lines.
function layOut() {
  const columns = inSheet().length + 1, width = sheet.clientWidth - 24;
  const isWide = width >= 600;
  const cell = Math.min(Math.max(Math.floor((width - 170) / columns) - 8, 80), 128);
  const perLine = Math.max(Math.floor((width + 8) / 92), 1);
  sheet.classList.toggle("in-columns", isWide);
  sheet.style.setProperty("--cell", `${cell}px`);
  const narrowHeight = Math.ceil(columns / perLine) * ((width + 8) / perLine + 40) + 70;
  sheet.style.setProperty("--row", `${Math.round(isWide ? cell + 34 : narrowHeight)}px`);
}

function fillRow(row) {
  const entry = entryOf.get(row), metric = setting("metric"), stimulus = data.stimuli[entry.id];
  const open = html("button", { type: "button", class: "open" }, `NSD ${entry.id}`);
  const text = html(
    "div",
    { class: "about" },
    open,
    data.subjects.length > 1 ? html("span", { class: "soft" }, entry.subject) : null,
    html("p", { class: "caption" }, stimulus.captions[0]),
  );
  row.append(text, stimulusOf(entry), ...inSheet().map((system) => cellOf(entry, system, metric)));
}

function stimulusOf({ id }) {
  const caption = html("figcaption", {}, html("span", {}, "stimulus"));
  return html("figure", {}, picture(data.stimuli[id].picture, `stimulus ${id}`), caption);
}

function cellOf(entry, system, metric) {
  const number = pictureOf(entry, system), score = scoreOf(entry, system, metric);
  const isThere = number !== null;
  const shown = isThere ? picture(number, `${label(system)} of ${entry.id}`) : html("div", { class: "blank" });
  const value = html("b", {}, isThere ? format(score) : "");
  const caption = html("figcaption", {}, html("span", {}, label(system)), value);
  return html("figure", { class: data.systems[system].kind, "data-system": system }, shown, caption);
}

function showConstants() {
  const figures = shownSubjects().flatMap((name) =>
    Object.entries(data.tests[name].constants).map(([system, number]) => {
      const text = data.subjects.length > 1 ? `${label(system)}, ${name}` : label(system);
      return html("figure", {}, picture(number, text), html("figcaption", {}, text));
    }),
  );
  const note = html("p", { class: "note" }, "The same for every image:");
  find("#constants").replaceChildren(...(figures.length ? [note, ...figures] : []));
}
