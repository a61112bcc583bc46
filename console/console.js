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
  let process = ""; // of padlock, whose numbers the rows have
  let choose = () => {}; // asks for the rows again

  const local = (within) => within.querySelectorAll("time").forEach((t) => {
    const at = new Date(t.dateTime);
    if (!isNaN(at)) { t.textContent = at.toLocaleTimeString(); t.title = at.toLocaleString(); }
  });
  const get = (path) => fetch(location.origin + path); // the page's own address may have a password in it, which fetch refuses
  const query = () => new URLSearchParams([...new FormData(document.querySelector(".filter"))].filter(([, v]) => v)).toString();

  const open = () => {
    if (source) source.close();
    if (paused || !rows) return;
    if (rows.querySelector("[role=alert]")) { pulse.textContent = ""; return; }
    source = new EventSource((rows.dataset.live || "/live") + "?" + query());
    source.addEventListener("open", () => { pulse.textContent = "live"; });
    source.addEventListener("process", (e) => {
      const restarted = process && process !== e.data;
      process = e.data;
      if (restarted) choose();
    });
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
          if (rows.dataset.live) {
            local(li);
            there.className = li.className;
            there.querySelector("a").innerHTML = li.querySelector("a").innerHTML;
            if ("done" in li.dataset) renew(there);
          }
          li.remove();
        }
      });
      local(fresh.content);
      if (rows.dataset.live) [...fresh.content.children].forEach(place);
      rows.prepend(fresh.content);
      // What is read or has the focus stays; all else is bounded.
      for (let i = rows.children.length - 1; i > 0 && rows.children.length > most; i--) {
        const li = rows.children[i];
        if (!li.contains(document.activeElement) && !li.querySelector(".detail")) li.remove();
      }
    });
  };

  // A row that comes late stands where it belongs: the newest request is the first.
  const place = (li) => {
    const number = (row) => Number(row.id.slice(1));
    rows.insertBefore(li, [...rows.children].find((row) => number(row) < number(li)) || null);
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
  const acting = (within) => {
    within.querySelectorAll(".replay, .edit").forEach((e) => { e.hidden = false; });
    within.querySelectorAll("[data-messages]").forEach(follow);
  };
  // Messages are added as they pass.
  const follow = (list) => {
    let after = list.dataset.after;
    const status = list.parentElement.querySelector(".following");
    const timer = setInterval(async () => {
      if (!list.isConnected) return clearInterval(timer);
      if (document.hidden) return;
      try {
        const answer = await get(list.dataset.messages + "?after=" + after + (list.dataset.reveal ? "&reveal=1" : ""));
        if (!answer.ok || answer.headers.get("Padlock-Done")) { clearInterval(timer); status.textContent = "ended"; }
        if (!answer.ok || answer.headers.get("Padlock-Seen") === after) return;
        after = answer.headers.get("Padlock-Seen");
        list.insertAdjacentHTML("beforeend", await answer.text());
        while (list.children.length > most) list.firstElementChild.remove();
      } catch { status.textContent = "padlock does not answer"; }
    }, 500);
  };
  // A request that has ended is shown as it has become, unless somebody is at work in it.
  const renew = async (li) => {
    const detail = li.querySelector(".detail[data-underway]");
    if (!detail || detail.contains(document.activeElement) || detail.querySelector("details[open]")) return;
    const answer = await get(li.querySelector("a").getAttribute("href") + "?fragment=1");
    const fresh = document.createElement("template");
    fresh.innerHTML = await answer.text();
    acting(fresh.content);
    detail.replaceWith(fresh.content);
  };
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
    // Up and down go from row to row, Escape closes the one that is open.
    rows.addEventListener("keydown", (e) => {
      const li = e.target.closest("#rows > li");
      if (!li || e.ctrlKey || e.metaKey || e.altKey) return;
      const at = e.target.matches("#rows > li > a");
      const to = { ArrowDown: li.nextElementSibling, ArrowUp: li.previousElementSibling, Home: rows.firstElementChild, End: rows.lastElementChild }[e.key];
      if (at && to) { e.preventDefault(); to.querySelector("a")?.focus(); }
      const link = li.querySelector("a");
      if (e.key === "Escape" && li.querySelector(".detail") && !e.target.matches("input, textarea")) { link.focus(); toggle(li, link); }
    });
    const form = document.querySelector(".filter");
    let typing;
    form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => choose(), 250); });
    form.addEventListener("submit", (e) => { e.preventDefault(); choose(); });
    choose = async () => {
      const q = query();
      const at = rows.dataset.at || "/";
      history.replaceState(null, "", q ? at + "?" + q : at);
      document.querySelectorAll("[data-export]").forEach((a) => { a.href = a.dataset.export + "?" + q; });
      const page = new DOMParser().parseFromString(await (await get(at + "?" + q)).text(), "text/html");
      if (q !== query()) return; // the answer to what is chosen now comes later
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
    // The address of an older page, or of some requests, stays as it is.
    const address = new URLSearchParams(location.search);
    if (!address.get("before") && !address.get("id")) open();
    addEventListener("pagehide", () => source?.close());
    addEventListener("pageshow", (e) => { if (e.persisted) open(); });
  }

  // A row of a table opens to a row below it.
  const detailOf = (row) => row.nextElementSibling?.classList.contains("opened") ? row.nextElementSibling : null;
  const openRow = async (link) => {
    const row = link.closest("tr"), there = detailOf(row);
    if (there) {
      there.remove();
      link.setAttribute("aria-expanded", "false");
      return;
    }
    link.setAttribute("aria-expanded", "true");
    const text = await (await get(link.getAttribute("href") + "&fragment=1")).text();
    if (detailOf(row)) return;
    const tr = document.createElement("tr"), td = document.createElement("td");
    tr.className = "opened";
    td.colSpan = row.cells.length;
    td.innerHTML = text;
    opens(td);
    tr.append(td);
    row.after(tr);
  };
  const opens = (within) => within.querySelectorAll("a.opens").forEach((a) => a.setAttribute("aria-expanded", "false"));
  document.addEventListener("click", (e) => {
    const link = e.target.closest("a.opens");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
    e.preventDefault();
    openRow(link);
  });
  opens(document);

  // Where somebody reads or has the focus, numbers change in their places; else the part is new.
  const refresh = async (part) => {
    const answer = await get(part.dataset.refresh);
    if (!answer.ok) return;
    const fresh = document.createElement("template");
    fresh.innerHTML = await answer.text();
    local(fresh.content);
    opens(fresh.content);
    if (!part.contains(document.activeElement) && !part.querySelector("details[open], .opened")) {
      part.replaceChildren(fresh.content);
      return;
    }
    fresh.content.querySelectorAll("tr[id]").forEach((row) => {
      const there = document.getElementById(row.id);
      if (there?.cells.length !== row.cells.length) return;
      [...row.cells].slice(1).forEach((cell, i) => { there.cells[i + 1].className = cell.className; there.cells[i + 1].innerHTML = cell.innerHTML; });
    });
    for (const row of part.querySelectorAll("tr:has(+ .opened)")) {
      const cell = detailOf(row).cells[0];
      if (cell.contains(document.activeElement)) continue;
      const now = await get(row.querySelector("a.opens").getAttribute("href") + "&fragment=1");
      if (now.ok) { cell.innerHTML = await now.text(); opens(cell); }
    }
  };
  document.querySelectorAll("[data-refresh]").forEach((part) => setInterval(async () => {
    if (paused || document.hidden) return;
    try { await refresh(part); } catch { /* padlock is away; the next try may find it */ }
  }, part.dataset.every * 1000));

  local(document);
})();
