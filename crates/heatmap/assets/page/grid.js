// The map itself. The canvas is as large as what is seen of the map, stays where it is while the map scrolls, and is drawn anew: so
// its size and the time to draw it do not depend on how many cells there are, and labels stay in sight.

const view = document.getElementById("map");
const canvas = document.getElementById("canvas");
const room = document.getElementById("room");
const ring = document.getElementById("ring");
const pen = canvas.getContext("2d");

// Lengths in CSS pixels; set by layOut.
const size = { em: 16, left: 0, top: 0, width: 0, height: 0, strip: 0, seenWidth: 0, seenHeight: 0, slanted: false };
const fonts = {};
let inks = {};
let clipped = new Map();

function readInks() {
    // Resolved by the browser for the theme in force.
    const probe = document.createElement("span");
    document.body.append(probe);
    inks = {};
    for (const name of ["ground", "ink", "muted", "line", "tile", "tile-ink", "strong", "danger", "danger-ink", "accent"]) {
        probe.style.color = `var(--${name})`;
        inks[name] = getComputedStyle(probe).color;
    }
    probe.remove();
}

// A text cut to a width, with dots where something is left out.
function clip(words, width) {
    const key = `${width} ${pen.font} ${words}`;
    if (clipped.has(key)) return clipped.get(key);
    // Nothing that fits is longer, and very long names take long to measure.
    let shown = words.slice(0, 200);
    if (shown !== words || pen.measureText(shown).width > width) {
        let [fits, fails] = [0, shown.length];
        while (fits + 1 < fails) {
            const middle = (fits + fails) >> 1;
            if (pen.measureText(`${shown.slice(0, middle)}…`).width <= width) fits = middle;
            else fails = middle;
        }
        shown = `${shown.slice(0, fits)}…`;
    }
    clipped.set(key, shown);
    return shown;
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const widest = (labels) => labels.reduce((most, [short]) => Math.max(most, pen.measureText(short.slice(0, 60)).width), 0);

const fontSize = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

// How high the map, the table and the list beside them may be: what is left of the window, so that the page itself need not scroll; of
// a low window more than is left.
function fitWindow(em) {
    const above = view.parentElement.getBoundingClientRect().top + window.scrollY;
    const below = parseFloat(getComputedStyle(document.body).paddingTop);
    const most = Math.floor(Math.max(Math.min(26 * em, window.innerHeight * 0.85), window.innerHeight - above - below));
    document.documentElement.style.setProperty("--most", `${most}px`);
    return most;
}

function layOut(rowCount) {
    const em = fontSize();
    const family = getComputedStyle(document.body).fontFamily;
    Object.assign(fonts, {
        label: `400 ${0.86 * em}px ${family}`,
        bold: `620 ${0.86 * em}px ${family}`,
        small: `400 ${0.78 * em}px ${family}`,
        glyph: `600 ${0.86 * em}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace`,
    });
    clipped = new Map();
    // Room for a scroll bar is kept, so that the one for rows does not call for one for columns.
    view.style.overflow = "scroll";
    const [barWidth, barHeight] = [view.offsetWidth - view.clientWidth, view.offsetHeight - view.clientHeight];
    view.style.overflow = "";
    const outer = view.parentElement.clientWidth - barWidth;
    pen.font = fonts.label;
    const titles = panel ? [[rowTitle], ["stored"]] : [[rowTitle]];
    size.em = em;
    size.left = Math.ceil(Math.min(Math.max(widest(rows), widest(titles)), Math.max(5 * em, outer * 0.34))) + 1.1 * em;
    const columnLabel = Math.min(widest(columns), 9 * em);
    const touch = matchMedia("(pointer: coarse)").matches;
    // Labels that are wider than their columns are slanted, and then the last one hangs over.
    const share = (overhang) => (outer - size.left - overhang) / Math.max(1, columns.length);
    const columnWidth = (overhang) => Math.floor(clamp(share(overhang), (touch ? 2.2 : 1.6) * em, 7 * em));
    size.slanted = columnLabel > columnWidth(0) - 4;
    const overhang = size.slanted ? columnLabel * Math.SQRT1_2 : 0;
    size.width = columnWidth(Math.max(0.9 * em, overhang - 0.8 * em));
    size.top = Math.ceil(1.5 * em + (size.slanted ? overhang + 0.9 * em : 1.5 * em));
    size.strip = panel ? Math.ceil(6.6 * em) : 0;
    // Rows are taller where there is room.
    const most = fitWindow(em);
    const rowShare = (most - size.top - size.strip) / Math.max(1, rows.length);
    size.height = Math.floor(clamp(rowShare, (touch ? 2.2 : 1.6) * em, 2.7 * em));
    const width = Math.ceil(size.left + (columns.length - 0.5) * size.width + Math.max(size.width / 2, overhang));
    const height = size.top + rowCount * size.height + size.strip;
    room.style.width = `${width}px`;
    room.style.height = `${height}px`;
    view.style.width = `${Math.min(outer, Math.max(width, size.left + 12 * em)) + barWidth}px`;
    view.style.height = `${Math.floor(Math.min(most, height + (width > outer ? barHeight : 0)))}px`;
    size.seenWidth = view.clientWidth;
    size.seenHeight = view.clientHeight;
    const dots = window.devicePixelRatio || 1;
    canvas.width = Math.round(size.seenWidth * dots);
    canvas.height = Math.round(size.seenHeight * dots);
    canvas.style.width = `${size.seenWidth}px`;
    canvas.style.height = `${size.seenHeight}px`;
    ring.style.width = `${size.width + 1}px`;
    ring.style.height = `${size.height + 1}px`;
}

// Where the strip of sizes begins: below the last row, or at the lower edge of what is seen.
const stripTop = (rowCount) => Math.min(size.top + rowCount * size.height - view.scrollTop, size.seenHeight - size.strip);

function tile(cell, x, y, metric) {
    const mark = marks[cells.mark[cell]];
    const color = shadeOf(cell, metric);
    const gap = size.width > 20 ? 2 : 1;
    pen.fillStyle = color === undefined ? inks[mark.tone] : palette[color];
    pen.beginPath();
    pen.roundRect(x + gap / 2, y + gap / 2, size.width - gap, size.height - gap, gap > 1 ? 3 : 1);
    pen.fill();
    if (!mark.glyph) return;
    const quiet = color === undefined;
    if (quiet) pen.fillStyle = inks[{ tile: "tile-ink", strong: "ink", danger: "danger-ink" }[mark.tone]];
    else pen.fillStyle = isLight[color] ? "#000" : "#fff";
    pen.fillText(mark.glyph, x + size.width / 2, y + size.height / 2 + 1);
}

function draw({ order, hit, metric, over, isOutlined }) {
    const dots = window.devicePixelRatio || 1;
    const { left, top, width, height, seenWidth, seenHeight, em } = size;
    const [scrollX, scrollY] = [view.scrollLeft, view.scrollTop];
    const bottom = panel ? stripTop(order.length) : seenHeight;
    const [firstColumn, lastColumn] = [Math.floor(scrollX / width), Math.ceil((scrollX + seenWidth - left) / width)];
    const [firstRow, lastRow] = [Math.floor(scrollY / height), Math.ceil((scrollY + bottom - top) / height)];
    const columnEnd = Math.min(columns.length, lastColumn);
    const rowEnd = Math.min(order.length, lastRow);
    const x = (column) => left + column * width - scrollX;
    const y = (at) => top + at * height - scrollY;
    const within = (x0, y0, x1, y1, paint) => {
        pen.save();
        pen.beginPath();
        pen.rect(x0, y0, x1 - x0, y1 - y0);
        pen.clip();
        paint();
        pen.restore();
    };
    const words = (content, at, level, font, ink, align = "left") => {
        pen.font = fonts[font];
        pen.fillStyle = inks[ink];
        pen.textAlign = align;
        pen.fillText(content, at, level);
    };
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.textBaseline = "middle";
    pen.direction = "ltr";
    pen.fillStyle = inks.ground;
    pen.fillRect(0, 0, seenWidth, seenHeight);

    within(left, top, seenWidth, bottom, () => {
        pen.font = fonts.glyph;
        pen.textAlign = "center";
        for (let at = firstRow; at < rowEnd; at++) {
            for (let column = firstColumn; column < columnEnd; column++) {
                const cell = cellAt(order[at], column);
                if (cell === undefined) continue;
                pen.globalAlpha = hit[cell] ? 1 : 0.13;
                tile(cell, x(column), y(at), metric);
            }
        }
    });
    if (isOutlined) {
        within(left, top, seenWidth, bottom, () => {
            pen.strokeStyle = inks.ink;
            pen.lineWidth = 1.5;
            pen.beginPath();
            pen.roundRect(x(over.column) + 0.5, y(order.indexOf(over.row)) + 0.5, width - 1, height - 1, 4);
            pen.stroke();
        });
    }
    within(0, top, left, bottom, () => {
        for (let at = firstRow; at < rowEnd; at++) {
            const isOver = over && over.zone !== "column" && over.zone !== "strip" && over.row === order[at];
            pen.font = fonts.label;
            const name = clip(rows[order[at]][0], left - 1.1 * em);
            words(name, left - 0.55 * em, y(at) + height / 2, isOver ? "bold" : "label", isOver ? "ink" : "muted", "right");
        }
    });
    within(left - 0.5 * em, 0, seenWidth, top, () => {
        for (let column = Math.max(0, firstColumn - 8); column < columnEnd; column++) {
            if (x(column) + width / 2 < left) continue;
            const isOver = over && over.zone !== "row" && over.column === column;
            pen.font = fonts.label;
            const name = clip(columns[column][0], size.slanted ? 9 * em : width - 2);
            const [font, ink] = isOver ? ["bold", "ink"] : ["label", "muted"];
            if (!size.slanted) {
                words(name, x(column) + width / 2, top - 0.8 * em, font, ink, "center");
                continue;
            }
            pen.save();
            pen.translate(x(column) + width / 2, top - 0.6 * em);
            pen.rotate(-Math.PI / 4);
            words(name, 0, 0, font, ink);
            pen.restore();
        }
    });
    pen.font = fonts.small;
    words(clip(rowTitle, left - 0.8 * em), left - 0.55 * em, top - 0.8 * em, "small", "muted", "right");
    words(columnTitle, left + 2, 0.75 * em, "small", "muted");
    if (panel) drawStrip(bottom, { x, words, within, firstColumn, columnEnd, over });
    // Edges under which something is hidden.
    pen.fillStyle = inks.line;
    if (scrollY > 0) pen.fillRect(0, top - 1, seenWidth, 1);
    if (scrollX > 0) pen.fillRect(left - 2, 0, 1, seenHeight);
    if (panel && bottom + size.strip >= seenHeight && scrollY + 1 < view.scrollHeight - seenHeight) pen.fillRect(0, bottom, seenWidth, 1);
}

// What versions take, a bar a column, and how many times less that is than their files.
function drawStrip(from, { x, words, within, firstColumn, columnEnd, over }) {
    const { left, width, seenWidth, em } = size;
    const [barTop, barBottom, level] = [from + 1.5 * em, from + 4.7 * em, from + 5.6 * em];
    const most = panel.reduce((most, version) => Math.max(most, version ? version[1] : 0), 1);
    words("stored", left - 0.55 * em, (barTop + barBottom) / 2, "label", "muted", "right");
    words("ratio", left - 0.55 * em, level, "label", "muted", "right");
    within(left - 0.5 * em, from, seenWidth, from + size.strip, () => {
        words(`up to ${bytes(most)}`, left + 2, from + 0.85 * em, "small", "muted");
        pen.fillStyle = inks.line;
        pen.fillRect(left, barBottom, columns.length * width, 1);
        pen.font = fonts.small;
        const room = panel.reduce((room, version) => Math.max(room, version ? pen.measureText(ratio(version)).width : 0), 0);
        const step = Math.ceil((room + 0.5 * em) / width);
        for (let column = firstColumn; column < columnEnd; column++) {
            const version = panel[column];
            const isOver = over && over.zone !== "row" && over.column === column;
            if (version) {
                const tall = Math.max(1.5, (version[1] / most) * (barBottom - barTop));
                pen.fillStyle = inks.accent;
                pen.globalAlpha = isOver ? 1 : 0.72;
                pen.beginPath();
                pen.roundRect(x(column) + width * 0.14, barBottom - tall, width * 0.72, tall, [2, 2, 0, 0]);
                pen.fill();
                pen.globalAlpha = 1;
            }
            if (column % step === 0) {
                words(version ? ratio(version) : "–", x(column) + width / 2, level, "small", isOver ? "ink" : "muted", "center");
            }
        }
    });
}

// What is under a place of the view.
function under(x, y, order) {
    const at = Math.floor((y - size.top + view.scrollTop) / size.height);
    const column = Math.floor((x - size.left + view.scrollLeft) / size.width);
    const hasColumn = x >= size.left && column >= 0 && column < columns.length;
    const strip = panel ? stripTop(order.length) : Infinity;
    if (y >= strip) return hasColumn && y < strip + size.strip ? { zone: "strip", column } : null;
    if (y < size.top) return hasColumn && y > 1.3 * size.em ? { zone: "column", column } : null;
    if (at >= order.length) return null;
    if (x < size.left) return { zone: "row", row: order[at] };
    return hasColumn ? { zone: "cell", row: order[at], column } : null;
}

// The box of a cell in the view; `at` is the place of its row in the order, or the number of rows for the strip.
function box(at, column, rowCount) {
    const isStrip = at === rowCount;
    const y = isStrip ? stripTop(rowCount) : size.top + at * size.height - view.scrollTop;
    return { x: size.left + column * size.width - view.scrollLeft, y, height: isStrip ? size.strip : size.height };
}

// Scrolls just so far that a cell is in sight.
function reveal(at, column, rowCount) {
    const { x, y } = box(at, column, rowCount);
    const [right, bottom] = [size.seenWidth, panel ? stripTop(rowCount) : size.seenHeight];
    if (x < size.left) view.scrollLeft -= size.left - x;
    else if (x + size.width > right) view.scrollLeft += x + size.width - right;
    if (at === rowCount) view.scrollTop = view.scrollHeight;
    else if (y < size.top) view.scrollTop -= size.top - y;
    else if (y + size.height > bottom) view.scrollTop += y + size.height - bottom;
}

function placeRing(isShown, at, column, rowCount) {
    const { x, y, height } = box(at, column, rowCount);
    const limit = at === rowCount || !panel ? size.seenHeight : stripTop(rowCount);
    ring.hidden = !isShown || x < size.left - 2 || y < size.top - 2 || y > limit - height / 2;
    ring.style.height = `${height + 1}px`;
    ring.style.transform = `translate(${x + view.scrollLeft - 0.5}px, ${y + view.scrollTop - 0.5}px)`;
}
