// Words about a cell: in the tip beside the pointer, in the list of its tensors, for screen readers, and as a table.

// Texts go in as text and never as markup. Each name stands alone, so that one written from right to left moves nothing beside it.
function element(tag, name, ...children) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
}
const isolated = (words, name) => element("bdi", name, words);
// A name of a tensor, which may be broken after its parts.
function named(name) {
    const parts = name.split(/(?<=[._/])(?=.)/su);
    return element("bdi", "name", ...parts.flatMap((part, index) => (index > 0 ? [document.createElement("wbr"), part] : [part])));
}

function measures(values, at, metric) {
    const parts = metrics.flatMap(({ title }, index) => {
        if (Number.isNaN(values[index][at])) return [];
        const part = element("div", index === metric ? "current" : "", element("dt", "", title));
        part.append(element("dd", "", quantity(index, values[index][at])));
        return [part];
    });
    return parts.length > 0 ? element("dl", "measures", ...parts) : null;
}

function tensor(entry, metric) {
    const facts = element("div", "facts", element("b", "", marks[entries.mark[entry]].word));
    for (const field of ["kind", "geometry"]) {
        if (entries[field][entry] > 0) facts.append(" · ", isolated(text(field, entry)));
    }
    const item = element("li", "", element("div", "", named(nameOf(entry))));
    if (entries.old[entry] > 0) item.append(element("div", "was", "was ", named(text("old", entry))));
    item.append(facts);
    if (entries.evidence[entry] > 0) item.append(element("div", "evidence", isolated(text("evidence", entry))));
    const measured = measures(entries.values, entry, metric);
    if (measured) item.append(measured);
    return item;
}

// A list of entries from one up to another.
function tensors(from, to, metric) {
    const items = [];
    for (let entry = from; entry < to; entry++) items.push(tensor(entry, metric));
    return element("ul", "tensors", ...items);
}

// The name of a row or column: both its short and its full name, unless they say the same.
function label([short, full], title) {
    const names = short === full || full === "" ? [isolated(short)] : [isolated(short), " ", element("span", "", isolated(full))];
    return element("p", "place", element("span", "", title), ...names);
}

const place = (row, column) => [label(rows[row], rowTitle), label(columns[column], columnTitle)];

// What a cell is as a whole: said where it has no tensors of its own, or several.
function whole(cell, metric) {
    const count = cells.first[cell + 1] - cells.first[cell];
    if (count === 1) return [];
    const facts = element("div", "facts", element("b", "", marks[cells.mark[cell]].word));
    const measured = measures(cells.values, cell, metric);
    if (count > 1) facts.append(` · ${counted(count, "tensor")}${measured ? " · largest change:" : ""}`);
    return measured ? [facts, measured] : [facts];
}

// At most so many tensors are in the tip, and fewer where they would not fit into the window.
const TIP_TENSORS = 12;

function fillTip(tip, { zone, row, column }, metric) {
    tip.replaceChildren();
    tip.classList.remove("one");
    if (zone === "row") return tip.append(label(rows[row], rowTitle));
    if (zone === "column") return tip.append(label(columns[column], columnTitle));
    if (zone === "strip") {
        tip.append(label(columns[column], columnTitle));
        const version = panel[column];
        if (!version) return tip.append(element("div", "facts", "size unknown"));
        const sizes = [["files", bytes(version[0])], ["stored", bytes(version[1])], ["ratio", ratio(version)]];
        const parts = sizes.map(([word, size]) => element("div", "", element("dt", "", word), element("dd", "", size)));
        tip.classList.add("one");
        return tip.append(element("dl", "measures", ...parts));
    }
    tip.append(...place(row, column));
    const cell = cellAt(row, column);
    if (cell === undefined) return tip.append(element("div", "facts", "nothing here"));
    tip.append(...whole(cell, metric));
    const [from, to] = [cells.first[cell], cells.first[cell + 1]];
    if (from === to) return;
    const shown = tensors(from, Math.min(to, from + TIP_TENSORS), metric);
    const more = element("p", "more");
    tip.classList.toggle("one", to - from === 1);
    tip.append(shown, more);
    const left = () => {
        const count = to - from - shown.childElementCount;
        more.textContent = `and ${count.toLocaleString("en")} more`;
        more.hidden = count === 0;
    };
    for (left(); tip.offsetHeight > window.innerHeight * 0.7 && shown.childElementCount > 1; left()) shown.lastChild.remove();
}

// One sentence for a cell.
function sentence(row, column, isStrip) {
    if (isStrip) {
        const version = panel[column];
        const size = version ? `stored ${bytes(version[1])} of ${bytes(version[0])}, ratio ${ratio(version)}` : "size unknown";
        return `${columnTitle} ${columns[column][0]}: ${size}`;
    }
    const where = `${rowTitle} ${rows[row][0]}, ${columnTitle} ${columns[column][0]}`;
    const cell = cellAt(row, column);
    if (cell === undefined) return `${where}: nothing here`;
    const count = cells.first[cell + 1] - cells.first[cell];
    const parts = [marks[cells.mark[cell]].word];
    metrics.forEach(({ title }, index) => {
        const value = cells.values[index][cell];
        if (!Number.isNaN(value)) parts.push(`${title} ${quantity(index, value)}`);
    });
    if (count === 1) parts.push(nameOf(cells.first[cell]));
    if (count > 1) parts.push(counted(count, "tensor"));
    return `${where}: ${parts.join(", ")}`;
}

// Tensors that are listed at once; a button brings as many more.
const LIST_STEP = 200;

function fillDetails(details, cell, metric, close) {
    const [row, column] = [cells.row[cell], cells.column[cell]];
    const button = element("button", "icon", "✕");
    button.type = "button";
    button.setAttribute("aria-label", "Close the list");
    button.addEventListener("click", close);
    const heading = element("h2", "", ...place(row, column));
    const body = element("div", "body", ...whole(cell, metric));
    let [from, to] = [cells.first[cell], cells.first[cell + 1]];
    const step = () => {
        const end = Math.min(to, from + LIST_STEP);
        body.append(tensors(from, end, metric));
        from = end;
        if (from === to) return;
        const more = element("button", "again", `Show more (${(to - from).toLocaleString("en")} left)`);
        more.type = "button";
        more.addEventListener("click", () => {
            more.remove();
            step();
        });
        body.append(more);
    };
    if (from < to) step();
    details.setAttribute("aria-label", `Tensors of ${rows[row][0]}, ${columns[column][0]}`);
    details.replaceChildren(element("header", "", heading, button), body);
    details.scrollTop = 0;
}

function fillHelp(details) {
    const keys = [
        [["←", "↑", "↓", "→"], "move between cells"],
        [["Home", "End"], "first and last of a row"],
        [["Enter"], "list the tensors of a cell"],
        [["/"], "filter"],
        [["Esc"], "close, clear"],
    ];
    const terms = keys.flatMap(([names, what]) => [
        element("dt", "", ...names.map((name) => element("kbd", "", name))),
        element("dd", "", what),
    ]);
    const help = element("div", "help", element("p", "", "Choose a cell to see its tensors here."), element("dl", "", ...terms));
    details.setAttribute("aria-label", "Tensors of a cell");
    details.replaceChildren(help);
}

// Rows of the table at most: browsers lay out tables of many thousands slowly.
const TABLE_ROWS = 1000;

function fillTable(target, order, hit, metric) {
    const titles = { geometry: "type and shape", kind: "kind of change", evidence: "evidence" };
    const fields = Object.keys(titles).filter((field) => entries[field].some((index) => index > 0));
    const head = element("tr");
    const heads = ["tensor", rowTitle, columnTitle, "state", ...fields.map((field) => titles[field]), ...metrics.map(({ title }) => title)];
    heads.forEach((title, index) => {
        const made = element("th", index >= 4 + fields.length ? "number" : "", title);
        made.scope = "col";
        head.append(made);
    });
    const body = element("tbody");
    let total = 0;
    const add = (cell, entry) => {
        total += 1;
        if (total > TABLE_ROWS) return;
        const of = entry === undefined ? [cells, cell] : [entries, entry];
        const name = element("th", "", entry === undefined ? "–" : named(nameOf(entry)));
        name.scope = "row";
        const words = [rows[cells.row[cell]][0], columns[cells.column[cell]][0], marks[of[0].mark[of[1]]].word];
        for (const field of fields) words.push(entry === undefined ? "" : text(field, entry));
        const made = element("tr", "", name, ...words.map((word) => element("td", "", isolated(word))));
        metrics.forEach((_, index) => made.append(element("td", "number", quantity(index, of[0].values[index][of[1]]))));
        body.append(made);
    };
    for (const row of order) {
        for (const cell of cellsOfRow[row]) {
            if (!hit[cell]) continue;
            if (cells.first[cell] === cells.first[cell + 1]) add(cell);
            for (let entry = cells.first[cell]; entry < cells.first[cell + 1]; entry++) add(cell, entry);
        }
    }
    const notice =
        total > TABLE_ROWS
            ? `The first ${TABLE_ROWS.toLocaleString("en")} of ${counted(total, "tensor")}: filter to see others.`
            : counted(total, "tensor");
    target.replaceChildren(element("p", "", notice), element("table", "", element("thead", "", head), body));
    target.scrollTo(0, 0);
}
