// usage: NODE_EXTRA_CA_CERTS=ROOT node fetch.mjs URL
try {
  const answer = await fetch(process.argv[2])
  await answer.text()
} catch (error) {
  console.error(String(error), String(error.cause))
  process.exit(1)
}
