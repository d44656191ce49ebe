import type { NextConfig } from "next";
import createNextIntlPlugin from "next-intl/plugin";

const gateway = process.env.STUDIO_GATEWAY_URL ?? "http://127.0.0.1:8080";

// `next dev` has a server that passes the API on; what is built is files alone, and the gateway answers both.
const developing: NextConfig = {
  rewrites: async () => [{ source: "/v1/:path*", destination: `${gateway}/v1/:path*` }],
};
const built: NextConfig = { output: "export" };

const config: NextConfig = {
  ...(process.env.NODE_ENV === "development" ? developing : built),
  images: { unoptimized: true },
  reactStrictMode: true,
  poweredByHeader: false,
};

export default createNextIntlPlugin("./src/i18n/request.ts")(config);
