import { ECHO, enter, expect, isAccessible, poorKey, shot, test } from "./house";
import { say, speaks } from "./words";

test.use({ allowed: [/status of 40[13]|ERR_FAILED/] });

// Where things go wrong, and where dialogs open, a language is forgotten first.
for (const locale of ["de", "zh"]) {
  test(`refusals, faults and dialogs speak ${locale}`, async ({ page }) => {
    await enter(page, `/${locale}/playground?model=${ECHO}`, poorKey);
    const prompt = page.getByLabel(say(locale, "Playground.prompt"));
    await prompt.fill("1 + 1");
    await prompt.press("Enter");
    const fault = page.getByRole("article").getByRole("alert");
    await expect(fault).toContainText(say(locale, "Refusals.permission_denied"));
    await fault.getByText(say(locale, "Refusals.original")).click();
    await expect(fault.locator("[lang=en]")).toContainText("scope");
    await speaks(page, locale);
    await shot(page, `playground-refused-${locale}`, false);
    await fault.getByRole("button", { name: say(locale, "Playground.receipt") }).click();
    await expect(page.getByTestId("receipt-free")).toBeVisible();
    await speaks(page, locale);
    await page.keyboard.press("Escape");
    for (const dialog of ["tally", "presets", "share", "code"]) {
      await page.getByRole("button", { name: say(locale, `Playground.${dialog}`), exact: true }).click();
      await expect(page.getByRole("dialog")).toBeVisible();
      if (dialog === "tally") await expect(page.getByRole("dialog").getByRole("alert")).toBeVisible();
      await speaks(page, locale);
      await page.keyboard.press("Escape");
      await expect(page.getByRole("dialog")).toHaveCount(0);
    }
    await page.route("**/v1/catalog", (route) => route.abort());
    await expect(page.getByText(say(locale, "Catalog.unreachable"))).toBeVisible({ timeout: 30_000 });
    await speaks(page, locale);
    await isAccessible(page);
  });
}
