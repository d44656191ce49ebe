import { enter, expect, isInState, isRead, knock, SLEEPER, test } from "../browser/house";

// The pictures of README and docs. Not a test of anything: `make pictures` takes them anew.
const folder = process.env.CONSOLE_PICTURES ?? "test-results/pictures";

test.use({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });

test("the first page", async ({ page }) => {
  await page.goto("/en");
  await isRead(page, "");
  await page.screenshot({ path: `${folder}/first-page.png`, animations: "disabled" });
});

test("the models", async ({ page }) => {
  await page.goto("/en/models#smollm2-135m-instruct");
  await isRead(page, "/models");
  await expect(page.getByText("Regular opening hours")).toBeVisible();
  await page.screenshot({ path: `${folder}/console-models.png`, animations: "disabled" });
});

test("a question that waits for its model", async ({ page }) => {
  await knock("sleep");
  await isInState(page, SLEEPER, "starting");
  await enter(page, `/en/playground?model=${SLEEPER}`);
  await page.getByLabel("Your message").fill("What did the storm of 1703 change in how ships were built?");
  await page.getByLabel("Your message").press("Enter");
  await expect(page.getByRole("region", { name: "Waiting for the model" })).toBeVisible();
  await page.screenshot({ path: `${folder}/console-cold.png`, animations: "disabled" });
});
