// A browser for the operator's page, which keeps whatever went wrong in it.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.env.NODE_PACKAGES}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const DESKTOP = { width: 1280, height: 860 };
export const PHONE = { width: 390, height: 844 };
const COUNTED = ["moderate", "serious", "critical"];

// Calls `use` with a page and its problems: lines of what its console, its policy or a script
// that failed had to say. Ends the browser.
export async function withPage(use, { viewport = DESKTOP, colorScheme = "light" } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  try {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", timezoneId: "UTC", locale: "en-GB" });
    const page = await context.newPage();
    page.setDefaultTimeout(15000);
    const problems = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
    page.on("dialog", (dialog) => {
      if (dialog.type() === "alert") problems.push(`alert: ${dialog.message()}`);
      dialog.accept();
    });
    return await use(page, problems);
  } finally {
    await browser.close();
  }
}

export async function signIn(page, url, token) {
  await page.goto(`${url}/ui/login`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/ui/sessions");
}

// Returns what axe finds on the page as it is, but for what is minor.
export async function faults(page) {
  // What the browser's tools run is not bound by the page's policy, so the page keeps its own.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });
  const { result } = await session.send("Runtime.evaluate", {
    expression: "axe.run(document, { resultTypes: ['violations'] }).then((found) => JSON.stringify(found.violations))",
    awaitPromise: true, returnByValue: true,
  });
  await session.detach();
  return JSON.parse(result.value)
    .filter((each) => COUNTED.includes(each.impact))
    .map((each) => `${each.id}: ${each.help} ${each.nodes.slice(0, 3).map((node) => node.target.join(" ")).join(" | ")}`);
}

// Returns by how much the page is wider than the window.
export async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

export const options = JSON.parse(process.argv[2] ?? "{}");

export function report(found) {
  process.stdout.write(JSON.stringify(found));
}
