// After `npm install --package-lock-only`: npm leaves an optional package out of the lock when the registry lacks its
// build for some other platform, and `npm ci` then refuses the lock. An entry without integrity makes the lock whole.
import { readFileSync, writeFileSync } from "node:fs";

const path = "package-lock.json";
const lock = JSON.parse(readFileSync(path, "utf8"));
const packages = lock.packages;
let added = 0;
for (const [where, one] of Object.entries({ ...packages })) {
  for (const [name, version] of Object.entries(one.optionalDependencies ?? {})) {
    const nested = `${where}/node_modules/${name}`;
    if (packages[nested] || packages[`node_modules/${name}`]) continue;
    packages[`node_modules/${name}`] = { version, optional: true, os: ["none"], cpu: ["none"] };
    added += 1;
  }
}
if (JSON.stringify(lock).includes('"resolved"')) throw new Error("the lock names a registry: see .npmrc");
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${Object.keys(packages).length} packages, ${added} entries completed`);
