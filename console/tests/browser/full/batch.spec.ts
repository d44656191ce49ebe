import { readFileSync } from "node:fs";
import { CHAT, chargedFor, ECHO, enter, expect, isAccessible, key, knock, shot, test } from "../house";

test.use({ allowed: [/ERR_FAILED/] }); // what is aborted on its way

test("prompts over two models become a table, a file and a batch job", async ({ page }) => {
  await enter(page, `/en/playground?model=${CHAT}`);
  await page.getByLabel("Longest answer").fill("6");
  await page.getByRole("button", { name: "Batch test" }).click();
  const alert = page.getByRole("region", { name: "Prompts" }).getByRole("alert");
  const chooser = page.locator("input[type=file]");

  // Judged before it is read: by its name, and by its size.
  await chooser.setInputFiles({ name: "prompts.xlsx", mimeType: "application/zip", buffer: Buffer.from("PK") });
  await expect(alert).toContainText("prompts.xlsx is not read here");
  await page.evaluate(() => {
    const box = document.querySelector<HTMLInputElement>("input[type=file]");
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(200_000_000)], "huge.jsonl"));
    if (!box) return;
    box.files = files.files;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  });
  await expect(alert).toContainText("huge.jsonl has 200 MB; the limit is 10 MB");
  await chooser.setInputFiles({
    name: "bad.jsonl",
    mimeType: "",
    buffer: Buffer.from('{"prompt": "a"}\n{"x": 1}\nno'),
  });
  await expect(alert).toContainText("Line 2 has no prompt.");
  await expect(alert).toContainText("Line 3 is no JSON object.");

  const lines = Array.from({ length: 24 }, (_, at) => `"question ${at}, with a comma",=answer ${at}`);
  const csv = `prompt,expected\n${lines.join("\n")}\n`;
  await chooser.setInputFiles({ name: "prompts.csv", mimeType: "text/csv", buffer: Buffer.from(csv) });
  await expect(page.getByText("prompts.csv · 24 prompts")).toBeVisible();
  await page.getByRole("checkbox", { name: new RegExp(`^${ECHO} `) }).check();
  await expect(page.getByTestId("quote")).toContainText(/24 prompts × 2 models, at most €\d/);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByTestId(`sum-${ECHO}`)).toContainText("24 of 24", { timeout: 40_000 });
  await expect(page.getByTestId(`sum-${CHAT}`)).toContainText(/24 of 24 · TTFT [\d,]+ ms \(median\) · charged €\d/, {
    timeout: 40_000,
  });
  // The gateway's sum of the receipts, and not the browser's.
  const kept = await page.evaluate(() => JSON.parse(sessionStorage.getItem("playground-batch") ?? "{}"));
  const ids = Object.entries(kept.cells as Record<string, { requestId: string }>)
    .filter(([cell]) => cell.endsWith(` ${CHAT}`))
    .map(([, turn]) => turn.requestId);
  const amounts = await Promise.all(ids.map((id) => chargedFor(page, id)));
  const billionths = amounts.reduce((sum, amount) => sum + Math.round(Number(amount) * 1e9), 0);
  await expect(page.getByTestId(`sum-${CHAT}`)).toContainText(
    `charged €${(billionths / 1e9).toFixed(6).replace(/0{1,4}$/, "")}`,
  );
  // Only what is in view is in the page.
  expect(await page.getByRole("row").count()).toBeLessThan(20);
  await isAccessible(page);
  await shot(page, "playground-batch", false);

  await page.getByRole("button", { name: "Open row 1", exact: true }).click();
  await expect(page.getByTestId("difference").locator("del").first()).toContainText("word");
  await expect(page.getByTestId("difference").locator("ins").first()).toContainText("question");
  await isAccessible(page);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Open row 1", exact: true })).toBeFocused();
  const exporting = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const exported = readFileSync(await (await exporting).path(), "utf8");
  expect(exported.split("\r\n")).toHaveLength(50);
  expect(exported).toContain(
    `1,"question 0, with a comma",'=answer 0,${ECHO},${ECHO},done,"question 0, with a comma",`,
  );

  const exportingLines = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export JSONL" }).click();
  const exportedLines = readFileSync(await (await exportingLines).path(), "utf8")
    .trim()
    .split("\n");
  expect(exportedLines).toHaveLength(48);
  expect(JSON.parse(exportedLines[0] ?? "")).toMatchObject({ row: 1, state: "done", asked_with: '{"max_tokens":6}' });

  await page.reload();
  await expect(page.getByTestId(`sum-${ECHO}`)).toContainText("24 of 24");
  // What was asked in another way is said, found and asked again; setting it back is enough, too.
  await expect(page.getByText("made with another system prompt")).toHaveCount(0);
  await page.getByLabel("Temperature").first().fill("0.3");
  await expect(page.getByText("48 answers were made with another system prompt", { exact: false })).toBeVisible();
  await page.getByLabel("Temperature").first().fill("");
  await expect(page.getByText("made with another system prompt")).toHaveCount(0);
  await page.getByLabel("Longest answer").fill("5");
  await page.getByRole("button", { name: "Older settings" }).click();
  await isAccessible(page);
  await shot(page, "playground-batch-stale", false);
  await page.getByRole("button", { name: "Ask these again (48)" }).click();
  await expect(page.getByTestId(`sum-${CHAT}`)).toContainText(/24 of 24 · .* · charged €\d/, { timeout: 60_000 });
  await expect(page.getByText("made with another system prompt")).toHaveCount(0);
  await page.getByRole("button", { name: "All", exact: true }).click();
  await page.getByRole("checkbox", { name: new RegExp(`^${ECHO} `) }).uncheck();
  await expect(page.getByTestId("job-quote")).toContainText(/24 lines, 1 job, at most €\d/);
  await page.getByRole("button", { name: "Get a binding price" }).click();
  await expect(page.getByTestId("order")).toContainText(
    /^smollm2-135m-instruct at most €\d+\.\d\d, binding for 24 hours Ready/,
  );
  // The first answer is lost on its way. Pressing again makes no second job.
  await page.route(
    "**/v1/batches",
    async (route) => {
      await route.fetch();
      await route.abort();
    },
    { times: 1 },
  );
  await page.getByRole("button", { name: "Make this a real batch job" }).click();
  const jobs = page.getByRole("region", { name: "As a batch job" });
  await expect(jobs.getByRole("alert")).toContainText("The gateway cannot be reached.");
  await page.getByRole("button", { name: "Make this a real batch job" }).click();
  const job = page.getByTestId("job");
  await expect(job).toContainText("batch_");
  await expect(job).toHaveCount(1);
  const made = await page.request.get("/v1/batches", { headers: { authorization: `Bearer ${key}` } });
  const { data } = (await made.json()) as { data: { quote_id: string | null }[] };
  expect(data).toHaveLength(1);
  expect(data[0]?.quote_id).toMatch(/^qte_/);
  await knock("drain");
  await expect(job).toContainText("Completed", { timeout: 40_000 });
  await expect(job).toContainText("24 of 24 lines");
  const downloading = page.waitForEvent("download");
  await job.getByRole("button", { name: "Download answers" }).click();
  const answers = readFileSync(await (await downloading).path(), "utf8")
    .trim()
    .split("\n");
  expect(answers).toHaveLength(24);
  expect(answers[0]).toContain("row-");
  await page.route("**/v1/files/*/content", (route) => route.abort(), { times: 1 });
  await job.getByRole("button", { name: "Download answers" }).click();
  await expect(job.getByRole("alert")).toContainText("The gateway cannot be reached.");
  await shot(page, "playground-job", false);
});
