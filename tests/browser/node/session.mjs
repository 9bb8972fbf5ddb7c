// One session's page as an operator uses it, step by step; reports what was seen at each.
import { DESKTOP, PHONE, faults, options, overflow, report, signIn, withPage } from "./page.mjs";

const { url, token, recorded, write, shots } = options;
const seen = {};
const found = { faults: {}, problems: [], overflow: {} };

async function look(page, name, { picture = false } = {}) {
  found.faults[name] = await faults(page);
  found.overflow[name] = await overflow(page);
  if (picture && shots) await page.screenshot({ path: `${shots}/${name}.png` });
}

const where = (page) => page.locator("[data-where]");
const at = (page, seq) => where(page).filter({ hasText: `Event ${seq} of` }).waitFor();

async function live(page) {
  await page.goto(`${url}/ui/sessions/browser`);
  await page.locator("[data-message]").first().waitFor();
  await page.getByRole("textbox", { name: "Prompt" }).fill(`Some **words**${" that take a while to come,".repeat(12)} one after the other\n!think should I?\n${write}`);
  await page.keyboard.press("Control+Enter");
  const draft = page.locator("[data-draft] .plain");
  await draft.filter({ hasText: "Some" }).waitFor();
  seen.streamed = await draft.textContent();
  await page.locator(".approval").waitFor();
  seen.waits = await page.locator(".approval").innerText();
  await look(page, "session-approval-desktop", { picture: true });
  await page.getByRole("button", { name: "Approve" }).click();
  await page.locator(".message.tool").waitFor();
  await page.locator(".approval").waitFor({ state: "detached" });
  seen.tool = await page.locator(".message.tool").innerText();
  await page.locator(".message.assistant strong").filter({ hasText: "words" }).first().waitFor();
  await page.locator("[data-where]").filter({ hasText: "run.completed" }).waitFor();
}

async function stop(page) {
  await page.getByRole("textbox", { name: "Prompt" }).fill("a ".repeat(2000));
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator("[data-draft] .plain").waitFor();
  await page.getByRole("button", { name: "Abort the run" }).click();
  await page.locator("[data-draft] .plain").waitFor({ state: "detached" });
  await page.locator("[data-where]").filter({ hasText: "session.settled" }).or(
    page.locator("[data-where]").filter({ hasText: "run.aborted" })).first().waitFor();
  seen.aborted = await page.locator(".message.assistant").last().innerText();
}

async function ended(page) {
  await page.getByRole("textbox", { name: "Prompt" }).fill("!fail the model is tired");
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator(".message.end").filter({ hasText: "the model is tired" }).waitFor();
  const live = await page.locator(".message.end").last().innerText();
  await page.reload();
  seen.ended = live === await page.locator(".message.end").last().innerText();
}

async function scrolled(page) {
  const count = () => document.querySelectorAll("[data-message]").length;
  const toTop = () => page.locator("[data-messages]").evaluate((all) => { all.scrollTop = 0; });
  const before = await page.evaluate(count);
  await toTop();
  await page.waitForFunction((least) => document.querySelectorAll("[data-message]").length > least, before);
  seen.scrolled = (await page.evaluate(count)) - before;
  seen.kept = await page.locator("[data-messages]").evaluate((all) => all.scrollTop > 0);
}

async function dragged(page) {
  let asked = 0;
  page.on("request", (request) => { if (/\/at\/\d+$/.test(request.url())) asked += 1; });
  const moved = [...Array(40).keys()].map((step) => 400 + step);
  await page.locator("[data-scrub]").evaluate((slider, places) => {
    for (const place of places) {
      slider.value = place;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }, moved);
  await page.locator('.view[data-version="439"]').waitFor();
  seen.askedWhileDragged = asked;
}

async function past(page) {
  await page.goto(`${url}/ui/sessions/${recorded}`);
  await at(page, 1021);
  await look(page, "session-now-desktop");
  await scrolled(page);
  await dragged(page);
  await page.locator("[data-scrub]").fill("500");
  await page.locator(".notice").filter({ hasText: "As it was at event 500." }).waitFor();
  await at(page, 500);
  seen.digest = await page.locator(".digest").textContent();
  seen.messages = await page.locator("[data-message]").evaluateAll((all) => all.map((each) => each.dataset.message));
  await page.getByRole("button", { name: "Raw event" }).click();
  await page.locator("[data-hash]").waitFor();
  seen.hash = await page.locator("[data-hash]").textContent();
  await look(page, "session-desktop", { picture: true });
  await page.locator(".session-head h1").click();
  await page.keyboard.press("ArrowRight");
  await at(page, 501);
  await page.keyboard.press("Shift+P");
  await where(page).filter({ hasNotText: "Event 501 of" }).waitFor();
  seen.prompt = await where(page).textContent();
  await page.getByLabel("Speed").selectOption("16");
  await page.getByRole("button", { name: "Play" }).click();
  const started = Number((await where(page).textContent()).match(/Event (\d+)/)[1]);
  await page.waitForFunction((from) => Number(document.querySelector("[data-where]").textContent.match(/Event (\d+)/)[1]) > from + 3, started);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.keyboard.press("n");
  await at(page, 1021);
  await page.locator("[data-earlier]").click();
  await page.waitForFunction(() => document.querySelectorAll("[data-message]").length > 60);
}

async function others(page) {
  await page.goto(`${url}/ui/sessions/browser`);
  await at(page, Number(await page.locator("[data-session]").getAttribute("data-last")));
  await page.getByLabel("Fork here as").fill("browser-fork");
  await page.getByRole("button", { name: "Fork" }).click();
  await page.waitForURL("**/sessions/browser-fork");
  await page.getByRole("textbox", { name: "Prompt" }).fill("only in the fork");
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator(".message.assistant").filter({ hasText: "only in the fork" }).waitFor();
  await page.goto(`${url}/ui/sessions/browser/compare`);
  await page.getByLabel("With the session").fill("browser-fork");
  await page.getByRole("button", { name: "Compare" }).first().click();
  await page.locator(".pair").first().waitFor();
  seen.compared = await page.locator(".diff-add").allInnerTexts();
  await look(page, "session-compare-desktop", { picture: true });
}

async function proof(page) {
  await page.goto(`${url}/ui/sessions/browser-fork/proof`);
  await page.getByRole("button", { name: "Verify the chain" }).click();
  seen.verified = await page.locator(".sound").innerText();
  await look(page, "session-proof-desktop", { picture: true });
  const form = page.locator("form[action$='/erase']");
  await form.getByLabel("Reason").fill("asked for");
  await form.getByLabel("Write the session's key").fill("browser-fork");
  await form.getByRole("button", { name: "Erase" }).click();
  seen.receipt = await page.locator("[data-new-receipt] pre").innerText();
  await look(page, "erased");
}

async function attacked(page) {
  for (const path of ["", "/compare", "/compare?other=browser", "/proof", "?at=40"]) {
    await page.goto(`${url}/ui/sessions/attacked${path}`);
    await page.waitForLoadState("load");
  }
  await page.goto(`${url}/ui/sessions/attacked`);
  await page.locator("[data-earlier]").click();
  await page.locator("[data-earlier]").waitFor({ state: "detached" });
  seen.attacked = await page.locator("[data-message]").count();
  await page.getByRole("textbox", { name: "Prompt" }).fill("<img src=x onerror=alert(1)> live");
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator(".message.assistant").filter({ hasText: "live" }).waitFor();
}

await withPage(async (page, problems) => {
  await signIn(page, url, token);
  for (const part of [live, stop, ended, past, others, proof, attacked]) await part(page);
  found.problems.push(...problems);
}, { viewport: DESKTOP });

await withPage(async (page, problems) => {
  await signIn(page, url, token);
  await page.goto(`${url}/ui/sessions/${recorded}?at=500`);
  await at(page, 500);
  await look(page, "session-phone", { picture: true });
  await page.goto(`${url}/ui/sessions/browser`);
  await page.locator("[data-message]").first().waitFor();
  await look(page, "session-conversation-phone", { picture: true });
  await page.goto(`${url}/ui/sessions/browser/compare?other=${recorded}`);
  await look(page, "compare-phone");
  await page.goto(`${url}/ui/sessions/browser/proof`);
  await look(page, "proof-phone");
  found.problems.push(...problems);
}, { viewport: PHONE, colorScheme: "dark" });

report({ seen, ...found });
