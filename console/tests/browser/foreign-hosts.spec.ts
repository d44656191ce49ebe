import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "./house";

test.use({
  allowed: [/^elsewhere: http:\/\/127\.0\.0\.2:\d+\/|^console: policy: (script-src-elem|connect-src) |violates/],
});

test("no other host is found, and nothing runs or reaches out that a page did not come with", async ({
  page,
  context,
}) => {
  // Somebody who would answer.
  const heard: string[] = [];
  const server = createServer((request, response) => {
    heard.push(request.url ?? "");
    response.end("here");
  });
  await new Promise<void>((go) => server.listen(0, "127.0.0.2", go));
  const elsewhere = `http://127.0.0.2:${(server.address() as AddressInfo).port}`;
  expect(await (await fetch(elsewhere)).text()).toBe("here");

  const policy = (await page.goto("/en/models"))?.headers()["content-security-policy"] ?? "";
  expect(policy).toContain("script-src 'self' 'sha256-");
  const ran = await page.evaluate(async (url) => {
    const script = document.createElement("script");
    script.textContent = "window.broken = 1";
    document.head.append(script);
    const reached = await fetch(url).then(
      () => true,
      () => false,
    );
    return { reached, broken: "broken" in window };
  }, elsewhere);
  expect(ran).toEqual({ reached: false, broken: false });
  const another = await context.newPage();
  await expect(another.goto(`${elsewhere}/away`)).rejects.toThrow(/ERR_NAME_NOT_RESOLVED/);
  expect(heard).toEqual(["/"]);
  server.close();
});
