// Prompts from the list, sees the list go on by itself, forgets a memory, walks by the keyboard.
import { faults, options, report, signIn, withPage } from "./page.mjs";

const { url, token } = options;
const found = await withPage(async (page, problems) => {
  const seen = {};
  await signIn(page, url, token);
  await page.keyboard.press("Tab");
  seen.readOut = [await page.evaluate(() => document.activeElement.textContent)];

  await page.keyboard.press("?");
  seen.keys = await page.getByRole("dialog", { name: "Keys" }).getByRole("button").evaluate((each) => each === document.activeElement);
  seen.faults = await faults(page);
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });

  const other = await page.context().newPage();
  await other.goto(`${url}/ui/sessions`);
  await other.getByLabel("Session, made").fill("typed:1");
  await other.getByRole("textbox", { name: "Prompt" }).fill("hello from the list");
  await page.keyboard.press("/");
  await page.keyboard.type("half a word");
  await other.getByRole("button", { name: "Send" }).click();
  await other.waitForURL("**/ui/sessions/typed:1");
  seen.appeared = await page.getByRole("link", { name: "typed:1" }).waitFor().then(() => true);
  seen.kept = await page.getByLabel("Search").inputValue();
  await other.close();

  await page.goto(`${url}/ui/memory`);
  await page.getByRole("textbox", { name: "What", exact: true }).fill("The canary sings at noon");
  await page.getByRole("button", { name: "Remember" }).click();
  await page.getByText("It is remembered.").waitFor();
  await page.getByLabel("Search").fill("canary noon");
  await page.getByRole("button", { name: "Show" }).click();
  const row = page.getByRole("row").filter({ hasText: "The canary sings" }).filter({ has: page.getByRole("button") });
  seen.found = await row.waitFor().then(() => true);
  await row.getByRole("button", { name: /Forget/ }).click();
  seen.forgotten = await page.getByText("It is forgotten.").waitFor().then(() => true);
  seen.problems = problems;
  return seen;
});
report(found);
