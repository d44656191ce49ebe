// The certified OpenID provider of the tests: `node provider.js <folder of node_modules> <settings.json>`.
//
// Each client stands for a person: its client-credentials token is a JWT for the resource that is asked for, with the
// claims that a Keycloak realm would put into it. The settings bring the keys, so that a test can rotate them. With
// `browser` there is a client for the code flow, too: whoever names a person on the page is that person.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, settingsPath] = process.argv.slice(2);
const { default: Provider } = await import(new URL("node_modules/oidc-provider/lib/index.js", pathToFileURL(`${folder}/`)));
const { issuer, port, jwks, people, browser } = JSON.parse(readFileSync(settingsPath, "utf8"));

const programs = Object.keys(people).map((id) => ({
  client_id: id,
  client_secret: `secret of ${id}`,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
}));
const page = (title, form) =>
  `<!doctype html><html lang="en"><head><title>${title}</title></head><body><main><h1>${title}</h1>${form}</main></body></html>`;

const provider = new Provider(issuer, {
  jwks,
  clients: browser ? [...programs, browser] : programs,
  cookies: { keys: ["of the tests"] },
  claims: { profile: ["name"], email: ["email", "email_verified"] },
  ttl: { ClientCredentials: 600, AccessToken: 600, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (context, form) => {
        context.body = page("Sign out?", `${form}<button form="op.logoutForm" name="logout" value="yes">Yes</button>`);
      },
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource, client) => ({
        scope: "",
        audience: resource,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: people[client.clientId]?.algorithm ?? "RS256" } },
      }),
    },
  },
  fetch: (url, { dispatcher, ...options }) => fetch(url, options), // its own refuses addresses of this machine
  pkce: { required: () => true },
  interactions: { url: (context, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (context, id) =>
    people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id].claims }) },
  loadExistingGrant: async (context) => {
    const { client, session } = context.oidc;
    const known = session.grantIdFor(client.clientId);
    if (known) return provider.Grant.find(known);
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope("openid profile email");
    await grant.save();
    return grant;
  },
  extraTokenClaims: (context, token) => people[token.accountId ?? token.clientId].claims,
});

provider.use(async (context, next) => {
  if (!context.path.startsWith("/interaction/")) return next();
  if (context.method === "GET") {
    const action = `<form method="post"><label>Who <input name="login"></label><button>Sign in</button></form>`;
    const leave = `<form method="post"><input type="hidden" name="abort" value="1"><button>Cancel</button></form>`;
    context.body = page("Who are you?", action + leave);
    return;
  }
  let body = "";
  for await (const piece of context.req) body += piece;
  const form = new URLSearchParams(body);
  const result = form.has("abort")
    ? { error: "access_denied", error_description: "left" }
    : { login: { accountId: form.get("login") } };
  await provider.interactionFinished(context.req, context.res, result);
  context.respond = false;
});

provider.listen(port, "127.0.0.1");
