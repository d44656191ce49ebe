"use client";

import { usePathname } from "next/navigation";
import type { ReactNode } from "react";
import { Link } from "./Link";

/** A link that says when it is the present page. */
export function NavLink({ href, children }: { href: string; children: ReactNode }) {
  const isHere = usePathname() === href;
  return (
    <Link
      href={href}
      aria-current={isHere ? "page" : undefined}
      className="flex min-h-10 items-center border-b-2 border-transparent px-3 text-muted hover:text-text aria-[current]:border-accent aria-[current]:text-text"
    >
      {children}
    </Link>
  );
}
