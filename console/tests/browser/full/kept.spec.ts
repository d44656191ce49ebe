import { ECHO, enter, expect, SEER, test } from "../house";

const prompt = "Your message";

test("what is typed below an answer outlives a reload: an edited question, and what a call gave", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("first");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("first");
  await page.getByRole("button", { name: "Example for Tools" }).click();
  await page.getByLabel(prompt).fill("Is it raining?");
  await page.getByLabel(prompt).press("Enter");
  await page.getByLabel("What weather gave").fill('{"rain": tru');
  await page.getByRole("button", { name: "Edit", exact: true }).first().click();
  await page.getByLabel("Edit this message").fill("first, but bett");
  await page.reload();
  await expect(page.getByLabel("What weather gave")).toHaveValue('{"rain": tru');
  await expect(page.getByLabel("Edit this message")).toHaveValue("first, but bett");
  await page.getByRole("button", { name: "Empty Tools" }).click();
  await page.getByLabel("Edit this message").fill("first, but better");
  await page.getByRole("button", { name: "Send anew" }).click();
  await expect(page.getByTestId("answer")).toHaveText("first, but better");
  await expect(page.getByLabel("Edit this message")).toHaveCount(0);
});

test("two tabs keep drafts, parameters and answers of their own", async ({ page, context }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel("System prompt").fill("of the first tab");
  await page.getByLabel(prompt).fill("first");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("first");
  await page.getByLabel(prompt).fill("draft of the first");
  const another = await context.newPage();
  await enter(another, `/en/playground?model=${ECHO}`);
  await expect(another.getByTestId("answer")).toHaveCount(0);
  await another.getByLabel(prompt).fill("draft of the second");
  await page.reload();
  await another.reload();
  await expect(page.getByLabel(prompt)).toHaveValue("draft of the first");
  await expect(page.getByLabel("System prompt")).toHaveValue("of the first tab");
  await expect(page.getByTestId("answer")).toHaveText("first");
  await expect(another.getByLabel(prompt)).toHaveValue("draft of the second");
  await expect(another.getByLabel("System prompt")).toHaveValue("");
});

test("what the tab has no room for is said before a reload loses it", async ({ page }) => {
  await enter(page, `/en/playground?model=${SEER}`);
  const picture = { name: "large.png", mimeType: "image/png", buffer: Buffer.alloc(1_800_000) };
  await page.locator("form input[type=file]").setInputFiles(picture);
  await expect(page.getByText("This tab has no room for your pictures")).toBeVisible();
  await page.getByRole("button", { name: "Remove picture 1" }).click();
  await expect(page.getByText("This tab has no room for your pictures")).toHaveCount(0);

  await page.getByRole("button", { name: "Batch test" }).click();
  const lines = Buffer.from(`${"long ".repeat(2_000)}\n`.repeat(320));
  await page.locator("input[type=file]").setInputFiles({ name: "many.txt", mimeType: "text/plain", buffer: lines });
  await expect(page.getByText("These prompts are too many for this tab's memory")).toBeVisible();
  await page.getByRole("button", { name: "Empty", exact: true }).click();
  await expect(page.getByText("These prompts are too many for this tab's memory")).toHaveCount(0);
});

test("without a clipboard, as in plain http, Copy selects the answer and nothing else", async ({ page }) => {
  await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("to be copied");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("to be copied");
  await page.getByRole("button", { name: "Copy" }).click();
  expect(await page.evaluate(() => String(getSelection()).trim())).toBe("to be copied");
});
