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
  { rootMargin: "500px" },
);

function fillChoices() {
  const groups = Object.values(data.groups).map(scored).filter((metrics) => metrics.length);
  find("#metric").append(...groups.flat().map((metric) => html("option", { value: metric }, optionLabel(metric))));
  const hasScores = (system) => data.subjects.some((name) => data.tests[name].scores[system]);
  const systems = Object.keys(data.systems).filter(hasScores);
  find("#system").append(...systems.map((system) => html("option", { value: system }, label(system))));
  if (groups.flat().includes(data.similarity)) find("#metric").value = data.similarity;
  if (systems.includes(data.method)) find("#system").value = data.method;
  find("#order").value = "best";
  for (const system of Object.keys(data.systems)) if (!data.shown.includes(system)) hiddenSystems.add(system);
}

// Which systems the sheet shows, five at first: one box each, and one for all of a kind.
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
  const category = setting("category"), typed = setting("find").trim().toLowerCase();
  const isFound = /^\d+$/.test(typed)
    ? (id) => String(id).startsWith(String(Number(typed)))
    : (id) => data.stimuli[id].captions.some((text) => text.toLowerCase().includes(typed));
  const all = shownSubjects().flatMap((name) => data.tests[name].ids.map((id, row) => ({ subject: name, id, row })));
  const chosen = all.filter(
    ({ id }) => (!category || data.stimuli[id].categories.includes(category)) && isFound(id),
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
  const nothing = html("p", { class: "nothing" }, "Nothing matches. Clear the words, or choose another category.");
  const head = html("div", { class: "heads", "aria-hidden": "true" }, html("span"), heads);
  sheet.replaceChildren(head, ...(rows.length ? rows : [nothing]));
  layOut();
  for (const row of rows) observer.observe(row);
  showConstants();
  remember();
}

// In columns where the window is wide; those that do not fit are scrolled to, beside the stimulus. Else in lines.
function layOut() {
  const columns = inSheet().length + 1, width = sheet.clientWidth - 24;
  const isWide = width >= 600;
  const cell = Math.min(Math.max(Math.floor((width - 170) / columns) - 8, 80), 128);
  const perLine = Math.max(Math.floor((width + 8) / 92), 1);
  sheet.classList.toggle("in-columns", isWide);
  // Wider than the text, it may take the whole window; what does not fit even then is scrolled to.
  const room = document.documentElement.clientWidth - 56;
  sheet.classList.toggle("overflows", isWide && 170 + columns * (cell + 8) > Math.max(room, width));
  sheet.style.setProperty("--top", `${find(".bar").offsetHeight}px`);
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

// Addresses: what is chosen stands behind "#", so that a link or a reload shows the same view ------------------------

const CHOICES = ["metric", "order", "system", "category", "find"];
const atFirst = {};
let recalling = false;

function remember(image) {
  if (recalling || !Object.keys(atFirst).length) return;
  const found = new URLSearchParams();
  if (subject !== atFirst.subject) found.set("subject", subject);
  for (const name of CHOICES) if (setting(name) !== atFirst[name]) found.set(name, setting(name));
  const shown = inSheet().join(",");
  if (shown !== atFirst.shown) found.set("shown", shown);
  if (image) found.set("image", `${image.subject}/${image.id}`);
  const isSection = location.hash && !location.hash.includes("=");
  if (found.size || !isSection) history.replaceState(null, "", found.size ? `#${found}` : location.pathname + location.search);
}

// Show what the address says, if it is of a view and not of a section.
function recall() {
  if (!location.hash.includes("=")) return;
  const wanted = new URLSearchParams(location.hash.slice(1));
  recalling = true;
  for (const name of CHOICES) {
    const control = find(`#${name}`), value = wanted.get(name) ?? atFirst[name];
    if (control) control.value = value;
    if (control && control.value !== value) control.value = atFirst[name];
  }
  const shown = new Set((wanted.get("shown") ?? atFirst.shown).split(","));
  for (const system of Object.keys(data.systems)) shown.has(system) ? hiddenSystems.delete(system) : hiddenSystems.add(system);
  const asked = wanted.get("subject") ?? atFirst.subject;
  choose(data.subjects.includes(asked) || find(`[data-choose="${CSS.escape(asked)}"]`) ? asked : atFirst.subject);
  recalling = false;
  const [whose, id] = (wanted.get("image") ?? "").split("/");
  const index = entries.findIndex((entry) => entry.subject === whose && String(entry.id) === id);
  if (index >= 0) view(index);
  else find("#images").scrollIntoView({ behavior: "instant" });
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
