import { expect, isAccessible, isRead, locales, openLate, pages, shot, standsStill, test } from "./house";
import { speaks } from "./words";

// Every page in every language, light and dark alternating; with CONSOLE_MATRIX=full each in both, wide and on a phone.
const isFull = process.env.CONSOLE_MATRIX === "full";
const widths = { wide: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
const cases = pages.flatMap((path, at) =>
  locales.flatMap((locale, of) =>
    (Object.keys(widths) as (keyof typeof widths)[]).flatMap((width, by) =>
      (["light", "dark"] as const)
        .filter((scheme) => isFull || ((at + of) % 2 === by && (scheme === "light") === (at + of) % 4 < 2))
        .filter(() => isFull || at < 3)
        .map((scheme) => ({ path, locale, width, scheme })),
    ),
  ),
);

test.use({ allowed: [/status of 404 .*\/nowhere/] }); // the page for a path that there is not

for (const { path, locale, width, scheme } of cases) {
  const name = path.slice(1) || "landing";
  test(`${name} in ${locale}, ${width}, ${scheme}`, async ({ page }) => {
    await page.setViewportSize(widths[width]);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await openLate(page, `/${locale}${path}`);
    await isRead(page, path);
    await page.evaluate(() => document.fonts.ready);
    expect(await page.locator("html").getAttribute("lang")).toContain(locale);
    await standsStill(page);
    await shot(page, `${name}-${locale}-${width}-${scheme}`);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), "scrolls sideways").toBe(0);
    await isAccessible(page);
    await speaks(page, locale);
  });
}
