import { ECHO, enter, expect, isAccessible, isRead, locales, shot, test } from "../house";
import { say, speaks } from "../words";

test.use({ allowed: [/ERR_FAILED|status of 404/] }); // what is aborted on its way

const everything = /\/v1\/|\/auth\//;

for (const locale of locales) {
  test(`first page, models, sign-in and service say that the gateway is silent, and go on by themselves, ${locale}`, async ({
    page,
  }) => {
    await page.emulateMedia({ reducedMotion: "reduce", colorScheme: locale === "zh" ? "dark" : "light" });
    const unreachable = say(locale, "Catalog.unreachable");
    const inOrder = async (name: string) => {
      await isAccessible(page);
      await speaks(page, locale);
      await page.evaluate(() => scrollTo(0, 0));
      await shot(page, `silent-${name}-${locale}`);
    };

    await page.route(everything, (route) => route.abort());
    await page.goto(`/${locale}`);
    for (const part of await page.locator("[data-is-near]").all()) {
      await part.scrollIntoViewIfNeeded();
      await expect(part).toHaveAttribute("data-is-near", "true");
    }
    await expect(page.getByTestId("try-it-answer")).toContainText(say(locale, "TryIt.unreachable"), {
      timeout: 30_000,
    });
    await expect(page.getByRole("alert").filter({ hasText: unreachable })).toBeVisible({ timeout: 30_000 });
    await expect(page.getByText(say(locale, "Catalog.notRead"))).toHaveCount(2); // board and week
    await inOrder("landing");
    await page.unroute(everything);
    await page.getByRole("button", { name: say(locale, "Catalog.again") }).click();
    await isRead(page, "");
    await expect(page.getByRole("main").getByRole("alert")).toHaveCount(0);

    for (const path of ["models", "signin"]) {
      await page.route(everything, (route) => route.abort());
      await page.goto(`/${locale}/${path}`);
      const trouble = page.getByRole("main").getByRole("alert").filter({ hasText: unreachable });
      await expect(trouble).toBeVisible({ timeout: 30_000 });
      await inOrder(path);
      await page.unroute(everything);
      await trouble.getByRole("button").click();
      await expect(trouble).toHaveCount(0);
    }
    await expect(page.getByRole("link", { name: say(locale, "Session.withProvider") })).toBeVisible();

    await enter(page, `/${locale}/playground?model=${ECHO}`);
    await page.route("**/v1/slo**", (route) => route.abort());
    await page.goto(`/${locale}/service`);
    const trouble = page.getByRole("main").getByRole("alert").filter({ hasText: unreachable });
    await expect(trouble).toBeVisible({ timeout: 30_000 });
    await inOrder("service");
    await page.unroute("**/v1/slo**");
    await trouble.getByRole("button").click();
    await expect(page.getByRole("combobox", { name: say(locale, "Service.month") })).toHaveValue("2026-10");
  });

  test(`an empty catalog, no report and a slow gateway have words, ${locale}`, async ({ page }) => {
    let answer = () => {};
    const answered = new Promise<void>((go) => {
      answer = go;
    });
    await page.route("**/v1/catalog", async (route) => {
      await answered;
      const catalog = await (await route.fetch()).json();
      await route.fulfill({ json: { ...catalog, models: [] } });
    });
    await page.goto(`/${locale}`);
    await page.locator("#board").scrollIntoViewIfNeeded();
    await expect(page.getByText(say(locale, "Catalog.slow"))).toBeVisible();
    await isAccessible(page);
    await shot(page, `slow-${locale}`, false);
    answer();
    await expect(page.getByText(say(locale, "Catalog.slow"))).toHaveCount(0);
    await expect(page.getByText(say(locale, "Catalog.nothing")).first()).toBeVisible();
    await isAccessible(page);
    await speaks(page, locale);
    await shot(page, `empty-landing-${locale}`, false);

    await enter(page, `/${locale}/playground?model=${ECHO}`);
    await page.route("**/v1/slo", (route) => route.fulfill({ json: { object: "list", data: [] } }));
    await page.goto(`/${locale}/service`);
    await expect(page.getByText(say(locale, "Service.none"))).toBeVisible();
    await speaks(page, locale);
    await isAccessible(page);
  });
}
