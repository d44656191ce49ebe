import localFont from "next/font/local";

// Latin only: Chinese comes from the system, whose fonts are better than a few slices of ours. Next.js preloads the text
// font and gives the fallback its widths, so that nothing moves when it arrives.
const sans = localFont({
  src: "../../node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  variable: "--font-inter",
  weight: "100 900",
  display: "swap",
  adjustFontFallback: "Arial",
});
const mono = localFont({
  src: "../../node_modules/@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
  variable: "--font-jetbrains",
  weight: "100 800",
  display: "swap",
  preload: false,
});

/** For `<html>`: defines what `globals.css` names. */
export const fonts = `${sans.variable} ${mono.variable}`;
