import { expect, test } from "@playwright/test";
import { sample } from "../../src/code/samples";
import { plain } from "../../src/playground/asking";
import { blocksOf } from "../../src/playground/blocks";
import { bodyOf, isGood, unset } from "../../src/playground/parameters";

test("markdown is cut at blank lines, never within a fence", () => {
  expect(blocksOf("a\nb\n\n```\nx\n\ny\n```\n\n- c")).toEqual(["a\nb", "```\nx\n\ny\n```", "- c"]);
  expect(blocksOf("````\n```\n\n````\n\nz")).toEqual(["````\n```\n\n````", "z"]);
  expect(blocksOf("~~~\nopen\n\nstill")).toEqual(["~~~\nopen\n\nstill"]);
});

test("only what is set and good is sent", () => {
  const set = { ...unset, temperature: "0.3", seed: "1.5", stop: "END", max_tokens: "64" };
  expect(bodyOf("m", { system: " ", parameters: set, tools: "", format: plain }, [])).toEqual({
    model: "m",
    messages: [],
    temperature: 0.3,
    stop: "END",
    max_tokens: 64,
  });
  expect(isGood("seed", "1.5")).toBe(false);
  expect(isGood("temperature", "2.1")).toBe(false);
  expect(isGood("temperature", "warm")).toBe(false);
});

test("code holds exactly the body, whatever is in it", () => {
  const content = `it's "quoted"\n\\ and 'more'`;
  const body = { model: "m", messages: [{ role: "user", content }], stream: true };
  const curl = sample("curl", "https://x", body);
  const quoted = curl.slice(curl.indexOf("-d '") + 4, -1).replaceAll("'\\''", "'");
  expect(JSON.parse(quoted)).toEqual(body);
  expect(sample("python", "https://x", body)).toContain("stream=True");
  for (const language of ["curl", "python", "javascript"] as const) {
    expect(sample(language, "https://x", body)).toContain("XPULINK_API_KEY");
  }
});
