document.getElementById("path").textContent = location.pathname

fetch("/api/visits")
  .then(response => response.json())
  .then(answer => { document.getElementById("visits").textContent = answer.visits })
  .catch(() => { document.getElementById("visits").textContent = "(the API does not answer)" })
