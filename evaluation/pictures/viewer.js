const viewer = find("#viewer");

// One image, large -------------------------------------------------------------------------------------------------

let place = 0;

function view(index) {
  place = index;
  const entry = entries[place], stimulus = data.stimuli[entry.id];
  find("#viewer-title").textContent = `NSD ${entry.id}`;
  find(".place", viewer).textContent = `${entry.subject} · ${place + 1} of ${entries.length}`;
  find(".previous", viewer).disabled = place === 0;
  find(".next", viewer).disabled = place === entries.length - 1;
  const body = find(".viewer-body", viewer);
  const parts = [pictures(entry), trajectory(entry), about(stimulus), standing(entry), scoreTable(entry)];
  body.replaceChildren(...parts.filter(Boolean));
  body.scrollTop = 0;
  if (!viewer.open) viewer.showModal();
  remember(entry);
}

function step(by) {
  if (place + by >= 0 && place + by < entries.length) view(place + by);
}

function pictures(entry) {
  const metric = setting("metric");
  const shown = pictured().filter((system) => pictureOf(entry, system) !== null);
  const columns = shown.length < 6 ? shown.length + 1 : Math.ceil((shown.length + 1) / 2);
  const cells = shown.map((system) => cellOf(entry, system, metric));
  return html("div", { class: "large", style: `--columns: ${columns}` }, stimulusOf(entry), cells);
}

function about(stimulus) {
  return html(
    "div",
    { class: "texts" },
    html("h3", {}, "Captions"),
    html("ul", { class: "captions" }, stimulus.captions.map((text) => html("li", {}, text))),
    stimulus.categories.length
      ? html(
          "p",
          { class: "categories" },
          stimulus.categories.map((name) => html("span", { class: "tag" }, name)),
        )
      : null,
  );
}

// The method whose distribution the image is placed in: stage 2 where the image is refined, else stage 1.
function methodOf(entry) {
  const methods = Object.keys(data.systems).filter((system) => data.systems[system].kind === "method");
  return methods.findLast((system) => data.groups.main.some((metric) => scoreOf(entry, system, metric) !== null));
}

function standing(entry) {
  const system = methodOf(entry);
  if (!system || data.light) return null;
  const strips = data.groups.main
    .filter((metric) => scoreOf(entry, system, metric) !== null)
    .map((metric) => {
      const scores = data.tests[entry.subject].scores[system][metric].filter((v) => v !== null);
      return strip(metric, scoreOf(entry, system, metric), scores);
    });
  const title = `Where ${label(system)} of this image lies among all images of ${entry.subject}`;
  return html("div", {}, html("h3", {}, title), html("div", { class: "strips" }, strips));
}

function strip(metric, value, scores) {
  const low = Math.min(...scores), high = Math.max(...scores), width = 240, height = 56, nBins = 24;
  const counts = histogram(scores, low, high, nBins), most = Math.max(...counts);
  const x = (v) => 4 + ((v - low) / (high - low || 1)) * (width - 8);
  const bar = (width - 8) / nBins;
  const plot = canvas(width, height + 16, `distribution of ${data.metrics[metric].label}`);
  counts.forEach((count, k) => {
    const length = (count / most) * (height - 8);
    plot.append(svg("rect", { class: "column", x: 4.5 + k * bar, width: bar - 1, y: height - length, height: length }));
  });
  plot.append(line("axis", 4, height, width - 4, height), line("marker", x(value), 2, x(value), height + 3));
  plot.append(words(4, height + 14, "start", format(low)), words(width - 4, height + 14, "end", format(high)));
  const { higher } = data.metrics[metric];
  const worse = scores.filter((other) => (higher ? other < value : other > value)).length;
  const share = `better than ${worse} of ${scores.length}`;
  const title = html("b", {}, `${data.metrics[metric].label} ${format(value)}`);
  return html("figure", {}, html("figcaption", {}, title, html("span", {}, share)), plot);
}

function scoreTable(entry) {
  const scores = data.tests[entry.subject].scores;
  const isThere = (system, metric) => scoreOf(entry, system, metric) !== null;
  const all = scored(Object.values(data.groups).flat());
  const systems = Object.keys(scores).filter((system) => all.some((metric) => isThere(system, metric)));
  const titled = Object.entries(data.groups).map(([group, metrics]) => [data.titles[group], scored(metrics)]);
  const parts = titled
    .filter(([, metrics]) => metrics.length)
    .map(([title, metrics]) => [
      html("tr", { class: "kind" }, html("th", { scope: "rowgroup", colspan: systems.length + 1 }, title)),
      metrics.map((metric) => scoreRow(entry, metric, systems)),
    ]);
  const heads = ["metric", ...systems.map(label)].map((text) => html("th", { scope: "col" }, text));
  const table = html("table", {}, html("thead", {}, html("tr", {}, heads)), html("tbody", {}, parts.flat(2)));
  const name = "scores of this image";
  const box = html("div", { class: "wide", tabindex: 0, role: "region", "aria-label": name }, table);
  return html("div", { class: "of-image" }, html("h3", {}, "Scores of this image"), box);
}

function scoreRow(entry, metric, systems) {
  const cells = systems.map((system) => html("td", {}, format(scoreOf(entry, system, metric))));
  return html("tr", {}, html("th", { scope: "row" }, data.metrics[metric].label), cells);
}

function trajectory(entry) {
  const way = data.tests[entry.subject].trajectories[entry.id];
  if (!way) return null;
  const frames = way.iterations.map((iteration, k) => ({ iteration, number: way.pictures[k] }));
  if (!way.iterations.includes(way.result))
    frames.push({ iteration: way.result, number: pictureOf(entry, "minddiffuser/stage2") });
  frames.sort((a, b) => a.iteration - b.iteration);
  const name = "iteration of stage 2";
  const slider = html("input", { type: "range", min: 0, max: frames.length - 1, step: 1, "aria-label": name });
  const frame = html("div", { class: "frame" }), reading = html("output", { class: "reading" });
  const { plot, mark } = lossCurve(way);
  const show = () => {
    const { iteration, number } = frames[Number(slider.value)];
    frame.replaceChildren(picture(number, `iteration ${iteration} of ${entry.id}`));
    const text = `iteration ${iteration}, loss ${way.losses[iteration] ?? "unknown"}`;
    reading.value = text;
    slider.setAttribute("aria-valuetext", text);
    mark(iteration);
  };
  slider.value = frames.findIndex(({ iteration }) => iteration === way.result);
  slider.addEventListener("input", show);
  show();
  const note = html("p", { class: "note" }, `The picture of stage 2 is that of iteration ${way.result} (the ring).`);
  const controls = html("div", { class: "way" }, reading, slider, plot, note);
  return html("div", { class: "trajectory" }, html("h3", {}, "On the way of stage 2"), frame, controls);
}

function lossCurve({ losses, result }) {
  const points = losses.map((loss, iteration) => ({ loss, iteration })).filter(({ loss }) => loss !== null);
  const values = points.map(({ loss }) => loss);
  const low = Math.min(...values), high = Math.max(...values), last = Math.max(losses.length - 1, 1);
  const width = Math.min(520, document.documentElement.clientWidth - 60), left = 52, height = 150, bottom = 116;
  const x = (iteration) => left + (iteration / last) * (width - left - 12);
  const y = (loss) => bottom - ((loss - low) / (high - low || 1)) * (bottom - 12);
  const plot = canvas(width, height, "loss by iteration");
  if (points.length) {
    for (const { value, text } of ticks(low, high > low ? high : low + 1, 5))
      plot.append(line("grid", left, y(value), width - 12, y(value)), words(left - 6, y(value) + 4, "end", text));
    plot.append(curve(points.map(({ loss, iteration }) => [x(iteration), y(loss)])));
  }
  if (Number.isFinite(losses[result]))
    plot.append(svg("circle", { class: "ring", r: 9, cx: x(result), cy: y(losses[result]) }));
  for (const { value, text } of ticks(0, last, 5)) plot.append(words(x(value), bottom + 17, "middle", text));
  const marker = svg("circle", { class: "marker", r: 6 });
  plot.append(words((left + width) / 2, height - 2, "middle", "iteration"), marker);
  const mark = (iteration) => {
    const isKnown = Number.isFinite(losses[iteration]);
    marker.toggleAttribute("hidden", !isKnown);
    marker.setAttribute("cx", x(iteration));
    if (isKnown) marker.setAttribute("cy", y(losses[iteration]));
  };
  return { plot, mark };
}

function returnFocus() {
  remember();
  const row = findAll(".row", sheet)[place];
  row.scrollIntoView({ block: "nearest" });
  if (!row.children.length) fillRow(row);
  find(".open", row).focus();
}

// Listening --------------------------------------------------------------------------------------------------------

for (const button of findAll("[data-choose]")) button.addEventListener("click", () => choose(button.dataset.choose));
for (const group of findAll("[data-plots]")) group.addEventListener("toggle", drawOpenPlots);
for (const control of findAll(".filters select, .filters input")) control.addEventListener("input", showSheet);
sheet.addEventListener("click", ({ target }) => {
  const row = target.closest("img, .open")?.closest(".row");
  if (row) view(entries.indexOf(entryOf.get(row)));
});
find(".previous", viewer).addEventListener("click", () => step(-1));
find(".next", viewer).addEventListener("click", () => step(1));
find(".close", viewer).addEventListener("click", () => viewer.close());
viewer.addEventListener("close", returnFocus);
viewer.addEventListener("click", ({ target }) => target === viewer && viewer.close());
viewer.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  event.preventDefault();
  step(event.key === "ArrowLeft" ? -1 : 1);
});
new ResizeObserver(layOut).observe(sheet);

// On paper: the first rows, for all would fill a book.
const ON_PAPER = 20;
addEventListener("beforeprint", () => {
  findAll(".row", sheet).forEach((row, k) => {
    if (k < ON_PAPER && !row.children.length) fillRow(row);
    row.classList.toggle("beyond", k >= ON_PAPER);
  });
});

// The pictures come after this script, so that the tables can be read before they have arrived.
fillChoices();
choose(subject);
document.addEventListener("DOMContentLoaded", () => {
  readBlocks();
  choose(subject);
  for (const name of CHOICES) atFirst[name] = setting(name);
  Object.assign(atFirst, { subject, shown: inSheet().join(",") });
  recall();
});
addEventListener("hashchange", recall);
