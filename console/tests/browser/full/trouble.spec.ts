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
  expect(await page.getByTestId("answer").locator("*").count()).toBeLessThan(100);
  await expect(page.getByTestId("answer")).toContainText("<b>cell</b>");
});

test.describe("money", () => {
  test.use({ allowed: [/status of (429|503)/] });

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

  test("is not lost in chat either: a limit says when it passes, and the question goes by itself", async ({ page }) => {
    await enter(page, `/en/playground?model=${CHAT}`, narrowKey);
    await page.getByRole("button", { name: "Add a model" }).click();
    await page.getByLabel("Model of B").selectOption(CHAT);
    await page.getByLabel("Longest answer").fill("200");
    await page.getByLabel(prompt).fill("one at a time");
    await page.getByLabel(prompt).press("Enter");
    const banner = page.getByRole("region", { name: "Waiting for its turn" });
    await expect(banner).toContainText("rate_limit_exceeded");
    await expect(banner).toContainText(/goes by itself in \d+ sec/);
    await expect(banner).toContainText("Waiting costs nothing.");
    await isAccessible(page);
    await shot(page, "playground-held", false);
    await expect(page.getByText("The answer reached its longest length.")).toHaveCount(2, { timeout: 40_000 });
    await expect(banner).toHaveCount(0);
  });

  for (const after of ["1", null]) {
    test(`of an overloaded gateway that ${after ? "says when" : "does not say when"} it is free`, async ({ page }) => {
      await enter(page, `/en/playground?model=${ECHO}`);
      const error = { message: "Too much to do.", type: "service_unavailable_error", code: "server_is_overloaded" };
      const headers: Record<string, string> = after ? { "retry-after": after } : {};
      const refuse = { status: 503, headers, json: { error } };
      await page.route("**/v1/chat/completions", (route) => route.fulfill(refuse), { times: 1 });
      await page.getByLabel(prompt).fill("Are you free?");
      await page.getByLabel(prompt).press("Enter");
      if (after === null) {
        const fault = page.getByRole("article").getByRole("alert");
        await expect(fault).toContainText("Too much to do.");
        await expect(fault).toContainText("Not charged.");
        await page.getByRole("button", { name: "Ask again" }).click();
      } else {
        await expect(page.getByRole("region", { name: "Waiting for its turn" })).toContainText("Too much to do.");
      }
      await expect(page.getByTestId("answer")).toHaveText("Are you free?");
      await expect(page.getByRole("article").getByRole("alert")).toHaveCount(0);
    });
  }

  test("is not lost by a gateway that is overloaded: a batch test waits for it", async ({ page }) => {
    await enter(page, `/en/playground?model=${ECHO}`);
    let refused = 0;
    await page.route("**/v1/chat/completions", async (route) => {
      if (refused > 0) return route.continue();
      refused += 1;
      const error = { message: "Too much to do.", type: "service_unavailable_error", code: "server_is_overloaded" };
      await route.fulfill({ status: 503, headers: { "retry-after": "0.2" }, json: { error } });
    });
    await page.getByRole("button", { name: "Batch test" }).click();
    await page.getByRole("region", { name: "Prompts" }).getByRole("textbox").fill("one\ntwo");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await expect(page.getByTestId(`sum-${ECHO}`)).toContainText(/^2 of 2 · TTFT/);
    expect(refused).toBe(1);
  });

  test("a receipt that is not written yet is said to be on its way", async ({ page }) => {
    await enter(page, `/en/playground?model=${ECHO}`);
    await page.getByLabel(prompt).fill("one two");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer")).toHaveText("one two");
    await page.getByRole("button", { name: "Receipt" }).press("Enter");
    const dialog = page.getByRole("dialog");
    await expect(dialog).toContainText(/req_[0-9a-f]{32}/);
    await expect(dialog.getByText("Not known yet").or(dialog.getByTestId("receipt-charged"))).toBeVisible();
    await expect(dialog.getByTestId("receipt-charged")).toBeVisible({ timeout: 30_000 });
    await isAccessible(page);
    await shot(page, "playground-receipt", false);
    await page.keyboard.press("Escape");
    await expect(page.getByRole("button", { name: "Receipt" })).toBeFocused();
  });
});

test.describe("a price", () => {
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
    await expect(page.getByTestId("cost")).toHaveText(`€${cost.toFixed(6).replace(/0{1,4}$/, "")}`, {
      timeout: 30_000,
    });
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

test.describe("a model that cannot answer", () => {
  test.use({ allowed: [/status of 503/] });

  for (const [door, state] of [
    ["close", "cold"],
    ["vanish", "unreachable"],
    ["stick", "unreachable"],
  ] as const) {
    test(`because it is ${state} (${door}) keeps the question, which goes by itself`, async ({ page }) => {
      await knock(door);
      await isInState(page, SLEEPER, state);
      await enter(page, `/en/playground?model=${SLEEPER}`);
      await page.getByLabel("Longest answer").fill("5");
      await page.getByLabel(prompt).fill("Are you there?");
      await page.getByLabel(prompt).press("Enter");
      const banner = page.getByRole("region", { name: "Waiting for the model" });
      await expect(banner).toContainText(state === "cold" ? /Opens|Asleep/ : "Does not answer");
      await expect(banner.getByTestId("why")).toHaveText(door === "stick" ? ["Its image cannot be pulled."] : []);
      await isAccessible(page);
      await shot(page, `playground-${door}`, false);
      await knock("wake");
      await expect(page.getByTestId("answered-by")).toHaveText(SLEEPER, { timeout: 30_000 });
      await expect(banner).toHaveCount(0);
    });
  }

  test("because it is not deployed here is asked all the same: nothing would wake it", async ({ page }) => {
    await page.goto("/en/playground");
    const elsewhere = await page.evaluate(async () => {
      const { models } = await (await fetch("/v1/catalog")).json();
      const tiers = models
        .filter((model: { task: string }) => model.task === "chat")
        .flatMap((model: { tiers: { id: string; state: string }[] }) => model.tiers);
      return tiers.find((one: { state: string }) => one.state === "not_deployed").id as string;
    });
    await enter(page, `/en/playground?model=${elsewhere}`);
    await page.getByLabel(prompt).fill("Are you there?");
    await page.getByLabel(prompt).press("Enter");
    const fault = page.getByRole("article").getByRole("alert");
    await expect(fault).toContainText("it is not deployed at this site");
    await expect(fault).toContainText("Not charged.");
    await expect(page.getByRole("region", { name: "Waiting for the model" })).toHaveCount(0);
  });
});

test("another model than the one that was asked for is said in red", async ({ page }) => {
  // The gateway always answers in the name that was asked for, so this one is put into its answer on the way.
  await page.route("**/v1/chat/completions", async (route) => {
    const answer = await route.fetch();
    const body = (await answer.text()).replaceAll(`"model":"${ECHO}"`, '"model":"somebody-else"');
    await route.fulfill({ response: answer, body });
  });
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("Who are you?");
  await page.getByLabel(prompt).press("Enter");
  const by = page.getByTestId("answered-by");
  await expect(by).toHaveText(`somebody-else (asked for ${ECHO})`);
  const colour = (of: string) =>
    page
      .locator(of)
      .first()
      .evaluate((one) => getComputedStyle(one).color);
  expect(await colour("[data-testid=answered-by]")).not.toBe(await colour("[data-testid=cost]"));
  await expect(by).toHaveClass(/text-bad/);
});
