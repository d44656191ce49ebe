// After `next build`: what the gateway needs to serve `out/`, in `site.json`: which path is which file, the policy that
// names each page's inline scripts by hash, and compressed twins. Prints what a browser loads for each page. The whole
// folder takes the place of the last build in one step.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const target = process.argv[2] ?? "../build/console";
const locales = ["en", "de", "zh"];
const types = {
  ".html": "text/html; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
};
const most = { "": 200, models: 260, playground: 300 }; // kB of script, gzip

// Pages that are read before they are used: their scripts begin after the first paint, see public/start.js.
const readable = new Set(
  ["", "/imprint", "/privacy", "/missing"].flatMap((name) => locales.map((one) => `${one}${name}.html`)),
);

const paths = {};
const gzipped = {};
for (const entry of readdirSync("out", { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || /\.(br|gz)$/.test(entry.name)) continue;
  const file = join(entry.parentPath ?? entry.path, entry.name).slice("out/".length);
  if (!/^(_next\/static|en|de|zh|[a-z-]+\.(js|svg|ico))/.test(file)) continue; // Next's own 404 and its index
  if (readable.has(file)) writeFileSync(join("out", file), beginLater(readFileSync(join("out", file), "utf8")));
  const content = readFileSync(join("out", file));
  const type = types[extname(file)];
  if (!type) throw new Error(`no type is known for ${file}`);
  const page = {
    file,
    type,
    etag: createHash("sha256").update(content).digest("base64url").slice(0, 22),
    encodings: [],
  };
  page.immutable = file.startsWith("_next/static/");
  if (extname(file) !== ".woff2" && content.length > 500) {
    const gz = gzipSync(content, { level: 9 });
    gzipped[file] = gz.length;
    writeFileSync(join("out", `${file}.gz`), gz);
    const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } };
    writeFileSync(join("out", `${file}.br`), brotliCompressSync(content, quality));
    page.encodings = ["br", "gzip"];
  }
  if (extname(file) === ".html") page.policy = policyOf(content.toString());
  paths[`/${file.replace(/\.html$/, "")}`] = page;
}
writeFileSync("out/site.json", JSON.stringify({ locales, paths }));

let isOver = false;
for (const [name, budget] of Object.entries(most)) {
  const path = name ? `/en/${name}` : "/en";
  const html = readFileSync(join("out", paths[path].file), "utf8");
  const tags = [...html.matchAll(/<script[^>]+src="\/([^"]+)"[^>]*>/g)].filter(([tag]) => !/nomodule/i.test(tag));
  const scripts = new Set(tags.map(([, file]) => file)); // what only browsers without modules load does not count
  const kilobytes = [...scripts].reduce((sum, file) => sum + (gzipped[file] ?? 0), 0) / 1000;
  isOver ||= kilobytes > budget;
  console.log(`${path.padEnd(16)} ${kilobytes.toFixed(1).padStart(6)} kB script, gzip (at most ${budget})`);
}
if (isOver) throw new Error("a page loads more script than it may");

const old = `${target}.old`;
rmSync(old, { recursive: true, force: true });
if (existsSync(target)) renameSync(target, old);
renameSync("out", target);
rmSync(old, { recursive: true, force: true });

function beginLater(html) {
  const later = html
    .replace(/<link rel="preload" as="script"[^>]*>/g, "")
    .replace(/<script src="([^"]+)" async="">/g, '<script type="later" src="$1" async="">')
    .replace(/<script src="([^"]+)" id="_R_" async="">/g, '<script type="later" src="$1" id="_R_" async="">');
  return later.replace('<script src="/theme.js"></script>', '$&<script src="/start.js" async=""></script>');
}

function policyOf(html) {
  const inline = [...html.matchAll(/<script(?![^>]*\ssrc=)[^>]*>([\s\S]*?)<\/script>/g)].map((match) => match[1]);
  const hashes = [...new Set(inline)].map((text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`);
  return [
    "default-src 'none'",
    `script-src 'self' ${hashes.join(" ")}`,
    "style-src 'self'",
    "style-src-attr 'unsafe-inline'", // widths of bars; an attribute runs nothing
    "font-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
