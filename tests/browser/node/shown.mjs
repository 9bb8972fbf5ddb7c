// Runs a documented script, without its imports, in a page of the gateway; reports what it printed.
import { options, report, withPage } from "./page.mjs";

const { url, script, until } = options;
report(await withPage(async (page) => {
  await page.goto(`${url}/health`);
  await page.evaluate(() => {
    window.printed = "";
    const print = (text) => { window.printed += text; };
    window.process = { stdout: { write: print } };
    console.log = (text) => print(`${text}\n`);
  });
  await page.addScriptTag({ content: script.replace(/^import.*$/gm, "") });
  await page.waitForFunction((end) => new RegExp(end).test(window.printed), until);
  return { printed: await page.evaluate(() => window.printed) };
}));
