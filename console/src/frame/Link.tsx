"use client";

import NextLink from "next/link";
import { type ComponentProps, useState } from "react";

/**
 * A link of the router that fetches its page when somebody means to go there: on the pointer or the focus, and not
 * because it is in view. A page with links to all others would load all others, on the phone that just opened it.
 */
export function Link(properties: Omit<ComponentProps<typeof NextLink>, "prefetch" | "onPointerEnter" | "onFocus">) {
  const [isMeant, setMeant] = useState(false);
  return (
    <NextLink
      {...properties}
      prefetch={isMeant ? null : false}
      onPointerEnter={() => setMeant(true)}
      onFocus={() => setMeant(true)}
    />
  );
}
