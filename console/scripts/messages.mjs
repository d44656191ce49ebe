// Every language says everything, with the same places for values, and nothing that nobody asks for.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const flat = (value, path = "") =>
  typeof value === "string"
    ? [[path, value]]
    : Object.entries(value).flatMap(([name, one]) => flat(one, path ? `${path}.${name}` : name));
const read = (locale) => new Map(flat(JSON.parse(readFileSync(`messages/${locale}.json`, "utf8"))));
const places = (text) =>
  [...text.matchAll(/\{(\w+)(?=[,}])/g)]
    .map((match) => match[1])
    .sort()
    .join();

const source = readdirSync("src", { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && entry.name !== "schema.d.ts")
  .map((entry) => readFileSync(join(entry.parentPath ?? entry.path, entry.name), "utf8"))
  .join("\n");
// A key is used when its last part stands in the code, or the one before it in a template such as `tasks.${task}`.
const isUsed = (key) => {
  const parts = key.split(".").slice(1);
  const last = parts.at(-1);
  if (source.includes(`"${parts.join(".")}"`)) return true;
  return parts.length > 1
    ? source.includes(`\`${parts[0]}.\${`) || source.includes(`"${parts.at(-2)}.${last}"`)
    : source.includes(`"${last}"`);
};

const english = read("en");
const faults = [...english.keys()]
  .filter((key) => !isUsed(key) && !/^(Legal)\./.test(key) && !/^Catalog\.(base|fast)$/.test(key))
  .map((key) => `en: nobody asks for ${key}`);
for (const locale of ["de", "zh"]) {
  const other = read(locale);
  for (const [key, text] of english) {
    const said = other.get(key);
    if (said === undefined) faults.push(`${locale}: ${key} is missing`);
    else if (places(text) !== places(said)) faults.push(`${locale}: ${key} has other places: ${places(said)}`);
  }
  for (const key of other.keys()) if (!english.has(key)) faults.push(`${locale}: ${key} is not in English`);
}

// No English in German or Chinese, but names, and the words that people use there as they are.
const names = new Set(
  "Anthropic Batch CSV Chat Cookie Esc JavaScript Messages OpenAI Prompt Python Shift Token Top WebP input prompt question text token".split(
    " ",
  ),
);
const functionWords =
  /\b(the|of|and|is|are|not|with|your|you|to|for|this|that|from|it|be|by|or|what|how|no|yes|at|on|choose|send|model|answer)\b/i;
for (const locale of ["de", "zh"]) {
  for (const [key, text] of read(locale)) {
    const words = text.replaceAll(/\{\w+(, plural,)?|\b(other|one|=0) \{|\}/g, " "); // without places and branches
    const foreign = [...words.matchAll(/[A-Za-z]{3,}/g)].map(([word]) => word);
    const strange =
      locale === "de"
        ? functionWords.exec(words)?.[0]
        : foreign.find((word) => word !== word.toUpperCase() && !names.has(word));
    if (strange) faults.push(`${locale}: ${key} says "${strange}"`);
    else if (text === english.get(key) && foreign.length > 1 && !foreign.every((word) => names.has(word)))
      faults.push(`${locale}: ${key} is English: ${text}`);
  }
}

if (faults.length) {
  console.error(faults.join("\n"));
  process.exit(1);
}
