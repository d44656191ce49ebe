import localFont from "next/font/local";

// Latin only: Chinese comes from the system, whose fonts are better than a few slices of ours. Next.js preloads both.
// A font that is not there at the first paint is left for the next page: it would move the text under the reader's eyes.
const sans = localFont({
  src: "../../node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  variable: "--font-inter",
  weight: "100 900",
  display: "optional",
  adjustFontFallback: "Arial",
});
const mono = localFont({
  src: "../../node_modules/@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
  variable: "--font-jetbrains",
  weight: "100 800",
  display: "optional",
});

/** For `<html>`: defines what `globals.css` names. */
export const fonts = `${sans.variable} ${mono.variable}`;
