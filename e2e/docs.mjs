// The page with the API's document, in Chromium: all of it from the node, under its strict policy, with every operation.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { apiKey, baseUrl, check } from "./check.mjs";

const root = baseUrl.replace(/\/v1$/, "");
const PATIENCE_MS = 30_000;

await check("docs: Swagger UI shows every operation, asks nobody else, and breaks no rule of the page's policy", async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const wrong = [];
    page.on("console", (said) => said.type() === "error" && wrong.push(said.text()));
    page.on("pageerror", (error) => wrong.push(String(error)));
    page.on("request", (asked) => !asked.url().startsWith(root) && !asked.url().startsWith("data:") && wrong.push(asked.url()));
    await page.goto(`${root}/docs`);
    await page.waitForSelector(".opblock");
    const { paths } = await (await fetch(`${root}/openapi.json`)).json();
    const operations = Object.values(paths).flatMap(Object.keys).length;
    assert.equal(await page.locator(".opblock").count(), operations);

    // With the node's key an operation is tried from the page.
    await page.locator(".btn.authorize").first().click();
    await page.locator(".auth-container input").first().fill(apiKey);
    await page.locator(".auth-btn-wrapper .authorize").first().click();
    await page.locator(".btn-done").first().click();
    const models = page.locator("#operations-OpenAI-listModels");
    await models.locator(".opblock-summary-control").click();
    await models.locator(".try-out__btn").click();
    await models.locator(".execute").click();
    await models.locator(".live-responses-table .response-col_status", { hasText: "200" }).first().waitFor();
    assert.deepEqual(wrong, []);
  } finally {
    await browser.close();
  }
});
