import {
  CHAT,
  chargedFor,
  ECHO,
  enter,
  euros,
  expect,
  isAccessible,
  isInState,
  key,
  knock,
  poorKey,
  SLEEPER,
  shot,
  test,
} from "./house";

const prompt = "Your message";

test("an answer streams with its meter, and the cost is what the list says", async ({ page }) => {
  await enter(page, `/en/playground?model=${CHAT}`);
  await expect(page.getByText("accepted")).toBeVisible();
  await page.getByLabel("Longest answer").fill("20");
  await page.getByText("More parameters").click();
  await page.getByLabel("Top k").fill("40");
  await page.getByLabel("Stop at").fill("THE END\nno more");
  await page.getByLabel(prompt).fill("Hello there");
  const sent = page.waitForRequest("**/v1/chat/completions");
  await page.getByLabel(prompt).press("Enter");
  expect((await sent).postDataJSON()).toEqual({
    model: CHAT,
    messages: [{ role: "user", content: "Hello there" }],
    max_tokens: 20,
    top_k: 40,
    stop: ["THE END", "no more"],
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  });
  const turn = page.getByRole("article");
  await expect(turn.getByTestId("answer")).toContainText("word word");
  await expect(turn.getByText("The answer reached its longest length.")).toBeVisible();
  await expect(turn.getByTestId("answered-by")).toHaveText(CHAT);
  const [tier] = await page.evaluate(async (id) => {
    const catalog = await (await fetch("/v1/catalog")).json();
    return catalog.models
      .flatMap((model: { tiers: { id: string }[] }) => model.tiers)
      .filter((one: { id: string }) => one.id === id);
  }, CHAT);
  const prices = tier.prices_per_million_tokens.EUR;
  // biome-ignore lint/performance/useDomNodeTextContent: its parts stand apart only as they are laid out
  const meter = await turn.locator("dl").innerText();
  const [, read = "", cached = ""] = /in\s+(\d+) \((\d+) cached\)/.exec(meter) ?? [];
  expect(meter).toMatch(/TTFT\s+[\d,]+ ms/);
  // Reckoned until the ledger has it; at list prices both are the same. In whole billionths, since no price here has more digits.
  const cost =
    (Number(read) - Number(cached)) * prices.prompt + Number(cached) * prices.cached_prompt + 20 * prices.completion;
  const said = euros(cost / 1e6);
  await expect(turn.getByTestId("cost")).toHaveText(new RegExp(`^(≈ )?${said}$`));
  await expect(turn.getByTestId("charge")).toHaveText(`Charged, by the ledger: ${said}`, { timeout: 30_000 });
  await expect(turn.getByTestId("cost")).toHaveText(said);
  await expect(turn.getByTitle("Request id, for support")).toHaveText(/^(chatcmpl|req_)/);
  await shot(page, "playground-answered", false);
  await isAccessible(page);
});

test("what is typed and answered outlives a reload, and the key leaves with the tab", async ({ page, context }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByLabel(prompt).fill("first question");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("first question");
  await page.getByLabel(prompt).fill("half a thou");
  await page.reload();
  await expect(page.getByTestId("answer")).toHaveText("first question");
  await expect(page.getByLabel(prompt)).toHaveValue("half a thou");
  await expect(page.getByLabel("System prompt")).toHaveValue("Be brief.");
  expect(
    await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie + location.href),
  ).not.toContain(key);
  const another = await context.newPage();
  await another.goto("/en/playground");
  await expect(another.getByPlaceholder("xpu_…")).toBeVisible();
});

test.describe("an answer without its closing count", () => {
  test("is kept when it is stopped, and costs what the ledger says", async ({ page }) => {
    await page.addInitScript(() => {
      // Every word about the charge, however short it stood.
      const said: string[] = [];
      Object.assign(window, { said });
      new MutationObserver(() => {
        for (const one of document.querySelectorAll("[data-testid=charge]")) said.push(one.textContent ?? "");
      }).observe(document, { subtree: true, childList: true, characterData: true });
    });
    await enter(page, `/en/playground?model=${CHAT}`);
    await page.getByLabel("Longest answer").fill("2000");
    await page.getByLabel(prompt).fill("Tell me a long story");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer")).toContainText("word word word");
    // The meter goes while the answer does: tokens and cost grow, and say that they are no final figures.
    // biome-ignore lint/performance/useDomNodeTextContent: its parts stand apart only as they are laid out
    const figure = async (name: RegExp) => Number(name.exec(await page.getByRole("article").innerText())?.[1] ?? "-1");
    const [written, cost] = [/out\s+≈ (\d+)/, /cost\s+≈ €([\d.]+)/];
    const before = [await figure(written), await figure(cost)] as const;
    expect(before[0]).toBeGreaterThan(0);
    await expect(async () => {
      expect(await figure(written)).toBeGreaterThan(before[0] + 5);
      expect(await figure(cost)).toBeGreaterThan(before[1]);
      expect(await figure(/tokens\/s\s+(\d+)/)).toBeGreaterThan(0);
    }).toPass();
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await expect(page.getByText("Stopped. What was produced until then is charged.")).toBeVisible();
    await expect(page.getByTestId("cost")).toContainText("≈ €");
    await page.getByLabel(prompt).fill("again");
    await expect(page.getByRole("button", { name: "Send" })).toBeEnabled();
    await expect(page.getByTestId("charge")).toHaveText(/^Charged, by the ledger: €0\.\d+$/, { timeout: 30_000 });
    const amount = await chargedFor(page, await page.getByTitle("Request id, for support").textContent());
    await expect(page.getByTestId("charge")).toContainText(euros(amount));
    const said = await page.evaluate(() => (window as unknown as { said: string[] }).said);
    expect(said.filter((text) => text.includes("no charge"))).toEqual([]);
  });
});

test("Enter does not send while an input method composes", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("你好");
  await page
    .getByLabel(prompt)
    .dispatchEvent("keydown", { key: "Enter", keyCode: 229, isComposing: true, bubbles: true });
  await expect(page.getByLabel(prompt)).toHaveValue("你好");
  await expect(page.getByRole("article")).toHaveCount(0);
});

test("a cold model shows its ETA, the question goes by itself when it is warm", async ({ page }) => {
  await knock("sleep");
  await isInState(page, SLEEPER, "starting");
  await enter(page, `/en/playground?model=${SLEEPER}`);
  await page.getByLabel("Longest answer").fill("5");
  await page.getByLabel(prompt).fill("Are you awake?");
  await page.getByLabel(prompt).press("Enter");
  const banner = page.getByRole("region", { name: "Waiting for the model" });
  await expect(banner).toContainText("Baichuan2-13B-Chat is not ready");
  await expect(banner).toContainText(/Ready in about \d+ sec/);
  await expect(banner.getByTestId("stages")).toHaveText(/Weights 20 secs?\s*Engine 35 secs?\s*Test answer 5 secs?/);
  await expect(banner.getByTestId("stages").locator("[aria-current=step]")).toHaveCount(1);
  await expect(banner).toContainText("Waiting costs nothing");
  await isAccessible(page);
  await shot(page, "playground-cold", false);
  await page.reload();
  await expect(banner).toBeVisible();
  await knock("wake");
  await expect(page.getByTestId("answer")).toContainText("word");
  await expect(banner).toHaveCount(0);
  await expect(page.getByTestId("answered-by")).toHaveText(SLEEPER);
});

test("two models answer side by side, each with its meter", async ({ page }) => {
  await enter(page, `/en/playground?model=${CHAT}`);
  await page.getByRole("button", { name: "Add a model" }).click();
  await page.getByLabel("Model of B").selectOption(ECHO);
  await page.getByLabel("Longest answer").fill("10");
  await page.getByLabel(prompt).fill("the same for both");
  await page.getByLabel(prompt).press("Enter");
  const [a, b] = [
    page.getByRole("region", { name: "Conversation A" }),
    page.getByRole("region", { name: "Conversation B" }),
  ];
  await expect(a.getByTestId("answered-by")).toHaveText(CHAT);
  await expect(b.getByTestId("answered-by")).toHaveText(ECHO);
  await expect(b.getByTestId("answer")).toHaveText("the same for both");
  await expect(a.getByText("The answer reached its longest length.")).toBeVisible();
  await isAccessible(page);
  await shot(page, "playground-compare", false);
  await page.setViewportSize({ width: 390, height: 844 });
  await expect(b.getByTestId("answer")).toHaveText("the same for both");
  await shot(page, "playground-compare-phone");
  await page.getByRole("button", { name: "Show code" }).click();
  await expect(page.getByRole("dialog")).toContainText('"max_tokens": 10');
  await expect(page.getByRole("dialog")).not.toContainText(key);
  await isAccessible(page);
});

test.describe("refusals", () => {
  test.use({ allowed: [/status of 40[13]/] });

  test("say what, whether it is charged, and which request", async ({ page }) => {
    await enter(page, `/en/playground?model=${ECHO}`, poorKey);
    await page.getByLabel(prompt).fill("May I?");
    await page.getByLabel(prompt).press("Enter");
    const fault = page.getByRole("article").getByRole("alert");
    await expect(fault).toContainText("The gateway refused this request.");
    await expect(fault).toContainText("permission_denied");
    await expect(fault).toContainText("Not charged.");
    await expect(fault.getByTestId("fault-request")).toHaveText(/^req_[0-9a-f]{32}$/);
    await isAccessible(page);
    await shot(page, "playground-refused", false);
    // No book has a line of it, so none is asked.
    let asked = 0;
    page.on("request", (request) => {
      if (request.url().includes("/v1/receipts/")) asked += 1;
    });
    await fault.getByRole("button", { name: "Receipt" }).click();
    await expect(page.getByTestId("receipt-free")).toContainText("Not charged");
    await isAccessible(page);
    await page.keyboard.press("Escape");
    expect(asked).toBe(0);
    await page.getByRole("button", { name: "Forget" }).click();
    await page.getByPlaceholder("xpu_…").fill("xpu_nonsense");
    await page.getByPlaceholder("xpu_…").press("Enter");
    await expect(page.getByRole("alert").first()).toBeVisible();
    await expect(page.getByRole("article")).toContainText("May I?");
  });
});

const hostile = [
  '<script>window.broken = 1</script><img src="https://evil.example/x.png" onerror="window.broken = 2">',
  "[click](javascript:window.broken=3) ![beacon](https://evil.example/beacon.png) [out](https://evil.example/page)",
  '<iframe src="https://evil.example"></iframe><style>body { display: none }</style><a href="data:text/html,x">d</a>',
  `| ${"wide | ".repeat(60)}\n|${"---|".repeat(60)}\n| ${"cell | ".repeat(60)}`,
  `${"x".repeat(3_000)}`,
].join("\n\n");

test("what a model writes cannot run, load, reach out or break the page", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  const long = `${hostile}\n\n${"A paragraph with **bold** and `code`.\n\n".repeat(2_200)}the end`;
  expect(long.length).toBeGreaterThan(80_000);
  // Typing it through the keyboard's way takes a browser minutes.
  await page.getByLabel(prompt).evaluate((box, text) => {
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")?.set?.call(box, text);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }, long);
  await page.getByLabel(prompt).press("Enter");
  const answer = page.getByTestId("answer");
  await expect(answer).toContainText("the end", { timeout: 30_000 });
  await expect(page.getByRole("button", { name: "Ask again" })).toBeVisible({ timeout: 30_000 });
  expect(await page.evaluate(() => (window as unknown as { broken?: number }).broken)).toBeUndefined();
  expect(await answer.locator("script, iframe, style, img, [onerror]").count()).toBe(0);
  const links = await answer
    .locator("a")
    .evaluateAll((all) => all.map((one) => [one.getAttribute("href"), one.getAttribute("rel")]));
  expect(links).toEqual([["https://evil.example/page", "noopener noreferrer nofollow ugc"]]);
  await expect(answer.getByRole("link")).toContainText("(evil.example)");
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
  // Thousands of blocks, of which only those near the view have their contents laid out.
  const blocks = answer.locator("p > strong");
  expect(await blocks.count()).toBeGreaterThan(2_000);
  await expect
    .poll(() =>
      blocks.evaluateAll((all) => all.filter((one) => one.checkVisibility({ contentVisibilityAuto: true })).length),
    )
    .toBeLessThan(300);
});

test.describe("a gateway that dies", () => {
  test.use({
    allowed: [
      /status of 404|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/,
    ],
  });

  test("cuts the answer, and what was there and what was typed is kept", async ({ page }) => {
    await enter(page, `/en/playground?model=${CHAT}`);
    await page.getByLabel("Longest answer").fill("10");
    await page.getByLabel(prompt).fill("Something short");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("charge")).toContainText("Charged, by the ledger:", { timeout: 30_000 });
    await page.getByLabel("Longest answer").fill("1000");
    await page.getByLabel(prompt).fill("Tell me a long story");
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer").last()).toContainText("word word word");
    await knock("kill");
    await expect(page.getByText("The answer was cut off.")).toBeVisible();
    await page.getByLabel(prompt).fill("and then");
    await expect(page.getByText("The gateway cannot be reached.").first()).toBeVisible({ timeout: 30_000 });
    await knock("start");
    // As if it had ended long ago: then the books must have it, if it was used.
    await page.addInitScript(() => {
      const kept = JSON.parse(sessionStorage.getItem("playground") ?? "null");
      for (const turn of kept?.columns[0].turns ?? []) turn.endedAt = 1;
      if (kept) sessionStorage.setItem("playground", JSON.stringify(kept));
    });
    await page.reload();
    await expect(page.getByTestId("answer").last()).toContainText("word word word");
    await expect(page.getByLabel(prompt)).toHaveValue("and then");
    // What was finished costs what the ledger has; what died with the gateway was never counted, and costs nothing.
    const requests = await page.getByTitle("Request id, for support").allTextContents();
    const [short = null, cut] = await Promise.all(requests.map((request) => chargedFor(page, request)));
    expect(short).not.toBeNull();
    expect(cut).toBeNull();
    await expect(page.getByTestId("charge").first()).toHaveText(`Charged, by the ledger: ${euros(short)}`);
    await expect(page.getByTestId("charge").last()).toHaveText("The ledger has no charge for it so far.");
    await expect(page.getByRole("button", { name: "Ask again now" })).toBeVisible();
  });
});
