import { CHAT, ECHO, enter, expect, isAccessible, SEER, shot, test } from "../house";

const prompt = "Your message";
const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

test("tools are called and answered by hand, a schema is sent, tokens have probabilities", async ({ page }) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel("Tools").fill("[{");
  await expect(page.getByText("A JSON list of functions with names is needed.")).toBeVisible();
  await page.getByLabel(prompt).fill("Is it raining in Berlin?");
  await expect(page.getByRole("button", { name: "Send" })).toBeDisabled();
  await page.getByRole("button", { name: "Empty Tools" }).click();
  await page.getByRole("button", { name: "Example for Tools" }).click();
  await page.getByLabel("Probabilities", { exact: true }).fill("1");
  await page.getByLabel("Use of the tools").selectOption("only weather");
  await page.getByLabel("Calls at once").selectOption("one");
  const sent = page.waitForRequest("**/v1/chat/completions");
  await page.getByLabel(prompt).press("Enter");
  expect((await sent).postDataJSON()).toMatchObject({
    tool_choice: { type: "function", function: { name: "weather" } },
    parallel_tool_calls: false,
    logprobs: true,
    top_logprobs: 1,
  });
  const call = page.getByTestId("call");
  await expect(call).toContainText("weather");
  await expect(call).toContainText("Is it raining in Berlin?");
  await isAccessible(page);
  await shot(page, "playground-tools", false);
  await call.getByLabel("What weather gave").fill('{"rain": false}');
  await page.getByRole("button", { name: "Send results" }).click();
  await expect(page.getByTestId("answer").last()).toHaveText('{"rain": false}');
  await page.getByText("Probabilities of the tokens").last().click();
  await expect(page.getByRole("cell", { name: "100%" }).last()).toBeVisible();

  await page.getByRole("button", { name: "Empty Tools" }).click();
  await page.getByLabel("Form of the answer").selectOption("JSON by schema");
  await page.getByRole("button", { name: "Example for JSON schema" }).click();
  await page.getByRole("button", { name: "Show code" }).click();
  await expect(page.getByRole("dialog")).toContainText('"type": "json_schema"');
  await expect(page.getByRole("dialog")).toContainText('"tool_call_id": "call-1"');
  await expect(page.getByRole("dialog")).not.toContainText(/"(tools|tool_choice|parallel_tool_calls)"/);
});

test("several answers to one question stand below each other, are counted together, and one is gone on from", async ({
  page,
}) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByText("More parameters").click();
  await page.getByLabel("Answers", { exact: true }).fill("3");
  await page.getByLabel("Token bias").fill("{");
  await expect(page.getByText("JSON with numbers of tokens and weights", { exact: false })).toBeVisible();
  await page.getByLabel(prompt).fill("one two");
  await expect(page.getByRole("button", { name: "Send" })).toBeDisabled();
  await page.getByLabel("Token bias").fill('{"7": -100}');
  await expect(page.getByText("2 set")).toBeVisible();
  await isAccessible(page);
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("one two");
  const others = page.getByTestId("other");
  await expect(others).toHaveCount(2);
  await expect(others.last()).toContainText("one two, number 3");
  await expect(page.locator("dl")).toContainText(/out\s*3\s*cost/);
  await others.last().getByRole("button", { name: "Go on from this one" }).click();
  await expect(page.getByTestId("answer")).toHaveText("one two, number 3");
  await isAccessible(page);
  await shot(page, "playground-answers", false);
  const sent = page.waitForRequest("**/v1/chat/completions");
  await page.getByLabel(prompt).fill("and now?");
  await page.getByLabel(prompt).press("Enter");
  expect((await sent).postDataJSON()).toMatchObject({
    n: 3,
    logit_bias: { 7: -100 },
    messages: [{}, { role: "assistant", content: "one two, number 3" }, {}],
  });
});

test("a picture goes to a model that sees, and to no other", async ({ page }) => {
  await enter(page, `/en/playground?model=${SEER}`);
  const chooser = page.locator("form input[type=file]");
  await chooser.setInputFiles({ name: "dot.bmp", mimeType: "image/bmp", buffer: Buffer.from("BM") });
  await expect(page.getByText("dot.bmp is no PNG, JPEG, WebP or GIF.")).toBeVisible();
  await chooser.setInputFiles({ name: "big.png", mimeType: "image/png", buffer: Buffer.alloc(5_000_000) });
  await expect(page.getByText("big.png is larger than 4 MB.")).toBeVisible();
  await chooser.setInputFiles({ name: "dot.png", mimeType: "image/png", buffer: Buffer.from(png, "base64") });
  await expect(page.getByRole("img", { name: "Picture 1" })).toBeVisible();
  await page.getByLabel("Model", { exact: true }).selectOption(CHAT);
  await expect(page.getByText("Not every chosen model reads pictures: they are not sent.")).toBeVisible();
  await page.getByLabel("Model", { exact: true }).selectOption(SEER);
  await page.getByLabel(prompt).fill("What is this?");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("[picture] What is this?");
  await expect(page.getByRole("article").getByRole("img", { name: "Picture 1" })).toBeVisible();
  await isAccessible(page);
});

test("an edited question keeps the old one with all that followed, also after a reload and the back button", async ({
  page,
}) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  for (const text of ["first", "second"]) {
    await page.getByLabel(prompt).fill(text);
    await page.getByLabel(prompt).press("Enter");
    await expect(page.getByTestId("answer").last()).toHaveText(text);
    await expect(page.getByRole("button", { name: "Receipt" }).last()).toBeVisible();
  }
  await page.getByRole("button", { name: "Edit" }).first().press("Enter");
  await page.getByLabel("Edit this message").fill("你好");
  await page
    .getByLabel("Edit this message")
    .dispatchEvent("keydown", { key: "Enter", keyCode: 229, isComposing: true, bubbles: true });
  await expect(page.getByLabel("Edit this message")).toBeVisible();
  await page.getByLabel("Edit this message").press("Enter");
  await expect(page.getByTestId("answer")).toHaveText(["你好"]);
  await expect(page.getByText("2 of 2")).toBeVisible();
  await page.getByRole("button", { name: "Previous version" }).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText(["first", "second"]);
  await page.getByRole("button", { name: "Ask again" }).last().click();
  await expect(page.getByText("2 of 2")).toBeVisible();
  await expect(page.getByText("1 of 2")).toBeVisible();
  await page.getByLabel(prompt).fill("half a thou");
  await page.getByRole("link", { name: "Models" }).click();
  await expect(page).toHaveURL(/\/models$/);
  await page.goBack();
  await expect(page.getByTestId("answer")).toHaveText(["first", "second"]);
  await expect(page.getByLabel(prompt)).toHaveValue("half a thou");
  await page.reload();
  await page.getByRole("button", { name: "Next version" }).first().click();
  await expect(page.getByTestId("answer")).toHaveText(["你好"]);
  await isAccessible(page);
});

test("presets are shared by tabs and files, a link carries what was said only when asked", async ({
  page,
  context,
}) => {
  await enter(page, `/en/playground?model=${ECHO}`);
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByLabel("Temperature").first().fill("0.3");
  await page.getByLabel(prompt).fill("a secret");
  await page.getByLabel(prompt).press("Enter");
  await expect(page.getByTestId("answer")).toHaveText("a secret");

  await page.getByRole("button", { name: "Presets" }).click();
  await page.getByLabel("Name of the preset").fill("brief");
  await page.getByLabel("Name of the preset").press("Enter");
  await expect(page.getByRole("button", { name: "Use brief" })).toBeVisible();
  await isAccessible(page);
  const another = await context.newPage();
  await another.goto("/en/playground");
  await another.getByRole("button", { name: "Presets" }).click();
  await another.getByLabel("Name of the preset").fill("other");
  await another.getByLabel("Name of the preset").press("Enter");
  await page.getByLabel("Name of the preset").fill("third"); // must not undo what the other tab kept
  await page.getByLabel("Name of the preset").press("Enter");
  await expect(page.getByRole("listitem")).toHaveCount(3);
  const evil = { evil: { models: [1, 2], system: { a: 1 }, parameters: { temperature: [], __proto__: 1 } }, no: "x" };
  const chooser = page.getByRole("dialog").locator("input[type=file]");
  await chooser.setInputFiles({ name: "p.json", mimeType: "", buffer: Buffer.from(JSON.stringify(evil)) });
  await expect(page.getByText("1 preset read.")).toBeVisible();
  await chooser.setInputFiles({ name: "no.json", mimeType: "", buffer: Buffer.from("[1, 2]") });
  await expect(page.getByText("no.json holds no presets.")).toBeVisible();
  await another.reload();
  await another.getByRole("button", { name: "Presets" }).click();
  await another.getByRole("button", { name: "Use brief" }).click();
  await expect(another.getByLabel("System prompt")).toHaveValue("Be brief.");
  await page.getByRole("button", { name: "Close" }).click();

  await page.getByRole("button", { name: "Share" }).click();
  const link = page.getByTestId("link");
  const bare = (await link.textContent()) ?? "";
  await page.getByRole("checkbox").check();
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("can read everything that was said here");
  await isAccessible(page);
  const whole = (await link.textContent()) ?? "";
  const readable = (address: string) => Buffer.from(address.split("#setup=")[1] ?? "", "base64url").toString();
  expect(readable(bare)).not.toContain("a secret");
  expect(readable(whole)).toContain("a secret");
  expect(readable(whole)).not.toContain("xpu_");

  const asked: string[] = [];
  another.on("request", (request) => asked.push(request.url()));
  await another.getByLabel(prompt).fill("mine");
  await another.goto("about:blank");
  await another.goto(whole);
  // Somebody's own text is not replaced without asking.
  await expect(another.getByText("which takes the place of yours", { exact: false })).toBeVisible();
  await expect(another.getByLabel(prompt)).toHaveValue("mine");
  await another.getByRole("button", { name: "Use them" }).click();
  await expect(another.getByTestId("answer")).toHaveText("a secret");
  await expect(another.getByLabel("Temperature").first()).toHaveValue("0.3");
  expect(another.url()).not.toContain("#");
  expect(asked.filter((url) => url.includes("setup="))).toEqual([]);
});
