"use strict"
const rows = [...document.querySelectorAll("tr[data-name]")]
const byName = new Map(rows.map(row => [row.dataset.name, row]))
const button = document.getElementById("test"), summary = document.getElementById("summary"), filter = document.getElementById("filter")
const classes = { ok: "good", unsafe: "bad", weak: "warn", "too strict": "warn", unclear: "dim" }

// What a browser says of itself begins with what all of them say.
const program = agent => agent.replace(/^Mozilla\/5\.0 \([^)]*\)( AppleWebKit\/\S+ \(KHTML, like Gecko\))? ?/, "").slice(0, 60) || agent

// Live: the last visit of each endpoint, whoever the client was.
new EventSource("/events").onmessage = message => {
  const visit = JSON.parse(message.data), row = byName.get(visit.endpoint)
  if (!row) return
  const seen = row.querySelector(".seen"), story = row.querySelector(".story")
  seen.textContent = `${visit.time} ${visit.text}`
  if (visit.agent) {
    // A client says what it likes: letters that are written from right to left do not turn the rest of the row.
    const agent = document.createElement("bdi")
    agent.textContent = program(visit.agent)
    seen.append(" (", agent, ")")
  }
  seen.className = "seen " + (classes[visit.verdict] || "dim")
  story.hidden = false
  if (story.dataset.id !== String(visit.id)) story.open = false
  story.dataset.id = visit.id
}

document.addEventListener("toggle", async event => {
  const story = event.target
  if (!story.open || !story.matches(".story")) return
  const text = story.querySelector("pre")
  text.textContent = "…"
  const answer = await fetch("/story?id=" + story.dataset.id)
  text.textContent = await answer.text()
}, true)

// With ?show=WORDS in its URL, the page begins with those.
const options = new URLSearchParams(location.search)
filter.addEventListener("input", choose)
filter.value = options.get("show") || ""
choose()

function choose() {
  const words = filter.value.toLowerCase()
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words)
  for (const section of document.querySelectorAll("section")) section.hidden = !section.querySelector("tr[data-name]:not([hidden])")
}

// request asks an endpoint, and tells how that ended.
async function request(row, limit) {
  const abort = new AbortController(), start = performance.now()
  const timer = setTimeout(() => abort.abort(), limit)
  let outcome = "success", error = ""
  try {
    const answer = await fetch(row.dataset.url, { cache: "no-store", credentials: "omit", signal: abort.signal })
    await answer.text()
  } catch (e) {
    outcome = abort.signal.aborted ? "killed" : "failure"
    error = String(e.message || e)
  }
  clearTimeout(timer)
  return { outcome, error, ms: Math.round(performance.now() - start) }
}

// How long an endpoint may take, in milliseconds: what says nothing costs all of ?limit=. The others end by themselves.
const limit = Number(options.get("limit")) || 8000, patience = 60000

async function judge(row) {
  const since = await (await fetch("/now")).json(), result = await request(row, "waits" in row.dataset ? limit : patience)
  const query = new URLSearchParams({ endpoint: row.dataset.name, since, ...result })
  const verdict = await (await fetch("/judge?" + query, { method: "POST" })).json()
  show(row, verdict)
  return verdict
}

function show(row, verdict) {
  const cell = row.querySelector(".verdict")
  cell.textContent = verdict.verdict
  cell.className = "verdict " + (classes[verdict.verdict] || "")
  row.querySelector(".reason").textContent = verdict.verdict === "ok" ? "" : verdict.reason
  row.classList.toggle("unsafe", verdict.verdict === "unsafe")
  row.dataset.verdict = verdict.verdict
  row.dataset.reason = verdict.reason
}

// With ?run in its URL, the page begins by itself.
button.addEventListener("click", test)
if (options.has("run")) test()

async function test() {
  button.disabled = true
  delete summary.dataset.done
  try {
    await testAll()
  } catch (e) {
    summary.textContent = `The test ended early, as the lab did not answer: ${e.message || e}`
    summary.className = "bad"
    summary.dataset.done = "failed"
  }
  button.disabled = false
}

async function testAll() {
  await fetch("/begin", { method: "POST" })
  for (const row of rows) show(row, { verdict: "", reason: "" })
  const good = await judge(byName.get("good"))
  if (!good.accepted) {
    summary.textContent = "This browser refuses the good endpoint, so nothing can be concluded: it must trust root.pem, in a profile of its own."
    summary.className = "bad"
    summary.dataset.done = "failed"
    return
  }

  // A refusal counts only beside the endpoint without the fault, so those are tested too, and before the others.
  const chosen = rows.filter(row => !row.hidden && row.dataset.name !== "good")
  const bases = new Set(chosen.filter(row => row.dataset.basis).map(row => byName.get(row.dataset.basis)))
  const queue = [...bases, ...chosen.filter(row => !bases.has(row))], tested = [byName.get("good"), ...queue]
  let done = 1
  const worker = async () => {
    for (let row; (row = queue.shift());) {
      await judge(row)
      done++
      tell()
    }
  }
  const tell = () => {
    const counts = {}
    for (const { dataset } of tested) if (dataset.verdict) counts[dataset.verdict] = (counts[dataset.verdict] || 0) + 1
    summary.textContent = `${done} of ${tested.length}: ` + Object.entries(counts).map(([v, n]) => `${n} ${v}`).join(", ")
    return counts
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  for (const verdict of await (await fetch("/results")).json()) show(byName.get(verdict.endpoint), verdict)
  const counts = tell()
  summary.className = counts.unsafe ? "bad" : "good"
  summary.dataset.done = "yes"
}
