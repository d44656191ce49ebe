// Begins the scripts of a page that can be read without them (`type="later"`, written by scripts/finish.mjs) once it has
// been painted, so that they keep no reader waiting. A touch or a key begins them at once; a tab in the background does not
// paint, and begins them when all else is loaded.
{
  let isBegun = false;
  const begin = () => {
    if (isBegun) return;
    isBegun = true;
    for (const waiting of document.querySelectorAll('script[type="later"]')) {
      const script = document.createElement("script");
      script.setAttribute("src", waiting.getAttribute("src")); // as written: that is how Turbopack and React know it
      script.async = true;
      waiting.replaceWith(script);
    }
  };
  const painted = () => requestAnimationFrame(() => setTimeout(begin));
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", painted);
  else painted();
  addEventListener("load", () => setTimeout(begin, 1_000));
  for (const sign of ["pointerdown", "keydown"]) addEventListener(sign, begin, { once: true, capture: true });
}
