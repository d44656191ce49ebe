import { expect, test } from "@playwright/test";
import { plain, responseFormatOf, toolExample, toolsOf } from "../../src/playground/asking";
import { differences } from "../../src/playground/batch/diff";
import { mostCost } from "../../src/playground/batch/estimate";
import { csv } from "../../src/playground/batch/exports";
import { fileFault, promptsOf, tableOf } from "../../src/playground/batch/prompts";
import { slim } from "../../src/playground/batch/test";
import { askedAnew, emptyColumn, switched, versionAt, withTurn } from "../../src/playground/columns";
import { newTurn, revived } from "../../src/playground/conversation";
import { bodyOf, unset } from "../../src/playground/parameters";
import { presetsFrom, setupFrom, sharedFrom } from "../../src/playground/setup";

const asking = { system: "", parameters: unset, tools: "", format: plain };
const said = (prompt: string, born: number, text = "yes") => ({ ...newTurn(prompt, "m", "done"), born, text });

test("versions of a place keep their own versions of what followed", () => {
  let column = withTurn(withTurn(emptyColumn("m"), said("a", 1)), said("b", 2));
  column = askedAnew(column, 1, said("b2", 3));
  column = askedAnew(column, 0, said("a2", 4));
  const prompts = () => column.turns.map((turn) => turn.prompt);
  expect(prompts()).toEqual(["a2"]);
  expect(versionAt(column, 0)).toEqual({ number: 2, of: 2 });
  column = switched(column, 0, -1);
  expect(prompts()).toEqual(["a", "b2"]);
  expect(versionAt(column, 1)).toEqual({ number: 2, of: 2 });
  column = switched(column, 1, -1);
  expect(prompts()).toEqual(["a", "b"]);
  column = switched(switched(column, 0, 1), 0, -1);
  expect(prompts()).toEqual(["a", "b"]);
  expect(versionAt(column, 1)).toEqual({ number: 1, of: 2 });
  expect(switched(column, 0, -1).turns.map((turn) => turn.prompt)).toEqual(["a", "b"]);
});

test("calls, their results and pictures are sent as OpenAI writes them, and what has no answer is left out", () => {
  const call = { ...said("q", 1, ""), calls: [{ id: "c1", name: "f", arguments: "{}" }], images: ["data:x"] };
  const result = { ...said("", 2), results: [{ id: "c1", content: "42" }] };
  const lost = said("lost", 3, "");
  expect(bodyOf("m", asking, [call, result, lost, said("last", 4, "")]).messages).toEqual([
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: "data:x" } },
        { type: "text", text: "q" },
      ],
    },
    {
      role: "assistant",
      content: "",
      tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" } }],
    },
    { role: "tool", tool_call_id: "c1", content: "42" },
    { role: "assistant", content: "yes" },
    { role: "user", content: "last" },
  ]);
  expect(toolsOf(toolExample)).toHaveLength(1);
  for (const bad of ["{", "[]", "[1]", '[{"type":"function","function":{"name":"a b"}}]'])
    expect(toolsOf(bad)).toBeNull();
  expect(responseFormatOf({ kind: "json_schema", schema: "[]" })).toBeNull();
});

test("prompts are read from lines, CSV and JSONL, and what cannot be is named by its line", () => {
  expect(promptsOf("one\r\n\r\ntwo, with comma\n").rows.map((row) => row.prompt)).toEqual(["one", "two, with comma"]);
  expect(promptsOf('\uFEFFid;Prompt;expected\n1;"a;""b""\nc";d\n2;;\n')).toEqual({
    rows: [{ prompt: 'a;"b"\nc', expected: "d" }],
    faults: [{ kind: "noPrompt", line: 3 }],
  });
  expect(promptsOf("a,b\n1,2\n", "x.csv").faults).toEqual([{ kind: "noColumn", line: 1 }]);
  const turn = (role: string, content: string) => ({ role, content });
  const lines = [
    { body: { messages: [turn("system", "s"), turn("user", "hello")] } },
    { messages: [turn("user", "a"), turn("assistant", "b")] },
    { nothing: 1 },
  ];
  expect(promptsOf(`${lines.map((line) => JSON.stringify(line)).join("\n")}\n[]`)).toEqual({
    rows: [{ prompt: "hello", expected: null }],
    faults: [
      { kind: "manyTurns", line: 2 },
      { kind: "noPrompt", line: 3 },
      { kind: "badLine", line: 4 },
    ],
  });
  expect(tableOf("a\tb\r\n1\t2")).toEqual([
    ["a", "b"],
    ["1", "2"],
  ]);
  expect(fileFault("p.CSV", 9_000_000)).toBeNull();
  expect(fileFault("p.csv", 200_000_000)).toBe("size");
  expect(fileFault("p.exe", 1)).toBe("type");
});

test("what differs is found word by word, in any script", () => {
  expect(differences("the red fox", "the blue fox")).toEqual([
    { kind: "same", text: "the " },
    { kind: "left", text: "red" },
    { kind: "right", text: "blue" },
    { kind: "same", text: " fox" },
  ]);
  expect(differences("", "x")).toEqual([{ kind: "right", text: "x" }]);
  expect(differences("a b".repeat(20_000), "c d".repeat(20_000))).toHaveLength(2);
  for (const [left, right] of [
    ["你好，世界", "你好世界"],
    ["a  b\nc", "a b c"],
  ] as const) {
    const parts = differences(left, right);
    expect(
      parts
        .filter((part) => part.kind !== "right")
        .map((part) => part.text)
        .join(""),
    ).toBe(left);
    expect(
      parts
        .filter((part) => part.kind !== "left")
        .map((part) => part.text)
        .join(""),
    ).toBe(right);
  }
});

test("a file for spreadsheets runs no formula and loses no cell", () => {
  const text = csv([{ a: "=1+1", b: 'x, "y"\nz', c: null, d: -1 }]);
  expect(text).toBe('\uFEFFa,b,c,d\r\n\'=1+1,"x, ""y""\nz",,-1\r\n');
  expect(tableOf(text.slice(1))[1]).toEqual(["'=1+1", 'x, "y"\nz', "", "-1"]);
});

test("the most that a run can cost is exact, and unknown when a price is", () => {
  const body = { model: "m", messages: [], max_tokens: 100 };
  expect(mostCost([body, body], { prompt: "1", completion: "2.5" }, "")).toBe("0.001016");
  expect(mostCost([body], { prompt: "1", completion: "2" }, "batch_")).toBeUndefined();
});

test("what a link or a file brings is taken for what it should be, or not at all", () => {
  for (const bad of [null, 1, [], {}, { models: "x" }]) expect(setupFrom(bad)).toBeNull();
  const hostile = {
    models: ["a", 7, "c", "d", "e"],
    isBlind: "yes",
    system: 1,
    parameters: { seed: "7", x: "y" },
    format: 3,
  };
  expect(setupFrom(hostile)).toEqual({
    models: ["a", "", "c", "d"],
    isBlind: false,
    system: "",
    parameters: { ...unset, seed: "7" },
    tools: "",
    format: plain,
  });
  expect(sharedFrom({ setup: hostile, said: { columns: [[{ prompt: "p", text: 1 }, 2], 3] } })?.said).toEqual({
    draft: "",
    columns: [[{ prompt: "p", text: "" }], []],
  });
  expect(presetsFrom({ good: hostile, bad: 1, " ": hostile })).toHaveProperty("good");
});

test("two thousand answers of the usual length have room in the tab's store", () => {
  const answer = {
    ...newTurn("a prompt of some length ".repeat(20), "m", "done"),
    text: "word ".repeat(205), // 256 tokens
    requestId: `req_${"0".repeat(32)}`,
    model: "smollm2-135m-instruct",
    usage: { prompt: 100, cached: 0, completion: 256 },
    isFinal: true,
    ttftMs: 123.45678901234,
    tokensPerSecond: 61.23456789012,
    finish: "length",
    endedAt: 1_795_000_000_000,
  };
  const cells = Object.fromEntries(
    Array.from({ length: 2_000 }, (_, at) => [`${at} smollm2-135m-instruct`, slim(answer)]),
  );
  expect(JSON.stringify(cells).length).toBeLessThan(2_900_000);
  expect(revived(slim(answer))).toMatchObject({ text: answer.text, state: "done", settled: null, usage: answer.usage });
});
