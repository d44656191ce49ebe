import type { Parameters } from "./parameters";

/** Everything that is asked beside the question itself. */
export type Asking = { system: string; parameters: Parameters; tools: string; format: Format };

export type Format = { kind: (typeof formatKinds)[number]; schema: string };
export const formatKinds = ["text", "json_object", "json_schema"] as const;

export const plain: Format = { kind: "text", schema: "" };

export type Tool = { type: "function"; function: { name: string } };

/** The functions that a model may call. An empty text is none; null for what cannot be sent. */
export function toolsOf(text: string): Tool[] | null {
  if (text.trim() === "") return [];
  const tools = jsonOf(text);
  const isTool = (one: unknown) =>
    isObject(one) &&
    one.type === "function" &&
    isObject(one.function) &&
    typeof one.function.name === "string" &&
    /^[\w-]{1,64}$/.test(one.function.name);
  return Array.isArray(tools) && tools.length > 0 && tools.every(isTool) ? (tools as Tool[]) : null;
}

export const toolChoices = ["auto", "none", "required"] as const;
export const FUNCTION = "function "; // before the name of the one function that is to be called

/** OpenAI's `tool_choice`. Undefined where nothing is chosen, or what is chosen is no tool any more. */
export function toolChoiceOf(choice: string, tools: Tool[]): string | object | undefined {
  if (tools.length === 0) return undefined;
  if (!choice.startsWith(FUNCTION)) return toolChoices.find((one) => one === choice);
  const name = choice.slice(FUNCTION.length);
  return tools.some((tool) => tool.function.name === name) ? { type: "function", function: { name } } : undefined;
}

/** OpenAI's `response_format`. Undefined for plain text, null for a schema that cannot be sent. */
export function responseFormatOf(format: Format): object | null | undefined {
  if (format.kind === "text") return undefined;
  if (format.kind === "json_object") return { type: "json_object" };
  const schema = jsonOf(format.schema);
  return isObject(schema) ? { type: "json_schema", json_schema: { name: "answer", schema } } : null;
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const toolExample = `[
  {
    "type": "function",
    "function": {
      "name": "weather",
      "description": "The weather of a city today",
      "parameters": {
        "type": "object",
        "properties": { "city": { "type": "string" } },
        "required": ["city"]
      }
    }
  }
]`;

export const schemaExample = `{
  "type": "object",
  "properties": {
    "name": { "type": "string" },
    "amount": { "type": "number" }
  },
  "required": ["name", "amount"]
}`;
