import {
  CHAT,
  ECHO,
  enter,
  expect,
  isAccessible,
  isInState,
  knock,
  narrowKey,
  SLEEPER,
  shot,
  spentKey,
  test,
} from "../house";

const prompt = "Your message";

test("an answer without end is ended, and the page stays usable", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("endless");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByText("the answer had grown past a million characters", { exact: false })).toBeVisible({
    timeout: 40_000,
  });
  await page.getByLabel(prompt).fill("and now?");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer").last()).toHaveText("and now?", { timeout: 30_000 });
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
});

test("a table of thousands of rows does not hold the page up", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  const table = `| a | b |\n|---|---|\n${"| <b>cell</b> | [x](javascript:alert(1)) |\n".repeat(3_000)}`;
  await page.getByLabel(prompt).evaluate((box, text) => {
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")?.set?.call(box, text);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }, table);
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByRole("button", { name: "Ask again" })).toBeVisible({ timeout: 30_000 });
  expect(await page.getByTestId("answer").locator("td, a, b").count()).toBe(0);
  await expect(page.getByTestId("answer")).toContainText("<b>cell</b>");
});

test.describe("money", () => {
  test.use({ allowed: [/status of 4(29|04)/] });

  test("that is spent is said with what to do, nothing is charged, and the text is kept", async ({ page }) => {
    await enter(page, `/en/playground?model=${ECHO}`, spentKey);
    await page.getByLabel(prompt).fill("May I?");
    await page.getByLabel(prompt).press("Enter");
    const fault = page.getByRole("article").getByRole("alert");
    await expect(fault).toContainText("credit_balance_exhausted");
    await expect(fault).toContainText("Not charged.");
    await expect(page.getByRole("article")).toContainText("May I?");
    await shot(page, "playground-spent", false);
    await page.getByRole("button", { name: "Batch test" }).click();
    await page.getByRole("region", { name: "Prompts" }).getByRole("textbox").fill("one\ntwo\nthree\nfour\nfive\nsix");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    // The first refusal ends the run: the rest is not tried.
    await expect(page.getByTestId(`sum-${ECHO}`)).toContainText(/0 of 6 · [1-4] failed/);
    await expect(page.getByRole("button", { name: "Run the rest (6)" })).toBeVisible();
  });

  test("is not lost by a limit: a batch test waits for its turn", async ({ page }) => {
    await enter(page, `/en/playground?model=${CHAT}`, narrowKey);
    await page.getByLabel("Longest answer").fill("20");
    await page.getByRole("button", { name: "Batch test" }).click();
    await page.getByRole("region", { name: "Prompts" }).getByRole("textbox").fill("one\ntwo\nthree\nfour");
    const refused = page.waitForResponse((response) => response.status() === 429);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await refused;
    await expect(page.getByTestId(`sum-${CHAT}`)).toContainText(/^4 of 4 · TTFT/, { timeout: 40_000 });
  });

  test("a receipt that is not written yet is said to be on its way", async ({ page }) => {
    await enter(page, `/en/playground?model=${ECHO}`);
    await page.getByLabel(prompt).fill("one two");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer")).toHaveText("one two");
    await page.getByRole("button", { name: "Receipt" }).press("Enter");
    const dialog = page.getByRole("dialog");
    await expect(dialog).toContainText(/req_[0-9a-f]{32}/);
    // Served by the ledger where there is one; otherwise it is asked for until it is there.
    await expect(dialog.getByText("Not there yet").or(dialog.getByTestId("receipt-charged"))).toBeVisible();
    await isAccessible(page);
    await shot(page, "playground-receipt", false);
    await page.keyboard.press("Escape");
    await expect(page.getByRole("button", { name: "Receipt" })).toBeFocused();
  });
});

test.describe("a price", () => {
  test.use({ allowed: [/status of 404/] }); // a receipt that is not written yet

  test("a price that changes is shown, reckoned with and receipted, without a rebuild or a reload", async ({
    page,
  }) => {
    await enter(page, `/en/playground?model=${ECHO}`);
    const head = page.getByRole("region", { name: "Conversation" });
    await expect(head).not.toContainText("€7.77");
    await knock("reprice");
    await expect(head).toContainText("€7.77", { timeout: 20_000 });
    await page.getByLabel(prompt).fill("one two three four");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer")).toHaveText("one two three four");
    const prices = await page.evaluate(async (id) => {
      const catalog = await (await fetch("/v1/catalog")).json();
      const tiers = catalog.models.flatMap((model: { tiers: { id: string }[] }) => model.tiers);
      return tiers.find((one: { id: string }) => one.id === id).prices_per_million_tokens.EUR;
    }, ECHO);
    const cost = (4 * Number(prices.prompt) + 7.77) / 1e6; // one event is one token
    await expect(page.getByTestId("cost")).toHaveText(`€${cost.toFixed(6).replace(/0{1,4}$/, "")}`);
    await page.getByRole("button", { name: "Receipt" }).press("Enter");
    const dialog = page.getByRole("dialog");
    await expect(dialog.getByTestId("receipt-charged")).toBeVisible({ timeout: 30_000 });
    await dialog.getByText("The whole receipt").click();
    await expect(dialog.locator("pre")).toContainText("7.77");
  });
});

test.describe("a catalog that was true a second ago", () => {
  test.use({ allowed: [/status of 503/] });

  test("costs one refused request, and the question waits", async ({ page }) => {
    await knock("sleep");
    await isInState(page, SLEEPER, "starting");
    let isOld = true;
    await page.route("**/v1/catalog", async (route) => {
      const catalog = await (await route.fetch()).json();
      for (const tier of catalog.models.flatMap((model: { tiers: { id: string; state: string }[] }) => model.tiers)) {
        if (isOld && tier.id === SLEEPER) Object.assign(tier, { state: "warm", eta_seconds: 0 });
      }
      await route.fulfill({ json: catalog });
    });
    let asked = 0;
    page.on("request", (request) => {
      if (!request.url().endsWith("/v1/chat/completions")) return;
      isOld = false;
      asked += 1;
    });
    await enter(page, `/en/playground?model=${SLEEPER}`);
    await page.getByLabel("Longest answer").fill("5");
    await page.getByLabel(prompt).fill("Are you awake?");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByRole("region", { name: "Waiting for the model" })).toBeVisible();
    expect(asked).toBe(1);
    await knock("wake");
    await expect(page.getByTestId("answered-by")).toHaveText(SLEEPER);
    expect(asked).toBe(2);
  });
});
