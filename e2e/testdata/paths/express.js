// What is protected, as an application of Express has it: routes, and a directory of files.
const express = require("express")
const app = express()
const say = name => (request, response) => response.send("handler=" + name + "\n" + request.originalUrl)
for (const name of ["admin", "internal", "public"]) app.use("/" + name, say(name))
app.use(express.static(process.argv[2]))
app.use(say("other"))
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port))
