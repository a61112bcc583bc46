// What the pages do beyond being read: rows come as handshakes happen, details open in place, numbers are kept fresh.
// Without this script every page is whole, as it was when it was asked for.
"use strict";
(() => {
  const rows = document.getElementById("rows");
  const pulse = document.getElementById("pulse");
  const pause = document.getElementById("pause");
  const attention = document.getElementById("attention");
  const most = 200; // rows on the page
  let paused = false;
  let source = null;

  const local = (within) => within.querySelectorAll("time").forEach((t) => {
    const at = new Date(t.dateTime);
    if (!isNaN(at)) { t.textContent = at.toLocaleTimeString(); t.title = at.toLocaleString(); }
  });
  const get = (path) => fetch(location.origin + path); // the page's own address may have a password in it, which fetch refuses
  const query = () => new URLSearchParams([...new FormData(document.querySelector(".filter"))].filter(([, v]) => v)).toString();

  const open = () => {
    if (source) source.close();
    if (paused || !rows) return;
    source = new EventSource("/live?" + query());
    source.addEventListener("open", () => { pulse.textContent = "live"; });
    source.addEventListener("error", () => { pulse.textContent = "the connection to padlock is lost; trying again"; });
    source.addEventListener("pulse", (e) => { if (pulse.textContent !== e.data) pulse.textContent = e.data; });
    source.addEventListener("attention", (e) => { attention.innerHTML = e.data; local(attention); });
    source.addEventListener("rows", (e) => {
      rows.querySelector(".empty")?.remove();
      const fresh = document.createElement("template");
      fresh.innerHTML = e.data;
      fresh.content.querySelectorAll("li[id]").forEach((li) => {
        if (document.getElementById(li.id)) li.remove();
        else li.classList.add("fresh");
      });
      local(fresh.content);
      rows.prepend(fresh.content);
      while (rows.children.length > most) {
        const last = rows.lastElementChild;
        if (last.contains(document.activeElement) || last.querySelector(".detail")) break;
        last.remove();
      }
    });
  };

  const toggle = async (li, link) => {
    const there = li.querySelector(".detail");
    if (there) {
      there.remove();
      link.setAttribute("aria-expanded", "false");
      return;
    }
    link.setAttribute("aria-expanded", "true");
    const answer = await get(link.getAttribute("href") + "?fragment=1");
    li.insertAdjacentHTML("beforeend", await answer.text());
  };

  if (rows) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", paused);
      pause.textContent = paused ? "Go on" : "Pause";
      pulse.textContent = paused ? "paused: what happens meanwhile is remembered" : "live";
      open();
    });
    rows.addEventListener("click", (e) => {
      const link = e.target.closest("li > a");
      if (!link || e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
      e.preventDefault();
      toggle(link.parentElement, link);
    });
    const form = document.querySelector(".filter");
    let typing;
    form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => choose(), 250); });
    form.addEventListener("submit", (e) => { e.preventDefault(); choose(); });
    const choose = async () => {
      const q = query();
      history.replaceState(null, "", q ? "/?" + q : "/");
      const page = new DOMParser().parseFromString(await (await get("/?" + q)).text(), "text/html");
      rows.replaceChildren(...page.getElementById("rows").children);
      local(rows);
      open();
    };
    rows.querySelectorAll("li > a").forEach((a) => a.setAttribute("aria-expanded", "false"));
    open();
    addEventListener("pagehide", () => source?.close());
    addEventListener("pageshow", (e) => { if (e.persisted) open(); });
  }

  document.querySelectorAll("[data-refresh]").forEach((part) => setInterval(async () => {
    if (paused || document.hidden || part.contains(document.activeElement) || part.querySelector("details[open]")) return;
    try {
      const answer = await get(part.dataset.refresh);
      if (answer.ok) { part.innerHTML = await answer.text(); local(part); }
    } catch { /* padlock is away; the next try may find it */ }
  }, part.dataset.every * 1000));

  local(document);
})();
