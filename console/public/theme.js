// Before the first paint, so that nothing flashes. Its own file, since the policy allows no inline script of ours.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {}
