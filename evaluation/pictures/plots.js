let subject = find("[data-choose]")?.dataset.choose ?? data.subjects[0];

// What is shown of whom --------------------------------------------------------------------------------------------

const shownSubjects = () => (data.subjects.includes(subject) ? [subject] : data.subjects);
const label = (system) => data.systems[system].label;
const scoreOf = (entry, system, metric) => data.tests[entry.subject].scores[system]?.[metric]?.[entry.row] ?? null;
const pictureOf = (entry, system) => data.tests[entry.subject].pictures[system]?.[entry.row] ?? null;
const pictured = () =>
  Object.keys(data.systems).filter((system) => shownSubjects().some((name) => data.tests[name].pictures[system]));
const scored = (metrics) =>
  metrics.filter((metric) =>
    data.subjects.some((name) => Object.values(data.tests[name].scores).some((scores) => scores[metric])),
  );
const scoresOverImages = (system, metric) =>
  shownSubjects().flatMap((name) => data.tests[name].scores[system]?.[metric] ?? []).filter((v) => v !== null);

function choose(name) {
  subject = name;
  for (const button of findAll("[data-choose]")) button.setAttribute("aria-pressed", button.dataset.choose === name);
  for (const set of findAll(".alternatives")) showOneOf([...set.children].filter((part) => part.dataset.subject));
  drawOpenPlots();
  if (!blocks.length) return;
  showChoiceOfSystems();
  showSheet();
}

// What is not there for all subjects together is shown for each.
function showOneOf(parts) {
  const hasIt = parts.some((part) => part.dataset.subject === subject);
  for (const part of parts) part.hidden = hasIt ? part.dataset.subject !== subject : data.subjects.includes(subject);
}

// Plots ------------------------------------------------------------------------------------------------------------

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => (first + k) * step).map((value) => ({
    value,
    text: value.toFixed(digits).replace("-", "−"),
  }));
}

// Those of the main metrics are always open, and stand above their table.
function drawOpenPlots() {
  for (const group of findAll("[data-plots]")) {
    const names = data.groups[group.dataset.plots], place = find(".plots", group) ?? group;
    place.replaceChildren();
    if (group.open === false) continue;
    const drawn = [...names.map(dotPlot), ...names.map(bottleneck)].filter(Boolean);
    const nothing = html("p", { class: "note" }, "Nothing is scored by these metrics.");
    place.append(...(drawn.length ? drawn : [nothing]));
  }
  for (const place of findAll("[data-accuracy]")) place.replaceChildren(...accuracyPlots(data.accuracy[place.dataset.accuracy]));
}

const figure = (title, text, drawing) =>
  html("figure", { class: "plot" }, html("figcaption", {}, html("b", {}, title), ` ${text}`), drawing);

const shorten = (text) => (text.length > 24 ? `${text.slice(0, 23)}…` : text);

// Drawn in real pixels, two beside each other where there is room, so that letters keep their size.
function plotWidth() {
  const { clientWidth } = find("#about-plots");
  return Math.min(clientWidth > 860 ? clientWidth / 2 - 20 : clientWidth, 560);
}

function dotPlot(metric) {
  const summary = data.summary[subject];
  const hasRow = (system) => data.systems[system].kind === "features" || data.kinds[data.systems[system].kind];
  const systems = Object.keys(data.systems).filter((system) => hasRow(system) && summary[system]?.[metric]);
  if (!systems.length) return null;
  const rows = systems.map((system) => {
    const [mean, low, high, n] = summary[system][metric];
    const values = hasDensity(system) ? scoresOverImages(system, metric).sort((a, b) => a - b) : [];
    return { system, kind: data.systems[system].kind, mean, low, high, n, values };
  });
  const ends = rows.flatMap(({ low, high, values }) =>
    values.length ? [low, high, quantile(values, 0.02), quantile(values, 0.98)] : [low, high],
  );
  const from = Math.min(...ends), to = Math.max(...ends), pad = (to - from) * 0.03 || 0.01;
  const names = systems.map((system) => shorten(label(system)));
  const left = 22 + 7.2 * Math.max(...names.map((name) => name.length)), width = plotWidth(), step = 28;
  const gap = (k) => (rows[k - 1] && rows[k - 1].kind !== rows[k].kind ? 10 : 0);
  const x = (value) => left + ((value - from + pad) / (to - from + 2 * pad)) * (width - left - 8);
  let y = -4;
  const drawn = rows.map((row, k) => {
    y += step + gap(k);
    return dotRow(row, x, y, step, left, from, to);
  });
  const bottom = y + step / 2 + 2;
  const plot = canvas(width, bottom + 22, `${data.metrics[metric].label} by system`);
  for (const { value, text } of ticks(from - pad, to + pad, 5))
    plot.append(line("grid", x(value), 6, x(value), bottom), words(x(value), bottom + 16, "middle", text));
  plot.append(...drawn);
  return figure(data.metrics[metric].label, data.metrics[metric].meaning, plot);
}

// Not of a control that shows the same picture whatever was seen, nor of the few images of a light page.
const hasDensity = (system) => !data.light && data.subjects.every((name) => !(system in data.tests[name].constants));

function dotRow({ system, kind, mean, low, high, n, values }, x, y, step, left, from, to) {
  const text = `${label(system)}: ${format(mean)} [${format(low)}, ${format(high)}], n = ${n}`;
  return svg(
    "g",
    { class: `dots ${kind}` },
    svg("title", {}, text),
    svg("rect", { class: "hit", x: 0, y: y - step / 2, width: "100%", height: step }),
    values.length > 2 && to > from && values[0] < values.at(-1) ? violin(values, x, y, step * 0.42, from, to) : null,
    svg("text", { class: "name", x: left - 10, y: y + 4, "text-anchor": "end" }, shorten(label(system))),
    line("interval", x(low), y, x(high), y),
    svg("circle", { class: "mean", cx: x(mean), cy: y, r: 4.5 }),
  );
}

function violin(values, x, y, half, from, to) {
  const inside = values.filter((value) => value >= from && value <= to);
  const counts = histogram(inside, from, to, 28);
  const most = Math.max(...counts, 1);
  const smooth = counts.map((count, k) => (count * 2 + (counts[k - 1] ?? 0) + (counts[k + 1] ?? 0)) / 4);
  const point = (k, sign) => {
    const value = from + ((k + 0.5) / counts.length) * (to - from);
    return `${x(value).toFixed(1)},${(y + (sign * half * smooth[k]) / most).toFixed(1)}`;
  };
  const places = counts.map((_, k) => k);
  const outline = [...places.map((k) => point(k, -1)), ...places.reverse().map((k) => point(k, 1))];
  return svg("polygon", { class: "violin", points: outline.join(" ") });
}

function bottleneck(metric) {
  const summary = data.summary[subject];
  const points = Object.keys(summary)
    .filter((system) => data.systems[system].kind === "bottleneck" && summary[system][metric])
    .map((system) => ({ passed: Number(system.split("/")[1]), system, values: summary[system][metric] }))
    .sort((a, b) => a.passed - b.passed);
  if (!points.length) return null;
  const full = summary["minddiffuser/stage1"]?.[metric];
  const drawn = points.map(({ values }) => values).concat(full ? [full] : []);
  const from = Math.min(...drawn.map(([, low]) => low)), to = Math.max(...drawn.map(([, , high]) => high));
  const pad = (to - from) * 0.06 || 0.01;
  const left = 46, width = plotWidth(), height = 230, bottom = height - 44, right = width - 14;
  // None cannot stand on a logarithmic axis: it stands to the left of it, as far as a factor of three.
  const smallest = Math.min(...points.filter(({ passed }) => passed > 0).map(({ passed }) => passed), 1e9);
  const place = (passed) => Math.log10(passed > 0 ? passed : smallest / 3);
  const first = place(points[0].passed), last = place(points.at(-1).passed);
  const x = (passed) => left + 20 + ((place(passed) - first) / (last - first || 1)) * (right - left - 34);
  const y = (value) => bottom - ((value - from + pad) / (to - from + 2 * pad)) * (bottom - 10);
  const plot = canvas(width, height, `${data.metrics[metric].label} by numbers passed`);
  for (const { value, text } of ticks(from - pad, to + pad, 4))
    plot.append(line("grid", left, y(value), right, y(value)), words(left - 6, y(value) + 4, "end", text));
  if (full) {
    const [mean, low, high] = full;
    const band = { class: "band", x: left, width: right - left, y: y(high), height: y(low) - y(high) };
    plot.append(svg("rect", band), line("full", left, y(mean), right, y(mean)));
    plot.append(words(left + 6, y(mean) - 5, "start", "all of stage 1"));
  }
  plot.append(curve(points.map(({ passed, values }) => [x(passed), y(values[0])])));
  for (const {
    passed,
    values: [mean, low, high, n],
  } of points) {
    const text = `${passed} numbers: ${format(mean)} [${format(low)}, ${format(high)}], n = ${n}`;
    const interval = line("interval", x(passed), y(low), x(passed), y(high));
    const dot = svg("circle", { class: "mean", cx: x(passed), cy: y(mean), r: 4 });
    plot.append(svg("g", { class: "dots method" }, svg("title", {}, text), interval, dot));
    plot.append(words(x(passed), bottom + 17, "middle", passed.toLocaleString("en")));
  }
  plot.append(words((left + right) / 2, height - 6, "middle", "decoded numbers that stage 1 is given"));
  const note = `of stage 1 from so many decoded numbers${full ? "; dashed: from all of them" : ""}`;
  return figure(`${data.metrics[metric].label}, bottleneck`, note, plot);
}

// How well each target is decoded: a bar a region, all regions together first; bars of all targets on one scale.
function accuracyPlots(targets) {
  const ends = targets.flatMap(({ rows, ceiling }) => [...rows.flatMap(([, r, floor]) => [r, floor]), ceiling ?? 0]);
  const from = Math.min(0, ...ends), to = Math.max(...ends) * 1.04;
  return targets.map(({ target, ceiling, rows }) => {
    const left = 74, width = 270, step = 19, bottom = 8 + rows.length * step;
    const x = (value) => left + ((value - from) / (to - from)) * (width - left - 8);
    const plot = canvas(width, bottom + 22, `correlation of ${target} by region`);
    for (const { value, text } of ticks(from, to, 4))
      plot.append(line("grid", x(value), 4, x(value), bottom), words(x(value), bottom + 16, "middle", text));
    rows.forEach(([roi, r, floor], k) => {
      const y = 8 + k * step, name = roi === "all" ? "all regions" : roi;
      const text = `${name}: ${format(r)}; permuted images: ${format(floor)}`;
      const bar = { x: Math.min(x(0), x(r)), width: Math.abs(x(r) - x(0)), y, height: step - 5 };
      plot.append(
        svg(
          "g",
          { class: roi === "all" ? "bar-of all" : "bar-of" },
          svg("title", {}, text),
          svg("rect", bar),
          line("floor", x(floor), y - 1, x(floor), y + step - 4),
          svg("text", { class: "name", x: left - 8, y: y + step - 8, "text-anchor": "end" }, name),
        ),
      );
      if (roi === "all" && ceiling !== null) plot.append(line("full", x(ceiling), y - 3, x(ceiling), y + step - 2));
    });
    const note = ceiling === null ? "" : `; noise ceiling ${format(ceiling)}`;
    return figure(target, `r ${format(rows[0][1])}${note}`, plot);
  });
}
