// Measures pages of a running gateway with Lighthouse, in the system's Chromium: `CONSOLE_URL=... npm run lighthouse`. Prints
// the lines for docs/benchmarks.md; fails when a score is below 95. `make lighthouse` brings up what it needs.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const least = 95;
const categories = ["performance", "accessibility", "best-practices", "seo"];
const folder = resolve(process.env.CONSOLE_LIGHTHOUSE ?? "../build/lighthouse");
const find = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(find.resolve(name)).href);
const { default: lighthouse, desktopConfig } = await load("lighthouse");
const { launch } = await load("chrome-launcher");

const chrome = await launch({
  chromePath: process.env.CONSOLE_CHROMIUM ?? "/usr/bin/chromium",
  chromeFlags: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
});
let isLow = false;
try {
  console.log("| page | as | performance | accessibility | best practices | SEO | first paint (largest), s | shift |");
  console.log("|---|---|---|---|---|---|---|---|");
  for (const page of ["/en", "/en/models", "/de/signin"]) {
    for (const [name, config] of [
      ["phone", undefined],
      ["desktop", desktopConfig],
    ]) {
      const options = { port: chrome.port, onlyCategories: categories, logLevel: "silent" };
      const { lhr } = await lighthouse(process.env.CONSOLE_URL + page, options, config);
      const scores = categories.map((one) => Math.round(lhr.categories[one].score * 100));
      const audit = (id) => lhr.audits[id].numericValue;
      const paints = ["first-contentful-paint", "largest-contentful-paint"].map((id) => (audit(id) / 1000).toFixed(1));
      const shift = audit("cumulative-layout-shift").toFixed(3);
      console.log(`| \`${page}\` | ${name} | ${scores.join(" | ")} | ${paints[0]} (${paints[1]}) | ${shift} |`);
      // What a page that must not be found does on purpose is no fault.
      const held = page.endsWith("signin") ? scores.slice(0, 3) : scores;
      if (Math.min(...held) >= least) continue;
      isLow = true;
      for (const one of Object.values(lhr.audits)) {
        if (one.score !== null && one.score < 0.9 && one.scoreDisplayMode !== "informative") {
          console.error(`  ${page} ${name}: ${one.id} ${one.displayValue ?? one.title}`);
        }
      }
    }
  }
} finally {
  chrome.kill();
}
if (isLow) {
  console.error(`A score is below ${least}.`);
  process.exitCode = 1;
}
