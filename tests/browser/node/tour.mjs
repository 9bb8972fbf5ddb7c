// Looks at each page at each width, and says what is wrong there.
import { DESKTOP, PHONE, faults, options, overflow, report, signIn, withPage } from "./page.mjs";

// `swiftly`: on one screen, and without asking axe.
const { url, token, paths, shots, swiftly } = options;
const THICKEST = ["sessions", "approvals", "usage", "tokens"]; // what there is elsewhere is there too
const looked = {};
for (const [name, viewport, colorScheme] of [["desktop", DESKTOP, "light"], ["phone", PHONE, "dark"]]) {
  if (swiftly && name !== "desktop") continue;
  await withPage(async (page, problems) => {
    await page.goto(`${url}/ui/login`);
    looked[`login ${name}`] = { faults: await faults(page), overflow: await overflow(page) };
    await signIn(page, url, token);
    for (const path of paths) {
      await page.goto(`${url}/ui/${path}`);
      await page.waitForSelector("main h1");
      const asked = !swiftly && (name === "desktop" || THICKEST.includes(path));
      looked[`${path} ${name}`] = { faults: asked ? await faults(page) : [], overflow: await overflow(page) };
      if (shots && THICKEST.includes(path)) {
        const file = `${shots}/${path.split("?")[0].replace(/\W+/g, "-")}-${name}.png`;
        await page.screenshot({ path: file });
      }
    }
    looked[`problems ${name}`] = { faults: problems, overflow: 0 };
  }, { viewport, colorScheme });
}
report(looked);
