/** The same request in three languages. The key comes from the environment, so that none stands in anybody's code. */

export type Language = "curl" | "python" | "javascript";
export const languages: readonly Language[] = ["curl", "python", "javascript"];
export const languageNames: Record<Language, string> = { curl: "curl", python: "Python", javascript: "JavaScript" };

// What vLLM takes and the client library for Python has no name for.
const engines = ["top_k", "min_p", "repetition_penalty"];

export type Body = { model: string; [field: string]: unknown };

/** `body` is what is sent; the path follows from it: `input` is for embeddings, `prompt` for completions. */
export function sample(language: Language, api: string, body: Body): string {
  const kind = "input" in body ? "embeddings" : "messages" in body ? "chat.completions" : "completions";
  const path = kind.replace(".", "/");
  if (language === "curl") {
    // Within single quotes the shell takes everything but a single quote.
    const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
    return `curl ${api}/v1/${path} \\
  -H "Authorization: Bearer $XPULINK_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${json}'`;
  }
  if (language === "python") {
    const streams = body.stream === true;
    const all = Object.entries(body);
    const extra = Object.fromEntries(all.filter(([name]) => engines.includes(name)));
    const named = all.filter(([name]) => !engines.includes(name));
    if (Object.keys(extra).length) named.push(["extra_body", extra]);
    const fields = named.map(([name, value]) => `    ${name}=${python(value, 1)},\n`);
    const rest = streams
      ? 'for chunk in stream:\n    for choice in chunk.choices:\n        print(choice.delta.content or "", end="")'
      : kind === "embeddings"
        ? "print(answer.data[0].embedding)"
        : `print(answer.choices[0].${kind === "completions" ? "text" : "message.content"})`;
    return `import os
from openai import OpenAI

client = OpenAI(base_url="${api}/v1", api_key=os.environ["XPULINK_API_KEY"])
${streams ? "stream" : "answer"} = client.${kind}.create(
${fields.join("")})
${rest}`;
  }
  const streams = body.stream === true;
  const json = JSON.stringify(body, null, 2).replace(/^(\s*)"([A-Za-z_]\w*)":/gm, "$1$2:");
  const rest = streams
    ? 'for await (const chunk of stream) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}'
    : kind === "embeddings"
      ? "console.log(answer.data[0].embedding);"
      : `console.log(answer.choices[0].${kind === "completions" ? "text" : "message.content"});`;
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${api}/v1", apiKey: process.env.XPULINK_API_KEY });
const ${streams ? "stream" : "answer"} = await client.${kind}.create(${json});
${rest}`;
}

function python(value: unknown, depth: number): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") return String(value);
  const inner = "    ".repeat(depth + 1);
  const outer = "    ".repeat(depth);
  if (Array.isArray(value)) {
    return `[\n${value.map((one) => `${inner}${python(one, depth + 1)},\n`).join("")}${outer}]`;
  }
  const entries = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, depth + 1)}`);
  return `{${entries.join(", ")}}`;
}
