import { type Asking, formatKinds, isObject, jsonOf, plain } from "./asking";
import { emptyColumn } from "./columns";
import { newTurn } from "./conversation";
import { type Name, type Parameters, unset } from "./parameters";
import type { Session } from "./session";

/** What a preset keeps and a link carries: how one asks and whom, never what was said. */
export type Setup = Asking & { models: string[]; isBlind: boolean };
export type Said = { draft: string; columns: { prompt: string; text: string }[][] };
export type Shared = { setup: Setup; said: Said | null };

const MOST_TEXT = 100_000;
const MOST_PARAMETER = 4_000;
const MOST_MODELS = 4;
export const MOST_LINK = 60_000; // characters; programs that pass links on cut longer ones

export const setupOf = (session: Session, models: string[]): Setup => ({
  models,
  isBlind: session.isBlind,
  system: session.system,
  parameters: session.parameters,
  tools: session.tools,
  format: session.format,
});

/** Written by nobody that we know: a link, a file. Null for what is no setup; what is strange in one is left out. */
export function setupFrom(value: unknown): Setup | null {
  if (!isObject(value) || !Array.isArray(value.models)) return null;
  const models = value.models.slice(0, MOST_MODELS).map((one) => text(one, 256));
  const given = isObject(value.parameters) ? value.parameters : {};
  const names = Object.keys(unset) as Name[];
  const format = isObject(value.format) ? value.format : {};
  const kind = formatKinds.find((one) => one === format.kind) ?? plain.kind;
  return {
    models: models.length ? models : [""],
    isBlind: value.isBlind === true && models.length > 1,
    system: text(value.system),
    parameters: Object.fromEntries(names.map((name) => [name, text(given[name], MOST_PARAMETER)])) as Parameters,
    tools: text(value.tools),
    format: { kind, schema: text(format.schema) },
  };
}

export function sharedFrom(value: unknown): Shared | null {
  const setup = isObject(value) ? setupFrom(value.setup) : null;
  if (setup === null || !isObject(value)) return null;
  if (!isObject(value.said) || !Array.isArray(value.said.columns)) return { setup, said: null };
  const columns = value.said.columns.slice(0, MOST_MODELS).map((turns) =>
    (Array.isArray(turns) ? turns : [])
      .filter(isObject)
      .slice(0, 200)
      .map((turn) => ({ prompt: text(turn.prompt), text: text(turn.text) })),
  );
  return { setup, said: { draft: text(value.said.draft), columns } };
}

export const saidIn = (session: Session): Said => ({
  draft: session.draft,
  columns: session.columns.map((column) => column.turns.map(({ prompt, text }) => ({ prompt, text }))),
});

/** A session that asks like this. Without content of its own, what stands in the session stays. */
export function setUp(session: Session, { setup, said }: Shared): Session {
  const { models, ...asking } = setup;
  const columns = models.map((model, place) => {
    const old = session.columns[place] ?? emptyColumn();
    if (said === null) return { ...old, model };
    const turns = (said.columns[place] ?? []).map((turn) => ({
      ...newTurn(turn.prompt, model, "done"),
      text: turn.text,
    }));
    return { ...emptyColumn(model), turns };
  });
  return { ...session, ...asking, columns, round: null, reveal: null, draft: said?.draft || session.draft };
}

/** In the fragment, which no browser sends to a server. */
export function linkOf(shared: Shared): string {
  const bytes = new TextEncoder().encode(JSON.stringify(shared));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const packed = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `${location.origin}${location.pathname}#setup=${packed}`;
}

export function sharedIn(fragment: string): Shared | null {
  const packed = /^#setup=([\w-]+)$/.exec(fragment)?.[1];
  if (!packed || packed.length > 4 * MOST_LINK) return null;
  try {
    const binary = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    return sharedFrom(jsonOf(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}

const PRESETS = "playground-presets";
const MOST_PRESETS = 100;
export type Presets = Record<string, Setup>;

/** By name. Kept by this browser, so read anew each time: another tab may have written. */
export function presets(): Presets {
  return presetsFrom(jsonOf(localStorage.getItem(PRESETS) ?? ""));
}

export function presetsFrom(value: unknown): Presets {
  if (!isObject(value)) return {};
  const good = Object.entries(value).flatMap(([name, one]) => {
    const setup = setupFrom(one);
    return setup && name.trim() ? [[name.slice(0, 80), setup] as const] : [];
  });
  return Object.fromEntries(good.slice(0, MOST_PRESETS));
}

/** False when the browser has no room for them. */
export function keepPresets(all: Presets): boolean {
  try {
    localStorage.setItem(PRESETS, JSON.stringify(all));
    return true;
  } catch {
    return false;
  }
}

const text = (value: unknown, most = MOST_TEXT): string => (typeof value === "string" ? value.slice(0, most) : "");
