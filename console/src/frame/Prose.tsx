import type { ReactNode } from "react";

/** A page of text. */
export function Prose({ title, children }: { title: string; children: ReactNode }) {
  return (
    <article className="mx-auto w-full max-w-[44rem] px-4 py-12 sm:px-6 [&_h2]:mt-8 [&_h2]:text-[1.125rem] [&_h2]:font-semibold [&_p]:mt-3">
      <h1 className="text-[1.75rem] font-semibold">{title}</h1>
      {children}
    </article>
  );
}
