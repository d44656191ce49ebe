// No page says a word that stands in its code: text, and what is read out or shown on the pointer, comes from
// `messages/`. A literal without a letter (a dash, a unit's sign) is nobody's language, and what is marked as code or
// as English is what it is.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import ts from "typescript";

// What a reader sees or hears of an element besides its text.
const spoken = /^(aria-(label|description|placeholder|roledescription|valuetext)|alt|label|placeholder|summary|title)$/;
// The same in every language: names, units, codes, shapes of keys.
const names = new Set("CNY CSV EUR JSON JSONL JavaScript Python TTFT XPULINK curl ms openapi.json xpu_…".split(" "));

/** The literals of one file that a reader would meet, as `line: text`. */
export function literals(source, name = "page.tsx") {
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX);
  const found = [];

  function say(node, text) {
    const words = text.split(/[\s·,()]+/).filter((word) => /^(?!\/).*\p{L}{2}/u.test(word) && !names.has(word));
    if (words.length === 0) return;
    const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
    found.push(`${line + 1}: ${text.trim()}`);
  }

  /** What an expression may show: through conditions, fallbacks, sums of texts and templates. */
  function shown(node) {
    if (ts.isStringLiteralLike(node)) say(node, node.text);
    else if (ts.isTemplateExpression(node)) {
      say(node, [node.head.text, ...node.templateSpans.map((span) => span.literal.text)].join(" "));
      for (const span of node.templateSpans) shown(span.expression);
    } else if (ts.isConditionalExpression(node)) {
      shown(node.whenTrue);
      shown(node.whenFalse);
    } else if (ts.isBinaryExpression(node)) {
      const joins = [ts.SyntaxKind.PlusToken, ts.SyntaxKind.BarBarToken, ts.SyntaxKind.QuestionQuestionToken];
      if (joins.includes(node.operatorToken.kind)) shown(node.left);
      if (joins.includes(node.operatorToken.kind) || node.operatorToken.kind === ts.SyntaxKind.AmpersandAmpersandToken)
        shown(node.right);
    } else if (ts.isParenthesizedExpression(node) || ts.isAsExpression(node)) shown(node.expression);
  }

  // Whatever becomes of it later: two words of which the first is written large, or a last one with its full stop.
  const sentence = /^\p{Lu}\p{L}* \p{Ll}+(?!\p{L}*[([.])|^[\p{L} ,]+ \p{L}+\.$/u;

  const isMarked = (element) =>
    element &&
    (/^(code|pre|kbd)$/.test(element.tagName.getText(file)) ||
      element.attributes.properties.some((one) => ts.isJsxAttribute(one) && one.getText(file) === 'lang="en"'));

  (function look(node) {
    if (ts.isJsxElement(node) && isMarked(node.openingElement)) return;
    if (ts.isJsxText(node)) say(node, node.text);
    else if (ts.isJsxExpression(node) && node.expression && !ts.isJsxAttribute(node.parent)) shown(node.expression);
    else if (ts.isJsxAttribute(node) && spoken.test(node.name.getText(file)) && node.initializer) {
      shown(ts.isJsxExpression(node.initializer) ? node.initializer.expression : node.initializer);
    } else if (ts.isStringLiteralLike(node) && node.parent.name !== node && sentence.test(node.text)) {
      say(node, node.text);
    }
    ts.forEachChild(node, look);
  })(file);
  return [...new Set(found)];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const faults = readdirSync("src", { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && entry.name !== "schema.d.ts")
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .flatMap((path) => literals(readFileSync(path, "utf8"), path).map((one) => `${path}:${one}`));
  if (faults.length) {
    console.error(`These words stand in the code and not in messages/:\n${faults.join("\n")}`);
    process.exit(1);
  }
}
