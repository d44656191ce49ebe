import { CHAT, ECHO, enter, expect, isAccessible, shot, test } from "./house";

const prompt = "Your message";
const names = [CHAT, ECHO, "SmolLM2", "Qwen3"];

test("nothing names a model before the vote, and the vote says which it was and is counted", async ({ page }) => {
  await enter(page, `/en/playground?model=${CHAT}`);
  await page.getByRole("button", { name: "Blind", exact: true }).click();
  await page.getByLabel("Model of B").selectOption(ECHO);
  await page.getByLabel("Longest answer").fill("12");

  // What travels between the sending and the vote, but for the public list of all models.
  const seen: string[] = [];
  const requests: string[] = [];
  page.on("request", (request) => {
    if (/chat\/completions|comparisons\/./.test(request.url())) seen.push(request.url() + (request.postData() ?? ""));
    requests.push(new URL(request.url()).pathname);
  });
  page.on("response", async (response) => {
    if (!/chat\/completions|comparisons/.test(response.url())) return;
    seen.push(JSON.stringify(response.headers()) + (await response.text().catch(() => "")));
  });

  await page.getByLabel(prompt).fill("the same for both");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByText("Which answer is better?", { exact: false })).toBeVisible();
  await expect(page.getByTestId("answer")).toHaveCount(2);
  await expect(page.getByText("Model, speed and cost are shown after the vote.")).toHaveCount(2);
  const html = await page.locator("body").innerHTML();
  expect(names.filter((name) => html.includes(name))).toEqual([]);
  await isAccessible(page);
  await shot(page, "playground-blind", false);

  // A second question goes to the same two, who remember the first.
  await page.getByLabel(prompt).fill("and again");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveCount(4);
  await page.reload();
  await expect(page.getByTestId("answer")).toHaveCount(4);
  await expect.poll(() => seen.length).toBeGreaterThanOrEqual(8);
  expect(names.filter((name) => seen.some((text) => text.includes(name)))).toEqual([]);
  expect(requests.some((path) => path.startsWith("/v1/receipts"))).toBe(false);

  await page.getByRole("button", { name: "A is better" }).press("Enter");
  await expect(page.getByTestId("reveal")).toContainText(CHAT);
  await expect(page.getByTestId("reveal")).toContainText(ECHO);
  const echoIsA = (await page.getByTestId("answer").first().textContent()) ?? "";
  const [first, second] = echoIsA.includes("the same") ? [ECHO, CHAT] : [CHAT, ECHO];
  await expect(page.getByRole("region", { name: "Conversation A" }).getByTestId("answered-by").first()).toHaveText(
    first,
  );
  await expect(page.getByRole("region", { name: "Conversation B" }).getByTestId("answered-by").first()).toHaveText(
    second,
  );
  await page.getByRole("button", { name: "Votes" }).click();
  await expect(page.getByRole("dialog")).toContainText("1 win");
  await expect(page.getByRole("dialog")).toContainText("1 vote. Fewer than 20: not yet a finding.");
  await isAccessible(page);
  await shot(page, "playground-votes", false);
});
