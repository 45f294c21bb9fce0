// What the reader chose, and what follows from it.

const byId = (id) => document.getElementById(id);
const [filter, count, sortBy, metricBy] = ["filter", "count", "sort", "metric"].map(byId);
const [tip, details, live, table] = ["tip", "details", "live", "list"].map(byId);

const state = {
    metric: raw.metric,
    sort: "model",
    sought: "",
    hiddenMarks: new Set(),
    isTable: false,
    found: { hit: new Uint8Array(0), count: 0 },
    order: [],
    // Where keys move from: a row of the model, or that of the sizes, and a column.
    focus: { row: 0, column: 0 },
    // The cell whose tensors are listed.
    opened: undefined,
    // What is under the pointer, or else under the focus.
    over: null,
};
const SIZES = -1;

// The place of the focused row among those shown; the sizes are after the last.
function focusedPlace() {
    return state.focus.row === SIZES ? state.order.length : Math.max(0, state.order.indexOf(state.focus.row));
}

let isAwaited = false;
function paint() {
    isAwaited = false;
    if (state.isTable || cellCount === 0) return;
    const { order, found, metric, over } = state;
    const isShown = order.length > 0 && (document.activeElement === view || state.opened !== undefined);
    const isFocused = isShown && over?.row === state.focus.row && over?.column === state.focus.column;
    draw({ order, hit: found.hit, metric, over, isOutlined: over?.zone === "cell" && !isFocused });
    placeRing(isShown, focusedPlace(), state.focus.column, order.length);
}
function repaint() {
    if (!isAwaited) requestAnimationFrame(paint);
    isAwaited = true;
}

function pointAt(over) {
    state.over = over;
    const cell = over?.zone === "cell" ? cellAt(over.row, over.column) : undefined;
    const isShown = cell !== undefined && shadeOf(cell, state.metric) !== undefined;
    byId("pointer").hidden = !isShown;
    if (isShown) {
        const bar = byId("bar");
        const along = position(state.metric, cells.values[state.metric][cell]);
        byId("pointer").style.left = `${bar.offsetLeft + along * bar.offsetWidth}px`;
    }
    repaint();
}

// The tip for what is at a place of the window, so far away from it.
function showTip(over, x, y, away) {
    tip.hidden = !over;
    if (!over) return;
    fillTip(tip, over, state.metric);
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const [right, bottom] = [window.innerWidth - 8, window.innerHeight - 8];
    const left = x + away + width > right ? x - away - width : x + away;
    const top = y + away + height > bottom ? y - away - height : y + away;
    tip.style.left = `${clamp(left, 8, Math.max(8, right - width))}px`;
    tip.style.top = `${clamp(top, 8, Math.max(8, bottom - height))}px`;
}

function open(cell) {
    state.opened = cell;
    details.classList.add("open");
    fillDetails(details, cell, state.metric, close);
    // On a narrow window the list lies over the page: the cell comes up from under it.
    if (getComputedStyle(details).position === "fixed") {
        const { y, height } = box(focusedPlace(), state.focus.column, state.order.length);
        const covered = view.getBoundingClientRect().y + y + height + 12 - details.getBoundingClientRect().y;
        if (covered > 0) window.scrollBy(0, covered);
    }
    repaint();
}

function close() {
    const hadFocus = details.contains(document.activeElement);
    state.opened = undefined;
    details.classList.remove("open");
    fillHelp(details);
    if (hadFocus) (state.isTable ? table : view).focus({ preventScroll: true });
    repaint();
}

// After the focus moved: the cell is in sight, told, and listed where a list is open.
function follow() {
    const { row, column } = state.focus;
    const place = focusedPlace();
    reveal(place, column, state.order.length);
    const isStrip = row === SIZES;
    live.textContent = sentence(row, column, isStrip);
    const over = isStrip ? { zone: "strip", column } : { zone: "cell", row, column };
    pointAt(over);
    const cell = isStrip ? undefined : cellAt(row, column);
    if (state.opened !== undefined && cell !== undefined) open(cell);
    const [corner, { x, y, height }] = [view.getBoundingClientRect(), box(place, column, state.order.length)];
    showTip(state.opened === undefined ? over : null, corner.x + x + size.width, corner.y + y + height, 4);
}

function move(key, withControl) {
    const [rowCount, last] = [state.order.length, columns.length - 1];
    const lowest = rowCount - (panel ? 0 : 1);
    const page = Math.max(1, Math.floor((size.seenHeight - size.top - size.strip) / size.height) - 1);
    let [place, { column }] = [focusedPlace(), state.focus];
    if (key === "ArrowUp") place -= 1;
    else if (key === "ArrowDown") place += 1;
    else if (key === "ArrowLeft") column -= 1;
    else if (key === "ArrowRight") column += 1;
    else if (key === "PageUp") place -= page;
    else if (key === "PageDown") place = Math.min(place + page, Math.max(place, rowCount - 1));
    else if (key === "Home") [place, column] = [withControl ? 0 : place, 0];
    else if (key === "End") [place, column] = [withControl ? rowCount - 1 : place, last];
    else return false;
    place = clamp(place, 0, lowest);
    state.focus = { row: place === rowCount ? SIZES : state.order[place], column: clamp(column, 0, last) };
    follow();
    return true;
}

function focusedCell() {
    return state.focus.row === SIZES ? undefined : cellAt(state.focus.row, state.focus.column);
}

view.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || state.order.length === 0) return;
    const isOpening = event.key === "Enter" || event.key === " ";
    if (isOpening && focusedCell() !== undefined) {
        showTip(null);
        open(focusedCell());
        details.focus();
    }
    if (isOpening || move(event.key, event.ctrlKey)) event.preventDefault();
});
view.addEventListener("focus", () => {
    if (view.matches(":focus-visible") && state.order.length > 0) follow();
    repaint();
});
view.addEventListener("blur", () => {
    showTip(null);
    pointAt(null);
});
const hovered = (event) => {
    const corner = view.getBoundingClientRect();
    return under(event.clientX - corner.x, event.clientY - corner.y, state.order);
};
view.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const over = hovered(event);
    pointAt(over);
    // What is listed is not said twice.
    const isListed = over?.zone === "cell" && state.opened !== undefined && cellAt(over.row, over.column) === state.opened;
    showTip(isListed ? null : over, event.clientX, event.clientY, 14);
});
view.addEventListener("pointerleave", () => {
    showTip(null);
    pointAt(null);
});
view.addEventListener("click", (event) => {
    const over = hovered(event);
    if (over?.zone !== "cell") return;
    state.focus = { row: over.row, column: over.column };
    const cell = cellAt(over.row, over.column);
    live.textContent = sentence(over.row, over.column, false);
    showTip(null);
    if (cell !== undefined) open(cell);
    else repaint();
});
view.addEventListener("scroll", () => {
    if (!tip.hidden && document.activeElement !== view) showTip(null);
    paint();
});

document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input, select");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        filter.select();
        filter.focus();
    } else if (event.key === "Escape" && event.target === filter) {
        if (filter.value !== "") {
            filter.value = "";
            seek();
        } else if (!state.isTable) view.focus();
    } else if (event.key === "Escape" && (!tip.hidden || state.opened !== undefined)) {
        showTip(null);
        if (state.opened !== undefined) close();
    }
});

// What matches, in which order, how many: after any choice.
function choose() {
    const { sought, hiddenMarks, sort, metric } = state;
    state.found = matching(sought, hiddenMarks);
    state.order = ordered(sort, metric, state.found);
    if (state.focus.row !== SIZES && !state.order.includes(state.focus.row)) state.focus.row = state.order[0] ?? 0;
    count.textContent = `${state.found.count.toLocaleString("en")} of ${counted(cellCount, "cell")}`;
    const isEmpty = state.order.length === 0 || cellCount === 0;
    byId("none").hidden = !isEmpty;
    byId("none").textContent = cellCount === 0 ? "There are no tensors to compare." : "No cell matches the filter.";
    view.hidden = isEmpty || state.isTable;
    table.hidden = isEmpty || !state.isTable;
    showTip(null);
    details.hidden = state.isTable || cellCount === 0;
    byId("stage").classList.toggle("alone", details.hidden);
    byId("controls").hidden = cellCount === 0;
    if (isEmpty) return;
    if (state.isTable) {
        fillTable(table, state.order, state.found.hit, metric);
        return;
    }
    layOut(state.order.length);
    pointAt(null);
    paint();
}

function seek() {
    let problem = "";
    try {
        pattern(filter.value);
        state.sought = filter.value;
    } catch (error) {
        problem = `Invalid pattern: ${error.message.replace(/^Invalid regular expression: /, "")}`;
    }
    filter.setAttribute("aria-invalid", String(problem !== ""));
    count.classList.toggle("wrong", problem !== "");
    // The map stays as it was until the pattern is whole.
    if (problem) count.textContent = problem;
    else choose();
}

function showLegend() {
    byId("legend").hidden = metrics.length === 0;
    if (metrics.length === 0) return;
    const { title, ticks } = metrics[state.metric];
    const marked = ticks.map(([along, words]) => {
        const tick = element("span", "", words);
        tick.style.left = `${along * 100}%`;
        return tick;
    });
    byId("ticks").replaceChildren(...marked);
    byId("scale").setAttribute("aria-label", `${title}, from ${ticks[0][1]} to ${ticks[ticks.length - 1][1]}`);
}

function sweep(bar) {
    const brush = bar.getContext("2d");
    for (let x = 0; x < bar.width; x++) {
        brush.fillStyle = palette[Math.round((x / (bar.width - 1)) * 255)];
        brush.fillRect(x, 0, 1, bar.height);
    }
}

// The key says what the glyphs mean, and hides the cells of a state.
function showKey() {
    const counts = marks.map(() => 0);
    for (const mark of cells.mark) counts[mark] += 1;
    marks.forEach(({ word, glyph, tone }, mark) => {
        if (counts[mark] === 0) return;
        const sign = element("span", `tile ${tone}`, glyph ?? "");
        sign.setAttribute("aria-hidden", "true");
        if (!glyph && metrics.length > 0) {
            const bar = document.createElement("canvas");
            [bar.width, bar.height] = [32, 1];
            sweep(bar);
            sign.append(bar);
        }
        const button = element("button", "", sign, word, " ", element("small", "", counts[mark].toLocaleString("en")));
        button.type = "button";
        button.setAttribute("aria-pressed", "true");
        button.addEventListener("click", () => {
            const isHidden = !state.hiddenMarks.delete(mark);
            if (isHidden) state.hiddenMarks.add(mark);
            button.setAttribute("aria-pressed", String(!isHidden));
            choose();
        });
        byId("key").append(button);
    });
}

function setView(isTable) {
    state.isTable = isTable;
    if (state.opened !== undefined) close();
    byId("view-map").setAttribute("aria-pressed", String(!isTable));
    byId("view-table").setAttribute("aria-pressed", String(isTable));
    choose();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
    const isDark = (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
    byId("theme").setAttribute("aria-label", `Switch to the ${isDark ? "light" : "dark"} theme`);
    readInks();
    repaint();
    return isDark;
}
dark.addEventListener("change", showTheme);
byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = showTheme() ? "light" : "dark";
    showTheme();
});

filter.addEventListener("input", seek);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
sortBy.addEventListener("change", () => {
    state.sort = sortBy.value;
    view.scrollTop = 0;
    choose();
});
metricBy.addEventListener("change", () => {
    state.metric = metricBy.selectedIndex;
    showLegend();
    choose();
    if (state.opened !== undefined) open(state.opened);
});
byId("view-map").addEventListener("click", () => setView(false));
byId("view-table").addEventListener("click", () => setView(true));

metricBy.append(...metrics.map(({ title }) => element("option", "", title)));
metricBy.selectedIndex = state.metric;
view.setAttribute(
    "aria-label",
    `Map of ${counted(rows.length, "row")} (${rowTitle}) and ${counted(columns.length, "column")} (${columnTitle})`,
);
sweep(byId("bar"));
showKey();
showLegend();
fillHelp(details);
showTheme();
choose();
document.querySelector("main").classList.add("ready");
// Widths and pixel ratio follow the window; so does the height of the map, which that changes itself.
function refit() {
    if (view.hidden) {
        fitWindow(fontSize());
        return;
    }
    layOut(state.order.length);
    paint();
}
window.addEventListener("resize", refit);
let fitted = 0;
new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width !== fitted) refit();
    fitted = contentRect.width;
}).observe(view.parentElement);
