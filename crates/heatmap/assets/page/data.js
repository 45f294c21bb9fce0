// The data of the page: read once, and asked for what it holds. What each field means is told where it is written, in html.rs.

const { rowTitle, columnTitle, rows, columns, marks, metrics, strings, panel, ...raw } = JSON.parse(
    document.getElementById("data").textContent,
);

// A list whose items are all alike comes as that item.
const list = (values, length) => (Array.isArray(values) ? values : new Array(length).fill(values));
// What is unknown is null there and NaN here; what is infinite is a word, since JSON has no number for it.
const numbers = (values, length) =>
    Float64Array.from(list(values, length), (value) => (value === null ? NaN : Number(value)));

const cellCount = raw.cells.length;
const entryCount = raw.entries.length;
const cells = {
    row: list(raw.cells.row, cellCount),
    column: list(raw.cells.column, cellCount),
    mark: list(raw.cells.mark, cellCount),
    values: raw.cells.values.map((values) => numbers(values, cellCount)),
    // The entries of cell i are those from first[i] up to first[i + 1].
    first: new Uint32Array(cellCount + 1),
};
list(raw.cells.count, cellCount).forEach((count, cell) => (cells.first[cell + 1] = cells.first[cell] + count));
const entries = { values: raw.entries.values.map((values) => numbers(values, entryCount)) };
for (const field of ["head", "tail", "old", "mark", "geometry", "kind", "evidence"]) {
    entries[field] = list(raw.entries[field], entryCount);
}
const text = (field, entry) => strings[entries[field][entry]];
const nameOf = (entry) => text("head", entry) + text("tail", entry);

const places = new Map();
const cellsOfRow = rows.map(() => []);
for (let cell = 0; cell < cellCount; cell++) {
    places.set(cells.row[cell] * columns.length + cells.column[cell], cell);
    cellsOfRow[cells.row[cell]].push(cell);
}
const cellAt = (row, column) => places.get(row * columns.length + column);

// Colours, and whether dark text can be read on each of them: by the relative luminance that WCAG 2 defines.
const palette = Array.from({ length: 256 }, (_, index) => `#${raw.colors.slice(index * 6, index * 6 + 6)}`);
const isLight = palette.map((color) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
        const part = parseInt(color.slice(at, at + 2), 16) / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179;
});

// Where a value is on the scale of its metric, from 0 to 1.
function position(metric, value) {
    const { logarithmic, low, high } = metrics[metric];
    if (logarithmic && value <= low) return 0;
    const at = logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return Number.isNaN(at) ? 0 : Math.min(1, Math.max(0, at));
}
const shade = (at) => Math.round(at * 255);

// Of a cell the place of its colour in the palette; undefined where it has none.
function shadeOf(cell, metric) {
    const value = metrics.length > 0 ? cells.values[metric][cell] : NaN;
    return Number.isNaN(value) || !marks[cells.mark[cell]].measured ? undefined : shade(position(metric, value));
}

const digits = (value, count) => Number(value.toPrecision(count));

function quantity(metric, value) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
    if (metrics[metric].percent) {
        const percent = value * 100;
        if (percent > 0 && percent < 0.01) return "<0.01%";
        // What is not quite all does not look as if it were.
        return percent > 99.99 && percent < 100 ? ">99.99%" : `${digits(percent, 4)}%`;
    }
    if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size >= 1e-3 && size < 1e6 ? String(digits(value, 4)) : value.toExponential(2).replace("e+", "e");
}

// Decimal units, as everywhere else.
function bytes(size) {
    const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let unit = 0;
    while (size >= 999.5 && unit + 1 < units.length) {
        size /= 1000;
        unit += 1;
    }
    return `${unit > 0 && size < 99.95 ? size.toFixed(1) : size.toFixed(0)} ${units[unit]}`;
}

function ratio([plain, stored]) {
    if (!(plain > 0 && stored > 0)) return "–";
    const times = plain / stored;
    return `${times.toFixed(times < 9.995 ? 2 : times < 99.95 ? 1 : 0)}×`;
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// What a text in the filter looks for: a pattern between slashes, any other text as it is. Throws where the pattern is none.
function pattern(sought) {
    const between = /^\/(.+)\/$/s.exec(sought);
    return new RegExp(between ? between[1] : sought.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), "i");
}

// Which cells are shown in full: of each 1 or 0, and how many.
function matching(sought, hiddenMarks) {
    const look = sought === "" ? null : pattern(sought);
    const hit = new Uint8Array(cellCount);
    let count = 0;
    const tested = (items, of) => (look ? items.map((item) => of(item).some((word) => look.test(word))) : []);
    const rowHits = tested(rows, (label) => label);
    const columnHits = tested(columns, (label) => label);
    const markHits = tested(marks, (mark) => [mark.word]);
    // Many entries share a kind and a geometry: each is looked at once.
    const known = new Map();
    const shared = (index) => {
        if (!known.has(index)) known.set(index, look.test(strings[index]));
        return known.get(index);
    };
    const entryHit = (entry) =>
        markHits[entries.mark[entry]] ||
        shared(entries.kind[entry]) ||
        shared(entries.geometry[entry]) ||
        look.test(nameOf(entry)) ||
        (entries.old[entry] > 0 && look.test(text("old", entry)));
    for (let cell = 0; cell < cellCount; cell++) {
        if (hiddenMarks.has(cells.mark[cell])) continue;
        let found = !look || rowHits[cells.row[cell]] || columnHits[cells.column[cell]] || markHits[cells.mark[cell]];
        for (let entry = cells.first[cell]; !found && entry < cells.first[cell + 1]; entry++) found = entryHit(entry);
        if (found) {
            hit[cell] = 1;
            count += 1;
        }
    }
    return { hit, count };
}

// The rows to show, in their order. Rows vanish where something is sought and nothing found; rows without a value are last.
function ordered(sort, metric, { hit, count }) {
    const shown = rows.map((_, row) => row);
    const left = count === cellCount ? shown : shown.filter((row) => cellsOfRow[row].some((cell) => hit[cell]));
    if (sort === "name") {
        const collator = new Intl.Collator("en", { numeric: true });
        return left.sort((a, b) => collator.compare(rows[a][1], rows[b][1]) || a - b);
    }
    if (sort === "model" || metrics.length === 0) return left;
    const changes = rows.map((_, row) => {
        const values = cellsOfRow[row].map((cell) => (hit[cell] ? cells.values[metric][cell] : NaN));
        const measured = values.filter((value) => !Number.isNaN(value));
        if (measured.length === 0) return -Infinity;
        if (sort === "largest") return measured.reduce((a, b) => Math.max(a, b));
        return measured.reduce((a, b) => a + b, 0) / measured.length;
    });
    // Infinite values are equal to each other, though their difference is NaN.
    return left.sort((a, b) => (changes[a] === changes[b] ? a - b : changes[b] > changes[a] ? 1 : -1));
}
