// What the book adds to its own pages: tables that sort, an item explorer that shows one item, curves with a slider.
// No framework, no request; a page says the same without this file. Text is only ever set as text.
(() => {
  "use strict";

  const make = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- tables: a button in every header, aria-sort on the header that rules
  const number = (text) => {
    const found = /^[-+−]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i.exec(text.replace(/,(?=\d{3})/g, ""));
    return found ? Number(found[0].replace("−", "-")) : NaN;
  };

  const sortBy = (table, column, down) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row, row.cells[column].textContent.trim()]);
    const numeric = rows.filter(([, text]) => Number.isFinite(number(text))).length * 2 > rows.length;
    const empty = (text) => text === "" || (numeric && !Number.isFinite(number(text)));
    rows.sort(([, a], [, b]) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const order = numeric ? number(a) - number(b) : a.localeCompare(b, undefined, { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map(([row]) => row));
  };

  const sortable = (table) => {
    const heads = table.tHead && table.tHead.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
    const rows = table.tBodies.length === 1 ? [...table.tBodies[0].rows] : [];
    const plain = rows.every((row) => row.cells.length === heads.length);
    if (rows.length < 3 || !heads.length || !plain || "unsorted" in table.dataset) return;
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", { type: "button", className: "fs-sort", title: "Sort by this column" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sortBy(table, column, down);
      });
    });
  };

  // ---- the item explorer: choose an item; all others fold away
  const explorer = (home) => {
    const items = [...home.querySelectorAll("details.fs-item")];
    if (!items.length) return;
    const groups = new Map();
    items.forEach((item, place) => {
      const kind = item.dataset.class;
      if (!groups.has(kind)) groups.set(kind, make("optgroup", { label: kind }));
      groups.get(kind).append(make("option", { value: String(place), textContent: item.dataset.name }));
    });
    const order = () => [...select.options].map((option) => Number(option.value));
    const show = (place, focus = false) => {
      items.forEach((item, other) => {
        item.hidden = other !== place;
        item.open = other === place;
      });
      select.value = String(place);
      if (focus) items[place].querySelector("summary").focus();
    };
    const step = (by) => {
      const places = order();
      show(places[(places.indexOf(Number(select.value)) + by + places.length) % places.length]);
    };
    const select = make("select", {}, ...groups.values());
    const before = make("button", { type: "button", textContent: "Previous item" });
    const after = make("button", { type: "button", textContent: "Next item" });
    select.addEventListener("change", () => show(Number(select.value)));
    before.addEventListener("click", () => step(-1));
    after.addEventListener("click", () => step(1));
    const controls = make("div", { className: "fs-controls" }, make("label", {}, "Item ", select), before, after);
    home.querySelector(".fs-items").before(controls);
    const follow = () => {
      const place = items.findIndex((item) => item.querySelector("[id]").id === decodeURIComponent(location.hash.slice(1)));
      if (place >= 0) show(place, true);
      return place >= 0;
    };
    if (!follow()) show(order()[0]);
    window.addEventListener("hashchange", follow);
    home.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#item-"]');
      if (link && link.hash === location.hash) follow();
    });
  };

  // ---- a slider over a curve: the table has the values, the drawing a line at the chosen step
  const slider = (home) => {
    const [across, along] = home.dataset.axes.split("|");
    const step = home.querySelector(".fs-step");
    const level = home.querySelector(".fs-level");
    const levels = level ? level.dataset.levels.split("|") : [""];
    const heads = [...home.querySelectorAll("thead th")];
    const rows = [...home.querySelectorAll("tbody tr")];
    const cursor = home.querySelector(".fs-cursor");
    const reading = home.querySelector(".fs-reading");
    const draw = () => {
      const row = rows[Number(step.value)];
      const chosen = levels[level ? Number(level.value) : 0];
      const x = row.cells[0].textContent;
      const values = heads
        .map((head, place) => [head, place])
        .filter(([head]) => "series" in head.dataset && head.dataset.level === chosen)
        .map(([head, place]) => `${head.dataset.series} ${row.cells[place].textContent}`);
      reading.textContent = `${across} ${x}${along ? `, ${along} ${chosen}` : ""}: ${home.dataset.unit} ${values.join("; ")}.`;
      step.setAttribute("aria-valuetext", x);
      if (level) level.setAttribute("aria-valuetext", chosen);
      cursor.setAttribute("x1", row.dataset.x);
      cursor.setAttribute("x2", row.dataset.x);
      home.querySelectorAll("polyline").forEach((line) => line.classList.toggle("fs-faint", line.dataset.level !== chosen));
    };
    [step, level].forEach((input) => input && input.addEventListener("input", draw));
    home.querySelector(".fs-controls").hidden = false;
    draw();
  };

  // ---- an address inside something folded unfolds it
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".bd-article table").forEach(sortable);
    document.querySelectorAll(".fs-explorer").forEach(explorer);
    document.querySelectorAll(".fs-slider").forEach(slider);
    window.addEventListener("hashchange", unfold);
    if (location.hash) unfold();
  });
})();
