import { isObject, jsonOf } from "../asking";

/** One prompt of a batch test, and what a good answer would be, where somebody wrote that down. */
export type PromptRow = { prompt: string; expected: string | null };

/** `line` is where the fault is, from 1; 0 for the whole. */
export type PromptFault = { kind: "empty" | "noColumn" | "badLine" | "noPrompt" | "manyTurns"; line: number };
export type Prompts = { rows: PromptRow[]; faults: PromptFault[] };

export const MOST_ROWS = 500; // of a test; more than that is a batch job
export const MOST_MEGABYTES = 10;
export const fileEndings = [".csv", ".tsv", ".jsonl", ".ndjson", ".txt"];

const PROMPT_NAMES = ["prompt", "input", "question", "text"];

/** What may be read at all, said before it is read. */
export function fileFault(name: string, size: number): "type" | "size" | null {
  if (!fileEndings.some((ending) => name.toLowerCase().endsWith(ending))) return "type";
  return size > MOST_MEGABYTES * 1_000_000 ? "size" : null;
}

/** JSONL when lines are objects, CSV when the first line names a prompt column, otherwise each line is a prompt. */
export function promptsOf(source: string, name = ""): Prompts {
  const text = source.replace(/^\uFEFF/, "");
  if (text.trim() === "") return { rows: [], faults: [{ kind: "empty", line: 0 }] };
  if (/\.(jsonl|ndjson)$/i.test(name) || text.trimStart().startsWith("{")) return fromJsonl(text);
  const table = tableOf(text);
  const header = table[0]?.map((cell) => cell.trim().toLowerCase()) ?? [];
  const isTable = header.length > 1 || PROMPT_NAMES.includes(header[0] ?? "");
  if (/\.(csv|tsv)$/i.test(name) || (isTable && header.some((cell) => PROMPT_NAMES.includes(cell)))) {
    return fromTable(table, header);
  }
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  return { rows: lines.map((prompt) => ({ prompt, expected: null })), faults: [] };
}

function fromTable(table: string[][], header: string[]): Prompts {
  const at = header.findIndex((cell) => PROMPT_NAMES.includes(cell));
  if (at < 0) return { rows: [], faults: [{ kind: "noColumn", line: 1 }] };
  const wished = header.indexOf("expected");
  const body = table.slice(1).filter((cells) => cells.some((cell) => cell.trim() !== ""));
  const rows = body.map((cells) => ({ prompt: cells[at] ?? "", expected: (wished >= 0 && cells[wished]) || null }));
  const faults = rows.flatMap((row, place) =>
    row.prompt.trim() ? [] : [{ kind: "noPrompt" as const, line: place + 2 }],
  );
  return { rows: rows.filter((row) => row.prompt.trim()), faults };
}

function fromJsonl(text: string): Prompts {
  const rows: PromptRow[] = [];
  const faults: PromptFault[] = [];
  for (const [place, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    const value = jsonOf(line);
    const read = isObject(value) ? rowOf(value) : ("badLine" as const);
    if (typeof read === "string") faults.push({ kind: read, line: place + 1 });
    else rows.push(read);
  }
  return { rows, faults };
}

function rowOf(value: Record<string, unknown>): PromptRow | "noPrompt" | "manyTurns" {
  const expected = typeof value.expected === "string" ? value.expected : null;
  const named = PROMPT_NAMES.map((name) => value[name]).find((one) => typeof one === "string" && one.trim() !== "");
  if (typeof named === "string") return { prompt: named, expected };
  const body = isObject(value.body) ? value.body : value; // a line of a batch file
  const said = (Array.isArray(body.messages) ? body.messages : [])
    .filter(isObject)
    .filter((one) => one.role !== "system");
  if (said.length > 1) return "manyTurns";
  const content = said[0]?.content;
  return typeof content === "string" && content.trim() !== "" ? { prompt: content, expected } : "noPrompt";
}

/** CSV as RFC 4180 has it, with whichever of comma, semicolon and tab the first line uses. */
export function tableOf(text: string): string[][] {
  const first = text.split("\n", 1)[0] ?? "";
  const separator = [",", ";", "\t"].reduce((a, b) => (first.split(b).length > first.split(a).length ? b : a));
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else isQuoted = false;
    } else if (character === '"' && cell === "") isQuoted = true;
    else if (character === separator) {
      row.push(cell);
      cell = "";
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[at + 1] === "\n") at += 1;
      rows.push([...row, cell]);
      row = [];
      cell = "";
    } else cell += character;
  }
  if (cell !== "" || row.length) rows.push([...row, cell]);
  return rows;
}
