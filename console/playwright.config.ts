import { defineConfig } from "@playwright/test";

const isFull = process.env.CONSOLE_MATRIX === "full";

// Started by `tests/console`, which brings up what the pages talk to. Chromium is the system's, never a download.
export default defineConfig({
  testDir: "tests",
  outputDir: `${process.env.CONSOLE_RESULTS ?? "test-results"}/failures`, // emptied at each start; screenshots are beside it
  workers: 1,
  timeout: isFull ? 180_000 : 60_000, // the long stories, on a machine that does other things, too
  expect: { timeout: 15_000 },
  reporter: "list",
  forbidOnly: true,
  retries: 0, // what fails once in a while is broken
  use: {
    baseURL: process.env.CONSOLE_URL,
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    launchOptions: {
      executablePath: process.env.CONSOLE_CHROMIUM ?? "/usr/bin/chromium",
      args: [
        ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
        // No other host is there: not by name, and not by address.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      ],
    },
  },
  projects: [
    { name: "plain", testMatch: "plain/*.spec.ts" },
    { name: "pictures", testMatch: "pictures/*.spec.ts" },
    { name: "engine", testMatch: "engine/*.spec.ts" },
    {
      name: "browser",
      testMatch: isFull ? "browser/**/*.spec.ts" : "browser/*.spec.ts",
    },
  ],
});
