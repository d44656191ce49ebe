import localFont from "next/font/local";

// Latin only: Chinese comes from the system, whose fonts are better than a few slices of ours. Next.js preloads the first.
// A font that is not there at the first paint is left for the next page: it would move the text under the reader's eyes.
// What stands in for it is named in `globals.css`: Next.js knows Arial only, which Linux and Android do not have. These
// names become the families' names, and must be those of no font that a system has: `sans` is one on Linux, and Chromium
// turned to it when ours came late.
const interLatin = localFont({
  src: "../../node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  variable: "--font-inter",
  weight: "100 900",
  display: "optional",
  adjustFontFallback: false,
});
const jetbrainsLatin = localFont({
  src: "../../node_modules/@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
  variable: "--font-jetbrains",
  weight: "100 800",
  display: "optional",
  adjustFontFallback: false,
  preload: false, // ids and code: the first page can do without it, its text cannot
});

/** For `<html>`: defines what `globals.css` names. */
export const fonts = `${interLatin.variable} ${jetbrainsLatin.variable}`;
