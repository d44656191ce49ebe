import { expect, test } from "@playwright/test";
import { reasonOf } from "../../src/catalog/reasons";
import { sample } from "../../src/code/samples";
import { plain, toolChoiceOf, toolExample, toolsOf } from "../../src/playground/asking";
import { newTurn, preferring } from "../../src/playground/conversation";
import { bodyOf, bounds, isGood, sentOf, stopsOf, unset } from "../../src/playground/parameters";
import { setupFrom } from "../../src/playground/setup";

const every = {
  temperature: "0.3",
  top_p: "0.9",
  top_k: "40",
  min_p: "0.05",
  max_tokens: "64",
  stop: "END\\nOF\nSTOP",
  n: "2",
  seed: "7",
  presence_penalty: "0.5",
  frequency_penalty: "-0.5",
  repetition_penalty: "1.1",
  top_logprobs: "0",
  logit_bias: '{"50256": -100}',
  tool_choice: "function weather",
  parallel_tool_calls: "false",
};
const asking = { system: "", parameters: every, tools: toolExample, format: plain };

test("every parameter is sent as the API has it, and nothing that is not set", () => {
  expect(Object.keys(every)).toEqual(Object.keys(unset));
  expect(sentOf(asking)).toEqual({
    temperature: 0.3,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.05,
    max_tokens: 64,
    stop: ["END\nOF", "STOP"],
    n: 2,
    seed: 7,
    presence_penalty: 0.5,
    frequency_penalty: -0.5,
    repetition_penalty: 1.1,
    logprobs: true,
    top_logprobs: 0,
    logit_bias: { 50256: -100 },
    tools: JSON.parse(toolExample),
    tool_choice: { type: "function", function: { name: "weather" } },
    parallel_tool_calls: false,
  });
  expect(sentOf({ parameters: unset, tools: "" })).toEqual({});
  // How tools are used says nothing where there are none.
  expect(sentOf({ parameters: { ...unset, tool_choice: "required", parallel_tool_calls: "true" }, tools: "" })).toEqual(
    {},
  );
});

test("what cannot be sent is told from what can", () => {
  for (const [name, text] of [
    ["top_k", "0.5"],
    ["min_p", "1.1"],
    ["repetition_penalty", "0"],
    ["n", "9"],
    ["stop", "a\nb\nc\nd\ne"],
    ["logit_bias", '{"word": 1}'],
    ["logit_bias", '{"1": 101}'],
    ["logit_bias", "[1]"],
  ] as const)
    expect(isGood(name, text), `${name} ${text}`).toBe(false);
  for (const name of Object.keys(bounds) as (keyof typeof bounds)[])
    expect([bounds[name].least, bounds[name].most].every((one) => isGood(name, String(one)))).toBe(true);
  expect(stopsOf("one\n\n")).toEqual(["one"]);
  const tools = toolsOf(toolExample) ?? [];
  expect(["auto", "none", "required", "", "function gone", "x"].map((one) => toolChoiceOf(one, tools))).toEqual([
    ...["auto", "none", "required"],
    ...[undefined, undefined, undefined],
  ]);
});

test("presets and links carry every parameter", () => {
  const setup = { models: ["m"], isBlind: false, ...asking };
  expect(setupFrom(JSON.parse(JSON.stringify(setup)))).toEqual(setup);
});

test("the code for Python gives to the engine what its client has no name for", () => {
  const body = bodyOf("m", asking, [newTurn("Hello", "m", "waiting")]);
  const code = sample("python", "https://x", body);
  expect(code).toContain('    extra_body={"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1},');
  expect(code).not.toMatch(/^ {4}(top_k|min_p|repetition_penalty)=/m);
  expect(code).toContain("    parallel_tool_calls=False,");
  expect(sample("curl", "https://x", body)).toContain('"top_k": 40');
});

test("another answer can take the place of the first, which is kept", () => {
  const other = { text: "second", thought: "hm", calls: [] };
  const turn = { ...newTurn("q", "m", "done"), text: "first", others: [other] };
  const swapped = preferring(turn, 0);
  expect([swapped.text, swapped.thought, swapped.others.map((one) => one.text)]).toEqual(["second", "hm", ["first"]]);
  expect(preferring(turn, 1)).toBe(turn);
});

test("why a model does not answer is known by the gateway's sentence, or shown as it stands", () => {
  expect(reasonOf("Its image cannot be pulled.")).toEqual({ name: "image" });
  const since = "2026-11-02T09:30:00Z";
  expect(reasonOf("Its cluster has not been heard of since 2026-11-02 09:30 UTC.")).toEqual({ name: "away", since });
  expect(reasonOf("Something new.")).toBeNull();
});
