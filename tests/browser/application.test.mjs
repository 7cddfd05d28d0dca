// An application of somebody else's, with the guide's page and its ten lines, as they stand in docs/notifications.md.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, it } from "node:test";
import { KEYS, call } from "../js/api.js";
import { Server } from "../js/harness.js";
import { snippet } from "../js/snippets.js";
import { guarded, mint } from "../js/tokens.js";
import { page, serve } from "./application.mjs";
import { openPage } from "./elsewhere.mjs";
import { launch, openTab, path, shows } from "./tabs.mjs";

const [USER, KEPT] = [{ user: "alice" }, { expires_in: 600 }];

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

for (const version of ["1.7", "1.8"]) {
  it(`ten lines show notifications in an application with phoenix.js ${version}`, async (t) => {
    const { files, origin } = await serve(t, version);
    const above = `check_origin = ["${origin}"]`;
    const server = await Server.startFor(t, "hailer", guarded({ api: true, above, rest: KEYS }));
    files.set("/app.js", snippet("app.js", server));
    files.set("/", page(server, USER.user, await mint(USER.user)));
    const publish = async (target, payload, options) =>
      (await call(server, "publish", { ...target, event: "new_msg", payload, ...options })).id;

    await publish(USER, { title: "Your order", body: "is on its way", severity: "info" }, KEPT);
    const tab = await openPage(t, browser, origin);
    await shows(tab, "#banners .notice-info .notice-title", /^Your order$/);
    const id = await publish({ topic: "room:lobby" }, { body: "<b>Maintenance</b>", severity: "critical" }, { with_id: true });
    await shows(tab, "#banners [role=alert] .notice-body", /^<b>Maintenance<\/b>$/);
    await tab.getByRole("button", { name: "Notifications, 2 unseen", exact: true }).click();
    assert.equal(await tab.locator("#panel .notice").count(), 2);

    await call(server, "retract", { id });
    await tab.locator(".notice-critical").first().waitFor({ state: "detached" });
    assert.equal(await tab.locator("#panel .notice").count(), 1);

    // The panel lies over the page.
    await tab.keyboard.press("Escape");
    await tab.getByRole("button", { name: "Dismiss: Your order" }).click();
    await tab.reload();
    // It is kept, and so it comes again behind the bell.
    await tab.locator("#panel .notice-title", { hasText: "Your order" }).waitFor({ state: "attached" });
    assert.equal(await tab.locator("#banners .notice").count(), 0);
  });
}

/** What a page of the application has around the notifications, to be laid out as the demo page is. */
const SITE = `body { box-sizing: border-box; max-width: 46rem; margin: 0 auto; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif;
  background: light-dark(#f4f6f6, #0f1516) }`;
const [PICTURE, DESK, PHONE] = [[760, 680], [1200, 800], [390, 844]];
const PARTS = ["#banners .notice-critical", "#banners .notice-warning", "#banners .notice-info", ".notice-bell"];
const STYLES = ["color", "backgroundColor", "borderColor", "borderRadius", "borderWidth", "padding", "display", "fontSize", "position"];

const stylesOf = (tab, selector) =>
  tab.locator(selector).first().evaluate((element, names) => names.map((name) => `${name}: ${getComputedStyle(element)[name]}`), STYLES);
const boxOf = (tab, selector) => tab.locator(selector).first().boundingBox();

/** The demo page and the application's, with the same three notifications; the latter has these two files alone. */
async function bothPages(t, options) {
  const { files, origin } = await serve(t, "1.8");
  // The demo page is there as well.
  const above = 'check_origin = ["//127.0.0.1"]';
  const server = await Server.startFor(t, "hailer", guarded({ api: true, above, rest: KEYS }));
  const token = await mint(USER.user);
  files.set("/app.js", snippet("app.js", server));
  files.set("/site.css", SITE);
  files.set("/", page(server, USER.user, token, "<h1>Shop</h1>"));
  files.set("/framed", page(server, USER.user, token, '<link rel="stylesheet" href="/site.css">'));
  const link = "https://example.com/status";
  for (const payload of [
    { body: "We are back.", severity: "info" },
    { title: "Maintenance at six", body: "It takes ten minutes.", severity: "warning", link },
    { title: "Payments fail", body: "We are working on it.", severity: "critical", link },
  ]) {
    await call(server, "publish", { topic: "room:lobby", event: "new_msg", payload, ...KEPT });
  }
  const demo = await openTab(t, browser, { url: `${server.url}/#token=${token}`, ...options });
  const context = await browser.newContext({ locale: "en-GB", ...options });
  t.after(() => context.close());
  const shop = await context.newPage();
  const open = async (address) => {
    await shop.goto(`${origin}${address}`);
    await shop.locator("#banners .notice").nth(2).waitFor();
    return shop;
  };
  await demo.locator("#banners .notice").nth(2).waitFor();
  return { demo, open };
}

it("the README has the guide's lines", async () => {
  const readme = await readFile(path("../../README.md"), "utf8");
  for (const name of ["app.js", "page.html"]) {
    assert.ok(readme.includes(snippet(name, { address: "localhost:4000" })), `${name} stands in the README as in the guide`);
  }
});

for (const colorScheme of ["light", "dark"]) {
  it(`the README's lines and two files alone give what its picture shows, in ${colorScheme} colours`, async (t) => {
    const viewport = { width: PICTURE[0], height: PICTURE[1] };
    const { demo, open } = await bothPages(t, { colorScheme, viewport });
    const framed = await open("/framed");
    for (const part of PARTS) {
      assert.deepEqual(await stylesOf(framed, part), await stylesOf(demo, part), part);
      const [{ width, height }, expected] = [await boxOf(framed, part), await boxOf(demo, part)];
      assert.deepEqual([width, height], [expected.width, expected.height], part);
    }
    // To the pixel, but for the text around them.
    for (const part of PARTS.slice(0, 3)) {
      const [given, expected] = [await framed.locator(part).screenshot(), await demo.locator(part).screenshot()];
      assert.ok(given.equals(expected), `${part} looks as on the demo page`);
    }
  });

  it(`a plain page with the two files looks right on a desk and on a phone, in ${colorScheme} colours`, async (t) => {
    const { open } = await bothPages(t, { colorScheme });
    for (const [width, height] of [DESK, PHONE]) {
      const context = `at ${width}`;
      const tab = await open("/");
      await tab.setViewportSize({ width, height });
      const banners = await tab.locator("#banners .notice").evaluateAll((all) => all.map((one) => one.getBoundingClientRect().toJSON()));
      assert.deepEqual(banners.slice(1).map(({ top }, at) => Math.round(top - banners[at].bottom)), [8, 8], `gaps ${context}`);
      const bell = await boxOf(tab, "#bell");
      assert.deepEqual([bell.width, bell.height], [44, 44], `the bell is round ${context}`);
      const [icon, badge] = [await boxOf(tab, "#bell svg"), await boxOf(tab, "#bell .notice-count")];
      assert.deepEqual([icon.width, icon.height, icon.x - bell.x, icon.y - bell.y], [20, 20, 12, 12], `an icon ${context}`);
      assert.ok(badge.x > bell.x + 22 && badge.y < bell.y, `a badge at its corner ${context}`);
      assert.equal(await tab.locator("#bell").innerText(), "3", "no name beside the icon");
      await tab.getByRole("button", { name: "Notifications, 3 unseen", exact: true }).waitFor();
      assert.ok(bell.y + bell.height < banners[0].top, `the bell is above the banners ${context}`);

      const heading = await boxOf(tab, "h1");
      await tab.locator("#bell").click();
      assert.deepEqual(await boxOf(tab, "h1"), heading, `the panel moves nothing ${context}`);
      const panel = await boxOf(tab, "#panel");
      assert.ok(panel.y > bell.y + bell.height && panel.x >= 0 && panel.x + panel.width <= width, `${JSON.stringify(panel)} ${context}`);
      const list = await tab.locator(".notice-list").evaluate((element) => {
        const { listStyleType, paddingLeft, rowGap } = getComputedStyle(element);
        return [listStyleType, paddingLeft, rowGap, getComputedStyle(element.parentElement).backgroundColor];
      });
      assert.deepEqual(list, ["none", "0px", "8px", colorScheme === "light" ? "rgb(255, 255, 255)" : "rgb(23, 31, 33)"], context);
      const overflow = await tab.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(overflow <= width, `${overflow} ${context}`);
      // It is as new for the next width.
      await tab.evaluate(() => localStorage.clear());
    }
  });
}
