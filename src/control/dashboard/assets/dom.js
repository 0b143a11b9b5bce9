// Builds the page. Texts of callers, tools and servers only ever become text nodes.

const PROPERTIES = new Set(["id", "className", "htmlFor", "type", "value", "name", "href", "title", "disabled", "tabIndex",
  "placeholder", "maxLength", "checked", "required", "autocomplete", "scope", "colSpan", "open"]);

/** An element with properties, attributes, listeners (`onclick: f`) and children, which are nodes or texts. */
export function el(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text only if it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Longer texts may be cut by their column. */
const TITLE_FROM = 40;

const SYMBOLS = { ok: "✓", warn: "!", bad: "✕", idle: "–", info: "i" };

/** A state in words, with a symbol, so that it does not depend on colour. */
export function chip(kind, text) {
  return updateChip(el("span"), kind, text);
}

export function updateChip(element, kind, text) {
  const wanted = `chip ${kind}`;
  if (element.className !== wanted || element.dataset.text !== text) {
    element.className = wanted;
    element.dataset.text = text;
    element.replaceChildren(el("span", { class: "symbol", "aria-hidden": "true" }, SYMBOLS[kind] ?? ""), text);
  }
  return element;
}

/** A section with a heading. */
export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  return el("section", { class: "panel", "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

/**
 * A table whose rows are kept from one update to the next, so that focus and selection stay.
 * A column has a `title`, perhaps what it is `of`, and one of: `text(row)`, `chip(row)` as [kind, text], `bar(row)` as [[kind, share], ...], or
 * `node(get)`, which builds a node once that reads the row with `get()`.
 */
export function table({ caption, columns, key, empty }) {
  const body = el("tbody");
  const note = el("p", { class: "note" });
  // What the columns before already say to the eye is said to the ear again.
  const head = columns.map(({ title, number, of }) =>
    el("th", { scope: "col", class: number ? "number" : "" }, of ? el("span", { class: "unseen" }, `${of} `) : null, title));
  const grid = el("table", {}, el("caption", { class: "unseen" }, caption), el("thead", {}, el("tr", {}, head)), body);
  const scroller = el("div", { class: "scroller", role: "group", "aria-label": caption, tabIndex: 0 }, grid);
  const known = new Map();

  function build(row) {
    const line = el("tr");
    line.row = row;
    for (const column of columns) {
      const cell = el(column.header ? "th" : "td", { class: [column.number ? "number" : "", column.wrap ? "wrap" : ""].join(" ").trim() });
      if (column.header) cell.scope = "row";
      if (column.node) cell.append(column.node(() => line.row));
      if (column.chip) cell.append(el("span"));
      line.append(cell);
    }
    return line;
  }

  function fill(line, row) {
    line.row = row;
    columns.forEach((column, at) => {
      const cell = line.cells[at];
      if (column.text) {
        const text = column.text(row);
        setText(cell, text);
        if (text.length > TITLE_FROM) cell.title = text;
      }
      if (column.chip) updateChip(cell.firstChild, ...column.chip(row));
      if (column.bar) fillBar(cell, column.bar(row));
      column.refresh?.(cell.firstChild, row);
    });
  }

  function update(rows, omitted = 0) {
    const present = new Set();
    rows.forEach((row, at) => {
      const id = key(row);
      present.add(id);
      let line = known.get(id);
      if (!line) known.set(id, line = build(row));
      fill(line, row);
      if (body.rows[at] !== line) body.insertBefore(line, body.rows[at] ?? null);
    });
    for (const [id, line] of known) {
      if (!present.has(id)) {
        line.remove();
        known.delete(id);
      }
    }
    grid.hidden = rows.length === 0;
    scroller.hidden = rows.length === 0;
    setText(note, rows.length === 0 ? empty : omitted > 0 ? `${omitted} more are not shown.` : "");
    note.hidden = note.textContent === "";
  }

  update([]);
  return { element: el("div", {}, scroller, note), update };
}

function fillBar(cell, parts) {
  const wanted = JSON.stringify(parts);
  if (cell.dataset.parts === wanted) return;
  cell.dataset.parts = wanted;
  const bar = el("span", { class: "bar", role: "img", "aria-label": parts.map(([kind, , label]) => `${kind} ${label}`).join(", ") || "no times" });
  for (const [kind, share, label] of parts) {
    const piece = el("span", { class: `piece ${kind}`, title: `${kind} ${label}` });
    piece.style.flexGrow = String(Math.max(share, 0.004));
    bar.append(piece);
  }
  cell.replaceChildren(bar);
}

/** Pairs of a name and a value. `update` takes [[name, text], ...]. */
export function facts() {
  const list = el("dl", { class: "facts" });
  return {
    element: list,
    update(pairs) {
      while (list.children.length > pairs.length * 2) list.lastChild.remove();
      pairs.forEach(([name, text], at) => {
        if (!list.children[at * 2]) list.append(el("dt"), el("dd"));
        setText(list.children[at * 2], name);
        setText(list.children[at * 2 + 1], text);
      });
    },
  };
}

/** Says something once to screen readers. */
export function announce(text) {
  setText(document.getElementById("announce"), text);
}
