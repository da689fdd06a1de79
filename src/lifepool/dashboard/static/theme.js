// Before the first paint: the colours that were chosen here last time.
"use strict";
try {
  const chosen = localStorage.getItem("lifepool-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the system's colours */ }
