import { CHAT, enter, expect, isInState, knock, type Page, SLEEPER, test } from "../house";

const prompt = "Your message";
test.use({ allowed: [/ERR_FAILED/] }); // what is aborted on its way

/** Writes down at each frame where what one reads and presses is. */
async function watch(page: Page) {
  await page.evaluate((label) => {
    const seen: Record<string, [number, number]> = {};
    Object.assign(window, { seen, isWatched: true });
    const look = () => {
      const parts = {
        "the heading": document.querySelector("h1"),
        "the model": document.querySelector("main select"),
        "the question": document.querySelector("article"),
        "the message": document.querySelector(`textarea[aria-label="${label}"]`),
        "its button": document.querySelector("form button:last-of-type"),
        "the key": document.querySelector("aside code"),
      };
      for (const [name, part] of Object.entries(parts)) {
        if (!part) continue;
        const { top } = part.getBoundingClientRect();
        const [least, most] = seen[name] ?? [top, top];
        seen[name] = [Math.min(least, top), Math.max(most, top)];
      }
      if ((window as unknown as { isWatched: boolean }).isWatched) requestAnimationFrame(look);
    };
    look();
  }, prompt);
}

async function nothingMoved(page: Page) {
  const seen = await page.evaluate(() => {
    Object.assign(window, { isWatched: false });
    return (window as unknown as { seen: Record<string, [number, number]> }).seen;
  });
  expect(Object.keys(seen)).toHaveLength(6);
  expect(Object.entries(seen).filter(([, [least, most]]) => most - least > 1)).toEqual([]);
}

for (const [name, viewport] of [
  ["wide", { width: 1440, height: 900 }],
  ["phone", { width: 390, height: 844 }],
] as const) {
  test(`nothing jumps while an answer, a fault or a gateway's silence comes, ${name}`, async ({ page }) => {
    await page.setViewportSize(viewport);
    await enter(page, `/en/playground?model=${CHAT}`);
    if (name === "phone") await page.getByRole("button", { name: "Show parameters" }).click();
    await page.getByLabel("Longest answer").fill("60");
    if (name === "phone") await page.getByRole("button", { name: "Hide parameters" }).click();
    await page.getByLabel(prompt).fill("Tell me a story");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByRole("article")).toBeVisible();
    await watch(page);
    await expect(page.getByTestId("charge")).toContainText("Charged, by the ledger", { timeout: 30_000 });
    await nothingMoved(page);

    await page.route("**/v1/chat/completions", (route) => route.abort(), { times: 1 });
    await watch(page);
    await page.route("**/v1/catalog", (route) => route.abort());
    const trouble = page.getByRole("alert").filter({ hasText: "What you see was read before." });
    await expect(trouble).toBeVisible({ timeout: 30_000 });
    await page.unroute("**/v1/catalog");
    await trouble.getByRole("button", { name: "Try again" }).click();
    await expect(trouble).toHaveCount(0);
    await nothingMoved(page);
  });

  test(`nothing jumps while a model is waited for and answers, ${name}`, async ({ page }) => {
    await page.setViewportSize(viewport);
    await knock("sleep");
    await isInState(page, SLEEPER, "starting");
    await enter(page, `/en/playground?model=${SLEEPER}`);
    await page.getByLabel(prompt).fill("Are you awake?");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByRole("region", { name: "Waiting for the model" })).toBeVisible();
    await watch(page);
    await knock("wake");
    await expect(page.getByTestId("answer")).toContainText("word word");
    await nothingMoved(page);
  });
}
