"use client";

import { useEffect, useState } from "react";

const SLOW_FROM = 3; // s; what takes less needs no words

/** For how many seconds something has been on its way, once that is long; null before. */
export function useSlow(isOn: boolean): number | null {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    setSeconds(0);
    if (!isOn) return;
    const timer = setInterval(() => setSeconds((now) => now + 1), 1_000);
    return () => clearInterval(timer);
  }, [isOn]);
  return isOn && seconds >= SLOW_FROM ? seconds : null;
}
