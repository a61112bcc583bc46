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
    source = new EventSource((rows.dataset.live || "/live") + "?" + query());
    source.addEventListener("open", () => { pulse.textContent = "live"; });
    source.addEventListener("error", () => { pulse.textContent = "the connection to padlock is lost; trying again"; });
    source.addEventListener("pulse", (e) => { if (pulse.textContent !== e.data) pulse.textContent = e.data; });
    source.addEventListener("attention", (e) => { attention.innerHTML = e.data; local(attention); });
    source.addEventListener("rows", (e) => {
      rows.querySelector(".empty")?.remove();
      const fresh = document.createElement("template");
      fresh.innerHTML = e.data;
      fresh.content.querySelectorAll("li[id]").forEach((li) => {
        const there = document.getElementById(li.id);
        if (!there) li.classList.add("fresh");
        else {
          // What a request has come to is shown where its row is, which may be open.
          if (rows.dataset.live) { local(li); there.className = li.className; there.querySelector("a").innerHTML = li.querySelector("a").innerHTML; }
          li.remove();
        }
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
    acting(li);
  };

  // What only a script can do is shown by one.
  const acting = (within) => within.querySelectorAll(".replay, .edit").forEach((e) => { e.hidden = false; });
  const post = (path, body) => fetch(location.origin + path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const tell = (e, text, href) => {
    const told = e.closest(".detail").querySelector(".told");
    told.textContent = text;
    if (href) {
      const a = document.createElement("a");
      a.href = href; a.textContent = "open it";
      told.append(" ", a);
    }
  };
  const replay = async (e, edit) => {
    tell(e, "sending…");
    try {
      const answer = await post(e.dataset.replay, edit);
      if (!answer.ok) return tell(e, (await answer.text()).trim());
      const is = await answer.json();
      tell(e, `#${is.id}: ${is.status || "no response"} in ${is.duration}${is.error ? ", " + is.error : ""}`, "/requests/" + is.id);
    } catch { tell(e, "padlock does not answer"); }
  };
  // Without a secure context there is no clipboard: the text is shown instead.
  const copy = async (link) => {
    const text = await (await get(link.getAttribute("href"))).text();
    try { await navigator.clipboard.writeText(text); tell(link, "copied as " + link.textContent); } catch { location.href = link.href; }
  };

  document.addEventListener("click", async (e) => {
    const plain = !(e.ctrlKey || e.metaKey || e.shiftKey || e.button);
    const button = e.target.closest(".replay"), link = e.target.closest("a.copy"), reveal = e.target.closest("a.reveal");
    if (button) replay(button, {});
    else if (link && plain) { e.preventDefault(); copy(link); }
    else if (reveal && plain) {
      e.preventDefault();
      const detail = reveal.closest(".detail");
      const shown = document.createElement("template");
      shown.innerHTML = await (await get(reveal.getAttribute("href") + "&fragment=1")).text();
      acting(shown.content);
      detail.replaceWith(shown.content);
    }
  });
  document.addEventListener("submit", (e) => {
    const form = e.target.closest(".again");
    if (!form) return;
    e.preventDefault();
    const values = new FormData(form);
    const edit = { method: values.get("method"), target: values.get("target"), headers: [] };
    for (const line of values.get("headers").split(/\r?\n/)) {
      const colon = line.indexOf(":");
      if (line.trim()) edit.headers.push({ name: line.slice(0, colon < 0 ? line.length : colon).trim(), value: colon < 0 ? "" : line.slice(colon + 1).trim() });
    }
    // A form turns line ends into CR LF; content that nobody has touched is sent as it was.
    const area = form.elements.content;
    if (area.value !== area.defaultValue) edit.content = area.value;
    replay(form, edit);
  });
  acting(document);

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
      const at = rows.dataset.at || "/";
      history.replaceState(null, "", q ? at + "?" + q : at);
      document.querySelectorAll("[data-export]").forEach((a) => { a.href = a.dataset.export + "?" + q; });
      const page = new DOMParser().parseFromString(await (await get(at + "?" + q)).text(), "text/html");
      rows.replaceChildren(...page.getElementById("rows").children);
      local(rows);
      open();
    };
    const forget = document.getElementById("clear");
    if (forget) {
      forget.hidden = false;
      forget.addEventListener("click", async () => { if ((await post("/requests/clear", {})).ok) choose(); });
    }
    rows.querySelectorAll("li > a").forEach((a) => a.setAttribute("aria-expanded", "false"));
    // The address of an older page stays as it is.
    if (!new URLSearchParams(location.search).get("before")) open();
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
