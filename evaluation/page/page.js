"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];
  const sheet = find("#sheet"),
    viewer = find("#viewer");
  let subject = find("[data-choose]")?.dataset.choose ?? data.subjects[0];

  // Elements and numbers ---------------------------------------------------------------------------------------------

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  }
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  const canvas = (width, height, name) =>
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
  const line = (kind, x1, y1, x2, y2) => svg("line", { class: kind, x1, y1, x2, y2 });
  const words = (x, y, anchor, text) => svg("text", { class: "tick", x, y, "text-anchor": anchor }, text);
  const curve = (points) =>
    svg("polyline", { class: "curve", points: points.map((point) => point.join(",")).join(" ") });

  // As the tables do.
  function format(value) {
    if (value === null) return "–";
    return value.toFixed(Math.abs(value) < 9.9995 ? 3 : 2).replace("-", "−");
  }

  function quantile(sorted, share) {
    return sorted[Math.min(Math.max(Math.round(share * (sorted.length - 1)), 0), sorted.length - 1)];
  }

  function histogram(values, low, high, nBins) {
    const counts = new Array(nBins).fill(0);
    for (const value of values) {
      const bin = Math.floor(((value - low) / (high - low || 1)) * nBins);
      counts[Math.min(Math.max(bin, 0), nBins - 1)] += 1;
    }
    return counts;
  }

  // Pictures: lines of base64, in blocks that are cut into lines when one of them is first wanted --------------------

  let blocks = [];
  function readBlocks() {
    blocks = findAll("script.pictures").map((element) => ({ start: Number(element.dataset.start), element }));
  }

  function picture(number, alt) {
    const block = blocks.findLast(({ start }) => start <= number);
    block.lines ??= block.element.textContent.trim().split("\n");
    const image = html("img", { alt, src: `data:image/webp;base64,${block.lines[number - block.start]}` });
    image.decoding = "async";
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 64));
    return image;
  }

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
    shownSubjects()
      .flatMap((name) => data.tests[name].scores[system]?.[metric] ?? [])
      .filter((v) => v !== null);

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

  // Tables -----------------------------------------------------------------------------------------------------------

  function sortTables(button) {
    const { metric, higher } = button.dataset;
    const best = higher === "true" ? "descending" : "ascending";
    const now = button.closest("th").getAttribute("aria-sort");
    let direction = "none";
    if (metric) direction = now === "none" ? best : now === "descending" ? "ascending" : "descending";
    const group = button.closest("table").dataset.group;
    for (const table of findAll(`table[data-group="${group}"]`)) sortTable(table, metric, direction);
  }

  function sortTable(table, metric, direction) {
    for (const heading of findAll("th[aria-sort]", table)) {
      const isIt = find("button", heading).dataset.metric === metric;
      heading.setAttribute("aria-sort", isIt ? direction : "none");
    }
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.forEach((row, place) => (row.dataset.place ??= place));
    rows.sort((a, b) => a.dataset.place - b.dataset.place);
    const isSorted = direction !== "none";
    if (isSorted) {
      const sign = direction === "descending" ? -1 : 1;
      const value = (row) => find(`td[data-metric="${metric}"]`, row)?.dataset.value;
      rows.sort((a, b) => byValue(value(a) ?? null, value(b) ?? null, sign));
    }
    for (const row of rows) row.classList.contains("kind") && (row.hidden = isSorted);
    body.append(...rows);
  }

  // What has no value comes last, whichever way.
  function byValue(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a - b);
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

  function drawOpenPlots() {
    for (const group of findAll("[data-plots]")) {
      const names = data.groups[group.dataset.plots];
      find(".plots", group).replaceChildren();
      if (!group.open) continue;
      const drawn = names.flatMap((metric) => [dotPlot(metric), bottleneck(metric)]).filter(Boolean);
      const nothing = html("p", { class: "note" }, "Nothing is scored by these metrics.");
      find(".plots", group).append(...(drawn.length ? drawn : [nothing]));
    }
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
      const values = scoresOverImages(system, metric).sort((a, b) => a - b);
      return { system, kind: data.systems[system].kind, mean, low, high, n, values };
    });
    const ends = rows.flatMap(({ low, high, values }) =>
      values.length ? [low, high, quantile(values, 0.02), quantile(values, 0.98)] : [low, high],
    );
    const from = Math.min(...ends),
      to = Math.max(...ends),
      pad = (to - from) * 0.03 || 0.01;
    const names = systems.map((system) => shorten(label(system)));
    const left = 22 + 7.2 * Math.max(...names.map((name) => name.length)),
      width = plotWidth(),
      step = 28;
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

  function dotRow({ system, kind, mean, low, high, n, values }, x, y, step, left, from, to) {
    const text = `${label(system)}: ${format(mean)} [${format(low)}, ${format(high)}], n = ${n}`;
    return svg(
      "g",
      { class: `dots ${kind}` },
      svg("title", {}, text),
      svg("rect", { class: "hit", x: 0, y: y - step / 2, width: "100%", height: step }),
      values.length > 2 && to > from ? violin(values, x, y, step * 0.42, from, to) : null,
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
    const from = Math.min(...drawn.map(([, low]) => low)),
      to = Math.max(...drawn.map(([, , high]) => high));
    const pad = (to - from) * 0.06 || 0.01;
    const left = 46,
      width = plotWidth(),
      height = 230,
      bottom = height - 44,
      right = width - 14;
    // None cannot stand on a logarithmic axis: it stands to the left of it, as far as a factor of three.
    const smallest = Math.min(...points.filter(({ passed }) => passed > 0).map(({ passed }) => passed), 1e9);
    const place = (passed) => Math.log10(passed > 0 ? passed : smallest / 3);
    const first = place(points[0].passed),
      last = place(points.at(-1).passed);
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
    const groups = Object.values(data.groups)
      .map(scored)
      .filter((metrics) => metrics.length);
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
    const category = setting("category"),
      typed = setting("find").trim();
    const wanted = /^\d+$/.test(typed) ? String(Number(typed)) : typed;
    const all = shownSubjects().flatMap((name) => data.tests[name].ids.map((id, row) => ({ subject: name, id, row })));
    const chosen = all.filter(
      ({ id }) => (!category || data.stimuli[id].categories.includes(category)) && String(id).startsWith(wanted),
    );
    return { all, chosen: ordered(chosen) };
  }

  function ordered(chosen) {
    const order = setting("order"),
      metric = setting("metric"),
      system = setting("system");
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
    find("#system")
      .closest("label")
      .classList.toggle("unused", setting("order") === "id");
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
    const columns = inSheet().length + 1,
      width = sheet.clientWidth - 24;
    const isWide = width >= 600;
    const cell = Math.min(Math.max(Math.floor((width - 170) / columns) - 8, 80), 128);
    const perLine = Math.max(Math.floor((width + 8) / 92), 1);
    sheet.classList.toggle("in-columns", isWide);
    sheet.style.setProperty("--cell", `${cell}px`);
    const narrowHeight = Math.ceil(columns / perLine) * ((width + 8) / perLine + 40) + 70;
    sheet.style.setProperty("--row", `${Math.round(isWide ? cell + 34 : narrowHeight)}px`);
  }

  function fillRow(row) {
    const entry = entryOf.get(row),
      metric = setting("metric"),
      stimulus = data.stimuli[entry.id];
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
    const number = pictureOf(entry, system),
      score = scoreOf(entry, system, metric);
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

  // One image, large -------------------------------------------------------------------------------------------------

  let place = 0;

  function view(index) {
    place = index;
    const entry = entries[place],
      stimulus = data.stimuli[entry.id];
    find("#viewer-title").textContent = `NSD ${entry.id}`;
    find(".place", viewer).textContent = `${entry.subject} · ${place + 1} of ${entries.length}`;
    find(".previous", viewer).disabled = place === 0;
    find(".next", viewer).disabled = place === entries.length - 1;
    const body = find(".viewer-body", viewer);
    const parts = [pictures(entry), trajectory(entry), about(stimulus), standing(entry), scoreTable(entry)];
    body.replaceChildren(...parts.filter(Boolean));
    body.scrollTop = 0;
    if (!viewer.open) viewer.showModal();
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
      html(
        "ul",
        { class: "captions" },
        stimulus.captions.map((text) => html("li", {}, text)),
      ),
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
    if (!system) return null;
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
    const low = Math.min(...scores),
      high = Math.max(...scores),
      width = 240,
      height = 56,
      nBins = 24;
    const counts = histogram(scores, low, high, nBins),
      most = Math.max(...counts);
    const x = (v) => 4 + ((v - low) / (high - low || 1)) * (width - 8);
    const bar = (width - 8) / nBins;
    const plot = canvas(width, height + 16, `distribution of ${data.metrics[metric].label}`);
    counts.forEach((count, k) => {
      const length = (count / most) * (height - 8);
      plot.append(
        svg("rect", { class: "column", x: 4.5 + k * bar, width: bar - 1, y: height - length, height: length }),
      );
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
    const frame = html("div", { class: "frame" }),
      reading = html("output", { class: "reading" });
    const { plot, mark } = lossCurve(way);
    const show = () => {
      const { iteration, number } = frames[Number(slider.value)];
      frame.replaceChildren(picture(number, `iteration ${iteration} of ${entry.id}`));
      const text = `iteration ${iteration}, loss ${way.losses[iteration] ?? "unknown"}`;
      reading.value = text;
      slider.setAttribute("aria-valuetext", text);
      mark(iteration);
    };
    slider.value = frames.length - 1;
    slider.addEventListener("input", show);
    show();
    const note = html("p", { class: "note" }, `The picture of stage 2 is that of iteration ${way.result} (the ring).`);
    const controls = html("div", { class: "way" }, reading, slider, plot, note);
    return html("div", { class: "trajectory" }, html("h3", {}, "On the way of stage 2"), frame, controls);
  }

  function lossCurve({ losses, result }) {
    const points = losses.map((loss, iteration) => ({ loss, iteration })).filter(({ loss }) => loss !== null);
    const values = points.map(({ loss }) => loss);
    const low = Math.min(...values),
      high = Math.max(...values),
      last = Math.max(losses.length - 1, 1);
    const width = Math.min(520, document.documentElement.clientWidth - 60),
      left = 52,
      height = 150,
      bottom = 116;
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
    const row = findAll(".row", sheet)[place];
    row.scrollIntoView({ block: "nearest" });
    if (!row.children.length) fillRow(row);
    find(".open", row).focus();
  }

  // Copying ----------------------------------------------------------------------------------------------------------

  async function copy() {
    getSelection().selectAllChildren(find("#bibtex"));
    try {
      await navigator.clipboard.writeText(find("#bibtex").textContent);
      find("#copied").value = "copied";
    } catch {
      find("#copied").value = "selected: copy it with Ctrl+C";
    }
  }

  // Listening --------------------------------------------------------------------------------------------------------

  for (const button of findAll("table.scores thead button")) button.addEventListener("click", () => sortTables(button));
  find("#copy").addEventListener("click", copy);
  if (!sheet) return; // there is no subject of the Natural Scenes Dataset

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

  // The pictures come after this script, so that the tables can be read before they have arrived.
  fillChoices();
  choose(subject);
  document.addEventListener("DOMContentLoaded", () => {
    readBlocks();
    choose(subject);
  });
})();
