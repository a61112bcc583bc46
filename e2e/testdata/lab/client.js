// usage: node client.js URL ROOT, where ROOT may be false
const https = require("https"), fs = require("fs")
const [url, root] = process.argv.slice(2)
const options = root === "false" ? { rejectUnauthorized: false } : { ca: fs.readFileSync(root) }
const fail = error => { console.error(String(error)); process.exit(1) }
https.get(url, options, answer => {
  answer.on("error", fail).on("data", () => {}).on("end", () => process.exit(answer.statusCode === 200 && answer.complete ? 0 : 1))
}).on("error", fail)
