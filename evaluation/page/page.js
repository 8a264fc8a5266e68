// What all sections share; the shell puts it, and then the scripts of the sections, into one function.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

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

// Copying ----------------------------------------------------------------------------------------------------------

async function copy(button) {
  const from = document.getElementById(button.dataset.copy), said = find("output", button.parentElement);
  getSelection().selectAllChildren(from);
  try {
    await navigator.clipboard.writeText(from.textContent);
    said.value = "copied";
  } catch {
    said.value = "selected: copy it with Ctrl+C";
  }
}

// Listening --------------------------------------------------------------------------------------------------------

for (const button of findAll("table.scores thead button")) button.addEventListener("click", () => sortTables(button));
for (const button of findAll("[data-copy]")) button.addEventListener("click", () => copy(button));
