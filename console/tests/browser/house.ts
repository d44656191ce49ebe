import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";

export { expect, type Page };

export const locales = ["en", "de", "zh"] as const;
export const pages = ["", "/models", "/playground", "/signin", "/service", "/imprint", "/privacy", "/nowhere"] as const;
export const key = process.env.CONSOLE_KEY ?? "";
export const poorKey = process.env.CONSOLE_POOR_KEY ?? "";
export const narrowKey = process.env.CONSOLE_NARROW_KEY ?? "";
export const spentKey = process.env.CONSOLE_SPENT_KEY ?? "";
export const ECHO = "qwen3-32b";
export const SEER = "qwen2.5-vl-7b";
export const SLEEPER = "baichuan2-13b-chat";
export const CHAT = "smollm2-135m-instruct";

/** What only the house can do, such as to let a model warm up. */
export async function knock(
  door: "sleep" | "wake" | "close" | "vanish" | "stick" | "kill" | "start" | "expire" | "drain" | "reprice" | "link",
) {
  const answer = await fetch(`${process.env.CONSOLE_DOORS}/${door}`, { method: "POST" });
  expect(answer.status).toBe(200);
  return answer.text();
}

/** That the gateway has heard of it: what the house does takes a moment to reach it. */
export async function isInState(page: Page, tier: string, state: string) {
  await expect(async () => {
    const { models } = (await (await page.request.get("/v1/catalog")).json()) as {
      models: { tiers: { id: string; state: string }[] }[];
    };
    expect(models.flatMap((model) => model.tiers).find((one) => one.id === tier)?.state).toBe(state);
  }).toPass();
}

/** What the ledger has for a request, exact; null when it knows of none. */
export async function chargedFor(page: Page, requestId: string | null): Promise<string | null> {
  const answer = await page.request.get(`/v1/receipts/${requestId}`, { headers: { authorization: `Bearer ${key}` } });
  if (answer.status() === 404) return null;
  const receipt = (await answer.json()) as { charged: boolean; amount: string };
  return receipt.charged ? receipt.amount : null;
}

/** An amount below a cent, as the pages say it in English. */
export const euros = (amount: string | number | null) =>
  `€${Number(amount)
    .toFixed(6)
    .replace(/0{1,4}$/, "")}`;

// A receipt is asked for until the books have it, and Chromium logs each 404.
const usual = [/status of 404 .*\/v1\/receipts\//];

type House = { allowed: RegExp[] };

/**
 * Every tab of a test fails it on an error in the console, a script that throws, a breach of the policy, and a request to
 * another host, which the browser does not find (`playwright.config.ts`). `allowed` lists what a test expects of these.
 */
export const test = base.extend<House>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the pattern
  allowed: async ({}, use) => use([]),
  context: async ({ context, baseURL, allowed }, use) => {
    const faults: string[] = [];
    context.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning")
        faults.push(`console: ${message.text()} ${message.location().url}`);
    });
    context.on("weberror", (fault) => faults.push(`thrown: ${fault.error().message}`));
    context.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${baseURL}/`) && !/^(data|blob):/.test(url)) faults.push(`elsewhere: ${url}`);
    });
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    await use(context);
    expect(faults.filter((fault) => ![...usual, ...allowed].some((one) => one.test(fault)))).toEqual([]);
  },
});

/** No violation of WCAG 2.2 AA on what shows. */
export async function isAccessible(page: Page) {
  const found = await new AxeBuilder({ page })
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    .analyze();
  const said = found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join("; ")}`);
  expect(said).toEqual([]);
}

/** Nothing has jumped since the page began, in the browser's own measure (0.1 is "needs improvement"). */
export async function standsStill(page: Page) {
  const { sum, moved } = await page.evaluate(
    () =>
      new Promise<{ sum: number; moved: string[] }>((tell) => {
        let sum = 0;
        const moved: string[] = [];
        const observer = new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) {
            const shift = entry as PerformanceEntry & {
              value: number;
              hadRecentInput: boolean;
              sources: { node: Node | null; previousRect: DOMRect; currentRect: DOMRect }[];
            };
            if (shift.hadRecentInput) continue;
            sum += shift.value;
            for (const { node, previousRect: was, currentRect: is } of shift.sources) {
              const text = node?.textContent?.slice(0, 40) ?? "";
              moved.push(`${node?.nodeName} "${text}": ${was.y}+${was.height} to ${is.y}+${is.height}`);
            }
          }
        });
        observer.observe({ type: "layout-shift", buffered: true });
        requestAnimationFrame(() => requestAnimationFrame(() => tell({ sum, moved })));
      }),
  );
  expect(sum, moved.join("\n")).toBeLessThan(0.02);
}

export async function shot(page: Page, name: string, fullPage = true) {
  const folder = process.env.CONSOLE_RESULTS ?? "test-results";
  await page.screenshot({ path: `${folder}/shots/${name}.png`, fullPage, animations: "disabled" });
}

/** The playground with a key that has been accepted. */
export async function enter(page: Page, path: string, withKey = key) {
  await page.goto(path);
  await page.getByPlaceholder("xpu_…").fill(withKey);
  await page.getByPlaceholder("xpu_…").press("Enter");
  await expect(page.getByPlaceholder("xpu_…")).toHaveCount(0);
}

/** Opens a page whose fonts and figures come late: after it has been painted without them. Nothing may jump as they come. */
export async function openLate(page: Page, path: string) {
  let release = () => {};
  const painted = new Promise<void>((go) => {
    release = go;
  });
  await page.route(/\.woff2$|\/v1\/(catalog|try-it)$|\/auth\/session$/, async (route) => {
    await painted;
    await route.continue();
  });
  await page.goto(path, { waitUntil: "commit" });
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  release();
  await page.waitForLoadState();
}

/** That the page has read the catalog. */
export async function isRead(page: Page, path: string) {
  if (path === "") {
    // Its parts come as one nears them.
    for (const part of await page.locator("[data-is-near]").all()) {
      await part.scrollIntoViewIfNeeded();
      await expect(part).toHaveAttribute("data-is-near", "true");
      await expect(part.locator("[aria-busy=true]")).toHaveCount(0);
    }
    await expect(page.getByText("https://…")).toHaveCount(0);
    await expect(page.getByText("08:00–18:00").first()).toBeVisible();
    await page.evaluate(() => scrollTo(0, 0));
  }
  if (path === "" || path === "/models") await expect(page.getByText("SmolLM2-135M-Instruct").first()).toBeVisible();
  if (path === "/playground") await expect(page.locator("select option").nth(2)).toBeAttached();
}
