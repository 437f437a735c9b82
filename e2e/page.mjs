// The dashboard in headless Chromium: its tables fill, nothing is refused by its own content policy, nothing is fetched
// from elsewhere, and it fits a telephone. Screenshots go to E2E_OUT.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { apiKey, baseUrl, check, dashboardUrl } from "./check.mjs";

const WAIT_MS = 20_000;
const out = process.env.E2E_OUT;
const origin = new URL(dashboardUrl).origin;
const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

const profile = await mkdtemp(join(tmpdir(), "lethe-e2e-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: flags,
  viewport: { width: 1280, height: 900 },
  colorScheme: "light",
});
browser.setDefaultTimeout(WAIT_MS);

/** What went wrong on a page, as it happens. */
function complaints(page) {
  const found = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && found.push(message.text()));
  page.on("pageerror", (error) => found.push(String(error)));
  page.on("request", (request) => {
    const { protocol, origin: from } = new URL(request.url());
    if (protocol !== "data:" && from !== origin) found.push(`asked elsewhere: ${request.url()}`);
  });
  return found;
}

async function ask() {
  const answer = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "lethe-demo", messages: [{ role: "user", content: "What is a glacier?" }] }),
  });
  assert.equal(answer.status, 200);
}

const section = (page, heading) => page.locator("section", { has: page.getByRole("heading", { name: heading }) });

async function filled(page) {
  await section(page, "What runs").getByText("cedar", { exact: true }).waitFor();
  await section(page, "On offer").getByRole("row").nth(3).waitFor();
  await section(page, "Last answers").getByRole("row").nth(1).waitFor();
  await section(page, "Where each MOR is").getByText("every unit is accounted for").waitFor();
}

const page = await browser.newPage();
const found = complaints(page);

await check("page: every table fills", async () => {
  await ask();
  await page.goto(dashboardUrl);
  await filled(page);
});

await check("page: the key leaves the address bar", async () => {
  assert.equal(page.url(), `${origin}/`);
});

await check("page: a new answer appears by itself", async () => {
  const rows = section(page, "Last answers").locator("tbody tr");
  const cell = rows.first().locator("td").first();
  const before = [await cell.textContent(), await rows.count()].join();
  const deadline = Date.now() + WAIT_MS;
  let now = before;
  while (now === before) {
    assert.ok(Date.now() < deadline, `still ${before}`);
    await ask();
    await page.waitForTimeout(1100);
    now = [await cell.textContent(), await rows.count()].join();
  }
});

await check("page: an answer shows three words on its privacy, each explained", async () => {
  const words = section(page, "Last answers").locator("tbody tr").first().locator(".word");
  assert.equal(await words.count(), 3);
  for (const word of await words.all()) assert.match(await word.getAttribute("title"), /\w+ .*\.$/);
});

await check("page: an answer opens to its route, by keyboard", async () => {
  const answers = section(page, "Last answers");
  const button = answers.getByRole("button", { name: /: route$/ }).first();
  await button.focus();
  await page.keyboard.press("Enter");
  const route = answers.locator(".opened .route");
  await route.getByText("asked first").getByText("it answered").waitFor();
  const ranked = route.locator(".ranked > li");
  assert.ok((await ranked.count()) >= 2, "fewer than two candidates");
  for (const candidate of await ranked.all()) {
    assert.match(await candidate.textContent(), /wait [\d.]+ ms .* way\s+[\d.]+ ms .*price \d[\d.]* MOR .*quality of \d/s);
    const drawn = await candidate.locator(".bar > span").evaluateAll((parts) => parts.map((part) => part.getBoundingClientRect().width));
    assert.equal(drawn.length, 6);
    assert.ok(drawn.reduce((sum, width) => sum + width) > 5, "nothing is drawn");
  }
  assert.equal(await button.getAttribute("aria-expanded"), "true");
});

await check("page: a model opens to whom a request would go to now", async () => {
  const market = section(page, "On offer");
  await market.getByRole("button", { name: "route now" }).first().click();
  await market.locator(".opened .ranked > li").first().waitFor();
  await market.locator(".opened").getByText("first because").waitFor();
});

await check("page: relays are among what runs", async () => {
  await section(page, "What runs").getByText("relay", { exact: true }).first().waitFor();
});

await check("page: wide and light", async () => {
  await page.screenshot({ path: join(out, "dashboard-1280-light.png"), fullPage: true });
});

await check("page: 390 wide and dark, without scrolling sideways", async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: join(out, "dashboard-390-dark.png"), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} wide`);
  for (const table of await page.locator(".wide").all()) {
    assert.ok(await table.evaluate((box) => box.scrollWidth <= box.clientWidth), "a table hides something");
  }
});

await check("page: no errors, nothing against its content policy, nothing from elsewhere", async () => {
  assert.deepEqual(found, []);
});

await check("page: without a key it asks for one, and refuses a wrong one", async () => {
  const stranger = await browser.newPage();
  await stranger.goto(`${origin}/`);
  await stranger.getByLabel("Key of this node").fill("lethe-wrong-key");
  await stranger.getByRole("button", { name: "Open" }).click();
  await stranger.getByRole("alert").getByText("does not know this key").waitFor();
  await stranger.close();
});

await browser.close();
await rm(profile, { recursive: true, force: true });
