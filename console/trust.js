// Asks for something by HTTPS every two seconds, which makes a handshake; then asks by HTTP what became of it.
// Without this script the page is whole: its links do the same.
"use strict";
(() => {
  const page = document.querySelector("main").dataset;
  const state = document.getElementById("state");
  const other = document.getElementById("other");
  const late = document.getElementById("late");

  if (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1) { // an iPad that says it is a Mac
    document.getElementById("macos").open = false;
    document.getElementById("ios").open = true;
  }
  const clock = Date.now();
  if (Math.abs(clock - page.now) > 3600e3) {
    late.textContent = "The clock of this device says " + new Date(clock).toLocaleString() + ", that of padlock " + new Date(+page.now).toLocaleString() + ". One of them is wrong, and certificates may not be valid by it.";
    late.hidden = false;
  }

  const handshake = async () => {
    if (!page.probe) return null;
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), 5000);
    try {
      await fetch(page.probe + page.path, { mode: "no-cors", cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", signal: stop.signal });
      return true;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  };
  const look = async () => {
    const own = document.hidden ? null : await handshake();
    try {
      const answer = await fetch("/trust/status?since=" + page.since, { cache: "no-store", credentials: "omit" });
      if (!answer.ok) return;
      const now = await answer.json();
      if (state.className !== "card " + now.state) state.className = "card " + now.state;
      for (const part of ["text", "detail"]) {
        const at = document.getElementById(part);
        if (at.textContent !== now[part]) at.textContent = now[part];
      }
      other.hidden = !(now.state === "trusted" && own === false);
    } catch {
      // padlock is away for a moment
    }
  };
  const again = async () => {
    await look();
    setTimeout(again, 2000);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  again();
})();
