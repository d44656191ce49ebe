// Measures pages of a running gateway with Lighthouse, in the system's Chromium: `CONSOLE_URL=... npm run lighthouse`. Prints
// the lines for docs/benchmarks.md; fails when a median of the landing page is below 95. `make lighthouse` brings up what it
// needs; CONSOLE_RUNS is how often each page is measured.
import { createRequire } from "node:module";
import { cpus, loadavg } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const least = 95;
const runs = Number(process.env.CONSOLE_RUNS ?? 3);
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
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
let isLow = false;
try {
  console.log(
    "| page | as | performance (each run) | accessibility | best practices | SEO | first paint (largest), s | blocked, ms | shift |",
  );
  console.log("|---|---|---|---|---|---|---|---|---|");
  const speeds = [];
  for (const page of ["/en", "/en/models", "/de/signin"]) {
    for (const [name, config] of [
      ["phone", undefined],
      ["desktop", desktopConfig],
    ]) {
      const results = [];
      for (let run = 0; run < runs; run += 1) {
        const options = { port: chrome.port, onlyCategories: categories, logLevel: "silent" };
        results.push((await lighthouse(process.env.CONSOLE_URL + page, options, config)).lhr);
      }
      speeds.push(...results.map((lhr) => lhr.environment.benchmarkIndex));
      const each = results.map((lhr) => Math.round(lhr.categories.performance.score * 100));
      const scores = categories.map((one) => median(results.map((lhr) => Math.round(lhr.categories[one].score * 100))));
      const audit = (id) => median(results.map((lhr) => lhr.audits[id].numericValue));
      const paints = ["first-contentful-paint", "largest-contentful-paint"].map((id) => (audit(id) / 1000).toFixed(1));
      const shift = audit("cumulative-layout-shift").toFixed(3);
      console.log(
        `| \`${page}\` | ${name} | **${scores[0]}** (${each.join(", ")}) | ${scores.slice(1).join(" | ")} | ${paints[0]} (${paints[1]}) ` +
          `| ${Math.round(audit("total-blocking-time"))} | ${shift} |`,
      );
      // A visitor's first page must be quick on a phone; the console's pages live from their script. What a page that must
      // not be found does on purpose is no fault.
      const held = page === "/en" ? scores : page.endsWith("signin") ? scores.slice(1, 3) : scores.slice(1);
      if (Math.min(...held) >= least) continue;
      isLow = true;
      for (const one of Object.values(results[0].audits)) {
        if (one.score !== null && one.score < 0.9 && one.scoreDisplayMode !== "informative") {
          console.error(`  ${page} ${name}: ${one.id} ${one.displayValue ?? one.title}`);
        }
      }
    }
  }
  const [load] = loadavg();
  const [low, middle, high] = [Math.min(...speeds), median(speeds), Math.max(...speeds)].map(Math.round);
  console.log(`\nMedian of ${runs} runs; ${cpus().length} cores, load ${load.toFixed(1)}.`);
  console.log(`This machine's speed as Lighthouse takes it: ${middle} (${low} to ${high}; it warns below 1000).`);
} finally {
  chrome.kill();
}
if (isLow) {
  console.error(`A score is below ${least}.`);
  process.exitCode = 1;
}
