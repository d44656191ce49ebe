import { CHAT, expect, isAccessible, isInState, knock, SLEEPER, shot, standsStill, test } from "../house";

test("models are narrowed, compared and tried, and the address keeps what was asked", async ({ page }) => {
  await page.goto("/en/models");
  const rows = page.getByRole("main").locator("li[id]");
  await expect(rows).toHaveCount(9);

  // Base and fast side by side: price, measured speed, state.
  const base = page.getByRole("region", { name: "SmolLM2-135M-Instruct, Base" });
  const fast = page.getByRole("region", { name: "SmolLM2-135M-Instruct, Fast" });
  for (const tier of [base, fast]) {
    await expect(tier).toContainText(/Completion\s*€\d/i);
    await expect(tier).toContainText(/\d+ ms/);
    await expect(tier).toContainText(/\d+\s*(tokens|tok)/);
  }
  // What is promised stands with the price of the tier that promises it.
  await expect(fast.getByTestId("promise")).toHaveText(
    "first token within 400 ms, or the base price (prompts up to 4,000 tokens)",
  );
  await expect(base.getByTestId("promise")).toHaveCount(0);
  const big = page.locator("#deepseek-v2-236b");
  await expect(big.locator(".bg-warn-soft")).toBeVisible();
  await expect(big).toContainText("€4.80");

  // The order goes by the fast tier where that is asked for; what is not measured comes last.
  const names = () => rows.getByRole("heading", { level: 2 }).allTextContents();
  await page.getByLabel("Order").selectOption("ttft");
  await expect(rows.first()).toContainText(/\d+ ms/);
  await page.getByLabel("Tier").selectOption("fast");
  await expect(page).toHaveURL(/tier=fast.*sort=ttft/);
  expect((await names())[0]).toBe("SmolLM2-135M-Instruct");
  await page.getByLabel(/^First token/).selectOption("200");
  await expect(rows).toHaveCount(1);
  await page.getByLabel(/^First token/).selectOption("");
  await page.getByLabel("Context").selectOption("131072");
  for (const context of await rows.getByText(/^Context/).all())
    await expect(context.locator("..")).toContainText(/1[3-9]\d,\d{3}|[2-9]\d\d,\d{3}/);
  await page.reload();
  await expect(page.getByLabel("Context")).toHaveValue("131072");
  for (const label of ["Context", "Tier", "Order"]) await page.getByLabel(label).selectOption("");
  await expect(rows).toHaveCount(9);
  await expect(page.locator("#qwen2\\.5-vl-7b").getByTestId("sunset")).toHaveText(
    "Goes out of service on 31 March 2027.",
  );

  await page.getByLabel("Task").selectOption({ label: "Embedding" });
  await expect(rows).toHaveCount(1);
  await page.getByLabel("Task").selectOption("");
  await page.getByLabel("State").selectOption("warm");
  await expect(page.locator(`li[id] output`, { hasText: CHAT }).first()).toBeVisible();
  await expect(big).toHaveCount(0);
  // A limit in euro is none in yuan, and comes back with the euro.
  await page.getByLabel("Output price").selectOption("0.5");
  await expect(page).toHaveURL(/price=0\.5/);
  await page.getByRole("button", { name: "CNY" }).click();
  await expect(page).not.toHaveURL(/price=/);
  await expect(page.getByLabel("Output price")).toHaveValue("");
  await page.getByRole("button", { name: "EUR" }).click();
  await expect(page).toHaveURL(/price=0\.5/);
  await page.getByLabel("Output price").selectOption("");
  await page.getByRole("searchbox").fill("no such model");
  await expect(rows).toHaveCount(0);
  await isAccessible(page);
  await shot(page, "models-none", false);
  await page.reload();
  await expect(page.getByRole("searchbox")).toHaveValue("no such model");
  await page.getByRole("button", { name: "Show all" }).click();
  await expect(rows).toHaveCount(9);

  await big.getByRole("button").first().click();
  await expect(big.getByRole("link", { name: /licen[cs]e|deepseek/i }).first()).toHaveAttribute("href", /^https:/);
  await expect(big).toContainText("curl");
  await isAccessible(page);
  await shot(page, "models-details", false);
  await page.getByRole("link", { name: "Try SmolLM2-135M-Instruct, Fast" }).click();
  await expect(page.getByLabel("Model", { exact: true })).toHaveValue(`${CHAT}-fast`);
});

test("a long list stays quick, an empty one says so", async ({ page }) => {
  let copies = 40;
  await page.route("**/v1/catalog", async (route) => {
    const catalog = await (await route.fetch()).json();
    const models = Array.from({ length: copies }, (_, copy) =>
      catalog.models.map((model: { id: string }) => ({ ...model, id: `${model.id}-${copy}` })),
    ).flat();
    await route.fulfill({ json: { ...catalog, models } });
  });
  await page.goto("/de/models");
  await expect(page.getByRole("main").locator("li[id]")).toHaveCount(360);
  await standsStill(page);
  await page.getByRole("searchbox").fill("deepseek");
  await expect(page.getByRole("main").locator("li[id]")).toHaveCount(40);
  copies = 0;
  await page.goto("/en/models");
  await expect(page.getByText("The catalog is empty", { exact: false })).toBeVisible();
  await isAccessible(page);
});

test("a model that is stuck says why, a closed one when it opens and answers", async ({ page }) => {
  await knock("stick");
  await isInState(page, SLEEPER, "unreachable");
  for (const [locale, why] of [
    ["en", "Its image cannot be pulled."],
    ["de", "Sein Image lässt sich nicht laden."],
    ["zh", "无法拉取其镜像。"],
  ] as const) {
    await page.goto(`/${locale}/models#baichuan2-13b-chat`);
    await expect(page.locator("#baichuan2-13b-chat").getByTestId("why").first()).toHaveText(why);
  }
  await page.goto("/en/models#baichuan2-13b-chat");
  await isAccessible(page);
  await shot(page, "models-stuck", false);
  await knock("wake");
  // No model of this stage belongs to a site with hours, so these are put into the answer on the way.
  await page.route("**/v1/catalog", async (route) => {
    const catalog = await (await route.fetch()).json();
    const tiers: { id: string }[] = catalog.models.flatMap((model: { tiers: { id: string }[] }) => model.tiers);
    const opens_at = new Date(Date.parse(catalog.read_at) + 7_200_000).toISOString();
    for (const tier of tiers.filter((one) => one.id === SLEEPER))
      Object.assign(tier, { state: "cold", state_reason: null, opens_at, eta_seconds: 7_500 });
    await route.fulfill({ json: catalog });
  });
  await page.reload();
  await expect(page.getByRole("region", { name: "Baichuan2-13B-Chat, Base" })).toContainText(
    /Opens .+, answers in about 2 hr/,
  );
});

test.describe("without a gateway", () => {
  test.use({ allowed: [/ERR_CONNECTION|ERR_EMPTY_RESPONSE/] });

  test("the list stays in view, says how old it is, and comes back by itself", async ({ page }) => {
    await page.goto("/en/models");
    await expect(page.getByRole("main").locator("li[id]")).toHaveCount(9);
    await knock("kill");
    await expect(page.getByRole("main").getByRole("alert")).toContainText("cannot be reached", { timeout: 30_000 });
    await expect(page.getByRole("main").locator("li[id]")).toHaveCount(9);
    await isAccessible(page);
    await shot(page, "models-without-gateway", false);
    await knock("start");
    await expect(page.getByRole("main").getByRole("alert")).toHaveCount(0, { timeout: 30_000 });
  });
});
