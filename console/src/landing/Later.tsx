"use client";

import { lazy, type ReactNode, Suspense, useEffect, useRef, useState } from "react";

const parts = {
  board: lazy(() => import("@/catalog/Board").then(({ Board }) => ({ default: Board }))),
  code: lazy(() => import("@/code/QuickStart").then(({ QuickStart }) => ({ default: QuickStart }))),
  receipt: lazy(() => import("@/catalog/Receipt").then(({ Receipt }) => ({ default: Receipt }))),
  week: lazy(() => import("@/catalog/SiteWeek").then(({ SiteWeek }) => ({ default: SiteWeek }))),
};

/**
 * A part of the landing page that lives: its script is loaded, and its figures are asked for, when the reader comes near.
 * Until then `children` stands in its place, with the same height.
 */
export function Later({ part, children }: { part: keyof typeof parts; children: ReactNode }) {
  const place = useRef<HTMLDivElement>(null);
  const [isNear, setNear] = useState(false);

  useEffect(() => {
    if (!place.current) return;
    const nearness = new IntersectionObserver(
      (seen) => {
        if (!seen.some((one) => one.isIntersecting)) return;
        nearness.disconnect();
        setNear(true);
      },
      { rootMargin: "400px" },
    );
    nearness.observe(place.current);
    return () => nearness.disconnect();
  }, []);

  const Part = parts[part];
  return (
    <div ref={place} className="min-w-0" data-is-near={isNear}>
      {isNear ? (
        <Suspense fallback={children}>
          <Part />
        </Suspense>
      ) : (
        children
      )}
    </div>
  );
}
