import { CHAT, ECHO, enter, expect, isAccessible, shot, standsStill, test } from "./house";

test("a month's service levels, what was missed, and what was credited", async ({ page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await enter(page, "/en/service");
  const row = (model: string) =>
    page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: new RegExp(`^${model}( |$)`) }) });
  await expect(page.getByRole("combobox", { name: "Month" })).toHaveValue("2026-10");
  await expect(page.getByText("Final: it changes no more.")).toBeVisible();
  await expect(row(CHAT)).toContainText("99.72%");
  await expect(row(CHAT)).toContainText("target 99.5%, met");
  await expect(row(CHAT)).toContainText("96 ms");
  await expect(row(CHAT)).toContainText("not measured");
  await expect(row(ECHO)).toContainText("target 99.5%, missed");
  await expect(page.getByRole("listitem").filter({ hasText: `${CHAT}-fast` })).toContainText("1,000,000 tokens");
  await expect(page.getByRole("listitem").filter({ hasText: `${CHAT}-fast` })).toContainText(/€\d+\.\d+ less/);
  await standsStill(page);
  await shot(page, "service-en");
  await isAccessible(page);

  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto("/de/service"); // the key is this tab's, and still there
  await expect(row(ECHO)).toContainText("Ziel 99,5 %, verfehlt");
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), "scrolls sideways").toBe(0);
  await shot(page, "service-de-phone");
  await isAccessible(page);
});
