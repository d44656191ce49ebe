// The gateway's OpenAPI document -> src/api/schema.d.ts. Neither is committed: `make` writes both anew from the code, so
// they cannot be stale, and the type check fails on a page that reads a field which is gone.
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const [source = "../build/openapi.json"] = process.argv.slice(2);
writeFileSync("src/api/schema.d.ts", astToString(await openapiTS(JSON.parse(readFileSync(source, "utf8")))));
