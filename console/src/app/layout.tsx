import type { ReactNode } from "react";

/** The languages' own layout writes `<html>`, since it knows which one. */
export default function RootLayout({ children }: { children: ReactNode }) {
  return children;
}
