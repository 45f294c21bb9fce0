// What a reader can do with the pages of crates/heatmap, done in a browser. Started by tests/page/run.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const { CHROMIUM, PAGES, SCREENSHOTS } = process.env;
const NAMES = ["transformer", "large", "empty", "single", "series", "hostile"];
let browser;

before(async () => {
    // Root may start no sandbox; what is opened is made here.
    // Scroll bars take room, as they do for many readers.
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"], ignoreDefaultArgs: ["--hide-scrollbars"] });
});
after(() => browser?.close());

// Opens a page, and fails at the end where it complained, asked for anything, or broke its own policy.
async function visit(name, act, { width = 1280, height = 800, colorScheme = "light", ...more } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, ...more });
    const page = await context.newPage();
    const url = pathToFileURL(path.join(PAGES, `${name}.html`)).href;
    const said = [];
    const asked = [];
    page.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    page.on("request", (request) => asked.push(request.url()));
    await page.addInitScript(() => {
        window.shifts = 0;
        new PerformanceObserver((found) => {
            for (const entry of found.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
        }).observe({ type: "layout-shift", buffered: true });
    });
    try {
        await page.goto(url);
        await act(page);
        assert.deepEqual(said, [], `${name} complains`);
        assert.deepEqual(asked, [url], `${name} asks for more than itself`);
    } finally {
        await context.close();
    }
}

const text = (page, selector) => page.locator(selector).innerText();
const count = (page) => text(page, "#count");
const said = (page) => page.locator("#live").textContent();

// The box of the focused cell in the window, once the ring has arrived there.
async function ring(page) {
    await page.evaluate(async () => {
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        await Promise.allSettled(document.getElementById("ring").getAnimations().map((animation) => animation.finished));
    });
    return page.locator("#ring").boundingBox();
}

// The middle of a cell in the window.
async function middle(page, row, column) {
    await page.focus("#map");
    await page.keyboard.press("Control+Home");
    for (let step = 0; step < row; step++) await page.keyboard.press("ArrowDown");
    for (let step = 0; step < column; step++) await page.keyboard.press("ArrowRight");
    const { x, y, width, height } = await ring(page);
    await page.keyboard.press("Escape");
    await page.evaluate(() => document.activeElement.blur());
    return [x + width / 2, y + height / 2];
}

// The colour of a place of the map, as numbers.
const pixel = (page, [x, y]) =>
    page.evaluate(
        async ([x, y]) => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const canvas = document.getElementById("canvas");
            const corner = canvas.getBoundingClientRect();
            const dots = canvas.width / corner.width;
            const at = [(x - corner.x) * dots, (y - corner.y) * dots].map(Math.round);
            // Of a copy: a canvas that is read often is no longer drawn by the graphics processor.
            const copy = new OffscreenCanvas(1, 1).getContext("2d");
            copy.drawImage(canvas, -at[0], -at[1]);
            return [...copy.getImageData(0, 0, 1, 1).data];
        },
        [x, y],
    );

// Names of the rows from the top, as the keys pass them.
async function rowsFromTop(page, most) {
    await page.focus("#map");
    await page.keyboard.press("Control+Home");
    const rows = [];
    while (rows.length < most) {
        const row = /^layer (\S+),/.exec(await said(page))[1];
        if (rows.at(-1) === row) break;
        rows.push(row);
        await page.keyboard.press("ArrowDown");
    }
    return rows;
}

for (const name of NAMES) {
    test(`${name}: opens without complaint, without shifts, in both themes`, async () => {
        for (const colorScheme of ["light", "dark"]) {
            const look = async (page) => {
                await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${colorScheme}.png`) });
                assert.ok((await page.evaluate(() => window.shifts)) < 0.01, "the layout shifts");
                const tall = await page.evaluate(() => document.documentElement.scrollHeight);
                assert.ok(tall <= 900, "the page scrolls, beside the map");
            };
            await visit(name, look, { colorScheme, width: 1440, height: 900 });
        }
    });
}

test("24,000 cells are painted within a second", async () => {
    // The machine may be busy with other things: the best of a few counts.
    const times = [];
    for (let round = 0; round < 4 && !times.some((time) => time < 1000); round++) {
        await visit("large", async (page) => {
            const { painted, drawn } = await page.evaluate(() => ({
                painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
                // Scripts of the page have run by then, and have drawn.
                drawn: performance.getEntriesByType("navigation")[0].domContentLoadedEventStart,
            }));
            times.push(Math.max(painted, drawn));
            const colors = await page.evaluate(() => {
                const canvas = document.getElementById("canvas");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            });
            assert.ok(colors > 20, `${colors} colours`);
            assert.equal(await count(page), "24,000 of 24,000 cells");
        });
    }
    assert.ok(Math.min(...times) < 1000, `first paint after ${times.map(Math.round)} ms`);
});

test("24,000 cells: the last row is reached, filtering and sorting stay quick", async () => {
    await visit("large", async (page) => {
        await page.focus("#map");
        await page.keyboard.press("Control+End");
        assert.match(await said(page), /^layer 1999, kind b11: value, relative change /);
        const slow = await page.evaluate(() => {
            const start = performance.now();
            const filter = document.getElementById("filter");
            filter.value = "/layers\\.19\\d\\d\\.experts\\.3\\..*down/";
            filter.dispatchEvent(new Event("input"));
            return performance.now() - start;
        });
        assert.equal(await count(page), "100 of 24,000 cells");
        assert.ok(slow < 1500, `${slow} ms`);
        await page.fill("#filter", "");
        await page.click("#view-table");
        assert.equal(await page.locator("#list tbody tr").count(), 1000);
        assert.equal(await text(page, "#list p"), "The first 1,000 of 100,000 tensors: filter to see others.");
    });
});

test("the pointer over a cell tells its tensors and their values", async () => {
    await visit("transformer", async (page) => {
        await page.mouse.move(...(await middle(page, 6, 0)));
        const tip = await text(page, "#tip");
        for (const part of [
            "layer 5 model.layers.5",
            "kind q attention query",
            "model.layers.5.self_attn.q_proj.weight",
            "value · low-rank · BF16 [384, 384]",
            "rank 8 holds 99.9% of the change",
            "effective rank of the change",
        ]) {
            assert.ok(tip.replace(/\s+/g, " ").includes(part), `${part} is not in ${tip}`);
        }
        const told = /relative change\s+(\S+)/.exec(tip)[1];
        assert.equal(told, "0.004239");
        assert.equal(await page.locator("#pointer").isVisible(), true, "the place on the scale");
        await page.screenshot({ path: path.join(SCREENSHOTS, "transformer-hover.png") });
        await page.mouse.move(...(await middle(page, 4, 4)));
        assert.match(await text(page, "#tip"), /was\s+model\.layers\.3\.mlp\.w1\.weight\s+renamed/);
        await page.mouse.move(2, 2);
        assert.equal(await page.locator("#tip").isVisible(), false);
    });
    await visit("single", async (page) => {
        await page.mouse.move(...(await middle(page, 0, 0)));
        const shown = await page.locator("#tip .tensors > li").count();
        assert.ok(shown >= 3 && shown <= 12, `${shown} tensors`);
        assert.match(await text(page, "#tip"), new RegExp(`and ${500 - shown} more$`));
        const { y, height } = await page.locator("#tip").boundingBox();
        assert.ok(y >= 0 && y + height <= 800, "the tip is inside the window");
    });
});

test("a click lists all tensors of a cell, as text that can be selected", async () => {
    await visit("single", async (page) => {
        await page.mouse.click(...(await middle(page, 0, 0)));
        assert.equal(await page.locator("#details li").count(), 200);
        await page.getByRole("button", { name: "Show more (300 left)" }).click();
        await page.getByRole("button", { name: "Show more (100 left)" }).click();
        assert.equal(await page.locator("#details li").count(), 500);
        await page.locator("#details li .name").last().selectText();
        assert.equal(await page.evaluate(() => String(getSelection())), "experts.499.weight");
        await page.screenshot({ path: path.join(SCREENSHOTS, "single-details.png") });
        await page.getByRole("button", { name: "Close the list" }).click();
        assert.equal(await page.locator("#details li").count(), 0);
    });
});

test("rows are sorted by the model, by largest and mean change, by name", async () => {
    const layers = Array.from({ length: 12 }, (_, layer) => String(layer));
    await visit("transformer", async (page) => {
        assert.deepEqual(await rowsFromTop(page, 20), ["embed", ...layers, "head"]);
        await page.selectOption("#sort", "name");
        assert.deepEqual(await rowsFromTop(page, 20), ["head", "embed", ...layers]);
        for (const [sort, join] of [
            ["largest", (values) => Math.max(...values)],
            ["mean", (values) => values.reduce((a, b) => a + b, 0) / values.length],
        ]) {
            await page.selectOption("#sort", sort);
            // From the table, which has the same order.
            await page.click("#view-table");
            const found = await page.locator("#list tbody tr").evaluateAll((rows) =>
                rows.map((row) => {
                    const [layer, kind, , , , , relative] = [...row.querySelectorAll("td")].map((cell) => cell.textContent);
                    return { layer, kind, relative: Number(relative) };
                }),
            );
            await page.click("#view-map");
            const cells = new Map();
            for (const { layer, kind, relative } of found.filter(({ relative }) => !Number.isNaN(relative))) {
                const row = cells.get(layer) ?? new Map();
                row.set(kind, Math.max(row.get(kind) ?? 0, relative));
                cells.set(layer, row);
            }
            const order = await rowsFromTop(page, 20);
            const amounts = order.map((row) => (cells.has(row) ? join([...cells.get(row).values()]) : -1));
            assert.equal(cells.size, 12);
            assert.deepEqual(amounts, [...amounts].sort((a, b) => b - a), sort);
            assert.deepEqual(order.slice(-2), ["embed", "head"], "rows without a value are last");
        }
        await page.selectOption("#metric", { label: "effective rank of the change" });
        await page.selectOption("#sort", "largest");
        assert.notDeepEqual((await rowsFromTop(page, 20)).slice(0, 12), layers);
    });
});

test("the filter takes names, kinds, states and patterns, and says what is wrong with one", async () => {
    await visit("transformer", async (page) => {
        const pale = await pixel(page, await middle(page, 1, 0));
        for (const [sought, found] of [
            ["", 98],
            ["low-rank", 2],
            ["LAYERS.11.", 8],
            ["/^model\\.layers\\.\\d\\.mlp/", 30],
            ["attention query", 12],
            ["w1.weight", 1],
            ["renamed", 1],
            ["NaN or infinite", 1],
            ["[384, 1024]", 2],
            ["nothing has this", 0],
        ]) {
            await page.fill("#filter", sought);
            assert.equal(await count(page), `${found} of 98 cells`, sought);
        }
        assert.equal(await text(page, "#none"), "No cell matches the filter.");
        await page.fill("#filter", "/layers.(/");
        assert.match(await count(page), /^Invalid pattern: /);
        assert.equal(await page.getAttribute("#filter", "aria-invalid"), "true");
        await page.fill("#filter", "/layers\\.1\\./");
        assert.equal(await page.getAttribute("#filter", "aria-invalid"), "false");
        assert.deepEqual(await rowsFromTop(page, 5), ["1"]);
        await page.fill("#filter", "k_proj");
        assert.equal((await rowsFromTop(page, 20)).length, 12, "rows without a match vanish");
        const faded = await pixel(page, await middle(page, 0, 0));
        assert.ok(faded[0] > pale[0] + 40, `${faded} is not paler than ${pale}`);
        await page.screenshot({ path: path.join(SCREENSHOTS, "transformer-filter.png") });
        await page.fill("#filter", "");
        const equal = page.getByRole("button", { name: /^equal/ });
        await equal.click();
        assert.equal(await count(page), "93 of 98 cells");
        assert.equal(await equal.getAttribute("aria-pressed"), "false");
        await equal.click();
        assert.equal(await count(page), "98 of 98 cells");
    });
});

test("another metric changes the colours and the scale", async () => {
    await visit("transformer", async (page) => {
        const place = await middle(page, 12, 1);
        assert.equal(await text(page, "#ticks"), "1e-4\n1e-3\n0.01\n0.1");
        const before = await pixel(page, place);
        await page.selectOption("#metric", { label: "changed words" });
        assert.equal(await text(page, "#ticks"), "0%\n25%\n50%\n75%\n100%");
        assert.match(await page.getAttribute("#scale", "aria-label"), /^changed words, from 0% to 100%$/);
        assert.notDeepEqual(await pixel(page, place), before);
        assert.equal(await page.locator("#metric option").count(), 5);
    });
    await visit("series", async (page) => {
        assert.deepEqual(await page.locator("#metric option").allInnerTexts(), ["relative change", "changed words"]);
    });
});

test("everything can be done with keys", async () => {
    await visit("transformer", async (page) => {
        const focused = () => page.evaluate(() => document.activeElement.id);
        const passed = [];
        for (let step = 0; step < 30 && (await focused()) !== "map"; step++) {
            await page.keyboard.press("Tab");
            passed.push(await focused());
        }
        for (const id of ["theme", "filter", "sort", "view-map", "view-table", "metric", "map"]) {
            assert.ok(passed.includes(id), `${id} is not among ${passed}`);
        }
        assert.match(await said(page), /^layer embed, kind q: nothing here$/);
        const steps = [
            ["ArrowDown", "layer 0, kind q: value"],
            ["ArrowRight", "layer 0, kind k: value"],
            ["End", "layer 0, kind embed: nothing"],
            ["Home", "layer 0, kind q: value"],
            ["PageDown", "layer head, kind q: nothing"],
            ["PageUp", "layer embed, kind q: nothing"],
            ["ArrowUp", "layer embed, kind q: nothing"],
            ["Control+End", "layer head, kind embed: equal, lm_head.weight"],
            ["Control+Home", "layer embed, kind q: nothing"],
            ["ArrowDown", "layer 0, kind q: value, relative change"],
        ];
        for (const [key, sentence] of steps) {
            await page.keyboard.press(key);
            assert.ok((await said(page)).startsWith(sentence), `${key}: ${await said(page)}`);
        }
        assert.equal(await page.locator("#ring").isVisible(), true);
        assert.match(await text(page, "#tip"), /q_proj/, "the focus shows the tip too");
        await page.keyboard.press("Enter");
        assert.equal(await focused(), "details");
        assert.match(await text(page, "#details"), /model\.layers\.0\.self_attn\.q_proj\.weight/);
        await page.screenshot({ path: path.join(SCREENSHOTS, "transformer-keys.png") });
        await page.keyboard.press("Escape");
        assert.equal(await focused(), "map");
        assert.equal(await page.locator("#details li").count(), 0);
        await page.keyboard.press("/");
        assert.equal(await focused(), "filter");
        await page.keyboard.type("/norm/");
        assert.equal(await count(page), "12 of 98 cells");
        await page.keyboard.press("Escape");
        assert.equal(await count(page), "98 of 98 cells");
        await page.keyboard.press("Escape");
        assert.equal(await focused(), "map");
    });
});

test("the theme follows the system, and the button", async () => {
    const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const look = (isDark) => async (page) => {
        const [light, dark] = ["rgb(255, 255, 255)", "rgb(18, 19, 22)"];
        assert.equal(await ground(page), isDark ? dark : light);
        const corner = await page.locator("#canvas").boundingBox();
        const empty = [corner.x + 2, corner.y + 2];
        assert.equal((await pixel(page, empty))[0], isDark ? 18 : 255, "the canvas");
        await page.getByRole("button", { name: `Switch to the ${isDark ? "light" : "dark"} theme` }).click();
        assert.equal(await ground(page), isDark ? light : dark);
        assert.equal((await pixel(page, empty))[0], isDark ? 255 : 18, "the canvas");
        await page.getByRole("button", { name: `Switch to the ${isDark ? "dark" : "light"} theme` }).click();
        assert.equal(await ground(page), isDark ? dark : light);
    };
    await visit("transformer", look(false));
    await visit("transformer", look(true), { colorScheme: "dark" });
    await visit("transformer", async (page) => {
        await page.emulateMedia({ colorScheme: "dark" });
        assert.equal(await ground(page), "rgb(18, 19, 22)", "the system changed");
        const corner = await page.locator("#canvas").boundingBox();
        assert.equal((await pixel(page, [corner.x + 2, corner.y + 2]))[0], 18, "and the canvas with it");
    });
});

test("nothing is wider than the window, from a phone to a wall", async () => {
    for (const name of NAMES) {
        for (const [width, height] of [[360, 740], [768, 1024], [3840, 2160]]) {
            const look = async (page) => {
                const wide = await page.evaluate(() => document.documentElement.scrollWidth);
                assert.ok(wide <= width, `${name} is ${wide} wide in a window of ${width}`);
                const hidden = await page.locator("#map").evaluate((map) => map.scrollWidth - map.clientWidth);
                assert.ok(hidden === 0 || width < 1000, `${name}: the map scrolls by ${hidden} in a window of ${width}`);
                await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${width}.png`) });
            };
            await visit(name, look, { width, height });
        }
    }
    const touch = { width: 360, height: 740, hasTouch: true, isMobile: true, colorScheme: "dark" };
    const tap = async (page) => {
        await page.locator("#map").scrollIntoViewIfNeeded();
        await page.touchscreen.tap(...(await middle(page, 6, 1)));
        assert.match(await text(page, "#details"), /model\.layers\.5\.self_attn\.k_proj\.weight/);
        const [cell, sheet] = [await ring(page), await page.locator("#details").boundingBox()];
        assert.ok(cell.y + cell.height <= sheet.y, "the list does not cover its cell");
        await page.screenshot({ path: path.join(SCREENSHOTS, "transformer-touch.png") });
    };
    await visit("transformer", tap, touch);
});

test("names that would be markup are text", async () => {
    await visit("hostile", async (page) => {
        const script = "</script><script>window.hostile = 1</script>";
        assert.ok((await text(page, "h1")).startsWith(script));
        assert.match(await page.title(), /over\\u\{202e\}drawkcab/);
        await page.mouse.click(...(await middle(page, 0, 1)));
        assert.ok((await text(page, "#details .tensors .name >> nth=0")) === script);
        assert.match(await text(page, "#details"), /relative change\s+∞/);
        await page.mouse.move(...(await middle(page, 4, 5)));
        assert.match(await text(page, "#tip"), /\{\{data\}\}\{\{script\}\}[^]*bell\\u\{7\} escape\\u\{1b\}\[2J null\\u\{0\}/);
        await page.click("#view-table");
        assert.equal(await page.locator("#list tbody tr").count(), 81);
        await page.fill("#filter", "<img");
        assert.equal(await page.evaluate(() => document.querySelectorAll("main img, main script").length), 0);
        assert.equal(await page.evaluate(() => window.hostile), undefined);
    });
});

test("the policy of the page lets nothing be loaded or run", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    // A network that would give whatever is asked for.
    const reached = [];
    await page.route(/elsewhere\.invalid/, (route) => {
        reached.push(route.request().url());
        return route.fulfill({ body: "window.ran = 3", headers: { "access-control-allow-origin": "*" } });
    });
    await page.goto(pathToFileURL(path.join(PAGES, "transformer.html")).href);
    const { refused, fetched, ran } = await page.evaluate(async () => {
        const refused = new Set();
        document.addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
        document.body.insertAdjacentHTML("beforeend", "<img src=http://elsewhere.invalid/a.png onerror='window.ran = 1'>");
        for (const source of [{ textContent: "window.ran = 2" }, { src: "http://elsewhere.invalid/b.js" }]) {
            document.body.append(Object.assign(document.createElement("script"), source));
        }
        const fetched = await fetch("http://elsewhere.invalid/c").then(() => "fetched", () => "refused");
        await new Promise((done) => setTimeout(done, 200));
        return { refused: [...refused], fetched, ran: window.ran };
    });
    await context.close();
    assert.deepEqual(reached, []);
    assert.equal(fetched, "refused");
    assert.equal(ran, undefined);
    for (const directive of ["connect-src", "img-src", "script-src-elem"]) assert.ok(refused.includes(directive), directive);
});

test("a series shows what its versions take", async () => {
    await visit("series", async (page) => {
        const [x, y] = await middle(page, 12, 3);
        await page.focus("#map");
        await page.keyboard.press("ArrowDown");
        assert.equal(await said(page), "version step 150: stored 41.8 MB of 123 MB, ratio 2.95×");
        const bar = await ring(page);
        assert.ok(bar.y > y && Math.abs(bar.x + bar.width / 2 - x) < 2, "bars are below their columns");
        const accent = await pixel(page, [x, bar.y + bar.height * 0.65]);
        assert.ok(accent[2] > 180 && accent[0] < 150, `${accent} is no bar`);
        await page.evaluate(() => document.activeElement.blur());
        await page.mouse.move(x, bar.y + bar.height / 2);
        const tip = (await text(page, "#tip")).replace(/\s+/g, " ");
        assert.equal(tip, "version step 150 step-00150.safetensors files 123 MB stored 41.8 MB ratio 2.95×");
        // The last version of a low window: the strip stays in sight while the map scrolls.
        await page.setViewportSize({ width: 900, height: 420 });
        await page.focus("#map");
        await page.keyboard.press("Control+Home");
        await page.keyboard.press("End");
        assert.match(await said(page), /^layer 0, version step 1450: value/);
        assert.equal(await page.locator("#ring").isVisible(), true);
    });
});

test("no map without cells", async () => {
    await visit("empty", async (page) => {
        assert.equal(await text(page, "#none"), "There are no tensors to compare.");
        assert.equal(await page.locator("#map").isVisible(), false);
    });
});

test("the page can be used by everyone, as far as that can be checked by rule", async () => {
    const checker = path.join(process.cwd(), "node_modules", "axe-core", "axe.min.js");
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const acts = {
        "transformer as it is": () => {},
        "transformer with a list and a state hidden": async (page) => {
            await page.mouse.click(...(await middle(page, 6, 1)));
            await page.getByRole("button", { name: /^equal/ }).click();
        },
        "transformer as a table": async (page) => {
            await page.click("#view-table");
            await page.fill("#filter", "low-rank");
        },
        "transformer with a pattern that is none": (page) => page.fill("#filter", "/(/"),
        "series as it is": () => {},
        "empty as it is": () => {},
        "hostile as it is": () => {},
    };
    for (const [what, act] of Object.entries(acts)) {
        for (const colorScheme of ["light", "dark"]) {
            // The checker is no script of the page, so the policy is set aside.
            const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme, bypassCSP: true });
            const page = await context.newPage();
            await page.goto(pathToFileURL(path.join(PAGES, `${what.split(" ")[0]}.html`)).href);
            await act(page);
            await page.addScriptTag({ path: checker });
            const { violations } = await page.evaluate((values) => window.axe.run({ runOnly: values }), tags);
            await context.close();
            const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html)}`);
            assert.deepEqual(found, [], `${what}, ${colorScheme}`);
        }
    }
});

test("motion is left out where it is not wanted", async () => {
    const look = (motion) => async (page) => {
        const duration = await page.evaluate(() => getComputedStyle(document.getElementById("ring")).transitionDuration);
        assert.equal(parseFloat(duration) > 0, motion, duration);
    };
    await visit("single", look(true));
    await visit("single", look(false), { reducedMotion: "reduce" });
});
