import { CHAT, ECHO, enter, expect, isAccessible, locales, SEER, shot, test } from "../house";
import { say, speaks } from "../words";

const looks = [
  { width: 1440, height: 900, scheme: "light" },
  { width: 1440, height: 900, scheme: "dark" },
  { width: 390, height: 844, scheme: "light" },
  { width: 390, height: 844, scheme: "dark" },
] as const;

for (const locale of locales) {
  for (const { width, height, scheme } of looks) {
    const name = `${locale}-${width > 400 ? "wide" : "phone"}-${scheme}`;
    test(`four columns, a vote and a batch test in ${name}`, async ({ page }) => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await enter(page, `/${locale}/playground?model=${ECHO}`);
      const press = (path: string) => page.getByRole("button", { name: say(locale, path), exact: true }).click();
      const inOrder = async (what: string) => {
        await shot(page, `playground-${what}-${name}`, false);
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), "sideways").toBe(0);
        await isAccessible(page);
        await speaks(page, locale);
      };

      await press("Playground.addColumn");
      await press("Playground.addColumn");
      await press("Playground.addColumn");
      const models = page.locator("select.font-mono");
      await models.nth(1).selectOption(CHAT);
      await models.nth(2).selectOption(SEER);
      await models.nth(3).selectOption(`${CHAT}-fast`);
      if (width < 1024) await press("Playground.showSettings");
      await page.getByLabel(say(locale, "Playground.parameters.max_tokens.name")).fill("30");
      if (width < 1024) await press("Playground.hideSettings");
      const prompt = page.getByLabel(say(locale, "Playground.prompt"));
      await prompt.fill("| a | b |\n|---|---|\n| 1 | 2 |\n\n- **1**\n- `2`");
      await prompt.press("Enter");
      await expect(page.getByTestId("answer")).toHaveCount(4);
      await expect(page.getByRole("button", { name: say(locale, "Playground.receipt"), exact: true })).toHaveCount(4);
      await inOrder("four");

      await press("Playground.blind");
      await prompt.fill("which of you?");
      await prompt.press("Enter");
      await expect(page.getByText(say(locale, "Compare.voteNow"))).toBeVisible();
      const html = await page.locator("body").innerHTML();
      expect([CHAT, ECHO, SEER].filter((name) => html.includes(name))).toEqual([]);
      await inOrder("vote");
      await press("Compare.tie");
      await expect(page.getByTestId("reveal")).toContainText(CHAT);
      await inOrder("reveal");

      await press("Playground.modes.batch");
      await page
        .getByRole("region", { name: say(locale, "Batch.prompts") })
        .getByRole("textbox")
        .fill("1 + 1\n2 + 2"); // no word of any language
      await press("Batch.run");
      await expect(page.getByTestId(`sum-${ECHO}`)).toContainText(/2.*2/);
      await expect(page.getByRole("button", { name: say(locale, "Batch.allDone") })).toBeVisible();
      await page.getByTestId(`sum-${ECHO}`).scrollIntoViewIfNeeded();
      await inOrder("table");
    });
  }
}
