"use strict";
// Brings the page up to date without moving it. Without scripts it loads itself again.
const every = 5000;

async function refresh() {
  const old = document.querySelector("[data-live]");
  const busy = old.contains(document.activeElement) || String(getSelection());
  if (document.hidden || busy) return;
  const stale = document.querySelector("[data-stale]");
  try {
    const answer = await fetch("/admin?by-itself", { headers: { accept: "text/html" }, signal: AbortSignal.timeout(every) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    const [x, y] = [scrollX, scrollY];
    old.replaceWith(fresh);
    scrollTo(x, y);
    stale.hidden = true;
  } catch {
    stale.hidden = false;
  }
}

(async () => {
  for (;;) {
    await new Promise((wake) => setTimeout(wake, every));
    await refresh();
  }
})();
