import { CHAT, enter, expect, isRead, type Page, test } from "../house";

/** All that a pointer could use on the page as it shows, in the order in which it stands there. */
const usable = (page: Page) =>
  page.evaluate(() => {
    const all =
      "a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea, summary, [tabindex='0']";
    // A box that scrolls and holds nothing of these is a stop of Chromium's own.
    const scrolls = (one: HTMLElement) =>
      /auto|scroll/.test(getComputedStyle(one).overflow) &&
      (one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight) &&
      !one.querySelector(all);
    const found = [...document.body.querySelectorAll<HTMLElement>("*")].filter(
      (one) =>
        ((one.matches(all) && one.tabIndex >= 0) || scrolls(one)) && // of a row of tabs one is reached, the others by arrows
        one.checkVisibility({ visibilityProperty: true }) &&
        (!(one instanceof HTMLInputElement) || one.type !== "radio" || one.checked),
    );
    for (const [at, one] of found.entries()) one.dataset.stop = `${at}`;
    return found.length;
  });

/** Walks by Tab until the page is left, and says where that led: each stop with whether one could see that one is there. */
async function walk(page: Page, most: number) {
  const stops: { stop: string; isSeen: boolean; name: string }[] = [];
  await page.evaluate(() => {
    (document.activeElement as HTMLElement | null)?.blur();
    scrollTo(0, 0);
  });
  for (let step = 0; step < most + 5; step += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const one = document.activeElement as HTMLElement | null;
      if (!one || one === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(
        one.matches("input.sr-only") ? (one.parentElement as HTMLElement) : one,
      );
      const box = one.getBoundingClientRect();
      const isInView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
      const name = `${one.tagName} ${one.getAttribute("aria-label") ?? one.textContent?.slice(0, 30) ?? ""}`;
      return {
        stop: one.dataset.stop ?? "",
        isSeen: isInView && outlineStyle !== "none" && outlineWidth !== "0px",
        name,
      };
    });
    if (!stop) break;
    stops.push(stop);
  }
  return stops;
}

for (const path of ["", "/models", "/playground", "/signin", "/service"]) {
  test(`Tab leads through all of ${path || "the first page"}, in its order, and one sees where one is`, async ({
    page,
  }) => {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await page.goto(`/en${path}`);
    await isRead(page, path);
    await expect(page.getByRole("banner").getByLabel("Sign in")).toBeVisible();
    const most = await usable(page);
    const stops = await walk(page, most);
    expect(stops.filter((one) => !one.isSeen)).toEqual([]);
    expect(stops.map((one) => one.stop)).toEqual(Array.from({ length: most }, (_, at) => `${at}`));
  });
}

test("a model is found, asked, stopped and paid for without a pointer", async ({ page }) => {
  await enter(page, "/en/playground");
  await page.goto("/en/models");
  await page.getByRole("searchbox").focus();
  await page.keyboard.type("smollm");
  const go = page.getByRole("link", { name: /^Try SmolLM2.*, base/i });
  for (let step = 0; step < 30 && !(await go.evaluate((one) => one === document.activeElement)); step += 1)
    await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("Model", { exact: true })).toHaveValue(CHAT);
  await page.getByLabel("Longest answer").focus();
  await page.keyboard.type("1000");
  await page.getByLabel("Your message").focus();
  await page.keyboard.type("Tell me a story");
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("answer")).toContainText("word word");
  await page.keyboard.press("Escape");
  await expect(page.getByText("Stopped.", { exact: false })).toBeVisible();
  await expect(page.getByTestId("charge")).toContainText("Charged, by the ledger", { timeout: 30_000 });
});
