// Films of test clips: strips of frames, of which a window shows one. All windows of a row, or of the whole sheet, show
// the same frame: the variable --frame of the nearest element that has it.
{
  const films = data.films, filmSheet = find("#film-sheet"), slider = find("#film-frame");
  const value = (name) => find(`#film-${name}`).value;
  const N = films.n_frames, PERIOD = (1000 * films.seconds) / N;
  const ON_PAPER = 10; // rows; and of each film three frames
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const hidden = new Set(Object.keys(films.systems).filter((name) => !films.shown.includes(name)));
  const rowOf = new WeakMap();

  // Frames ---------------------------------------------------------------------------------------------------------

  // What shows which frame: the whole sheet, or a row at which the reader looks.
  const show = (element, frame) => element.style.setProperty("--frame", frame);

  function showFrame(frame) {
    slider.value = frame;
    slider.setAttribute("aria-valuetext", `frame ${frame + 1} of ${N}`);
    find("#film-time").value = `frame ${frame + 1} of ${N}`;
    show(filmSheet, frame);
  }

  let timer = null;
  function playAll(plays) {
    clearInterval(timer);
    timer = plays ? setInterval(() => showFrame((Number(slider.value) + 1) % N), PERIOD) : null;
    const button = find("#film-play");
    button.textContent = plays ? "Pause" : "Play all";
    button.setAttribute("aria-pressed", plays);
  }

  // A row plays while the pointer or the focus is on it.
  const playing = new Map();
  function playRow(row) {
    if (calm.matches || timer !== null || playing.has(row)) return;
    let frame = 0;
    show(row, frame);
    playing.set(row, setInterval(() => show(row, (frame = (frame + 1) % N)), PERIOD));
    row.classList.add("plays");
  }

  function stopRow(row) {
    if (row.matches(":hover, :focus-within, :focus")) return;
    clearInterval(playing.get(row));
    playing.delete(row);
    row.style.removeProperty("--frame");
    row.classList.remove("plays");
  }

  // Rows -----------------------------------------------------------------------------------------------------------

  const own = () => films.subjects[value("subject")];
  const there = () => Object.keys(films.systems).filter((name) => name in own().films);
  const labelOf = (name) => films.systems[name].label;
  const scoreOf = (place, name) => own().scores[name]?.[value("metric")]?.[place] ?? null;

  function chosenClips() {
    const kind = value("kind"), typed = value("find").trim().toLowerCase();
    const places = films.clips.map((_, place) => place).filter((place) => {
      const clip = films.clips[place];
      const isOfKind = !kind || (kind === "moves") === clip.speed >= films.still_below;
      return isOfKind && (clip.caption.toLowerCase().includes(typed) || clip.name.startsWith(typed));
    });
    const order = value("order"), metric = films.metrics[value("metric")];
    if (order === "speed") places.sort((a, b) => films.clips[b].speed - films.clips[a].speed || a - b);
    if (order === "best" || order === "worst") {
      const sign = (order === "best") === metric.higher ? -1 : 1, system = value("system");
      places.sort((a, b) => byValue(scoreOf(a, system), scoreOf(b, system), sign) || a - b);
    }
    return places;
  }

  function showSheet() {
    for (const row of [...playing.keys()]) {
      clearInterval(playing.get(row));
      playing.delete(row);
    }
    const places = chosenClips();
    find("#film-count").value = `${places.length} of ${films.clips.length} clips`;
    find("#film-system").closest("label").classList.toggle("unused", !["best", "worst"].includes(value("order")));
    const rows = places.map((place) => {
      const clip = films.clips[place];
      const row = html("article", { class: "clip", tabindex: 0, "aria-label": `${clip.name}: ${clip.caption}` });
      rowOf.set(row, place);
      return row;
    });
    const nothing = html("p", { class: "note" }, "Nothing matches. Clear the words, or choose other clips.");
    filmSheet.replaceChildren(...(rows.length ? rows : [nothing]));
    watcher.disconnect();
    rows.forEach((row, k) => (k < ON_PAPER ? fillRow(row) : watcher.observe(row)));
  }

  const watcher = new IntersectionObserver(
    (changes) => {
      for (const { isIntersecting, target } of changes) if (isIntersecting) fillRow(target);
    },
    { rootMargin: "600px" },
  );

  function fillRow(row) {
    if (row.children.length) return;
    watcher.unobserve(row);
    const place = rowOf.get(row), clip = films.clips[place];
    const speed = `true speed ${format(clip.speed)} pixels a frame`;
    const about = html("div", { class: "about" }, html("b", {}, clip.name), html("p", {}, clip.caption), html("p", { class: "soft" }, speed));
    const systems = there().filter((name) => !hidden.has(name));
    const shown = systems.map((name) => filmOf(own().films[name][place], name, labelOf(name), format(scoreOf(place, name))));
    row.append(about, html("div", { class: "films" }, filmOf(clip.film, "true", "seen", ""), shown));
  }

  function filmOf(number, name, label, score) {
    const caption = html("figcaption", {}, html("span", {}, label), " ", html("b", {}, score));
    const frame = number === null ? html("div", { class: "blank" }) : html("div", { class: "film" }, frameOf(number, label));
    return html("figure", { class: films.systems[name]?.kind ?? "seen", "data-film": name }, frame, caption);
  }

  function frameOf(number, label) {
    const image = picture(number, label);
    image.addEventListener("load", () => image.classList.toggle("still", image.naturalHeight === image.naturalWidth));
    return html("span", {}, image);
  }

  // Systems --------------------------------------------------------------------------------------------------------

  function showSystems() {
    const all = there();
    const boxes = all.map((name) => {
      const box = html("input", { type: "checkbox" });
      box.checked = !hidden.has(name);
      box.addEventListener("input", () => {
        box.checked ? hidden.delete(name) : hidden.add(name);
        countSystems();
        showSheet();
      });
      return html("label", { title: films.systems[name].meaning }, box, ` ${labelOf(name)}`);
    });
    find("#film-systems div").replaceChildren(...boxes);
    const select = find("#film-system"), before = select.value;
    select.replaceChildren(...all.map((name) => html("option", { value: name }, labelOf(name))));
    select.value = all.includes(before) ? before : (films.shown.find((name) => all.includes(name)) ?? all[0] ?? "");
    countSystems();
  }

  function countSystems() {
    const all = there(), n = all.filter((name) => !hidden.has(name)).length;
    find("#film-systems summary").textContent = `Systems shown: ${n} of ${all.length}`;
  }

  // Listening ------------------------------------------------------------------------------------------------------

  slider.addEventListener("input", () => {
    playAll(false);
    showFrame(Number(slider.value));
  });
  find("#film-play").addEventListener("click", () => playAll(timer === null));
  find("#film-subject").addEventListener("input", showSystems);
  for (const control of findAll(".film-filters select, .film-filters input")) control.addEventListener("input", showSheet);
  for (const kind of ["pointerover", "focusin"])
    filmSheet.addEventListener(kind, ({ target }) => target.closest(".clip") && playRow(target.closest(".clip")));
  for (const kind of ["pointerout", "focusout"])
    filmSheet.addEventListener(kind, ({ target }) => {
      const row = target.closest(".clip");
      if (row) setTimeout(() => stopRow(row));
    });

  // On paper: three frames of each film, side by side.
  addEventListener("beforeprint", () => {
    for (const film of findAll(".film", filmSheet)) {
      const first = find("span", film);
      film.replaceChildren(
        ...[0, Math.floor(N / 2), N - 1].map((frame) => {
          const copy = first.cloneNode(true);
          show(copy, frame);
          return copy;
        }),
      );
      film.classList.add("on-paper");
    }
  });
  addEventListener("afterprint", showSheet);

  filmSheet.style.setProperty("--n", N);
  // The films come after this script.
  document.addEventListener("DOMContentLoaded", () => {
    readBlocks();
    const place = () => find("#film-player").style.setProperty("--top", `${find(".bar").offsetHeight}px`);
    new ResizeObserver(place).observe(find(".bar"));
    showSystems();
    showFrame(0);
    showSheet();
  });
}
