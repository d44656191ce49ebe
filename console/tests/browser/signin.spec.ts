import type { Page } from "@playwright/test";
import { CHAT, ECHO, expect, isAccessible, knock, shot, test } from "./house";

const prompt = "Your message";
const account = "Account of Anna";

// The provider is another host, has no icon, and after a session's end a request is refused.
test.use({ allowed: [/^elsewhere: http:\/\/127\.0\.0\.1:\d+\/|status of 40[14]|ERR_FAILED .*\/auth\/logout/] });

/** At the provider, which asks who it is unless it knows already. */
async function introduce(page: Page, who = "anna") {
  await page.getByLabel("Who").fill(who);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function signIn(page: Page, from: string) {
  await page.goto(from);
  await page.getByRole("link", { name: "Sign in" }).first().click();
  await page.getByRole("link", { name: "Sign in with your account" }).click();
  await introduce(page);
}

test("somebody signs in, comes back, asks without a key, and signs out in all tabs", async ({ page, context }) => {
  await signIn(page, "/en/models");
  await expect(page).toHaveURL(/\/en\/models$/);
  await expect(page.getByLabel(account)).toContainText("Anna · acme");
  await page.goto(`/en/playground?model=${ECHO}`);
  await expect(page.getByTestId("person")).toHaveText("Anna");
  await page.getByLabel(prompt).fill("without a key");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("without a key");
  await isAccessible(page);
  await shot(page, "playground-signed-in", false);
  expect(await page.evaluate(() => document.cookie)).not.toContain("session");

  const other = await context.newPage();
  await other.goto("/en");
  await other.getByLabel(account).click();
  await isAccessible(other);
  await other.route("**/auth/logout", (route) => route.abort(), { times: 1 });
  await other.getByRole("button", { name: "Sign out" }).click();
  await expect(other.getByRole("alert").filter({ hasText: "Nothing was changed." })).toBeVisible();
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.getByRole("button", { name: "Yes" }).click(); // at the provider
  await expect(other).toHaveURL(/\/en$/);
  await expect(other.getByRole("link", { name: "Sign in", exact: true })).toBeVisible();
  await expect(page.getByRole("alert").filter({ hasText: "You were signed out." })).toBeVisible();
  await expect(page.getByTestId("answer")).toHaveText("without a key");
  await other.goBack();
  await expect(other.getByLabel(account)).toHaveCount(0);
});

test("a session that ends in mid-stream loses no word, and signing in again leads back", async ({ page }) => {
  await signIn(page, `/en/playground?model=${CHAT}`);
  await expect(page.getByTestId("person")).toHaveText("Anna");
  await page.getByLabel("Longest answer").fill("150");
  await page.getByLabel(prompt).fill("Tell me a story");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toContainText("word word");
  await knock("expire");
  await expect(page.getByText("The answer reached its longest length.")).toBeVisible(); // what had begun is finished
  await page.getByLabel(prompt).fill("and then");
  await page.getByLabel(prompt).press("Enter");
  const ended = page.getByRole("alert").filter({ hasText: "What you typed and what was answered is kept." });
  await expect(ended).toBeVisible();
  await isAccessible(page);
  await shot(page, "playground-signed-out", false);
  await page.getByLabel(prompt).fill("half a thou");
  await ended.getByRole("link", { name: "Sign in again" }).click();
  await page.getByRole("link", { name: "Sign in with your account" }).click(); // the provider still knows who it is
  await expect(page).toHaveURL(/\/en\/playground$/);
  await expect(page.getByTestId("person")).toHaveText("Anna");
  await expect(page.getByTestId("answer").first()).toContainText("word word");
  await expect(page.getByLabel(prompt)).toHaveValue("half a thou");
  await page.getByRole("button", { name: "Ask again" }).last().click();
  await expect(page.getByTestId("answer").last()).toContainText("word");
});

test("a one-time link signs in once, and says so the second time", async ({ page }) => {
  const link = await knock("link");
  await page.goto(link);
  await expect(page).toHaveURL(/\/en\/playground$/);
  await expect(page.getByTestId("person")).toHaveText("laptop");
  await page.context().clearCookies();
  await page.goto(link.replace("/en/", "/de/"));
  await expect(page.getByRole("alert").first()).toContainText("Dieser Link meldet nicht mehr an.");
  expect(page.url()).not.toContain("link=");
  await isAccessible(page);
  await shot(page, "signin-used-link");
});

test("who cancels at the provider is told so, and may try again", async ({ page }) => {
  await page.goto("/en/signin?next=/en/models");
  await page.getByRole("link", { name: "Sign in with your account" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByRole("alert").first()).toContainText("You were not signed in.");
  await isAccessible(page);
  await page.getByRole("link", { name: "Sign in with your account" }).click();
  await introduce(page, "both");
  await expect(page).toHaveURL(/\/en\/models$/);
});

test("who is in two organisations chooses one before anything is sent, and may change it", async ({ page }) => {
  await page.goto("/en/signin?next=/en/playground");
  await page.getByRole("link", { name: "Sign in with your account" }).click();
  await introduce(page, "both");
  await expect(page).toHaveURL(/\/en\/playground$/);
  await page.goto(`/en/playground?model=${ECHO}`);
  await page.getByLabel(prompt).fill("for whom");
  await expect(page.getByText("Choose an organisation to send.")).toBeVisible();
  await expect(page.getByRole("button", { name: "Send" })).toBeDisabled();
  await page.getByRole("complementary").getByLabel("Organisation").selectOption("acme");
  await expect(page.getByRole("button", { name: "Send" })).toBeEnabled();
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("for whom");
  await page
    .getByLabel(/^Account of/)
    .first()
    .click();
  await page.getByRole("banner").getByLabel("Organisation").selectOption("globex");
  await expect(page.getByLabel(/^Account of/)).toContainText("globex");
});

test("a visitor asks with one click, without a key", async ({ page }) => {
  await page.goto("/en");
  await page.getByRole("button", { name: "Run" }).click();
  // Which model is the cheapest that is awake depends on who was woken before: one says words, one what it was asked.
  await expect(page.getByTestId("try-it-answer")).toContainText(/why do GPUs|word word/);
  await expect(page.getByTestId("try-it-meter")).toContainText(/TTFT [\d,]+ ms · .*\d+ in, \d+ out/);
  await isAccessible(page);
  await shot(page, "landing-tried", false);
});
