// The certified OpenID provider of the tests: `node provider.js <folder of node_modules> <settings.json>`.
//
// Each client stands for a person: its client-credentials token is a JWT for the resource that is asked for, with the
// claims that a Keycloak realm would put into it. The settings bring the keys, so that a test can rotate them.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, settingsPath] = process.argv.slice(2);
const { default: Provider } = await import(new URL("node_modules/oidc-provider/lib/index.js", pathToFileURL(`${folder}/`)));
const { issuer, port, jwks, people } = JSON.parse(readFileSync(settingsPath, "utf8"));

const provider = new Provider(issuer, {
  jwks,
  clients: Object.keys(people).map((id) => ({
    client_id: id,
    client_secret: `secret of ${id}`,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  })),
  ttl: { ClientCredentials: 600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource, client) => ({
        scope: "",
        audience: resource,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: people[client.clientId].algorithm ?? "RS256" } },
      }),
    },
  },
  extraTokenClaims: (context, token) => people[token.clientId].claims,
});

provider.listen(port, "127.0.0.1");
