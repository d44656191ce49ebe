import { writeFileSync } from "node:fs";
import { CHAT, chargedFor, enter, euros, expect, isAccessible, type Page, shot, test } from "../browser/house";

// On the cloud of tests/e2e: gateway, database and vLLM on the machine's own cores.
const prompt = "Your message";
const FAST = `${CHAT}-fast`;
test.setTimeout(300_000); // an engine on the machine's own cores, beside whatever else runs there
const patient = { timeout: 60_000 };
const said = /^Charged, by the ledger: (€0\.\d+)$/;

type Told = { request: string; model: string; question: string; read: number; written: number };
const told: Told[] = [];

/** What a settled answer says of itself; its amount is the ledger's. */
async function settled(page: Page, turn: ReturnType<Page["getByRole"]>, question: string): Promise<Told> {
  await expect(turn.getByTestId("charge")).toHaveText(said, { timeout: 90_000 });
  const request = (await turn.getByTitle("Request id, for support").textContent()) ?? "";
  const amount = await chargedFor(page, request);
  await expect(turn.getByTestId("charge")).toHaveText(`Charged, by the ledger: ${euros(amount)}`);
  await expect(turn.getByTestId("cost")).toHaveText(euros(amount));
  // biome-ignore lint/performance/useDomNodeTextContent: its parts stand apart only as they are laid out
  const meter = await turn.locator("dl").innerText();
  const number = (name: string) =>
    Number(new RegExp(`\\b${name}\\s+≈?\\s?([\\d,]+)`).exec(meter)?.[1]?.replace(",", ""));
  expect(meter).toMatch(/TTFT\s+[\d,]+ ms/);
  const model = (await turn.getByTestId("answered-by").textContent()) ?? "";
  const one = { request, model, question, read: number("in"), written: number("out") };
  told.push(one);
  return one;
}

test("somebody asks both tiers of a model, sees them write, holds one to a schema, stops another, and pays for what the engine counted", async ({
  page,
}) => {
  await page.addInitScript(() => {
    // What stood there, and what the meter said of it, each time that it grew.
    const seen: { length: number; cost: string }[] = [];
    Object.assign(window, { seen });
    new MutationObserver(() => {
      const text = document.querySelector("[data-testid=answer]")?.textContent ?? "";
      const cost = document.querySelector("[data-testid=cost]")?.textContent ?? "";
      if (text.length !== seen.at(-1)?.length) seen.push({ length: text.length, cost });
    }).observe(document, { subtree: true, childList: true, characterData: true });
  });
  await enter(page, `/en/playground?model=${CHAT}`);
  await expect(page.getByText("accepted")).toBeVisible(patient);
  await page.getByRole("button", { name: "Add a model" }).click();
  await page.getByLabel("Model of B").selectOption(FAST);
  await page.getByLabel("Longest answer").fill("24");
  await page.getByLabel("Temperature").first().fill("0");
  await page.getByLabel(prompt).fill("Write about the sea.");
  await page.getByLabel(prompt).press("Enter");
  const [base, fast] = ["A", "B"].map((letter) => page.getByRole("region", { name: `Conversation ${letter}` }));
  if (!base || !fast) throw new Error("two columns");
  const [ofBase, ofFast] = [
    await settled(page, base.getByRole("article"), "Write about the sea."),
    await settled(page, fast.getByRole("article"), "Write about the sea."),
  ];
  expect([ofBase.model, ofFast.model]).toEqual([CHAT, FAST]);
  expect(ofBase.read).toBe(ofFast.read);
  expect(ofBase.written).toBeLessThanOrEqual(24);
  expect(ofBase.written).toBeGreaterThan(8);
  const seen = await page.evaluate(() => (window as unknown as { seen: { length: number; cost: string }[] }).seen);
  const lengths = seen.map((one) => one.length).filter((length) => length > 0);
  expect(new Set(lengths).size, "it came in pieces").toBeGreaterThan(4);
  expect(
    seen.some((one) => one.cost.startsWith("≈ €")),
    "its cost was told while it came",
  ).toBe(true);
  await isAccessible(page);
  await shot(page, "engine-tiers", false);

  await page.getByRole("button", { name: "Remove B" }).click();
  const last = page.getByRole("article").last();
  await page.getByRole("button", { name: "Clear" }).first().click();
  await page.getByLabel("Longest answer").fill("100");
  await page.getByLabel("Form of the answer").selectOption("JSON by schema");
  const schema = { type: "object", properties: { big: { type: "boolean" } }, required: ["big"] };
  await page
    .getByLabel("JSON schema", { exact: true })
    .fill(JSON.stringify({ ...schema, additionalProperties: false }));
  await page.getByLabel(prompt).fill("Is the sea big?");
  await page.getByLabel(prompt).press("Enter");
  await settled(page, last, "Is the sea big?");
  expect(Object.keys(JSON.parse((await last.getByTestId("answer").textContent()) ?? ""))).toEqual(["big"]);

  await page.getByRole("button", { name: "Clear" }).first().click();
  await page.getByLabel("Form of the answer").selectOption("Text");
  await page.getByLabel("Longest answer").fill("1000");
  await page.getByLabel(prompt).fill("Count from one to a thousand.");
  await page.getByLabel(prompt).press("Enter");
  await expect(last.getByTestId("cost")).toContainText("≈ €", patient); // it has begun
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await expect(last.getByText("Stopped. What was produced until then is charged.")).toBeVisible(patient);
  await settled(page, last, "Count from one to a thousand.");
  writeFileSync(process.env.CONSOLE_TOLD ?? "test-results/told.json", JSON.stringify(told));
});
